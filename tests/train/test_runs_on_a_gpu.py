"""Whole runs on a GPU: what is trained there, validated, evaluated and read ahead for it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch._dynamo.utils import counters

from aalbert.models.device import use_device
from aalbert.models.head_config import HeadConfig
from aalbert.shards.loading.config import LoaderConfig, OrderConfig
from aalbert.shards.loading.loader import Loader
from aalbert.shards.reading.dataset import Dataset
from aalbert.train.downstream.config import DownstreamConfig, LabelConfig, SplitConfig
from aalbert.train.downstream.run import start_downstream
from aalbert.train.evaluation.evaluate import evaluate_runs
from aalbert.train.pretraining.config import PretrainConfig
from aalbert.train.pretraining.run import start_pretraining
from aalbert.train.run_folder import RunFolder

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def any_device() -> Iterator[None]:
    """Let the next test choose its device again."""
    yield
    use_device(None)


def test_a_run_has_the_losses_of_a_run_on_a_cpu(
    pretrain_config: PretrainConfig, librispeech_data: Path, tmp_path: Path
) -> None:
    encoder = replace(pretrain_config.encoder, dropout=0.0, attention_dropout=0.0)
    config = replace(pretrain_config, encoder=encoder)
    for device in ("cpu", "cuda"):
        use_device(device)
        start_pretraining(config, [librispeech_data], tmp_path / device)
    expected, found = (RunFolder(tmp_path / name).held_out_losses() for name in ("cpu", "cuda"))
    assert found == pytest.approx(expected, rel=1e-3)


# PyTorch 2.11 imports its own deprecated decorator when it compiles.
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
def test_a_compiled_run_compiles_its_steps_alone(
    pretrain_config: PretrainConfig, librispeech_data: Path, tmp_path: Path
) -> None:
    encoder = replace(pretrain_config.encoder, attention_dropout=0.0, dropout=0.0)
    data = replace(pretrain_config.data, batching="packed")
    config = replace(
        pretrain_config,
        encoder=encoder,
        data=data,
        precision="bf16-mixed",
        steps=8,
        validate_every_steps=2,
        picture_every_steps=4,
    )
    torch.compiler.reset()
    counters.clear()
    start_pretraining(replace(config, compile=True), [librispeech_data], tmp_path / "compiled")
    # One of the first shape, and one of any; one more where the first two have as many utterances.
    # Nothing of the four validations, each of other shapes, nor of the two pictures.
    assert 1 <= counters["stats"]["unique_graphs"] <= 3
    assert not counters["graph_break"]
    start_pretraining(config, [librispeech_data], tmp_path / "eager")
    compiled, eager = (
        RunFolder(tmp_path / name).held_out_losses() for name in ("compiled", "eager")
    )
    assert list(compiled) == [2, 4, 6, 8]
    assert compiled == pytest.approx(eager, rel=2e-2)


@pytest.mark.parametrize("task", ["classify", "librispeech-phone"])
def test_a_head_is_trained_and_evaluated(
    task: str, pretrained: Path, librispeech_data: Path, alignments: Path, tmp_path: Path
) -> None:
    frames = task == "librispeech-phone"
    config = DownstreamConfig(
        task=task,
        layers="weighted",
        head=HeadConfig(pooling="none") if frames else HeadConfig(),
        labels=LabelConfig(alignments=str(alignments)) if frames else LabelConfig(),
        splits=SplitConfig(
            train="train-clean-100",
            dev="drawn",
            test="drawn",
            draw="speakers" if frames else "utterances",
        ),
        crop_seconds=0.0,
        epochs=2,
    )
    losses = []
    for device in ("cpu", "cuda"):
        use_device(device)
        start_downstream(config, librispeech_data, str(pretrained), tmp_path / device)
        [evaluation] = evaluate_runs([tmp_path / device])
        rows = RunFolder(tmp_path / device).read_metrics()
        losses.append([row["train_loss"] for row in rows if "train_loss" in row])
        assert evaluation.result.layer_probes
        assert {each.device.type for each in evaluation.measured.model.buffers()} == {device}
    assert len(losses[0]) == 2
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


@pytest.mark.parametrize("packed", [False, True])
def test_batches_are_copied_before_their_memory_is_filled_again(
    librispeech_data: Path, packed: bool
) -> None:
    device = torch.device("cuda")
    torch.zeros(1, device=device)
    order = OrderConfig(frames_per_batch=1_000, packed=packed)
    selection = Dataset(librispeech_data).select(["*"])
    plain = Loader(selection, LoaderConfig(order=order, feature="logmel", prefetch=0))
    ahead = Loader(selection, LoaderConfig(order=order, feature="logmel", prefetch=2))
    for _ in range(3):
        expected = [batch.features.clone() for batch in plain]
        found = []
        for batch in ahead:
            assert batch.features.is_pinned()
            # Copies begin long after the loader has gone on.
            torch.cuda._sleep(50_000_000)  # type: ignore[no-untyped-call]
            found.append(batch.to(device).features)
            del batch
        assert len(found) == len(expected) > 2
        for ours, theirs in zip(found, expected, strict=True):
            assert torch.equal(ours.cpu(), theirs)
    for loader in (plain, ahead):
        loader.close()
