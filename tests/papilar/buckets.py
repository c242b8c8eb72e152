"""A store of objects for tests: S3 as moto serves it, over a socket that can be cut."""

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread
from typing import Any

import boto3
import pytest
import requests
import s3fs
from moto.server import ThreadedMotoServer

BUCKET = "archive"
_AWS = ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3", "AWS_REGION")


class Line:
    """What lies between a caller and the server: it breaks after so many bytes, until mended.

    Attributes
    ----------
    left : int or None
        How many bytes the server may send yet; None for any number.
    """

    def __init__(self, server: tuple[str, int]) -> None:
        self.left: int | None = None
        self._server = server
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self._listening.getsockname()[1]
        Thread(target=self._listen, daemon=True).start()

    def close(self) -> None:
        """Listen no more."""
        self._listening.close()

    def _listen(self) -> None:
        with suppress(OSError):
            while True:
                caller, _ = self._listening.accept()
                if self.left == 0:
                    caller.close()
                    continue
                answering = socket.create_connection(self._server)
                Thread(target=self._pass, args=(caller, answering, False), daemon=True).start()
                Thread(target=self._pass, args=(answering, caller, True), daemon=True).start()

    def _pass(self, come: socket.socket, go: socket.socket, counted: bool) -> None:
        with suppress(OSError), come, go:
            while self.left != 0 and (data := come.recv(1 << 16)):
                if counted and self.left is not None:
                    data = data[: self.left]
                    self.left -= len(data)
                go.sendall(data)
            for each in (come, go):
                each.shutdown(socket.SHUT_RDWR)


class Objects:
    """A server with one bucket, empty at first; the environment leads to it, as it does a user of AWS."""

    def __init__(self, server: tuple[str, int], line: Line) -> None:
        self.server, self.line = f"http://{server[0]}:{server[1]}", line
        self._client: Any = boto3.client(
            "s3",
            endpoint_url=self.server,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",  # noqa: S106
        )
        requests.post(
            f"{self.server}/moto-api/reset", timeout=9
        )  # all servers of a process share what they hold
        self._client.create_bucket(Bucket=BUCKET)

    def let_in(self, calls: int | None = None) -> None:
        """Ask for no credentials, after so many calls for ones that nobody has."""
        count = b"inf" if calls is None else b"%d" % calls
        requests.post(f"{self.server}/moto-api/reset-auth", data=count, timeout=9)

    def put(self, key: str, data: bytes) -> None:
        """Put an object there by its own way, around the line."""
        self._client.put_object(Bucket=BUCKET, Key=key, Body=data)

    def keys(self) -> list[str]:
        """Return what is there."""
        found = self._client.list_objects_v2(Bucket=BUCKET).get("Contents", [])
        return [each["Key"] for each in found]

    def uploads(self) -> int:
        """Return how many uploads were begun and not ended."""
        return len(self._client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", []))


@contextmanager
def objects(monkeypatch: pytest.MonkeyPatch) -> Iterator[Objects]:
    """Serve a store of objects, and let the environment of this process lead there."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    address = server.get_host_and_port()
    line = Line(address)
    found = Objects(address, line)
    for name in _AWS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{line.port}")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # s3fs tries again besides
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 2)
    s3fs.S3FileSystem.clear_instance_cache()
    try:
        yield found
    finally:
        s3fs.S3FileSystem.clear_instance_cache()
        found.let_in()
        line.close()
        server.stop()
