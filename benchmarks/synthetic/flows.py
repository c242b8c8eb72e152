"""The course of a finger's ridges on a coarse grid: the models of `pattern.draw_flow`, for little time.

A place lies every `STEP` pixels; the pattern's centre is the origin. A flow is kept as exp(2 i a) of the
ridges' direction a, counter-clockwise as seen.
"""

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from benchmarks.kernels import spreading, wind
from benchmarks.synthetic.pattern import FlowModel, Pattern

Floats = NDArray[np.float64]
Flow = NDArray[np.complex64]

STEP = 16
"""Pixels at 500 ppi between the places at which a flow is kept."""

SMOOTH = 0.7
"""Deviation, in steps, of what smooths a flow before its divergence is taken, here and in real prints."""

WANDER, WAVER = (0.06, 3.0), (0.04, 1.0)
"""Smooth turns of a flow: deviation, radians, and scale, steps. Tuned on impostor scores (`likeness`)."""

COLUMNS, ROWS = 26, 35
LEFT, TOP = -12.5 * STEP, -14.5 * STEP  # of the first place; the pattern's centre is the origin
X, Y = np.meshgrid(LEFT + STEP * np.arange(COLUMNS), TOP + STEP * np.arange(ROWS))
_UP: Flow = (X - 1j * Y).astype(np.complex64)

_FLOW = FlowModel()
_HALF_TURN = np.array([1, -1, 1, -1])
_LOOP = np.array([0.281, -1.163 - 0.220j, 0.150 + 0.338j, -0.262 - 0.045j])
"""The correction at a left loop's core (see `pattern`), as a trigonometric sum; and at a round one's."""
_ROUND = np.array([0.0, -1.080, 0.250j, -0.020])


def draw(pattern: Pattern, rng: np.random.Generator) -> Flow:
    """Draw the flow of a class.

    Parameters
    ----------
    pattern : Pattern
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of complex64, shape (35, 26)

    Notes
    -----
    The correction at a singular point is a trigonometric sum of three terms instead of a spline.
    """
    turned = _noise(rng, *WANDER) + _noise(rng, *WAVER)
    if pattern is Pattern.ARCH:
        return _turns(turned + _arch(rng))
    cores, deltas = _singularities(pattern, rng)
    crowns = _crowns(pattern, rng)
    signs = np.array([1.0] * len(cores) + [-1.0] * len(deltas))
    terms = _knots(rng, len(signs))
    terms[: len(cores)] += crowns[: len(cores)]
    flow = wind(_UP, np.array(cores + deltas), signs, terms, turned)
    flow *= _turns(turned)
    return flow


def _turns(twice: Floats) -> Flow:
    """Return exp(i twice)."""
    turns, angle = np.empty(twice.shape, np.complex64), twice.astype(np.float32)
    np.cos(angle, out=turns.real)
    np.sin(angle, out=turns.imag)
    return turns


def _noise(rng: np.random.Generator, deviation: float, scale: float) -> Floats:
    """Return smooth noise: twice a turn, since it is added to a doubled angle."""
    rows, columns = int(ROWS / scale) + 3, int(COLUMNS / scale) + 3
    coarse = (2 * deviation) * rng.standard_normal((rows, columns))
    if scale == 1:
        return np.asarray(coarse[:ROWS, :COLUMNS])
    return np.asarray(cv2.resize(coarse, (COLUMNS, ROWS), interpolation=cv2.INTER_CUBIC))


def _singularities(pattern: Pattern, rng: np.random.Generator) -> tuple[list[complex], list[complex]]:
    """Place cores and deltas about the origin, x + i y with y up."""
    chance = rng.standard_normal(8)
    centre = _FLOW.scatter * complex(chance[0], chance[1])
    spread = np.clip(1 + _FLOW.spread * chance[2:6], 0.6, 1.4)
    if pattern is Pattern.WHORL:
        low, high = _FLOW.whorl_cores
        half = (low + (high - low) * float(ndtr(chance[6]))) / 2 * np.exp(1j * (np.pi / 2 + 0.45 * chance[7]))
        x, y = _FLOW.whorl_delta
        deltas = [centre - x * spread[0] - 1j * y * spread[1], centre + x * spread[2] - 1j * y * spread[3]]
        return [centre + half, centre - half], deltas
    x, y = _FLOW.tented_delta if pattern is Pattern.TENTED_ARCH else _FLOW.loop_delta
    left = pattern is Pattern.LEFT_LOOP or (pattern is Pattern.TENTED_ARCH and chance[7] > 0)
    return [centre], [centre + (x if left else -x) * spread[0] - 1j * y * spread[1]]


def _crowns(pattern: Pattern, rng: np.random.Generator) -> list[NDArray[np.complex128]]:
    """Return the corrections at the cores, the upper first."""
    whorl = pattern is Pattern.WHORL
    mean, deviation = _FLOW.crown_whorl if whorl else _FLOW.crown
    first, second = mean + deviation * rng.standard_normal(2)
    if pattern is Pattern.LEFT_LOOP:
        return [first * _LOOP]
    if pattern is Pattern.RIGHT_LOOP:
        return [-first * _HALF_TURN * _LOOP.conj()]
    return [first * _ROUND, second * _HALF_TURN * _ROUND]


def _knots(rng: np.random.Generator, count: int) -> NDArray[np.complex128]:
    """Return chance in so many corrections: what independent deviations of eight knots come to."""
    deviations = rng.standard_normal((count, 2, 4)) * (_FLOW.knots / 2)
    return np.asarray(deviations[:, 0] + 1j * deviations[:, 1])


def _arch(rng: np.random.Generator) -> Floats:
    """Return twice the direction of an arch: see `pattern.draw_flow`."""
    foot = 0.97 * ROWS * STEP + TOP
    rise = np.clip((foot - Y) / foot, 0, None)
    steep = np.where(rise < 1, np.sin(np.pi / 2 * np.minimum(rise, 1)) ** 2, 1 / np.hypot(1, rise - 1))
    lean = 1 + 0.2 * np.clip(rng.standard_normal(2), -1.5, 1.5)
    across = np.clip(X / (0.5 * COLUMNS * STEP), -1.2, 1.2)
    slope = rng.normal(*_FLOW.arch_height) * np.where(across < 0, lean[0], lean[1]) * steep
    return np.asarray(2 * np.arctan(-slope * np.sin(np.pi / 1.6 * across)))


def divergence(flow: Flow, step: int) -> NDArray[np.float32]:
    """Return div t of the unit vector t along the ridges, the one at angles of [-pi/2, pi/2].

    Parameters
    ----------
    flow : ndarray of complex64, shape (r, c)
        Along exp(2 i a) of the ridges' direction a at places `step` pixels apart; smoothed before (`SMOOTH`).
    step : int

    Returns
    -------
    ndarray of float32, shape (r, c)
        In 1 / pixel; 0 at the edge.
    """
    pairs = flow.view(np.float32).reshape(*flow.shape, 2)
    smooth = cv2.GaussianBlur(pairs, (5, 5), SMOOTH).view(np.complex64)[..., 0]
    return spreading(smooth, step)
