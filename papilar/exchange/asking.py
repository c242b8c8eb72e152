"""The side that asks: one search put to the countries that the law allows, what they answer, and who did not.

Nothing leaves before the log says so, and nothing that came back is used before it is checked and logged.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Protocol

from enroll.pipeline import EXTRACTOR
from matcher.calibration import shipped
from matcher.errors import PapilarError
from papilar.api.peer.v1 import peer_pb2, types_pb2
from papilar.audit.heads import SignedHead
from papilar.audit.log import AuditLog
from papilar.errors import (
    AnswerInvalid,
    DeadlinePassed,
    NodeError,
    NodeUnreachable,
    StorageError,
    TooManyCalls,
)
from papilar.exchange import diary, witness
from papilar.exchange.answers import check_answer, keep_facts, keep_peers_head
from papilar.exchange.calls import Caller, Gone, Line, Peer, PeerLine, Question, Reply, refused_here
from papilar.exchange.prints import check_prints
from papilar.exchange.region import (
    CountryAnswer,
    Gap,
    GapKind,
    RegionResult,
    RegionSearch,
    merge,
    not_offered,
    sent_print,
    share_of_rate,
    statement,
)
from papilar.exchange.seal import seal, stamp
from papilar.exchange.statistics import read_statement
from papilar.exchange.words import (
    check_country,
    check_permitted,
    check_search,
    policy_request,
    to_number,
    to_words,
    why_refused,
)
from papilar.policy import Action, Decision, Direction, File, Law
from papilar.signing import Signer
from papilar.statistics import span
from papilar.store.exchange import OwnSearches
from papilar.trust import Trust

_MARGIN = 0.05  # seconds of a deadline that are kept to log and hand over the gaps
_WITNESS_SECONDS = 5.0
_OFFER_HOLDS = timedelta(days=1)  # until a peer is asked again what it offers
_OFFER_DOUBTED = timedelta(minutes=10)  # where it did not say, or what it said kept a search from it

_log = logging.getLogger(__name__)


class OwnSearcher(Protocol):
    """Searches our own gallery: `papilar.exchange.own.OwnGallery`, or the test's."""

    def __call__(self, search: peer_pb2.Search, *, deadline: float) -> peer_pb2.Answer:
        """Return what a peer would answer, unsigned."""


class Waiting(Protocol):
    """Where a search waits for a peer that is down: `papilar.exchange.outbox.Outbox`."""

    def put(self, search: peer_pb2.Search, *, expires: datetime, at: datetime) -> None:
        """Keep a search until it is answered or `expires`."""


class _Plan(NamedTuple):
    """What is asked of whom: a statement for each node, and the gaps that are there beforehand."""

    searches: Mapping[str, peer_pb2.Search]
    gaps: tuple[Gap, ...]


class _OwnCall:
    """A search of our own gallery, done by whoever iterates; what it gives is not signed."""

    def __init__(self, own: OwnSearcher, search: peer_pb2.Search, timeout: float) -> None:
        self._own, self._search, self._deadline = own, search, time.monotonic() + timeout

    def __iter__(self) -> Iterator[peer_pb2.SearchResponse]:
        answer = self._own(self._search, deadline=self._deadline)
        signed = types_pb2.Signed(statement=answer.SerializeToString())
        yield peer_pb2.SearchResponse(answer=signed)

    def cancel(self) -> None:
        """Do nothing: the search keeps its own deadline."""


class _OwnGallery:
    """Our own gallery as a node among others."""

    def __init__(self, own: OwnSearcher) -> None:
        self._own = own

    def search(self, request: peer_pb2.SearchRequest, *, timeout: float) -> _OwnCall:
        search = peer_pb2.Search.FromString(request.search.statement)
        return _OwnCall(self._own, search, timeout)

    def close(self) -> None:
        """Do nothing: the gallery is another's to close."""


class FederatedSearcher:
    """Asks other countries. All threads may use one.

    Parameters
    ----------
    country : str
        Ours, ISO 3166-1 alpha-3.
    peers : mapping of str to Peer
        By country. Closed by `close`.
    law : callable
        Gives the law in force at a time: `InstalledLaw.current`.
    trust : Trust
    signer : Signer
        Our seal.
    log : AuditLog
        Beside it is kept what the law was asked of the searches that found somebody.
    outbox : Waiting, optional
        Without it nothing waits.
    own : OwnSearcher, optional
        Our gallery, if it is to be searched along.
    clock : callable
        The time, UTC.
    calibration_id : str
        Of our scores; by default that which is shipped.
    """

    def __init__(
        self,
        country: str,
        peers: Mapping[str, Peer[PeerLine]],
        *,
        law: Callable[[datetime], Law],
        trust: Trust,
        signer: Signer,
        log: AuditLog,
        outbox: Waiting | None = None,
        own: OwnSearcher | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        calibration_id: str = "",
    ) -> None:
        self.country = country
        self.peers = dict(peers)
        self._nodes: dict[str, Peer[Line]] = {**peers}
        if own is not None:
            self._nodes[country] = Peer(country, [_OwnGallery(own)], patience=math.inf)
        self.calibration_id = calibration_id or shipped().id
        self.log, self.trust, self.signer, self.clock = log, trust, signer, clock
        self.law, self._outbox, self.own_searches = law, outbox, OwnSearches.beside(log.store)
        self._caller = Caller(len(self._nodes))
        self._beside = ThreadPoolExecutor(1, thread_name_prefix="witness")
        self._witnessing = threading.Lock()
        self._offers: dict[str, peer_pb2.NodeDescription] = {}
        self._looked: dict[str, datetime] = {}

    def close(self) -> None:
        """Let what is being proven end, end all other calls, and wait for the threads."""
        self._beside.shutdown()
        for peer in self.peers.values():
            peer.close()
        self._caller.close()

    # ---- asking

    def collect(self, asked: RegionSearch) -> RegionResult:
        """Ask, wait, and return one list of candidates with all gaps; raises as `search`."""
        return self.merge(list(self.search(asked)))

    def merge(self, answers: Sequence[CountryAnswer]) -> RegionResult:
        """Put what came into one list."""
        return merge(answers, calibration_id=self.calibration_id)

    def search(
        self, asked: RegionSearch, *, gone: Gone | None = None
    ) -> Generator[CountryAnswer, None, None]:
        """Ask the countries, and yield what comes of each as it comes, all within `asked.seconds`.

        Parameters
        ----------
        asked : RegionSearch
        gone : Gone, optional
            Ends the search at once when it is told; the log then says so of each country still asked.

        Yields
        ------
        CountryAnswer
            One for each country asked for, an answer or a gap.

        Raises
        ------
        RequestInvalid, ImageError, TemplateError
            The search cannot be; nobody was asked.
        StorageError
            The log cannot be written; whoever had not been asked was not.
        """
        ends = time.monotonic() + asked.seconds - _MARGIN
        plan = self._plan(asked)
        for gap in plan.gaps:
            yield CountryAnswer(gap.country, gap=gap)
        keep = self.clock() + asked.keep if asked.keep else None
        with closing(self._ask_all(plan, ends, gone)) as replies:
            for came in replies:
                yield self._queued(came, plan.searches[came.country], keep) if came.gap else came

    def ask(self, search: peer_pb2.Search, *, seconds: float) -> CountryAnswer:
        """Put one statement to the country that it names, again or for the first time.

        The law is asked anew, and what the peer offers is looked at. A statement that is not permitted as it
        stands, all its files, is not sent.
        """
        decision = self._decide(search)
        gap = self._hopeless(search, decision)
        if gap is not None:
            self.log.append(diary.refused_here(search, decision, gap, at=self.clock()))
            return CountryAnswer(search.asked_country, gap=gap)
        if search.asked_country not in self.peers:
            gap = Gap(search.asked_country, GapKind.UNREACHABLE, "NO_SUCH_PEER")
            return CountryAnswer(search.asked_country, gap=gap)
        self.log.append(diary.sent_out(search, decision, at=self.clock()))
        plan = _Plan({search.asked_country: search}, ())
        with closing(self._ask_all(plan, time.monotonic() + seconds)) as replies:
            return next(replies)

    # ---- beside searches

    def statistics(self, country: str, month: str, *, seconds: float) -> types_pb2.Signed:
        """Fetch what a peer says of a month between us, sealed; it has been checked.

        Parameters
        ----------
        country : str
        month : str
            `2026-11`.
        seconds : float
            How long to wait.

        Raises
        ------
        RequestInvalid
            No month; or, as the peer says, one that is not over or too long ago.
        NotPermitted
            Our law, or theirs.
        NodeUnreachable, DeadlinePassed
            No answer.
        AnswerInvalid
            What came does not fit.
        """
        span(month)
        if country not in self.peers:
            raise NodeUnreachable(f"{country} is no peer of this node", remedy="see papilar region peers")
        law, now = self.law(self.clock()), self.clock()
        check_permitted(law, Action.STATISTICS, country, direction=Direction.OUTBOUND)
        request = peer_pb2.GetStatisticsRequest(month=month)
        signed = self.peers[country].lines[0].get_statistics(request, timeout=seconds).statistics
        try:
            read_statement(signed, self.trust, country=country, peer=self.country, month=month, at=now)
        except PapilarError as error:
            raise AnswerInvalid(
                f"the counters of {country} are refused ({error.reason})", remedy="tell that node's operator"
            ) from error
        return signed

    def offer(self, country: str) -> peer_pb2.NodeDescription | None:
        """Return what a peer offers, as it last said; None where it has not said yet."""
        return self._offers.get(country)

    def look_at_offers(self) -> None:
        """Have every peer say what it offers, where it was not asked today; nobody waits for that."""
        for country in self.peers:
            self._look_at(country, _OFFER_HOLDS)

    def _look_at(self, country: str, holds: timedelta) -> None:
        now = self.clock()
        if now - self._looked.get(country, now - 2 * holds) >= holds:
            self._looked[country] = now
            self._beside.submit(self._describe, country, now)

    def _describe(self, country: str, now: datetime) -> None:
        try:
            check_permitted(self.law(now), Action.DESCRIBE, country, direction=Direction.OUTBOUND)
            said = witness.describe(
                self.peers[country].lines[0],
                country,
                country=self.country,
                trust=self.trust,
                at=self.clock(),
                timeout=_WITNESS_SECONDS,
            )
        except PapilarError as error:
            _log.info("%s does not say what it offers: %s", country, error.reason)
            self._looked[country] = now - _OFFER_HOLDS + _OFFER_DOUBTED
            return
        if said.extractor_version != EXTRACTOR:
            _log.warning("%s has another extractor than we have; see papilar region peers", country)
        self._offers[country] = said

    # ---- before it goes out

    def _plan(self, asked: RegionSearch) -> _Plan:
        """Ask our law about each country, share the rate among those that remain, and write it all down."""
        prints = [sent_print(one) for one in asked.prints]
        check_prints(prints)
        wanted = asked.countries or sorted(self._nodes)
        now, searches, gaps, entries = self.clock(), {}, [], []
        for country in dict.fromkeys(map(check_country, wanted)):
            search = statement(asked, asking=self.country, country=country, prints=prints)
            search.create_time.CopyFrom(stamp(now))
            check_search(search)
            if country == self.country and country in self._nodes:
                searches[country] = search
                continue
            if country not in self.peers:
                gaps.append(Gap(country, GapKind.UNREACHABLE, "NO_SUCH_PEER"))
                continue
            decision = self._decide(search)
            search.files[:] = _numbers(decision) or search.files
            gap = self._hopeless(search, decision)
            if gap is None:
                searches[country] = search
                entries.append((search, decision))
            else:
                gaps.append(gap)
                self.log.append(diary.refused_here(search, decision, gap, at=now))
        for search in searches.values():
            search.target_fpir = share_of_rate(asked.target_fpir, len(searches))
        if entries:
            self.log.append_all([diary.sent_out(search, decision, at=now) for search, decision in entries])
        return _Plan(searches, tuple(gaps))

    def _hopeless(self, search: peer_pb2.Search, decision: Decision) -> Gap | None:
        """Return why a search is not sent: our law, or what the peer has said that it does not take."""
        country, code = search.asked_country, why_refused(decision, to_words(File, search.files))
        if code:
            return Gap(country, GapKind.NOT_PERMITTED_HERE, code)
        offer = self._offers.get(country)
        gap = not_offered(search, offer) if offer else None
        if gap is not None:
            self._look_at(country, _OFFER_DOUBTED)  # it may have changed its mind; the next search will know
        return gap

    def _decide(self, search: peer_pb2.Search) -> Decision:
        law = self.law(self.clock())
        return law.decide(policy_request(search, direction=Direction.OUTBOUND))

    # ---- under way

    def _ask_all(
        self, plan: _Plan, ends: float, gone: Gone | None = None
    ) -> Generator[CountryAnswer, None, None]:
        """Yield what comes of each statement, checked and logged."""
        first = self.clock()
        questions = [
            Question(self._nodes[country], peer_pb2.SearchRequest(search=self._sealed(search)))
            for country, search in plan.searches.items()
        ]
        left = dict(plan.searches)
        try:
            with closing(self._caller.ask(questions, ends=ends, gone=gone)) as replies:
                for reply in replies:
                    search = left.pop(reply.question.peer.country)
                    came = self._came(reply, search, min(first, _stated(search)))
                    self._note(search, came)
                    yield came
        finally:
            self._note_given_up(left)

    def _note_given_up(self, left: Mapping[str, peer_pb2.Search]) -> None:
        """Log that nobody waited for an answer any more: whoever asked went away."""
        for country, search in left.items():
            gap = Gap(country, GapKind.UNREACHABLE, "CALLER_GONE")
            self._note(search, CountryAnswer(country, gap=gap))

    def _note(self, search: peer_pb2.Search, came: CountryAnswer) -> None:
        own = search.asked_country == self.country
        entry = diary.searched_here if own else diary.came_back
        self.log.append(entry(search, came, at=self.clock()))

    def _sealed(self, search: peer_pb2.Search) -> types_pb2.Signed:
        again = peer_pb2.Search()
        again.CopyFrom(search)
        again.create_time.CopyFrom(stamp(self.clock()))
        return seal("search", again, self.signer)

    # ---- what came back

    def _came(self, reply: Reply, search: peer_pb2.Search, first: datetime) -> CountryAnswer:
        """Judge what came; whatever is wrong with it is a gap with its code."""
        country = search.asked_country
        if isinstance(reply.what, PapilarError):
            return CountryAnswer(country, gap=_gap_of(country, reply.what), seconds=reply.seconds)
        if country == self.country:
            answer = peer_pb2.Answer.FromString(reply.what.statement)
            return CountryAnswer(country, answer, seconds=reply.seconds)
        now = self.clock()
        try:
            answer, head = check_answer(reply.what, search, self.trust, first_asked=first, at=now)
            proven = keep_peers_head(self.log.store, head, self.trust, at=now)
            keep_facts(self.own_searches, search, answer, at=now)
        except StorageError:
            raise
        except PapilarError as error:
            _log.error("an answer of %s was refused: %s", country, error.reason)
            gap = Gap(country, GapKind.INVALID_ANSWER, error.reason)
            return CountryAnswer(country, gap=gap, seconds=reply.seconds)
        if not proven:
            self._beside.submit(self._witness, country, head, search.request_id)
        self._look_at(country, _OFFER_HOLDS)
        return CountryAnswer(country, answer, _gap_in(country, answer), reply.seconds, reply.what)

    def _queued(self, came: CountryAnswer, search: peer_pb2.Search, keep: datetime | None) -> CountryAnswer:
        """Let a search wait for a peer that did not answer, or where a person has to agree first."""
        gap = came.gap
        if self._outbox is None or keep is None or gap is None or gap.kind not in _WAITING:
            return came
        self._outbox.put(search, expires=keep, at=self.clock())
        return replace(came, gap=gap._replace(kind=GapKind.QUEUED, code=str(gap.kind)))

    def _witness(self, country: str, head: SignedHead, request_id: str) -> None:
        """Have the peer prove that its log goes on from what it signed; nobody waits for that."""
        try:
            with self._witnessing:
                witness.exchange(
                    self.peers[country].lines[0],
                    country,
                    self.log,
                    country=self.country,
                    signer=self.signer,
                    trust=self.trust,
                    at=self.clock(),
                    timeout=_WITNESS_SECONDS,
                    offered=head,
                )
        except PapilarError as error:
            _log.error("the log of %s is not proven to go on: %s", country, error.reason)
            names = {"asking": self.country, "asked": country, "request_id": request_id}
            self.log.append(diary.not_proven(error.reason, at=self.clock(), **names))


_WAITING = frozenset({GapKind.UNREACHABLE, GapKind.TIMED_OUT, GapKind.NEEDS_HUMAN})

_REFUSALS = {
    peer_pb2.OUTCOME_REFUSED: GapKind.REFUSED,
    peer_pb2.OUTCOME_QUOTA: GapKind.QUOTA,
    peer_pb2.OUTCOME_NEEDS_HUMAN: GapKind.NEEDS_HUMAN,
}


def _gap_in(country: str, answer: peer_pb2.Answer) -> Gap | None:
    """Return the gap that an answer states, if it does."""
    kind = _REFUSALS.get(answer.outcome)
    if kind is None:
        return None
    return Gap(country, kind, answer.code or str(kind), answer.retry_after_seconds)


def _gap_of(country: str, error: PapilarError) -> Gap:
    """Return the gap that an error leaves. Its text may be the peer's, and goes no further."""
    if isinstance(error, AnswerInvalid) or refused_here(error):
        kind = GapKind.INVALID_ANSWER
    elif isinstance(error, DeadlinePassed):
        kind = GapKind.TIMED_OUT
    elif isinstance(error, NodeError | StorageError | TooManyCalls):
        kind = GapKind.UNREACHABLE
    else:
        kind = GapKind.REFUSED
    return Gap(country, kind, error.reason)


def _numbers(decision: Decision) -> list[Any]:
    return sorted(map(to_number, decision.files))


def _stated(search: peer_pb2.Search) -> datetime:
    return search.create_time.ToDatetime(UTC)
