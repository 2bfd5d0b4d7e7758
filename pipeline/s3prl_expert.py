"""Models as upstreams of s3prl, so that its featurizer and downstream models run on them.

```python
from aalbert.pipeline import s3prl_expert
s3prl_expert.register()
from s3prl.nn import S3PRLUpstream
upstream = S3PRLUpstream("aalbert", path_or_url="runs/pretrain")
```

The interface is that of s3prl 0.4 (`upstream/example/expert.py` there).
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from aalbert.common.s3prl_stubs import add_stubs
from aalbert.errors import require
from aalbert.pipeline.embeddings.load import from_pretrained

NAME = "aalbert"
S3PRL_SAMPLE_RATE = 16_000


class UpstreamExpert(nn.Module):
    """An upstream for s3prl: waves in, all hidden states out.

    `ckpt` is the place of a saved model or of a run. s3prl passes further arguments, which
    are ignored.
    """

    def __init__(self, ckpt: str, model_config: str | None = None, **_: Any) -> None:
        super().__init__()
        require(
            model_config is None,
            f"model_config is {model_config}: the checkpoint holds all settings, leave it out",
        )
        self.model = from_pretrained(ckpt)

    def get_downsample_rates(self, key: str) -> int:
        """Return the samples from one frame of a hidden state to the next."""
        return round(S3PRL_SAMPLE_RATE * self.model.frame_shift_ms / 1000)

    def forward(self, wavs: Sequence[Tensor]) -> dict[str, Any]:
        """Return `hidden_states`, `layers + 1` padded tensors `(batch, frames, width)`.

        `wavs` are waves `(samples,)` at 16 kHz on any device.
        """
        states, _ = self.model(wavs, S3PRL_SAMPLE_RATE)
        return {"hidden_states": states, "last_hidden_state": states[-1]}


def register(name: str = NAME) -> None:
    """Register the upstream in s3prl's hub under a name.

    s3prl 0.4.18 imports all of its upstreams at once, and two of them use parts of torchaudio
    that its last release no longer has.
    """
    add_stubs()
    from s3prl import hub

    setattr(hub, name, UpstreamExpert)
