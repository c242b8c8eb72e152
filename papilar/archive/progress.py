"""How far a run is: counts by outcome, prints a minute, and what is left where the whole is known."""

import time
from collections import Counter, deque
from collections.abc import Callable
from datetime import timedelta

from papilar.archive.item import Line, Result

_WINDOW = 300.0  # seconds that the rate is of: files differ, and machines have other work


class Progress:
    """Counts the lines of a run.

    Parameters
    ----------
    total : int, optional
        Items of the source, where that is known.
    clock : callable
        Seconds of a clock that never goes back.

    Attributes
    ----------
    counts : Counter
        Lines by result.
    """

    def __init__(self, total: int | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.counts: Counter[Result] = Counter()
        self.total = total
        self._clock = clock
        self._marks = deque([(clock(), 0)])  # moments, and lines until then; one a second

    @property
    def done(self) -> int:
        """Lines so far."""
        return self.counts.total()

    def add(self, line: Line) -> None:
        """Count a line."""
        self.counts[line.result] += 1
        now = self._clock()
        if now - self._marks[-1][0] >= 1:
            self._marks.append((now, self.done))
        while now - self._marks[0][0] > _WINDOW and len(self._marks) > 1:
            self._marks.popleft()

    @property
    def rate(self) -> float:
        """Items a second over the last five minutes; those that the journal knew count too."""
        since, before = self._marks[0]
        passed = self._clock() - since
        return (self.done - before) / passed if passed > 0 else 0.0

    @property
    def remaining(self) -> timedelta | None:
        """How long the rest takes at this rate; None where that cannot be told."""
        if self.total is None or not self.rate:
            return None
        return timedelta(seconds=round(max(0, self.total - self.done) / self.rate))

    def __str__(self) -> str:
        of = "" if self.total is None else f" of {self.total}"
        parts = [f"{self.done}{of}", *(f"{n} {in_words(result)}" for result, n in self.counts.items())]
        parts.append(f"{60 * self.rate:.0f} a minute")
        if self.remaining is not None:
            parts.append(f"{self.remaining} left")
        return ", ".join(parts)


def in_words(result: str) -> str:
    """Return a result as one says it."""
    return result.lower().replace("_", " ")
