"""Prints for the kit, of nobody: drawn ridges, and files that carry more than a print."""

import struct
import zlib
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from enroll.image import GrayImage, encode_png, read_image
from matcher.codecs import encode
from matcher.template import PPI, Template
from papilar.api.peer.v1 import types_pb2

_WIDTH, _HEIGHT = 320, 400  # pixels at 500 ppi: 16 by 20 mm, a plain print
_PERIOD = 9.0  # pixels from ridge to ridge, 0.46 mm
_MINUTIAE = 36
_NAMELESS = b"\x9a\x06\x01X"
"""Field 99, a text of one letter: no message of the contract has it."""

CHUNKS = (b"tEXt", b"iTXt", b"eXIf", b"prVt")
"""Kinds of PNG chunks that the contract does not list: three of the standard's, and a private one."""


class Pair(NamedTuple):
    """Two impressions of one drawn finger, PNG: one to be enrolled at the node, one to search with."""

    enrolled: bytes
    probe: bytes


def draw_ridges(seed: int) -> NDArray[np.uint8]:
    """Draw a pattern of ridges.

    Its phase grows from ellipse to ellipse around a core; around each minutia it turns once, so that a ridge
    ends or begins there.

    References
    ----------
    K. G. Larkin, P. A. Fletcher: A coherent framework for fingerprint analysis: are fingerprints holograms?
    Optics Express 15 (2007), 8667-8677, https://doi.org/10.1364/OE.15.008667
    """
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:_HEIGHT, :_WIDTH].astype(float)
    core = np.add(random.uniform(-20, 20, 2), (_WIDTH / 2, 0.55 * _HEIGHT))
    turned = 2 * np.pi / _PERIOD * np.hypot(x - core[0], 1.25 * (y - core[1]))
    for at in random.uniform((40, 40), (_WIDTH - 40, _HEIGHT - 40), (_MINUTIAE, 2)):
        turned += random.choice((-1, 1)) * np.arctan2(y - at[1], x - at[0])
    inside = np.hypot(2 * x / _WIDTH - 1, 2 * y / _HEIGHT - 1) < 0.92
    return np.where(inside, 128 + 90 * np.sin(turned), 255).astype(np.uint8)


def draw_pair(seed: int) -> Pair:
    """Draw two impressions: the second is shifted by 9 pixels and has noise of 12 grey levels."""
    first = draw_ridges(seed)
    noise = np.random.default_rng([seed, 1]).normal(0, 12, first.shape)
    second = np.clip(np.roll(first, (5, -8), (0, 1)) + noise, 0, 255).astype(np.uint8)
    return Pair(to_png(first), to_png(second))


def to_png(pixels: NDArray[np.uint8]) -> bytes:
    """Return pixels as PNG of 500 ppi, without room for text."""
    return encode_png(GrayImage(pixels, PPI, ""))


def tiny_png() -> bytes:
    """Return a white PNG of a few bytes, for calls that nobody should search for."""
    return to_png(np.full((64, 64), 255, np.uint8))


def with_chunk(png: bytes, kind: bytes) -> bytes:
    """Return a PNG with one chunk more, before its last: one letter of text."""
    body = b"Comment\0X"
    chunk = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return png[:-12] + chunk + png[-12:]


def template() -> bytes:
    """Return a template of made-up minutiae, ISO/IEC 19794-2:2005, without extended data."""
    number = np.arange(16)
    xy = np.stack((40 + 23 * (7 * number % 11), 50 + 17 * number), axis=1)
    made = Template.of(xy, 0.4 * number, 1 + number % 2, 60 + number, size=(_WIDTH, _HEIGHT))
    return encode(made, "iso-19794-2:2005")


def template_with_extended_data() -> bytes:
    """Return that template with 4 bytes of extended data of a vendor's kind (ISO/IEC 19794-2:2005, 7.5)."""
    extended = struct.pack(">HHH", 6, 0x0101, 6) + b"XX"
    plain = template()
    grown = plain[:-2] + extended
    return grown[:8] + struct.pack(">I", len(grown)) + grown[12:]


def image(data: bytes) -> types_pb2.Print:
    """Return a print of the right index finger for the contract."""
    return types_pb2.Print(position=2, ppi=PPI, image=data)


def read_probe(data: bytes) -> types_pb2.Print:
    """Return a print of a file for the contract, written anew so that it carries pixels alone.

    Raises
    ------
    ImageError
        As `enroll.image.read_image`.
    """
    read = read_image(data)
    return types_pb2.Print(ppi=read.ppi, image=encode_png(read))


def light() -> types_pb2.Print:
    """Return a print that costs a node little, for the calls that are about something else."""
    return types_pb2.Print(position=2, template=template())


def unknown_field(statement: bytes) -> bytes:
    """Return a statement with a field that the contract does not know."""
    return statement + _NAMELESS
