import gc
import io
import pickle
import tarfile
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from aalbert.errors import ConfigError, IntegrityError
from aalbert.shards import Dataset, webdataset_pipeline

# webdataset leaves closing its files to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")
BOTH = ("logmel", "fbank")


def test_samples_are_those_of_the_index(prepared: Path) -> None:
    dataset = Dataset(prepared)
    rows = {key: row for row, key in enumerate(dataset.column("key"))}
    samples = list(webdataset_pipeline(prepared, ["*"], BOTH))
    assert sorted(sample["__key__"] for sample in samples) == sorted(map(str, rows))
    for sample in samples:
        row = rows[sample["__key__"]]
        for feature in BOTH:
            np.testing.assert_array_equal(sample[feature], dataset.features(row, feature))
        assert sample["json"]["speaker"] == dataset.column("speaker")[row]
        assert sample.keys() == {"__key__", "json", *BOTH}


def test_epochs_are_shuffled_anew_and_a_new_pipeline_repeats_them(prepared: Path) -> None:
    def keys() -> list[list[str]]:
        pipeline = webdataset_pipeline(prepared, ["train*"], seed=3)
        return [[sample["__key__"] for sample in pipeline] for _ in range(2)]

    first, second = keys()
    assert sorted(first) == sorted(second) and first != second
    assert keys() == [first, second]


def test_without_a_buffer_the_order_is_that_of_the_shards(prepared: Path) -> None:
    dataset = Dataset(prepared)
    rows = dataset.rows(["train-clean-100"])
    samples = webdataset_pipeline(prepared, ["train-clean-100"], shuffle_buffer=0)
    keys = dataset.column("key")
    assert [sample["__key__"] for sample in samples] == [keys[row] for row in rows]


def test_workers_share_the_shards(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """WebDataset takes the number of the worker from PyTorch, or else from these variables."""
    monkeypatch.setenv("NUM_WORKERS", "2")
    shares = []
    for worker in range(2):
        monkeypatch.setenv("WORKER", str(worker))
        pipeline = webdataset_pipeline(prepared, ["train*"])
        shares.append([sample["__key__"] for sample in pipeline])
    dataset = Dataset(prepared)
    expected = sorted(dataset.column("key")[row] for row in dataset.rows(["train*"]))
    assert sorted(sum(shares, [])) == expected
    assert all(shares)


@pytest.mark.slow
def test_workers_of_a_data_loader_share_the_shards(prepared: Path) -> None:
    loader = DataLoader(
        webdataset_pipeline(prepared, ["train*"]),
        batch_size=None,
        num_workers=2,
        multiprocessing_context="spawn",
    )
    keys = [sample["__key__"] for sample in loader]
    dataset = Dataset(prepared)
    assert sorted(keys) == sorted(dataset.column("key")[row] for row in dataset.rows(["train*"]))


def test_resampling_is_endless_unless_it_is_given_a_length(prepared: Path) -> None:
    pipeline = webdataset_pipeline(prepared, ["dev*"], resampled=True)
    assert len(list(islice(pipeline, 100))) == 100
    assert len(list(pipeline.with_epoch(40))) == 40


def test_fewer_shards_than_readers_are_refused_and_not_waited_for(
    prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "64")
    with pytest.raises(ConfigError) as caught:
        next(iter(webdataset_pipeline(prepared, ["dev-clean"])))
    shards = len(Dataset(prepared).manifest.splits["dev-clean"].shards)
    assert str(caught.value) == (
        f"{shards} shards cannot be divided over 64 processes with 1 workers each: use fewer "
        "workers, or resampled=True"
    )


def test_an_unknown_split_or_feature_is_refused(prepared: Path) -> None:
    with pytest.raises(ConfigError, match="has no split 'test': it has dev-clean, train"):
        webdataset_pipeline(prepared, ["test"])
    with pytest.raises(ConfigError, match="has no feature 'mfcc': it has logmel, fbank; prepare"):
        webdataset_pipeline(prepared, ["dev-clean"], ["mfcc"])


def test_the_example_of_the_format_runs(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second example in shards/README.md, on the dataset under the name it has there."""
    text = (Path(__file__).parents[3] / "shards" / "README.md").read_text("utf-8")
    (example,) = (
        block.split("```")[0] for block in text.split("```python\n")[1:] if "_pipeline" in block
    )
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "librispeech").symlink_to(prepared)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(example, names)
    batch = names["batch"]
    assert isinstance(batch, torch.Tensor) and batch.shape[::2] == (8, 80)


class Evil:
    """Leaves a trace when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.trace,)


def test_pickles_in_a_shard_are_never_opened(dataset_copy: Path, tmp_path: Path) -> None:
    """WebDataset's own `decode()` would run a `.pyd`, NumPy an array of objects if allowed to."""
    trace = tmp_path / "trace"
    [shard, *_] = sorted(dataset_copy.glob("dev-clean/*.tar"))
    objects = io.BytesIO()
    np.save(objects, np.array([Evil(trace)], dtype=object), allow_pickle=True)
    with tarfile.open(shard, "a:") as tar:
        for name, payload in (
            ("evil.json", b"{}"),
            ("evil.pyd", pickle.dumps(Evil(trace))),
            ("evil.logmel.npy", objects.getvalue()),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(payload)
            tar.addfile(member, io.BytesIO(payload))
    with pytest.raises(IntegrityError) as caught:
        list(webdataset_pipeline(dataset_copy, ["dev-clean"], shuffle_buffer=0))
    message = str(caught.value)
    del caught
    gc.collect()  # closes what webdataset left open
    assert message == (
        f"{shard}: 'evil.logmel.npy' holds no array of numbers; restore the shard or prepare the "
        "data again"
    )
    assert not trace.exists()
    np.load(io.BytesIO(objects.getvalue()), allow_pickle=True)
    assert trace.exists()
