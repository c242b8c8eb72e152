"""Cards and slaps in sources: each finger is an item, cut once, and what is doubtful is told of each."""

import io
import tarfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cards import ROLLED, composed, four, pressed

from enroll import slap as slaps
from enroll.card import Cell, Reason
from enroll.image import GrayImage, encode_png, read_image
from enroll.slap import Hand
from matcher.errors import PapilarError
from matcher.template import Finger, Impression
from papilar.archive.cut import Cut, SheetInput, Single, cut_sheet
from papilar.archive.item import Item
from papilar.archive.sources import Sheet, open_source
from papilar.errors import SourceInvalid, WorkerDied

RIGHT, LEFT = (2, 3, 4, 5), (7, 8, 9, 10)


@cache
def card() -> bytes:
    return encode_png(composed().scan(1.0))


@cache
def slap(hand: Hand) -> bytes:
    return encode_png(GrayImage(four(hand), 500.0, ""))


@cache
def thumbs() -> bytes:
    both = np.full((620, 1100), 252, np.uint8)
    for seed, left in ((40, 80), (41, 620)):
        print_ = pressed(seed)
        both[60 : 60 + print_.shape[0], left : left + print_.shape[1]] = print_
    return encode_png(GrayImage(both, 500.0, ""))


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    (tmp_path / "a").mkdir()
    return tmp_path / "a"


def manifest(archive: Path, *rows: str) -> Path:
    (archive / "m.csv").write_text("\n".join(["path,person,finger,ppi", *rows, ""]))
    return archive / "m.csv"


def reason_of(item: Item) -> str:
    """Return why an item cannot be read; empty where it can."""
    try:
        assert read_image(item.read()).ppi == 500
    except PapilarError as error:
        return error.reason
    return ""


def test_a_card_has_an_item_for_every_cell(archive: Path) -> None:
    (archive / "x_2.png").write_bytes(card())
    items = list(open_source(archive, sheet=Sheet.CARD))
    assert [item.name for item in items][:2] == ["x_2.png#right_thumb_rolled", "x_2.png#right_index_rolled"]
    assert [(item.kind, item.finger) for item in items] == [
        (kind, finger) for kind in (Impression.NONLIVE_ROLLED, Impression.NONLIVE_PLAIN) for finger in ROLLED
    ]
    assert {item.encounter for item in items} == {("x", "2")}
    assert len({item.version for item in items}) == 1
    assert [reason_of(item) for item in items] == [""] * 20


def test_names_are_the_same_each_time_and_none_is_twice(archive: Path) -> None:
    (archive / "x.png").write_bytes(card())
    source = open_source(archive, sheet=Sheet.CARD)
    names = [item.name for item in source]
    assert len({*names}) == 20
    assert [item.name for item in source] == names


@pytest.mark.parametrize(
    ("said", "data", "fingers"),
    [
        ("right slap", slap(Hand.RIGHT), RIGHT),
        ("13", slap(Hand.RIGHT), RIGHT),
        ("Left-Slap", slap(Hand.LEFT), LEFT),
        ("14", slap(Hand.LEFT), LEFT),
        ("thumbs", thumbs(), (1, 6)),
        ("15", thumbs(), (1, 6)),
    ],
)
def test_a_manifest_says_which_file_is_a_slap(
    archive: Path, said: str, data: bytes, fingers: tuple[int, ...]
) -> None:
    (archive / "s.png").write_bytes(data)
    items = list(open_source(manifest(archive, f"s.png,P-1,{said},")))
    assert {item.subject for item in items} == {"P-1"}
    assert sorted(item.finger for item in items) == list(fingers)
    assert {item.kind for item in items} == {Impression.LIVE_PLAIN}
    assert [reason_of(item) for item in items] == [""] * len(fingers)


def test_a_manifest_has_cards_and_single_prints_of_a_person_beside_each_other(archive: Path) -> None:
    (archive / "c.png").write_bytes(card())
    (archive / "1.png").write_bytes(b"x")
    items = list(open_source(manifest(archive, "c.png,P-1,CARD,", "1.png,P-1,1,500")))
    assert [item.name for item in items][20:] == ["1.png"]
    assert {item.encounter for item in items} == {("P-1", "1")}


def test_a_sheet_is_cut_once_however_many_items_read_it(archive: Path) -> None:
    calls = []

    def cut(given: SheetInput) -> Cut:
        calls.append(given)
        return cut_sheet(given)

    (archive / "s.png").write_bytes(slap(Hand.RIGHT))
    items = list(open_source(archive, sheet=Sheet.RIGHT_SLAP).items(cut))
    first = [item.read() for item in items]
    assert len(calls) == 1
    assert len({*first}) == 4
    assert [item.read() for item in items] == first, "after the last nothing is kept, and it is cut again"
    assert len(calls) > 1


def test_a_sheet_that_ended_its_reader_is_not_read_again_for_each_of_its_fingers(archive: Path) -> None:
    calls = []

    def cut(given: SheetInput) -> Cut:
        calls.append(given)
        raise WorkerDied("it died", remedy="look at it")

    (archive / "x.png").write_bytes(b"x")
    items = list(open_source(archive, sheet=Sheet.CARD).items(cut))
    assert [reason_of(item) for item in items] == ["WORKER_DIED"] * 20
    assert len(calls) == 1


def test_a_slap_of_the_other_hand_is_doubtful_and_none_of_it_is_used(archive: Path) -> None:
    (archive / "s.png").write_bytes(slap(Hand.RIGHT))
    items = list(open_source(archive, sheet=Sheet.LEFT_SLAP))
    assert [reason_of(item) for item in items] == ["SLAP_DOUBTFUL"] * 4


def read_as(*cells: tuple[tuple[int, ...], Impression, tuple[str, ...]], found: str) -> Cut:
    """Return what a card is cut into: the prints that were found, and cells with reasons."""
    corners = np.zeros((4, 2), np.float32)
    png = encode_png(GrayImage(np.zeros((200, 200), np.uint8), 500.0, ""))
    kinds = {"r": Impression.NONLIVE_ROLLED, "p": Impression.NONLIVE_PLAIN}
    prints = [Single(Finger(int(word[1:])), kinds[word[0]], png) for word in found.split()]
    made = tuple(Cell(tuple(map(Finger, fingers)), kind, corners, why) for fingers, kind, why in cells)
    return Cut(tuple(prints), (), made)


def test_what_a_card_lacks_is_told_of_its_finger_and_the_others_go_in(archive: Path) -> None:
    rolled, plain = Impression.NONLIVE_ROLLED, Impression.NONLIVE_PLAIN
    cells = [((n,), rolled, (Reason.CELL_EMPTY,) if n == 9 else ()) for n in range(1, 11)]
    cells += [((1,), plain, ()), ((6,), plain, ()), (LEFT, plain, (slaps.Reason.HAND_DISAGREES,))]
    cells += [(RIGHT, plain, (slaps.Reason.TOO_FEW_FINGERS, Reason.FINGERS_DIFFER))]
    found = "r1 r2 r3 r4 r5 r6 r7 r8 r10 p1 p6 p7 p8 p9 p10 p2 p3 p5"
    (archive / "x.png").touch()
    items = open_source(archive, sheet=Sheet.CARD).items(lambda given: read_as(*cells, found=found))
    said = {item.name: reason_of(item) for item in items}
    assert {name: word for name, word in said.items() if word} == {
        "x.png#left_ring_rolled": "CELL_EMPTY",
        "x.png#right_ring_plain": "FINGER_NOT_FOUND",
        **{f"x.png#left_{one}_plain": "SLAP_DOUBTFUL" for one in ("index", "middle", "ring", "little")},
    }


@pytest.mark.parametrize("kind", [Sheet.CARD, Sheet.RIGHT_SLAP])
def test_a_picture_of_nothing_says_so_for_every_finger(archive: Path, kind: Sheet) -> None:
    blank = GrayImage(np.full((900, 1200), 250, np.uint8), 500.0, "")
    (archive / "x.png").write_bytes(encode_png(blank))
    items = list(open_source(archive, sheet=kind))
    expected = "FORM_NOT_FOUND" if kind is Sheet.CARD else "FINGER_NOT_FOUND"
    for item in items:
        with pytest.raises(SourceInvalid) as caught:
            item.read()
        assert caught.value.reason == expected
        assert caught.value.remedy


def test_what_is_no_image_is_told_of_each_finger_as_of_any_print(archive: Path) -> None:
    (archive / "x.png").write_bytes(b"no image")
    items = list(open_source(archive, sheet=Sheet.THUMBS))
    assert [reason_of(item) for item in items] == ["IMAGE_FORMAT_UNKNOWN"] * 2


def test_the_resolution_of_a_sheet_is_what_one_is_told(archive: Path) -> None:
    image = read_image(slap(Hand.RIGHT))
    unknown = io.BytesIO()
    from PIL import Image

    Image.fromarray(image.pixels).save(unknown, "PNG")
    (archive / "s.png").write_bytes(unknown.getvalue())

    def said(**options: Any) -> set[str]:
        return {reason_of(item) for item in open_source(archive, sheet=Sheet.RIGHT_SLAP, **options)}

    assert said() == {"RESOLUTION_UNKNOWN"}
    assert said(ppi=500) == {""}
    items = list(open_source(manifest(archive, "s.png,P-1,right slap,500")))
    assert {reason_of(item) for item in items} == {""}


def test_in_a_folder_of_sheets_numbers_are_persons_and_no_fingers(archive: Path) -> None:
    (archive / "batch").mkdir()
    for number in (1, 2):
        (archive / "batch" / f"{number}_1.png").write_bytes(slap(Hand.RIGHT))
    items = list(open_source(archive, sheet=Sheet.RIGHT_SLAP))
    assert sorted({item.encounter for item in items}) == [("batch/1", "1"), ("batch/2", "1")]


def test_sheets_of_a_packed_tar_hold_their_bytes_once(archive: Path, tmp_path: Path) -> None:
    (archive / "s.png").write_bytes(slap(Hand.RIGHT))
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as packed:
        packed.add(archive, "slaps")
    items = list(open_source(tmp_path / "x.tar.gz", sheet=Sheet.RIGHT_SLAP))
    assert sum(item.held for item in items) == len(slap(Hand.RIGHT))
    assert {reason_of(item) for item in items} == {""}


def test_a_manifest_takes_no_sheet_beside_it(archive: Path) -> None:
    (archive / "s.png").write_bytes(slap(Hand.RIGHT))
    with pytest.raises(SourceInvalid, match="says itself"):
        open_source(manifest(archive, "s.png,P-1,,"), sheet=Sheet.CARD)
