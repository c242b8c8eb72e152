"""What pictures are made with: the style, the place of a print, ink over it, type, legends."""

import io
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont

from enroll.image import GrayImage, resample
from matcher.errors import InvalidInput
from matcher.template import PPI, Kind, Template

Colour = tuple[int, int, int]
Ink = tuple[int, int, int, int]
Points = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Style:
    """The look of the pictures, chosen by eye on FVC2002 and FVC2004. Lengths in pixels of the picture."""

    most_width: int = 1600  # of the picture: a full-HD screen less the margins of a web page
    most_height: int = 1000  # of a print in a picture of one
    match_height: int = 700  # of a print in a picture of two
    overlay_height: int = 620  # of the two on each other
    print_width: int = 1000  # most of the print in a picture of one
    least_width: int = 560  # of the picture of one print, which has to carry the legend
    least_match_width: int = 840  # the same, of two
    most_scale: float = 2.0  # pixels of the picture to one of the print: more shows no more ridges
    supersampling: int = 3

    margin: int = 24
    gap: int = 36  # between the two prints
    row: int = 8  # between lines of text
    headline: int = 28  # sizes of type
    text: int = 16
    number: int = 13
    bar: int = 80  # length of the bar that explains the colours of quality

    radius: float = 4.0  # of a symbol, in pixels of the print: it fits between two ridges
    least_radius: float = 3.5
    tick: float = 1.5  # length of a direction tick beyond the symbol, in radii
    stroke: float = 2.0
    faint_stroke: float = 1.2
    faint_size: float = 0.75  # of an unmatched minutia to a matched one
    halo: float = 1.4  # of white around a symbol, each side
    faint_halo: float = 0.7
    link: float = 1.1
    outline: float = 1.8

    paper: Colour = (255, 255, 255)
    blank: int = 250  # grey of a print that has no image
    frame: Colour = (198, 202, 208)
    dark: Colour = (24, 28, 36)
    soft: Colour = (88, 94, 104)
    bleach: float = 0.22  # of white in the print, for the symbols to stand out
    halo_ink: Ink = (255, 255, 255, 215)
    faint_halo_ink: Ink = (255, 255, 255, 150)
    faint_ink: Ink = (70, 100, 125, 215)
    unstated_ink: Ink = (110, 110, 110, 255)  # a minutia whose quality is not stated
    outline_ink: Ink = (0, 122, 135, 230)
    link_opacity: int = 150
    overlay_inks: tuple[Colour, Colour] = (
        # probe and reference: complementary, so that both together are nearly black; a blue and an orange are
        # told apart by all colour-blind eyes
        (255, 150, 30),
        (0, 100, 220),
    )
    agreement: tuple[Colour, ...] = (
        # of ridges, from 0 and less to 1: they grow lighter and then darker, from warm to cold
        (213, 84, 20),
        (244, 165, 90),
        (205, 205, 205),
        (105, 180, 200),
        (0, 120, 150),
    )
    shade: float = 0.36  # of the agreement over the print
    longest: int = 400  # letters of a line that are looked at
    palette: tuple[Colour, ...] = (
        # matplotlib's "plasma" (CC0) at 0, 1/8, ... 6/8: its yellow end does not show on white paper
        (13, 8, 135),
        (75, 3, 161),
        (125, 3, 168),
        (168, 34, 150),
        (203, 70, 121),
        (229, 107, 93),
        (248, 148, 65),
    )

    def foot(self, lines: int) -> int:
        """Height of the lines under the prints."""
        return self.margin + lines * (self.text + 2 * self.row)

    def foot_line(self, height: int, line: int) -> int:
        """Middle of the line that is `line`-th from the bottom of the picture."""
        return height - self.margin - self.text // 2 - (line - 1) * (self.text + 2 * self.row)


STYLE = Style()


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


@dataclass(frozen=True, slots=True)
class Panel:
    """Where a print lies in the picture: top left corner, size in pixels of the picture, and its scale."""

    left: int
    top: int
    width: int
    height: int
    scale: float

    @property
    def right(self) -> int:
        """First column beyond the print."""
        return self.left + self.width

    @property
    def bottom(self) -> int:
        """First row beyond the print."""
        return self.top + self.height

    def moved(self, left: int, top: int) -> "Panel":
        """Put the print with its top left corner here."""
        return replace(self, left=left, top=top)

    def at(self, xy: ArrayLike) -> Points:
        """Bring positions in the print, shape (n, 2), to the picture."""
        return (np.asarray(xy, np.float64) + 0.5) * self.scale + (self.left, self.top)

    def radius(self, style: Style) -> float:
        """Radius of a minutia's symbol in this print, pixels of the picture."""
        return max(style.least_radius, style.radius * self.scale)


def ground_of(image: GrayImage | None, template: Template) -> Image.Image:
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


def fit(sizes: Sequence[tuple[int, int]], room: int, high: int, style: Style) -> list[Panel]:
    """Give prints one scale at which they fit side by side into so wide a room, none of them higher."""
    widths, heights = zip(*sizes, strict=True)
    scale = min(style.most_scale, (room - len(sizes)) / sum(widths), high / max(heights))
    return [Panel(0, 0, max(1, round(w * scale)), max(1, round(h * scale)), scale) for w, h in sizes]


def paper(size: tuple[int, int], prints: Iterable[tuple[Panel, Image.Image]], style: Style) -> Image.Image:
    """Lay the prints on clean paper, a little bleached and thinly framed."""
    canvas = Image.new("RGB", size, style.paper)
    draw = ImageDraw.Draw(canvas)
    for panel, ground in prints:
        scaled = ground.resize((panel.width, panel.height), Image.Resampling.LANCZOS)
        bleached = Image.blend(scaled, Image.new("L", scaled.size, 255), style.bleach)
        canvas.paste(bleached, (panel.left, panel.top))
        draw.rectangle((panel.left - 1, panel.top - 1, panel.right, panel.bottom), outline=style.frame)
    return canvas


class Overlay:
    """Drawing over the prints, several times too large, so that its edges are smooth when made smaller."""

    def __init__(self, size: tuple[int, int], style: Style) -> None:
        self.style = style
        self._size = size
        self._fine = style.supersampling
        self._layer = Image.new("RGBA", (size[0] * self._fine, size[1] * self._fine), (*style.paper, 0))
        self._draw = ImageDraw.Draw(self._layer)

    def line(self, points: Points, ink: Ink, width: float) -> None:
        """Draw a line through points, shape (n, 2), as wide as `width` pixels."""
        flat = [(float(x), float(y)) for x, y in points * self._fine]
        self._draw.line(flat, fill=ink, width=max(1, round(width * self._fine)), joint="curve")

    def closed(self, points: Points, ink: Ink, width: float) -> None:
        """Draw a closed line."""
        self.line(np.vstack((points, points[:2])), ink, width)

    def symbol(self, centre: Points, kind: int, radius: float, ink: Ink, width: float) -> None:
        """Draw the symbol of a kind of minutia."""
        self.closed(centre + radius * _OUTLINES[Kind(kind)], ink, width)

    def minutia(self, panel: Panel, template: Template, index: int, ink: Ink, *, faint: bool = False) -> None:
        """Draw a symbol and its direction on a halo of white."""
        style, kind, angle = self.style, int(template.kind[index]), float(template.angle[index])
        centre = panel.at(template.xy[index])
        radius = panel.radius(style) * (style.faint_size if faint else 1.0)
        way = np.array((np.cos(angle), -np.sin(angle)))
        tick = centre + np.array((radius, radius * (1 + style.tick)))[:, None] * way
        width = style.faint_stroke if faint else style.stroke
        halo, around = (style.faint_halo_ink, style.faint_halo) if faint else (style.halo_ink, style.halo)
        for colour, wide in ((halo, width + 2 * around), (ink, width)):
            self.symbol(centre, kind, radius, colour, wide)
            self.line(tick, colour, wide)

    def onto(self, canvas: Image.Image) -> Image.Image:
        """Bring the drawing to the picture's size and lay it on the picture itself."""
        layer = self._layer.resize(self._size, Image.Resampling.LANCZOS)
        canvas.paste(layer, (0, 0), layer)
        return canvas


class Text:
    """Type, drawn at the picture's own size."""

    def __init__(self, canvas: Image.Image, style: Style) -> None:
        self.style = style
        self.width = canvas.width
        self._draw = ImageDraw.Draw(canvas)

    def long(self, line: str, size: int | None = None) -> float:
        """Measure a line, in pixels."""
        return float(self._draw.textlength(line, _font(size or self.style.text)))

    def short(self, line: str, room: float) -> str:
        """Make one plain line of it, shortened with an ellipsis where it is longer than its room."""
        folded = unicodedata.normalize("NFKD", " ".join(line[: self.style.longest].split()))
        plain = "".join(letter for letter in folded if not unicodedata.combining(letter))
        line = plain.encode("ascii", "replace").decode()  # the letters that Pillow's own font has
        if self.long(line) <= room:
            return line
        while line and self.long(line + "…") > room:
            line = line[:-1]
        return line.rstrip() + "…"

    def write(
        self,
        at: tuple[float, float],
        line: str,
        colour: Colour,
        *,
        size: int | None = None,
        anchor: str = "lm",
        halo: int = 0,
    ) -> float:
        """Write a line; return where it ends if it is anchored on the left."""
        font = _font(size or self.style.text)
        self._draw.text(at, line, colour, font, anchor, stroke_width=halo, stroke_fill=self.style.paper)
        return at[0] + self.long(line, size)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)


def circle(sides: int, turn: float = 0.0) -> Points:
    """Return the corners of a regular polygon in the unit circle, shape (sides, 2)."""
    angle = np.arange(sides) * 2 * np.pi / sides + turn
    return np.column_stack((np.cos(angle), np.sin(angle)))


_OUTLINES: dict[Kind, Points] = {
    Kind.ENDING: circle(32),
    Kind.BIFURCATION: circle(4, np.pi / 4) * 1.25,  # of the ring's area
    Kind.OTHER: circle(4) * 1.25,
}


def ramp(parts: Points, palette: Sequence[Colour]) -> NDArray[np.int64]:
    """Colours of a palette, shape (..., 3), for parts from 0 to 1."""
    known = np.linspace(0, 1, len(palette))
    bands = np.asarray(palette, np.float64).T
    return np.stack([np.rint(np.interp(parts, known, band)) for band in bands], axis=-1).astype(np.int64)


def ink(colour: NDArray[np.int64], opacity: int = 255) -> Ink:
    """Return a colour of the palette as ink."""
    red, green, blue = colour.tolist()
    return red, green, blue, opacity


def quality_ink(quality: int, style: Style) -> Ink:
    """Colour a quality of 1 to 100 from light to dark, 0 in grey."""
    return ink(ramp(np.array([1 - quality / 100]), style.palette)[0]) if quality else style.unstated_ink


_KINDS = ((Kind.ENDING, "ending", False), (Kind.BIFURCATION, "bifurcation", False))
_OTHER = (Kind.OTHER, "other", False)
UNMATCHED = (Kind.ENDING, "unmatched", True)


def kinds(*templates: Template) -> tuple[tuple[Kind, str, bool], ...]:
    """Return the entries of the legend that explain these templates."""
    others = any((template.kind == Kind.OTHER).any() for template in templates)
    return (*_KINDS, _OTHER) if others else _KINDS


def legend(
    overlay: Overlay, text: Text, entries: Iterable[tuple[Kind, str, bool]], at: tuple[float, float]
) -> float:
    """Explain the symbols from left to right; return where the last ends."""
    style, (x, y) = overlay.style, at
    radius = style.text * 0.4
    for kind, word, faint in entries:
        ink, size = (style.faint_ink, style.faint_size) if faint else ((*style.dark, 255), 1.0)
        width = style.faint_stroke if faint else style.stroke
        overlay.symbol(np.array((x + radius, y)), kind, radius * size, ink, width)
        x = text.write((x + 2 * radius + style.row, y), word, style.soft) + style.margin
    return x


def area_legend(overlay: Overlay, text: Text, at: tuple[float, float], *, shaded: bool) -> None:
    """Explain the outline, and the colours of agreement in it where there are any."""
    style, (x, y) = overlay.style, at
    if not shaded:
        sample = np.array(((x, y), (x + style.text, y)))
        overlay.line(sample, style.outline_ink, style.outline)
        text.write((x + style.text + style.row, y), "common area", style.soft)
        return
    x = text.write((x, y), "ridges differ", style.soft) + style.row
    for step in range(style.bar):
        colour = ink(ramp(np.array([step / style.bar]), style.agreement)[0])
        overlay.line(np.array(((x + step, y - 5), (x + step, y + 5))), colour, 1.4)
    text.write((x + style.bar + style.row, y), "agree", style.soft)


def quality_bar(overlay: Overlay, text: Text, end: tuple[float, float]) -> None:
    """Explain the colours at the right end of a line."""
    style, (right, y) = overlay.style, end
    bar = right - text.long("100") - style.row - style.bar
    for step in range(style.bar):
        ink = quality_ink(max(1, round(100 * step / style.bar)), style)
        overlay.line(np.array(((bar + step, y - 4), (bar + step, y + 4))), ink, 1.4)
    text.write((right, y), "100", style.soft, anchor="rm")
    text.write((bar - style.row, y), "quality 1", style.soft, anchor="rm")


def scale_bar(overlay: Overlay, text: Text, scale: float, end: tuple[float, float]) -> None:
    """Show how long 5 mm are, at the right end of a line."""
    style, (x, y) = overlay.style, end
    start = x - 5 / 25.4 * PPI * scale
    bar = np.array(((start, y - 4), (start, y), (x, y), (x, y - 4)))
    overlay.line(bar, (*style.soft, 255), style.outline)
    text.write((start - style.row, y), "5 mm", style.soft, anchor="rm")


def png(canvas: Image.Image) -> bytes:
    """Encode a picture, without metadata."""
    out = io.BytesIO()
    canvas.save(out, "PNG", compress_level=6)
    return out.getvalue()
