"""A scanned ten-print card: its cells and single prints, at a slant, upside down, with printing and lines."""

import cv2
import numpy as np
import pytest
from cards import INCH, ROLLED, Sheet, composed, fill, four, pressed

from benchmarks.slaps import draw_slap
from enroll.card import ADVICE, Reason, read_card
from enroll.image import GrayImage, read_image
from enroll.pipeline import extract
from enroll.slap import Hand
from matcher.compare import compare, prepare
from matcher.template import Finger, Impression


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
def test_the_prints_of_a_real_card_on_a_form_at_a_slant_and_upside_down(datasets):
    folder = datasets / "formats" / "nist_sample"
    read = {n: read_image((folder / f"fp-{n}.png").read_bytes(), ppi=500).pixels for n in range(1, 15)}
    inner = {n: pixels[30:-30, 30:-30] for n, pixels in read.items()}  # without the lines of their own form
    sheet = fill(Sheet.empty(), {n: inner[n] for n in range(1, 11)}, [inner[n] for n in (14, 12, 11, 13)])
    card = read_card(sheet.scan(3.0, upside_down=True))
    assert positions(card, Impression.NONLIVE_ROLLED) == list(ROLLED)
    assert sorted(positions(card, Impression.NONLIVE_PLAIN)) == list(ROLLED)
    one = card.prints[3]  # what was cut out and cleaned is still that finger
    whole = prepare(extract(GrayImage(read[int(one.finger)], 500.0, "")).template)
    assert compare(prepare(extract(one.image).template), whole).score > 3
