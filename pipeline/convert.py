"""Models of other systems become this package's, and go back to s3prl's layout."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from aalbert.common.configuration import load_config
from aalbert.common.files import require_empty
from aalbert.common.hub import CHECKPOINT_SUFFIXES, fetch, find_hub_place
from aalbert.common.redaction import redact_url
from aalbert.common.store import Store, is_url
from aalbert.errors import ConfigError, IntegrityError, OutputInUseError, require
from aalbert.models.checkpoint import lasting_name
from aalbert.models.foreign.detect import read_foreign
from aalbert.models.foreign.export import export_s3prl
from aalbert.models.foreign.foreign_model import ForeignModel
from aalbert.models.foreign.s3prl_limits import LayoutError
from aalbert.models.foreign.upstream_folder import export_upstream
from aalbert.models.front_end import FrontEndConfig
from aalbert.models.pretrained import PretrainedModel
from aalbert.models.training_states import find_state
from aalbert.models.upstream import count_parameters
from aalbert.shards.format.feature_groups import prepare_assignments, with_feature_groups
from aalbert.shards.format.feature_settings import (
    SETTINGS_BY_KIND,
    FeatureSettings,
    default_settings,
)
from aalbert.shards.format.wave_settings import WaveSettings


def is_foreign(place: Path | str) -> bool:
    """Return whether a place is a checkpoint file of another system, not a folder."""
    if (hub_place := find_hub_place(place)) is not None:
        return bool(hub_place.file)
    if is_url(place):
        return str(place).endswith(CHECKPOINT_SUFFIXES)
    return Path(place).is_file() and find_state(place) is None


@contextmanager
def local_file(place: Path | str) -> Iterator[Path]:
    """Yield the path of a file at a path or a URL, or on the hub: a copy of it for the block."""
    if (hub_place := find_hub_place(place)) is not None:
        yield fetch(hub_place, hub_place.file)
    elif is_url(place):
        parent, _, name = str(place).rpartition("/")
        with TemporaryDirectory() as folder:
            Store(parent).get(name, Path(folder) / name)
            yield Path(folder) / name
    else:
        yield Path(place)


def load_foreign(source: Path) -> PretrainedModel:
    """Return the model of a checkpoint of another system, as `import_model` does."""
    return import_model(source)[0]


@dataclass(frozen=True, kw_only=True)
class ReadingConfig:
    """How an imported model reads audio: what its checkpoint tells, and `--set` changes.

    `feature` names the features; the group of that name, which `with_feature_groups` adds, says
    how they are computed from a wave that `wave` describes. `front_end.feature_dims` follows
    from them.
    """

    feature: str = ""
    wave: WaveSettings = WaveSettings()
    front_end: FrontEndConfig = field(default_factory=FrontEndConfig)

    def settings(self) -> FeatureSettings:
        """Return the settings of the features."""
        default_settings(self.feature)
        settings: FeatureSettings = replace(getattr(self, self.feature), wave=self.wave)
        return settings


def import_model(
    source: Path, assignments: Sequence[str] = (), origin: str = ""
) -> tuple[PretrainedModel, ForeignModel]:
    """Read a checkpoint of another system, and return it as a model beside what it told.

    `assignments` are settings such as `front_end.deltas=1` that win over the checkpoint's, and
    `origin` is the place on the hub that the file is a copy from.
    Raises `InputError` for a file of no known layout, `IntegrityError` for one that is damaged
    or would run code, `ConfigError` when settings are missing or do not fit the model.
    """
    foreign = read_foreign(source)
    reading = read_settings(foreign, source, assignments)
    settings = reading.settings()
    front_end = replace(reading.front_end, feature_dims=settings.dims)
    training = {"converted_from": f"{origin or source.name} ({foreign.layout})", **foreign.training}
    foreign = replace(foreign, training=training)
    try:
        return foreign.build(asdict(settings), front_end), foreign
    except IntegrityError as error:
        raise IntegrityError(f"{source}: {error}") from error


def hub_origin(source: str) -> str:
    """Return the place of a file on the hub, with its commit; empty for one from elsewhere."""
    return str(lasting_name(source)) if find_hub_place(source) is not None else ""


def read_settings(foreign: ForeignModel, source: Path, assignments: Sequence[str]) -> ReadingConfig:
    """Return how the model reads audio, with the user's settings over the checkpoint's.

    Raises `IntegrityError` when those of the checkpoint alone are invalid.
    """
    document: dict[str, Any] = {"front_end": dict(foreign.front_end)}
    if foreign.features is not None:
        features = dict(foreign.features)
        document["wave"] = features.pop("wave", {})
        document["feature"] = features.pop("kind")
        document[document["feature"]] = features
    try:
        reading = load_config(
            with_feature_groups(ReadingConfig),
            preset=(str(source), document),
            environment={},
            assignments=assignments,
        )
    except ConfigError as error:
        if assignments:
            raise
        raise IntegrityError(f"{source}: its settings are invalid: {error}") from error
    first, *others = SETTINGS_BY_KIND
    require(
        bool(reading.feature),
        f"{source}: {' '.join(foreign.notes)}. Say which: --set feature={first} (or "
        f"{', '.join(others)}), and what differs from the defaults, such as --set "
        "front_end.deltas=1",
    )
    return reading


def convert_to_aalbert(source: str, out: Path, assignments: Sequence[str]) -> dict[str, Any]:
    """Save a checkpoint of another system as a model of this package; return what was done."""
    is_path = find_hub_place(source) is None and not is_url(source)
    require(
        is_foreign(source) or (is_path and not Path(source).is_dir()),
        f"{redact_url(source)} is no file: expected a checkpoint of another system; a model of "
        "this package goes to s3prl with --to s3prl",
    )
    require_empty(out)
    with local_file(source) as local:
        model, foreign = import_model(local, assignments, hub_origin(source))
    model.save_pretrained(out)
    return summary(model, source, foreign.layout, out, foreign.notes)


def convert_to_s3prl(source: str, out: Path, assignments: Sequence[str]) -> dict[str, Any]:
    """Save a model, of this package or another system, for s3prl; return what was done.

    `out` becomes a file in s3prl's layout, or where that cannot hold the model a folder that s3prl
    opens by the code in it.
    """
    if out.exists():
        raise OutputInUseError(f"{out} exists: choose another --out, the file or folder to write")
    layout, notes = "aalbert", tuple[str, ...]()
    if is_foreign(source):
        with local_file(source) as local:
            model, foreign = import_model(local, assignments, hub_origin(source))
        layout, notes = foreign.layout, foreign.notes
    else:
        require(not assignments, f"--set {assignments[:1]}: {source} has all its settings")
        model = PretrainedModel.from_pretrained(source)
    try:
        notes += export_s3prl(model, out)
    except LayoutError as reason:
        export_upstream(model, out)
        notes += (
            f"{reason}, so this is a folder with the code that s3prl needs: "
            f"torch.hub.load('{out}', 'upstream', source='local')",
        )
    return summary(model, source, layout, out, notes)


def summary(
    model: PretrainedModel, source: str, layout: str, out: Path, notes: Sequence[str]
) -> dict[str, Any]:
    """Return what was converted, and what is not as it was, as a JSON document."""
    encoder = model.config.encoder
    assert encoder is not None
    return {
        "source": redact_url(source),
        "layout": layout,
        "out": str(out),
        "encoder": asdict(encoder),
        "front_end": asdict(model.config.front_end),
        "features": dict(model.config.features),
        "prepare": prepare_options(model.config.features),
        "targets": [asdict(target) for target in model.targets],
        "mask_token": model.mask_token is not None,
        "parameters": count_parameters(model),
        "training": dict(model.config.training),
        "notes": list(notes),
    }


def prepare_options(features: Mapping[str, Any]) -> str:
    """Return the options with which 'aalbert prepare' stores what a model reads."""
    kind = features["kind"]
    changes = prepare_assignments(kind, features)
    return " ".join([f"--feature {kind}", *(f"--set {change}" for change in changes)])


def summary_text(document: dict[str, Any]) -> str:
    """Return the summary for people."""
    encoder, front_end = document["encoder"], document["front_end"]
    targets = [f"{target['feature']} ({target['dims']} dims)" for target in document["targets"]]
    sharing = "one shared" if encoder["share_layers"] else "separate"
    lines = [
        f"{document['source']}: {document['layout']}",
        f"encoder     {encoder['layers']} layers, {sharing}, width {encoder['width']}, "
        f"{encoder['heads']} heads, layer norm {encoder['norm']}",
        f"reads       {document['features']['kind']}, {front_end['deltas']} deltas, normalisation "
        f"{front_end['normalisation']}, {front_end['frames_stacked']} frames stacked",
        f"prepare     {document['prepare']}",
        f"predicts    {', '.join(targets) or 'nothing'}",
        f"parameters  {document['parameters']:,}",
        *(f"note: {note}" for note in document["notes"]),
        f"written: {document['out']}",
    ]
    return "\n".join(lines)
