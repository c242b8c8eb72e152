"""The ridge description: direction, period and phase of the ridges on a grid, at most 1,500 bytes a print.

Around any place a print is close to a plane wave, `cos(k . (p - c) + phase)`, so that a wave for every square
of a ridge or so keeps nearly all that the pattern says, minutiae included (they are the turns of its phase),
in a hundredth of the image's bytes. The description is kept with the template that was made from an image; a
template out of an ISO or ANSI record has none.

=========== ============================================================================================
bytes       content, little-endian
=========== ============================================================================================
1           step, pixels at 500 ppi between places of the fine grid, 8 to 16
1, 1        columns and rows of cells; a cell is 2 x 2 places
1           0
2, 2        x, y of the first place (int16)
rows x      one bit a cell, row by row, the lowest bit first: the cell is described; padded to a byte
columns
3 a cell    described cells in the same order; from the lowest bit: 6 bits direction of the wave (the normal
            of the ridges, pi/64 each, counter-clockwise as seen), 3 bits period (see `PERIODS`), 3 bits
            weight, 3 bits each for the phase at its four places (pi/4 each), row by row
=========== ============================================================================================

References
----------
.. [1] K. G. Larkin, P. A. Fletcher, "A coherent framework for fingerprint analysis: are fingerprints
   Holograms?", Optics Express 15(14), 2007, doi:10.1364/OE.15.008667 (the print as phase of a wave).
"""

import struct
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from matcher.errors import TemplateOutOfBounds, TemplateTruncated

MOST_BYTES = 1500
DIRECTIONS, WEIGHTS, PHASES = 64, 8, 8
PERIODS = 5.0 * (14.0 / 5.0) ** (np.arange(8) / 7)
"""Ridge periods that can be told, pixels at 500 ppi: 5 to 14 in equal ratios."""

FINEST, COARSEST = 8, 16
"""Least and largest step, pixels at 500 ppi: below, neighbours repeat each other; above, waves drift."""

HEAD = struct.Struct("<BBBxhh")
CELL_BYTES = 3


class RidgeGrid(NamedTuple):
    """A description, not yet packed.

    Attributes
    ----------
    step : int
        Pixels at 500 ppi between places.
    x, y : int
        First place.
    direction, period, weight : ndarray of int, shape (r, c)
        Codes of the cells; weight 0 is a cell that is not described.
    phase : ndarray of int, shape (2 r, 2 c)
        Codes of the places.
    """

    step: int
    x: int
    y: int
    direction: NDArray[np.int64]
    period: NDArray[np.int64]
    weight: NDArray[np.int64]
    phase: NDArray[np.int64]


def packed_length(described: int, cells: int) -> int:
    """Return the bytes of a description of `described` cells out of a grid of `cells`."""
    return HEAD.size + (cells + 7) // 8 + CELL_BYTES * described


def pack(grid: RidgeGrid) -> bytes:
    """Pack a description; see the module for the layout.

    Raises
    ------
    TemplateOutOfBounds
        More than `MOST_BYTES`, or a code that its bits cannot hold.
    """
    rows, columns = grid.weight.shape
    kept = grid.weight > 0
    phase = grid.phase.reshape(rows, 2, columns, 2).transpose(0, 2, 1, 3)[kept].reshape(-1, 4)
    codes = [grid.direction[kept], grid.period[kept], grid.weight[kept], *phase.T]
    limits = (DIRECTIONS, len(PERIODS), WEIGHTS, *[PHASES] * 4)
    if any(((code < 0) | (code >= limit)).any() for code, limit in zip(codes, limits, strict=True)):
        raise TemplateOutOfBounds("a code of the ridge description", remedy="see matcher.ridges")
    shifts = (0, 6, 9, 12, 15, 18, 21)
    words = sum(code.astype("<u4") << shift for code, shift in zip(codes, shifts, strict=True))
    cells = np.asarray(words, "<u4").view(np.uint8).reshape(-1, 4)[:, :CELL_BYTES]
    head = HEAD.pack(grid.step, columns, rows, grid.x, grid.y)
    data = head + np.packbits(kept.ravel(), bitorder="little").tobytes() + cells.tobytes()
    if len(data) > MOST_BYTES:
        raise TemplateOutOfBounds(
            f"a ridge description of {len(data)} bytes", remedy=f"it holds at most {MOST_BYTES}"
        )
    return data


def check(data: bytes) -> None:
    """Check a description that comes from elsewhere; none at all is a good one.

    Raises
    ------
    TemplateTruncated
        Its length is not the one that its grid says.
    TemplateOutOfBounds
        A step or a length that no description has.
    """
    if not data:
        return
    if len(data) < HEAD.size:
        raise TemplateTruncated(f"a ridge description of {len(data)} bytes", remedy="fetch it again, whole")
    step, columns, rows, _, _ = HEAD.unpack_from(data)
    if not FINEST <= step <= COARSEST or len(data) > MOST_BYTES:
        raise TemplateOutOfBounds(
            f"a ridge description of step {step} and {len(data)} bytes",
            remedy=f"a step of {FINEST} to {COARSEST} and at most {MOST_BYTES} bytes are allowed",
        )
    bitmap = np.frombuffer(data, np.uint8)[HEAD.size : HEAD.size + (rows * columns + 7) // 8]
    described = int(np.unpackbits(bitmap, bitorder="little")[: rows * columns].sum())
    if len(data) != packed_length(described, rows * columns):
        raise TemplateTruncated(
            f"a ridge description of {len(data)} bytes for {described} cells",
            remedy="fetch it again, whole",
        )


def unpacked(data: bytes) -> RidgeGrid:
    """Return the codes of a description that `check` has passed; `pack` gives it back."""
    step, columns, rows, x, y = HEAD.unpack_from(data)
    start = HEAD.size + (rows * columns + 7) // 8
    bitmap = np.frombuffer(data, np.uint8)[HEAD.size : start]
    kept = np.unpackbits(bitmap, bitorder="little")[: rows * columns].reshape(rows, columns) > 0
    cells = np.frombuffer(data, np.uint8)[start:].reshape(-1, CELL_BYTES).astype(np.int64)
    words = np.zeros((rows, columns), np.int64)
    words[kept] = cells @ (1, 1 << 8, 1 << 16)
    corners = [words >> shift & PHASES - 1 for shift in (12, 15, 18, 21)]
    places = np.stack(corners, axis=-1).reshape(rows, columns, 2, 2).transpose(0, 2, 1, 3)
    return RidgeGrid(
        step,
        x,
        y,
        words & DIRECTIONS - 1,
        words >> 6 & len(PERIODS) - 1,
        words >> 9 & WEIGHTS - 1,
        places.reshape(2 * rows, 2 * columns),
    )


def mirrored(data: bytes, width: int) -> bytes:
    """Return the description of the print as a mirror shows it, left and right exchanged.

    The wave's normal is mirrored: direction d becomes -d, and d = 0, which would have to be told from its
    other side, stays and changes the sign of the wave's offset instead.

    Parameters
    ----------
    data : bytes
        A description that `check` has passed, or none.
    width : int
        Of the print's image, pixels at 500 ppi.

    Returns
    -------
    bytes
        Empty where there is none, and for one that lies so far beside its image that its mirrored place
        cannot be written.
    """
    if not data:
        return b""
    grid = unpacked(data)
    x = width - 1 - (grid.x + (2 * grid.weight.shape[1] - 1) * grid.step)
    if not -(2**15) <= x < 2**15:
        return b""
    upright = np.repeat(np.repeat(grid.direction == 0, 2, axis=0), 2, axis=1)
    return pack(
        grid._replace(
            x=x,
            direction=(-grid.direction % DIRECTIONS)[:, ::-1],
            period=grid.period[:, ::-1],
            weight=grid.weight[:, ::-1],
            phase=np.where(upright, -grid.phase % PHASES, grid.phase)[:, ::-1],
        )
    )
