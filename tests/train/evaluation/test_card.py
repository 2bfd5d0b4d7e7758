"""After an evaluation the card of the model states what was measured."""

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from huggingface_hub import ModelCard

from aalbert.cli import main
from aalbert.models.downstream import DownstreamModel
from aalbert.shards.reading.dataset import Dataset
from aalbert.train.downstream.left_out import LeftOut
from aalbert.train.evaluation.card import UNTRAINED, score_of
from aalbert.train.evaluation.card import tested_in_words as in_words
from aalbert.train.evaluation.evaluate import Evaluation
from aalbert.train.hub_datasets import LIBRISPEECH, LIBRISPEECH_UTTERANCES, hub_dataset


def test_the_card_of_an_evaluated_run_has_its_metric(
    speaker_run: Path, evaluations: list[Evaluation]
) -> None:
    card: Any = ModelCard.load(speaker_run / "export" / "README.md")
    metric = json.loads((speaker_run / "metrics.json").read_text())["metric"]
    [result] = card.data.eval_results
    assert result.metric_value == metric["value"] and result.metric_type == "accuracy"
    low, high = metric["interval_95"]
    counts = evaluations[0].result.counts
    assert f"{100 * low:.1f} to {100 * high:.1f}" in result.metric_name
    assert result.metric_name.endswith(f"on {counts['utterances']} utterances")
    assert "| guessing |" in card.text and "| most frequent class |" in card.text
    probes = json.loads((speaker_run / "metrics.json").read_text())["layer_probes"]
    for probe, name in zip(probes, ("the encoder's input", "layer 1"), strict=False):
        low, high = (100 * bound for bound in probe["interval_95"])
        row = f"| probe of {name} alone | {100 * probe['value']:.1f} % | {low:.1f} to {high:.1f} |"
        assert row in card.text
    assert card.text.count("| probe of ") == len(probes) == 4
    hours = evaluations[0].result.pretraining_hours
    assert f"{hours:.2f} hours of different speech (librispeech)." in card.text
    DownstreamModel.from_pretrained(speaker_run)


def run_examples(card: str, model: Path, **values: Any) -> dict[str, Any]:
    """Run the examples of a card for a model, and return what those in Python leave."""
    for language, code in re.findall(r"^```(\w+)\n(.*?)^```", card, re.M | re.S):
        code = code.replace("MODEL", str(model))
        if language == "sh":
            assert main(shlex.split(code)[1:]) == 0
        else:
            exec(compile(code, "README.md", "exec"), values)
    return values


def test_the_examples_of_a_card_run(
    speaker_run: Path, pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    wave = np.random.default_rng(3).standard_normal(16_000) * 0.1
    soundfile.write("speech.wav", wave, 16_000)
    for run, result in ((speaker_run, "predicted"), (pretrained, "states")):
        card = (run / "export" / "README.md").read_text()
        assert result in run_examples(card, run / "export", wave=wave.astype(np.float32))


def test_no_card_names_a_place_of_its_machine(
    speaker_run: Path, pretrained: Path, evaluations: list[Evaluation]
) -> None:
    for run in (speaker_run, pretrained, evaluations[1].run.path):
        card = (run / "export" / "README.md").read_text()
        assert str(run.parents[1]) not in card and "/tmp" not in card


def test_a_control_with_random_weights_stands_beside_what_it_is_the_control_of(
    evaluations: list[Evaluation],
) -> None:
    run = evaluations[0]

    def control(**settings: Any) -> Evaluation:
        """The run on random weights, with other settings."""
        config = replace(run.measured.config, untrained=True, seed=1, prefetch=2, **settings)
        metric = replace(run.result.metric, value=0.125)
        result = replace(run.result, untrained=True, metric=metric)
        return replace(run, result=result, measured=replace(run.measured, config=config))

    twin, config = control(), run.measured.config
    assert score_of(run, [run, twin]).baselines[UNTRAINED] == 0.125
    assert UNTRAINED not in score_of(twin, [run, twin]).baselines
    elsewhere = replace(twin, result=replace(twin.result, upstream="elsewhere"))
    others = [
        control(layers="last"),
        control(learning_rate=config.learning_rate / 2),
        control(crop_seconds=1.0),
        control(splits=replace(config.splits, draw_seed=7)),
        control(head=replace(config.head, hidden=(8,))),
    ]
    assert UNTRAINED not in score_of(run, [run, elsewhere, *others]).baselines


def test_only_whole_subsets_are_certainly_librispeech(librispeech_data: Path) -> None:
    manifest = Dataset(librispeech_data).manifest
    assert hub_dataset(manifest) == ""
    [(name, split)] = manifest.splits.items()
    whole = replace(split, utterances=LIBRISPEECH_UTTERANCES[name])
    assert hub_dataset(replace(manifest, splits={name: whole})) == LIBRISPEECH
    voices = replace(manifest, splits={name: whole}, corpus="folder")
    assert hub_dataset(voices) == ""


def test_a_card_says_on_how_much_of_its_split_a_model_was_tested() -> None:
    left_out = LeftOut(split="test", utterances=1_003, reasons={"no text": 1, "no class": 2})
    counts = {"utterances": 1_000, "frames": 5_000}
    assert in_words({"utterances": 1_000}, None) == "1,000 utterances"
    expected = "5,000 frames of 1,000 utterances (3 of 'test' left out)"
    assert in_words(counts, left_out) == expected
    drawn = replace(left_out, split="train", drawn=True)
    expected = "1,000 utterances (3 of 'train', of which the test part is drawn, left out)"
    assert in_words({"utterances": 1_000}, drawn) == expected
