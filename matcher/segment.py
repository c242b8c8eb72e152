"""A run of gallery rows ready to be searched: sealed in one memory-mapped file, or live in memory.

A sealed file is immutable: magic, version, the CRC-32 and length of a JSON header, the header (which names
every array with its place, shape and CRC-32), then the arrays, each aligned to 64 bytes. The header's CRC-32
starts from the version, so that a flipped bit there is not taken for a newer program.

    row            (g,)     int64     the store's row numbers, those of one finger together, ascending
    finger         (g,)     uint8     each row's finger position
    encounter      (g,)     int64     first row of the encounter that each row is of
    strangers      (g, 2)   float32   what structure each row has with strangers
    check          (g,)     uint32    CRC-32 of what a full comparison reads of each row
    minutiae       (g + 1,) int64     where each row's minutiae begin
    pose           (n, 3)   float32
    quality        (n,)     uint8
    starts         (g + 1,) int64     where the cylinders of each row's minutiae begin
    bits           (m, 18)  uint64
    valid          (m, 3)   uint64
    minutia        (m,)     int16
    sure_starts, sure_bits, sure_valid, sure_minutia      the same for the sure minutiae alone
    ridge_starts   (g + 1,) int64     where each row's ridge description begins
    ridges         (b,)     uint8
    compact_starts (g + 1,) int64     where each row's compact cylinders begin
    words          (c,)     uint16
    codes          (c, 4)   uint64

A search reads the compact cylinders of all rows, or those of some fingers, which lie together and stay in
memory; of the others it reads those of the few rows that are compared in full. So these are
checked row by row as they are read, and all else when the segment is opened: a second for a million rows,
where to read everything would take a minute.
"""

import json
import mmap
import os
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from matcher.compact import Compact, Held, compact
from matcher.cylinders import WORDS, Cylinders, Prepared
from matcher.errors import GalleryCorrupt, GalleryTooNew
from matcher.template import Finger

MAGIC = b"PAPSEG\r\n"
VERSION = 6
_PREFIX = struct.Struct("<8sHxxIQ")  # magic, version, header CRC-32, header length
_ALIGN = 64

Rows = NDArray[np.int64]
_T = TypeVar("_T", bound=np.generic)


class Place(NamedTuple):
    """Where a print belongs: its finger, and its encounter, named by the row of the first print of it."""

    finger: Finger
    encounter: int


class Entry(NamedTuple):
    """What a segment holds of a row."""

    prepared: Prepared
    compact: Compact
    place: Place

    @classmethod
    def of(cls, prepared: Prepared, place: Place) -> "Entry":
        """Return a template with its compact cylinders."""
        return cls(prepared, compact(prepared), place)


class Segment(Protocol):
    """What a gallery needs of a segment; slots are positions within it."""

    @property
    def rows(self) -> Rows:
        """Row number of every slot."""

    @property
    def fingers(self) -> NDArray[np.uint8]:
        """Finger position of every slot."""

    @property
    def encounters(self) -> Rows:
        """Encounter of every slot, as `Place` has it."""

    @property
    def alive(self) -> NDArray[np.bool_]:
        """Which slots a search reaches; the gallery's to change."""

    @property
    def held(self) -> Held:
        """The compact cylinders of every slot."""

    def find(self, row: int) -> int | None:
        """Return the slot of a row that is alive."""

    def reached(self, rows: Rows) -> NDArray[np.bool_]:
        """Return which rows are alive here."""

    def prepared(self, slot: int) -> Prepared:
        """Return the prepared template of a slot."""

    def entry(self, slot: int) -> Entry:
        """Return all that is held of a slot."""


class LiveSegment:
    """Rows enrolled since the last sealing, in memory.

    What the properties return stays as it is while rows are added; adding excludes adding.
    """

    def __init__(self) -> None:
        self._slot: dict[int, int] = {}
        self._prepared: list[Prepared] = []
        self._rows, self._encounters = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self._fingers, self._alive = np.zeros(0, np.uint8), np.zeros(0, np.bool_)
        self._words, self._codes = np.zeros(0, np.uint16), np.zeros((0, 4), np.uint64)
        self._starts = np.zeros(1, np.int64)

    @property
    def rows(self) -> Rows:
        """Row number of every slot, in the order of their adding."""
        return self._rows[: len(self)]

    @property
    def fingers(self) -> NDArray[np.uint8]:
        """Finger position of every slot."""
        return self._fingers[: len(self)]

    @property
    def encounters(self) -> Rows:
        """Encounter of every slot."""
        return self._encounters[: len(self)]

    @property
    def alive(self) -> NDArray[np.bool_]:
        """Which slots a search reaches; the gallery's to change."""
        return self._alive[: len(self)]

    @property
    def held(self) -> Held:
        """The compact cylinders of every slot."""
        starts = self._starts[: len(self) + 1]
        end = int(starts[-1])
        return Held(_shown(self._words[:end]), _shown(self._codes[:end]), _shown(starts))

    def __len__(self) -> int:
        return len(self._prepared)

    def add(self, row: int, entry: Entry) -> None:
        """Append a row."""
        slot, (words, codes), place = len(self), entry.compact, entry.place
        end = int(self._starts[slot])
        self._words, self._codes = _appended(self._words, end, words), _appended(self._codes, end, codes)
        self._starts = _appended(self._starts, slot + 1, np.array([end + len(words)], np.int64))
        self._rows = _appended(self._rows, slot, np.array([row], np.int64))
        self._encounters = _appended(self._encounters, slot, np.array([place.encounter], np.int64))
        self._fingers = _appended(self._fingers, slot, np.array([place.finger], np.uint8))
        self._alive = _appended(self._alive, slot, np.array([True]))
        self._slot[row] = slot
        self._prepared.append(entry.prepared)

    def find(self, row: int) -> int | None:
        """Return the slot of a row that is alive."""
        slot = self._slot.get(row)
        return slot if slot is not None and self._alive[slot] else None

    def reached(self, rows: Rows) -> NDArray[np.bool_]:
        """Return which rows are alive here."""
        return np.isin(rows, self.rows[self.alive])

    def prepared(self, slot: int) -> Prepared:
        """Return the prepared template of a slot."""
        return self._prepared[slot]

    def entry(self, slot: int) -> Entry:
        """Return all that is held of a slot."""
        begin, end = self._starts[slot : slot + 2]
        place = Place(Finger(self._fingers[slot]), int(self._encounters[slot]))
        return Entry(self._prepared[slot], Compact(self._words[begin:end], self._codes[begin:end]), place)


class SealedSegment:
    """A segment file, memory-mapped read-only.

    Parameters
    ----------
    path : Path

    Raises
    ------
    GalleryTooNew
        Written by a newer version.
    GalleryCorrupt
        Cut short, or a checksum does not agree of what every search reads.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._arrays = _read(path)
        self._order = np.argsort(self.rows, kind="stable")
        self.alive = np.ones(len(self.rows), np.bool_)

    @property
    def rows(self) -> Rows:
        """Row number of every slot, those of a finger together and ascending."""
        rows: Rows = self._arrays["row"]
        return rows

    @property
    def fingers(self) -> NDArray[np.uint8]:
        """Finger position of every slot."""
        return self._arrays["finger"]

    @property
    def encounters(self) -> Rows:
        """Encounter of every slot."""
        return self._arrays["encounter"]

    @property
    def held(self) -> Held:
        """The compact cylinders of every slot, as views of the file."""
        return Held(self._arrays["words"], self._arrays["codes"], self._arrays["compact_starts"])

    def find(self, row: int) -> int | None:
        """Return the slot of a row that is alive."""
        if not len(self._order) or not self.rows[self._order[0]] <= row <= self.rows[self._order[-1]]:
            return None  # of many segments one has it
        slot = int(self._order[np.searchsorted(self.rows, row, sorter=self._order)])
        return slot if self.rows[slot] == row and self.alive[slot] else None

    def reached(self, rows: Rows) -> NDArray[np.bool_]:
        """Return which rows are alive here."""
        at = np.searchsorted(self.rows, rows, sorter=self._order)
        slots = self._order[np.minimum(at, len(self.alive) - 1)]
        reached: NDArray[np.bool_] = (self.rows[slots] == rows) & self.alive[slots]
        return reached

    def check(self) -> None:
        """Read the whole file.

        Raises
        ------
        GalleryCorrupt
            A checksum does not agree.
        """
        _read(self.path, whole=True)

    def prepared(self, slot: int) -> Prepared:
        """Return the prepared template of a slot, as views of the file.

        Raises
        ------
        GalleryCorrupt
            Its checksum does not agree.
        """
        minutiae, ridges = self._part("minutiae", slot), self._part("ridge_starts", slot)
        a = self._arrays
        every, sure = self._cylinders("", slot), self._cylinders("sure_", slot)
        pose, quality, description = a["pose"][minutiae], a["quality"][minutiae], a["ridges"][ridges]
        found = Prepared(pose, quality, every, sure, description, a["strangers"][slot])
        if _check(found) != a["check"][slot]:
            raise _corrupt(self.path, f"has a damaged row {self.rows[slot]}")
        return found

    def _cylinders(self, kind: str, slot: int) -> Cylinders:
        part, a = self._part(f"{kind}starts", slot), self._arrays
        return Cylinders(a[f"{kind}bits"][part], a[f"{kind}valid"][part], a[f"{kind}minutia"][part])

    def _part(self, starts: str, slot: int) -> slice:
        return slice(self._arrays[starts][slot], self._arrays[starts][slot + 1])

    def entry(self, slot: int) -> Entry:
        """Return all that is held of a slot, as views of the file."""
        part, a = self._part("compact_starts", slot), self._arrays
        place = Place(Finger(a["finger"][slot]), int(a["encounter"][slot]))
        return Entry(self.prepared(slot), Compact(a["words"][part], a["codes"][part]), place)


def write_segment(path: Path, rows: Sequence[int], entries: Sequence[Entry]) -> None:
    """Write a sealed segment beside its final name, flush it to the disk, and only then give it that name.

    Parameters
    ----------
    path : Path
    rows : sequence of int
    entries : sequence of Entry
        Each is asked for twice, and let go of when it is written: what the segment takes in memory does not
        grow with it, where the sequence holds nothing itself.

    Raises
    ------
    OSError
        Nothing is left at `path` then.
    """
    small = _small(rows, entries)
    shapes = {name: array.shape for name, array in small.items()} | {
        name: (int(small[column.starts][-1]), *column.tail) for name, column in _COLUMNS.items()
    }
    places, end = _places(shapes)
    part = path.with_suffix(".part")
    try:
        with create_private(part) as file:
            file.truncate(end)
            crcs = _write_columns(file, entries, places)
            for name, array in small.items():
                file.seek(places[name])
                file.write(array.tobytes())
                crcs[name] = zlib.crc32(array.tobytes())
            header = _header(shapes, places, crcs)
            file.seek(0)
            file.write(_PREFIX.pack(MAGIC, VERSION, zlib.crc32(header, VERSION), len(header)) + header)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def create_private(path: Path) -> BinaryIO:
    """Open a new file for writing that its owner alone can read: what a gallery holds is biometric data."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")


class _Column(NamedTuple):
    """An array to which each row gives some: what of it, and where what each gave begins."""

    of: Callable[[Entry], NDArray[Any]]
    dtype: Any
    tail: tuple[int, ...]
    starts: str


_COLUMNS: Mapping[str, _Column] = {
    "pose": _Column(lambda e: e.prepared.pose, np.float32, (3,), "minutiae"),
    "quality": _Column(lambda e: e.prepared.quality, np.uint8, (), "minutiae"),
    "bits": _Column(lambda e: e.prepared.every.bits, np.uint64, (WORDS,), "starts"),
    "valid": _Column(lambda e: e.prepared.every.valid, np.uint64, (3,), "starts"),
    "minutia": _Column(lambda e: e.prepared.every.minutia, np.int16, (), "starts"),
    "sure_bits": _Column(lambda e: e.prepared.sure.bits, np.uint64, (WORDS,), "sure_starts"),
    "sure_valid": _Column(lambda e: e.prepared.sure.valid, np.uint64, (3,), "sure_starts"),
    "sure_minutia": _Column(lambda e: e.prepared.sure.minutia, np.int16, (), "sure_starts"),
    "ridges": _Column(lambda e: e.prepared.ridges, np.uint8, (), "ridge_starts"),
    "words": _Column(lambda e: e.compact.words, np.uint16, (), "compact_starts"),
    "codes": _Column(lambda e: e.compact.codes, np.uint64, (4,), "compact_starts"),
}
_COMPARED = frozenset(name for name, column in _COLUMNS.items() if column.starts != "compact_starts")
_SMALL = {"finger": np.uint8, "strangers": np.float32, "check": np.uint32}  # the others: int64
_HEAD = 4096  # bytes for prefix and header, which take half of it
_CHUNK = 1 << 22  # bytes read at a time
_BLOCK = 256
"""Rows written at a time: ten megabytes or so."""


def _small(rows: Sequence[int], entries: Sequence[Entry]) -> dict[str, NDArray[Any]]:
    """Return the small arrays: the rows, their places and checksums, where the parts of each begin."""
    owners = {column.starts: column for column in _COLUMNS.values()}
    lengths = np.zeros((len(owners), len(rows) + 1), np.int64)
    fingers, encounters = np.zeros(len(rows), np.uint8), np.zeros(len(rows), np.int64)
    strangers, checks = np.zeros((len(rows), 2), np.float32), np.zeros(len(rows), np.uint32)
    for slot, entry in enumerate(entries):
        lengths[:, slot + 1] = [len(column.of(entry)) for column in owners.values()]
        fingers[slot], encounters[slot] = entry.place
        strangers[slot], checks[slot] = entry.prepared.strangers, _check(entry.prepared)
    places = {"finger": fingers, "encounter": encounters, "strangers": strangers, "check": checks}
    starts = dict(zip(owners, lengths.cumsum(axis=1), strict=True))
    return {"row": np.asarray(rows, np.int64), **places, **starts}


def _check(prepared: Prepared) -> int:
    """Return the CRC-32 of a row's arrays, one after the other."""
    crc = 0
    one = prepared
    for array in (one.pose, one.quality, *one.every, *one.sure, one.ridges, one.strangers):
        crc = zlib.crc32(array.data, crc)
    return crc


def _write_columns(file: BinaryIO, entries: Sequence[Entry], places: Mapping[str, int]) -> dict[str, int]:
    """Write all rows, some at a time, each column at its place; return the columns' CRC-32."""
    at, crcs = dict(places), dict.fromkeys(_COLUMNS, 0)
    for start in range(0, len(entries), _BLOCK):
        some = [entries[slot] for slot in range(start, min(start + _BLOCK, len(entries)))]
        for name, column in _COLUMNS.items():
            data = np.concatenate([column.of(one) for one in some]).astype(column.dtype, copy=False).tobytes()
            file.seek(at[name])
            file.write(data)
            at[name] += len(data)
            crcs[name] = zlib.crc32(data, crcs[name])
    return crcs


def _places(shapes: Mapping[str, tuple[int, ...]]) -> tuple[dict[str, int], int]:
    """Return each array's place in the file, where the empty ones need none, and the file's length."""
    end, places = _HEAD, {}
    for name, shape in shapes.items():
        size = int(np.prod(shape)) * _dtype(name).itemsize
        places[name] = -(-end // _ALIGN) * _ALIGN if size else _HEAD
        end = places[name] + size if size else end
    return places, end


def _header(
    shapes: Mapping[str, tuple[int, ...]], places: Mapping[str, int], crcs: Mapping[str, int]
) -> bytes:
    entries = {
        name: {"dtype": _dtype(name).str, "shape": shape, "crc": crcs[name], "at": places[name]}
        for name, shape in shapes.items()
    }
    return json.dumps(entries).encode()


def _dtype(name: str) -> np.dtype[Any]:
    column = _COLUMNS.get(name)
    return np.dtype(column.dtype if column else _SMALL.get(name, np.int64))


def _appended(array: NDArray[_T], used: int, more: NDArray[_T]) -> NDArray[_T]:
    """Return `array` with `more` after its first `used` elements, and room to spare: n adds copy O(n).

    Views of the elements before stay as they are.
    """
    needed = used + len(more)
    if needed > len(array):
        room = np.empty((max(used, len(more)), *array.shape[1:]), array.dtype)
        array = np.concatenate((array[:used], room))
    array[used:needed] = more
    return array


def _shown(array: NDArray[_T]) -> NDArray[_T]:
    """Return a read-only view, as a segment's arrays are: one compiled form of each kernel serves both."""
    view = array.view()
    view.flags.writeable = False
    return view


def _read(path: Path, *, whole: bool = False) -> dict[str, NDArray[Any]]:
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size < _PREFIX.size:
            raise _corrupt(path, "is cut short")
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return _arrays(path, file, data, whole)


def _arrays(path: Path, file: BinaryIO, data: mmap.mmap, whole: bool) -> dict[str, NDArray[Any]]:
    magic, version, crc, length = _PREFIX.unpack_from(data)
    if magic != MAGIC:
        raise _corrupt(path, "is no segment")
    header = data[_PREFIX.size : _PREFIX.size + length]
    if zlib.crc32(header, version) != crc:
        raise _corrupt(path, "has a damaged header")
    if version > VERSION:
        raise GalleryTooNew(
            f"segment {path.name} has version {version}, this program reads up to {VERSION}",
            remedy="update papilar",
        )
    arrays = {}
    for name, entry in json.loads(header).items():
        count, dtype = int(np.prod(entry["shape"])), np.dtype(entry["dtype"])
        if entry["at"] + count * dtype.itemsize > len(data):
            raise _corrupt(path, f"is cut short in '{name}'")
        checked = whole or name not in _COMPARED
        if checked and _crc(file, entry["at"], count * dtype.itemsize) != entry["crc"]:
            raise _corrupt(path, f"has a damaged array '{name}'")
        arrays[name] = np.frombuffer(data, dtype, count, entry["at"]).reshape(entry["shape"])
        if name in _COMPARED and count:
            _advise(data, entry["at"], count * dtype.itemsize)
    return arrays


def _advise(data: mmap.mmap, at: int, size: int) -> None:
    """Tell the system that rows are read here and there: it brings them alone, not all around them."""
    first = at // mmap.PAGESIZE * mmap.PAGESIZE
    data.madvise(mmap.MADV_RANDOM, first, at + size - first)


def _crc(file: BinaryIO, at: int, size: int) -> int:
    """Return the CRC-32 of a part of a file: read: what is looked at through the map would stay there."""
    file.seek(at)
    crc = 0
    while size > 0 and (data := file.read(min(size, _CHUNK))):
        crc, size = zlib.crc32(data, crc), size - len(data)
    return crc


def _corrupt(path: Path, what: str) -> GalleryCorrupt:
    return GalleryCorrupt(
        f"segment {path.name} {what}", remedy="it is rebuilt from the store; check the disk it lies on"
    )
