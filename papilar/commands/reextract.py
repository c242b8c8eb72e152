"""`papilar reextract`: every print of a gallery extracted anew, at a running node or in a stopped gallery.

Exit codes: 0 done; 1 the system failed, or the run was stopped; 3 done, but some prints keep their templates.
"""

import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from papilar.archive.workers import Readers
from papilar.commands.options import Connection, JsonFlag, grouped
from papilar.config import NodeConfig, load_config
from papilar.errors import NodeError, RequestInvalid
from papilar.maintenance_client import MaintenanceClient
from papilar.maintenance_server import to_reextraction
from papilar.node import Node
from papilar.originals import originals_of
from papilar.reextraction import Reextraction, State
from papilar.show import err, message_dict, print_json, show_pairs

OK, STOPPED, SOME_LEFT_OUT = 0, 1, 3
_SECONDS = 2.0  # between two questions to a node
_ENDED = {f"REEXTRACTION_STATE_{state}" for state in (State.DONE, State.STOPPED, State.FAILED)}
_PREFIX = "REEXTRACTION_STATE_"


@grouped
def reextract(
    *,
    node: Annotated[str | None, typer.Option("--node", help="Address of a running node, HOST:PORT.")] = None,
    gallery: Annotated[Path | None, typer.Option("--gallery", help="Folder of a stopped gallery.")] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="Settings of a stopped node, TOML, with [originals].")
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes; by default half of the processors.")] = 0,
    connection: Connection,
    as_json: JsonFlag = False,
) -> None:
    """Extract every print anew from its original, and bring all in force at once. Run it again to go on."""
    if (node is None) == (gallery is None and config is None):
        raise RequestInvalid(
            "no gallery to work on, or two", remedy="give --node HOST:PORT, or --gallery DIR or --config FILE"
        )
    if node is not None:
        told = _at_node(node, workers, connection)
    else:
        told = _here(load_config(config, gallery=gallery), workers or _half())
    told["state"] = str(told.get("state", "")).removeprefix(_PREFIX)
    print_json(told) if as_json else show_pairs("re-extraction", _lines(told))
    if told["state"] != State.DONE:
        raise typer.Exit(STOPPED)
    raise typer.Exit(SOME_LEFT_OUT if told.get("failed") else OK)


def _at_node(address: str, workers: int, connection: Connection) -> dict[str, Any]:
    with connection.to(address, MaintenanceClient) as client:
        told = message_dict(client.start_reextraction(workers))
        while told.get("state") not in _ENDED:
            if "state" not in told:
                raise NodeError(f"{address} began anew meanwhile", remedy="run the same command again")
            time.sleep(_SECONDS)
            told = message_dict(client.reextraction())
    return told


def _here(settings: NodeConfig, workers: int) -> dict[str, Any]:
    originals = originals_of(settings.originals)
    with (
        Node(settings.gallery, store=settings.store, originals=originals) as node,
        Readers(workers) as readers,
        _stopped_by_signal(node.reextraction(readers.read_prints, threads=workers)) as run,
    ):
        return message_dict(to_reextraction(run.run()))


def _half() -> int:
    return max(1, len(os.sched_getaffinity(0)) // 2)


@contextmanager
def _stopped_by_signal(run: Reextraction) -> Iterator[Reextraction]:
    """Let SIGINT or SIGTERM end the run cleanly."""

    def stop(*_: object) -> None:
        run.stop()
        err.print("stopping: the same command again goes on where this ends")

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield run
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _lines(told: Mapping[str, Any]) -> dict[str, Any]:
    failed = [f"{count} {reason}" for reason, count in told.get("failed", {}).items()]
    return {**told, "failed": failed}
