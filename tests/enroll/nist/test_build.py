"""Transactions made of prints: WSQ as it is certified, records that other readers take."""

from dataclasses import replace
from datetime import timedelta, timezone
from functools import cache
from pathlib import Path

import made
import nistitl
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.synthetic.finger import finger
from benchmarks.synthetic.press import Conditions, impression
from enroll.errors import ImageError, RecordFieldInvalid, ResolutionImplausible
from enroll.image import GrayImage, read_image, resample
from enroll.nist import build, check, decode, encode, load_profile, pictures
from enroll.nist.wsq_file import encode_wsq


@cache
def made_print() -> GrayImage:
    return GrayImage(impression(finger(1), 1, conditions=Conditions.clean()).pixels.copy(), 500.0, "")


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((one.astype(float) - other) ** 2)))


def test_wsq_of_a_print_keeps_to_its_rate_and_its_pixels() -> None:
    image = made_print()
    data = encode_wsq(image)
    back = read_image(data)
    assert back.pixels.shape == image.pixels.shape
    assert back.ppi == 500
    assert 8 * len(data) / image.pixels.size <= 0.75
    assert psnr(back.pixels, image.pixels) > 25  # dB; made prints have more grain than real ones


@pytest.mark.datasets
def test_wsq_of_real_prints(datasets: Path) -> None:
    """First compression of prints that were never compressed."""
    for number in range(101, 106):
        image = read_image((datasets / "fvc2002" / "DB1_B" / f"{number}_1.tif").read_bytes(), ppi=500)
        data = encode_wsq(image)
        assert 8 * len(data) / image.pixels.size <= 0.75
        assert psnr(read_image(data).pixels, image.pixels) > 30


@pytest.mark.parametrize("shape", [(64, 64), (65, 97), (300, 64), (96, 513)])
def test_wsq_of_any_size_is_read_again(shape: tuple[int, int]) -> None:
    image = made.waves(*shape)
    back = read_image(encode_wsq(image))
    assert back.pixels.shape == shape
    assert np.abs(back.pixels.astype(int) - image.pixels).mean() < 8


@given(st.integers(0, 255), st.integers(0, 3), st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_of_next_to_nothing_what_is_written_can_be_read(grey: int, noise: int, seed: int) -> None:
    """Of one grey the encoder makes a file that no decoder takes, of faint grain none: PNG is sent."""
    grain = np.random.default_rng(seed).integers(-noise, noise + 1, (64, 70))
    image = GrayImage(np.clip(grey + grain, 0, 255).astype(np.uint8), 500.0, "")
    sent = build(made.ENVELOPE, [made.sent(image=image)])
    found = next(pictures(decode(encode(sent))))
    assert np.abs(found.image().pixels.astype(int) - image.pixels).mean() <= noise
    assert found.record.get(11) == "PNG" or noise


def test_faint_grain_that_the_encoder_gives_up_on_is_sent_as_png() -> None:
    grain = np.random.default_rng(2497061772).integers(-2, 3, (64, 70))  # one in 1,500 such
    image = GrayImage((201 + grain).astype(np.uint8), 500.0, "")
    with pytest.raises(ImageError, match="contrast"):
        encode_wsq(image)
    found = next(pictures(decode(encode(build(made.ENVELOPE, [made.sent(image=image)])))))
    assert found.record.get(11) == "PNG"
    assert np.array_equal(found.image().pixels, image.pixels)


def test_an_image_of_one_grey_cannot_be_wsq() -> None:
    with pytest.raises(ImageError, match="one grey"):
        encode_wsq(GrayImage(np.full((64, 64), 255, np.uint8), 500.0, ""))


def test_wsq_is_for_500_ppi() -> None:
    with pytest.raises(ResolutionImplausible, match="1000"):
        encode_wsq(made.waves(ppi=1000.0))


def test_what_is_built_keeps_to_the_standard() -> None:
    assert check(decode(encode(made.card())), load_profile("ansi-nist")) == ()


def test_what_is_built_is_read_by_another() -> None:
    theirs = nistitl.Message()
    theirs.parse(encode(made.card()))
    assert [record.type for record in theirs] == [1, 2, 14, 9, 14, 14, 14]
    assert theirs[2]["FGP"].value == "2"
    assert theirs[2]["CGA"].value == "WSQ20"
    assert theirs[4]["CGA"].value == "PNG"


def test_times_are_universal() -> None:
    envelope = replace(
        made.ENVELOPE, sent=made.SENT.astimezone(timezone(timedelta(hours=-6))), reference="1", priority=2
    )
    header = build(envelope, [made.sent()]).header
    assert header.get("1.014") == "20260304050607Z"
    assert (header.get("1.006"), header.get("1.010"), header.get("1.013")) == ("2", "1", "INT-I\x1f5.03")


def test_a_made_print_survives_the_journey() -> None:
    image = made_print()
    found = next(pictures(decode(encode(build(made.ENVELOPE, [made.sent(image=image)])))))
    assert psnr(found.image().pixels, image.pixels) > 25
    small = resample(image, ppi=400)
    found = next(pictures(decode(encode(build(made.ENVELOPE, [made.sent(image=small)])))))
    assert np.array_equal(found.image().pixels, small.pixels)
    assert found.ppi == 400


def test_letters_that_a_header_cannot_hold_are_refused() -> None:
    with pytest.raises(RecordFieldInvalid, match=r"1\.007"):
        build(replace(made.ENVELOPE, destination="POLICÍA\x1d"), [])
