from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from aalbert.errors import ConfigError, InputError
from aalbert.models.trial_scorer import TrialScorer
from aalbert.shards import Dataset
from aalbert.train.downstream.scoring import score_trials
from aalbert.train.downstream.trials import (
    Pairs,
    choose_trials,
    draw_pairs,
    draw_trials,
    read_trials,
)


def test_trials_are_drawn_half_and_half_without_repetition(voxceleb1_data: Path) -> None:
    dataset = Dataset(voxceleb1_data)
    rows = dataset.rows(["train"])
    pairs, again = (draw_trials(dataset, rows, 16, seed=0) for _ in range(2))
    speakers = np.array(dataset.column("speaker"))
    assert (speakers[pairs.left] == speakers[pairs.right]).tolist() == pairs.same.tolist()
    assert pairs.same.sum() == 8 and len(pairs.same) == 16
    assert len(set(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True))) == 16
    assert (pairs.left != pairs.right).all() and set(pairs.rows) <= set(rows)
    assert pairs.left.tolist() == again.left.tolist()
    one_speaker = rows[speakers[rows] == speakers[rows[0]]]
    with pytest.raises(InputError, match="the dev part has .* trials of one speaker and 0 of two"):
        draw_trials(dataset, one_speaker, 16, seed=0)


def test_pairs_of_many_utterances_are_of_both_kinds() -> None:
    speakers = np.random.default_rng(0).integers(0, 50, 6000)
    left, right = draw_pairs(speakers, 1000, np.random.default_rng(1))
    same = speakers[left] == speakers[right]
    assert (left != right).all() and 900 < same.sum() < 1100 and (~same).sum() > 900


def test_a_list_names_utterances_as_voxceleb_does_or_by_key(
    voxceleb1_data: Path, tmp_path: Path
) -> None:
    dataset = Dataset(voxceleb1_data)
    keys = [dataset.key(row) for row in range(3)]
    first = "/".join(keys[0].split("-")) + ".wav"
    path = tmp_path / "veri_test.txt"
    path.write_text(f"1 {first} {keys[1]}\n0 {first} {keys[2]}\n")
    pairs = read_trials(str(path), dataset)
    assert (pairs.left.tolist(), pairs.right.tolist()) == ([0, 0], [1, 2])
    assert pairs.same.tolist() == [True, False]
    for text, message in (
        (
            "1 a\n",
            r"veri_test\.txt:1 does not say whether one speaker has both: expected '1 FILE FILE'",
        ),
        (f"1 {first} id9/x/1.wav\n", r":1 names id9/x/1\.wav, which .* lacks"),
        (f"1 {first} {keys[1]}\n", "has 1 trials of one speaker and 0 of two: both are needed"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            read_trials(str(path), dataset)


def test_a_list_is_a_file_or_stored_and_the_only_stored_one_needs_no_name(
    voxceleb1_data: Path,
    librispeech_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dataset, without = Dataset(voxceleb1_data), Dataset(librispeech_data)
    assert choose_trials("", dataset) == choose_trials("veri_test.txt", dataset) == "veri_test.txt"
    stored = read_trials("veri_test.txt", dataset)
    corpus = voxceleb1_data.parent / "corpus"
    own = read_trials(choose_trials(str(corpus / "veri_test.txt"), dataset), dataset)
    assert (stored.left.tolist(), stored.same.tolist()) == (own.left.tolist(), own.same.tolist())
    # A file has precedence, and is then known by its whole path.
    monkeypatch.chdir(corpus)
    assert choose_trials("veri_test.txt", dataset) == str(corpus / "veri_test.txt")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        InputError,
        match=r"there is no list of trials nowhere: get veri_test2.* or one that .* stores "
        r"\(veri_test\.txt\)",
    ):
        choose_trials("nowhere", dataset)
    with pytest.raises(ConfigError, match=r"trials\.test is not set and .* stores none: name the"):
        choose_trials("", without)
    with pytest.raises(InputError, match="stores no file trials/other: it has none"):
        read_trials("other", without)


def test_of_several_stored_lists_one_is_named(voxceleb1_data: Path) -> None:
    dataset = Dataset(voxceleb1_data)
    (first,) = dataset.manifest.attachments
    second = replace(first, path="trials/list_test_hard2.txt")
    dataset.manifest = replace(dataset.manifest, attachments=(first, second))
    with pytest.raises(
        ConfigError,
        match=r"stores veri_test\.txt, list_test_hard2\.txt: name the list of trials to test on "
        r"with --set trials\.test=veri_test\.txt",
    ):
        choose_trials("", dataset)


def test_a_trial_scores_the_cosine_of_its_embeddings_in_whatever_order_they_come() -> None:
    embeddings = torch.tensor([[1.0, 0.0], [3.0, 4.0], [0.0, 2.0]])
    pairs = Pairs(np.array([5, 9]), np.array([7, 5]), np.array([True, False]))
    scorer = TrialScorer()
    voices = scorer.voices(embeddings, [1.0, 2.0, 3.0])
    trials = score_trials(scorer, np.array([5, 9, 7]), voices, pairs)
    # Row 5 is (1, 0), row 9 (3, 4), row 7 (0, 2).
    np.testing.assert_allclose(trials.scores, [0.0, 0.6])
