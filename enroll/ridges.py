"""The ridge description of a print: its waves on a grid, packed as `matcher.ridges` says.

Each cell's patch of the image is held against a bank of waves of all directions and periods under a Gaussian.
The energies are shared with the neighbouring cells, for a wave that the neighbours see too is the more likely
one; the strongest wave is the cell's. Its phase is then measured at the four places of the cell.

References
----------
.. [1] S. Chikkerur, A. N. Cartwright, V. Govindaraju, "Fingerprint enhancement using STFT analysis", Pattern
   Recognition 40(1), 2007, doi:10.1016/j.patcog.2006.05.036 (energy over direction and period, by window).
"""

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy import ndimage

from enroll.segment import wide_mean
from matcher.ridges import (
    COARSEST,
    DIRECTIONS,
    FINEST,
    MOST_BYTES,
    PERIODS,
    PHASES,
    WEIGHTS,
    RidgeGrid,
    pack,
    packed_length,
)


@dataclass(frozen=True, slots=True)
class RidgeParams:
    """Lengths in pixels at 500 ppi; own choices, made on FVC2002 and FVC2004 DB1-4_B unless stated."""

    shade: float = 16.0  # sigma over which brightness and contrast are evened: two ridges
    contrast: float = 8.0  # grey levels; below this standard deviation nothing is amplified further
    wave: float = 8.0  # sigma of the window of a wave: about three ridges lie under it
    reach: int = 8  # half the side of a patch, at half resolution: two sigmas
    directions: int = 16  # of the bank; the code is refined between them
    share: float = 8.0  # sigma over which neighbouring cells share their energies: a ridge
    covered: float = 0.5  # share of a cell under the mask, from which it is described
    weak: float = 0.05  # share of a patch's power in its wave that weighs nothing; white noise has 0.03
    strong: float = 0.30  # ... and that weighs full; the median of plain prints


PARAMS = RidgeParams()


class _Layout(NamedTuple):
    """Where cells lie: step, first place, and which cells are under the mask (r, c)."""

    step: int
    x: int
    y: int
    kept: NDArray[np.bool_]


class _Waves(NamedTuple):
    """Codes of every cell (r, c), float64: direction and period (fractions of codes), weight 0 to 1."""

    direction: NDArray[np.float64]
    period: NDArray[np.float64]
    weight: NDArray[np.float64]


def describe(pixels: NDArray[np.uint8], mask: NDArray[np.bool_], *, params: RidgeParams = PARAMS) -> bytes:
    """Describe the ridges of a print.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (H, W)
        At 500 ppi, ridges dark.
    mask : ndarray of bool, shape (H, W)
        Its foreground.
    params : RidgeParams

    Returns
    -------
    bytes
        Packed as `matcher.ridges` says; empty where the mask is.
    """
    layout = _lay_out(mask, params)
    if not layout.kept.any():
        return b""
    windows = _windows(pixels, params)
    waves = _waves(windows, layout, params)
    direction = np.rint(waves.direction).astype(np.int64) % DIRECTIONS
    period = np.clip(np.rint(waves.period), 0, len(PERIODS) - 1).astype(np.int64)
    weight = np.clip(np.rint(waves.weight * (WEIGHTS - 1)), 1, WEIGHTS - 1).astype(np.int64)
    phase = _phases(windows, layout, direction, period, params)
    grid = RidgeGrid(
        layout.step, layout.x, layout.y, direction, period, _trimmed(weight * layout.kept), phase
    )
    return pack(grid)


def _lay_out(mask: NDArray[np.bool_], params: RidgeParams) -> _Layout:
    """Return the finest grid over the mask whose description is not too long."""
    y, x = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if not len(y):
        return _Layout(FINEST, 0, 0, np.zeros((0, 0), np.bool_))
    inner = mask[y[0] : y[-1] + 1, x[0] : x[-1] + 1].astype(np.float32)
    for step in range(FINEST, COARSEST + 1):
        side = 2 * step
        rows, columns = (min(255, -(-extent // side)) for extent in inner.shape)
        padded = np.zeros((rows * side, columns * side), np.float32)
        part = inner[: rows * side, : columns * side]
        padded[: part.shape[0], : part.shape[1]] = part
        kept = padded.reshape(rows, side, columns, side).mean(axis=(1, 3)) >= params.covered
        if packed_length(int(kept.sum()), kept.size) <= MOST_BYTES:
            break
    return _Layout(step, int(x[0]) + step // 2, int(y[0]) + step // 2, kept)


def _trimmed(weight: NDArray[np.int64]) -> NDArray[np.int64]:
    """Leave out the weakest cells of a print that is too large even for the coarsest grid."""
    room = (MOST_BYTES - packed_length(0, weight.size)) // 3
    kept = np.argsort(-weight, axis=None, kind="stable")[: max(0, room)]
    trimmed = np.zeros_like(weight)
    trimmed.flat[kept] = weight.flat[kept]
    return trimmed


class _Windows(NamedTuple):
    """All patches of the evened image at half resolution, (h, w, side, side), one centred on each pixel."""

    patches: NDArray[np.float32]

    def at(self, x: NDArray[np.int64], y: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the patches around full-resolution places."""
        height, width = self.patches.shape[:2]
        rows, columns = np.clip(y // 2, 0, height - 1), np.clip(x // 2, 0, width - 1)
        patches: NDArray[np.float32] = self.patches[rows, columns]
        return patches


def _windows(pixels: NDArray[np.uint8], params: RidgeParams) -> _Windows:
    image = pixels.astype(np.float32)
    image -= wide_mean(image, params.shade)
    spread = np.sqrt(wide_mean(image * image, params.shade))
    image /= np.maximum(spread, params.contrast)
    half = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    side = 2 * params.reach + 1
    return _Windows(sliding_window_view(np.pad(half, params.reach, mode="reflect"), (side, side)))


def _axis(params: RidgeParams) -> NDArray[np.float32]:
    """Offsets of a patch's pixels from its centre, full-resolution pixels."""
    return np.arange(-params.reach, params.reach + 1, dtype=np.float32) * 2


def _gaussian(params: RidgeParams) -> NDArray[np.float32]:
    line = np.exp(-(_axis(params) ** 2) / (2 * params.wave**2))
    return np.outer(line, line).astype(np.float32)


@cache
def _bank(params: RidgeParams) -> NDArray[np.float32]:
    """Real and imaginary parts of unit waves of no mean, (side^2, 2 d p): direction slower than period."""
    window, axis = _gaussian(params), _axis(params)
    y, x = np.meshgrid(axis, axis, indexing="ij")
    waves = []
    for direction in np.arange(params.directions) * np.pi / params.directions:
        for period in PERIODS:
            along = (x * np.cos(direction) - y * np.sin(direction)) * (2 * np.pi / period)
            wave = window * np.exp(-1j * along)
            wave -= window * (wave.sum() / window.sum())
            waves.append((wave / np.sqrt((np.abs(wave) ** 2).sum())).ravel())
    bank = np.asarray(waves).T
    return np.concatenate((bank.real, bank.imag), axis=1).astype(np.float32)


def _waves(windows: _Windows, layout: _Layout, params: RidgeParams) -> _Waves:
    rows, columns = layout.kept.shape
    x = layout.x + layout.step // 2 + 2 * layout.step * np.arange(columns)
    y = layout.y + layout.step // 2 + 2 * layout.step * np.arange(rows)
    row, column = np.nonzero(layout.kept)
    patches = windows.at(x[column], y[row]).reshape(len(row), -1)
    parts = patches @ _bank(params)
    half = parts.shape[1] // 2
    energy = np.zeros((rows, columns, params.directions, len(PERIODS)), np.float32)
    energy[row, column] = (parts[:, :half] ** 2 + parts[:, half:] ** 2).reshape(-1, *energy.shape[2:])
    squares = np.zeros((rows, columns), np.float32)
    squares[row, column] = (patches * patches) @ _gaussian(params).ravel()
    sigma = params.share / (2 * layout.step)
    shared, power = _shared(energy, sigma), _shared(squares, sigma)
    direction, period, strength = _strongest(shared)
    weight = (strength / np.maximum(power, 1e-6) - params.weak) / (params.strong - params.weak)
    return _Waves(direction * (DIRECTIONS / params.directions), period, np.clip(weight, 0, 1))


def _shared(values: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    sigmas = (sigma, sigma) + (0,) * (values.ndim - 2)
    return np.asarray(ndimage.gaussian_filter(values, sigmas, mode="constant", truncate=3.0), np.float32)


def _strongest(
    energy: NDArray[np.float32],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return direction and period of the highest energy, refined by a parabola, and that energy."""
    rows, columns, directions, periods = energy.shape
    d, p = np.divmod(energy.reshape(rows, columns, -1).argmax(axis=-1), periods)
    i, j = np.indices(d.shape)
    top = energy[i, j, d, p].astype(np.float64)
    turn = _vertex(energy[i, j, (d - 1) % directions, p], top, energy[i, j, (d + 1) % directions, p])
    low, high = np.maximum(p - 1, 0), np.minimum(p + 1, periods - 1)
    widening = np.where(high - low == 2, _vertex(energy[i, j, d, low], top, energy[i, j, d, high]), 0.0)
    return d + turn, p + widening, top


def _vertex(
    before: NDArray[np.float32], top: NDArray[np.float64], after: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Where a parabola through three neighbouring values peaks, -1/2 to 1/2."""
    bend = np.minimum(before - 2 * top + after, -1e-9)
    return np.asarray(np.clip(0.5 * (before - after) / bend, -0.5, 0.5), np.float64)


@cache
def _coded_waves(params: RidgeParams) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Every wave that a cell can have, by direction and period as coded.

    Returns
    -------
    ndarray of float64, shape (DIRECTIONS, PERIODS, 2)
        Radians a pixel, x and y.
    ndarray of float32, shape (DIRECTIONS, PERIODS, 2 side^2)
        Its real and its imaginary part under the Gaussian, without the mean that the Gaussian sees.
    """
    angle, k = np.meshgrid(np.arange(DIRECTIONS) * (np.pi / DIRECTIONS), 2 * np.pi / PERIODS, indexing="ij")
    waves = np.stack((k * np.cos(angle), -k * np.sin(angle)), axis=-1)
    axis, window = _axis(params), _gaussian(params).astype(np.float64)
    across, down = (np.exp(-1j * waves[..., i, None] * axis) for i in (0, 1))
    patches = window * down[..., :, None] * across[..., None, :]
    patches -= window * (patches.sum(axis=(2, 3), keepdims=True) / window.sum())
    flat = patches.reshape(*angle.shape, -1)
    return waves, np.concatenate((flat.real, flat.imag), axis=2).astype(np.float32)


def _phases(
    windows: _Windows,
    layout: _Layout,
    direction: NDArray[np.int64],
    period: NDArray[np.int64],
    params: RidgeParams,
) -> NDArray[np.int64]:
    """Phase of each place's wave, as coded, at the place itself; 0 outside of the cells that are kept."""
    phase = np.zeros((2 * direction.shape[0], 2 * direction.shape[1]), np.int64)
    row, column = np.nonzero(np.repeat(np.repeat(layout.kept, 2, 0), 2, 1))
    code = direction[row // 2, column // 2], period[row // 2, column // 2]
    x, y = layout.x + layout.step * column, layout.y + layout.step * row
    waves, parts = _coded_waves(params)
    patches = windows.at(x, y).reshape(len(row), 1, -1)
    real, imaginary = np.einsum("nik,nik->in", parts[code].reshape(len(row), 2, -1), patches)
    # A half-resolution pixel stands for the middle of its two: half a pixel right of an even coordinate.
    off = np.stack((x - (x // 2 * 2 + 0.5), y - (y // 2 * 2 + 0.5)), axis=1)
    angle = np.arctan2(imaginary, real) + (waves[code] * off).sum(axis=1)
    phase[row, column] = np.rint(angle * (PHASES / (2 * np.pi))).astype(np.int64) % PHASES
    return phase
