"""Facts of training as others may see them: without the folders of the machine that trained."""

from pathlib import Path
from typing import Any

from aalbert.models.checkpoint import EXPORT_FOLDER


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
    """Return the name of the run of an absolute path, or of its file; other texts as they are."""
    path = Path(place)
    if not path.is_absolute():
        return place
    return path.parent.name if path.name == EXPORT_FOLDER else path.name
