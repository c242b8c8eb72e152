"""The part of a node's client that asks other countries through it."""

from collections.abc import Iterator, Mapping

from papilar.api.v1 import region_pb2, region_pb2_grpc
from papilar.client import DEFAULT_TIMEOUT, ClientTls, NodeClient, own_errors


class RegionClient(NodeClient):
    """A connection to one's own node, to ask other countries; parameters as `NodeClient`."""

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
        self._region = region_pb2_grpc.RegionServiceStub(self._channel)

    def __enter__(self) -> "RegionClient":
        return self

    def identify_region(
        self, request: region_pb2.IdentifyRegionRequest
    ) -> Iterator[region_pb2.IdentifyRegionResponse]:
        """Search in the region; each country's answer as it comes, the merged list at last."""
        with own_errors(self._address):
            yield from self._region.IdentifyRegion(request, timeout=self._timeout, metadata=self._metadata)

    def region_answers(self, request_id: str) -> region_pb2.GetRegionAnswersResponse:
        """Fetch what came later."""
        request = region_pb2.GetRegionAnswersRequest(request_id=request_id)
        return self._call(self._region.GetRegionAnswers, request)

    def confirm_candidate(
        self, request: region_pb2.ConfirmCandidateRequest
    ) -> region_pb2.ConfirmCandidateResponse:
        """Hand on an examiner's conclusion."""
        return self._call(self._region.ConfirmCandidate, request)

    def peer_statistics(self, country: str, month: str) -> region_pb2.GetPeerStatisticsResponse:
        """Fetch what another country says of a month, `2026-11`."""
        request = region_pb2.GetPeerStatisticsRequest(country=country, month=month)
        return self._call(self._region.GetPeerStatistics, request)

    def peers(self) -> region_pb2.ListPeersResponse:
        """List whom the node can ask."""
        return self._call(self._region.ListPeers, region_pb2.ListPeersRequest())
