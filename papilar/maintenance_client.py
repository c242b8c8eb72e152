"""The part of a node's client that works on its gallery as a whole."""

from collections.abc import Mapping

from papilar.api.v1 import maintenance_pb2, maintenance_pb2_grpc
from papilar.client import DEFAULT_TIMEOUT, ClientTls, NodeClient


class MaintenanceClient(NodeClient):
    """A connection to one's own node, to work on its gallery; parameters as `NodeClient`."""

    def __init__(
        self,
        address: str,
        *,
        tls: ClientTls | None = None,
        allow_plain_text: bool = False,
        timeout: float = DEFAULT_TIMEOUT,
        caller: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(address, tls=tls, allow_plain_text=allow_plain_text, timeout=timeout, caller=caller)
        self._maintenance = maintenance_pb2_grpc.MaintenanceServiceStub(self._channel)

    def __enter__(self) -> "MaintenanceClient":
        return self

    def start_reextraction(self, workers: int = 0) -> maintenance_pb2.Reextraction:
        """Start a re-extraction with so many processes, 0 for the node's own choice; say how far it is."""
        request = maintenance_pb2.StartReextractionRequest(workers=workers)
        answer: maintenance_pb2.StartReextractionResponse = self._call(
            self._maintenance.StartReextraction, request
        )
        return answer.reextraction

    def reextraction(self) -> maintenance_pb2.Reextraction:
        """Say how far the latest re-extraction is."""
        request = maintenance_pb2.GetReextractionRequest()
        answer: maintenance_pb2.GetReextractionResponse = self._call(
            self._maintenance.GetReextraction, request
        )
        return answer.reextraction
