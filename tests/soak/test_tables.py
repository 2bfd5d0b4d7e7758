"""Lists of recordings that are damaged: refused, or every utterance is one that the list names."""

import gzip
import io
import json
import shutil
from pathlib import Path
from random import Random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile

from aalbert.errors import AalbertError
from aalbert.pipeline.corpora.corpus import Corpus
from aalbert.pipeline.corpora.manifest_file import read_manifest_file
from aalbert.pipeline.corpora.names import KEY_PATTERN
from tests.soak import in_process
from tests.soak.mutations import damaged
from tests.soak.programs import Programs
from tests.soak.soak import Soak

MOST_SECONDS = 30.0
RECORDINGS = 4
RATE = 16_000
ROWS = [
    {"path": f"{number}.wav", "key": f"key-{number}", "speaker": f"s{number % 2}", "split": "train"}
    | {"start": f"0.{number}", "end": "0.5", "text": f"the {number}, 'words'"}
    for number in range(RECORDINGS)
]


def separated(separator: str) -> bytes:
    lines = [list(ROWS[0]), *(list(row.values()) for row in ROWS)]
    texts = [[f'"{each}"' if separator in each else each for each in line] for line in lines]
    return "".join(separator.join(line) + "\n" for line in texts).encode()


def lines_of(documents: list[dict[str, object]]) -> bytes:
    return "".join(json.dumps(each) + "\n" for each in documents).encode()


def parquet() -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), stream)
    return stream.getvalue()


def cut_of_lhotse(number: int) -> dict[str, object]:
    source = {"type": "file", "channels": [0], "source": f"{number}.wav"}
    recording = {"id": f"r{number}", "sources": [source], "sampling_rate": RATE}
    recording |= {"num_samples": RATE, "duration": 1.0}
    spoken = {"id": f"s{number}", "recording_id": f"r{number}", "start": 0.0, "duration": 0.5}
    spoken |= {"channel": 0, "text": "words", "speaker": "a"}
    cut = {"id": f"c{number}", "start": 0.1, "duration": 0.5, "channel": 0, "type": "MonoCut"}
    return cut | {"supervisions": [spoken], "recording": recording}


NEMO = [
    {"audio_filepath": f"{number}.wav", "offset": 0.1, "duration": 0.5, "text": "words"}
    for number in range(RECORDINGS)
]
COMMON_VOICE = "client_id\tpath\tsentence\tage\n" + "".join(
    f"client{number}\t{number}.wav\tA sentence.\ttwenties\n" for number in range(RECORDINGS)
)
KALDI = {
    "wav.scp": "".join(f"u{number} {number}.wav\n" for number in range(RECORDINGS)),
    "utt2spk": "".join(f"p{number} s{number % 2}\n" for number in range(RECORDINGS)),
    "segments": "".join(f"p{number} u{number} 0.1 0.5\n" for number in range(RECORDINGS)),
    "text": "".join(f"p{number} some words\n" for number in range(RECORDINGS)),
    "spk2gender": "s0 f\ns1 m\n",
}
TABLES = {
    "list.csv": separated(","),
    "list.tsv": separated("\t"),
    "list.jsonl": lines_of(ROWS),  # type: ignore[arg-type]
    "list.json": json.dumps(ROWS, indent=1).encode(),
    "nemo.jsonl": lines_of(NEMO),
    "validated.tsv": COMMON_VOICE.encode(),
    "cuts.jsonl": lines_of([cut_of_lhotse(number) for number in range(RECORDINGS)]),
}
PACKED = 0.15
# Of all faults; damaged Parquet might crash, so it is read by another process.
PARQUET = 0.03


def check(corpus: Corpus, folder: Path) -> None:
    """Fail unless every utterance is possible, and one recording of those in the folder."""
    keys = [each.key for each in corpus.utterances]
    assert len(set(keys)) == len(keys) > 0
    assert all(KEY_PATTERN.fullmatch(key) for key in keys), keys
    for each in corpus.utterances:
        assert each.path.is_file() and each.size == each.path.stat().st_size, each
        assert each.path.resolve().parent == folder.resolve(), f"{each.path} is not in the list"
        assert 0 <= each.start < (each.end or np.inf) < np.inf or each.end is None, each
        for text in (each.speaker, each.split, *each.fields.values()):
            (text or "").encode("utf-8")


def test_damaged_tables_are_refused_or_read_as_lists_of_what_there_is(
    soak: Soak, programs: Programs, tmp_path: Path
) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    for number in range(RECORDINGS):
        soundfile.write(folder / f"{number}.wav", np.ones(RATE) * 0.1 * number, RATE)
    whole = parquet()

    def write(random: Random) -> Path:
        """Write a damaged list; the place to give to the command."""
        if random.random() < 0.2:
            name = random.choice(sorted(KALDI))
            for each, text in KALDI.items():
                content = damaged(text.encode(), random) if each == name else text.encode()
                (folder / each).write_bytes(content)
            return folder
        name = random.choice(sorted(TABLES))
        content = damaged(TABLES[name], random)
        if random.random() < PACKED:
            content = gzip.compress(content, mtime=0)
            name += ".gz"
            if random.random() < 0.5:
                content = damaged(content, random)
        (folder / name).write_bytes(content)
        return folder / name

    def clear() -> None:
        for each in folder.iterdir():
            if each.suffix != ".wav":
                each.unlink()

    def fault(random: Random) -> str:
        clear()
        out = tmp_path / "out"
        command = ("prepare", "manifest")
        how = ("--out", out, "--dry-run", "--json")
        if random.random() < PARQUET:
            path = folder / "list.parquet"
            path.write_bytes(damaged(whole, random))
            return programs.run(*command, path, *how).outcome()
        path = write(random)
        ended = in_process.run(*command, path, *how, most_seconds=MOST_SECONDS)
        outcome = ended.outcome()
        try:
            check(read_manifest_file(path), folder)
            assert outcome == "right", "it can be read, but the command says no"
        except AalbertError as error:
            assert "\n" not in str(error), error
            assert outcome == f"exit {error.exit_code}", f"{outcome}, {error}"
        assert not out.exists(), "a dry run writes"
        return outcome

    soak.run("files: tables", fault)
    shutil.rmtree(folder)
