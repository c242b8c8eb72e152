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
    coarse         (c,)     uint8     the FAISS index of `bits`
"""

import json
import mmap
import os
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from matcher.cylinders import WORDS, Cylinders, Prepared
from matcher.errors import GalleryCorrupt, GalleryTooNew
from matcher.index import CoarseIndex, Votes

MAGIC = b"PAPSEG\r\n"
VERSION = 2
_PREFIX = struct.Struct("<8sHxxIQ")  # magic, version, header CRC-32, header length
_ALIGN = 64

Rows = NDArray[np.int64]
Arrays = Mapping[str, NDArray[Any]]


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

    Raises
    ------
    OSError
        Nothing is left at `path` then.
    """
    arrays = _pack(rows, prepared)
    header, places = _layout(arrays)
    part = path.with_suffix(".part")
    try:
        with create_private(part) as file:
            crc = zlib.crc32(header, VERSION)
            file.write(_PREFIX.pack(MAGIC, VERSION, crc, len(header)) + header)
            for name, array in arrays.items():
                file.seek(places[name])
                file.write(array.tobytes())
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def create_private(path: Path) -> BinaryIO:
    """Open a new file for writing that its owner alone can read: what a gallery holds is biometric data."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")


def _pack(rows: Sequence[int], prepared: Sequence[Prepared]) -> dict[str, NDArray[Any]]:
    every = _pack_cylinders("", [p.every for p in prepared])
    owner = np.repeat(np.arange(len(prepared)), np.diff(every["starts"]))
    return {
        "row": np.asarray(rows, np.int64),
        "minutiae": _starts([p.quality for p in prepared]),
        "pose": _joined([p.pose for p in prepared], np.zeros((0, 3), np.float32)),
        "quality": _joined([p.quality for p in prepared], np.zeros(0, np.uint8)),
        **every,
        **_pack_cylinders("sure_", [p.sure for p in prepared]),
        "ridge_starts": _starts([p.ridges for p in prepared]),
        "ridges": _joined([p.ridges for p in prepared], np.zeros(0, np.uint8)),
        "coarse": CoarseIndex.build(every["bits"], owner).dump(),
    }


def _pack_cylinders(kind: str, parts: Sequence[Cylinders]) -> dict[str, NDArray[Any]]:
    return {
        f"{kind}starts": _starts([part.bits for part in parts]),
        f"{kind}bits": _joined([part.bits for part in parts], np.zeros((0, WORDS), np.uint64)),
        f"{kind}valid": _joined([part.valid for part in parts], np.zeros((0, 3), np.uint64)),
        f"{kind}minutia": _joined([part.minutia for part in parts], np.zeros(0, np.int16)),
    }


def _starts(parts: Sequence[NDArray[Any]]) -> Rows:
    return np.cumsum([0, *(len(part) for part in parts)])


def _joined(parts: Sequence[NDArray[Any]], none: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate([*parts, none])


def _layout(arrays: Arrays) -> tuple[bytes, dict[str, int]]:
    """Return the header and each array's place; places count from the file's start."""
    places: dict[str, int] = {}
    entries = {
        name: {"dtype": array.dtype.str, "shape": array.shape, "crc": zlib.crc32(array.tobytes())}
        for name, array in arrays.items()
    }
    room = 4096 * (1 + len(json.dumps(entries)) // 2048)  # the header grows a little by the places themselves
    at = room
    for name, array in arrays.items():
        places[name] = at
        at += -(-array.nbytes // _ALIGN) * _ALIGN
    header = json.dumps({name: {**entry, "at": places[name]} for name, entry in entries.items()}).encode()
    return header, places


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
