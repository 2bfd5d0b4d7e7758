import csv
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_lightning import Trainer
from torchaudio.functional import edit_distance

from aalbert.common.configuration import load_config
from aalbert.errors import ConfigError, InputError, InterruptedRunError
from aalbert.models import DownstreamModel
from aalbert.shards import Dataset
from aalbert.train.downstream.build import find_task_data
from aalbert.train.downstream.config import DownstreamConfig, LabelConfig, SplitConfig
from aalbert.train.downstream.edit_distance import align
from aalbert.train.downstream.left_out import LeftOut, left_out_of_test
from aalbert.train.downstream.phone_sequences import (
    PhoneSequences,
    find_phone_sequences,
    note_short,
    read_lexicons,
)
from aalbert.train.downstream.recognition import Recognised, recognise, recognised
from aalbert.train.downstream.run import resume_downstream, start_downstream
from aalbert.train.downstream.scoring import Outputs
from aalbert.train.downstream.sources import find_sources
from aalbert.train.evaluation.evaluate import compare_evaluations, evaluate_runs, measure
from aalbert.train.evaluation.open_run import on_part, open_run
from aalbert.train.loop.step_log import StepLog
from aalbert.train.run_folder import RunFolder
from tests.spoken import REGRESSION, SPLITS, recognition_config

FITTING = ("task=librispeech-phone-recognition", "head.pooling=none", "crop_seconds=0")
LEXICON = "THE  DH AH0\nTHE  DH IY1\nCAT  K AE1 T\nsat(1) S AE1 T\n"


def sequences_of(
    texts: list[str | None], tmp_path: Path, spoken_data: Path, drop_stress: bool = False
) -> PhoneSequences:
    """The phones of texts in place of those of the first rows of a dataset."""
    lexicon = tmp_path / "lexicon.txt"
    lexicon.write_text(LEXICON)
    dataset = Dataset(spoken_data)
    padded = [*texts, *[None] * (len(dataset) - len(texts))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Dataset, "column", lambda self, name: padded)
        config = LabelConfig(column="text", lexicon=str(lexicon), drop_stress=drop_stress)
        return find_phone_sequences(dataset, config, np.arange(len(texts)))


def test_phones_are_those_of_the_first_pronunciations(
    tmp_path: Path, spoken_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = ["THE CAT SAT", "the, cat!", None, "THE DOG CAT DOG", "A DOG"]
    labels = sequences_of(texts, tmp_path, spoken_data)
    assert labels.names == ["AE1", "AH0", "DH", "K", "S", "T"]
    said = [[labels.names[each] for each in labels.of_row(row)] for row in range(5)]
    assert said[0] == ["DH", "AH0", "K", "AE1", "T", "S", "AE1", "T"]
    assert said[1:] == [["DH", "AH0", "K", "AE1", "T"], [], [], []]
    assert labels.row_classes()[:5].tolist() == [0, 0, -1, -1, -1]
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "left out 1 of 5 utterances that have no text"
    assert lines[1].startswith("left out 2 of 5 utterances with words that ")
    assert lines[1].endswith("lexicon.txt lacks: 2 words, 'dog' (in 2), 'a' (in 1)")
    padded, counts = labels.targets(torch.tensor([1, 0]))
    assert counts.tolist() == [5, 8] and padded.shape == (2, 8)
    assert padded[0, :5].tolist() == labels.of_row(1) and not padded[0, 5:].any()
    without = sequences_of(["THE CAT"], tmp_path, spoken_data, drop_stress=True)
    assert without.names == ["AE", "AH", "DH", "K", "S", "T"]


def test_what_a_dataset_or_a_dictionary_lacks_is_said(tmp_path: Path, spoken_data: Path) -> None:
    with pytest.raises(InputError, match=r"no utterance of the splits has a text \('text'\) of wh"):
        sequences_of(["DOGS"], tmp_path, spoken_data)
    dataset, rows = Dataset(spoken_data), np.arange(3)
    with pytest.raises(ConfigError, match=r"labels\.lexicon is not set: .* librispeech-lexicon"):
        find_phone_sequences(dataset, LabelConfig(column="text"), rows)
    lexicon = str(spoken_data.parent / "lexicon.txt")
    with pytest.raises(InputError, match="has no column 'words' with transcripts: prepare it ag"):
        find_phone_sequences(dataset, LabelConfig(column="words", lexicon=lexicon), rows)


def test_of_several_dictionaries_the_first_that_has_a_word_counts(
    tmp_path: Path, spoken_data: Path
) -> None:
    own, large = tmp_path / "own.txt", tmp_path / "large.txt"
    large.write_text(LEXICON)
    own.write_text("cat  T AE1 K\ndog  DH AH0\n")
    both = (str(own), str(large))
    assert read_lexicons(LabelConfig(lexicon=both)) == {
        "cat": ("T", "AE1", "K"),
        "dog": ("DH", "AH0"),
        "the": ("DH", "AH0"),
        "sat": ("S", "AE1", "T"),
    }
    turned = read_lexicons(LabelConfig(lexicon=both[::-1]))
    assert turned["cat"] == ("K", "AE1", "T") and turned["dog"] == ("DH", "AH0")
    given = [*FITTING, f"labels.lexicon=[{own}, {large}]"]
    config = load_config(DownstreamConfig, assignments=given, environment={})
    assert config.labels.lexicons == both
    with pytest.raises(ConfigError, match=r"^labels\.lexicon = 5: Input should be a valid string"):
        load_config(DownstreamConfig, assignments=["labels.lexicon=5"], environment={})
    with pytest.raises(ConfigError, match=r"^labels\.lexicon\.1 = 5: Input should be a valid str"):
        load_config(DownstreamConfig, assignments=["labels.lexicon=[a, 5]"], environment={})
    files = find_sources(config, Dataset(spoken_data), "logmel")["files"]
    assert list(files) == ["labels.lexicon[0]", "labels.lexicon[1]"]
    own.write_text("cat  T AE K\n")
    with pytest.raises(InputError) as caught:
        read_lexicons(LabelConfig(lexicon=both))
    assert str(caught.value) == (
        f"{own} has the phone 'AE', which {large} lacks: write its words with the phones of that "
        "one, or drop stress from both with --set labels.drop_stress=true"
    )
    assert "cat" in read_lexicons(LabelConfig(lexicon=both, drop_stress=True))
    own.write_text("cat  T AX K\n")
    with pytest.raises(InputError, match=r"lacks: write its words with the phones of that one$"):
        read_lexicons(LabelConfig(lexicon=both))
    large.unlink()
    with pytest.raises(InputError, match="there is no dictionary .*large.txt: expected lines such"):
        read_lexicons(LabelConfig(lexicon=both))


def test_what_the_test_part_lacks_is_counted_by_reason(tmp_path: Path, spoken_data: Path) -> None:
    words = (spoken_data.parent / "lexicon.txt").read_text().splitlines()
    lexicon = tmp_path / "lexicon.txt"
    lexicon.write_text("\n".join(words[:-1]) + "\n")
    dataset, missing = Dataset(spoken_data), words[-1].split()[0].lower()
    texts = [str(text).lower().split() for text in dataset.column("text")]
    number = sum(missing in text for text in texts)
    assert 0 < number < len(texts)
    config = recognition_config(spoken_data)
    config = replace(config, labels=replace(config.labels, lexicon=str(lexicon)))
    left_out = find_task_data(config, dataset).left_out
    assert left_out is not None
    assert left_out.describe("phone error rate") == (
        f"{number} of the 60 utterances of the split '*', of which the test part is drawn, are "
        f"left out (a word without a pronunciation: {number})"
    )
    named = left_out_of_test(dataset, replace(SPLITS, test="*"), {"no text": np.arange(2)})
    assert named is not None and named.describe("phone error rate") == (
        "2 of the 60 utterances of the split '*' are left out (no text: 2): phone error rate is "
        "that of the others"
    )
    # A list names what is tested.
    listed = next(row for row, text in enumerate(texts) if missing not in text)
    (tmp_path / "test").write_text(dataset.key(listed))
    splits = replace(SPLITS, test_list=str(tmp_path / "test"))
    assert find_task_data(replace(config, splits=splits), dataset).left_out is None


def test_utterances_with_too_few_frames_are_counted_and_teach_nothing(
    tmp_path: Path, spoken_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = sequences_of(["THE CAT", "CAT"], tmp_path, spoken_data)
    dataset, rows = Dataset(spoken_data), np.array([0, 1])
    capsys.readouterr()
    note_short(labels, dataset, np.array([5, 3]), rows)
    assert capsys.readouterr().err == ""
    note_short(labels, dataset, np.array([4, 3]), rows)
    assert capsys.readouterr().err == (
        "1 of 2 utterances to train on have fewer frames than their phones need, such as "
        f"'{dataset.key(0)}' with 4 of 5: nothing is learned of them\n"
    )
    with pytest.raises(InputError, match="2 of 2 utterances to train on have fewer frames"):
        note_short(labels, dataset, np.array([4, 2]), rows)
    torch.manual_seed(0)
    scores, lengths = torch.randn(2, 5, 7), torch.tensor([4, 5])
    # The mean is over the phones of the second alone.
    losses, phones = labels.losses(torch.tensor([0, 1]), lengths, scores)
    assert phones.tolist() == [0, 3]
    alone = labels.loss(torch.tensor([1]), lengths[1:], scores[1:])
    torch.testing.assert_close(labels.loss(torch.tensor([0, 1]), lengths, scores), alone)
    torch.testing.assert_close(losses[1] / 3, alone)
    outputs = Outputs(torch.tensor([0, 1]), scores, lengths)
    outcome, loss = recognise([outputs], labels)
    assert outcome.counts() == {"utterances": 2, "phones": 8, "too_short": 1}
    assert loss == pytest.approx(float(alone))


def test_errors_are_counted_by_kind_and_by_pair(tmp_path: Path, spoken_data: Path) -> None:
    labels = sequences_of(["CAT", "SAT"], tmp_path, spoken_data)
    names = {name: number for number, name in enumerate(labels.names)}
    # K -> S; T is deleted, and K inserted at the end.
    heard = [[names[each] for each in text.split()] for text in ("S AE1 T", "S AE1 K K")]
    heard[1] = [names["S"], names["AE1"]]
    heard[0].append(names["K"])
    edits = [align(labels.of_row(row), heard[row]) for row in range(2)]
    outcome = recognised(labels, [0, 1], heard, edits, np.array([False, False]))
    assert outcome.value == pytest.approx(3 / 6)
    assert outcome.further() == pytest.approx(
        {"substitutions": 1 / 6, "deletions": 1 / 6, "insertions": 1 / 6}
    )
    found, names_of = outcome.confusion, outcome.names
    pairs = zip(found.true, found.predicted, strict=True)
    wrong = {(names_of[one], names_of[two]) for one, two in pairs if one != two}
    assert wrong == {("K", "S")}
    assert found.deleted is not None and found.inserted is not None
    assert dict(zip(names_of, found.deleted, strict=True)) == dict.fromkeys(names_of, 0) | {"T": 1}
    assert dict(zip(names_of, found.inserted, strict=True)) == dict.fromkeys(names_of, 0) | {"K": 1}
    said = {"AE1": 2, "K": 1, "S": 1, "T": 2}
    assert dict(zip(names_of, found.totals(), strict=True)) == dict.fromkeys(names_of, 0) | said


def test_phones_are_recognised_and_compared_between_runs(
    recognition_run: Path, spoken_data: Path, tmp_path: Path
) -> None:
    short = tmp_path / "short"
    start_downstream(
        replace(recognition_config(spoken_data), epochs=1), spoken_data, "logmel", short
    )
    evaluations = evaluate_runs([recognition_run, short])
    result, outcome = evaluations[0].result, evaluations[0].measured.outcome
    assert isinstance(outcome, Recognised)
    assert result.metric.name == "phone error rate" and result.metric.baselines == {"no phones": 1}
    assert result.metric.value < 0.85
    low, high = result.metric.interval_95
    assert low < result.metric.value < high
    # The rows of the file, by another edit distance.
    with (recognition_run / "predictions.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    edits = [edit_distance(row["true"].split(), row["predicted"].split()) for row in rows]
    phones = [len(row["true"].split()) for row in rows]
    assert sum(edits) / sum(phones) == pytest.approx(result.metric.value, abs=1e-6)
    assert [int(row["phones"]) for row in rows] == phones
    texts = dict(
        zip(Dataset(spoken_data).column("key"), Dataset(spoken_data).column("text"), strict=True)
    )
    assert all(
        row["true"].split() == [word[1:] for word in str(texts[row["key"]]).split()] for row in rows
    )
    [comparison] = compare_evaluations(evaluations)
    assert comparison.difference == pytest.approx(
        evaluations[1].result.metric.value - result.metric.value, abs=2e-6
    )
    assert comparison.difference > 0 and comparison.mcnemar_p is None
    assert {each.name for each in result.per_class} <= set(outcome.names)
    assert sum(each.items for each in result.most_deleted) == outcome.deletions.sum()
    reasons = {"no text": 0, "a word without a pronunciation": 0}
    assert result.left_out == LeftOut(split="*", utterances=60, drawn=True, reasons=reasons)
    best = [row for row in RunFolder(recognition_run).read_metrics() if "dev_per" in row]
    dev = measure(on_part(open_run(RunFolder(recognition_run)), "dev")).outcome
    assert dev.value == pytest.approx(min(row["dev_per"] for row in best), abs=5e-3)


def test_settings_that_do_not_fit_recognition_are_refused(spoken_data: Path) -> None:
    config = recognition_config(spoken_data)
    with pytest.raises(ConfigError, match="head.pooling is mean, phones are of frames: use none"):
        replace(config, head=replace(config.head, pooling="mean"))
    with pytest.raises(ConfigError, match="crop_seconds is 8.0: phones are of whole utterances"):
        replace(config, crop_seconds=8.0)
    with pytest.raises(ConfigError, match="labels.lexicon is for librispeech-phone-recognition, "):
        replace(config, task="librispeech-phone")


def test_a_split_that_a_list_replaces_need_not_be_there(spoken_data: Path, tmp_path: Path) -> None:
    keys = Dataset(spoken_data).column("key")
    for name, some in (("dev", keys[:3]), ("test", keys[3:6])):
        (tmp_path / name).write_text("\n".join(map(str, some)) + "\n")
    splits = SplitConfig(
        train="all",
        dev="dev-clean",
        test="test-clean",
        dev_list=str(tmp_path / "dev"),
        test_list=str(tmp_path / "test"),
    )
    config = replace(recognition_config(spoken_data), splits=splits, epochs=1)
    start_downstream(config, spoken_data, "logmel", tmp_path / "run")
    assert len(measure(open_run(RunFolder(tmp_path / "run"))).outcome.rows) == 3


@pytest.mark.slow
@pytest.mark.parametrize("task", ["recognition", "regression"])
def test_a_stopped_run_resumes_to_the_same_head(
    task: str,
    recognition_run: Path,
    regression_run: Path,
    spoken_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config, whole = (
        (recognition_config(spoken_data), recognition_run)
        if task == "recognition"
        else (REGRESSION, regression_run)
    )
    original = StepLog.on_train_batch_end

    def signal_once(self: StepLog, trainer: Trainer, *rest: Any) -> None:
        original(self, trainer, *rest)
        if trainer.global_step == 20:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(StepLog, "on_train_batch_end", signal_once)
    with pytest.raises(InterruptedRunError, match="stopped by SIGINT"):
        start_downstream(config, spoken_data, "logmel", tmp_path / "run")
    monkeypatch.undo()
    resume_downstream(tmp_path / "run", config.task)
    heads = [DownstreamModel.from_pretrained(run).head for run in (tmp_path / "run", whole)]
    resumed, reference = (head.state_dict() for head in heads)
    assert all(torch.equal(resumed[name], reference[name]) for name in reference)
