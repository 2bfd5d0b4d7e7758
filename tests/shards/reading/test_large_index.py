"""Opening an index of a million utterances, in a separate process."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from aalbert.common.files import file_digest
from aalbert.shards.format.feature_settings import LogMelSettings
from aalbert.shards.format.index import index_schema, statistics_schema, write_index
from aalbert.shards.format.manifest import (
    FeatureStatistics,
    FileRecord,
    Manifest,
    ShardRecord,
    SplitRecord,
)

UTTERANCES_PER_SHARD = 4_000
SHARD_BYTES = UTTERANCES_PER_SHARD * 260_000
MIB = 2**20

MEASURE = """
import json, sys, time

def resident():
    # ru_maxrss would begin at the peak of the process that started this one.
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))

import numpy, pyarrow, pydantic
from aalbert.shards import Dataset
Dataset
before = resident()
started = time.perf_counter()
dataset = Dataset(sys.argv[1])
opened = time.perf_counter()
rows = dataset.rows(["train*"])
shards = dataset.shards()
chosen = time.perf_counter()
after = resident()
print(json.dumps({
    "open_s": opened - started, "rows_s": chosen - opened, "rows": len(rows),
    "shards": int(shards.max()) + 1, "resident": after, "added": after - before,
    "torch": "torch" in sys.modules,
}))
"""


def write_dataset(folder: Path, utterances: int) -> None:
    """Write manifest, index and statistics of a dataset whose shards are holes."""
    rng = np.random.default_rng(0)
    number = np.arange(utterances)
    frames = rng.integers(200, 1600, utterances)
    offset = 1024 + number % UTTERANCES_PER_SHARD * 260_000
    columns = {
        "key": [f"{n // 400}-{n // 40}-{n:07d}" for n in number],
        "split": ["train"] * utterances,
        "shard": number // UTTERANCES_PER_SHARD,
        "speaker": [str(n // 400) for n in number],
        "samples": frames * 160,
        "source": [f"train/{n // 400}/{n // 40}/{n:07d}.flac" for n in number],
        "source_sample_rate": np.full(utterances, 16_000),
        "source_channels": np.ones(utterances),
        "flags": [[]] * utterances,
        "text": ["A SENTENCE AS LONG AS THOSE THAT PEOPLE READ OUT " * 4] * utterances,
        "logmel_offset": offset,
        "logmel_bytes": frames * 160,
        "logmel_frames": frames,
        "logmel_xxh3": rng.integers(0, 2**63, utterances),
    }
    schema = index_schema(["logmel"], ["text"])
    arrays = [pa.array(columns[field.name]).cast(field.type) for field in schema]
    write_index(folder / "index/train.arrow", pa.table(arrays, schema=schema))
    schema = statistics_schema({"logmel": 80})
    values = pa.array(rng.standard_normal(utterances * 80, dtype=np.float32))
    vectors = pa.FixedSizeListArray.from_arrays(values, 80)
    write_index(folder / "statistics/train.arrow", pa.table([vectors, vectors], schema=schema))
    manifest_of(folder, utterances).write(folder)


def manifest_of(folder: Path, utterances: int) -> Manifest:
    (folder / "train").mkdir()
    shards = []
    for shard in range(utterances // UTTERANCES_PER_SHARD):
        name = f"train/{shard:06d}.tar"
        with (folder / name).open("wb") as stream:
            stream.truncate(SHARD_BYTES)
        record = ShardRecord(
            path=name, size=SHARD_BYTES, xxh3="0" * 32, utterances=UTTERANCES_PER_SHARD
        )
        shards.append(record)
    index, statistics = (
        FileRecord(path=name, size=(folder / name).stat().st_size, xxh3=file_digest(folder / name))
        for name in ("index/train.arrow", "statistics/train.arrow")
    )
    split = SplitRecord(
        index=index,
        statistics=statistics,
        shards=tuple(shards),
        utterances=utterances,
        hours=1.0,
        speakers=1,
    )
    return Manifest(
        corpus="synthetic",
        features={"logmel": LogMelSettings()},
        statistics={"logmel": FeatureStatistics(frames=1, mean=(0.0,) * 80, std=(1.0,) * 80)},
        splits={"train": split},
        skipped=0,
        plan_fingerprint="",
    )


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory from /proc")
@pytest.mark.parametrize(
    ("utterances", "added_mib"),
    [
        pytest.param(48_000, 20, id="48 thousand"),
        pytest.param(1_000_000, 150, id="a million", marks=pytest.mark.slow),
    ],
)
def test_a_large_index_opens_in_under_a_second_and_300_megabytes(
    tmp_path: Path, utterances: int, added_mib: int
) -> None:
    write_dataset(tmp_path, utterances)
    process = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path)], check=True, capture_output=True, text=True
    )
    measured = json.loads(process.stdout)
    assert measured["rows"] == utterances
    assert measured["shards"] == utterances // UTTERANCES_PER_SHARD
    assert measured["open_s"] < 1
    assert measured["rows_s"] < 0.2
    assert measured["resident"] < 300 * MIB
    assert measured["added"] < added_mib * MIB
    assert not measured["torch"]
