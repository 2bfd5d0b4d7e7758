"""Models of other systems become this package's, and go back to s3prl's layout."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from aalbert.common.files import file_digest, require_empty
from aalbert.common.hub import find_hub_place
from aalbert.common.redaction import redact_url
from aalbert.common.store import is_url
from aalbert.conversion.checkpoint_file import hub_origin, is_foreign, local_file
from aalbert.conversion.import_model import import_model
from aalbert.conversion.published_names import find_published
from aalbert.errors import OutputInUseError, require
from aalbert.models.checkpoint import CONFIG_NAME, WEIGHTS_NAME
from aalbert.models.encoder_names import refuse_wave_encoder
from aalbert.models.foreign.export import export_s3prl
from aalbert.models.foreign.s3prl_limits import LayoutError
from aalbert.models.foreign.upstream_folder import export_upstream
from aalbert.models.pretrained import PretrainedModel
from aalbert.models.upstream import count_parameters
from aalbert.shards.format.feature_groups import prepare_options


def convert_to_aalbert(
    source: str, out: Path, assignments: Sequence[str], *, dry_run: bool = False
) -> dict[str, Any]:
    """Save a checkpoint of another system as a model of this package; return what was done.

    Where `out` has this model already nothing is written, and in a dry run. Raises
    `OutputInUseError` when it has anything else.
    """
    refuse_wave_encoder(source)
    source = find_published(source)
    is_path = find_hub_place(source) is None and not is_url(source)
    require(
        is_foreign(source) or (is_path and not Path(source).is_dir()),
        f"{redact_url(source)} is no file: expected a checkpoint of another system; a model of "
        "this package goes to s3prl with --to s3prl",
    )
    if not (out / CONFIG_NAME).is_file():
        require_empty(out)
    with local_file(source) as local:
        model, foreign = import_model(local, assignments, hub_origin(source))
    there = False
    if (out / CONFIG_NAME).is_file():
        with TemporaryDirectory() as scratch:
            model.save_pretrained(Path(scratch))
            there = holds_model(out, Path(scratch))
    if not there and not dry_run:
        require_empty(out)
        model.save_pretrained(out)
    document = summary(model, source, foreign.layout, out, foreign.notes)
    return {**document, "written": not there and not dry_run, "there": there}


def holds_model(folder: Path, other: Path) -> bool:
    """Return whether a folder has the model that another one has: its settings and weights."""
    return all(
        (folder / name).is_file() and file_digest(folder / name) == file_digest(other / name)
        for name in (CONFIG_NAME, WEIGHTS_NAME)
    )


def convert_to_s3prl(
    source: str, out: Path, assignments: Sequence[str], *, dry_run: bool = False
) -> dict[str, Any]:
    """Save a model, of this package or another system, for s3prl; return what was done.

    `out` becomes a file in s3prl's layout, or where that cannot hold the model a folder that s3prl
    opens by the code in it; in a dry run nothing is written.
    """
    if out.exists():
        raise OutputInUseError(f"{out} exists: choose another --out, the file or folder to write")
    source = find_published(source)
    layout, notes = "aalbert", tuple[str, ...]()
    if is_foreign(source):
        with local_file(source) as local:
            model, foreign = import_model(local, assignments, hub_origin(source))
        layout, notes = foreign.layout, foreign.notes
    else:
        require(not assignments, f"--set {assignments[:1]}: {source} has all its settings")
        model = PretrainedModel.from_pretrained(source)
    with TemporaryDirectory() as scratch:
        place = Path(scratch) / out.name if dry_run else out
        notes += export_for_s3prl(model, place, out)
    return {
        **summary(model, source, layout, out, notes),
        "written": not dry_run,
        "there": False,
    }


def export_for_s3prl(model: PretrainedModel, place: Path, out: Path) -> tuple[str, ...]:
    """Write a model for s3prl and return notes, which call its place `out`."""
    try:
        return export_s3prl(model, place)
    except LayoutError as reason:
        export_upstream(model, place)
        return (
            f"{reason}, so this is a folder with the code that s3prl needs: "
            f"torch.hub.load('{out}', 'upstream', source='local')",
        )


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
        outcome_text(document),
    ]
    return "\n".join(lines)


def outcome_text(document: dict[str, Any]) -> str:
    """Return whether the model was written, and if not why."""
    if document["written"]:
        return f"written: {document['out']}"
    has = "has this model already" if document["there"] else "would have this model"
    return f"{document['out']} {has}; nothing was written"
