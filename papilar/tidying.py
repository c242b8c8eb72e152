"""A gallery's segments kept in order, in a thread of its own, while searches and changes go on.

Rows that wait in memory are sealed when there are many. What was deleted is erased from the disk within the
hour. Once a day all segments are read through, so that damage is found before a search comes upon it. All of
this is derived data: when the disk is full, memory and store still have everything.
"""

import logging
import threading
import time

from matcher.errors import PapilarError
from matcher.gallery import SEAL_AFTER, Gallery

COMPACT_EVERY_S = 3600.0
"""Seconds between two compactions: each writes every segment anew of which a row was deleted."""

CHECK_EVERY_S = 24 * 3600.0
"""Seconds between two readings of all segments."""

_log = logging.getLogger(__name__)


class Tidying:
    """Seals and compacts one gallery.

    Parameters
    ----------
    gallery : Gallery
    seal_after : int
        Rows in memory at which they are sealed.
    """

    def __init__(self, gallery: Gallery, *, seal_after: int = SEAL_AFTER) -> None:
        self._gallery = gallery
        self._seal_after = self._seal_at = seal_after
        self._wake = threading.Event()
        self._closing = False
        # A daemon: a program that ends without `close` ends, as if it were killed.
        self._thread = threading.Thread(target=self._run, name="tidying", daemon=True)

    def start(self) -> None:
        """Begin, with what was deleted before."""
        self._thread.start()

    def look(self) -> None:
        """Have the rows in memory sealed where there are many; from `start` on beside the caller."""
        if self._gallery.live_rows >= self._seal_at:
            if self._thread.is_alive():
                self._wake.set()
            else:
                self._seal()

    def close(self) -> None:
        """Wait for what is under way; then seal and erase what is left."""
        self._closing = True
        self._wake.set()
        self._thread.join()
        self._compact()
        self._seal()

    def _run(self) -> None:
        compacting, checking = time.monotonic(), time.monotonic() + CHECK_EVERY_S
        while not self._closing:
            if time.monotonic() >= compacting:
                self._compact()
                compacting = time.monotonic() + COMPACT_EVERY_S
            if time.monotonic() >= checking:
                self._check()
                checking = time.monotonic() + CHECK_EVERY_S
            if self._gallery.live_rows >= self._seal_at:
                self._seal()
            self._wake.wait(max(0.0, min(compacting, checking) - time.monotonic()))
            self._wake.clear()

    def _compact(self) -> None:
        try:
            while self._gallery.compact_one():
                if self._gallery.live_rows >= self._seal_at:
                    self._gallery.seal()
        except (OSError, PapilarError) as error:
            _log.warning(_NOT_WRITTEN, _cause(error))

    def _seal(self) -> None:
        try:
            self._gallery.seal()
            self._seal_at = self._seal_after
        except (OSError, PapilarError) as error:
            self._seal_at = self._gallery.live_rows + self._seal_after  # not again with each row
            _log.warning(_NOT_WRITTEN, _cause(error))

    def _check(self) -> None:
        try:
            self._gallery.check()
        except (OSError, PapilarError) as error:
            _log.warning("segments could not be checked (%s)", _cause(error))


_NOT_WRITTEN = "segments were not written (%s); the gallery stays complete in memory"


def _cause(error: OSError | PapilarError) -> str | None:
    return error.strerror if isinstance(error, OSError) else error.reason
