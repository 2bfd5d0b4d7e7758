"""Pretraining that continues from a model: what it takes over, what it refuses, what it records."""

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch

from aalbert.cli import main
from aalbert.common.configuration import to_yaml
from aalbert.common.files import file_digest
from aalbert.errors import ConfigError, InputError, IntegrityError, OutputInUseError
from aalbert.models import PretrainedModel
from aalbert.models.downstream import DownstreamModel
from aalbert.shards.reading.dataset import Dataset
from aalbert.train.downstream.config import DownstreamConfig
from aalbert.train.downstream.run import start_downstream
from aalbert.train.loop.ranks import Ranks
from aalbert.train.loop.stop_signals import SignalListener
from aalbert.train.pretraining.build import (
    build_model,
    count_positions,
    make_loaders,
    select_utterances,
    training_statistics,
)
from aalbert.train.pretraining.config import PretrainConfig
from aalbert.train.pretraining.module import build_pretraining, held_out_loss
from aalbert.train.pretraining.run import resume_pretraining, start_pretraining
from aalbert.train.pretraining.start import Start, open_start
from aalbert.train.recipes import read_pretrain_recipe
from aalbert.train.run_folder import RunFolder
from tests.html_page import HtmlPage


@pytest.fixture(scope="module")
def start(pretrained: Path) -> Start:
    """The finished run of `pretrain_config`."""
    return open_start(pretrained)


@pytest.fixture(scope="module")
def other(pretrain_config: PretrainConfig) -> PretrainConfig:
    """A few steps on the speech of celebrities."""
    data = replace(pretrain_config.data, splits=("*",))
    return replace(pretrain_config, data=data, steps=4, validate_every_steps=2, seed=5)


def with_targets(config: PretrainConfig, **weights: float) -> PretrainConfig:
    return replace(config, objective=replace(config.objective, targets=weights))


def build(config: PretrainConfig, data: Path, start: Start | None) -> PretrainedModel:
    return build_model(config, select_utterances(config, [Dataset(data)], start), start)


def require_equal(found: torch.nn.Module, expected: torch.nn.Module) -> None:
    torch.testing.assert_close(found.state_dict(), expected.state_dict(), rtol=0, atol=0)


def test_the_model_stands_in_place_of_a_preset(
    start: Start, pretrain_config: PretrainConfig
) -> None:
    found = read_pretrain_recipe(environment={}, assignments=["steps=3"], start=start)
    expected = PretrainConfig(
        encoder=pretrain_config.encoder, front_end=pretrain_config.front_end, steps=3
    )
    assert found == expected
    start.require_settings(found)


def test_a_recipe_without_preset_predicts_what_the_model_predicts(
    start: Start, pretrain_config: PretrainConfig, librispeech_data: Path
) -> None:
    config = with_targets(pretrain_config, linear=0.3, logmel=1.0)
    config = replace(config, masking=replace(config.masking, learned_token=True))
    both = Start(build(config, librispeech_data, None), start.origin)
    found = read_pretrain_recipe(environment={}, start=both)
    assert found.objective.targets == {"linear": 1.0, "logmel": 1.0}
    assert found.masking.learned_token
    assignments = ["objective.targets={}", "masking.learned_token=false"]
    found = read_pretrain_recipe(environment={}, assignments=assignments, start=both)
    assert (found.objective.targets, found.masking.learned_token) == ({}, False)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"assignments": ["encoder.layers=6", "front_end.deltas=1"]},
            "encoder.layers is 6, the model has 3; front_end.deltas is 1, the model has 0: {place} "
            "can be continued only as it is; leave these out of flags, environment, file and "
            "preset, or set the model's values",
        ),
        ({"environment": {"AALBERT_ENCODER__NORM": "pre"}}, "encoder.norm is pre, the model has p"),
        ({"preset": "tiny"}, "encoder.width is 128, the model has 32; encoder.feed_forward_width"),
        ({"preset": "aalbert-3l"}, "front_end.normalisation is utterance, the model has global"),
        ({"assignments": ["data.feature=linear"]}, "data.feature is linear, the model has logmel"),
        ({"file": "encoder: {heads: 2}"}, "encoder.heads is 2, the model has 4"),
    ],
)
def test_settings_that_contradict_the_model_are_refused(
    start: Start, librispeech_data: Path, tmp_path: Path, given: dict[str, Any], message: str
) -> None:
    if "file" in given:
        (tmp_path / "settings.yaml").write_text(given["file"])
        given = {"file": tmp_path / "settings.yaml"}
    config = read_pretrain_recipe(**{"environment": {}, **given}, start=start)
    with pytest.raises(ConfigError) as caught:
        start_pretraining(config, [librispeech_data], tmp_path / "run", start=start)
    assert message.format(place=start.origin.model) in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_preset_that_agrees_and_other_dropout_are_taken(
    start: Start, pretrain_config: PretrainConfig, librispeech_data: Path, tmp_path: Path
) -> None:
    (tmp_path / "parent.yaml").write_text(to_yaml(pretrain_config))
    config = read_pretrain_recipe(
        "tiny",
        file=tmp_path / "parent.yaml",
        environment={},
        assignments=["encoder.dropout=0.3", "encoder.initial_std=0.5", "steps=2"],
        start=start,
    )
    model = build(config, librispeech_data, start)
    assert model.config.encoder is not None and model.config.encoder.dropout == 0.3
    require_equal(model, start.model)


def test_before_its_first_step_it_is_the_model_with_its_held_out_loss(
    start: Start, pretrained: Path, pretrain_config: PretrainConfig, librispeech_data: Path
) -> None:
    selections = select_utterances(pretrain_config, [Dataset(librispeech_data)], start)
    module = build_pretraining(pretrain_config, selections, start=start)
    require_equal(module.model, start.model)
    held_out = make_loaders(pretrain_config, selections)[1]
    measured = held_out_loss(module.eval(), held_out, Ranks(), SignalListener())
    assert measured == {"validation_loss": RunFolder(pretrained).held_out_loss(12)}


def test_its_first_loss_is_lower_than_that_of_fresh_weights(
    start: Start,
    pretrained: Path,
    pretrain_config: PretrainConfig,
    librispeech_data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = replace(pretrain_config, steps=1)
    start_pretraining(config, [librispeech_data], tmp_path / "run", start=start)
    assert (
        f"continues from {start.origin.model}: the encoder, the head of logmel\n"
        in capsys.readouterr().err
    )
    losses = [
        RunFolder(run).read_metrics()[0]["train_loss"] for run in (tmp_path / "run", pretrained)
    ]
    assert losses[0] < losses[1] - 0.01


def test_statistics_are_those_of_the_model_not_of_the_new_data(
    start: Start, other: PretrainConfig, voxceleb1_data: Path
) -> None:
    selections = select_utterances(other, [Dataset(voxceleb1_data)], start)
    model = build_model(other, selections, start)
    expected, theirs = (
        start.model.upstream.front_end.mean,
        training_statistics(selections, "logmel"),
    )
    for front_end in (model.upstream.front_end, model.target_front_ends["logmel"]):
        assert torch.equal(front_end.mean, expected)  # type: ignore[arg-type]
    assert not torch.allclose(expected, theirs[0], atol=0.1)


def test_heads_and_a_mask_token_that_the_model_lacks_are_drawn_from_the_seed(
    start: Start,
    pretrain_config: PretrainConfig,
    librispeech_data: Path,
    other: PretrainConfig,
    voxceleb1_data: Path,
) -> None:
    config = with_targets(pretrain_config, logmel=1.0, linear=1.0)
    config = replace(config, masking=replace(config.masking, learned_token=True))
    model, same = (build(config, librispeech_data, start) for _ in range(2))
    another = build(replace(config, seed=1), librispeech_data, start)
    require_equal(model, same)
    require_equal(model.upstream, another.upstream)
    require_equal(model.heads["logmel"], start.model.heads["logmel"])
    drawn, redrawn = (each.heads["linear"].state_dict() for each in (model, another))
    assert not torch.equal(drawn["output.weight"], redrawn["output.weight"])
    assert start.describe(model) == (
        f"continues from {start.origin.model}: the encoder, the head of logmel; drawn anew: the "
        "head of linear, the mask token"
    )
    both = Start(model, start.origin)
    again = build(config, librispeech_data, both)
    require_equal(again, model)
    plain = build(with_targets(pretrain_config, linear=1.0), librispeech_data, both)
    assert both.describe(plain) == (
        f"continues from {start.origin.model}: the encoder, the head of linear; left out: the head "
        "of logmel, the mask token"
    )
    # Of a feature that it reads and does not predict, the statistics are known all the same.
    fresh = build(other, voxceleb1_data, Start(plain, start.origin))
    require_equal(fresh.target_front_ends["logmel"], start.model.target_front_ends["logmel"])
    assert (
        Start(plain, start.origin)
        .describe(fresh)
        .endswith(": the encoder; drawn anew: the head of logmel; left out: the head of linear")
    )


@pytest.mark.parametrize("positions", ["sinusoidal", "rotary"])
def test_known_positions_stay_known_and_longer_crops_add_to_them(
    pretrain_config: PretrainConfig, librispeech_data: Path, start: Start, positions: str
) -> None:
    encoder = replace(pretrain_config.encoder, positions=positions)  # type: ignore[arg-type]
    known = replace(encoder, position_frames=20)
    upstream = replace(start.model.config, encoder=known)
    short = Start(PretrainedModel(upstream), start.origin)
    for crop_seconds, expected in ((0.3, 20), (0.9, 30)):
        data = replace(pretrain_config.data, crop_seconds=crop_seconds)
        config = replace(pretrain_config, encoder=encoder, data=data)
        selections = select_utterances(config, [Dataset(librispeech_data)], short)
        assert count_positions(config, selections, short) == expected


def test_a_table_of_positions_keeps_its_size(
    pretrain_config: PretrainConfig, librispeech_data: Path, start: Start
) -> None:
    encoder = replace(pretrain_config.encoder, positions="learned", position_frames=20)
    table = Start(PretrainedModel(replace(start.model.config, encoder=encoder)), start.origin)
    config = read_pretrain_recipe(
        environment={}, assignments=["data.crop_seconds=0.5"], start=table
    )
    assert config.encoder.position_frames is None
    model = build(config, librispeech_data, table)
    require_equal(model.upstream, table.model.upstream)
    longer = replace(config, data=replace(config.data, crop_seconds=0.9))
    with pytest.raises(ConfigError, match=r"crop_seconds 0\.9: a crop has 30 encoder frames, the"):
        build(longer, librispeech_data, table)
    larger = replace(config, encoder=replace(config.encoder, position_frames=30))
    with pytest.raises(ConfigError, match=r"position_frames 30: the learned table of .* has 20 po"):
        build(larger, librispeech_data, table)


def test_data_with_other_features_than_the_model_reads_is_refused(
    start: Start, pretrain_config: PretrainConfig, prepared: Path
) -> None:
    with pytest.raises(
        ConfigError, match="expects another logmel than .*: prepare the data with t"
    ) as caught:
        select_utterances(pretrain_config, [Dataset(prepared)], start)
    assert str(caught.value).startswith(start.origin.model)
    assert "by 'aalbert prepare' with --feature logmel --set logmel.mels=20" in str(caught.value)
    assert caught.value.details == ("mels: expected 20, found 80",)


@pytest.fixture
def parent(pretrained: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to be taken away."""
    return Path(shutil.copytree(pretrained, tmp_path / "parent"))


def weights_of(run: Path) -> bytes:
    return (run / "export" / "model.safetensors").read_bytes()


def test_a_run_resumes_bit_for_bit_without_the_model(
    parent: Path, other: PretrainConfig, voxceleb1_data: Path, tmp_path: Path
) -> None:
    whole, half, killed = (tmp_path / name for name in ("whole", "half", "killed"))
    start_pretraining(other, [voxceleb1_data], whole, start=open_start(parent))
    for run in (half, killed):
        shutil.copytree(whole, run)
        shutil.rmtree(run / "export")
    (half / "checkpoints" / "step-00000004.ckpt").unlink()
    # Before its first state.
    shutil.rmtree(killed / "checkpoints")
    shutil.rmtree(parent)
    for run in (half, killed):
        resume_pretraining(run)
        assert weights_of(run) == weights_of(whole)
        assert RunFolder(run).held_out_losses() == RunFolder(whole).held_out_losses()
        names = ("run.json", "export/config.json", "export/README.md")
        assert [(run / name).read_text() for name in names] == [
            (whole / name).read_text() for name in names
        ]
    recorded = RunFolder(half).read_record()
    config = half / "start" / "config.json"
    config.write_text(config.read_text().replace(recorded["start_weights"], "0" * 32))
    with pytest.raises(IntegrityError, match=r"start has the weights 0{32}, and the run continues"):
        resume_pretraining(half)
    shutil.rmtree(half / "start")
    with pytest.raises(InputError) as caught:
        resume_pretraining(half)
    origin = recorded["continued_from"]
    assert str(caught.value) == (
        f"{half}/start, the model that the run continues from, is gone: put it back, as it was "
        f"made from {origin['model']} (weights {origin['weights_xxh3']}), or start again with "
        "--from"
    )


def test_a_run_records_what_it_continues_from_and_what_came_before(
    pretrained: Path, other: PretrainConfig, voxceleb1_data: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    start_pretraining(other, [voxceleb1_data], run, start=open_start(pretrained))
    origin = RunFolder(run).read_record()["continued_from"]
    assert origin == {
        "model": str(pretrained.resolve() / "export"),
        "kind": "pretrained",
        "weights_xxh3": file_digest(pretrained / "export" / "model.safetensors"),
        "training": PretrainedModel.from_pretrained(pretrained).config.training,
        "models_before": {},
        "head_training": {},
    }
    training = PretrainedModel.from_pretrained(run).config.training
    assert training["continued_from"] == origin
    assert (training["steps"], origin["training"]["steps"]) == (4, 12)
    card = (run / "export" / "README.md").read_text()
    assert f"- continued_from.model: {pretrained.name}\n" in card and str(pretrained) not in card
    assert "- continued_from.training.steps: 12\n" in card
    shown = f"{origin['model']}, weights {origin['weights_xxh3']}"
    assert shown in HtmlPage((run / "report.html").read_text()).texts
    third = open_start(f"{run}@2").origin
    assert third.model == f"{run}@2"
    assert third.training["exported_step"] == 2 and "continued_from" not in third.training
    assert third.models_before == {origin["weights_xxh3"]: origin["model"]}


def test_what_a_model_or_a_run_says_of_its_origin_is_checked(
    start: Start, pretrained: Path, tmp_path: Path
) -> None:
    start.model.save_pretrained(tmp_path)
    document = json.loads((tmp_path / "config.json").read_text())
    origin = {**asdict(start.origin), "training": {"hub_datasets": [["a"]]}}
    for facts, reason in [
        ({"continued_from": {"model": "elsewhere"}}, "continued_from.kind is missing"),
        ({"continued_from": "x"}, "continued_from = 'x': Input should be an object"),
        ({"continued_from": origin}, r"hub_datasets\.0 = \['a'\]: Input should be a valid string"),
        ({"held_out_loss": "x"}, "held_out_loss = 'x': Input should be a valid number"),
        ({"hub_datasets": 5}, "hub_datasets = 5: Input should be a valid array"),
        ({"trivial_predictors": [1]}, r"trivial_predictors = \[1\]: Input should be an object"),
    ]:
        document["upstream"]["training"] = facts
        (tmp_path / "config.json").write_text(json.dumps(document))
        with pytest.raises(
            IntegrityError, match=rf"model of this aalbert \(training\.{reason}.*\): use the"
        ):
            open_start(tmp_path)


def test_a_model_at_a_url_is_recorded_without_its_secrets(
    start: Start, other: PretrainConfig, voxceleb1_data: Path, tmp_path: Path
) -> None:
    url = "memory://someone:secret@models/ours"
    start.model.save_pretrained(url)
    try:
        opened = open_start(url)
    finally:
        fsspec.filesystem("memory").rm("/someone:secret@models", recursive=True)
    require_equal(opened.model, start.model)
    assert opened.origin.model == "memory://someone:***@models/ours"
    start_pretraining(replace(other, steps=1), [voxceleb1_data], tmp_path / "run", start=opened)
    for name, place in {
        "run.json": "***@models/ours",
        "export/config.json": "***@models/ours",
        "export/README.md": "continued_from.model: ours\n",
    }.items():
        text = (tmp_path / "run" / name).read_text()
        assert place in text and "secret" not in text
    resume_pretraining(tmp_path / "run", extend=1)


def test_of_a_downstream_run_the_encoder_is_taken(
    speaker_run: Path, start: Start, pretrain_config: PretrainConfig, librispeech_data: Path
) -> None:
    opened = open_start(speaker_run)
    assert opened.origin.kind == "downstream"
    require_equal(opened.model.upstream, start.model.upstream)
    model = build(pretrain_config, librispeech_data, opened)
    require_equal(model.upstream, start.model.upstream)
    assert opened.describe(model).endswith(": the encoder; drawn anew: the head of logmel")


def test_the_labels_that_an_encoder_was_fine_tuned_on_are_recorded_and_stay_so(
    speaker_run: Path, pretrain_config: PretrainConfig, librispeech_data: Path, tmp_path: Path
) -> None:
    assert open_start(speaker_run).origin.head_training == {}
    tuned = DownstreamModel.from_pretrained(speaker_run)
    tuned.frozen = False
    tuned.save_pretrained(tmp_path / "tuned")
    opened = open_start(tmp_path / "tuned")
    assert opened.origin.head_training == tuned.training_facts
    build(pretrain_config, librispeech_data, opened).save_pretrained(tmp_path / "next")
    assert open_start(tmp_path / "next").origin.head_training == tuned.training_facts
    card = (tmp_path / "next" / "README.md").read_text()
    assert "training with labels (speaker of voxceleb1)" in card and "without labels" not in card


def test_a_downstream_run_without_an_encoder_is_refused(
    voxceleb1_data: Path, tmp_path: Path
) -> None:
    config = DownstreamConfig(epochs=1, prefetch=0)
    start_downstream(config, voxceleb1_data, "logmel", tmp_path / "run")
    with pytest.raises(
        ConfigError, match="trained on plain logmel, without an encoder: name a pre"
    ):
        open_start(tmp_path / "run")


def test_a_run_that_was_ended_before_its_record_is_started_anew(
    start: Start, other: PretrainConfig, voxceleb1_data: Path, tmp_path: Path
) -> None:
    """It had copied a model; the new one continues from none."""
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    start.model.save_pretrained(run / "start")
    (run / "start" / "notes.txt").touch()
    config = replace(other, steps=1)
    with pytest.raises(OutputInUseError, match="run is not empty"):
        start_pretraining(config, [voxceleb1_data], run)
    (run / "start" / "notes.txt").unlink()
    start_pretraining(config, [voxceleb1_data], run)
    assert not (run / "start").exists()


def test_the_command_estimates_runs_and_refuses_a_second_model(
    start: Start,
    pretrained: Path,
    other: PretrainConfig,
    voxceleb1_data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "settings.yaml").write_text(to_yaml(other))
    run = str(tmp_path / "run")
    common = ["--config", str(tmp_path / "settings.yaml"), "--data", str(voxceleb1_data), "--json"]
    command = ["pretrain", "--from", str(pretrained), *common, "--out", run]
    assert main([*command, "--dry-run"]) == 0
    expected = sum(each.numel() for each in start.model.parameters())
    assert json.loads(capsys.readouterr().out)["parameters"] == expected
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out)["step"] == 4
    assert main(["pretrain", "--resume", "--from", str(pretrained), "--out", run]) == 2
    assert "continues a run with its own settings: leave out --from" in capsys.readouterr().err
