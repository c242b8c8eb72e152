"""The sequence check at an enrolment: what speaks against a finger is told beside its print, and no more."""

from functools import cache
from pathlib import Path

import pytest
from archives import Archive, enroller
from minutiae import finger, mate

from matcher.codecs import encode
from matcher.template import Finger, Impression
from papilar.archive.item import Item, Line, Result
from papilar.node import Node
from papilar.prints import read_prints
from papilar.requests import PrintInput
from papilar.sequence import REASONS, in_sequence

ROLLED, PLAIN = Impression.NONLIVE_ROLLED, Impression.NONLIVE_PLAIN
TEN = tuple(map(Finger, range(1, 11)))
RIGHT = TEN[1:5]


@cache
def record(code: int, impression: Impression) -> bytes:
    """One impression of a made-up finger."""
    whole = finger(500 + code, 40)
    return encode(whole if impression is ROLLED else mate(whole, code)[0], "papilar-2")


def prints(rolled: dict[Finger, int], plain: dict[Finger, int]) -> list[PrintInput]:
    """Prints of an encounter: by the position under which they stand, whose they are."""
    sides = ((ROLLED, rolled), (PLAIN, plain))
    return [
        PrintInput(position, kind, template=record(of, kind))
        for kind, side in sides
        for position, of in side.items()
    ]


def orderly(fingers: tuple[Finger, ...] = TEN) -> dict[Finger, int]:
    return {one: int(one) for one in fingers}


def told(given: list[PrintInput]) -> dict[tuple[bool, int], str]:
    """Return what is said of each print of which something is: whether rolled, its finger, the words."""
    read = read_prints(given)
    checked = in_sequence(read)
    assert [one._replace(assessment=None) for one in checked] == [
        one._replace(assessment=None) for one in read
    ]
    assert [one.assessment.accepted for one in checked] == [one.assessment.accepted for one in read]
    return {
        (one.template.impression is ROLLED, int(one.assessment.finger)): " ".join(words)
        for one in checked
        if (words := [word for word, _ in one.assessment.reasons])
    }


def test_of_an_orderly_card_nothing_is_said() -> None:
    assert told(prints(orderly(), orderly())) == {}


def test_a_swapped_pair_is_told_with_what_it_is_like() -> None:
    given = prints(orderly() | {Finger(2): 4, Finger(4): 2}, orderly())
    assert told(given) == {(True, 2): "SEQUENCE_SWAPPED", (True, 4): "SEQUENCE_SWAPPED"}
    (_, advice) = in_sequence(read_prints(given))[1].assessment.reasons[0]
    assert advice.startswith(REASONS["SEQUENCE_SWAPPED"])
    assert "right ring" in advice


def test_one_finger_in_two_boxes_is_told() -> None:
    assert told(prints(orderly() | {Finger(4): 3}, orderly())) == {(True, 4): "SEQUENCE_DOUBLED"}


def test_a_print_of_somebody_else_is_told() -> None:
    assert told(prints(orderly() | {Finger(3): 77}, orderly())) == {(True, 3): "SEQUENCE_UNMATCHED"}


def test_a_finger_that_a_slap_lacks_is_told_of_its_rolled_print_and_the_other_way_round() -> None:
    lacking = orderly(tuple(one for one in TEN if one != Finger.RIGHT_RING))
    assert told(prints(orderly(), lacking)) == {(True, 4): "SEQUENCE_MISSING"}
    assert told(prints(lacking, orderly())) == {(False, 4): "SEQUENCE_MISSING"}


def test_of_hands_that_were_taken_in_one_way_alone_nothing_is_missing() -> None:
    assert told(prints(orderly(), orderly(RIGHT))) == {}


@pytest.mark.parametrize("plain", [(), (Finger(2),)])
def test_too_few_to_be_in_each_others_places_are_not_compared(plain: tuple[Finger, ...]) -> None:
    wrong = orderly() | {Finger(2): 4, Finger(4): 2}
    assert told(prints(wrong, orderly(plain))) == {}


def test_prints_of_no_known_finger_or_kind_are_left_alone() -> None:
    wrong = prints(orderly() | {Finger(2): 4, Finger(4): 2}, orderly())
    unknown = [PrintInput(Finger.UNKNOWN, one.impression, template=one.template) for one in wrong]
    latent = [PrintInput(one.finger, Impression.UNKNOWN, template=one.template) for one in wrong]
    assert told(unknown) == told(latent) == {}


def lines(folder: Path, given: list[PrintInput]) -> list[Line]:
    """Enrol a card of templates out of an archive, and return the lines of its receipt."""
    items = [
        Item(
            f"card#{number}",
            "ana",
            "1",
            one.finger,
            lambda one=one: one.template or b"",
            record=True,
            kind=one.impression,
        )
        for number, one in enumerate(given)
    ]
    with Node(folder / "g", create=True) as node:
        archive = Archive(folder / "g", in_gallery=True)
        return list(archive.lines(items, enroller(node), prepare=lambda given: (given, ())).values())


def test_a_swapped_pair_of_an_archive_is_in_and_its_receipt_says_so(tmp_path: Path) -> None:
    found = lines(tmp_path, prints(orderly() | {Finger(2): 4, Finger(4): 2}, orderly()))
    assert {line.result for line in found} == {Result.ENROLLED}
    said = {line.file: line for line in found if line.reason}
    assert {name: line.reason for name, line in said.items()} == {
        "card#1": "SEQUENCE_SWAPPED",
        "card#3": "SEQUENCE_SWAPPED",
    }
    assert "like the right ring" in said["card#1"].message


def test_an_orderly_card_of_an_archive_says_nothing(tmp_path: Path) -> None:
    found = lines(tmp_path, prints(orderly(), orderly()))
    assert {(line.result, line.reason) for line in found} == {(Result.ENROLLED, "")}
