import pytest

from aalbert.models.encoder_names import is_wave_encoder
from aalbert.models.wave_encoders.published_hours import HOURS, published_hours


@pytest.mark.parametrize(
    ("name", "hours"),
    [
        ("hf:facebook/hubert-base-ls960@0123456789abcdef", 960),
        ("hf:microsoft/wavlm-base-plus", 94_000),
        ("s3prl:wavlm", 94_000),
        ("s3prl:hubert", 960),
        ("hf:/models/hubert-base-ls960", None),
        ("s3prl:hubert@x", None),
    ],
)
def test_hours_are_those_of_the_name(name: str, hours: float | None) -> None:
    assert published_hours(name) == hours


def test_names_are_those_of_encoders_of_other_libraries() -> None:
    assert all(map(is_wave_encoder, HOURS))
