"""Measures real prints for `templates.json`: `python -m benchmarks.synthetic.fit --data DATA`.

Only quantiles and a table of rates leave this file; no print, template or score does. What it cannot measure,
as chance in a direction, what is missed and what is doubtful, was tuned by hand until `likeness` agreed.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks import datasets
from benchmarks.runner import write_atomic
from benchmarks.synthetic.flows import divergence
from benchmarks.synthetic.likeness import extracted, live
from matcher.ridges import DIRECTIONS, PERIODS, unpacked
from matcher.template import Template

Floats = NDArray[np.float64]

BINS = (0.0, 1.0, 2.0, 4.0, 8.0, np.inf)
"""Ridges that must begin in 10,000 square pixels; as many prints' area lies in each."""

_LEVELS = np.linspace(0, 1, 21)
_ENDS = (0.005, 0.995)  # in place of least and greatest: no single print decides them


class Field(NamedTuple):
    """A real print as its ridge description tells it: one entry for each cell, (r, c).

    Attributes
    ----------
    flow : ndarray of complex64
        exp(2 i a) of the ridges' direction, 0 where nothing is described.
    kept : ndarray of bool
    cell : int
        Pixels at 500 ppi.
    corner : ndarray of float64, shape (2,)
        Of the first cell, in the image.
    period : float
    """

    flow: NDArray[np.complex64]
    kept: NDArray[np.bool_]
    cell: int
    corner: Floats
    period: float


def main(data: Annotated[Path, typer.Option(help="Folder of sets of real prints.")]) -> None:
    """Measure the live-scanned sets of a folder and write `templates.json` beside this file."""
    templates = [template for group in extracted(live(datasets.load(data).sets)) for template in group]
    found = {name: [round(float(value), 4) for value in row] for name, row in measure(templates).items()}
    lines = ",\n".join(f' "{name}": {json.dumps(row)}' for name, row in found.items())
    write_atomic(Path(__file__).with_name("templates.json"), f"{{\n{lines}\n}}\n")


def measure(templates: Sequence[Template]) -> dict[str, Floats]:
    """Return the fields of `templates.Fitted` that real prints decide.

    Parameters
    ----------
    templates : sequence of Template
        With ridge descriptions.
    """
    fields = [field(template) for template in templates]
    areas = np.array([one.kept.sum() * one.cell**2 for one in fields])
    frames = np.array([_frame(one.kept) for one in fields])
    counts = np.array([len(template) for template in templates])
    return {
        "area": _quantiles(areas),
        "aspect": _quantiles(frames[:, 0] / frames[:, 1]),
        "density": _quantiles(counts / areas * 1e4),
        "quality": _quantiles(np.concatenate([template.quality for template in templates])),
        "period": _quantiles(np.array([one.period for one in fields])),
        **_intensity(templates, fields),
        "kinds": np.bincount(np.concatenate([t.kind for t in templates]))[1:] / counts.sum(),
    }


def field(template: Template) -> Field:
    """Return a print as its ridge description tells it."""
    grid = unpacked(template.ridges)
    kept = grid.weight > 0
    across = np.exp(2j * np.pi / DIRECTIONS * grid.direction) * grid.weight
    flow = (-across * kept).astype(np.complex64)  # the ridges run at right angles to the wave
    corner = np.array([grid.x, grid.y]) - grid.step / 2
    return Field(flow, kept, 2 * grid.step, corner, float(PERIODS[grid.period[kept]].mean()))


def _frame(kept: NDArray[np.bool_]) -> tuple[int, int]:
    """Return height and width of what is described, in cells."""
    rows, columns = (np.flatnonzero(kept.any(axis=axis)) for axis in (1, 0))
    return int(rows[-1] - rows[0] + 1), int(columns[-1] - columns[0] + 1)


def _quantiles(values: NDArray[Any]) -> Floats:
    return np.asarray(np.quantile(values, np.clip(_LEVELS, *_ENDS)))


def _intensity(templates: Sequence[Template], fields: Sequence[Field]) -> dict[str, Floats]:
    """Return how dense minutiae lie where more or fewer ridges must begin; the mean is 1."""
    places, minutiae = [], []
    for template, one in zip(templates, fields, strict=True):
        asked = np.abs(divergence(one.flow, one.cell)) * (1e4 / one.period)
        inner = ndimage.binary_erosion(one.kept, np.ones((3, 3)))
        column, row = np.floor((template.xy - one.corner) / one.cell).astype(int).T
        inside = (row >= 0) & (column >= 0) & (row < inner.shape[0]) & (column < inner.shape[1])
        row, column = row[inside], column[inside]
        places.append(asked[inner])
        minutiae.append(asked[row, column][inner[row, column]])
    area, met = np.concatenate(places), np.concatenate(minutiae)
    share, found = (np.histogram(values, BINS)[0] / len(values) for values in (area, met))
    means = ndimage.mean(area, np.digitize(area, BINS), np.arange(1, len(BINS)))
    return {"divergence": np.asarray(means), "intensity": found / share}


if __name__ == "__main__":
    typer.run(main)
