from pathlib import Path

import pytest

from aalbert.models.encoder_names import find_encoder_on_hub, is_wave_encoder, short_name

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_models_of_this_package_have_other_names() -> None:
    assert is_wave_encoder("hf:user/model") and is_wave_encoder("s3prl:hubert")
    for name in ("hf://user/model", "user/model", "logmel", "runs/pretrain", "s3://bucket/run"):
        assert not is_wave_encoder(name)
        assert find_encoder_on_hub(name) is None


def test_a_folder_here_makes_a_path_of_a_name_but_not_of_a_recorded_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    place = find_encoder_on_hub("hf:user/model@main")
    assert place is not None and (place.repository, place.revision) == ("user/model", "main")
    Path("user").mkdir()
    assert find_encoder_on_hub("hf:user/model@main") is None
    recorded = find_encoder_on_hub(f"hf:user/model@{COMMIT}")
    assert recorded is not None and recorded.revision == COMMIT


def test_tables_have_short_names() -> None:
    assert short_name("hf:/models/tiny-hubert") == "hf:tiny-hubert"
    assert short_name(f"hf:user/model@{COMMIT}") == "hf:user/model@0123456"
    assert short_name("s3prl:hubert") == "s3prl:hubert"
