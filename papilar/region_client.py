"""The part of a node's client that asks other countries through it."""

from collections.abc import Iterator
from functools import cached_property

from papilar.api.v1 import region_pb2, region_pb2_grpc
from papilar.client import NodeClient


class RegionClient(NodeClient):
    """A connection to one's own node, to ask other countries; parameters as `NodeClient`."""

    @cached_property
    def _region(self) -> region_pb2_grpc.RegionServiceStub:
        return region_pb2_grpc.RegionServiceStub(self._channel)

    def identify_region(
        self, request: region_pb2.IdentifyRegionRequest
    ) -> Iterator[region_pb2.IdentifyRegionResponse]:
        """Search in the region; each country's answer as it comes, the merged list at last."""
        return self._stream(self._region.IdentifyRegion, request)

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
