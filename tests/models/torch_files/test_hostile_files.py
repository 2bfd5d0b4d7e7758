"""Small files that claim much end in an error, with little memory, time and depth."""

import resource
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import torch

from aalbert.conversion.import_model import import_model
from aalbert.errors import InputError, IntegrityError
from aalbert.models.extent import DEEPEST, check_extent
from aalbert.models.foreign.detect import read_foreign
from aalbert.models.torch_files import pickles, torch_file
from tests.models.foreign.transformers import (
    Sizes,
    lightning,
    make_head,
    make_transformer,
    s3prl_2022,
)
from tests.models.torch_files.hostile import HOSTILE, entry_of, in_legacy, in_zip

# Processor time, generous for a busy machine; without the limits each takes minutes or more.
MOST_SECONDS = 5.0
# A file of 100 kB may make objects of some 100 bytes of each of its bytes.
MOST_BYTES = 64 * 2**20


@pytest.mark.parametrize("what", HOSTILE)
def test_a_file_costs_what_its_size_allows(tmp_path: Path, what: str) -> None:
    make, message = HOSTILE[what]
    path = tmp_path / "states.ckpt"
    path.write_bytes(make())
    tracemalloc.start()
    started = time.process_time()
    try:
        with pytest.raises(IntegrityError, match=rf"states\.ckpt: .*{message}"):
            read_foreign(path)
        assert time.process_time() - started < MOST_SECONDS
        assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("write", [in_zip, in_legacy])
def test_a_pickle_has_so_many_opcodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Any
) -> None:
    monkeypatch.setattr(pickles, "MOST_OPCODES", 1_000)
    path = tmp_path / "states.ckpt"
    path.write_bytes(write(b"(" * 2_000))
    with pytest.raises(IntegrityError, match="has more than 1,000 opcodes"):
        read_foreign(path)


def test_a_zip_archive_has_so_many_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_file, "MOST_MEMBERS", 100)
    archive = in_zip(b"}")
    start = archive.index(b"PK\x01\x02")
    entries = archive[start:-22] + b"".join(entry_of(b"%03d" % n) for n in range(200))
    end = archive[-22:-10] + len(entries).to_bytes(4, "little") + archive[-6:]
    path = tmp_path / "states.ckpt"
    path.write_bytes(archive[:start] + entries + end)
    with pytest.raises(IntegrityError, match="it has 201 members, no checkpoint has"):
        read_foreign(path)


def test_a_member_that_begins_before_the_file_is_damage(tmp_path: Path) -> None:
    archive = bytearray(in_zip(b"}"))
    # The offset of the directory, larger than where it is: members then begin before the file.
    place = len(archive) - 6
    offset = int.from_bytes(archive[place : place + 4], "little")
    archive[place : place + 4] = (offset + 50).to_bytes(4, "little")
    path = tmp_path / "states.ckpt"
    path.write_bytes(archive)
    with pytest.raises(IntegrityError, match="its zip archive"):
        read_foreign(path)


def test_values_are_counted_wherever_they_are_reached() -> None:
    shared = [1, 2, 3]
    check_extent([shared, shared], 9)
    with pytest.raises(IntegrityError, match="they are more than 8"):
        check_extent([shared, shared], 8)


def test_values_have_so_many_levels_on_every_way() -> None:
    deep: Any = 1
    for _ in range(DEEPEST - 1):
        deep = (deep,)
    check_extent({"short": deep}, 10**6)
    # The same value is too deep where it is met a second time.
    with pytest.raises(IntegrityError, match="nested more than 100 deep"):
        check_extent({"short": deep, "long": [deep]}, 10**6)


def saved(path: Path, document: Any) -> Path:
    torch.save(document, path)
    return path


def test_layers_that_are_one_are_not_made_many(tmp_path: Path) -> None:
    """Some 100 bytes a layer, each of which would take 66 kB."""
    one, many = (Sizes(layers=300, width=32, hidden=200, shared=each) for each in (True, False))
    document = s3prl_2022(many, make_transformer(one), make_head(one))
    path = saved(tmp_path / "states.ckpt", document)
    with pytest.raises(IntegrityError, match=r"states\.ckpt: its layers share their tensors"):
        read_foreign(path)


@pytest.mark.parametrize(
    ("group", "name", "value", "message"),
    [
        ("transformer", "num_hidden_layers", 10**9, r"say 1e\+09 layers, no model has more"),
        ("audio", "n_mels", 10**9, "settings are invalid: logmel: mels is 1000000000"),
        ("audio", "n_freq", 10**12, "settings are invalid: logmel: fft_size is 1999999999998"),
        ("audio", "win_ms", 1e15, "settings are invalid: logmel: window_length_ms is 10+"),
        ("audio", "hop_ms", 1e15, "settings are invalid: logmel: frame_shift_ms is 10+"),
    ],
)
def test_settings_that_no_tensor_confirms_have_limits(
    tmp_path: Path, group: str, name: str, value: Any, message: str
) -> None:
    sizes = Sizes(layers=1)
    document = s3prl_2022(sizes, make_transformer(sizes), make_head(sizes))
    document["Upstream_Config"][group][name] = value
    path = saved(tmp_path / "states.ckpt", document)
    with pytest.raises(IntegrityError, match=rf"states\.ckpt: .*{message}"):
        import_model(path)


def test_a_model_is_made_only_when_its_sizes_are_those_of_the_tensors(tmp_path: Path) -> None:
    """Matrices of one column: by their rows alone, attention would take 6 GB."""
    narrow, width = Sizes(inputs=8, layers=1), 20_000
    tensors = make_transformer(narrow)
    for name, tensor in tensors.items():
        rows = narrow.hidden if "intermediate" in name else width
        columns = (8,) if "spec_transform" in name else (1,)
        tensors[name] = torch.zeros(rows, *(columns if tensor.dim() == 2 else ()))
    document = s3prl_2022(narrow, tensors, {})
    del document["SpecHead"]
    document["Upstream_Config"]["transformer"]["hidden_size"] = width
    path = saved(tmp_path / "states.ckpt", document)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    message = r"states\.ckpt: its tensors and its settings differ about .*attention.*size mismatch"
    with pytest.raises(IntegrityError, match=message):
        import_model(path)
    # In kB on Linux.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20


@pytest.mark.parametrize("steps", ["many", float("inf"), -1, True])
def test_steps_that_are_no_number_are_no_fact(tmp_path: Path, steps: Any) -> None:
    sizes = Sizes(layers=1)
    document = s3prl_2022(sizes, make_transformer(sizes), make_head(sizes))
    document["Step"] = steps
    assert "steps" not in read_foreign(saved(tmp_path / "states.ckpt", document)).training


@pytest.mark.parametrize("number", ["9" * 5_000, "03", "٣"])
def test_a_layer_has_one_number_of_few_digits(tmp_path: Path, number: str) -> None:
    sizes = Sizes()
    document = s3prl_2022(sizes, make_transformer(sizes), make_head(sizes))
    document["Transformer"][f"encoder.layer.{number}.output.dense.bias"] = torch.zeros(2)
    path = saved(tmp_path / "states.ckpt", document)
    with pytest.raises(InputError, match="it has a tensor 'encoder.layer") as caught:
        read_foreign(path)
    assert len(str(caught.value)) < 2_000


def test_a_position_table_of_another_width_is_refused(tmp_path: Path) -> None:
    sizes = Sizes(inputs=80, outputs=12)
    document = lightning(
        sizes, make_transformer(sizes), [make_head(sizes)], stacked=1, mask_token=None
    )
    name = "pretrained_model.extractor.input_reps.position_embed.weight"
    document["state_dict"][name] = torch.zeros(30, 3)
    with pytest.raises(IntegrityError, match=r"has the shape \(30, 3\), its settings say a width"):
        read_foreign(saved(tmp_path / "states.ckpt", document))
