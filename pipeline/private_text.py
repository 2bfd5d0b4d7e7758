"""What a text shows that is not for others: paths of a machine, secrets of URLs, tokens."""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from aalbert.common.redaction import HIDDEN, redact_url
from aalbert.common.text import without_markup
from aalbert.errors import InputError

PATH_PATTERN = re.compile(r"(?<![\w/.~*])/(?!/)[^\s\"'`<>()\[\],;]+")
WINDOWS_PATTERN = re.compile(r"\b[A-Z]:\\[^\s\"'`<>]*|\bfile://[^\s\"'`]*")
# Folders of users, also of other machines.
USER_FOLDERS = frozenset({"home", "root", "Users"})
TOKEN_PATTERN = re.compile(r"\bhf_[A-Za-z0-9]{20,}")
URL_START = re.compile(r"[A-Za-z][\w+.-]*://", re.ASCII)
URL_END = re.compile(r"[?#]")
# Values with such names in a query or a fragment are secret; others are those of ordinary links.
SECRET_VALUE = re.compile(
    r"[?&#;](?:[\w.-]*[_.-])?(?:aws|api|access|auth|secret|private|session)*(?:token|key|keyid|sig|"
    r"sign|signature|secret|password|passwd|pwd|credentials?|auth|authorization)="
    rf"(?!{re.escape(HIDDEN)})[^&\s]",
    re.IGNORECASE,
)


def require_nothing_private(name: str, text: str, source: Path) -> None:
    """Raise `InputError` when a text, which may be Markdown, shows what is not for others.

    `name` is its file, `source` the folder of the model that it belongs to.
    """
    for each in (text, without_markup(text)):
        for found in private_parts(each, source):
            raise InputError(
                f"{name} of the model has {found}, which is not for others: take it out, and push "
                "again"
            )


def private_parts(text: str, source: Path) -> Iterator[str]:
    """Yield what is not for others in a text, without its secrets."""
    for place in (Path.home(), source.resolve()):
        if len(place.parts) > 1 and f"{place}/" in text:
            yield str(place)
    yield from (match[0] for match in WINDOWS_PATTERN.finditer(text))
    yield from (match[0] for match in PATH_PATTERN.finditer(text) if is_local(match[0]))
    for word in text.split():
        for match in URL_START.finditer(word):
            if has_secret(word[match.start() :]):
                yield redact_url(word[match.start() :])
    if TOKEN_PATTERN.search(text):
        yield "a token of the hub"


def is_local(path: str) -> bool:
    """Return whether an absolute path leads into a folder of a user, or of this machine."""
    folders = PurePosixPath(path).parts[1:]
    return len(folders) > 1 and (folders[0] in USER_FOLDERS or Path("/", folders[0]).is_dir())


def has_secret(url: str) -> bool:
    """Return whether a URL has a password, a token in place of a user, or a key in its query."""
    redacted = redact_url(url)
    before_query = URL_END.split(redacted, 1)[0]
    return redacted != url and (HIDDEN in before_query or SECRET_VALUE.search(url) is not None)
