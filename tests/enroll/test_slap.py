"""Slaps: every finger under its position, at any turn; and what is said of poor ones."""

from dataclasses import replace
from functools import cache

import cv2
import numpy as np
import pytest

from benchmarks.slaps import HandShape, SyntheticSlap, draw_slap, is_right, measure
from benchmarks.synthetic import finger, impression
from enroll.image import GrayImage, read_image
from enroll.nist import Content, decode, pictures
from enroll.slap import ADVICE, Hand, Reason, Segment, segment_slap
from matcher.template import Finger

RIGHT = (Finger.RIGHT_INDEX, Finger.RIGHT_MIDDLE, Finger.RIGHT_RING, Finger.RIGHT_LITTLE)
LEFT = (Finger.LEFT_LITTLE, Finger.LEFT_RING, Finger.LEFT_MIDDLE, Finger.LEFT_INDEX)
CALM = HandShape(spread=(0.3, 0.8), joints=1.0)


def gray(pixels, ppi=500.0):
    return GrayImage(np.array(pixels, np.uint8), ppi, "")


@cache
def drawn(seed=1, hand=Hand.RIGHT, degrees=0.0, missing=()) -> SyntheticSlap:
    return draw_slap(
        seed, hand=hand, rotation=float(np.radians(degrees)), missing=missing, severity=0.2, shape=CALM
    )


@cache
def pressed(seed):
    return impression(finger(seed), 1).pixels


def fingers_of(slap):
    return tuple(one.finger for one in slap.fingers)


def side_by_side(*prints, gap=120):
    height = max(one.shape[0] for one in prints) + 120
    out = np.full((height, sum(one.shape[1] + gap for one in prints)), 252, np.uint8)
    x = gap // 2
    for one in prints:
        out[60 : 60 + one.shape[0], x : x + one.shape[1]] = one
        x += one.shape[1] + gap
    return out


# ---- all as it should be


@pytest.mark.parametrize(
    ("seed", "hand", "degrees"),
    [(1, Hand.RIGHT, 0), (2, Hand.LEFT, 20), (3, Hand.RIGHT, 44), (4, Hand.LEFT, -44), (5, Hand.RIGHT, -25)],
)
def test_every_finger_is_found_at_any_turn(seed, hand, degrees):
    slap = drawn(seed, hand, degrees)
    found = segment_slap(gray(slap.pixels))
    assert is_right(found, slap, least=0.7)
    assert (found.hand, found.reasons) == (hand, ())
    assert found.rotation == pytest.approx(np.radians(degrees), abs=np.radians(9))
    assert (found.hand_llr > 0.5) == (hand is Hand.RIGHT)


def test_a_mirrored_picture_is_of_the_other_hand():
    found = segment_slap(gray(drawn().pixels[:, ::-1]))
    assert (fingers_of(found), found.hand) == (LEFT, Hand.LEFT)
    assert found.hand_llr == pytest.approx(-segment_slap(gray(drawn().pixels)).hand_llr, abs=0.3)


def test_the_same_at_twice_the_resolution():
    large = cv2.resize(drawn().pixels, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    found, coarse = segment_slap(gray(large, 1000.0)), segment_slap(gray(drawn().pixels))
    for one, other in zip(found.fingers, coarse.fingers, strict=True):
        assert one.image.ppi == 1000
        np.testing.assert_allclose(one.polygon / 2, other.polygon, atol=12)


def test_a_cut_out_is_the_box_upright_at_the_resolution_of_the_picture():
    upright, turned = drawn(1, degrees=0.0), drawn(1, degrees=30.0)
    for slap in (upright, turned):
        for one in segment_slap(gray(slap.pixels)).fingers:
            top, bottom = one.polygon[:2], one.polygon[2:]
            height, width = one.image.pixels.shape
            assert width == pytest.approx(np.hypot(*(top[1] - top[0])), abs=1)
            assert height == pytest.approx(np.hypot(*(bottom[0] - top[1])), abs=1)
            assert height > width
            centre = one.image.pixels[height // 4 : -height // 4, width // 4 : -width // 4]
            assert centre.std() > 30  # ridges, not ground


def test_the_middle_joint_is_cut_off_at_the_crease():
    for one, truth in zip(segment_slap(gray(drawn().pixels)).fingers, drawn().fingers, strict=True):
        length = np.hypot(*(one.polygon[3] - one.polygon[0]))
        assert length == pytest.approx(truth.size[1], abs=3 * 500 / 25.4)


def test_noise_faint_prints_and_uneven_light_change_nothing():
    pixels = drawn(2, Hand.LEFT, 20).pixels.astype(np.float64)
    noise = np.random.default_rng(0).normal(0, 20, pixels.shape)
    light = np.linspace(1, 0.5, pixels.shape[1])
    for other in (pixels + noise, 255 - (255 - pixels) * 0.3, pixels * light, 255 - pixels):
        assert fingers_of(segment_slap(gray(np.clip(other, 0, 255)))) == LEFT


def test_equal_pictures_give_equal_results():
    one, other = (segment_slap(gray(drawn().pixels)) for _ in range(2))
    assert one.hand_llr == other.hand_llr
    assert all(
        np.array_equal(a.image.pixels, b.image.pixels)
        for a, b in zip(one.fingers, other.fingers, strict=True)
    )


# ---- fingers that are not there, or too many


@pytest.mark.parametrize("missing", RIGHT)
def test_a_finger_that_is_known_to_be_missing_is_not_looked_for(missing):
    slap = drawn(6, missing=(missing,))
    found = segment_slap(gray(slap.pixels), hand=Hand.RIGHT, missing=[missing])
    assert is_right(found, slap)
    assert Reason.TOO_FEW_FINGERS not in found.reasons


def test_too_few_fingers_are_a_value_with_a_reason():
    found = segment_slap(gray(drawn(6, missing=(Finger.RIGHT_LITTLE,)).pixels), hand=Hand.RIGHT)
    assert len(found.fingers) == 3
    assert Reason.TOO_FEW_FINGERS in found.reasons


def test_a_single_print_of_four_expected_has_no_position():
    found = segment_slap(gray(side_by_side(pressed(1))))
    assert fingers_of(found) == (Finger.UNKNOWN,)
    assert Reason.TOO_FEW_FINGERS in found.reasons


@pytest.mark.parametrize("pixels", [np.full((900, 1200), 255), np.zeros((400, 400)), np.full((64, 64), 128)])
def test_nothing_is_a_value_with_a_reason(pixels):
    found = segment_slap(gray(pixels))
    assert (found.fingers, found.hand, found.reasons) == ((), None, (Reason.NO_FINGERS,))


def test_a_fifth_fingertip_is_said():
    slap = drawn()
    extra = np.full((slap.pixels.shape[0], slap.pixels.shape[1] + 500), 250, np.uint8)
    extra[:, : slap.pixels.shape[1]] = slap.pixels
    extra[20:500, -420:-32] = np.minimum(extra[20:500, -420:-32], pressed(2))
    found = segment_slap(gray(extra), hand=Hand.RIGHT)
    assert Reason.TOO_MANY_FINGERS in found.reasons


def test_the_other_hand_than_stated_is_said():
    found = segment_slap(gray(drawn().pixels), hand=Hand.LEFT)
    assert found.hand is Hand.LEFT  # who states the hand is believed
    assert Reason.HAND_DISAGREES in found.reasons


def test_a_finger_that_the_border_cuts_is_said():
    slap = drawn()
    index = next(one for one in slap.fingers if one.finger == Finger.RIGHT_INDEX)
    found = segment_slap(gray(slap.pixels[:, int(index.middle[0]) :]), hand=Hand.RIGHT)
    assert Reason.FINGER_CUT_OFF in found.reasons


def test_every_reason_has_its_advice():
    assert set(ADVICE) == set(Reason)


# ---- thumbs


def test_two_thumbs_lie_left_and_right():
    found = segment_slap(gray(side_by_side(pressed(1), pressed(2))), thumbs=True)
    assert fingers_of(found) == (Finger.LEFT_THUMB, Finger.RIGHT_THUMB)
    assert (found.hand, found.reasons) == (None, ())


def test_one_thumb_of_a_known_hand():
    found = segment_slap(gray(side_by_side(pressed(1))), thumbs=True, hand=Hand.LEFT)
    assert (fingers_of(found), found.reasons) == ((Finger.LEFT_THUMB,), ())
    assert fingers_of(
        segment_slap(gray(side_by_side(pressed(1))), thumbs=True, missing=[Finger.LEFT_THUMB])
    ) == (Finger.RIGHT_THUMB,)


def test_one_thumb_of_two_has_no_position():
    found = segment_slap(gray(side_by_side(pressed(1))), thumbs=True)
    assert (fingers_of(found), found.reasons) == ((Finger.UNKNOWN,), (Reason.TOO_FEW_FINGERS,))


# ---- segments that a record states


def stated(slap):
    """Boxes along the picture's axes, as in field 14.021."""
    for one in slap.fingers:
        (left, top), (right, bottom) = one.polygon().min(axis=0), one.polygon().max(axis=0)
        yield Segment(one.finger, ((left, top), (right, top), (right, bottom), (left, bottom)))


def test_segments_that_agree_are_used():
    slap = drawn(2, Hand.LEFT, 20)
    given = list(stated(slap))
    found = segment_slap(gray(slap.pixels), given=given)
    assert (fingers_of(found), found.reasons, found.hand) == (LEFT, (), Hand.LEFT)
    by_finger = {segment.finger: np.array(segment.corners) for segment in given}
    for one in found.fingers:
        np.testing.assert_allclose(one.polygon, by_finger[one.finger], rtol=1e-6)


def test_segments_under_exchanged_names_are_used_and_said():
    slap = drawn()
    names = [segment.finger for segment in stated(slap)][::-1]
    given = [replace_finger(segment, name) for segment, name in zip(stated(slap), names, strict=True)]
    found = segment_slap(gray(slap.pixels), given=given)
    assert fingers_of(found) == RIGHT[::-1]
    assert Reason.GIVEN_DISAGREES in found.reasons


def replace_finger(segment, name):
    return segment._replace(finger=name)


def test_segments_that_miss_double_or_lack_a_finger_are_said():
    slap = drawn()
    given = list(stated(slap))
    nowhere = given[0]._replace(corners=((2, 2), (40, 2), (40, 40), (2, 40)))
    assert Reason.GIVEN_WITHOUT_RIDGES in segment_slap(gray(slap.pixels), given=[nowhere, *given[1:]]).reasons
    lacking = segment_slap(gray(slap.pixels), given=given[:3])
    assert (fingers_of(lacking), lacking.reasons) == (RIGHT, (Reason.FOUND_NOT_GIVEN,))
    doubled = segment_slap(gray(slap.pixels), given=[*given, nowhere])
    assert fingers_of(doubled) == RIGHT
    assert Reason.GIVEN_DOUBLED in doubled.reasons


# ---- many, and real ones


@pytest.mark.soak
def test_of_200_synthetic_slaps_nearly_all_are_right():
    done = list(measure(200))
    assert np.mean([is_right(slap, drawn) for drawn, slap, _ in done]) >= 0.97
    assert np.mean([slap.hand == drawn.hand for drawn, slap, _ in done]) >= 0.97


def turned(pixels, degrees):
    height, width = pixels.shape
    place = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    reach = int(np.hypot(height, width))
    place[:, 2] += (reach - width) / 2, (reach - height) / 2
    return cv2.warpAffine(pixels, place, (reach, reach), borderValue=255)


@pytest.mark.datasets
@pytest.mark.parametrize("degrees", [0, 15, -15, 30, -30])
@pytest.mark.parametrize(("name", "fingers"), [("fp-13", RIGHT), ("fp-14", LEFT)])
def test_real_slaps_of_a_card(datasets, name, fingers, degrees):
    image = read_image((datasets / "formats" / "nist_sample" / f"{name}.png").read_bytes(), ppi=500)
    upright = replace(image, pixels=turned(image.pixels, degrees))
    assert fingers_of(segment_slap(upright)) == fingers
    mirrored = tuple(Finger((f + 4) % 10 + 1) for f in fingers[::-1])  # the same finger of the other hand
    assert fingers_of(segment_slap(replace(upright, pixels=upright.pixels[:, ::-1].copy()))) == mirrored


@pytest.mark.datasets
@pytest.mark.parametrize(
    "name",
    ["nist/type-4-slaps.an2", "nist/type-4-tpcard.an2", "nist/type-14-tpcard-nqm.an2", "ebts/NISTFile2.ebts"],
)
def test_every_slap_of_real_transactions(datasets, name):
    transaction = decode((datasets / "formats" / name).read_bytes())
    slaps = [one for one in pictures(transaction) if one.content is Content.SLAP or one.position in (11, 12)]
    assert slaps
    for one in slaps:
        thumbs = one.position in (11, 12)
        hand = None if not thumbs else Hand.RIGHT if one.position == 11 else Hand.LEFT
        found = segment_slap(one.image(), hand=hand, thumbs=thumbs)
        assert set(fingers_of(found)) == set(one.fingers)


@pytest.mark.datasets
def test_a_finger_of_all_joints_is_cut_at_its_first_crease(datasets):
    transaction = decode((datasets / "formats" / "nist" / "type-14-tip-eji-wsq.an2").read_bytes())
    joints = [one for one in pictures(transaction) if "EJI" in str(one.record.items(14))]
    assert len(joints) == 4
    for one in joints:
        last = next(items for items in one.record.items(15) if items[1] == "DST")
        top, bottom = (int(value) for value in last[4:6])
        found = segment_slap(one.image(), thumbs=True, hand=Hand.RIGHT)
        ends = found.fingers[0].polygon[:, 1]
        assert ends[:2].mean() == pytest.approx(top, abs=70)
        assert ends[2:].mean() == pytest.approx(bottom, abs=70)
