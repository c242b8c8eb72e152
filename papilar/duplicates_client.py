"""The part of a node's client that finds duplicates and decides on them."""

from collections.abc import Iterator, Mapping

from papilar.api.v1 import duplicates_pb2, duplicates_pb2_grpc
from papilar.client import DEFAULT_TIMEOUT, ClientTls, NodeClient, own_errors


class DuplicatesClient(NodeClient):
    """A connection to a node, for what is in its gallery twice; parameters as `NodeClient`."""

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
        self._duplicates = duplicates_pb2_grpc.DuplicateServiceStub(self._channel)

    def __enter__(self) -> "DuplicatesClient":
        return self

    def find(
        self, request: duplicates_pb2.FindDuplicatesRequest
    ) -> Iterator[duplicates_pb2.FindDuplicatesResponse]:
        """Look the gallery through: each new case as it is found, and how far that is."""
        with own_errors(self._address):
            yield from self._duplicates.FindDuplicates(
                request, timeout=self._timeout, metadata=self._metadata
            )

    def cases(
        self, request: duplicates_pb2.ListDuplicateCasesRequest
    ) -> duplicates_pb2.ListDuplicateCasesResponse:
        """List cases."""
        return self._call(self._duplicates.ListDuplicateCases, request)

    def decide(
        self, request: duplicates_pb2.DecideDuplicateCaseRequest
    ) -> duplicates_pb2.DecideDuplicateCaseResponse:
        """Decide a case."""
        return self._call(self._duplicates.DecideDuplicateCase, request)

    def unmerge(
        self, request: duplicates_pb2.UnmergeSubjectsRequest
    ) -> duplicates_pb2.UnmergeSubjectsResponse:
        """Undo a merge."""
        return self._call(self._duplicates.UnmergeSubjects, request)
