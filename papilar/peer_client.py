"""Another country's node asked over gRPC: mutual TLS, one call a question, statuses as the project's errors.

What a peer says is not believed here; `papilar.exchange.answers` judges it.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar, cast

import grpc
from google.protobuf.message import DecodeError

from matcher.errors import PapilarError
from papilar import errors
from papilar.api.peer.v1 import peer_pb2, peer_pb2_grpc
from papilar.client import own_error
from papilar.config import split_address
from papilar.exchange.calls import Peer, PeerLine
from papilar.tls import TlsFiles, channel_credentials, channel_options, check_node, shown_certificate
from papilar.trust import Trust

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""Largest message taken from a peer, or sent to one."""

_LOOK_SECONDS = 5.0  # that a look at a peer's certificate may take

_TOO_LARGE_HERE = "CLIENT: Received message larger than max"
"""What gRPC's own status says where this side has cut a message off."""

_T = TypeVar("_T")
_Stamp = tuple[int | bytes, ...]
_Method = Callable[[peer_pb2_grpc.PeerServiceStub], Callable[..., _T]]


class SearchCall:
    """A search at a peer: iterate over its messages, which begins it; `cancel` from any thread ends it."""

    def __init__(self, channel: "PeerChannel", request: peer_pb2.SearchRequest, timeout: float) -> None:
        self._channel, self._request = channel, request
        self._ends = time.monotonic() + timeout
        self._lock = threading.Lock()
        self._call: Any = None
        self._cancelled = False

    def __iter__(self) -> Iterator[peer_pb2.SearchResponse]:
        with self._channel.calling(self._ends) as stub:
            yield from self._begin(stub)

    def cancel(self) -> None:
        """Give the call up; nothing happens where it has ended."""
        with self._lock:
            self._cancelled = True
            if self._call is not None:
                self._call.cancel()

    def _begin(self, stub: peer_pb2_grpc.PeerServiceStub) -> Iterator[peer_pb2.SearchResponse]:
        with self._lock:
            if self._cancelled:  # while the peer's certificate was looked at: nothing is sent
                return iter(())
            self._call = stub.Search(self._request, timeout=_left(self._ends))
            return cast(Iterator[peer_pb2.SearchResponse], self._call)


class _Made(NamedTuple):
    """A connection, the certificate whose holder alone it reaches, and what it was made with."""

    stamp: _Stamp
    leaf: bytes
    channel: grpc.Channel
    stub: peer_pb2_grpc.PeerServiceStub


class PeerChannel:
    """One connection to one node of one country; only that country's authority is believed.

    The node's certificate is looked at before anything is sent, and asked of the trust list again at every
    call. The connection is made anew, for the calls that follow, where our certificate or the peer's
    authority has changed, where the peer's certificate is no longer believed, and where the peer could not be
    reached: it may have a new one.

    Parameters
    ----------
    country : str
        The peer, ISO 3166-1 alpha-3.
    address : str
        `HOST:PORT`.
    tls : TlsFiles
        Our node's certificate and key.
    trust : Trust
    max_message_bytes : int

    Raises
    ------
    ConfigInvalid
        No such address.
    """

    def __init__(
        self,
        country: str,
        address: str,
        *,
        tls: TlsFiles,
        trust: Trust,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
    ) -> None:
        split_address(address)
        self._country, self._address, self._tls, self._trust = country, address, tls, trust
        self._options = [
            *channel_options(country),
            ("grpc.max_receive_message_length", max_message_bytes),
            ("grpc.max_send_message_length", max_message_bytes),
            ("grpc.use_local_subchannel_pool", 1),  # a second channel is to be a second connection
            ("grpc.enable_http_proxy", 0),
            ("grpc.initial_reconnect_backoff_ms", 200),
            ("grpc.max_reconnect_backoff_ms", 5_000),
        ]
        self._lock = threading.Lock()
        self._made: _Made | None = None
        self._closed = False

    def search(self, request: peer_pb2.SearchRequest, *, timeout: float) -> SearchCall:
        """Ask for a search; returns at once. Iterating raises what the other methods raise."""
        return SearchCall(self, request, timeout)

    def confirm(self, request: peer_pb2.ConfirmRequest, *, timeout: float) -> peer_pb2.ConfirmResponse:
        """Give an examiner's conclusion.

        Parameters
        ----------
        request : ConfirmRequest
        timeout : float
            Seconds.

        Raises
        ------
        NodeError, DeadlinePassed
            No answer.
        CertificateRefused
            The peer's certificate is not believed (`why` says why), or ours is not there (`why` is None).
        ConfigInvalid
            Our files cannot be used.
        PapilarError
            The error that the peer names.
        """
        return self._ask(lambda stub: stub.Confirm, request, timeout)

    def describe(self, *, timeout: float) -> peer_pb2.DescribeNodeResponse:
        """Ask what the peer offers; as `confirm`."""
        return self._ask(lambda stub: stub.DescribeNode, peer_pb2.DescribeNodeRequest(), timeout)

    def exchange_heads(
        self, request: peer_pb2.ExchangeHeadsRequest, *, timeout: float
    ) -> peer_pb2.ExchangeHeadsResponse:
        """Exchange tree heads; as `confirm`."""
        return self._ask(lambda stub: stub.ExchangeHeads, request, timeout)

    def get_statistics(
        self, request: peer_pb2.GetStatisticsRequest, *, timeout: float
    ) -> peer_pb2.GetStatisticsResponse:
        """Ask for the counters of a month; as `confirm`."""
        return self._ask(lambda stub: stub.GetStatistics, request, timeout)

    def close(self) -> None:
        """End the connection, and what is under way on it."""
        with self._lock:
            self._closed = True
            if self._made is not None:
                self._made.channel.close()
                self._made = None

    @contextmanager
    def calling(self, ends: float) -> Iterator[peer_pb2_grpc.PeerServiceStub]:
        """Yield what calls the peer; statuses, whatever a peer puts into them, become errors of the project.

        Parameters
        ----------
        ends : float
            `time.monotonic` instant.
        """
        made = self._believed() or self._make(min(_LOOK_SECONDS, _left(ends)))
        try:
            yield made.stub
        except grpc.RpcError as error:
            if cast(Any, error).code() is grpc.StatusCode.UNAVAILABLE:
                self._forget(made)
            raise _error_of(error, self._address) from None  # its text and trailers are the peer's

    def _ask(self, method: _Method[_T], request: object, timeout: float) -> _T:
        ends, connected = time.monotonic() + timeout, self._made is not None
        try:
            return self._once(method, request, ends)
        except errors.NodeUnreachable:  # a connection that was open has ended: once more, over a new one
            if not connected:
                raise
        return self._once(method, request, ends)

    def _once(self, method: _Method[_T], request: object, ends: float) -> _T:
        with self.calling(ends) as stub:
            return method(stub)(request, timeout=_left(ends))

    def _believed(self) -> _Made | None:
        """Return the connection, if there is one to a certificate that is believed now."""
        with self._lock:
            made = self._made
        if made is None or made.stamp != self._stamp():
            return None
        try:
            check_node(made.leaf, self._trust, self._country, at=datetime.now(UTC))
        except errors.CertificateRefused:
            return None
        return made

    def _make(self, timeout: float) -> _Made:
        """Look at the certificate that the peer shows now, and connect to its holder alone."""
        stamp, given = self._stamp(), (self._tls, self._trust, self._country)
        leaf = shown_certificate(self._address, *given, at=datetime.now(UTC), timeout=timeout)
        with self._lock:
            if self._closed:
                raise errors.NodeUnreachable("the connection has been closed", remedy="open another")
            made = self._made
            if made is None or (made.stamp, made.leaf) != (stamp, leaf):
                # Calls under way on an old channel keep it, and end it with the last of them.
                credentials = channel_credentials(*given, shown=leaf)
                channel = grpc.secure_channel(self._address, credentials, self._options)
                made = _Made(stamp, leaf, channel, peer_pb2_grpc.PeerServiceStub(channel))
                self._made = made
            return made

    def _forget(self, made: _Made) -> None:
        with self._lock:
            if self._made is made:
                self._made = None

    def _stamp(self) -> _Stamp:
        return _stamp(self._tls, self._trust.roots(self._country))


def open_peer(
    country: str,
    addresses: Sequence[str],
    *,
    tls: TlsFiles,
    trust: Trust,
    patience: float,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
) -> Peer[PeerLine]:
    """Return a peer with a line to each of its addresses, or two to its only one.

    Parameters
    ----------
    patience : float
        Seconds without a sign of life after which another line is tried; the rest as `PeerChannel`.
    """
    ends = addresses if len(addresses) > 1 else [*addresses, *addresses]
    lines = [
        PeerChannel(country, end, tls=tls, trust=trust, max_message_bytes=max_message_bytes) for end in ends
    ]
    return Peer(country, lines, patience=patience)


def _stamp(tls: TlsFiles, roots: bytes) -> _Stamp:
    try:
        return (*(path.stat().st_mtime_ns for path in tls), roots)
    except OSError as error:
        raise errors.ConfigInvalid(
            f"{error.filename} cannot be read ({error.strerror})", remedy="check the node's certificate"
        ) from error


def _left(ends: float) -> float:
    return max(0.0, ends - time.monotonic())


def _error_of(error: Any, address: str) -> PapilarError:
    if _TOO_LARGE_HERE in (error.details() or ""):
        return errors.AnswerInvalid(
            f"the message of {address} is larger than is taken here", remedy="ask for fewer candidates"
        )
    try:
        return own_error(error, address)
    except (ValueError, DecodeError):  # details that are none, or that contradict the code
        return errors.NodeError(f"{address} failed ({error.code().name})", remedy="see the node's log")
