"""A node asked over gRPC: statuses become the project's errors again. The only other user of grpc.

`NodeClient` speaks in the messages of the contract; `RemoteSearcher` is a node as a `Searcher`.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

import enroll.errors  # noqa: F401  (adds its branch to the error tree)
from matcher.codecs import NATIVE, encode
from matcher.errors import PapilarError
from matcher.search import Candidate, ProbePrint, SearchResult
from papilar import errors, translate
from papilar.api.v1 import enrollment_pb2, enrollment_pb2_grpc, matching_pb2, matching_pb2_grpc
from papilar.config import is_loopback, split_address
from papilar.requests import Enrollment, PrintInput
from papilar.tls import channel_options

_T = TypeVar("_T")

DEFAULT_TIMEOUT = 60.0


@dataclass(frozen=True, slots=True)
class ClientTls:
    """How to trust a node, and to be trusted: PEM files. Without `ca`, the system's authorities are asked.

    With `country`, its certificate must have the name of that country's nodes, whatever its address is.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    country: str = ""

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise errors.ConfigInvalid("TLS by halves", remedy="give both --tls-cert and --tls-key")


class NodeClient:
    """A connection to one node.

    Parameters
    ----------
    address : str
        `HOST:PORT`.
    tls : ClientTls, optional
        None: plain text, which is refused off loopback unless `allow_plain_text`.
    allow_plain_text : bool
    timeout : float
        Seconds that a call may take.
    caller : mapping of str to str, optional
        Metadata of every call: what for, as `papilar.users.Mandate.metadata` gives it, and a token.

    Raises
    ------
    ConfigInvalid, TransportInsecure
        Bad address, unreadable certificate, plain text to another machine.
    """

    def __init__(
        self,
        address: str,
        *,
        tls: ClientTls | None = None,
        allow_plain_text: bool = False,
        timeout: float = DEFAULT_TIMEOUT,
        caller: Mapping[str, str] | None = None,
    ) -> None:
        host, _ = split_address(address)
        if tls is None and not (allow_plain_text or is_loopback(host)):
            raise errors.TransportInsecure(
                f"plain text to {address}",
                remedy="give the node's authority (--tls-ca), or --allow-plain-text",
            )
        self._address = address
        self._timeout = timeout
        self._metadata = tuple((caller or {}).items())
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        if tls is None:
            self._channel = grpc.insecure_channel(address, options)
        else:
            named = channel_options(tls.country) if tls.country else []
            self._channel = grpc.secure_channel(address, _credentials(tls), [*options, *named])
        self._matching = matching_pb2_grpc.MatchingServiceStub(self._channel)
        self._enrollment = enrollment_pb2_grpc.EnrollmentServiceStub(self._channel)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def identify(
        self, request: matching_pb2.IdentifyRequest, *, timeout: float | None = None
    ) -> matching_pb2.IdentifyResponse:
        """Search 1:N, within `timeout` seconds where that is less than the client's own."""
        return self._call(self._matching.Identify, request, timeout)

    def verify(self, request: matching_pb2.VerifyRequest) -> matching_pb2.VerifyResponse:
        """Compare 1:1."""
        return self._call(self._matching.Verify, request)

    def gallery(self, name: str = "") -> matching_pb2.Gallery:
        """Describe the gallery."""
        return self._call(self._matching.GetGallery, matching_pb2.GetGalleryRequest(gallery=name)).gallery

    def enroll(
        self, new: Enrollment, *, request_id: str = "", gallery: str = ""
    ) -> enrollment_pb2.EnrollResponse:
        """Enrol one encounter."""
        request = translate.to_enroll_request(new, request_id=request_id, gallery=gallery)
        return self._call(self._enrollment.Enroll, request)

    def enroll_many(
        self, requests: Iterable[enrollment_pb2.EnrollManyRequest]
    ) -> enrollment_pb2.EnrollManyResponse:
        """Enrol a stream of encounters."""
        return self._call(self._enrollment.EnrollMany, iter(requests))

    def encounter(self, request: enrollment_pb2.GetEncounterRequest) -> enrollment_pb2.Encounter:
        """Show one encounter."""
        return self._call(self._enrollment.GetEncounter, request).encounter

    def delete(
        self, encounter_id: str, *, request_id: str = "", gallery: str = ""
    ) -> enrollment_pb2.DeleteEncounterResponse:
        """Delete one encounter."""
        request = enrollment_pb2.DeleteEncounterRequest(
            request_id=request_id, gallery=gallery, encounter_id=encounter_id
        )
        return self._call(self._enrollment.DeleteEncounter, request)

    def _call(self, method: Callable[..., _T], request: object, timeout: float | None = None) -> _T:
        allowed = self._timeout if timeout is None else min(timeout, self._timeout)
        with _own_errors(self._address):
            return method(request, timeout=allowed, metadata=self._metadata)

    def _stream(self, method: Callable[..., Iterator[_T]], request: object) -> Iterator[_T]:
        with _own_errors(self._address):
            yield from method(request, timeout=self._timeout, metadata=self._metadata)


class RemoteSearcher:
    """A node as a `Searcher`: the probe's templates are sent, its candidates come back.

    Parameters
    ----------
    client : NodeClient
    """

    def __init__(self, client: NodeClient) -> None:
        self._client = client

    def search(
        self,
        probe: Sequence[ProbePrint],
        *,
        limit: int,
        least: float | None = None,
        deadline: float | None = None,
    ) -> SearchResult:
        """Return the node's candidates; a node that is down or late is a named failure, no exception.

        Raises
        ------
        RequestInvalid
            A probe print without its template.
        """
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            return SearchResult((), 0, False, ("deadline passed before the node was asked",))
        prints = [translate.to_print(_sent(p)) for p in probe]
        request = matching_pb2.IdentifyRequest(probe=prints, limit=limit)
        try:
            response = self._client.identify(request, timeout=left)
        except (errors.NodeError, errors.StorageError, errors.DeadlinePassed) as error:
            return SearchResult((), 0, False, (str(error),))
        found = tuple(
            Candidate(c.subject_id, c.encounter_id, c.score, c.rank, ())
            for c in response.candidates
            if least is None or c.score >= least
        )
        failures = tuple(f"{f.part}: {f.message}" for f in response.failures)
        return SearchResult(found, response.searched_prints, response.complete, failures)


def _sent(one: ProbePrint) -> PrintInput:
    if one.template is None:
        raise errors.RequestInvalid("a probe print without its template", remedy="set ProbePrint.template")
    return PrintInput(one.finger, template=encode(one.template, NATIVE))


_UNREACHABLE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNKNOWN)


@contextmanager
def _own_errors(address: str) -> Iterator[None]:
    """Raise the project's errors in place of those of gRPC."""
    try:
        yield
    except grpc.RpcError as error:
        raise own_error(error, address) from error


def own_error(error: Any, address: str) -> PapilarError:
    """Return the project's error for a status: the class that its `ErrorInfo` names, else by its code."""
    status = rpc_status.from_call(error)
    for detail in status.details if status is not None else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info) and info.domain == "papilar" and info.reason in _by_reason():
            remedy = info.metadata.get("remedy", "see the node's log")
            return _by_reason()[info.reason](error.details().removesuffix(f"; {remedy}"), remedy=remedy)
    code, text = error.code(), error.details()
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return errors.DeadlinePassed(f"{address} did not answer in time", remedy="allow more (--timeout)")
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return errors.MessageTooLarge(f"{address} refuses the message ({text})", remedy="send less at a time")
    if code in _UNREACHABLE:
        return errors.NodeUnreachable(
            f"no node answers at {address} ({text})",
            remedy="check the address, the certificate and that it runs",
        )
    return errors.NodeError(f"{address} failed ({code.name}: {text})", remedy="see the node's log")


def _by_reason() -> dict[str, type[PapilarError]]:
    return {kind.reason: kind for kind in _family(PapilarError)}


def _family(kind: type[PapilarError]) -> Iterator[type[PapilarError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _family(child)


def _credentials(tls: ClientTls) -> grpc.ChannelCredentials:
    try:
        ca, certificate, key = (
            path.read_bytes() if path else None for path in (tls.ca, tls.certificate, tls.key)
        )
    except OSError as error:
        raise errors.ConfigInvalid(
            f"a certificate file cannot be read ({error.strerror})",
            remedy="check --tls-ca, --tls-cert, --tls-key",
        ) from error
    return grpc.ssl_channel_credentials(ca, key, certificate)
