from dataclasses import asdict
from typing import Any

import pytest
import torch

from aalbert.common.text import flat
from aalbert.errors import ConfigError
from aalbert.models.encoder import Encoder
from aalbert.train.loop.optimiser import learning_rate_factor
from aalbert.train.preset import find_preset, preset_names
from aalbert.train.recipes import prepare_command, read_recipe

S3PRL = ["aalbert-3l", "aalbert-6l", "aalbert-12l", "mockingjay-3l", "mockingjay-6l"]
S3PRL += ["mockingjay-12l", "tera-3l", "aalbert-s3prl-960h"]
# The rates at the first step, the first and last of the peak, half-way down, and the last one.
CURVES: dict[str, list[tuple[int, float]]] = {
    **{
        name: [
            (0, 2e-4 / 70_000),
            (69_999, 2e-4),
            (70_000, 2e-4),
            (535_000, 1e-4),
            (999_999, 2e-4 / 930_000),
        ]
        for name in S3PRL
    },
    "aalbert-paper": [
        (0, 5e-10),
        (99_999, 5e-5),
        (100_000, 5e-5),
        (550_000, 2.5e-5),
        (999_999, 5e-5 / 900_000),
    ],
    "aalbert-seed": [
        (0, 5e-9),
        (9_999, 5e-5),
        (10_000, 5e-5),
        (255_000, 2.5e-5),
        (499_999, 5e-5 / 490_000),
    ],
    "mockingjay-seed": [
        (0, 5e-9),
        (9_999, 5e-5),
        (10_000, 5e-5),
        (255_000, 2.5e-5),
        (499_999, 5e-5 / 490_000),
    ],
    "tiny": [
        (0, 2e-3 / 210),
        (209, 2e-3),
        (210, 2e-3),
        (1605, 1e-3),
        (2999, 2e-3 / 2790),
    ],
    # The rate of `tiny` times 128 / 256.
    "small": [
        (0, 1e-3 / 280),
        (279, 1e-3),
        (280, 1e-3),
        (2140, 1e-3 / 2),
        (3999, 1e-3 / 3720),
    ],
    "small-long": [
        (0, 1e-3 / 1120),
        (1119, 1e-3),
        (1120, 1e-3),
        (8560, 1e-3 / 2),
        (15_999, 1e-3 / 14_880),
    ],
    # The rate of `small` times 256 / 768.
    "aalbert-fast": [
        (0, 3.3333e-4 / 7_000),
        (6_999, 3.3333e-4),
        (7_000, 3.3333e-4),
        (53_500, 3.3333e-4 / 2),
        (99_999, 3.3333e-4 / 93_000),
    ],
}
# What sets each recipe apart, besides the sizes that all share.
DIFFERENCES: dict[tuple[str, str], dict[str, Any]] = {
    ("aalbert-3l", "aalbert-6l"): {"encoder.layers": 6},
    ("aalbert-3l", "aalbert-12l"): {"encoder.layers": 12},
    ("aalbert-3l", "mockingjay-3l"): {"encoder.share_layers": False},
    ("aalbert-6l", "mockingjay-6l"): {"encoder.share_layers": False},
    ("aalbert-12l", "mockingjay-12l"): {"encoder.share_layers": False},
    ("mockingjay-3l", "tera-3l"): {"masking.band_share": 0.2, "masking.noise_share": 0.15},
    ("tiny", "small"): {
        "encoder.width": 256,
        "encoder.feed_forward_width": 1024,
        "encoder.input_width": 512,
        "objective.codes.weight": 0.1,
        "optimiser.learning_rate": 1e-3,
        "steps": 4000,
        "validate_every_steps": 400,
    },
    ("aalbert-seed", "mockingjay-seed"): {
        "encoder.share_layers": False,
        "front_end.deltas": 0,
        "front_end.frames_stacked": 2,
        "masking.learned_token": False,
        "objective.loss": "huber",
        # 80 bands and 1,024 bins.
        "objective.targets.logmel": pytest.approx(80 / 1104, rel=1e-3),
        "objective.targets.linear": pytest.approx(1024 / 1104, rel=1e-3),
        "data.batch_seconds": 240.0,
        "optimiser.weight_decay": 1e-5,
    },
    ("small", "small-long"): {"steps": 16_000, "validate_every_steps": 1000},
    ("aalbert-3l", "aalbert-s3prl-960h"): {
        "data.splits": ("train-clean-100", "train-clean-360", "train-other-500"),
        "data.features.logmel.wave.loudness_db": -25.0,
        "data.validation_proportion": 0.002,
    },
}


def test_every_preset_has_a_curve_here() -> None:
    assert CURVES.keys() == set(preset_names())


@pytest.mark.parametrize("name", preset_names())
def test_a_run_of_every_preset_measures_the_held_out_loss_ten_times(name: str) -> None:
    config = read_recipe(name)
    # At the multiples, and at the end.
    assert -(-config.steps // config.validate_every_steps) >= 10


@pytest.mark.parametrize("name", preset_names())
def test_learning_rates_are_those_computed_by_hand(name: str) -> None:
    config = read_recipe(name)
    warmup = config.optimiser.count_warmup_steps(config.steps)
    for step, rate in CURVES[name]:
        factor = learning_rate_factor(step, warmup_steps=warmup, steps=config.steps)
        assert config.optimiser.learning_rate * factor == pytest.approx(rate, rel=1e-9)
    assert learning_rate_factor(config.steps, warmup_steps=warmup, steps=config.steps) == 0


@pytest.mark.parametrize(("left", "right"), DIFFERENCES, ids="-to-".join)
def test_presets_differ_only_where_their_sources_do(left: str, right: str) -> None:
    one, other = (dict(flat(asdict(read_recipe(name)))) for name in (left, right))
    changed = {name: value for name, value in other.items() if one.get(name) != value}
    assert changed == DIFFERENCES[left, right]


@pytest.mark.parametrize("name", ["aalbert-paper", "aalbert-seed"])
def test_the_recipes_with_stacked_frames_read_480_numbers(name: str) -> None:
    assert read_recipe(name).front_end.input_dims == 480


def test_the_repositorys_recipe_for_mockingjay_has_the_parameters_of_six_layers() -> None:
    config = read_recipe("mockingjay-seed")
    assert config.front_end.input_dims == 160
    with torch.device("meta"):
        encoder = Encoder(config.encoder, config.front_end.input_dims)
    # 7,087,872 a layer; its projection and the layer norm behind it.
    assert sum(part.numel() for part in encoder.parameters()) == 6 * 7_087_872 + 161 * 768 + 2 * 768


@pytest.mark.parametrize(("name", "crops"), [("aalbert-seed", 48), ("mockingjay-seed", 24)])
def test_a_step_of_the_repositorys_recipes_is_so_many_crops_of_ten_seconds(
    name: str, crops: int
) -> None:
    data = read_recipe(name).data
    assert (data.batch_seconds / data.crop_seconds, data.batching) == (crops, "static")


def test_an_unknown_preset_is_named_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match="unknown preset 'huge': use one of .*tiny"):
        find_preset("huge")


def test_every_preset_says_how_its_data_are_prepared() -> None:
    commands = {name: prepare_command(read_recipe(name), "data") for name in preset_names()}
    start = "aalbert prepare librispeech /corpora/LibriSpeech --out data"
    assert commands["aalbert-3l"] == commands["tera-3l"] == f"{start} --feature logmel"
    assert commands["aalbert-s3prl-960h"] == (
        f"{start} --subset train-clean-100 --subset train-clean-360 --subset train-other-500 "
        "--feature logmel --set wave.loudness_db=-25"
    )
    assert (
        commands["aalbert-seed"]
        == commands["mockingjay-seed"]
        == (
            f"{start} --subset train-clean-360 --feature logmel --set logmel.fft_size=2046 "
            "--feature linear --set linear.fft_size=2046"
        )
    )


@pytest.mark.parametrize("name", preset_names())
def test_the_command_makes_the_features_that_the_preset_expects(name: str) -> None:
    """The options are read back by what reads them in `prepare`."""
    from aalbert.pipeline.prepare.recipe import load_recipe

    config = read_recipe(name)
    words = prepare_command(config, "data").split()
    pairs = list(zip(words, words[1:], strict=False))
    made = load_recipe(
        assignments=[value for option, value in pairs if option == "--set"],
        features=[value for option, value in pairs if option == "--feature"],
    )
    stored = {settings.kind: settings for settings in made.features}
    assert stored[config.data.feature].dims == config.front_end.feature_dims
    assert set(config.objective.targets) <= set(stored)
    for kind, required in (config.data.features or {}).items():
        found = dict(flat(asdict(stored[kind])))
        assert {name: found[name] for name, _ in flat(required)} == dict(flat(required))
