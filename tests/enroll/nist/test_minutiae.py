"""Minutiae records: four forms, one convention."""

from pathlib import Path

import made
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enroll.errors import RecordFieldInvalid
from enroll.nist import Form, decode, encode, features, pictures, templates
from enroll.pipeline import extract
from matcher.compare import compare, prepare
from matcher.template import Finger, Impression, Kind, Template

REFERENCE = {
    "type-9-14-std.an2": Form.STANDARD,
    "type-9-10-14.an2": Form.STANDARD,
    "type-9-4-iafis.an2": Form.IAFIS,
    "type-9-13-9-14-m1.an2": Form.INCITS_378,
}
"""The transactions that hold the minutiae of one and the same rolled finger."""


def read(transaction, *, form=None):
    found = list(templates(transaction))
    assert form is None or [one.form for one in found] == [form]
    return found[0].template


def with_minutiae(values, *, image=True, **options):
    card, record = made.card(), made.type_9(values, **options)
    return card.with_records([card.header, record, *(card.records[2:3] if image else ())])


@pytest.mark.datasets
def test_three_forms_of_the_same_finger_agree(datasets: Path) -> None:
    found = []
    for name, form in REFERENCE.items():
        last = list(templates(decode((datasets / "formats" / "nist" / name).read_bytes())))[-1]
        assert (last.form, last.template.finger) == (form, Finger.LEFT_MIDDLE)
        assert last.template.impression is Impression.NONLIVE_ROLLED
        found.append(last.template)
    for other in found[1:]:
        order = [np.lexsort((t.angle.round(1), t.xy[:, 0], t.xy[:, 1])) for t in (found[0], other)]
        away = np.abs(found[0].xy[order[0]].astype(int) - other.xy[order[1]])
        assert away.max() <= 1
        turn = found[0].angle[order[0]] - other.angle[order[1]]
        assert np.abs(np.degrees(np.angle(np.exp(1j * turn)))).max() <= 2
        assert found[0].size == other.size == (800, 768)


@pytest.mark.datasets
def test_the_minutiae_lie_where_our_own_extraction_finds_them(datasets: Path) -> None:
    transaction = decode((datasets / "formats" / "nist" / "type-9-14-std.an2").read_bytes())
    own = extract(next(pictures(transaction)).image()).template
    seen = compare(prepare(read(transaction)), prepare(own))
    assert seen.score > 8  # log10 likelihood ratio; 11.9 when this was written
    assert abs(np.degrees(seen.transform.turn)) < 2
    assert np.hypot(seen.transform.dx, seen.transform.dy) < 8


def test_what_is_built_is_read_again_within_a_degree() -> None:
    wanted = made.template()
    found = read(decode(encode(made.card())), form=Form.INCITS_378)
    assert np.array_equal(found.xy, wanted.xy)
    assert np.array_equal(found.kind, wanted.kind)
    assert np.array_equal(found.quality, wanted.quality)
    assert np.abs(np.angle(np.exp(1j * (found.angle - wanted.angle)))).max() <= np.radians(1.001)
    assert (found.size, found.finger, found.impression) == (
        (80, 96),
        Finger.RIGHT_INDEX,
        Impression.LIVE_PLAIN,
    )


minutiae = st.lists(
    st.tuples(st.integers(0, 79), st.integers(0, 95), st.integers(0, 359), st.sampled_from("ABCD")),
    max_size=12,
)


def hundredths(pixels: float) -> int:
    return round(pixels * 5.08)


@given(minutiae, st.booleans())
def test_the_forms_in_hundredths_of_a_millimetre(given_: list[tuple[int, int, int, str]], down: bool) -> None:
    """Written by the table at the head of `enroll.nist.minutiae`, read back to the pixel."""
    rows = []
    for index, (x, y, degrees, letter) in enumerate(given_, 1):
        if down:
            code = f"{hundredths(x):04d}{hundredths(y):04d}{degrees:03d}"
        else:
            code = f"{hundredths(x):04d}{hundredths(96 - 0.5 - y):04d}{(degrees + 180) % 360:03d}"
        rows.append((f"{index:03d}", code, "02", letter))
    field, finger = (23, 14) if down else (12, 6)
    values = {finger: "07", field: rows} if rows else {finger: "07", field: ""}
    found = read(with_minutiae(values), form=Form.IAFIS if down else Form.STANDARD)
    kinds = {"A": Kind.ENDING, "B": Kind.BIFURCATION}
    wanted = Template.of(
        [(x, y) for x, y, _, _ in given_],
        np.radians([degrees for _, _, degrees, _ in given_]),
        [kinds.get(letter, Kind.OTHER) for _, _, _, letter in given_],
        [100] * len(given_),
        size=(80, 96),
        finger=Finger.LEFT_INDEX,
        impression=Impression.LIVE_PLAIN,
    )
    assert sorted(
        zip(found.xy.tolist(), found.kind.tolist(), found.angle.round(3).tolist(), strict=True)
    ) == sorted(zip(wanted.xy.tolist(), wanted.kind.tolist(), wanted.angle.round(3).tolist(), strict=True))
    assert (found.size, found.finger) == (wanted.size, wanted.finger)


def test_efs_minutiae_are_counted_from_their_region() -> None:
    values = {
        300: [("300", "400", "50", "25")],
        302: [("2", "", "")],
        331: [("0", "0", "90", "E"), ("254", "127", "350", "B"), ("100", "50", "10", "X")],
    }
    found = read(with_minutiae(values), form=Form.EFS)
    assert sorted(found.xy.tolist()) == [[10, 5], [30, 15], [60, 30]]
    assert sorted(found.kind.tolist()) == [Kind.OTHER, Kind.ENDING, Kind.BIFURCATION]
    assert found.finger is Finger.RIGHT_INDEX
    assert found.size == (80, 96)
    assert read(with_minutiae(values, image=False)).size == (69, 84)  # the region and what lies before it


def test_without_its_image_a_record_is_as_large_as_its_minutiae() -> None:
    values = {12: [("001", "0508" + "0000" + "000", "00", "A"), ("002", "0000" + "0508" + "090", "63", "B")]}
    found = read(with_minutiae(values, image=False), form=Form.STANDARD)
    assert found.size[0] == 101
    assert sorted(found.xy.tolist()) == [[0, 0], [100, 100]]
    assert sorted(found.quality.tolist()) == [0, 1]


def test_an_image_of_another_resolution_gives_the_size_at_500() -> None:
    card = made.card()
    record = made.type_9({14: "03", 23: [("001", "00100020090", "10", "A")]}, idc="02")
    assert read(card.with_records([card.header, record, card.records[4]])).size == (70, 80)


@pytest.mark.parametrize(
    "values",
    [
        {12: [("001", "12345678", "00", "A")]},
        {23: [("001", "99990000000", "00", "A")]},
        {137: [("001", "x", "0", "0", "0", "0")]},
        {137: [("001", "1", "2")]},
        {331: [("1", "2")]},
        {331: [("999999999", "2", "0", "E")]},
        {12: [("001", "00000000000", "00", "A")] * 10_000},
    ],
)
def test_minutiae_that_cannot_be_are_refused(values: dict[int, object]) -> None:
    transaction = with_minutiae(values)
    with pytest.raises(RecordFieldInvalid, match=r"9\.1"):
        list(features(transaction, transaction.records[1]))


def test_a_record_without_minutiae_of_a_known_form_gives_none() -> None:
    assert list(templates(with_minutiae({100: "a vendor's own"}))) == []
