"""Threads that work side by side and take turns at one thing: for the run of an archive."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """Lets threads do one thing in the order of their encounters."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._next = 0

    @contextmanager
    def turn(self, number: int) -> Iterator[None]:
        """Wait for the turn of this number, and hold it."""
        with self._changed:
            self._changed.wait_for(lambda: self._next >= number)
        try:
            yield
        finally:
            self.give_up(number)

    def give_up(self, number: int) -> None:
        """Let the next one go on; a turn that was had is given up already."""
        with self._changed:
            self._changed.wait_for(lambda: self._next >= number)
            self._next = max(self._next, number + 1)
            self._changed.notify_all()
