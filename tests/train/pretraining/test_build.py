from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from aalbert.errors import ConfigError, InputError
from aalbert.models import PretrainedModel
from aalbert.models.encoder import Encoder
from aalbert.shards.reading.dataset import Dataset, Selection
from aalbert.train.preset import preset_names
from aalbert.train.pretraining.build import (
    PretrainSelections,
    build_model,
    count_positions,
    make_loaders,
    select_utterances,
)
from aalbert.train.pretraining.config import PretrainConfig
from aalbert.train.pretraining.reconstruction import reconstruct
from aalbert.train.pretraining.run import start_pretraining
from aalbert.train.recipes import read_recipe


def selections_of(config: PretrainConfig, data: Path) -> PretrainSelections:
    return select_utterances(config, [Dataset(data)])


def utterances_of(seconds: float, config: PretrainConfig) -> PretrainSelections:
    """Return selections of one utterance of this length, without anything to read."""
    expected = (config.data.features or {}).get("logmel", {})
    shift_ms = float(expected.get("frame_shift_ms", 10.0))
    dataset = SimpleNamespace(
        frames=lambda _: np.array([round(seconds * 1000 / shift_ms)]),
        manifest=SimpleNamespace(features={"logmel": SimpleNamespace(frame_shift_ms=shift_ms)}),
    )
    part = cast("Any", SimpleNamespace(dataset=dataset, rows=np.array([0])))
    return PretrainSelections([part], [part])


def with_encoder(config: PretrainConfig, **settings: Any) -> PretrainConfig:
    return replace(config, encoder=replace(config.encoder, **settings))


def with_data(config: PretrainConfig, **settings: Any) -> PretrainConfig:
    return replace(config, data=replace(config.data, **settings))


@pytest.mark.parametrize("name", preset_names())
def test_training_covers_the_positions_that_an_utterance_of_a_minute_is_read_at(name: str) -> None:
    config = read_recipe(name)
    selections = utterances_of(60.0, config)
    encoder = replace(config.encoder, position_frames=count_positions(config, selections))
    shift_ms = selections.datasets[0].manifest.features["logmel"].frame_shift_ms
    stacked = config.front_end.frames_stacked
    trained = round(config.data.crop_seconds * 1000 / shift_ms) // stacked
    read: list[int] = []
    small = replace(encoder, width=16, heads=2, feed_forward_width=8)
    model = Encoder(small, 4).eval()
    model.layers[0].register_forward_pre_hook(lambda _, inputs: read.append(inputs[0].shape[1]))
    frames = round(60_000 / shift_ms) // stacked
    with torch.no_grad():
        model(torch.zeros(1, frames, 4), torch.tensor([frames]))
    assert 0 < max(read) <= trained


def test_the_published_recipes_know_the_positions_that_they_were_published_with() -> None:
    published = {"aalbert-3l": 1500, "aalbert-seed": 333, "aalbert-paper": 1000}
    for name, positions in {**published, "mockingjay-seed": 500}.items():
        config = read_recipe(name)
        assert count_positions(config, utterances_of(60.0, config)) == positions


def test_positions_end_with_the_longest_utterance_or_crop(pretrain_config: PretrainConfig) -> None:
    config = with_data(pretrain_config, crop_seconds=2.0)
    assert count_positions(config, utterances_of(60.0, config)) == 66
    assert count_positions(config, utterances_of(1.0, config)) == 33
    assert (
        count_positions(with_encoder(config, position_frames=20), utterances_of(60, config)) == 20
    )
    everywhere = with_data(config, positions_start="random")
    assert count_positions(everywhere, utterances_of(60.0, config)) == 2000


def test_positions_that_would_stay_untrained_are_refused(pretrain_config: PretrainConfig) -> None:
    config = with_encoder(with_data(pretrain_config, crop_seconds=2.0), position_frames=100)
    with pytest.raises(
        ConfigError,
        match=r"position_frames 100: training reaches 66 encoder frames \(crops of at most 2 s\).*"
        r"--set data\.positions_start=random",
    ):
        count_positions(config, utterances_of(60.0, config))
    everywhere = with_data(config, positions_start="random")
    assert count_positions(everywhere, utterances_of(60.0, config)) == 100
    with pytest.raises(ConfigError, match="position_frames 50 must be at least the 66 encoder"):
        count_positions(with_encoder(everywhere, position_frames=50), utterances_of(60.0, config))
    rotary = with_encoder(config, positions="rotary")
    with pytest.raises(ConfigError, match="positions rotary have none: use zero"):
        with_data(rotary, positions_start="random")


def test_a_model_records_the_positions_that_it_was_trained_on(pretrained: Path) -> None:
    encoder = PretrainedModel.from_pretrained(pretrained).config.encoder
    # The utterances last 1 to 2 s: at most 2 s of frames of 10 ms, stacked by 3.
    assert encoder is not None and encoder.chunk_frames is not None
    assert 33 <= encoder.chunk_frames <= 66


def test_crops_that_begin_at_random_positions_train_all_of_them(
    librispeech_data: Path, pretrain_config: PretrainConfig
) -> None:
    config = with_encoder(pretrain_config, positions="learned", position_frames=400)
    config = with_data(config, positions_start="random")
    selections = selections_of(config, librispeech_data)
    model, (training, _) = build_model(config, selections), make_loaders(config, selections)
    assert model.upstream.encoder is not None
    weight = model.upstream.encoder.positions.weight
    assert isinstance(weight, torch.Tensor)
    for batch in training:
        result = reconstruct(model, batch, config.masking, seed=1, random_positions=True)
        sum(value.square().mean() for value in result.predicted.values()).backward()  # type: ignore[union-attr]
    reached = weight.grad.abs().sum(dim=1) > 0  # type: ignore[union-attr]
    assert reached.float().mean() > 0.8
    assert reached[:100].any() and reached[300:].any()


def test_a_run_with_random_positions_reads_whole_utterances(
    librispeech_data: Path, pretrain_config: PretrainConfig, tmp_path: Path
) -> None:
    config = with_data(pretrain_config, positions_start="random", crop_seconds=0.5)
    model = start_pretraining(replace(config, steps=2), [librispeech_data], tmp_path / "run")
    encoder = model.config.encoder
    assert encoder is not None and encoder.chunk_frames is not None
    assert encoder.chunk_frames > 33 > round(0.5 * 100) // 3


def test_excluded_utterances_are_neither_trained_on_nor_held_out(
    librispeech_data: Path, pretrain_config: PretrainConfig, tmp_path: Path
) -> None:
    dataset = Dataset(librispeech_data)
    keys = [dataset.key(row) for row in range(len(dataset))]
    listed = tmp_path / "test_list.txt"
    listed.write_text("\n".join(keys[3:9]) + "\n")
    plain, without = (
        selections_of(with_data(pretrain_config, exclude=place), librispeech_data)
        for place in ("", str(listed))
    )

    def keys_of(parts: list[Selection]) -> set[str]:
        return {part.dataset.key(int(row)) for part in parts for row in part.rows}

    assert keys_of(without.training) == keys_of(plain.training) - set(keys[3:9])
    assert keys_of(without.validation) == keys_of(plain.validation) - set(keys[3:9])


def test_a_list_of_excluded_utterances_that_does_not_fit_is_refused(
    librispeech_data: Path, pretrain_config: PretrainConfig, tmp_path: Path
) -> None:
    listed = tmp_path / "list.txt"
    with pytest.raises(InputError, match=r"there is no file .*list\.txt \(data\.exclude\): expect"):
        selections_of(with_data(pretrain_config, exclude=str(listed)), librispeech_data)
    listed.write_text("nobody-1-1\n")
    with pytest.raises(InputError, match="names 1 utterances of 1 that the data does not have"):
        selections_of(with_data(pretrain_config, exclude=str(listed)), librispeech_data)
