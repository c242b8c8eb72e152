"""The ridge description of a synthetic template: waves along its flow, their phases running on.

Waves are laid along the middle row, from there along each column, and then settled with their neighbours.
Where the flow asks for more ridges below than above, the phases tear, as at minutiae; the tears are not at
the template's minutiae. Two impressions of a finger read the same waves.
"""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

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
    phase : ndarray of complex64, shape (r, c)
        exp(i phase).
    """

    k: Complex
    phase: Complex


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
    across = 1j * np.sqrt(flow)
    k = (across * (2 * np.pi / period * np.exp(-change))).astype(np.complex64)
    across_columns = _Ways(k[:, :-1], k[:, 1:], step)
    down_rows = _Ways(k[:-1], k[1:], -1j * step)
    phase = _laid(across_columns, down_rows, flow.shape)
    for _ in range(model.settling):
        phase = _settled(phase, across_columns, down_rows)
    return Waves(k, phase)


class _Ways:
    """From places to their neighbours: whether both tell the wave from one side, and how far it turns."""

    def __init__(self, k: Complex, other: Complex, way: complex) -> None:
        self.alike = (k * other.conj()).real >= 0
        mean = (other + np.where(self.alike, k, -k)) / 2
        angle = (mean.conj() * np.complex64(way)).real
        self.turn = np.empty(k.shape, np.complex64)
        np.cos(angle, out=self.turn.real)
        np.sin(angle, out=self.turn.imag)

    def on(self, phase: Complex) -> Complex:
        """Return the phases of places as their neighbours see them there."""
        return np.asarray(np.where(self.alike, phase, phase.conj()) * self.turn)

    def back(self, phase: Complex) -> Complex:
        """Return the phases of the neighbours as the places see them."""
        back = phase * self.turn.conj()
        return np.asarray(np.where(self.alike, back, back.conj()))


def _laid(across: _Ways, down: _Ways, shape: tuple[int, ...]) -> Complex:
    """Return phases that agree along the middle row, and along each column from there."""
    phase = np.ones(shape, np.complex64)
    middle = shape[0] // 2
    for column in range(shape[1] - 1):
        here = phase[middle, column]
        onward = here if across.alike[middle, column] else here.conjugate()
        phase[middle, column + 1] = onward * across.turn[middle, column]
    for row in range(middle, shape[0] - 1):
        phase[row + 1] = np.where(down.alike[row], phase[row], phase[row].conj()) * down.turn[row]
    for row in range(middle, 0, -1):
        back = phase[row] * down.turn[row - 1].conj()
        phase[row - 1] = np.where(down.alike[row - 1], back, back.conj())
    return phase


def _settled(phase: Complex, across: _Ways, down: _Ways) -> Complex:
    """Return the phases that the four neighbours of each place agree on, together with its own."""
    total = phase.copy()
    total[:, 1:] += across.on(phase[:, :-1])
    total[:, :-1] += across.back(phase[:, 1:])
    total[1:] += down.on(phase[:-1])
    total[:-1] += down.back(phase[1:])
    total /= np.sqrt(total.real**2 + total.imag**2) + np.float32(1e-6)
    return total


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
    x, y = np.meshgrid(cell * (np.arange(columns) + 0.5), cell * (np.arange(rows) + 0.5))
    x, y = x - view.half[0], y - view.half[1]
    reach = np.abs(x / view.half[0]) ** power + np.abs(y / view.half[1]) ** power
    room = (MOST_BYTES - packed_length(0, reach.size)) // CELL_BYTES
    inside = reach < min(1.0, float(np.sort(np.append(reach, [1.0] * (room + 1)), axis=None)[room]))
    on_finger, turned = _on_finger(x, y, view), np.exp(1j * view.turn)
    place = _place(on_finger, waves.k.shape, step)
    k = (
        waves.k[place]
        * turned
        * np.exp(1j * np.pi / DIRECTIONS * model.astray * rng.standard_normal(x.shape))
    )
    direction = np.rint(np.angle(k) * (DIRECTIONS / np.pi)).astype(np.int64)
    period = np.rint(np.log(2 * np.pi / np.abs(k) / PERIODS[0]) / _RATIO)
    strong = rng.random(x.shape) < np.where(reach < 0.75, *model.strong)
    weight = np.where(strong, WEIGHTS - 1, rng.integers(1, WEIGHTS - 1, x.shape)) * inside
    phase = _phases(waves, view, (rows, columns), step) + model.rough * rng.standard_normal(
        (2 * rows, 2 * columns)
    )
    backward = np.repeat(np.repeat((direction < 0) | (direction >= DIRECTIONS), 2, 0), 2, 1)
    codes = np.rint(np.where(backward, -phase, phase)).astype(np.int64) % PHASES
    period = np.minimum(np.maximum(period, 0), len(PERIODS) - 1).astype(np.int64)
    first = view.corner + PLACES // 2
    return pack(
        RidgeGrid(PLACES, int(first[0]), int(first[1]), direction % DIRECTIONS, period, weight, codes)
    )


def _on_finger(x: Floats, y: Floats, view: View) -> NDArray[np.complex128]:
    """Return where points about the foreground's centre lie on the finger, x + i y with y up."""
    return np.asarray((x - 1j * y) * np.exp(-1j * view.turn) + complex(view.middle[0], -view.middle[1]))


def _place(
    points: NDArray[np.complex128], shape: tuple[int, ...], step: int
) -> tuple[NDArray[np.int64], ...]:
    """Return row and column of the nearest place."""
    row = np.rint(-points.imag / step).astype(np.int64)
    column = np.rint(points.real / step).astype(np.int64)
    return np.clip(row, 0, shape[0] - 1), np.clip(column, 0, shape[1] - 1)


def _phases(waves: Waves, view: View, shape: tuple[int, int], step: int) -> Floats:
    """Return the phase of every place of a description of so many cells, in codes."""
    x, y = np.meshgrid(*(PLACES * (np.arange(2 * side) + 0.5) for side in shape[::-1]))
    points = _on_finger(x - view.half[0], y - view.half[1], view)
    # The four places of a cell share the wave of the cell's centre.
    centres = (points[::2, ::2] + points[1::2, 1::2]) / 2
    row, column = _place(np.repeat(np.repeat(centres, 2, 0), 2, 1), waves.k.shape, step)
    away = points - step * (column - 1j * row)
    phase = np.angle(waves.phase[row, column]) + (waves.k[row, column].conj() * away).real
    return np.asarray(phase * (PHASES / (2 * np.pi)), np.float64)
