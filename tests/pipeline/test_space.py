import pytest

from aalbert.common.text import human_bytes
from aalbert.errors import StorageError
from aalbert.pipeline.prepare.output import require_space


def test_too_little_room_is_refused_with_both_figures() -> None:
    with pytest.raises(StorageError) as caught:
        require_space(57 * 2**30, 3 * 2**29, "/data/out")
    assert str(caught.value) == (
        "needs about 57.0 GiB, 1.5 GiB free in /data/out: make room there, or choose another --out"
    )
    assert caught.value.exit_code == 7


def test_room_that_just_suffices_is_enough() -> None:
    require_space(2**30, 2**30, "/data/out")


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (1023, "1,023 bytes"),
        (1024, "1.0 KiB"),
        (2**20 - 1, "1.0 MiB"),
        (5 * 2**40, "5.0 TiB"),
        (3000 * 2**40, "3,000.0 TiB"),
    ],
)
def test_sizes_are_told_in_the_unit_that_fits(count: int, text: str) -> None:
    assert human_bytes(count) == text
