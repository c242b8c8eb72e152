"""Template formats: what a round trip keeps, the real samples, golden bytes, and bytes that are broken."""

import dataclasses
import json
import math
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from minutiae import ridge_description

from matcher import codecs
from matcher.codecs import ansi378, iso19794, native
from matcher.errors import (
    TemplateError,
    TemplateFormatUnknown,
    TemplateOutOfBounds,
    TemplateTruncated,
    TemplateVersionUnsupported,
)
from matcher.ridges import RidgeGrid, pack
from matcher.ridges import check as check_ridges
from matcher.template import Finger, Impression, Kind, Template

NATIVE = "papilar-2"
GOLDEN = Path(__file__).resolve().parents[1] / "data" / "templates"
WRITABLE = [name for name, codec in codecs.CODECS.items() if codec.write]
RECORDS = [name for name in WRITABLE if name != NATIVE]
UNIT = {name: math.radians(2) if name.startswith("ansi") else 2 * math.pi / 256 for name in codecs.CODECS}
LATENTS = {Impression(code) for code in range(4, 8)}
KEPT_IMPRESSIONS = {
    "iso-19794-2:2005": set(iso19794.IMPRESSIONS_2005.values()),
    "iso-19794-2:2011": set(Impression),
    "ansi-378:2004": set(ansi378.IMPRESSIONS_2004.values()),
}


@st.composite
def templates(draw: st.DrawFn, *, most: int = 40, largest: int = 2000) -> Template:
    width, height = draw(st.integers(1, largest)), draw(st.integers(1, largest))
    minutia = st.tuples(
        st.integers(0, width - 1),
        st.integers(0, height - 1),
        st.floats(0, 6.28125, width=32),
        st.integers(0, 2),
        st.integers(0, 100),
    )
    rows = draw(st.lists(minutia, max_size=most))
    if draw(st.booleans()):
        rows = [(*row[:4], 0) for row in rows]
    columns = list(zip(*rows, strict=True)) or [()] * 5
    return Template.of(
        list(zip(*columns[:2], strict=True)),
        *columns[2:],
        size=(width, height),
        finger=draw(st.sampled_from(Finger)),
        impression=draw(st.sampled_from(Impression)),
        print_quality=draw(st.none() | st.integers(0, 100)),
        ridges=draw(st.just(b"") | descriptions),
    )


descriptions = st.builds(ridge_description, st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 9))


def view_lists(most: int = 4) -> st.SearchStrategy[list[Template]]:
    return st.lists(templates(most=12), min_size=1, max_size=most)


def crowd(n: int, seed: int = 7, **fields: object) -> Template:
    """A synthetic template: no finger ever left it."""
    random = np.random.default_rng(seed)
    return Template.of(
        random.integers(0, (400, 500), (n, 2)),
        random.uniform(0, 2 * math.pi, n),
        random.integers(0, 3, n),
        random.integers(1, 101, n),
        size=(400, 500),
        **fields,  # type: ignore[arg-type]
    )


def kept(views: Sequence[Template], name: str) -> list[Template]:
    """The naive twin of encode, then decode: what each format promises to keep."""
    early = name in ("iso-19794-2:2005", "ansi-378:2004")
    shared = tuple(max(view.size[axis] for view in views) for axis in (0, 1))
    result = []
    for view in views:
        codes = [round(float(angle) / UNIT[name]) for angle in view.angle[:255]]
        quality = view.print_quality
        result.append(
            Template.of(
                view.xy[:255],
                [code * UNIT[name] for code in codes],
                view.kind[:255],
                view.quality[:255],
                size=(shared[0], shared[1]) if early else view.size,
                finger=view.finger,
                impression=kept_impression(view.impression, name),
                print_quality=max(quality, 1) if early and quality is not None else quality,
            )
        )
    return result


def kept_impression(impression: Impression, name: str) -> Impression:
    if impression in KEPT_IMPRESSIONS[name]:
        return impression
    return Impression.NONLIVE_PLAIN if impression in LATENTS else Impression.LIVE_PLAIN


def assert_same(found: Sequence[Template], expected: Sequence[Template]) -> None:
    """Equal, but for the angle's last bit: 0 and a full turn less one float are neighbours."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.ridges == other.ridges
        assert (one.size, one.finger, one.impression) == (other.size, other.finger, other.impression)
        assert one.print_quality == other.print_quality
        np.testing.assert_array_equal(one.xy, other.xy)
        np.testing.assert_array_equal(one.kind, other.kind)
        np.testing.assert_array_equal(one.quality, other.quality)
        np.testing.assert_allclose(one.angle, other.angle, atol=1e-6)


def view_2009(template: Template, *, impression: int = 0, quality: int = 254, extended: bytes = b"") -> bytes:
    """A view of ANSI INCITS 378-2009, written field by field."""
    head = struct.pack(">4BHH", template.finger, 0, impression, quality, 6, 55)
    head += struct.pack(">4HB", *template.size, 197, 197, len(template))
    for (x, y), angle, kind, minutia_quality in zip(
        template.xy.tolist(), template.angle.tolist(), template.kind, template.quality, strict=True
    ):
        code = round(math.degrees(angle) / 2) % 180
        head += struct.pack(">HHBB", int(kind) << 14 | x, y, code, minutia_quality or 254)
    return head + struct.pack(">H", len(extended)) + extended


def record_2009(views: Sequence[bytes], *, version: bytes = b"030\0", owner: int = 66) -> bytes:
    body = b"".join(views)
    return (
        b"FMR\0" + version + struct.pack(">IHHBHBB", 21 + len(body), owner, 17, 0, 181, len(views), 0) + body
    )


def valid_records() -> dict[str, bytes]:
    views = [
        crowd(5, finger=Finger.LEFT_INDEX, print_quality=40, ridges=ridge_description(1)),
        crowd(3, 8, finger=Finger.RIGHT_THUMB, impression=Impression.LIVE_ROLLED),
        crowd(2, 9, finger=Finger.LEFT_INDEX),
    ]
    records = {name: codecs.encode(views, name) for name in WRITABLE}
    records["ansi-378:2009"] = record_2009([view_2009(view, extended=b"\0\1\0\6ab") for view in views])
    records["ansi-378:2009, amendment 1"] = record_2009([view_2009(views[0])], version=b"035\0")
    records["ansi-378:2004, long"] = codecs.encode(
        [crowd(255, s, finger=Finger(s % 11)) for s in range(45)], "ansi-378:2004"
    )
    return records


VALID = valid_records()


def mutated(data: bytes, at: int, value: int) -> bytes:
    return data[:at] + bytes([value]) + data[at + 1 :]


def reads_or_refuses(data: bytes) -> None:
    """Broken bytes raise a `TemplateError` with cause and remedy, or decode to sound templates."""
    said = "sound; "
    try:
        found = codecs.decode(data)
    except TemplateError as error:
        found = []
        said = str(error)
    assert "; " in said
    for template in found:
        assert (template.xy >= 0).all()
        assert (template.xy < template.size).all()
        assert ((template.angle >= 0) & (template.angle < 2 * math.pi)).all()
        check_ridges(template.ridges)


class TestRoundTrip:
    @given(view_lists())
    def test_the_native_format_keeps_everything(self, views: list[Template]) -> None:
        assert codecs.decode(codecs.encode(views, NATIVE)) == views

    @given(view_lists())
    @pytest.mark.parametrize("name", RECORDS)
    def test_a_standard_record_keeps_what_it_promises(self, name: str, views: list[Template]) -> None:
        data = codecs.encode(views, name)
        assert codecs.recognise(data) == name
        assert_same(codecs.decode(data), kept(views, name))

    @given(view_lists())
    @pytest.mark.parametrize("name", RECORDS)
    def test_a_standard_record_keeps_no_ridges(self, name: str, views: list[Template]) -> None:
        bare = [dataclasses.replace(view, ridges=b"") for view in views]
        assert codecs.encode(views, name) == codecs.encode(bare, name)
        assert not any(view.ridges for view in codecs.decode(codecs.encode(views, name)))

    @given(view_lists())
    @pytest.mark.parametrize("name", WRITABLE)
    def test_a_second_round_trip_changes_nothing(self, name: str, views: list[Template]) -> None:
        once = codecs.encode(codecs.decode(codecs.encode(views, name)), name)
        assert codecs.encode(codecs.decode(once), name) == once

    @given(templates())
    @pytest.mark.parametrize("name", WRITABLE)
    def test_a_direction_turns_by_half_a_step_at_most(self, name: str, template: Template) -> None:
        step = 0.0 if name == NATIVE else UNIT[name]
        (found,) = codecs.decode(codecs.encode(template, name))
        before = {(int(x), int(y), int(k), int(q)): [] for (x, y), k, q in columns(template)}  # type: ignore[var-annotated]
        for ((x, y), k, q), angle in zip(columns(template), template.angle, strict=True):
            before[int(x), int(y), int(k), int(q)].append(float(angle))
        for ((x, y), k, q), angle in zip(columns(found), found.angle, strict=True):
            turns = [
                abs(math.remainder(float(angle) - old, 2 * math.pi))
                for old in before[int(x), int(y), int(k), int(q)]
            ]
            assert min(turns) <= step / 2 + 1e-6

    @given(view_lists(most=2))
    def test_the_2009_edition_is_read(self, views: list[Template]) -> None:
        data = record_2009([view_2009(view, impression=29) for view in views])
        expected = [
            Template.of(
                view.xy,
                [round(math.degrees(angle) / 2) * math.radians(2) for angle in view.angle.tolist()],
                view.kind,
                view.quality,
                size=view.size,
                finger=view.finger,
            )
            for view in views
        ]
        assert codecs.recognise(data) == "ansi-378:2009"
        assert_same(codecs.decode(data), expected)

    @pytest.mark.parametrize("name", RECORDS)
    def test_of_many_minutiae_the_best_255_are_kept(self, name: str) -> None:
        (found,) = codecs.decode(codecs.encode(crowd(400), name))
        assert len(found) == 255
        assert sorted(found.quality) == sorted(crowd(400).quality[:255])

    def test_the_native_format_keeps_all_of_many_minutiae(self) -> None:
        assert codecs.decode(codecs.encode(crowd(3000), NATIVE)) == [crowd(3000)]

    @pytest.mark.parametrize("name", RECORDS)
    def test_sixteen_views_of_each_of_eleven_fingers(self, name: str) -> None:
        views = [crowd(255, seed, finger=Finger(seed % 11)) for seed in range(176)]
        data = codecs.encode(views, name)
        assert codecs.recognise(data) == name
        assert_same(codecs.decode(data), kept(views, name))

    @pytest.mark.parametrize("name", RECORDS)
    def test_a_seventeenth_view_of_a_finger_is_refused(self, name: str) -> None:
        with pytest.raises(TemplateOutOfBounds, match="17 views of one finger"):
            codecs.encode([crowd(1)] * 17, name)

    @pytest.mark.parametrize("name", RECORDS)
    def test_a_position_over_14_bits_is_refused(self, name: str) -> None:
        far = Template.of([(16384, 0)], [0], [1], [1], size=(20000, 10))
        with pytest.raises(TemplateOutOfBounds, match="16384 pixels"):
            codecs.encode(far, name)

    def test_minutiae_without_quality_take_five_bytes_in_the_2011_edition(self) -> None:
        plain = Template.of([(1, 2)] * 9, [1] * 9, [1] * 9, [0] * 9, size=(9, 9))
        stated = Template.of([(1, 2)] * 9, [1] * 9, [1] * 9, [0] * 8 + [1], size=(9, 9))
        sizes = [len(codecs.encode(each, "iso-19794-2:2011")) for each in (plain, stated)]
        assert sizes[1] - sizes[0] == 9
        assert codecs.encode(stated, "iso-19794-2:2011")[-3] == 254

    @pytest.mark.parametrize("name", WRITABLE)
    def test_a_record_of_no_view_is_not_written(self, name: str) -> None:
        with pytest.raises(TemplateOutOfBounds, match="no view"):
            codecs.encode([], name)

    @pytest.mark.parametrize("name", ["ansi-378:2009", "iso", ""])
    def test_an_unknown_format_is_not_written(self, name: str) -> None:
        with pytest.raises(TemplateFormatUnknown, match=NATIVE):
            codecs.encode(crowd(1), name)


def columns(template: Template) -> list[tuple[np.ndarray, np.uint8, np.uint8]]:
    return list(zip(template.xy, template.kind, template.quality, strict=True))


class TestGolden:
    """Files of every released version stay here: new code reads old bytes, and writes the same ones."""

    VIEWS: ClassVar = [
        crowd(6, 1, finger=Finger.RIGHT_INDEX, impression=Impression.LIVE_PLAIN, print_quality=77),
        crowd(4, 2, finger=Finger.LEFT_LITTLE, impression=Impression.NONLIVE_ROLLED),
    ]

    @pytest.mark.parametrize("name", RECORDS)
    def test_golden_bytes(self, name: str) -> None:
        golden = (GOLDEN / f"{name.replace(':', '-')}.bin").read_bytes()
        assert codecs.encode(self.VIEWS, name) == golden
        assert_same(codecs.decode(golden), kept(self.VIEWS, name))

    def test_golden_bytes_of_the_native_format(self) -> None:
        golden = (GOLDEN / "papilar-2.bin").read_bytes()
        views = golden_views()
        assert codecs.encode(views, NATIVE) == golden
        assert codecs.decode(golden) == views
        assert [len(view.ridges) > 0 for view in views] == [True, False]

    def test_the_native_format_of_version_1_is_read(self) -> None:
        """It is recognised as the native format and holds no ridges; written again it is of version 2."""
        golden = (GOLDEN / "papilar-1.bin").read_bytes()
        assert golden[len(native.MAGIC)] == 1
        assert codecs.recognise(golden) == NATIVE
        assert_same(codecs.decode(golden), self.VIEWS)
        assert not any(view.ridges for view in codecs.decode(golden))
        again = codecs.encode(codecs.decode(golden), NATIVE)
        assert again[len(native.MAGIC)] == 2
        assert codecs.decode(again) == codecs.decode(golden)

    def test_version_1_is_checked_like_version_2(self) -> None:
        golden = (GOLDEN / "papilar-1.bin").read_bytes()
        assert_prefixes_refused(golden)
        for at in range(8, len(golden) - 4):
            body = mutated(golden, at, golden[at] ^ 0x55)[:-4]
            with pytest.raises(TemplateError):
                codecs.decode(body + golden[-4:])
            reads_or_refuses(body + struct.pack("<I", zlib.crc32(body)))

    def test_a_record_that_says_version_1_and_holds_ridges_is_refused(self) -> None:
        body = mutated(codecs.encode(golden_views(), NATIVE), len(native.MAGIC), 1)[:-4]
        with pytest.raises(TemplateError):
            codecs.decode(body + struct.pack("<I", zlib.crc32(body)))


def golden_views() -> list[Template]:
    """Two views of made-up minutiae, one with made-up ridges: bare arithmetic, no finger and no chance."""
    k = np.arange(6)
    cells = np.arange(12).reshape(3, 4)
    phase = np.arange(48).reshape(6, 8) * 5 % 8
    grid = RidgeGrid(9, -7, 20, cells * 5 % 64, cells % 8, cells % 3 * 3, phase)
    first = Template.of(
        np.column_stack((40 * k + 3, 70 * k + 1)),
        k / 2,
        k % 3,
        100 - 9 * k,
        size=(300, 400),
        finger=Finger.RIGHT_INDEX,
        impression=Impression.LIVE_PLAIN,
        print_quality=77,
        ridges=pack(grid),
    )
    second = Template.of([(7, 9), (5, 250)], [1.25, 4.5], [2, 1], [0, 0], size=(10, 251))
    return [first, second]


@pytest.mark.datasets
class TestRealSamples:
    """Records written by other libraries, with their content as JSON."""

    SAMPLES: ClassVar = {
        "ansi378v2004": "ansi-378:2004",
        "ansi378v2009": "ansi-378:2009",
        "ansi378v2009am1": "ansi-378:2009",
        "iso19794p2v2005": "iso-19794-2:2005",
        "iso19794p2v2011": "iso-19794-2:2011",
    }

    @pytest.mark.parametrize("sample", SAMPLES)
    def test_every_kept_field_equals_the_json(self, datasets: Path, sample: str) -> None:
        data, content = self.load(datasets, sample)
        name = self.SAMPLES[sample]
        assert codecs.recognise(data) == name
        found = codecs.decode(data)
        assert len(found) == len(content["fingerprints"])
        for template, stated in zip(found, content["fingerprints"], strict=True):
            assert_same([template], [self.stated(stated, content, UNIT[name])])

    @pytest.mark.parametrize("sample", SAMPLES)
    def test_every_strict_prefix_is_refused(self, datasets: Path, sample: str) -> None:
        data, _ = self.load(datasets, sample)
        assert_prefixes_refused(data)

    @pytest.mark.parametrize("sample", SAMPLES)
    def test_our_own_record_of_it_holds_the_same(self, datasets: Path, sample: str) -> None:
        data, _ = self.load(datasets, sample)
        found = codecs.decode(data)
        name = self.SAMPLES[sample]
        if name in WRITABLE:
            assert codecs.decode(codecs.encode(found, name)) == found
        assert codecs.decode(codecs.encode(found, NATIVE)) == found

    @staticmethod
    def load(datasets: Path, sample: str) -> tuple[bytes, dict]:  # type: ignore[type-arg]
        folder = datasets / "formats" / "templates"
        content = json.loads((folder / f"{sample}-sample.json").read_text())
        return (folder / f"{sample}-sample.dat").read_bytes(), content

    @staticmethod
    def stated(view: dict, record: dict, unit: float) -> Template:  # type: ignore[type-arg]
        where = view if "width" in view else record
        assert where["resolutionX"] == where["resolutionY"] == 197
        kinds = {"EITHER": Kind.OTHER} | {kind.name: kind for kind in Kind}
        minutiae = view["minutiae"]
        return Template.of(
            [(m["positionX"], m["positionY"]) for m in minutiae],
            [m["angle"] * unit for m in minutiae],
            [kinds[m["type"]] for m in minutiae],
            [m["quality"] for m in minutiae],
            size=(where["width"], where["height"]),
            finger=Finger[view["position"]],
            impression=Impression[view["scanType"]],
            print_quality=view["qrecords"][0]["quality"] if "qrecords" in view else view["quality"],
        )


def record_2005(
    *,
    size: tuple[int, int] = (400, 500),
    density: tuple[int, int] = (197, 197),
    finger: int = 1,
    impression: int = 0,
    quality: int = 50,
    minutiae: Sequence[tuple[int, int, int, int, int]] = ((1, 10, 20, 64, 30),),
    extended: bytes = b"",
) -> bytes:
    """A record of ISO/IEC 19794-2:2005 of one view; minutiae are (type, x, y, angle code, quality)."""
    view = struct.pack(">4B", finger, impression, quality, len(minutiae))
    view += b"".join(struct.pack(">HHBB", kind << 14 | x, y, code, q) for kind, x, y, code, q in minutiae)
    view += struct.pack(">H", len(extended)) + extended
    return b"FMR\0 20\0" + struct.pack(">IH4HBB", 24 + len(view), 0, *size, *density, 1, 0) + view


def record_2011(
    *, qualities: Sequence[int] = (), certificates: bytes | None = None, minutia_bytes: int = 6
) -> bytes:
    """A record of ISO/IEC 19794-2:2011 of one view with one minutia."""
    capture = b"\xff" * 9 + struct.pack(">BHHB", 0, 1, 2, len(qualities))
    capture += b"".join(struct.pack(">BHH", quality, 3, 4) for quality in qualities)
    if certificates is not None:
        capture += bytes([len(certificates) // 3]) + certificates
    view = capture + struct.pack(">BBHHBHHBB", 2, 0, 197, 197, 24, 400, 500, minutia_bytes << 4, 1)
    view += struct.pack(">HHBB", 1 << 14 | 10, 20, 64, 30)[:minutia_bytes] + b"\0\0"
    flag = certificates is not None
    return b"FMR\0" + b"030\0" + struct.pack(">IHBI", 15 + 4 + len(view), 1, flag, 4 + len(view)) + view


class TestFields:
    @pytest.mark.parametrize("density", [196, 197, 198])
    def test_500_ppi_in_whole_pixels_per_centimetre_is_not_scaled(self, density: int) -> None:
        (found,) = codecs.decode(record_2005(density=(density, density)))
        assert found.xy.tolist() == [[10, 20]]
        assert found.size == (400, 500)

    @pytest.mark.parametrize(("density", "width"), [(195, 404), (199, 396)])
    def test_the_next_resolutions_are_scaled(self, density: int, width: int) -> None:
        (found,) = codecs.decode(record_2005(density=(density, density)))
        assert found.size[0] == width

    def test_another_resolution_is_brought_to_500_ppi(self) -> None:
        (found,) = codecs.decode(record_2005(density=(394, 394)))
        assert found.xy.tolist() == [[5, 10]]
        assert found.size == (200, 250)
        assert found.angle == pytest.approx([math.pi / 2])

    def test_pixels_that_are_not_square_turn_the_direction(self) -> None:
        (found,) = codecs.decode(record_2005(density=(197, 394), minutiae=[(1, 10, 20, 32, 30)]))
        assert found.xy.tolist() == [[10, 10]]
        assert found.angle == pytest.approx([math.atan2(500 / (2.54 * 394), 1)])

    @given(st.integers(1, 0xFFFF), st.integers(1, 0xFFFF), st.integers(1, 0x3FFF), st.integers(1, 0x3FFF))
    def test_no_resolution_moves_a_minutia_out_of_its_image(
        self, dx: int, dy: int, width: int, height: int
    ) -> None:
        corner = [(1, width - 1, height - 1, 0, 1)]
        reads_or_refuses(record_2005(size=(width, height), density=(dx, dy), minutiae=corner))

    @given(st.integers(197, 0xFFFF), st.integers(1, 0x3FFF))
    def test_a_corner_stays_inside_when_the_image_shrinks(self, density: int, side: int) -> None:
        corner = [(1, side - 1, side - 1, 0, 1)]
        (found,) = codecs.decode(record_2005(size=(side, side), density=(density, density), minutiae=corner))
        assert (found.xy < found.size).all()

    @pytest.mark.parametrize("code", range(256))
    def test_a_finger_code_that_a_template_cannot_hold_is_unknown(self, code: int) -> None:
        (found,) = codecs.decode(record_2005(finger=code))
        assert found.finger == (code if code <= 10 else Finger.UNKNOWN)

    @pytest.mark.parametrize("code", range(16))
    def test_impressions_of_2005(self, code: int) -> None:
        (found,) = codecs.decode(record_2005(impression=code))
        assert found.impression == (code if code in (0, 1, 2, 3, 8) else Impression.UNKNOWN)

    @pytest.mark.parametrize(
        ("code", "impression"),
        [
            (3, Impression.NONLIVE_ROLLED),
            (8, Impression.LIVE_SWIPE),
            (4, Impression.UNKNOWN),
            (9, Impression.UNKNOWN),
            (10, Impression.UNKNOWN),
            (20, Impression.LIVE_PLAIN),
            (23, Impression.LIVE_ROLLED),
            (24, Impression.LIVE_CONTACTLESS_PLAIN),
            (26, Impression.LIVE_CONTACTLESS_PLAIN),
            (28, Impression.OTHER),
            (29, Impression.UNKNOWN),
            (200, Impression.UNKNOWN),
        ],
    )
    def test_impressions_of_2009(self, code: int, impression: Impression) -> None:
        (found,) = codecs.decode(record_2009([view_2009(crowd(1), impression=code)]))
        assert found.impression == impression

    @pytest.mark.parametrize(("code", "quality"), [(0, 0), (100, 100), (101, None), (254, None), (255, None)])
    def test_print_qualities_of_2009(self, code: int, quality: int | None) -> None:
        (found,) = codecs.decode(record_2009([view_2009(crowd(1), quality=code)]))
        assert found.print_quality == quality

    @pytest.mark.parametrize(("code", "quality"), [(0, None), (1, 1), (100, 100), (101, None), (255, None)])
    def test_print_qualities_of_2005(self, code: int, quality: int | None) -> None:
        (found,) = codecs.decode(record_2005(quality=code))
        assert found.print_quality == quality

    @pytest.mark.parametrize(("code", "quality"), [(0, 0), (1, 1), (100, 100), (101, 0), (254, 0), (255, 0)])
    def test_minutia_qualities(self, code: int, quality: int) -> None:
        (found,) = codecs.decode(record_2005(minutiae=[(1, 10, 20, 64, code)]))
        assert found.quality.tolist() == [quality]

    @pytest.mark.parametrize(
        ("code", "kind"), [(0, Kind.OTHER), (1, Kind.ENDING), (2, Kind.BIFURCATION), (3, 0)]
    )
    def test_minutia_types(self, code: int, kind: int) -> None:
        (found,) = codecs.decode(record_2005(minutiae=[(code, 10, 20, 64, 1)]))
        assert found.kind.tolist() == [kind]

    def test_reserved_bits_over_y_are_ignored(self) -> None:
        (found,) = codecs.decode(record_2005(minutiae=[(1, 10, 20 | 0xC000, 64, 1)]))
        assert found.xy.tolist() == [[10, 20]]

    @given(st.binary(max_size=300))
    def test_extended_data_are_skipped(self, extended: bytes) -> None:
        assert codecs.decode(record_2005(extended=extended)) == codecs.decode(record_2005())

    @pytest.mark.parametrize(
        ("qualities", "quality"), [((), None), ((0,), 0), ((70, 20), 70), ((255, 20), 20), ((255,), None)]
    )
    def test_quality_blocks_of_2011(self, qualities: tuple[int, ...], quality: int | None) -> None:
        (found,) = codecs.decode(record_2011(qualities=qualities))
        assert found.print_quality == quality
        assert found.impression == Impression.LIVE_CONTACTLESS_PLAIN

    @pytest.mark.parametrize("certificates", [None, b"", b"abc", b"abcdef"])
    def test_certification_blocks_of_2011_are_skipped(self, certificates: bytes | None) -> None:
        assert codecs.decode(record_2011(certificates=certificates)) == codecs.decode(record_2011())

    def test_minutiae_of_five_bytes_state_no_quality(self) -> None:
        (found,) = codecs.decode(record_2011(minutia_bytes=5))
        assert found.quality.tolist() == [0]

    def test_minutiae_of_another_size_are_refused(self) -> None:
        with pytest.raises(TemplateOutOfBounds, match="minutiae of 4 bytes"):
            codecs.decode(record_2011(minutia_bytes=4))

    @pytest.mark.parametrize("owner", [1, 5, 66, 0x1234])
    def test_the_two_standards_of_version_030_are_told_apart(self, owner: int) -> None:
        assert codecs.recognise(record_2009([view_2009(crowd(40))] * 3, owner=owner)) == "ansi-378:2009"
        assert codecs.recognise(record_2011()) == "iso-19794-2:2011"

    @pytest.mark.parametrize("view_bytes", [0, 33, 1000])
    def test_a_2011_record_whose_lengths_do_not_add_up_is_refused(self, view_bytes: int) -> None:
        data = record_2011()
        with pytest.raises(TemplateOutOfBounds, match="do not add up"):
            codecs.decode(data[:15] + struct.pack(">I", view_bytes) + data[19:])

    def test_a_2011_view_too_short_for_its_header_is_refused(self) -> None:
        head = b"FMR\0" + b"030\0" + struct.pack(">IHBI", 15 + 10, 1, 0, 10)
        with pytest.raises(TemplateOutOfBounds, match="do not add up"):
            codecs.decode(head + b"\xff" * 6)

    @pytest.mark.parametrize("version", [b" 20\0", b"020\0"])
    def test_both_spellings_of_version_20_are_read(self, version: bytes) -> None:
        for name in ("iso-19794-2:2005", "ansi-378:2004"):
            data = VALID[name]
            assert codecs.recognise(data[:4] + version + data[8:]) == name


def assert_prefixes_refused(data: bytes) -> None:
    magic = len(native.MAGIC) if data.startswith(native.MAGIC) else 4
    for end in range(len(data)):
        expected = TemplateTruncated if end >= magic else TemplateFormatUnknown
        with pytest.raises(expected) as caught:
            codecs.decode(data[:end])
        assert type(caught.value) is expected


class TestBrokenBytes:
    @pytest.mark.parametrize("name", [name for name in VALID if "long" not in name])
    def test_every_strict_prefix_is_truncated(self, name: str) -> None:
        assert_prefixes_refused(VALID[name])

    @given(end=st.integers(0, len(VALID["ansi-378:2004, long"]) - 1))
    @example(end=9)
    @example(end=13)
    @example(end=29)
    def test_every_strict_prefix_of_a_long_record_is_truncated(self, end: int) -> None:
        with pytest.raises(TemplateTruncated if end >= 4 else TemplateFormatUnknown):
            codecs.decode(VALID["ansi-378:2004, long"][:end])

    @given(views=view_lists(most=3), cut=st.floats(0, 1, exclude_max=True))
    @pytest.mark.parametrize("name", WRITABLE)
    def test_a_strict_prefix_of_any_record_is_truncated(
        self, name: str, views: list[Template], cut: float
    ) -> None:
        data = codecs.encode(views, name)
        end = max(int(cut * len(data)), 8)
        with pytest.raises(TemplateTruncated):
            codecs.decode(data[:end])

    @given(st.binary(max_size=400))
    @example(b"")
    def test_arbitrary_bytes(self, data: bytes) -> None:
        reads_or_refuses(data)

    @given(st.sampled_from([b" 20\0", b"020\0", b"030\0", b"035\0"]), st.binary(max_size=400))
    def test_arbitrary_bytes_behind_a_header(self, version: bytes, data: bytes) -> None:
        reads_or_refuses(b"FMR\0" + version + data)

    @given(st.sampled_from([b" 20\0", b"030\0", b"035\0"]), st.binary(min_size=16, max_size=200))
    def test_arbitrary_bytes_behind_a_true_length(self, version: bytes, data: bytes) -> None:
        reads_or_refuses(b"FMR\0" + version + struct.pack(">I", 12 + len(data)) + data)

    @given(data=st.data())
    @settings(max_examples=400, deadline=None)
    @pytest.mark.parametrize("name", list(VALID))
    def test_a_byte_that_changed(self, name: str, data: st.DataObject) -> None:
        at = data.draw(st.integers(0, len(VALID[name]) - 1))
        reads_or_refuses(mutated(VALID[name], at, data.draw(st.integers(0, 255))))

    @pytest.mark.parametrize("name", ["iso-19794-2:2011", "ansi-378:2009", "ansi-378:2004"])
    def test_every_byte_of_the_headers_takes_every_value(self, name: str) -> None:
        for at in range(8, 32):
            for value in range(256):
                reads_or_refuses(mutated(VALID[name], at, value))

    @given(at=st.integers(8, len(VALID[NATIVE]) - 5), value=st.integers(1, 255))
    def test_the_checksum_finds_every_changed_byte(self, at: int, value: int) -> None:
        data = VALID[NATIVE]
        with pytest.raises(TemplateError):
            codecs.decode(mutated(data, at, data[at] ^ value))

    @given(at=st.integers(8, len(VALID[NATIVE]) - 5), value=st.integers(0, 255))
    def test_a_native_record_is_checked_behind_its_checksum(self, at: int, value: int) -> None:
        body = mutated(VALID[NATIVE], at, value)[:-4]
        reads_or_refuses(body + struct.pack("<I", zlib.crc32(body)))

    @pytest.mark.parametrize("name", [name for name in VALID if name != NATIVE])
    @pytest.mark.parametrize("extra", [1, 2, 3, 50])
    def test_more_bytes_than_the_record_are_refused(self, name: str, extra: int) -> None:
        with pytest.raises(TemplateOutOfBounds, match="bytes"):
            codecs.decode(VALID[name] + bytes(extra))

    @pytest.mark.parametrize("by", [-50, -3, 1, 2, 3, 50])
    @pytest.mark.parametrize("name", ["iso-19794-2:2005", "iso-19794-2:2011", "ansi-378:2009"])
    def test_a_length_that_lies_is_refused(self, name: str, by: int) -> None:
        data = VALID[name]
        lying = data[:8] + struct.pack(">I", len(data) + by) + data[12:]
        with pytest.raises(TemplateTruncated if by > 0 else TemplateOutOfBounds):
            codecs.decode(lying)

    @pytest.mark.parametrize("by", [-1, -2])
    @pytest.mark.parametrize("name", ["iso-19794-2:2005", "iso-19794-2:2011"])
    def test_an_iso_length_is_exact(self, name: str, by: int) -> None:
        data = VALID[name]
        with pytest.raises(TemplateOutOfBounds):
            codecs.decode(data[:8] + struct.pack(">I", len(data) + by) + data[12:])

    @pytest.mark.parametrize("by", [-1, -2])
    def test_an_ansi_length_may_leave_out_what_its_header_has_over_isos(self, by: int) -> None:
        data = VALID["ansi-378:2004"]
        assert codecs.decode(data[:8] + struct.pack(">H", len(data) + by) + data[10:]) == codecs.decode(data)

    def test_a_length_below_the_header_is_refused(self) -> None:
        for name in ("iso-19794-2:2005", "iso-19794-2:2011", "ansi-378:2009", "ansi-378:2004"):
            with pytest.raises(TemplateError):
                codecs.decode(VALID[name][:8] + bytes(4) + VALID[name][12:])

    def test_a_minutia_outside_its_image_is_named(self) -> None:
        with pytest.raises(
            TemplateOutOfBounds, match=r"minutia 1 at \(400, 20\) lies outside its 400 x 500 image"
        ):
            codecs.decode(record_2005(minutiae=[(1, 399, 499, 0, 1), (1, 400, 20, 0, 1)]))

    @pytest.mark.parametrize("density", [(0, 197), (197, 0), (0, 0)])
    def test_a_resolution_of_zero_is_refused(self, density: tuple[int, int]) -> None:
        with pytest.raises(TemplateOutOfBounds, match=r"0 .*pixels per centimetre"):
            codecs.decode(record_2005(density=density))

    @pytest.mark.parametrize("size", [(0, 500), (400, 0)])
    def test_an_image_without_size_is_refused(self, size: tuple[int, int]) -> None:
        with pytest.raises(TemplateOutOfBounds):
            codecs.decode(record_2005(size=size, minutiae=()))

    @pytest.mark.parametrize("version", [b" 10\0", b"040\0", b"\0\0\0\0", b"abcd"])
    def test_another_version_of_the_record_is_refused(self, version: bytes) -> None:
        with pytest.raises(TemplateVersionUnsupported, match="version"):
            codecs.decode(b"FMR\0" + version + bytes(100))

    def test_a_newer_native_version_is_refused(self) -> None:
        data = VALID[NATIVE]
        for version in (b"\3\0", b"\0\1"):
            with pytest.raises(TemplateVersionUnsupported, match="reads 1 to 2"):
                codecs.decode(data[:8] + version + data[10:])

    def test_version_0_is_refused(self) -> None:
        with pytest.raises(TemplateVersionUnsupported, match="version 0"):
            codecs.decode(mutated(VALID[NATIVE], 8, 0))

    @given(ridges=descriptions, cut=st.integers(1, 40), more=st.binary(min_size=1, max_size=9))
    def test_a_ridge_description_that_is_none_is_refused(self, ridges: bytes, cut: int, more: bytes) -> None:
        """Cut short, drawn out, or of a step that there is not, inside a record that is otherwise whole."""
        whole = codecs.encode(crowd(3, ridges=ridges), NATIVE)
        at = whole.index(struct.pack("<H", len(ridges)) + ridges)
        for broken in (ridges[: -min(cut, len(ridges) - 1)], ridges + more, b"\1" + ridges[1:]):
            changed = struct.pack("<H", len(broken)) + broken
            body = bytearray(whole[:at] + changed)
            struct.pack_into("<I", body, 10, len(body) + 4)
            with pytest.raises(TemplateError, match="ridge description"):
                codecs.decode(bytes(body) + struct.pack("<I", zlib.crc32(body)))
            with pytest.raises(TemplateError, match="ridge description"):
                crowd(3, ridges=broken)

    @pytest.mark.parametrize("data", [b"", b"FM", b"PAPILA", b"<?xml version='1.0'?>", bytes(64)])
    def test_bytes_of_no_format(self, data: bytes) -> None:
        with pytest.raises(TemplateFormatUnknown, match="no template record"):
            codecs.decode(data)
