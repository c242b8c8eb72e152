"""Cutting pictures of several prints, slaps and scanned ten-print cards, into their prints.

`papilar.archive.sources` says what a picture is and whose; the processes that read prints cut it, for it may
be as poisonous as a print, see `papilar.archive.workers`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from enroll.card import Cell, read_card
from enroll.image import encode_png, read_image
from enroll.slap import Hand, Segment, segment_slap
from matcher.template import Finger, Impression


@dataclass(frozen=True, slots=True, kw_only=True)
class SheetInput:
    """A picture of several prints, and what is known of it.

    Attributes
    ----------
    image : bytes
        The file.
    ppi : float or None
        Resolution, over what the file says.
    card : bool
        Whether it is a ten-print card; else it is a slap, of which the rest is.
    hand : Hand or None
        None where it is not known, and of thumbs.
    thumbs : bool
        Whether it shows both thumbs.
    missing : frozenset of Finger
        Fingers that are not looked for.
    segments : tuple of Segment
        Where a record says that its fingers lie.
    """

    image: bytes = field(repr=False)
    ppi: float | None = None
    card: bool = False
    hand: Hand | None = None
    thumbs: bool = False
    missing: frozenset[Finger] = frozenset()
    segments: tuple[Segment, ...] = ()


class Single(NamedTuple):
    """A print that was cut out, upright, as PNG at the picture's resolution; a card says how it was taken."""

    finger: Finger
    impression: Impression | None
    png: bytes


class Cut(NamedTuple):
    """What was found in a picture: its prints, what is to be said of it, and the cells of a card."""

    prints: tuple[Single, ...]
    reasons: tuple[str, ...]
    cells: tuple[Cell, ...] = ()


CutCall = Callable[[SheetInput], Cut]
"""Cuts a picture: `cut_sheet`, or `papilar.archive.workers.Readers.cut`."""


def cut_sheet(given: SheetInput) -> Cut:
    """Cut a picture in this process.

    Raises
    ------
    ImageError
    """
    image = read_image(given.image, ppi=given.ppi)
    if given.card:
        card = read_card(image)
        singles = tuple(Single(one.finger, one.impression, encode_png(one.image)) for one in card.prints)
        return Cut(singles, card.reasons, card.cells)
    slap = segment_slap(
        image, hand=given.hand, thumbs=given.thumbs, missing=given.missing, given=given.segments
    )
    return Cut(tuple(Single(one.finger, None, encode_png(one.image)) for one in slap.fingers), slap.reasons)
