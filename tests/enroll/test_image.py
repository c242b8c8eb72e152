"""Image files: every format in, the resolution never guessed, nothing half-read."""

import io
import random
import struct
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from enroll import wsq_stream
from enroll.errors import (
    ImageEmpty,
    ImageError,
    ImageFormatUnknown,
    ImageTooLarge,
    ImageTooSmall,
    ImageTruncated,
    ResolutionImplausible,
    ResolutionUnknown,
)
from enroll.image import GrayImage, encode_png, read_image, resample


def ridges(height=120, width=100, period=9.0):
    y, x = np.mgrid[:height, :width]
    return np.uint8(127.5 + 120 * np.sin(2 * np.pi * np.hypot(x - width / 3, y + 20) / period))


def encoded(image, kind, **options):
    out = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(out, kind, **options)
    return out.getvalue()


def wsq_of(pixels, comment=b""):
    data = encoded(pixels, "WSQ")
    body = struct.pack(">H", 2 + len(comment)) + comment
    at = data.index(b"\xff\xa8")  # the encoder writes comments of its own: ours takes their place
    end = data.index(b"\xff\xa4")
    return data[:at] + (b"\xff\xa8" + body if comment else b"") + data[end:]


LOSSLESS = {
    "png": ("PNG", {}),
    "bmp": ("BMP", {}),
    "tiff": ("TIFF", {}),
    "tiff-lzw": ("TIFF", {"compression": "tiff_lzw"}),
    "jp2": ("JPEG2000", {}),
    "j2k": ("JPEG2000", {"no_jp2": True}),
    "pgm": ("PPM", {}),
}
LOSSY = {
    "jpeg": ("JPEG", {"quality": 95}),
    "progressive": ("JPEG", {"progressive": True}),
    "wsq": ("WSQ", {}),
}


@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless_formats(name):
    kind, options = LOSSLESS[name]
    image = read_image(encoded(ridges(), kind, **options), ppi=500)
    assert np.array_equal(image.pixels, ridges())
    assert image.ppi == 500
    assert len(image.sha256) == 64
    assert not image.pixels.flags.writeable


@pytest.mark.parametrize("name", LOSSY)
def test_lossy_formats(name):
    kind, options = LOSSY[name]
    image = read_image(encoded(ridges(), kind, **options), ppi=500)
    assert image.pixels.shape == (120, 100)
    assert np.abs(image.pixels.astype(int) - ridges()).mean() < 12


def test_plain_pgm_and_pbm():
    rows = "\n".join(" ".join(map(str, row)) for row in ridges() // 2)
    image = read_image(f"P2\n# a comment\n100 120\n127\n{rows}\n".encode(), ppi=500)
    assert np.abs(image.pixels.astype(int) - ridges()).max() <= 3
    bits = Image.fromarray(ridges() > 127)
    assert set(np.unique(read_image(encoded(bits, "PPM"), ppi=500).pixels)) == {0, 255}


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG2000", "PPM"])
def test_sixteen_bits_are_scaled(kind):
    wide = ridges().astype(np.uint16) * 257
    assert np.array_equal(read_image(encoded(wide, kind), ppi=500).pixels, ridges())


def test_sixteen_bits_with_white_zero():
    data = encoded((255 - ridges()).astype(np.uint16) * 257, "TIFF")
    black_zero = struct.pack("<HHIHH", 262, 3, 1, 1, 0)
    assert black_zero in data
    data = data.replace(black_zero, struct.pack("<HHIHH", 262, 3, 1, 0, 0))
    assert np.array_equal(read_image(data, ppi=500).pixels, ridges())


@pytest.mark.parametrize("mode", ["1", "RGB", "P", "LA", "RGBA"])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_colour_modes(mode, kind):
    image = Image.fromarray(np.where(ridges() > 127, 255, 0).astype(np.uint8)).convert(mode)
    assert np.array_equal(read_image(encoded(image, kind), ppi=500).pixels > 127, ridges() > 127)


def test_cmyk_and_palette_with_transparency():
    ink = Image.fromarray(ridges()).convert("CMYK")
    assert np.abs(read_image(encoded(ink, "TIFF"), ppi=500).pixels.astype(int) - ridges()).max() <= 2
    indexed = Image.fromarray(np.uint8(ridges() > 127))
    indexed.putpalette([0, 0, 0, 0, 0, 0])
    pixels = read_image(encoded(indexed, "PNG", transparency=1), ppi=500).pixels
    assert np.array_equal(pixels > 127, ridges() > 127)


def test_alpha_is_put_on_white():
    clear = Image.new("RGBA", (100, 120), (0, 0, 0, 0))
    assert (read_image(encoded(clear, "PNG"), ppi=500).pixels == 255).all()


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {"dpi": (500, 500)}),
        ("BMP", {"dpi": (500, 500)}),
        ("JPEG", {"dpi": (500, 500)}),
        ("TIFF", {"dpi": (500, 500)}),
        ("TIFF", {"resolution": 196.85, "resolution_unit": 3}),
    ],
)
def test_resolution_of_the_file(kind, options):
    image = read_image(encoded(ridges(), kind, **options))
    assert image.ppi == pytest.approx(500, abs=0.1)
    assert image.warnings == ()


def test_resolution_of_jp2():
    data = encoded(ridges(), "JPEG2000")
    resc = struct.pack(">I4sHHHHBB", 18, b"resc", 19685, 1, 19685, 1, 0, 0)
    box = struct.pack(">I4s", 8 + len(resc), b"res ") + resc
    at = data.index(b"jp2h") - 4
    length = struct.unpack_from(">I", data, at)[0]
    data = (
        data[:at]
        + struct.pack(">I", length + len(box))
        + data[at + 4 : at + length]
        + box
        + data[at + length :]
    )
    assert read_image(data).ppi == 500


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("TIFF", {}),
        ("TIFF", {"dpi": (1, 1)}),
        ("TIFF", {"resolution": 500, "resolution_unit": 1}),
        ("JPEG", {}),
        ("JPEG2000", {}),
        ("PPM", {}),
    ],
)
def test_no_resolution(kind, options):
    with pytest.raises(ResolutionUnknown, match="--ppi"):
        read_image(encoded(ridges(), kind, **options))


@pytest.mark.parametrize("dpi", [72, 96, 150, 249, 2400])
def test_implausible_resolution(dpi):
    data = encoded(ridges(), "PNG", dpi=(dpi, dpi))
    with pytest.raises(ResolutionImplausible, match=rf"{dpi} ppi.*--ppi"):
        read_image(data)
    image = read_image(data, ppi=500)
    assert image.ppi == 500
    assert image.warnings == (f"the file states {dpi} ppi, 500 given by the caller was used",)


@pytest.mark.parametrize("ppi", [0, -500, 100, 3000, float("nan"), float("inf")])
def test_implausible_argument(ppi):
    with pytest.raises(ResolutionImplausible):
        read_image(encoded(ridges(), "PNG"), ppi=ppi)


def test_small_difference_is_no_warning():
    assert read_image(encoded(ridges(), "PNG", dpi=(505, 505)), ppi=500).warnings == ()


def test_pixels_that_are_not_square():
    data = encoded(ridges(), "PNG", dpi=(500, 400))
    with pytest.raises(ResolutionImplausible, match="not square"):
        read_image(data)
    assert "500 x 400" in read_image(data, ppi=500).warnings[0]


def test_wsq_resolution():
    assert read_image(wsq_of(ridges(160, 150), b"NIST_COM 2\nPPI 1000\n")).ppi == 1000
    for unknown in (b"", b"NIST_COM 2\nPPI 255\n"):
        image = read_image(wsq_of(ridges(), unknown))
        assert image.ppi == 500
        assert "500 ppi of its standard" in image.warnings[0]
    assert read_image(wsq_of(ridges(), b"PPI 99"), ppi=500).warnings
    with pytest.raises(ResolutionImplausible, match="99"):
        read_image(wsq_of(ridges(), b"PPI 99"))


def test_orientation_is_not_applied():
    exif = Image.Exif()
    exif[0x0112] = 6
    image = read_image(encoded(ridges(), "JPEG", exif=exif, dpi=(500, 500)))
    assert image.pixels.shape == (120, 100)
    assert "orientation 6" in image.warnings[0]


def test_first_page_of_several():
    pages = [Image.fromarray(ridges()), Image.new("L", (100, 120))]
    data = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    image = read_image(data, ppi=500)
    assert np.array_equal(image.pixels, ridges())
    assert "2 pages" in image.warnings[0]


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


@pytest.mark.parametrize("side", [7_000, 10_000, 30_000, 2**31 - 1])
def test_large_images_are_refused_by_their_header(side):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageTooLarge):
            read_image(data, ppi=500)
    assert time.perf_counter() - start < 1


def test_large_wsq_is_refused_by_its_header():
    data = wsq_of(ridges())
    at = data.index(b"\xff\xa2") + 6
    with pytest.raises(ImageTooLarge):
        read_image(data[:at] + b"\xff\xff\xff\xff" + data[at + 4 :])


def test_long_and_narrow():
    with pytest.raises(ImageTooLarge):
        read_image(encoded(np.zeros((70, 16_385), np.uint8), "PNG"), ppi=500)


def test_small_images():
    with pytest.raises(ImageTooSmall):
        read_image(encoded(ridges(63, 100), "PNG"), ppi=500)
    with pytest.raises(ImageTooSmall):
        read_image(encoded(ridges(120, 100), "PNG"), ppi=1000)
    assert read_image(encoded(ridges(64, 64), "PNG"), ppi=500).pixels.shape == (64, 64)


def test_empty():
    with pytest.raises(ImageEmpty):
        read_image(b"")


@pytest.mark.parametrize(
    "data", [b"\0", b"P", b"P5", b"hello, I am print.png\n" * 20, b"GIF89a" + bytes(99), b"<svg/>"]
)
def test_unknown_formats(data):
    with pytest.raises(ImageFormatUnknown):
        read_image(data, ppi=500)


def test_floating_point_is_refused():
    with pytest.raises(ImageFormatUnknown, match="floating"):
        read_image(encoded(Image.new("F", (80, 80)), "TIFF"), ppi=500)
    with pytest.raises(ImageFormatUnknown, match="16 bits"):
        read_image(encoded(np.full((80, 80), 1 << 20, np.int32), "TIFF"), ppi=500)


@pytest.mark.parametrize("name", {**LOSSLESS, **LOSSY})
def test_no_prefix_is_read(name):
    kind, options = {**LOSSLESS, **LOSSY}[name]
    data = encoded(ridges(), kind, **options)
    whole = read_image(data, ppi=500).pixels
    cuts = {
        *range(1, min(400, len(data))),
        *range(400, len(data), 97),
        *range(max(1, len(data) - 40), len(data)),
    }
    for cut in sorted(cuts):
        try:
            pixels = read_image(data[:cut], ppi=500).pixels
        except ImageError:
            continue
        # Only what follows the pixels may be missing, and only from a format without an end marker.
        assert kind == "TIFF"
        assert cut > len(data) - 16
        assert np.array_equal(pixels, whole)


@pytest.mark.parametrize("name", {**LOSSLESS, **LOSSY})
def test_damaged_bytes_raise_nothing_but_ours(name):
    kind, options = {**LOSSLESS, **LOSSY}[name]
    data = encoded(ridges(), kind, **options)
    rng = random.Random(7)  # noqa: S311
    for _ in range(150):
        damaged = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            damaged[rng.randrange(min(len(data), rng.choice([60, 900, 10**9])))] = rng.randrange(256)
        try:
            image = read_image(bytes(damaged), ppi=500)
        except ImageError:
            continue
        assert image.pixels.dtype == np.uint8


def test_wsq_with_a_part_missing_but_an_end_marker():
    data = wsq_of(ridges(300, 300))
    for share in (0.5, 0.7, 0.9, 0.98):
        cut = int(len(data) * share)
        with pytest.raises(ImageTruncated):
            read_image(data[:cut] + b"\xff\xa1")


@pytest.mark.parametrize(("height", "width"), [(65, 64), (127, 130), (131, 97), (200, 201), (222, 223)])
def test_wsq_coefficients_are_counted(height, width):
    rng = np.random.default_rng(height)
    for pixels in (ridges(height, width), rng.integers(0, 256, (height, width), np.uint8)):
        wsq_stream.check(encoded(pixels, "WSQ"))


def test_resample():
    image = GrayImage(ridges(400, 300, 18), 1000.0, "0" * 64, ("kept",))
    half = resample(image)
    assert half.pixels.shape == (200, 150)
    assert (half.ppi, half.sha256, half.warnings) == (500, image.sha256, ("kept",))
    assert not half.pixels.flags.writeable
    y, x = np.mgrid[:200, :150] * 2 + 0.5
    wanted = 127.5 + 120 * np.sin(2 * np.pi * np.hypot(x - 100, y + 20) / 18)
    assert np.abs(half.pixels - wanted).mean() < 8
    assert resample(GrayImage(ridges(), 569.0, "")).pixels.shape == (105, 88)
    assert resample(GrayImage(ridges(), 250.0, "")).pixels.shape == (240, 200)
    with pytest.raises(ResolutionImplausible):
        resample(image, ppi=72)
    with pytest.raises(ImageTooLarge):
        resample(GrayImage(np.zeros((9000, 100), np.uint8), 250.0, ""))


def test_resample_does_nothing_where_nothing_is_to_do():
    for ppi in (500.0, 499.999, 502.0):
        image = GrayImage(ridges(), ppi, "")
        assert resample(image) is image


def test_halving_leaves_no_false_ridges():
    fine = np.uint8(np.indices((400, 400)).sum(axis=0) % 2 * 255)  # a period of 2 pixels must go grey
    assert resample(GrayImage(fine, 1000.0, "")).pixels.std() < 2


def test_png_round_trip():
    for ppi in (500.0, 569.0, 1000.0):
        image = GrayImage(ridges(160, 150), ppi, "")
        again = read_image(encode_png(image))
        assert np.array_equal(again.pixels, image.pixels)
        assert again.ppi == pytest.approx(ppi, abs=0.1)


@pytest.mark.datasets
def test_one_print_in_five_formats(datasets: Path):
    folder = datasets / "formats" / "ebts"
    images = {
        name: read_image((folder / f"finger8.{name}").read_bytes(), ppi=500)
        for name in ("png", "bmp", "jpg", "jp2", "wsq")
    }
    for name, image in images.items():  # the PNG carries a gamma of its own: likeness, not equality
        assert np.corrcoef(image.pixels.ravel(), images["png"].pixels.ravel())[0, 1] > 0.97, name


@pytest.mark.datasets
def test_real_files_state_what_they_state(datasets: Path):
    formats = datasets / "formats"
    for path in sorted((formats / "rolled_cards").glob("*.bmp")):
        assert read_image(path.read_bytes()).ppi == 1000
    sample = read_image((formats / "wsq" / "sample.wsq").read_bytes())
    assert (sample.ppi, sample.warnings, sample.pixels.shape) == (500, (), (622, 545))
    with pytest.raises(ResolutionUnknown):
        read_image((datasets / "fvc2002" / "DB1_B" / "101_1.tif").read_bytes())
    with pytest.raises(ResolutionImplausible, match="90"):
        read_image((formats / "ebts" / "face24.jpg").read_bytes())


@pytest.mark.datasets
def test_wsq_of_real_transactions_is_whole(datasets: Path):
    found = 0
    for path in sorted((datasets / "formats" / "nist").glob("*.an2")):
        data = path.read_bytes()
        at = data.find(b"\xff\xa0\xff")
        while at >= 0:
            if data[at + 3] in (0xA2, 0xA4, 0xA5, 0xA6, 0xA8):
                wsq_stream.check(data[at:])
                found += 1
            at = data.find(b"\xff\xa0\xff", at + 1)
    assert found >= 30


def test_a_palette_that_is_not_there_is_damage() -> None:
    """Pillow asserts that there is one. Found by fuzzing: the chunk of the palette under another name."""
    file = io.BytesIO()
    Image.fromarray(np.arange(96 * 80, dtype=np.uint8).reshape(96, 80)).convert("P").save(file, "PNG")
    whole = file.getvalue()
    at = whole.index(b"PLTE")
    length = int.from_bytes(whole[at - 4 : at])
    renamed = b"PELT" + whole[at + 4 : at + 4 + length]
    data = whole[:at] + renamed + zlib.crc32(renamed).to_bytes(4) + whole[at + 8 + length :]
    with pytest.raises(ImageError):
        read_image(data, ppi=500)
