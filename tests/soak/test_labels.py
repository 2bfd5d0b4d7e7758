"""Lists that come with corpora and labels, damaged: refused, or read as what a list can say."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

from aalbert.errors import AalbertError
from aalbert.pipeline.corpora.corpus import Corpus
from aalbert.pipeline.corpora.librispeech import read_librispeech
from aalbert.pipeline.corpora.synthesis import write_librispeech, write_voxceleb1
from aalbert.pipeline.corpora.voxceleb1 import read_voxceleb1
from aalbert.pipeline.prepare.plan import check_keys
from aalbert.shards.reading.dataset import Dataset
from aalbert.train.downstream.phones import read_alignments
from aalbert.train.downstream.trials import read_trials
from tests.soak.mutations import damaged
from tests.soak.soak import Soak

KEYS = [f"u{number}" for number in range(4)]
PHONES = ["SIL", "AA", "B", "AH0"]
SHIFT_MS = 10.0
# Of four utterances of about a second.
MOST_LABELS = 4 * 24 * 3600 * 100
TEXTGRID = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 0.5
tiers? <exists>
size = 1
item []:
    item [1]:
        class = "IntervalTier"
        name = "phones"
        xmin = 0
        xmax = 0.5
        intervals: size = 2
        intervals [1]:
            xmin = 0
            xmax = 0.2
            text = "AH0"
        intervals [2]:
            xmin = 0.2
            xmax = 0.4
            text = "B"
"""
Read = Callable[[], None]


def check_corpus(corpus: Corpus, root: Path) -> None:
    # As `prepare` does with every corpus.
    check_keys(corpus)
    assert corpus.utterances
    for each in corpus.utterances:
        assert each.path.resolve().is_relative_to(root.resolve()), each.path
        assert each.size == each.path.stat().st_size
        for text in (each.speaker, each.split, *each.fields.values()):
            (text or "").encode("utf-8")


def check_alignments(place: Path) -> None:
    found = read_alignments(str(place), KEYS, shift_ms=SHIFT_MS, drop_stress=True)
    assert set(found) <= set(KEYS)
    assert all(isinstance(phone, str) for one in found.values() for phone in one.phones)
    assert sum(len(one.phones) for one in found.values()) <= MOST_LABELS


def targets(folder: Path, data: Path) -> list[tuple[Path, Read]]:
    """Write whole lists; each with what reads it."""
    size: dict[str, object] = {"seed": 5, "seconds": (0.3, 0.4)}
    libri, vox = folder / "LibriSpeech", folder / "vox"
    write_librispeech(libri, speakers=2, utterances_per_speaker=2, **size)  # type: ignore[arg-type]
    write_voxceleb1(vox, speakers=2, videos_per_speaker=2, utterances_per_video=1, **size)  # type: ignore[arg-type]
    aligned, grids, trials = folder / "aligned", folder / "grids", folder / "trials.txt"
    for each in (aligned, grids):
        each.mkdir()
    lines = (f"{key} {' '.join(str(number % 4) for number in range(50))}\n" for key in KEYS)
    (aligned / "phones.txt").write_text("".join(lines))
    (aligned / "phones.json").write_text(json.dumps(PHONES))
    (grids / "u0.TextGrid").write_text(TEXTGRID)
    dataset = Dataset(data)
    names = [dataset.key(row) for row in range(4)]
    trials.write_text("".join(f"{n % 2} {names[n]} {names[-n]}\n" for n in range(4)))

    def check_trials() -> None:
        pairs = read_trials(str(trials), dataset)
        assert len(pairs.left) == len(pairs.right) == len(pairs.same) > 0
        assert pairs.rows.min() >= 0 and pairs.rows.max() < len(dataset)

    return [
        (trials, check_trials),
        *(
            (aligned / name, lambda: check_alignments(aligned / "phones.txt"))
            for name in ("phones.txt", "phones.json")
        ),
        (grids / "u0.TextGrid", lambda: check_alignments(grids)),
        *(
            (path, lambda: check_corpus(read_librispeech(libri), libri))
            for path in (libri / "SPEAKERS.TXT", *sorted(libri.rglob("*.trans.txt"))[:1])
        ),
        *(
            (vox / name, lambda: check_corpus(read_voxceleb1(vox), vox))
            for name in ("iden_split.txt", "vox1_meta.csv")
        ),
    ]


def test_damaged_lists_are_refused_or_say_what_a_list_can_say(
    soak: Soak, voxceleb1_data: Path, tmp_path: Path
) -> None:
    whole = targets(tmp_path / "lists", voxceleb1_data)
    for _, read in whole:
        read()

    def fault(random: Random) -> str:
        path, read = random.choice(whole)
        content = path.read_bytes()
        try:
            path.write_bytes(damaged(content, random))
            read()
        except AalbertError as error:
            assert "\n" not in str(error) and len(str(error)) < 2_000, error
            return f"exit {error.exit_code}"
        finally:
            path.write_bytes(content)
        return "right"

    soak.run("files: labels and trials", fault)
    shutil.rmtree(tmp_path / "lists")
