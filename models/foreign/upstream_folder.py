"""Models that s3prl's layout cannot hold, as a folder with all the code that s3prl needs."""

from pathlib import Path

from aalbert.common.files import write_text
from aalbert.errors import require
from aalbert.models.checkpoint import MODULES_FOLDER
from aalbert.models.foreign.audio import SAMPLE_RATE
from aalbert.models.pretrained import PretrainedModel
from aalbert.models.standalone_limits import require_standalone

# `UpstreamExpert`, the class that s3prl asks of an upstream, and its entry point for torch.hub.
EXPERT_NAMES = ("expert.py", "hubconf.py")


def export_upstream(model: PretrainedModel, folder: Path) -> None:
    """Write a model and the modules by which s3prl uses it; `ConfigError` when it cannot."""
    features = model.config.features
    require(
        features["sample_rate"] == SAMPLE_RATE,
        f"s3prl has no {features['kind']}.sample_rate {features['sample_rate']}, only "
        f"{SAMPLE_RATE}",
    )
    require_standalone(model.config)
    for name in EXPERT_NAMES:
        write_text(folder / name, (MODULES_FOLDER / name).read_text("utf-8"))
    model.save_pretrained(folder)
