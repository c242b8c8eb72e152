"""Every compiled kernel of ridges does what its obvious twin in tests/naive.py does."""

import math

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from minutiae import ridge_description, ridge_grid

from matcher.compare import Waves
from matcher.kernels import ridges as kernels
from matcher.ridges import PERIODS, pack

WAVES = Waves()
STEP = 8.0
PLACE = np.array([4.0, 4.0, STEP])
NO_BEND = np.zeros((0, 2)), np.zeros((3, 2))
seeds = st.integers(0, 2**32 - 1)
turns = st.floats(-4, 4)


def rings(rows: int, columns: int, centre: tuple[float, float], period: float = 9.0) -> np.ndarray:
    """Waves (2 rows, 2 columns, 4) of rings around a centre, at the places of `PLACE`."""
    x, y = np.meshgrid(PLACE[0] + STEP * np.arange(2 * columns), PLACE[1] + STEP * np.arange(2 * rows))
    away = np.stack((x - centre[0], y - centre[1]), axis=2)
    far = np.linalg.norm(away, axis=2)
    k = 2 * math.pi / period
    return np.dstack((k * away / far[..., None], k * far, np.ones(far.shape))).astype(np.float32)


def random_waves(seed: int, rows: int, columns: int) -> np.ndarray:
    """Waves of no pattern, some not described."""
    return kernels.unpack(np.frombuffer(ridge_description(seed, rows, columns), np.uint8), PERIODS)[0]


def places(waves: np.ndarray, motion: tuple[float, float, float]) -> np.ndarray:
    return kernels.lie(waves, PLACE, np.array(motion), *NO_BEND)


@st.composite
def two_prints(draw: st.DrawFn) -> tuple:
    """Waves of a probe, where they come to lie, its turn, and waves of a reference and their place."""
    seed, rows, columns = draw(seeds), draw(st.integers(1, 6)), draw(st.integers(1, 6))
    random = np.random.default_rng(seed)
    if draw(st.booleans()):
        waves, others = random_waves(seed, rows, columns), random_waves(seed + 1, columns, rows)
    else:
        waves, others = rings(rows, columns, (-40.3, 20.1)), rings(columns, rows, (-38.2, 22.4))
        others[random.random(others.shape[:2]) < 0.1] = 0
    turn = draw(st.sampled_from([0.0, 0.1, -0.2, math.pi]))
    place = np.array([*random.uniform(-9, 9, 2), draw(st.sampled_from([8.0, 11.0]))])
    middle = STEP * np.array([columns, rows])
    cos, sin = math.cos(turn), math.sin(turn)
    back = middle - np.array([[cos, sin], [-sin, cos]]) @ middle + random.uniform(-9, 9, 2)
    return waves, places(waves, (turn, *back)), turn, others, place


@given(seeds, st.integers(0, 9), st.integers(0, 9))
@settings(deadline=None)
def test_unpack(seed: int, rows: int, columns: int) -> None:
    data = pack(ridge_grid(seed, rows, columns))
    waves, place = kernels.unpack(np.frombuffer(data, np.uint8), PERIODS)
    expected, expected_place = naive.unpack(data, PERIODS)
    assert waves.shape == (2 * rows, 2 * columns, 4)
    assert waves.dtype == np.float32
    np.testing.assert_allclose(waves, expected, atol=1e-6)
    assert place.tolist() == expected_place.tolist()


@given(seeds, st.integers(1, 9), st.integers(1, 9), turns, st.floats(-400, 400), st.integers(8, 16))
@settings(deadline=None)
def test_lie_without_a_spline(seed: int, rows: int, columns: int, turn: float, dx: float, step: int) -> None:
    """The motion alone is straight, so that every place is exact."""
    waves = np.zeros((2 * rows, 2 * columns, 4), np.float32)
    place = np.array([seed % 300 - 100, seed % 7, step], float)
    motion = np.array([turn, dx, -dx / 2])
    found = kernels.lie(waves, place, motion, *NO_BEND)
    np.testing.assert_allclose(found, naive.lie(waves, place, motion, *NO_BEND), atol=1e-6)


@given(seeds, st.integers(1, 9), st.integers(1, 9), turns)
@settings(max_examples=60, deadline=None)
def test_lie_with_a_spline(seed: int, rows: int, columns: int, turn: float) -> None:
    """Exact at every fourth place of a row and a column; between them the spline is off by a pixel or so."""
    random = np.random.default_rng(seed)
    waves = np.zeros((2 * rows, 2 * columns, 4), np.float32)
    motion = np.array([turn, *random.uniform(-50, 50, 2)])
    at = naive.moved(random.uniform(0, 150, (8, 3)), motion)[:, :2].copy()
    w = naive.spline(at, 4 * np.sin(at / 60 + random.uniform(0, 6, 2)), 300.0)
    found, expected = kernels.lie(waves, PLACE, motion, at, w), naive.lie(waves, PLACE, motion, at, w)
    np.testing.assert_allclose(found[::4, ::4], expected[::4, ::4], atol=1e-6)
    assert np.abs(found - expected).max() < 2
    assert np.abs(found - naive.lie(waves, PLACE, motion, *NO_BEND)).max() > 0.1  # the spline does bend


@given(two_prints(), seeds)
@settings(max_examples=60, deadline=None)
def test_meet(prints: tuple, seed: int) -> None:
    """The twin's, wherever a wave lies: over the other print, at its rim, or outside."""
    waves, _, turn, others, place = prints
    random = np.random.default_rng(seed)
    turned = math.cos(turn), math.sin(turn)
    low, high = place[:2] - 20, place[:2] + place[2] * np.array(others.shape[1::-1]) + 20
    for x, y in random.uniform(low, high, (30, 2)):
        at = int(random.integers(len(waves))), int(random.integers(waves.shape[1]))
        found = kernels.meet(waves, *at, turned, x, y, others, place)
        expected = naive.meet(waves, *at, turned, x, y, others, place)
        assert found[:2] == pytest.approx(expected[:2], abs=1e-5)
        if found[1] > 1e-5:  # waves that lie across each other have no side in common
            assert found[2:] == pytest.approx(expected[2:], abs=1e-4)


def test_the_same_wave_told_from_either_side_meets_itself() -> None:
    """cos(k p + f) is cos(-k p - f); and waves across each other say nothing."""
    waves = np.array([[[0.5, -0.3, 1.0, 1.0]]], np.float32)
    for side in (1, -1):
        others = waves * np.array([side, side, side, 1], np.float32)
        weight, g, _, _, d = kernels.meet(waves, 0, 0, (1.0, 0.0), 4.0, 4.0, others, PLACE)
        assert (weight, g) == pytest.approx((1, 1))
        assert math.cos(d) == pytest.approx(1)
    across = np.array([[[0.3, 0.5, 1.0, 1.0]]], np.float32)
    assert kernels.meet(waves, 0, 0, (1.0, 0.0), 4.0, 4.0, across, PLACE)[:2] == pytest.approx((1, 0))


@given(seeds, st.integers(0, 7), st.integers(0, 7), st.integers(0, 9))
@settings(deadline=None)
def test_box_sum(seed: int, rows: int, columns: int, reach: int) -> None:
    values = np.random.default_rng(seed).normal(0, 1, (3, rows, columns))
    np.testing.assert_allclose(kernels.box_sum(values, reach), naive.box_sum(values, reach), atol=1e-9)


@given(two_prints(), st.integers(0, 1), seeds)
@settings(max_examples=60, deadline=None)
def test_pull(prints: tuple, corner: int, seed: int) -> None:
    waves, lying, turn, others, place = prints
    shift = np.random.default_rng(seed).normal(0, 2, (len(waves) // 2, waves.shape[1] // 2, 2))
    found = kernels.pull(waves, lying, shift, turn, corner, others, place)
    expected = naive.pull(waves, lying, shift, turn, corner, others, place)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3)


@given(two_prints())
@settings(max_examples=40, deadline=None)
def test_settle(prints: tuple) -> None:
    waves, lying, turn, others, place = prints
    for opposed in (-2.0, 2.0):  # never, and always
        p = WAVES._replace(opposed=opposed)
        shift, side = kernels.settle(waves, lying, turn, STEP, others, place, p)
        expected, expected_side = naive.settle(waves, lying, turn, STEP, others, place, p)
        assert side == expected_side == (-1 if opposed > 0 else 1)
        np.testing.assert_allclose(shift, expected, atol=1e-3)


def settled(
    waves: np.ndarray, lying: np.ndarray, turn: float, others: np.ndarray, place: np.ndarray
) -> tuple:
    """The agreement of waves that were let settle."""
    shift, side = kernels.settle(waves, lying, turn, STEP, others, place, WAVES)
    return kernels.agreement(waves, lying, shift, side, turn, others, place)


@given(two_prints(), seeds, st.sampled_from([1.0, -1.0]))
@settings(max_examples=40, deadline=None)
def test_agreement(prints: tuple, seed: int, side: float) -> None:
    """The twin's; the sums are those of what is told of every place."""
    waves, lying, turn, others, place = prints
    shift = np.random.default_rng(seed).normal(0, 2, (len(waves) // 2, waves.shape[1] // 2, 2))
    area, agreeing, met = kernels.agreement(waves, lying, shift, side, turn, others, place)
    expected_area, expected, expected_met = naive.agreement(waves, lying, shift, side, turn, others, place)
    assert (area, agreeing) == pytest.approx((expected_area, expected), abs=0.01)
    np.testing.assert_allclose(met, expected_met, atol=0.01)
    assert met[..., 2].sum() == pytest.approx(area, rel=1e-4)
    assert -area <= agreeing <= area


@given(st.floats(0, 3), turns, st.sampled_from([0.0, 0.8, math.pi]), st.booleans())
@settings(max_examples=30, deadline=None)
def test_a_pattern_a_third_of_a_ridge_away_settles_onto_itself(
    off: float, way: float, turn: float, white: bool
) -> None:
    """Rings up to three pixels off are moved back, white ones too up to one; others never come to agree."""
    off = off / 3 if white else off
    dx, dy = off * math.cos(way), off * math.sin(way)
    waves = rings(8, 8, (-30.7, 60.3))
    waves[..., 2] += math.pi * white
    c, s = math.cos(turn), math.sin(turn)
    others = rings(8, 8, (64 + c * -94.7 - s * 3.7, 64 + s * 94.7 - c * 3.7))  # turned about (64, 64)
    motion = np.array([turn, 64 - c * 64 - s * 64 + dx, 64 + s * 64 - c * 64 + dy])
    lying = places(waves, tuple(motion))
    area, agreeing, _ = settled(waves, lying, turn, others, PLACE)
    assert area > 100
    assert agreeing > 0.9 * area
    stranger = rings(8, 8, (180.0, -20.0), 8.0)
    area, agreeing, _ = settled(waves, lying, turn, stranger, PLACE)
    assert area > 100
    assert agreeing < 0.6 * area


def test_a_shift_is_found_across_the_ridges_only() -> None:
    """Straight ridges two pixels off: moved along their normal, not along themselves."""
    waves = np.zeros((16, 16, 4), np.float32)
    x = PLACE[0] + STEP * np.arange(16)
    waves[..., 0], waves[..., 2], waves[..., 3] = 0.7, 0.7 * x, 1
    lying = places(waves, (0.0, 2.2, 1.7))
    shift, side = kernels.settle(waves, lying, 0.0, STEP, waves, PLACE, WAVES)
    assert side == 1
    np.testing.assert_allclose(shift[..., 0], -2.2, atol=0.1)
    np.testing.assert_allclose(shift[..., 1], 0, atol=1e-6)


def test_prints_that_do_not_overlap_have_no_area() -> None:
    waves = rings(4, 4, (-9.0, 30.0))
    for far in ((0.0, 500.0, 0.0), (0.0, 0.0, -500.0)):
        area, agreeing, met = settled(waves, places(waves, far), 0.0, waves, PLACE)
        assert (area, agreeing) == (0, 0)
        assert not met.any()


def test_kernels_do_not_touch_their_arguments() -> None:
    waves, others = rings(4, 4, (-9.0, 30.0)), rings(4, 4, (-7.0, 30.0))
    lying = places(waves, (0.0, 0.0, 0.0))
    before = [array.tobytes() for array in (waves, others, lying)]
    settled(waves, lying, 0.0, others, PLACE)
    assert before == [array.tobytes() for array in (waves, others, lying)]
