"""Minutia cylinder codes: the local structure around each minutia as bits (`prepare` a template once).

A cylinder is a disc of cells around a minutia, turned to its direction, six direction sectors high. A cell is
on when minutiae lie near it at a like direction. Comparing two cylinders is counting bits.

References
----------
.. [1] R. Cappelli, M. Ferrara, D. Maltoni, "Minutia Cylinder-Code: a new representation and matching
   technique for fingerprint recognition", IEEE TPAMI 32(12), 2010, doi:10.1109/TPAMI.2010.52.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from matcher import structure
from matcher.kernels import cylinders as kernels
from matcher.kernels import minutiae
from matcher.template import Template

CODE = "mcc-192x6-2-64"
"""Names what `prepare` gives; a change of it, of `Shape`, of the cohort or of the kernels behind them changes
this, and galleries are rebuilt."""

WORDS = 18
"""uint64 words of a cylinder: six sectors of three."""


class Shape(NamedTuple):
    """Numbers of the cylinder; the published ones [1]_ unless a comment says otherwise. Lengths in pixels."""

    radius: float = 70.0
    across: int = 16
    most_cells: float = 61.0
    """Cells farther than sqrt(61) of 16 are left out: 192 instead of 208, which are three whole words."""
    sigma_s: float = 28.0 / 3.0
    sigma_d: float = 2.0 * np.pi / 9.0
    hull_margin: float = 50.0
    least_valid: float = 0.75
    least_minutiae: int = 2
    threshold: float = 0.005
    """Cell value from which a bit is set; 0.005 to 0.01 are published for the bit version."""


class Cylinders(NamedTuple):
    """The cylinders of some minutiae of a print.

    Attributes
    ----------
    bits : ndarray of uint64, shape (m, 18)
        Bit-packed: sector by sector, 192 cells each.
    valid : ndarray of uint64, shape (m, 3)
        Which cells lie near the print.
    minutia : ndarray of int16, shape (m,)
        Index of each cylinder's minutia.
    """

    bits: NDArray[np.uint64]
    valid: NDArray[np.uint64]
    minutia: NDArray[np.int16]


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A template made ready to be compared; read-only arrays, which may be views of a memory-mapped segment.

    Attributes
    ----------
    pose : ndarray of float32, shape (n, 3)
        x, y (pixels at 500 ppi) and angle (radians in [-pi, pi]) of every minutia.
    quality : ndarray of uint8, shape (n,)
        Of every minutia, 1 to 100, 0 where none is stated; descending.
    every : Cylinders
        Of all minutiae.
    sure : Cylinders
        Of those of good quality alone, as if there were no others.
    ridges : ndarray of uint8, shape (b,)
        The ridge description, packed (see `matcher.ridges`); b is 0 where there is none.
    strangers : ndarray of float32, shape (2,)
        Mean and deviation of the structure that the print has with strangers (see `matcher.structure`).
    """

    pose: NDArray[np.float32]
    quality: NDArray[np.uint8]
    every: Cylinders
    sure: Cylinders
    ridges: NDArray[np.uint8]
    strangers: NDArray[np.float32]

    def __reduce__(self) -> tuple[object, ...]:
        return _unpickled, (self.pose, self.quality, self.every, self.sure, self.ridges, self.strangers)


def _unpickled(
    pose: NDArray[np.float32],
    quality: NDArray[np.uint8],
    every: Cylinders,
    sure: Cylinders,
    ridges: NDArray[np.uint8],
    strangers: NDArray[np.float32],
) -> Prepared:
    """Return what was pickled with its arrays read-only again, which most protocols forget."""
    for array in (pose, quality, *every, *sure, ridges, strangers):
        array.flags.writeable = False
    return Prepared(pose, quality, every, sure, ridges, strangers)


def cell_centres(shape: Shape) -> NDArray[np.float32]:
    """Return the centres (c, 2) of a cylinder's cells in its own frame, pixels, row by row."""
    steps = np.arange(shape.across) - (shape.across - 1) / 2
    x, y = np.meshgrid(steps, steps)
    kept = x * x + y * y <= shape.most_cells
    return np.asarray(
        np.column_stack((x[kept], y[kept])) * (2 * shape.radius / shape.across), dtype=np.float32
    )


_SHAPE = Shape()
_CELLS = cell_centres(_SHAPE)

MOST_MINUTIAE = 255
"""As many minutiae as an interchange record holds; more are noise, and time grows with their square."""

SURE_QUALITY = 50
"""Quality from which a minutia is sure. One threshold does not serve all prints: where ridges are faint,
minutiae of little quality are all there is, and where there is dirt they are its. So structure is compared
at both."""

LEAST_SURE = 6
"""With fewer cylinders of sure minutiae than this, or none of stated quality, all count as sure."""


def prepare(template: Template) -> Prepared:
    """Compute the cylinders of a template's best 255 minutiae, and how they agree with those of strangers.

    Parameters
    ----------
    template : Template

    Returns
    -------
    Prepared
        Without cylinders (m = 0) when the minutiae are too few or too scattered: a value, no error.
    """
    best = template.best(MOST_MINUTIAE)
    pose, every, sure = coded = _coded(best)
    ridges = frozen(np.frombuffer(best.ridges, np.uint8))
    met = frozen(structure.strangers(coded, _cohort()))
    return Prepared(pose, frozen(best.quality), every, sure, ridges, met)


@cache
def _cohort() -> tuple[structure.Coded, ...]:
    return tuple(_coded(one) for one in structure.cohort())


def _coded(best: Template) -> tuple[NDArray[np.float32], Cylinders, Cylinders]:
    """Return the pose of a template's minutiae, the best of which come first, and both kinds of cylinders."""
    angle = np.where(best.angle > np.pi, best.angle - 2 * np.pi, best.angle)
    pose = np.column_stack((best.xy, angle)).astype(np.float32)
    every, sure = _cylinders(pose, int((best.quality >= SURE_QUALITY).sum()))
    return frozen(pose), every, sure


def _cylinders(pose: NDArray[np.float32], count: int) -> tuple[Cylinders, Cylinders]:
    """Return the cylinders of all minutiae, and those of the first `count` alone, if they suffice."""
    if not len(pose):
        return _NONE, _NONE
    some = count if count < len(pose) else 0
    hull = pose[minutiae.convex_hull(pose)]
    sure_hull = pose[minutiae.convex_hull(pose[:some])] if some else hull
    found = kernels.cylinders(pose, some, hull, sure_hull, _CELLS, _SHAPE)
    every, sure = (Cylinders(*(frozen(array) for array in arrays)) for arrays in found)
    return every, sure if len(sure.minutia) >= LEAST_SURE else every


def frozen(array: NDArray[Any]) -> NDArray[Any]:
    """Return a read-only copy, as a segment's arrays are: one compiled form of each kernel serves both."""
    copy = array.copy()
    copy.flags.writeable = False
    return copy


_NONE = Cylinders(
    frozen(np.zeros((0, WORDS), np.uint64)),
    frozen(np.zeros((0, 3), np.uint64)),
    frozen(np.zeros(0, np.int16)),
)
