"""Image files in and out: bytes to `GrayImage` and back.

Nothing else of `enroll` touches Pillow or the WSQ decoder. A file is refused by its header where that
is possible, before a pixel is decoded, and a file that is not whole is refused altogether: half a print
would enrol as a poor one.

The EXIF orientation is **not** applied. Fingerprint scanners do not write it, formats to which the same print
is converted (WSQ, ANSI/NIST-ITL) cannot keep it, and one print turned two ways would become two; where a
file holds one that would turn the image, a warning is recorded instead.
"""

import hashlib
import io
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import wsq  # its import registers the WSQ format with Pillow
from numpy.typing import NDArray
from PIL import Image

from enroll import wsq_stream
from enroll.errors import (
    ImageEmpty,
    ImageFormatUnknown,
    ImageTooLarge,
    ImageTooSmall,
    ImageTruncated,
    ResolutionImplausible,
    ResolutionUnknown,
)
from matcher.template import PPI

_REMEDY_PPI = "give the scanner's true resolution with `ppi=` (`--ppi` on the command line)"
_REMEDY_WHOLE = "send the whole file, as the scanner wrote it"
_REMEDY_FORMAT = "send PNG, BMP, TIFF, JPEG, JPEG 2000, WSQ or PGM with 8 or 16 bits a sample"


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What is taken for an image of a print."""

    pixels: int = 40_000_000  # a slap of 3.2 x 3 inch at 1000 ppi has 10 million, two palms at 1000 ppi 40
    side: int = 16_384  # pixels; a Template holds coordinates up to 32767
    smallest_side: int = 64  # pixels at 500 ppi, 3.3 mm: eight ridges, too few for any comparison
    ppi_low: float = 250.0  # half of 500: two pixels a ridge; screens and office scanners state 72 to 200
    ppi_high: float = 2000.0  # twice 1000, the finest usual; for latent photographs
    ppi_tolerance: float = 0.02  # chosen: twice the 1 % to which 500 ppi scanners are commonly certified
    same_ppi: float = 0.005  # half a pixel in a hundred
    cubic_down_to: float = 0.8  # 569 -> 500 ppi, the sharpest step that LEADER was trained with, is 0.88


LIMITS = ImageLimits()


@dataclass(frozen=True, slots=True, eq=False)
class GrayImage:
    """A grey image of a print.

    Attributes
    ----------
    pixels : ndarray of uint8, shape (H, W)
        Read-only; ridges are dark.
    ppi : float
        Resolution, pixels per inch, the same along both axes.
    sha256 : str
        Digest of the bytes that the image was read from, 64 hexadecimal digits.
    warnings : tuple of str
        What a reader should know of how the image was read; empty when all was as it should be.
    """

    pixels: NDArray[np.uint8]
    ppi: float
    sha256: str
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.pixels.flags.writeable = False


def read_image(data: bytes, *, ppi: float | None = None) -> GrayImage:
    """Read an image file of any supported format.

    Parameters
    ----------
    data : bytes
        A PNG, BMP, TIFF, JPEG, JPEG 2000 (JP2 or raw codestream), WSQ, or PGM/PPM/PBM file. Colour becomes
        luminance, transparency white, 16 bits 8; of a file with several pages the first is read.
    ppi : float, optional
        Resolution, pixels per inch. It wins over what the file states; a warning is recorded where the two
        differ by more than 2 %.

    Returns
    -------
    GrayImage
        At the file's own resolution.

    Raises
    ------
    ImageEmpty
        No bytes.
    ImageFormatUnknown
        No format, or no kind of samples, that is read here.
    ImageTruncated
        The file is not whole.
    ImageTooLarge, ImageTooSmall
        By its header: nothing has been decoded.
    ResolutionUnknown
        Neither the file nor the caller states a resolution.
    ResolutionImplausible
        The one stated is below 250 or above 2000 ppi, or the file's pixels are not square.

    Notes
    -----
    WSQ is specified for 500 ppi alone [1]_, so a WSQ file that states nothing else is read as such, and a
    warning says so. A comment "PPI 255" is that of encoders that store an unknown resolution (-1) in one
    byte, and counts as nothing stated.

    References
    ----------
    .. [1] FBI, "WSQ Gray-Scale Fingerprint Image Compression Specification", IAFIS-IC-0110.
    """
    if not data:
        raise ImageEmpty("the image has no bytes", remedy=_REMEDY_WHOLE)
    kind = _kind(data)
    image, stated, notes = _open_wsq(data) if kind == "WSQ" else _open(data, kind)
    _check_large(*image.size)
    resolution, noted = _resolution(stated, ppi)
    _check_small(*image.size, resolution)
    _check_whole(data, kind, image)
    pixels = _decoded(image)
    return GrayImage(pixels, resolution, hashlib.sha256(data).hexdigest(), notes + noted)


def resample(image: GrayImage, *, ppi: float = PPI) -> GrayImage:
    """Bring an image to another resolution.

    Parameters
    ----------
    image : GrayImage
    ppi : float
        Pixels per inch wanted.

    Returns
    -------
    GrayImage
        `image` itself where it is within 0.5 % of `ppi` already.

    Raises
    ------
    ResolutionImplausible
        `ppi` is not within 250 to 2000.
    ImageTooLarge
        The result would be.

    Notes
    -----
    Bicubic when enlarging and down to 0.8 of the size (the minutiae network was trained on 569 ppi brought
    to 500 like that); below, the mean over the area of each new pixel, which lets no fine pattern fold into
    a false ridge.
    """
    _check_plausible(ppi, "asked for")
    scale = ppi / image.ppi
    if abs(scale - 1) <= LIMITS.same_ppi:
        return image
    height, width = (max(1, round(side * scale)) for side in image.pixels.shape)
    _check_large(width, height)
    method = cv2.INTER_CUBIC if scale >= LIMITS.cubic_down_to else cv2.INTER_AREA
    pixels = cv2.resize(image.pixels, (width, height), interpolation=method)
    return replace(image, pixels=np.asarray(pixels, np.uint8), ppi=float(ppi))


def encode_png(image: GrayImage) -> bytes:
    """Write an image as PNG, 8-bit grey, with its resolution in pHYs.

    Parameters
    ----------
    image : GrayImage

    Returns
    -------
    bytes
    """
    out = io.BytesIO()
    Image.fromarray(image.pixels).save(out, "PNG", dpi=(image.ppi, image.ppi))
    return out.getvalue()


_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"\xff\xa0\xff", "WSQ"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
)


def _kind(data: bytes) -> str:
    """Name the format by its first bytes."""
    for magic, kind in _MAGIC:
        if data.startswith(magic):
            return kind
    if data[:2] == b"BM" and data[6:10] == bytes(4):
        return "BMP"
    if data[:1] == b"P" and data[1:2] in b"123456" and data[2:3] in b" \t\r\n" and len(data) > 2:
        return "PPM"
    raise ImageFormatUnknown("the bytes are of no image format that is read here", remedy=_REMEDY_FORMAT)


_OPENING = threading.Lock()  # the standard library's filter of warnings belongs to the whole process


@contextmanager
def _reading(kind: str) -> Iterator[None]:
    """Turn what the decoders raise while a header is read into our own; keep their warnings to ourselves."""
    try:
        with _OPENING, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Image.DecompressionBombError as error:
        raise ImageTooLarge(f"more than {LIMITS.pixels} pixels", remedy="send one print") from error
    except Exception as error:  # they raise whatever they like: nothing but ours leaves this module
        raise _damaged(kind, error) from error


def _open(data: bytes, kind: str) -> tuple[Image.Image, tuple[float, float] | None, tuple[str, ...]]:
    """Read the header: an image not yet decoded, the resolution it states, warnings."""
    with _reading(kind):
        image = Image.open(io.BytesIO(data), formats=(kind,))
        pages = int(getattr(image, "n_frames", 1)) if kind == "TIFF" else 1
        turn, stated = _orientation(image), _stated(image)
    notes = []
    if pages > 1:
        notes.append(f"the file holds {pages} pages, the first was read")
    if turn not in (0, 1):
        notes.append(f"the file's EXIF orientation {turn} was not applied")
    return image, stated, tuple(notes)


def _open_wsq(data: bytes) -> tuple[Image.Image, tuple[float, float] | None, tuple[str, ...]]:
    size_x, size_y, ppi = wsq_stream.header(data)
    _check_large(size_x, size_y)
    with _reading("WSQ"):
        image = Image.open(io.BytesIO(data), formats=(wsq.WsqImagePlugin.WsqImageFile.format,))
    if ppi is None or ppi in (255.0, 0.0):
        return image, (PPI, PPI), ("the WSQ file states no resolution, the 500 ppi of its standard was used",)
    return image, (ppi, ppi), ()


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:  # a broken EXIF block says nothing, and takes nothing from the pixels
        return 1


def _stated(image: Image.Image) -> tuple[float, float] | None:
    """Resolution of the file, pixels per inch along x and y, to a tenth: they are stored per metre."""
    if 282 not in getattr(image, "tag_v2", (282,)):
        return None  # a TIFF without the tag, for which Pillow invents (1, 1)
    stated = image.info.get("dpi")
    try:
        x, y = (round(float(value), 1) for value in stated or ())
    except (TypeError, ValueError, OverflowError, ZeroDivisionError):
        return None
    known = np.isfinite((x, y)).all() and min(x, y) > 1
    return (x, y) if known else None


def _resolution(stated: tuple[float, float] | None, ppi: float | None) -> tuple[float, tuple[str, ...]]:
    """Settle the resolution between file and caller; never guessed."""
    if ppi is not None:
        _check_plausible(ppi, "given")
        return float(ppi), _contradiction(stated, ppi)
    if stated is None:
        raise ResolutionUnknown("the file states no resolution", remedy=_REMEDY_PPI)
    x, y = stated
    if not _near(x, y):
        raise ResolutionImplausible(f"the file states {x:g} x {y:g} ppi, not square", remedy=_REMEDY_PPI)
    _check_plausible(x, "the file states")
    return x, ()


def _contradiction(stated: tuple[float, float] | None, ppi: float) -> tuple[str, ...]:
    if stated is None or all(_near(value, ppi) for value in stated):
        return ()
    said = f"{stated[0]:g}" if stated[0] == stated[1] else f"{stated[0]:g} x {stated[1]:g}"
    return (f"the file states {said} ppi, {ppi:g} given by the caller was used",)


def _near(one: float, other: float) -> bool:
    return abs(one - other) <= LIMITS.ppi_tolerance * other


def _check_plausible(ppi: float, whose: str) -> None:
    if not LIMITS.ppi_low <= ppi <= LIMITS.ppi_high:
        limits = f"{LIMITS.ppi_low:g} to {LIMITS.ppi_high:g}"
        raise ResolutionImplausible(f"{whose}: {ppi:g} ppi, outside {limits}", remedy=_REMEDY_PPI)


def _check_large(width: int, height: int) -> None:
    if max(width, height) > LIMITS.side or width * height > LIMITS.pixels:
        raise ImageTooLarge(
            f"{width} x {height} pixels, more than {LIMITS.side} a side or {LIMITS.pixels} in all",
            remedy="send one print, not a sheet",
        )


def _check_small(width: int, height: int, ppi: float) -> None:
    if min(width, height) * PPI / ppi < LIMITS.smallest_side:
        raise ImageTooSmall(
            f"{width} x {height} pixels at {ppi:g} ppi, less than {LIMITS.smallest_side} a side at {PPI}",
            remedy="send the whole print, not a thumbnail",
        )


def _check_whole(data: bytes, kind: str, image: Image.Image) -> None:
    """Ask for the end of the formats whose decoders can do without it."""
    if not _WHOLE.get(kind, _assume_whole)(data, image):
        raise ImageTruncated(f"the {kind} file ends early", remedy=_REMEDY_WHOLE)


def _assume_whole(data: bytes, image: Image.Image) -> bool:
    return True  # the decoder itself refuses a short file


def _png_whole(data: bytes, image: Image.Image) -> bool:
    return b"IEND\xaeB\x60\x82" in data


def _tiff_whole(data: bytes, image: Image.Image) -> bool:
    tags: Any = getattr(image, "tag_v2", {})
    starts, lengths = ((*tags.get(a, ()), *tags.get(b, ())) for a, b in ((273, 324), (279, 325)))
    return all(start + length <= len(data) for start, length in zip(starts, lengths, strict=False))


def _jpeg2000_whole(data: bytes, image: Image.Image) -> bool:
    start = data.find(b"\xff\x4f\xff\x51")
    return start >= 0 and data.find(b"\xff\x90", start) > 0 and data.rfind(b"\xff\xd9") > start + 100


def _wsq_whole(data: bytes, image: Image.Image) -> bool:
    wsq_stream.check(data)
    return True


_WHOLE: dict[str, Callable[[bytes, Image.Image], bool]] = {
    "PNG": _png_whole,
    "TIFF": _tiff_whole,
    "JPEG2000": _jpeg2000_whole,
    "WSQ": _wsq_whole,
}


def _decoded(image: Image.Image) -> NDArray[np.uint8]:
    """Decode to 8-bit grey, uint8 (H, W)."""
    kind, inverted = str(image.format), _white_is_zero(image)
    try:
        image.load()
        grey = None if image.mode[0] in "FI" else _grey(image)
    except Exception as error:  # Pillow also asserts, as of a palette that is not there
        raise _damaged(kind, error) from error
    if image.mode == "F":
        raise ImageFormatUnknown("samples in floating point", remedy=_REMEDY_FORMAT)
    return _from_16_bits(np.asarray(image), inverted=inverted) if grey is None else grey


def _grey(image: Image.Image) -> NDArray[np.uint8]:
    """Lay what is transparent on white paper, and take the luminance."""
    if image.has_transparency_data:
        colour = image.convert("RGBA")
        paper = Image.new("RGBA", colour.size, "white")
        image = Image.alpha_composite(paper, colour)
    if image.mode not in ("1", "L"):
        image = image.convert("RGB")
    return np.array(image.convert("L"), np.uint8)


def _white_is_zero(image: Image.Image) -> bool:
    tags: Any = getattr(image, "tag_v2", {})
    return bool(tags.get(262) == 0)


def _from_16_bits(values: NDArray[Any], *, inverted: bool) -> NDArray[np.uint8]:
    """Scale 0 to 65535 to 0 to 255. Pillow turns round a TIFF whose zero is white at 8 bits, not at 16."""
    wide = values.astype(np.int64)
    if wide.min() < 0 or wide.max() > 65535:
        raise ImageFormatUnknown("samples of more than 16 bits", remedy=_REMEDY_FORMAT)
    grey = ((wide * 255 + 32767) // 65535).astype(np.uint8)
    return 255 - grey if inverted else grey


def _damaged(kind: str, error: Exception) -> ImageTruncated:
    return ImageTruncated(f"the {kind} file is damaged ({type(error).__name__})", remedy=_REMEDY_WHOLE)
