"""A downstream model: an upstream, frozen or not, and a head that names the speaker."""

from pathlib import Path

import torch
from torch import Tensor, nn

from aalbert.models.checkpoint import load_checkpoint, restore, save_checkpoint
from aalbert.models.heads import LayerChoice, SpeakerHead
from aalbert.models.upstream import Upstream, UpstreamConfig, count_parameters

KIND = "speaker-classifier"


class SpeakerClassifier(nn.Module):
    """Scores the speakers of features `(batch, frames, dims)`.

    `speakers` are the names of the classes in the order of the scores. The upstream
    is frozen: it stays in evaluation mode and gets no gradient.
    """

    def __init__(self, upstream: Upstream, speakers: list[str], layers: LayerChoice) -> None:
        super().__init__()
        self.speakers = speakers
        self.layers = layers
        self.upstream = upstream.eval().requires_grad_(False)
        self.head = SpeakerHead(upstream.states, upstream.width, len(speakers), layers)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Return the score of every speaker, `(batch, speakers)`."""
        with torch.no_grad():
            states, state_lengths = self.upstream(features, lengths)
        scores: Tensor = self.head(states, state_lengths)
        return scores

    def train(self, mode: bool = True) -> "SpeakerClassifier":
        """Set the mode of the head; the frozen upstream keeps its dropout off."""
        super().train(mode)
        self.upstream.eval()
        return self

    def save_pretrained(self, folder: Path | str) -> None:
        """Write `model.safetensors`, `config.json` and a model card into `folder`."""
        document = {
            "kind": KIND,
            "upstream": self.upstream.config.to_dict(),
            "layers": self.layers,
            "speakers": self.speakers,
        }
        save_checkpoint(Path(folder), self, document, classifier_card(self))

    @classmethod
    def from_pretrained(cls, folder: Path | str) -> "SpeakerClassifier":
        """Load a saved classifier or the result of a downstream run, in evaluation mode."""
        tensors, document = load_checkpoint(Path(folder), KIND)
        upstream = Upstream(UpstreamConfig.from_dict(document["upstream"]))
        model = cls(upstream, document["speakers"], document["layers"])
        restore(model, tensors, Path(folder))
        return model.eval()


def classifier_card(model: SpeakerClassifier) -> str:
    """Describe a classifier in Markdown."""
    return (
        f"# Speaker identification, {len(model.speakers)} speakers\n\n"
        f"A frozen upstream, layers: {model.layers}, mean over frames, and a linear head of "
        f"{count_parameters(model.head):,} parameters.\n"
    )
