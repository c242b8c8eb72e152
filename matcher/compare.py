"""One to one: two prepared templates -> a log10 likelihood ratio, the matched minutiae, the motion between.

The straight line: similarity of all cylinder pairs -> the best one-to-one pairs -> relaxation, in which pairs
that agree with each other on distance and direction keep their worth and the others lose it -> the mean worth
of the best few -> calibration. `compare` then moves the probe onto the reference and pairs what coincides.

References
----------
.. [1] R. Cappelli, M. Ferrara, D. Maltoni, "Minutia Cylinder-Code", IEEE TPAMI 32(12), 2010
   (local similarity sort with relaxation), doi:10.1109/TPAMI.2010.52.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from matcher import kernels
from matcher.calibration import Calibration, shipped
from matcher.cylinders import Prepared, prepare

__all__ = ["Comparison", "Relaxation", "Transform", "compare", "prepare", "raw_score", "score"]

Trace = Callable[[str, NDArray[np.generic] | Mapping[str, object]], None]


class Relaxation(NamedTuple):
    """Numbers of the comparison; the published ones [1]_ unless a comment says otherwise."""

    least_common: float = 0.6 * 192
    """Cells that two cylinders must share to be compared."""
    most_turn: float = 7 * np.pi / 12
    """Largest direction difference of a pair. Published: pi/2; wider, so that the upright and the turned
    hypothesis overlap by 30 degrees and a print turned by a quarter is lost to neither."""
    turned_discount: float = 0.1
    """Natural logarithm taken off the score of the hypothesis that a print is upside down: few are."""
    pairs_least: int = 4
    pairs_most: int = 12
    pairs_middle: float = 20.0
    pairs_steepness: float = 0.4
    rounds: int = 5
    keep: float = 0.5
    mu_distance: float = 5.0
    tau_distance: float = -1.6
    mu_angle: float = np.pi / 12
    tau_angle: float = -30.0
    proposals: int = 6
    """Motions tried before the explanation's pairs are grown (own choice; does not touch the score)."""
    grow_distance: float = 15.0
    """Pixels: a ridge and a half, the tolerance of an examiner's first look (own choice)."""
    grow_angle: float = np.pi / 8


class Transform(NamedTuple):
    """Motion of the probe onto the reference: turn about the origin, then shift.

    `x' = cos(turn) x + sin(turn) y + dx`, `y' = -sin(turn) x + cos(turn) y + dy` in image axes (y down), so a
    positive turn (radians) is counter-clockwise as seen; dx, dy in pixels at 500 ppi.
    """

    dx: float
    dy: float
    turn: float


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """What one comparison says.

    Attributes
    ----------
    score : float
        log10 likelihood ratio: how many powers of ten likelier the two prints are under "same finger".
    pairs : ndarray of int16, shape (p, 2)
        Matched minutiae, indices into the two templates, best first. Explanation, not the score's basis.
    transform : Transform
    """

    score: float
    pairs: NDArray[np.int16]
    transform: Transform


_RELAXATION = Relaxation()
FLOOR = 1e-3
"""Raw score of prints that cannot be compared, below that of any two that can."""


def raw_score(probe: Prepared, reference: Prepared) -> float:
    """Return the uncalibrated score: natural logarithm of the mean relaxed worth of the best pairs.

    Parameters
    ----------
    probe, reference : Prepared

    Returns
    -------
    float
        ln(`FLOOR`) when either has fewer than two cylinders.
    """
    return _relaxed(_similar(probe, reference), probe, reference).raw


def score(probe: Prepared, reference: Prepared, *, calibration: Calibration | None = None) -> float:
    """Return the log10 likelihood ratio alone; the hot path of a search.

    Parameters
    ----------
    probe, reference : Prepared
    calibration : Calibration, optional
        By default the shipped one.
    """
    return (calibration or shipped()).llr(raw_score(probe, reference))


def compare(
    probe: Prepared,
    reference: Prepared,
    *,
    calibration: Calibration | None = None,
    trace: Trace | None = None,
) -> Comparison:
    """Compare two prints and explain the result.

    Parameters
    ----------
    probe, reference : Prepared
    calibration : Calibration, optional
        By default the shipped one.
    trace : callable, optional
        Called as `trace(key, value)` with `similarities`, `pairs`, `compatibility`, `relaxed`.

    Returns
    -------
    Comparison
        No pairs and the identity when there is nothing to align.
    """
    similar = _similar(probe, reference)
    best = _relaxed(similar, probe, reference)
    value = (calibration or shipped()).llr(best.raw)
    a, b = probe.anchors, reference.anchors
    pairs, worth = kernels.best_pairs(similar, a, b, best.turn, _RELAXATION)
    if len(pairs) < 2:
        return Comparison(value, np.zeros((0, 2), np.int16), Transform(0.0, 0.0, 0.0))
    rho = kernels.compatibility(a, b, pairs, _RELAXATION)
    relaxed = kernels.relax(worth, rho, _RELAXATION.rounds, _RELAXATION.keep)
    if trace is not None:
        trace("similarities", similar)
        trace("pairs", pairs)
        trace("compatibility", rho)
        trace("relaxed", relaxed)
    grown, transform = _grow(
        probe.pose, reference.pose, kernels.align(a, b, pairs, rho, relaxed, _RELAXATION)
    )
    return Comparison(value, grown.astype(np.int16), transform)


def _similar(probe: Prepared, reference: Prepared) -> NDArray[np.float32]:
    similar: NDArray[np.float32] = kernels.similarities(
        probe.bits, probe.valid, reference.bits, reference.valid, _RELAXATION.least_common
    )
    return similar


class _Hypothesis(NamedTuple):
    """The raw score of the better hypothesis, and its turn: 0 upright, pi upside down."""

    raw: float
    turn: float


def _relaxed(similar: NDArray[np.float32], probe: Prepared, reference: Prepared) -> _Hypothesis:
    a, b = probe.anchors, reference.anchors
    upright = float(kernels.relaxed_score(similar, a, b, 0.0, _RELAXATION))
    turned = float(kernels.relaxed_score(similar, a, b, np.pi, _RELAXATION))
    turned *= float(np.exp(-_RELAXATION.turned_discount))
    raw = float(np.log(max(upright, turned, FLOOR)))
    return _Hypothesis(raw, np.pi if turned > upright else 0.0)


def _grow(
    a: NDArray[np.float32], b: NDArray[np.float32], motion: tuple[float, float, float]
) -> tuple[NDArray[np.int64], Transform]:
    """Pair what coincides, refit on those pairs, pair again."""
    p = _RELAXATION
    pairs, misfit = kernels.grow_pairs(a, b, *motion, p.grow_distance, p.grow_angle)
    if len(pairs) >= 2:
        motion = kernels.fit_rigid(a, b, pairs, np.exp(-misfit))
        pairs, _ = kernels.grow_pairs(a, b, *motion, p.grow_distance, p.grow_angle)
    turn, dx, dy = motion
    return pairs, Transform(float(dx), float(dy), float(turn))
