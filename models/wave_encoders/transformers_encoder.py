"""Speech encoders of the library `transformers`: wav2vec 2.0, HuBERT, WavLM, and others like them.

Only its own code runs, on weights in safetensors or read without unpickling objects.
"""

import pickle
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import Any

import torch
import xxhash
from safetensors import SafetensorError
from torch import Tensor, nn

from aalbert.common.files import file_digest
from aalbert.common.hub import fetch_if_there, pin
from aalbert.common.json_files import read_record
from aalbert.common.text import shortened
from aalbert.errors import InputError, require
from aalbert.models.checkpoint import CONFIG_NAME, MODEL_TYPE
from aalbert.models.encoder_names import TRANSFORMERS, find_encoder_on_hub
from aalbert.models.upstream import count_parameters
from aalbert.models.wave_encoders.tensor_digest import digest_of_tensors
from aalbert.models.wave_encoders.wave_upstream import (
    WaveFrames,
    WaveUpstream,
    WaveUpstreamConfig,
    measure_states,
    require_frames,
)

# Its weights, the first that is there; an index names the parts of large ones.
WEIGHTS_NAMES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
INDEX_SUFFIX = ".index.json"
# What is done to waves before.
PREPROCESSOR_NAMES = ("preprocessor_config.json", "processor_config.json")
# Without these files the defaults of the library hold.
DEFAULT_SAMPLE_RATE = 16_000
# A vector in place of masked frames, which pretraining alone needs.
UNUSED = frozenset({"masked_spec_embed"})
EXPECTED = "expected a speech encoder that reads waves, such as wav2vec 2.0, HuBERT or WavLM"
WAY_OUT = "copy the model again"
# What the library raises for files of something else, or damaged ones.
FAULTS = (
    *(OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, ImportError),
    *(SafetensorError, pickle.UnpicklingError),
)


@dataclass(frozen=True)
class ModelFiles:
    """The folder of a model, its weights there, and the files that describe its preprocessing."""

    folder: Path
    weights: tuple[Path, ...]
    preprocessors: tuple[Path, ...]

    def digest(self) -> str:
        """Return the hash of its configuration, preprocessing and weights."""
        return digest_of_files((*self.described, *self.weights))

    def untrained_digest(self, drawn: nn.Module) -> str:
        """Return the hash of its configuration and preprocessing, with weights that were drawn."""
        return digest_of_tensors(digest_of_files(self.described), drawn)

    @property
    def described(self) -> tuple[Path, ...]:
        """The files that say what is computed with the weights."""
        return (self.folder / CONFIG_NAME, *self.preprocessors)


class TransformersEncoder(nn.Module):
    """A model of the library that gives its hidden states, the input of its first layer first."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, wave: Tensor) -> list[Tensor]:
        """Return the hidden states `(frames, width)` of a wave `(samples,)`."""
        outputs = self.model(wave.unsqueeze(0), output_hidden_states=True)
        return [state[0] for state in outputs.hidden_states]


def lasting_transformers_name(upstream: str) -> str:
    """Return the name of a model for good: an absolute folder, or a commit on the hub."""
    if (place := find_encoder_on_hub(upstream)) is not None:
        pinned = pin(place, CONFIG_NAME)
        return f"{TRANSFORMERS}{pinned.repository}@{pinned.revision}"
    return TRANSFORMERS + str(Path(upstream.removeprefix(TRANSFORMERS)).resolve())


def find_model_files(upstream: str) -> ModelFiles:
    """Return the files of a model, fetched if it is on the hub.

    Raises `InputError` when there is no such folder, or no model in it.
    """
    find: Callable[[str], Path | None]
    if (hub_place := find_encoder_on_hub(upstream)) is not None:
        pinned = pin(hub_place, CONFIG_NAME)
        place = pinned.url

        def find(name: str) -> Path | None:
            return fetch_if_there(pinned, name)
    else:
        folder = Path(upstream.removeprefix(TRANSFORMERS))
        place = str(folder)
        if not folder.is_dir():
            raise InputError(f"there is no folder {folder}: {EXPECTED}, saved by transformers")

        def find(name: str) -> Path | None:
            return path if (path := folder / name).is_file() else None

    config, weights = find(CONFIG_NAME), first_of(find, WEIGHTS_NAMES)
    if config is None or weights is None:
        missing = CONFIG_NAME if config is None else f"weights ({WEIGHTS_NAMES[0]})"
        raise InputError(f"{place} has no {missing}: {EXPECTED}, saved by transformers")
    parts: tuple[Path, ...] = (weights,)
    if weights.name.endswith(INDEX_SUFFIX):
        parts += tuple(find_part(find, name, weights) for name in part_names(weights))
    preprocessors = tuple(path for name in PREPROCESSOR_NAMES if (path := find(name)) is not None)
    return ModelFiles(config.parent, parts, preprocessors)


def digest_of_files(paths: Iterable[Path]) -> str:
    """Return the hash of the names and contents of files, each of which is read once a process."""
    parts = (f"{path.name} {digest_of_version(path, *version_of(path))}" for path in paths)
    return xxhash.xxh3_128_hexdigest(" ".join(parts).encode())


def version_of(path: Path) -> tuple[int, ...]:
    """Return what changes of a file when it is written or replaced."""
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


@lru_cache(maxsize=256)
def digest_of_version(path: Path, *_: int) -> str:
    """Return the hash of a file, of which a version is looked at once."""
    return file_digest(path)


def first_of(find: Callable[[str], Path | None], names: tuple[str, ...]) -> Path | None:
    """Return the first of some files that is there."""
    return next((path for name in names if (path := find(name)) is not None), None)


def part_names(index: Path) -> list[str]:
    """Return the names of the files that an index of weights names."""
    document = read_record(dict[str, Any], index, WAY_OUT)
    parts = document.get("weight_map")
    require(isinstance(parts, dict), f"{index} names no weights: {WAY_OUT}")
    assert isinstance(parts, dict)
    return sorted({Path(str(name)).name for name in parts.values()})


def find_part(find: Callable[[str], Path | None], name: str, index: Path) -> Path:
    """Return a part of the weights; `InputError` when it is missing."""
    path = find(name)
    if path is None:
        raise InputError(f"{index} names {name}, which is not beside it: {WAY_OUT}")
    return path


def open_transformers_encoder(upstream: str, untrained_seed: int | None) -> WaveUpstream:
    """Open a model as an upstream; `upstream` is a lasting name.

    With a seed it has fresh random weights of the same configuration. Raises `ConfigError` when
    the library is not installed, `InputError` when there is no such encoder.
    """
    require(
        find_spec("transformers") is not None,
        f"{upstream} needs a package that is not installed: pip install 'aalbert[hf]'",
    )
    files = find_model_files(upstream)
    with quiet(), explaining_faults(upstream):
        config = read_model_config(upstream, files.folder)
        model = (
            read_model(upstream, files.folder, config)
            if untrained_seed is None
            else make_untrained(config, untrained_seed)
        )
        normalised, sample_rate = read_preprocessing(files)
        encoder = TransformersEncoder(model)
        states, width = measure_states(upstream, encoder, sample_rate)
    opened = WaveUpstream(
        WaveUpstreamConfig(
            name=upstream,
            weights_xxh3=(
                files.digest() if untrained_seed is None else files.untrained_digest(model)
            ),
            software=f"transformers {version('transformers')}",
            architecture=str(config.model_type),
            parameters=count_parameters(model),
            states=states,
            width=width,
            sample_rate=sample_rate,
            frames=frames_of_convolutions(config.conv_kernel, config.conv_stride),
            normalised=normalised,
            untrained_seed=untrained_seed,
        ),
        encoder,
    )
    require_frames(opened)
    return opened


def read_model_config(upstream: str, folder: Path) -> Any:
    """Return the configuration of a model; `InputError` unless it is a speech encoder of waves."""
    from transformers import MODEL_MAPPING, AutoConfig

    document = read_record(dict[str, Any], folder / CONFIG_NAME, WAY_OUT)
    if document.get("model_type") == MODEL_TYPE:
        raise InputError(
            f"{upstream} is a model of aalbert, which reads stored features: name it without "
            f"'{TRANSFORMERS}'"
        )
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    known = MODEL_MAPPING.get(type(config), None)
    if (
        getattr(known, "main_input_name", None) != "input_values"
        or not getattr(config, "conv_kernel", None)
        or not getattr(config, "conv_stride", None)
        or config.is_encoder_decoder
    ):
        raise InputError(f"{upstream} is a '{config.model_type}' model: {EXPECTED}")
    # No hidden state is an output of it.
    config.add_adapter = False
    return config


def read_model(upstream: str, folder: Path, config: Any) -> nn.Module:
    """Return the model of a folder with its weights; `InputError` when some are missing."""
    from transformers import AutoModel

    model, found = AutoModel.from_pretrained(
        folder,
        config=config,
        local_files_only=True,
        trust_remote_code=False,
        weights_only=True,
        dtype=torch.float32,
        output_loading_info=True,
    )
    missing = sorted({*found["missing_keys"], *map(str, found["mismatched_keys"])} - UNUSED)
    if missing:
        raise InputError(
            f"{upstream} lacks {len(missing)} of the weights that its {CONFIG_NAME} describes, "
            f"such as {missing[0]}: {WAY_OUT}"
        )
    loaded: nn.Module = model
    return loaded


def make_untrained(config: Any, seed: int) -> nn.Module:
    """Return a model of a configuration with random weights by a seed."""
    from transformers import AutoModel

    torch.manual_seed(seed)
    model: nn.Module = AutoModel.from_config(config, trust_remote_code=False, dtype=torch.float32)
    return model


def read_preprocessing(files: ModelFiles) -> tuple[bool, int]:
    """Return whether waves are normalised for a model, and their rate."""
    if not files.preprocessors:
        return True, DEFAULT_SAMPLE_RATE
    from transformers import AutoFeatureExtractor

    extractor = AutoFeatureExtractor.from_pretrained(
        files.folder, local_files_only=True, trust_remote_code=False
    )
    return bool(extractor.do_normalize), int(extractor.sampling_rate)


def frames_of_convolutions(kernels: list[int], strides: list[int]) -> WaveFrames:
    """Return the frames that convolutions without padding make, one after another.

    The first frame is computed from the samples of the receptive field, whose middle is its centre.
    """
    field = 1 + sum((kernel - 1) * prod(strides[:number]) for number, kernel in enumerate(kernels))
    return WaveFrames(least_samples=field, stride_samples=prod(strides), first_centre=field / 2)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the library from printing what is of no concern here, such as progress."""
    from transformers.utils import logging

    verbosity, shows_progress = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if shows_progress:
            logging.enable_progress_bar()


@contextmanager
def explaining_faults(upstream: str) -> Iterator[None]:
    """Raise what the library raises in the block as an `InputError` on one line."""
    from huggingface_hub.errors import StrictDataclassError

    try:
        yield
    except (*FAULTS, StrictDataclassError) as error:
        reason = shortened(" ".join(str(error).split()))
        raise InputError(
            f"{upstream} cannot be opened by transformers ({reason}): {EXPECTED}"
        ) from error
