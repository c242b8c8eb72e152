"""Every compiled kernel does what its obvious twin in tests/naive.py does."""

import inspect
import math

import naive
import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from minutiae import finger, mate
from numba import njit
from scipy.spatial import ConvexHull

from matcher import kernels
from matcher.compare import Relaxation
from matcher.cylinders import Shape, cell_centres, prepare

SHAPE, RELAXATION = Shape(), Relaxation()
CELLS = cell_centres(SHAPE)
LAYOUTS = ("scattered", "line", "upright line", "grid", "spot", "pairs")
seeds = st.integers(0, 2**32 - 1)


def layout(kind: str, n: int, seed: int, *, whole: bool = True) -> np.ndarray:
    """Poses (n, 3) float32, also of the kinds that geometry trips over."""
    random = np.random.default_rng(seed)
    xy = random.uniform(0, 400, (n, 2))
    if kind == "line":
        xy = np.outer(random.integers(0, 100, n), (3, 2))
    elif kind == "upright line":
        xy[:, 0] = 50
    elif kind == "grid":
        xy = 20 * random.integers(0, 5, (n, 2))
    elif kind == "spot":
        xy[:] = 77
    elif kind == "pairs":
        xy[1::2] = xy[: n // 2 * 2 : 2]
    angle = random.uniform(-math.pi, math.pi, n)
    return np.column_stack((np.rint(xy) if whole else xy, angle)).astype(np.float32)


@st.composite
def poses(draw: st.DrawFn, *, least: int = 1, most: int = 25, whole: bool = True) -> np.ndarray:
    n = draw(st.integers(least, most))
    return layout(draw(st.sampled_from(LAYOUTS)), n, draw(seeds), whole=whole)


@st.composite
def two_prints(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two prints' poses, of one finger or not, and a similarity matrix with what kernels meet in it."""
    seed = draw(seeds)
    random = np.random.default_rng(seed)
    one = finger(seed, draw(st.integers(1, 14)))
    other = mate(one, seed, turn=draw(st.sampled_from([0.0, 0.7, 3.0]))).template
    if not len(other) or draw(st.booleans()):
        other = finger(seed + 1, draw(st.integers(1, 14)))
    a, b = prepare(one).pose, prepare(other).pose
    similar = random.uniform(0, 1, (len(a), len(b))) * (random.random((len(a), len(b))) < 0.7)
    if draw(st.booleans()):
        similar = np.round(similar, 1)
    return a, b, similar.astype(np.float32)


def test_every_kernel_has_its_twin() -> None:
    """A kernel added without a twin fails here."""
    names = {
        name
        for name, value in vars(kernels).items()
        if hasattr(value, "py_func") or type(value).__name__ == "_Intrinsic"
    }
    assert len(names) > 15
    assert names <= {name for name, _ in inspect.getmembers(naive, inspect.isfunction)}


@given(st.integers(0, 2**64 - 1))
@example(0)
@example(2**64 - 1)
@example(2**63)
@settings(deadline=None)
def test_popcount(value: int) -> None:
    assert _popcount(np.uint64(value)) == naive.popcount(value)


@njit
def _popcount(value):
    return kernels.popcount(value)


@given(st.floats(-1e4, 1e4))
@example(math.pi)
@example(-math.pi)
@example(3 * math.pi)
@settings(deadline=None)
def test_wrapped(angle: float) -> None:
    """The same direction, in [-pi, pi] up to rounding."""
    value = kernels.wrapped(angle)
    assert -math.pi - 1e-9 <= value <= math.pi + 1e-9
    assert abs(math.remainder(value - naive.wrapped(angle), 2 * math.pi)) < 1e-9


@given(poses())
@settings(deadline=None)
def test_convex_hull(pose: np.ndarray) -> None:
    """Its corners are the twin's, once each unless all points coincide, counter-clockwise."""
    corners = pose[kernels.convex_hull(pose), :2].astype(float)
    assert {tuple(c) for c in corners} == naive.convex_hull(pose)
    if len(naive.convex_hull(pose)) > 1:
        assert len(corners) == len(naive.convex_hull(pose))
    edges = np.roll(corners, -1, axis=0) - corners
    after = np.roll(edges, -1, axis=0)
    assert (edges[:, 0] * after[:, 1] - edges[:, 1] * after[:, 0] >= 0).all()


@given(seeds, st.integers(3, 300))
@settings(max_examples=30, deadline=None)
def test_convex_hull_agrees_with_qhull(seed: int, n: int) -> None:
    pose = layout("scattered", n, seed, whole=False)
    reached = {tuple(p) for p in pose[kernels.convex_hull(pose), :2]}
    assert reached == {tuple(p) for p in pose[ConvexHull(pose[:, :2]).vertices, :2]}


@given(poses(), st.floats(-200, 600), st.floats(-200, 600))
@settings(deadline=None)
def test_near_hull(pose: np.ndarray, x: float, y: float) -> None:
    corners = pose[kernels.convex_hull(pose)]
    ways = {naive.near_hull(x, y, corners, 50.0 + slack) for slack in (-1e-3, 0, 1e-3)}
    assume(len(ways) == 1)  # on the very margin rounding decides
    assert kernels.near_hull(x, y, corners, 50.0) in ways


@given(st.floats(-7, 7))
@settings(deadline=None)
def test_sector_weights(difference: float) -> None:
    out = np.empty(6)
    kernels.sector_weights(difference, SHAPE.sigma_d, out)
    np.testing.assert_allclose(out, naive.sector_weights(difference, SHAPE.sigma_d), atol=1e-9)


@given(poses(most=12))
@settings(max_examples=15, deadline=None)
def test_cylinder_of_one_minutia(pose: np.ndarray) -> None:
    """Cells lie where the twin puts them, are valid alike, and hold the same values."""
    corners = pose[kernels.convex_hull(pose)]
    at, level = np.empty((len(CELLS), 2)), np.empty((6, len(CELLS)))
    ok = kernels.place_cells(pose, 0, CELLS, corners, SHAPE, at)
    expected_at, expected_ok = naive.place_cells(pose, 0, CELLS, corners, SHAPE)
    np.testing.assert_allclose(at, expected_at, atol=1e-3)
    assert (ok != expected_ok).sum() <= 1
    contributing = kernels.cylinder(pose, 0, at, ok, SHAPE, level)
    expected, near = naive.cylinder(pose, 0, at, ok, SHAPE)
    assert contributing == near
    # A minutia exactly three sigma from a cell is in reach or not by rounding: G(3 sigma) is 0.0005.
    assert (np.abs(level - expected) > 1e-6).sum() <= 12


@given(seeds)
@settings(deadline=None)
def test_pack_cylinder(seed: int) -> None:
    random = np.random.default_rng(seed)
    level, ok = random.uniform(0, 0.01, (6, 192)), random.random(192) < 0.8
    bits, valid = np.zeros(18, np.uint64), np.zeros(3, np.uint64)
    kernels.pack_cylinder(level, ok, 0.005, bits, valid)
    expected_bits, expected_valid = naive.pack_cylinder(level, ok, 0.005)
    assert np.array_equal(bits, expected_bits)
    assert np.array_equal(valid, expected_valid)


@given(seeds, st.integers(1, 14))
@example(1, 1)
@example(1, 2)
@settings(max_examples=10, deadline=None)
def test_cylinders(seed: int, n: int) -> None:
    """The same minutiae have cylinders, of the same bits (but for values on the very threshold)."""
    pose = prepare(finger(seed, n)).pose.copy()
    bits, valid, minutia = kernels.cylinders(pose, CELLS, SHAPE)
    expected_bits, expected_valid, expected_minutia = naive.cylinders(pose, CELLS, SHAPE)
    assert minutia.tolist() == expected_minutia.tolist()
    assert np.bitwise_count(bits ^ expected_bits).sum() <= 3 * max(len(bits), 1)
    assert np.bitwise_count(valid ^ expected_valid).sum() <= 2


@st.composite
def codes(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(draw(seeds))
    m, density = draw(st.integers(0, 6)), draw(st.sampled_from([0.0, 0.3, 1.0]))
    valid = random.random((m, 192)) < draw(st.sampled_from([0.5, 0.9, 1.0]))
    on = (random.random((m, 6, 192)) < density) & valid[:, None]
    return _packed(on.reshape(m, 1152)), _packed(valid)


def _packed(bits: np.ndarray) -> np.ndarray:
    """Booleans (m, 64 w) as words (m, w), bit q of a word being column q."""
    return np.packbits(bits, axis=1, bitorder="little").view(np.uint64)


@given(codes(), codes(), st.sampled_from([0.0, 0.6 * 192, 192.0]))
@settings(deadline=None)
def test_similarities(one: tuple, other: tuple, least: float) -> None:
    out = kernels.similarities(*one, *other, least)
    assert out.dtype == np.float32
    assert out.shape == (len(one[0]), len(other[0]))
    np.testing.assert_allclose(out, naive.similarities(*one, *other, least), atol=1e-6)
    assert ((out >= 0) & (out <= 1)).all()
    if out.size:
        single = kernels.similarity(*one, 0, *other, 0, least)
        assert single == pytest.approx(naive.similarity(*one, 0, *other, 0, least))


@given(two_prints(), st.sampled_from([0.0, math.pi]))
@settings(deadline=None)
def test_pairing_and_relaxation(prints: tuple, turn: float) -> None:
    """Greedy pairs, their agreement, and what it makes of their worth."""
    a, b, similar = prints
    pairs, worth = kernels.best_pairs(similar, a, b, turn, RELAXATION)
    expected, expected_worth = naive.best_pairs(similar, a, b, turn, RELAXATION)
    assert pairs.tolist() == expected.tolist()
    np.testing.assert_allclose(worth, expected_worth)
    rho = kernels.compatibility(a, b, pairs, RELAXATION)
    np.testing.assert_allclose(rho, naive.compatibility(a, b, pairs, RELAXATION), atol=1e-4)
    relaxed = kernels.relax(worth, rho, RELAXATION.rounds, RELAXATION.keep)
    np.testing.assert_allclose(relaxed, naive.relax(worth, rho, RELAXATION.rounds, RELAXATION.keep))


@given(two_prints(), st.sampled_from([0.0, math.pi]))
@settings(deadline=None)
def test_relaxed_score(prints: tuple, turn: float) -> None:
    """The twin's, with pairs of equal gain taken in whichever order."""
    a, b, similar = prints
    value = kernels.relaxed_score(similar, a, b, turn, RELAXATION)
    most = naive.relaxed_score(similar, a, b, turn, RELAXATION)
    least = naive.relaxed_score(similar, a, b, turn, RELAXATION, favour=-1)
    assert least - 1e-6 <= value <= most + 1e-6


@given(st.integers(0, 255))
@settings(deadline=None)
def test_pair_count(fewer: int) -> None:
    count = kernels.pair_count(fewer, RELAXATION)
    assert count == naive.pair_count(fewer, RELAXATION)
    assert RELAXATION.pairs_least <= count <= RELAXATION.pairs_most


@given(poses(least=2, most=12, whole=False), seeds)
@settings(deadline=None)
def test_fit_rigid(a: np.ndarray, seed: int) -> None:
    """No motion fits better than the kernel's; the twin's fits as well."""
    random = np.random.default_rng(seed)
    b = naive.moved(a, *random.uniform(-3, 3, 3)) + random.normal(0, 2, a.shape)
    b = b.astype(np.float32)
    pairs = np.column_stack((np.arange(len(a)), random.permutation(len(a))))
    weight = random.uniform(0.1, 1, len(a))

    def misfit(motion: tuple[float, float, float]) -> float:
        away = naive.moved(a, *motion)[pairs[:, 0], :2] - b[pairs[:, 1], :2]
        return float(weight @ (away**2).sum(axis=1))

    best = misfit(kernels.fit_rigid(a, b, pairs, weight))
    assert best == pytest.approx(misfit(naive.fit_rigid(a, b, pairs, weight)), rel=1e-6, abs=1e-3)
    for step in np.vstack((np.eye(3), -np.eye(3))) * [0.01, 1.0, 1.0]:
        assert best <= misfit(np.array(kernels.fit_rigid(a, b, pairs, weight)) + step) + 1e-3


@given(two_prints(), st.floats(-4, 4), st.floats(-30, 30), st.floats(-30, 30))
@settings(deadline=None)
def test_grow_pairs(prints: tuple, turn: float, dx: float, dy: float) -> None:
    a, b, _ = prints
    b = np.concatenate((b, naive.moved(a, turn, dx, dy).astype(np.float32)[::2]))
    pairs, misfit = kernels.grow_pairs(a, b, turn, dx, dy, 15.0, math.pi / 8)
    expected, expected_misfit = naive.grow_pairs(a, b, turn, dx, dy, 15.0, math.pi / 8)
    assert pairs.tolist() == expected.tolist()
    np.testing.assert_allclose(misfit, expected_misfit, atol=1e-5)


@given(two_prints())
@settings(max_examples=50, deadline=None)
def test_align(prints: tuple) -> None:
    """As many minutiae coincide under its motion as under the twin's."""
    a, b, similar = prints
    pairs, worth = kernels.best_pairs(similar, a, b, 0.0, RELAXATION)
    assume(len(pairs) >= 2)
    rho = kernels.compatibility(a, b, pairs, RELAXATION)
    relaxed = kernels.relax(worth, rho, RELAXATION.rounds, RELAXATION.keep)

    def support(motion: tuple[float, float, float]) -> float:
        p = RELAXATION
        return float(np.exp(-naive.grow_pairs(a, b, *motion, p.grow_distance, p.grow_angle)[1]).sum())

    motion = kernels.align(a, b, pairs, rho, relaxed, RELAXATION)
    assert support(motion) == pytest.approx(
        support(naive.align(a, b, pairs, rho, relaxed, RELAXATION)), abs=1e-3
    )


def test_kernels_do_not_touch_their_arguments() -> None:
    """Read-only arrays, as a memory-mapped segment gives, are taken and give the same."""
    print_ = prepare(finger(3))
    again = kernels.cylinders(print_.pose, CELLS, SHAPE)  # read-only
    for array, other in zip(again, kernels.cylinders(print_.pose.copy(), CELLS, SHAPE), strict=True):
        assert np.array_equal(array, other)
    similar = kernels.similarities(*again[:2], print_.bits, print_.valid, RELAXATION.least_common)
    assert similar.diagonal() == pytest.approx(1.0)
