import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from aalbert import __version__
from aalbert.cli import COMMANDS as TABLE
from aalbert.cli import app, main
from aalbert.commands.console import exit_code_of, format_warning, show, storage_message
from aalbert.common.text import visible
from aalbert.errors import AalbertWarning, ConfigError
from aalbert.pipeline.corpora.synthesis import write_librispeech, write_voxceleb1
from aalbert.train.places import lasting_place

COMMANDS = [
    ["prepare", "librispeech"],
    ["prepare", "voxceleb1"],
    ["prepare", "folder"],
    ["prepare", "manifest"],
    ["prepare", "finalize"],
    ["align"],
    ["shards", "info"],
    ["shards", "list"],
    ["shards", "verify"],
    ["shards", "show"],
    ["shards", "stats"],
    ["config", "show"],
    ["config", "diff"],
    ["config", "presets"],
    ["config", "schema"],
    ["pretrain"],
    ["downstream", "voxceleb1"],
    ["downstream", "voxceleb1-verification"],
    ["downstream", "librispeech-speaker"],
    ["downstream", "librispeech-phone"],
    ["downstream", "librispeech-phone-recognition"],
    ["downstream", "regress"],
    ["downstream", "classify"],
    ["sweep"],
    ["evaluate"],
    ["predict"],
    ["compare"],
    ["extract"],
    ["inspect"],
    ["convert"],
    ["export"],
    ["push"],
    ["demo"],
    ["help"],
]


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("corpora")
    write_librispeech(
        root / "LibriSpeech", speakers=4, utterances_per_speaker=2, seed=5, seconds=(1.0, 1.5)
    )
    write_voxceleb1(
        root / "VoxCeleb1",
        speakers=3,
        videos_per_speaker=3,
        utterances_per_video=2,
        seed=5,
        seconds=(1.0, 1.5),
    )
    return root


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    yield


def test_the_whole_path_runs_from_corpora_to_a_report(
    corpora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(f"prepare librispeech {corpora}/LibriSpeech --out data/librispeech --workers 1")
    run(f"prepare voxceleb1 {corpora}/VoxCeleb1 --out data/voxceleb1 --workers 1")
    small = "--set steps=6 --set encoder.width=32 --set validate_every_steps=3"
    run(f"pretrain --preset tiny --data data/librispeech --out runs/pretrain {small}")
    speaker = "downstream voxceleb1 --data data/voxceleb1 --set epochs=2"
    run(f"{speaker} --upstream runs/pretrain --out runs/speaker")
    run(f"{speaker} --upstream runs/pretrain --untrained --layers last --out runs/untrained")
    run(f"{speaker} --upstream logmel --out runs/logmel")
    capsys.readouterr()
    run("evaluate runs/speaker runs/untrained runs/logmel --json")
    document = json.loads(capsys.readouterr().out)
    results = document["results"]
    assert [each["reference"] for each in document["comparisons"]] == ["runs/speaker"] * 2
    assert [Path(result["run"]).name for result in results] == ["speaker", "untrained", "logmel"]
    assert [result["layers"] for result in results] == ["weighted", "last", "last"]
    for result in results:
        assert (tmp_path / result["run"] / "report.html").is_file()
        assert json.loads((tmp_path / result["run"] / "metrics.json").read_text()) == result


def test_summaries_are_one_json_document_on_stdout(
    corpora: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(f"prepare librispeech {corpora}/LibriSpeech --out data --workers 1 --json")
    summary = json.loads(capsys.readouterr().out)
    assert summary["utterances"] == 8
    assert summary["splits"] == {"train-clean-100": 8}


def test_two_features_can_be_stored_side_by_side(
    corpora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from aalbert.shards import Dataset

    features = "--feature logmel --feature fbank"
    run(f"prepare librispeech {corpora}/LibriSpeech --out data --workers 1 {features}")
    dataset = Dataset(tmp_path / "data")
    assert set(dataset.manifest.features) == {"logmel", "fbank"}
    assert dataset.features(0, "fbank").shape[1] == 80


def run(command: str) -> None:
    assert main(command.split()) == 0


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_shows_an_example_of_itself(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert f"Example: aalbert {' '.join(command)}" in text


def test_the_list_of_commands_is_known() -> None:
    names = []
    root = get_command(app)
    assert isinstance(root, TyperGroup)
    for name, command in root.commands.items():
        inner = command.commands if isinstance(command, TyperGroup) else None
        names += [[name]] if inner is None else [[name, each] for each in inner]
    assert sorted(map(str, names)) == sorted(map(str, COMMANDS))


def test_the_table_of_commands_has_their_own_summaries() -> None:
    root = get_command(app)
    assert isinstance(root, TyperGroup)
    own = {name: command.get_short_help_str(1_000) for name, command in root.commands.items()}
    assert {name: entry.summary for name, entry in TABLE.items()} == own


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == __version__


@pytest.mark.parametrize("arguments", [[], ["prepare"], ["shards"], ["config"]])
def test_a_group_without_a_command_shows_its_help(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("Usage: ") and lines[0].endswith("[OPTIONS] COMMAND [ARGS]...")
    assert ("Data:" if not arguments else "Commands:") in lines


@pytest.mark.parametrize(
    ("command", "exit_code", "message"),
    [
        ("prepare librispeech nowhere --out data", 3, "there is no folder nowhere: expected the"),
        ("prepare librispeech {corpora} --out data", 3, "Did you mean {corpora}/LibriSpeech?"),
        ("prepare librispeech {corpora}/VoxCeleb1 --out data", 3, "aalbert prepare voxceleb1"),
        ("prepare librispeech {libri} --subset dev-clean --out data", 3, "it has train-clean-100"),
        (
            "prepare librispeech {libri} --out data --feature x",
            2,
            "unknown feature 'x': use one of",
        ),
        ("prepare librispeech {libri}", 2, "Missing option '--out'"),
        ("prepare librispeech {libri} --out data --workers 0", 2, "--workers"),
        ("prepare voxceleb1 {libri} --out data", 3, "Did you mean aalbert prepare librispeech"),
        ("prepare voxceleb1 {vox} --split-file no.txt --out data", 3, "no split file no.txt"),
        (
            "prepare folder {libri} --speaker-level 0 --out data",
            2,
            "--speaker-level 0 is no folder",
        ),
        ("prepare folder {libri} --speaker-level -9 --out data", 3, "lies less deep than"),
        ("prepare manifest {libri}/SPEAKERS.TXT --out data", 3, "is not a known kind of table"),
        ("prepare manifest no.csv --out data", 3, "there is no file no.csv: expected a table"),
        ("prepare librispeech {libri} --out data --part 3/2", 2, "--part 3/2: expected I/N"),
        ("prepare librispeech {libri} --out data --engine dask", 2, "needs --dask-address"),
        ("prepare librispeech {libri} --out data --set logmel.mel=4", 2, "mean logmel.mels?"),
        ("prepare finalize nowhere", 3, "there is no unfinished dataset in nowhere"),
        ("prepare flac {libri} --out data", 2, "No such command 'flac'"),
        (
            "downstream sv_voxceleb1 --out run",
            2,
            "'sv_voxceleb1' is a task of s3prl: here it is voxceleb1-verification --preset xvector",
        ),
        ("config show --task ctc", 2, "here it is librispeech-phone-recognition --preset superb"),
        ("downstream voxceleb --out run", 2, "No such command 'voxceleb'. Did you mean"),
        ("align nowhere --out labels", 3, "there is no folder nowhere: expected the"),
        ("align no.csv --out labels", 3, "there is no file no.csv: expected a table"),
        ("align {libri} --pronunciations no.dict --out a", 3, "there is no dictionary no.dict"),
        ("pretrain --out runs", 2, "missing option --data (or --resume"),
        ("pretrain --data nowhere --out runs", 3, "there is no folder nowhere: make it with"),
        ("pretrain --data {libri} --out runs", 3, "it is not a dataset made by 'aalbert prepare'"),
        ("pretrain --preset huge --data x --out runs", 2, "unknown preset 'huge'"),
        ("pretrain --config no.yaml --data x --out runs", 3, "no configuration file no.yaml"),
        ("pretrain --set steps=x --data x --out runs", 2, "steps = 'x'"),
        (
            "pretrain --from nowhere --data x --out runs",
            3,
            "there is no folder nowhere: expected a",
        ),
        (
            "pretrain --from {libri}/SPEAKERS.TXT --data x --out y",
            3,
            "SPEAKERS.TXT: not a checkpoint",
        ),
        ("pretrain --resume --from x --out runs", 2, "leave out --from"),
        ("pretrain --resume --out runs", 3, "there is no folder runs: expected that of a run"),
        ("pretrain --resume --seed 1 --out runs", 2, "leave out --seed"),
        ("pretrain --no-such-option", 2, "No such option"),
        ("downstream voxceleb1 --data x --out runs", 2, "missing option --upstream"),
        ("downstream voxceleb1 --layers all --data x --upstream y --out z", 2, "layers = 'all'"),
        ("evaluate nowhere", 3, "there is no folder nowhere: expected that of a run"),
        ("evaluate", 2, "Missing argument"),
        ("demo --out {corpora}", 6, "is not empty and not an older demo"),
        ("wrong", 2, "No such command 'wrong'"),
    ],
)
def test_every_mistake_ends_in_its_exit_code_and_one_clear_line(
    corpora: Path,
    capsys: pytest.CaptureFixture[str],
    command: str,
    exit_code: int,
    message: str,
) -> None:
    places = {
        "corpora": str(corpora),
        "libri": str(corpora / "LibriSpeech"),
        "vox": str(corpora / "VoxCeleb1"),
    }
    assert main(command.format(**places).split()) == exit_code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("aalbert: ")
    assert len(captured.err.splitlines()) == 1
    assert message.format(**places) in captured.err


def test_a_folder_in_use_ends_with_its_code(
    corpora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "thesis.txt").touch()
    assert main(["prepare", "librispeech", str(corpora / "LibriSpeech"), "--out", "data"]) == 6
    assert "data is not empty: choose another --out" in capsys.readouterr().err


def test_more_skipped_inputs_than_allowed_end_with_their_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_librispeech(
        tmp_path / "corpus", speakers=2, utterances_per_speaker=2, seed=5, seconds=(1.0, 1.5)
    )
    files = sorted((tmp_path / "corpus").rglob("*.flac"))
    for path in files[:2]:
        path.write_bytes(b"<html>404</html>")
    arguments = ["prepare", "librispeech", "corpus", "--workers", "1"]
    assert main([*arguments, "--out", "strict"]) == 5
    assert "2 of 4 inputs were skipped" in capsys.readouterr().err.splitlines()[-1]
    assert main([*arguments, "--out", "lenient", "--max-skipped", "0.5"]) == 0


def test_damaged_data_ends_with_its_code(
    corpora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(f"prepare librispeech {corpora}/LibriSpeech --out data --workers 1")
    shard = next((tmp_path / "data" / "train-clean-100").glob("*.tar"))
    shard.write_bytes(shard.read_bytes()[:-700])
    capsys.readouterr()
    assert main(["pretrain", "--preset", "tiny", "--data", "data", "--out", "runs"]) == 4
    assert f"{shard.name} has" in capsys.readouterr().err


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOSPC])
def test_a_folder_that_cannot_be_written_ends_with_its_code(
    corpora: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    number: int,
) -> None:
    def refuse(path: Path, *_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert main(["prepare", "librispeech", str(corpora / "LibriSpeech"), "--out", "data"]) == 7
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"aalbert: {os.strerror(number)}: data")


@pytest.mark.parametrize("place", ["file/deeper", "n" * 300])
def test_a_path_that_cannot_be_a_folder_is_visible_with_the_way_out(
    corpora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    (tmp_path / "file").touch()
    assert main(["prepare", "librispeech", str(corpora / "LibriSpeech"), "--out", place]) == 7
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert place in lines[0]
    assert lines[0].endswith(": choose another path")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_command_at_once_with_one_line(number: signal.Signals) -> None:
    """Also in a callback of another library, where an exception would be swallowed."""
    script = (
        "import ctypes, os, sys\n"
        "from aalbert.cli import main\n"
        "from aalbert.common import progress\n"
        "from aalbert.shards.views import info\n"
        "callback = ctypes.CFUNCTYPE(None)(lambda: os.kill(os.getpid(), int(sys.argv[1])))\n"
        "def describe(_):\n"
        "    with progress.progress_bar('look', total=1, unit='file'):\n"
        "        callback()\n"
        "info.describe = describe\n"
        "sys.exit(main(['shards', 'info', 'data']))\n"
    )
    command = [sys.executable, "-c", script, str(int(number))]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.stderr == f"aalbert: interrupted by {number.name}\n"
    assert ended.returncode == 128 + number


def test_an_error_escapes_unprintable_characters_and_keeps_other_scripts() -> None:
    assert visible("a\nb\r\x1b[31m \u202e \udce9 é 日本 שלום") == (
        r"a\nb\r\x1b[31m \u202e \udce9 é 日本 שלום"
    )


def test_a_full_disk_is_named_with_the_space_that_is_left(tmp_path: Path) -> None:
    error = OSError(28, "No space left on device", str(tmp_path / "data" / "000000.tar"))
    message = storage_message(error)
    assert message.startswith(f"No space left on device: {tmp_path}/data/000000.tar (")
    assert message.endswith("MiB free there)")


@pytest.mark.parametrize(
    ("number", "way_out"),
    [
        (errno.EIO, "run it again when it works"),
        (
            errno.ENOENT,
            "it has gone, or cannot be made: put it back, or choose another path",
        ),
        (errno.ESTALE, "run it again"),
        (errno.EFBIG, "raise 'ulimit -f', or choose another file system"),
        (errno.ENXIO, "run it again when it works"),
        (errno.ECONNRESET, "run it again when it does"),
        (errno.EBUSY, "another program uses it: end that, or choose another path"),
        (errno.EINVAL, "choose a folder on another one"),
        (errno.ENOMEM, "has no memory left: end other programs"),
        (errno.EMLINK, "its folder can hold no more: choose another one"),
        (errno.EMFILE, "raise its limit with 'ulimit -n'"),
    ],
)
def test_a_fault_of_the_machine_is_visible_with_the_way_out(
    capsys: pytest.CaptureFixture[str], number: int, way_out: str
) -> None:
    def fail() -> None:
        raise OSError(number, os.strerror(number), "data/manifest.json")

    assert exit_code_of(fail) == 7
    printed = capsys.readouterr().err.strip()
    assert printed.startswith(f"aalbert: {os.strerror(number)}: data/manifest.json: ")
    assert printed.endswith(way_out)


def test_an_unexpected_system_error_keeps_its_traceback() -> None:
    def fail() -> None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    with pytest.raises(OSError, match="Bad file descriptor"):
        exit_code_of(fail)


def test_a_folder_that_may_not_be_looked_into_is_named_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "exists", refuse)
    assert exit_code_of(lambda: Path("secret/manifest.json").exists()) == 7
    assert capsys.readouterr().err == "aalbert: Permission denied: secret/manifest.json\n"


def test_help_takes_little_longer_than_importing_typer() -> None:
    def seconds(*arguments: str) -> float:
        started = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
        return time.perf_counter() - started

    # Other work on the machine slows single runs down, so that the fastest of each count.
    # By the processor, the help takes 1.5 to 1.8 times as long as typer; with numpy it would be
    # three times.
    helps, imports = [], []
    for _ in range(20):
        helps.append(seconds("-m", "aalbert", "--help"))
        imports.append(seconds("-c", "import typer"))
        if min(helps) < 2.2 * min(imports):
            return
    pytest.fail(f"the fastest help took {min(helps):.2f} s, importing typer {min(imports):.2f} s")


def test_a_warning_of_this_package_is_visible_and_others_keep_their_place() -> None:
    place = ("module.py", 7)
    own = format_warning(AalbertWarning("two\nlines"), AalbertWarning, *place)
    assert own == "warning: two\\nlines\n"
    assert format_warning("old", DeprecationWarning, *place).startswith("module.py:7: Deprecation")


def test_a_name_that_is_no_text_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / os.fsdecode(b"bad\xff")
    place.mkdir()
    assert main(["shards", "info", str(place)]) == 2
    assert capsys.readouterr().err.strip() == (
        rf"aalbert: {tmp_path}/bad\udcff: it is not UTF-8 text: rename what it names"
    )
    with pytest.raises(ConfigError, match=r"not UTF-8 text: rename it"):
        lasting_place(place)


def test_results_hold_no_codes_for_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    show({"name": "\x9b\u202e"}, as_json=True, text="")
    assert capsys.readouterr().out == '{"name": "\\u009b\\u202e"}\n'
    show({}, as_json=False, text="a\x1b[31m\nb")
    assert capsys.readouterr().out == "a\\x1b[31m\nb\n"


def test_a_terminal_that_lacks_letters_gets_escapes(prepared: Path, tmp_path: Path) -> None:
    place = tmp_path / "שלום"
    place.symlink_to(prepared)
    printed = subprocess.run(
        [sys.executable, "-m", "aalbert", "shards", "info", str(place)],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        check=True,
        stdout=subprocess.PIPE,
    ).stdout
    assert rf"{tmp_path}/\u05e9\u05dc\u05d5\u05dd: librispeech".encode() in printed


def test_a_lack_of_memory_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise MemoryError

    assert exit_code_of(fail) == 7
    assert capsys.readouterr().err == (
        "aalbert: Cannot allocate memory: this machine has no memory left: end other programs, "
        "or raise the limit of 'ulimit -v'\n"
    )
