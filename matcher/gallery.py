"""What is searched: sealed segments on the disk, a live one in memory, and which rows are hidden.

Everything here is derived: the store (papilar.store) is the system of record, and a gallery can be rebuilt
from it at any time. So opening a gallery is told which rows are alive; what a segment holds beyond them is
hidden, a damaged segment is set aside, and `missing` says which rows must be added again.
"""

import json
import logging
import os
import threading
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matcher import cascade, compact, cylinders
from matcher.calibration import Calibration
from matcher.cascade import Found, Look, Part, Wanted
from matcher.compare import score
from matcher.cylinders import Prepared
from matcher.errors import GalleryCorrupt, GalleryTooNew
from matcher.segment import (
    Entry,
    LiveSegment,
    Place,
    Rows,
    SealedSegment,
    Segment,
    create_private,
    write_segment,
)
from matcher.template import Finger

MANIFEST = "manifest.json"
VERSION = 1
CODE = f"{cylinders.CODE} {compact.CODE}"
"""Names what segments hold; those that hold something else are rebuilt."""

SEAL_AFTER = 1_000
"""Live rows at which whoever adds them should seal: some forty megabytes."""

MOST = 200_000
"""Rows of a segment: what is written anew to erase one row stays some gigabytes."""

_log = logging.getLogger(__name__)


class Gallery:
    """Prepared templates of one node, by row number.

    Parameters
    ----------
    folder : Path
        Made when it does not exist. One process at a time: the caller holds its lock.
    alive : ndarray of int64
        Row numbers that the store holds, ascending.
    restore : callable, optional
        Gives the template of a row that is damaged on the disk; of no minutiae where it was deleted
        meanwhile. Without it whatever reads such a row raises `GalleryCorrupt`.

    Raises
    ------
    GalleryTooNew
        The manifest or a segment was written by a newer version.

    Notes
    -----
    Safe to call from several threads: a search works on the segments it found when it began; adding to the
    live segment excludes reading it for the time of one append. Sealing and compacting exclude each other;
    searches, additions and deletions go on while they write.
    """

    def __init__(
        self, folder: Path, alive: Rows, *, restore: Callable[[int], Prepared] | None = None
    ) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._restore = restore
        self._lock = threading.Lock()  # the fields below change together; held for moments only
        self._rewriting = threading.Lock()  # one writer of the folder at a time; taken before `_lock`
        sealed = tuple(self._open_segments())
        _bury(sealed, alive)
        self._segments: tuple[LiveSegment, *tuple[SealedSegment, ...]] = (LiveSegment(), *sealed)
        self._sweep()

    def __len__(self) -> int:
        return sum(int(segment.alive.sum()) for segment in self._segments)

    def __contains__(self, row: int) -> bool:
        return self._find(row) is not None

    @property
    def rows(self) -> Rows:
        """Row numbers that a search reaches, ascending."""
        with self._lock:
            found = [segment.rows[segment.alive] for segment in self._segments]
        return np.sort(np.concatenate(found))

    @property
    def positions(self) -> Counter[Finger]:
        """How many prints of each finger position a search reaches."""
        with self._lock:
            found = [(segment.fingers, segment.alive) for segment in self._segments]
        each = [np.bincount(fingers[alive], minlength=len(Finger)) for fingers, alive in found]
        counts = np.sum(each, axis=0)
        return Counter({finger: int(counts[finger]) for finger in Finger if counts[finger]})

    @property
    def live_rows(self) -> int:
        """How many rows are in memory only, waiting to be sealed."""
        return len(self._live)

    @property
    def hidden_rows(self) -> int:
        """How many rows of sealed segments are deleted but not yet erased from the disk."""
        return sum(len(segment.alive) - int(segment.alive.sum()) for segment in self._sealed)

    def missing(self, alive: Rows) -> list[int]:
        """Return the rows of `alive` that must be added: enrolled after the last sealing, or set aside."""
        missing: list[int] = alive[~self._reached(alive)].tolist()
        return missing

    def add(self, row: int, prepared: Prepared, place: Place | None = None) -> None:
        """Make a row findable by the next search; nothing changes when it is findable already.

        Without a `place` it is of an unknown finger, and of an encounter of its own.
        """
        if row in self:
            return
        entry = Entry.of(prepared, place or Place(Finger.UNKNOWN, row))
        with self._lock:
            if row not in self:
                self._live.add(row, entry)

    def adopt(self, other: "Gallery") -> None:
        """Become another gallery, of another folder, for the next search; nobody may use that one then."""
        with self._rewriting, self._lock:
            self._folder, self._segments = other._folder, other._segments

    def hide(self, rows: Collection[int]) -> None:
        """Make rows unfindable at once; `compact` erases them from the disk."""
        with self._lock:
            for row in rows:
                if (place := self._find(row)) is not None:
                    place[0].alive[place[1]] = False

    def prepared(self, row: int) -> Prepared | None:
        """Return a row's prepared template; None when it was hidden meanwhile.

        One that is damaged on the disk is restored, and kept in memory until its segment is written anew.
        """
        place = self._find(row)
        if place is None:
            return None
        segment, slot = place
        try:
            return segment.prepared(slot)
        except GalleryCorrupt as error:
            entry = self._restored(segment, slot, error)
        with self._lock:
            if segment in self._segments and segment.alive[slot]:  # no other thread was faster
                segment.alive[slot] = False
                self._live.add(row, entry)
        return entry.prepared

    def look(
        self,
        probe: Sequence[Wanted],
        *,
        total: int | None = None,
        penetration: float = cascade.PENETRATION,
        spread: cascade.Spread = map,
    ) -> Look:
        """Begin to look for prints among those that can be found now; see `matcher.cascade.Look`."""
        with self._lock:
            parts = [
                Part(one.held, np.flatnonzero(one.alive), one.rows, one.fingers, one.encounters)
                for one in self._segments
            ]
        return Look(probe, parts, total=total, penetration=penetration, spread=spread)

    def shortlist(
        self,
        probe: Sequence[Wanted],
        *,
        limit: int,
        first: int = 0,
        penetration: float = cascade.PENETRATION,
        spread: cascade.Spread = map,
        deadline: float | None = None,
    ) -> Found:
        """Return the prints worth a full comparison, and those of their encounters.

        Parameters
        ----------
        probe : sequence of Wanted
            Prints of one person.
        limit : int
            Most rows returned where one print is looked for, and most encounters where several are.
        first : int
            Rows that are returned for each print by itself.
        penetration : float
            Share of the gallery that is not passed over after a quick look; 1 passes over nothing.
        spread : callable
            As `map`: what calls the work on runs of prints; that of a thread pool uses its threads.
        deadline : float, optional
            For a gallery that waits for other machines; this one does not.
        """
        look = self.look(probe, penetration=penetration, spread=spread)
        return cascade.settle([look], look.kept, limit=limit, first=first)

    def scores(
        self, probe: Sequence[Prepared], pairs: Sequence[tuple[int, int]], calibration: Calibration
    ) -> list[float]:
        """Compare prints in full: for each pair of a print's number and a row the log10 likelihood ratio.

        That of a row hidden meanwhile is minus infinity.
        """
        references = ((number, self.prepared(row)) for number, row in pairs)
        return [
            -np.inf if reference is None else score(probe[number], reference, calibration=calibration)
            for number, reference in references
        ]

    def seal(self) -> None:
        """Write the live segment to the disk, together with sealed ones that are not much larger.

        Raises
        ------
        OSError
            For want of space, say: the rows stay findable in memory, and the store has them.
        """
        with self._rewriting:
            if len(self._live):
                small = self._small_segments()
                self._rewrite(small, (self._live, *small))

    def compact(self) -> None:
        """Rewrite the segments that hold hidden rows, so that those are erased from the disk.

        Raises
        ------
        OSError
            The old segments stay in force then.
        """
        while self.compact_one():
            pass

    def compact_one(self) -> bool:
        """Rewrite a segment that holds hidden rows; return whether there was one.

        Raises
        ------
        OSError
            The old segment stays in force then.
        """
        with self._rewriting:
            stale = next((segment for segment in self._sealed if not segment.alive.all()), None)
            if stale is None:
                self._sweep()  # a failed sealing may have left rows that were hidden since
            else:
                self._rewrite((stale,), (stale,))
            return stale is not None

    def check(self) -> None:
        """Read all segments through, and restore the rows that are damaged.

        A search finds those that it comes upon; this finds the others. Damage to what every search reads is
        told, and mended by the next start.

        Raises
        ------
        OSError
            A file cannot be read.
        """
        for segment in self._sealed:
            try:
                segment.check()
            except FileNotFoundError:
                continue  # it was written anew meanwhile
            except GalleryCorrupt as error:
                _log.warning("damage was found on the disk: %s", error)
                for row in segment.rows.tolist():
                    self.prepared(row)

    @property
    def _live(self) -> LiveSegment:
        return self._segments[0]

    @property
    def _sealed(self) -> tuple[SealedSegment, ...]:
        return self._segments[1:]

    def _find(self, row: int) -> tuple[Segment, int] | None:
        """Return where a row lies that is alive."""
        for segment in self._segments:
            if (slot := segment.find(row)) is not None:
                return segment, slot
        return None

    def _reached(self, rows: Rows) -> NDArray[np.bool_]:
        """Return which rows are alive."""
        reached: NDArray[np.bool_] = np.any([segment.reached(rows) for segment in self._segments], axis=0)
        return reached

    def _small_segments(self) -> tuple[SealedSegment, ...]:
        """Return the latest segments that are at most twice as large as all after them.

        Each row is so rewritten a logarithmic number of times, and the number of segments stays logarithmic
        until they have `MOST` rows.
        """
        size, first = len(self._live), len(self._sealed)
        while first:
            before = len(self._sealed[first - 1].rows)
            if before > 2 * size or before + size > MOST:
                break
            first, size = first - 1, size + before
        return self._sealed[first:]

    def _rewrite(self, replaced: tuple[SealedSegment, ...], sources: Sequence[Segment]) -> None:
        """Write the living rows of `sources` as one segment in place of `replaced`, and swap the manifest.

        Where the live segment is among the sources it is the first.
        Until the swap, which cannot fail, nothing in memory has changed.
        """
        with self._lock:
            taken = _Taken.of(sources, self._entry)
        path = self._folder / self._free_name()
        fresh: tuple[SealedSegment, ...] = ()
        if len(taken):
            write_segment(path, taken.rows.tolist(), taken)
            fresh = (SealedSegment(path),)
        sealed = tuple(s for s in self._sealed if s not in replaced) + fresh
        self._write_manifest(sealed)
        with self._lock:
            for segment in fresh:
                segment.alive[:] = taken.alive()
            live = _renewed(self._live, taken.lengths[0]) if self._live in sources else self._live
            self._segments = (live, *sealed)
        self._sweep()

    def _entry(self, segment: Segment, slot: int) -> Entry:
        """Return all that is held of a slot; what is damaged on the disk is restored."""
        try:
            return segment.entry(slot)
        except GalleryCorrupt as error:
            return self._restored(segment, slot, error)

    def _restored(self, segment: Segment, slot: int, error: GalleryCorrupt) -> Entry:
        if self._restore is None:
            raise error
        _log.warning("set aside a row, it is rebuilt from the store: %s", error)
        place = Place(Finger(segment.fingers[slot]), int(segment.encounters[slot]))
        return Entry.of(self._restore(int(segment.rows[slot])), place)

    def _open_segments(self) -> Iterator[SealedSegment]:
        for name in self._manifest():
            try:
                yield SealedSegment(self._folder / name)
            except (GalleryCorrupt, FileNotFoundError) as error:
                # Derived data: the store has these rows, and `missing` names them to the caller.
                _log.warning("set aside a segment, its rows are rebuilt from the store: %s", error)

    def _manifest(self) -> list[str]:
        path = self._folder / MANIFEST
        if not path.exists():
            return []
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
            version, names, crc = manifest["version"], manifest["segments"], manifest["crc"]
            code = manifest.get("cylinders", "")
        except (ValueError, KeyError, TypeError) as error:
            _log.warning("the gallery's manifest is damaged (%s); all segments are rebuilt", error)
            return []
        if version > VERSION:
            raise GalleryTooNew(
                f"the gallery has version {version}, this program reads up to {VERSION}",
                remedy="update papilar",
            )
        if code != CODE:
            _log.warning("the segments hold cylinders of code %s; all are rebuilt as %s", code, CODE)
            return []
        if crc != _crc(names):
            _log.warning("the gallery's manifest is damaged (its checksum); all segments are rebuilt")
            return []
        return list(names)

    def _write_manifest(self, sealed: tuple[SealedSegment, ...]) -> None:
        names = [segment.path.name for segment in sealed]
        text = json.dumps({"version": VERSION, "cylinders": CODE, "segments": names, "crc": _crc(names)})
        part = self._folder / (MANIFEST + ".part")
        with create_private(part) as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        part.replace(self._folder / MANIFEST)
        _sync_folder(self._folder)

    def _free_name(self) -> str:
        taken = [int(path.stem.split("-")[1]) for path in self._folder.glob("segment-*.pps")]
        return f"segment-{max(taken, default=0) + 1:08d}.pps"

    def _sweep(self) -> None:
        """Delete segment files that the manifest does not name: replaced ones, or left by a crash."""
        kept = {segment.path.name for segment in self._sealed}
        for path in [*self._folder.glob("segment-*.pps"), *self._folder.glob("*.part")]:
            if path.name not in kept:
                path.unlink(missing_ok=True)


class _Taken(Sequence[Entry]):
    """The rows of some segments that are alive at a moment, taken from there when asked for.

    In the order of a sealed segment: by finger, and then ascending.
    """

    def __init__(
        self, sources: Sequence[Segment], entry: Callable[[Segment, int], Entry], rows: Rows, place: Rows
    ) -> None:
        self.sources, self.rows, self._entry, self._place = sources, rows, entry, place
        self.lengths = [len(segment.rows) for segment in sources]
        self._first = np.cumsum([0, *self.lengths])

    @classmethod
    def of(cls, sources: Sequence[Segment], entry: Callable[[Segment, int], Entry]) -> "_Taken":
        alive = np.concatenate([segment.alive for segment in sources])
        rows = np.concatenate([segment.rows for segment in sources])
        fingers = np.concatenate([segment.fingers for segment in sources])
        place = np.flatnonzero(alive)
        place = place[np.lexsort((rows[place], fingers[place]))]
        return cls(sources, entry, rows[place], place)

    def __len__(self) -> int:
        return len(self._place)

    def __getitem__(self, at: Any) -> Any:
        source = int(np.searchsorted(self._first, self._place[at], side="right")) - 1
        return self._entry(self.sources[source], int(self._place[at] - self._first[source]))

    def alive(self) -> NDArray[np.bool_]:
        """Return which of them still are."""
        now = [segment.alive[:n] for segment, n in zip(self.sources, self.lengths, strict=True)]
        alive: NDArray[np.bool_] = np.concatenate(now)[self._place]
        return alive


def _renewed(old: LiveSegment, sealed: int) -> LiveSegment:
    """Return a live segment of the rows that were added after the first `sealed` ones."""
    fresh = LiveSegment()
    for slot in range(sealed, len(old)):
        if old.alive[slot]:
            fresh.add(int(old.rows[slot]), old.entry(slot))
    return fresh


def _bury(segments: Sequence[SealedSegment], alive: Rows) -> None:
    """Hide what is not alive; where two segments hold a row, the later one has it."""
    later = np.zeros(0, np.int64)
    for segment in reversed(segments):
        segment.alive[:] = np.isin(segment.rows, alive) & ~np.isin(segment.rows, later)
        later = np.concatenate((later, segment.rows))


def _crc(names: list[str]) -> int:
    return zlib.crc32("\n".join(names).encode())


def _sync_folder(folder: Path) -> None:
    """Make the renames in a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
