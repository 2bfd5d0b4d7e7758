"""The names of s3prl's hub stand for what they stand for there, or lead to it."""

import importlib.util
import re
from pathlib import Path

import pytest
import torch

import aalbert
from aalbert.cli import main
from aalbert.common.hub import find_hub_place
from aalbert.conversion.published_names import (
    CHECKPOINTS,
    FEATURES,
    REFUSED,
    find_plain_feature,
    find_published,
    published_speech,
)
from aalbert.conversion.saved_model import as_saved
from aalbert.errors import ConfigError
from aalbert.models import PretrainedModel
from aalbert.models.foreign.export import export_s3prl
from aalbert.models.training_facts import read_facts
from aalbert.train.recipes import read_task_recipe
from aalbert.train.upstreams import lasting_upstream
from tests.hub_server import FakeHub, Repository
from tests.models.foreign.test_export import make_model

# What `s3prl/upstream/audio_albert/hubconf.py` fetches.
PUBLISHED = "audio_albert_logMelBase_T_share_AdamW_b32_1m_960hr_drop1/states-1000000.ckpt"


@pytest.fixture
def on_the_hub(hub: FakeHub, tmp_path: Path) -> Path:
    """A model in s3prl's layout, at the place of s3prl's audio_albert on the hub, and its file."""
    path = tmp_path / "published.ckpt"
    export_s3prl(make_model(), path)
    repository = Repository()
    repository.commit({PUBLISHED: path.read_bytes()})
    hub.repositories["s3prl/audio_albert"] = repository
    return path


def test_the_names_of_one_checkpoint_open_it(
    on_the_hub: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wave = torch.randn(8_000) * 0.1
    expected = aalbert.from_pretrained(on_the_hub).extract(wave)
    for name in ("audio_albert", "audio_albert_960hr", PUBLISHED.partition("/")[0]):
        capsys.readouterr()
        assert torch.equal(aalbert.from_pretrained(name).extract(wave), expected)
        assert capsys.readouterr().err == f"{name}: hf://s3prl/audio_albert/{PUBLISHED}\n"


@pytest.mark.parametrize(
    ("name", "hours"), [("audio_albert", 960.9), ("tera_960hr", 960.9), ("mockingjay", 363.6)]
)
def test_published_checkpoints_come_with_the_speech_that_their_names_tell(
    name: str, hours: float
) -> None:
    repository, _, file = CHECKPOINTS[name].removeprefix("hf://s3prl/").partition("/")
    for place in (CHECKPOINTS[name], f"hf://s3prl/{repository}@{'0' * 40}/{file}"):
        assert sum(published_speech(place).values()) == pytest.approx(hours)
    for other in ("", "states-1000000.ckpt", f"hf://somebody/{repository}/{file}"):
        assert published_speech(other) == {}


def test_a_published_checkpoint_records_its_speech(on_the_hub: Path, tmp_path: Path) -> None:
    place = as_saved(lasting_upstream("audio_albert"))
    facts = read_facts(PretrainedModel.from_pretrained(place).config.training)
    assert facts.hours == pytest.approx(960.9)


def test_commands_take_the_names(
    on_the_hub: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", "audio_albert"]) == 0
    assert capsys.readouterr().out.startswith("hf://s3prl/audio_albert@")
    assert main(["convert", "audio_albert", "--out", str(tmp_path / "model")]) == 0
    assert capsys.readouterr().out.startswith(f"hf://s3prl/audio_albert/{PUBLISHED}: s3prl since")
    assert lasting_upstream("audio_albert").endswith(f"/{PUBLISHED}")


def test_every_published_place_is_a_file_on_the_hub() -> None:
    places = [find_hub_place(place) for place in CHECKPOINTS.values()]
    assert all(place is not None and place.file.endswith(".ckpt") for place in places)
    assert not {*CHECKPOINTS} & {*FEATURES, *REFUSED}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("audio_albert_local", "takes a checkpoint by -k in s3prl: name its file itself"),
        ("mockingjay_local", "takes a checkpoint by -k in s3prl: name its file itself"),
        ("tera_url", "takes the URL of a checkpoint by -k in s3prl: name the URL itself"),
        ("mockingjay_960hr", "was published on Dropbox, from where nothing is fetched here: down"),
        (
            "tera_100hr",
            "was .* by 'aalbert downstream --upstream s3prl:NAME'; on the Hugging Face",
        ),
        ("baseline_local", "takes the settings of a feature by -g in s3prl: give them to 'aalbert"),
        ("spectrogram", "is Kaldi's power spectrogram in s3prl, which is not computed here: the"),
        ("mel", "is a plain feature, no model: here it is logmel with baseline.deltas=0 and "),
    ],
)
def test_a_name_that_stands_for_no_model_here_leads_to_one(
    name: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match=f"^'{name}' {message}"):
        find_published(name)
    assert main(["inspect", name]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_other_texts_and_folders_of_these_names_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("tera", "mel", "tera_local"):
        Path(name).mkdir()
        assert find_published(name) == name and find_plain_feature(name) is None
    for text in ("runs/pretrain", "logmel", "fbank", "hf:user/model", "s3prl:tera", "user/tera"):
        assert find_published(text) == text and find_plain_feature(text) is None
    assert capsys.readouterr().err == ""


def test_plain_features_are_named_with_the_settings_of_s3prl(
    capsys: pytest.CaptureFixture[str],
) -> None:
    feature = find_plain_feature("fbank_no_cmvn")
    assert feature is not None and feature.kind == "fbank"
    assert capsys.readouterr().err == (
        "fbank_no_cmvn: fbank with baseline.deltas=2 and baseline.normalisation=none, as in s3prl, "
        "unless these are set\n"
    )
    config = read_task_recipe("voxceleb1", implied=feature.settings, environment={})
    assert (config.baseline.deltas, config.baseline.normalisation) == (2, "none")


def test_a_file_of_settings_goes_over_what_a_name_stands_for(tmp_path: Path) -> None:
    feature = find_plain_feature("mel")
    assert feature is not None
    (tmp_path / "mine.yaml").write_text("baseline: {normalisation: global}")
    config = read_task_recipe(
        "voxceleb1", implied=feature.settings, file=tmp_path / "mine.yaml", environment={}
    )
    assert (config.baseline.deltas, config.baseline.normalisation) == (0, "global")


def test_s3prl_has_these_names_and_no_others_of_its_systems() -> None:
    found = importlib.util.find_spec("s3prl")
    if found is None or found.origin is None:
        pytest.skip("`make test-s3prl` installs s3prl")
    upstreams = Path(found.origin).parent / "upstream"
    sources = [
        (upstreams / system / "hubconf.py").read_text()
        for system in ("audio_albert", "mockingjay", "tera", "baseline")
    ]
    there = {name for source in sources for name in re.findall(r"^def ([a-z]\w+)", source, re.M)}
    assert there - {"fbank", "mfcc", "linear"} == {*CHECKPOINTS, *FEATURES, *REFUSED}
    fetched = {url for source in sources for url in re.findall(r"huggingface.co/([^\"]+)", source)}
    assert {url.replace("/resolve/main/", "/") for url in fetched} == {
        place.removeprefix("hf://") for place in CHECKPOINTS.values()
    }
