"""Cards as the hub's own client reads them, and what they tell people."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import eval_results_to_model_index, model_index_to_eval_results

from aalbert.models import (
    EncoderConfig,
    FrontEndConfig,
    HeadConfig,
    PretrainedModel,
    UpstreamConfig,
)
from aalbert.models.calibration import Calibration
from aalbert.models.cards.downstream import Score
from aalbert.models.cards.facts import public_name
from aalbert.models.downstream import DownstreamModel, Threshold
from aalbert.models.upstream import Upstream

CONFIG = UpstreamConfig(
    features={"kind": "logmel"},
    front_end=FrontEndConfig(feature_dims=8),
    encoder=EncoderConfig(layers=2, width=16, heads=2, feed_forward_width=32),
    training={"corpus": "librispeech", "hub_datasets": ["openslr/librispeech_asr"], "steps": 7},
)
LOSSES = {"held_out_loss": 0.25, "trivial_predictors": {"linear": 0.5, "nearest_frame": 0.75}}
TRAINING = {
    "task": "voxceleb1",
    "labels": "speaker",
    "corpus": "voxceleb1",
    "hub_datasets": [""],
    "training_utterances": 321,
}
SCORE = Score(
    metric="accuracy",
    value=0.9125,
    interval_95=(0.88, 0.941),
    share=True,
    split="test",
    tested="1,234 utterances",
    resampled="24 videos",
    baselines={"guessing": 0.25, "most frequent class": 0.3},
)


def head(
    classes: list[str],
    config: HeadConfig | None = None,
    *,
    threshold: Threshold | None = None,
    **training: Any,
) -> DownstreamModel:
    facts = {**TRAINING, **training}
    upstream, config = Upstream(CONFIG), config or HeadConfig()
    return DownstreamModel(
        upstream, classes, "weighted", config, threshold=threshold, training=facts
    )


def make_card(text: str) -> Any:
    return ModelCard(text)


def read(card: str) -> Any:
    """The card as the client reads it, which is the same once it was written again."""
    read_card, again = (make_card(each) for each in (card, str(make_card(card))))
    assert again.data.to_dict() == read_card.data.to_dict()
    if read_card.data.eval_results:
        index = eval_results_to_model_index(read_card.data.model_name, read_card.data.eval_results)
        assert model_index_to_eval_results(index)[1] == read_card.data.eval_results
    return read_card


def continued_card(place: str, **origin: Any) -> Any:
    """The card of a model that was continued from that at a place."""
    facts = {"kind": "pretrained", "weights_xxh3": "0" * 32, "training": {}, "models_before": {}}
    training = {**CONFIG.training, "continued_from": {"model": place, **facts, **origin}}
    model = PretrainedModel(replace(CONFIG, training=training))
    return read(model.card(model.document()))


def test_the_card_of_a_pretrained_model_has_its_losses_and_its_corpus(tmp_path: Path) -> None:
    config = replace(CONFIG, training={**CONFIG.training, **LOSSES})
    PretrainedModel(config).save_pretrained(tmp_path)
    card: Any = ModelCard.load(tmp_path / "README.md")
    data = read(card.content).data
    assert (data.library_name, data.pipeline_tag) == ("aalbert", "feature-extraction")
    assert (data.language, data.datasets) == (["en"], ["openslr/librispeech_asr"])
    assert "audio-albert" in data.tags and data.license is None
    # The hub takes every figure of the header for one of the model.
    [measured] = data.eval_results
    assert (measured.metric_name, measured.metric_value) == ("held-out loss", 0.25)
    assert "| this model | 0.2500 |\n| trivial predictor: linear | 0.5000 |" in card.text
    assert "- steps: 7" in card.text and "held_out_loss" not in card.text


def test_the_model_that_another_was_continued_from_is_its_base() -> None:
    assert continued_card("hf://user/model@" + "0" * 40).data.base_model == "user/model"
    card = continued_card("/home/someone/runs/first/export")
    assert card.data.base_model is None and "someone" not in card.content
    assert "- continued_from.model: first\n" in card.text and "hub_datasets" not in card.text
    for other in ("hf://datasets/user/data", "hf://user/model/../x"):
        assert continued_card(other).data.base_model is None


def test_what_is_not_certain_is_not_in_the_header() -> None:
    training = {"corpus": "librispeech + folder", "hub_datasets": ["openslr/librispeech_asr", ""]}
    model = PretrainedModel(replace(CONFIG, training=training))
    data = read(model.card(model.document())).data
    assert data.language is None and data.datasets == ["openslr/librispeech_asr"]
    unknown = PretrainedModel(replace(CONFIG, training={}))
    data = read(unknown.card(unknown.document())).data
    assert data.datasets is None and data.eval_results is None


def test_the_corpora_of_all_models_that_led_to_one_are_in_the_header() -> None:
    librispeech = {"hub_datasets": ["openslr/librispeech_asr"]}
    data = continued_card("first", training=librispeech).data
    assert (data.language, data.datasets) == (["en"], ["openslr/librispeech_asr"])
    origins: list[dict[str, Any]] = [
        {"training": {"hub_datasets": [""]}},
        {"training": {}},
        {"training": librispeech, "models_before": {"12": "zero"}},
        {"training": librispeech, "head_training": {"hub_datasets": ["other/data"]}},
    ]
    for origin in origins:
        data = continued_card("first", **origin).data
        assert data.language is None and "openslr/librispeech_asr" in data.datasets
    assert "other/data" in data.datasets


def test_an_encoder_that_was_trained_with_labels_is_not_called_unlabelled() -> None:
    card = continued_card("first")
    assert "pretrained without labels by" in card.text and "self-supervised" in card.data.tags
    card = continued_card("first", head_training={"labels": "speaker", "corpus": "voxceleb1"})
    assert "pretrained after training with labels (speaker of voxceleb1), by" in card.text
    assert "without labels" not in card.text and "self-supervised" not in card.data.tags


def test_the_checkpoint_on_the_hub_that_a_model_was_is_its_base() -> None:
    facts = {"converted_from": f"hf://user/old@{'0' * 40}/a.ckpt (s3prl)"}
    model = PretrainedModel(replace(CONFIG, training=facts))
    assert read(model.card(model.document())).data.base_model == "user/old"


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        ({"untrained": True}, "with random weights, never trained: a control, which shows"),
        ({"mode": "from-scratch"}, "trained with the head from random weights, without pretrain"),
    ],
)
def test_a_head_on_an_encoder_that_was_not_pretrained_says_so(
    facts: dict[str, Any], text: str
) -> None:
    card = read(head(["a", "b"], hub_datasets=["openslr/librispeech_asr"], **facts).card())
    assert text in card.text and "Its own training" not in card.text
    assert (card.data.language, card.data.datasets) == (["en"], ["openslr/librispeech_asr"])


def test_a_head_of_utterances_is_an_audio_classifier_with_its_score() -> None:
    card = read(head(["anna", "bert", "carl", "dora"]).card(SCORE))
    data = card.data
    assert (data.pipeline_tag, data.metrics) == ("audio-classification", ["accuracy"])
    assert data.datasets == ["openslr/librispeech_asr"] and data.language is None
    [result] = data.eval_results
    assert (result.task_type, result.task_name) == (
        "audio-classification",
        "Speaker of every utterance",
    )
    assert (result.dataset_type, result.dataset_split) == ("voxceleb1", "test")
    assert (result.metric_type, result.metric_value) == ("accuracy", 0.9125)
    assert result.metric_name == "accuracy, 95 % interval 88.0 to 94.1 %, on 1,234 utterances"
    assert "Predicts the speaker of an utterance: anna, bert, carl, dora. The head has" in card.text
    assert "| this model | 91.2 % | 88.0 to 94.1 |\n| guessing | 25.0 % | |" in card.text
    assert "On 1,234 utterances of the part test of voxceleb1. The 95 % interval" in card.text
    assert "AALBERT, 2 layers, width 16, frozen.\nThe head reads its hidden states: mix of all" in (
        card.text
    )
    assert "- training_utterances: 321" in card.text
    assert 'aalbert.load("MODEL")' in card.text and "aalbert predict MODEL speech.wav" in card.text


def test_many_classes_are_counted_and_a_head_of_frames_is_no_audio_classifier() -> None:
    names = [f"id{number}" for number in range(1_251)]
    frames = HeadConfig(pooling="none")
    card = read(head(names, frames, task="librispeech-phone", labels="phone").card())
    assert card.data.pipeline_tag is None and card.data.eval_results is None
    assert (
        "Predicts the phone of every frame: one of 1,251, such as id0, id1, id2, id3, id4."
        in card.text
    )
    assert "Not measured yet: `aalbert evaluate RUN`" in card.text


def test_a_model_that_compares_says_how_its_threshold_was_chosen() -> None:
    threshold = Threshold(score=0.4321, misses=0.041, false_alarms=0.042, trials=1_000)
    model = head(
        [],
        HeadConfig(classifier="none"),
        threshold=threshold,
        task="voxceleb1-verification",
        upstream="hf://user/model@" + "0" * 40,
    )
    card = read(model.card(replace(SCORE, metric="equal error rate", tested="90 trials")))
    assert card.data.pipeline_tag is None and card.data.base_model == "user/model"
    [result] = card.data.eval_results
    assert (result.task_type, result.metric_type) == ("speaker-verification", "eer")
    text = " ".join(card.text.split())
    assert "score is at least 0.4321 are taken to be of one speaker" in text
    assert "chosen on 1,000 trials of the dev part" in text
    assert "missed 4.1 % of those of one speaker, and accepted 4.2 % of those of two" in text
    assert "aalbert compare MODEL one.wav other.wav" in text and "aalbert predict" not in text
    assert f"It comes from hf\\://user/model@{'0' * 40}." in text


@pytest.mark.parametrize(
    ("classifier", "trained", "said"),
    [
        ("none", 0, "The trials are of 7 speakers."),
        ("cosine", 0, "The trials are of 7 speakers, on none of whom the head was trained."),
        (
            "cosine",
            3,
            "The trials are of 7 speakers: the head was trained on 3 of them, whom it separates "
            "better than others, so that scores of other speakers are too certain.",
        ),
    ],
)
def test_a_calibrated_model_says_what_it_was_calibrated_on(
    classifier: Literal["none", "cosine"], trained: int, said: str
) -> None:
    classes = [] if classifier == "none" else ["a", "b"]
    model = head(classes, HeadConfig(classifier=classifier), task="voxceleb1-verification")
    model.calibration = Calibration(
        offset=0,
        weights={"score": 1},
        target_prior=0.05,
        trials=90,
        speakers=7,
        trained_speakers=trained,
    )
    text = " ".join(read(model.card()).text.split())
    assert "a weighted sum of score, fitted on 90 trials of the dev part as if 5.0 % of" in text
    assert said in text


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("/runs/first/export", "first"),
        ("file:///home/someone/runs/first/export", "first"),
        ("s3://key:pa#ss@bucket/models/first?versionId=3", "first"),
        ("https://token@host", "host"),
        ("hf://user/model@v1", "hf://user/model@v1"),
        ("https://huggingface.co/user/model", "https://huggingface.co/user/model"),
        ("https://huggingface.co.elsewhere.org/x", "x"),
        ("states.ckpt (s3prl)", "states.ckpt (s3prl)"),
    ],
)
def test_what_others_may_see_of_a_place(place: str, name: str) -> None:
    assert public_name(place) == name


HOSTILE = "<b>*x*</b>\n---\n| [a](http://elsewhere) \x1b[31m: 'yes' #"


def test_names_from_data_are_no_markup_and_end_no_header() -> None:
    model = head([HOSTILE, "b"], labels=HOSTILE, corpus=HOSTILE, task=HOSTILE)
    card = read(model.card(replace(SCORE, baselines={HOSTILE: 0.1})))
    assert card.data.library_name == "aalbert" and card.data.metrics == ["accuracy"]
    [result] = card.data.eval_results
    assert re.fullmatch(r"[\w.-]+", result.dataset_type) and re.fullmatch(
        r"[\w.-]+", card.data.tags[2]
    )
    assert "\x1b" not in card.content and "<b>" not in card.text and "*x*" not in card.text
    assert "\n---\n" not in card.text
