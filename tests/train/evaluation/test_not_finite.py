"""Where no loss would show it, a model that computes NaN is refused, and the utterance is named."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from aalbert.errors import DivergedError
from aalbert.models import DownstreamModel, PretrainedModel
from aalbert.pipeline.embeddings.extract import ExtractConfig, extract_embeddings
from aalbert.pipeline.embeddings.inputs import find_inputs
from aalbert.pipeline.embeddings.load import from_pretrained
from aalbert.shards import Dataset
from aalbert.train.downstream.config import DownstreamConfig, LabelConfig
from aalbert.train.downstream.inputs import Inputs
from aalbert.train.downstream.phones import find_phones
from aalbert.train.downstream.run import start_downstream
from aalbert.train.downstream.splits import SplitRows
from aalbert.train.evaluation.evaluate import measure
from aalbert.train.evaluation.frame_probes import probe_frames
from aalbert.train.evaluation.open_run import open_run
from aalbert.train.evaluation.probes import pooled_states
from aalbert.train.run_folder import RunFolder

QUICK = DownstreamConfig(epochs=1, prefetch=0)
MESSAGE = (
    r"what the model computes of '.+' is not finite \(NaN or infinity\): its weights are damaged"
)


@pytest.fixture(scope="module")
def broken(pretrained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose last norm has a weight that is not a number."""
    model = PretrainedModel.from_pretrained(pretrained)
    encoder = model.upstream.encoder
    assert encoder is not None
    with torch.no_grad():
        encoder.layers[0].get_parameter("contract.weight")[0, 0] = torch.nan
    place = tmp_path_factory.mktemp("broken") / "model"
    model.save_pretrained(place)
    return place


def test_scores_of_trials(
    voxceleb1_data: Path, broken: Path, verification: DownstreamConfig, tmp_path: Path
) -> None:
    with pytest.raises(DivergedError, match=MESSAGE):
        start_downstream(verification, voxceleb1_data, str(broken), tmp_path / "run")


def test_cached_states(voxceleb1_data: Path, broken: Path, tmp_path: Path) -> None:
    config = replace(QUICK, cache_embeddings=True)
    with pytest.raises(DivergedError, match=MESSAGE):
        start_downstream(config, voxceleb1_data, str(broken), tmp_path / "run")
    assert not list(tmp_path.rglob("*.npy"))


def test_decisions_of_an_evaluation(speaker_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(speaker_run, tmp_path / "run"))
    model = DownstreamModel.from_pretrained(run)
    with torch.no_grad():
        next(iter(model.head.parameters())).fill_(torch.nan)
    model.save_pretrained(run / "export")
    with pytest.raises(DivergedError, match=MESSAGE):
        measure(open_run(RunFolder(run)))


def test_probes_of_utterances(voxceleb1_data: Path, broken: Path) -> None:
    dataset, upstream = Dataset(voxceleb1_data), PretrainedModel.from_pretrained(broken).upstream
    with pytest.raises(DivergedError, match=MESSAGE):
        inputs = Inputs(dataset, upstream.config)
        pooled_states(upstream, inputs, np.arange(4), 60.0, normalise=False)


def test_probes_of_frames(librispeech_data: Path, alignments: Path, broken: Path) -> None:
    dataset, upstream = Dataset(librispeech_data), PretrainedModel.from_pretrained(broken).upstream
    config, inputs = LabelConfig(alignments=str(alignments)), Inputs(dataset, upstream.config)
    labels = find_phones(inputs, config, np.arange(24))
    splits = SplitRows(np.arange(0, 12), np.arange(12, 16), np.arange(16, 24))
    with pytest.raises(DivergedError, match=MESSAGE):
        probe_frames(upstream, inputs, labels, splits)


def test_embeddings(librispeech_data: Path, broken: Path, tmp_path: Path) -> None:
    model = from_pretrained(broken)
    inputs = find_inputs(model, [str(librispeech_data)])
    with pytest.raises(DivergedError, match=MESSAGE):
        extract_embeddings(model, inputs, tmp_path / "out", ExtractConfig())
    with pytest.raises(DivergedError, match="what the model computes of 'wave 0' is not finite"):
        model.extract([np.zeros(16_000, np.float32)] * 2)
