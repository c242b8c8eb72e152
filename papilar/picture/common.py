"""Two prints on each other, as pixels: how well their ridges agree where, and both in one image."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from matcher.compare import Comparison, Transform

Floats = NDArray[np.float64]
Grays = NDArray[np.uint8]

MOST_SIDE = 400
"""Points of a map on a side; a map is a point every `FINEST` pixels, or fewer where the print is large."""
FINEST = 4.0
ROUNDS = 8
"""Of the search for the point that is carried to a given one."""
FARTHEST = 50.0
"""Pixels that such a search goes at a time: where a bend folds the print it finds nothing, and stays near."""


class Map(NamedTuple):
    """How well ridges agree over a print, -1 to 1, and how much was compared there, 0 to 1; shape (r, c)."""

    agreement: Floats
    seen: Floats


def grid(size: tuple[int, int]) -> tuple[Floats, float]:
    """Return the points (r, c, 2) of a map over a print of this size, and their distance."""
    step = max(FINEST, max(size) / MOST_SIDE)
    columns, rows = (max(1, int(np.ceil(extent / step))) for extent in size)
    x, y = np.meshgrid((np.arange(columns) + 0.5) * step, (np.arange(rows) + 0.5) * step)
    return np.stack((x, y), axis=-1), step


def map_on_reference(found: Comparison, apart: int, size: tuple[int, int]) -> Map:
    """Spread what was found at places over the reference; the grid of places has the step `apart`."""
    points, step = grid(size)
    sums = np.zeros((2, *points.shape[:2]))
    x, y, agreement = found.common.astype(np.float64).T
    row, column = (y / step).astype(int), (x / step).astype(int)
    inside = (row >= 0) & (row < sums.shape[1]) & (column >= 0) & (column < sums.shape[2])
    for one, value in zip(sums, (agreement, np.ones(len(x))), strict=True):
        np.add.at(one, (row[inside], column[inside]), value[inside])
    share = 2 * (apart / step) ** 2  # points of the map that a place stands for
    worth, weight = (ndimage.gaussian_filter(one, apart / step) * share for one in sums)
    return Map(worth / np.maximum(weight, 1e-6), np.clip(weight, 0, 1))


def map_on_probe(found: Comparison, reference: Map, sizes: tuple[tuple[int, int], tuple[int, int]]) -> Map:
    """Bring a map of the reference to the probe; `sizes` are of probe and reference."""
    points, _ = grid(sizes[0])
    _, step = grid(sizes[1])
    carried = found.carry(points.reshape(-1, 2)).reshape(points.shape) / step - 0.5
    at = np.moveaxis(carried, -1, 0)[::-1]
    return Map(*(ndimage.map_coordinates(one, at, order=1, cval=0.0) for one in reference))


def carried_back(found: Comparison, points: Floats) -> Floats:
    """Return the points of the probe that are carried to these of the reference, both (m, 2)."""
    back = moved_back(points, found.transform)
    for _ in range(ROUNDS):
        missing = np.clip(points - found.carry(back), -FARTHEST, FARTHEST)
        back = back + moved_back(missing, Transform(0.0, 0.0, found.transform.turn))
    return back


def moved_back(points: Floats, transform: Transform) -> Floats:
    """Undo a motion; see `Transform`."""
    dx, dy, turn = transform
    spin = np.array(((np.cos(turn), -np.sin(turn)), (np.sin(turn), np.cos(turn))))
    moved: Floats = (points - (dx, dy)) @ spin.T
    return moved


def ink_of(pixels: Grays) -> Floats:
    """Return how much of each pixel is ridge, 0 to 1, whatever brightness and contrast of the print."""
    image = pixels.astype(np.float64)
    image -= ndimage.gaussian_filter(image, 9)  # a ridge and its valley
    spread = np.sqrt(ndimage.gaussian_filter(image * image, 7))
    ridge = 1 / (1 + np.exp(5 * image / np.maximum(spread, 6.0) + 2.5))
    return np.asarray(ridge * np.clip((spread - 6.0) / 12.0, 0, 1), np.float64)


def laid_on(found: Comparison, probe: Floats, box: tuple[int, int, int, int]) -> Floats:
    """Return the probe's ink as it lies on the reference, over the box left, top, right, bottom."""
    left, top, right, bottom = box
    step = FINEST
    x, y = np.arange(left, right + step, step), np.arange(top, bottom + step, step)
    points = np.stack(np.meshgrid(x, y), axis=-1)
    back = carried_back(found, points.reshape(-1, 2)).reshape(points.shape)
    rows, columns = np.mgrid[0 : bottom - top, 0 : right - left] / step
    at = [ndimage.map_coordinates(back[..., k], (rows, columns), order=1, mode="nearest") for k in (1, 0)]
    laid: Floats = ndimage.map_coordinates(probe, at, order=1, cval=0.0)
    return laid


def overlaid(
    probe: Floats, reference: Floats, inks: tuple[tuple[int, int, int], tuple[int, int, int]]
) -> Grays:
    """Print two layers of ink, shape (h, w), over each other: where both have ink it is darkest."""
    picture = np.full((*probe.shape, 3), 255.0)
    for layer, ink in zip((probe, reference), inks, strict=True):
        picture *= 1 - layer[..., None] * (1 - np.asarray(ink) / 255)
    return np.rint(picture).astype(np.uint8)
