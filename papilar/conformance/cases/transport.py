"""Cases of the connection: who may speak at all, who answers, what a status carries."""

from collections.abc import Callable, Iterator

from matcher.errors import PapilarError
from papilar.api.peer.v1 import peer_pb2, types_pb2
from papilar.conformance.bench import Bench, Party
from papilar.conformance.verdict import Case, Check, equal
from papilar.conformance.wire import Reply
from papilar.identity import Kind

_CALL = peer_pb2.DescribeNodeRequest()
_WHO = "types.proto: Who"


def _described(bench: Bench) -> Iterator[Check]:
    came = bench.described
    yield Check(came.code == "OK" and len(came.messages) == 1, "DescribeNode", "OK, 1 messages", str(came))


def _shut_out(reply: Reply, sent: str) -> Check:
    """Check that a caller got nothing: no connection, or the status of the contract."""
    told = (reply.code, reply.reason) == ("UNAUTHENTICATED", "CERTIFICATE_REFUSED")
    cut = reply.code == "UNAVAILABLE" and not reply.reason
    wanted = "UNAUTHENTICATED CERTIFICATE_REFUSED, or no connection"
    return Check((told or cut) and not reply.messages, sent, wanted, str(reply))


def _caller(stem: str, what: str, party: Callable[[Bench], Party]) -> Callable[[Bench], Iterator[Check]]:
    def run(bench: Bench) -> Iterator[Check]:
        _ = bench.description  # a node that is down refuses nobody
        line = bench.line(stem, party(bench))
        yield _shut_out(line.call("DescribeNode", _CALL), f"DescribeNode with {what}")

    return run


def _nobody(bench: Bench) -> Iterator[Check]:
    _ = bench.description
    reply = bench.wire.line(None).call("DescribeNode", _CALL)
    yield _shut_out(reply, "DescribeNode without a certificate")


def _in_the_clear(bench: Bench) -> Iterator[Check]:
    _ = bench.description
    reply = bench.wire.call_in_plain_text("DescribeNode", _CALL)
    yield Check(
        not reply.messages and reply.code != "OK", "DescribeNode without TLS", "no answer", str(reply)
    )


def _names_the_node(bench: Bench) -> Iterator[Check]:
    shown = bench.wire.certificate(bench.home.files("node"))
    try:
        who = bench.trust.verify(shown, at=bench.clock(), kind=Kind.NODE)
        came = who.country
    except PapilarError as error:
        came = str(error)
    yield equal("a handshake", "a node's certificate of", bench.country, came)


def _error_info(bench: Bench) -> Iterator[Check]:
    reply = bench.send(types_pb2.Signed())
    holds = bool(reply.reason) and reply.domain == "papilar"
    came = f"{reply.code}, reason '{reply.reason}', domain '{reply.domain}'"
    yield Check(holds, "an empty search", "a status with ErrorInfo of the domain 'papilar'", came)


def _home(bench: Bench) -> Party:
    return bench.home


CASES = (
    Case("transport.described", "PeerService.DescribeNode", _described),
    Case("transport.certificate_of_the_node", _WHO, _names_the_node),
    Case("transport.no_tls", _WHO, _in_the_clear),
    Case("transport.no_certificate", _WHO, _nobody),
    Case(
        "transport.expired", "CERTIFICATE_REFUSED", _caller("node-expired", "an expired certificate", _home)
    ),
    Case("transport.revoked", "CERTIFICATE_REFUSED", _caller("node-revoked", "a revoked certificate", _home)),
    Case(
        "transport.unknown_authority",
        "CERTIFICATE_REFUSED",
        _caller("node", "a certificate of an unknown authority", lambda bench: bench.unknown),
    ),
    Case(
        "transport.not_a_node",
        "CERTIFICATE_REFUSED",
        _caller("user-examiner-tls", "a person's certificate", _home),
    ),
    Case("transport.error_info", "types.proto: Refusals and errors", _error_info, searches=1),
)
"""Transport."""
