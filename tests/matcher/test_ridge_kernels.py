"""Every compiled kernel of ridges does what its obvious twin in tests/naive.py does."""

import math
from typing import NamedTuple

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from minutiae import ridge_description, ridge_grid

from matcher.compare import Alignment, Waves
from matcher.kernels import ridges as kernels
from matcher.kernels.ridges import Cells
from matcher.ridges import PERIODS, pack

WAVES = Waves()
STEP = 8.0
PLACE = np.array([4.0, 4.0, STEP])
NO_BEND = np.zeros((0, 2)), np.zeros((3, 2))
NO_RIDGES = bytes([8, 0, 0, 0, 0, 0, 0, 0])
RIGID = Alignment(bending_pairs=1000)
seeds = st.integers(0, 2**32 - 1)
turns = st.floats(-4, 4)


def rings(rows: int, columns: int, centre: tuple[float, float], period: float = 9.0) -> np.ndarray:
    """Waves (2 rows, 2 columns, 4) of rings around a centre, at the places of `PLACE`."""
    x, y = np.meshgrid(PLACE[0] + STEP * np.arange(2 * columns), PLACE[1] + STEP * np.arange(2 * rows))
    away = np.stack((x - centre[0], y - centre[1]), axis=2)
    far = np.linalg.norm(away, axis=2)
    k = 2 * math.pi / period
    return np.dstack((k * away / far[..., None], k * far, np.ones(far.shape))).astype(np.float32)


def random_cells(seed: int, rows: int, columns: int) -> Cells:
    """Cells of no pattern, some of the grid not described."""
    return kernels.described(np.frombuffer(ridge_description(seed, rows, columns), np.uint8), PERIODS)[0]


def cells_of(waves: np.ndarray) -> Cells:
    """All cells of a grid."""
    rows, columns = len(waves) // 2, waves.shape[1] // 2
    row, column = np.divmod(np.arange(rows * columns), columns)
    places = waves.reshape(rows, 2, columns, 2, 4).transpose(0, 2, 1, 3, 4).reshape(-1, 4, 4)
    return Cells(2 * row, 2 * column, places.astype(np.float64))


def places(cells: Cells, motion: tuple[float, float, float]) -> np.ndarray:
    return kernels.lie(cells, PLACE, np.array(motion), *NO_BEND)


class Met(NamedTuple):
    """Cells of a probe, their turned waves, where they lie, and the waves of a reference and their place."""

    cells: Cells
    ours: np.ndarray
    lying: np.ndarray
    others: np.ndarray
    place: tuple[float, float, float]

    @property
    def shift(self) -> np.ndarray:
        return np.zeros((len(self.cells.row), 2))


@st.composite
def two_prints(draw: st.DrawFn) -> Met:
    seed, rows, columns = draw(seeds), draw(st.integers(1, 6)), draw(st.integers(1, 6))
    random = np.random.default_rng(seed)
    if draw(st.booleans()):
        cells = random_cells(seed, rows, columns)
        data = np.frombuffer(ridge_description(seed + 1, columns, rows), np.uint8)
        others = kernels.unpack(data, PERIODS)[0]
    else:
        cells, others = cells_of(rings(rows, columns, (-40.3, 20.1))), rings(columns, rows, (-38.2, 22.4))
        others[random.random(others.shape[:2]) < 0.1] = 0
    turn = draw(st.sampled_from([0.0, 0.1, -0.2, math.pi]))
    place = *random.uniform(-9, 9, 2).tolist(), draw(st.sampled_from([8.0, 11.0]))
    middle = STEP * np.array([columns, rows])
    back = middle - naive.rotation(turn) @ middle + random.uniform(-9, 9, 2)
    lying = places(cells, (turn, *back))
    return Met(cells, kernels.turned(cells, turn), lying, kernels.rimmed(others), place)


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
    assert np.array_equal(kernels.rimmed(waves), naive.rimmed(waves))
    cells, (*xy, step) = kernels.described(np.frombuffer(data, np.uint8), PERIODS)
    expected_cells, _ = naive.described(data, PERIODS)
    assert [*xy, step] == place.tolist()
    for one, other in zip(cells, expected_cells, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)


@given(st.lists(st.floats(-100, 100), max_size=20))
@settings(deadline=None)
def test_sine(angles: list[float]) -> None:
    np.testing.assert_allclose(kernels.sine(np.array(angles)), naive.sine(angles), atol=2e-9)


@given(seeds, st.integers(1, 9), st.integers(1, 9), turns, st.floats(-400, 400), st.integers(8, 16))
@settings(deadline=None)
def test_lie_without_a_spline(seed: int, rows: int, columns: int, turn: float, dx: float, step: int) -> None:
    """The motion alone is straight, so that every place is exact; the waves turn with it."""
    cells = random_cells(seed, rows, columns)
    place = np.array([seed % 300 - 100, seed % 7, step], float)
    motion = np.array([turn, dx, -dx / 2])
    found = kernels.lie(cells, place, motion, *NO_BEND)
    np.testing.assert_allclose(found, naive.lie(cells, place, motion, *NO_BEND), atol=1e-6)
    np.testing.assert_allclose(kernels.turned(cells, turn), naive.turned(cells, turn), atol=1e-9)


@given(seeds, st.integers(1, 9), st.integers(1, 9), turns)
@settings(max_examples=60, deadline=None)
def test_lie_with_a_spline(seed: int, rows: int, columns: int, turn: float) -> None:
    """Exact at every fourth place of a row and a column; between them the spline is off by a pixel or so."""
    random = np.random.default_rng(seed)
    cells = cells_of(np.zeros((2 * rows, 2 * columns, 4)))
    motion = np.array([turn, *random.uniform(-50, 50, 2)])
    at = naive.moved(random.uniform(0, 150, (8, 3)), motion)[:, :2].copy()
    w = naive.spline(at, 4 * np.sin(at / 60 + random.uniform(0, 6, 2)), 300.0)
    found, expected = kernels.lie(cells, PLACE, motion, at, w), naive.lie(cells, PLACE, motion, at, w)
    fourth = (cells.row % 4 == 0) & (cells.column % 4 == 0)
    np.testing.assert_allclose(found[0][fourth], expected[0][fourth], atol=1e-5)
    assert np.abs(found - expected).max() < 2
    assert np.abs(found - naive.lie(cells, PLACE, motion, *NO_BEND)).max() > 0.1  # the spline does bend


@given(two_prints(), seeds)
@settings(max_examples=60, deadline=None)
def test_meet(prints: Met, seed: int) -> None:
    """The twin's, wherever a wave lies: over the other print, at its rim, or outside."""
    _, ours, lying, others, place = prints
    shift = np.random.default_rng(seed).uniform(-60, 60, lying[0].shape)
    near, off = kernels.nearest(lying[0], shift, others, place)
    expected_near, expected_off = naive.nearest(lying[0], shift, others, place)
    np.testing.assert_allclose(near, expected_near)
    described = near[:, 3] > 0
    np.testing.assert_allclose(off[described], expected_off[described], atol=1e-9)
    met, d = kernels.meet(ours[0], near, off)
    expected, expected_d = naive.meet(ours[0], near, off)
    np.testing.assert_allclose(met[:, 2:], expected[:, 2:], atol=1e-5)
    told = met[:, 2] > 1e-5  # waves that lie across each other have no side in common
    np.testing.assert_allclose(met[told], expected[told], atol=1e-4)
    np.testing.assert_allclose(d[told], expected_d[told], atol=1e-4)


def test_the_same_wave_told_from_either_side_meets_itself() -> None:
    """cos(k p + f) is cos(-k p - f); and waves across each other say nothing."""
    waves, off = np.array([[0.5, -0.3, 1.0, 1.0]]), np.zeros((1, 2))
    for side in (1, -1):
        met, d = kernels.meet(waves, waves * np.array([side, side, side, 1]), off)
        assert met[0, 2:].tolist() == pytest.approx([1, 1])
        assert math.cos(d[0]) == pytest.approx(1)
    met, _ = kernels.meet(waves, np.array([[0.3, 0.5, 1.0, 1.0]]), off)
    assert met[0, 2:].tolist() == pytest.approx([0, 1])


@given(seeds, st.integers(0, 7), st.integers(0, 7), st.integers(0, 9))
@settings(deadline=None)
def test_box_sum(seed: int, rows: int, columns: int, reach: int) -> None:
    values = np.random.default_rng(seed).normal(0, 1, (rows, columns, 5))
    np.testing.assert_allclose(kernels.box_sum(values, reach), naive.box_sum(values, reach), atol=1e-9)


@given(two_prints(), st.integers(0, 1), seeds)
@settings(max_examples=60, deadline=None)
def test_pull(prints: Met, across: int, seed: int) -> None:
    cells, ours, lying, *other = prints
    shift = np.random.default_rng(seed).normal(0, 2, prints.shift.shape)
    found = kernels.pull(cells, ours[across], lying[across], shift, *other)
    expected = naive.pull(cells, ours[across], lying[across], shift, *other)
    for one, other_one in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other_one, atol=1e-3)


@given(two_prints(), st.sampled_from([1.0, -1.0]), st.floats(0.5, 6))
@settings(max_examples=40, deadline=None)
def test_settle(prints: Met, side: float, window: float) -> None:
    cells, ours, lying, *other = prints
    shift = prints.shift
    pulls, _, _ = kernels.pull(cells, ours[0], lying[0], shift, *other)
    expected = naive.settle(cells, pulls, shift, side, window, WAVES)
    kernels.settle(cells, pulls, shift, side, window, WAVES)
    np.testing.assert_allclose(shift, expected, atol=1e-3)


@given(two_prints(), seeds, st.sampled_from([1.0, -1.0]))
@settings(max_examples=40, deadline=None)
def test_agreement(prints: Met, seed: int, side: float) -> None:
    """The twin's; the sums are those of what is told of every place."""
    _, ours, lying, *other = prints
    shift = np.random.default_rng(seed).normal(0, 2, prints.shift.shape)
    met = kernels.agreement(ours, lying, shift, side, *other)
    expected = naive.agreement(ours, lying, shift, side, *other)
    np.testing.assert_allclose(met[..., :3], expected[..., :3], atol=0.01)
    np.testing.assert_allclose(met[..., 2] * met[..., 3], expected[..., 2] * expected[..., 3], atol=0.01)
    assert kernels.summed(met) == pytest.approx(naive.summed(met))
    area, agreeing = kernels.summed(met)
    assert -area <= agreeing + 1e-9
    assert agreeing - 1e-9 <= area


@given(seeds, st.booleans(), st.booleans(), st.sampled_from([-2.0, -0.25, 2.0]))
@settings(max_examples=20, deadline=None)
def test_best(seed: int, ridged: bool, mates: bool, opposed: float) -> None:
    """The motion that speaks most, and what speaks for it: the twin's, with ridges and without."""
    random, w = np.random.default_rng(seed), WAVES._replace(opposed=opposed)
    described = [ridge_description(seed + k, 6, 5) if ridged else NO_RIDGES for k in (0, 0 if mates else 1)]
    data, other_data = (np.frombuffer(one, np.uint8) for one in described)
    pose = random.uniform((0, 0, -3), (150, 150, 3), (6, 3)).astype(np.float32)
    other = (pose + random.normal(0, 1, pose.shape) * (1, 1, 0.01)).astype(np.float32)
    motions = np.array([[0.0, 0.5, 0.2], [0.2, 30.0, -20.0], [3.0, 90.0, 110.0]])
    given = pose, data, other, other_data, motions, PERIODS, RIGID, w
    found, mean, met, side = kernels.best(*given)
    (speaks, lying, pairs, _), expected_mean, expected, expected_side = naive.best(*given)
    assert side == expected_side
    assert found.speaks == pytest.approx(speaks, abs=0.02)
    assert mean == pytest.approx(expected_mean, abs=1e-3)
    np.testing.assert_allclose(found.lying, lying, atol=1e-3)
    assert sorted(found.pairs.tolist()) == sorted(pairs.tolist())
    np.testing.assert_allclose(met[..., :3], expected[..., :3], atol=0.02)
    alone, _ = kernels.follow(*_following(given, found.motion))
    assert alone.speaks == found.speaks


def _following(given: tuple, motion: np.ndarray) -> tuple:
    pose, data, other, other_data, _, periods, p, w = given
    cells, place = kernels.described(data, periods)
    waves, (x, y, step) = kernels.unpack(other_data, periods)
    return pose, other, motion, cells, place, (kernels.rimmed(waves), (x, y, step)), p, w


def settled(cells: Cells, lying: np.ndarray, turn: float, others: np.ndarray) -> tuple:
    """The side, the shift and the agreement of waves that were let settle."""
    ours, other = kernels.turned(cells, turn), (kernels.rimmed(others), tuple(PLACE.tolist()))
    shift = np.zeros((len(cells.row), 2))
    _, weight, agreeing = kernels.pull(cells, ours[0], lying[0], shift, *other)
    side = -1.0 if agreeing < WAVES.opposed * (WAVES.opposed_prior + weight) else 1.0
    for q, window in enumerate(WAVES.windows):
        pulls, _, _ = kernels.pull(cells, ours[q & 1], lying[q & 1], shift, *other)
        kernels.settle(cells, pulls, shift, side, window / STEP, WAVES)
    met = kernels.agreement(ours, lying, shift, side, *other)
    return side, shift, *kernels.summed(met), met


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
    cells = cells_of(waves)
    lying = places(cells, (turn, 64 - c * 64 - s * 64 + dx, 64 + s * 64 - c * 64 + dy))
    _, _, area, agreeing, _ = settled(cells, lying, turn, others)
    assert area > 100
    assert agreeing > 0.9 * area
    stranger = rings(8, 8, (180.0, -20.0), 8.0)
    _, _, area, agreeing, _ = settled(cells, lying, turn, stranger)
    assert area > 100
    assert agreeing < 0.6 * area


def test_a_shift_is_found_across_the_ridges_only() -> None:
    """Straight ridges two pixels off: moved along their normal, not along themselves."""
    waves = np.zeros((16, 16, 4), np.float32)
    x = PLACE[0] + STEP * np.arange(16)
    waves[..., 0], waves[..., 2], waves[..., 3] = 0.7, 0.7 * x, 1
    cells = cells_of(waves)
    side, shift, _, _, _ = settled(cells, places(cells, (0.0, 2.2, 1.7)), 0.0, waves)
    assert side == 1
    np.testing.assert_allclose(shift[..., 0], -2.2, atol=0.1)
    np.testing.assert_allclose(shift[..., 1], 0, atol=1e-6)


def test_prints_that_do_not_overlap_have_no_area() -> None:
    waves = rings(4, 4, (-9.0, 30.0))
    for far in ((0.0, 500.0, 0.0), (0.0, 0.0, -500.0)):
        cells = cells_of(waves)
        _, shift, area, agreeing, met = settled(cells, places(cells, far), 0.0, waves)
        assert (area, agreeing) == (0, 0)
        assert not shift.any()
        assert not met[..., 2].any()


def test_kernels_do_not_touch_their_arguments() -> None:
    cells, others = cells_of(rings(4, 4, (-9.0, 30.0))), rings(4, 4, (-7.0, 30.0))
    lying = places(cells, (0.0, 0.0, 0.0))
    before = [array.tobytes() for array in (*cells, others, lying)]
    settled(cells, lying, 0.0, others)
    assert before == [array.tobytes() for array in (*cells, others, lying)]
