"""Compact cylinders: what is kept of every print in memory, and what of a probe many prints show.

Of a cylinder's 192 cells 32 are kept, evenly spread, in all six sectors: 192 bits. With its direction, its
place in steps of 4 pixels and its valid cells that is a code of 32 bytes, with its word (see `matcher.index`)
34. The 40 best cylinders of a print take 1.4 kilobytes.

A print's score is what its cylinders are worth that agree with cylinders of the probe on one motion (see
`matcher.kernels.compact`). The same comparison is quick or thorough by how many words are taken to be near:
`seek` prepares a probe for either.

References
----------
.. [1] R. Cappelli, M. Ferrara, D. Maltoni, "Fingerprint indexing based on Minutia Cylinder-Code", IEEE TPAMI
   33(5), 2011, doi:10.1109/TPAMI.2010.228.
.. [2] H. Jegou, M. Douze, C. Schmid, "Hamming embedding and weak geometric consistency for large scale image
   search", ECCV 2008, doi:10.1007/978-3-540-88682-2_24 (words, bits beside them, one motion).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from matcher.cylinders import Prepared, Shape, cell_centres, frozen
from matcher.index import shipped
from matcher.kernels import compact as kernels

CODE = "compact-32x6-4096-1"
"""Names what `compact` gives; a change of it, of the cells or the vocabulary changes this, and galleries are
rebuilt."""

MOST_CYLINDERS = 40
"""Cylinders kept of a print, of its best minutiae."""

STEP = 4
"""Pixels between two places that a code tells apart."""

Floats = NDArray[np.float32]
Slots = NDArray[np.int64]


class Compact(NamedTuple):
    """The compact cylinders of a print.

    Attributes
    ----------
    words : ndarray of uint16, shape (m,)
    codes : ndarray of uint64, shape (m, 4)
        See `matcher.kernels.compact`.
    """

    words: NDArray[np.uint16]
    codes: NDArray[np.uint64]


class Held(NamedTuple):
    """The compact cylinders of many prints, one after the other; read-only.

    Attributes
    ----------
    words : ndarray of uint16, shape (m,)
    codes : ndarray of uint64, shape (m, 4)
    starts : ndarray of int64, shape (g + 1,)
        Where those of each print begin.
    """

    words: NDArray[np.uint16]
    codes: NDArray[np.uint64]
    starts: NDArray[np.int64]


class Sought(NamedTuple):
    """A probe, ready to be looked for; read-only. See `matcher.kernels.compact`."""

    codes: NDArray[np.uint64]
    first: NDArray[np.int32]
    who: NDArray[np.uint8]
    most: int


class Depth(NamedTuple):
    """How thoroughly a probe is looked for.

    Attributes
    ----------
    words : int
        Words taken to be near each cylinder of the probe, of 4,096.
    probe, print : int
        Cylinders looked at, of the probe and of a print.
    """

    words: int
    probe: int
    print: int


QUICK = Depth(words=48, probe=40, print=32)
"""For all prints of a large gallery."""

THOROUGH = Depth(words=1024, probe=64, print=MOST_CYLINDERS)
"""For those that remain."""


class Likeness(NamedTuple):
    """Numbers of the comparison; own choices, no finer than their effect on FVC2002 and FVC2004 DB1-4_B."""

    least: np.float32 = np.float32(0.4)
    """Similarity that two cylinders are worth nothing at."""
    least_common: np.uint64 = np.uint64(19)
    """Cells that must be valid in both: 0.6 of 32, as in the full comparison."""
    turn: int = 14
    """Difference of turns within which pairs agree, 1/256 of a turn: 20 degrees."""
    near: np.float32 = np.float32(15.0)
    """Pixels within which they agree, and how that grows with distance: skin stretches."""
    stretch: np.float32 = np.float32(0.15)
    prior: np.float32 = np.float32(5.0)
    """Added to a print's cylinders, by the root of which its score is divided: many are alike by chance."""


_LIKENESS = Likeness()

_AT = np.rint(cell_centres(Shape()) * (16 / 140) + 7.5).astype(np.int64)
_CELLS = np.flatnonzero((_AT[:, 1] % 2 == 0) & ((_AT[:, 0] + _AT[:, 1] // 2 % 2) % 3 == 2))
"""Of the 192 cells (see `matcher.cylinders`) every other row and every third column, staggered: 32."""


def compact(prepared: Prepared, *, most: int = MOST_CYLINDERS) -> Compact:
    """Return the compact cylinders of a print's best minutiae, best first.

    Parameters
    ----------
    prepared : Prepared
    most : int

    Returns
    -------
    Compact
        Of no cylinders, where the print has none.
    """
    every = prepared.every
    cells = cells_of(every.bits[:most])
    words = shipped().nearest(cells, 1)[:, 0].astype(np.uint16)
    codes = _codes(cells, every.valid[:most], prepared.pose[every.minutia[:most]])
    return Compact(frozen(words), frozen(codes))


def seek(prepared: Prepared, depth: Depth) -> Sought:
    """Make a probe ready to be looked for.

    Parameters
    ----------
    prepared : Prepared
    depth : Depth

    Returns
    -------
    Sought
    """
    every, most, known = prepared.every, depth.probe, shipped()
    cells = cells_of(every.bits[:most])
    near = known.nearest(cells, depth.words).ravel()
    who = np.repeat(np.arange(len(cells)), depth.words)[np.argsort(near, kind="stable")]
    who = np.append(who, np.zeros(int(kernels.AHEAD)))
    first = np.searchsorted(np.sort(near), np.arange(len(known) + 1))
    codes = _codes(cells, every.valid[:most], prepared.pose[every.minutia[:most]])
    return Sought(frozen(codes), frozen(first.astype(np.int32)), frozen(who.astype(np.uint8)), depth.print)


def score(sought: Sought, held: Held, slots: Slots) -> Floats:
    """Return what the prints of some slots show of a probe.

    Parameters
    ----------
    sought : Sought
    held : Held
    slots : ndarray of int64, shape (k,)

    Returns
    -------
    ndarray of float32, shape (k,)
        0 where nothing agrees.
    """
    out = np.empty(len(slots), np.float32)
    kernels.score(sought, held, np.ascontiguousarray(slots), _LIKENESS, out)
    return out


def cells_of(bits: NDArray[np.uint64]) -> Floats:
    """Return the cells (m, 192) that are kept of some cylinders (m, 18), sector by sector: 1 where on."""
    sectors = bits.shape[1] // 3
    octets = np.ascontiguousarray(bits).view(np.uint8)
    cells = np.unpackbits(octets, axis=1, bitorder="little").reshape(len(bits), sectors, 192)[:, :, _CELLS]
    return cells.reshape(len(bits), sectors * len(_CELLS)).astype(np.float32)


def _codes(cells: Floats, valid: NDArray[np.uint64], pose: Floats) -> NDArray[np.uint64]:
    """Return the codes (m, 4) of some cylinders; see `matcher.kernels.compact`."""
    m = len(cells)
    octets = np.zeros((m, 32), np.uint8)
    octets[:, :24] = np.packbits(cells.astype(np.uint8), axis=1, bitorder="little")
    octets[:, 24:28] = np.packbits(cells_of(valid).astype(np.uint8), axis=1, bitorder="little")
    octets[:, 28] = np.rint(pose[:, 2] * (128 / np.pi)).astype(np.int64) & 255
    octets[:, 29:31] = np.clip(pose[:, :2] / STEP, 0, 255)
    return octets.view(np.uint64)
