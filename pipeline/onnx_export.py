"""Models as ONNX files: waves in, hidden states and the outputs of a task out."""

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from aalbert.common.files import atomic_write
from aalbert.errors import ConfigError, OutputInUseError
from aalbert.models.downstream import DownstreamModel
from aalbert.models.downstream_head import normalised
from aalbert.models.standalone.encoder_aalbert import Upstream
from aalbert.models.standalone.features_aalbert import WaveFeatures
from aalbert.models.standalone_limits import require_standalone
from aalbert.models.trial_scorer import COSINE
from aalbert.pipeline.embeddings.load import from_pretrained
from aalbert.pipeline.embeddings.model import EmbeddingModel
from aalbert.pipeline.onnx_recurrent import replace_recurrent_layers

if TYPE_CHECKING:
    from onnx import ModelProto

INPUT_NAME = "wave"
# The version of the operators, which onnxruntime 1.23 and later run.
OPSET = 20
# The exporter traces the model with so many waves and frames; the file takes any number.
TRACED_WAVES, TRACED_FRAMES = 2, 7
PACKAGES = ("onnx", "onnxscript")


class OnnxModel(nn.Module):
    """What a file computes: the model, from waves of one length.

    A downstream model also returns the `embeddings` that its classifier reads and, unless it has
    none, its `scores`.
    """

    def __init__(self, model: EmbeddingModel) -> None:
        super().__init__()
        config = model.upstream.config.to_dict()
        self.features = WaveFeatures(config["features"])
        self.upstream = Upstream(config)
        self.upstream.load_state_dict(model.upstream.state_dict())
        self.head = model.model.head if isinstance(model.model, DownstreamModel) else None
        if self.head is not None:
            replace_recurrent_layers(self.head)
        self.eval().requires_grad_(False)

    @property
    def output_names(self) -> list[str]:
        """The names of what `forward` returns."""
        names = ["hidden_states"]
        if self.head is not None:
            names += ["embeddings"] if self.head.classifier is None else ["embeddings", "scores"]
        return names

    @property
    def shortest_samples(self) -> int:
        """The samples of the shortest wave that gives an encoder frame without padding."""
        stacked: int = self.upstream.front_end.config["frames_stacked"]
        before = 0 if self.features.centred else self.features.window_samples
        needed = before + (stacked - 1) * self.features.shift_samples
        return max(needed, self.features.window_samples)

    def forward(self, wave: Tensor) -> tuple[Tensor, ...]:
        """Map waves `(batch, samples)` to states `(states, batch, frames, width)`, and outputs."""
        lengths = torch.full(wave.shape[:1], wave.shape[1], dtype=torch.long)
        states, frames = self.upstream(
            self.features(wave, lengths), self.features.count_frames(lengths)
        )
        outputs = [torch.stack(states)]
        if self.head is not None:
            chosen = [states[number] for number in self.head.chosen]
            if self.head.config.normalise_states:
                chosen = normalised(chosen)
            outputs.append(self.head.embed(chosen, frames))
            if self.head.classifier is not None:
                outputs.append(self.head.classifier(outputs[-1]))
        return tuple(outputs)


def export_onnx(place: Path | str, out: Path) -> dict[str, Any]:
    """Write the model at a place to a file, and return what it is, as a JSON document.

    Raises `OutputInUseError` when there is such a file, `ConfigError` for a model that cannot be
    exported and without the packages for it, and what `from_pretrained` does.
    """
    if out.exists():
        raise OutputInUseError(f"{out} exists: choose another --out, the file to write")
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise ConfigError(f"ONNX needs {' and '.join(missing)}: pip install 'aalbert[onnx]'")
    model = from_pretrained(place)
    require_standalone(model.upstream.config)
    exported = OnnxModel(model)
    facts = {
        "fingerprint": model.fingerprint,
        "sample_rate": model.sample_rate,
        "frame_shift_ms": model.frame_shift_ms,
        "states": model.layers + 1,
        "width": model.width,
        "shortest_samples": exported.shortest_samples,
        "outputs": exported.output_names,
        **task_facts(model),
    }
    file = convert(exported)
    for name, value in facts.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        file.metadata_props.add(key=name, value=text)
    content = file.SerializeToString(deterministic=True)
    with atomic_write(out) as stream:
        stream.write(content)
    # Where the model lies is no part of the file, so that equal models give equal bytes.
    place_facts = {"source": model.place, "out": str(out)}
    return {**place_facts, "opset": OPSET, "bytes": len(content), **facts}


def task_facts(model: EmbeddingModel) -> dict[str, Any]:
    """Return what scores are, and how embeddings are compared if they are made for that."""
    if not isinstance(model.model, DownstreamModel):
        return {"classes": []}
    facts: dict[str, Any] = {"classes": model.model.classes}
    if model.model.head.classifier is not None:
        facts["predicts"] = model.model.predicts
    if model.model.predicts == "sequence":
        facts["blank"] = len(model.model.classes)
    threshold, comparison = model.model.threshold, model.model.scorer.describe()
    if threshold is not None or model.model.head.classifier is None:
        facts["comparison"] = comparison
    # A threshold of other scores would be taken for one of cosines, all that the file can give.
    if threshold is not None and comparison == COSINE:
        facts["threshold"] = asdict(threshold)
    return facts


def convert(model: OnnxModel) -> "ModelProto":
    """Return a model as ONNX, without the paths of this machine that the exporter notes.

    The exporter's own optimiser takes the addition of 1e-10, without which the logarithm of
    silence is infinite, for one of 0. So only constants are folded here; runtimes do more.
    """
    from onnxscript import optimizer

    shift = model.features.shift_samples
    wave = torch.zeros(TRACED_WAVES, model.shortest_samples + TRACED_FRAMES * shift)
    # Its constants are made at the first call, and would be part of what is traced.
    model(wave)
    sizes = {
        0: torch.export.Dim("batch"),
        1: torch.export.Dim("samples", min=model.shortest_samples),
    }
    with quiet():
        program = torch.onnx.export(
            model,
            (wave,),
            input_names=[INPUT_NAME],
            output_names=model.output_names,
            dynamic_shapes={INPUT_NAME: sizes},
            opset_version=OPSET,
            dynamo=True,
            optimize=False,
            verbose=False,
        )
        assert program is not None
        optimizer.fold_constants(program.model)
        optimizer.remove_unused_nodes(program.model)
    file: ModelProto = program.model_proto
    for part in (*file.graph.node, *file.graph.value_info, *file.graph.initializer, file.graph):
        part.ClearField("metadata_props")
    return file


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what the exporter says to its developers from users: warnings and notes."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
