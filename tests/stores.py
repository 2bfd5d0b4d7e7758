"""Places of data that are no usual folder: S3, a hub, a small disk."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hub_server import FakeHub, Repository
from tests.local_server import serving


@pytest.fixture(scope="session")
def s3_port() -> Iterator[int]:
    """An S3 server on a free port of this machine.

    These fixtures import what they need themselves: tests that need a GPU run without it.
    """
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield server.get_host_and_port()[1]
    server.stop()


@pytest.fixture
def s3_client(s3_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of that server that is not fsspec; environment variables lead others there."""
    import boto3  # type: ignore[import-untyped]

    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{s3_port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    client = boto3.client("s3")
    yield client
    client.close()


@pytest.fixture
def s3(s3_client: Any) -> Iterator[str]:
    """The URL of an empty bucket."""
    import s3fs

    s3_client.create_bucket(Bucket="bucket")
    # fsspec keeps instances, and with them the environment of their time.
    s3fs.S3FileSystem.clear_instance_cache()
    yield "s3://bucket"
    s3fs.S3FileSystem.clear_instance_cache()
    for item in s3_client.list_objects_v2(Bucket="bucket").get("Contents", []):
        s3_client.delete_object(Bucket="bucket", Key=item["Key"])
    s3_client.delete_bucket(Bucket="bucket")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub on this machine, and its client, which keeps what it fetches in a folder of the test.

    The client has read its settings from the environment when it was imported.
    """
    from huggingface_hub import close_session, constants

    with serving(FakeHub()) as server:
        address = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        for name, value in {
            "HF_HUB_OFFLINE": False,
            "ENDPOINT": server.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": address,
            "HF_HUB_CACHE": str(tmp_path / "hub"),
            "HF_TOKEN_PATH": str(tmp_path / "token"),
        }.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield server
        close_session()


@pytest.fixture
def hub_model(hub: FakeHub, model_folder: Path) -> Repository:
    """The repository `user/model` with the model of `model_folder`, and a tag of it."""
    repository = Repository()
    files = {path.name: path.read_bytes() for path in model_folder.iterdir()}
    repository.references["v1"] = repository.commit({**files, "big.bin": bytes(2**20)})
    hub.repositories["user/model"] = repository
    return repository


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB, where this user may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if os.geteuid() != 0 or mount is None:
        pytest.skip("mounting a small disk needs root")
    command = [mount, "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    tried = subprocess.run(command, capture_output=True, text=True)
    if tried.returncode != 0:
        pytest.skip(f"mounting is not allowed here: {tried.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)
