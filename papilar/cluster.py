"""Reading prints on the machines of a Ray cluster: `Readers` elsewhere, and the only door to `ray`.

On each core of the cluster stands an actor, which watches a process that reads prints just as one of
`papilar.archive.workers` does on this machine: with its limits, its reasons and its words. A poisonous file
kills that process and neither the actor nor anything of Ray. So an actor dies with its machine, mostly: the
print that it had is read again elsewhere, and given up when it is lost a second time.

Journal, gallery and archive stay on the machine that enrols. A print travels to a reader and back in the
memory of both; what is there of it is dropped with the answer.
"""

import logging
import os
import pickle
import queue
import resource
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from enroll.gate import QualityGate
from matcher.errors import InvalidInput, PapilarError
from papilar.archive.worker import MEBIBYTE, Work
from papilar.archive.workers import MEGABYTES, SECONDS, Readers
from papilar.config import split_address
from papilar.config.environment import confine_ray
from papilar.errors import NodeError, NodeUnreachable, RequestInvalid, WorkerDied
from papilar.requests import PrintInput

LOCAL = "local"
"""In place of an address: a cluster of this machine alone, for as long as it is needed."""

_PATIENCE = 600.0  # seconds; the first start on a machine compiles the kernels
_STARTS = 3  # of one reader, before the cluster is given up
_LOSSES = 2  # of readers with one print, before it is the print's fault

_HELD_IN_MEMORY = {
    "automatic_object_spilling_enabled": False,
    "max_direct_call_object_size": 100 * MEBIBYTE,  # as a part of the call, not as an object that lives on
    "task_rpc_inlined_bytes_limit": 100 * MEBIBYTE,
    "enable_metrics_collection": False,
}
_STORE_BYTES = 80 * MEBIBYTE  # the least that Ray takes; nothing of ours lies there


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
    RequestInvalid
        The extra is not installed.
    NodeUnreachable
        No cluster is there or can be started.
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
        self._connection = _connected(address, count)
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
        self, work: Work, given: PrintInput, *, keep_image: bool = False, gate: QualityGate | None = None
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
                raise _not_started(f"none within {_PATIENCE:g} s") from None
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
            wrong = _not_started(f"a machine has Papilar {theirs}, this one {ours}")
            self._ready.put(reader if theirs == ours else wrong)
            return
        self._ready.put(_not_started(cause))

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


def _not_started(cause: str) -> NodeError:
    return NodeError(
        f"readers do not start on the cluster ({cause})",
        remedy="install the same Papilar, Python and Ray on every machine; see Ray's logs there",
    )


# ---- the cluster


@contextmanager
def _connected(address: str, count: int | None) -> Iterator[Any]:
    """Load Ray and connect to a cluster, unless this process is connected already."""
    confine_ray() if address == LOCAL else _reach(address)
    try:
        import ray
    except ImportError:
        raise RequestInvalid("Ray is not installed", remedy="pip install papilar[cluster]") from None
    if ray.is_initialized():
        yield ray
        return
    with tempfile.TemporaryDirectory(prefix="papilar-", ignore_cleanup_errors=True) as folder:
        here = _here(count, Path(folder)) if address == LOCAL else {}
        with _answering_signals():
            _init(ray, address, here)
        try:
            yield ray
        finally:
            ray.shutdown()


def _init(ray: Any, address: str, here: Mapping[str, Any]) -> None:
    """Connect, or start a cluster here; that twice, for Ray gives its processes half a minute each time."""
    for last in (False, True):
        try:
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **here)
        except Exception as error:  # of a start that takes too long Ray says so by a bare one
            ray.shutdown()
            if last or not here:
                raise _unreachable(address, error) from error
        else:
            return


def _reach(address: str) -> None:
    """Knock before Ray does, which tries for minutes."""
    try:
        socket.create_connection(split_address(address.removeprefix("ray://")), timeout=10).close()
    except OSError as error:
        raise _unreachable(address, error) from error


def _unreachable(address: str, error: Exception) -> NodeUnreachable:
    return NodeUnreachable(
        f"no Ray cluster at {address} lets this machine in ({type(error).__name__})",
        remedy="see that it runs, that Python and Ray are the same here, and that this machine has its token",
    )


def _here(count: int | None, folder: Path) -> dict[str, Any]:
    """Return how a cluster of this machine is started, with its logs in a folder of ours."""
    return {
        "num_cpus": count or len(os.sched_getaffinity(0)),
        "include_dashboard": False,
        "object_store_memory": _STORE_BYTES,
        "_node_ip_address": "127.0.0.1",
        "_temp_dir": str(folder / "ray"),  # within: Ray opens its own folder to everybody
        "_system_config": _HELD_IN_MEMORY,
    }


@contextmanager
def _answering_signals() -> Iterator[None]:
    """Keep SIGTERM as it is answered: Ray takes it for itself."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)
