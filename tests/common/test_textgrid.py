from pathlib import Path

import pytest

from aalbert.common.textgrid import read_textgrid
from aalbert.errors import InputError
from aalbert.train.downstream.phones import read_alignments

LONG_TEXTGRID = """\
File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 0.06
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "words"
        xmin = 0
        xmax = 0.06
        intervals: size = 1
        intervals [1]:
            xmin = 0
            xmax = 0.06
            text = "a ""b"" 3"
    item [2]:
        class = "IntervalTier"
        name = "phones"
        xmin = 0
        xmax = 0.06
        intervals: size = 3
        intervals [1]:
            xmin = 0
            xmax = 0.02
            text = ""
        intervals [2]:
            xmin = 0.02
            xmax = 0.05
            text = "AH1"
        intervals [3]:
            xmin = 0.05
            xmax = 0.06
            text = "B"
"""
SHORT_TEXTGRID = """\
File type = "ooTextFile"
Object class = "TextGrid"

0
0.06
<exists>
2
"TextTier"
"points"
0
0.06
1
0.03
"here"
"IntervalTier"
"phones"
0
0.06
3
0
0.02
""
0.02
0.05
"AH1"
0.05
0.06
"B"
"""


@pytest.mark.parametrize("text", [LONG_TEXTGRID, SHORT_TEXTGRID], ids=["long", "short"])
def test_both_forms_of_a_textgrid_give_the_phone_at_the_middle_of_each_label(
    text: str, tmp_path: Path
) -> None:
    (tmp_path / "speaker").mkdir()
    (tmp_path / "speaker" / "1-2-3.TextGrid").write_text(text)
    found = read_alignments(str(tmp_path), ["1-2-3"], shift_ms=10, drop_stress=False)
    assert found["1-2-3"].phones == ["sil", "sil", "AH1", "AH1", "AH1", "B"]
    plain = read_alignments(str(tmp_path), ["1-2-3"], shift_ms=10, drop_stress=True)
    assert plain["1-2-3"].phones == ["sil", "sil", "AH", "AH", "AH", "B"]


def test_a_textgrid_without_the_tier_is_named_in_the_error(tmp_path: Path) -> None:
    broken = tmp_path / "a.TextGrid"
    broken.write_text(LONG_TEXTGRID.replace("phones", "letters"))
    with pytest.raises(InputError, match="is not a TextGrid with intervals in a tier 'phones'"):
        read_textgrid(broken)


def textgrid(*intervals: tuple[float, float, str]) -> str:
    """Return a TextGrid of 0.06 s with these phones."""
    head, _, _ = LONG_TEXTGRID.partition("        intervals: size = 3")
    lines = [f"        intervals: size = {len(intervals)}"]
    for number, (start, end, phone) in enumerate(intervals, start=1):
        times = f"            xmin = {start}\n            xmax = {end}"
        lines.append(f'        intervals [{number}]:\n{times}\n            text = "{phone}"')
    return head + "\n".join(lines) + "\n"


def test_what_a_tier_leaves_out_is_silence(tmp_path: Path) -> None:
    path = tmp_path / "a.TextGrid"
    path.write_text(textgrid((0.01, 0.02, "T"), (0.03, 0.04, "AH1"), (0.04, 0.05, "B")))
    found = read_alignments(str(tmp_path), ["a"], shift_ms=10, drop_stress=True)
    # A gap has neither the phone after it nor the one before it.
    assert found["a"].phones == ["sil", "T", "sil", "AH", "B", "sil"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("xmin = 0.05", "xmin = 0.04"),
            r"'B' lasts from 0\.04 to 0\.06 s, and the one before to 0",
        ),
        (("xmax = 0.05", "xmax = 0.01"), r"'AH1' lasts from 0\.02 to 0\.01 s"),
        (("intervals: size = 3", "intervals: size = 4"), r"says 4 phones and has 3: it is cut off"),
        (("intervals: size = 3", "intervals: size = 1e999"), "is not a TextGrid with intervals"),
        (("xmax = 0.06", "xmax = 1e300"), r"lasts 1e\+300 s: expected .* up to 86400 s"),
    ],
)
def test_intervals_out_of_order_or_cut_off_are_refused(
    change: tuple[str, str], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.TextGrid"
    path.write_text(LONG_TEXTGRID.replace(*change))
    with pytest.raises(InputError, match=rf"a\.TextGrid.*{message}"):
        read_textgrid(path)


def test_the_gap_of_a_case_is_never_the_next_phone(shared: Path) -> None:
    whole = read_textgrid(shared / "cases/tables/tg_ok.TextGrid")
    assert [each.phone for each in whole] == ["AA1", "B", "K", "S"]
    with pytest.raises(InputError, match="says 4 phones and has 3: it is cut off"):
        read_textgrid(shared / "cases/tables/tg_gap_count_4.TextGrid")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_alignments_may_be_in_the_encodings_that_praat_writes(
    encoding: str, tmp_path: Path
) -> None:
    mark = "\ufeff" if encoding.endswith("e") else ""
    text = mark + LONG_TEXTGRID.replace("AH1", "\N{LATIN SMALL LETTER SCHWA}")
    (tmp_path / "a.TextGrid").write_text(text, encoding, newline="\r\n")
    phones = [each.phone for each in read_textgrid(tmp_path / "a.TextGrid")]
    assert phones == ["sil", "\N{LATIN SMALL LETTER SCHWA}", "B"]
    (tmp_path / "alignments.txt").write_text(f"{mark}a 1 2\n", encoding, newline="\r\n")
    place = str(tmp_path / "alignments.txt")
    assert read_alignments(place, ["a"], shift_ms=10, drop_stress=False)["a"].phones == ["1", "2"]
