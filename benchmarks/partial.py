"""Parts of prints: what a small sensor, a slipped finger or a mark leaves, cut out of whole images.

A part is a disc about a minutia that is drawn, the rest of the image covered with the median of its border. A
draw that the pipeline rejects is made anew with a disc that is a tenth larger, as a finger is laid on again.
Equal images give equal parts.
"""

import zlib
from dataclasses import replace

import numpy as np

from enroll.image import GrayImage
from enroll.pipeline import extract
from matcher.template import Template

RADII = 45.0, 110.0
"""Pixels at 500 ppi, 2.3 to 5.6 mm; the logarithm of a disc's radius is drawn evenly between them."""

DRAWS = 12
GROWTH = 1.1


def part_of(image: GrayImage, template: Template) -> Template | None:
    """Return what is extracted of a part of an image; None where every draw was rejected.

    Parameters
    ----------
    image : GrayImage
    template : Template
        Of the whole image, pixels at 500 ppi; at least one minutia.
    """
    random, scale = np.random.default_rng(zlib.crc32(image.pixels.tobytes())), image.ppi / 500
    radius = np.exp(random.uniform(*np.log(RADII)))
    for draw in range(DRAWS):
        centre = template.xy[random.integers(len(template.xy))] * scale
        found = extract(_disc(image, centre, radius * GROWTH**draw * scale))
        if not found.rejected:
            return found.template
    return None


def _disc(image: GrayImage, centre: np.ndarray, radius: float) -> GrayImage:
    pixels = image.pixels
    border = np.concatenate((pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]))
    y, x = np.ogrid[: pixels.shape[0], : pixels.shape[1]]
    inside = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 <= radius**2
    return replace(image, pixels=np.where(inside, pixels, np.uint8(np.median(border))))
