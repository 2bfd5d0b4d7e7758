import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from huggingface_hub import DatasetCard

from aalbert.common.text import markdown
from aalbert.pipeline.corpora.corpus import Skip
from aalbert.pipeline.prepare.card import PLACE, dataset_card, header, skip_table
from aalbert.shards import Dataset
from aalbert.shards.format.manifest import read_manifest

UNESCAPED_BAR = re.compile(r"(?<!\\)\|")


def example(prepared: Path, number: int) -> dict[str, Any]:
    """What the names in an example of the card stand for after it ran."""
    card = (prepared / "README.md").read_text()
    code = re.findall(r"```python\n(.*?)```", card, re.DOTALL)[number]
    names: dict[str, Any] = {}
    exec(code.replace(PLACE, str(prepared)), names)
    return names


@pytest.fixture(scope="module")
def first_features(prepared: Path) -> np.ndarray[Any, Any]:
    return np.array(Dataset(prepared).features(0, "logmel"))


def test_the_example_of_this_package_gives_features_and_batches(
    prepared: Path, first_features: np.ndarray[Any, Any]
) -> None:
    names = example(prepared, 0)
    np.testing.assert_array_equal(names["features"], first_features)
    assert names["padded"].shape[:2] == (len(names["lengths"]), int(names["lengths"].max()))


# WebDataset leaves its files to the garbage collector.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_example_of_webdataset_gives_all_utterances(prepared: Path) -> None:
    names = example(prepared, 1)
    dataset = Dataset(prepared)
    row = dataset.column("key").index(names["about"]["key"])
    np.testing.assert_array_equal(names["features"], dataset.features(row, "logmel"))
    assert len(names["paths"]) == len(next(iter(dataset.manifest.splits.values())).shards)


def test_the_example_of_pyarrow_gives_the_first_utterance(
    prepared: Path, first_features: np.ndarray[Any, Any]
) -> None:
    names = example(prepared, 2)
    np.testing.assert_array_equal(names["features"], first_features)
    assert names["row"]["key"] == Dataset(prepared).key(0)


def test_the_example_of_the_data_loader_pads(prepared: Path) -> None:
    names = example(prepared, 3)
    assert names["padded"].dtype == torch.float16
    assert (names["batch"], names["numbers"]) == (names["padded"].shape[1], 80)


def test_the_header_is_what_the_hub_reads(prepared: Path) -> None:
    manifest = read_manifest(prepared)
    found: Any = DatasetCard.load(prepared / "README.md").data.to_dict()
    assert found["license"] == "cc-by-4.0" and found["size_categories"] == ["n<1K"]
    files = found["configs"][0]["data_files"]
    assert [each["path"] for each in files] == [f"{name}/*.tar" for name in manifest.splits]
    # What `datasets` demands of the name of a split.
    assert all(re.fullmatch(r"\w+(\.\w+)*", each["split"]) for each in files)
    assert all(list(prepared.glob(each["path"])) for each in files)
    assert yaml.safe_load(header(manifest, "all rights reserved"))["license"] == "unknown"


def test_settings_are_in_words(prepared: Path) -> None:
    card = (prepared / "README.md").read_text()
    assert "- `logmel`, 80 numbers a frame: kind logmel, sample_rate 16000, fft_size 400," in card
    assert "wave.silence none" in card and "{" not in card.split("## Features")[1].split("##")[0]
    assert json.loads((prepared / "manifest.json").read_text())["software"]["aalbert"] in card


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
