"""Models of the Hugging Face hub, opened by name from a hub on this machine."""

import errno
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

import aalbert
from aalbert import hubconf
from aalbert.cli import main
from aalbert.common import hub as hub_room
from aalbert.common.hub import HubPlace, find_hub_place
from aalbert.errors import ConfigError, InputError, IntegrityError, StorageError
from aalbert.models.downstream import DownstreamModel
from aalbert.models.foreign.export import export_s3prl
from aalbert.models.pretrained import PretrainedModel
from aalbert.train.downstream.config import DownstreamConfig
from aalbert.train.downstream.run import resume_downstream, start_downstream
from aalbert.train.evaluation.evaluate import evaluate_runs
from aalbert.train.pretraining.start import open_start
from aalbert.train.run_folder import RunFolder
from aalbert.train.upstreams import lasting_upstream
from tests.hub_server import TOKEN, FakeHub, Repository
from tests.models.foreign.test_export import make_model

pytestmark = pytest.mark.usefixtures("in_an_empty_folder")


@pytest.fixture
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of the hub are no local paths."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def same_weights(place: str, folder: Path) -> bool:
    ours, theirs = (PretrainedModel.from_pretrained(each).state_dict() for each in (place, folder))
    return all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("user/model", HubPlace(repository="user/model", named="user/model")),
        (
            "user/model@v1.0",
            HubPlace(repository="user/model", revision="v1.0", named="user/model@v1.0"),
        ),
        ("hf://user/model", HubPlace(repository="user/model")),
        ("hf://models/user/model", HubPlace(repository="user/model")),
        ("HF://user/model", HubPlace(repository="user/model")),
        ("hf://user/model@a%2Bb%3F%25", HubPlace(repository="user/model", revision="a+b?%")),
        ("hf://user/model@fix%2Fit", HubPlace(repository="user/model", revision="fix/it")),
        (
            "hf://user/model@refs/pr/3/old/states.ckpt",
            HubPlace(repository="user/model", revision="refs/pr/3", file="old/states.ckpt"),
        ),
        ("model", None),
        ("/user/model", None),
        ("./user/model", None),
        ("user/model/folder", None),
        ("user/model.ckpt", None),
        ("s3://bucket/model", None),
    ],
)
def test_what_names_a_model_on_the_hub(text: str, expected: HubPlace | None) -> None:
    assert find_hub_place(text) == expected
    if expected is not None and not expected.named:
        assert find_hub_place(expected.url) == expected


@pytest.mark.parametrize(
    "url", ["hf://model", "hf://datasets/user/data", "hf://user/model@", "hf://"]
)
def test_other_urls_of_the_hub_are_refused_with_what_to_write(url: str) -> None:
    with pytest.raises(ConfigError, match=r"names no model of the hub: write hf://USER/MODEL"):
        find_hub_place(url)


@pytest.mark.parametrize("place", ["hf://user/model/../x.ckpt", "user/model@../../x"])
def test_no_name_leads_out_of_the_cache(place: str) -> None:
    with pytest.raises(ConfigError, match=r"a revision or a file has no '\.' or '\.\.' on its way"):
        find_hub_place(place)


def test_a_model_opens_by_its_name_and_only_what_it_needs_is_fetched(
    hub: FakeHub, hub_model: Repository, model_folder: Path
) -> None:
    assert same_weights("user/model", model_folder)
    fetched = {each.rpartition("/")[2] for each in hub.requests if "/resolve/" in each}
    assert fetched == {"config.json", "model.safetensors"}
    assert aalbert.from_pretrained("user/model").place == f"hf://user/model@{commit_of(hub_model)}"
    assert hubconf.aalbert("hf://user/model").layers == 2


def commit_of(repository: Repository, revision: str = "main") -> str:
    return repository.references[revision]


def test_a_revision_is_a_tag_a_branch_or_a_commit(
    hub: FakeHub, hub_model: Repository, model_folder: Path, tmp_path: Path
) -> None:
    first = commit_of(hub_model)
    changed = PretrainedModel.from_pretrained(model_folder)
    with torch.no_grad():
        changed.upstream.front_end.mean.add_(1)
    changed.save_pretrained(tmp_path / "changed")
    files = {path.name: path.read_bytes() for path in (tmp_path / "changed").iterdir()}
    hub_model.commit(files, "next")
    for revision in ("v1", "main", first):
        assert same_weights(f"user/model@{revision}", model_folder)
    assert same_weights("hf://user/model@next", tmp_path / "changed")
    hub_model.references["main"] = commit_of(hub_model, "next")
    assert same_weights("user/model", tmp_path / "changed")
    with pytest.raises(InputError, match=r"user/model@v2.*: the hub has no revision 'v2' of it"):
        PretrainedModel.from_pretrained("user/model@v2")


def test_a_model_that_was_fetched_opens_without_a_network(
    hub: FakeHub, hub_model: Repository, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    PretrainedModel.from_pretrained("user/model")
    hub.fails = True
    assert same_weights("user/model", model_folder)
    with pytest.raises(StorageError, match=r"^hf://user/other: the hub does not .*status 503"):
        PretrainedModel.from_pretrained("hf://user/other")
    hub.stop()
    assert same_weights("user/model", model_folder)
    assert same_weights(f"user/model@{commit_of(hub_model)}", model_folder)
    with pytest.raises(StorageError, match=r"^hf://user/other: the hub does not answer .* later"):
        PretrainedModel.from_pretrained("hf://user/other")
    unasked = "^there is no folder user/other here, and the Hugging Face hub cannot be asked for "
    with pytest.raises(InputError, match=f"{unasked}hf://user/other: the hub does not answer .*"):
        PretrainedModel.from_pretrained("user/other")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert same_weights("hf://user/model", model_folder)
    offline = r"config\.json is not in the cache, and HF_HUB_OFFLINE forbids to ask the hub: run t"
    with pytest.raises(InputError, match=f"{unasked}hf://user/other: {offline}"):
        PretrainedModel.from_pretrained("user/other")
    with pytest.raises(InputError, match=f"^hf://user/other: {offline}"):
        PretrainedModel.from_pretrained("hf://user/other")


def test_a_page_of_the_network_in_place_of_the_hub_is_no_model_without_files(hub: FakeHub) -> None:
    hub.is_portal = True
    with pytest.raises(StorageError, match=r"^hf://user/model: the hub does not answer as it shou"):
        PretrainedModel.from_pretrained("hf://user/model")


def test_a_local_folder_has_precedence_and_a_misspelt_path_is_none_of_the_hub(
    hub: FakeHub, model_folder: Path
) -> None:
    shutil.copytree(model_folder, "user/model")
    PretrainedModel.from_pretrained("user/model")
    with pytest.raises(InputError, match="saved model; on the hub it is hf://user/modle$"):
        PretrainedModel.from_pretrained("user/modle")
    with pytest.raises(
        InputError, match="no file user/a.pt: expected a checkpoint, a run or a saved model$"
    ):
        PretrainedModel.from_pretrained("user/a.pt")
    assert hub.requests == []


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (
            "user/nothing",
            r"^hf://user/nothing \(there is no folder user/nothing\): the hub has no such model "
            "that you may read: check the name; if it is private, run 'hf auth login', or set HF_",
        ),
        ("hf://user/private", r"^hf://user/private: the hub has no such model that you may read"),
        ("user/gated", r"is gated: ask for access on its page on the hub, then run 'hf auth login"),
        ("user/empty", r"has no config\.json: expected a model of aalbert, or with its file the"),
        (
            "hf://user/other",
            r"^hf://user/other@[0-9a-f]{40} is no model of aalbert: format in its config\.json is "
            "None, not 'aalbert-model'$",
        ),
        ("hf://user/empty/a.ckpt", r"a\.ckpt is a file: 'aalbert convert' makes a model of"),
        ("hf://user/mo..del", "is no name of a model on the hub: Cannot have -- or"),
    ],
)
def test_what_cannot_be_opened_is_one_line_with_the_way_out(
    hub: FakeHub, place: str, message: str
) -> None:
    for name, repository in {
        "private": Repository(private=True),
        "gated": Repository(gated=True),
        "empty": Repository(),
    }.items():
        repository.commit({"other.txt": b"1"})
        hub.repositories[f"user/{name}"] = repository
    other = Repository()
    other.commit({"config.json": b'{"model_type": "wav2vec2"}', "model.safetensors": b"1"})
    hub.repositories["user/other"] = other
    with pytest.raises((InputError, ConfigError), match=message) as caught:
        PretrainedModel.from_pretrained(place)
    assert "\n" not in str(caught.value)
    assert len([each for each in hub.requests if each.startswith("GET /user/")]) <= 1


def test_a_private_model_opens_with_the_token_which_no_message_shows(
    hub: FakeHub, hub_model: Repository, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub_model.private = True
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert same_weights("user/model", model_folder)
    monkeypatch.setenv("HF_TOKEN", "hf_swordfïsh")
    with pytest.raises(ConfigError, match="the token for the hub has characters that no") as caught:
        PretrainedModel.from_pretrained("user/model")
    assert "swordf" not in str(caught.value)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    error = OSError(f"Illegal header value b'Bearer {TOKEN}' of https://u:secret@host/\nx")
    assert hub_room.shown(error) == "Illegal header value b'Bearer ***' of https://u:***@host/ x"


def test_a_fault_of_large_files_is_one_line_and_one_of_the_system_stays_what_it_is() -> None:
    place = HubPlace(repository="user/model")
    # As the client's part for large files, which is no Python, says that it was refused.
    reason = "Network error: status client error (404)\n, domain: http://u:secret@host/token"
    with (
        pytest.raises(StorageError, match=r"as it should \(Network .*u:\*\*\*@host/token\): check"),
        hub_room.explaining_faults(place),
    ):
        raise RuntimeError(reason)
    with pytest.raises(OSError, match="no space"), hub_room.explaining_faults(place):
        raise OSError(errno.ENOSPC, "no space")


def test_without_the_extra_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_room, "find_spec", lambda name: None)
    needs = r".*hf://user/model.* package that is not installed: pip install 'aalbert\[hub\]'$"
    with pytest.raises(InputError, match=f"^there is no folder user/model here, and{needs}"):
        PretrainedModel.from_pretrained("user/model")
    with pytest.raises(ConfigError, match=needs):
        PretrainedModel.from_pretrained("hf://user/model")


def test_a_damaged_copy_is_fetched_again_and_a_damaged_model_is_named(
    hub: FakeHub, hub_model: Repository, model_folder: Path
) -> None:
    hub.damaged = {"model.safetensors": 1, "config.json": 1}
    assert same_weights("user/model", model_folder)
    [weights] = (Path(constants.HF_HUB_CACHE)).rglob("model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1])
    assert same_weights("user/model", model_folder)
    weights.write_bytes(weights.read_bytes()[:-1])
    hub.damaged = {"model.safetensors": 1}
    with pytest.raises(
        IntegrityError, match=r"@[0-9a-f]{40}: model\.safetensors is not what config\.json says"
    ):
        PretrainedModel.from_pretrained("user/model")


def test_a_checkpoint_of_another_system_opens_and_is_converted(
    hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export_s3prl(make_model(), tmp_path / "states.ckpt")
    content = (tmp_path / "states.ckpt").read_bytes()
    repository = Repository()
    repository.commit({"old/states.ckpt": content})
    hub.repositories["user/model"] = repository
    place = "hf://user/model/old/states.ckpt"
    opened, expected = map(aalbert.from_pretrained, (place, str(tmp_path / "states.ckpt")))
    wave = torch.randn(8_000) * 0.1
    assert torch.equal(opened.extract(wave), expected.extract(wave))
    assert opened.place == f"hf://user/model@{commit_of(repository)}/old/states.ckpt"
    assert main(["convert", place, "--out", str(tmp_path / "converted")]) == 0
    converted = PretrainedModel.from_pretrained(tmp_path / "converted").config.training
    assert converted["converted_from"] == f"{opened.place} (s3prl since 2022)"
    assert "base_model: user/model\n" in (tmp_path / "converted" / "README.md").read_text()
    assert main(["inspect", place]) == 0
    assert lasting_upstream(place) == opened.place
    assert main(["convert", "hf://user/model", "--out", str(tmp_path / "none")]) == 2
    assert "hf://user/model is no file: expected a checkpoint of" in capsys.readouterr().err


def test_a_run_records_the_commit_of_its_upstream_and_goes_on_with_it(
    hub: FakeHub, pretrained: Path, voxceleb1_data: Path, tmp_path: Path
) -> None:
    repository = Repository()
    files = {path.name: path.read_bytes() for path in (pretrained / "export").iterdir()}
    commit = repository.commit(files)
    hub.repositories["user/model"] = repository
    pinned = f"hf://user/model@{commit}"
    assert lasting_upstream("user/model") == open_start("user/model").origin.model == pinned
    run = RunFolder(tmp_path / "run")
    config = DownstreamConfig(epochs=1, prefetch=0)
    start_downstream(config, voxceleb1_data, "user/model", run.path)
    assert run.read_record()["upstream"] == pinned
    repository.commit({"config.json": b"{}"})
    shutil.rmtree(run.export)
    resume_downstream(run.path, "voxceleb1")
    DownstreamModel.from_pretrained(run.path)
    [evaluation] = evaluate_runs([run.path])
    assert evaluation.result.upstream_name == "user/model@" + commit[:7]


def test_nothing_is_saved_to_the_hub_but_by_push(model_folder: Path) -> None:
    with pytest.raises(ConfigError, match="send that with 'aalbert push'"):
        PretrainedModel.from_pretrained(model_folder).save_pretrained("hf://user/model")
