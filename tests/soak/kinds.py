"""The kinds of faults, and what may come of each; `README.md` shows them as a table."""

from dataclasses import dataclass

RIGHT = "right"


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of fault.

    `outcomes` are what may come of it: `right` (the result is that of an undisturbed run), or the
    exit codes of named errors, `exit 4`. `quick` is the number of faults in the quick suite,
    `share` that of a soak's time in proportion to other kinds.
    """

    name: str
    outcomes: tuple[str, ...]
    quick: int
    share: float = 1.0


def exits(*codes: int) -> tuple[str, ...]:
    """The outcomes `exit CODE`."""
    return tuple(f"exit {code}" for code in codes)


PREPARE = (
    Kind(name="prepare: signals", outcomes=(RIGHT,), quick=2, share=1.5),
    Kind(
        name="prepare: damage between runs", outcomes=(RIGHT, *exits(4, 6, 7)), quick=6, share=1.5
    ),
    Kind(name="prepare: scarce resources", outcomes=(RIGHT,), quick=2, share=1.5),
    Kind(name="prepare: inputs that change", outcomes=(RIGHT, *exits(3, 5, 6)), quick=2, share=1.5),
)
DATASETS = (
    Kind(name="datasets: damage, verified", outcomes=exits(3, 4), quick=30),
    Kind(name="datasets: damage, loaded", outcomes=(RIGHT, *exits(1, 2, 3, 4)), quick=30),
    Kind(name="datasets: damage in a store", outcomes=(RIGHT, *exits(3, 4, 7)), quick=2),
)
FILES = (
    Kind(name="files: audio", outcomes=(RIGHT, "refused"), quick=40, share=0.4),
    Kind(name="files: archives", outcomes=(RIGHT, *exits(3, 4, 5)), quick=10, share=0.4),
    Kind(name="files: HTTP", outcomes=(RIGHT, *exits(3, 4, 7)), quick=3, share=0.4),
    Kind(name="files: tables", outcomes=(RIGHT, *exits(3, 5)), quick=20, share=0.4),
    Kind(name="files: labels and trials", outcomes=(RIGHT, *exits(3)), quick=60, share=0.1),
    Kind(name="files: YAML", outcomes=(RIGHT, *exits(2, 3)), quick=40, share=0.4),
    Kind(name="files: JSON", outcomes=(RIGHT, *exits(2, 3, 4)), quick=20, share=0.4),
    Kind(name="files: our checkpoints", outcomes=(RIGHT, *exits(3, 4)), quick=20, share=0.1),
    Kind(name="files: training states", outcomes=(RIGHT, *exits(3, 4)), quick=4, share=0.4),
    Kind(name="files: foreign checkpoints", outcomes=(RIGHT, *exits(2, 3, 4)), quick=10, share=0.4),
)
TRAINING = (
    Kind(name="pretrain: signals", outcomes=(RIGHT,), quick=1, share=2.5),
    Kind(name="pretrain: scarce resources", outcomes=(RIGHT,), quick=1, share=2.5),
    Kind(name="pretrain: what it reads is lost", outcomes=(RIGHT,), quick=1, share=2.5),
    Kind(name="pretrain: two ranks", outcomes=(RIGHT,), quick=1, share=2.5),
    Kind(name="pretrain: two runs in one folder", outcomes=(RIGHT,), quick=1, share=2.5),
    Kind(name="downstream: signals and scarce resources", outcomes=(RIGHT,), quick=1, share=2.5),
    Kind(name="sweep: signals and scarce resources", outcomes=(RIGHT,), quick=1, share=2.5),
    Kind(name="evaluate: signals and scarce resources", outcomes=(RIGHT,), quick=1, share=2.5),
    Kind(name="extract: signals and scarce resources", outcomes=(RIGHT,), quick=1, share=2.5),
    Kind(name="predict: signals and scarce resources", outcomes=(RIGHT,), quick=1, share=2.5),
    Kind(name="align: signals and scarce resources", outcomes=(RIGHT,), quick=1, share=2.5),
)
PAGES = (Kind(name="pages: hostile names", outcomes=(RIGHT, *exits(2)), quick=25, share=0.4),)
KINDS = {kind.name: kind for kind in (*PREPARE, *DATASETS, *FILES, *TRAINING, *PAGES)}
