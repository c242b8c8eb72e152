"""Pictures for an examiner: the minutiae of one print, and what two prints were found to share.

A picture explains a comparison, it never takes part in one. It holds what the caller gives and nothing else:
no name, no date, no metadata, and equal arguments make equal bytes.

One palette serves both pictures: *plasma* from dark blue to light orange, whose steps look equally large and
keep their order for colour-blind eyes and on grey paper.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from scipy.spatial import ConvexHull

from enroll.image import GrayImage, resample
from matcher.compare import Transform
from matcher.errors import InvalidInput
from matcher.template import PPI, Template
from papilar.picture.drawing import (
    STYLE,
    UNMATCHED,
    Overlay,
    Panel,
    Points,
    Style,
    Text,
    area_legend,
    circle,
    fit,
    ink,
    kinds,
    legend,
    paper,
    png,
    quality_bar,
    quality_ink,
    ramp,
    scale_bar,
)

__all__ = ["STYLE", "Side", "Style", "draw_match", "draw_minutiae"]


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """One of the two prints of a match.

    Attributes
    ----------
    image : GrayImage or None
        The print, of any resolution; None draws the minutiae on blank paper.
    template : Template
    label : str
        Opaque identifier of the print, written above it: never a name.
    """

    image: GrayImage | None
    template: Template
    label: str


def draw_minutiae(image: GrayImage, template: Template) -> bytes:
    """Draw the minutiae of a print on it.

    Parameters
    ----------
    image : GrayImage
        The print; brought to 500 ppi where it has another resolution.
    template : Template
        Its minutiae. Rings are endings, squares bifurcations, diamonds others; the tick is the direction, the
        colour the quality.

    Returns
    -------
    bytes
        PNG, at most 1048 pixels wide.

    Raises
    ------
    InvalidInput
        The template is of an image of another size.
    """
    style = STYLE
    ground = _ground(image, template)
    panel = fit([template.size], style.print_width, style)[0]
    width = max(style.least_width, panel.width + 2 * style.margin)
    panel = panel.moved((width - panel.width) // 2, style.margin)
    canvas = paper((width, panel.bottom + style.foot(2)), [(panel, ground)], style)
    overlay, text = Overlay(canvas.size, style), Text(canvas, style)
    for index in reversed(range(len(template))):  # the best come first, and lie on top
        overlay.minutia(panel, template, index, quality_ink(int(template.quality[index]), style))
    count = f"{len(template)} {'minutia' if len(template) == 1 else 'minutiae'} · {PPI} ppi"
    text.write((style.margin, style.foot_line(canvas.height, 2)), count, style.dark)
    scale_bar(overlay, text, panel.scale, (width - style.margin, style.foot_line(canvas.height, 2)))
    legend(overlay, text, kinds(template), (style.margin, style.foot_line(canvas.height, 1)))
    quality_bar(overlay, text, (width - style.margin, style.foot_line(canvas.height, 1)))
    return png(overlay.onto(canvas))


def draw_match(
    probe: Side,
    reference: Side,
    pairs: ArrayLike,
    transform: Transform,
    *,
    score: float,
    caption: str | None = None,
) -> bytes:
    """Draw two prints side by side and what they were found to share.

    Parameters
    ----------
    probe, reference : Side
        Drawn left and right, at one scale.
    pairs : array_like of int16, shape (p, 2)
        Matched minutiae, indices into the two templates, best first: they are numbered in this order, where
        there is room, and coloured from top to bottom of the reference.
    transform : Transform
        Motion of the probe onto the reference, pixels at 500 ppi and radians.
    score : float
        log10 likelihood ratio.
    caption : str, optional
        One line under the headline; shortened where it is longer than the picture is wide.

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
    The common area is the convex hull of the matched minutiae of both prints, brought onto each other by the
    transform and enlarged by two ridges; there is none without pairs.
    """
    style, sides = STYLE, (probe, reference)
    entries = kinds(probe.template, reference.template)
    matched = _checked(pairs, sides, transform)
    grounds = [_ground(side.image, side.template) for side in sides]
    panels = _placed([side.template.size for side in sides], style, lines=2 if caption else 1)
    width = max(style.least_match_width, panels[1].right + style.margin)
    height = max(panel.bottom for panel in panels) + style.foot(1)
    canvas = paper((width, height), list(zip(panels, grounds, strict=True)), style)
    overlay, text = Overlay(canvas.size, style), Text(canvas, style)
    match = _Match(sides, panels, matched, transform)
    _headings(text, match, f"log10 LR {round(score, 1) + 0.0:.1f} · {len(matched)} matched", caption or "")
    _draw_common(overlay, match)
    _draw_minutiae(overlay, match)
    end = legend(overlay, text, (*entries, UNMATCHED), (style.margin, style.foot_line(height, 1)))
    if len(matched):
        area_legend(overlay, text, (end, style.foot_line(height, 1)))
    scale_bar(overlay, text, panels[0].scale, (width - style.margin, style.foot_line(height, 1)))
    overlay.onto(canvas)
    _number(text, match)
    return png(canvas)


@dataclass(frozen=True, slots=True, eq=False)
class _Match:
    """A match laid out: index 0 is the probe, on the left, 1 the reference."""

    sides: tuple[Side, Side]
    panels: Sequence[Panel]
    pairs: NDArray[np.int64]
    transform: Transform

    def positions(self, k: int) -> Points:
        """Return the matched minutiae of a side in its own pixels, shape (p, 2)."""
        return np.asarray(self.sides[k].template.xy[self.pairs[:, k]], np.float64)

    def colours(self, style: Style) -> NDArray[np.int64]:
        """Give each pair a step of the palette, from the top of the reference to its bottom."""
        x, y = self.positions(1).T
        rank = np.argsort(np.lexsort((x, y)))
        return ramp(rank / max(1, len(rank) - 1), style)


_FARTHEST = 2.0**17  # pixels: more than twice the largest template is wide


def _checked(pairs: ArrayLike, sides: tuple[Side, Side], transform: Transform) -> NDArray[np.int64]:
    matched = np.asarray(pairs, np.int64).reshape(-1, 2)
    counts = tuple(len(side.template) for side in sides)
    if ((matched < 0) | (matched >= counts)).any():
        raise InvalidInput(
            f"a pair outside templates of {counts[0]} and {counts[1]} minutiae",
            remedy="give the pairs of the comparison of these two templates",
        )
    if not (np.abs(transform) < _FARTHEST).all():
        raise InvalidInput(
            f"the transform {tuple(transform)} is no motion of a print", remedy="give pixels and radians"
        )
    return matched


def _ground(image: GrayImage | None, template: Template) -> Image.Image:
    """Return the print at 500 ppi, or a speck of blank paper."""
    if image is None:
        return Image.new("L", (1, 1), STYLE.blank)
    ground = Image.fromarray(resample(image).pixels)
    apart = max(abs(one - other) for one, other in zip(ground.size, template.size, strict=True))
    if apart > max(2, 0.01 * max(ground.size)):
        raise InvalidInput(
            f"an image of {ground.size} pixels at {PPI} ppi, a template of one of {template.size}",
            remedy="give the image that the template was extracted from",
        )
    return ground


def _placed(sizes: Sequence[tuple[int, int]], style: Style, *, lines: int) -> list[Panel]:
    """Put two prints side by side under the lines of text; tiny ones in halves of the least width."""
    across = style.most_width - 2 * style.margin - style.gap
    one, other = fit(sizes, across, style)
    half = (style.least_match_width - 2 * style.margin - style.gap) // 2
    column = max(one.width, min(half, across - other.width))
    top = style.margin + style.headline + lines * (style.text + style.row) + 2 * style.row
    return [one.moved(style.margin, top), other.moved(style.margin + column + style.gap, top)]


def _moved(xy: Points, transform: Transform, *, back: bool = False) -> Points:
    """Move positions of the probe onto the reference, or back; see `Transform`."""
    dx, dy, turn = transform
    spin = np.array(((np.cos(turn), -np.sin(turn)), (np.sin(turn), np.cos(turn))))
    moved: Points = (xy - (dx, dy)) @ spin.T if back else xy @ spin + (dx, dy)
    return moved


def _headings(text: Text, match: _Match, headline: str, caption: str) -> None:
    """Write the score, the caption, and over each print what it is."""
    style, top = text.style, text.style.margin + text.style.headline // 2
    text.write((style.margin, top), headline, style.dark, size=style.headline)
    line = top + style.headline // 2 + style.row + style.text // 2
    text.write((style.margin, line), text.short(caption, text.width - 2 * style.margin), style.soft)
    ends = (match.panels[1].left - style.gap, text.width - style.margin)
    for panel, side, role, end in zip(match.panels, match.sides, ("probe", "reference"), ends, strict=True):
        y = panel.top - style.row - style.text // 2
        x = text.write((panel.left, y), role, style.dark) + style.row
        text.write((x, y), text.short(side.label, end - x), style.soft)


def _draw_common(overlay: Overlay, match: _Match) -> None:
    """Outline in both prints the hull of what was matched in either."""
    if not len(match.pairs):
        return
    style = overlay.style
    points = np.vstack((_moved(match.positions(0), match.transform), match.positions(1)))
    around = (points[:, None] + style.reach * circle(24)).reshape(-1, 2)
    hull = around[ConvexHull(around).vertices]
    outlines = (_moved(hull, match.transform, back=True), hull)
    for panel, outline in zip(match.panels, outlines, strict=True):
        inside = np.clip(panel.at(outline), (panel.left, panel.top), (panel.right - 1, panel.bottom - 1))
        overlay.closed(inside, style.outline_ink, style.outline)


def _draw_minutiae(overlay: Overlay, match: _Match) -> None:
    """Draw the unmatched, then the links, then the matched: what matters more lies on top."""
    style, colours = overlay.style, match.colours(overlay.style)
    for k, side in enumerate(match.sides):
        for index in np.setdiff1d(np.arange(len(side.template)), match.pairs[:, k]).tolist():
            overlay.minutia(match.panels[k], side.template, index, style.faint_ink, faint=True)
    ends = [match.panels[k].at(match.positions(k)) for k in (0, 1)]
    for one, other, colour in zip(*ends, colours, strict=True):
        short = (other - one) * min(
            0.5, 1.3 * match.panels[0].radius(style) / float(np.hypot(*(other - one)))
        )
        overlay.line(np.vstack((one + short, other - short)), ink(colour, style.link_opacity), style.link)
    for k, side in enumerate(match.sides):
        for index, colour in reversed(list(zip(match.pairs[:, k].tolist(), colours, strict=True))):
            overlay.minutia(match.panels[k], side.template, index, ink(colour))


def _number(text: Text, match: _Match) -> None:
    """Write the numbers of the pairs, best first, that have room for a number in both prints."""
    style = text.style
    taken = [_symbol_boxes(match, k, style) for k in (0, 1)]
    for rank, pair in enumerate(match.pairs.tolist()):
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
