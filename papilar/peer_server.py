"""The node over gRPC for the nodes of other countries: its own port, mutual TLS, limits, clean stop.

Who calls is asked of the certificate at every call, before its message is taken, and a call counts from then
on. A message that is not whole in time is cut off, and so is a connection that has had its time. To see a
call before its message, the server takes each as a stream of one message: on the wire that is the same.
"""

import logging
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import Any

import grpc
from google.protobuf.message import Message
from grpc_status import rpc_status

from matcher.errors import PapilarError
from papilar.access import read_key
from papilar.api.peer.v1 import peer_pb2
from papilar.audit.log import AuditLog
from papilar.config import Peer
from papilar.errors import ConfigInvalid, DeadlinePassed, MessageTooLarge, RequestInvalid, TooManyCalls
from papilar.exchange.asked import AskedNode, AskedOptions
from papilar.exchange.seal import SKEW
from papilar.identity import Kind
from papilar.node import Node
from papilar.policy import File, InstalledLaw
from papilar.server import status_of
from papilar.signing import Signer
from papilar.store.exchange import ExchangeStore
from papilar.tls import TlsFiles, peer_certificate, server_credentials
from papilar.trust import Trust

_GRACE = 20.0  # seconds that calls under way have to end on a stop
_WATCH = 0.5  # seconds between two looks for messages that are late
_SWEEP = 60.0  # and for what has expired
_SERVICE = peer_pb2.DESCRIPTOR.services_by_name["PeerService"].full_name

_log = logging.getLogger(__name__)

Context = Any  # grpc.ServicerContext, generic in the stubs only


@dataclass(frozen=True, slots=True)
class PeerLimits:
    """What other countries may ask of the node at a time.

    Attributes
    ----------
    calls : int
        Calls of one country at a time.
    threads : int
        Calls of all countries at a time; those that search wait for a place and hold a thread.
    message_seconds : float
        Within which the message of a call must be there, whole.
    connection_seconds : int
        After which a connection takes no new calls; those under way have as long again.
    idle_seconds : int
        Between two signs of life that a silent connection is asked for; also how long a handshake may take.
    """

    calls: int = 16
    threads: int = 128
    message_seconds: float = 60.0
    connection_seconds: int = 3600
    idle_seconds: int = 30


class PeerService:
    """See proto/papilar/api/peer/v1/peer.proto.

    Parameters
    ----------
    asked : AskedNode
    trust : Trust
    limits : PeerLimits
    """

    def __init__(self, asked: AskedNode, trust: Trust, limits: PeerLimits) -> None:
        self._asked = asked
        self._trust = trust
        self._limits = limits
        self._lock = threading.Lock()
        self._calls: Counter[str] = Counter()
        self._turned_away: Counter[str] = Counter()
        self._arriving: dict[Context, float] = {}

    def handler(self) -> grpc.GenericRpcHandler:
        """Return what a server adds."""
        calls: dict[str, tuple[Any, Any]] = {
            "DescribeNode": (self._describe, peer_pb2.DescribeNodeRequest),
            "Search": (self._search, peer_pb2.SearchRequest),
            "Confirm": (self._confirm, peer_pb2.ConfirmRequest),
            "ExchangeHeads": (self._exchange_heads, peer_pb2.ExchangeHeadsRequest),
            "GetStatistics": (self._statistics, peer_pb2.GetStatisticsRequest),
        }
        return grpc.method_handlers_generic_handler(
            _SERVICE,
            {
                name: grpc.stream_stream_rpc_method_handler(
                    partial(self._answer, name, call),
                    request_deserializer=kind.FromString,
                    response_serializer=lambda message: message.SerializeToString(),
                )
                for name, (call, kind) in calls.items()
            },
        )

    def cut_off(self) -> None:
        """End the calls whose message is not there in time."""
        late = time.monotonic() - self._limits.message_seconds
        with self._lock:
            slow = [context for context, since in self._arriving.items() if since < late]
        for context in slow:
            context.cancel()

    def log_turned_away(self) -> None:
        """Log how many calls were too many since the last time; a line for each would itself be a load."""
        with self._lock:
            counts, self._turned_away = self._turned_away, Counter()
        for peer, count in counts.items():
            _log.info("%d calls of %s: %s", count, peer, TooManyCalls.reason)

    # ---- calls

    def _describe(self, request: Message, peer: str) -> Iterator[Message]:
        yield peer_pb2.DescribeNodeResponse(description=self._asked.describe(peer))

    def _search(self, request: peer_pb2.SearchRequest, peer: str) -> Iterator[Message]:
        for message in self._asked.search(request.search, peer):
            if isinstance(message, peer_pb2.Progress):
                yield peer_pb2.SearchResponse(progress=message)
            else:
                yield peer_pb2.SearchResponse(answer=message)

    def _confirm(self, request: peer_pb2.ConfirmRequest, peer: str) -> Iterator[Message]:
        yield peer_pb2.ConfirmResponse(receipt=self._asked.confirm(request.confirmation, peer))

    def _exchange_heads(self, request: peer_pb2.ExchangeHeadsRequest, peer: str) -> Iterator[Message]:
        yield self._asked.exchange_heads(request, peer)

    def _statistics(self, request: peer_pb2.GetStatisticsRequest, peer: str) -> Iterator[Message]:
        yield peer_pb2.GetStatisticsResponse(statistics=self._asked.statistics(request.month, peer))

    def _answer(
        self, name: str, call: Callable[..., Iterator[Message]], requests: Iterator[Message], context: Context
    ) -> Iterator[Message]:
        """Let a call in or not, answer it, turn errors into statuses, and log."""
        started, code, peer = time.monotonic(), "OK", "?"
        try:
            leaf = peer_certificate(context)
            peer = self._trust.verify(leaf, at=datetime.now(UTC), kind=Kind.NODE).country
            with self._counted(peer):
                yield from call(self._taken(requests, context), peer)
        except TooManyCalls as error:
            code = error.reason
            with self._lock:
                self._turned_away[peer] += 1
            context.abort_with_status(_turned_away(peer, self._limits.calls))
        except PapilarError as error:
            code = error.reason
            context.abort_with_status(rpc_status.to_status(status_of(error)))
        except (GeneratorExit, StopIteration, grpc.RpcError):  # the caller went away, or was cut off
            code = "CANCELLED"
            raise
        except Exception as error:
            # Type and places only: a message may quote what was sent.
            code = type(error).__name__
            _log.error("%s failed with %s\n%s", name, code, "".join(traceback.format_tb(error.__traceback__)))
            context.abort(grpc.StatusCode.INTERNAL, "the node failed; its log says why")
        finally:
            if code != TooManyCalls.reason:
                _log.info("%s of %s: %s %.0f ms", name, peer, code, 1e3 * (time.monotonic() - started))

    def _taken(self, requests: Iterator[Message], context: Context) -> Message:
        """Return the message of a call, once it is there."""
        with self._lock:
            self._arriving[context] = time.monotonic()
        try:
            request = next(requests, None)
        finally:
            with self._lock:
                del self._arriving[context]
        if request is None:
            raise RequestInvalid("a call without a message", remedy="send one")
        self._check(request, context)
        return request

    @contextmanager
    def _counted(self, peer: str) -> Iterator[None]:
        with self._lock:
            if self._calls[peer] >= self._limits.calls:
                raise _too_many(peer, self._limits.calls)
            self._calls[peer] += 1
        try:
            yield
        finally:
            with self._lock:
                self._calls[peer] -= 1

    def _check(self, request: Message, context: Context) -> None:
        most, left = self._asked.options.max_message_bytes, context.time_remaining()
        if request.ByteSize() > most:
            raise MessageTooLarge(f"a message over {most} bytes", remedy="send fewer or smaller prints")
        if left is not None and left <= 0:
            raise DeadlinePassed("the deadline passed before the work began", remedy="allow more time")


class PeerServer:
    """The port for other countries; `start` it, `stop` it.

    Parameters
    ----------
    asked : AskedNode
    trust : Trust
    listen : str
        `HOST:PORT`; port 0 takes a free one.
    tls : TlsFiles
        Of the country's node.
    limits : PeerLimits

    Raises
    ------
    ConfigInvalid
        The address cannot be bound, or a certificate cannot be read.
    """

    def __init__(
        self,
        asked: AskedNode,
        trust: Trust,
        *,
        listen: str,
        tls: TlsFiles,
        limits: PeerLimits = PeerLimits(),
    ) -> None:
        self._asked = asked
        self._server = grpc.server(
            ThreadPoolExecutor(limits.threads, thread_name_prefix="peer"),
            options=_options(limits, asked.options.max_message_bytes),
        )
        self._service = PeerService(asked, trust, limits)
        self._server.add_generic_rpc_handlers((self._service.handler(),))
        self.port = _bind(self._server, listen, server_credentials(tls, trust))
        self._stopping = threading.Event()
        self._upkeep = threading.Thread(target=self._keep_up, name="upkeep", daemon=True)

    def start(self) -> None:
        """Answer calls, and erase what expires."""
        self._server.start()
        self._upkeep.start()

    def stop(self, grace: float = _GRACE) -> None:
        """Take no new calls and let those under way end, for so many seconds."""
        self._stopping.set()
        self._server.stop(grace).wait()
        self._upkeep.join()

    def _keep_up(self) -> None:
        swept = time.monotonic()
        while not self._stopping.wait(_WATCH):
            self._service.cut_off()
            self._service.log_turned_away()
            if time.monotonic() - swept >= _SWEEP:
                swept = time.monotonic()
                self._sweep()

    def _sweep(self) -> None:
        try:
            self._asked.sweep()
        except PapilarError as error:
            _log.error("what has expired was not erased, and will be tried again: %s", error.reason)


@contextmanager
def answering_peers(peer: Peer, files: Mapping[File, Node], log: AuditLog) -> Iterator[PeerServer]:
    """Answer other countries as the settings say, for as long as the context lasts.

    Parameters
    ----------
    peer : Peer
    files : mapping of File to Node
        None of them is closed here.
    log : AuditLog
        The node's.

    Raises
    ------
    ConfigInvalid, LawInvalid, LawRefused, StorageUnavailable
    """
    with ExitStack() as end:
        trust = Trust.load(peer.trust, skew=SKEW)
        law = InstalledLaw(peer.law, trust, country=peer.country, now=datetime.now(UTC))
        store = end.enter_context(closing(ExchangeStore.open(peer.store, create=True)))
        asked = AskedNode(
            peer.country,
            files=files,
            law=lambda: law.current(datetime.now(UTC)),
            trust=trust,
            signer=Signer.load(peer.seal, peer.seal_key),
            log=log,
            store=store,
            key=read_key(peer.marks),
            options=AskedOptions(
                peer.answer_bytes,
                peer.quantum_seconds,
                peer.searches,
                peer.max_message_bytes,
                search_seconds=peer.search_seconds,
            ),
        )
        tls, limits = TlsFiles(peer.certificate, peer.key), PeerLimits(calls=peer.calls)
        server = PeerServer(asked, trust, listen=peer.listen, tls=tls, limits=limits)
        server.start()
        end.callback(server.stop)
        yield server


def _too_many(peer: str, calls: int) -> TooManyCalls:
    return TooManyCalls(f"{peer} has {calls} calls here", remedy="try again later")


@lru_cache(maxsize=256)
def _turned_away(peer: str, calls: int) -> Any:
    """Return the status of a call too many. It is the same each time, and a country may ask on and on."""
    return rpc_status.to_status(status_of(_too_many(peer, calls)))


def _options(limits: PeerLimits, most: int) -> list[tuple[str, int]]:
    ms = 1000
    return [
        # Twice the limit, so that what is a little over is refused with a reason, not cut off.
        ("grpc.max_receive_message_length", 2 * most),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", 16 * 1024),
        ("grpc.max_concurrent_streams", 2 * limits.calls),
        ("grpc.max_connection_age_ms", limits.connection_seconds * ms),
        ("grpc.max_connection_age_grace_ms", limits.connection_seconds * ms),
        ("grpc.server_handshake_timeout_ms", limits.idle_seconds * ms),
        ("grpc.keepalive_time_ms", limits.idle_seconds * ms),
        ("grpc.keepalive_timeout_ms", limits.idle_seconds * ms),
        ("grpc.so_reuseport", 0),
    ]


def _bind(server: grpc.Server, listen: str, credentials: grpc.ServerCredentials) -> int:
    try:
        port = server.add_secure_port(listen, credentials)
    except RuntimeError:
        port = 0
    if not port:
        raise ConfigInvalid(f"cannot listen on {listen}", remedy="stop what listens there, or take another")
    return port
