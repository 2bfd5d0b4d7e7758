"""The downstream tasks: everything that depends on the task, in one table.

To add a task, enter it in `TASKS`; its presets, if it has any, lie in `presets/` in a folder of
its name. The command line lists its commands from it, so it imports nothing that is slow to import.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from aalbert.errors import ConfigError

SUPERB = "SUPERB benchmark website, frozen upstream, weighted sum of layers (Yang et al. 2021)"
MOCKINGJAY = "Mockingjay paper, LibriSpeech (Liu et al. 2020)"

# The values of a column of the index, one an utterance, as classes or as numbers; the phones of
# alignments, one a frame; those of texts, by a lexicon; or speakers to train on, and trials of two
# utterances to test on.
LabelSource = Literal["column", "number", "alignments", "lexicon", "trials"]


@dataclass(frozen=True)
class Published:
    """One published figure: the system, the task's metric as a share, parameters, source."""

    system: str
    value: float
    parameters: int | None
    source: str


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """The published figures of a task, shown beside a run's own and labelled as published.

    They come from other code and learning rates, and from the test data that `data` names. `counts`
    is the size of the official test data: a test split of the same size is taken to be the same.
    Where it is empty, none is.
    """

    data: str
    figures: tuple[Published, ...]
    counts: Mapping[str, int] = field(default_factory=dict)

    def is_official(self, counts: Mapping[str, int]) -> bool:
        """Return whether a test split has the size of the official one."""
        return bool(self.counts) and self.counts.items() <= counts.items()

    def comparability(self, counts: Mapping[str, int]) -> str:
        """Return a sentence on how far the figures compare with a run's on a split of this size."""
        if self.is_official(counts):
            return (
                "Published figures, on the same test data as this run's, but with other code and "
                "another choice of learning rate."
            )
        return (
            f"Published figures, on other data ({self.data}): they show what the task's "
            "literature reports and cannot be compared with this run's."
        )


@dataclass(frozen=True, kw_only=True)
class Task:
    """A downstream task.

    `summary` is its line in the help of the command, `title` the title of its reports. `labels` is
    the source of its labels, `corpus` the one whose splits its presets name. `preset` is the
    default preset; without one the defaults are used.
    """

    name: str
    summary: str
    title: str
    labels: LabelSource = "column"
    corpus: str | None = None
    preset: str | None = None
    benchmark: Benchmark | None = None


VOXCELEB1 = Task(
    name="voxceleb1",
    summary="Identify the speakers of VoxCeleb1, on its own split.",
    title="Speaker identification",
    corpus="voxceleb1",
    preset="best",
    benchmark=Benchmark(
        data="VoxCeleb1 with 1,251 speakers",
        counts={"utterances": 8_251, "classes": 1_251},
        figures=(
            Published("FBANK", 0.2006, 0, SUPERB),
            Published("Mockingjay, 12 layers", 0.3229, 85_118_208, SUPERB),
            Published("TERA, 3 layers", 0.5757, 21_327_360, SUPERB),
            Published("APC", 0.6042, 4_105_296, SUPERB),
            Published("wav2vec 2.0 Base", 0.7518, 95_044_608, SUPERB),
            Published("HuBERT Base", 0.8142, 94_697_600, SUPERB),
        ),
    ),
)
VERIFICATION = Task(
    name="voxceleb1-verification",
    summary="Verify whether two utterances are of the same speaker.",
    title="Speaker verification",
    labels="trials",
    preset="cosine",
    benchmark=Benchmark(
        data="the 37,720 trials of VoxCeleb1",
        counts={"trials": 37_720},
        figures=(
            Published("FBANK", 0.0956, 0, SUPERB),
            Published("Mockingjay, 12 layers", 0.1166, 85_118_208, SUPERB),
            Published("TERA, 3 layers", 0.1589, 21_327_360, SUPERB),
            Published("APC", 0.0856, 4_105_296, SUPERB),
            Published("wav2vec 2.0 Base", 0.0602, 95_044_608, SUPERB),
            Published("HuBERT Base", 0.0511, 94_697_600, SUPERB),
        ),
    ),
)
LIBRISPEECH_SPEAKER = Task(
    name="librispeech-speaker",
    summary="Identify the speaker of every utterance, or of every frame.",
    title="Speaker identification on LibriSpeech",
    corpus="librispeech",
    preset="utterance",
    benchmark=Benchmark(
        data="63 speakers of LibriSpeech",
        figures=(
            Published("Mel, 63 speakers", 0.7006, 0, MOCKINGJAY),
            Published("APC, 63 speakers", 0.8588, None, MOCKINGJAY),
            Published("Mockingjay BASE, 63 speakers", 0.9454, 21_400_000, MOCKINGJAY),
            Published("Mockingjay LARGE, 63 speakers", 0.9626, 85_400_000, MOCKINGJAY),
        ),
    ),
)
LIBRISPEECH_PHONE = Task(
    name="librispeech-phone",
    summary="Classify the phone of every frame, with labels from alignments.",
    title="Phone classification",
    labels="alignments",
    preset="linear",
    benchmark=Benchmark(
        data="LibriSpeech with 72 phones",
        figures=(
            Published("Mel, 72 phones", 0.491, 0, MOCKINGJAY),
            Published("Mockingjay BASE, 72 phones (49.1 % + 11.8)", 0.609, 21_400_000, MOCKINGJAY),
            Published("Mockingjay LARGE, 72 phones (49.1 % + 15.2)", 0.643, 85_400_000, MOCKINGJAY),
        ),
    ),
)
LIBRISPEECH_PHONE_RECOGNITION = Task(
    name="librispeech-phone-recognition",
    summary="Recognise the phones of utterances by CTC, with labels from texts and a lexicon.",
    title="Phone recognition",
    labels="lexicon",
    preset="superb",
    benchmark=Benchmark(
        data="LibriSpeech, test-clean",
        counts={"utterances": 2_620},
        figures=(
            Published("FBANK", 0.8201, 0, SUPERB),
            Published("Mockingjay, 12 layers", 0.7019, 85_118_208, SUPERB),
            Published("TERA, 3 layers", 0.4917, 21_327_360, SUPERB),
            Published("APC", 0.4198, 4_105_296, SUPERB),
            Published("wav2vec 2.0 Base", 0.0574, 95_044_608, SUPERB),
            Published("HuBERT Base", 0.0541, 94_697_600, SUPERB),
        ),
    ),
)
REGRESS = Task(
    name="regress",
    summary="Predict a number in a column of the index: sentiment, age, a mean opinion score.",
    title="Regression",
    labels="number",
    preset="default",
)
CLASSIFY = Task(
    name="classify",
    summary="Classify a column of the index: gender, accent, emotion.",
    title="Classification",
    preset="default",
)

TASKS = {
    task.name: task
    for task in (
        VOXCELEB1,
        VERIFICATION,
        LIBRISPEECH_SPEAKER,
        LIBRISPEECH_PHONE,
        LIBRISPEECH_PHONE_RECOGNITION,
        CLASSIFY,
        REGRESS,
    )
}


# The names that s3prl has of tasks; docs/migration.md has what differs.
S3PRL_TASKS = {
    "sv_voxceleb1": "voxceleb1-verification --preset xvector",
    "phone_linear": "librispeech-phone --preset linear",
    "phone_1hidden": "librispeech-phone --preset one-hidden",
    "speaker_linear_utter_libri": "librispeech-speaker --preset utterance",
    "speaker_linear_frame_libri": "librispeech-speaker --preset frame",
    "ctc": "librispeech-phone-recognition --preset superb",
    "emotion": "classify --set labels.column=emotion",
    "speech_commands": "classify --set labels.column=COLUMN",
    "fluent_commands": "classify --set labels.column=COLUMN",
    "mosei": "regress --preset sentiment",
    "mos_prediction": "regress --set labels.column=mos",
}


def refuse_names_of_s3prl(name: str) -> None:
    """Raise `ConfigError` for a task of s3prl, with what it is here."""
    if name in S3PRL_TASKS:
        raise ConfigError(f"'{name}' is a task of s3prl: here it is {S3PRL_TASKS[name]}")


def find_task(name: str) -> Task:
    """Return the task of a name; `ConfigError` when there is none."""
    if name not in TASKS:
        refuse_names_of_s3prl(name)
        raise ConfigError(f"unknown task '{name}': use one of {', '.join(TASKS)}")
    return TASKS[name]


def hint_of_task(name: str, corpus: str) -> str:
    """Return that another task is for this corpus, to end an error; "" if this one may be."""
    own = TASKS[name].corpus
    if own is None or own == corpus:
        return ""
    others = [task.name for task in TASKS.values() if task.corpus == corpus]
    return f"; for {corpus} there is 'aalbert downstream {others[0]}'" if others else ""


def names_with(labels: LabelSource) -> str:
    """Return the names of the tasks with this source of labels, for messages."""
    return ", ".join(task.name for task in TASKS.values() if task.labels == labels)
