"""Heads of image files: kind, size and resolution without decoding, and nothing raised by damage."""

import io

import made
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from enroll.image import encode_png
from enroll.nist import picture
from enroll.nist.imagefile import read_head
from enroll.nist.wsq_file import encode_wsq


def encoded(kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(made.waves().pixels).save(out, kind, **options)
    return out.getvalue()


FILES = {
    "WSQ": (encode_wsq(made.waves()), "WSQ20", 500.0),
    "PNG": (encode_png(made.waves()), "PNG", 500.0),
    "PNG without scale": (encoded("PNG"), "PNG", None),
    "JPEG": (encoded("JPEG", dpi=(500, 500)), "JPEGB", 500.0),
    "progressive": (encoded("JPEG", progressive=True, comment=b"x" * 999), "JPEGB", None),
    "JP2": (encoded("JPEG2000"), "JP2", None),
    "codestream": (encoded("JPEG2000", no_jp2=True), "JP2", None),
}


@pytest.mark.parametrize("name", FILES)
def test_what_a_file_says_of_itself(name: str) -> None:
    data, kind, ppi = FILES[name]
    assert read_head(data) == (kind, 80, 96, ppi)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("WSQ", "WSQ20"),
        ("WSQ", "WSQ"),
        ("PNG", "PNG"),
        ("JPEG", "JPEGB"),
        ("JP2", "JP2"),
        ("codestream", "JP2L"),
    ],
)
def test_every_kind_is_a_picture_under_its_own_code(name: str, code: str) -> None:
    card = made.card()
    record = card.records[2].with_field(11, code).with_field(999, FILES[name][0])
    found = picture(card, record)
    assert found.data == FILES[name][0]
    assert found.image().pixels.shape == (96, 80)


@pytest.mark.parametrize("name", FILES)
def test_a_head_that_is_cut_is_none(name: str) -> None:
    data, kind, _ = FILES[name]
    heads = {read_head(data[:length]) for length in range(len(data))}
    assert {(head.kind, head.width, head.height) for head in heads if head} <= {(kind, 80, 96)}
    assert None in heads


@given(st.sampled_from(sorted(FILES)), st.data())
def test_damage_raises_nothing(name: str, draw: st.DataObject) -> None:
    data = bytearray(FILES[name][0])
    for at, value in draw.draw(st.lists(st.tuples(st.integers(2, 200), st.integers(0, 255)), max_size=8)):
        data[at] = value
    read_head(bytes(data))


def test_other_bytes_are_none() -> None:
    assert [read_head(data) for data in (b"", b"II*\0", b"BM", bytes(100))] == [None] * 4
