import re
from dataclasses import replace
from pathlib import Path

from aalbert.common.text import markdown
from aalbert.pipeline.corpora.corpus import Skip
from aalbert.pipeline.prepare.finish import dataset_card, skip_table
from aalbert.shards.format.manifest import read_manifest

UNESCAPED_BAR = re.compile(r"(?<!\\)\|")


def test_a_reason_with_bars_and_line_breaks_stays_in_its_row() -> None:
    skipped = [
        Skip(source="a", reason="has | a bar\nand a break"),
        Skip(source="b", reason="ends with a backslash \\"),
        Skip(source="c", reason="<script>alert(1)</script>"),
        Skip(source="d", reason="[text](address) `code`: 7"),
    ]
    rows = skip_table(skipped).split("\n\n")[1].splitlines()
    assert len(rows) == 2 + len(skipped)
    assert {len(UNESCAPED_BAR.findall(row.replace("\\\\", ""))) for row in rows} == {3}
    assert r"| 1 | has \| a bar and a break |" in rows
    assert r"| 1 | ends with a backslash \\ |" in rows
    assert r"| 1 | &lt;script&gt;alert(1)&lt;/script&gt; |" in rows
    assert r"| 1 | \[text\](address) \`code\` |" in rows


def test_a_split_with_a_bar_stays_in_its_row(prepared: Path) -> None:
    manifest = read_manifest(prepared)
    split = manifest.splits["dev-clean"]
    card = dataset_card(replace(manifest, splits={"a|b\nc": split}), "unknown", [])
    assert f"| a\\|b c | {split.utterances} |" in card


def test_plain_text_stays_as_it_is() -> None:
    assert markdown("cut off, 40 % (train-clean_100)") == "cut off, 40 % (train-clean_100)"
