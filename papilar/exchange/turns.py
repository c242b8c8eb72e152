"""Whose turn it is: one call at a time for a request, and so many searches at a time for the node."""

import heapq
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from itertools import count
from threading import Condition


class Once:
    """Lets one call at a time have a key; the others wait, and then find what it left."""

    def __init__(self) -> None:
        self._busy: set[Hashable] = set()
        self._changed = Condition()

    @contextmanager
    def alone(self, key: Hashable) -> Iterator[None]:
        """Hold a key."""
        with self._changed:
            self._changed.wait_for(lambda: key not in self._busy)
            self._busy.add(key)
        try:
            yield
        finally:
            with self._changed:
                self._busy.discard(key)
                self._changed.notify_all()


class Places:
    """Places for searches: first in, first out, the urgent ones before the others.

    Refusals take none: however many there are, searches do not queue behind them.
    """

    def __init__(self, number: int) -> None:
        self._free = number
        self._waiting: list[tuple[bool, int]] = []
        self._numbers = count()
        self._changed = Condition()

    @property
    def full(self) -> bool:
        """Whether one who comes now has to wait."""
        return len(self._waiting) >= self._free

    @contextmanager
    def taken(self, *, urgent: bool) -> Iterator[None]:
        """Hold a place, once it is one's turn."""
        with self._changed:
            mine = not urgent, next(self._numbers)
            heapq.heappush(self._waiting, mine)
            self._changed.wait_for(lambda: self._free > 0 and self._waiting[0] == mine)
            heapq.heappop(self._waiting)
            self._free -= 1
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._free += 1
                self._changed.notify_all()
