"""Rates to thresholds: from which score on a search or a verification takes two persons for one."""

from collections.abc import Mapping, Sequence

import numpy as np

from matcher import search as matching
from matcher.calibration import Calibration
from matcher.search import ProbePrint
from matcher.template import Finger
from papilar.errors import RequestInvalid
from papilar.requests import Threshold


def check_fpir(rate: float | None) -> None:
    """Raise `RequestInvalid` unless a rate is None, or over 0 and at most 1."""
    if rate is not None and not 0.0 < rate <= 1.0:
        raise RequestInvalid(f"a target FPIR of {rate:g}", remedy="state one over 0 and at most 1")


def threshold_fpir(
    calibration: Calibration, rate: float, *, gallery: Mapping[Finger, int], probe: Sequence[ProbePrint]
) -> Threshold:
    """Return the threshold of a search.

    Parameters
    ----------
    calibration : Calibration
    rate : float
        Of searches for strangers that name someone; over 0 and at most 1.
    gallery : mapping of Finger to int
        How many prints of each position are searched.
    probe : sequence of ProbePrint
        Each of its fingers may meet a stranger's.
    """
    if rate == 1.0:
        return Threshold(-np.inf, rate, calibration.id)
    fingers = [one.finger for one in probe]
    least = matching.threshold(calibration, target_fpir=rate, gallery=gallery, probe=fingers)
    return Threshold(least, rate, calibration.id)


def threshold_fmr(calibration: Calibration, rate: float, *, chances: float = 1.0) -> Threshold:
    """Return the threshold of a verification.

    Parameters
    ----------
    calibration : Calibration
    rate : float
        Of verifications of strangers that match; above the calibration's tail it is taken as the tail's.
    chances : float
        How many comparisons of fingers share that rate.

    Raises
    ------
    RequestInvalid
        The rate is not over 0 and at most 0.1.
    """
    if not 0.0 < rate <= 0.1:
        raise RequestInvalid(f"a target FMR of {rate:g}", remedy="state one over 0 and at most 0.1")
    rate = min(rate, calibration.tail_rate)
    return Threshold(calibration.threshold(rate / chances), rate, calibration.id)
