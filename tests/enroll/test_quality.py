"""Foreground and quality: what is no print is rejected, what is one is not, and each is told why."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
from scipy import ndimage

from enroll.image import read_image, resample
from enroll.quality import ADVICE, REJECTING, Quality, Reason, assess
from enroll.segment import foreground
from matcher.template import Template

FVC_PPI = {("fvc2002", "DB2_B"): 569, ("fvc2004", "DB3_B"): 512}


def template(pixels, count=40, quality=60):
    """Build a template of minutiae anywhere: the image alone is on trial."""
    rng = np.random.default_rng(1)
    height, width = pixels.shape
    xy = np.c_[rng.integers(0, width, count), rng.integers(0, height, count)]
    ones = np.ones(count, int)
    return Template.of(xy, rng.uniform(0, 6, count), ones, quality * ones, size=(width, height))


def judged(pixels, **options) -> Quality:
    pixels = np.ascontiguousarray(pixels, np.uint8)
    return assess(pixels, foreground(pixels), template(pixels, **options))


def finger(size=420, period=9.0):
    """Ridges around a core, in an oval, on light paper."""
    y, x = np.mgrid[:size, :size] - size / 2
    phase = 2 * np.pi * np.hypot(x, 1.1 * y + 0.1 * np.abs(x)) / period
    inside = np.hypot(x / 0.36, y / 0.45) < size
    return np.where(inside, 130 + 90 * np.sin(phase), 235).astype(np.uint8), inside


def noise(sigma=0.0, seed=0):
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(400, 400)), sigma)
    return np.uint8(255 * (field - field.min()) / np.ptp(field))


def stripes(period, tilt=0.6):
    y, x = np.mgrid[:400, :400]
    return np.uint8(127 + 100 * np.sin(2 * np.pi * (x * np.cos(tilt) + y * np.sin(tilt)) / period))


def checkerboard(cell):
    y, x = np.mgrid[:400, :400] // cell
    return np.uint8((x + y) % 2 * 255)


def text(scale, pitch):
    page = np.full((400, 400), 255, np.uint8)
    for y in range(pitch, 400, pitch):
        cv2.putText(
            page, "The quick brown fox jumps over the lazy dog", (5, y), 0, scale, 0, 1 + int(scale > 0.5)
        )
    return page


NO_PRINTS = {
    "white": np.full((400, 400), 255),
    "black": np.zeros((400, 400)),
    "grey": np.full((400, 400), 128),
    "gradient": np.tile(np.linspace(0, 255, 400), (400, 1)),
    "faint noise": 128 + noise() // 40,
    **{f"noise {sigma}": noise(sigma) for sigma in (0, 1, 2, 3, 5)},
    **{f"stripes {period}": stripes(period) for period in (4, 6, 9, 12, 20)},
    **{f"bars {width}": np.tile(np.arange(400) // width % 2 * 255, (400, 1)) for width in (3, 5, 8)},
    **{f"checkerboard {cell}": checkerboard(cell) for cell in (3, 4, 5, 6, 8, 16, 50)},
    "text": text(0.75, 30),
    "small text": text(0.4, 13),
    "camera": skimage.data.camera(),
    "page": skimage.data.page(),
    "text photograph": skimage.data.text(),
    "coins": skimage.data.coins(),
    "moon": skimage.data.moon(),
    "brick": skimage.data.brick(),
    "grass": skimage.data.grass(),
    "gravel": skimage.data.gravel(),
}


@pytest.mark.parametrize("name", NO_PRINTS)
def test_what_is_no_print_is_rejected(name):
    quality = judged(NO_PRINTS[name])
    assert quality.rejected
    assert quality.score <= 10
    assert not {
        Reason.BLANK,
        Reason.NO_RIDGES,
        Reason.NOT_A_PRINT,
        Reason.RIDGE_PERIOD_IMPLAUSIBLE,
    }.isdisjoint(quality.reasons)


@pytest.mark.parametrize("name", ["camera", "page", "brick", "checkerboard 8", "text", "noise 2"])
@pytest.mark.parametrize("scale", [0.5, 0.7, 1.5, 2.0])
def test_at_no_size_either(name, scale):
    size = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    assert judged(
        cv2.resize(np.uint8(NO_PRINTS[name]), None, fx=scale, fy=scale, interpolation=size)
    ).rejected


@pytest.mark.parametrize("name", ["white", "black", "grey", "faint noise"])
def test_blank(name):
    assert judged(NO_PRINTS[name]).reasons == (Reason.BLANK,)


def test_finger():
    pixels, inside = finger()
    mask = foreground(pixels)
    assert (mask & inside).sum() > 0.93 * inside.sum()
    assert (mask & ~inside).sum() < 0.16 * inside.sum()  # a rim of one ridge
    quality = judged(pixels)
    assert not quality.rejected
    assert quality.reasons == ()
    assert quality.period == pytest.approx(9, abs=1)
    assert quality.score > 80


@pytest.mark.parametrize("period", [4.5, 18.0])
def test_wrong_resolution_is_named(period):
    pixels, _ = finger(size=700 if period > 9 else 400, period=period)
    quality = judged(pixels)
    assert Reason.RIDGE_PERIOD_IMPLAUSIBLE in quality.reasons
    assert "resolution" in " ".join(quality.advice)


def test_a_corner_of_a_finger():
    pixels = np.full((400, 400), 235, np.uint8)
    pixels[150:216, 150:216] = finger()[0][150:216, 150:216]
    quality = judged(pixels)
    assert Reason.TOO_SMALL_AREA in quality.reasons


def test_too_few_minutiae():
    pixels, _ = finger()
    for count, quality in ((5, 60), (40, 29)):
        assert judged(pixels, count=count, quality=quality).reasons == (Reason.TOO_FEW_MINUTIAE,)
    for count, quality in ((6, 30), (6, 0)):
        assert not judged(pixels, count=count, quality=quality).rejected


def test_score_falls_as_the_print_gets_worse():
    pixels, _ = finger()
    rng = np.random.default_rng(2)
    scores = [
        judged(np.clip(pixels + rng.normal(0, sigma, pixels.shape), 0, 255)).score
        for sigma in (0, 90, 150, 250)
    ]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > scores[-1] + 20


def test_every_reason_has_advice():
    assert set(ADVICE) == set(Reason)
    assert set(Reason) > REJECTING


def test_arguments_are_left_alone():
    pixels, _ = finger()
    before = pixels.copy()
    mask = foreground(pixels)
    kept = mask.copy()
    pixels.flags.writeable = mask.flags.writeable = False
    assess(pixels, mask, template(pixels))
    assert np.array_equal(pixels, before)
    assert np.array_equal(mask, kept)
    assert mask.dtype == np.bool_


@pytest.mark.parametrize("shape", [(64, 64), (65, 301), (400, 70)])
def test_odd_shapes(shape):
    pixels = finger()[0][200 : 200 + shape[0], : shape[1]][: shape[0]]
    pixels = np.resize(pixels, shape)
    assert foreground(pixels).shape == shape
    assert isinstance(judged(pixels), Quality)


def print_of(path, ppi):
    return resample(read_image(path.read_bytes(), ppi=ppi)).pixels


@pytest.mark.datasets
def test_real_prints_are_not_rejected(datasets: Path):
    rejected, checked = [], 0
    for year in ("fvc2002", "fvc2004"):
        for path in sorted((datasets / year).glob("DB?_B/*.tif")):
            pixels = print_of(path, FVC_PPI.get((year, path.parent.name), 500))
            quality = judged(pixels)
            checked += 1
            if quality.rejected:
                rejected.append((year, path.parent.name, path.stem))
    assert checked == 640
    assert len(rejected) <= 3
    assert not [name for name in rejected if name[2].endswith("_1")]


@pytest.mark.datasets
def test_cards_and_their_resolution(datasets: Path):
    for path in sorted((datasets / "formats" / "rolled_cards").glob("*.bmp")):
        assert not judged(print_of(path, None)).rejected
        assert judged(print_of(path, 500)).reasons == (Reason.RIDGE_PERIOD_IMPLAUSIBLE,)
    for path in sorted((datasets / "formats" / "nist_sample").glob("fp-*.png")):
        assert not judged(print_of(path, 500)).rejected


@pytest.mark.datasets
def test_a_face_is_rejected(datasets: Path):
    face = print_of(datasets / "formats" / "ebts" / "face24.jpg", 500)
    assert Reason.NO_RIDGES in judged(face).reasons


@pytest.mark.datasets
def test_masks_of_every_sensor(datasets: Path):
    """Dark or textured ridges inside, flat ground outside: the mask takes most of the change in the image."""
    for year in ("fvc2002", "fvc2004"):
        for path in sorted((datasets / year).glob("DB?_B/*_1.tif")):
            pixels = print_of(path, FVC_PPI.get((year, path.parent.name), 500))
            mask = foreground(pixels)
            change = np.abs(ndimage.gaussian_laplace(pixels.astype(np.float32), 2))
            assert 0.1 < mask.mean() < 0.98, path
            assert change[mask].sum() > 0.6 * change.sum(), path
