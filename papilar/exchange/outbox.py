"""Searches that wait for a peer that is down: durable, first in first out, erased when sent or expired.

The prints of a search are biometric data. They are kept until its answer is there or its time is over, and
not a moment longer; the log says when they went. Killed at any point, a search is sent again: the peer knows
it by its `request_id` and gives its first answer again, so a repeat has no second effect.
"""

import logging
import random
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from matcher.errors import PapilarError
from papilar.api.peer.v1 import peer_pb2, types_pb2
from papilar.audit.entry import microseconds, moment
from papilar.audit.log import AuditLog
from papilar.exchange import diary
from papilar.exchange.region import CountryAnswer, Gap, GapKind
from papilar.store.exchange import OwnSearches
from papilar.store.outbox import AnswerRow, Key, OutboxStore, SearchRow

Ask = Callable[[peer_pb2.Search, float], CountryAnswer]
"""Puts a statement to its country, within so many seconds: `FederatedSearcher.ask`."""

ANSWERS_DAYS = 14
"""How long an answer waits for its officer: as long as its references live, by the exchange profile."""

_FETCHED = timedelta(minutes=10)  # for an officer whose connection broke while fetching
_ASK_SECONDS = 30.0
_FIRST_WAIT, _LONGEST_WAIT = timedelta(seconds=5), timedelta(minutes=15)
_PERSON_WAIT = timedelta(minutes=15)
_LOOK = 60.0  # seconds between two looks where nothing is due

_DOWN = frozenset({GapKind.UNREACHABLE, GapKind.TIMED_OUT})
_log = logging.getLogger(__name__)


class Late(NamedTuple):
    """What has come, or will not come, of a search that waited; `code` is empty with an answer."""

    country: str
    received: datetime
    answer: peer_pb2.Answer | None
    code: str


class Outbox:
    """What waits. All threads may use one; one at a time delivers.

    Parameters
    ----------
    store : OutboxStore
    log : AuditLog
    clock : callable
        The time, UTC.

    Raises
    ------
    StorageFull, StorageUnavailable, GalleryCorrupt
        From any method.
    """

    def __init__(
        self, store: OutboxStore, log: AuditLog, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._store, self._audit, self._clock = store, log, clock
        self._own_searches = OwnSearches.beside(store)
        self._delivering = threading.Lock()

    def put(self, search: peer_pb2.Search, *, expires: datetime, at: datetime) -> None:
        """Keep a search until it is answered or `expires`; one that is there is left as it is."""
        rest, prints = peer_pb2.Search(), peer_pb2.Search(prints=search.prints)
        rest.CopyFrom(search)
        rest.ClearField("prints")
        row = SearchRow(
            search.request_id,
            search.asked_country,
            int(search.expedite),
            microseconds(at),
            microseconds(expires),
            microseconds(at + _FIRST_WAIT),
            0,
            "",
            rest.SerializeToString(deterministic=True),
            prints.SerializeToString(deterministic=True),
        )
        self._store.put(row)

    def answers(self, request_id: str, *, officer: str) -> tuple[list[Late], list[str]]:
        """Return what came of an officer's request, and the countries that are still waited for.

        What was fetched is erased 10 minutes later.
        """
        now = self._clock()
        until = microseconds(now + _FETCHED)
        found = self._store.answers(request_id, officer, now=microseconds(now), fetched_until=until)
        waits = [row for row in self._store.of_request(request_id) if _statement(row).officer == officer]
        return [_late(row) for row in found], [row.country for row in waits]

    def deliver_due(self, ask: Ask) -> None:
        """Send what is due, country by country in order; erase what is settled or expired.

        A country that does not answer is left alone until its next turn: what is behind waits with it. The
        facts of searches whose candidates have expired are erased too: a node that only asks has nobody else.
        """
        with self._delivering:
            self._write_off()
            self._store.erase_answers(microseconds(self._clock()))
            self._own_searches.erase(self._clock())
            self._expire()
            down: set[str] = set()
            for key in self._store.due(microseconds(self._clock())):
                row = None if key.country in down else self._store.load(key)
                if row is not None and row.prints is not None and not self._deliver(row, ask):
                    down.add(key.country)
            self._write_off()

    def seconds_to_next(self) -> float:
        """Return how long nothing is due, at most a minute."""
        due = self._store.next_time()
        if due is None:
            return _LOOK
        return min(_LOOK, max(0.0, (moment(due) - self._clock()).total_seconds()))

    def _expire(self) -> None:
        """Settle what has waited too long, whether its country answers or not."""
        for key in self._store.expired(microseconds(self._clock())):
            row = self._store.load(key)
            if row is not None:
                gap = Gap(row.country, GapKind.TIMED_OUT, "EXPIRED")
                self._settle(row, CountryAnswer(row.country, gap=gap))

    def _deliver(self, row: SearchRow, ask: Ask) -> bool:
        """Send one search; return whether its country answered."""
        search = _statement(row)
        search.MergeFromString(row.prints or b"")
        came = ask(search, _ASK_SECONDS)
        kind = None if came.gap is None else came.gap.kind
        if kind in _DOWN or kind is GapKind.NEEDS_HUMAN:
            wait = _PERSON_WAIT if kind is GapKind.NEEDS_HUMAN else _back_off(row.tries)
            self._store.delay(row.key, microseconds(self._clock() + wait), country=kind in _DOWN)
            return kind not in _DOWN
        self._settle(row, came)
        return True

    def _settle(self, row: SearchRow, came: CountryAnswer) -> None:
        """Erase the prints and keep what came, in one transaction."""
        now, search = self._clock(), _statement(row)
        code = came.gap.code if came.gap is not None else ""
        signed = came.signed.SerializeToString() if came.signed is not None and not code else None
        kept = AnswerRow(
            *row.key,
            search.officer,
            microseconds(now),
            microseconds(now + timedelta(days=ANSWERS_DAYS)),
            code,
            signed,
        )
        self._store.settle(row.key, "EXPIRED" if code == "EXPIRED" else "SETTLED", kept)

    def _write_off(self) -> None:
        """Log each erasure that was done, then forget its row; killed in between, it is logged twice."""
        for row in self._store.settled():
            self._audit.append(diary.erased(_statement(row), row.why, at=self._clock()))
            self._store.forget(Key(row.request_id, row.country))


class Courier:
    """A thread that delivers what is due.

    Parameters
    ----------
    outbox : Outbox
    ask : Ask
    """

    def __init__(self, outbox: Outbox, ask: Ask) -> None:
        self._outbox, self._ask = outbox, ask
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="courier", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, after the search that is under way."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._outbox.deliver_due(self._ask)
                seconds = max(1.0, self._outbox.seconds_to_next())
            except PapilarError as error:  # the store or the log is away; what waits, waits
                _log.error("the outbox cannot be worked on: %s", error.reason)
                seconds = _LOOK
            self._stopped.wait(seconds)


def _back_off(tries: int) -> timedelta:
    wait: timedelta = min(_FIRST_WAIT * 2 ** min(tries, 20), _LONGEST_WAIT)
    return wait * random.SystemRandom().uniform(1, 1.5)


def _statement(row: SearchRow) -> peer_pb2.Search:
    return peer_pb2.Search.FromString(row.statement)


def _late(row: AnswerRow) -> Late:
    answer = None
    if row.answer is not None:  # it was checked before it was kept
        answer = peer_pb2.Answer.FromString(types_pb2.Signed.FromString(row.answer).statement)
    return Late(row.country, moment(row.received), answer, row.code)
