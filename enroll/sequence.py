"""Whether ten rolled prints stand under the right fingers, by the plain prints of the same hands.

A rolled print is taken alone, so it can end up in a neighbour's box, or one finger in two boxes. The fingers
of a slap cannot change places. So every rolled print is compared with every plain one, and the best
one-to-one assignment is read: who met under another position was swapped, who met nobody is looked for among
the prints of its own side.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from matcher.calibration import Calibration, shipped
from matcher.compare import prepare, score
from matcher.cylinders import Prepared
from matcher.template import Finger, Template

__all__ = ["ADVICE", "Finding", "Kind", "Sequence", "Side", "check_sequence"]

Floats = NDArray[np.float64]

PRICE = 3.0
"""log10, of a pair whose positions disagree: about one print in a thousand stands in a given wrong box."""
FMR = 1e-3
"""False-match rate of one comparison from which a print is taken for the finger of its own position."""
POOR_QUALITY, FEW_MINUTIAE = 20, 12
"""Below either, a print that matches nothing says nothing. Fewer minutiae are no match for courts either."""


class Side(StrEnum):
    """Which prints a finding is about."""

    ROLLED = "rolled"
    PLAIN = "plain"


class Kind(StrEnum):
    """What is said of one print."""

    AGREES = "AGREES"
    SWAPPED = "SWAPPED"
    DOUBLED = "DOUBLED"
    MISSING = "MISSING"
    TOO_POOR = "TOO_POOR"
    UNMATCHED = "UNMATCHED"


ADVICE = MappingProxyType(
    {
        Kind.AGREES: "nothing is to be done",
        Kind.SWAPPED: "the print is another finger's: correct the position after looking at both prints",
        Kind.DOUBLED: "one finger was printed in two places: take the one that it is not again",
        Kind.MISSING: "rolled or plain print is not there: take it, or state why it is missing",
        Kind.TOO_POOR: "the prints are too poor to say: take the poorer one again",
        Kind.UNMATCHED: "the print matches no finger of this person: check whose it is, and take it again",
    }
)
"""What a person can do about each finding."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What is said of one print.

    Attributes
    ----------
    kind : Kind
    side : Side
        Whose print it is; of pairs of rolled and plain the rolled one's.
    finger : Finger
        The position under which it stands.
    other : Finger or None
        AGREES and SWAPPED: position of the plain print of the same finger. DOUBLED: position, on the same
        side, of the other print of that finger.
    llr : float or None
        log10 likelihood ratio that speaks for `other`; where there is none, the best against any plain print.
    own_llr : float or None
        The ratio against the print of the same position on the other side; None where there is none.
    """

    kind: Kind
    side: Side
    finger: Finger
    other: Finger | None = None
    llr: float | None = None
    own_llr: float | None = None


@dataclass(frozen=True, slots=True)
class Sequence:
    """The findings, rolled prints first, by position; and the calibration that the ratios are of."""

    findings: tuple[Finding, ...]
    calibration_id: str

    @property
    def in_order(self) -> bool:
        """Whether nothing speaks against the order: poor and missing prints do not."""
        wrong = {Kind.SWAPPED, Kind.DOUBLED, Kind.UNMATCHED}
        return not any(finding.kind in wrong for finding in self.findings)


def check_sequence(
    rolled: Mapping[Finger, Template],
    plain: Mapping[Finger, Template],
    *,
    calibration: Calibration | None = None,
) -> Sequence:
    """Check the positions of rolled prints by the plain prints of the same person.

    Parameters
    ----------
    rolled, plain : mapping of Finger to Template
        One print of each position; any may be missing.
    calibration : Calibration, optional
        By default the shipped one.

    Returns
    -------
    Sequence
        One finding for every rolled print, and one for every plain print that is missing its rolled one or
        doubled.

    Notes
    -----
    A print of its own position agrees from the ratio that strangers exceed at the rate `FMR`; one of another
    position must exceed the rate `FMR` among all comparisons made, and what its own position says by `PRICE`.
    """
    fitted = calibration or shipped()
    sides = {Side.ROLLED: dict(sorted(rolled.items())), Side.PLAIN: dict(sorted(plain.items()))}
    ready = {side: [prepare(one) for one in prints.values()] for side, prints in sides.items()}
    across = _ratios(ready[Side.ROLLED], ready[Side.PLAIN], fitted)
    table = _Table(list(sides[Side.ROLLED]), list(sides[Side.PLAIN]), across)
    chances = max(1, across.size)
    least = fitted.threshold(FMR), fitted.threshold(FMR / chances)
    doubles = {side: _doubles(list(sides[side]), ready[side], fitted, least[1]) for side in Side}
    met = _assigned(table, least)
    of_rolled = [_of_rolled(finger, table, met, doubles, sides) for finger in sides[Side.ROLLED]]
    of_plain = [_of_plain(finger, table, doubles) for finger in sides[Side.PLAIN]]
    return Sequence(tuple(one for one in (*of_rolled, *of_plain) if one is not None), fitted.id)


@dataclass(frozen=True, slots=True, eq=False)
class _Table:
    """Ratios of every rolled print (rows) with every plain one (columns)."""

    rows: list[Finger]
    columns: list[Finger]
    ratios: Floats

    def own(self, finger: Finger) -> float | None:
        """Return the ratio of the two prints of a position."""
        if finger not in self.rows or finger not in self.columns:
            return None
        return float(self.ratios[self.rows.index(finger), self.columns.index(finger)])

    def best(self, finger: Finger) -> float | None:
        """Return the best ratio of a rolled print."""
        row = self.ratios[self.rows.index(finger)]
        return float(row.max()) if row.size else None


def _ratios(a: list[Prepared], b: list[Prepared], calibration: Calibration) -> Floats:
    values = [[score(one, other, calibration=calibration) for other in b] for one in a]
    return np.array(values, np.float64).reshape(len(a), len(b))


def _assigned(table: _Table, least: tuple[float, float]) -> dict[Finger, tuple[Finger, float]]:
    """Assign rolled to plain prints one to one, where that is worth more than its price."""
    same = np.array([[a == b for b in table.columns] for a in table.rows], bool).reshape(table.ratios.shape)
    gains = table.ratios - np.where(same, 0.0, PRICE)
    enough = np.where(same, table.ratios >= least[0], table.ratios >= max(least[1], PRICE))
    rows, columns = linear_sum_assignment(np.where(enough, np.maximum(gains, 0.0), 0.0), maximize=True)
    return {
        table.rows[i]: (table.columns[j], float(table.ratios[i, j]))
        for i, j in zip(rows.tolist(), columns.tolist(), strict=True)
        if enough[i, j]
    }


def _doubles(
    fingers: list[Finger], ready: list[Prepared], calibration: Calibration, least: float
) -> dict[Finger, tuple[Finger, float]]:
    """Find prints of one side that are of one finger: for each the other position, and the ratio."""
    found: dict[Finger, tuple[Finger, float]] = {}
    for i, a in enumerate(fingers):
        for j in range(i):
            ratio = score(ready[i], ready[j], calibration=calibration)
            for one, other in ((a, fingers[j]), (fingers[j], a)):
                if ratio >= max(least, PRICE) and ratio > found.get(one, (one, -np.inf))[1]:
                    found[one] = other, ratio
    return found


def _of_rolled(
    finger: Finger,
    table: _Table,
    met: Mapping[Finger, tuple[Finger, float]],
    doubles: Mapping[Side, Mapping[Finger, tuple[Finger, float]]],
    sides: Mapping[Side, Mapping[Finger, Template]],
) -> Finding:
    own = table.own(finger)
    if finger in met:
        other, ratio = met[finger]
        kind = Kind.AGREES if other == finger else Kind.SWAPPED
        return Finding(kind, Side.ROLLED, finger, other, ratio, own)
    if finger in doubles[Side.ROLLED]:
        other, ratio = doubles[Side.ROLLED][finger]
        return Finding(Kind.DOUBLED, Side.ROLLED, finger, other, ratio, own)
    if own is None:
        return Finding(Kind.MISSING, Side.PLAIN, finger, llr=table.best(finger))
    poor = any(_is_poor(sides[side][finger]) for side in Side)
    kind = Kind.TOO_POOR if poor else Kind.UNMATCHED
    return Finding(kind, Side.ROLLED, finger, llr=table.best(finger), own_llr=own)


def _of_plain(
    finger: Finger, table: _Table, doubles: Mapping[Side, Mapping[Finger, tuple[Finger, float]]]
) -> Finding | None:
    if finger in doubles[Side.PLAIN]:
        other, ratio = doubles[Side.PLAIN][finger]
        return Finding(Kind.DOUBLED, Side.PLAIN, finger, other, ratio, table.own(finger))
    return None if finger in table.rows else Finding(Kind.MISSING, Side.ROLLED, finger)


def _is_poor(template: Template) -> bool:
    quality = template.print_quality
    return len(template) < FEW_MINUTIAE or (quality is not None and quality < POOR_QUALITY)
