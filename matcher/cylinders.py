"""Minutia cylinder codes: the local structure around each minutia as bits (`prepare` a template once).

A cylinder is a disc of cells around a minutia, turned to its direction, six direction sectors high. A cell is
on when minutiae lie near it at a like direction. Comparing two cylinders is counting bits.

References
----------
.. [1] R. Cappelli, M. Ferrara, D. Maltoni, "Minutia Cylinder-Code: a new representation and matching
   technique for fingerprint recognition", IEEE TPAMI 32(12), 2010, doi:10.1109/TPAMI.2010.52.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from matcher import kernels
from matcher.template import Template

CODE = "mcc-192x6-1"
"""Names the code; a change of `Shape` or of the kernels behind it changes this, and galleries are rebuilt."""

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


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A template made ready to be compared; read-only arrays, which may be views of a memory-mapped segment.

    Attributes
    ----------
    pose : ndarray of float32, shape (n, 3)
        x, y (pixels at 500 ppi) and angle (radians in [-pi, pi]) of every minutia.
    bits : ndarray of uint64, shape (m, 18)
        Cylinders, bit-packed: sector by sector, 192 cells each.
    valid : ndarray of uint64, shape (m, 3)
        Which cells lie near the print.
    minutia : ndarray of int16, shape (m,)
        Index of each cylinder's minutia.
    """

    pose: NDArray[np.float32]
    bits: NDArray[np.uint64]
    valid: NDArray[np.uint64]
    minutia: NDArray[np.int16]

    @property
    def anchors(self) -> NDArray[np.float32]:
        """Poses of the minutiae that have a cylinder, shape (m, 3)."""
        return self.pose[self.minutia]


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


def prepare(template: Template) -> Prepared:
    """Compute the cylinders of a template's best 255 minutiae.

    Parameters
    ----------
    template : Template

    Returns
    -------
    Prepared
        Without cylinders (m = 0) when the minutiae are too few or too scattered: a value, no error.
    """
    best = template.best(MOST_MINUTIAE)
    angle = np.where(best.angle > np.pi, best.angle - 2 * np.pi, best.angle)
    pose = np.column_stack((best.xy, angle)).astype(np.float32)
    if not len(pose):
        return _frozen(
            pose, np.zeros((0, WORDS), np.uint64), np.zeros((0, 3), np.uint64), np.zeros(0, np.int16)
        )
    return _frozen(pose, *kernels.cylinders(pose, _CELLS, _SHAPE))


def _frozen(*arrays: NDArray[Any]) -> Prepared:
    """Make the arrays read-only, as a segment's are: one compiled form of each kernel serves both."""
    for array in arrays:
        array.flags.writeable = False
    return Prepared(*arrays)
