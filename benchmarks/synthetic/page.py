"""The page of prints that the documentation shows: `python -m benchmarks.synthetic.page OUT.png`."""

import sys
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from benchmarks.synthetic.finger import SyntheticFinger, finger
from benchmarks.synthetic.pattern import Pattern
from benchmarks.synthetic.press import Conditions, impression

SEVERITIES = (None, 0.2, 0.5, 0.9)
"""Of the rows of the page; None is a clean impression."""


def page(path: Path, *, seed: int = 2002, width: int = 216) -> None:
    """Write a page with one finger of each class to a column and one impression of each severity to a row.

    Parameters
    ----------
    path : Path
        Of the PNG.
    seed : int
        Of the first finger; the others follow it.
    width : int
        Of one print on the page, pixels.
    """
    fingers = [finger(seed + i, pattern=pattern) for i, pattern in enumerate(Pattern)]
    prints = np.hstack([_column(made, width) for made in fingers])
    sheet = Image.new("L", (prints.shape[1], prints.shape[0] + 28), 255)
    sheet.paste(Image.fromarray(prints), (0, 28))
    draw = ImageDraw.Draw(sheet)
    for i, made in enumerate(fingers):
        draw.text(((i + 0.5) * width, 14), made.pattern, 0, font=ImageFont.load_default(16), anchor="mm")
    sheet.save(path, optimize=True)


def _column(made: SyntheticFinger, width: int) -> NDArray[np.uint8]:
    """Return a finger's impressions, one under the other."""
    prints = []
    for number, severity in enumerate(SEVERITIES):
        rng = np.random.default_rng([made.seed, number])
        conditions = Conditions.clean() if severity is None else Conditions.random(rng, severity)
        pixels = impression(made, number, conditions=conditions).pixels
        size = (width, round(width * pixels.shape[0] / pixels.shape[1]))
        prints.append(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA))
    return np.asarray(np.vstack(prints), np.uint8)


if __name__ == "__main__":
    page(Path(sys.argv[1]))
