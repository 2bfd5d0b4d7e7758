import re
from collections.abc import Iterator

import pytest
import torch

from aalbert.errors import ConfigError
from aalbert.models.device import best_device, choose_device, use_device
from aalbert.train.loop.ranks import Ranks
from aalbert.train.loop.trainer import devices_of


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    use_device(None)


def test_a_process_computes_on_the_device_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert best_device() == torch.device("cuda")
    assert use_device("cpu") == best_device() == choose_device(None) == torch.device("cpu")
    assert use_device(None) == torch.device("cuda")


def test_a_device_that_is_not_there_is_named_with_the_way_out() -> None:
    with pytest.raises(ConfigError, match="the device 'gpu' cannot be used: .*; try cpu$"):
        use_device("gpu")


def test_one_gpu_by_its_number_is_for_one_process() -> None:
    second = torch.device("cuda", 1)
    assert devices_of(second, Ranks()) == [1]
    assert devices_of(torch.device("cpu"), Ranks()) == 1
    assert devices_of(torch.device("cuda"), Ranks(size=4, nodes=2)) == 2
    message = "the device 'cuda:1' is one GPU for 4 processes: leave out its number"
    with pytest.raises(ConfigError, match=re.escape(message)):
        devices_of(second, Ranks(size=4))
