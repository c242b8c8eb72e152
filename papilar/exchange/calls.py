"""Several peers asked at once: hedges, back-off, one deadline for all. Knows no socket and no law.

One loop, on the caller's thread, tends all questions; threads of one pool only listen. A question is safe to
ask twice: the peer knows it by its `request_id`. So where a peer is silent, another line is tried beside the
first, and the first answer counts.
"""

import random
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Generic, NamedTuple, Protocol, TypeVar

from matcher.errors import InvalidInput, PapilarError
from papilar.api.peer.v1 import peer_pb2, types_pb2
from papilar.errors import (
    AnswerInvalid,
    CertificateRefused,
    DeadlinePassed,
    NodeUnreachable,
    RequestRefused,
    TooManyCalls,
)

MOST_TRIES = 4
"""How often a peer is asked that does not answer, hedges included."""

MOST_PROGRESS = 10_000
"""Messages of progress after which a peer is held to be making fun of us."""

CALLS_AT_A_TIME = 4
"""Calls under way at one peer, so that one that hangs takes no threads from the others."""

_BACK_OFF = 0.2  # seconds before the second try, twice as many before each further one, up to half more
_BUSY = 0.02  # seconds until a peer with all its calls under way is looked at again
_FAILURES = 3  # questions without an answer, one after the other, that open a peer's breaker
_REST = 30.0  # seconds that it stays open
_NEVER = float("inf")


class Call(Protocol):
    """A search under way: messages of the peer; iterating raises errors of the project."""

    def __iter__(self) -> Iterator[peer_pb2.SearchResponse]: ...

    def cancel(self) -> None:
        """Give it up, from any thread; nothing happens where it has ended."""


class Line(Protocol):
    """A way to a node that can be searched: another country's, or our own gallery."""

    def search(self, request: peer_pb2.SearchRequest, *, timeout: float) -> Call:
        """Ask for a search, and return at once; `timeout` is in seconds."""

    def close(self) -> None:
        """End what is under way."""


class PeerLine(Line, Protocol):
    """A way to another country: `papilar.peer_client.PeerChannel`."""

    def confirm(self, request: peer_pb2.ConfirmRequest, *, timeout: float) -> peer_pb2.ConfirmResponse:
        """Give an examiner's conclusion."""

    def describe(self, *, timeout: float) -> peer_pb2.DescribeNodeResponse:
        """Ask what the peer offers."""

    def exchange_heads(
        self, request: peer_pb2.ExchangeHeadsRequest, *, timeout: float
    ) -> peer_pb2.ExchangeHeadsResponse:
        """Exchange tree heads."""

    def get_statistics(
        self, request: peer_pb2.GetStatisticsRequest, *, timeout: float
    ) -> peer_pb2.GetStatisticsResponse:
        """Ask for the counters of a month."""


L_co = TypeVar("L_co", bound=Line, covariant=True)


class Peer(Generic[L_co]):
    """A node: its lines, and whether it is worth asking just now. Safe for several threads.

    Parameters
    ----------
    country : str
    lines : sequence of Line
        At least one; tried in turn.
    patience : float
        Seconds without a sign of life after which another line is tried.
    """

    def __init__(self, country: str, lines: Sequence[L_co], *, patience: float = 2.0) -> None:
        self.country = country
        self.lines = tuple(lines)
        self.patience = patience
        self.slots = threading.BoundedSemaphore(CALLS_AT_A_TIME)
        self._lock = threading.Lock()
        self._failures = 0
        self._rests_until = 0.0

    def rests(self, now: float) -> bool:
        """Return whether it has failed so often that it is left alone for a while."""
        with self._lock:
            return now < self._rests_until

    @property
    def resting(self) -> bool:
        """Whether it is left alone now."""
        return self.rests(time.monotonic())

    def note(self, *, answered: bool, now: float) -> None:
        """Note how a question ended; a failure after a rest begins the next rest."""
        with self._lock:
            self._failures = 0 if answered else self._failures + 1
            self._rests_until = now + _REST if self._failures >= _FAILURES else 0.0

    def close(self) -> None:
        """Close its lines."""
        for line in self.lines:
            line.close()


class Question(NamedTuple):
    """What is put to one peer."""

    peer: Peer[Line]
    request: peer_pb2.SearchRequest


class Reply(NamedTuple):
    """How a question ended: with a sealed answer, not looked into yet, or with an error."""

    question: Question
    what: types_pb2.Signed | PapilarError
    seconds: float


class Gone:
    """Whether whoever asked has gone; told from any thread, and once for all."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._told = False
        self._heard: list[_Queue] = []

    def __bool__(self) -> bool:
        return self._told

    def tell(self) -> None:
        """End at once what is asked on behalf of who has gone."""
        with self._lock:
            self._told = True
            for heard in self._heard:
                heard.put(None)

    def wake(self, heard: "_Queue") -> None:
        """Put None into a queue when it is told."""
        with self._lock:
            self._heard.append(heard)
            if self._told:
                heard.put(None)


class Caller:
    """Puts questions to peers; one for all searches of a node.

    Parameters
    ----------
    peers : int
        How many peers there are; bounds the threads.
    """

    def __init__(self, peers: int) -> None:
        self._pool = ThreadPoolExecutor(max(1, peers) * CALLS_AT_A_TIME, thread_name_prefix="peer")

    def close(self) -> None:
        """Wait for the threads, whose calls have been cancelled or end with their deadlines."""
        self._pool.shutdown(cancel_futures=True)

    def ask(
        self, questions: Iterable[Question], *, ends: float, gone: Gone | None = None
    ) -> Generator[Reply, None, None]:
        """Put questions to peers, and yield how each one ended, in that order, all by the deadline.

        Parameters
        ----------
        questions : iterable of Question
        ends : float
            `time.monotonic` instant. What is under way then is cancelled, as it is where the caller closes
            the iterator before its end.
        gone : Gone, optional
            Ends the iterator when it is told, in mid-wait too.
        """
        heard: _Queue = SimpleQueue()
        if gone is not None:
            gone.wake(heard)
        started = time.monotonic()
        legs = [_Leg(question, heard, self._pool, ends) for question in questions]
        try:
            while legs and not gone:
                now = time.monotonic()
                for leg in legs:
                    leg.tend(now)
                over = [leg for leg in legs if leg.outcome is not None or now >= ends]
                legs = [leg for leg in legs if leg not in over]
                for leg in over:
                    yield leg.end(time.monotonic(), started)
                if legs and not over:
                    _take(heard, min(ends, *(leg.due() for leg in legs)) - time.monotonic())
        finally:
            for leg in legs:
                leg.cancel()


class _Try:
    """One call of a question; `heard` is when it last gave a sign of life."""

    def __init__(self, leg: "_Leg", call: Call, now: float) -> None:
        self.leg, self.call, self.heard = leg, call, now


@dataclass(frozen=True, slots=True)
class _Heard:
    """What a listening thread has to say: the end of a try."""

    of: _Try
    what: types_pb2.Signed | PapilarError


_Queue = SimpleQueue[_Heard | None]
"""What listening threads say; None to wake the loop."""


class _Leg:
    """A question on its way: its tries, and when it is to be looked at again. Of the loop's thread alone."""

    def __init__(self, question: Question, heard: "_Queue", pool: ThreadPoolExecutor, ends: float) -> None:
        self.question = question
        self.outcome: types_pb2.Signed | PapilarError | None = None
        self._heard, self._pool, self._ends = heard, pool, ends
        self._running: list[_Try] = []
        self._tries = 0
        self._next = 0.0
        self._trouble: PapilarError | None = None

    def tend(self, now: float) -> None:
        """Begin the try that is due, if one is."""
        if self.outcome is None and now < self._ends and now >= self.due():
            if self.question.peer.rests(now) and not self._running:
                self.outcome = NodeUnreachable(
                    f"{self.question.peer.country} has not answered for some time", remedy="ask again later"
                )
            elif self.question.peer.slots.acquire(blocking=False):
                self._begin(now)
            else:
                self._next = now + _BUSY

    def due(self) -> float:
        """Return when the next try is due: after the back-off, or when a call has been silent too long."""
        if self.outcome is not None:
            return 0.0
        if self._tries >= MOST_TRIES or len(self._running) > 1:
            return _NEVER
        silent = max((each.heard for each in self._running), default=-_NEVER) + self.question.peer.patience
        return max(self._next, silent)

    def take(self, heard: _Heard) -> None:
        """Note the end of a try."""
        self._running.remove(heard.of)
        if not isinstance(heard.what, PapilarError) or not _passes(heard.what):
            self.outcome = heard.what
        else:
            self._fail(heard.what, time.monotonic())

    def end(self, now: float, started: float) -> Reply:
        """Cancel what is under way, tell the peer's breaker, and return how the question ended."""
        late = DeadlinePassed(
            f"{self.question.peer.country} did not answer in time",
            remedy="allow more time, or ask again later",
        )
        what = self.outcome or (late if self._running else self._trouble) or late
        rested = self.question.peer.rests(now)
        if not rested:
            self.question.peer.note(answered=not (isinstance(what, PapilarError) and _passes(what)), now=now)
        self.cancel()
        return Reply(self.question, what, now - started)

    def cancel(self) -> None:
        """Cancel what is under way."""
        for each in self._running:
            each.call.cancel()

    def _begin(self, now: float) -> None:
        """Begin a try; a slot has been taken for it, which whoever listens gives back."""
        peer = self.question.peer
        line = peer.lines[self._tries % len(peer.lines)]
        self._tries += 1
        try:
            call = line.search(self.question.request, timeout=self._ends - now)
        except PapilarError as error:  # ours: a certificate, or a country that is no longer trusted
            peer.slots.release()
            self._fail(error, now)
            return
        attempt = _Try(self, call, now)
        self._running.append(attempt)
        self._pool.submit(_listen, attempt, self._heard, peer.slots)

    def _fail(self, error: PapilarError, now: float) -> None:
        self._trouble = error
        if self._tries >= MOST_TRIES and not self._running:
            self.outcome = error
        self._next = now + _BACK_OFF * 2 ** (self._tries - 1) * random.SystemRandom().uniform(1, 1.5)


def _take(heard: "_Queue", seconds: float) -> None:
    """Wait for the end of a try, and note it."""
    try:
        one = heard.get(timeout=max(0.0, seconds))
    except Empty:
        return
    if one is not None:
        one.of.leg.take(one)


def _listen(attempt: _Try, heard: "_Queue", slots: threading.BoundedSemaphore) -> None:
    """Follow a call to its end; only that is told, so that a flood of progress fills no memory."""
    what: types_pb2.Signed | PapilarError
    try:
        what = _follow(attempt)
    except PapilarError as error:
        what = error
    except Exception as error:  # a listener that dies would leave its question to the deadline
        what = NodeUnreachable(f"the call failed ({type(error).__name__})", remedy="see the log")
    finally:
        attempt.call.cancel()
        slots.release()
    heard.put(_Heard(attempt, what))


def _follow(attempt: _Try) -> types_pb2.Signed:
    for number, message in enumerate(attempt.call):
        if message.WhichOneof("message") == "answer":
            return message.answer
        if number >= MOST_PROGRESS:
            raise AnswerInvalid("a flood of progress and no answer", remedy="tell the peer's operator")
        attempt.heard = time.monotonic()
    raise NodeUnreachable("the peer ended the call without an answer", remedy="ask again later")


def refused_here(error: PapilarError) -> bool:
    """Return whether we do not believe a peer's certificate; where the peer refuses ours, `why` is None."""
    return isinstance(error, CertificateRefused) and error.why is not None


def _passes(error: PapilarError) -> bool:
    """Return whether an error may be gone at the next try: the peer is down, late, busy, or not itself."""
    if isinstance(error, AnswerInvalid | InvalidInput):
        return False
    if isinstance(error, TooManyCalls | DeadlinePassed) or refused_here(error):
        return True
    return not isinstance(error, RequestRefused)
