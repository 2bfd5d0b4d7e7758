"""Files of `torch.save` are read as by torch itself, and refused when they would run code."""

import io
import os
import pickle
import pickletools
import string
import struct
import sys
import zipfile
from argparse import Namespace
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from aalbert.errors import AalbertError, InputError, IntegrityError
from aalbert.models.torch_files.pickles import Interpreter, Placeholder
from aalbert.models.torch_files.tensors import StoredTensor
from aalbert.models.torch_files.torch_file import open_torch_file

ZIP, LEGACY = True, False
both_formats = pytest.mark.parametrize("zipped", [ZIP, LEGACY], ids=["zip", "before-1.6"])


class Call:
    """Pickles as a call of a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.function, self.arguments


def save(document: Any, path: Path, zipped: bool) -> Path:
    torch.save(document, path, _use_new_zipfile_serialization=zipped)
    return path


def read(path: Path) -> Any:
    """The whole document, tensors read."""
    with open_torch_file(path) as file:
        return resolve(file.document, file.tensor)


def resolve(value: Any, tensor: Callable[[StoredTensor], torch.Tensor]) -> Any:
    if isinstance(value, StoredTensor):
        return tensor(value)
    if isinstance(value, dict):
        return {key: resolve(inner, tensor) for key, inner in value.items()}
    return [resolve(inner, tensor) for inner in value] if isinstance(value, list) else value


@both_formats
def test_a_file_is_read_as_torch_reads_it(tmp_path: Path, zipped: bool) -> None:
    weight = torch.randn(6, 8)
    layer = torch.nn.Linear(3, 5)
    document = {
        "weights": OrderedDict(a=weight, b=weight[2:4, ::2], c=weight.t(), d=torch.tensor(7)),
        "module": layer.state_dict(),
        "parameter": layer.weight,
        "types": [torch.ones(3, dtype=kind) for kind in (torch.half, torch.bfloat16, torch.bool)],
        "plain": {"x": [1, -300, 70_000, 2**40, 1.5, True, None, "ä", b"\x00"], 3: ()},
        "default": defaultdict(int, {"k": 1}),
    }
    found = read(save(document, tmp_path / "file", zipped))
    assert found.keys() == document.keys()
    assert found["plain"] == {
        "x": [1, -300, 70_000, 2**40, 1.5, True, None, "ä", found["plain"]["x"][8]],
        3: (),
    }
    assert found["default"] == {"k": 1}
    for name, tensor in document["weights"].items():  # type: ignore[attr-defined]
        assert torch.equal(found["weights"][name], tensor)
    assert torch.equal(found["module"]["weight"], layer.weight)
    assert torch.equal(found["parameter"], layer.weight)
    for ours, theirs in zip(found["types"], document["types"], strict=True):  # type: ignore[call-overload]
        assert ours.dtype == theirs.dtype and torch.equal(ours, theirs)


@both_formats
def test_objects_of_other_classes_hold_nothing(tmp_path: Path, zipped: bool) -> None:
    document = {
        "args": Namespace(upstream="tera"),
        "path": Path("config/input.yaml"),
        "template": string.Template("$x"),
        "type": OSError,
        "after": 5,
    }
    found = read(save(document, tmp_path / "file", zipped))
    assert [type(found[name]) for name in ("args", "path", "template")] == [Placeholder] * 3
    assert found["after"] == 5


def write_marker(marker: Path) -> list[Any]:
    """Objects whose unpickling creates `marker` in different ways."""
    code = f"open({str(marker)!r}, 'w').close()"
    return [
        Call(os.system, f"touch {marker}"),
        Call(exec, code),
        Call(eval, f"open({str(marker)!r}, 'w')"),
        Call(open, str(marker), "w"),
        Call(getattr, Call(__import__, "os"), "system"),
        Call(os.mkdir, str(marker)),
        {"deep": [(1, {"er": OrderedDict(x=Call(os.mkdir, str(marker)))})]},
        {Call(os.mkdir, str(marker)): 1},
        Call(__import__("functools").partial(os.mkdir, str(marker))),
        Call(torch.load, str(marker)),
        Call(torch.hub.load, str(marker.parent), "x"),
    ]


@both_formats
@pytest.mark.parametrize("index", range(11))
def test_a_file_that_would_run_code_is_refused_and_nothing_runs(
    tmp_path: Path, zipped: bool, index: int
) -> None:
    marker = tmp_path / "ran"
    document = {"Transformer": {"weight": torch.zeros(2)}, "Optimizer": write_marker(marker)[index]}
    path = save(document, tmp_path / "file", zipped)
    with pytest.raises(IntegrityError, match=r"its pickle calls|as a key"):
        read(path)
    assert not marker.exists()


def test_the_malicious_files_of_these_tests_do_run_in_pickle(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    save(write_marker(marker)[0], tmp_path / "file", ZIP)
    torch.load(tmp_path / "file", weights_only=False)
    assert marker.exists()


def test_no_module_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "never_imported.py").write_text("class Timer:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    import never_imported  # type: ignore[import-not-found]

    path = save({"timer": never_imported.Timer(), "after": 1}, tmp_path / "file", ZIP)
    del sys.modules["never_imported"]
    assert read(path)["after"] == 1
    assert "never_imported" not in sys.modules


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00id\x85R.", r"its pickle calls os\.system"),
        (b"\x80\x02h\x00.", "its pickle is damaged"),  # a memo that was never written
        (b"\x80\x02}(K\x01u.", "its pickle is damaged"),  # a key without a value
        (b"\x80\x02}K\x01]s.", None),
        (b"\x80\x02}]K\x01s.", "a list as a key"),
        (b"\x80\x02}K\x01K\x01\x86K\x01s.", "a tuple as a key"),
        (b"\x80\x02\x86.", "its pickle is damaged"),
        (b"\x80\x02(.", "its pickle is damaged"),
        (b"\x80\x02K\x01", "its pickle is damaged"),  # cut short
        (b"\x80\x02\x82\x01.", "the opcode EXT1"),
        (b"\x80\x02(ios\nsystem\n.", "the opcode INST"),
        (b"\x80\x02(cos\nsystem\no.", "the opcode OBJ"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x02id\x85R.", r"calls os\.system"),
        (b"\x80\x02X\xff\xff\xff\x7fabc.", "its pickle is damaged"),  # 2 GB of text
        (b"\x80\x02\x8b\xff\xff\xff\x7f\x01.", "its pickle is damaged"),  # 2 GB of digits
        (b"\x80\x02]r\xff\xff\xff\xff.", None),  # a memo of four milliards
    ],
)
def test_programs_of_a_pickle(tmp_path: Path, program: bytes, message: str | None) -> None:
    path = archive(tmp_path / "file", program)
    if message is None:
        read(path)
    else:
        with pytest.raises(IntegrityError, match=message):
            read(path)


def archive(path: Path, program: bytes, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", program)
        for name, content in members.items():
            file.writestr(f"archive/data/{name}", content)
    return path


def tensor_program(elements: int, offset: int, shape: tuple[int, ...], stride: Any) -> bytes:
    """A pickle of one float tensor in storage 0."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, value: Any) -> Any:
            return value.key if isinstance(value, Storage) else None

    class Storage:
        key = ("storage", torch.FloatStorage, "0", "cpu", elements)

    class Tensor:
        def __reduce__(self) -> Any:
            rebuild = torch._utils._rebuild_tensor_v2
            return rebuild, (Storage(), offset, shape, stride, False, OrderedDict())

    stream = io.BytesIO()
    Pickler(stream, protocol=2).dump(Tensor())
    return stream.getvalue()


@pytest.mark.parametrize(
    ("elements", "offset", "shape", "stride", "message"),
    [
        (6, 0, (2, 4), (4, 1), "reads past its storage of 6"),
        (6, 5, (2,), (1,), "reads past its storage of 6"),
        (6, 0, (3,), (9,), "reads past its storage of 6"),
        (6, 0, (10**12,), (0,), "reads past its storage of 6"),  # one number, repeated
        (7, 0, (2, 3), (3, 1), "storage 0 has 24 bytes where 7 numbers take 28"),
        (5, 0, (5,), (1,), "storage 0 has 24 bytes where 5 numbers take 20"),
        (10**15, 0, (10**15,), (1,), "storage 0 has 24 bytes where"),
        (6, -1, (2,), (1,), "not whole numbers"),
        (6, 5, (2,), (-1,), "not whole numbers"),
        (6, 0, (2,), (1.0,), "not whole numbers"),
        (6, 0, (2,), (1, 1), "a tensor of 1 dimensions and 2 strides"),
    ],
)
def test_a_tensor_outside_its_storage_is_refused(
    tmp_path: Path, elements: int, offset: int, shape: Any, stride: Any, message: str
) -> None:
    program = tensor_program(elements, offset, shape, stride)
    with pytest.raises(IntegrityError, match=message):
        read(archive(tmp_path / "file", program, **{"0": bytes(24)}))


def test_a_missing_storage_is_named(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="its storage 0 has 0 bytes where 6 numbers take 24"):
        read(archive(tmp_path / "file", tensor_program(6, 0, (6,), (1,))))


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "archive/../../evil", "archive\\evil"])
def test_a_member_outside_the_archive_is_refused(tmp_path: Path, name: str) -> None:
    path = archive(tmp_path / "file", b"\x80\x02].")
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(name, b"x")
    with pytest.raises(IntegrityError, match="lies outside the archive"):
        read(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_compressed_member_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", bytes(10**8))
    with pytest.raises(IntegrityError, match="data.pkl' is compressed or encrypted"):
        read(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "file", b"\x80\x02].")
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("archive/data.pkl", b"\x80\x02}.")
    with pytest.raises(IntegrityError, match="is there twice"):
        read(path)


def test_a_pickle_that_is_far_too_large_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", bytes(65 * 2**20))
    with pytest.raises(IntegrityError, match="its pickle has 68,157,440 bytes"):
        read(path)


@both_formats
def test_a_truncated_file_is_detected_wherever_it_is_cut(tmp_path: Path, zipped: bool) -> None:
    path = save({"w": torch.randn(40, 3), "b": torch.randn(7)}, tmp_path / "file", zipped)
    whole = path.read_bytes()
    for size in range(4, len(whole) - 1, 37):
        path.write_bytes(whole[:size])
        with pytest.raises((IntegrityError, InputError)):
            read(path)


def test_a_flipped_byte_of_the_weights_is_detected_in_a_zip(tmp_path: Path) -> None:
    weight = torch.full((64,), 1.5)
    path = save({"w": weight}, tmp_path / "file", ZIP)
    content = bytearray(path.read_bytes())
    content[content.index(struct.pack("<4f", *[1.5] * 4)) + 33] ^= 8
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match="damaged or cut short: Bad CRC-32"):
        read(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a checkpoint: expected a file that torch.save wrote"),
        (b"hello", "not a checkpoint: expected a file that torch.save wrote"),
        (pickle.dumps([1], protocol=2) * 3, "a pickle, but not one that torch.save wrote"),
    ],
)
def test_other_files_are_errors(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read(tmp_path / "file")


def test_a_name_with_a_backslash_is_damage() -> None:
    with pytest.raises(IntegrityError, match="its pickle is damaged: invalid escape sequence"):
        Interpreter({}).read(io.BytesIO(b"ccollections\nOrdered\\qDict\n."))


def test_random_damage_never_ends_in_anything_but_a_known_error(tmp_path: Path) -> None:
    document = {"w": torch.randn(5), "config": {"a": [1, 2.5, "x"], "args": Namespace(b=1)}}
    generator = torch.Generator().manual_seed(4)
    path = save(document, tmp_path / "file", LEGACY)
    whole = path.read_bytes()
    for _ in range(300):
        content = bytearray(whole)
        place, value = torch.randint(0, 2**31, (2,), generator=generator).tolist()
        content[place % len(content)] = value % 256
        path.write_bytes(content)
        with suppress(AalbertError):
            read(path)


def test_the_opcodes_that_torch_writes_are_known(tmp_path: Path) -> None:
    """An independent list: every opcode of a real file is read, none is skipped."""
    path = save({"w": torch.randn(2), "n": 10**30}, tmp_path / "file", ZIP)
    with zipfile.ZipFile(path) as file:
        names = {opcode.name for opcode, _, _ in pickletools.genops(file.read("file/data.pkl"))}
    assert {"REDUCE", "BINPERSID", "GLOBAL", "LONG1"} <= names
    assert read(path)["n"] == 10**30
