"""A real S3 server for tests: SeaweedFS, with the environment that leads AWS's tools to it."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import pytest

KEY, SECRET = "access-key-of-tests", "secret-key-of-tests"


def free_port() -> int:
    """A port that nothing listens on, for which port + 10 000, SeaweedFS's for gRPC, is free too."""
    while True:
        with socket.socket() as probe, socket.socket() as second:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
            if port < 50_000:
                with suppress(OSError):  # taken: the next one
                    second.bind(("127.0.0.1", port + 10_000))
                    return port


@contextmanager
def s3_server(folder: Path, bucket: str = "photos") -> Iterator[dict[str, str]]:
    """Start SeaweedFS's S3 server with one bucket.

    Yields:
        The environment variables under which obstore finds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    allowed = {"name": "all", "credentials": [{"accessKey": KEY, "secretKey": SECRET}]}
    allowed |= {"actions": ["Admin", "Read", "List", "Tagging", "Write"]}
    (folder / "s3.json").write_text(json.dumps({"identities": [allowed]}))
    ports = {name: free_port() for name in ("master", "volume", "filer", "s3")}
    weed = Path(sys.executable).with_name("weed")
    command = [str(weed), "server", f"-dir={folder}", "-s3", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
    command += [f"-{name}.port={port}" for name, port in ports.items()]
    command += [f"-s3.config={folder / 's3.json'}", "-master.volumeSizeLimitMB=64", "-volume.max=20"]
    with open(folder / "weed.log", "wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{ports['s3']}",
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
    }
    try:
        _make_bucket(environment, bucket, folder)
        yield environment
    finally:
        server.kill()  # it holds nothing that outlives the test, and takes half a minute to end by itself
        server.wait()


def _make_bucket(environment: dict[str, str], bucket: str, folder: Path) -> None:
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    client = boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
        region_name="us-east-1",
    )
    deadline = time.monotonic() + 90
    while True:
        try:
            client.create_bucket(Bucket=bucket)
            client.put_object(Bucket=bucket, Key="ready", Body=b"1")
            return
        except (BotoCoreError, ClientError, urllib.error.URLError):
            assert time.monotonic() < deadline, (folder / "weed.log").read_text()[-2000:]
            time.sleep(0.2)


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A prefix of a bucket of a real S3 server."""
    with pytest.MonkeyPatch.context() as patch, s3_server(tmp_path_factory.mktemp("s3")) as environment:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield f"s3://photos/{uuid4().hex}"
