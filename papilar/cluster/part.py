"""The actor: one part of a gallery, in a folder of its own on whatever machine it stands.

It is a gallery as that of one machine is, and no more knows the store: it is told which rows are alive, says
which of them it holds, and is given the others. What it has is derived, and made again wherever it is lost.
"""

import errno
import os
import pickle
import resource
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from matcher.calibration import Calibration
from matcher.cascade import Floats, Found, Look, Wanted
from matcher.codecs import decode
from matcher.cylinders import Prepared, prepare
from matcher.errors import GalleryCorrupt
from matcher.gallery import CODE, SEAL_AFTER, Gallery
from matcher.segment import Place, Rows
from matcher.template import Finger
from papilar.store import GalleryLock

BUSY = 64
"""Questions that a part works on at a time; each of a node's calls asks it one."""

_MOST_LOOKS = 1024


class About(NamedTuple):
    """What must be the same here and there."""

    papilar: str
    code: str


class Stored(NamedTuple):
    """A print as the store has it, and where it belongs."""

    row: int
    place: Place
    template: bytes


def ours() -> About:
    """Return what this process is."""
    return About(metadata.version("papilar"), CODE)


def folder_of(folder: Path, part: int, parts: int) -> Path:
    """Return the folder of a part, within that of the gallery's segments."""
    return folder / f"{part + 1}-of-{parts}"


class Part:
    """Answers `papilar.cluster.keeper.Keeper`, in as many threads as ask.

    Parameters
    ----------
    folder : Path
        Of this part; made when it is not there, as are those above it.
    threads : int
        For the work of a search.

    Raises
    ------
    GalleryLocked
        One that was given up for lost still works in the folder.
    """

    def __init__(self, folder: Path, threads: int) -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core would hold prints
        make_private(folder)
        self._lock = GalleryLock(folder)
        self._folder = folder
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="search")
        self._gone: set[int] = set()
        self._looks: dict[int, Look] = {}
        self._gallery: Gallery

    def stay(self) -> None:
        """Never return: whoever waits for the answer learns of this actor's death."""
        threading.Event().wait()

    def answer(self, question: bytes) -> bytes:
        """Call one of the methods below; both ways in memory of our own, not that of Ray."""
        method, *given = pickle.loads(question)  # noqa: S301 - Ray itself speaks in pickles
        try:
            return packed(getattr(self, method)(*given))
        except GalleryCorrupt:  # the store has all of it: begin with nothing, in another process
            self.erase()
            os._exit(1)

    # ---- what is there

    def about(self) -> About:
        """Return what this process is."""
        return ours()

    def open(self, alive: Rows) -> Rows:
        """Open the segments that lie here, and return which of these rows they hold."""
        self._gallery = Gallery(self._folder, alive)
        return self._gallery.rows

    def rows(self) -> Rows:
        """Return the rows that can be found."""
        return self._gallery.rows

    def positions(self) -> Counter[Finger]:
        """Return how many prints of each finger position can be found."""
        return self._gallery.positions

    def load(self, prints: Sequence[Stored]) -> None:
        """Make rows findable, of the store's templates; sealed as soon as there are enough."""
        ready = self._pool.map(lambda one: prepare(decode(one.template)[0]), prints)
        for one, prepared in zip(prints, ready, strict=True):
            self.add(one.row, prepared, one.place)
        if self._gallery.live_rows >= SEAL_AFTER:
            self._gallery.seal()

    def add(self, row: int, prepared: Prepared, place: Place) -> int:
        """Make a row findable, and return how many are in memory only; not one that was hidden before.

        A row that is read from the store while it is deleted comes later than its deletion.
        """
        if row not in self._gone:
            self._gallery.add(row, prepared, place)
            if row in self._gone:
                self._gallery.hide([row])
        return self._gallery.live_rows

    def hide(self, rows: Sequence[int]) -> None:
        """Make rows unfindable for good."""
        self._gone.update(rows)
        self._gallery.hide(rows)

    def seal(self) -> tuple[bool, int]:
        """Write what is in memory to the disk; return False, and the system's number of an error, or 0."""
        return _done(self._gallery.seal)

    def compact_one(self) -> tuple[bool, int]:
        """Erase some of what was hidden; return whether there was any, and the number of an error, or 0."""
        return _done(self._gallery.compact_one)

    def check(self) -> tuple[bool, int]:
        """Read all that lies here through; as `seal`."""
        return _done(self._gallery.check)

    def erase(self) -> None:
        """Delete the folder. Nothing is asked of this actor any more."""
        shutil.rmtree(self._folder, ignore_errors=True)

    # ---- searching

    def look(self, key: int, probe: Sequence[Wanted], total: int, penetration: float) -> Floats:
        """Begin a search of this part, of a gallery of `total` prints; return what `Look.votes` does."""
        look = self._gallery.look(probe, total=total, penetration=penetration, spread=self._pool.map)
        self._looks[key] = look
        if len(self._looks) > _MOST_LOOKS:  # who began the first is gone
            del self._looks[min(self._looks)]
        return look.votes()

    def best(self, key: int, least: float, limit: int, first: int) -> Found:
        """End that search; as `Look.best`."""
        return self._looks.pop(key).best(least, limit=limit, first=first)

    def scores(
        self, probe: Sequence[Prepared], pairs: Sequence[tuple[int, int]], calibration: Calibration
    ) -> list[float]:
        """Compare in full; as `Gallery.scores`."""
        return list(self._pool.map(lambda pair: self._gallery.scores(probe, [pair], calibration)[0], pairs))

    def prepared(self, row: int) -> Prepared | None:
        """Return a row's prepared template."""
        return self._gallery.prepared(row)


def _done(work: Callable[[], bool | None]) -> tuple[bool, int]:
    try:
        return bool(work()), 0
    except OSError as error:
        return False, error.errno or errno.EIO


def packed(value: object) -> bytes:
    """Return a value as bytes; arrays that are read-only stay so, as the kernels are compiled for them."""
    return pickle.dumps(value, protocol=5)


def make_private(folder: Path) -> None:
    """Make a folder and those above it that are not there, for this user alone."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    for one in reversed(missing):
        one.mkdir(mode=0o700, exist_ok=True)


def held_here(folder: Path, parts: int, *, alone: bool) -> dict[int, int]:
    """Return how many bytes of each part lie on this machine; delete what is of another division.

    Parameters
    ----------
    folder : Path
        Of the gallery's segments.
    parts : int
    alone : bool
        No other generation is in force or in the making: delete those, too.
    """
    if alone:
        first = folder.name.partition(".")[0]
        for other in [folder.with_name(first), *folder.parent.glob(f"{first}.*")]:
            if other != folder:
                shutil.rmtree(other, ignore_errors=True)
    wanted = {folder_of(folder, part, parts): part for part in range(parts)}
    found = {}
    for one in folder.iterdir() if folder.is_dir() else ():
        if one in wanted:
            found[wanted[one]] = sum(file.stat().st_size for file in one.glob("segment-*.pps"))
        elif one.is_dir():
            shutil.rmtree(one, ignore_errors=True)
        else:
            one.unlink(missing_ok=True)
    return found
