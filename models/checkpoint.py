"""Checkpoints on disk in the style of Hugging Face: safetensors, JSON, a card, and modules.

The modules, copies of `models/standalone/`, let `transformers` open the folder without this
package, which never runs what lies there.

`config.json` is written last and holds the hash of the weights, so a folder that has
it is complete, and a changed byte of the weights is detected. The folder may be in a store
behind a URL; files that are read from there are cached.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import xxhash
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from aalbert.common.files import atomic_write, cache_folder, file_digest, write_json, write_text
from aalbert.common.hub import (
    CHECKPOINT_SUFFIXES,
    HubPlace,
    fetch,
    find_hub_place,
    is_name,
    pin,
    place_of_name,
)
from aalbert.common.json_files import as_record, naming_damage, parse_record, read_bounded
from aalbert.common.redaction import redact_url
from aalbert.common.store import Store, is_url
from aalbert.common.text import shortened
from aalbert.errors import ConfigError, InputError, IntegrityError, require
from aalbert.models.encoder_names import refuse_wave_encoder
from aalbert.models.training_states import (
    STATES_FOLDER,
    find_state,
    is_intact,
    read_state,
)

WEIGHTS_NAME = "model.safetensors"
CONFIG_NAME = "config.json"
CARD_NAME = "README.md"
MODULES_FOLDER = Path(__file__).parent / "standalone"
MODULE_NAMES = (
    "features_aalbert.py",
    "front_end_aalbert.py",
    "encoder_aalbert.py",
    "modeling_aalbert.py",
)
# The files in the order in which they are written.
FILE_NAMES = (WEIGHTS_NAME, *MODULE_NAMES, CARD_NAME, CONFIG_NAME)
FORMAT_NAME = "aalbert-model"
FORMAT_VERSION = 1
# A safetensors file begins with the size of its header, which has some 100 bytes for a tensor.
HEADER_SIZE_BYTES, LARGEST_HEADER_BYTES = 8, 4 * 2**20
# The folder of the finished model in a run folder.
EXPORT_FOLDER = "export"
MODEL_TYPE = "aalbert"
# What `config.json` tells `transformers`: which classes of the modules open the folder.
TRANSFORMERS_ENTRIES = {
    "model_type": MODEL_TYPE,
    "auto_map": {
        "AutoConfig": "modeling_aalbert.AalbertConfig",
        "AutoModel": "modeling_aalbert.AalbertModel",
    },
}
# What `config.json` has besides the description of the model.
HEADER = ("format", "format_version", *TRANSFORMERS_ENTRIES, "kind", "weights_xxh3")
# Where models of every kind are from.
MADE_BY = {
    "pretrained": "a run of 'aalbert pretrain', or a model that 'aalbert convert' wrote",
    "downstream": "a run of 'aalbert downstream'",
}
# Of a file that is no checkpoint of this package.
CONVERSION = "'aalbert convert' makes a model of a checkpoint of another system"
# Of a configuration that this version cannot read.
WAY_OUT = "copy the checkpoint again, or use the version that saved it"
Saved = TypeVar("Saved")


def save_checkpoint(
    place: Path | str, module: nn.Module, document: Mapping[str, Any], card: str
) -> None:
    """Write a module's state, the configuration to rebuild it, and its model card.

    `place` is a folder or a URL, but not one of the hub, to which `aalbert push` sends. Raises
    `StorageError` when the store cannot be written.
    """
    if not is_url(place):
        write_checkpoint(Path(place), module, document, card)
        return
    require(
        find_hub_place(place) is None,
        f"{place} is on the hub: save the model in a folder, and send that with 'aalbert push'",
    )
    with TemporaryDirectory() as folder:
        write_checkpoint(Path(folder), module, document, card)
        for name in files_of(document):
            Store(str(place).rstrip("/")).put(Path(folder) / name, name)


def write_checkpoint(
    folder: Path, module: nn.Module, document: Mapping[str, Any], card: str
) -> None:
    """Write the files of a checkpoint into a local folder."""
    tensors = {name: tensor.contiguous() for name, tensor in module.state_dict().items()}
    write_files(folder, tensors, document, card)


def write_files(
    folder: Path, tensors: Mapping[str, Tensor], document: Mapping[str, Any], card: str
) -> None:
    """Write tensors, modules, card and, last, the configuration with the hash of the tensors.

    The modules cannot open a head without its upstream, and do not lie beside one.
    """
    entries = {"model_type": MODEL_TYPE} if is_head_alone(document) else TRANSFORMERS_ENTRIES
    with atomic_write(folder / WEIGHTS_NAME) as stream:
        stream.write(save(dict(tensors), {"format": "pt"}))
    for name in files_of(document):
        if name in MODULE_NAMES:
            write_text(folder / name, (MODULES_FOLDER / name).read_text("utf-8"))
    write_text(folder / CARD_NAME, card)
    header = {"format": FORMAT_NAME, "format_version": FORMAT_VERSION, **entries}
    digest = {"weights_xxh3": file_digest(folder / WEIGHTS_NAME)}
    write_json(folder / CONFIG_NAME, {**header, **document, **digest})


def files_of(document: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the files of a model that a configuration describes, in the order of writing."""
    left_out = MODULE_NAMES if is_head_alone(document) else ()
    return tuple(name for name in FILE_NAMES if name not in left_out)


def is_head_alone(document: Mapping[str, Any]) -> bool:
    """Return whether a configuration is of a head whose upstream is of another library."""
    return "untrained_seed" in document.get("upstream", {})


def load_checkpoint(
    place: Path | str, kind: str, saved: type[Saved]
) -> tuple[dict[str, Tensor], Saved]:
    """Read the tensors of a checkpoint of this kind, and its configuration as `saved`.

    `place` is the folder or URL of a checkpoint or of a run. Raises `InputError` when there is none
    of this kind, `IntegrityError` for damaged files, `StorageError` for a store without an answer.
    """
    folder = find_checkpoint(place)
    document = read_config(folder)
    if document["kind"] != kind:
        raise InputError(
            f"{folder} holds a '{document['kind']}' model, expected a '{kind}' one: name "
            f"{MADE_BY[kind]}"
        )
    weights = folder / WEIGHTS_NAME
    # Those of the hub are compared, and fetched again if need be, when they are found.
    if find_hub_place(place) is None and not has_intact_weights(folder, document):
        raise IntegrityError(
            f"{weights} is missing or is not what was written (checksum); "
            "copy the checkpoint again or export it again"
        )
    try:
        content = weights.read_bytes()
        header = int.from_bytes(content[:HEADER_SIZE_BYTES], "little")
        if header > LARGEST_HEADER_BYTES:
            raise ValueError(f"its header has {header:,} bytes, no model's has")
        tensors = load(content)
    # The last ones are of types and sizes that torch does not have.
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise IntegrityError(
            f"{weights} is not a safetensors file: {shortened(str(error))}"
        ) from error
    with reading_config(place):
        described = {name: value for name, value in document.items() if name not in HEADER}
        return tensors, as_record(saved, described)


def find_checkpoint(place: Path | str) -> Path:
    """Return the local folder of a checkpoint: itself, the export of a run, or a copy in the cache.

    Copies are made of a checkpoint at a URL or on the hub (see `find_hub_place`), and of the state
    that a run saved after a step, `RUN@STEP` or its file. Raises `InputError` when there is no
    checkpoint.
    """
    refuse_wave_encoder(place)
    if (hub_place := find_hub_place(place)) is not None:
        return fetch_from_hub(hub_place)
    if is_url(place):
        return fetch_checkpoint(Store(str(place).rstrip("/")))
    if (state := find_state(place)) is not None:
        return unpack_state(state)
    folder = Path(place)
    for candidate in (folder, folder / EXPORT_FOLDER):
        if (candidate / CONFIG_NAME).is_file():
            return candidate
    if not folder.exists():
        name = str(place)
        if name.endswith(CHECKPOINT_SUFFIXES):
            raise InputError(
                f"there is no file {folder}: expected a checkpoint, a run or a saved model"
            )
        also = f"; on the hub it is {place_of_name(name).url}" if is_name(name) else ""
        raise InputError(f"there is no folder {folder}: expected a run or a saved model{also}")
    if folder.is_file():
        raise InputError(f"{folder} is a file: {CONVERSION}")
    if (folder / STATES_FOLDER).is_dir():
        raise InputError(
            f"the run in {folder} is not finished: continue it with --resume, or take one of its "
            f"states, such as {folder}@1000 after 1,000 steps"
        )
    raise InputError(
        f"{folder} has no {CONFIG_NAME}, nor has {folder / EXPORT_FOLDER}: "
        "expected a run or a saved model"
    )


def unpack_state(path: Path) -> Path:
    """Return the folder in the cache with the model of a state of training, named by its hash.

    Only tensors and plain values are read. Raises `IntegrityError` when the file is damaged.
    """
    if not is_intact(path):
        raise IntegrityError(f"{path} is damaged (checksum): take another state of the run")
    folder = cache_folder() / "models" / file_digest(path)
    if (folder / CONFIG_NAME).is_file():
        return folder
    tensors, entry = read_state(path)
    if entry is None:
        raise InputError(f"{path} is not a state of pretraining: name the run instead")
    write_files(folder, tensors, entry["document"], entry["card"])
    return folder


def fetch_checkpoint(store: Store) -> Path:
    """Return the folder in the cache with the checkpoint in a store, or with that of a run there.

    It is named after the hash of `config.json`, which has the hash of the weights. So a checkpoint
    is fetched once, and again only when it has changed or the copy is damaged.
    """
    for prefix in ("", f"{EXPORT_FOLDER}/"):
        content = store.read(prefix + CONFIG_NAME)
        if content is None:
            continue
        folder = cache_folder() / "models" / xxhash.xxh3_128_hexdigest(content)
        folder.mkdir(parents=True, exist_ok=True)
        # Several processes may fetch at once.
        with TemporaryDirectory(dir=folder) as name:
            temporary = Path(name)
            (temporary / CONFIG_NAME).write_bytes(content)
            (temporary / CONFIG_NAME).replace(folder / CONFIG_NAME)
            if not has_intact_weights(folder, read_config(folder, store.name)):
                store.get(prefix + WEIGHTS_NAME, temporary / WEIGHTS_NAME)
                (temporary / WEIGHTS_NAME).replace(folder / WEIGHTS_NAME)
        return folder
    raise InputError(
        f"{store.name} has no {CONFIG_NAME}, nor has {store.name}/{EXPORT_FOLDER}: "
        "expected a run or a saved model"
    )


def fetch_from_hub(place: HubPlace) -> Path:
    """Return the folder in the cache of the hub's client with the checkpoint of a model there.

    The weights are fetched only for a configuration of ours; `InputError` for another. A damaged
    copy is fetched again; `IntegrityError` when the new one is no better.
    """
    require_no_file(place)
    place = pin(place, CONFIG_NAME)
    folder = fetch(place, CONFIG_NAME).parent
    try:
        document = read_config(folder, place.url)
    except IntegrityError:
        document = read_config(fetch(place, CONFIG_NAME, again=True).parent, place.url)
    fetch(place, WEIGHTS_NAME)
    if not has_intact_weights(folder, document):
        fetch(place, WEIGHTS_NAME, again=True)
    if not has_intact_weights(folder, document):
        raise IntegrityError(
            f"{place.url}: {WEIGHTS_NAME} is not what {CONFIG_NAME} says (checksum), also when "
            "fetched again: name an earlier revision, or ask those who sent it there"
        )
    return folder


def require_no_file(place: HubPlace) -> None:
    """Raise `InputError` for a file on the hub, which is a checkpoint of another system."""
    if place.file:
        raise InputError(f"{place.subject} is a file: {CONVERSION}")


def lasting_name(place: Path | str) -> Path | str:
    """Return a place that stays what it is: of a model on the hub with its commit."""
    hub_place = find_hub_place(place)
    return place if hub_place is None else pin(hub_place, hub_place.file or CONFIG_NAME).url


def has_intact_weights(folder: Path, document: Mapping[str, Any]) -> bool:
    """Return whether the weights in a folder have the hash that its configuration records."""
    weights = folder / WEIGHTS_NAME
    return weights.is_file() and file_digest(weights) == document["weights_xxh3"]


def read_config(folder: Path, origin: str = "") -> dict[str, Any]:
    """Read `config.json` and check its header; errors name its `origin` where it is a copy.

    Raises `InputError` when it is of another library, or `transformers` wrote it, `IntegrityError`
    when it is damaged, or of another version.
    """
    path = f"{origin or folder}/{CONFIG_NAME}"
    with naming_damage(path, WAY_OUT):
        content = read_bounded(folder / CONFIG_NAME)
    document = parse_record(dict[str, Any], content, path, WAY_OUT)
    if "format" not in document and document.get("model_type") == MODEL_TYPE:
        raise InputError(
            f"{origin or folder} was saved by transformers, without what aalbert needs: open it by "
            "transformers.AutoModel, or name the model that it was made of"
        )
    if (name := document.get("format")) != FORMAT_NAME:
        raise InputError(
            f"{origin or folder} is no model of aalbert: format in its {CONFIG_NAME} is "
            f"{name!r:.40}, not '{FORMAT_NAME}'"
        )
    if (version := document.get("format_version")) != FORMAT_VERSION:
        raise IntegrityError(
            f"{path} has format {name} version {version!r:.40}, this aalbert reads "
            f"{FORMAT_NAME} version {FORMAT_VERSION}: use the version that saved it"
        )
    with naming_damage(path, WAY_OUT):
        as_record(dict[str, str], {name: document.get(name) for name in ("kind", "weights_xxh3")})
    return document


@contextmanager
def reading_config(place: Path | str) -> Iterator[None]:
    """Raise `IntegrityError` for the errors that a foreign `config.json` causes in the block."""
    try:
        yield
    except (
        *(KeyError, TypeError, ValueError, AttributeError, OverflowError, RuntimeError),
        ConfigError,
    ) as error:
        raise IntegrityError(
            f"{CONFIG_NAME} of {redact_url(str(place))} does not describe a model of this aalbert "
            f"({shortened(str(error))}): use the version that saved it"
        ) from error
