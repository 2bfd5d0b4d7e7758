import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import webdataset

# webdataset leaves closing its files to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


def webdataset_samples(shard: Path) -> list[dict[str, Any]]:
    return list(webdataset.WebDataset(str(shard), shardshuffle=False))


def index_rows(folder: Path, split: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = (
        pa.ipc.open_file(str(folder / "index" / f"{split}.arrow")).read_all().to_pylist()
    )
    return rows


@pytest.mark.parametrize("split", ["train-clean-100", "dev-clean"])
def test_webdataset_meets_the_utterances_of_the_index_in_order(prepared: Path, split: str) -> None:
    shards = sorted((prepared / split).glob("*.tar"))
    samples = [sample for shard in shards for sample in webdataset_samples(shard)]
    rows = index_rows(prepared, split)
    assert [sample["__key__"] for sample in samples] == [row["key"] for row in rows]
    assert len(samples) == (24 if split == "train-clean-100" else 6)


def test_webdataset_reads_the_arrays_at_the_offsets_of_the_index(prepared: Path) -> None:
    for row in index_rows(prepared, "dev-clean"):
        shard = prepared / "dev-clean" / f"{row['shard']:06d}.tar"
        raw = shard.read_bytes()
        (sample,) = (s for s in webdataset_samples(shard) if s["__key__"] == row["key"])
        for feature in ("logmel", "fbank"):
            array = np.load(io.BytesIO(sample[f"{feature}.npy"]), allow_pickle=False)
            start = row[f"{feature}_offset"]
            assert array.shape == (row[f"{feature}_frames"], 80)
            assert array.tobytes() == raw[start : start + row[f"{feature}_bytes"]]


def test_the_json_member_says_what_the_index_says(prepared: Path) -> None:
    rows = {row["key"]: row for row in index_rows(prepared, "train-clean-100")}
    for sample in webdataset_samples(prepared / "train-clean-100" / "000000.tar"):
        document = json.loads(sample["json"])
        row = rows[sample["__key__"]]
        assert document == {name: row[name] for name in document}
        assert {"speaker", "text", "gender", "chapter", "samples", "source"} <= document.keys()
