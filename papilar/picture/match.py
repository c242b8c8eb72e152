"""The picture of a match: two prints, what they share, one laid on the other, the parts of the score."""

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from enroll.image import resample
from matcher.calibration import shipped
from matcher.compare import Comparison
from matcher.errors import InvalidInput
from papilar.explanation import BANDS, PARTS, common_area, hull_of, model_words
from papilar.picture import common
from papilar.picture.drawing import (
    STYLE,
    UNMATCHED,
    Overlay,
    Panel,
    Points,
    Side,
    Style,
    Text,
    area_legend,
    fit,
    ground_of,
    ink,
    kinds,
    legend,
    paper,
    png,
    ramp,
    scale_bar,
)

_FARTHEST = 2.0**17  # pixels: more than twice the largest template is wide


def draw_match(
    probe: Side, reference: Side, found: Comparison, *, caption: str | None = None, warning: str | None = None
) -> bytes:
    """Draw two prints, what they were found to share, one laid on the other, and the parts of the score.

    Parameters
    ----------
    probe, reference : Side
        Drawn left and right, at one scale.
    found : Comparison
        Of the two templates. Matched minutiae are numbered in its order, best first, where there is room, and
        coloured from top to bottom of the reference.
    caption : str, optional
        One line under the headline; shortened where it is longer than the picture is wide.
    warning : str, optional
        A line under the parts.

    Returns
    -------
    bytes
        PNG, at most 1600 pixels wide.

    Raises
    ------
    InvalidInput
        A pair of minutiae that do not exist, a transform that is no motion of a print, a template of an image
        of another size than the one given with it.

    Notes
    -----
    The common area is where ridges were compared, coloured by how well they agree once they have settled; in
    the probe it lies where motion and bend take it from. Where a ridge description is missing it is the hull
    of the matched minutiae, enlarged by two ridges. The probe is laid on the reference by motion and bend
    alone, so what remains between the ridges is seen.
    """
    style = STYLE
    match = _lay_out(probe, reference, found, caption, warning)
    canvas = paper(match.size, match.grounds(), style)
    maps = _maps(match)
    for panel, shown in zip(match.panels, maps, strict=False):
        _shade(canvas, panel, shown, style)
    overlay, text = Overlay(canvas.size, style), Text(canvas, style)
    _headings(text, match, caption or "")
    if not maps:
        _draw_hull(overlay, match)
    _draw_minutiae(overlay, match)
    _explain(overlay, text, match, shaded=bool(maps))
    if match.lower is not None:
        _lay_on(canvas, text, match, match.lower)
    for k, line in enumerate(match.table):
        line.write(overlay, text, *match.margins, match.below + k * (style.text + style.row))
    overlay.onto(canvas)
    _number(text, match)
    return png(canvas)


@dataclass(frozen=True, slots=True, eq=False)
class _Match:
    """A match laid out: index 0 is the probe, on the left, 1 the reference.

    `foot` is the middle of the line under the prints, `below` that of the first below it. `lower` is where
    the probe is laid on the reference, None without images, and `box` (left, top, right, bottom) what of the
    reference is shown there. `margins` are those of the table.
    """

    sides: tuple[Side, Side]
    found: Comparison
    panels: Sequence[Panel]
    size: tuple[int, int]
    foot: int
    below: int
    lower: Panel | None
    box: tuple[int, int, int, int]
    table: Sequence["_Line"]
    margins: tuple[int, int]

    def grounds(self) -> list[tuple[Panel, Image.Image]]:
        """Return the prints and where they lie."""
        grounds = [ground_of(side.image, side.template) for side in self.sides]
        return list(zip(self.panels, grounds, strict=True))

    def positions(self, k: int) -> Points:
        """Return the matched minutiae of a side in its own pixels, shape (p, 2)."""
        return np.asarray(self.sides[k].template.xy[self.found.pairs[:, k]], np.float64)

    def colours(self, style: Style) -> NDArray[np.int64]:
        """Give each pair a step of the palette, from the top of the reference to its bottom."""
        x, y = self.positions(1).T
        rank = np.argsort(np.lexsort((x, y)))
        return ramp(rank / max(1, len(rank) - 1), style.palette)


def _lay_out(
    probe: Side, reference: Side, found: Comparison, caption: str | None, warning: str | None
) -> _Match:
    style, sides = STYLE, (probe, reference)
    _check(found, sides)
    panels = _placed([side.template.size for side in sides], style, lines=2 if caption else 1)
    width = max(style.least_match_width, panels[1].right + style.margin)
    foot = max(panel.bottom for panel in panels) + style.row + style.text
    below = foot + 2 * style.margin + style.text // 2
    lower, box = None, _box(found, reference)
    if probe.image is not None and reference.image is not None and len(found.pairs):
        size, room = (box[2] - box[0], box[3] - box[1]), _column(width, style)
        top = below + style.row + style.text
        lower = fit([size], room, style.overlay_height, style)[0].moved(style.margin, top)
    left = style.margin if lower is None else lower.right + style.gap
    right = min(left + _TABLE_WIDTH, width - style.margin)
    table = _lines(found, sides, warning, right - left)
    end = below + len(table) * (style.text + style.row)
    end = end if lower is None else max(end, lower.bottom + 2 * style.row + style.text)
    size = width, end + style.margin
    return _Match(sides, found, panels, size, foot, below, lower, box, table, (left, right))


_TABLE_WIDTH = 640
_BESIDE = 60.0  # pixels of the prints around their common area that are shown with it


def _column(width: int, style: Style) -> int:
    """Width of each of the two columns under the prints."""
    return (width - 2 * style.margin - style.gap) // 2


def _box(found: Comparison, reference: Side) -> tuple[int, int, int, int]:
    """Return what of the reference is shown with the probe on it: all around what both have."""
    width, height = reference.template.size
    matched = reference.template.xy[found.pairs[:, 1]].astype(np.float64)
    places = np.concatenate((found.common[:, :2].astype(np.float64), matched))
    if not len(places):
        return 0, 0, width, height
    (left, top), (right, bottom) = places.min(axis=0) - _BESIDE, places.max(axis=0) + _BESIDE
    return max(0, int(left)), max(0, int(top)), min(width, int(right) + 1), min(height, int(bottom) + 1)


def _check(found: Comparison, sides: tuple[Side, Side]) -> None:
    counts = tuple(len(side.template) for side in sides)
    if ((found.pairs < 0) | (found.pairs >= counts)).any():
        raise InvalidInput(
            f"a pair outside templates of {counts[0]} and {counts[1]} minutiae",
            remedy="give the comparison of these two templates",
        )
    if not (np.abs(found.transform) < _FARTHEST).all():
        raise InvalidInput(
            f"the transform {tuple(found.transform)} is no motion of a print",
            remedy="give pixels and radians",
        )


# ---- the common area


def _maps(match: _Match) -> tuple[common.Map, ...]:
    """Return how well ridges agree over probe and reference; nothing where none were compared."""
    probe, reference = (side.template for side in match.sides)
    if not len(match.found.common):
        return ()
    onto = common.map_on_reference(match.found, probe.ridges[0], reference.size)
    return common.map_on_probe(match.found, onto, (probe.size, reference.size)), onto


def _shade(canvas: Image.Image, panel: Panel, shown: common.Map, style: Style) -> None:
    """Tint a print by how well its ridges agree, and outline what was compared."""
    place = (panel.left, panel.top, panel.right, panel.bottom)
    size, cover = (panel.width, panel.height), Image.Resampling.BICUBIC
    colours = ramp(np.clip(shown.agreement, 0, 1), style.agreement).astype(np.uint8)
    seen = Image.fromarray(np.rint(255 * shown.seen).astype(np.uint8)).resize(size, cover)
    inside = np.asarray(seen) > 127
    alpha = Image.fromarray(np.rint(255 * style.shade * inside).astype(np.uint8))
    print_ = canvas.crop(place)
    print_.paste(Image.fromarray(colours).resize(size, cover), (0, 0), alpha)
    rim = inside & ~ndimage.binary_erosion(inside, iterations=2)
    print_.paste(style.outline_ink[:3], (0, 0), Image.fromarray((rim * 255).astype(np.uint8)))
    canvas.paste(print_, place[:2])


def _draw_hull(overlay: Overlay, match: _Match) -> None:
    """Outline in both prints the hull of what was matched in either."""
    if not len(match.found.pairs):
        return
    style = overlay.style
    hull = hull_of(match.found, *(side.template for side in match.sides))
    outlines = (common.carried_back(match.found, hull), hull)
    for panel, outline in zip(match.panels, outlines, strict=True):
        inside = np.clip(panel.at(outline), (panel.left, panel.top), (panel.right - 1, panel.bottom - 1))
        overlay.closed(inside, style.outline_ink, style.outline)


# ---- the lower row


def _lay_on(canvas: Image.Image, text: Text, match: _Match, panel: Panel) -> None:
    """Print the probe and the reference over each other, and say which is which."""
    style = text.style
    inks = [common.ink_of(resample(side.image).pixels) for side in match.sides if side.image is not None]
    left, top, right, bottom = match.box
    under = np.zeros((bottom - top, right - left))
    part = inks[1][top:bottom, left:right]
    under[: part.shape[0], : part.shape[1]] = part
    printed = common.overlaid(common.laid_on(match.found, inks[0], match.box), under, style.overlay_inks)
    canvas.paste(
        Image.fromarray(printed).resize((panel.width, panel.height), Image.Resampling.LANCZOS),
        (panel.left, panel.top),
    )
    text.write((panel.left, match.below), "probe laid on reference", style.dark)
    x, y = float(panel.left), panel.bottom + style.row + style.text // 2
    both = tuple(a * b // 255 for a, b in zip(*style.overlay_inks, strict=True))
    for colour, word in zip((*style.overlay_inks, both), ("probe", "reference", "both"), strict=True):
        box = (round(x), y - 6, round(x) + style.text, y + 6)
        canvas.paste(colour, box)
        x = text.write((x + style.text + style.row, y), word, style.soft) + style.margin


class _Line(NamedTuple):
    """A line of the table; one of no words is a rule across it."""

    words: str
    measured: str = ""
    adds: str = ""
    dark: bool = True

    def write(self, overlay: Overlay, text: Text, left: int, right: int, y: int) -> None:
        """Write it between two margins."""
        style = text.style
        if not self.words:
            overlay.line(np.array(((left, y), (right, y))), (*style.frame, 255), style.link)
            return
        colour = style.dark if self.dark else style.soft
        columns = right - _NUMBER_ROOM
        room = columns - _NUMBER_ROOM - left if self.measured or self.adds else right - left
        text.write((left, y), text.short(self.words, room), colour)
        text.write((columns, y), self.measured, colour, anchor="rm")
        text.write((right, y), self.adds, colour, anchor="rm")


_NUMBER_ROOM = 76  # pixels of a column of numbers
_LETTER = 7.6  # pixels that a letter of the text takes in the mean


def _lines(found: Comparison, sides: tuple[Side, Side], warning: str | None, room: int) -> list[_Line]:
    """Return the parts of the score, their sum, and how it reads."""
    a, b = (side.template for side in sides)
    band, total = shipped().band(found.score), sum(part.adds for part in found.parts)
    said = [
        f"{band}: {BANDS[band]}",
        f"rests on {model_words(found, a, b)}",
        f"common area {common_area(found, a, b):.0f} mm2",
        *([f"warning: {warning}"] if warning else []),
    ]
    return [
        _Line("part of the score", "measured", "adds", dark=False),
        *(_Line(PARTS.get(p.name, p.name), f"{p.measured:.2f}", f"{p.adds:+.2f}") for p in found.parts),
        _Line(""),
        _Line("sum: log10 likelihood ratio", "", f"{total:+.2f}"),
        *([_Line("stated as, the least that is", "", f"{found.score:+.2f}")] if total < found.score else []),
        _Line(""),
        *(_Line(line) for words in said for line in wrap(words, max(20, int(room / _LETTER)))),
    ]


# ---- the prints


def _placed(sizes: Sequence[tuple[int, int]], style: Style, *, lines: int) -> list[Panel]:
    """Put two prints side by side under the lines of text; tiny ones in halves of the least width."""
    across = style.most_width - 2 * style.margin - style.gap
    one, other = fit(sizes, across, style.match_height, style)
    half = (style.least_match_width - 2 * style.margin - style.gap) // 2
    column = max(one.width, min(half, across - other.width))
    top = style.margin + style.headline + lines * (style.text + style.row) + 2 * style.row
    return [one.moved(style.margin, top), other.moved(style.margin + column + style.gap, top)]


def _headings(text: Text, match: _Match, caption: str) -> None:
    """Write the score, the caption, and over each print what it is."""
    style, top = text.style, text.style.margin + text.style.headline // 2
    score = round(match.found.score, 1) + 0.0
    headline = (
        f"log10 LR {score:.1f} · {shipped().band(match.found.score)} · {len(match.found.pairs)} matched"
    )
    text.write((style.margin, top), headline, style.dark, size=style.headline)
    line = top + style.headline // 2 + style.row + style.text // 2
    text.write((style.margin, line), text.short(caption, text.width - 2 * style.margin), style.soft)
    ends = (match.panels[1].left - style.gap, text.width - style.margin)
    for panel, side, role, end in zip(match.panels, match.sides, ("probe", "reference"), ends, strict=True):
        y = panel.top - style.row - style.text // 2
        x = text.write((panel.left, y), role, style.dark) + style.row
        text.write((x, y), text.short(side.label, end - x), style.soft)


def _explain(overlay: Overlay, text: Text, match: _Match, *, shaded: bool) -> None:
    """Explain symbols and area under the prints, and their scale."""
    style, line = overlay.style, match.foot
    entries = kinds(*(side.template for side in match.sides))
    end = legend(overlay, text, (*entries, UNMATCHED), (style.margin, line))
    if shaded or len(match.found.pairs):
        area_legend(overlay, text, (end, line), shaded=shaded)
    scale_bar(overlay, text, match.panels[0].scale, (text.width - style.margin, line))


def _draw_minutiae(overlay: Overlay, match: _Match) -> None:
    """Draw the unmatched, then the links, then the matched: what matters more lies on top."""
    style, colours = overlay.style, match.colours(overlay.style)
    for k, side in enumerate(match.sides):
        for index in np.setdiff1d(np.arange(len(side.template)), match.found.pairs[:, k]).tolist():
            overlay.minutia(match.panels[k], side.template, index, style.faint_ink, faint=True)
    ends = [match.panels[k].at(match.positions(k)) for k in (0, 1)]
    for one, other, colour in zip(*ends, colours, strict=True):
        short = (other - one) * min(
            0.5, 1.3 * match.panels[0].radius(style) / float(np.hypot(*(other - one)))
        )
        overlay.line(np.vstack((one + short, other - short)), ink(colour, style.link_opacity), style.link)
    for k, side in enumerate(match.sides):
        for index, colour in reversed(list(zip(match.found.pairs[:, k].tolist(), colours, strict=True))):
            overlay.minutia(match.panels[k], side.template, index, ink(colour))


def _number(text: Text, match: _Match) -> None:
    """Write the numbers of the pairs, best first, that have room for a number in both prints."""
    style = text.style
    taken = [_symbol_boxes(match, k, style) for k in (0, 1)]
    for rank, pair in enumerate(match.found.pairs.tolist()):
        number = str(rank + 1)
        half = np.array((text.long(number, style.number) / 2 + 1, 0.4 * style.number + 1))
        probe, reference = (_free(match, k, pair[k], half, taken[k], style) for k in (0, 1))
        if probe is None or reference is None:
            continue
        for k, place in enumerate((probe, reference)):
            taken[k] = np.vstack((taken[k], np.hstack((place - half, place + half))))
            at = (float(place[0]), float(place[1]))
            text.write(at, number, style.dark, size=style.number, anchor="mm", halo=2)


def _symbol_boxes(match: _Match, k: int, style: Style) -> Points:
    """Boxes (left, top, right, bottom), shape (2n, 4), of the minutiae of a side and of their ticks."""
    template, panel = match.sides[k].template, match.panels[k]
    centres, radius = panel.at(template.xy), panel.radius(style)
    way = np.column_stack((np.cos(template.angle), -np.sin(template.angle)))
    tips = centres + radius * (1 + style.tick) * way
    symbols = np.hstack((centres - radius, centres + radius))
    return np.vstack((symbols, np.hstack((np.minimum(centres, tips), np.maximum(centres, tips)))))


def _free(match: _Match, k: int, index: int, half: Points, taken: Points, style: Style) -> Points | None:
    """Find a place by a minutia, first behind it, for a box of half this size that touches no other."""
    template, panel = match.sides[k].template, match.panels[k]
    angle, away = float(template.angle[index]), panel.radius(style) + style.stroke
    for turn in np.pi + np.array((0, 1, -1, 2, -2, 3, -3, 4, -4)) * np.pi / 6:
        way = np.array((np.cos(angle + turn), -np.sin(angle + turn)))
        place: Points = panel.at(template.xy[index]) + way * away + np.sign(way) * np.abs(way) ** 0.5 * half
        low, high = place - half, place + half
        within = (low >= (panel.left, panel.top)).all() and (high <= (panel.right, panel.bottom)).all()
        if within and not ((low < taken[:, 2:]) & (high > taken[:, :2])).all(axis=1).any():
            return place
    return None
