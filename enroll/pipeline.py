"""From an image to a template and a verdict on its quality: one straight line.

Keys of `trace`: `pixels` (at 500 ppi), `foreground`, `position`, `direction`, `minutia_quality` (the
network's planes), `template`, `quality`.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

from numpy.typing import NDArray

from enroll.errors import ImageTooLarge
from enroll.image import GrayImage, resample
from enroll.leader import Leader, load
from enroll.minutiae import believed, to_template
from enroll.polarity import white_ridges
from enroll.quality import Quality, assess
from enroll.ridges import describe
from enroll.segment import survey
from matcher.template import LATENTS, PPI, Finger, Impression, Template

Trace = Callable[[str, NDArray[Any] | Mapping[str, object]], None]

REVISION = 1
"""Raise it with every change by which the same image gives another template: of the foreground, of what
becomes a minutia, of the ridge description. The network has a version of its own."""

EXTRACTOR = hashlib.sha256(f"{Leader.version}:{REVISION}".encode()).hexdigest()[:16]
"""Version of the extractor, 16 hexadecimal digits, for a template's provenance."""

MOST_PIXELS = 2_600_000
"""At 500 ppi: a four-finger slap of 3.2 x 3 inches has 2.4 million. The network takes 0.8 kB for each."""

_SMALL = 23_000
"""Pixels of foreground, 60 square millimetres: of less, the network sees the whole image, as of a latent."""

_LIT = frozenset({Impression.LIVE_CONTACTLESS_PLAIN})
"""Photographs of fingers: how dark the ground behind one is says nothing of its ridges."""


@dataclass(frozen=True, slots=True, eq=False)
class Extraction:
    """What was found in one image of a print.

    Attributes
    ----------
    template : Template
        With `print_quality` set to the quality's score.
    quality : Quality
    image : GrayImage
        The image at 500 ppi, on which the template's positions lie. Its ridges are dark: where they were
        surely white it is inverted, which its warnings and the reason `WHITE_RIDGES` say.
    """

    template: Template
    quality: Quality
    image: GrayImage

    @property
    def rejected(self) -> bool:
        """Whether the print is too poor to be enrolled or searched with; a value, no error."""
        return self.quality.rejected


@cache
def network() -> Leader:
    """Return the network of this process, loaded once; safe to call from every thread."""
    return load()


def extract(
    image: GrayImage,
    *,
    finger: Finger = Finger.UNKNOWN,
    impression: Impression = Impression.UNKNOWN,
    trace: Trace | None = None,
) -> Extraction:
    """Extract the template of a print.

    Parameters
    ----------
    image : GrayImage
        At any resolution.
    finger, impression
        What is known of the print; goes into the template as it is.
    trace : callable, optional
        Called as `trace(key, value)`; see the module.

    Returns
    -------
    Extraction
        A white image or a photograph of something else gives one that is `rejected`; of a latent's
        impression, only a blank one or one with hardly a minutia.

    Raises
    ------
    ImageTooLarge
        More than `MOST_PIXELS` at 500 ppi: a sheet, not a print.
    """
    normal = resample(image)
    _check_extent(normal)
    mask, extent = survey(normal.pixels)
    if impression in LATENTS or mask.sum() < _SMALL:
        extent = None
    planes = network().planes(normal.pixels, extent=extent)
    white = impression not in _LIT and white_ridges(normal.pixels, mask, planes)
    if white:
        normal = _inverted(normal)
        planes = network().planes(normal.pixels, extent=extent)
    near = believed(planes, mask)
    template = to_template(planes, finger=finger, impression=impression, mask=near)
    quality = assess(normal.pixels, mask, template, ppi=image.ppi, white=white)
    ridges = describe(normal.pixels, mask)
    template = replace(template, print_quality=quality.score, ridges=ridges)
    if trace is not None:
        trace("pixels", normal.pixels)
        trace("foreground", mask)
        trace("position", planes.position)
        trace("direction", planes.direction)
        trace("minutia_quality", planes.quality)
        trace("template", asdict(template))
        trace("quality", asdict(quality))
    return Extraction(template, quality, normal)


def _inverted(image: GrayImage) -> GrayImage:
    note = "its ridges were white: the image was inverted"
    return replace(image, pixels=255 - image.pixels, warnings=(*image.warnings, note))


def _check_extent(image: GrayImage) -> None:
    if image.pixels.size > MOST_PIXELS:
        height, width = image.pixels.shape
        raise ImageTooLarge(
            f"{width} x {height} pixels at {PPI} ppi is no single print",
            remedy="cut the prints out of the sheet, or state the true resolution (ppi)",
        )
