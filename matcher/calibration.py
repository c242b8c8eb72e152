"""Evidence -> log10 likelihood ratio; false-match rate -> threshold. `calibration.json` holds the numbers.

The likelihood ratio is a logistic regression of the parts of the evidence. There are two: one for prints
that both have a ridge description, one for minutiae alone. What a part is worth depends on how much there is
to compare: four minutiae that agree say less than twenty. So each part has two weights, that of prints with
hardly a minutia and that of prints with `MANY`, and between them counts in proportion.

The tail, from which thresholds for rates rarer than the fitting sets can count are taken, is exponential:
among impostors the excess of the ratio's logarithm over a high level has the same mean at every level (the
mean-excess test of extreme-value theory), so the false-match rate falls by a constant factor per unit.

References
----------
.. [1] N. Brümmer, J. du Preez, "Application-independent evaluation of speaker detection", Computer Speech and
   Language 20(2-3), 2006, doi:10.1016/j.csl.2005.08.001 (calibration by logistic regression, Cllr).
.. [2] S. Coles, "An Introduction to Statistical Modeling of Extreme Values", Springer 2001, section 4.3.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib import resources
from math import exp, log
from typing import Any, NamedTuple, Self

LOWEST = -3.0
"""Least ratio that is ever stated: a comparison of few minutiae cannot speak louder against."""

MANY = 30.0
"""Minutiae with a cylinder, of the print that has fewer, from which on more of them change no weight."""

YELLOW_FMR, GREEN_FMR = 1e-3, 1e-5
"""False-match rates of one comparison from which a score is yellow, and green."""


class Evidence(NamedTuple):
    """What one comparison found, before calibration.

    Attributes
    ----------
    structure : float
        How well the best pairs of cylinders agree, in deviations above what both prints have with strangers
        (see `matcher.structure`).
    share : float
        Matched minutiae over those expected in the common area, by weight: 0 to about 1.
    matched : float
        Weight of the matched minutiae. No part of the ratio: it grows with the area in common.
    ridges : float or None
        Mean agreement of the ridges over the common area, -1 to 1; None where a description is missing.
    fewer : int
        Minutiae with a cylinder, of the print that has fewer. No part of the ratio: it says what parts weigh.
    """

    structure: float
    share: float
    matched: float
    ridges: float | None
    fewer: int


class Part(NamedTuple):
    """One part of a score: `name`, what was `measured`, what it `adds` to the log10 likelihood ratio."""

    name: str
    measured: float
    adds: float


class Band(StrEnum):
    """Rough reading of a score, for people: what to do next is the examiner's decision."""

    RED = "red"
    YELLOW = "yellow"
    GREEN = "green"


class Line(NamedTuple):
    """`weight` (value - `neutral`) is what a part adds, log10."""

    weight: float
    neutral: float


class Term(NamedTuple):
    """What a part adds: `few` of prints without minutiae, `many` of those with `MANY` and more."""

    few: Line
    many: Line

    def adds(self, value: float, fewer: float) -> float:
        """Return what a part of this value adds, of prints with so many minutiae."""
        few, many = (weight * (value - neutral) for weight, neutral in self)
        share = min(1.0, fewer / MANY)
        return (1 - share) * few + share * many


@dataclass(frozen=True, slots=True)
class Model:
    """Fitted numbers, log10 likelihood ratios.

    Attributes
    ----------
    terms : mapping of str to Term
        By the name of an `Evidence` field.
    tail_from, tail_rate, tail_mean : float
        P(ratio > x | impostor) = tail_rate exp(-(x - tail_from) / tail_mean) for x >= tail_from.
    """

    terms: Mapping[str, Term]
    tail_from: float
    tail_rate: float
    tail_mean: float

    def parts(self, evidence: Evidence) -> tuple[Part, ...]:
        """Return what each part of the evidence adds."""
        measured = ((name, float(getattr(evidence, name)), term) for name, term in self.terms.items())
        return tuple(Part(name, value, term.adds(value, evidence.fewer)) for name, value, term in measured)

    def threshold(self, fmr: float) -> float:
        """Return the ratio that impostors exceed at the rate `fmr`, which is at most `tail_rate`."""
        return self.tail_from - self.tail_mean * log(fmr / self.tail_rate)

    def fmr(self, llr: float) -> float:
        """Return the false-match rate at a threshold; `tail_rate` stands for anything above it."""
        return self.tail_rate * exp(-max(0.0, llr - self.tail_from) / self.tail_mean)


@dataclass(frozen=True, slots=True)
class Calibration:
    """A fit.

    Attributes
    ----------
    id : str
        Names the fit; stated with every score.
    ridges : Model
        For prints that both have a ridge description.
    minutiae : Model
        For all others.
    """

    id: str
    ridges: Model
    minutiae: Model

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Self:
        """Build one from what `dataclasses.asdict` gives, or JSON."""
        return cls(fields["id"], _model(fields["ridges"]), _model(fields["minutiae"]))

    @property
    def tail_rate(self) -> float:
        """Largest false-match rate that a threshold can be given for."""
        return min(self.ridges.tail_rate, self.minutiae.tail_rate)

    def parts(self, evidence: Evidence) -> tuple[Part, ...]:
        """Return what each part of the evidence adds to the ratio; `llr` is their sum."""
        model = self.minutiae if evidence.ridges is None else self.ridges
        return model.parts(evidence)

    def llr(self, evidence: Evidence) -> float:
        """Return the log10 likelihood ratio of the evidence, at least `LOWEST`."""
        return max(LOWEST, sum(part.adds for part in self.parts(evidence)))

    def threshold(self, fmr: float) -> float:
        """Return the score that impostors exceed at the rate `fmr` or less, with ridges or without.

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
        return max(self.ridges.threshold(fmr), self.minutiae.threshold(fmr))

    def fmr(self, llr: float) -> float:
        """Return the false-match rate at a threshold; `tail_rate` stands for anything above it."""
        return min(self.tail_rate, max(self.ridges.fmr(llr), self.minutiae.fmr(llr)))

    def band(self, llr: float, *, chances: float = 1.0) -> Band:
        """Return the band of a score that is the best of `chances` comparisons.

        Yellow from a false-match rate of 1 in 1,000, green from 1 in 100,000.
        """
        if llr >= self.threshold(GREEN_FMR / chances):
            return Band.GREEN
        return Band.YELLOW if llr >= self.threshold(YELLOW_FMR / chances) else Band.RED


def _model(fields: Mapping[str, Any]) -> Model:
    terms = {name: Term(*(Line(*line) for line in ends)) for name, ends in fields["terms"].items()}
    return Model(terms, fields["tail_from"], fields["tail_rate"], fields["tail_mean"])


@cache
def shipped() -> Calibration:
    """Return the calibration fitted by `python -m benchmarks calibrate` and kept in `calibration.json`."""
    text = resources.files("matcher").joinpath("calibration.json").read_text(encoding="utf-8")
    return Calibration.of(json.loads(text)["calibration"])
