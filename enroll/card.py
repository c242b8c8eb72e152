"""A scanned ten-print card -> its single prints, with their positions and how they were taken.

The straight line: the printed lines of the form, under every small turn and upside down -> the grid that fits
them best -> the lines taken out -> each cell: a rolled print is what ridges are in it, a plain one goes
through `enroll.slap` -> cut-outs in which nothing but ridges is left.

The form is that of the card FD-249 and of its many copies: two rows of five rolled prints, 1.6 x 1.5 inches
each, and below them left four fingers, left thumb, right thumb, right four fingers, 2 inches high.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from enroll.image import GrayImage
from enroll.slap import Hand, Slap, segment_slap
from enroll.slap.blobs import MM, Blob, blobs, ridge_field, ridge_mask
from matcher.template import Finger, Impression

__all__ = ["ADVICE", "Card", "CardPrint", "Cell", "Reason", "read_card"]

Floats = NDArray[np.float64]
Bits = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class CardParams:
    """Of the search for the form; lengths in inches, angles in degrees. Chosen by eye on composed cards."""

    look: float = 100.0  # ppi at which lines are looked for
    thick: float = 0.05  # a line is thinner
    long: float = 0.5  # a line runs straight over this; a ridge does not
    dark: float = 12.0  # grey levels below what lies beside it, at `look`
    turn: float = 6.0  # most, of the scan
    step: float = 0.5
    fine: float = 0.1
    scales: tuple[float, ...] = (0.97, 0.98, 0.99, 1.0, 1.01, 1.02, 1.03)  # copies and scanners stretch
    slack: float = 0.02  # of a line from its place
    least: float = 0.45  # share of the lines of the form that must be there


PARAMS = CardParams()

ROWS = (0.0, 1.5, 3.0, 5.0)
"""Horizontal lines of the form, inches from its top."""
UPPER = (0.0, 1.6, 3.2, 4.8, 6.4, 8.0)
LOWER = (0.0, 3.2, 4.0, 4.8, 8.0)
"""Vertical lines of the rolled and of the plain rows, inches from its left."""


class Reason(StrEnum):
    """What is to be said of a card; `ADVICE` says what to do."""

    FORM_NOT_FOUND = "FORM_NOT_FOUND"
    UPSIDE_DOWN = "UPSIDE_DOWN"
    CELL_EMPTY = "CELL_EMPTY"
    FINGERS_DIFFER = "FINGERS_DIFFER"


ADVICE = MappingProxyType(
    {
        Reason.FORM_NOT_FOUND: "no lines of a ten-print form found: scan the whole card, or cut it by hand",
        Reason.UPSIDE_DOWN: "the scan is upside down and was turned: nothing is to be done",
        Reason.CELL_EMPTY: "a cell of the card has no print: state why, or take the finger again",
        Reason.FINGERS_DIFFER: "a plain cell does not show the fingers it is for: look at the picture",
    }
)
"""What a person can do about each reason."""


class Cell(NamedTuple):
    """A cell of the form: its fingers, how they were taken, corners (4, 2) in pixels of the scan, reasons."""

    fingers: tuple[Finger, ...]
    impression: Impression
    corners: NDArray[np.float32]
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class CardPrint:
    """One print of a card: position, how it was taken, and its upright image at the scan's resolution."""

    finger: Finger
    impression: Impression
    image: GrayImage


@dataclass(frozen=True, slots=True, eq=False)
class Card:
    """What was found on a scanned card.

    Attributes
    ----------
    prints : tuple of CardPrint
        Rolled ones first, by position.
    cells : tuple of Cell
        The fourteen of the form, row by row; empty where no form was found.
    rotation : float
        Of the scan, radians, counter-clockwise as seen; near pi where it is upside down.
    fit : float
        Share of the form's lines that were found, 0 to 1.
    reasons : tuple of Reason
    """

    prints: tuple[CardPrint, ...]
    cells: tuple[Cell, ...]
    rotation: float
    fit: float
    reasons: tuple[Reason, ...]


class _Lines(NamedTuple):
    """Pixels of horizontal and of vertical lines at `look` ppi, bool (h, w), after a turn (degrees)."""

    turn: float
    flat: Bits
    steep: Bits


class _Form(NamedTuple):
    """Where the form lies: share of lines found, left and top (pixels at `look`), scale, turn (degrees)."""

    fit: float
    left: float
    top: float
    scale: float
    turn: float


class _Place(NamedTuple):
    """A cell of the form: its fingers, whether rolled, and left, top, right, bottom in inches."""

    fingers: tuple[Finger, ...]
    rolled: bool
    box: tuple[float, float, float, float]


def read_card(image: GrayImage, *, params: CardParams = PARAMS) -> Card:
    """Find the prints of a scanned ten-print card.

    Parameters
    ----------
    image : GrayImage
        The whole card or its part with the prints, turned by at most 6 degrees, or upside down.
    params : CardParams

    Returns
    -------
    Card
        Without prints where no form is found: a value with its reason.
    """
    form = _find_form(image, params)
    if form.fit < params.least:
        return Card((), (), 0.0, form.fit, (Reason.FORM_NOT_FOUND,))
    upright, back = _upright(image, form, params)
    clean = _without_lines(upright, form.scale, params)
    read = [_read_cell(clean, place, form.scale, back) for place in _places()]
    reasons = {Reason.UPSIDE_DOWN} if abs(form.turn) > 90 else set()
    reasons |= {Reason(word) for cell, _ in read for word in cell.reasons if word in set(Reason)}
    prints = tuple(one for _, found in read for one in found)
    cells = tuple(cell for cell, _ in read)
    ordered = tuple(reason for reason in Reason if reason in reasons)
    return Card(prints, cells, float(np.radians(form.turn)), form.fit, ordered)


def _places() -> list[_Place]:
    """Return the fourteen cells of the form."""
    cells = [
        _Place((Finger(5 * row + k + 1),), True, (UPPER[k], ROWS[row], UPPER[k + 1], ROWS[row + 1]))
        for row in (0, 1)
        for k in range(5)
    ]
    first = (Finger.LEFT_INDEX, Finger.RIGHT_INDEX)
    left, right = (tuple(Finger(one + k) for k in range(4)) for one in first)
    plain = (left, (Finger.LEFT_THUMB,), (Finger.RIGHT_THUMB,), right)
    return cells + [
        _Place(fingers, False, (LOWER[k], ROWS[2], LOWER[k + 1], ROWS[3])) for k, fingers in enumerate(plain)
    ]


# ---- the form


def _find_form(image: GrayImage, params: CardParams) -> _Form:
    """Return the best fit of the form, the right way up or upside down."""
    scale = params.look / image.ppi
    size = (max(1, round(image.pixels.shape[1] * scale)), max(1, round(image.pixels.shape[0] * scale)))
    small = cv2.resize(image.pixels, size, interpolation=cv2.INTER_AREA)
    dark = _thin_and_dark(np.asarray(small, np.uint8), params)
    turn = 0.0
    for reach, step in ((params.turn, params.step), (params.step, params.fine)):
        lines = max((_lines(dark, one, params) for one in _turns(turn, reach, step)), key=_much)
        turn = lines.turn
    turned = _Lines((turn + 360) % 360 - 180, lines.flat[::-1, ::-1], lines.steep[::-1, ::-1])
    fits = (_fit(one, stretch, params) for one in (lines, turned) for stretch in params.scales)
    return max(fits, key=lambda one: one.fit)


def _turns(middle: float, reach: float, step: float) -> Floats:
    return np.arange(middle - reach, middle + reach + step / 2, step)


def _much(lines: _Lines) -> float:
    """Return how much stands in few rows and columns: under the right turn every line is one of them."""
    rows, columns = lines.flat.sum(axis=1), lines.steep.sum(axis=0)
    return float((rows.astype(np.float64) ** 2).sum() + (columns.astype(np.float64) ** 2).sum())


def _thin_and_dark(small: NDArray[np.uint8], params: CardParams) -> NDArray[np.uint8]:
    """Return how much darker thin things are than what lies beside them."""
    side = round(params.thick * params.look) | 1
    return np.asarray(cv2.morphologyEx(small, cv2.MORPH_BLACKHAT, np.ones((side, side), np.uint8)), np.uint8)


def _lines(dark: NDArray[np.uint8], turn: float, params: CardParams) -> _Lines:
    """Turn the picture back and keep what runs straight along rows, and along columns."""
    height, width = dark.shape
    place = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), -turn, 1.0)
    turned = np.asarray(cv2.warpAffine(dark, place, (width, height), flags=cv2.INTER_LINEAR), np.uint8)
    return _Lines(turn, _along_rows(turned, params), _along_rows(turned.T, params).T)


def _along_rows(dark: NDArray[np.uint8], params: CardParams) -> Bits:
    """Keep what is dark, long and no thicker than a line: where ridges lie close it is thicker."""
    long, thick = round(params.long * params.look), round(params.thick * params.look) + 1
    joined = cv2.dilate(dark, np.ones((2, 1), np.uint8))
    found = cv2.morphologyEx(joined, cv2.MORPH_OPEN, np.ones((1, long), np.uint8)) > params.dark
    solid = cv2.morphologyEx(found.astype(np.uint8), cv2.MORPH_OPEN, np.ones((thick, 1), np.uint8))
    return np.asarray(found & (solid == 0), np.bool_)


def _fit(lines: _Lines, scale: float, params: CardParams) -> _Form:
    """Slide the form over the lines: first its rows, then, for the best of them, its columns."""
    unit = params.look * scale
    kernel = np.ones(2 * round(params.slack * params.look) + 1, np.uint8)
    flat = _near(lines.flat, kernel[:, None])
    steep = _near(lines.steep, kernel[None])
    tops = _comb(flat.sum(axis=1) / (8 * unit), np.array(ROWS) * unit)
    best = _Form(0.0, 0.0, 0.0, scale, lines.turn)
    for top in np.argsort(tops)[::-1][:8].tolist():
        upper = steep[_span(top, top + 3 * unit)].sum(axis=0) / (3 * unit)
        lower = steep[_span(top + 3 * unit, top + 5 * unit)].sum(axis=0) / (2 * unit)
        found = 18 * _comb(upper, np.array(UPPER) * unit) + 10 * _comb(lower, np.array(LOWER) * unit)
        left = int(np.argmax(found))
        fit = float(found[left] + 32 * tops[top]) / (18 + 10 + 32)  # inches of line
        if fit > best.fit:
            best = _Form(fit, float(left), float(top), scale, lines.turn)
    return best


def _near(lines: Bits, kernel: NDArray[np.uint8]) -> Floats:
    """Return 1 on a line, somewhat less beside it: a bent line counts, its middle more."""
    exact = lines.astype(np.uint8)
    return np.asarray(0.3 * exact + 0.7 * np.asarray(cv2.dilate(exact, kernel)), np.float64)


def _span(low: float, high: float) -> slice:
    return slice(max(0, round(low)), max(1, round(high)))


def _comb(profile: Floats, at: Floats) -> Floats:
    """Return the mean of a profile at places, for every shift of them; what lies beyond it is nothing."""
    longer = np.pad(np.minimum(np.asarray(profile, np.float64), 1.0), (0, int(at.max()) + 2))
    shifts = np.arange(len(profile))
    return np.asarray(np.mean([longer[shifts + round(place)] for place in at.tolist()], axis=0))


# ---- the picture


def _upright(image: GrayImage, form: _Form, params: CardParams) -> tuple[GrayImage, Floats]:
    """Return the form upright, with a margin, and the way back (2, 3) from its pixels to the scan's."""
    scale = image.ppi / params.look
    height, width = image.pixels.shape
    there = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), -form.turn, 1.0)
    back = np.asarray(cv2.invertAffineTransform(there), np.float64)
    corner = np.array([form.left, form.top]) * scale - MARGIN * image.ppi
    back[:, 2] += back[:, :2] @ corner
    size = tuple(round((side * form.scale + 2 * MARGIN) * image.ppi) for side in (UPPER[-1], ROWS[-1]))
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    ground = int(np.median(image.pixels[::8, ::8]))
    pixels = cv2.warpAffine(image.pixels, back, (size[0], size[1]), flags=how, borderValue=ground)
    return replace(image, pixels=np.asarray(pixels, np.uint8)), back


MARGIN = 0.2
"""Inches kept around the form: prints that run over its edge."""


def _without_lines(image: GrayImage, scale: float, params: CardParams) -> GrayImage:
    """Paint the form's lines over with the lightest beside them: a gap in ridges, but nothing invented.

    Only where the form has a line: in a dense print many a row of pixels looks like one.
    """
    side = round(params.thick * image.ppi) | 1
    dark = np.asarray(
        cv2.morphologyEx(image.pixels, cv2.MORPH_BLACKHAT, np.ones((side, side), np.uint8)), np.uint8
    )
    lines = np.zeros(image.pixels.shape, np.bool_)
    for (x0, y0), (x1, y1) in _form_lines():
        corners = ((side_ * scale + MARGIN) * image.ppi for side_ in (x0, y0, x1, y1))
        left, top, right, bottom = corners
        reach = params.slack * image.ppi
        place = (_span(top - reach, bottom + reach), _span(left - reach, right + reach))
        band = dark[place] if y0 == y1 else dark[place].T
        found = _straight(band, round(params.long * image.ppi), params.dark)
        lines[place] |= found if y0 == y1 else found.T
    return replace(image, pixels=np.where(lines, image.pixels + dark, image.pixels).astype(np.uint8))


def _form_lines() -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """Return both ends of every line of the form, inches."""
    flat = [((UPPER[0], y), (UPPER[-1], y)) for y in ROWS]
    upper = [((x, ROWS[0]), (x, ROWS[2])) for x in UPPER]
    return flat + upper + [((x, ROWS[2]), (x, ROWS[3])) for x in LOWER]


def _straight(band: NDArray[np.uint8], long: int, dark: float) -> Bits:
    """Mask what runs along a band of rows over `long` pixels, and the pixel beside it."""
    beside = np.ones((3, 1), np.uint8)
    found = cv2.morphologyEx(cv2.dilate(band, beside), cv2.MORPH_OPEN, np.ones((1, long), np.uint8))
    return np.asarray(cv2.dilate(np.asarray(found > dark, np.uint8), beside), np.bool_)


# ---- the cells


def _read_cell(clean: GrayImage, place: _Place, scale: float, back: Floats) -> tuple[Cell, list[CardPrint]]:
    """Cut a cell out and find its prints."""
    left, top, right, bottom = ((side * scale + MARGIN) * clean.ppi for side in place.box)
    box = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
    corners = (box @ back[:, :2].T + back[:, 2]).astype(np.float32)
    cut = replace(clean, pixels=clean.pixels[_span(top, bottom), _span(left, right)].copy())
    impression = Impression.NONLIVE_ROLLED if place.rolled else Impression.NONLIVE_PLAIN
    if place.rolled:
        image = _cleaned(cut)
        found = [] if image is None else [CardPrint(place.fingers[0], impression, image)]
        reasons: tuple[str, ...] = () if found else (Reason.CELL_EMPTY,)
    else:
        slap = _plain(cut, place.fingers)
        found = [CardPrint(one.finger, impression, _cleaned(one.image) or one.image) for one in slap.fingers]
        reasons = tuple(slap.reasons) + _differ(slap, place.fingers)
    found.sort(key=lambda one: one.finger)
    return Cell(place.fingers, impression, corners, reasons), found


def _plain(cut: GrayImage, fingers: tuple[Finger, ...]) -> Slap:
    hand = Hand.RIGHT if fingers[0] <= Finger.RIGHT_LITTLE else Hand.LEFT
    return segment_slap(cut, hand=hand, thumbs=len(fingers) == 1)


def _differ(slap: Slap, fingers: tuple[Finger, ...]) -> tuple[str, ...]:
    if not slap.fingers:
        return (Reason.CELL_EMPTY,)
    return () if {one.finger for one in slap.fingers} == set(fingers) else (Reason.FINGERS_DIFFER,)


def _cleaned(cut: GrayImage) -> GrayImage | None:
    """Cut to the largest print and paint over what is none of it: printing, writing, neighbours."""
    field = ridge_field(cut)
    parts = [blob for blob in blobs(field, ridge_mask(field)) if blob.writing < SKIN]
    if not parts:
        return None
    side = round(2 * RIM * MM) | 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    kept = np.asarray(cv2.dilate(_together(parts, field.amplitude.shape), disc), np.uint8)
    size = (cut.pixels.shape[1], cut.pixels.shape[0])
    inside = np.asarray(cv2.resize(255 * kept, size, interpolation=cv2.INTER_LINEAR)) > 127
    ground = int(np.median(cut.pixels[~inside])) if not inside.all() else 255
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    painted = np.where(inside, cut.pixels, ground).astype(np.uint8)
    box = painted[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return replace(cut, pixels=np.ascontiguousarray(box))


SKIN = 1.0
"""Of `Blob.writing`: what has more is printed or written."""
RIM = 1.2
"""mm kept around ridges: their faint rim."""


def _together(parts: list[Blob], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Mask the largest blob and those that touch it, on the grid."""
    mask = np.zeros(shape, np.uint8)
    for blob in parts:
        x, y = np.floor(blob.points * MM).astype(np.int64).T
        mask[y, x] = 1
    x, y = np.floor(parts[0].points[0] * MM).astype(np.int64)
    side = round(1.0 * MM) | 1
    _, labels = cv2.connectedComponents(cv2.dilate(mask, np.ones((side, side), np.uint8)))
    return np.asarray((labels == labels[y, x]) & (mask > 0), np.uint8)
