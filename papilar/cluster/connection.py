"""The way to a Ray cluster, and the only door to `ray`: one that is there, or one of this machine alone.

Whoever is connected hands on what this gives, the library itself, to readers and parts.
"""

import logging
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from papilar.archive.worker import MEBIBYTE
from papilar.config import split_address
from papilar.config.environment import confine_ray
from papilar.errors import NodeError, NodeUnreachable, RequestInvalid

LOCAL = "local"
"""In place of an address: a cluster of this machine alone, for as long as it is needed."""

_HELD_IN_MEMORY = {
    "automatic_object_spilling_enabled": False,
    "max_direct_call_object_size": 100 * MEBIBYTE,  # as a part of the call, not as an object that lives on
    "task_rpc_inlined_bytes_limit": 100 * MEBIBYTE,
    "enable_metrics_collection": False,
}
_STORE_BYTES = 80 * MEBIBYTE  # the least that Ray takes; nothing of ours lies there


@contextmanager
def connected(address: str, cores: int | None = None) -> Iterator[Any]:
    """Load Ray and connect to a cluster, unless this process is connected already; yield the library.

    Parameters
    ----------
    address : str
        `HOST:PORT` of a cluster that this machine is part of, `ray://HOST:PORT` of another, or `LOCAL`.
    cores : int, optional
        Of a local one: how many it believes to have; by default those of this machine.

    Raises
    ------
    RequestInvalid
        The extra is not installed.
    NodeUnreachable
        No cluster is there or can be started.
    """
    confine_ray() if address == LOCAL else _reach(address)
    try:
        import ray
    except ImportError:
        raise RequestInvalid("Ray is not installed", remedy="pip install papilar[cluster]") from None
    if ray.is_initialized():
        yield ray
        return
    with tempfile.TemporaryDirectory(prefix="papilar-", ignore_cleanup_errors=True) as folder:
        here = _here(cores, Path(folder)) if address == LOCAL else {}
        with _answering_signals():
            _init(ray, address, here)
        try:
            yield ray
        finally:
            ray.shutdown()


def not_started(who: str, cause: str) -> NodeError:
    """Return the error that says why actors do not start; `who` they are, in the plural."""
    return NodeError(
        f"{who} do not start on the cluster ({cause})",
        remedy="install the same Papilar, Python and Ray on every machine; see Ray's logs there",
    )


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


def _here(cores: int | None, folder: Path) -> dict[str, Any]:
    """Return how a cluster of this machine is started, with its logs in a folder of ours."""
    return {
        "num_cpus": cores or len(os.sched_getaffinity(0)),
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
