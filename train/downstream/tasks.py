"""Figures that others published for the tasks, to stand beside one's own, labelled as theirs.

They come from other data, code and learning rates. A figure of ours is comparable only where
the test data is the official one, and even then it is a measurement of its own.
"""

from dataclasses import dataclass

SUPERB = "SUPERB benchmark website, frozen upstream, weighted sum of layers (Yang et al. 2021)"
MOCKINGJAY = "Mockingjay paper, LibriSpeech (Liu et al. 2020)"
# What the official test data counts: utterances of identification, trials of verification.
OFFICIAL_COUNTS = {
    "voxceleb1": {"utterances": 8_251, "classes": 1_251},
    "voxceleb1-verification": {"trials": 37_720},
}
OFFICIAL_NAMES = {
    "voxceleb1": "VoxCeleb1 with 1,251 speakers",
    "voxceleb1-verification": "the 37,720 trials of VoxCeleb1",
    "librispeech-speaker": "63 speakers of LibriSpeech",
    "librispeech-phone": "LibriSpeech with 72 phones",
}


@dataclass(frozen=True)
class Published:
    """One published figure: the system, the task's metric as a share, parameters, source."""

    system: str
    value: float
    parameters: int | None
    source: str


PUBLISHED: dict[str, tuple[Published, ...]] = {
    "voxceleb1": (
        Published("FBANK", 0.2006, 0, SUPERB),
        Published("Mockingjay, 12 layers", 0.3229, 85_118_208, SUPERB),
        Published("TERA, 3 layers", 0.5757, 21_327_360, SUPERB),
        Published("APC", 0.6042, 4_105_296, SUPERB),
        Published("wav2vec 2.0 Base", 0.7518, 95_044_608, SUPERB),
        Published("HuBERT Base", 0.8142, 94_697_600, SUPERB),
    ),
    "voxceleb1-verification": (
        Published("FBANK", 0.0956, 0, SUPERB),
        Published("Mockingjay, 12 layers", 0.1166, 85_118_208, SUPERB),
        Published("TERA, 3 layers", 0.1589, 21_327_360, SUPERB),
        Published("APC", 0.0856, 4_105_296, SUPERB),
        Published("wav2vec 2.0 Base", 0.0602, 95_044_608, SUPERB),
        Published("HuBERT Base", 0.0511, 94_697_600, SUPERB),
    ),
    "librispeech-speaker": (
        Published("Mel, 63 speakers", 0.7006, 0, MOCKINGJAY),
        Published("APC, 63 speakers", 0.8588, None, MOCKINGJAY),
        Published("Mockingjay BASE, 63 speakers", 0.9454, 21_400_000, MOCKINGJAY),
        Published("Mockingjay LARGE, 63 speakers", 0.9626, 85_400_000, MOCKINGJAY),
    ),
    "librispeech-phone": (
        Published("Mel, 72 phones", 0.491, 0, MOCKINGJAY),
        Published("Mockingjay BASE, 72 phones (49.1 % + 11.8)", 0.609, 21_400_000, MOCKINGJAY),
        Published("Mockingjay LARGE, 72 phones (49.1 % + 15.2)", 0.643, 85_400_000, MOCKINGJAY),
    ),
}


def is_official(task: str, counts: dict[str, int]) -> bool:
    """Return whether a test split has the size of the official one."""
    official = OFFICIAL_COUNTS.get(task)
    return official is not None and official.items() <= counts.items()


def comparability(task: str, counts: dict[str, int]) -> str:
    """Say what published figures of a task may be used for beside one's own."""
    if is_official(task, counts):
        return (
            "Published figures, on the same test data as this run's; theirs is other code and "
            "another choice of learning rate."
        )
    return (
        f"Published figures, on other data ({OFFICIAL_NAMES[task]}): they show what the task's "
        "literature reports and cannot be compared with this run's."
    )
