"""Models on the Hugging Face hub: what names them, and local copies of their files.

The hub's own client fetches the files into its own cache, so a model that was fetched once opens
without a network too. It is imported when the hub is asked; the extra `hub` installs it.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote

from aalbert.common.redaction import HIDDEN, redact
from aalbert.errors import AalbertError, ConfigError, InputError, StorageError, require

SCHEME = "hf://"
# Suffixes of files of torch.save, which are no names of models, and at a URL no folders.
CHECKPOINT_SUFFIXES = (".ckpt", ".pt", ".pth", ".bin")
# What else the hub holds, in place of a user.
OTHER_KINDS = ("datasets/", "spaces/", "buckets/", "kernels/")
REPOSITORY = r"(?P<repository>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)"
NAME_PATTERN = re.compile(rf"{REPOSITORY}(?:@(?P<revision>.+))?", re.ASCII)
# The revision of a pull request has slashes; in that of a branch they are written as `%2F`.
URL_PATTERN = re.compile(
    rf"(?i:hf)://(?:models/)?{REPOSITORY}(?:@(?P<revision>refs/pr/\d+|[^/@]+))?(?:/(?P<file>.+))?",
    re.ASCII,
)
COMMIT_PATTERN = re.compile(r"[0-9a-f]{40}")
LIBRARY = "aalbert"
LOG_IN = "run 'hf auth login', or set HF_TOKEN"
# Status codes of HTTP.
UNAUTHORISED, FORBIDDEN, SERVER_FAULTS = 401, 403, 500


@dataclass(frozen=True, kw_only=True)
class HubPlace:
    """A model on the hub, or one file of it; without a revision the newest of its main branch.

    `named` is how a user wrote it who gave no URL: it could have been a local path.
    """

    repository: str
    revision: str | None = None
    file: str = ""
    named: str = ""

    def __post_init__(self) -> None:
        """Refuse what would lead out of the cache."""
        parts = {*(self.revision or "").split("/"), *self.file.split("/")}
        require(
            parts.isdisjoint({".", ".."}),
            f"{self.subject}: a revision or a file has no '.' or '..' on its way",
        )

    @property
    def url(self) -> str:
        """The place as a URL that names the same again."""
        revision = f"@{quote(self.revision, safe='')}" if self.revision else ""
        return f"{SCHEME}{self.repository}{revision}{self.file and '/' + self.file}"

    @property
    def subject(self) -> str:
        """The place as the subject of an error."""
        return f"{self.url} (there is no folder {self.named})" if self.named else self.url

    @property
    def is_pinned(self) -> bool:
        """Whether the revision is a commit, which never changes."""
        return bool(self.revision and COMMIT_PATTERN.fullmatch(self.revision))


def find_hub_place(place: Path | str) -> HubPlace | None:
    """Return what a text names on the hub, None for local paths and other URLs.

    It is `hf://USER/MODEL`, or `USER/MODEL` where no folder `USER` exists, in which it would be a
    path, perhaps a misspelt one. `@REVISION` (branch, tag or commit) may follow, and after that, in
    a URL, `/FILE`. Raises `ConfigError` for other URLs of the hub.
    """
    if isinstance(place, Path):
        return None
    if is_hub_url(place):
        match = URL_PATTERN.fullmatch(place)
        require(
            match is not None and not place[len(SCHEME) :].startswith(OTHER_KINDS),
            f"{redact(place)} names no model of the hub: write hf://USER/MODEL, hf://USER/MODEL@"
            "REVISION, or the file of a checkpoint, hf://USER/MODEL/FILE.ckpt",
        )
        assert match is not None
        revision = match["revision"] and unquote(match["revision"])
        return HubPlace(repository=match["repository"], revision=revision, file=match["file"] or "")
    if not is_name(place) or Path(Path(place).parts[0]).exists():
        return None
    return place_of_name(place)


def is_hub_url(place: str) -> bool:
    """Return whether a text is a URL of the hub, perhaps of something else than a model there."""
    return place[: len(SCHEME)].lower() == SCHEME


def is_name(text: str) -> bool:
    """Return whether a text is a name on the hub, if it is no path; one of a file is none."""
    return not text.endswith(CHECKPOINT_SUFFIXES) and NAME_PATTERN.fullmatch(text) is not None


def place_of_name(name: str) -> HubPlace:
    """Return the model on the hub with a name."""
    match = NAME_PATTERN.fullmatch(name)
    assert match is not None, name
    return HubPlace(repository=match["repository"], revision=match["revision"], named=name)


def fetch(place: HubPlace, file: str, *, again: bool = False) -> Path:
    """Return the local copy of a file of a model, with `again` of one whose copy is damaged.

    The hub is asked for the newest commit of a branch; when it cannot be reached, that of the cache
    is taken. Raises `InputError` when there is no such model, revision or file that the user may
    read, `StorageError` when the hub does not answer, `ConfigError` without the extra `hub`. For a
    name, which may be meant for a folder, the last two are `InputError`s.
    """
    require_client(place)
    from httpx2 import HTTPError
    from huggingface_hub import (
        get_hf_file_metadata,
        hf_hub_download,
        hf_hub_url,
        try_to_load_from_cache,
    )
    from huggingface_hub.errors import OfflineModeIsEnabled

    with explaining_faults(place, file):
        found = try_to_load_from_cache(place.repository, file, revision=place.revision)
        cached = Path(found) if isinstance(found, str) else None
        if cached is not None and place.is_pinned and not again:
            return cached
        url = hf_hub_url(place.repository, file, revision=place.revision)
        try:
            # The download would ask for minutes until it gives a silent server up.
            get_hf_file_metadata(url, library_name=LIBRARY)
        except (HTTPError, OfflineModeIsEnabled) as error:
            if cached is None or again or has_answered(error):
                raise
            return cached
        return Path(
            hf_hub_download(
                place.repository,
                file,
                revision=place.revision,
                library_name=LIBRARY,
                force_download=again,
            )
        )


def fetch_if_there(place: HubPlace, file: str) -> Path | None:
    """Return the local copy of a file of a model, None when the model has no such file.

    The client notes in its cache what is not there, so that this too is known without a network.
    """
    require_client(place)
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    with explaining_faults(place, file):
        found = try_to_load_from_cache(place.repository, file, revision=place.revision)
        if found is not None:
            return Path(found) if isinstance(found, str) else None
        try:
            downloaded = hf_hub_download(
                place.repository, file, revision=place.revision, library_name=LIBRARY
            )
        except EntryNotFoundError as error:
            if isinstance(error, LocalEntryNotFoundError):
                raise
            return None
        return Path(downloaded)


def pin(place: HubPlace, file: str) -> HubPlace:
    """Return a place at the commit that its revision is now, by a file of it, which is fetched."""
    if place.is_pinned:
        return place
    # In the cache it lies in `snapshots/COMMIT`.
    commit = fetch(place, file).parents[len(PurePosixPath(file).parts) - 1].name
    return replace(place, revision=commit, named="")


def target_place(name: str, revision: str | None) -> HubPlace:
    """Return the place that a model is sent to; `ConfigError` when it is no name on the hub."""
    match = NAME_PATTERN.fullmatch(name[len(SCHEME) :] if is_hub_url(name) else name)
    if match is None or match["revision"]:
        raise ConfigError(
            f"'{name}' is no name for a model on the hub: write USER/NAME, and a branch with "
            "--revision"
        )
    return HubPlace(repository=match["repository"], revision=revision)


def require_client(place: HubPlace) -> None:
    """Raise `ConfigError` unless the hub's client is installed; see `unasked` for names."""
    if find_spec("huggingface_hub") is not None:
        return
    reason = "its models need a package that is not installed: pip install 'aalbert[hub]'"
    if place.named:
        raise unasked(place, reason)
    raise ConfigError(f"{place.url} is on the Hugging Face hub: {reason}")


def has_answered(error: Exception) -> bool:
    """Return whether an error is the hub's answer: it was reached, and works."""
    from huggingface_hub.errors import HfHubHTTPError

    return isinstance(error, HfHubHTTPError) and error.response.status_code < SERVER_FAULTS


def unasked(place: HubPlace, reason: str) -> InputError:
    """Return the error of a name that is no folder, when the hub cannot be asked for it."""
    return InputError(
        f"there is no folder {place.named} here, and the Hugging Face hub cannot be asked for "
        f"{place.url}: {reason}"
    )


@contextmanager
def explaining_faults(place: HubPlace, file: str = "") -> Iterator[None]:
    """Raise errors of the hub's client in the block as ours, on one line, with the way out."""
    from httpx2 import HTTPError
    from huggingface_hub.errors import EntryNotFoundError, XetDownloadError

    try:
        yield
    except UnicodeError as error:
        # The token goes into a header.
        raise ConfigError(
            f"{place.subject}: the token for the hub has characters that no token has: {LOG_IN}"
        ) from error
    except (
        *(HTTPError, OSError, EntryNotFoundError, XetDownloadError),
        # What is no name, and what its part for large files says.
        *(ValueError, RuntimeError),
    ) as error:
        # The client's own have no number; one of the system, such as of a full disk, has.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise explained(error, place, file) from error


def explained(error: Exception, place: HubPlace, file: str) -> AalbertError:
    """Return an error of the hub's client as one of ours."""
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    subject = place.subject
    if isinstance(error, HFValidationError):
        return ConfigError(f"{subject} is no name of a model on the hub: {shown(error)}")
    if isinstance(error, OfflineModeIsEnabled):
        missing = f"{file} is not in the cache, and " if file else ""
        reason = f"{missing}HF_HUB_OFFLINE forbids to ask the hub: run this once without it"
        return unasked(place, reason) if place.named else InputError(f"{subject}: {reason}")
    if isinstance(error, GatedRepoError):
        return InputError(
            f"{subject} is gated: ask for access on its page on the hub, then {LOG_IN}"
        )
    if isinstance(error, RepositoryNotFoundError):
        return InputError(
            f"{subject}: the hub has no such model that you may read: check the name; if it is "
            f"private, {LOG_IN}"
        )
    if isinstance(error, RevisionNotFoundError):
        return InputError(
            f"{subject}: the hub has no revision '{place.revision}' of it: name a branch, a tag or "
            "a whole commit"
        )
    # The client's word for a file that it has no copy of, when the hub fails on the way to it.
    if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
        return InputError(
            f"{subject} has no {file}: expected a model of aalbert, or with its file the "
            "checkpoint of another system, hf://USER/MODEL/FILE.ckpt"
        )
    if isinstance(error, HfHubHTTPError) and has_answered(error):
        status = error.response.status_code
        way_out = LOG_IN if status in (UNAUTHORISED, FORBIDDEN) else "try again later"
        return InputError(f"{subject}: the hub refuses with {status}, {shown(error)}: {way_out}")
    reason = (
        f"the hub does not answer as it should ({shown(error)}): check the network and "
        "HF_ENDPOINT, and try again later"
    )
    return unasked(place, reason) if place.named else StorageError(f"{subject}: {reason}")


def shown(error: Exception) -> str:
    """Return the reason of an error on one line, without secrets: it may quote a header."""
    from huggingface_hub import get_token
    from huggingface_hub.errors import HfHubHTTPError

    text = str(error) or type(error).__name__
    if isinstance(error, HfHubHTTPError):
        text = error.server_message or f"status {error.response.status_code}"
    token = get_token()
    text = " ".join(text.split()).rstrip(".")
    return redact(text.replace(token, HIDDEN) if token else text)
