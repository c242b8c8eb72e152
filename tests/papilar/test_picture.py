"""The pictures: they decode, stay in bounds, say the same twice, and mark what was matched."""

import io
from pathlib import Path

import numpy as np
import pytest
from minutiae import finger, mate
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from scipy import ndimage

from enroll.image import GrayImage, read_image, resample
from enroll.leader import load
from enroll.minutiae import to_template
from matcher.calibration import Part
from matcher.compare import Bend, Comparison, Transform, compare, prepare
from matcher.errors import InvalidInput
from matcher.ridges import RidgeGrid, pack
from matcher.template import Template
from papilar.explanation import common_area, hull_of, model_words, with_ridges
from papilar.picture import STYLE, Side, common, draw_match, draw_minutiae

STILL = Transform(0.0, 0.0, 0.0)


def said(
    pairs: ArrayLike = (),
    move: Transform = STILL,
    *,
    score: float = 1.0,
    parts: tuple[Part, ...] = (),
    met: ArrayLike = (),
) -> Comparison:
    """What a comparison says, without a bend."""
    return Comparison(
        score,
        parts,
        np.asarray(pairs, np.int16).reshape(-1, 2),
        move,
        Bend(np.zeros((0, 2)), np.zeros((3, 2))),
        np.asarray(met, np.float32).reshape(-1, 3),
    )


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
    return draw_match(side, side, said(straight(count), score=12.34), caption="a caption")


SIZES = [(64, 64), (300, 320), (800, 750), (16, 3000), (3000, 16), (32767, 32767)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("count", [0, 1, 2, 100])
def test_match_stays_in_bounds(size: tuple[int, int], count: int) -> None:
    height, width, _ = decoded(matched(count, size=size, image=False)).shape
    assert STYLE.least_match_width <= width <= STYLE.most_width
    assert height <= STYLE.match_height + STYLE.overlay_height + 400


@pytest.mark.parametrize("sizes", [((20, 20), (2000, 700)), ((2000, 700), (20, 20)), ((4, 900), (900, 4))])
def test_unequal_prints_stay_in_bounds(sizes: tuple[tuple[int, int], tuple[int, int]]) -> None:
    sides = [Side(None, a_template(3, size=size), "a-print") for size in sizes]
    _, width, _ = decoded(draw_match(*sides, said(straight(3)))).shape
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
    decoded(draw_match(side, side, said(score=-3.0)))


def _around(picture: NDArray[np.uint8], minutia: int, template: Template) -> NDArray[np.int64]:
    """Pixels of the right-hand print about a minutia."""
    x, y = _place(picture, template.xy[minutia], template.size, right=True)
    return picture[y - 12 : y + 13, x - 12 : x + 13].astype(np.int64)


def _place(
    picture: NDArray[np.uint8], xy: ArrayLike, size: tuple[int, int], *, right: bool
) -> tuple[int, int]:
    """Where a place of one of two prints, each drawn twice as large, lies in the picture; no caption."""
    top = STYLE.margin + STYLE.headline + STYLE.text + STYLE.row + 2 * STYLE.row
    left = picture.shape[1] - STYLE.margin - 2 * size[0] if right else STYLE.margin
    x, y = np.asarray(xy, np.int64) * 2 + (left, top)
    return int(x), int(y)


def test_a_matched_minutia_is_marked_in_colour() -> None:
    template = Template.of([(60, 60), (200, 250)], [0, 1], [1, 2], [90, 80], size=(300, 320))
    side = Side(an_image(), template, "a-print")
    some = decoded(draw_match(side, side, said([(0, 0)])))
    none = decoded(draw_match(side, side, said()))
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
    right = decoded(draw_match(*sides, said(straight(2), Transform(0.0, 300.0, np.pi / 2))))
    wrong = decoded(draw_match(*sides, said(straight(2))))

    def outlined(picture: NDArray[np.uint8]) -> int:
        red, green, blue = np.moveaxis(picture.astype(np.int64), 2, 0)
        return int(((red < 60) & (green > 90) & (blue > 90)).sum())

    assert 0 < outlined(right) < outlined(wrong)


def described(size: tuple[int, int]) -> Template:
    """A template with a ridge description, which says the step of its places: 8 pixels."""
    cells = np.ones((4, 4), np.int64)
    ridges = pack(RidgeGrid(8, 4, 4, cells, cells, cells, np.zeros((8, 8), np.int64)))
    return Template.of([(150, 150)], [0], [1], [80], size=size, ridges=ridges)


def met(left: int, right: int, agreement: float) -> list[tuple[float, float, float]]:
    """Every second place between two columns, as a comparison says where ridges met and how."""
    places = [(x, y) for y in range(60, 240, 8) for x in range(left, right, 8) if (x // 8 + y // 8) % 2 == 0]
    return [(x, y, agreement) for x, y in places]


def test_the_common_area_is_shaded_by_the_agreement_of_the_ridges() -> None:
    """On the left they agree, on the right they do not; in the probe all lies 80 pixels farther left."""
    size = (300, 300)
    sides = [Side(None, described(size), name) for name in "pr"]
    where = [*met(64, 144, 1.0), *met(144, 224, -0.5)]
    picture = decoded(draw_match(*sides, said(move=Transform(80.0, 0.0, 0.0), met=where)))
    for right, shift in ((False, 80), (True, 0)):
        for x, sign in ((104, 1), (184, -1), (264, 0)):
            at = _place(picture, (x - shift, 100), size, right=right)
            red, _, blue = picture[at[1], at[0]].astype(int)
            assert np.sign(blue - red) == sign
            assert bool(abs(blue - red) > 25) is bool(sign)


def test_the_common_area_is_stated_in_square_millimetres() -> None:
    """500 pixels are 25.4 mm: 80 x 176 pixels of ridges; and the hull of a square of minutiae."""
    template = described((300, 300))
    where = met(64, 144, 1.0)
    area = common_area(said(met=where), template, template)
    assert area == pytest.approx(len(where) * 2 * 64 * (25.4 / 500) ** 2)
    assert area == pytest.approx(80 * 180 * (25.4 / 500) ** 2, rel=0.1)
    square = Template.of(
        [(50, 50), (150, 50), (50, 150), (150, 150)], [0] * 4, [1] * 4, [9] * 4, size=(300, 300)
    )
    by_hull = common_area(said(straight(4)), square, square)
    assert by_hull == pytest.approx((100**2 + 4 * 100 * 18 + np.pi * 18**2) * (25.4 / 500) ** 2, rel=0.01)
    assert common_area(said(), square, square) == 0
    assert hull_of(said(), square, square).shape == (0, 2)


def bent_comparison() -> Comparison:
    """A comparison whose probe is turned, moved and bent."""
    first = finger(3)
    other = mate(first, 4, turn=0.4, shift=(10, -15), jitter=3.0).template
    found = compare(prepare(other), prepare(first))
    assert np.abs(found.bend.weights[: len(found.bend.at)]).max() > 0
    return found


def test_what_is_carried_back_is_carried_there() -> None:
    found = bent_comparison()
    points = np.random.default_rng(0).uniform((80, 80), (320, 400), (200, 2))
    back = common.carried_back(found, points)
    assert np.abs(found.carry(back) - points).max() < 0.05
    assert np.abs(common.moved_back(points, found.transform) - back).max() > 0.5, "the bend counts"


def test_the_probe_is_laid_on_the_reference() -> None:
    """A probe whose pixels are drawn where the comparison carries them from is the reference again."""
    found = bent_comparison()
    ridges = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=(480, 400)), 3) * 40
    y, x = np.mgrid[0:700, 0:700]
    carried = found.carry(np.column_stack((x.ravel(), y.ravel())).astype(np.float64))
    probe = ndimage.map_coordinates(ridges, carried.T[::-1], order=1).reshape(x.shape)
    box = (100, 100, 300, 380)
    part = ridges[100:380, 100:300]
    assert np.corrcoef(common.laid_on(found, probe, box).ravel(), part.ravel())[0, 1] > 0.98
    rigid = said(found.pairs, found.transform)
    assert np.corrcoef(common.laid_on(rigid, probe, box).ravel(), part.ravel())[0, 1] < 0.95


def test_ink_is_darkest_where_ridges_coincide() -> None:
    both = common.overlaid(
        np.array([[1.0, 1.0, 0.0, 0.0]]), np.array([[1.0, 0.0, 1.0, 0.0]]), STYLE.overlay_inks
    )
    together, probe, reference, paper = both[0].astype(int)
    assert together.max() < 80
    assert probe.max() > 200
    assert reference.max() > 200
    assert paper.tolist() == [255, 255, 255]
    assert abs(int(probe[2]) - int(reference[2])) > 150, "orange and blue"


def test_ink_is_ridges_and_nothing_else() -> None:
    """Bright or faint, a print's ridges are ink; blank paper is none, and neither is the paper around it."""
    strong = an_image((300, 300)).pixels
    faint = (200 + (strong.astype(float) - 128) * 0.25).astype(np.uint8)
    for pixels in (strong, faint):
        ink = common.ink_of(pixels)[40:-40]
        dark = pixels[40:-40] < np.median(pixels)
        assert ink[dark].mean() > 0.6
        assert ink[~dark].mean() < 0.2
    assert common.ink_of(np.full((100, 100), 250, np.uint8)).max() < 0.01


def test_prints_with_images_are_laid_on_each_other() -> None:
    """Equal ones are dark alone; shifted by half a ridge they are orange and blue."""

    def colourful(move: Transform) -> int:
        side = Side(an_image(), a_template(20), "p")
        picture = decoded(draw_match(side, side, said(straight(20), move))).astype(np.int64)
        lower = picture[-STYLE.overlay_height :, : picture.shape[1] // 2]
        return int((lower[..., 0] - lower[..., 2] > 150).sum())

    assert colourful(STILL) * 5 < colourful(Transform(0.0, 4.5, 0.0))


def test_the_table_says_what_the_score_is_made_of() -> None:
    from papilar.picture.match import _lines

    template = a_template(5)
    sides = Side(None, template, "a"), Side(None, template, "b")
    parts = (Part("structure", -2.0, -4.5), Part("novel", 0.25, 0.5))
    lines = _lines(said(score=-3.0, parts=parts), sides, "flip it", 640)
    table = [(line.words, line.measured, line.adds) for line in lines]
    assert ("minutiae agree (deviations above strangers)", "-2.00", "-4.50") in table
    assert ("novel", "0.25", "+0.50") in table
    assert ("sum: log10 likelihood ratio", "", "-4.00") in table
    assert ("stated as, the least that is", "", "-3.00") in table
    assert [words for words, *_ in table if words.startswith(("red: ", "warning: flip it", "rests on"))] == [
        "red: more than 1 in 1,000 comparisons of different fingers score as much",
        "rests on minutiae alone: a and b have no ridge description",
        "warning: flip it",
    ]
    fine = _lines(said(score=4.0, parts=(Part("ridges", 0.8, 4.0),)), sides, None, 640)
    assert not [line for line in fine if line.words.startswith(("stated as", "warning"))]
    assert draw_match(*sides, said(parts=parts)) != draw_match(*sides, said())


def test_what_a_score_rests_on() -> None:
    bare, full = a_template(5), described((300, 300))
    ridges = said(parts=(Part("ridges", 0.5, 1.0),))
    assert with_ridges(ridges)
    assert not with_ridges(said(parts=(Part("structure", 0.5, 1.0),)))
    assert model_words(ridges, full, full) == "minutiae and ridges"
    assert model_words(said(), full, bare) == "minutiae alone: b has no ridge description"
    assert model_words(said(), full, full) == "minutiae alone: nothing to align the ridges by"


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
    picture = draw_match(side, side, said(straight(5), score=1e300), caption="Ж" * 100_000)
    assert decoded(picture).shape[1] <= STYLE.most_width


def test_arguments_that_do_not_fit_are_refused() -> None:
    side = Side(an_image(), a_template(5), "a-print")
    for pairs in ([(0, 5)], [(-1, 0)]):
        with pytest.raises(InvalidInput, match="pair"):
            draw_match(side, side, said(pairs))
    for shift in (np.nan, np.inf, 1e9):
        with pytest.raises(InvalidInput, match="transform"):
            draw_match(side, side, said(move=Transform(shift, 0.0, 0.0)))
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
    picture = decoded(draw_match(*sides, found))
    assert len(found.pairs) >= 10
    assert picture.shape[1] <= STYLE.most_width
