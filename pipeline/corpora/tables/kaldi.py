"""Kaldi's data folders: `wav.scp`, and optionally `segments`, `utt2spk`, `text`, `spk2gender`."""

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from aalbert.common.text_files import read_lines
from aalbert.errors import InputError
from aalbert.pipeline.corpora.names import key_of_id
from aalbert.pipeline.corpora.tables.table import Row, Table

RECORDINGS = "wav.scp"
SEGMENTS = "segments"
SPEAKERS = "utt2spk"
TEXTS = "text"
GENDERS = "spk2gender"
COLUMNS = ("path", "key", "speaker", "start", "end", "gender", "text")
TO_THE_END = "-1"
# `flac -c -d -s FILE |`, as Kaldi's recipes write for LibriSpeech, is the samples of the file.
DECODING_OPTIONS = frozenset({"-c", "-d", "-s", "-cd", "-dc", "--stdout", "--decode", "--silent"})


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line of a Kaldi file: its place, the name at its begin, and the rest."""

    place: str
    name: str
    rest: str


def is_kaldi_folder(path: Path) -> bool:
    """Return whether a folder holds Kaldi's list of recordings."""
    return (path / RECORDINGS).is_file()


def read_kaldi_folder(folder: Path) -> Table:
    """Return the utterances of a data folder: segments where there are some, else recordings.

    What `utt2spk` or `text` names without a recording is a row that cannot be used, and so is a
    recording that only a command makes. Raises `InputError` for a line that is not of the format,
    a name that is there twice, or an utterance that is not in `utt2spk`.
    """
    recordings = read_lines_of(folder / RECORDINGS)
    speakers, texts, genders = (
        {line.name: line.rest for line in read_lines_of(folder / name).values()}
        for name in (SPEAKERS, TEXTS, GENDERS)
    )
    segments = read_lines_of(folder / SEGMENTS)
    rows = [
        *(segment_row(line, recordings) for line in segments.values()),
        *(recording_row(line) for line in recordings.values() if not segments),
    ]
    check_speakers(folder, rows, speakers)
    for row in rows:
        name = row.values["key"] or ""
        speaker = speakers.get(name)
        row.values.update(
            speaker=speaker, text=texts.get(name) or None, gender=genders.get(speaker or "")
        )
        row.values["key"] = key_of_id(name)
    listed = segments or recordings
    rows += missing_rows(folder, listed, {SPEAKERS: speakers, TEXTS: texts})
    return Table(columns=COLUMNS, rows=tuple(rows))


def read_lines_of(path: Path) -> dict[str, Line]:
    """Read `NAME REST` lines by name; none where there is no such file."""
    lines: dict[str, Line] = {}
    for number, text in enumerate(read_lines(path) if path.is_file() else (), start=1):
        if not text.strip():
            continue
        name, *rest = text.split(maxsplit=1)
        place = f"{path}:{number}"
        if name in lines:
            raise InputError(f"{place} lists '{name}' again, after {lines[name].place}")
        lines[name] = Line(place=place, name=name, rest="".join(rest).strip())
    return lines


def make_row(line: Line, path: str, start: str, end: str | None, unusable: str | None) -> Row:
    """Return the row of an utterance, whose labels are not known yet."""
    values = dict.fromkeys(COLUMNS) | {"path": path, "key": line.name, "start": start, "end": end}
    return Row(place=line.place, values=values, unusable=unusable)


def recording_row(line: Line) -> Row:
    """Return the row of a whole recording."""
    path, unusable = recording_path(line)
    return make_row(line, path, "0", None, unusable)


def segment_row(line: Line, recordings: dict[str, Line]) -> Row:
    """Return the row of a line `UTTERANCE RECORDING START END`."""
    parts = line.rest.split()
    if len(parts) != 3:
        raise InputError(
            f"{line.place} is '{line.name} {line.rest[:80]}': expected UTTERANCE RECORDING START "
            "END (seconds)"
        )
    name, start, end = parts
    if name not in recordings:
        return make_row(line, name, start, None, f"its recording is not in {RECORDINGS}")
    path, unusable = recording_path(recordings[name])
    return make_row(line, path, start, None if end == TO_THE_END else end, unusable)


def recording_path(line: Line) -> tuple[str, str | None]:
    """Return the file that a line of `wav.scp` names, and why it cannot be used, if so."""
    if not line.rest:
        raise InputError(f"{line.place} is '{line.name}': expected RECORDING FILE")
    if not line.rest.endswith("|"):
        return line.rest, None
    try:
        program, *arguments = shlex.split(line.rest.removesuffix("|"))
    except ValueError:
        program, arguments = "", []
    files = [argument for argument in arguments if argument not in DECODING_OPTIONS]
    if PurePosixPath(program).name == "flac" and len(files) == 1 and files[0][0] != "-":
        return files[0], None
    return (
        line.name,
        f"is made by a command, and none is run; write its output to a file: {line.rest}",
    )


def check_speakers(folder: Path, rows: Iterable[Row], speakers: dict[str, str]) -> None:
    """Raise `InputError` for an utterance that the list of speakers lacks, if there is one."""
    for row in rows if speakers else ():
        if row.values["key"] not in speakers:
            raise InputError(
                f"{row.place}: '{row.values['key']}' is not in {folder / SPEAKERS}: Kaldi's "
                "utils/fix_data_dir.sh makes the files of a folder agree"
            )


def missing_rows(
    folder: Path, listed: dict[str, Line], others: dict[str, dict[str, str]]
) -> Iterator[Row]:
    """Yield a row for everything that other files name and the list of utterances does not."""
    named = {name: file for file, names in reversed(others.items()) for name in names}
    list_name = SEGMENTS if (folder / SEGMENTS).is_file() else RECORDINGS
    for name, file in named.items():
        if name not in listed:
            reason = f"is in {file} and not in {list_name}"
            yield Row(
                place=f"{folder / file}",
                values=dict.fromkeys(COLUMNS) | {"path": name, "key": None},
                unusable=reason,
            )
