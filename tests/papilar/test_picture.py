"""The pictures: they decode, stay in bounds, say the same twice, and mark what was matched."""

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from enroll.image import GrayImage, read_image, resample
from enroll.leader import load
from enroll.minutiae import to_template
from matcher.compare import Transform, compare, prepare
from matcher.errors import InvalidInput
from matcher.template import Template
from papilar.picture import STYLE, Side, draw_match, draw_minutiae

STILL = Transform(0.0, 0.0, 0.0)


def a_template(count: int, *, size: tuple[int, int] = (300, 320), seed: int = 0) -> Template:
    draw = np.random.default_rng(seed)
    xy = draw.integers(0, size, (count, 2))
    return Template.of(
        xy, draw.uniform(0, 6.28, count), draw.integers(0, 3, count), draw.integers(0, 101, count), size=size
    )


def an_image(size: tuple[int, int] = (300, 320), *, ppi: float = 500.0) -> GrayImage:
    rows = 128 + 100 * np.sin(np.arange(size[1]) * 2 * np.pi / 9)
    return GrayImage(np.repeat(rows[:, None], size[0], axis=1).astype(np.uint8), ppi, "0" * 64)


def decoded(data: bytes) -> NDArray[np.uint8]:
    image = Image.open(io.BytesIO(data), formats=("PNG",))
    image.load()
    assert image.mode == "RGB"
    assert not image.info, "a picture carries no metadata"
    return np.asarray(image)


def straight(count: int) -> NDArray[np.int16]:
    return np.repeat(np.arange(count, dtype=np.int16)[:, None], 2, axis=1)


def matched(
    count: int, *, size: tuple[int, int] = (300, 320), of: int | None = None, image: bool = True
) -> bytes:
    template = a_template(count if of is None else of, size=size)
    side = Side(an_image(size) if image else None, template, "a-print")
    return draw_match(side, side, straight(count), STILL, score=12.34, caption="a caption")


SIZES = [(64, 64), (300, 320), (800, 750), (16, 3000), (3000, 16), (32767, 32767)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("count", [0, 1, 2, 100])
def test_match_stays_in_bounds(size: tuple[int, int], count: int) -> None:
    height, width, _ = decoded(matched(count, size=size, image=False)).shape
    assert STYLE.least_match_width <= width <= STYLE.most_width
    assert height <= STYLE.most_height + 200


@pytest.mark.parametrize("sizes", [((20, 20), (2000, 700)), ((2000, 700), (20, 20)), ((4, 900), (900, 4))])
def test_unequal_prints_stay_in_bounds(sizes: tuple[tuple[int, int], tuple[int, int]]) -> None:
    sides = [Side(None, a_template(3, size=size), "a-print") for size in sizes]
    _, width, _ = decoded(draw_match(*sides, straight(3), STILL, score=0.0)).shape
    assert width <= STYLE.most_width


@pytest.mark.parametrize("size", SIZES[:3])
def test_minutiae_stay_in_bounds(size: tuple[int, int]) -> None:
    _, width, _ = decoded(draw_minutiae(an_image(size), a_template(60, size=size))).shape
    assert STYLE.least_width <= width <= STYLE.print_width + 2 * STYLE.margin


def test_same_bytes_twice() -> None:
    assert matched(20) == matched(20)
    template = a_template(20)
    assert draw_minutiae(an_image(), template) == draw_minutiae(an_image(), template)


def test_a_print_without_minutiae() -> None:
    nothing = Template.of([], [], [], [], size=(300, 320))
    decoded(draw_minutiae(an_image(), nothing))
    side = Side(None, nothing, "")
    decoded(draw_match(side, side, [], STILL, score=-3.0))


def _around(picture: NDArray[np.uint8], minutia: int, template: Template) -> NDArray[np.int64]:
    """Pixels of the right-hand print about a minutia."""
    scale = 2.0
    top = picture.shape[0] - STYLE.foot(1) - round(template.size[1] * scale)
    left = picture.shape[1] - STYLE.margin - round(template.size[0] * scale)
    x, y = (np.asarray(template.xy[minutia]) * scale).astype(int) + np.array((left, top))
    return picture[y - 12 : y + 13, x - 12 : x + 13].astype(np.int64)


def test_a_matched_minutia_is_marked_in_colour() -> None:
    template = Template.of([(60, 60), (200, 250)], [0, 1], [1, 2], [90, 80], size=(300, 320))
    side = Side(an_image(), template, "a-print")
    some = decoded(draw_match(side, side, [(0, 0)], STILL, score=1.0))
    none = decoded(draw_match(side, side, np.zeros((0, 2), np.int16), STILL, score=1.0))
    differing = [np.abs(_around(some, k, template) - _around(none, k, template)).max() for k in (0, 1)]
    assert differing[0] > 60
    assert differing[1] == 0, "an unmatched minutia looks the same in both"
    assert np.ptp(_around(some, 0, template), axis=2).max() > 80
    assert np.ptp(_around(none, 0, template), axis=2).max() < 80


def test_the_common_area_follows_the_transform() -> None:
    """A probe turned by a quarter is outlined where its minutiae are."""
    probe = Template.of([(100, 100), (200, 120)], [0, 0], [1, 1], [90, 80], size=(300, 300))
    turned = Template.of([(100, 200), (120, 100)], [1.57, 1.57], [1, 1], [90, 80], size=(300, 300))
    sides = Side(None, probe, "p"), Side(None, turned, "r")
    right = decoded(draw_match(*sides, straight(2), Transform(0.0, 300.0, np.pi / 2), score=1.0))
    wrong = decoded(draw_match(*sides, straight(2), Transform(0.0, 0.0, 0.0), score=1.0))

    def outlined(picture: NDArray[np.uint8]) -> int:
        red, green, blue = np.moveaxis(picture.astype(np.int64), 2, 0)
        return int(((red < 60) & (green > 90) & (blue > 90)).sum())

    assert 0 < outlined(right) < outlined(wrong)


def test_quality_is_seen() -> None:
    pictures = {
        draw_minutiae(an_image(), Template.of([(150, 150)], [0], [1], [quality], size=(300, 320)))
        for quality in (0, 1, 50, 100)
    }
    assert len(pictures) == 4


def test_another_resolution_is_brought_to_500() -> None:
    decoded(draw_minutiae(an_image((600, 640), ppi=1000.0), a_template(5)))


def test_text_of_any_length_and_script() -> None:
    side = Side(None, a_template(5), "é\n" + "x" * 5000)
    picture = draw_match(side, side, straight(5), STILL, score=1e300, caption="Ж" * 100_000)
    assert decoded(picture).shape[1] <= STYLE.most_width


def test_arguments_that_do_not_fit_are_refused() -> None:
    side = Side(an_image(), a_template(5), "a-print")
    for pairs in ([(0, 5)], [(-1, 0)]):
        with pytest.raises(InvalidInput, match="pair"):
            draw_match(side, side, pairs, STILL, score=1.0)
    for shift in (np.nan, np.inf, 1e9):
        with pytest.raises(InvalidInput, match="transform"):
            draw_match(side, side, [], Transform(shift, 0.0, 0.0), score=1.0)
    with pytest.raises(InvalidInput, match="image"):
        draw_minutiae(an_image(), a_template(5, size=(400, 320)))


@pytest.mark.datasets
def test_two_impressions_of_a_finger(datasets: Path) -> None:
    network, sides = load(), []
    for name in ("101_1.tif", "101_2.tif"):
        data = (datasets / "fvc2002" / "DB1_B" / name).read_bytes()
        image = resample(read_image(data, ppi=500.0))
        sides.append(Side(image, to_template(network.planes(image.pixels)), image.sha256[:16]))
    found = compare(*(prepare(side.template) for side in sides))
    picture = decoded(draw_match(*sides, found.pairs, found.transform, score=found.score))
    assert len(found.pairs) >= 10
    assert picture.shape[1] <= STYLE.most_width
