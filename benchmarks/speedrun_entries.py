"""The recipes that race in `benchmarks.speedrun`, each for about equal time."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """Settings laid over a preset, trained for `steps`."""

    steps: int
    settings: tuple[str, ...] = ()
    preset: str = "tiny"


# The sizes of `tiny`, with what s3prl has everywhere else: sinusoids, norms after, 15 % hidden,
# dropout, its rate and warm-up.
SAME_SIZE = ("encoder.width=128", "encoder.heads=4", "encoder.feed_forward_width=512")
S3PRL = (*SAME_SIZE, "data.validation_proportion=0.1", "data.batch_seconds=32")
# `tiny` with one thing as it was before it won.
POST = ("encoder.norm=post", "optimiser.learning_rate=1e-3")
SINUSOIDS = ("encoder.positions=sinusoidal",)
FEWER_HIDDEN = ("masking.proportion=0.15",)
BEFORE = (*POST, *SINUSOIDS, *FEWER_HIDDEN)
SEPARATE = ("encoder.share_layers=false",)
TERA = ("masking.band_share=0.2", "masking.noise_share=0.15")

ENTRIES = {
    "s3prl's recipe": Entry(120, S3PRL, "aalbert-3l"),
    "s3prl's, rate 1e-3": Entry(120, (*S3PRL, "optimiser.learning_rate=1e-3"), "aalbert-3l"),
    "3 frames stacked, crops of 2 s": Entry(3000, BEFORE),
    "30 % hidden": Entry(3000, (*POST, *SINUSOIDS)),
    "rotary": Entry(3000, (*POST, *FEWER_HIDDEN)),
    "rotary, 30 % hidden": Entry(3000, POST),
    "norm before, rate 2e-3": Entry(3000, (*SINUSOIDS, *FEWER_HIDDEN)),
    "tiny": Entry(3000),
    "tiny, separate layers (Mockingjay)": Entry(3000, SEPARATE),
    "tiny, separate layers, TERA's alterations": Entry(3000, (*SEPARATE, *TERA)),
}
