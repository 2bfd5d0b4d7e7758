"""Small files that make a careless reader take memory, time or depth without end.

A tiny assembler of pickles: every function returns the opcodes that push one object.
"""

import io
import struct
import zipfile
from collections.abc import Callable, Iterable

START, STOP = b"\x80\x02", b"."
FLOATS = "FloatStorage"


def text(value: str) -> bytes:
    """A text."""
    encoded = value.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def number(value: int) -> bytes:
    """A whole number of any size."""
    encoded = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8b" + struct.pack("<i", len(encoded)) + encoded


def sequence(items: Iterable[bytes]) -> bytes:
    """A tuple."""
    return b"(" + b"".join(items) + b"t"


def listing(items: Iterable[bytes]) -> bytes:
    """A list."""
    return b"](" + b"".join(items) + b"e"


def mapping(items: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A dictionary."""
    return b"}(" + b"".join(key + value for key, value in items) + b"u"


def name(module: str, attribute: str) -> bytes:
    """A name of a function or class."""
    return f"c{module}\n{attribute}\n".encode()


def put(slot: int) -> bytes:
    """Keep the last object; pushes nothing."""
    return b"r" + struct.pack("<I", slot)


def get(slot: int) -> bytes:
    """An object that was kept."""
    return b"j" + struct.pack("<I", slot)


def call(function: bytes, arguments: bytes) -> bytes:
    """The result of a call."""
    return function + arguments + b"R"


def storage(elements: int, key: bytes | None = None, kind: str = FLOATS) -> bytes:
    """A reference to a storage, `0` by default."""
    where = key if key is not None else text("0")
    parts = (text("storage"), name("torch", kind), where, text("cpu"), number(elements))
    return sequence(parts) + b"Q"


def view(of: bytes, offset: int, shape: bytes, stride: bytes) -> bytes:
    """A tensor."""
    arguments = sequence((of, number(offset), shape, stride, b"\x89", b"}"))
    return call(name("torch._utils", "_rebuild_tensor_v2"), arguments)


def laughs(levels: int) -> bytes:
    """A tuple of two equal tuples of two equal tuples...: 2^levels texts in 12 bytes a level."""
    pairs = (put(level) + get(level) + b"\x86" for level in range(levels))
    return text("ha") + b"".join(pairs)


def deep(levels: int) -> bytes:
    """A tuple in a tuple in a tuple..."""
    return text("ha") + b"\x85" * levels


def in_zip(program: bytes, **members: bytes) -> bytes:
    """A file of torch 1.6 or later."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr("archive/data.pkl", START + program + STOP)
        for member, content in members.items():
            file.writestr(f"archive/data/{member}", content)
    return stream.getvalue()


def in_legacy(program: bytes, keys: bytes = b"]", data: bytes = b"") -> bytes:
    """A file from before torch 1.6."""
    system = mapping([(text("little_endian"), b"\x88")])
    pickles = (number(0x1950A86A20F9469CFC6C), number(1001), system, program, keys)
    return b"".join(START + each + STOP for each in pickles) + data


def many_copies() -> bytes:
    """A long list of pairs, made a dictionary by every 11 bytes of what follows."""
    pairs = listing(sequence((text(f"{n}"), b"N")) for n in range(5_000))
    program = name("collections", "OrderedDict") + put(0) + pairs + b"\x85" + put(1)
    return in_zip(program + (get(0) + get(1) + b"R") * 5_000)


def long_pairs() -> bytes:
    """A dictionary of 1,000 times the same tuple of 1,000 values."""
    pair = sequence([b"N"] * 1_000) + put(0)
    return in_zip(name("collections", "OrderedDict") + listing([pair] + [get(0)] * 999) + b"\x85R")


def long_arguments() -> bytes:
    """A call with many arguments, again and again."""
    kept = name("torch", "device") + put(0) + sequence([b"N"] * 20_000) + put(1)
    return in_zip(kept + (get(0) + get(1) + b"R") * 20_000)


def long_names() -> bytes:
    """Names of 40 kB, each joined of the same two texts."""
    kept = text("m" * 20_000) + put(0)
    return in_zip(kept + (get(0) + get(0) + b"\x93") * 20_000)


def long_shapes() -> bytes:
    """Tensors of 20,000 dimensions, all with the same shape."""
    kept = sequence([b"K\x01"] * 20_000) + put(0) + storage(1) + put(1)
    function = name("torch._utils", "_rebuild_tensor_v2") + put(2)
    arguments = sequence((get(1), b"K\x00", get(0), get(0), b"\x89", b"}")) + put(3)
    tensors = (get(2) + get(3) + b"R") * 10_000
    return in_zip(kept + function + arguments + tensors, **{"0": bytes(4)})


def huge_shape() -> bytes:
    """A tensor of 1,000 dimensions of 3,000 bytes."""
    shape = sequence([number(1 << 24_000)] * 1_000)
    return in_zip(view(storage(1), 0, shape, shape), **{"0": bytes(4)})


def equal_hashes() -> bytes:
    """A dictionary whose keys, multiples of 2^61 - 1, have the same hash."""
    return in_zip(mapping((number((n << 61) - n), b"N") for n in range(1, 30_000)))


def contains_itself() -> bytes:
    """A list of itself."""
    return in_zip(b"]" + put(0) + get(0) + b"a")


UPSTREAM = mapping([(text("transformer"), b"}")])


def many_views() -> bytes:
    """2,000 tensors of one storage of 400 kB, each from another number on."""
    elements = 100_000
    shape = sequence([number(elements - 3_000)])
    names = ((text(f"{n}"), view(get(0), n, get(1), get(2))) for n in range(2_000))
    kept = storage(elements) + put(0) + shape + put(1) + sequence([b"K\x01"]) + put(2)
    document = mapping([(text("Transformer"), mapping(names)), (text("Upstream_Config"), UPSTREAM)])
    return in_zip(kept + document, **{"0": bytes(4 * elements)})


def name_of_other_bytes() -> bytes:
    """A zip directory with a name that says it is UTF-8, and is not."""
    archive = in_zip(b"}", **{"ä": b""})
    return archive.replace("ä".encode(), b"\xff\xfe")


def version_of_zip() -> bytes:
    """A zip archive that needs a reader of version 25.5."""
    archive = in_zip(b"}")
    start = archive.index(b"PK\x01\x02") + 6
    return archive[:start] + b"\xff\x00" + archive[start + 2 :]


def many_members() -> bytes:
    """A zip directory of 200,000 empty members."""
    archive = in_zip(b"}")
    start = archive.index(b"PK\x01\x02")
    entries = bytearray(archive[start:-22])
    directory = b"".join(entry_of(f"{n:06d}".encode()) for n in range(200_000))
    total = bytes(entries) + directory
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0, 0, len(total), start, 0)
    return archive[:start] + total + end


def entry_of(file_name: bytes) -> bytes:
    """An entry of a zip directory: an empty member."""
    fields = (b"PK\x01\x02", 20, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, len(file_name), 0, 0, 0, 0, 0, 0)
    return struct.pack("<4s4B4HL2L5H2L", *fields) + file_name


def in_settings(value: bytes) -> bytes:
    """A checkpoint of s3prl with this as its tensors."""
    items = [(text("Transformer"), value), (text("Upstream_Config"), UPSTREAM)]
    return in_zip(mapping(items))


def key_of(key: bytes) -> bytes:
    """A tensor in a storage of this key."""
    return in_zip(view(storage(1, key), 0, b")", b")"))


def wide_number() -> bytes:
    """A number of 80,000 bits, which takes long to print, in the first pickle of several."""
    return in_legacy(listing([number(1 << 80_000)]))


# Each file, and what is said of it.
HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "the same pairs, copied by every call": (many_copies, "gives the same objects to calls again"),
    "one long pair, many times": (long_pairs, "too many values to unpack"),
    "the same arguments, unpacked by every call": (long_arguments, "gives the same objects to"),
    "long names of the same texts": (long_names, "a name of 40,000 characters"),
    "a shape of 20,000 dimensions": (long_shapes, "a tensor of 20000 dimensions"),
    "numbers of 24,000 bits": (huge_shape, "a number of 24,001 bits"),
    "a wide number in an old file": (wide_number, "a number of 80,001 bits"),
    "keys with one hash": (equal_hashes, "a number of 65 bits as a key"),
    "a list of itself": (contains_itself, "nested more than 100 deep"),
    "views of one storage": (many_views, "its tensors overlap: up to '[0-9]+' they take"),
    "a name that is not UTF-8": (name_of_other_bytes, "zip archive is damaged or cut short: 'utf-"),
    "a zip version to come": (version_of_zip, "damaged or cut short: zip file version 25.5"),
    "a key of shared tuples": (lambda: key_of(laughs(60)), "a storage of an unknown kind"),
    "a key of deep tuples": (lambda: key_of(deep(20_000)), "a storage of an unknown kind"),
    "keys of shared tuples in an old file": (
        lambda: in_legacy(b"}", listing([laughs(60)])),
        "contained in each other so often",
    ),
    "shared tuples": (lambda: in_settings(laughs(60)), "contained in each other so often"),
    "deep tuples": (lambda: in_settings(deep(20_000)), "nested more than 100 deep"),
}
