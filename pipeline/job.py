"""What an unfinished dataset is: the record that every `prepare` leaves in the work folder.

Each part of a run writes its own, so that parts that start at the same moment do not
meet; all must be of the same plan. The end of the run reads any of them.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from aalbert.errors import ConfigError, OutputInUseError
from aalbert.files import write_json
from aalbert.pipeline.corpus import Corpus, Skip
from aalbert.pipeline.output import Output
from aalbert.pipeline.plan import PrepareConfig, ShardTask
from aalbert.pipeline.task import WORK_FOLDER
from aalbert.shards.settings import FeatureSettings, settings_from_dict

JOB_FOLDER = f"{WORK_FOLDER}/jobs"


@dataclass(frozen=True, kw_only=True)
class Part:
    """Which share of the shards a run computes: part `number` of `count`, from 1."""

    number: int = 1
    count: int = 1

    @property
    def name(self) -> str:
        """The part as a user writes it."""
        return f"{self.number}/{self.count}"

    def choose(self, tasks: list[ShardTask]) -> list[ShardTask]:
        """Return this part's tasks: every `count`-th."""
        return tasks[self.number - 1 :: self.count]


def parse_part(text: str) -> Part:
    """Read `2/3` as part 2 of 3; `ConfigError` when it is no such thing."""
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise ConfigError(f"--part {text}: expected I/N with I from 1 to N, such as 1/4")
    return Part(number=int(number), count=int(count))


@dataclass(frozen=True, kw_only=True)
class Job:
    """What finishing a dataset takes beyond its shards: the plan, and the corpus in brief."""

    plan_fingerprint: str
    parts: int
    corpus: str
    licence: str
    features: tuple[FeatureSettings, ...]
    shards: tuple[str, ...]
    skipped: tuple[Skip, ...]
    attachments: tuple[str, ...]


def make_job(
    corpus: Corpus, config: PrepareConfig, tasks: list[ShardTask], plan: str, parts: int
) -> Job:
    """Describe a run."""
    return Job(
        plan_fingerprint=plan,
        parts=parts,
        corpus=corpus.name,
        licence=corpus.licence,
        features=config.features,
        shards=tuple(task.name for task in tasks),
        skipped=corpus.skipped,
        attachments=tuple(sorted(corpus.attachments)),
    )


def claim(output: Output, job: Job, part: Part) -> None:
    """Record a run in the work folder; `OutputInUseError` when another plan is under way there."""
    other = find_job(output)
    if other is not None and other.plan_fingerprint != job.plan_fingerprint:
        raise OutputInUseError(
            f"{output.name} holds an unfinished 'prepare' of other files or settings: "
            "choose another --out, or delete it first"
        )
    if other is not None and part.count > 1 and other.parts not in (1, part.count):
        raise OutputInUseError(
            f"{output.name} is being prepared in {other.parts} parts: use --part I/{other.parts}, "
            "or leave out --part to do all that is left"
        )
    name = f"{JOB_FOLDER}/{part.number}-of-{part.count}.json"
    if not output.has(name):
        with output.build(name) as path:
            write_json(path, asdict(job))


def find_job(output: Output) -> Job | None:
    """Return the run that is under way in an output, if there is one; parts come first."""
    names = sorted(name for name in output.sizes() if name.startswith(JOB_FOLDER))
    jobs = [read_job(output.fetch(name)) for name in names]
    return max(jobs, key=lambda job: job.parts, default=None)


def read_job(path: Path) -> Job:
    """Read the record of a run."""
    document: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return Job(
        **{
            **document,
            "features": tuple(settings_from_dict(item) for item in document["features"]),
            "shards": tuple(document["shards"]),
            "skipped": tuple(Skip(**skip) for skip in document["skipped"]),
            "attachments": tuple(document["attachments"]),
        }
    )
