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
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from matcher.cylinders import CODE, Prepared
from matcher.errors import GalleryCorrupt, GalleryTooNew
from matcher.segment import LiveSegment, Rows, SealedSegment, Segment, create_private, write_segment

MANIFEST = "manifest.json"
VERSION = 1
NEIGHBOURS = 50
"""Vectors fetched for each cylinder; on the FVC sets' 640 prints more of them dilute the votes
(pre-selection error at 5 % penetration 2.7 % with 50, 3.7 % with 200, 6.6 % with 1,000)."""

SEAL_AFTER = 1_000
"""Live rows at which whoever adds them should seal: some forty megabytes."""

_log = logging.getLogger(__name__)


class Shortlist(NamedTuple):
    """Coarse candidates, best first: `rows` (k,) int64 and `votes` (k,) float32."""

    rows: NDArray[np.int64]
    votes: NDArray[np.float32]


class Gallery:
    """Prepared templates of one node, by row number.

    Parameters
    ----------
    folder : Path
        Made when it does not exist. One process at a time: the caller holds its lock.
    alive : ndarray of int64
        Row numbers that the store holds, ascending.

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

    def __init__(self, folder: Path, alive: Rows) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._lock = threading.Lock()  # the fields below change together; held for moments only
        self._rewriting = threading.Lock()  # one writer of the folder at a time; taken before `_lock`
        self._sealed: tuple[SealedSegment, ...] = tuple(self._open_segments())
        self._live = LiveSegment()
        self._place: dict[int, tuple[Segment, int]] = {}
        self._hidden: set[int] = set()
        living = set(alive.tolist())
        for segment in self._sealed:
            self._register(segment, living)
        self._sweep()

    def __len__(self) -> int:
        return len(self._place)

    def __contains__(self, row: int) -> bool:
        return row in self._place

    @property
    def rows(self) -> Rows:
        """Row numbers that a search reaches, ascending."""
        with self._lock:
            rows = list(self._place)
        return np.sort(np.asarray(rows, np.int64))

    @property
    def live_rows(self) -> int:
        """How many rows are in memory only, waiting to be sealed."""
        return len(self._live)

    @property
    def hidden_rows(self) -> int:
        """How many rows of sealed segments are deleted but not yet erased from the disk."""
        return len(self._hidden)

    def missing(self, alive: Rows) -> list[int]:
        """Return the rows of `alive` that must be added: enrolled after the last sealing, or set aside."""
        return [row for row in alive.tolist() if row not in self._place]

    def add(self, row: int, prepared: Prepared) -> None:
        """Make a row findable by the next search; nothing changes when it is findable already."""
        with self._lock:
            if row not in self._place:
                self._live.add(row, prepared)
                self._place[row] = (self._live, len(self._live) - 1)

    def adopt(self, other: "Gallery") -> None:
        """Become another gallery, of another folder, for the next search; nobody may use that one then."""
        with self._rewriting, self._lock:
            self._folder, self._sealed, self._live = other._folder, other._sealed, other._live
            self._place, self._hidden = other._place, other._hidden

    def hide(self, rows: Collection[int]) -> None:
        """Make rows unfindable at once; `compact` erases them from the disk."""
        with self._lock:
            for row in rows:
                segment = self._place.pop(row, (None, 0))[0]
                if isinstance(segment, SealedSegment):
                    self._hidden.add(row)

    def prepared(self, row: int) -> Prepared | None:
        """Return a row's prepared template; None when it was hidden meanwhile."""
        place = self._place.get(row)
        return None if place is None else place[0].prepared(place[1])

    def shortlist(self, probe: Prepared, *, limit: int) -> Shortlist:
        """Return the rows worth a full comparison.

        Parameters
        ----------
        probe : Prepared
        limit : int
            Most rows returned. A gallery of no more than that is returned whole, without votes.
        """
        if len(self) <= limit:
            rows = self.rows
            return Shortlist(rows, np.zeros(len(rows), np.float32))
        rows, votes = self._votes(probe)
        best = np.lexsort((rows, -votes))[:limit]
        return Shortlist(rows[best], votes[best])

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
        with self._rewriting:
            with self._lock:
                hidden = self._hidden.copy()
            stale = tuple(s for s in self._sealed if not hidden.isdisjoint(s.rows.tolist()))
            if stale:
                self._rewrite(stale, stale)
            else:
                self._sweep()  # a failed sealing may have left rows that were hidden since

    def _votes(self, probe: Prepared) -> Shortlist:
        with self._lock:
            live = self._live.votes(probe, neighbours=NEIGHBOURS)
            live_rows, sealed = self._live.rows, self._sealed
        found = [(live_rows[live.slots], live.votes)]
        for segment in sealed:
            cast = segment.votes(probe, neighbours=NEIGHBOURS)
            found.append((segment.rows[cast.slots], cast.votes))
        rows, votes = (np.concatenate(parts) for parts in zip(*found, strict=True))
        kept = np.fromiter((row in self._place for row in rows.tolist()), bool, len(rows))
        return Shortlist(rows[kept], votes[kept])

    def _small_segments(self) -> tuple[SealedSegment, ...]:
        """Return the latest segments that are at most twice as large as all after them.

        Each row is so rewritten a logarithmic number of times, and the number of segments stays logarithmic.
        """
        size, first = len(self._live), len(self._sealed)
        while first and len(self._sealed[first - 1].rows) <= 2 * size:
            first -= 1
            size += len(self._sealed[first].rows)
        return self._sealed[first:]

    def _rewrite(self, replaced: tuple[SealedSegment, ...], sources: Sequence[Segment]) -> None:
        """Write the living rows of `sources` as one segment in place of `replaced`, and swap the manifest.

        Where the live segment is among the sources it is the first.
        Until the swap, which cannot fail, nothing in memory has changed.
        """
        with self._lock:
            taken = [source.rows.tolist() for source in sources]
        kept = sorted(
            (row, index, slot)
            for index, rows in enumerate(taken)
            for slot, row in enumerate(rows)
            if self._place.get(row) == (sources[index], slot)
        )
        path = self._folder / self._free_name()
        fresh: tuple[SealedSegment, ...] = ()
        if kept:
            write_segment(path, [row for row, _, _ in kept], _Kept(sources, kept))
            fresh = (SealedSegment(path),)
        sealed = tuple(s for s in self._sealed if s not in replaced) + fresh
        self._write_manifest(sealed)
        with self._lock:
            self._sealed = sealed
            self._hidden.difference_update(*taken)
            if self._live in sources:
                self._renew_live(len(taken[0]))
            for segment in fresh:
                self._register(segment, self._place.keys())
        self._sweep()

    def _renew_live(self, sealed: int) -> None:
        """Begin a new live segment with the rows that were added after the first `sealed` ones."""
        old, self._live = self._live, LiveSegment()
        for slot, row in enumerate(old.rows.tolist()[sealed:], sealed):
            if row in self._place:
                self._place[row] = (self._live, len(self._live))
                self._live.add(row, old.prepared(slot))

    def _register(self, segment: SealedSegment, living: Collection[int]) -> None:
        """Point the living rows of a segment to their places in it; the others are hidden."""
        for slot, row in enumerate(segment.rows.tolist()):
            if row in living:
                self._place[row] = (segment, slot)
            else:
                self._hidden.add(row)

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


class _Kept(Sequence[Prepared]):
    """The templates of some rows, taken from their segments when they are asked for."""

    def __init__(self, sources: Sequence[Segment], kept: Sequence[tuple[int, int, int]]) -> None:
        self._sources, self._kept = sources, kept

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, at: Any) -> Any:
        _, source, slot = self._kept[at]
        return self._sources[source].prepared(slot)


def _crc(names: list[str]) -> int:
    return zlib.crc32("\n".join(names).encode())


def _sync_folder(folder: Path) -> None:
    """Make the renames in a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
