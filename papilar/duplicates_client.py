"""The part of a node's client that finds duplicates and decides on them."""

from collections.abc import Iterator
from functools import cached_property

from papilar.api.v1 import duplicates_pb2, duplicates_pb2_grpc
from papilar.client import NodeClient


class DuplicatesClient(NodeClient):
    """A connection to a node, for what is in its gallery twice; parameters as `NodeClient`."""

    @cached_property
    def _duplicates(self) -> duplicates_pb2_grpc.DuplicateServiceStub:
        return duplicates_pb2_grpc.DuplicateServiceStub(self._channel)

    def find(
        self, request: duplicates_pb2.FindDuplicatesRequest
    ) -> Iterator[duplicates_pb2.FindDuplicatesResponse]:
        """Look the gallery through: each new case as it is found, and how far that is."""
        return self._stream(self._duplicates.FindDuplicates, request)

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
