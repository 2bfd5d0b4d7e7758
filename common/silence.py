"""How long a store may be silent: what backends are told, so that no call waits for ever.

A transfer may take as long as it needs while bytes arrive. By default aiohttp ends every request
after five minutes, a large download too, and waits as long for a server that says nothing.
"""

from importlib import import_module
from typing import Any

from fsspec.config import conf

# After this time without a byte a connection is given up, and the call is made again.
SILENCE_S = 15.0


def options(url: str) -> dict[str, dict[str, Any]]:
    """Return the options of each protocol in a URL; those of fsspec's configuration go first."""
    protocols = {link.partition("://")[0] for link in url.split("::")}
    return {name: OPTIONS[name](conf.get(name, {})) for name in protocols & OPTIONS.keys()}


def of_s3(configured: dict[str, Any]) -> dict[str, Any]:
    """Return the options of s3fs.

    It repeats a call five times itself; botocore would do so five times within each of them.
    """
    patience = {
        "connect_timeout": SILENCE_S,
        "read_timeout": SILENCE_S,
        "retries": {"max_attempts": 0},
    }
    return {"config_kwargs": {**patience, **configured.get("config_kwargs", {})}}


def of_http(configured: dict[str, Any]) -> dict[str, Any]:
    """Return the options of fsspec's HTTP."""
    timeout = import_module("aiohttp").ClientTimeout(
        total=None, sock_connect=SILENCE_S, sock_read=SILENCE_S
    )
    return {"client_kwargs": {"timeout": timeout, **configured.get("client_kwargs", {})}}


OPTIONS = {"s3": of_s3, "s3a": of_s3, "http": of_http, "https": of_http}
