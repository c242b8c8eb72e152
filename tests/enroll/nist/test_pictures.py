"""Pictures of a transaction: the very pixels, of whom, at which resolution, and what is wrong with them."""

from dataclasses import replace
from pathlib import Path

import made
import numpy as np
import pytest

from enroll.errors import RecordCompressionWrong, RecordFieldInvalid, RecordImageMissing, RecordImageSize
from enroll.image import encode_png, read_image
from enroll.nist import Content, Missing, Segment, Transaction, decode, picture, pictures
from enroll.nist.codes import content_of, fingers_of, impression_of
from enroll.nist.record import Record
from enroll.nist.wsq_file import encode_wsq
from matcher.template import Finger, Impression


def of(*records: Record) -> Transaction:
    return made.card().with_records([made.card().header, *records])


def only(record: Record, *, header=None):
    transaction = of(record)
    if header is not None:
        transaction = transaction.with_records([header, record])
    return picture(transaction, transaction.records[1])


def print_14() -> Record:
    return made.card().records[2]


# ---- reference pictures

SAMPLE = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 6, 7: 7, 8: 8, 9: 9, 10: 10, 11: 14, 12: 12, 13: 11, 14: 13}
"""The picture of `nist_sample` that each record of its transaction holds, by designation."""


@pytest.mark.datasets
@pytest.mark.parametrize("file", ["nist_sample/sample.an2", "nist/type-14-tpcard-nqm.an2"])
def test_pictures_are_the_reference_pictures_pixel_by_pixel(datasets: Path, file: str) -> None:
    found = list(pictures(decode((datasets / "formats" / file).read_bytes())))
    assert len(found) == 14
    for one in found:
        wanted = datasets / "formats" / "nist_sample" / f"fp-{SAMPLE[one.record.idc or 0]}.png"
        assert np.array_equal(one.image().pixels, read_image(wanted.read_bytes(), ppi=500).pixels)
        assert one.ppi == 500
        assert one.position == SAMPLE[one.record.idc or 0]
        rolled = one.position <= 10
        assert one.impression is (Impression.NONLIVE_ROLLED if rolled else Impression.NONLIVE_PLAIN)


@pytest.mark.datasets
def test_the_ebts_print_is_that_of_the_wsq_file_beside_it(datasets: Path) -> None:
    folder = datasets / "formats" / "ebts"
    wanted = read_image((folder / "finger8.wsq").read_bytes()).pixels
    for name in ("NISTFile.ebts", "NISTFile2.ebts"):
        first = next(pictures(decode((folder / name).read_bytes())))
        assert np.array_equal(first.image().pixels, wanted)


@pytest.mark.datasets
def test_what_the_reference_transactions_show(datasets: Path) -> None:
    folder = datasets / "formats" / "nist"
    seen = {
        name: [
            (one.label, one.position, one.content, one.latent, one.image().pixels.shape, one.ppi)
            for one in pictures(decode((folder / name).read_bytes()))
        ]
        for name in (
            "type-7-latent.an2",
            "type-15-palms.an2",
            "type-9-10-14.an2",
            "rec01_rec02_rec16.nst.an2",
        )
    }
    assert seen == {
        "type-7-latent.an2": [("7.1", 8, Content.FINGER, True, (768, 800), 500.0)],
        "type-15-palms.an2": [
            ("15.1", 24, Content.PALM, False, (2500, 900), 500.0),
            ("15.2", 27, Content.PALM, False, (2750, 2750), 1000.0),
        ],
        "type-9-10-14.an2": [("14.1", 8, Content.FINGER, False, (768, 800), 500.0)],
        "rec01_rec02_rec16.nst.an2": [],
    }


@pytest.mark.datasets
def test_raw_and_its_twin_in_another_record_are_the_same_pixels(datasets: Path) -> None:
    folder = datasets / "formats" / "nist"
    latent = next(pictures(decode((folder / "type-7-latent.an2").read_bytes()))).image().pixels
    other = next(pictures(decode((folder / "type-9-13-std.an2").read_bytes()))).image().pixels
    assert np.array_equal(latent, other)


@pytest.mark.datasets
def test_joints_and_tips(datasets: Path) -> None:
    data = (datasets / "formats" / "nist" / "type-14-tip-eji-wsq.an2").read_bytes()
    found = list(pictures(decode(data)))
    assert [one.finger for one in found] == [Finger.LEFT_INDEX, *[Finger.UNKNOWN] * 4]
    assert {one.content for one in found} == {Content.OTHER}


# ---- what is made


def test_a_card_as_it_was_built() -> None:
    index, middle, slap, gone = pictures(made.card())
    assert (index.finger, index.impression, index.ppi, index.content) == (
        2,
        Impression.LIVE_PLAIN,
        500,
        "finger",
    )
    assert (middle.finger, middle.impression, middle.ppi) == (3, Impression.LIVE_ROLLED, 1000)
    assert slap.fingers == (2, 3, 4, 5)
    assert slap.finger is Finger.UNKNOWN
    assert slap.content is Content.SLAP
    assert slap.missing == (Missing(5, "UP"),)
    assert slap.segments == (Segment(Finger.RIGHT_INDEX, ((1, 2), (30, 2), (30, 60), (1, 60)), "14.025"),)
    assert (gone.data, gone.missing, gone.finger) == (b"", (Missing(7, "XX"),), 7)
    assert [one.warnings for one in (index, middle, slap, gone)] == [()] * 4
    assert np.array_equal(middle.image().pixels, made.waves(160, 140).pixels)


def test_type_4_learns_from_type_2_which_of_its_fingers_are_missing() -> None:
    described = made.card().records[1].with_field("2.084", "3\x1fXX\x1e9\x1fUP\x1e4\x1fZZ")
    data = made.waves().pixels.tobytes()
    transaction = of(described, made.type_4(data, position=13), made.type_4(data, position=2, idc=8))
    slap, index = pictures(transaction)
    assert slap.missing == (Missing(3, "XX"),)
    assert index.missing == ()
    for other in ("3", "somebody\x1felse", "", "\x1e\x1f"):
        strange = of(described.with_field(84, other), *transaction.records[2:])
        assert [one.missing for one in pictures(strange)] == [(), ()]


def test_pixels_sent_bare_become_a_file_of_the_same_pixels() -> None:
    pixels = made.waves().pixels
    for record in (
        made.type_4(pixels.tobytes()),
        print_14().with_field(11, "NONE").with_field(999, pixels.tobytes()),
    ):
        found = only(record)
        assert np.array_equal(found.image().pixels, pixels)
        assert found.image().ppi == 500


def test_segments_that_lie_nowhere_are_left_out_and_told() -> None:
    boxes = [
        ("2", "1", "40", "2", "50"),
        ("3", "9", "4", "2", "50"),
        ("4", "1", "40", "2", "500"),
        ("5", "1"),
    ]
    boxes += [("",), ("11", "1", "2", "3", "4")]
    polygon = [("2", "3", "0", "0", "9", "9", "5")]
    found = only(print_14().with_field(21, boxes).with_field(25, polygon))
    assert found.segments == (Segment(Finger.RIGHT_INDEX, ((1, 2), (40, 2), (40, 50), (1, 50)), "14.021"),)
    assert len(found.warnings) == 6


def test_a_lie_about_the_resolution_is_a_warning() -> None:
    record = print_14().with_field(9, "1000").with_field(10, "1000")
    assert only(record).warnings == ("record 14.1: the record states 1000 ppi, the file 500",)
    assert only(record).ppi == 1000


def test_a_lie_about_the_size_is_a_warning() -> None:
    found = only(print_14().with_field(6, "81"))
    assert found.warnings == ("record 14.1: the record states 81 x 96 pixels, the file has 80 x 96",)


@pytest.mark.parametrize(
    ("unit", "across", "down", "ppi"),
    [
        ("1", "500", "500", 500),
        ("2", "197", "197", 500),
        ("2", "394", "394", 1000),
        ("1", "569", "569", 569),
        ("0", "500", "500", None),
        ("1", "500", "600", None),
        ("1", "0", "0", None),
    ],
)
def test_the_scale_of_a_record(unit: str, across: str, down: str, ppi: float | None) -> None:
    record = print_14().with_field(8, unit).with_field(9, across).with_field(10, down)
    assert only(record).ppi == ppi


@pytest.mark.parametrize(
    ("native", "sent", "scanned", "ppi"),
    [(0, "39.37", "39.37", 500), (1, "39.37", "19.69", 1000), (1, "00.00", "39.37", 1000), (1, "x", "", 500)],
)
def test_the_scale_of_a_binary_record_is_the_headers(
    native: int, sent: str, scanned: str, ppi: float
) -> None:
    header = made.card().header.with_field(12, sent).with_field(11, scanned)
    record = made.type_4(made.waves().pixels.tobytes(), native=native)
    assert only(record, header=header).ppi == ppi


# ---- what is refused


def test_a_record_without_a_picture_must_say_why() -> None:
    record = print_14().without_field(999)
    with pytest.raises(RecordImageMissing, match=r"14\.1"):
        only(record)
    assert only(record.with_field(18, "2\x1fUP")).missing == (Missing(2, "UP"),)


WRONG = {
    "PNG called WSQ": ("WSQ20", lambda: encode_png(made.waves())),
    "WSQ called PNG": ("PNG", lambda: encode_wsq(made.waves())),
    "WSQ called JPEG 2000": ("JP2L", lambda: encode_wsq(made.waves())),
    "WSQ called none": ("NONE", lambda: encode_wsq(made.waves())),
    "nothing called WSQ": ("WSQ20", lambda: b"\0" * 500),
    "half a head called PNG": ("PNG", lambda: encode_png(made.waves())[:20]),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_compression_code_that_is_not_true_is_refused(name: str) -> None:
    code, data = WRONG[name]
    with pytest.raises(RecordCompressionWrong, match=r"14\.1"):
        only(print_14().with_field(11, code).with_field(999, data()))


@pytest.mark.parametrize("missing", [0, 1])
def test_bare_pixels_must_fill_their_size(missing: int) -> None:
    depth = "8" if missing else "16"
    data = bytes(80 * 96 - missing)
    with pytest.raises(RecordImageSize, match="80 x 96"):
        only(print_14().with_field(11, "NONE").with_field(12, depth).with_field(999, data))
    if missing:
        with pytest.raises(RecordImageSize):
            only(made.type_4(data))


@pytest.mark.parametrize(("field", "value"), [(11, "LZW"), (11, ""), (13, "x"), (13, "")])
def test_codes_that_cannot_be_read_are_refused_with_their_field(field: int, value: str) -> None:
    with pytest.raises(RecordFieldInvalid, match=f"14.0{field}"):
        only(print_14().with_field(field, value))


def test_an_unknown_binary_compression_is_refused() -> None:
    with pytest.raises(RecordFieldInvalid, match=r"4\.008"):
        only(made.type_4(bytes(80 * 96), compression=7))


def test_one_bad_record_leaves_the_others() -> None:
    card = made.card()
    bad = replace(card.records[2]).with_field(11, "PNG")
    transaction = card.replaced(card.records[2], bad)
    read = [record for record in transaction.of_type(14) if record != bad]
    assert len([picture(transaction, record) for record in read]) == 3


# ---- codes


def test_positions_are_fingers_slaps_palms_or_something_else() -> None:
    assert [content_of(code) for code in (0, 10, 12, 13, 15, 19, 20, 38, 40, 60, 86)] == [
        *["finger"] * 3,
        *["slap"] * 2,
        "other",
        *["palm"] * 2,
        "slap",
        "other",
        "palm",
    ]
    assert fingers_of(11) == (Finger.RIGHT_THUMB,)
    assert fingers_of(14) == (7, 8, 9, 10)
    assert fingers_of(15) == (1, 6)
    assert fingers_of(0) == fingers_of(21) == fingers_of(99) == ()
    assert all(content_of(code) is Content.SLAP for code in range(100) if len(fingers_of(code)) > 1)


def test_impressions_have_a_word_in_templates() -> None:
    assert impression_of(None) is Impression.UNKNOWN
    assert impression_of(0) is Impression.LIVE_PLAIN
    assert [impression_of(code) for code in (20, 23, 24, 29)] == [0, 1, 24, 29]
    assert impression_of(14) is Impression.LATENT_PHOTO
    assert {impression_of(code) for code in (25, 28, 33, 41, 99)} == {Impression.OTHER}
