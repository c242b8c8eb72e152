"""A country's own thresholds for prints that are enrolled, and what to tell the operator of one that fails.

`enroll.quality` rejects what cannot be compared. A gate may ask for more, so that a file of good prints stays
one; each threshold is off unless it is set. A print that fails is told every threshold that it missed, and
what seems to be the cause where that shows. Latents and photographs of fingers are let through: NFIQ 2 and
these measures are of prints pressed or rolled.
"""

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

from matcher.errors import InvalidInput
from matcher.template import LATENTS, Impression

if TYPE_CHECKING:  # a client reads settings, and loads no image library for that
    from enroll.measures import Measures

UNAVAILABLE = "NFIQ2_UNAVAILABLE"
"""Why no print has NFIQ 2: `nbis-py`, which has no wheel for every machine, is not installed."""


class Shortcoming(StrEnum):
    """What is to be said of a print's measures; `FAILING` says which of them fail the gate."""

    LOW_NFIQ2 = "LOW_NFIQ2"
    NFIQ2_UNAVAILABLE = UNAVAILABLE
    FEW_USABLE_MINUTIAE = "FEW_USABLE_MINUTIAE"
    SMALL_AREA = "SMALL_AREA"
    DRY = "DRY"
    WET = "WET"
    WRONG_WAY_UP = "WRONG_WAY_UP"


ADVICE = MappingProxyType(
    {
        Shortcoming.LOW_NFIQ2: "NFIQ 2 is below what is asked for: clean finger and glass, take it again",
        Shortcoming.NFIQ2_UNAVAILABLE: (
            "this node asks for NFIQ 2 and has none: its operator must install nbis-py or change the setting"
        ),
        Shortcoming.FEW_USABLE_MINUTIAE: (
            "fewer usable minutiae than are asked for here: take the whole first joint, pressed evenly"
        ),
        Shortcoming.SMALL_AREA: (
            "less of the finger than is asked for here: lay the whole first joint on the scanner"
        ),
        Shortcoming.DRY: "the finger seems dry: moisten it, or press a little more, and take the print again",
        Shortcoming.WET: (
            "the ridges run together: dry the finger, clean the glass, press less, and take the print again"
        ),
        Shortcoming.WRONG_WAY_UP: "the print seems to be upside down: check which way it lay, and its finger",
    }
)
"""What the person who takes the print can do about each."""

FAILING = frozenset(
    {
        Shortcoming.LOW_NFIQ2,
        Shortcoming.NFIQ2_UNAVAILABLE,
        Shortcoming.FEW_USABLE_MINUTIAE,
        Shortcoming.SMALL_AREA,
    }
)
"""What a print is rejected for. The others are advice alone: what they tell of is too unsure for more."""

UNGATED = LATENTS | {Impression.LIVE_CONTACTLESS_PLAIN}
"""Impressions that no gate is for."""

NOT_JUDGED = "IMPRESSION_NOT_JUDGED"
"""Why a print of `UNGATED` has no NFIQ 2."""

DRY_BELOW = 0.30
"""Share of ridge, of a print that falls short; see `enroll.measures`. Chosen, as the next one."""

WET_ABOVE = 0.65
"""Share of ridge, of a print that falls short."""

UPSIDE_DOWN_BELOW = -0.75
"""log10 of the odds that the tip is up: none of FVC's 640 prints, three of four when turned over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityGate:
    """What is asked of a print beyond what `enroll.quality.assess` asks; by default nothing.

    Attributes
    ----------
    nfiq2 : bool
        Whether NFIQ 2 is computed for each print that is enrolled from an image, and kept with it.
    least_nfiq2 : int
        0 to 100; 0 for off. A print of which NFIQ 2 has no score falls short of any.
    least_minutiae : int
        Usable ones; 0 for off.
    least_area_mm2 : float
        Square millimetres of foreground; 0 for off.

    Raises
    ------
    InvalidInput
        A threshold out of its range, or one for NFIQ 2 that is not to be computed.
    """

    nfiq2: bool = True
    least_nfiq2: int = 0
    least_minutiae: int = 0
    least_area_mm2: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.least_nfiq2 <= 100 and self.least_minutiae >= 0 and self.least_area_mm2 >= 0):
            raise InvalidInput("a threshold out of range", remedy="give 0 or more, of NFIQ 2 at most 100")
        if self.least_nfiq2 and not self.nfiq2:
            raise InvalidInput("least_nfiq2 without nfiq2", remedy="have NFIQ 2 computed, or ask for none")

    def shortcomings(self, measures: "Measures", *, poor: bool = False) -> tuple[Shortcoming, ...]:
        """Return all that is to be said of a print, in the order of `Shortcoming`.

        Parameters
        ----------
        measures : Measures
        poor : bool
            Whether it is rejected already, so that a cause is wanted whatever the thresholds.

        Returns
        -------
        tuple of Shortcoming
            The print fails where one of them is in `FAILING`.
        """
        failing = self._failing(measures)
        poor = poor or bool(failing)
        causes = {
            Shortcoming.DRY: poor and 0 < measures.ridge_share < DRY_BELOW,
            Shortcoming.WET: poor and measures.ridge_share > WET_ABOVE,
            Shortcoming.WRONG_WAY_UP: measures.upright < UPSIDE_DOWN_BELOW,
        }
        return (*failing, *(cause for cause, true in causes.items() if true))

    def _failing(self, measures: "Measures") -> tuple[Shortcoming, ...]:
        missing = self.least_nfiq2 > 0 and measures.nfiq.reason == UNAVAILABLE
        tests = {
            Shortcoming.LOW_NFIQ2: not missing and (measures.nfiq.score or 0) < self.least_nfiq2,
            Shortcoming.NFIQ2_UNAVAILABLE: missing,
            Shortcoming.FEW_USABLE_MINUTIAE: measures.minutiae < self.least_minutiae,
            Shortcoming.SMALL_AREA: measures.area_mm2 < self.least_area_mm2,
        }
        return tuple(failure for failure, true in tests.items() if true)


OPEN = QualityGate()
"""A gate that lets all through, with NFIQ 2 kept."""
