"""Raw score -> log10 likelihood ratio; false-match rate -> threshold. `calibration.json` holds the numbers.

The likelihood ratio is a logistic regression of the raw score (which is a logarithm already). Its tail, from
which thresholds for rates rarer than the fitting sets can count are taken, is exponential: among impostors
the excess of the raw score over a high level has the same mean at every level (the mean-excess test of
extreme-value theory), so the false-match rate falls by a constant factor per unit.

References
----------
.. [1] N. Brümmer, J. du Preez, "Application-independent evaluation of speaker detection", Computer Speech and
   Language 20(2-3), 2006, doi:10.1016/j.csl.2005.08.001 (calibration by logistic regression, Cllr).
.. [2] S. Coles, "An Introduction to Statistical Modeling of Extreme Values", Springer 2001, section 4.3.
"""

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from math import exp, log

LOWEST = -3.0
"""Least ratio that is ever stated: a comparison of few minutiae cannot speak louder against."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Fitted numbers, raw scores in natural logarithms.

    Attributes
    ----------
    id : str
        Names the fit; stated with every score.
    slope, intercept : float
        log10 likelihood ratio = slope raw + intercept.
    tail_from, tail_rate, tail_mean : float
        P(raw > x | impostor) = tail_rate exp(-(x - tail_from) / tail_mean) for x >= tail_from.
    """

    id: str
    slope: float
    intercept: float
    tail_from: float
    tail_rate: float
    tail_mean: float

    def llr(self, raw: float) -> float:
        """Return the log10 likelihood ratio of a raw score."""
        return max(LOWEST, self.slope * raw + self.intercept)

    def threshold(self, fmr: float) -> float:
        """Return the score that impostors exceed at the rate `fmr`, which is at most `tail_rate`.

        Parameters
        ----------
        fmr : float
            False-match rate of one comparison, in (0, tail_rate].

        Raises
        ------
        ValueError
            A rate outside the tail that was fitted.
        """
        if not 0.0 < fmr <= self.tail_rate:
            raise ValueError(f"false-match rate {fmr} is not in (0, {self.tail_rate}]")
        return self.llr(self.tail_from - self.tail_mean * log(fmr / self.tail_rate))

    def fmr(self, llr: float) -> float:
        """Return the false-match rate at a threshold; `tail_rate` stands for anything above it."""
        excess = max(0.0, (llr - self.intercept) / self.slope - self.tail_from)
        return self.tail_rate * exp(-excess / self.tail_mean)


@cache
def shipped() -> Calibration:
    """Return the calibration fitted by `python -m benchmarks calibrate` and kept in `calibration.json`."""
    text = resources.files("matcher").joinpath("calibration.json").read_text(encoding="utf-8")
    fields = json.loads(text)["calibration"]
    return Calibration(**fields)
