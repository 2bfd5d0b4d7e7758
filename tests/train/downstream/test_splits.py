from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from aalbert.errors import ConfigError, InputError
from aalbert.shards import Dataset
from aalbert.train.downstream.build import TaskData, warn_of_one_class
from aalbert.train.downstream.config import LabelConfig, SplitConfig
from aalbert.train.downstream.labels import ColumnLabels, find_classes, require_training_data
from aalbert.train.downstream.splits import SplitRows, split_rows

DRAWN = {"train": "train-clean-100", "dev": "drawn", "test": "drawn"}


@pytest.fixture(scope="module")
def readers(librispeech_data: Path) -> Dataset:
    return Dataset(librispeech_data)


@pytest.fixture(scope="module")
def classes(readers: Dataset) -> NDArray[np.int64]:
    rows = readers.rows(["train-clean-100"])
    return find_classes(readers, LabelConfig(), rows).row_classes()


def all_rows(splits: SplitRows) -> list[int]:
    return [int(row) for row in np.concatenate([splits.train, splits.dev, splits.test])]


def test_drawn_parts_cover_everything_once_and_depend_on_the_seed_alone(
    readers: Dataset, classes: NDArray[np.int64]
) -> None:
    groups = classes % 3  # of eight utterances each
    config = SplitConfig(**DRAWN, drawn_proportion=0.25)  # type: ignore[arg-type]
    splits, again = (split_rows(readers, config, groups) for _ in range(2))
    assert sorted(all_rows(splits)) == readers.rows(["train-clean-100"]).tolist()
    assert all_rows(splits) == all_rows(again)
    assert np.bincount(groups[splits.test]).tolist() == [2, 2, 2]
    other = SplitConfig(**DRAWN, drawn_proportion=0.25, draw_seed=1)  # type: ignore[arg-type]
    assert all_rows(split_rows(readers, other, groups)) != all_rows(splits)


def test_whole_speakers_are_drawn_when_asked_for(
    readers: Dataset, classes: NDArray[np.int64]
) -> None:
    config = SplitConfig(**DRAWN, draw="speakers", drawn_proportion=0.25)  # type: ignore[arg-type]
    splits = split_rows(readers, config, classes)
    train, dev, test = (set(classes[rows]) for rows in (splits.train, splits.dev, splits.test))
    assert len(test) == 3 and not (train & dev) | (train & test) | (dev & test)


def test_a_part_of_one_class_is_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    labels = ColumnLabels(["F", "M"], torch.tensor([0, 1, 0, 1, 1, 0]))
    splits = SplitRows(train=np.array([0, 1]), dev=np.array([2, 3]), test=np.array([4]))
    warn_of_one_class(TaskData(splits, labels))
    assert capsys.readouterr().err.splitlines() == [
        "warning: the test part is all of one class, 'M': its accuracy is "
        "meaningless; raise splits.drawn_proportion, or draw again with another splits.draw_seed"
    ]
    warn_of_one_class(TaskData(replace(splits, test=np.array([4, 5])), labels))
    assert capsys.readouterr().err == ""


def test_lists_of_keys_select_what_is_tested(
    readers: Dataset, classes: NDArray[np.int64], tmp_path: Path
) -> None:
    rows = readers.rows(["train-clean-100"])
    (tmp_path / "train").write_text("\n".join(readers.key(row) for row in rows[:12]))
    (tmp_path / "test").write_text("\n".join(readers.key(row) for row in rows[12:16]))
    lists = {"train_list": str(tmp_path / "train"), "test_list": str(tmp_path / "test")}
    splits = split_rows(readers, SplitConfig(**DRAWN, **lists), classes)  # type: ignore[arg-type]
    assert splits.test.tolist() == rows[12:16].tolist()
    assert sorted([*splits.train, *splits.dev]) == rows[:12].tolist()
    overlapping = {**lists, "test_list": lists["train_list"]}
    with pytest.raises(InputError, match="utterances are in both train and test, for example '"):
        split_rows(readers, SplitConfig(**DRAWN, **overlapping), classes)  # type: ignore[arg-type]


@pytest.mark.parametrize("train", ["listed", "rest"])
@pytest.mark.parametrize("dev", ["listed", "drawn", "split"])
@pytest.mark.parametrize("test", ["listed", "drawn"])
def test_every_part_may_be_listed_and_the_others_share_the_rest(
    readers: Dataset,
    classes: NDArray[np.int64],
    tmp_path: Path,
    train: str,
    dev: str,
    test: str,
) -> None:
    rows = readers.rows(["train-clean-100"])
    parts = {"train": rows[:12], "dev": rows[12:16], "test": rows[16:20]}
    for name, part in parts.items():
        (tmp_path / name).write_text("\n".join(readers.key(row) for row in part))
    chosen = {"train": train, "dev": dev, "test": test}
    lists = {
        f"{name}_list": str(tmp_path / name) for name, how in chosen.items() if how == "listed"
    }
    strata = classes % 3
    config = SplitConfig(
        train="train-clean-100",
        dev="train-clean-100" if dev == "split" else "drawn",
        test="drawn",
        drawn_proportion=0.25,
        **lists,  # type: ignore[arg-type]
    )
    if dev == "split":
        with pytest.raises(InputError, match="utterances are in both train and dev"):
            split_rows(readers, config, strata)
        return
    splits = split_rows(readers, config, strata)
    for name, how in chosen.items():
        if how == "listed" and name != "train":
            assert getattr(splits, name).tolist() == parts[name].tolist()
    # Drawn parts come from what is trained on, listed or the rest, and everything is used once.
    given = parts["train"] if train == "listed" else rows
    listed = {row for name in ("dev", "test") if chosen[name] == "listed" for row in parts[name]}
    assert sorted(all_rows(splits)) == sorted({*given.tolist(), *listed})
    with pytest.raises(InputError, match="utterances are in both"):
        twice = replace(config, dev_list=str(tmp_path / "test"), test_list=str(tmp_path / "test"))
        split_rows(readers, twice, strata)


def test_rows_without_a_class_are_in_no_part_and_no_list(
    readers: Dataset, classes: NDArray[np.int64], tmp_path: Path
) -> None:
    rows = readers.rows(["train-clean-100"])
    some = np.zeros_like(classes)
    some[rows[:6]] = -1
    splits = split_rows(readers, SplitConfig(**DRAWN, drawn_proportion=0.25), some)  # type: ignore[arg-type]
    assert sorted(all_rows(splits)) == rows[6:].tolist()
    (tmp_path / "dev").write_text("\n".join(readers.key(row) for row in rows[4:8]))
    config = SplitConfig(**DRAWN, dev_list=str(tmp_path / "dev"))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"names 2 utterances \(of 4\) .*, or that have no label"):
        split_rows(readers, config, some)
    with pytest.raises(InputError, match="the train part is empty"):
        split_rows(readers, SplitConfig(**DRAWN), np.full_like(some, -1))  # type: ignore[arg-type]


@pytest.mark.parametrize("proportion", [0.001, 0.25, 0.5])
def test_a_share_of_the_training_part_is_part_of_every_larger_one(
    readers: Dataset, classes: NDArray[np.int64], proportion: float
) -> None:
    whole = split_rows(readers, SplitConfig(**DRAWN), classes)  # type: ignore[arg-type]
    half = split_rows(readers, SplitConfig(**DRAWN, proportion=0.5), classes)  # type: ignore[arg-type]
    config = SplitConfig(**DRAWN, proportion=proportion)  # type: ignore[arg-type]
    share = split_rows(readers, config, classes)
    assert len(share.train) == max(1, round(proportion * len(whole.train)))
    assert set(share.train) <= set(half.train) <= set(whole.train)
    assert share.test.tolist() == whole.test.tolist()


def test_missing_lists_and_unknown_keys_are_named(
    readers: Dataset, classes: NDArray[np.int64], tmp_path: Path
) -> None:
    for text, message in (
        (None, "there is no split file"),
        ("", "is empty: expected one key a line"),
        ("nobody\n", r"names 1 utterances \(of 1\) .* does not have .* for example 'nobody'"),
    ):
        path = tmp_path / "list"
        if text is not None:
            path.write_text(text)
        config = SplitConfig(**DRAWN, test_list=str(path))  # type: ignore[arg-type]
        with pytest.raises(InputError, match=message):
            split_rows(readers, config, classes)


def test_an_empty_part_unknown_speakers_and_one_speaker_are_one_clear_line_each(
    voxceleb1_data: Path,
) -> None:
    dataset = Dataset(voxceleb1_data)
    train = dataset.rows(["train"])
    labels = find_classes(dataset, LabelConfig(), train)
    nobody = np.full(len(dataset), -1)
    nobody[train] = labels.row_classes()[train]
    with pytest.raises(InputError, match="the dev part is empty: name a split with utterances"):
        split_rows(dataset, SplitConfig(), nobody)
    one = train[labels.row_classes()[train] == 0]
    with pytest.raises(ConfigError, match="the column 'speaker' has 1 value in the split to train"):
        find_classes(dataset, LabelConfig(), one)
    two = train[labels.row_classes()[train] < 2]
    known = find_classes(dataset, LabelConfig(), two)
    with pytest.raises(InputError, match=r"have a label \(gender\) without training data, for ex"):
        split_rows(dataset, SplitConfig(dev="test"), known.row_classes(), "gender")
    with pytest.raises(InputError, match="1 of 2 values of 'speaker' have no utterance to train"):
        require_training_data(dataset, known, "speaker", one)
    with pytest.raises(InputError, match="has no column 'accent': it has key, split"):
        find_classes(dataset, LabelConfig(column="accent"), train)
