"""Structure: how well the cylinders of two prints agree, and how well a print's do with those of strangers.

Strangers do not agree with all prints alike. A print of many minutiae offers everybody more to agree with,
one of few agrees by chance more widely, and sensors differ. So each print, when it is prepared, is held
against a `cohort` of synthetic prints (`strangers`), and what two prints have in common is stated in
deviations above what both have with the cohort (`above`): the normalisation of [1]_, for both sides.

The cohort is made by `python -m benchmarks.cohort` and kept in `cohort.json`: what it gives must be the same
in every node, or a score of one would mean something else in another.

References
----------
.. [1] R. Auckenthaler, M. Carey, H. Lloyd-Thomas, "Score normalization for text-independent speaker
   verification systems", Digital Signal Processing 10(1-3), 2000, doi:10.1006/dspr.1999.0360.
"""

import base64
import json
from collections.abc import Sequence
from functools import cache
from importlib import resources
from math import sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from matcher.codecs import decode
from matcher.kernels import minutiae
from matcher.template import Template

COHORT = "cohort.json"
"""Where the cohort is kept, in this package."""

LEAST_DEVIATION = 0.04
"""Below that of any print of FVC2002 and FVC2004 DB1-4_B, whole or in part, which have 0.043 to 0.43: a print
that agrees with everybody alike, as one of two minutiae does, must not be sure of anything."""


UNLIKE = -99.0
"""Structure of prints that cannot be compared, in deviations: below that of any two that can."""


class Relaxation(NamedTuple):
    """Numbers of the relaxation, those published for minutia cylinders unless a comment says otherwise."""

    least_common: float = 0.6 * 192
    """Cells that two cylinders must share to be compared."""
    most_turn: float = 7 * np.pi / 12
    """Largest direction difference of a pair. Published: pi/2; wider, so that the upright and the turned
    hypothesis overlap by 30 degrees and a print turned by a quarter is lost to neither."""
    turned_lead: float = 0.3
    """Natural logarithm by which the structure must be larger upside down than upright to be taken for so:
    few prints are. It is not taken off: a print that is turned loses nothing."""
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
    floor: float = 1e-3
    """Structure of prints that cannot be compared, below that of any two that can."""
    proposals: int = 5
    """Motions proposed by each hypothesis (own choice; does not touch the structure)."""


RELAXATION = Relaxation()

Arrays = tuple[NDArray[np.generic], ...]
Coded = tuple[NDArray[np.float32], Arrays, Arrays]
"""Pose, cylinders of all minutiae, those of the sure ones: as `matcher.cylinders.Prepared` has them."""


@cache
def cohort() -> tuple[Template, ...]:
    """Return the prints that every print is held against."""
    kept = json.loads(resources.files("matcher").joinpath(COHORT).read_text(encoding="utf-8"))
    return tuple(decode(base64.b64decode(one))[0] for one in kept["templates"])


def strangers(one: Coded, others: Sequence[Coded]) -> NDArray[np.float32]:
    """Return mean and deviation (2,) of the structure, its natural logarithm, of a print with others."""
    found = [minutiae.structure_of(one, other, RELAXATION) for other in others]
    return np.array([np.mean(found), max(LEAST_DEVIATION, np.std(found))], np.float32)


def above(structure: float, one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Return how far a structure lies above what two prints have with strangers, in deviations of that.

    Parameters
    ----------
    structure : float
        Natural logarithm.
    one, other : ndarray of float32, shape (2,)
        As `strangers` gives them.
    """
    mean, deviation = map(float, one)
    other_mean, other_deviation = map(float, other)
    spread = sqrt((deviation * deviation + other_deviation * other_deviation) / 2)
    return (structure - (mean + other_mean) / 2) / spread
