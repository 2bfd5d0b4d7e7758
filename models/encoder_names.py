"""Names of encoders of other libraries: `hf:FOLDER`, `hf:USER/MODEL@REVISION`, `s3prl:NAME`."""

from pathlib import Path

from aalbert.common.hub import SCHEME, HubPlace, is_name, place_of_name
from aalbert.errors import InputError

TRANSFORMERS, S3PRL = "hf:", "s3prl:"
# As many digits of a commit as are usual in a text.
COMMIT_DIGITS = 7


def is_wave_encoder(upstream: str) -> bool:
    """Return whether a name of an upstream is that of an encoder of another library.

    `hf://USER/MODEL` is none: on the hub, that is a model of this package.
    """
    return upstream.startswith((TRANSFORMERS, S3PRL)) and not upstream.startswith(SCHEME)


def refuse_wave_encoder(place: Path | str) -> None:
    """Raise `InputError` for the name of an encoder of another library, where it is no upstream."""
    if isinstance(place, str) and is_wave_encoder(place):
        raise InputError(
            f"{place} is an encoder of another library: 'aalbert downstream' and 'aalbert sweep' "
            "take it as --upstream, and nothing else does; name a run or a saved model"
        )


def find_encoder_on_hub(upstream: str) -> HubPlace | None:
    """Return the place on the hub that `hf:USER/MODEL@REVISION` names, None for all others.

    A folder `USER` here makes a path of it, as for models of this package, unless the revision is a
    commit, as in names that are recorded.
    """
    if not is_wave_encoder(upstream) or upstream.startswith(S3PRL):
        return None
    name = upstream.removeprefix(TRANSFORMERS)
    if not is_name(name):
        return None
    place = place_of_name(name)
    return None if Path(Path(name).parts[0]).exists() and not place.is_pinned else place


def short_name(upstream: str) -> str:
    """Return the name of an encoder of another library in tables."""
    if upstream.startswith(S3PRL):
        return upstream
    name, _, revision = upstream.partition("@")
    if find_encoder_on_hub(upstream) is not None:
        return f"{name}@{revision[:COMMIT_DIGITS]}" if revision else name
    return TRANSFORMERS + Path(upstream.removeprefix(TRANSFORMERS)).name
