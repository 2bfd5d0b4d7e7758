"""Damage to finished datasets: `verify` finds it, and nothing that is loaded is ever wrong."""

import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest

from aalbert.errors import AalbertError
from aalbert.pipeline.corpora.synthesis import write_voxceleb1
from aalbert.pipeline.corpora.voxceleb1 import read_voxceleb1
from aalbert.pipeline.prepare.config import PrepareConfig
from aalbert.pipeline.prepare.engine import LocalEngine
from aalbert.pipeline.prepare.prepare import PrepareLimits, prepare
from aalbert.shards import Dataset, Loader, LoaderConfig, OrderConfig
from aalbert.shards.format.feature_settings import FbankSettings, LogMelSettings
from aalbert.shards.loading.batch import Batch
from aalbert.shards.reading.shard_cache import ShardCache
from tests.soak.damage import (
    BYTES,
    OTHER_SIZE,
    SAME_SIZE,
    edit_and_seal,
    edit_arrow_bytes,
    edit_columns,
    edit_index,
    edit_manifest,
    edit_rows,
    edit_shard,
    rewrite,
)
from tests.soak.faulty_store import URL, faulty_store
from tests.soak.programs import run_here
from tests.soak.soak import Soak


@pytest.fixture(scope="session")
def celebrities(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of a dozen utterances in several shards, with files of the corpus; read only."""
    root = tmp_path_factory.mktemp("celebrities")
    write_voxceleb1(
        root / "corpus",
        speakers=3,
        videos_per_speaker=2,
        utterances_per_video=2,
        seed=3,
        seconds=(0.3, 0.8),
    )
    config = PrepareConfig(
        features=(LogMelSettings(mels=20), FbankSettings(mels=23)), shard_bytes=12_000
    )
    limits = PrepareLimits(engine=LocalEngine(workers=1))
    prepare(read_voxceleb1(root / "corpus"), root / "data", config, limits)
    return root / "data"


def fresh_copy(dataset: Path, folder: Path) -> Path:
    """A copy of the dataset in an empty folder, to be damaged."""
    if folder.exists():
        shutil.rmtree(folder)
    return Path(shutil.copytree(dataset, folder))


def test_verify_finds_every_damage(soak: Soak, celebrities: Path, tmp_path: Path) -> None:
    def fault(random: Random) -> str:
        data = fresh_copy(celebrities, tmp_path / "data")
        if random.random() < 0.5:
            damage = random.choice(BYTES)
            damage(random, data)
            what = damage.__name__
        else:
            what = edit_and_seal(random, data)
        outcome = run_here("shards", "verify", data).outcome()
        assert outcome != "right", f"{what}, and nothing says so"
        return outcome

    soak.run("datasets: damage, verified", fault)


# Batches of one epoch after another: rows, and the bytes of their features.
Seen = list[list[tuple[list[int], bytes]]]

EPOCHS = 3
SEALED = (edit_index, edit_rows, edit_columns, edit_arrow_bytes, edit_shard, edit_manifest)
ORDER = OrderConfig(frames_per_batch=150, window_shards=2, pool_batches=2)
# Loaders of which the second and third read ahead; a process for them takes a second to start.
CONFIGS = (
    LoaderConfig(order=ORDER, prefetch=0),
    LoaderConfig(order=replace(ORDER, packed=True), prefetch=0, targets=("fbank",)),
    LoaderConfig(order=ORDER, prefetch=0, crop_frames=25, verify="always"),
    LoaderConfig(order=ORDER, prefetch=1),
    LoaderConfig(order=ORDER, prefetch=2, readers=2, crop_frames=25, verify="always"),
)
WEIGHTS = (30, 30, 30, 1, 1)
# Of the third and fifth a shard's own bytes may change while they read.
WEIGHTS_OPEN = (10, 10, 70, 1, 2)


def content_of(batch: Batch) -> tuple[list[int], bytes]:
    """The rows of a batch, and the bytes of all its features."""
    arrays = [batch.features, batch.lengths, *batch.targets.values()]
    return batch.rows.tolist(), b"".join(each.numpy().tobytes() for each in arrays)


def outcome_of(action: Callable[[], None]) -> str:
    """`right`, or `exit CODE` for an error on one line that names a way out."""
    try:
        action()
    except AalbertError as error:
        assert str(error) and "\n" not in str(error)
        return f"exit {error.exit_code}"
    return "right"


def load(
    dataset: Dataset, config: LoaderConfig, expected: Seen, between: Callable[[int, int], None]
) -> None:
    """Read all epochs and compare every batch; `between` is called after each."""
    loader = Loader(dataset.select(["*"]), config)
    try:
        for epoch, batches in enumerate(expected):
            for number, (batch, wanted) in enumerate(zip(loader, batches, strict=True)):
                assert content_of(batch) == wanted, f"epoch {epoch} has another batch {number}"
                del batch
                between(epoch, number)
    finally:
        loader.close()


@pytest.fixture(scope="session")
def undisturbed(celebrities: Path) -> list[Seen]:
    """The batches of every loader."""
    seen = []
    for config in CONFIGS:
        loader = Loader(Dataset(celebrities).select(["*"]), config)
        seen.append([[content_of(batch) for batch in loader] for _ in range(EPOCHS)])
        loader.close()
    return seen


def damage_shard(random: Random, data: Path, *, in_place: bool, same_size: bool) -> None:
    """Damage a shard of a dataset that is open."""
    path = random.choice(sorted(data.rglob("*.tar")))
    change = random.choice(SAME_SIZE if same_size else (*SAME_SIZE, *OTHER_SIZE))
    if random.random() < 0.2 and not in_place:
        path.unlink()
    else:
        rewrite(path, change(random, path.read_bytes()), in_place=in_place)


def damage_what_is_read(random: Random, data: Path) -> None:
    """Damage a dataset: half of the time a shard, of which only the arrays' checksums may tell."""
    if random.random() < 0.5:
        damage_shard(random, data, in_place=True, same_size=True)
    else:
        random.choice(BYTES)(random, data)


def payloads(dataset: Dataset, feature: str) -> set[bytes]:
    """The bytes of all arrays of a feature."""
    return {dataset.features(row, feature).tobytes() for row in range(len(dataset))}


def test_what_is_loaded_is_right_or_nothing(
    soak: Soak, celebrities: Path, undisturbed: list[Seen], tmp_path: Path
) -> None:
    data = fresh_copy(celebrities, tmp_path / "data")
    commands = {name: run_here("shards", name, data, "--json").stdout for name in ("info", "stats")}
    true_payloads = {name: payloads(Dataset(celebrities), name) for name in ("logmel", "fbank")}
    true_keys = Dataset(celebrities).column("key")

    def load_damaged(random: Random) -> str:
        number = random.choices(range(len(CONFIGS)), WEIGHTS)[0]
        damage_what_is_read(random, data)
        return outcome_of(
            lambda: load(Dataset(data), CONFIGS[number], undisturbed[number], lambda *_: None)
        )

    def load_while_damaged(random: Random) -> str:
        """Local shards stay mapped: what is put in their place is not seen, and does not matter.

        Their own bytes may change where every read is compared. (A shard cut short while the
        loader's own process has it mapped ends that process.)
        """
        number = random.choices(range(len(CONFIGS)), WEIGHTS_OPEN)[0]
        config, expected = CONFIGS[number], undisturbed[number]
        moments = [(epoch, at) for epoch, each in enumerate(expected) for at in range(len(each))]
        moment = random.choice(moments)
        in_place = config.verify == "always" and random.random() < 0.7

        def between(epoch: int, at: int) -> None:
            if (epoch, at) == moment:
                damage_shard(random, data, in_place=in_place, same_size=not config.prefetch)

        return outcome_of(lambda: load(Dataset(data), config, expected, between))

    def load_sealed(random: Random) -> str:
        """A consistent edit makes another dataset: what is read has to be some utterance's."""
        what = edit_and_seal(random, data, SEALED)
        config = CONFIGS[random.choice([0, 1])]

        def action() -> None:
            dataset = Dataset(data)
            loader = Loader(dataset.select(["*"]), config)
            for _ in range(2):
                rows = [row for batch in loader for row in batch.rows.tolist()]
                assert sorted(rows) == list(range(len(dataset))), what
            for feature in config.features:
                assert payloads(dataset, feature) <= true_payloads[feature], what
                dataset.statistics(np.arange(len(dataset)), feature)

        return outcome_of(action)

    def read_features(random: Random) -> str:
        damage_what_is_read(random, data)

        def action() -> None:
            dataset = Dataset(data)
            assert dataset.column("key") == true_keys
            for name, expected in true_payloads.items():
                assert payloads(dataset, name) == expected

        return outcome_of(action)

    def look(random: Random) -> str:
        random.choice(BYTES)(random, data)
        name = random.choice(sorted(commands))
        ended = run_here("shards", name, data, "--json")
        if ended.code == 0:
            assert ended.stdout == commands[name], name
        return ended.outcome()

    stories = (load_damaged, load_while_damaged, load_sealed, read_features, look)

    def fault(random: Random) -> str:
        fresh_copy(celebrities, data)
        return random.choice(stories)(random)

    soak.run("datasets: damage, loaded", fault)


def test_a_store_that_fails_gives_what_is_right_or_nothing(
    soak: Soak,
    celebrities: Path,
    undisturbed: list[Seen],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("aalbert.common.store.RETRY_WAITS_S", (0.0, 0.0, 0.0))
    monkeypatch.setattr("aalbert.shards.reading.shard_cache.RETRY_INTERVAL_S", 0.001)
    sizes = sorted(path.stat().st_size for path in celebrities.rglob("*.tar"))
    data, folder = tmp_path / "data", tmp_path / "cache"

    def fault(random: Random) -> str:
        end_fetching()
        fresh_copy(celebrities, data)
        shutil.rmtree(folder, ignore_errors=True)
        number = random.choice([0, 1, 2])
        config, expected = CONFIGS[number], undisturbed[number]
        # Room for two windows of two shards, or for all.
        limit = random.choice([sum(sizes[-4:]), 2**30])
        cache = ShardCache(folder=folder, limit_bytes=limit, timeout_s=20)
        kind = random.choice(["faults", "faults", "damage", "cache", "cache", "verify"])

        def action() -> None:
            load(Dataset(URL, cache), config, expected, lambda *_: None)

        with faulty_store(data, random, 0.0):
            if kind == "cache":
                assert outcome_of(action) == "right"
                end_fetching()
                mirror = next(each for each in folder.iterdir() if each.is_dir())
                random.choice(BYTES)(random, mirror)
                return outcome_of(action)
            if kind == "damage":
                random.choice(BYTES)(random, data)
                return outcome_of(action)
        with faulty_store(data, random, random.choice([0.05, 0.3, 0.9])):
            if kind == "verify":
                outcome = run_here("shards", "verify", URL).outcome()
            elif random.random() < 0.3:
                outcome = share(action)
            else:
                outcome = outcome_of(action)
            end_fetching()
        # What the faults left in the cache does no harm once they are over.
        assert outcome_of(action) == "right"
        end_fetching()
        left = [*folder.rglob("*.partial"), *(tmp_path / "user-cache").rglob("*")]
        assert all(each.is_dir() for each in left), left
        return outcome

    soak.run("datasets: damage in a store", fault)


def end_fetching() -> None:
    """Wait for the threads that fetch ahead, which a program does not."""
    for thread in threading.enumerate():
        if thread.name == "fetch-ahead":
            thread.join()


def share(action: Callable[[], None]) -> str:
    """Let two readers share the cache; the outcome is that of the first that is not right."""
    with ThreadPoolExecutor(2) as readers:
        outcomes = list(readers.map(lambda _: outcome_of(action), range(2)))
    return next((each for each in outcomes if each != "right"), "right")
