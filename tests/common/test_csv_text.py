import csv
import io

import pytest

from aalbert.common.csv_text import csv_text, neutral


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_a_cell_that_a_spreadsheet_would_run_becomes_text(start: str) -> None:
    assert neutral(f"{start}cmd|' /C calc'!A0") == f"'{start}cmd|' /C calc'!A0"
    (row,) = csv.reader(io.StringIO(csv_text([[f"{start}x", 'plain, "quoted"\nline']])))
    assert row == [f"'{start}x", 'plain, "quoted"\nline']


def test_numbers_stay_numbers_even_below_zero() -> None:
    assert csv_text([[-0.25, 3, None, "id-1"]]) == '-0.25,3,"","id-1"\n'
