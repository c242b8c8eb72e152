"""Cases of the counters of a month."""

from collections.abc import Iterator
from datetime import timedelta

from papilar.api.peer.v1 import peer_pb2, types_pb2
from papilar.conformance.bench import Bench, read
from papilar.conformance.cases.seal import sealed_by_the_node
from papilar.conformance.verdict import Case, Check, Unmet, equal, refused
from papilar.conformance.wire import Reply

_LEAST = 5
_COUNTS = ("searches", "with_candidates", "refused", "confirmed", "rejected")


def _month(bench: Bench) -> str:
    """Return the month before this one: what is not over need not be counted."""
    return f"{bench.clock().replace(day=1) - timedelta(days=1):%Y-%m}"


def _asked(bench: Bench, month: str) -> Reply:
    return bench.call("GetStatistics", peer_pb2.GetStatisticsRequest(month=month))


def _signed(bench: Bench) -> types_pb2.Signed:
    reply = _asked(bench, _month(bench))
    if not reply.messages:
        raise Unmet(f"an answer to GetStatistics; what came was {reply}")
    signed: types_pb2.Signed = reply.messages[0].statistics
    return signed


def _answered(bench: Bench) -> Iterator[Check]:
    reply = _asked(bench, _month(bench))
    yield Check(bool(reply.messages), f"GetStatistics of {_month(bench)}", "OK, 1 messages", str(reply))


def _names(bench: Bench) -> Iterator[Check]:
    said = read(_signed(bench), peer_pb2.Statistics())
    wanted = {"country": bench.country, "peer": bench.home.country, "month": _month(bench)}
    for field, value in wanted.items():
        yield equal("GetStatistics", field, value, getattr(said, field))


def _counters(bench: Bench) -> Iterator[Check]:
    said = read(_signed(bench), peer_pb2.Statistics())
    kinds = [(one.search_type, one.asked_by_peer) for one in said.counters]
    came = f"{len(kinds)} counters of {len(set(kinds))} types and directions"
    yield Check(len(set(kinds)) == len(kinds), "GetStatistics", "one counter a type and direction", came)


def _suppressed(bench: Bench) -> Iterator[Check]:
    said = read(_signed(bench), peer_pb2.Statistics())
    stated = [getattr(one, name) for one in said.counters for name in _COUNTS]  # 0 where it is not set
    small = [count for count in stated if 0 < count < _LEAST]
    yield Check(not small, "GetStatistics", "no count from 1 to 4", f"counts {small}")


def _no_month(bench: Bench) -> Iterator[Check]:
    for month in ("", "2026-13", "26-1"):
        reply = _asked(bench, month)
        yield refused(f"GetStatistics of '{month}'", reply, "INVALID_ARGUMENT REQUEST_INVALID")


CASES = (
    Case("statistics.answered", "PeerService.GetStatistics", _answered),
    Case(
        "statistics.sealed",
        "GetStatisticsResponse.statistics",
        sealed_by_the_node("statistics", "GetStatistics", _signed),
    ),
    Case("statistics.names", "Statistics.country, peer, month", _names),
    Case("statistics.counters", "Statistics.counters", _counters),
    Case("statistics.suppressed", "Counter", _suppressed),
    Case("statistics.month", "GetStatisticsRequest.month", _no_month),
)
"""Statistics."""
