"""The ridge description made from an image: plane waves give their own codes, noise weighs nothing."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enroll.ridges import PARAMS, describe
from matcher.kernels.ridges import unpack
from matcher.ridges import COARSEST, FINEST, MOST_BYTES, PERIODS, check

SIDE = 160


def plane_wave(angle: float, period: float, phase: float, *, contrast: float = 90.0) -> np.ndarray:
    """An image (160, 160): 128 + contrast cos(k . p + phase), k at `angle` counter-clockwise as seen."""
    y, x = np.mgrid[:SIDE, :SIDE]
    along = x * math.cos(angle) - y * math.sin(angle)
    return np.rint(128 + contrast * np.cos(2 * math.pi / period * along + phase)).astype(np.uint8)


def everywhere(shape: tuple[int, int] = (SIDE, SIDE)) -> np.ndarray:
    return np.ones(shape, bool)


def waves_of(data: bytes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Waves (r, c, 4) in float64, and the x and y of their places."""
    check(data)
    waves, (x, y, step) = unpack(np.frombuffer(data, np.uint8), PERIODS)
    columns, rows = np.arange(waves.shape[1]), np.arange(len(waves))
    return waves.astype(float), *np.meshgrid(x + step * columns, y + step * rows)


def middle(plane: np.ndarray) -> np.ndarray:
    """Without the cells at the rim, whose patches see the image mirrored."""
    return plane[4:-4, 4:-4]


@given(st.integers(0, 63), st.integers(1, 6), st.floats(-3.1, 3.1))
@settings(max_examples=40, deadline=None)
def test_a_plane_wave_gives_its_own_codes(direction: int, period: int, phase: float) -> None:
    """Direction and period to the code or its neighbour, the phase at every place to less than its step."""
    angle, length = direction * math.pi / 64, PERIODS[period]
    waves, x, y = waves_of(describe(plane_wave(angle, length, phase), everywhere()))
    kx, ky, found_phase, weight = (middle(plane) for plane in waves.transpose(2, 0, 1))
    apart = np.remainder(np.arctan2(-ky, kx) - angle + math.pi / 2, math.pi) - math.pi / 2
    assert np.abs(apart).max() <= 1.5 * math.pi / 64
    assert np.abs(np.log(2 * math.pi / np.hypot(kx, ky) / length)).max() < 1.01 * np.log(
        PERIODS[1] / PERIODS[0]
    )
    along = middle(x) * math.cos(angle) - middle(y) * math.sin(angle)
    true = 2 * math.pi / length * along + phase
    side = np.where(kx * math.cos(angle) - ky * math.sin(angle) >= 0, 1, -1)  # the wave told from either side
    off = np.remainder(side * found_phase - true + math.pi, 2 * math.pi) - math.pi
    assert np.abs(off).max() < math.pi / 4
    assert np.abs(off).mean() < math.pi / 10  # of rounding alone: pi / 16
    assert weight.min() == 1


@pytest.mark.parametrize("direction", [0, 16, 32, 48])
def test_the_directions_of_the_bank_are_told_exactly(direction: int) -> None:
    """The normal of the ridges, counter-clockwise as seen: 0 upright ridges, a quarter of pi leaning left."""
    for period in (2, 4):
        data = describe(plane_wave(direction * math.pi / 64, PERIODS[period], 0.3), everywhere())
        waves = middle(waves_of(data)[0])
        assert np.unique(np.rint(np.arctan2(-waves[..., 1], waves[..., 0]) * 64 / math.pi)).tolist() == [
            direction
        ]
        assert 2 * math.pi / np.hypot(waves[..., 0], waves[..., 1]) == pytest.approx(
            PERIODS[period], rel=1e-5
        )


def test_a_wave_drawn_from_the_description_is_the_image() -> None:
    """cos(k . (p - place) + phase) around each place, dark where the ridge is dark."""
    image = plane_wave(0.6, 9.3, 1.0)
    waves, x, y = waves_of(describe(image, everywhere()))
    drawn = np.cos(middle(waves[..., 2]))
    seen = (image[middle(y).astype(int), middle(x).astype(int)] - 128.0) / 90
    assert np.corrcoef(drawn.ravel(), seen.ravel())[0, 1] > 0.95


@pytest.mark.parametrize("seed", range(3))
def test_noise_weighs_little(seed: int) -> None:
    """White noise, and noise as coarse as ridges are; a wave under noise of its own strength weighs full."""
    random = np.random.default_rng(seed)
    white = np.clip(random.normal(128, 40, (SIDE, SIDE)), 0, 255).astype(np.uint8)
    assert mean_weight(white) <= 1.5 / 7
    wave = plane_wave(0.6, 9.3, 1.0, contrast=40 * math.sqrt(2)).astype(float)
    noisy = np.clip(wave + random.normal(0, 40, (SIDE, SIDE)), 0, 255).astype(np.uint8)
    assert mean_weight(noisy) > 0.8


def mean_weight(image: np.ndarray) -> float:
    return float(middle(waves_of(describe(image, everywhere()))[0][..., 3]).mean())


def test_a_flat_image_weighs_the_least_that_is_described() -> None:
    waves, _, _ = waves_of(describe(np.full((SIDE, SIDE), 200, np.uint8), everywhere()))
    assert np.unique(waves[..., 3]) == pytest.approx([1 / 7])


def test_brightness_and_contrast_do_not_matter() -> None:
    """Above the contrast below which nothing is amplified."""
    plain = plane_wave(0.6, 9.3, 1.0)
    weak = (plain.astype(float) / 3 + 30).astype(np.uint8)
    assert weak.std() > PARAMS.contrast
    one, other = (waves_of(describe(image, everywhere()))[0] for image in (plain, weak))
    assert np.mean(one == other) > 0.95


def test_what_is_under_the_mask_is_described() -> None:
    """Cells half covered or more, at their places in the image; nothing else."""
    mask = np.zeros((300, 300), bool)
    mask[100:180, 37:133] = True
    image = np.random.default_rng(1).integers(0, 255, mask.shape).astype(np.uint8)
    data = describe(image, mask)
    waves, x, y = waves_of(data)
    assert (data[0], waves.shape) == (FINEST, (10, 12, 4))
    assert (x[0, 0], y[0, 0]) == (37 + FINEST // 2, 100 + FINEST // 2)
    described = waves[..., 3] > 0
    assert described.all()
    mask[100:132, 37:69] = False
    waves, x, y = waves_of(describe(image, mask))
    described = waves[..., 3] > 0
    assert np.array_equal(described, ~((x < 69) & (y < 132)))


def test_what_lies_outside_the_mask_is_not_told() -> None:
    """The same waves under the mask, whatever cells there are elsewhere in the picture."""
    mask = everywhere()
    mask[:, 80:] = False
    image = plane_wave(0.6, 9.3, 1.0)
    waves, x, _ = waves_of(describe(image, mask))
    assert x.max() < 80
    assert (waves[..., 3] > 0).all()


@pytest.mark.parametrize("side", [40, 160, 400, 700, 1000, 2000])
def test_a_larger_print_is_described_more_coarsely(side: int) -> None:
    """The finest grid that 1,500 bytes hold; of a print too large for the coarsest, some cells."""
    image = np.random.default_rng(side).integers(0, 255, (side, side)).astype(np.uint8)
    data = describe(image, everywhere((side, side)))
    check(data)
    assert 0 < len(data) <= MOST_BYTES
    cells = math.ceil(side / (2 * data[0])) ** 2
    if side <= 160:
        assert data[0] == FINEST
    elif side <= 700:
        assert FINEST < data[0] <= COARSEST
        finer = (side // (2 * (data[0] - 1))) ** 2
        assert 3 * finer + finer // 8 + 8 > MOST_BYTES
    else:
        assert data[0] == COARSEST
        assert len(data) > MOST_BYTES - 3
        assert (waves_of(data)[0][::2, ::2, 3] > 0).sum() < cells


def test_of_a_print_that_is_too_large_the_best_cells_are_kept() -> None:
    """Ridges in one corner of a noisy sheet: they are told, and noise fills what room is left."""
    random = np.random.default_rng(5)
    image = random.integers(60, 200, (1000, 1000)).astype(np.uint8)
    image[700:860, 700:860] = plane_wave(0.6, 9.3, 1.0)
    waves, x, y = waves_of(describe(image, everywhere((1000, 1000))))
    inside = (np.abs(x - 780) < 50) & (np.abs(y - 780) < 50)
    assert (waves[inside][:, 3] == 1).all()
    assert (waves[~inside][:, 3] > 0).mean() < 0.5


@pytest.mark.parametrize("shape", [(4100, 20), (20, 4100), (9000, 9), (3, 3), (17, 1), (1, 1)])
def test_prints_of_odd_shapes(shape: tuple[int, int]) -> None:
    """A stripe longer than 255 cells, a dot, a line of pixels: a sound description or none."""
    image = np.random.default_rng(2).integers(0, 255, shape).astype(np.uint8)
    data = describe(image, everywhere(shape))
    check(data)
    assert len(data) <= MOST_BYTES
    if min(shape) > 8:
        assert data[1] * data[2] > 0


def test_an_empty_mask_gives_none() -> None:
    assert describe(plane_wave(0, 9, 0), ~everywhere()) == b""


def test_it_repeats_itself_and_changes_nothing() -> None:
    image, mask = plane_wave(0.6, 9.3, 1.0), everywhere()
    before = image.tobytes(), mask.tobytes()
    assert describe(image, mask) == describe(image, mask)
    assert before == (image.tobytes(), mask.tobytes())
