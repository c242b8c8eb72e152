"""What the tests of the node share: prints, a node in this process, and a node in a process of its own."""

import io
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import numpy as np
from forked import forks
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from numpy.typing import NDArray
from PIL import Image

from matcher.codecs import encode
from matcher.template import Finger
from papilar import translate
from papilar.api.v1 import enrollment_pb2_grpc, matching_pb2, matching_pb2_grpc, types_pb2
from papilar.client import NodeClient
from papilar.config import NodeConfig
from papilar.node import Node
from papilar.requests import Enrollment, PrintInput
from papilar.server import NodeServer

ROOT = Path(__file__).resolve().parents[2]
MOST_BYTES = 300_000
"""Message limit of the nodes in this process."""

# ---- prints


def as_png(pixels: NDArray[np.uint8], ppi: float | None = 500) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", **({} if ppi is None else {"dpi": (ppi, ppi)}))
    return out.getvalue()


@cache
def picture(seed: int, number: int = 0) -> bytes:
    """PNG of an impression of a synthetic finger: number 0 is clean, others are turned and shifted."""
    from benchmarks.synthetic import Conditions, finger, impression

    random = np.random.default_rng([seed, number])
    how = Conditions.random(random, 0.1) if number else None
    return as_png(impression(_grown(finger, seed), number, conditions=how).pixels)


@cache
def _grown(finger: Callable[[int], Any], seed: int) -> Any:
    return finger(seed)


def record(seed: int, code: Finger = Finger.UNKNOWN, *, form: str = "papilar-2", n: int = 36) -> bytes:
    """Template record of a finger, as it is enrolled."""
    from minutiae import finger

    return encode(finger(seed, n, code=code), form)


def mate_record(seed: int, number: int = 1, *, n: int = 36) -> bytes:
    """Template record of another impression of the same finger, turned and shifted."""
    from minutiae import finger, mate

    return encode(mate(finger(seed, n), number, turn=0.3, shift=(12, -20)).template, "papilar-2")


def enrolled_as(seed: int, code: Finger = Finger.UNKNOWN) -> PrintInput:
    return PrintInput(finger=code, template=record(seed, code))


def seen_again(seed: int, code: Finger = Finger.UNKNOWN, number: int = 1) -> PrintInput:
    return PrintInput(finger=code, template=mate_record(seed, number))


def image_of(seed: int, number: int = 0, code: Finger = Finger.UNKNOWN) -> PrintInput:
    return PrintInput(finger=code, image=picture(seed, number))


def white() -> bytes:
    return as_png(np.full((400, 300), 255, np.uint8))


def a_person(*seeds: int, subject: str = "", **more: Any) -> Enrollment:
    """An encounter with one template print of each seed."""
    return Enrollment(tuple(enrolled_as(seed) for seed in seeds), subject_id=subject, **more)


def message_of(*prints: PrintInput) -> list[types_pb2.Print]:
    return [translate.to_print(one) for one in prints]


def search_for(*prints: PrintInput, **fields: Any) -> matching_pb2.IdentifyRequest:
    return matching_pb2.IdentifyRequest(probe=message_of(*prints), **fields)


def best_of(response: matching_pb2.IdentifyResponse) -> str:
    """Whom a search names, where it names anyone with evidence for it."""
    return next((c.subject_id for c in response.candidates if c.score > 3), "")


# ---- a node in this process, over a real socket


class Served(NamedTuple):
    node: Node
    client: NodeClient
    address: str
    matching: matching_pb2_grpc.MatchingServiceStub
    enrollment: enrollment_pb2_grpc.EnrollmentServiceStub
    channel: grpc.Channel


@contextmanager
def serving(folder: Path, **settings: Any) -> Iterator[Served]:
    settings = {"listen": "127.0.0.1:0", "max_message_bytes": MOST_BYTES, **settings}
    node = Node(folder, create=True, store=settings.get("store", ""))
    server = NodeServer(node, NodeConfig(folder, **settings))
    server.start()
    address = f"127.0.0.1:{server.port}"
    try:
        with NodeClient(address) as client, grpc.insecure_channel(address) as channel:
            yield Served(
                node,
                client,
                address,
                matching_pb2_grpc.MatchingServiceStub(channel),
                enrollment_pb2_grpc.EnrollmentServiceStub(channel),
                channel,
            )
    finally:
        server.stop()


class Refusal(NamedTuple):
    """How a call ended: its code and what its `google.rpc.ErrorInfo` says, empty without one."""

    code: grpc.StatusCode
    reason: str
    domain: str
    remedy: str
    message: str


def refusal(call: Callable[..., Any], request: Any, *, timeout: float = 30) -> Refusal:
    """Make a call that must fail."""
    try:
        call(request, timeout=timeout)
    except grpc.RpcError as error:
        return _refusal(error)
    raise AssertionError("the call was answered")


def _refusal(error: Any) -> Refusal:
    status, info = rpc_status.from_call(error), error_details_pb2.ErrorInfo()
    for detail in status.details if status is not None else ():
        assert detail.Unpack(info)
    return Refusal(error.code(), info.reason, info.domain, info.metadata["remedy"], error.details())


# ---- a node in a process of its own


class NodeProcess:
    """A node that can be killed. It opens or makes a gallery, and logs at DEBUG into a file.

    `store` is the store's URL, or empty for SQLite.
    """

    def __init__(self, folder: Path, log: Path, store: str = "") -> None:
        port, theirs = forks().Pipe(duplex=False)
        self.process = forks().Process(target=_serve, args=(folder, log, store, theirs), daemon=True)
        self.process.start()
        theirs.close()
        try:
            self.address = f"127.0.0.1:{port.recv()}"
        except EOFError:
            raise AssertionError(log.read_text()) from None

    def kill(self) -> None:
        self.process.kill()
        self.process.join()

    def stop(self) -> int | None:
        """Ask it to end, as an operator does."""
        self.process.terminate()
        self.process.join(30)
        return self.process.exitcode

    def __enter__(self) -> "NodeProcess":
        return self

    def __exit__(self, *exception: object) -> None:
        self.kill()


def _serve(folder: Path, log: Path, store: str, port: Connection) -> None:
    """Serve until a signal, and tell the port."""
    with log.open("ab") as said:
        os.dup2(said.fileno(), 2)
    logging.basicConfig(level=logging.DEBUG)
    server = NodeServer(Node(folder, create=True, store=store), NodeConfig(folder, listen="127.0.0.1:0"))
    server.serve_until_signalled(lambda: port.send(server.port))
