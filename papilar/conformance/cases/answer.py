"""Cases of an answer: whose it is, what it answers, what it says of prints and candidates, and its size."""

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from hashlib import sha256
from typing import Any

from papilar.api.peer.v1 import peer_pb2, types_pb2
from papilar.conformance import prints
from papilar.conformance.bench import Bench, moment, outcome_name
from papilar.conformance.verdict import Case, Check, Unmet, equal
from papilar.exchange.seal import SKEW, content_hash

_HIT, _MISS = "a search that finds somebody", "a search"
_CODE = re.compile("[A-Z0-9_]+")
_REFERENCE = re.compile("[A-Za-z0-9_-]{43}")
_BANDS = (types_pb2.BAND_RED, types_pb2.BAND_YELLOW, types_pb2.BAND_GREEN)
_WITH_CODE = (peer_pb2.OUTCOME_REFUSED,)

Run = Callable[[Bench], Iterator[Check]]


def _names(bench: Bench) -> Iterator[Check]:
    search, answer = bench.nobody.search, bench.nobody.answer
    for field in ("request_id", "asking_country", "asked_country"):
        yield equal(_MISS, field, getattr(search, field), getattr(answer, field))


def _search_sha256(bench: Bench) -> Iterator[Check]:
    wanted = content_hash(bench.nobody.search)
    yield equal(_MISS, "search_sha256", wanted, bench.nobody.answer.search_sha256)


def _create_time(bench: Bench) -> Iterator[Check]:
    came = moment(bench.nobody.answer.create_time)
    near = abs(came - bench.clock()) <= SKEW
    yield Check(near, _MISS, "create_time within 5 minutes of now", f"create_time {came:%Y-%m-%d %H:%M:%S}")


def _outcome(bench: Bench) -> Iterator[Check]:
    answer = bench.nobody.answer
    name = outcome_name(answer.outcome)
    came = f"{name}, code '{answer.code}', {len(answer.candidates)} candidates"
    known = answer.outcome in peer_pb2.Outcome.values() and answer.outcome != peer_pb2.OUTCOME_UNSPECIFIED
    yield Check(known, _MISS, "one of the outcomes", came)
    told = bool(_CODE.fullmatch(answer.code)) if answer.code else answer.outcome not in _WITH_CODE
    yield Check(told, _MISS, "with REFUSED a code of A-Z, 0-9 and the underscore", came)
    some = answer.outcome == peer_pb2.OUTCOME_CANDIDATES
    yield Check(some == bool(answer.candidates), _MISS, "candidates with CANDIDATES, and only then", came)


def _policy(bench: Bench) -> Iterator[Check]:
    answer, described = bench.nobody.answer, bench.description
    for field in ("policy_version", "policy_sha256"):
        yield equal(_MISS, f"{field} as described:", getattr(described, field), getattr(answer, field))


def _files(bench: Bench) -> Iterator[Check]:
    asked, came = set(bench.nobody.search.files), set(bench.nobody.answer.files)
    yield Check(came <= asked, _MISS, f"files among {sorted(asked)}", f"files {sorted(came)}")


def _assessments(bench: Bench) -> Iterator[Check]:
    came, wanted = bench.nobody.answer.prints, len(bench.nobody.search.prints)
    # A law that hides refusals says nothing of the prints.
    yield Check(len(came) in (0, wanted), _MISS, f"{wanted} assessments, or none", f"{len(came)} assessments")
    for one in came:
        sound = 0 <= one.quality <= 100 and all(map(_CODE.fullmatch, one.reasons))
        yield Check(sound, _MISS, "quality of 0 to 100, reasons in upper case", f"quality {one.quality}")


def _erasure(bench: Bench) -> Iterator[Check]:
    answer = bench.nobody.answer
    sent = bench.nobody.search.prints
    wanted = [sha256(one.image or one.template).hexdigest() for one in sent]
    came = [one.hex() for one in answer.erasure.print_sha256]
    yield equal(_MISS, "erasure.print_sha256", wanted, came)
    when = moment(answer.erasure.time)
    yield Check(
        abs(when - bench.clock()) <= SKEW, _MISS, "erasure.time within 5 minutes of now", f"{when:%F %T}"
    )


def _padding(bench: Bench) -> Iterator[Check]:
    came = "zero bytes alone" if not any(bench.nobody.answer.padding) else "other bytes"
    yield Check(came == "zero bytes alone", _MISS, "padding of zero bytes alone", came)


def _size(bench: Bench) -> Iterator[Check]:
    """Compare the answers to one print and to three, under names of other lengths."""
    _ = bench.nobody.answer
    search = bench.statement(*[prints.light()] * 3, officer="k", reason="K", case_reference="K")
    yield _same_size(bench, bench.ask(search).sealed, "searches for one print and for three")


def _size_of_hit(bench: Bench) -> Iterator[Check]:
    _ = bench.found
    yield _same_size(bench, bench.somebody.sealed, "searches that find nobody and somebody")


def _same_size(bench: Bench, other: types_pb2.Signed, sent: str) -> Check:
    sizes = [one.ByteSize() for one in (bench.nobody.sealed, other)]
    return Check(sizes[0] == sizes[1], sent, "answers of one size", f"{sizes[0]} and {sizes[1]} bytes")


# ---- candidates


def _reference(bench: Bench) -> Iterator[Check]:
    given = [one.reference for one in bench.found.candidates]
    forms = all(map(_REFERENCE.fullmatch, given)) and len(set(given)) == len(given)
    yield Check(forms, _HIT, "references of 43 letters of URL-safe base64, all different", ", ".join(given))


def _new_reference(bench: Bench) -> Iterator[Check]:
    before = {one.reference for one in bench.found.candidates}
    search = bench.statement(*bench.somebody.search.prints)
    after = {one.reference for one in bench.ask(search).answer.candidates}
    if not after:
        raise Unmet("a second search for the same person that finds somebody")
    came = "the same" if before & after else "others"
    yield Check(not before & after, "the same prints, searched for twice", "other references", came)


def _expiry(bench: Bench) -> Iterator[Check]:
    days = timedelta(days=bench.description.reference_days)
    for one in bench.found.candidates:
        left = moment(one.expire_time) - bench.clock()
        wanted = f"expire_time {days.days} days from now, as described"
        yield Check(abs(left - days) <= 2 * SKEW, _HIT, wanted, f"expire_time in {left}")


def _order(bench: Bench) -> Iterator[Check]:
    scores = [one.score for one in bench.found.candidates]
    came = "scores " + ", ".join(f"{score:.2f}" for score in scores)
    yield Check(scores == sorted(scores, reverse=True), _HIT, "best first", came)


def _number(bench: Bench) -> Iterator[Check]:
    quotas = {one.search_type: one.candidates for one in bench.description.quotas}
    kind, limit = bench.somebody.search.search_type, bench.somebody.search.limit
    most, came = min(limit, quotas.get(kind, limit)), len(bench.found.candidates)
    yield Check(came <= most, _HIT, f"at most {most} candidates", f"{came} candidates")


def _scores(bench: Bench) -> Iterator[Check]:
    answer = bench.found
    yield Check(bool(answer.calibration_id), _HIT, "a calibration_id", "none")
    for one in answer.candidates:
        above = one.score >= answer.threshold or not answer.threshold
        came = f"score {one.score:.2f}, threshold {answer.threshold:.2f}, band {one.band}"
        yield Check(above and one.band in _BANDS, _HIT, "scores from the threshold on, with a band", came)


def _prints(bench: Bench) -> Iterator[Check]:
    sent = len(bench.somebody.search.prints)
    for one in bench.found.candidates:
        came = [met.probe_index for met in one.prints]
        yield Check(bool(came), _HIT, "a print for the examiner", "none")
        yield Check(max(came) < sent, _HIT, f"probe_index below {sent}", f"probe_index {came}")


def _case(name: str, field: str, run: Run, **more: Any) -> Case:
    return Case(f"answer.{name}", field, run, **more)


CASES = (
    _case("names", "Answer.request_id, asking_country, asked_country", _names),
    _case("search_sha256", "Answer.search_sha256", _search_sha256),
    _case("create_time", "Answer.create_time", _create_time),
    _case("outcome", "Answer.outcome, code, candidates", _outcome),
    _case("policy", "Answer.policy_version, policy_sha256", _policy),
    _case("files", "Answer.files", _files),
    _case("assessments", "Answer.prints", _assessments),
    _case("erasure", "Answer.erasure", _erasure),
    _case("padding", "Answer.padding", _padding),
    _case("size", "Answer.padding", _size, searches=1),
    _case("size_of_hit", "Answer.padding", _size_of_hit),
    _case("reference", "Candidate.reference", _reference),
    _case("new_reference", "Candidate.reference", _new_reference, searches=1),
    _case("reference_expiry", "Candidate.expire_time, NodeDescription.reference_days", _expiry),
    _case("order", "Answer.candidates", _order),
    _case("number", "Search.limit, Quota.candidates", _number),
    _case("scores", "Candidate.score, band, Answer.threshold, calibration_id", _scores),
    _case("candidate_prints", "Candidate.prints, CandidatePrint.probe_index", _prints),
)
"""Answer."""
