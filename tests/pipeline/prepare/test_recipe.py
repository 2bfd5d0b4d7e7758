from pathlib import Path

import pytest

from aalbert.errors import ConfigError, InputError
from aalbert.pipeline.prepare.config import PrepareConfig
from aalbert.pipeline.prepare.recipe import load_recipe
from aalbert.shards.format.feature_settings import FbankSettings, LinearSettings, LogMelSettings
from aalbert.shards.format.wave_settings import SilenceSettings, WaveSettings


def test_the_default_recipe_is_logmel_of_the_wave_as_it_is() -> None:
    assert load_recipe() == PrepareConfig(features=(LogMelSettings(),))


def test_flags_win_over_assignments_and_those_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(
        "features: [fbank]\nstrict_audio: true\nlogmel: {mels: 40, log_offset: 1e-6}\n"
        "wave: {loudness_db: -25, silence: {inner_ms: 500}}\n"
    )
    assert load_recipe(file).features == (
        FbankSettings(
            wave=WaveSettings(loudness_db=-25.0, silence=SilenceSettings(inner_ms=500.0))
        ),
    )
    config = load_recipe(
        file, ["logmel.mels=23", "wave.silence=null"], features=("logmel",), strict_audio=False
    )
    assert config.features == (
        LogMelSettings(mels=23, log_offset=1e-6, wave=WaveSettings(loudness_db=-25.0)),
    )
    assert not config.strict_audio


def test_several_features_keep_their_order_and_are_stored_once() -> None:
    config = load_recipe(features=("linear", "logmel", "linear"), assignments=["shard_bytes=1000"])
    assert config.features == (LinearSettings(), LogMelSettings())
    assert config.shard_bytes == 1000


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (["features=[mel]"], "unknown feature 'mel': use one of logmel, fbank, mfcc, linear"),
        (["features=[]"], "features is empty: name at least one, such as logmel"),
        (["logmel.mel=3"], "--set: there is no setting 'logmel.mel': did you mean logmel.mels?"),
        (["wave.silence.gap=3"], "there is no setting 'wave.silence.gap'"),
        (["wave.volume=3"], "there is no setting 'wave.volume'"),
        (["logmel.mels=many"], "logmel.mels = 'many': Input should be a valid integer"),
        (["shard_bytes=0"], "shard_bytes 0 must be above 0"),
        (
            ["fbank.wave.gain_db=3"],
            "fbank.wave cannot be set alone: the wave is the same for all features, set wave",
        ),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(assignments: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_recipe(assignments=assignments)
    assert message in str(caught.value)


def test_a_setting_of_a_feature_that_is_not_stored_is_refused_unless_a_file_has_it(
    tmp_path: Path,
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_recipe(assignments=["fbank.mels=40"], features=["logmel", "mfcc"])
    assert str(caught.value) == (
        "--set fbank.mels=40 would change nothing: fbank is not stored, only logmel, mfcc; "
        "add --feature fbank"
    )
    assert load_recipe(assignments=["features=[fbank]", "fbank.mels=40"]).features == (
        FbankSettings(mels=40),
    )
    file = tmp_path / "recipe.yaml"
    file.write_text("fbank: {mels: 40}\n")
    assert load_recipe(file) == load_recipe()


def test_a_recipe_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no configuration file"):
        load_recipe(tmp_path / "recipe.yaml")
