"""One to one: two prepared templates -> a log10 likelihood ratio, its parts, and how the prints lie.

The straight line: similarity of all cylinder pairs -> the best one-to-one pairs -> relaxation, in which pairs
that agree with each other on distance and direction keep their worth and the others lose it (`structure`, in
deviations above what the two have with strangers) -> the motions that the best pairs propose -> for each,
minutiae paired and the probe bent onto the reference (`share`) -> the ridges of both held against each other
(`ridges`) -> the best motion's evidence, calibrated.

References
----------
.. [1] R. Cappelli, M. Ferrara, D. Maltoni, "Minutia Cylinder-Code", IEEE TPAMI 32(12), 2010
   (local similarity sort with relaxation), doi:10.1109/TPAMI.2010.52.
.. [2] A. M. Bazen, S. H. Gerez, "Fingerprint matching by thin-plate spline modelling of elastic
   deformations", Pattern Recognition 36(8), 2003, doi:10.1016/S0031-3203(03)00036-0.
.. [3] Z. Cui, J. Feng, S. Li, J. Lu, J. Zhou, "2-D phase demodulation for deformable fingerprint
   registration", IEEE TIFS 13(12), 2018, doi:10.1109/TIFS.2018.2841849.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from matcher.calibration import Calibration, Evidence, Part, shipped
from matcher.cylinders import Prepared, frozen, prepare
from matcher.kernels import minutiae, ridges
from matcher.ridges import FINEST, PERIODS
from matcher.structure import UNLIKE, Relaxation, above

__all__ = [
    "Alignment",
    "Comparison",
    "Evidence",
    "Numbers",
    "Relaxation",
    "Transform",
    "Waves",
    "compare",
    "evidence",
    "prepare",
    "score",
]

Trace = Callable[[str, NDArray[np.generic] | Mapping[str, object]], None]
Floats = NDArray[np.float64]


class Alignment(NamedTuple):
    """Numbers of the alignment; own choices, no finer than their effect on FVC2002 and FVC2004 DB1-4_B."""

    tried: int = 3
    """Motions that are followed up, of all proposals, those of the better hypothesis first. More of them find
    more mates, and as many more chance agreements."""
    alike: float = 12.0
    """Pixels within which two motions are the same one: the pairing finds its way over a ridge."""
    alike_turn: float = 0.15
    tolerances: tuple[float, ...] = (18.0, 14.0, 11.0, 9.0)
    """Pixels within which minutiae pair, before bending and after each bending: from two ridges to one."""
    angle: float = np.pi / 8
    """Radians within which minutiae pair."""
    stiffness: float = 300.0
    """Of the spline; pixels squared a unit of r^2 ln r^2. From 10 to 300 no set told the difference."""
    bending_pairs: int = 4
    """Pairs below which nothing is bent: three points fix a motion and a stretch."""
    margin: float = 20.0
    """Pixels around the hull of a print's minutiae that are taken to have been looked at: two ridges."""
    unstated: float = 0.5
    """Weight of a minutia whose quality is not stated."""
    prior: float = 0.5
    """Added to the expected minutiae, so that one of one says less than twenty of twenty."""


class Waves(NamedTuple):
    """Numbers of the comparison of ridges; own choices, as above."""

    windows: tuple[float, ...] = (32.0, 24.0, 24.0)
    """Half sides, pixels, over which one shift is fitted: from seven ridges to five."""
    stiffness: float = 0.3
    """Of a shift, against the sum of weights k^2 in its window."""
    most_shift: float = 3.0
    """Pixels a shift may grow at a time: a third of a ridge, over which a sine still points the right way."""
    prior: float = 5.0
    """Weight of places of middling agreement added to all: where little is in common, ridges say little."""
    opposed: float = -0.25
    """Agreement before any shift below which one print is taken to show its ridges white. Of FVC2002 and
    FVC2004 DB1-4_B, 1 in 20 strangers is below -0.10, half of the inverted mates below -0.41."""
    opposed_prior: float = 60.0
    """Weight of cells that do not agree either way, added to that: where little is in common, chance opposes
    some. Of 216 inverted mates 19 in 20 have more than 56 in common, half more than 146."""
    middling: float = 0.4
    """Agreement that speaks neither for nor against: mates of FVC2002 and FVC2004 DB1-4_B have 0.76 in the
    median, strangers 0.10."""


class Transform(NamedTuple):
    """Motion of the probe onto the reference: turn about the origin, then shift.

    `x' = cos(turn) x + sin(turn) y + dx`, `y' = -sin(turn) x + cos(turn) y + dy` in image axes (y down), so a
    positive turn (radians) is counter-clockwise as seen; dx, dy in pixels at 500 ppi.
    """

    dx: float
    dy: float
    turn: float


class Bend(NamedTuple):
    """Thin-plate spline after the transform: `at` (c, 2) and `weights` (c + 3, 2); none where c is 0."""

    at: Floats
    weights: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """What one comparison says.

    Attributes
    ----------
    score : float
        log10 likelihood ratio: how many powers of ten likelier the two prints are under "same finger".
    parts : tuple of Part
        What the score is the sum of, but that no score below `calibration.LOWEST` is stated.
    pairs : ndarray of int16, shape (p, 2)
        Matched minutiae, indices into the two templates, best first.
    transform : Transform
    bend : Bend
    common : ndarray of float32, shape (k, 3)
        Where ridges were compared: x, y on the reference (pixels at 500 ppi), and how well they agree there,
        -1 to 1. Empty where one of the two has no ridge description.
    opposed : bool
        Ridges of one lie in the valleys of the other throughout, so that one of the images is inverted; the
        ridges were compared with that taken back.
    """

    score: float
    parts: tuple[Part, ...]
    pairs: NDArray[np.int16]
    transform: Transform
    bend: Bend
    common: NDArray[np.float32]
    opposed: bool = False

    def carry(self, points: NDArray[np.floating]) -> Floats:
        """Return points of the probe (m, 2) as they come to lie on the reference, pixels at 500 ppi."""
        poses = np.column_stack((points, np.zeros(len(points))))
        lying: Floats = ridges.moved(poses, (self.transform.turn, self.transform.dx, self.transform.dy))
        shift: Floats = ridges.bent(lying, self.bend.at, self.bend.weights)
        return lying[:, :2] + shift


class Numbers(NamedTuple):
    """All numbers of a comparison; other ones than the defaults are for measuring what each is worth."""

    relaxation: Relaxation = Relaxation()
    alignment: Alignment = Alignment()
    waves: Waves = Waves()


NUMBERS = Numbers()


def evidence(probe: Prepared, reference: Prepared, *, numbers: Numbers = NUMBERS) -> Evidence:
    """Return what speaks for and against one finger, not yet calibrated.

    Parameters
    ----------
    probe, reference : Prepared
    numbers : Numbers

    Returns
    -------
    Evidence
        Structure `UNLIKE` and no more when either has fewer than two cylinders.
    """
    return _best(probe, reference, numbers)[0]


def score(probe: Prepared, reference: Prepared, *, calibration: Calibration | None = None) -> float:
    """Return the log10 likelihood ratio alone; the hot path of a search.

    Parameters
    ----------
    probe, reference : Prepared
    calibration : Calibration, optional
        By default the shipped one.
    """
    return (calibration or shipped()).llr(evidence(probe, reference))


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
        Called as `trace(key, value)` with `similarities`, and for each hypothesis `pairs`, `compatibility`,
        `relaxed`; then with `motions`, `evidence`.

    Returns
    -------
    Comparison
        No pairs and the identity when there is nothing to align.
    """
    found, best = _best(probe, reference, NUMBERS)
    fitted = calibration or shipped()
    if trace is not None:
        _tell(probe, reference, NUMBERS, trace)
        trace("evidence", found._asdict())
    turn, dx, dy = (float(value) for value in best.motion)
    return Comparison(
        fitted.llr(found),
        fitted.parts(found),
        best.pairs.astype(np.int16),
        Transform(dx, dy, turn),
        best.bend,
        best.met[best.met[..., 2] > 0][:, [0, 1, 3]].astype(np.float32),
        best.opposed,
    )


_NO_RIDGES = frozen(np.array([FINEST, 0, 0, 0, 0, 0, 0, 0], np.uint8))
"""A ridge description of no cells."""


class _Best(NamedTuple):
    """The motion for which most speaks and what was found by it, the evidence aside.

    `met` (..., 4): x, y, weight and agreement, -1 to 1, of the places where ridges were compared.
    """

    motion: Floats
    pairs: NDArray[np.int64]
    bend: Bend
    met: Floats
    opposed: bool


_STILL = _Best(
    np.zeros(3),
    np.zeros((0, 2), np.int64),
    Bend(np.zeros((0, 2)), np.zeros((3, 2))),
    np.zeros((0, 4)),
    False,
)


def _best(probe: Prepared, reference: Prepared, numbers: Numbers) -> tuple[Evidence, _Best]:
    """Propose motions and follow them up; the one for which most speaks is the evidence.

    Three calls of compiled code, and little else: meanwhile other threads run.
    """
    found, motions = _motions(probe, reference, numbers)
    fewer = min(len(probe.every.minutia), len(reference.every.minutia))
    if not len(motions):
        return Evidence(UNLIKE, 0.0, 0.0, None, fewer), _STILL
    structure = above(found, probe.strangers, reference.strangers)
    both = len(probe.ridges) > 0 and len(reference.ridges) > 0
    best, agreeing, met, side = ridges.best(
        probe.pose,
        probe.ridges if both else _NO_RIDGES,
        reference.pose,
        reference.ridges if both else _NO_RIDGES,
        motions,
        PERIODS,
        numbers.alignment,
        numbers.waves,
    )
    matched, share = minutiae.share(
        best.lying,
        probe.quality,
        reference.pose,
        reference.quality,
        best.pairs,
        best.misfit,
        numbers.alignment,
    )
    said = Evidence(structure, share, matched, agreeing if both else None, fewer)
    return said, _Best(best.motion, best.pairs, Bend(best.at, best.weights), met, side < 0)


def _motions(probe: Prepared, reference: Prepared, numbers: Numbers) -> tuple[float, Floats]:
    """Return the structure, its natural logarithm, and the motions that are worth following up."""
    structure, motions = minutiae.motions(
        (probe.pose, probe.every, probe.sure),
        (reference.pose, reference.every, reference.sure),
        numbers.relaxation,
        numbers.alignment,
    )
    return structure, motions


def _tell(probe: Prepared, reference: Prepared, numbers: Numbers, trace: Trace) -> None:
    """Tell what `minutiae.motions` makes of each kind of cylinders on its way, and its motions."""
    p = numbers.relaxation
    for ours, theirs in ((probe.every, reference.every), (probe.sure, reference.sure)):
        a, b = probe.pose[ours.minutia], reference.pose[theirs.minutia]
        similar = minutiae.similarities(ours.bits, ours.valid, theirs.bits, theirs.valid, p.least_common)
        trace("similarities", similar)
        for turn in (0.0, np.pi):
            one = minutiae.hypothesis(similar, a, b, turn, p)
            trace("pairs", one.pairs)
            trace("compatibility", one.rho)
            trace("relaxed", one.relaxed)
    trace("motions", _motions(probe, reference, numbers)[1])
