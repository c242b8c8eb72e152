"""The true minutiae of a master print, from the skeletons of its ridges and of its valleys."""

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.morphology import skeletonize

from matcher.template import Kind

_RING = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))
"""The eight neighbours of a pixel as (row, column), clockwise."""


@dataclass(frozen=True, slots=True)
class TruthModel:
    """Tuned numbers of the search for minutiae; lengths in pixels at 500 ppi, angles in radians."""

    margin: int = 10  # from the finger's outline, about a ridge: there every ridge ends
    spur: int = 6  # a branch that ends sooner is the skeleton's own doing
    trace: int = 12  # length of branch that gives its direction
    fork: float = 1.45  # a pair of branches wider apart is a delta or a crossing, no fork


class Minutiae(NamedTuple):
    """Minutiae before they are anyone's template.

    Attributes
    ----------
    xy : ndarray of float64, shape (n, 2)
        Pixels at 500 ppi, y down.
    angle : ndarray of float64, shape (n,)
        Radians, counter-clockwise as seen.
    kind : ndarray of uint8, shape (n,)
        Codes of `matcher.template.Kind`.
    """

    xy: NDArray[np.float64]
    angle: NDArray[np.float64]
    kind: NDArray[np.uint8]


def true_minutiae(
    wave: NDArray[np.float32], outline: NDArray[np.bool_], *, model: TruthModel | None = None
) -> Minutiae:
    """Find the minutiae of a clean print.

    Parameters
    ----------
    wave : ndarray of float32, shape (H, W)
        Above 0 on ridges.
    outline : ndarray of bool, shape (H, W)
        Inside the finger.
    model : TruthModel, optional

    Returns
    -------
    Minutiae

    Notes
    -----
    ISO/IEC 19794-2:2005 clauses 6.3.3 and 6.3.4: a bifurcation lies where the skeleton of the ridges forks,
    an ending where that of the valleys does. The direction is the bisector of the two branches that are
    closest together: along the ending ridge back into it, or into the valley that a fork encloses.
    """
    model = model or TruthModel()
    inner = cv2.erode(
        outline.astype(np.uint8), np.ones((3, 3), np.uint8), iterations=model.margin, borderValue=0
    )
    found = [
        (*fork, int(kind))
        for kind, ink in ((Kind.BIFURCATION, wave > 0), (Kind.ENDING, wave <= 0))
        for fork in _forks(np.pad(thin(ink & outline), 1), np.asarray(inner, np.uint8), model)
    ]
    table = np.asarray(found, np.float64).reshape(-1, 4)
    return Minutiae(table[:, :2], np.mod(table[:, 2], 2 * np.pi), table[:, 3].astype(np.uint8))


def thin(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the middle lines of a mask, one pixel wide."""
    return np.asarray(skeletonize(mask), np.bool_)  # type: ignore[no-untyped-call]


def _forks(
    lines: NDArray[np.bool_], inner: NDArray[np.uint8], model: TruthModel
) -> list[tuple[float, float, float]]:
    """Return (x, y, direction) of the forks of a skeleton that is padded by one pixel."""
    around = np.stack([np.roll(lines, (-dy, -dx), (0, 1)) for dy, dx in _RING])
    branches = (~around & np.roll(around, -1, axis=0)).sum(axis=0)
    nodes = lines & (branches >= 3)
    forks = []
    for row, column in zip(*np.nonzero(nodes), strict=True):
        direction = _direction(lines, (int(row), int(column)), model) if inner[row - 1, column - 1] else None
        if direction is not None:
            forks.append((column - 1.0, row - 1.0, direction))
    return forks


def _direction(lines: NDArray[np.bool_], node: tuple[int, int], model: TruthModel) -> float | None:
    """Return the bisector of the closest pair of branches, None where no true fork is."""
    starts = _branch_starts(lines, node)
    ends = [_follow(lines, node, start, model.trace) for start in starts]
    if len(ends) != 3 or min(length for *_, length in ends) < model.spur:
        return None
    turns = np.sort([np.arctan2(node[0] - y, x - node[1]) for y, x, _ in ends])
    gaps = np.mod(np.roll(turns, -1) - turns, 2 * np.pi)
    first = int(np.argmin(gaps))
    return float(turns[first] + gaps[first] / 2) if gaps[first] < model.fork else None


def _branch_starts(lines: NDArray[np.bool_], node: tuple[int, int]) -> list[tuple[int, int]]:
    """Return one neighbour for each run of neighbours, those that share an edge with the node first."""
    ring = [(node[0] + dy, node[1] + dx) for dy, dx in _RING]
    lit = [bool(lines[place]) for place in ring]
    starts = []
    for i in range(8):
        if lit[i] and not lit[i - 1]:
            run = [(i + j) % 8 for j in range(8) if all(lit[(i + k) % 8] for k in range(j + 1))]
            starts.append(ring[min(run, key=lambda index: index % 2)])
    return starts


def _follow(
    lines: NDArray[np.bool_], node: tuple[int, int], start: tuple[int, int], limit: int
) -> tuple[int, int, int]:
    """Walk a branch away from the node; return (row, column, length) of where the walk ends."""
    seen = {node, start} | {(node[0] + dy, node[1] + dx) for dy, dx in _RING}
    here = start
    for step in range(1, limit):
        ring = [(here[0] + dy, here[1] + dx) for dy, dx in _RING]
        ahead = [place for place in ring if lines[place] and place not in seen]
        if not ahead:
            return (*here, step)
        here = max(ahead, key=lambda place: (place[0] - node[0]) ** 2 + (place[1] - node[1]) ** 2)
        seen.update(ring)
    return (*here, limit)
