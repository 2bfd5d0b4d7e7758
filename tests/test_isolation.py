"""Files in the current folder that are named as modules are never run by child processes."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from aalbert.common.isolation import import_path, isolated_children
from aalbert.pipeline.alignment.align import align_corpus
from aalbert.pipeline.corpora.librispeech import read_librispeech
from aalbert.pipeline.prepare.config import PrepareConfig
from aalbert.pipeline.prepare.engine import LocalEngine
from aalbert.pipeline.prepare.prepare import PrepareLimits, prepare
from aalbert.shards import Dataset, Loader, LoaderConfig, OrderConfig

# What children import, of the standard library too, and this package.
NAMES = (
    *("multiprocessing", "json", "pickle", "socket", "mmap", "subprocess"),
    *("xxhash", "numpy", "pyarrow", "torch", "soundfile", "fsspec", "aalbert"),
)
PLANTED = "from pathlib import Path\nPath({!r}).touch()\nraise ImportError('a planted file')\n"


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Plant modules in the current folder; what this returns says which were run."""
    folder, ran = tmp_path / "here", tmp_path / "ran"
    folder.mkdir()
    ran.mkdir()
    for name in NAMES:
        (folder / f"{name}.py").write_text(PLANTED.format(str(ran / name)))
    monkeypatch.chdir(folder)
    return lambda: sorted(path.name for path in ran.iterdir())


def test_workers_of_prepare_and_align_run_no_planted_module(
    planted: Callable[[], list[str]],
    librispeech_folder: Path,
    small_config: PrepareConfig,
    tmp_path: Path,
) -> None:
    corpus = read_librispeech(librispeech_folder)
    prepare(corpus, tmp_path / "data", small_config, PrepareLimits(engine=LocalEngine(workers=2)))
    align_corpus(corpus, tmp_path / "labels", workers=2)
    assert planted() == []


@pytest.mark.parametrize("notebook", [False, True])
def test_a_reader_process_runs_no_planted_module(
    planted: Callable[[], list[str]],
    prepared: Path,
    notebook: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order = OrderConfig(frames_per_batch=200)
    loader = Loader(Dataset(prepared).select(["*"]), LoaderConfig(order=order, prefetch=2))
    if notebook:
        monkeypatch.setattr(sys, "path", ["", *sys.path])
    assert sum((batch.rows >= 0).sum().item() for batch in loader) == 30
    loader.close()
    assert planted() == []


def test_a_checkout_in_the_current_folder_of_a_notebook_is_found_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", ["", "/packages.zip", "/site-packages"])
    monkeypatch.setattr("aalbert.common.isolation.PACKAGE", tmp_path / "aalbert")
    assert import_path() == ["/packages.zip", "/site-packages", str(tmp_path)]
    # Of a checkout by another name only the installed package knows that it is `aalbert`.
    monkeypatch.setattr("aalbert.common.isolation.PACKAGE", tmp_path / "checkout")
    assert import_path() == ["/packages.zip", "/site-packages"]


def test_the_environment_is_as_before_after_a_start(monkeypatch: pytest.MonkeyPatch) -> None:
    for before in (None, "", "1"):
        monkeypatch.setattr("os.environ", {} if before is None else {"PYTHONSAFEPATH": before})
        with isolated_children(), isolated_children():
            assert os.environ == {"PYTHONSAFEPATH": "1"}
        expected = {} if before is None else {"PYTHONSAFEPATH": before}
        assert os.environ == expected
