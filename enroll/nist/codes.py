"""Codes of friction ridge records, and what they are to the rest of the project.

References
----------
.. [1] ANSI/NIST-ITL 1-2011 Update 2015, NIST SP 500-290e3: Table 7 (impression types), Table 8 (friction
   ridge positions), Table 15 (compression). https://doi.org/10.6028/NIST.SP.500-290e3
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from matcher.template import Finger, Impression


class Content(StrEnum):
    """What a picture shows, by its position code."""

    FINGER = "finger"  # one finger, or one of which it is not known which
    SLAP = "slap"  # several fingers side by side
    PALM = "palm"
    OTHER = "other"  # joints, soles, what is not known


UNKNOWN_FRICTION_RIDGE, JOINT_OR_TIP = 18, 19

_R, _L = (2, 3, 4, 5), (7, 8, 9, 10)

_SLAPS: Mapping[int, tuple[int, ...]] = MappingProxyType(
    {
        13: _R,
        14: _L,
        15: (1, 6),
        40: (2, 3),
        41: (3, 4),
        42: (4, 5),
        43: (7, 8),
        44: (8, 9),
        45: (9, 10),
        46: (2, 7),
        47: (2, 3, 4),
        48: (3, 4, 5),
        49: (7, 8, 9),
        50: (8, 9, 10),
        51: _R,
        52: _L,
        53: (1, *_R),
        54: (6, *_L),
    }
)
_THUMBS = MappingProxyType({11: Finger.RIGHT_THUMB, 12: Finger.LEFT_THUMB})  # the plain ones of a card
_PALMS = frozenset({*range(20, 39), *range(81, 87)})

_FURTHER = MappingProxyType(
    {
        20: Impression.LIVE_PLAIN,  # optical
        21: Impression.LIVE_ROLLED,
        22: Impression.LIVE_PLAIN,  # not optical
        23: Impression.LIVE_ROLLED,
        24: Impression.LIVE_CONTACTLESS_PLAIN,
        26: Impression.LIVE_CONTACTLESS_PLAIN,
        28: Impression.OTHER,
        29: Impression.UNKNOWN,
        10: Impression.LIVE_PLAIN,  # palms
        11: Impression.NONLIVE_PLAIN,
        12: Impression.LATENT_IMPRESSION,
        13: Impression.LATENT_TRACING,
        14: Impression.LATENT_PHOTO,
        15: Impression.LATENT_LIFT,
    }
)

COMPRESSIONS = ("NONE", "WSQ20", "JPEGB", "JPEGL", "JP2", "JP2L", "PNG")
"""Labels of Table 15; the binary code of each is its place."""


def fingers_of(position: int) -> tuple[Finger, ...]:
    """Return the fingers that a picture of a position shows, in the order of their codes.

    Parameters
    ----------
    position : int
        Table 8.

    Returns
    -------
    tuple of Finger
        Empty for palms, soles, extra digits and what is not known.
    """
    if 1 <= position <= 10:
        return (Finger(position),)
    if position in _THUMBS:
        return (_THUMBS[position],)
    return tuple(Finger(code) for code in _SLAPS.get(position, ()))


def content_of(position: int) -> Content:
    """Return what a picture of a position shows.

    Parameters
    ----------
    position : int
        Table 8; 0, an unknown finger, is a finger.
    """
    if position in _SLAPS:
        return Content.SLAP
    if position in _PALMS:
        return Content.PALM
    return Content.FINGER if position <= 12 else Content.OTHER


def impression_of(code: int | None) -> Impression:
    """Return how a print was taken, as templates say it.

    Parameters
    ----------
    code : int or None
        Table 7. Palms are as fingers; what a template cannot say is `OTHER`.
    """
    if code is None:
        return Impression.UNKNOWN
    if code <= Impression.LIVE_SWIPE:
        return Impression(code)
    return _FURTHER.get(code, Impression.OTHER)
