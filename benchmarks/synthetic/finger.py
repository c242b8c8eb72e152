"""A synthetic finger: everything about it that stays the same from one impression to the next."""

from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.synthetic.growth import grow
from benchmarks.synthetic.pattern import Flow, Pattern, Singularities, draw_flow, draw_pattern
from benchmarks.synthetic.truth import Minutiae, thin, true_minutiae

_T = TypeVar("_T", bound=np.generic)


@dataclass(frozen=True, slots=True)
class SkinModel:
    """Tuned numbers of what skin has beside ridges; lengths in pixels at 500 ppi."""

    pore_spacing: tuple[float, float] = (9.0, 15.0)  # at least; Ashbaugh (1999): 9 to 18 on 1 cm of ridge
    pore_radius: tuple[float, float] = (0.7, 1.15)  # deviation: 85 to 140 micrometres across
    creases: float = 1.6  # mean number of white lines of a finger
    crease_length: tuple[float, float] = (40.0, 160.0)
    crease_width: tuple[float, float] = (0.8, 1.6)  # deviation of its profile


@dataclass(frozen=True, slots=True, eq=False)
class SyntheticFinger:
    """A finger that no one has.

    Attributes
    ----------
    seed : int
        From which all of it follows.
    pattern : Pattern
    wave : ndarray of float32, shape (H, W)
        The clean master print: about 1 on a crest, -1 in a valley, 0 outside.
    outline : ndarray of bool, shape (H, W)
        Inside the finger.
    orientation : ndarray of float32, shape (H, W)
        Direction of the ridges that were asked for, radians in [0, pi), counter-clockwise as seen.
    period : ndarray of float32, shape (H, W)
        Distance from ridge to ridge, pixels at 500 ppi.
    pores, creases : ndarray of float32, shape (H, W)
        Depth of the pores on the ridges and of the white lines across them, 0 to 1.
    minutiae : Minutiae
        The true ones, in the frame of the master print.
    singularities : Singularities
    """

    seed: int
    pattern: Pattern
    wave: NDArray[np.float32]
    outline: NDArray[np.bool_]
    orientation: NDArray[np.float32]
    period: NDArray[np.float32]
    pores: NDArray[np.float32]
    creases: NDArray[np.float32]
    minutiae: Minutiae
    singularities: Singularities


def finger(seed: int, *, pattern: Pattern | None = None) -> SyntheticFinger:
    """Make a finger.

    Parameters
    ----------
    seed : int
        At least 0. Equal seeds give equal bytes.
    pattern : Pattern, optional
        Its class; drawn by natural frequency where none is given.

    Returns
    -------
    SyntheticFinger

    References
    ----------
    .. [1] R. Cappelli, A. Erol, D. Maio, D. Maltoni (2000), "Synthetic fingerprint-image generation", Proc.
       15th ICPR, vol. 3, 471-474. doi:10.1109/ICPR.2000.903586
    """
    rng = np.random.default_rng([seed, 0])
    pattern = pattern or draw_pattern(rng)
    flow = draw_flow(pattern, rng)
    wave = grow(flow, rng)
    skin, points, true = SkinModel(), flow.singularities, true_minutiae(wave, flow.outline)
    return SyntheticFinger(
        seed=seed,
        pattern=pattern,
        wave=_frozen(wave),
        outline=_frozen(flow.outline),
        orientation=_frozen(flow.orientation.astype(np.float32)),
        period=_frozen(flow.period.astype(np.float32)),
        pores=_frozen(_draw_pores(wave, flow, rng, skin)),
        creases=_frozen(_draw_creases(wave.shape, rng, skin)),
        minutiae=Minutiae(_frozen(true.xy), _frozen(true.angle), _frozen(true.kind)),
        singularities=Singularities(_frozen(points.cores), _frozen(points.deltas)),
    )


def _frozen(array: NDArray[_T]) -> NDArray[_T]:
    array.flags.writeable = False
    return array


def _draw_pores(
    wave: NDArray[np.float32], flow: Flow, rng: np.random.Generator, skin: SkinModel
) -> NDArray[np.float32]:
    """Open pores along the ridges' middle lines, none nearer to another than the drawn spacing."""
    places = np.argwhere(thin((wave > 0) & flow.outline))
    taken = np.zeros(wave.shape, np.bool_)
    pores = np.zeros(wave.shape, np.float32)
    for row, column in rng.permutation(places):
        if taken[row, column]:
            continue
        reach = int(rng.uniform(*skin.pore_spacing))
        taken[max(row - reach, 0) : row + reach + 1, max(column - reach, 0) : column + reach + 1] = True
        _stamp(pores, row + rng.normal(0, 0.5), column + rng.normal(0, 0.5), rng.uniform(*skin.pore_radius))
    return pores


def _stamp(pores: NDArray[np.float32], row: float, column: float, radius: float) -> None:
    """Add a Gaussian hole of unit depth."""
    top, left = max(int(row) - 4, 0), max(int(column) - 4, 0)
    patch = pores[top : int(row) + 5, left : int(column) + 5]
    y, x = np.mgrid[top : top + patch.shape[0], left : left + patch.shape[1]]
    np.maximum(patch, np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * radius**2)), out=patch)


def _draw_creases(shape: tuple[int, ...], rng: np.random.Generator, skin: SkinModel) -> NDArray[np.float32]:
    """Draw a few white lines, straight or a little bent, mostly across the finger."""
    creases = np.zeros(shape, np.float32)
    for _ in range(int(rng.poisson(skin.creases))):
        length, turn = rng.uniform(*skin.crease_length), rng.normal(0, 0.45)
        start = rng.uniform((0.1, 0.25), (0.8, 0.9)) * (shape[1], shape[0])
        t = np.linspace(0, 1, 24)
        bend = rng.normal(0, 0.06) * length * 4 * t * (1 - t) + np.cumsum(rng.normal(0, 0.35, len(t)))
        along = np.array([np.cos(turn), np.sin(turn)])
        points = start + np.outer(t * length, along) + np.outer(bend, along[::-1] * (-1, 1))
        line = np.zeros(shape, np.float32)
        cv2.polylines(line, [np.asarray(points * 16, np.int32)], False, 1.0, 1, cv2.LINE_8, 4)
        width = rng.uniform(*skin.crease_width)
        blurred = cv2.GaussianBlur(line, (0, 0), width) * np.float32(width * 2.5)
        np.maximum(creases, np.clip(blurred, 0, 1), out=creases)
    return creases
