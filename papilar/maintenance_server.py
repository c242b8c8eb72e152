"""The node's service for work on its gallery as a whole: messages in, values to the work, messages out."""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from papilar.access import Access
from papilar.api.v1 import maintenance_pb2, maintenance_pb2_grpc
from papilar.archive.workers import Readers
from papilar.config import NodeConfig
from papilar.errors import RequestInvalid
from papilar.node import Node
from papilar.reextraction import Job, Reextraction, Report, State
from papilar.server import AddService, Servicer, answering

MOST_WORKERS = 256
"""Processes that one re-extraction may have."""


class MaintenanceService(Servicer, maintenance_pb2_grpc.MaintenanceServiceServicer):
    """See proto/papilar/api/v1/maintenance.proto.

    Parameters
    ----------
    node, config, access
        As for the other services of the node.
    job : Job
    """

    def __init__(self, node: Node, config: NodeConfig, access: Access, *, job: Job) -> None:
        super().__init__(node, config, access)
        self._job = job

    @answering
    def StartReextraction(self, request: maintenance_pb2.StartReextractionRequest, context: Any) -> Any:  # noqa: N802
        """Start a re-extraction, or say how far the one under way is."""
        self.node.check_name(request.gallery)
        if request.workers > MOST_WORKERS:
            raise RequestInvalid(f"{request.workers} workers", remedy=f"ask for 1 to {MOST_WORKERS}")
        report = self._job.start(request.workers or _half_of_the_processors())
        return maintenance_pb2.StartReextractionResponse(reextraction=to_reextraction(report))

    @answering
    def GetReextraction(self, request: maintenance_pb2.GetReextractionRequest, context: Any) -> Any:  # noqa: N802
        """Say how far the latest re-extraction is."""
        self.node.check_name(request.gallery)
        return maintenance_pb2.GetReextractionResponse(reextraction=to_reextraction(self._job.report))


def maintenance_service(job: Job) -> AddService:
    """Return what adds the service for work on the gallery to a server."""

    def add(server: Any, node: Node, config: NodeConfig, access: Access) -> str:
        service = MaintenanceService(node, config, access, job=job)
        maintenance_pb2_grpc.add_MaintenanceServiceServicer_to_server(service, server)
        return maintenance_pb2.DESCRIPTOR.services_by_name["MaintenanceService"].full_name

    return add


@contextmanager
def reextracting(node: Node) -> Iterator[Job]:
    """Yield what re-extracts a node's gallery when it is asked to, in processes; it is stopped at the end."""

    @contextmanager
    def make(workers: int) -> Iterator[Reextraction]:
        with Readers(workers) as readers:
            yield node.reextraction(readers.read_prints, threads=workers)

    with closing(Job(make)) as job:
        yield job


def to_reextraction(report: Report) -> maintenance_pb2.Reextraction:
    """Return a report as a message."""
    state = "UNSPECIFIED" if report.state is State.NONE else report.state
    return maintenance_pb2.Reextraction(
        state=maintenance_pb2.ReextractionState.Value(f"REEXTRACTION_STATE_{state}"),
        extractor=report.extractor,
        prints=report.prints,
        done=report.done,
        failed=report.failed,
        error_reason=report.error,
    )


def _half_of_the_processors() -> int:
    return max(1, len(os.sched_getaffinity(0)) // 2)
