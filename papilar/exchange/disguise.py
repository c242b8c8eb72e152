"""Answers that say nothing by their size, and refusals that look like a search that found nobody.

Where a law hides refusals, whoever watches the answers must not tell a refusal from a no-hit, and neither
must the country that asked. A refused search does no work on the prints, so nothing may be answered that only
such work can tell: under such a law no answer states which files were searched, a threshold or how good the
prints were, `complete` is false (a no-hit is not final there, which is true), and what is too poor or cannot
be decoded is a no-hit too. The asking country has the same extractor and judges its prints before it sends
them. The refused search waits its turn, holds a place for as long as a recent search of so many prints took,
counts against the quota, and has as many entries in the log, each with a random salt.
"""

import math
import random
import time
from collections import defaultdict, deque
from collections.abc import Callable
from datetime import datetime
from threading import Lock
from typing import NamedTuple

from papilar.api.peer.v1 import peer_pb2, types_pb2
from papilar.exchange.seal import seal, stamp
from papilar.signing import Signer

_RECENT = 64
_LONGEST_FRAME = 16
"""Bytes by which tags and lengths around the padding may grow, at most."""


def seal_answer(
    answer: peer_pb2.Answer, signer: Signer, *, at: datetime, multiple: int | None
) -> types_pb2.Signed:
    """Return an answer sealed, its size a multiple of so many bytes; None leaves it as it is."""
    answer.create_time.CopyFrom(stamp(at))
    if multiple is not None:
        _pad(answer, signer, multiple)
    return seal("answer", answer, signer)


def _pad(answer: peer_pb2.Answer, signer: Signer, multiple: int) -> None:
    answer.ClearField("padding")
    bare = answer.ByteSize()
    frame = len(seal("answer", peer_pb2.Answer(), signer).SerializeToString())  # all but the statement
    target = multiple * math.ceil((frame + bare + _LONGEST_FRAME) / multiple)
    while True:
        most = target - frame - bare
        for zeros in range(most, most - _LONGEST_FRAME, -1):
            statement = bare + 2 + _length(zeros) + zeros
            if frame + 1 + _length(statement) + statement == target:
                answer.padding = bytes(zeros)
                return
        target += multiple  # a length that took one byte more has jumped over this size


def _length(number: int) -> int:
    """Return how many bytes a number takes as a varint."""
    return max(1, (number.bit_length() + 6) // 7)


class Clocks(NamedTuple):
    """How time is read and waited for, in seconds; tests turn it."""

    now: Callable[[], float] = time.monotonic
    wait: Callable[[float], None] = time.sleep


class Pace:
    """How long answers take under a law that hides refusals; all threads may use one.

    Parameters
    ----------
    quantum : float
        Seconds to a multiple of which every such answer is held back. With one that is longer than a search
        takes, all answers take as long.
    clocks : Clocks
    """

    def __init__(self, quantum: float, clocks: Clocks = Clocks()) -> None:  # noqa: B008
        self._quantum = quantum
        self._clocks = clocks
        self._random = random.SystemRandom()
        self._lock = Lock()
        self._recent: defaultdict[int, deque[float]] = defaultdict(lambda: deque(maxlen=_RECENT))

    def now(self) -> float:
        """Return the seconds of the clock that answers are timed by."""
        return self._clocks.now()

    def note(self, prints: int, began: float) -> None:
        """Remember how long the work of a search for so many prints took that began then."""
        with self._lock:
            self._recent[prints].append(self._clocks.now() - began)

    def pretend(self, prints: int) -> None:
        """Wait as long as a recent search took: one of as many prints, else of the nearest number."""
        with self._lock:
            nearest = min(self._recent, key=lambda number: abs(number - prints), default=None)
            known = [self._quantum / 2] if nearest is None else list(self._recent[nearest])
        self._clocks.wait(self._random.choice(known))

    def hold_back(self, began: float) -> None:
        """Wait until a multiple of the quantum has passed since a call began."""
        passed = self._clocks.now() - began
        self._clocks.wait(self._quantum * math.ceil(passed / self._quantum) - passed)
