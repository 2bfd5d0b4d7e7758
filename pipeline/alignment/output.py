"""The folder of phone labels: the labels, the names of their numbers, what failed, a README."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Any

from aalbert import __version__
from aalbert.common.files import write_json, write_text
from aalbert.common.json_files import json_lines
from aalbert.common.text import markdown
from aalbert.pipeline.alignment.phone_aligner import LABEL_SHIFT_MS
from aalbert.pipeline.alignment.phone_set import PHONES, SILENCE

LABELS_NAME, PHONES_NAME, RECORD_NAME = "alignments.txt", "phones.json", "alignment.json"
FAILED_NAME, SUSPICIOUS_NAME = "failed.jsonl", "suspicious.jsonl"
# Few phones are as long; beside one of these the labels of the utterance are often wrong too.
LONGEST_PHONE_S = 0.4
# A stop, a reduced vowel, a fricative and a diphthong, whose usual durations are known.
MEASURED_PHONES = ("T", "AH", "S", "AY")
TEMPLATE = """# Phone labels of {corpus}

**Made by a machine and not checked by hand**: aalbert {aalbert} let {software} align
each transcript with its recording, words first and then phones. Pronunciations: cmudict as
pocketsphinx has it, and {own_pronunciations} words of a dictionary of the user.

| file | contents |
|---|---|
| `{labels_name}` | a line for each utterance: its key, and the number of a phone for every 10 ms |
| `{phones_name}` | the names of the numbers: 39 phones of cmudict without stress, and {silence} |
| `{failed_name}` | utterances without labels, with the reason |
| `{suspicious_name}` | utterances with labels that have a phone longer than {longest_phone_s} s |
| `{record_name}` | these figures for programs |

{utterances:,} utterances have labels, {hours:.2f} hours. {failed:,} failed, {without_text:,}
have no text and were left out, {suspicious:,} are suspicious: compare these with the recording,
or leave them out.

Median durations: {medians}. Silence: {silence_share:.1f} % of the time.
{reasons}
The labels are derived from the corpus, whose licence is: {licence}.

```
aalbert downstream librispeech-phone --set labels.alignments=FOLDER/{labels_name} ...
```
"""


@dataclass(frozen=True)
class Labelled:
    """The labels of an utterance: the number of a phone for every 10 ms."""

    key: str
    labels: Sequence[int]

    def runs(self) -> list[tuple[str, float]]:
        """Return the phones one after another, each with its duration in seconds."""
        return [
            (PHONES[number], sum(1 for _ in group) * LABEL_SHIFT_MS / 1000)
            for number, group in groupby(self.labels)
        ]


@dataclass(frozen=True)
class Failure:
    """An utterance that has no labels, and why."""

    key: str
    source: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class AlignmentRecord:
    """What `alignment.json` holds: how the labels were made, and figures on them."""

    aalbert: str
    corpus: str
    licence: str
    software: str
    own_pronunciations: int
    without_text: int
    plan: str
    utterances: int
    hours: float
    failed: int
    suspicious: int
    median_ms: Mapping[str, int]
    silence: float


def write_output(
    out: Path, labelled: Sequence[Labelled], failures: Sequence[Failure], about: Mapping[str, Any]
) -> dict[str, Any]:
    """Write all files into `out`, the record last, and return it."""
    runs = {each.key: each.runs() for each in labelled}
    suspicious = [
        {"key": key, "phone": phone, "seconds": round(seconds, 2)}
        for key, phones in runs.items()
        for phone, seconds in [max(spoken(phones), key=lambda run: run[1], default=("", 0.0))]
        if seconds > LONGEST_PHONE_S + 1e-6
    ]
    durations: dict[str, list[float]] = defaultdict(list)
    for phone, seconds in (run for phones in runs.values() for run in phones):
        durations[phone].append(seconds)
    total = sum(map(sum, durations.values()))
    record = {
        "aalbert": __version__,
        **about,
        "utterances": len(labelled),
        "hours": round(total / 3600, 4),
        "failed": len(failures),
        "suspicious": len(suspicious),
        "median_ms": {
            phone: round(1000 * median(durations[phone]))
            for phone in MEASURED_PHONES
            if durations[phone]
        },
        "silence": round(sum(durations[SILENCE]) / total, 4),
    }
    lines = (" ".join([each.key, *map(str, each.labels)]) + "\n" for each in labelled)
    write_text(out / LABELS_NAME, "".join(lines))
    write_text(out / PHONES_NAME, json.dumps(PHONES))
    write_text(out / FAILED_NAME, json_lines(map(asdict, failures)))
    write_text(out / SUSPICIOUS_NAME, json_lines(suspicious))
    write_text(out / "README.md", readme(record, failures))
    write_json(out / RECORD_NAME, record)
    return record


def spoken(phones: Iterable[tuple[str, float]]) -> list[tuple[str, float]]:
    """Return the phones that are not silence, with their durations."""
    return [(phone, seconds) for phone, seconds in phones if phone != SILENCE]


def readme(record: Mapping[str, Any], failures: Sequence[Failure]) -> str:
    """Return the description of the labels in Markdown."""
    counts = Counter(failure.reason.partition(":")[0] for failure in failures).most_common()
    reasons = "".join(f"| {count} | {markdown(reason)} |\n" for reason, count in counts)
    return TEMPLATE.format(
        **{
            **record,
            "silence": SILENCE,
            "corpus": markdown(record["corpus"]),
            "licence": markdown(record["licence"]),
        },
        labels_name=LABELS_NAME,
        phones_name=PHONES_NAME,
        failed_name=FAILED_NAME,
        suspicious_name=SUSPICIOUS_NAME,
        record_name=RECORD_NAME,
        longest_phone_s=LONGEST_PHONE_S,
        medians=", ".join(f"{phone} {ms} ms" for phone, ms in record["median_ms"].items()),
        silence_share=100 * record["silence"],
        reasons=f"\n| failed | because |\n|---|---|\n{reasons}" if reasons else "",
    )
