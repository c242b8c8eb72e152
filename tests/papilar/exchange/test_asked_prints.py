"""What a print may carry: chunks, comments, extended data, bytes behind the end; and images made clean."""

import io
import struct
import zlib

import numpy as np
import pytest
from countries import iso
from hypothesis import given
from hypothesis import strategies as st
from nodes import picture, record
from PIL import Image

from enroll.image import read_image
from matcher.codecs import encode
from matcher.errors import InvalidInput
from papilar.api.peer.v1 import types_pb2
from papilar.exchange.prints import check_print, check_prints, clean_image, print_input

PNG = picture(900)
END = PNG[-12:]


def an_image(data: bytes, **fields: float) -> types_pb2.Print:
    return types_pb2.Print(**{"position": 1, "ppi": 500, "image": data, **fields})  # type: ignore[arg-type]


def a_template(data: bytes) -> types_pb2.Print:
    return types_pb2.Print(position=1, template=data)


def refused(one: types_pb2.Print) -> str:
    with pytest.raises(InvalidInput) as error:
        check_print(one)
    return error.value.reason


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def as_wsq(pixels: int = 256) -> bytes:
    out = io.BytesIO()
    random = np.random.default_rng(5)
    Image.fromarray(random.integers(0, 255, (pixels, pixels), np.uint8)).save(out, "WSQ")
    return out.getvalue()


def without_comments(data: bytes) -> bytes:
    at, kept = 2, data[:2]
    while data[at + 1] not in (0xA1, 0xA3):
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        kept += b"" if data[at + 1] == 0xA8 else data[at:end]
        at = end
    return kept + data[at:]


class TestPng:
    def test_ours_passes(self) -> None:
        check_print(an_image(PNG))

    @pytest.mark.parametrize("kind", [b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"iCCP", b"tIME", b"aaAa"])
    def test_a_chunk_that_has_room_for_words(self, kind: bytes) -> None:
        assert refused(an_image(PNG[:-12] + chunk(kind, b"Juan") + END)) == "IDENTITY_PRESENT"

    @pytest.mark.parametrize("kind", [b"pHYs", b"gAMA", b"sBIT"])
    def test_a_longer_chunk(self, kind: bytes) -> None:
        assert refused(an_image(PNG[:33] + chunk(kind, b"Juan Perez") + PNG[33:])) == "IDENTITY_PRESENT"

    def test_words_behind_the_end(self) -> None:
        assert refused(an_image(PNG + b"Juan")) == "IDENTITY_PRESENT"

    def test_words_behind_the_pixels_or_among_them(self) -> None:
        pixels = zlib.compress(bytes(401 * 10)) + b"Juan"
        more = zlib.compress(bytes(401 * 10) + b"Juan")
        for body in (pixels, more):
            assert refused(an_image(made(body))) == "IDENTITY_PRESENT"
        check_print(an_image(made(zlib.compress(bytes(401 * 10)))))

    def test_what_is_not_whole(self) -> None:
        assert refused(an_image(PNG[:-1])) == "IMAGE_TRUNCATED"
        assert refused(an_image(PNG[:-12])) == "IMAGE_TRUNCATED"
        assert refused(an_image(made(zlib.compress(bytes(401 * 9))))) == "IMAGE_TRUNCATED"
        assert refused(an_image(made(b"no zlib"))) == "IMAGE_TRUNCATED"

    def test_a_header_that_is_too_large(self) -> None:
        assert refused(an_image(made(b"", width=20_000))) == "IMAGE_TOO_LARGE"

    @given(st.integers(8, len(PNG) - 1), st.integers(1, 255))
    def test_any_byte_that_is_changed(self, place: int, change: int) -> None:
        data = bytearray(PNG)
        data[place] ^= change
        assert refused(an_image(bytes(data))) in ("IMAGE_TRUNCATED", "IDENTITY_PRESENT", "IMAGE_TOO_LARGE")


def made(body: bytes, width: int = 400, height: int = 10) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return PNG[:8] + head + chunk(b"IDAT", body) + END


class TestWsq:
    def test_a_comment(self) -> None:
        data = as_wsq()
        plain = without_comments(data)
        check_print(an_image(plain))
        assert refused(an_image(plain + b"Juan")) == "IDENTITY_PRESENT"
        named = plain[:2] + b"\xff\xa8\x00\x06Juan" + plain[2:]
        assert refused(an_image(named)) == "IDENTITY_PRESENT"

    def test_half_of_one(self) -> None:
        assert refused(an_image(as_wsq()[:200])) == "IMAGE_TRUNCATED"


class TestTemplates:
    @pytest.mark.parametrize("form", ["iso-19794-2:2005", "iso-19794-2:2011"])
    def test_extended_data(self, form: str) -> None:
        data = record(3, form=form)
        check_print(a_template(data))
        assert refused(a_template(extended(data, form))) == "IDENTITY_PRESENT"

    def test_other_forms(self) -> None:
        assert refused(a_template(record(3))) == "TEMPLATE_FORMAT_UNKNOWN"
        assert refused(a_template(record(3, form="ansi-378:2004"))) == "TEMPLATE_FORMAT_UNKNOWN"

    def test_two_fingers_in_one(self) -> None:
        from minutiae import finger

        both = encode([finger(1), finger(2)], "iso-19794-2:2011")
        assert refused(a_template(both)) == "REQUEST_INVALID"


def extended(data: bytes, form: str) -> bytes:
    """Put four bytes of extended data behind the only view, in all lengths that count them."""
    longer = bytearray(data[:-2] + b"\0\x08\0\x01\0\x08Juan")
    longer[8:12] = struct.pack(">I", len(longer))
    if form.endswith("2011"):
        longer[15:19] = struct.pack(">I", len(longer) - 15)
    return bytes(longer)


class TestRest:
    @pytest.mark.parametrize(
        ("one", "reason"),
        [
            (types_pb2.Print(position=1), "REQUEST_INVALID"),
            (types_pb2.Print(position=11, template=iso(1)), "REQUEST_INVALID"),
            (types_pb2.Print(impression=99, template=iso(1)), "REQUEST_INVALID"),
            (an_image(b"\xff\xd8\xff\xe0" + bytes(200)), "IMAGE_FORMAT_UNKNOWN"),
            (an_image(PNG, ppi=72), "RESOLUTION_IMPLAUSIBLE"),
            (an_image(PNG, ppi=float("nan")), "RESOLUTION_IMPLAUSIBLE"),
        ],
    )
    def test_is_refused(self, one: types_pb2.Print, reason: str) -> None:
        assert refused(one) == reason

    def test_the_index_is_named(self) -> None:
        with pytest.raises(InvalidInput, match="print 1: "):
            check_prints([an_image(PNG), an_image(PNG + b"x")])

    @given(st.binary(max_size=300))
    def test_any_bytes(self, data: bytes) -> None:
        for head in (b"", b"\x89PNG\r\n\x1a\n", b"\xff\xa0\xff", b"FMR\0 20\0", b"FMR\x00030\x00"):
            refused(an_image(head + data))
            refused(a_template(head + data))

    def test_an_image_made_clean(self) -> None:
        out = io.BytesIO()
        pixels = read_image(PNG).pixels
        Image.fromarray(pixels).save(out, "JPEG", dpi=(500, 500), comment=b"Juan", quality=95)
        clean = clean_image(out.getvalue())
        check_print(an_image(clean))
        assert b"Juan" in out.getvalue()
        assert b"Juan" not in clean
        again = clean_image(read_image(PNG))
        assert np.array_equal(read_image(again).pixels, pixels)
        assert print_input(an_image(again)).ppi == 500
