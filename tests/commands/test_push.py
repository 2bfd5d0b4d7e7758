"""`aalbert push` to a hub on this machine: what arrives is what was checked, and opens."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard

from aalbert.cli import main
from aalbert.models.checkpoint import FILE_NAMES
from aalbert.models.downstream import DownstreamModel
from aalbert.models.pretrained import PretrainedModel
from tests.hub_server import TOKEN, FakeHub


@pytest.fixture
def token(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)


@pytest.fixture
def model(model_folder: Path, tmp_path: Path) -> Path:
    """A copy of the saved model, to be changed."""
    return Path(shutil.copytree(model_folder, tmp_path / "saved"))


def push(*arguments: object, code: int = 0) -> None:
    assert main(["push", *map(str, arguments)]) == code


@pytest.mark.usefixtures("token")
def test_a_model_arrives_in_one_commit_and_opens(
    hub: FakeHub, model_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    message = ["--message", "The first one"]
    push(model_folder, "user/fresh", "--licence", "cc-by-4.0", *message, "--json")
    captured = capfd.readouterr()
    assert captured.err == "" and TOKEN not in captured.out
    document = json.loads(captured.out)
    repository = hub.repositories["user/fresh"]
    [(commit, files)] = repository.commits.items()
    assert document["url"] == f"{hub.url}/user/fresh/commit/{commit}"
    assert (document["commit"], hub.messages) == (commit, ["The first one"])
    assert document["files"] == {name: len(files[name]) for name in FILE_NAMES}
    assert set(files) == set(FILE_NAMES) and not repository.private
    card: Any = ModelCard(files["README.md"].decode())
    assert card.data.license == "cc-by-4.0" and card.data.pipeline_tag == "feature-extraction"
    assert 'aalbert.from_pretrained("user/fresh")' in card.text
    opened = PretrainedModel.from_pretrained(f"hf://user/fresh@{commit}").state_dict()
    for name, expected in PretrainedModel.from_pretrained(model_folder).state_dict().items():
        assert torch.equal(opened[name], expected)


@pytest.mark.usefixtures("token", "evaluations")
def test_an_evaluated_run_arrives_with_its_scores_in_a_private_place_and_a_branch(
    hub: FakeHub, speaker_run: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    where = ["hf://user/speaker", "--private", "--revision", "next"]
    push(speaker_run, *where, "--licence", "mit")
    text = capfd.readouterr().out
    assert "hf://user/speaker@next: licence mit, private if it is new" in text
    repository = hub.repositories["user/speaker"]
    card: Any = ModelCard(repository.commits[repository.references["next"]]["README.md"].decode())
    [result] = card.data.eval_results
    measured = json.loads((speaker_run / "metrics.json").read_text())["metric"]
    assert repository.private and result.metric_value == measured["value"]
    assert "aalbert predict user/speaker@next speech.wav" in card.text
    DownstreamModel.from_pretrained("hf://user/speaker@next")


def test_the_folders_of_this_machine_do_not_go_along(
    hub: FakeHub, model_folder: Path, tmp_path: Path
) -> None:
    saved = PretrainedModel.from_pretrained(model_folder)
    others = {"kind": "pretrained", "weights_xxh3": "34", "training": {"seed": 1}}
    places = {"model": "/home/someone/runs/first/export", "models_before": {"12": "/runs/zero@7"}}
    facts = {"continued_from": {**others, **places}}
    saved.upstream.config = replace(saved.config, training=facts)
    saved.save_pretrained(tmp_path / "model")
    push(tmp_path / "model", "user/model", "--licence", "mit", "--dry-run", "--out", tmp_path / "o")
    sent = PretrainedModel.from_pretrained(tmp_path / "o").config.training
    named = {"model": "first", "models_before": {"12": "zero@7"}}
    assert sent == {"continued_from": {**others, **named}}
    assert "- continued_from.model: first\n" in (tmp_path / "o" / "README.md").read_text()


def test_a_rehearsal_sends_nothing(
    hub: FakeHub, pretrained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = [f"{pretrained}@12", "user/model", "--licence", "mit", "--dry-run"]
    push(*arguments, "--out", tmp_path / "out")
    assert f"not sent: prepared in {tmp_path / 'out'}" in capfd.readouterr().out
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(FILE_NAMES)
    PretrainedModel.from_pretrained(tmp_path / "out")
    push(*arguments)
    assert capfd.readouterr().out.endswith("\nnot sent\n")
    assert hub.requests == []


@pytest.mark.usefixtures("token")
def test_a_licence_in_the_card_and_what_its_user_wrote_there_are_kept(
    hub: FakeHub, model: Path, model_folder: Path
) -> None:
    card = model / "README.md"
    own = card.read_text().replace("---\n", "---\nlicense: apache-2.0\n", 1)
    words = (
        "\nSee https://example.org/paper?v=abc&keyword=x#results.\nThe MODEL of 1/2 a mile, and/or "
        "/nowhere/else.\n"
    )
    card.write_text(own + words)
    push(model, "user/model")
    [files] = hub.repositories["user/model"].commits.values()
    sent: Any = ModelCard(files["README.md"].decode())
    assert sent.data.license == "apache-2.0" and sent.text.endswith(words)


def test_a_new_licence_takes_the_place_of_all_that_an_old_one_said(
    hub: FakeHub, model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    card = model / "README.md"
    text = card.read_text()
    old = "license: other\nlicense_name: own\nlicense_link: https://example.org/own"
    card.write_text(text.replace("---\n", f"---\n{old}\n", 1))
    push(model, "user/model", "--dry-run", "--out", tmp_path / "kept")
    assert old in (tmp_path / "kept" / "README.md").read_text()
    push(model, "user/model", "--licence", "mit", "--dry-run", "--out", tmp_path / "new")
    header: Any = ModelCard((tmp_path / "new" / "README.md").read_text()).data
    assert header.license == "mit" and not {"license_name", "license_link"} & set(header.to_dict())
    for licence in ("true", "[mit]", "My own", "''"):
        card.write_text(text.replace("---\n", f"---\nlicense: {licence}\n", 1))
        capfd.readouterr()
        push(model, "user/model", "--dry-run", code=2)
        assert "license in README.md of the model is '" in capfd.readouterr().err


def test_the_examples_open_the_branch_that_is_sent(
    hub: FakeHub, model: Path, tmp_path: Path
) -> None:
    arguments = [model, "user/model", "--licence", "mit", "--revision", "v2", "--dry-run"]
    push(*arguments, "--out", tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text()
    assert 'aalbert.from_pretrained("user/model@v2")' in text
    assert 'AutoModel.from_pretrained("user/model", revision="v2", trust_remote_code=True)' in text


def test_a_model_that_is_not_here_is_to_be_copied_first_with_its_card(
    hub: FakeHub, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for place, subject in [
        ("hf://user/model", "hf://user/model"),
        ("user/model", "hf://user/model (there is no folder user/model)"),
        ("s3://key:swordfish@bucket/model", "s3://key:***@bucket/model"),
    ]:
        push(place, "user/other", "--licence", "mit", code=3)
        expected = f"{subject} is not on this machine: a model is sent with the card that lies be"
        assert expected in capfd.readouterr().err
    assert hub.requests == []


@pytest.mark.usefixtures("token")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("In /home/someone/runs.", "README.md of the model has /home/someone/runs., which is not"),
        ("At s3://key:swordfish@host/a", "has s3://key:***@host/a, which is not for others"),
        ("At https://host/a?sign=swordfish", "has https://host/a?sign=***, which is not for"),
        ("At s3://key:sword#swordfish@host", "has s3://key:***@host, which is not for others"),
        ("At https://host/a#access_token=swordfish", "has https://host/a#access_token=***, which"),
        ("At https://h/?v=1&to=https://me:swordfish@h", "has https://me:***@h, which is not for"),
        (r"In https\://me:swordfish@h", "has https://me:***@h, which is not for others"),
        ("In C:\\Users\\me.", "has C:\\Users\\me., which is not for others"),
        ("In (/usr/lib/x)", "README.md of the model has /usr/lib/x, which is not for others"),
        ("In file:///x", "README.md of the model has file:///x, which is not for others"),
        ("With hf_" + "a" * 30, "README.md of the model has a token of the hub, which is not for"),
        ("In {model}/more", "README.md of the model has {model}, which is not for others"),
    ],
)
def test_what_is_not_for_others_is_not_sent(
    hub: FakeHub, model: Path, capfd: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    card = model / "README.md"
    card.write_text(f"{card.read_text()}\n{text.format(model=model)}\n")
    push(model, "user/model", "--licence", "mit", code=3)
    [line] = capfd.readouterr().err.splitlines()
    assert message.format(model=model) in line and "swordfish" not in line
    assert hub.repositories == {}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("{model} user/model", 2, "the card of the model names no licence: give one of the hub's"),
        ("{model} user/model --licence CC-BY", 2, "--licence 'CC-BY': give one of the hub's ident"),
        ("{model} model --licence mit", 2, "'model' is no name for a model on the hub: write USER"),
        ("{model} user/model@v1 --licence mit", 2, "write USER/NAME, and a branch with --revision"),
        ("{model} user/model --licence mit", 3, "to send a model to the hub, run 'hf auth login'"),
        ("{model} user/model --licence mit --message=", 2, "--message is empty: say in it what is"),
        ("{model} user/model --out {model}", 2, "--out is for what --dry-run prepares"),
        ("{model} user/model --licence mit --dry-run --out {model}", 6, "is not empty: choose ano"),
        ("{model}/none user/model --licence mit", 3, "there is no folder"),
    ],
)
def test_mistakes_are_told_in_one_line(
    hub: FakeHub,
    model: Path,
    capfd: pytest.CaptureFixture[str],
    arguments: str,
    code: int,
    message: str,
) -> None:
    push(*arguments.format(model=model).split(), code=code)
    [line] = capfd.readouterr().err.splitlines()
    assert message in line
    assert hub.repositories == {}


@pytest.mark.usefixtures("token")
def test_what_the_hub_does_not_take_is_told_before_anything_is_made(
    hub: FakeHub, model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    hub.refused_card = '"license" must be one of [mit]'
    push(model, "user/model", "--licence", "myown", code=3)
    [line] = capfd.readouterr().err.splitlines()
    assert "the hub does not take the header of README.md: " in line and "must be one of" in line
    assert hub.repositories == {}


@pytest.mark.usefixtures("token")
def test_a_broken_header_a_refused_token_and_a_public_model_are_told(
    hub: FakeHub, model: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    push(model, "user/model", "--licence", "mit")
    push(model, "user/model", "--licence", "mit", "--private", code=3)
    assert "hf://user/model exists and is public: leave out --private" in capfd.readouterr().err
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    push(model, "user/model", "--licence", "mit", code=3)
    [line] = capfd.readouterr().err.splitlines()
    assert "the hub refuses with 401, Invalid username or password: run 'hf auth login'" in line
    (model / "README.md").write_text("---\nmodel-index: [3]\n---\n")
    push(model, "user/model", "--licence", "mit", code=3)
    assert "README.md of the model has a header that the hub does not" in capfd.readouterr().err
    (model / "README.md").write_bytes(b"\xe9\xff")
    push(model, "user/model", "--licence", "mit", code=3)
    assert "README.md" in capfd.readouterr().err
    hub.stop()
    (model / "README.md").unlink()
    push(model, "user/model", "--licence", "mit", code=7)
    assert "hf://user/model: the hub does not answer as it should" in capfd.readouterr().err
