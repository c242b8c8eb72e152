"""Cases of what a node says of itself, and of its limits."""

from collections.abc import Iterator

from papilar.api.peer.v1 import peer_pb2, types_pb2
from papilar.conformance.bench import Bench, moment, outcome_name, read
from papilar.conformance.verdict import Case, Check, Unmet, equal, refused
from papilar.conformance.wire import MAX_MESSAGE_BYTES
from papilar.exchange.seal import SKEW

_DAY = 86_400
_ASKED = "DescribeNode"
_SECONDS_AND_DAYS = ("ordinary_seconds", "urgent_seconds", "reference_days")


def _for_whom(bench: Bench) -> Iterator[Check]:
    said = bench.description
    yield equal(_ASKED, "country", bench.country, said.country)
    yield equal(_ASKED, "peer", bench.home.country, said.peer)


def _clock(bench: Bench) -> Iterator[Check]:
    off = moment(bench.description.create_time) - bench.clock()
    yield Check(
        abs(off) <= SKEW, _ASKED, "create_time within 5 minutes of now", f"{off.total_seconds():+.0f} s"
    )


def _described(bench: Bench) -> Iterator[Check]:
    said = bench.description
    for field in ("extractor_version", "matcher_version", "calibration_id"):
        yield Check(bool(getattr(said, field)), _ASKED, f"{field}", "nothing")
    for field in ("policy_version", "max_message_bytes", *_SECONDS_AND_DAYS):
        yield Check(getattr(said, field) > 0, _ASKED, f"{field} above 0", "0")
    yield equal(_ASKED, "bytes of policy_sha256:", 32, len(said.policy_sha256))
    yield Check(said.least_quality <= 100, _ASKED, "least_quality of 0 to 100", str(said.least_quality))


def _quotas(bench: Bench) -> Iterator[Check]:
    kinds = [one.search_type for one in bench.description.quotas]
    known = set(types_pb2.SearchType.values()) - {types_pb2.SEARCH_TYPE_UNSPECIFIED}
    came = f"quotas of types {sorted(kinds)}"
    yield Check(set(kinds) <= known and len(set(kinds)) == len(kinds), _ASKED, "one quota a type", came)
    for one in bench.description.quotas:
        yield Check(one.per_day > 0, _ASKED, "the types that are offered, no others", "a quota of 0")


def _not_offered(bench: Bench) -> Iterator[Check]:
    offered = {one.search_type for one in bench.description.quotas}
    others = set(types_pb2.SearchType.values()) - offered - {types_pb2.SEARCH_TYPE_UNSPECIFIED}
    if not others:
        raise Unmet("a type of search that the node does not offer")
    asked = bench.ask(bench.statement(search_type=min(others)))
    answer = read(asked.sealed, peer_pb2.Answer())
    came = f"{outcome_name(answer.outcome)}, retry_after_seconds {answer.retry_after_seconds}"
    # NO_HIT is what a law that hides its refusals says.
    told = (peer_pb2.OUTCOME_QUOTA, peer_pb2.OUTCOME_REFUSED, peer_pb2.OUTCOME_NO_HIT)
    sent = f"a search of the type {min(others)}, which is not offered"
    yield Check(answer.outcome in told, sent, "no candidates: QUOTA, REFUSED or NO_HIT", came)
    if answer.outcome == peer_pb2.OUTCOME_QUOTA:
        soon = 0 < answer.retry_after_seconds <= _DAY
        yield Check(soon, sent, "with QUOTA the seconds to the next UTC day, at most", came)


def _too_large(bench: Bench) -> Iterator[Check]:
    most = bench.description.max_message_bytes
    if most + 2048 > MAX_MESSAGE_BYTES:
        raise Unmet(f"a node that takes less than {MAX_MESSAGE_BYTES} bytes")
    reply = bench.send(types_pb2.Signed(statement=bytes(most + 1024)))
    sent = f"a message of 1 kB more than {most} bytes"
    yield refused(sent, reply, "RESOURCE_EXHAUSTED MESSAGE_TOO_LARGE")


CASES = (
    Case("limits.for_whom", "NodeDescription.country, peer", _for_whom),
    Case("limits.clock", "NodeDescription.create_time", _clock),
    Case("limits.described", "NodeDescription", _described),
    Case("limits.quotas", "NodeDescription.quotas", _quotas),
    Case(
        "limits.type_not_offered",
        "NodeDescription.quotas, Answer.retry_after_seconds",
        _not_offered,
        searches=1,
    ),
    Case("limits.message_too_large", "MESSAGE_TOO_LARGE", _too_large, searches=1),
)
"""Limits."""
