"""What is secret in URLs never gets through; all else does."""

import json
import shlex

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aalbert.common.redaction import is_redacted, redact, redact_all, redact_url

# Of what passwords and keys are made, also raw. It begins with a letter that nothing else here
# has, so that no name or host of the tests is taken for it.
SECRETS = st.text("abcXYZ019/?#@%+:;,=.-_~!$", min_size=5, max_size=30).map(lambda text: "Q" + text)
NAMES = ["token", "sig", "X-Amz-Signature", "X-Amz-Credential", "password", "%74oken", "API_KEY"]
PLACES = ["host/x", "host:9000/x/y.tar", "[::1]:80/x", "bucket"]
AROUND = ["{}", "see {} and https://other/x", "'{}'", '{{"url": "{}", "n": 1}}', "{}: no such file"]
SCHEMES = ["https", "HTTPS", "s3", "sftp", "webdav", "memory", "filecache::https", "zip://a::ftp"]


@given(SECRETS, st.sampled_from(SCHEMES), st.sampled_from(PLACES), st.sampled_from(AROUND))
def test_passwords_never_get_through(secret: str, scheme: str, place: str, around: str) -> None:
    for user in ("me", "", "me@corp"):
        shown = redact(around.format(f"{scheme}://{user}:{secret}@{place}"))
        assert "Q" not in shown
        assert shown.startswith(around.partition("{}")[0].replace("{{", "{"))


@given(SECRETS, st.sampled_from(NAMES), st.sampled_from(PLACES), st.sampled_from(AROUND))
def test_values_of_queries_and_fragments_never_get_through(
    secret: str, name: str, place: str, around: str
) -> None:
    for url in (
        f"https://{place}?{name}={secret}",
        f"https://{place}?part=1&{name}={secret}&versionId=2",
        f"filecache::https://me:word@{place}?{name}={secret}",
        f"s3://{place}#{name}={secret}",
        f"HTTP://{place}?{secret.replace('=', '')}",
    ):
        shown = redact(around.format(url))
        assert "Q" not in shown


@given(st.text("abcXYZ019%+=.-_~!$", min_size=5).map(lambda text: "Q" + text))
def test_tokens_in_place_of_a_user_never_get_through(token: str) -> None:
    for url in (
        f"https://{token}@host/x",
        f"https://{token}:@host:443/x@y",
        f"https://{token}:x-oauth-basic@host/x",
        f"https://{token}@[::1]:9000/x?versionId=a@b",
    ):
        assert "Q" not in redact(url)


@given(SECRETS)
@example("Q00:::")
def test_secrets_with_spaces_are_hidden_where_the_text_is_one_url(secret: str) -> None:
    spaced = f"{secret[:3]} {secret[3:]}"
    for url in (f"ftp://me:{spaced}@host/x", f"--data=https://host/x?token={spaced}"):
        shown = redact_url(url)
        assert secret[3:] not in shown and "Q" not in shown
        assert redact(shown) == shown


@given(st.text("ab9:/@?#&=*+.%[]- ~'\"\n", max_size=40), st.sampled_from(["", "s3://", "ab:/"]))
def test_what_is_redacted_stays_as_it_is(text: str, before: str) -> None:
    shown = redact(before + text)
    assert redact(shown) == shown


@given(st.text().filter(lambda text: ":/" not in text))
def test_other_text_stays_as_it_is(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "C:/data/a#b?c=d and C:\\data@x, at 12:30/13:40",
        "mail me@host.org: is it there? (yes) #1 a=b&c=d",
        "s3://bucket/data/train/000000.tar: checksum",
        "https://host:9000/data, sftp://me@host/data and abfs://container@account/x",
        "simplecache::s3://bucket/x",
        "https://host/x?",
        "file:///data/speech",
    ],
)
def test_places_without_secrets_stay_as_they_are(text: str) -> None:
    assert redact(text) == text
    assert not is_redacted(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("sftp://me:p/a?s#s@w@host/x", "sftp://me:***@host/x"),
        ("ftp://me@corp.org:word@host/x", "ftp://me@corp.org:***@host/x"),
        ("https://token@host/x", "https://***@host/x"),
        ("zip://a.zip::https://me:word@host/x", "zip://a.zip::https://me:***@host/x"),
        # A path of what was a URL.
        ("/here/https:/me:word@host/x?sig=abc", "/here/https:/me:***@host/x?sig=***"),
        # Either reading has a secret: a password with `/` and `?`, or a key with `@`.
        ("https://host:80/x?token=abc@def&sig=ghi", "https://host:***"),
        ("https://host:80/x?sig=abc, s3://b?dG9r==.", "https://host:80/x?sig=***, s3://b?***."),
        # A file below a URL that was redacted already.
        ("memory://x?token=***/train/0.tar: bad", "memory://x?token=***/train/0.tar: bad"),
    ],
)
def test_what_is_no_secret_is_shown(text: str, shown: str) -> None:
    assert redact(text) == shown
    assert is_redacted(shown)


def test_texts_of_a_document_are_redacted() -> None:
    url = "https://me:wo'r\"d@host/x?a=1"
    document = {"data": [url], "command": shlex.join(["aalbert", url]), "n": 1, "none": None}
    shown = redact_all(document)
    assert shown["data"] == ["https://me:***@host/x?a=***"]
    assert "wo" not in json.dumps(shown) and shown["n"] == 1 and shown["none"] is None
