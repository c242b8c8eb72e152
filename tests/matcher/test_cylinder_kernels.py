"""Kernels of cylinder codes against their twins (`tests.naive`), the sure minutiae read off on the way."""

import naive
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from benchmarks.synthetic.templates import finger as drawn
from benchmarks.synthetic.templates import impression
from matcher.cylinders import LEAST_SURE, SURE_QUALITY, Shape, cell_centres, prepare
from matcher.kernels import cylinders as kernels
from matcher.kernels import minutiae

SHAPE = Shape()
CELLS = cell_centres(SHAPE)
seeds = st.integers(0, 2**32 - 1)


def scattered(seed, n):
    random = np.random.default_rng(seed)
    return np.column_stack((random.uniform(0, 300, (n, 2)), random.uniform(-np.pi, np.pi, n))).astype(
        np.float32
    )


def hull(pose):
    return pose[minutiae.convex_hull(pose)]


def test_rows_are_those_of_the_cells():
    rows = kernels.rows_of(CELLS, SHAPE)
    step = 2 * SHAPE.radius / SHAPE.across
    assert rows[:, 2].sum() == len(CELLS)
    for row, (begin, column, count) in enumerate(rows):
        places = (CELLS[begin : begin + count] / step + (SHAPE.across - 1) / 2).round()
        assert np.array_equal(places, [(column + k, row) for k in range(count)])


@given(st.floats(-10, 10))
@example(0.0)
@example(np.pi)
@example(-np.pi / 6)
def test_sector_weights(difference):
    out = np.empty(6)
    kernels.sector_weights(difference, SHAPE.sigma_d, out)
    np.testing.assert_allclose(out, naive.sector_weights(difference, SHAPE.sigma_d), atol=1e-7)


@given(st.floats(-10, 40), st.floats(5, 30))
def test_gaussian(offset, sigma):
    out = np.empty(kernels.WINDOW)
    kernels.gaussian(offset, 8.75, sigma, out)
    exact = np.exp(-((offset - 8.75 * np.arange(kernels.WINDOW)) ** 2) / (2 * sigma**2))
    np.testing.assert_allclose(out, exact, rtol=1e-9, atol=0)


@given(seeds, st.integers(1, 30))
@settings(max_examples=40, deadline=None)
def test_near_cells(seed, n):
    """The twin's, but for cells on the very margin."""
    pose = scattered(seed, n)
    corners, edges = hull(pose), kernels.edges_of(hull(pose))
    depth, nearest, ok = np.empty(len(CELLS)), np.empty(len(CELLS)), np.empty(len(CELLS), np.bool_)
    at, _ = naive.place_cells(pose, 0, CELLS, corners, SHAPE)
    x, y = (float(v) for v in pose[0, :2])
    kernels.near_cells(x, y, np.ascontiguousarray(at.T), edges, SHAPE, depth, nearest, ok)
    ways = [[naive.near_hull(*one, corners, 50 + slack) for one in at] for slack in (-1e-3, 1e-3)]
    assert ((ok == ways[0]) | (ok == ways[1])).all()


@given(seeds, st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_add_neighbours(seed, n):
    """Cell values are the twin's, whatever part of the minutiae is added first."""
    pose, level = scattered(seed, n), np.zeros((6, len(CELLS) + 2 * kernels.PAD))
    rows, middle = kernels.rows_of(CELLS, SHAPE), n // 2
    contributing = sum(
        kernels.add_neighbours(pose, 0, *part, rows, SHAPE, level) for part in ((0, middle), (middle, n))
    )
    at, _ = naive.place_cells(pose, 0, CELLS, hull(pose), SHAPE)
    expected, near = naive.cylinder(pose, 0, at, np.ones(len(CELLS), bool), SHAPE)
    assert contributing == near
    found = level[:, kernels.PAD : -kernels.PAD]
    # A minutia exactly three sigma from a cell is in reach or not by rounding: G(3 sigma) is 0.0005.
    assert (np.abs(found - expected) > 1e-7).sum() <= 12
    assert not level[:, : kernels.PAD].any()
    assert not level[:, -kernels.PAD :].any()


@given(seeds)
@settings(deadline=None)
def test_pack_cylinder(seed):
    random = np.random.default_rng(seed)
    level, ok = random.uniform(0, 0.01, (6, 192)), random.random(192) < 0.8
    bits, valid = np.ones(18, np.uint64), np.ones(3, np.uint64)
    padded = np.pad(level, ((0, 0), (kernels.PAD, kernels.PAD)), constant_values=1.0)
    kernels.pack_cylinder(padded, ok, 0.005, bits, valid)
    expected_bits, expected_valid = naive.pack_cylinder(level, ok, 0.005)
    assert np.array_equal(bits, expected_bits)
    assert np.array_equal(valid, expected_valid)


@given(st.integers(0, 10**6), st.integers(1, 60))
@example(1, 1)
@example(1, 2)
@settings(max_examples=10, deadline=None)
def test_cylinders_are_those_of_all_and_of_the_first_alone(number, sure):
    """The same minutiae have cylinders, of the same bits (but for values on the very threshold)."""
    pose = prepare(impression(drawn(3, number))).pose.copy()
    sure = min(sure, len(pose))
    parts = (pose, pose[:sure])
    found = kernels.cylinders(pose, sure, *map(hull, parts), CELLS, SHAPE)
    for (bits, valid, minutia), part in zip(found, parts, strict=True):
        expected_bits, expected_valid, expected_minutia = naive.cylinders(part, CELLS, SHAPE)
        assert minutia.tolist() == expected_minutia.tolist()
        assert np.bitwise_count(bits ^ expected_bits).sum() <= 1
        assert np.bitwise_count(valid ^ expected_valid).sum() <= 1


@pytest.mark.parametrize("number", range(5))
def test_a_print_has_the_cylinders_of_its_sure_minutiae_as_if_there_were_no_others(number):
    found = prepare(impression(drawn(4, number)))
    count = int((found.quality >= SURE_QUALITY).sum())
    alone, _ = kernels.cylinders(found.pose[:count], 0, *[hull(found.pose[:count])] * 2, CELLS, SHAPE)
    assert len(alone[0]) >= LEAST_SURE
    for one, other in zip(found.sure, alone, strict=True):
        assert np.array_equal(one, other)
