"""The secrets of URLs, from `prepare` to the report: no file and no line of output has them."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from aalbert.cli import main
from aalbert.commands import console
from aalbert.common.configuration import to_yaml
from aalbert.common.store import Store
from aalbert.errors import AalbertWarning
from aalbert.pipeline.corpora.corpus import Skip
from aalbert.train.pretraining.config import PretrainConfig
from aalbert.train.run_folder import RunFolder, resume_command

SECRETS = ("swordfish", "opensesame")
# fsspec's memory takes all of it for a path.
HOST = f"me:sword/{SECRETS[0]}@host"
QUERY = f"?part=1&token={SECRETS[1]}"
SHOWN = "memory://me:***@host/{}?part=***&token=***"

Run = Callable[..., str]


def upload(folder: Path, name: str) -> str:
    """Copy a folder into the memory of fsspec, and return its URL."""
    store = Store(f"memory://{HOST}/{name}{QUERY}")
    for path in (each for each in folder.rglob("*") if each.is_file()):
        store.write(path.relative_to(folder).as_posix(), path.read_bytes())
    return store.url


def without_secrets(text: str) -> str:
    """Return a text that is checked."""
    for secret in SECRETS:
        assert secret not in text
    return text


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """A function that runs a command, checks what it prints, and returns it."""

    def call(*words: str, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["aalbert", *words])
        assert main(words) == code
        return without_secrets("\n".join(capfd.readouterr()))

    return call


def test_no_secret_leaves_the_process(
    run: Run,
    librispeech_data: Path,
    voxceleb1_data: Path,
    pretrain_config: PretrainConfig,
    tmp_path: Path,
) -> None:
    data, speakers = upload(librispeech_data, "data"), upload(voxceleb1_data, "speakers")
    settings, pretrain, head = tmp_path / "pretrain.yaml", tmp_path / "runs/a", tmp_path / "runs/b"
    short = replace(pretrain_config, steps=2, validate_every_steps=2, loggers=("tensorboard",))
    settings.write_text(to_yaml(short))

    corpus = str(voxceleb1_data.parent / "corpus")
    prepare = ("prepare", "voxceleb1", corpus, "--workers", "1", "--out", speakers)
    assert f"{SHOWN.format('speakers')}: " in run(*prepare, "--set", "logmel.mels=20")
    run(*prepare, "--set", "logmel.mels=21", code=6)
    run(*prepare, "--set", "logmel.mels=20", "--dry-run", "--json")
    for view in (["info"], ["info", "--json"], ["verify"], ["stats", "--out", str(tmp_path / "s")]):
        run("shards", view[0], data, *view[1:])
    Store(data).write("added.tar", b"no part of it")
    listed = run("shards", "verify", data, code=4)
    assert f"{SHOWN.format('data')}/added.tar" in listed
    run("shards", "stats", data, code=4)
    Store(data).remove("added.tar")
    run("shards", "show", data, "no-such-key", code=3)

    run("pretrain", "--data", data, "--config", str(settings), "--out", str(pretrain))
    refused = run("pretrain", "--resume", "--out", str(pretrain), code=2)
    assert f"{SHOWN.format('data')} was recorded without its secrets: give" in refused
    run("pretrain", "--resume", "--out", str(pretrain), "--data", data)
    upstream = upload(pretrain / "export", "model")
    run("inspect", upstream, "--json")
    task = ("downstream", "voxceleb1", "--out", str(head))
    short_head = ("--set", "epochs=1", "--set", "prefetch=0")
    trained = run(*task, "--data", speakers, "--upstream", upstream, *short_head)
    assert f"next: aalbert evaluate {head} --data '{SHOWN.format('speakers')}'" in trained
    refused = run("evaluate", str(head), code=2)
    assert refused.strip() == (
        f"aalbert: {SHOWN.format('speakers')} was recorded without its secrets: give the whole URL "
        "with --data"
    )
    run("evaluate", str(head), "--data", speakers, "--json")
    refused = run(*task, "--resume", "--data", speakers, code=2)
    assert "was recorded without its secrets: give the whole URL with --upstream" in refused
    run(*task, "--resume", "--data", speakers, "--upstream", upstream)
    places = ("--data", speakers, "--upstream", upstream, "--out", str(tmp_path / "sweep"))
    sweep = ("sweep", "voxceleb1", *places, "--set", "epochs=1,2", "--set", "prefetch=0")
    run(*sweep)
    run(*sweep, "--json")
    embedded = ("extract", "--model", upstream, speakers, "--out", str(tmp_path / "embedded"))
    run(*embedded, "--pooling", "mean")

    # A path of what was a URL.
    run("evaluate", speakers, code=3)
    run("convert", speakers, "--out", str(tmp_path / "converted"), code=2)
    run("shards", "info", data, f"--{speakers}", code=2)

    assert RunFolder(pretrain).read_record()["data"] == [SHOWN.format("data")]
    record = RunFolder(head).read_record()
    assert record["data"] == SHOWN.format("speakers")
    assert record["upstream"] == SHOWN.format("model")
    assert f"--data '{SHOWN.format('speakers')}'" in record["command"]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"report.html", "metrics.json", "sweep.json"} <= {path.name for path in files}
    for path in files:
        content = path.read_bytes()
        assert not any(secret.encode() in content for secret in SECRETS), path
        without_secrets(str(path))


def test_warnings_and_tracebacks_have_none(capsys: pytest.CaptureFixture[str]) -> None:
    url = f"https://{HOST}/x{QUERY}"
    for category in (AalbertWarning, UserWarning):
        shown = console.format_warning(f"{url} is slow", category, "file.py", 1)
        assert "https://me:***@host/x?part=***&token=*** is slow" in without_secrets(shown)
    try:
        try:
            raise OSError(f"cannot reach {url}")
        except OSError as cause:
            raise RuntimeError(f"unexpected: {url}") from cause
    except RuntimeError as error:
        console.show_traceback(type(error), error, error.__traceback__)
    shown = without_secrets(capsys.readouterr().err)
    assert "OSError: cannot reach https://me:***@host/x" in shown
    assert "RuntimeError: unexpected: https://me:***@host/x" in shown


def test_inputs_that_are_skipped_have_none() -> None:
    skip = Skip(source=f"https://{HOST}/a.wav", reason=f"cannot be read: https:/{HOST}/a.wav")
    assert skip.source == "https://me:***@host/a.wav"
    assert skip.reason == "cannot be read: https:/me:***@host/a.wav"


def test_the_command_that_continues_asks_for_what_the_record_lacks(tmp_path: Path) -> None:
    run, hidden = RunFolder(tmp_path / "my run"), SHOWN.format("data")
    start = f"aalbert pretrain --resume --out '{run.path}'"
    assert resume_command("pretrain", run, ["s3://bucket/a", "b"]) == start
    both = resume_command("pretrain", run, [hidden, "b"], upstream=hidden)
    assert both == f"{start} --data '{hidden}' --data b --upstream '{hidden}'"
