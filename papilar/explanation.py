"""What a comparison says, for people: words for its parts and bands, its common area, mirrored prints."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull

from matcher.calibration import Band, shipped
from matcher.compare import Comparison, prepare, score
from matcher.template import PPI, Template

PARTS: Mapping[str, str] = MappingProxyType(
    {
        "structure": "minutiae agree (deviations above strangers)",
        "share": "share of expected minutiae matched",
        "ridges": "ridges agree (-1 to 1)",
    }
)
"""What the parts of a score measure."""

BANDS: Mapping[Band, str] = MappingProxyType(
    {
        Band.RED: "more than 1 in 1,000 comparisons of different fingers score as much",
        Band.YELLOW: "between 1 in 1,000 and 1 in 100,000 comparisons of different fingers score as much",
        Band.GREEN: "1 in 100,000 comparisons of different fingers scores as much, or fewer",
    }
)
"""What the bands mean."""

MIRRORED = "one of the images is mirrored: flip it and compare again"
OPPOSED = (
    "the ridges of one lie in the valleys of the other: one of the images is inverted; this was taken back"
)

REACH = 18.0
"""Pixels at 500 ppi by which a common area goes beyond its minutiae: two ridges."""


def with_ridges(found: Comparison) -> bool:
    """Return whether ridges were compared; if not, the score is of minutiae alone."""
    return any(part.name == "ridges" for part in found.parts)


def model_words(found: Comparison, a: Template, b: Template) -> str:
    """Say what the score rests on, and why not on ridges where it does not."""
    if with_ridges(found):
        return "minutiae and ridges"
    lacking = [name for name, one in (("a", a), ("b", b)) if not one.ridges]
    if not lacking:
        return "minutiae alone: nothing to align the ridges by"
    who = " and ".join(lacking)
    return f"minutiae alone: {who} {'has' if len(lacking) == 1 else 'have'} no ridge description"


def hull_of(found: Comparison, probe: Template, reference: Template) -> NDArray[np.float64]:
    """Return the outline (h, 2), on the reference, of the matched minutiae of both prints and `REACH`."""
    if not len(found.pairs):
        return np.zeros((0, 2))
    carried = found.carry(probe.xy[found.pairs[:, 0]].astype(np.float64))
    points = np.concatenate((carried, reference.xy[found.pairs[:, 1]].astype(np.float64)))
    angle = np.arange(24) * np.pi / 12
    around = np.column_stack((np.cos(angle), np.sin(angle)))
    outline = (points[:, None] + REACH * around).reshape(-1, 2)
    hull: NDArray[np.float64] = outline[ConvexHull(outline).vertices]
    return hull


def common_area(found: Comparison, probe: Template, reference: Template) -> float:
    """Return how much of both prints was compared, square millimetres: ridges, or the hull of minutiae."""
    if len(found.common):
        pixels = len(found.common) * 2.0 * probe.ridges[0] ** 2  # every second place of a grid of this step
    else:
        x, y = hull_of(found, probe, reference).T
        pixels = abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2
    return pixels * (25.4 / PPI) ** 2


def mirrored_score(found: Comparison, probe: Template, reference: Template) -> float | None:
    """Return the score of the mirrored probe where the comparison's is red and that one green, else None."""
    if shipped().band(found.score) != Band.RED:
        return None
    other = score(prepare(probe.mirrored()), prepare(reference))
    return other if shipped().band(other) == Band.GREEN else None
