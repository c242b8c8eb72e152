"""Reading prints on the machines of a Ray cluster: `Readers` elsewhere.

On each core of the cluster stands an actor, which watches a process that reads prints just as one of
`papilar.archive.workers` does on this machine: with its limits, its reasons and its words. A poisonous file
kills that process and neither the actor nor anything of Ray. So an actor dies with its machine, mostly: the
print that it had is read again elsewhere, and given up when it is lost a second time.

Journal, gallery and archive stay on the machine that enrols. A print or a sheet travels to a reader and back
in the memory of both; what is there of it is dropped with the answer.
"""

import pickle
import queue
import resource
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib import metadata
from typing import Any

from enroll.gate import QualityGate
from matcher.errors import InvalidInput, PapilarError
from papilar.archive.cut import SheetInput
from papilar.archive.worker import Work
from papilar.archive.workers import MEGABYTES, SECONDS, Readers
from papilar.cluster.connection import connected, not_started
from papilar.errors import NodeError, WorkerDied
from papilar.requests import PrintInput

_PATIENCE = 600.0  # seconds; the first start on a machine compiles the kernels
_STARTS = 3  # of one reader, before the cluster is given up
_LOSSES = 2  # of readers with one print, before it is the print's fault


class RayReaders(Readers):
    """Processes on the machines of a cluster that read prints; used as `Readers` are.

    Parameters
    ----------
    address : str
        `HOST:PORT` of a cluster that this machine is part of, `ray://HOST:PORT` of another, or `LOCAL`.
    count : int, optional
        How many; by default one for each core of the cluster.
    seconds, megabytes, keep_images, gate
        As `Readers`; the first two bear on the process, wherever it is.

    Raises
    ------
    RequestInvalid, NodeUnreachable
        As `papilar.cluster.connection.connected`.
    NodeError
        From any method: the cluster is lost, or readers do not start on it.
    """

    def __init__(
        self,
        address: str,
        count: int | None = None,
        *,
        seconds: float = SECONDS,
        megabytes: int = MEGABYTES,
        keep_images: bool = True,
        gate: QualityGate | None = None,
    ) -> None:
        super().__init__(0, seconds=seconds, megabytes=megabytes, keep_images=keep_images, gate=gate)
        self._connection = connected(address, count)
        self._ray = self._connection.__enter__()
        self._actor = self._ray.remote(num_cpus=1)(_Reader)
        self._ready: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._running: list[Any] = []
        self._closed = False
        self.count = count or int(self._ray.cluster_resources().get("CPU", 0)) or 1
        self._starters = ThreadPoolExecutor(self.count, thread_name_prefix="reader")
        for _ in range(self.count):
            self._starters.submit(self._start)

    def close(self) -> None:
        """End the readers, and leave the cluster; nobody may be waiting for one."""
        with self._lock:
            self._closed = True
            for reader in self._running:
                self._ray.kill(reader)
        self._starters.shutdown(cancel_futures=True)
        self._connection.__exit__(None, None, None)

    def _do(
        self,
        work: Work,
        given: PrintInput | SheetInput,
        *,
        keep_image: bool = False,
        gate: QualityGate | None = None,
    ) -> Any:
        question = pickle.dumps((work, given, keep_image, gate))
        for _ in range(_LOSSES):
            reader = self._next()
            answer = self._heard(reader, reader.answer.remote, question)
            if answer is not None:
                self._ready.put(reader)
                return _opened(answer)
        raise WorkerDied(
            f"{_LOSSES} machines or processes were lost while they read it",
            remedy="look at the file; if machines were short of memory, use fewer workers and run again",
        )

    def _next(self) -> Any:
        """Wait for a reader that answers: of those of a lost machine only the one at work loses a print."""
        while True:
            try:
                reader = self._ready.get(timeout=_PATIENCE)
            except queue.Empty:
                raise not_started("readers", f"none within {_PATIENCE:g} s") from None
            if isinstance(reader, NodeError):
                self._ready.put(reader)  # for whoever waits, too
                raise reader
            if self._heard(reader, reader.ready.remote) is not None:
                return reader

    def _heard(self, reader: Any, ask: Callable[..., Any], *question: bytes) -> Any:
        """Return what a reader answers; None where it is lost, and another is started in its place."""
        try:
            return self._ray.get(ask(*question), timeout=self._seconds + _PATIENCE)
        except self._ray.exceptions.RayError:
            self._drop(reader)
            self._starters.submit(self._start)
            return None
        except ConnectionError as error:
            raise NodeError(
                "the connection to the cluster is lost", remedy="see to it, and run the same command again"
            ) from error

    def _start(self) -> None:
        """Start a reader, wherever there is a free core or as soon as there is one."""
        cause = ""
        for _ in range(_STARTS):
            with self._lock:
                if self._closed:
                    return
                reader = self._actor.remote(1, seconds=self._seconds, megabytes=self._megabytes)
                self._running.append(reader)
            try:
                theirs = self._ray.get(reader.ready.remote())
            except (self._ray.exceptions.RayError, ConnectionError) as error:
                cause = type(error).__name__
                self._drop(reader)  # one that lives without its process would keep its core
                continue
            ours = metadata.version("papilar")
            wrong = not_started("readers", f"a machine has Papilar {theirs}, this one {ours}")
            self._ready.put(reader if theirs == ours else wrong)
            return
        self._ready.put(not_started("readers", cause))

    def _drop(self, reader: Any) -> None:
        with self._lock:
            self._running.remove(reader)
        with suppress(ConnectionError):
            self._ray.kill(reader)


class _Reader(Readers):
    """The actor: one process that reads prints, and who watches it."""

    def __init__(self, count: int, *, seconds: float, megabytes: int) -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core would hold prints
        super().__init__(count, seconds=seconds, megabytes=megabytes)

    def ready(self) -> str:
        """Have the process started and warm, and return the version of Papilar on this machine."""
        with suppress(InvalidInput):
            self.check(PrintInput(template=b""))
        return metadata.version("papilar")

    def answer(self, question: bytes) -> bytes:
        """Do what `RayReaders` was asked to; an error goes back as a value."""
        work, given, keep_image, gate = pickle.loads(question)  # noqa: S301 - Ray itself speaks in pickles
        try:
            return pickle.dumps(self._do(work, given, keep_image=keep_image, gate=gate))
        except PapilarError as error:
            return pickle.dumps(error)


def _opened(answer: bytes) -> Any:
    found = pickle.loads(answer)  # noqa: S301 - as above; and in memory of its own, not that of Ray
    if isinstance(found, PapilarError):
        raise found
    return found
