"""The compiled kernels: the first layers of LEADER, pixels in, planes at half resolution out.

They see every pixel and write forty-eight planes of them, nearly all of which is memory traffic where each
operation is a pass of its own. Here a row stays in the processor's cache from its pixels to its pooled
outputs, which takes a quarter of the time.

None is parallel: they are called from several threads; see `matcher.kernels`.
"""

from typing import TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

BORDER = 4
"""Pixels of zeros around the field: what the dilated 5 x 5 convolution sees beyond it."""

TAPS = 25
"""Of a kernel. A channel's weights are these, by rows, then its bias, scale and offset."""

_Array: TypeAlias = NDArray[np.float32]

_EPSILON = np.float32(1e-3)  # Keras' default in LayerNormalization, which LEADER was trained with
_HALF, _ONE, _FAR = np.float32(0.5), np.float32(1), np.float32(5)
# The normal distribution's integral from 0 to x is x times a quotient of polynomials in x^2, to 1e-7 for x up
# to `_FAR`: coefficients fitted for this file, by least squares weighted until the errors of GELU were even.
_OVER = tuple(np.float32(c) for c in (0.39894094, 0.050540253, 0.0055775114, 0.00032727815, 6.1816237e-6))
_UNDER = tuple(np.float32(c) for c in (0.29333806, 0.037890863, 0.0027636642, 0.00011868139, 5.3358216e-7))


@njit(cache=True, nogil=True)
def stem(field: _Array, weights: _Array, largest: bool) -> _Array:
    """Convolve, normalise the channels of each pixel, GELU, pool 2 x 2.

    Parameters
    ----------
    field : ndarray of float32, shape (h + 2 BORDER, w + 2 BORDER)
        Pixels, 0 to 255, within their border; h and w even.
    weights : ndarray of float32, shape (c, TAPS + 3)
        The first half of the channels are convolved as they are, the second with a dilation of two.
    largest : bool
        Whether pooling takes the largest value, else the mean.

    Returns
    -------
    ndarray of float32, shape (c, h / 2, w / 2)
    """
    count = weights.shape[0]
    height, width = field.shape[0] - 2 * BORDER, field.shape[1] - 2 * BORDER
    upper, lower = np.empty((count, width), np.float32), np.empty((count, width), np.float32)
    out = np.empty((count, height // 2, width // 2), np.float32)
    for row in range(height // 2):
        for rows, y in ((upper, 2 * row), (lower, 2 * row + 1)):
            _convolve(field[y : y + 2 * BORDER + 1], weights, rows)
            _activate(rows, weights)
        _pool(upper, lower, largest, out[:, row])
    return out


@njit(cache=True, nogil=True)
def _convolve(seen: _Array, weights: _Array, rows: _Array) -> None:
    """Fill `rows` (c, w) from the 9 rows that are seen."""
    count, width = rows.shape
    for channel in range(count):
        row, own = rows[channel], weights[channel]
        row[:] = own[TAPS]
        for i in range(5):
            a, b, c, d, e = own[5 * i], own[5 * i + 1], own[5 * i + 2], own[5 * i + 3], own[5 * i + 4]
            if 2 * channel < count:
                line = seen[i + 2]
                for x in range(width):
                    row[x] += (
                        a * line[x + 2]
                        + b * line[x + 3]
                        + c * line[x + 4]
                        + d * line[x + 5]
                        + e * line[x + 6]
                    )
            else:
                line = seen[2 * i]
                for x in range(width):
                    row[x] += (
                        a * line[x] + b * line[x + 2] + c * line[x + 4] + d * line[x + 6] + e * line[x + 8]
                    )


@njit(cache=True, nogil=True)
def _activate(rows: _Array, weights: _Array) -> None:
    """Normalise the columns of `rows` (c, w), scale and shift each row, and apply GELU."""
    count, width = rows.shape
    share = np.divide(_ONE, np.float32(count))
    mean, deviation = np.zeros(width, np.float32), np.zeros(width, np.float32)
    for channel in range(count):
        row = rows[channel]
        for x in range(width):
            mean[x] += row[x] * share
    for channel in range(count):
        row = rows[channel]
        for x in range(width):
            row[x] -= mean[x]
            deviation[x] += row[x] * row[x] * share
    for x in range(width):
        deviation[x] = np.divide(_ONE, np.sqrt(deviation[x] + _EPSILON))
    for channel in range(count):
        row, scale, offset = rows[channel], weights[channel, TAPS + 1], weights[channel, TAPS + 2]
        for x in range(width):
            value = row[x] * deviation[x] * scale + offset
            near = max(min(value, _FAR), -_FAR)
            t = near * near
            over = _OVER[0] + t * (_OVER[1] + t * (_OVER[2] + t * (_OVER[3] + t * _OVER[4])))
            under = _ONE + t * (
                _UNDER[0] + t * (_UNDER[1] + t * (_UNDER[2] + t * (_UNDER[3] + t * _UNDER[4])))
            )
            row[x] = value * (_HALF + np.divide(near * over, under))


@njit(cache=True, nogil=True)
def _pool(upper: _Array, lower: _Array, largest: bool, out: _Array) -> None:
    """Fill `out` (c, w / 2) from two rows (c, w)."""
    count, width = out.shape
    for channel in range(count):
        first, second, row = upper[channel], lower[channel], out[channel]
        for x in range(width):
            a, b, c, d = first[2 * x], first[2 * x + 1], second[2 * x], second[2 * x + 1]
            row[x] = max(a, b, c, d) if largest else ((a + b) + (c + d)) * np.float32(0.25)
