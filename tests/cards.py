"""Ten-print cards composed of synthetic prints: a form, prints laid on it, a scan of it."""

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from benchmarks.slaps import HandShape, draw_slap
from benchmarks.synthetic import Conditions, finger, impression
from enroll.image import GrayImage
from enroll.slap import Hand
from matcher.template import Finger

INCH = 500
ROLLED = tuple(Finger(n) for n in range(1, 11))
SHORT = HandShape(  # fingers that fit a cell two inches high
    knuckles=((0.0, 0.0), (20.0, -3.0), (39.0, -1.0), (57.0, 1.0)),
    lengths=(72.0, 76.0, 73.0, 64.0),
    sizes=(0.9, 0.92, 0.9, 0.8),
    fan=(-3.0, 0.0, 2.0, 5.0),
    size=0.0,
    length=1.0,
    spread=(0.3, 0.8),
    joints=0.0,
)


@dataclass
class Sheet:
    """A form of 8 x 5 inches on a sheet with a margin, onto which prints are laid."""

    pixels: np.ndarray

    @classmethod
    def empty(cls, margin=0.4, title=1.0):
        pixels = np.full((round((5 + margin + title) * INCH), round((8 + 2 * margin) * INCH)), 244, np.uint8)
        sheet = cls(pixels)
        x, y = margin * INCH, title * INCH
        for row in (0, 1.5, 3, 5):
            sheet.line((x, y + row * INCH), (x + 8 * INCH, y + row * INCH))
        for column in (0, 1.6, 3.2, 4.8, 6.4, 8):
            sheet.line((x + column * INCH, y), (x + column * INCH, y + 3 * INCH))
        for column in (0, 3.2, 4, 4.8, 8):
            sheet.line((x + column * INCH, y + 3 * INCH), (x + column * INCH, y + 5 * INCH))
        for n, name in enumerate(("R. THUMB", "R. INDEX", "R. MIDDLE", "R. RING", "R. LITTLE") * 2):
            at = (x + (n % 5) * 1.6 * INCH, y + (n // 5) * 1.5 * INCH)
            sheet.text(f"{n + 1}. {name}", at)
        for column, name in (
            (0, "LEFT FOUR FINGERS TAKEN SIMULTANEOUSLY"),
            (3.2, "L. THUMB"),
            (4, "R. THUMB"),
        ):
            sheet.text(name, (x + column * INCH, y + 3 * INCH))
        sheet.text("SIGNATURE OF PERSON FINGERPRINTED", (x, y - 0.7 * INCH))
        return sheet

    def line(self, a, b):
        cv2.line(self.pixels, *(tuple(round(v) for v in p) for p in (a, b)), 60, 4)

    def text(self, words, corner):
        at = round(corner[0]) + 14, round(corner[1]) + 42
        cv2.putText(self.pixels, words, at, cv2.FONT_HERSHEY_SIMPLEX, 0.9, 60, 2, cv2.LINE_AA)

    def lay(self, print_, left, top, width, height, *, margin=0.4, title=1.0, shift=(0, 0)):
        """Lay a print in the middle of a cell (inches), as ink lies on paper."""
        x = round((margin + left + width / 2) * INCH) - print_.shape[1] // 2 + shift[0]
        y = round((title + top + height / 2) * INCH) - print_.shape[0] // 2 + shift[1]
        part = self.pixels[y : y + print_.shape[0], x : x + print_.shape[1]]
        part[:] = part * (print_[: part.shape[0], : part.shape[1]] / 255.0)

    def scan(self, degrees=0.0, *, upside_down=False, noise=3.0):
        """Turn the sheet counter-clockwise, as a careless scan does."""
        height, width = self.pixels.shape
        place = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
        out = cv2.warpAffine(self.pixels, place, (width, height), borderValue=235).astype(np.float64)
        out += np.random.default_rng(0).normal(0, noise, out.shape)
        out = np.clip(out[::-1, ::-1] if upside_down else out, 0, 255).astype(np.uint8)
        return GrayImage(np.ascontiguousarray(out), float(INCH), "")


def fill(sheet, rolled, plain, shifts=False):
    rng = np.random.default_rng(7)
    for n, print_ in rolled.items():
        shift = tuple(int(v) for v in rng.integers(-50, 51, 2)) if shifts else (0, 30)
        sheet.lay(print_, (n - 1) % 5 * 1.6, (n - 1) // 5 * 1.5, 1.6, 1.5, shift=shift)
    for k, (left, width) in enumerate(((0, 3.2), (3.2, 0.8), (4, 0.8), (4.8, 3.2))):
        if plain[k] is not None:
            sheet.lay(plain[k], left, 3, width, 2, shift=(0, 20))
    return sheet


@cache
def pressed(seed):
    conditions = Conditions(background=255.0, contact=(150.0, 200.0), size=(380, 460))
    return impression(finger(seed), 1, conditions=conditions).pixels


@cache
def four(hand):
    """Four fingers of a right hand; those of the left are their mirror image, at half the drawing."""
    if hand is Hand.LEFT:
        return np.ascontiguousarray(four(Hand.RIGHT)[:, ::-1])
    pixels = draw_slap(11, hand=hand, rotation=0.0, severity=0.1, shape=SHORT).pixels
    white = np.clip(pixels.astype(np.float64) * 255 / np.median(pixels), 0, 255).astype(np.uint8)
    return white[:960, :1560]


@cache
def composed():
    rolled = {int(f): pressed(40 + f % 5) for f in ROLLED}
    return fill(
        Sheet.empty(), rolled, (four(Hand.LEFT), pressed(40), pressed(41), four(Hand.RIGHT)), shifts=True
    )
