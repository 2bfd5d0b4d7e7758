"""The recipes that race in `benchmarks.speedrun`, each for about equal time."""

from dataclasses import dataclass

from aalbert.train.pretraining.module import MakeModule, Pretraining
from benchmarks.speedrun_variants import AveragedPretraining, CodesAlone, MuonPretraining


@dataclass(frozen=True)
class Entry:
    """Settings laid over a preset, trained for `steps`."""

    steps: int
    settings: tuple[str, ...] = ()
    preset: str = "tiny"
    make_module: MakeModule = Pretraining


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

SIX_LAYERS = ("encoder.layers=6",)
# Rates by the rule of width: in inverse proportion.
WIDE = ("encoder.width=256", "encoder.feed_forward_width=1024", "optimiser.learning_rate=1e-3")
BEST_RQ = (
    "objective.codes.kind=random",
    "objective.codes.count=1024",
    "objective.codes.weight=0.1",
)
CLUSTERS = ("objective.codes.weight=0.1",)

ENTRIES = {
    "s3prl's recipe": Entry(120, S3PRL, "aalbert-3l"),
    "s3prl's, rate 1e-3": Entry(120, (*S3PRL, "optimiser.learning_rate=1e-3"), "aalbert-3l"),
    "3 frames stacked, crops of 2 s": Entry(3000, BEFORE),
    "30 % hidden": Entry(3000, (*POST, *SINUSOIDS)),
    "rotary": Entry(3000, (*POST, *FEWER_HIDDEN)),
    "rotary, 30 % hidden": Entry(3000, POST),
    "norm before, rate 2e-3": Entry(3000, (*SINUSOIDS, *FEWER_HIDDEN)),
    "tiny": Entry(3000),
    "tiny, a tenth of the steps": Entry(300),
    "tiny, separate layers (Mockingjay)": Entry(3000, SEPARATE),
    "tiny, separate layers, TERA's alterations": Entry(3000, (*SEPARATE, *TERA)),
    "tiny, rate 4e-3": Entry(3000, ("optimiser.learning_rate=4e-3",)),
    "tiny, warm-up of 2 %": Entry(3000, ("optimiser.warmup_proportion=0.02",)),
    "tiny, batches of 16 s": Entry(6000, ("data.batch_seconds=16",)),
    "tiny, crops of 6 s": Entry(2700, ("data.batch_seconds=36", "data.crop_seconds=6")),
    "tiny, 50 % hidden": Entry(3000, ("masking.proportion=0.5",)),
    "tiny, 2 frames hidden at once": Entry(3000, ("masking.consecutive=2",)),
    "tiny, loss over all frames": Entry(3000, ("objective.over=all",)),
    "tiny, 6 applications": Entry(1650, SIX_LAYERS),
    "tiny, width 256": Entry(1150, WIDE),
    "tiny, hidden layer of 512 before": Entry(2850, ("encoder.input_width=512",)),
    "tiny, Muon": Entry(2200, make_module=MuonPretraining),
    "tiny, averaged weights": Entry(3000, make_module=AveragedPretraining),
    "tiny, BEST-RQ instead": Entry(2600, BEST_RQ, make_module=CodesAlone),
    "tiny, BEST-RQ beside": Entry(2600, BEST_RQ),
    "tiny, clusters instead": Entry(2600, CLUSTERS, make_module=CodesAlone),
    "tiny, clusters beside": Entry(2600, CLUSTERS),
    "tiny, width 256, clusters beside": Entry(1100, (*WIDE, *CLUSTERS)),
    "small": Entry(1000, preset="small"),
    "small, Muon": Entry(900, preset="small", make_module=MuonPretraining),
}
