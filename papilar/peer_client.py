"""Another country's node asked over gRPC: mutual TLS, one call a question, statuses as the project's errors.

What a peer says is not believed here; `papilar.exchange.answers` judges it.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError

from matcher.errors import PapilarError
from papilar import errors
from papilar.api.peer.v1 import peer_pb2, peer_pb2_grpc
from papilar.client import own_error
from papilar.config import split_address
from papilar.exchange.calls import Peer, PeerLine
from papilar.tls import TlsFiles, channel_credentials, channel_options
from papilar.trust import Trust

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""Largest message taken from a peer, or sent to one."""

_TOO_LARGE_HERE = "CLIENT: Received message larger than max"
"""What gRPC's own status says where this side has cut a message off."""

_T = TypeVar("_T")
_Stamp = tuple[int | bytes, ...]


class SearchCall:
    """A search under way at a peer: iterate over its messages; `cancel` from any thread ends that."""

    def __init__(self, call: Any, address: str) -> None:
        self._call = call
        self._address = address

    def __iter__(self) -> Iterator[peer_pb2.SearchResponse]:
        with _told(self._address):
            yield from self._call

    def cancel(self) -> None:
        """Give the call up; nothing happens where it has ended."""
        self._call.cancel()


class PeerChannel:
    """One connection to a node of one country; only that country's authority is believed.

    It is made anew, for the calls that follow, where our certificate or the peer's authority has changed.

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
        self._made: tuple[_Stamp, grpc.Channel] | None = None

    def search(self, request: peer_pb2.SearchRequest, *, timeout: float) -> SearchCall:
        """Ask for a search; returns at once. Iterating raises what the other methods raise.

        Raises
        ------
        ConfigInvalid, CertificateRefused
            Our files cannot be used, or the country is not trusted.
        """
        call = self._stub().Search(request, timeout=timeout)
        return SearchCall(call, self._address)

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
        PapilarError
            The error that the peer names, and as `search`.
        """
        return self._ask(self._stub().Confirm, request, timeout)

    def describe(self, *, timeout: float) -> peer_pb2.DescribeNodeResponse:
        """Ask what the peer offers; as `confirm`."""
        return self._ask(self._stub().DescribeNode, peer_pb2.DescribeNodeRequest(), timeout)

    def exchange_heads(
        self, request: peer_pb2.ExchangeHeadsRequest, *, timeout: float
    ) -> peer_pb2.ExchangeHeadsResponse:
        """Exchange tree heads; as `confirm`."""
        return self._ask(self._stub().ExchangeHeads, request, timeout)

    def close(self) -> None:
        """End the connection, and what is under way on it."""
        with self._lock:
            if self._made is not None:
                self._made[1].close()
                self._made = None

    def _ask(self, method: Callable[..., _T], request: object, timeout: float) -> _T:
        with _told(self._address):
            return method(request, timeout=timeout)

    def _stub(self) -> peer_pb2_grpc.PeerServiceStub:
        stamp = _stamp(self._tls, self._trust.roots(self._country))
        with self._lock:
            if self._made is None or self._made[0] != stamp:
                # Calls under way on an old channel keep it, and end it with the last of them.
                credentials = channel_credentials(self._tls, self._trust, self._country)
                self._made = stamp, grpc.secure_channel(self._address, credentials, self._options)
            return peer_pb2_grpc.PeerServiceStub(self._made[1])


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


@contextmanager
def _told(address: str) -> Iterator[None]:
    """Turn statuses into errors of the project, whatever a peer puts into them."""
    try:
        yield
    except grpc.RpcError as error:
        raise _error_of(error, address) from None  # its text and trailers are the peer's


def _error_of(error: Any, address: str) -> PapilarError:
    if _TOO_LARGE_HERE in (error.details() or ""):
        return errors.AnswerInvalid(
            f"the message of {address} is larger than is taken here", remedy="ask for fewer candidates"
        )
    try:
        return own_error(error, address)
    except (ValueError, DecodeError):  # details that are none, or that contradict the code
        return errors.NodeError(f"{address} failed ({error.code().name})", remedy="see the node's log")
