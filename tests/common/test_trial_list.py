from pathlib import Path

import pytest

from aalbert.common.trial_list import ListedTrial, read_trial_list
from aalbert.errors import InputError


def listed(folder: Path, text: str) -> Path:
    path = folder / "trials.txt"
    path.write_text(text)
    return path


def test_trials_with_and_without_labels(tmp_path: Path) -> None:
    assert read_trial_list(listed(tmp_path, "1 a.wav b.wav\n\n0 a/c.wav  0\n")) == [
        ListedTrial(1, True, "a.wav", "b.wav"),
        ListedTrial(3, False, "a/c.wav", "0"),
    ]
    # Of two words none is a label.
    assert read_trial_list(listed(tmp_path, "1 b\n")) == [ListedTrial(1, None, "1", "b")]


@pytest.mark.parametrize("line", ["a", "2 a b", "1 a b c", "1 a b.wav c.wav"])
def test_another_line_is_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(InputError, match=r"trials.txt:2 is '.*': expected '1 FILE FILE'"):
        read_trial_list(listed(tmp_path, f"1 a b\n{line}\n"))
