"""The packed ridge description: what comes back of it, what is refused, and how long it may be."""

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from minutiae import ridge_description, ridge_grid

from matcher.errors import TemplateOutOfBounds, TemplateTruncated
from matcher.kernels.ridges import unpack
from matcher.ridges import (
    CELL_BYTES,
    COARSEST,
    DIRECTIONS,
    FINEST,
    HEAD,
    MOST_BYTES,
    PERIODS,
    PHASES,
    WEIGHTS,
    RidgeGrid,
    check,
    pack,
    packed_length,
)

seeds = st.integers(0, 2**32 - 1)
grids = st.builds(ridge_grid, seeds, st.integers(1, 20), st.integers(1, 20))


def full(rows: int, columns: int, **codes: int) -> RidgeGrid:
    """Every cell with the same codes."""
    cells = {name: np.full((rows, columns), codes.get(name, 1)) for name in ("direction", "period", "weight")}
    return RidgeGrid(8, 4, 4, **cells, phase=np.full((2 * rows, 2 * columns), codes.get("phase", 0)))


def codes_of(data: bytes) -> RidgeGrid:
    """The codes that the kernel's waves stand for; those of cells that are not described are 0."""
    waves, (x, y, step) = unpack(np.frombuffer(data, np.uint8), PERIODS)
    kx, ky, phase, weight = waves.astype(float).transpose(2, 0, 1)
    described = weight > 0
    angle = np.arctan2(-ky, kx)
    period = 2 * np.pi / np.where(described, np.hypot(kx, ky), 1)
    nearest = np.abs(period[..., None] - PERIODS).argmin(axis=-1) * described
    for plane in (angle, period, weight):  # one wave for the four places of a cell, but for its phase
        assert np.ptp(plane.reshape(len(plane) // 2, 2, -1, 2), axis=(1, 3)).max() < 1e-6
    return RidgeGrid(
        int(step),
        int(x),
        int(y),
        np.rint(angle * DIRECTIONS / np.pi).astype(int)[::2, ::2] * described[::2, ::2],
        nearest[::2, ::2],
        np.rint(weight * (WEIGHTS - 1)).astype(int)[::2, ::2],
        np.rint(phase * PHASES / (2 * np.pi)).astype(int),
    )


def assert_same(found: RidgeGrid, expected: RidgeGrid) -> None:
    for name, one, other in zip(RidgeGrid._fields, found, expected, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=name)


@given(grids)
def test_what_is_packed_comes_back(grid: RidgeGrid) -> None:
    data = pack(grid)
    assert_same(codes_of(data), grid)
    assert len(data) == packed_length(int((grid.weight > 0).sum()), grid.weight.size)


def test_every_code_comes_back() -> None:
    """Each direction with each period, each weight and each phase: 64 cells a grid, 8 grids."""
    for period in range(len(PERIODS)):
        k = np.arange(DIRECTIONS).reshape(8, 8)
        phase = np.arange(4 * k.size).reshape(16, 16)
        grid = RidgeGrid(8 + period, -5, 300, k, k * 0 + period, 1 + k % 7, (phase + period) % PHASES)
        assert_same(codes_of(pack(grid)), grid)


@given(grids)
def test_what_is_packed_is_accepted(grid: RidgeGrid) -> None:
    check(pack(grid))


def test_no_description_is_a_good_one() -> None:
    check(b"")


def test_a_grid_without_cells_is_packed_and_accepted() -> None:
    for rows, columns in ((0, 0), (3, 0), (0, 3), (2, 2)):
        data = pack(full(rows, columns, weight=0))
        check(data)
        waves, _ = unpack(np.frombuffer(data, np.uint8), PERIODS)
        assert waves.shape == (2 * rows, 2 * columns, 4)
        assert not waves.any()


@given(grids)
def test_every_truncation_is_refused(grid: RidgeGrid) -> None:
    data = pack(grid)
    for length in range(1, len(data)):
        with pytest.raises(TemplateTruncated, match=f"description of {length} bytes"):
            check(data[:length])


@given(grids, st.binary(min_size=1, max_size=9))
def test_more_than_the_grid_says_is_refused(grid: RidgeGrid, more: bytes) -> None:
    with pytest.raises(TemplateTruncated):
        check(pack(grid) + more)


@pytest.mark.parametrize("step", [0, 1, FINEST - 1, COARSEST + 1, 255])
def test_a_step_that_no_description_has_is_refused(step: int) -> None:
    data = ridge_description(3)
    check(bytes([FINEST]) + data[1:])
    with pytest.raises(TemplateOutOfBounds, match=f"step {step}"):
        check(bytes([step]) + data[1:])


@given(seeds, st.integers(0, 11), st.integers(0, 255))
def test_a_changed_grid_is_refused_or_still_fits(seed: int, at: int, value: int) -> None:
    """Whatever passes the check can be unpacked, and has the length that its grid says."""
    data = ridge_description(seed)
    changed = data[:at] + bytes([value]) + data[at + 1 :]
    assert accepted(changed) or at not in (3, 4, 5, 6, 7)  # the place alone says nothing of the length
    if accepted(changed):
        waves, _ = unpack(np.frombuffer(changed, np.uint8), PERIODS)
        assert waves.shape == (2 * changed[2], 2 * changed[1], 4)


@given(st.binary(max_size=60))
@example(HEAD.pack(8, 255, 255, 0, 0))
@example(HEAD.pack(8, 0, 0, 0, 0))
def test_arbitrary_bytes(data: bytes) -> None:
    """They are refused, or are as many as their grid says."""
    if accepted(data) and data:
        assert unpack(np.frombuffer(data, np.uint8), PERIODS)[0].size == 16 * data[1] * data[2]


def accepted(data: bytes) -> bool:
    """Whether the check passes; nothing but the two errors it names is raised."""
    try:
        check(data)
    except (TemplateTruncated, TemplateOutOfBounds):
        return False
    return True


def test_the_longest_description() -> None:
    """At most 1,500 bytes: one cell more is refused, by who packs and by who checks."""
    room = next(n for n in range(MOST_BYTES) if packed_length(n + 1, n + 1) > MOST_BYTES)
    columns = 2
    rows = room // columns
    data = pack(full(rows, columns))
    check(data)
    assert MOST_BYTES - len(data) < 2 * CELL_BYTES + 1
    with pytest.raises(TemplateOutOfBounds, match="at most 1500"):
        pack(full(rows + 1, columns))
    with pytest.raises(TemplateOutOfBounds, match="at most 1500"):
        check(HEAD.pack(8, columns, rows + 1, 0, 0) + bytes(MOST_BYTES))


@pytest.mark.parametrize(
    ("name", "limit"),
    [("direction", DIRECTIONS), ("period", len(PERIODS)), ("weight", WEIGHTS), ("phase", PHASES)],
)
def test_a_code_that_its_bits_cannot_hold_is_refused(name: str, limit: int) -> None:
    check(pack(full(2, 3, **{name: limit - 1})))
    for code in (limit, limit + 100, -1):
        if (name, code) != ("weight", -1):  # a cell that is not described
            with pytest.raises(TemplateOutOfBounds, match="code"):
                pack(full(2, 3, **{name: code}))


@given(grids)
def test_what_cells_that_are_not_described_hold_does_not_matter(grid: RidgeGrid) -> None:
    assume((grid.weight == 0).any())
    blank = grid.weight == 0
    other = grid._replace(
        direction=np.where(blank, 999, grid.direction),
        phase=np.where(blank.repeat(2, 0).repeat(2, 1), -7, grid.phase),
    )
    assert pack(other) == pack(grid)
