"""The part of a node's client that works on its gallery as a whole."""

from functools import cached_property

from papilar.api.v1 import maintenance_pb2, maintenance_pb2_grpc
from papilar.client import NodeClient


class MaintenanceClient(NodeClient):
    """A connection to one's own node, to work on its gallery; parameters as `NodeClient`."""

    @cached_property
    def _maintenance(self) -> maintenance_pb2_grpc.MaintenanceServiceStub:
        return maintenance_pb2_grpc.MaintenanceServiceStub(self._channel)

    def start_reextraction(self, workers: int = 0) -> maintenance_pb2.Reextraction:
        """Start a re-extraction with so many processes, 0 for the node's own choice; say how far it is."""
        request = maintenance_pb2.StartReextractionRequest(workers=workers)
        return self._call(self._maintenance.StartReextraction, request).reextraction

    def reextraction(self) -> maintenance_pb2.Reextraction:
        """Say how far the latest re-extraction is."""
        request = maintenance_pb2.GetReextractionRequest()
        return self._call(self._maintenance.GetReextraction, request).reextraction
