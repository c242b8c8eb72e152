"""Synthetic prints for the tests: plausible minutiae, and second impressions of the same finger.

No finger ever left them. Minutiae keep their distance and follow a smooth field of ridge directions; a mate
is the same set moved, jittered, with some minutiae lost and some false ones added, and says which is which.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from matcher.cylinders import Prepared, prepare
from matcher.ridges import COARSEST, DIRECTIONS, FINEST, PERIODS, PHASES, WEIGHTS, RidgeGrid, pack
from matcher.template import Finger, Template

SIZE = (400, 480)
APART = 14.0
"""Least distance of two minutiae, pixels."""


class Mate(NamedTuple):
    """A second impression.

    `truth` maps its minutiae to the first one's, -1 for false ones; `turn`, `shift` is the motion of the
    second impression onto the first, as `compare.Transform` states it.
    """

    template: Template
    truth: NDArray[np.int64]
    turn: float
    shift: NDArray[np.float64]


def finger(
    seed: int, n: int = 40, *, size: tuple[int, int] = SIZE, code: Finger = Finger.UNKNOWN
) -> Template:
    """Return `n` minutiae in an ellipse that fills the image, directed along a smooth random field."""
    random = np.random.default_rng(seed)
    xy = _scatter(random, n, size)
    angle = _field(random, xy) + np.pi * random.integers(0, 2, n)
    return Template.of(
        xy, angle, random.integers(1, 3, n), random.integers(20, 100, n), size=size, finger=code
    )


def mate(
    template: Template,
    seed: int,
    *,
    turn: float = 0.0,
    shift: tuple[float, float] = (0.0, 0.0),
    jitter: float = 1.5,
    lost: float = 0.15,
    false: float = 0.15,
) -> Mate:
    """Return another impression: turned about its middle (radians, counter-clockwise as seen) and moved.

    `jitter` is in pixels (a degree and a half of direction for each); `lost` and `false` are shares. What the
    motion takes out of the image is kept by making the image larger.
    """
    random = np.random.default_rng(seed)
    kept = np.flatnonzero(random.random(len(template)) >= lost)
    xy = template.xy[kept] + random.normal(0, jitter, (len(kept), 2))
    angle = template.angle[kept] + random.normal(0, jitter * np.radians(1.5), len(kept))
    added = round(false * len(template))
    xy = np.vstack((xy, random.uniform((0, 0), template.size, (added, 2))))
    angle = np.concatenate((angle, random.uniform(0, 2 * np.pi, added)))
    side = int(np.hypot(*template.size) + 2 * np.abs(shift).max() + 20)
    middle = np.asarray(template.size) / 2
    away = np.asarray(shift) + side / 2
    moved = np.clip(np.rint((xy - middle) @ rotation(turn).T + away), 0, side - 1)
    truth = np.concatenate((kept, np.full(added, -1)))
    quality = np.full(len(moved), 50)
    made = Template.of(moved, angle + turn, np.ones(len(moved)), quality, size=(side, side))
    order = np.lexsort((np.mod(angle + turn, 2 * np.pi).astype(np.float32), moved[:, 0], moved[:, 1]))
    back = middle - rotation(-turn) @ away
    return Mate(made, truth[order], -turn, back)


def rotation(turn: float) -> NDArray[np.float64]:
    """Return the matrix that turns image coordinates (y down) counter-clockwise as seen."""
    c, s = np.cos(turn), np.sin(turn)
    return np.array([[c, s], [-s, c]])


def prints(count: int, *, first: int = 0, n: int = 30) -> list[Prepared]:
    """Return `count` different prints, prepared."""
    return [prepare(finger(first + k, n)) for k in range(count)]


def ridge_grid(seed: int, rows: int, columns: int) -> RidgeGrid:
    """Return a ridge description of random codes, about half of the cells described, and no pattern in it."""
    random = np.random.default_rng(seed)
    cells = (rows, columns)
    weight = random.integers(0, WEIGHTS, cells) * random.integers(0, 2, cells)
    described = weight > 0
    return RidgeGrid(
        int(random.integers(FINEST, COARSEST + 1)),
        *(int(place) for place in random.integers(-(2**15), 2**15, 2)),
        random.integers(0, DIRECTIONS, cells) * described,
        random.integers(0, len(PERIODS), cells) * described,
        weight,
        random.integers(0, PHASES, (2 * rows, 2 * columns)) * described.repeat(2, 0).repeat(2, 1),
    )


def ridge_description(seed: int, rows: int = 5, columns: int = 7) -> bytes:
    """Return a packed ridge description of random codes."""
    return pack(ridge_grid(seed, rows, columns))


def _scatter(random: np.random.Generator, n: int, size: tuple[int, int]) -> NDArray[np.float64]:
    middle = np.asarray(size) / 2
    found: list[NDArray[np.float64]] = []
    apart = APART
    while len(found) < n:
        for xy in random.uniform(5, np.asarray(size) - 5, (4 * n, 2)):
            inside = (((xy - middle) / middle) ** 2).sum() <= 1
            if inside and all(np.hypot(*(xy - other)) >= apart for other in found):
                found.append(xy)
        apart *= 0.9  # a crowded print
    return np.array(found[:n]).reshape(-1, 2)


def _field(random: np.random.Generator, xy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ridge direction at each point: an arch of random bend and lean, with two slow waves."""
    x, y = (xy / 200 - 1).T
    bend, lean, phase, wave = random.uniform((0.3, -0.6, 0, 0.1), (1.2, 0.6, 6.28, 0.5))
    return lean - bend * x * (1 - 0.4 * y) + wave * np.sin(2 * y + 1.5 * x + phase)
