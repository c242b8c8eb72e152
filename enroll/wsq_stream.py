"""The markers of a WSQ file, checked before a decoder is let near it.

The decoder that `enroll.image` calls is C code that trusts its input: damaged tables make it write outside
its buffers, and a stream that stops early but ends in the right marker decodes to a print with a part
missing, without a word. So every length is checked here, and the wavelet coefficients are counted.

References
----------
.. [1] FBI, "WSQ Gray-Scale Fingerprint Image Compression Specification", IAFIS-IC-0110: its markers and
   tables, the tree of its 64 sub-bands and the symbols of its Huffman coder.
"""

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from enroll.errors import ImageTruncated

_SOI, _EOI, _SOF, _SOB, _DTT, _DQT, _DHT, _COM = 0xA0, 0xA1, 0xA2, 0xA3, 0xA4, 0xA5, 0xA6, 0xA8
_SUBBANDS = 64
_FILTER_TAPS = range(2, 33)  # the usual filters have 7 and 9 taps; beyond 32 a table is damaged
_CHUNK = 1 << 16  # bytes of one round of the coefficient count: bounds its memory, nothing else
_PPI = re.compile(rb"^\s*PPI\s+(\d+(?:\.\d+)?)\s*$", re.MULTILINE)


class WsqHeader(NamedTuple):
    """What a WSQ file says about itself: `width`, `height` in pixels; `ppi`, or None where it says none."""

    width: int
    height: int
    ppi: float | None


class _Segment(NamedTuple):
    marker: int
    body: bytes
    coded: bytes  # entropy-coded bytes behind a start of block, else empty


def header(data: bytes) -> WsqHeader:
    """Read the size and resolution of a WSQ file.

    Parameters
    ----------
    data : bytes

    Returns
    -------
    WsqHeader

    Raises
    ------
    ImageTruncated
        The file ends before its end marker, or a segment is not as its own length says.
    """
    segments = list(_segments(data))
    frames = [segment.body for segment in segments if segment.marker == _SOF]
    if len(frames) != 1 or len(frames[0]) != 15:
        raise _damaged(f"{len(frames)} frame headers, one of 15 bytes expected")
    comments = b"\n".join(segment.body for segment in segments if segment.marker == _COM)
    stated = _PPI.search(comments)
    ppi = float(stated[1]) if stated else None
    return WsqHeader(_word(frames[0], 4), _word(frames[0], 2), ppi)


def check(data: bytes) -> None:
    """Refuse a WSQ file whose tables are damaged or whose coefficients are not all there.

    Parameters
    ----------
    data : bytes

    Raises
    ------
    ImageTruncated
        A table is not as the specification has it, or the blocks hold more or fewer coefficients than the
        frame's size and the quantisation table ask for.
    """
    width, height, _ = header(data)
    tables: dict[int, NDArray[np.int32]] = {}
    bins: NDArray[np.bool_] | None = None
    transform, found = False, 0
    for segment in _segments(data):
        if segment.marker == _DTT:
            transform = _check_transform(segment.body)
        elif segment.marker == _DQT:
            bins = _used_subbands(segment.body)
        elif segment.marker == _DHT:
            tables.update(_code_tables(segment.body))
        elif segment.marker == _SOB:
            found += _count_block(segment, tables)
    if bins is None or not transform:
        raise _damaged("no quantisation or transform table")
    wanted = int(_subband_areas(width, height)[bins].sum())
    if found != wanted:
        raise _damaged(f"{found} of {wanted} wavelet coefficients")


def _damaged(what: str) -> ImageTruncated:
    return ImageTruncated(f"the WSQ data is damaged: {what}", remedy="send the whole file, as it was written")


def _word(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "big")


def _segments(data: bytes) -> Iterator[_Segment]:
    """Walk the markers from SOI to EOI; what follows the end marker is not looked at."""
    at = 2
    while data[at : at + 2] != bytes((0xFF, _EOI)):
        if at + 4 > len(data):
            raise _damaged("no end marker")
        marker, length = data[at + 1], _word(data, at + 2)
        if data[at] != 0xFF or not _SOI < marker <= _COM:
            raise _damaged(f"no marker at byte {at}")
        if length < 2 or at + 2 + length > len(data):
            raise _damaged(f"a segment of {length} bytes at byte {at} of {len(data)}")
        body = data[at + 4 : at + 2 + length]
        at += 2 + length
        end = _next_marker(data, at) if marker == _SOB else at
        yield _Segment(marker, body, data[at:end])
        at = end


def _next_marker(data: bytes, at: int) -> int:
    """Find the next 0xFF that is no coded byte (those are followed by a stuffed zero)."""
    while True:
        at = data.find(b"\xff", at)
        if at < 0 or at + 1 >= len(data):
            raise _damaged("no end marker")
        if data[at + 1] != 0:
            return at
        at += 2


def _check_transform(body: bytes) -> bool:
    """Two symmetric filters, each stored as its half: a sign, a scale and 32 bits a tap."""
    taps = tuple(body[:2])
    if len(taps) != 2 or any(tap not in _FILTER_TAPS for tap in taps):
        raise _damaged(f"wavelet filters of {taps} taps")
    if len(body) != 2 + 6 * sum((tap + 1) // 2 for tap in taps):
        raise _damaged("a transform table of the wrong length")
    return True


def _used_subbands(body: bytes) -> NDArray[np.bool_]:
    """Which sub-bands are coded, bool (64,): a bin width of zero leaves one out."""
    if len(body) != 3 + 6 * _SUBBANDS:
        raise _damaged("a quantisation table of the wrong length")
    table = np.frombuffer(body, np.uint8, offset=3).reshape(_SUBBANDS, 6)
    return np.asarray(table[:, 1:3].any(axis=1), np.bool_)


def _code_tables(body: bytes) -> Iterator[tuple[int, NDArray[np.int32]]]:
    """Huffman tables as look-ups, int32 (65536,): symbol * 32 + length by the next 16 bits, 0 for no code."""
    at = 0
    while at < len(body):
        counts = body[at + 1 : at + 17]
        symbols = body[at + 17 : at + 17 + sum(counts)]
        if len(counts) != 16 or len(symbols) != sum(counts) or not symbols:
            raise _damaged("a Huffman table of the wrong length")
        yield body[at], _lookup(counts, symbols)
        at += 17 + len(symbols)


def _lookup(counts: bytes, symbols: bytes) -> NDArray[np.int32]:
    lengths = np.repeat(np.arange(1, 17), np.frombuffer(counts, np.uint8))
    spans = 1 << (16 - lengths)
    if spans.sum() > 1 << 16 or len(symbols) > 256:
        raise _damaged("a Huffman table that is no prefix code")
    table = np.zeros(1 << 16, np.int32)
    values = np.frombuffer(symbols, np.uint8).astype(np.int32) * 32 + lengths
    table[: spans.sum()] = np.repeat(values, spans)
    return table


def _extras() -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Bits that follow each symbol, and coefficients it stands for (0: as many as those bits say)."""
    bits, stands = np.zeros(256, np.int32), np.ones(256, np.int32)
    bits[[101, 102, 105]] = 8
    bits[[103, 104, 106]] = 16
    stands[1:101] = np.arange(1, 101)
    stands[[105, 106]] = 0
    return bits, stands


_EXTRA_BITS, _STANDS_FOR = _extras()


def _count_block(segment: _Segment, tables: Mapping[int, NDArray[np.int32]]) -> int:
    """Coefficients of one block."""
    if len(segment.body) != 1 or segment.body[0] not in tables:
        raise _damaged("a block without its Huffman table")
    coded = segment.coded.replace(b"\xff\x00", b"\xff")
    bits, at, count = 8 * len(coded), 0, 0
    while at < bits:
        first = at // 8 // _CHUNK * _CHUNK
        steps, counts = _symbols(coded, first, tables[segment.body[0]])
        here, stop = at - 8 * first, min(bits - 8 * first, 8 * _CHUNK)
        while here < stop and (step := steps[here]) and here + step <= bits - 8 * first:
            count += counts[here]
            here += step
        at = 8 * first + here
        if here < stop:
            break
    if bits - at >= 8:
        raise _damaged(f"no code at bit {at} of {bits} of a block")
    return count


def _symbols(coded: bytes, first: int, table: NDArray[np.int32]) -> tuple[list[int], list[int]]:
    """For every bit of a chunk, as if a symbol began there: bits to the next one, and its coefficients."""
    chunk = np.frombuffer(coded[first : first + _CHUNK + 8] + bytes(8), np.uint8).astype(np.uint64)
    words = np.zeros(len(chunk) - 7, np.uint64)
    for byte in range(6):
        words = (words << np.uint64(8)) | chunk[byte : byte + len(words)]
    shifts = np.arange(8, dtype=np.uint64)
    windows = (words[:, None] >> (np.uint64(32) - shifts)).ravel()  # bits 0 to 15 are the next sixteen
    entries = table[(windows & np.uint64(0xFFFF)).astype(np.intp)]
    lengths, symbols = entries & 31, entries >> 5
    extra, counts = _EXTRA_BITS[symbols], _STANDS_FOR[symbols].copy()
    runs = np.flatnonzero(counts == 0)
    start = (np.arange(len(entries)) % 8)[runs] + lengths[runs] + extra[runs]
    tail = np.repeat(words, 8)[runs] >> (48 - start).astype(np.uint64)
    counts[runs] = (tail & ((1 << extra[runs]) - 1).astype(np.uint64)).astype(np.int32)
    known = (lengths > 0) & (symbols > 0) & (symbols < 255)
    return np.where(known, lengths + extra, 0).tolist(), counts.tolist()


def _subband_areas(width: int, height: int) -> NDArray[np.int64]:
    """Coefficients of each of the 64 sub-bands, int64 (64,)."""
    across, down = _band_lengths(width), _band_lengths(height)
    cells = [(5, x, y) for y in (0, 1) for x in (0, 1)]
    fine = [(4, x, y) for v in (0, 2) for u in (0, 2) for y in (v, v + 1) for x in (u, u + 1)]
    cells += (
        fine[1:-12] + fine[4:] + [(4, x + 4, y) for _, x, y in fine] + [(4, x, y + 4) for _, x, y in fine]
    )
    cells += [(2, 1, 1)]
    cells += [(2, x + u, y + v) for u, v in ((2, 0), (0, 2), (2, 2)) for y in (0, 1) for x in (0, 1)]
    return np.array([across[level][x] * down[level][y] for level, x, y in cells], np.int64)


def _band_lengths(length: int) -> list[list[int]]:
    """Lengths of the bands of one axis at levels 0 to 5, in order of frequency.

    Halving leaves the longer half to the low-pass filter, and behind a high-pass filter the order of
    frequencies is reversed: so it comes first in an even band and second in an odd one.
    """
    levels = [[length]]
    for _ in range(5):
        halves = [(whole - whole // 2, whole // 2) for whole in levels[-1]]
        levels.append([half for odd, pair in enumerate(halves) for half in (pair[::-1] if odd % 2 else pair)])
    return levels
