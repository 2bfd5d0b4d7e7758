"""Facts of training as others may see them: without the folders of the machine that trained."""

import re
from pathlib import PurePosixPath
from typing import Any

from aalbert.common.hub import is_hub_url
from aalbert.common.redaction import redact_url
from aalbert.models.checkpoint import EXPORT_FOLDER

# After what is hidden of a user and a password.
URL_PATTERN = re.compile(
    r"[A-Za-z][\w+.-]*://(?:[^/?#]*@)?(?P<path>[^?#]*).*", re.ASCII | re.DOTALL
)
HUB_PAGES = "https://huggingface.co/"


def public_facts(document: Any) -> Any:
    """Return a JSON document in which a place on the machine is only the name of its run or file.

    Such facts are what a model was continued from.
    """
    if isinstance(document, dict):
        return {name: public_facts(value) for name, value in document.items()}
    if isinstance(document, list | tuple):
        return [public_facts(value) for value in document]
    return public_name(document) if isinstance(document, str) else document


def public_name(place: str) -> str:
    """Return the name of the run, or of the file, of an absolute path or of a URL.

    Addresses on the hub, which is for all, and other texts stay as they are.
    """
    path = PurePosixPath(place)
    if (match := URL_PATTERN.fullmatch(redact_url(place))) is not None:
        if is_hub_url(place) or place.startswith(HUB_PAGES):
            return place
        path = PurePosixPath(match["path"])
    elif not path.is_absolute():
        return place
    return path.parent.name if path.name == EXPORT_FOLDER else path.name
