"""Every compiled kernel of minutiae does what its obvious twin in tests/naive.py does."""

import inspect
import itertools
import math

import naive
import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from minutiae import finger, mate
from numba import njit
from scipy.spatial import ConvexHull

from matcher.compare import Alignment, Relaxation
from matcher.cylinders import Shape, cell_centres, prepare
from matcher.kernels import minutiae as kernels
from matcher.kernels import ridges
from matcher.kernels.minutiae import Hypothesis
from matcher.template import Template

SHAPE, RELAXATION, ALIGNMENT = Shape(), Relaxation(), Alignment()
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
    names = [
        name
        for module in (kernels, ridges)
        for name, value in vars(module).items()
        if hasattr(value, "py_func") or type(value).__name__ == "_Intrinsic"
    ]
    assert len(names) > 30
    assert len(set(names)) == len(names)  # one twin serves one kernel
    assert set(names) <= {name for name, _ in inspect.getmembers(naive, inspect.isfunction)}


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


@given(two_prints(), st.sampled_from([0.0, math.pi]), st.integers(0, 40))
@settings(deadline=None)
def test_structure(prints: tuple, turn: float, fewer: int) -> None:
    """The twin's, with pairs of equal gain taken in whichever order; fewer pairs than wanted count as 0."""
    _, worth, _, relaxed = relaxed_pairs(*prints, turn)
    assume(len(worth))
    value = kernels.structure(worth, relaxed, fewer, RELAXATION)
    most = naive.structure(worth, relaxed, fewer, RELAXATION)
    least = naive.structure(worth, relaxed, fewer, RELAXATION, favour=-1)
    assert least - 1e-6 <= value <= most + 1e-6


def relaxed_pairs(a: np.ndarray, b: np.ndarray, similar: np.ndarray, turn: float) -> tuple:
    pairs, worth = kernels.best_pairs(similar, a, b, turn, RELAXATION)
    rho = kernels.compatibility(a, b, pairs, RELAXATION)
    return pairs, worth, rho, kernels.relax(worth, rho, RELAXATION.rounds, RELAXATION.keep)


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
    b = naive.moved(a, random.uniform(-3, 3, 3)) + random.normal(0, 2, a.shape)
    b = b.astype(np.float32)
    pairs = np.column_stack((np.arange(len(a)), random.permutation(len(a))))
    weight = random.uniform(0.1, 1, len(a))

    def misfit(motion: tuple[float, float, float]) -> float:
        away = naive.moved(a, motion)[pairs[:, 0], :2] - b[pairs[:, 1], :2]
        return float(weight @ (away**2).sum(axis=1))

    best = misfit(kernels.fit_rigid(a, b, pairs, weight))
    assert best == pytest.approx(misfit(naive.fit_rigid(a, b, pairs, weight)), rel=1e-6, abs=1e-3)
    for step in np.vstack((np.eye(3), -np.eye(3))) * [0.01, 1.0, 1.0]:
        assert best <= misfit(np.array(kernels.fit_rigid(a, b, pairs, weight)) + step) + 1e-3


@given(two_prints(), st.sampled_from([0.0, math.pi]))
@settings(deadline=None)
def test_propose(prints: tuple, turn: float) -> None:
    """The twin's motions, in its order."""
    a, b, similar = prints
    pairs, _, rho, relaxed = relaxed_pairs(a, b, similar, turn)
    one = Hypothesis(0.0, a, b, pairs, rho, relaxed, np.arange(len(pairs)))
    for n in range(len(pairs)):
        assert_same_motion(kernels.propose(one, n), naive.propose(one, n))


def assert_same_motion(found: np.ndarray, expected: np.ndarray) -> None:
    assert abs(math.remainder(found[0] - expected[0], 2 * math.pi)) < 1e-4
    np.testing.assert_allclose(found[1:], expected[1:], atol=0.05)


motions = st.tuples(st.floats(-4, 4), st.floats(-300, 300), st.floats(-300, 300))


@given(seeds, st.integers(0, 20), st.floats(0, 400), st.floats(0, 400))
@settings(deadline=None)
def test_is_new(seed: int, n: int, x: float, y: float) -> None:
    random = np.random.default_rng(seed)
    some = random.normal(0, 1, (n, 3)) * (0.1, 8, 8) + random.integers(0, 2, (n, 1)) * (3, 50, -20)
    for k in range(n):
        found = kernels.is_new(some[k], some[:k], x, y, ALIGNMENT)
        assert found == naive.is_new(some[k], some[:k], x, y, ALIGNMENT)


def test_motions_on_either_side_of_a_half_turn_are_alike() -> None:
    some = np.array([[math.pi - 0.01, 3.0, 4.0], [0.01 - math.pi, 3.0, 4.0], [math.pi - 0.3, 3.0, 4.0]])
    assert [kernels.is_new(some[k], some[:1], 0.0, 0.0, ALIGNMENT) for k in (1, 2)] == [False, True]


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0]), max_size=20), st.integers(0, 12))
@settings(deadline=None)
def test_leading(values: list[float], count: int) -> None:
    """Of equal values the first stands first."""
    assert kernels.leading(np.array(values), count).tolist() == naive.leading(values, count)


def cylinders_of(seed: int, n: int, *, quality: int) -> tuple:
    """Pose and both kinds of cylinders of a print; of quality 80 and another: at 80 both kinds are one."""
    one = finger(seed, n)
    some = np.where(np.arange(len(one)) < len(one) * 0.8, 80, quality)
    made = prepare(Template.of(one.xy, one.angle, one.kind, some, size=one.size))
    return made.pose, made.every, made.sure


@given(seeds, st.integers(10, 24), st.sampled_from([20, 80]), st.booleans())
@settings(max_examples=15, deadline=None)
def test_motions(seed: int, n: int, quality: int, same: bool) -> None:
    """Structure and motions of both kinds of cylinders, or of the one kind that there is."""
    probe = cylinders_of(seed, n, quality=quality)
    reference = cylinders_of(seed if same else seed + 1, n, quality=quality)
    assert kernels.same(*probe[1:]) == naive.same(*probe[1:])
    value, found = kernels.motions(probe, reference, RELAXATION, ALIGNMENT)
    assert value == kernels.structure_of(probe, reference, RELAXATION)
    expected_value, expected = naive.motions(probe, reference, RELAXATION, ALIGNMENT)
    least, _ = naive.motions(probe, reference, RELAXATION, ALIGNMENT, favour=-1)
    assume(abs(expected_value - least) < 1e-6)  # pairs of equal gain are taken in whichever order
    assert value == pytest.approx(expected_value, abs=1e-3)
    assert len(found) == len(expected) <= ALIGNMENT.tried
    if same and len(found):
        assert_same_motion(found[0], expected[0])
    levels = (one.level(*_kind(probe, reference), RELAXATION) for one in (kernels, naive))
    for one, other in zip(*levels, strict=True):
        assert one.pairs.tolist() == other.pairs.tolist()
        np.testing.assert_allclose(one.relaxed, other.relaxed, atol=1e-4)


def _kind(probe: tuple, reference: tuple) -> tuple:
    return probe[0], probe[1], reference[0], reference[1]


@given(poses(whole=False), motions)
@settings(deadline=None)
def test_moved(pose: np.ndarray, motion: tuple[float, float, float]) -> None:
    """The twin's; distances and angles to each other stay."""
    found = ridges.moved(pose, np.array(motion))
    np.testing.assert_allclose(found, naive.moved(pose, motion), atol=1e-4)
    np.testing.assert_allclose(found[:, 2] - pose[:, 2], motion[0], atol=1e-5)


@given(two_prints(), motions)
@settings(deadline=None)
def test_grow_pairs(prints: tuple, motion: tuple[float, float, float]) -> None:
    a, b, _ = prints
    a = naive.moved(a, motion)
    b = np.concatenate((b, a.astype(np.float32)[::2]))
    pairs, misfit = ridges.grow_pairs(a, b, 15.0, math.pi / 8)
    expected, expected_misfit = naive.grow_pairs(a, b, 15.0, math.pi / 8)
    np.testing.assert_allclose(misfit, expected_misfit, atol=1e-5)
    assert sorted(pairs.tolist()) == sorted(
        expected.tolist()
    )  # misfits that rounding tells apart, in any order
    assert len(pairs) >= 1  # each second one was put in its place


@st.composite
def bendings(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Points, some of them in one place or on one line, and a small shift of each."""
    pose = draw(poses(least=1, most=20, whole=False)).astype(float)
    random = np.random.default_rng(draw(seeds))
    return pose[:, :2].copy(), random.normal(0, 5, (len(pose), 2))


@given(st.floats(0, 1e6))
@example(0.0)
@settings(deadline=None)
def test_radial(r2: float) -> None:
    assert ridges.radial(r2) == pytest.approx(naive.radial(r2), rel=1e-8, abs=1e-6)


@given(seeds, st.integers(1, 20))
@settings(deadline=None)
def test_solve(seed: int, n: int) -> None:
    """Of any order of rows: a zero on the diagonal is no harm."""
    random = np.random.default_rng(seed)
    system = np.column_stack(
        (random.permutation(np.eye(n)) + 0.1 * random.normal(0, 1, (n, n)) / n, random.normal(0, 1, (n, 2)))
    )
    np.testing.assert_allclose(ridges.solve(system.copy()), naive.solve(system), atol=1e-8)


@given(bendings(), st.sampled_from([10.0, 300.0, 1e4]), seeds)
@settings(deadline=None)
def test_spline(bending: tuple, stiffness: float, seed: int) -> None:
    """It shifts its points as the twin does, and every other point where they are no line."""
    at, shift = bending
    points = np.column_stack((at, at[:, 0]))
    if np.linalg.matrix_rank(at - at.mean(axis=0), tol=150) == 2:
        points = np.vstack((points, np.random.default_rng(seed).uniform(-50, 450, (10, 3))))
    found = ridges.bent(points, at, ridges.spline(at, shift, stiffness))
    expected = naive.bent(points, at, naive.spline(at, shift, stiffness))
    np.testing.assert_allclose(found, expected, atol=0.01)


@given(seeds, st.integers(3, 20))
@settings(deadline=None)
def test_a_spline_without_stiffness_interpolates(seed: int, n: int) -> None:
    """At its points it gives their shifts; the stiffer, the less. A stretch it gives always."""
    random = np.random.default_rng(seed)
    at = layout("scattered", n, seed, whole=False)[:, :2].astype(float)
    shift = random.normal(0, 5, (n, 2))
    assume(min(math.dist(*pair) for pair in itertools.combinations(at.tolist(), 2)) > 5)
    drawn = [ridges.bent(at, at, ridges.spline(at, shift, stiffness)) for stiffness in (0.0, 300.0, 1e4)]
    np.testing.assert_allclose(drawn[0], shift, atol=1e-4)
    misses = [((one - shift) ** 2).sum() for one in drawn]
    assert misses == sorted(misses)
    affine = at @ random.normal(0, 0.05, (2, 2)) + random.normal(0, 5, 2)
    assert np.abs(ridges.bent(at, at, ridges.spline(at, affine, 300.0)) - affine).max() < 0.5


@given(seeds, st.integers(3, 60), st.floats(-100, 1000), st.floats(-100, 1000))
@settings(deadline=None)
def test_a_spline_does_not_depend_on_where_the_origin_lies(seed: int, n: int, dx: float, dy: float) -> None:
    """The same shifts wherever the print lies, and never farther from what is wanted than no shift at all."""
    random = np.random.default_rng(seed)
    at = layout("scattered", n, seed, whole=False)[:, :2].astype(float)
    shift = random.normal(0, 3, (n, 2))
    drawn = [
        ridges.bent(points, points, ridges.spline(points, shift, 300.0))
        for points in (at, at + np.array([dx, dy]), at - at.mean(axis=0))
    ]
    for one in drawn:
        assert ((one - shift) ** 2).sum() <= (shift**2).sum() * (1 + 1e-6)
    # A tenth of a pixel is rare, of three points in one line far from the origin.
    np.testing.assert_allclose(drawn[1], drawn[0], atol=0.25)
    np.testing.assert_allclose(drawn[2], drawn[0], atol=0.25)


@given(bendings(), poses(whole=False))
@settings(deadline=None)
def test_bent(bending: tuple, pose: np.ndarray) -> None:
    """The twin's shift for any weights, also at the spline's own points; none without points."""
    at, shift = bending
    w = np.vstack((shift / 1e4, shift.mean(axis=0) * [[0.01], [0.01], [-0.01]]))
    points = np.vstack((pose, np.column_stack((at, at[:, 0])).astype(np.float32)))
    np.testing.assert_allclose(ridges.bent(points, at, w), naive.bent(points, at, w), atol=0.01)
    assert not ridges.bent(pose, np.zeros((0, 2)), np.ones((3, 2))).any()


@given(seeds, st.integers(1, 20), motions, st.sampled_from([0.0, 2.0, 6.0]))
@settings(max_examples=60, deadline=None)
def test_align(seed: int, n: int, motion: tuple[float, float, float], jitter: float) -> None:
    """Pairs, misfits and where the minutiae come to lie are the twin's; equal misfits in any order."""
    random = np.random.default_rng(seed)
    a = layout("scattered", n, seed)
    b = naive.moved(a, motion) + random.normal(0, jitter, (n, 3)) * (1, 1, 0.03)
    b = b[random.permutation(n)[: max(1, n - 2)]].astype(np.float32)
    start = np.add(motion, random.normal(0, 1, 3) * (0.01, 3, 3))
    lying, pairs, misfit, at, w = ridges.align(a, b, start, ALIGNMENT)
    expected, expected_pairs, expected_misfit, expected_at, expected_w = naive.align(
        a, b, start, ALIGNMENT, ridges.spline
    )
    np.testing.assert_allclose(lying, expected, atol=1e-3)
    assert sorted(pairs.tolist()) == sorted(expected_pairs.tolist())
    np.testing.assert_allclose(misfit, expected_misfit, atol=1e-3)
    assert w.shape == expected_w.shape == (len(at) + 3, 2)
    np.testing.assert_allclose(
        ridges.bent(lying, at, w), naive.bent(lying, expected_at, expected_w), atol=0.01
    )


def test_bending_finds_more_than_a_motion_does() -> None:
    """A print drawn out by a seventh: its rim lies more than a ridge away, and is reached all the same."""
    a = layout("grid", 25, 1)
    a[:, :2] = 40 * np.stack(np.meshgrid(np.arange(5), np.arange(5)), axis=2).reshape(25, 2) + 20
    b = a.copy()
    b[:, :2] = (a[:, :2] - 100) * 1.15 + 100
    still = ridges.grow_pairs(a.astype(float), b, ALIGNMENT.tolerances[-1], ALIGNMENT.angle)[0]
    _, pairs, misfit, _, _ = ridges.align(a, b, np.zeros(3), ALIGNMENT)
    assert len(still) < 25
    assert sorted(pairs.tolist()) == [[i, i] for i in range(25)]
    assert misfit.max() < 0.1


@given(poses(whole=False), poses(least=0, most=12), st.floats(-0.01, 0.01), st.booleans())
@settings(deadline=None)
def test_within(pose: np.ndarray, corners: np.ndarray, turn: float, lying: bool) -> None:
    """The twin's, but for points on the very margin; also of corners that came to lie somewhere."""
    around = naive.moved(corners, (turn, 3.3, -2.2)) if lying else corners
    found = kernels.within(pose, around, 20.0)
    ways = [naive.within(pose, around, margin) for margin in (19.9, 20.1)]
    assert found.shape == (len(pose),)
    assert ((found == ways[0]) | (found == ways[1])).all()
    if len(corners):
        assert kernels.within(around, around, 20.0).all()


@given(seeds, st.integers(1, 20))
@settings(max_examples=40, deadline=None)
def test_share(seed: int, n: int) -> None:
    random = np.random.default_rng(seed)
    pose = layout("scattered", n, seed)
    lying = pose + random.normal(0, 3, pose.shape)
    quality, other = (random.integers(0, 101, n).astype(np.uint8) for _ in range(2))
    pairs = np.column_stack((np.arange(n), random.permutation(n)))[: n // 2 + 1]
    misfit = random.uniform(0, 2, len(pairs))
    found = kernels.share(lying, quality, pose, other, pairs, misfit, ALIGNMENT)
    assert found == pytest.approx(naive.share(lying, quality, pose, other, pairs, misfit, ALIGNMENT))
    assert kernels.weight(quality[0], ALIGNMENT) == naive.weight(int(quality[0]), ALIGNMENT)


def test_kernels_do_not_touch_their_arguments() -> None:
    """Read-only arrays, as a memory-mapped segment gives, are taken and give the same."""
    print_ = prepare(finger(3))
    copies = [array.copy() for array in print_.every[:2]]
    similar = kernels.similarities(*copies, *print_.every[:2], RELAXATION.least_common)
    assert similar.diagonal() == pytest.approx(1.0)
