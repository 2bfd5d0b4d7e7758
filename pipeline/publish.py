"""`push`: a model is prepared in a folder, checked, and sent to the Hugging Face hub."""

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from aalbert.common.files import atomic_write, require_empty, write_text
from aalbert.common.hub import (
    LIBRARY,
    LOG_IN,
    HubPlace,
    explaining_faults,
    find_hub_place,
    require_client,
    shown,
)
from aalbert.common.redaction import redact_url
from aalbert.common.store import is_url
from aalbert.common.text import human_bytes
from aalbert.common.text_files import read_text
from aalbert.errors import InputError, require
from aalbert.models.any_upstream import require_own
from aalbert.models.cards.examples import EXAMPLE_LINES, MODEL, TRANSFORMERS_CLASS
from aalbert.models.cards.facts import public_facts
from aalbert.models.checkpoint import (
    CARD_NAME,
    FILE_NAMES,
    WEIGHTS_NAME,
    find_checkpoint,
    read_config,
)
from aalbert.models.downstream import DownstreamModel
from aalbert.models.pretrained import PretrainedModel
from aalbert.models.saved_model import load_model
from aalbert.pipeline.private_text import require_nothing_private

if TYPE_CHECKING:
    from huggingface_hub import ModelCard

# The hub's identifiers of licences, such as cc-by-4.0; it knows which ones there are.
LICENCE_PATTERN = re.compile(r"[a-z0-9][a-z0-9.-]*")
LICENCE_WAY_OUT = (
    "give one of the hub's identifiers with --licence, such as cc-by-4.0, apache-2.0 or mit, in "
    "accordance with the licence of the corpus"
)
# What a card tells of a licence that has no identifier.
OTHER_LICENCE = ("license_name", "license_link")


@dataclass(frozen=True, kw_only=True)
class Publication:
    """What goes to the hub, and how: `licence` is that of the weights, empty to keep the card's."""

    target: HubPlace
    licence: str = ""
    private: bool = False
    message: str

    def __post_init__(self) -> None:
        """Refuse what the hub does not take for a licence, or for a message."""
        require(bool(self.message.strip()), "--message is empty: say in it what is sent")
        if self.licence:
            require_licence("--licence", self.licence)


def require_licence(name: str, licence: object) -> None:
    """Raise `ConfigError` for what cannot be one of the hub's identifiers."""
    require(
        isinstance(licence, str) and LICENCE_PATTERN.fullmatch(licence) is not None,
        f"{name} '{licence}': {LICENCE_WAY_OUT}",
    )


def push(place: str, publication: Publication) -> dict[str, Any]:
    """Send a model to the hub in one commit; return what was sent.

    Raises `ConfigError` when it has no licence, `IntegrityError` when it is damaged, `InputError`
    when its texts would show what is not for others, and the errors of `send`.
    """
    with prepared(place, publication) as folder:
        document = summary(folder, publication)
        sent = send(
            publication.target,
            folder,
            list(document["files"]),
            private=publication.private,
            message=publication.message,
        )
        return {**document, **sent}


def rehearse(place: str, publication: Publication, out: Path | None) -> dict[str, Any]:
    """Prepare and check all that `push` would send, write it to `out` if given; send nothing."""
    if out is not None:
        require_empty(out)
    with prepared(place, publication) as folder:
        if out is not None:
            copy_files(folder, out)
        return {**summary(folder, publication), "out": str(out) if out else None}


def copy_files(folder: Path, out: Path) -> None:
    """Copy the files of a saved model, in the order in which they are written."""
    for name in FILE_NAMES:
        with atomic_write(out / name) as stream:
            stream.write((folder / name).read_bytes())


@contextmanager
def prepared(place: str, publication: Publication) -> Iterator[Path]:
    """Yield a folder with a model as it goes to the hub: exported anew, with its card, checked.

    The card is the one that lies beside the model, which may have scores, and its user's own words.
    """
    require_client(publication.target)
    require_here(place)
    source = find_checkpoint(place)
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = load_model(source, read_config(source)["kind"])
        require_own(model.upstream, source)
        forget_places(model)
        model.save_pretrained(folder)
        beside = source / CARD_NAME
        card = read_text(beside if beside.is_file() else folder / CARD_NAME)
        write_text(folder / CARD_NAME, finished_card(card, publication))
        check(folder, source)
        yield folder


def require_here(place: str) -> None:
    """Raise `InputError` for a model that is not on this machine: its card is not beside a copy."""
    hub_place = find_hub_place(place)
    if hub_place is None and not is_url(place):
        return
    subject = hub_place.subject if hub_place else redact_url(place)
    raise InputError(
        f"{subject} is not on this machine: a model is sent with the card that lies beside it, so "
        "copy its folder first, from the hub with 'hf download USER/MODEL --local-dir FOLDER'"
    )


def forget_places(model: DownstreamModel | PretrainedModel) -> None:
    """Take the folders of this machine out of the facts that are saved with a model."""
    config = model.upstream.config
    model.upstream.config = replace(config, training=public_facts(dict(config.training)))
    if isinstance(model, DownstreamModel):
        model.training_facts = public_facts(model.training_facts)


def finished_card(text: str, publication: Publication) -> str:
    """Return a card with its licence in the header, and the model's name on the hub in examples."""
    card = read_card(text)
    licence = card.data.get("license")
    if publication.licence and publication.licence != licence:
        licence = publication.licence
        for name in OTHER_LICENCE:
            card.data.pop(name, None)
    require(licence is not None, f"the card of the model names no licence: {LICENCE_WAY_OUT}")
    require_licence(f"license in {CARD_NAME} of the model is", licence)
    card.data["license"] = licence
    lines = card.text.split("\n")
    card.text = "\n".join(
        example_on_hub(line, publication.target) if line in EXAMPLE_LINES else line
        for line in lines
    )
    return str(card)


def example_on_hub(line: str, target: HubPlace) -> str:
    """Return a line of an example with the name of the model on the hub."""
    if not target.revision:
        return line.replace(MODEL, target.repository)
    if TRANSFORMERS_CLASS in line:
        # There a revision is no part of the name.
        return line.replace(f'"{MODEL}"', f'"{target.repository}", revision="{target.revision}"')
    return line.replace(MODEL, f"{target.repository}@{target.revision}")


def read_card(text: str) -> "ModelCard":
    """Return a card as the hub's client reads it; `InputError` when its header is not valid."""
    from huggingface_hub import ModelCard
    from yaml import YAMLError

    try:
        return ModelCard(text)
    except (ValueError, TypeError, YAMLError) as error:
        raise InputError(
            f"{CARD_NAME} of the model has a header that the hub does not read: {shown(error)}; "
            "put it right, or export the model again"
        ) from error


def check(folder: Path, source: Path) -> None:
    """Check a prepared folder: the model loads, and no text shows what is not for others.

    `source` is where the model comes from. Raises `InputError`, or `IntegrityError` for a model
    that does not load.
    """
    load_model(folder, read_config(folder)["kind"])
    for name in FILE_NAMES:
        if name != WEIGHTS_NAME:
            require_nothing_private(name, read_text(folder / name), source)


def send(
    target: HubPlace, folder: Path, files: Sequence[str], *, private: bool, message: str
) -> dict[str, str]:
    """Send files of a folder to the hub in one commit; return its `commit` and `url`.

    The model, and the branch that is its revision, are made if they are new. Raises `InputError`
    without a token, or when the hub refuses it, `StorageError` when the hub does not answer.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, get_token

    if get_token() is None:
        raise InputError(f"{target.subject}: to send a model to the hub, {LOG_IN}")
    api = HfApi(library_name=LIBRARY)
    with explaining_faults(target), without_bars():
        require_valid_card(read_card(read_text(folder / CARD_NAME)))
        api.create_repo(target.repository, private=private or None, exist_ok=True)
        if private and not api.model_info(target.repository).private:
            raise InputError(
                f"{target.subject} exists and is public: leave out --private, or make it private "
                "on its page on the hub first"
            )
        if target.revision:
            api.create_branch(target.repository, branch=target.revision, exist_ok=True)
        commit = api.create_commit(
            target.repository,
            [CommitOperationAdd(name, folder / name) for name in files],
            commit_message=message,
            revision=target.revision,
        )
    return {"commit": commit.oid, "url": str(commit.commit_url)}


def require_valid_card(card: "ModelCard") -> None:
    """Raise `InputError` when the hub does not take the header of a card.

    It is asked before a model is made there, which would stay empty.
    """
    try:
        card.validate()
    except ValueError as error:
        raise InputError(
            f"the hub does not take the header of {CARD_NAME}: {shown(error)}; put it right, for a "
            f"licence {LICENCE_WAY_OUT}"
        ) from error


@contextmanager
def without_bars() -> Iterator[None]:
    """Have the hub's client show no progress in the block, unless on a terminal."""
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    if sys.stderr.isatty() or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


def summary(folder: Path, publication: Publication) -> dict[str, Any]:
    """Return what goes to the hub as a JSON document."""
    card = read_card(read_text(folder / CARD_NAME))
    return {
        "target": publication.target.url,
        "licence": card.data["license"],
        "private": publication.private,
        "files": {name: (folder / name).stat().st_size for name in FILE_NAMES},
    }


def summary_text(document: dict[str, Any]) -> str:
    """Return for people what went, or would go, to the hub."""
    lines = [f"{name:<20}{human_bytes(size)}" for name, size in document["files"].items()]
    visibility = "private" if document["private"] else "public"
    head = f"{document['target']}: licence {document['licence']}, {visibility} if it is new"
    if "commit" in document:
        last = f"sent: {document['url']}"
    else:
        last = f"not sent: prepared in {document['out']}" if document["out"] else "not sent"
    return "\n".join([head, *lines, last])
