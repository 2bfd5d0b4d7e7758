import pytest

from aalbert.common.text import flat, human_bytes, markdown, text_table, visible, without_markup


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (1023, "1,023 bytes"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (2**20 - 1, "1.0 MiB"),
        (5 * 2**30, "5.0 GiB"),
        (5 * 2**40, "5.0 TiB"),
        (3000 * 2**40, "3,000.0 TiB"),
        (2**52, "4,096.0 TiB"),
    ],
)
def test_sizes_are_told_in_the_unit_that_fits(count: int, text: str) -> None:
    assert human_bytes(count) == text


def test_columns_line_up_and_numbers_stand_at_the_right() -> None:
    rows = [["split", "utterances", "size"], ["dev-clean", "6", "9.0 KiB"], ["", "1,024", ""]]
    assert text_table(rows).splitlines() == [
        "split      utterances  size",
        "dev-clean  6           9.0 KiB",
        "           1,024",
    ]
    assert text_table(rows, numbers=True).splitlines() == [
        "split      utterances     size",
        "dev-clean           6  9.0 KiB",
        "                1,024",
    ]


def test_nested_settings_have_dotted_names_in_their_order() -> None:
    nested = {"mels": 80, "wave": {"silence": {"edge_ms": 5}, "gain_db": None}, "kind": "logmel"}
    assert list(flat(nested)) == [
        ("mels", 80),
        ("wave.silence.edge_ms", 5),
        ("wave.gain_db", None),
        ("kind", "logmel"),
    ]


def test_what_is_not_printable_becomes_visible_and_other_scripts_stay() -> None:
    assert visible("a\n\x9b2J\u202e\udcff") == r"a\n\x9b2J\u202e\udcff"
    assert visible("a\nb\t", kept="\n\t") == "a\nb\t"
    scripts = "é 日本\u3000שלום علی\u200cرضا 👩\u200d👧 100\u00a0%"
    assert visible(scripts) == scripts


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a|b\n<script>", r"a\|b &lt;script&gt;"),
        ("![p](x) **b** `c` $x$", r"\!\[p\](x) \*\*b\*\* \`c\` \$x\$"),
        ("_it_ __init__ snake_case", r"\_it\_ \_\_init\_\_ snake_case"),
        ("https://a.b www.c.d 10:30", r"https\://a.b www\.c.d 10:30"),
        ("\u202ea\nb", r"\\u202ea b"),
    ],
)
def test_nothing_is_markup_in_markdown(text: str, expected: str) -> None:
    assert markdown(text) == expected
    assert without_markup(expected) == visible(" ".join(text.split()))
