"""The ridge description of a synthetic template: waves along its flow, their phases running on.

Waves are laid along the middle row, from there along each column, and then settled with their neighbours.
Where the flow asks for more ridges below than above, the phases tear, as at minutiae; the tears are not at
the template's minutiae. Two impressions of a finger read the same waves.
"""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.kernels import lay, read_waves, settle, ways
from matcher.ridges import (
    CELL_BYTES,
    DIRECTIONS,
    MOST_BYTES,
    PERIODS,
    PHASES,
    WEIGHTS,
    RidgeGrid,
    pack,
    packed_length,
)

Complex = NDArray[np.complex64]
Floats = NDArray[np.float64]

PLACES = 8
"""Pixels between the places of a description; a cell is two by two of them."""

_RATIO = np.log(PERIODS[1] / PERIODS[0])


class WaveModel(NamedTuple):
    """Tuned numbers of the waves, to match the descriptions of real prints (docs/synthetic.md)."""

    period_wander: tuple[float, float] = (
        1.0,
        3.0,
    )  # deviation in codes of the period, and its scale in cells
    settling: int = 8  # rounds
    strong: tuple[float, float] = (0.66, 0.32)  # share of cells of full weight: inside, at the edge
    astray: float = 0.4  # deviation of a cell's direction, in codes
    rough: float = 0.2  # deviation of a place's phase, in codes


class Waves(NamedTuple):
    """A wave for every place of a flow: `cos(Re(conj(k) (p - place)) + phase)`, x + i y with y up.

    Attributes
    ----------
    k : ndarray of complex64, shape (r, c)
        Radians a pixel, across the ridges.
    told : ndarray of float32, shape (3, r, c)
        The angle of k and the phase, radians, and the code of the period.
    """

    k: Complex
    told: NDArray[np.float32]


def grow(flow: Complex, period: float, step: int, rng: np.random.Generator) -> Waves:
    """Lay waves along a flow.

    Parameters
    ----------
    flow : ndarray of complex64, shape (r, c)
        exp(2 i a) of the ridges' direction a.
    period, step : float, int
        Of the ridges, and between the places; pixels at 500 ppi.
    rng : numpy.random.Generator

    Returns
    -------
    Waves
    """
    model = WaveModel()
    deviation, scale = model.period_wander
    coarse = rng.standard_normal([int(side / scale) + 3 for side in flow.shape])
    change = deviation * _RATIO * cv2.resize(coarse, flow.shape[::-1], interpolation=cv2.INTER_CUBIC)
    told, k = np.empty((3, *flow.shape), np.float32), np.empty(flow.shape, np.complex64)
    angle, length = told[0], (2 * np.pi / period * np.exp(-change)).astype(np.float32)
    np.arctan2(flow.imag, flow.real, out=angle)
    angle += np.float32(np.pi)
    angle /= 2  # of the ridges, and a right angle
    np.multiply(length, np.cos(angle), out=k.real)
    np.multiply(length, np.sin(angle), out=k.imag)
    columns = flow.shape[1]
    to_right, down = _ways(k, step, 1), _ways(k, -1j * step, columns)
    to_right[:, columns - 1 :: columns] = 0
    x, y = lay(to_right, down, columns)
    settle(x, y, to_right, down, columns, model.settling)
    np.arctan2(y, x, out=told[1].reshape(-1))
    code = np.rint((np.log(period / PERIODS[0]) + change) / _RATIO)
    np.minimum(np.maximum(code, 0), len(PERIODS) - 1, out=told[2], casting="same_kind")
    return Waves(k, told)


def _ways(k: Complex, way: complex, beyond: int) -> NDArray[np.float32]:
    """Return the ways of `kernels.lay` from each place to the one `beyond` places on, row after row."""
    sign, angle = ways(k.ravel(), complex(way), beyond)
    found = np.zeros((4, k.size), np.float32)
    cos, sin, sign_cos, sign_sin = found[:, : len(sign)]
    np.cos(angle, out=cos)
    np.sin(angle, out=sin)
    np.multiply(sign, cos, out=sign_cos)
    np.multiply(sign, sin, out=sign_sin)
    return found


class View(NamedTuple):
    """Where an impression looks: half width and height of its foreground, and the turn, as in `templates`.

    Attributes
    ----------
    half : ndarray of float64, shape (2,)
    middle : ndarray of float64, shape (2,)
        On the finger, pixels from the flow's first place, y down.
    turn : float
    corner : ndarray of int64, shape (2,)
        The foreground's first pixel in the image.
    """

    half: Floats
    middle: Floats
    turn: float
    corner: NDArray[np.int64]


def describe(waves: Waves, view: View, step: int, power: float, rng: np.random.Generator) -> bytes:
    """Return the description of what an impression shows.

    Parameters
    ----------
    waves : Waves
    view : View
    step : int
        Between the waves' places.
    power : float
        Of the superellipse that the foreground is.
    rng : numpy.random.Generator

    Returns
    -------
    bytes
        Packed as `matcher.ridges` says.
    """
    model, cell = WaveModel(), 2 * PLACES
    columns, rows = np.ceil(2 * view.half / cell).astype(int)
    x, y = cell * (np.arange(columns) + 0.5) - view.half[0], cell * (np.arange(rows) + 0.5) - view.half[1]
    reach = np.abs(x / view.half[0]) ** power + (np.abs(y / view.half[1]) ** power)[:, None]
    room = (MOST_BYTES - packed_length(0, reach.size)) // CELL_BYTES
    within = 1.0 if reach.size <= room else min(1.0, float(np.partition(reach, room, axis=None)[room]))
    inside = reach < within
    strong = rng.random(reach.shape) < np.where(reach < 0.75, *model.strong)
    weight = np.where(strong, WEIGHTS - 1, rng.integers(1, WEIGHTS - 1, reach.shape)) * inside
    direction, period, phase = read_waves(
        *waves,
        (*view.half.tolist(), *view.middle.tolist(), float(view.turn)),
        (step, PLACES, DIRECTIONS, PHASES),
        model.astray * rng.standard_normal(reach.shape),
        model.rough * _rough(rng, (2 * rows, 2 * columns)),
    )
    first = view.corner + PLACES // 2
    return pack(RidgeGrid(PLACES, int(first[0]), int(first[1]), direction, period, weight, phase))


def _rough(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    """Return normal chance in steps of a quarter: 64 coins are quicker than a normal deviate, and near it."""
    coins = rng.bit_generator.random_raw(shape[0] * shape[1])
    return np.asarray((np.bitwise_count(coins).reshape(shape) - 32.0) / 4)
