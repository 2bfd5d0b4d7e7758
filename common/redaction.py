"""What is secret in URLs, hidden in whatever leaves the process: messages, records, pages.

A URL may hold a password, a token in place of a user, and keys in its query, such as the signature
of a signed URL. What counts as a key differs from server to server, and no list of names is
complete; so every value of a query is hidden, and of a fragment too, while the names stay. A
password may hold `/`, `?`, `#` and `@`: where a text can be read in two ways, what either of them
takes for secret is hidden.
"""

import re
from typing import Any

HIDDEN = "***"
# A path of what was a URL has one slash; the two letters before it are no drive of Windows.
MARK = r":/{2,}|(?<=[A-Za-z][A-Za-z0-9+.-]):/"
URL_PATTERN = re.compile(MARK)
MARK_OR_QUERY_PATTERN = re.compile(rf"{MARK}|[?#]")
SCHEME_PATTERN = re.compile(r"[\w+.-]*$")
LONGEST_SCHEME = 30
USER_END_PATTERN = re.compile(r"[/:?#]")
# After what looks like a user: the next link of a chain of URLs, not a password.
CHAIN_PATTERN = re.compile(r"::[A-Za-z][A-Za-z0-9+.-]*:/")
ADDRESS_PATTERN = re.compile(r"\[[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*\]")
# After a host: its port and what follows. A password may look like it.
PORT_PATTERN = re.compile(r"\d{0,5}[/?#]")
# Where the name before an `@` is that of a user or a container; elsewhere it may be a token.
NAMED_SCHEMES = frozenset(
    {"abfs", "abfss", "adl", "az", "wasb", "wasbs", "hdfs", "webhdfs", "oci", "hf", "github"}
    | {"ftp", "ftps", "sftp", "smb", "ssh"}
)
# What is written for a password where the user is a token.
NO_PASSWORDS = ("", "x-oauth-basic")
# What ends a sentence or a quotation; at the end of a URL it is none of its last value.
CLOSING = "\"'`<>()[]{},.;:!"


def redact(text: str) -> str:
    """Return a text with the secrets of all URLs in it hidden; all else stays as it is.

    A URL ends at white space. To redact a text again changes nothing.
    """
    if ":/" not in text:
        return text
    return re.sub(r"\S+", lambda match: redact_url(match[0], closing=CLOSING), text)


def redact_url(text: str, *, closing: str = "") -> str:
    """Return a text that is one URL, which may hold spaces, with its secrets hidden.

    Other text may come before it, as in `--data=URL`, and characters of `closing` after it.
    """
    mark = URL_PATTERN.search(text)
    if mark is None:
        return text
    before = text[max(0, mark.start() - LONGEST_SCHEME) : mark.start()]
    (scheme,) = SCHEME_PATTERN.findall(before)[:1]
    user, rest = redact_user(text[mark.end() :], named=scheme.lower() in NAMED_SCHEMES)
    return text[: mark.end()] + user + redact_rest(rest, closing)


def redact_all(document: Any) -> Any:
    """Return a JSON document whose texts are redacted."""
    if isinstance(document, str):
        return redact(document)
    if isinstance(document, dict):
        return {name: redact_all(value) for name, value in document.items()}
    if isinstance(document, list | tuple):
        return [redact_all(value) for value in document]
    return document


def is_redacted(place: object) -> bool:
    """Return whether a place is a redacted URL, which cannot be opened."""
    return HIDDEN in str(place) and URL_PATTERN.search(str(place)) is not None


def redact_user(text: str, *, named: bool) -> tuple[str, str]:
    """Return what is shown of the user and password that a URL begins with, and the text after.

    `text` follows the `//`; `named` says that a user without a password is no token.
    """
    user = "" if ADDRESS_PATTERN.match(text) else USER_END_PATTERN.split(text, 1)[0]
    after = text[len(user) :]
    owner, at, host = user.rpartition("@")
    shown = f"{owner if named else HIDDEN}@{host}" if at else user
    if not after.startswith(":") or "@" not in after or CHAIN_PATTERN.match(after):
        return (shown, after) if at else ("", text)
    password, _, rest = after[1:].rpartition("@")
    if PORT_PATTERN.match(password) and not {"?", "#"}.isdisjoint(password):
        # The `@` is in the query of a host with a port, or ends a password with `?` in it.
        return f"{shown}:{HIDDEN}", ""
    if not named and password.partition("@")[0] in NO_PASSWORDS:
        return f"{HIDDEN}@", rest
    return f"{shown}:{HIDDEN}@", rest


def redact_rest(text: str, closing: str) -> str:
    """Return what follows the user of a URL with query and fragment hidden, and further URLs."""
    found = MARK_OR_QUERY_PATTERN.search(text)
    if found is None:
        return text
    if found[0] not in "?#":
        return redact_url(text, closing=closing)
    start = text[: found.end()]
    *parts, last = text[found.end() :].split("&")
    end = last.rstrip(closing)
    shown = [redact_part(part, closing) for part in (*parts, end)]
    return start + "&".join(shown) + last[len(end) :]


def redact_part(part: str, closing: str) -> str:
    """Return `name=value` of a query with its value hidden; a part without a name is one."""
    # Base64 ends with `=`.
    name, equals, value = part.rstrip("=").partition("=")
    name, value = (f"{name}=", value) if equals else ("", name)
    if not value:
        return part
    # The path of a file was put after a URL that was redacted already.
    path = value.removeprefix(HIDDEN) if value.startswith(f"{HIDDEN}/") else ""
    return f"{name}{HIDDEN}{redact_rest(path, closing)}"
