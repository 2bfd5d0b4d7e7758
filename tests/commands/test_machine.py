from collections.abc import Iterator

import pytest
import torch

from aalbert.commands import machine as module
from aalbert.commands.machine import use_threads


@pytest.fixture(autouse=True)
def number_of_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Four cores of which 2.8 are busy, no setting, and the number as it was afterwards."""
    before = torch.get_num_threads()
    monkeypatch.setattr(module, "available_cores", lambda: 4)
    monkeypatch.setattr(module, "busy_cores", lambda: 2.8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    yield
    torch.set_num_threads(before)


def test_threads_are_as_many_as_cores_are_idle_and_it_is_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    use_threads(None)
    assert torch.get_num_threads() == 1
    assert capsys.readouterr().err == (
        "note: 2.8 of 4 cores are busy, so threads: 1; --threads sets another number\n"
    )


def test_an_idle_machine_is_used_whole_without_a_word(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "busy_cores", lambda: 0.1)
    use_threads(None)
    assert torch.get_num_threads() == 4 and capsys.readouterr().err == ""


def test_a_given_number_wins_then_that_of_the_run_then_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use_threads(3, of_run=2)
    assert torch.get_num_threads() == 3
    use_threads(None, of_run=2)
    assert torch.get_num_threads() == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    use_threads(None)
    # PyTorch has read it itself.
    assert torch.get_num_threads() == 2 and capsys.readouterr().err == ""
