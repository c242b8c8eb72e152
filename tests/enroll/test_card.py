"""A scanned ten-print card: its cells and single prints, at a slant, upside down, with printing and lines."""

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
import pytest

from benchmarks.slaps import HandShape, draw_slap
from benchmarks.synthetic import Conditions, finger, impression
from enroll.card import ADVICE, Reason, read_card
from enroll.image import GrayImage, read_image
from enroll.pipeline import extract
from enroll.slap import Hand
from matcher.compare import compare, prepare
from matcher.template import Finger, Impression

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
    pixels = draw_slap(11, hand=hand, rotation=0.0, severity=0.1, shape=SHORT).pixels
    white = np.clip(pixels.astype(np.float64) * 255 / np.median(pixels), 0, 255).astype(np.uint8)
    return white[:960, :1560]


@cache
def composed():
    rolled = {int(f): pressed(40 + f % 5) for f in ROLLED}
    return fill(
        Sheet.empty(), rolled, (four(Hand.LEFT), pressed(40), pressed(41), four(Hand.RIGHT)), shifts=True
    )


def positions(card, impression):
    return [one.finger for one in card.prints if one.impression == impression]


@pytest.mark.parametrize(("degrees", "upside_down"), [(0.0, False), (2.3, False), (-4.0, True)])
def test_every_print_of_a_card_is_found(degrees, upside_down):
    card = read_card(composed().scan(degrees, upside_down=upside_down))
    assert positions(card, Impression.NONLIVE_ROLLED) == list(ROLLED)
    assert sorted(positions(card, Impression.NONLIVE_PLAIN)) == list(ROLLED)
    assert card.reasons == ((Reason.UPSIDE_DOWN,) if upside_down else ())
    turn = np.radians(degrees) + (np.pi if upside_down else 0)
    assert np.cos(card.rotation - turn) > np.cos(np.radians(0.3))
    assert card.fit > 0.7


def test_a_cell_is_where_it_was_printed():
    card = read_card(composed().scan(2.0))
    assert len(card.cells) == 14
    width, height = composed().pixels.shape[::-1]
    cos, sin = np.cos(np.radians(2)), np.sin(np.radians(2))
    for n, cell in enumerate(card.cells[:10]):
        x = (0.4 + n % 5 * 1.6) * INCH - width / 2
        y = (1.0 + n // 5 * 1.5) * INCH - height / 2
        corner = cos * x + sin * y + width / 2, -sin * x + cos * y + height / 2
        np.testing.assert_allclose(cell.corners[0], corner, atol=20)


def test_lines_and_printing_are_gone_from_the_cut_outs():
    card = read_card(composed().scan(1.0, noise=0.0))
    whole = pressed(41)
    for one in card.prints[:5]:
        height, width = one.image.pixels.shape
        assert abs(height - 400) < 90  # the print, without the words above it
        assert abs(width - 300) < 90
        corner = one.image.pixels[:25, :25]
        assert corner.std() < 3
    assert whole.shape > (400, 300)


def test_an_empty_cell_is_a_value_with_a_reason():
    rolled = {int(f): pressed(40 + f % 5) for f in ROLLED if f != Finger.LEFT_RING}
    sheet = fill(Sheet.empty(), rolled, (four(Hand.LEFT), pressed(40), None, four(Hand.RIGHT)))
    card = read_card(sheet.scan())
    assert Reason.CELL_EMPTY in card.reasons
    empty = [cell.fingers for cell in card.cells if Reason.CELL_EMPTY in cell.reasons]
    assert empty == [(Finger.LEFT_RING,), (Finger.RIGHT_THUMB,)]
    assert Finger.LEFT_RING not in positions(card, Impression.NONLIVE_ROLLED)


def test_what_is_no_form_is_a_value_with_a_reason():
    slap = draw_slap(3, hand=Hand.RIGHT, rotation=0.0).pixels
    for pixels in (slap, np.full((900, 1200), 255)):
        card = read_card(GrayImage(np.array(pixels, np.uint8), 500.0, ""))
        assert (card.prints, card.reasons) == ((), (Reason.FORM_NOT_FOUND,))
    assert set(ADVICE) == set(Reason)


def test_a_card_at_1000_ppi():
    scan = composed().scan(1.0)
    large = cv2.resize(scan.pixels, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)
    card = read_card(GrayImage(large, 1000.0, ""))
    assert len(card.prints) == 20
    assert all(one.image.ppi == 1000 for one in card.prints)


@pytest.mark.datasets
@pytest.mark.parametrize(("degrees", "upside_down"), [(-1.7, False), (3.0, True)])
def test_the_prints_of_a_real_card_on_a_form(datasets, degrees, upside_down):
    folder = datasets / "formats" / "nist_sample"
    read = {n: read_image((folder / f"fp-{n}.png").read_bytes(), ppi=500).pixels for n in range(1, 15)}
    inner = {n: pixels[30:-30, 30:-30] for n, pixels in read.items()}  # without the lines of their own form
    sheet = fill(Sheet.empty(), {n: inner[n] for n in range(1, 11)}, [inner[n] for n in (14, 12, 11, 13)])
    card = read_card(sheet.scan(degrees, upside_down=upside_down))
    assert positions(card, Impression.NONLIVE_ROLLED) == list(ROLLED)
    assert sorted(positions(card, Impression.NONLIVE_PLAIN)) == list(ROLLED)
    one = card.prints[3]  # what was cut out and cleaned is still that finger
    whole = prepare(extract(GrayImage(read[int(one.finger)], 500.0, "")).template)
    assert compare(prepare(extract(one.image).template), whole).score > 3
