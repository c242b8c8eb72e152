"""A run of gallery rows ready to be searched: sealed in one memory-mapped file, or live in memory.

A sealed file is immutable: magic, version, the CRC-32 and length of a JSON header, the header (which names
every array with its place, shape and CRC-32), then the arrays, each aligned to 64 bytes. The header's CRC-32
starts from the version, so that a flipped bit there is not taken for a newer program.

    row            (g,)     int64     the store's row numbers, ascending
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
    coarse         (c,)     uint8     a FAISS index of `bits`; empty where that is flat, the bits themselves

Version 2 has the flat index here, a copy of all bits.
"""

import json
import mmap
import os
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from matcher.cylinders import WORDS, Cylinders, Prepared
from matcher.errors import GalleryCorrupt, GalleryTooNew
from matcher.index import CoarseIndex, Votes

MAGIC = b"PAPSEG\r\n"
VERSION = 3
_PREFIX = struct.Struct("<8sHxxIQ")  # magic, version, header CRC-32, header length
_ALIGN = 64

Rows = NDArray[np.int64]


class Segment(Protocol):
    """What a gallery needs of a segment; slots are positions within it."""

    @property
    def rows(self) -> Rows:
        """Row number of every slot, ascending."""

    def prepared(self, slot: int) -> Prepared:
        """Return the prepared template of a slot."""

    def votes(self, probe: Prepared, *, neighbours: int) -> Votes:
        """Return the coarse votes of a probe."""


class LiveSegment:
    """Rows enrolled since the last sealing, in memory. The gallery excludes adding while searching."""

    def __init__(self) -> None:
        self._rows: list[int] = []
        self._prepared: list[Prepared] = []
        self._index = CoarseIndex()

    @property
    def rows(self) -> Rows:
        """Row number of every slot, ascending."""
        return np.asarray(self._rows, np.int64)

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, row: int, prepared: Prepared) -> None:
        """Append a row."""
        bits = prepared.every.bits
        self._index.add(bits, np.full(len(bits), len(self._rows), np.int64))
        self._prepared.append(prepared)
        self._rows.append(row)

    def prepared(self, slot: int) -> Prepared:
        """Return the prepared template of a slot."""
        return self._prepared[slot]

    def votes(self, probe: Prepared, *, neighbours: int) -> Votes:
        """Return the coarse votes of a probe."""
        return self._index.search(probe.every.bits, neighbours=neighbours)


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
        Cut short, or a checksum does not agree.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._arrays = _read(path)
        self._index = CoarseIndex.load(self._arrays["coarse"], self._arrays["bits"], self._owner())

    @property
    def rows(self) -> Rows:
        """Row number of every slot, ascending."""
        rows: Rows = self._arrays["row"]
        return rows

    def prepared(self, slot: int) -> Prepared:
        """Return the prepared template of a slot, as views of the file."""
        minutiae, ridges = self._part("minutiae", slot), self._part("ridge_starts", slot)
        a = self._arrays
        every, sure = self._cylinders("", slot), self._cylinders("sure_", slot)
        return Prepared(a["pose"][minutiae], a["quality"][minutiae], every, sure, a["ridges"][ridges])

    def _cylinders(self, kind: str, slot: int) -> Cylinders:
        part, a = self._part(f"{kind}starts", slot), self._arrays
        return Cylinders(a[f"{kind}bits"][part], a[f"{kind}valid"][part], a[f"{kind}minutia"][part])

    def _part(self, starts: str, slot: int) -> slice:
        return slice(self._arrays[starts][slot], self._arrays[starts][slot + 1])

    def votes(self, probe: Prepared, *, neighbours: int) -> Votes:
        """Return the coarse votes of a probe."""
        return self._index.search(probe.every.bits, neighbours=neighbours)

    def _owner(self) -> Rows:
        return np.repeat(np.arange(len(self.rows)), np.diff(self._arrays["starts"]))


def write_segment(path: Path, rows: Sequence[int], prepared: Sequence[Prepared]) -> None:
    """Write a sealed segment beside its final name, flush it to the disk, and only then give it that name.

    Parameters
    ----------
    path : Path
    rows : sequence of int
    prepared : sequence of Prepared
        Each is asked for twice, and let go of when it is written: what the segment takes in memory does not
        grow with it, where the sequence holds nothing itself.

    Raises
    ------
    OSError
        Nothing is left at `path` then.
    """
    small = _starts(rows, prepared)
    shapes = {name: array.shape for name, array in small.items()} | {
        name: (int(small[column.starts][-1]), *column.tail) for name, column in _COLUMNS.items()
    }
    places, end = _places(shapes)
    part = path.with_suffix(".part")
    try:
        with create_private(part) as file:
            file.truncate(end)
            crcs = _write_columns(file, prepared, places)
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

    of: Callable[[Prepared], NDArray[Any]]
    dtype: Any
    tail: tuple[int, ...]
    starts: str


_COLUMNS: Mapping[str, _Column] = {
    "pose": _Column(lambda p: p.pose, np.float32, (3,), "minutiae"),
    "quality": _Column(lambda p: p.quality, np.uint8, (), "minutiae"),
    "bits": _Column(lambda p: p.every.bits, np.uint64, (WORDS,), "starts"),
    "valid": _Column(lambda p: p.every.valid, np.uint64, (3,), "starts"),
    "minutia": _Column(lambda p: p.every.minutia, np.int16, (), "starts"),
    "sure_bits": _Column(lambda p: p.sure.bits, np.uint64, (WORDS,), "sure_starts"),
    "sure_valid": _Column(lambda p: p.sure.valid, np.uint64, (3,), "sure_starts"),
    "sure_minutia": _Column(lambda p: p.sure.minutia, np.int16, (), "sure_starts"),
    "ridges": _Column(lambda p: p.ridges, np.uint8, (), "ridge_starts"),
}
_HEAD = 4096  # bytes for prefix and header, which take half of it
_BLOCK = 256
"""Rows written at a time: ten megabytes or so."""


def _starts(rows: Sequence[int], prepared: Sequence[Prepared]) -> dict[str, NDArray[Any]]:
    """Return the arrays that are small: the rows, where the parts of each begin, and no coarse index."""
    lengths = np.zeros((len(rows) + 1, 4), np.int64)
    for slot, one in enumerate(prepared):
        lengths[slot + 1] = len(one.quality), len(one.every.bits), len(one.sure.bits), len(one.ridges)
    ends = lengths.cumsum(axis=0).T
    names = ("minutiae", "starts", "sure_starts", "ridge_starts")
    starts = {name: np.ascontiguousarray(each) for name, each in zip(names, ends, strict=True)}
    return {"row": np.asarray(rows, np.int64), **starts, "coarse": np.zeros(0, np.uint8)}


def _write_columns(file: BinaryIO, prepared: Sequence[Prepared], places: Mapping[str, int]) -> dict[str, int]:
    """Write all rows, some at a time, each column at its place; return the columns' CRC-32."""
    at, crcs = dict(places), dict.fromkeys(_COLUMNS, 0)
    for start in range(0, len(prepared), _BLOCK):
        some = [prepared[slot] for slot in range(start, min(start + _BLOCK, len(prepared)))]
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
    kind: np.dtype[Any] = np.dtype(column.dtype if column else np.uint8 if name == "coarse" else np.int64)
    return kind


def _read(path: Path) -> dict[str, NDArray[Any]]:
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size < _PREFIX.size:
            raise _corrupt(path, "is cut short")
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
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
    return {name: _view(path, data, name, entry) for name, entry in json.loads(header).items()}


def _view(path: Path, data: mmap.mmap, name: str, entry: Mapping[str, Any]) -> NDArray[Any]:
    count = int(np.prod(entry["shape"]))
    dtype = np.dtype(entry["dtype"])
    if entry["at"] + count * dtype.itemsize > len(data):
        raise _corrupt(path, f"is cut short in '{name}'")
    array = np.frombuffer(data, dtype, count, entry["at"]).reshape(entry["shape"])
    if zlib.crc32(array.data.cast("B") if array.size else b"") != entry["crc"]:
        raise _corrupt(path, f"has a damaged array '{name}'")
    return array


def _corrupt(path: Path, what: str) -> GalleryCorrupt:
    return GalleryCorrupt(
        f"segment {path.name} {what}", remedy="it is rebuilt from the store; check the disk it lies on"
    )
