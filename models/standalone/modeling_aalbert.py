# Copyright (c) 2026 The aalbert developers
# SPDX-License-Identifier: MIT

"""An AALBERT model for `transformers`, which needs no `aalbert`.

```python
from transformers import AutoModel
model = AutoModel.from_pretrained("FOLDER", trust_remote_code=True)
states = model(waves, attention_mask, output_hidden_states=True).hidden_states
```
"""

import warnings
from typing import Any

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

# Every module beside this one is imported here: of others, transformers 5.0 makes no copy.
from .encoder_aalbert import Upstream
from .features_aalbert import WaveFeatures
from .front_end_aalbert import stacked_lengths

# By these `aalbert` knows what it has saved itself.
AALBERT_ENTRIES = ("format", "format_version", "kind", "weights_xxh3")


class AalbertConfig(PretrainedConfig):
    """The `config.json` of a model; `upstream` says how it reads waves, and its encoder.

    What `transformers` saves of it is no folder of `aalbert`.
    """

    model_type = "aalbert"

    def __init__(self, upstream: dict[str, Any] | None = None, **others: Any) -> None:
        self.upstream = upstream
        kept = {name: value for name, value in others.items() if name not in AALBERT_ENTRIES}
        super().__init__(**kept)


class AalbertModel(PreTrainedModel):
    """The encoder of a pretrained or downstream model: waves or features to hidden states."""

    config_class = AalbertConfig
    main_input_name = "input_values"
    _supports_sdpa = True
    # Statistics of features, which 16 bits would round.
    _keep_in_fp32_modules_strict = ("front_end",)
    # The encoder needs neither the heads of pretraining nor that of a task.
    _keys_to_ignore_on_load_unexpected = [r"^(heads|target_front_ends|head|cohort|mask_token)\b"]

    def __init__(self, config: AalbertConfig) -> None:
        super().__init__(config)
        assert config.upstream is not None, "a config.json of aalbert has the settings `upstream`"
        self.features = WaveFeatures(config.upstream["features"])
        self.upstream = Upstream(config.upstream)
        self.post_init()

    def forward(
        self,
        input_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        input_features: Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> BaseModelOutput | tuple[Any, ...]:
        """Return the last hidden state `(batch, encoder frames, width)`, and all of them if asked.

        Give waves `input_values (batch, samples)`, floats in [-1, 1) at the rate of the settings,
        or features `input_features (batch, frames, dims)` as `aalbert` stores them. The mask
        `(batch, samples)` or `(batch, frames)` is 1 where a wave or features are, then 0; what is
        there has no influence. Of the states, the first `count_frames(...)` of each row are real.
        Raises `ValueError` for other shapes, and waves without a frame.
        """
        lengths = lengths_of(self.only_input(input_values, input_features), attention_mask)
        needed, unit = (1, "frames")
        if input_values is not None:
            needed, unit = self.features.window_samples, "samples"
        row = int(lengths.argmin())
        if lengths[row] < needed:
            raise ValueError(
                f"row {row} has {int(lengths[row])} {unit}: every row needs at least {needed}"
            )
        features = input_features
        if input_values is not None:
            features = self.features(input_values, lengths)
            lengths = self.features.count_frames(lengths)
        states, state_lengths = self.upstream(features, lengths)
        self.warn_of_unknown_positions(int(state_lengths.max()))
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        output = BaseModelOutput(
            last_hidden_state=states[-1],
            hidden_states=tuple(states) if output_hidden_states else None,
        )
        as_given = self.config.return_dict if return_dict is None else return_dict
        return output if as_given else output.to_tuple()

    def only_input(self, input_values: Tensor | None, input_features: Tensor | None) -> Tensor:
        """Return the waves or the features, whichever are given; `ValueError` for other ones."""
        given = [each for each in (input_values, input_features) if each is not None]
        if len(given) != 1 or given[0].dim() != (2 if input_features is None else 3):
            raise ValueError(
                "give input_values (batch, samples) or input_features (batch, frames, dims), "
                f"found {[tuple(each.shape) for each in given]}"
            )
        [inputs] = given
        if len(inputs) == 0:
            raise ValueError(f"the batch {tuple(inputs.shape)} is empty: give at least one row")
        if not inputs.is_floating_point():
            raise ValueError(
                f"inputs of {inputs.dtype}: give floats, of waves those in [-1, 1), such as int16 "
                "samples divided by 32,768"
            )
        dims = self.config.upstream["front_end"]["feature_dims"]
        if input_features is not None and inputs.shape[2] != dims:
            raise ValueError(f"input_features have {inputs.shape[2]} dims, this model reads {dims}")
        return inputs

    def warn_of_unknown_positions(self, frames: int) -> None:
        """Warn of utterances that reach beyond the positions that the weights know."""
        encoder = self.config.upstream["encoder"]
        known = None if encoder is None else encoder["position_frames"]
        if known is not None and encoder["beyond_positions"] == "continue" and frames > known:
            warnings.warn(
                f"an utterance of {frames} encoder frames goes beyond the {known} positions that "
                "this encoder was trained on, and its states there are unreliable: cut it",
                stacklevel=3,
            )

    def count_frames(self, samples: Tensor) -> Tensor:
        """Return the real encoder frames of waves of so many samples, `(batch,)` both."""
        stacked = self.config.upstream["front_end"]["frames_stacked"]
        return stacked_lengths(self.features.count_frames(samples), stacked)


def lengths_of(inputs: Tensor, mask: Tensor | None) -> Tensor:
    """Return how many samples or frames of each row count; `ValueError` for another mask."""
    if mask is None:
        return torch.full((len(inputs),), inputs.shape[1], device=inputs.device)
    shape, time = inputs.shape[:2], torch.arange(inputs.shape[1], device=inputs.device)
    if mask.shape == shape:
        real = mask.bool()
        lengths = real.sum(dim=1)
        if torch.equal(real, time < lengths.unsqueeze(1)):
            return lengths
    raise ValueError(
        f"attention_mask {tuple(mask.shape)}: expected {tuple(shape)}, in every row ones before "
        "zeros"
    )
