"""The node under test over gRPC, as any client sees it: with a good, a bad or no certificate.

Nothing that comes is believed or turned into an error here: a call ends with a `Reply`.
"""

import socket
import ssl
from collections.abc import Iterable
from typing import Any, NamedTuple

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from papilar.api.peer.v1 import peer_pb2, types_pb2
from papilar.config import split_address
from papilar.identity import server_name
from papilar.tls import TlsFiles, channel_credentials, channel_options
from papilar.trust import Trust

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""Largest message that is taken, and that is sent."""

_MOST_MESSAGES = 10_000  # of a stream; then it is given up
_SERVICE = peer_pb2.DESCRIPTOR.services_by_name["PeerService"]


class Reply(NamedTuple):
    """How a call ended.

    Attributes
    ----------
    code : str
        Name of the canonical status; `UNREADABLE` where a message is none of the contract's.
    reason, domain : str
        Of the `google.rpc.ErrorInfo`, empty without one.
    text : str
        Of the status.
    messages : tuple of Message
    """

    code: str
    reason: str
    domain: str
    text: str
    messages: tuple[Any, ...]

    @property
    def answer(self) -> types_pb2.Signed | None:
        """The sealed answer of a search, where one came."""
        last = self.messages[-1] if self.messages else None
        if isinstance(last, peer_pb2.SearchResponse) and last.WhichOneof("message") == "answer":
            return last.answer
        return None

    def __str__(self) -> str:
        """Return it as a report shows it."""
        if self.code == "OK":
            return f"OK, {len(self.messages)} messages"
        return f"{self.code} {self.reason or 'without a reason'}"


class Line:
    """One connection to the node."""

    def __init__(self, channel: grpc.Channel, timeout: float) -> None:
        self._channel = channel
        self._timeout = timeout

    def call(self, method: str, request: Message) -> Reply:
        """Call a method of the service and wait for its end."""
        kind = getattr(peer_pb2, _SERVICE.methods_by_name[method].output_type.name)
        path = f"/{_SERVICE.full_name}/{method}"
        begin: Any = self._channel.unary_stream(path)
        call = begin(request.SerializeToString(), timeout=self._timeout)
        messages: list[Message] = []
        try:
            for data in call:
                messages.append(kind.FromString(data))
                if len(messages) >= _MOST_MESSAGES:
                    call.cancel()
        except grpc.RpcError as error:
            return _failed(error, messages)
        except DecodeError:
            call.cancel()
            return Reply("UNREADABLE", "", "", "", tuple(messages))
        return Reply("OK", "", "", "", tuple(messages))

    def close(self) -> None:
        """End the connection."""
        self._channel.close()


class Wire:
    """The address of the node under test.

    Parameters
    ----------
    address : str
        `HOST:PORT`.
    country : str
        Its country; no other country's authority is believed.
    trust : Trust
    timeout : float
        Seconds that a call may take.
    """

    def __init__(self, address: str, country: str, trust: Trust, *, timeout: float) -> None:
        self._host, self._port = split_address(address)
        self._address, self._country, self._trust, self._timeout = address, country, trust, timeout
        self._lines: dict[TlsFiles | None, Line] = {}

    def line(self, files: TlsFiles | None) -> Line:
        """Return the connection with a certificate, or with none."""
        if files not in self._lines:
            self._lines[files] = self._open(self._credentials(files))
        return self._lines[files]

    def call_in_plain_text(self, method: str, request: Message) -> Reply:
        """Call without TLS."""
        line = Line(grpc.insecure_channel(self._address), min(self._timeout, 10))
        reply = line.call(method, request)
        line.close()
        return reply

    def certificate(self, files: TlsFiles) -> bytes:
        """Return the node's certificate, DER; empty where it is not of its country, or has not its name."""
        context = ssl.create_default_context(cadata=self._trust.roots(self._country).decode("ascii"))
        context.load_cert_chain(*files)
        context.set_alpn_protocols(["h2"])
        try:
            with (
                socket.create_connection((self._host, self._port), self._timeout) as plain,
                context.wrap_socket(plain, server_hostname=server_name(self._country)) as secured,
            ):
                return secured.getpeercert(binary_form=True) or b""
        except OSError:
            return b""

    def close(self) -> None:
        """End all connections."""
        for line in self._lines.values():
            line.close()

    def _credentials(self, files: TlsFiles | None) -> grpc.ChannelCredentials:
        if files is None:
            return grpc.ssl_channel_credentials(self._trust.roots(self._country))
        return channel_credentials(files, self._trust, self._country)

    def _open(self, credentials: grpc.ChannelCredentials) -> Line:
        options: list[tuple[str, Any]] = [
            *channel_options(self._country),
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_http_proxy", 0),
        ]
        return Line(grpc.secure_channel(self._address, credentials, options), self._timeout)


def _failed(error: Any, messages: Iterable[Message]) -> Reply:
    info = _info(error.trailing_metadata() or ())
    return Reply(error.code().name, info.reason, info.domain, error.details() or "", tuple(messages))


def _info(trailers: Iterable[tuple[str, Any]]) -> error_details_pb2.ErrorInfo:
    info = error_details_pb2.ErrorInfo()
    for name, value in trailers:
        if name == "grpc-status-details-bin":
            try:
                details = status_pb2.Status.FromString(value).details
            except DecodeError:
                return info
            if any(detail.Unpack(info) for detail in details):
                return info
    return info
