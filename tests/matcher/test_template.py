"""Template.of: what it checks, how it orders, what it freezes."""

import dataclasses
import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from minutiae import ridge_description

from matcher.errors import TemplateOutOfBounds, TemplateTruncated
from matcher.template import Finger, Impression, Template

SIZE = (300, 400)
ROWS = st.lists(
    st.tuples(
        st.integers(0, SIZE[0] - 1),
        st.integers(0, SIZE[1] - 1),
        st.floats(-1e6, 1e6),
        st.integers(0, 2),
        st.integers(0, 100),
    ),
    max_size=30,
)


def template(rows: list[tuple[int, int, float, int, int]], **fields: object) -> Template:
    x, y, angle, kind, quality = zip(*rows, strict=True) if rows else ((),) * 5
    return Template.of(list(zip(x, y, strict=True)), angle, kind, quality, size=SIZE, **fields)  # type: ignore[arg-type]


@given(ROWS)
def test_every_minutia_is_kept(rows: list[tuple[int, int, float, int, int]]) -> None:
    found = template(rows)
    assert len(found) == len(rows)
    kept = sorted((*xy, k, q) for xy, k, q in zip(found.xy.tolist(), found.kind, found.quality, strict=True))
    assert kept == sorted((x, y, k, q) for x, y, _, k, q in rows)


@given(ROWS)
def test_types_are_those_of_the_class(rows: list[tuple[int, int, float, int, int]]) -> None:
    found = template(rows)
    assert found.xy.dtype == np.int16
    assert found.xy.shape == (len(rows), 2)
    assert found.angle.dtype == np.float32
    assert found.kind.dtype == found.quality.dtype == np.uint8


@given(ROWS, st.randoms())
def test_the_order_given_does_not_matter(rows: list[tuple[int, int, float, int, int]], random) -> None:  # type: ignore[no-untyped-def]
    shuffled = random.sample(rows, len(rows))
    one, other = template(rows), template(shuffled)
    assert (one.xy.tobytes(), one.angle.tobytes()) == (other.xy.tobytes(), other.angle.tobytes())
    assert one.quality.tobytes() == other.quality.tobytes()


@given(ROWS)
def test_minutiae_stand_by_quality_then_y_x_and_angle(rows: list[tuple[int, int, float, int, int]]) -> None:
    found = template(rows)
    keys = [
        (-q, y, x, angle)
        for (x, y), q, angle in zip(
            found.xy.tolist(), found.quality.tolist(), found.angle.tolist(), strict=True
        )
    ]
    assert keys == sorted(keys)


@given(ROWS)
def test_to_build_it_again_changes_nothing(rows: list[tuple[int, int, float, int, int]]) -> None:
    said = {"finger": Finger.LEFT_RING, "impression": Impression.LATENT_LIFT, "print_quality": 0}
    once = template(rows, **said, ridges=ridge_description(1))
    again = Template.of(
        once.xy,
        once.angle,
        once.kind,
        once.quality,
        size=once.size,
        finger=once.finger,
        impression=once.impression,
        print_quality=once.print_quality,
        ridges=once.ridges,
    )
    assert again == once
    assert again.angle.tobytes() == once.angle.tobytes()


@given(st.floats(-1e4, 1e4))
def test_an_angle_is_reduced_to_one_turn(angle: float) -> None:
    found = float(template([(0, 0, angle, 0, 0)]).angle[0])
    assert 0 <= found < 2 * math.pi
    assert abs(math.remainder(found - angle, 2 * math.pi)) < 1e-6


@pytest.mark.parametrize("angle", [2 * math.pi, -1e-12, math.nextafter(2 * math.pi, 0), -0.0])
def test_a_full_turn_is_zero(angle: float) -> None:
    assert template([(0, 0, angle, 0, 0)]).angle.tolist() == [0.0]


@given(st.floats(-0.5, SIZE[0] - 0.51), st.floats(-0.5, SIZE[1] - 0.51))
def test_a_position_is_rounded_to_whole_pixels(x: float, y: float) -> None:
    found = Template.of([(x, y)], [0], [0], [0], size=SIZE)
    assert np.abs(found.xy[0] - (x, y)).max() <= 0.5


@given(ROWS, st.integers(0, 40))
def test_the_best_come_first(rows: list[tuple[int, int, float, int, int]], count: int) -> None:
    found = template(rows, ridges=ridge_description(1))
    best = found.best(count)
    assert len(best) == min(count, len(found))
    assert sorted(best.quality, reverse=True) == sorted(found.quality, reverse=True)[:count]
    assert (best.size, best.ridges) == (found.size, found.ridges)


def test_arrays_are_read_only_and_not_the_callers() -> None:
    xy = np.array([[1, 2]], np.int16)
    found = Template.of(xy, [0], [1], [1], size=SIZE)
    xy[0, 0] = 9
    assert found.xy.tolist() == [[1, 2]]
    for array in (found.xy, found.angle, found.kind, found.quality):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.size = (1, 1)  # type: ignore[misc]


def test_templates_differ_by_any_field() -> None:
    row = [(1, 2, 0.5, 1, 9)]
    one = template(row)
    others = [
        template([(2, 2, 0.5, 1, 9)]),
        template([(1, 2, 0.6, 1, 9)]),
        template([(1, 2, 0.5, 2, 9)]),
        template([(1, 2, 0.5, 1, 8)]),
        template([]),
        template(row, finger=Finger.LEFT_INDEX),
        template(row, impression=Impression.OTHER),
        template(row, print_quality=3),
        template(row, ridges=ridge_description(1)),
    ]
    assert one == template(row)
    assert all(one != other for other in others)
    assert one != "a template"


def test_a_template_travels_between_processes() -> None:
    one = template([(1, 2, 0.5, 1, 9)], print_quality=3, ridges=ridge_description(1))
    assert pickle.loads(pickle.dumps(one)) == one  # noqa: S301 (our own bytes)


@pytest.mark.parametrize(
    ("x", "y"), [(-1, 0), (0, -1), (SIZE[0], 0), (0, SIZE[1]), (1e12, 0), (0, -1e12), (SIZE[0] - 0.4, 0)]
)
def test_a_minutia_outside_the_image_is_refused(x: float, y: float) -> None:
    with pytest.raises(TemplateOutOfBounds, match="outside its 300 x 400 image"):
        Template.of([(0, 0), (x, y)], [0, 0], [0, 0], [0, 0], size=SIZE)


@pytest.mark.parametrize("size", [(0, 1), (1, 0), (-1, 1), (2**15, 1), (1, 2**15)])
def test_an_impossible_size_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(TemplateOutOfBounds, match="image size"):
        Template.of([], [], [], [], size=size)


@pytest.mark.parametrize("angle", [math.nan, math.inf, -math.inf])
def test_an_angle_that_is_not_finite_is_refused(angle: float) -> None:
    with pytest.raises(TemplateOutOfBounds, match="not finite"):
        template([(0, 0, angle, 0, 0)])


@pytest.mark.parametrize(("kind", "quality"), [(3, 0), (-1, 0), (0, 101), (0, -1), (256, 0), (0, 256)])
def test_an_undefined_code_is_refused(kind: int, quality: int) -> None:
    with pytest.raises(TemplateOutOfBounds, match="kind"):
        template([(0, 0, 0.0, kind, quality)])


@pytest.mark.parametrize("print_quality", [-1, 101, 254, 255])
def test_an_undefined_print_quality_is_refused(print_quality: int) -> None:
    with pytest.raises(TemplateOutOfBounds, match="print quality"):
        template([], print_quality=print_quality)


def test_a_ridge_description_that_is_none_is_refused() -> None:
    """And one that is a buffer is kept as bytes of its own."""
    ridges = bytearray(ridge_description(1))
    found = template([], ridges=ridges)
    ridges[0] = 77
    assert found.ridges == ridge_description(1)
    with pytest.raises(TemplateOutOfBounds, match="ridge description of step 77"):
        template([], ridges=bytes(ridges))
    with pytest.raises(TemplateTruncated, match="ridge description"):
        template([], ridges=found.ridges[:-1])


@pytest.mark.parametrize("lengths", [(1, 2, 2, 2), (2, 1, 2, 2), (2, 2, 1, 2), (2, 2, 2, 1)])
def test_arrays_of_unequal_length_are_refused(lengths: tuple[int, int, int, int]) -> None:
    n, *rest = lengths
    with pytest.raises(TemplateOutOfBounds, match="positions"):
        Template.of([(0, 0)] * n, *([0] * count for count in rest), size=SIZE)
