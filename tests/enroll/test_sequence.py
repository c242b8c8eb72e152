"""The sequence check: swapped, doubled and missing fingers are found, and poor prints are said to be poor."""

from functools import cache

import numpy as np
import pytest

from benchmarks.synthetic import Conditions, finger, impression
from enroll.image import read_image
from enroll.pipeline import extract
from enroll.sequence import ADVICE, Kind, Side, check_sequence
from enroll.slap import Hand, segment_slap
from matcher.calibration import shipped
from matcher.template import Finger, Template

RIGHT = (Finger.RIGHT_THUMB, Finger.RIGHT_INDEX, Finger.RIGHT_MIDDLE, Finger.RIGHT_RING, Finger.RIGHT_LITTLE)


grown = cache(finger)


@cache
def template(seed: int, number: int) -> Template:
    """The true minutiae that an impression of a synthetic finger shows."""
    worn = Conditions.random(np.random.default_rng([seed, number]), 0.3)
    return impression(grown(seed), number, conditions=worn).template


@cache
def hand(number: int) -> dict[Finger, Template]:
    """One impression of every finger of a made-up right hand."""
    return {position: template(300 + position, number) for position in RIGHT}


def kinds(sequence):
    return {(one.side, one.finger): (one.kind, one.other) for one in sequence.findings}


def test_prints_in_order_agree():
    sequence = check_sequence(hand(1), hand(2))
    assert kinds(sequence) == {(Side.ROLLED, f): (Kind.AGREES, f) for f in RIGHT}
    assert sequence.in_order
    assert sequence.calibration_id == shipped().id
    assert all(one.llr == one.own_llr and one.llr > 3 for one in sequence.findings)


def test_swapped_fingers_are_named_with_their_evidence():
    a, b = Finger.RIGHT_INDEX, Finger.RIGHT_RING
    rolled = hand(1) | {a: hand(1)[b], b: hand(1)[a]}
    sequence = check_sequence(rolled, hand(2))
    found = kinds(sequence)
    assert found[Side.ROLLED, a] == (Kind.SWAPPED, b)
    assert found[Side.ROLLED, b] == (Kind.SWAPPED, a)
    assert [k for k, _ in found.values()].count(Kind.AGREES) == 3
    assert not sequence.in_order
    swapped = next(one for one in sequence.findings if one.finger == a)
    assert swapped.llr > 3 > swapped.own_llr


def test_three_fingers_in_a_ring_are_all_found():
    a, b, c = RIGHT[1:4]
    rolled = hand(1) | {a: hand(1)[b], b: hand(1)[c], c: hand(1)[a]}
    found = kinds(check_sequence(rolled, hand(2)))
    assert [found[Side.ROLLED, f][1] for f in (a, b, c)] == [b, c, a]


def test_one_finger_in_two_boxes_is_doubled():
    a, b = Finger.RIGHT_MIDDLE, Finger.RIGHT_RING
    rolled = hand(1) | {b: template(300 + a, 3)}
    found = kinds(check_sequence(rolled, hand(2)))
    assert found[Side.ROLLED, b] == (Kind.DOUBLED, a)
    assert found[Side.ROLLED, a] == (Kind.AGREES, a)


def test_a_finger_that_one_side_lacks_is_missing_there():
    rolled, plain = dict(hand(1)), dict(hand(2))
    del rolled[Finger.RIGHT_LITTLE], plain[Finger.RIGHT_THUMB]
    sequence = check_sequence(rolled, plain)
    found = kinds(sequence)
    assert found[Side.ROLLED, Finger.RIGHT_LITTLE] == (Kind.MISSING, None)
    assert found[Side.PLAIN, Finger.RIGHT_THUMB] == (Kind.MISSING, None)
    assert sequence.in_order


def test_another_person_matches_nothing():
    rolled = hand(1) | {Finger.RIGHT_INDEX: template(999, 1)}
    found = kinds(check_sequence(rolled, hand(2)))
    assert found[Side.ROLLED, Finger.RIGHT_INDEX] == (Kind.UNMATCHED, None)


def test_a_print_of_a_few_minutiae_is_too_poor_to_say():
    rolled = hand(1) | {Finger.RIGHT_INDEX: template(999, 1).best(8)}
    sequence = check_sequence(rolled, hand(2))
    assert kinds(sequence)[Side.ROLLED, Finger.RIGHT_INDEX] == (Kind.TOO_POOR, None)
    assert sequence.in_order  # a poor print speaks for no other order


def test_nothing_to_check_is_a_value():
    assert check_sequence({}, {}).findings == ()
    assert {one.kind for one in check_sequence({}, hand(2)).findings} == {Kind.MISSING}
    assert set(ADVICE) == set(Kind)


@pytest.mark.datasets
def test_a_real_hand_is_in_order_and_an_exchange_on_it_is_found(datasets):
    folder = datasets / "formats" / "nist_sample"
    read = {n: read_image((folder / f"fp-{n}.png").read_bytes(), ppi=500) for n in (*range(1, 6), 11, 13)}
    rolled = {Finger(n): extract(read[n]).template for n in range(1, 6)}
    plain = {}
    for n in (11, 13):
        for one in segment_slap(read[n], hand=Hand.RIGHT, thumbs=n == 11).fingers:
            plain[one.finger] = extract(one.image).template
    assert kinds(check_sequence(rolled, plain)) == {(Side.ROLLED, f): (Kind.AGREES, f) for f in rolled}
    a, b = Finger.RIGHT_INDEX, Finger.RIGHT_MIDDLE
    found = kinds(check_sequence({a: rolled[b], b: rolled[a]}, plain))
    assert (found[Side.ROLLED, a], found[Side.ROLLED, b]) == ((Kind.SWAPPED, b), (Kind.SWAPPED, a))
