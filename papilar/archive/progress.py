"""How far a run is: counts by outcome, prints a minute, and how much is left where that can be told.

Where the number of files is known, the time left follows from the files a minute; where a source is read once
from its beginning to its end, from the share of its bytes that was read. Else nothing is said of it.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import NamedTuple

from papilar.archive.item import Item, Line, Result

_WINDOW = 300.0  # seconds that the rate is of: files differ, and machines have other work
_LEAST = 10.0  # seconds before which nothing is said of the time left


class _Mark(NamedTuple):
    """How far a run was at a moment: seconds, lines, files, share of the bytes."""

    at: float
    lines: int = 0
    files: int = 0
    share: float = 0.0


class Progress:
    """Counts the lines of a run.

    Parameters
    ----------
    files : callable, optional
        Gives the number of files of the source, or None as long as it is not known.
    clock : callable
        Seconds of a clock that never goes back.

    Attributes
    ----------
    counts : Counter
        Lines by result.
    """

    def __init__(
        self, files: Callable[[], int | None] = lambda: None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.counts: Counter[Result] = Counter()
        self._files = files
        self._clock = clock
        self._file, self._done = "", 0
        self._share: float | None = None
        self._marks = deque([_Mark(clock())])  # one a second

    def drawn(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield the items of the source, and see how much of it was read."""
        for item in items:
            self._share = self._share if item.share is None else item.share
            yield item

    def add(self, line: Line) -> None:
        """Count a line."""
        self.counts[line.result] += 1
        file = line.file.partition("#")[0]  # of a transaction or a sheet all lines are of one
        self._done += file != self._file
        self._file = file
        now = self._now()
        if now.at - self._marks[-1].at >= 1:
            self._marks.append(now)
        while now.at - self._marks[0].at > _WINDOW and len(self._marks) > 1:
            self._marks.popleft()

    @property
    def done(self) -> int:
        """Lines so far."""
        return self.counts.total()

    @property
    def rate(self) -> float:
        """Lines a second over the last five minutes; those that the journal knew count too."""
        before, now = self._marks[0], self._now()
        passed = now.at - before.at
        return (now.lines - before.lines) / passed if passed > 0 else 0.0

    @property
    def remaining(self) -> timedelta | None:
        """How long the rest takes at the pace of the last five minutes; None where that cannot be told."""
        before, now, files = self._marks[0], self._now(), self._files()
        left, gone = (1 - now.share, now.share - before.share)
        if files is not None:
            left, gone = max(0, files - now.files), now.files - before.files
        passed = now.at - before.at
        if gone <= 0 or passed < _LEAST:
            return None
        return timedelta(seconds=round(left / gone * passed))

    def _now(self) -> _Mark:
        return _Mark(self._clock(), self.done, self._done, self._share or 0.0)

    def __str__(self) -> str:
        files = self._files()
        of = "" if files is None else f" ({self._done} of about {files} files)"
        parts = [f"{self.done}{of}", *(f"{n} {in_words(result)}" for result, n in self.counts.items())]
        parts.append(f"{60 * self.rate:.0f} a minute")
        if files is None and self._share is not None:
            parts.append(f"{self._share:.0%} of the bytes read")
        if self.remaining is not None:
            parts.append(f"about {self.remaining} left")
        return ", ".join(parts)


def in_words(result: str) -> str:
    """Return a result as one says it."""
    return result.lower().replace("_", " ")
