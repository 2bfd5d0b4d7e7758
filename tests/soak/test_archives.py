"""Archives that are damaged or hostile: refused, or what is taken has the bytes that tar reads."""

import gzip
import io
import shutil
import tarfile
from pathlib import Path
from random import Random

from aalbert.errors import AalbertError
from aalbert.pipeline.audio.recording import UnusableAudioError
from aalbert.pipeline.corpora.archive import read_member
from aalbert.pipeline.corpora.corpus import Corpus
from aalbert.pipeline.corpora.librispeech import read_librispeech
from aalbert.pipeline.prepare.config import PrepareConfig
from aalbert.pipeline.prepare.engine import LocalEngine
from aalbert.pipeline.prepare.prepare import PrepareLimits, prepare
from aalbert.shards.format.feature_settings import LogMelSettings
from aalbert.shards.reading.dataset import Dataset
from tests.soak.mutations import damaged
from tests.soak.soak import Soak

NAMES = (
    *("/etc/passwd", "../out", "LibriSpeech/dev-clean/../../../out.flac", "..", ".", "", "a\0b"),
    *("LibriSpeech/dev-clean/500/1/500-1-0000.flac", "LibriSpeech/dev-clean/" + "n" * 300),
    *("x" * 5_000, "LibriSpeech/dev-clean/500/\udcff.flac", "LibriSpeech/dev-clean/\u202e.flac"),
)
TYPES = (
    *(tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE),
    *(tarfile.DIRTYPE, tarfile.CONTTYPE, tarfile.GNUTYPE_SPARSE, tarfile.XHDTYPE, b"Z"),
)
SIZES = (-1, 0, 1, 511, 513, 10**6, 2**33, 2**63, 2**80)
PAX = (
    {"size": "x"},
    {"size": "-5"},
    {"path": "/etc/passwd"},
    {"GNU.sparse.major": "1"},
    {"a": "b"},
)
ENCODING = ("utf-8", "surrogateescape")
KNOWN = {"root", "cache", "out", "whole", "user-cache"}
Entries = list[tuple[tarfile.TarInfo, bytes]]


def entries_of(corpus: Path) -> Entries:
    paths = [corpus / "SPEAKERS.TXT", *sorted((corpus / "dev-clean").rglob("*.*"))]
    contents = {f"LibriSpeech/{each.relative_to(corpus)}": each.read_bytes() for each in paths}
    found: Entries = []
    for name, content in contents.items():
        info = tarfile.TarInfo(name)
        info.size = len(content)
        found.append((info, content))
    return found


def change_entry(entries: Entries, random: Random) -> Entries:
    """Give one member another name, type or size, or a second one of its name."""
    entries = [(sized(info, info.size), content) for info, content in entries]
    place = random.randrange(len(entries))
    info, content = entries[place]
    change = random.choice(("name", "type", "size", "double", "remove", "pax", "end", "content"))
    if change == "name":
        info.name = random.choice((*NAMES, random.choice(entries)[0].name))
    elif change == "type":
        info.type, info.linkname = random.choice(TYPES), random.choice(NAMES)
    elif change == "size":
        info.size = random.choice(SIZES)
    elif change == "double":
        entries.insert(random.randrange(len(entries) + 1), (info, damaged(content, random)))
        entries = [(sized(each, len(data)), data) for each, data in entries]
    elif change == "remove":
        del entries[place]
    elif change == "pax":
        info.pax_headers = random.choice(PAX)
    elif change == "content":
        content = damaged(content, random)
        entries[place] = (sized(info, len(content)), content)
    else:
        del entries[place:]
    return entries


def sized(info: tarfile.TarInfo, size: int) -> tarfile.TarInfo:
    copied = tarfile.TarInfo(info.name)
    copied.type, copied.linkname, copied.size = info.type, info.linkname, size
    copied.pax_headers = dict(info.pax_headers)
    return copied


def tar_of(entries: Entries, random: Random) -> bytes:
    stream = io.BytesIO()
    gnu = random.random() < 0.5
    for info, content in entries:
        try:
            header = info.tobuf(tarfile.GNU_FORMAT if gnu else tarfile.PAX_FORMAT, *ENCODING)
            stream.write(header)
        except ValueError:  # a number that this format has no place for
            info.size = 8**11 - 1
            stream.write(info.tobuf(tarfile.GNU_FORMAT, *ENCODING))
        stream.write(content + bytes(-len(content) % tarfile.BLOCKSIZE))
    return stream.getvalue() + bytes(2 * tarfile.BLOCKSIZE)


def pack(tar: bytes, random: Random) -> bytes:
    """Compress a tar, in one piece or several."""
    place = random.randrange(len(tar)) if random.random() < 0.2 else 0
    pieces = (tar[:place], tar[place:]) if place else (tar,)
    return b"".join(gzip.compress(each, 1, mtime=0) for each in pieces)


def harmed(entries: Entries, random: Random) -> bytes:
    """An archive whose members, headers or packed bytes are not those of a sound one."""
    kind = random.random()
    if kind < 0.6:
        for _ in range(random.choice((1, 1, 2, 4))):
            entries = change_entry(entries, random) or entries
        return pack(tar_of(entries, random), random)
    tar = tar_of(entries, random)
    if kind < 0.8:
        return pack(damaged(tar, random), random)
    packed = pack(tar, random)
    return damaged(packed, random) if kind < 0.95 else packed + random.choice((packed, b"\0" * 99))


def by_tarfile(archive: Path, source: str) -> bytes:
    """The last member of a name, as the standard library extracts it from the unpacked bytes."""
    with tarfile.open(archive, errors="surrogateescape") as tar:
        found = [each for each in tar if each.name.endswith(source) and each.isreg()]
        extracted = tar.extractfile(found[-1])
        assert extracted is not None
        return extracted.read()


def test_damaged_archives_are_refused_or_read_as_tar_reads_them(
    soak: Soak, librispeech_folder: Path, tmp_path: Path
) -> None:
    entries = entries_of(librispeech_folder)
    config = PrepareConfig(features=(LogMelSettings(mels=20),))
    root, cache, out = (tmp_path / name for name in ("root", "cache", "out"))
    root.mkdir()
    archive = root / "dev-clean.tar.gz"
    archive.write_bytes(pack(tar_of(entries, Random(0)), Random(0)))
    limits = PrepareLimits(engine=LocalEngine(workers=1), max_skipped=0.5)
    whole = tmp_path / "whole"
    prepare(read_librispeech(root, cache=cache), whole, config, limits)
    reference = dict(features_of(whole))

    def fault(random: Random) -> str:
        for folder in (cache, out):
            shutil.rmtree(folder, ignore_errors=True)
        kind = random.random()
        sound = pack(tar_of(entries, random), random)
        archive.write_bytes(harmed(entries, random) if kind < 0.8 else sound)
        before = sorted(root.iterdir())
        try:
            corpus = read_librispeech(root, cache=cache)
            if kind >= 0.9:
                archive.write_bytes(damaged(sound, random))
            elif kind >= 0.8:
                damaged_path = random.choice(sorted(cache.iterdir()))
                damaged_path.write_bytes(damaged(damaged_path.read_bytes(), random))
                corpus = read_librispeech(root, cache=cache)
            if kind < 0.8:
                compare_members(corpus, archive)
            # Preparing takes a process, so only some do.
            if kind >= 0.8 or random.random() < 0.2:
                prepare(corpus, out, config, limits)
                if kind >= 0.8:
                    for key, features in features_of(out):
                        assert features == reference[key], f"{key} has other features"
            outcome = "right"
        except AalbertError as error:
            assert "\n" not in str(error), error
            outcome = f"exit {error.exit_code}"
        assert sorted(root.iterdir()) == before, "something is written beside the archive"
        assert {each.name for each in tmp_path.iterdir()} <= KNOWN, "something is written outside"
        return outcome

    soak.run("files: archives", fault)


def features_of(data: Path) -> list[tuple[str, bytes]]:
    dataset = Dataset(data)
    return [
        (dataset.key(row), dataset.features(row, "logmel").tobytes()) for row in range(len(dataset))
    ]


def compare_members(corpus: Corpus, archive: Path) -> None:
    """Fail unless the bytes of every utterance are those of the last member of its name."""
    for each in corpus.utterances:
        assert each.offset is not None and each.index is not None
        try:
            found = read_member(archive, each.index, each.offset, each.size)
        except UnusableAudioError:
            continue
        assert found == by_tarfile(archive, each.source), f"{each.source} has other bytes"
