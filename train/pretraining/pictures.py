"""Pictures of a held-out spectrogram and its reconstruction, drawn at intervals of training."""

from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from aalbert.common.files import atomic_write
from aalbert.models.pretrained import PretrainedModel
from aalbert.train.loop.ranks import Ranks
from aalbert.train.loop.steps import ended_step, every
from aalbert.train.loop.throughput import Clock
from aalbert.train.pretraining.build import PretrainSelections
from aalbert.train.pretraining.config import PretrainConfig
from aalbert.train.pretraining.figure import reconstruction_figure
from aalbert.train.report.figures import to_png


class Pictures(Callback):
    """Draws the first held-out utterance into `step-N.png`: original, masked, reconstructed."""

    def __init__(
        self,
        folder: Path,
        selections: PretrainSelections,
        config: PretrainConfig,
        clock: Clock,
        ranks: Ranks,
    ) -> None:
        self.folder = folder
        self.config = config
        self.clock = clock
        self.ranks = ranks
        first = selections.validation[0]
        self.features = {
            kind: first.dataset.features(int(first.rows[0]), kind)
            for kind in (config.data.feature, *config.objective.targets)
        }
        self.due = every(config.picture_every_steps, last=config.steps)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Draw after a step that is due, on the first rank."""
        if self.ranks.first and ended_step(trainer) and self.due(trainer.global_step):
            with self.clock.stopped(), torch.compiler.set_stance("force_eager"):
                self.draw(trainer.global_step, pl_module)

    def draw(self, step: int, module: LightningModule) -> None:
        """Draw and write the picture of a step."""
        module.eval()
        assert isinstance(module.model, PretrainedModel)
        figure = reconstruction_figure(module.model, self.features, self.config.masking)
        module.train()
        with atomic_write(self.folder / f"step-{step:08d}.png") as stream:
            stream.write(to_png(figure))
