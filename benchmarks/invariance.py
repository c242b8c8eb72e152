"""Invariance: prints turned by any angle, and shifted by a third of the image, lose no more than their area.

A print of every finger sampled, drawn from its second to fourth impressions, is changed as an image,
extracted anew and compared with first impressions, which stay as they are: that of its own finger, and those
of some other fingers of its set.

- *Turned*: by each of `TURNS`, counter-clockwise as seen, on a canvas that holds the whole image. Corners
  take the median of the image's border; interpolation is cubic. By quarters of a turn no grey value changes.
  Other angles resample the image once more, so that what they lose holds what resampling loses.
- *Shifted*: by a third of the width or height, to a side that is drawn, on a canvas of the same size. What is
  pushed over the edge is lost, whatever the matcher does. So a shifted print is not judged against the whole
  one but against its `control`: the same part of the image left in its place, the rest covered.

Each change is stated with the difference of the mates' mean score from the unchanged print's (or from its
control's), with a 95 % interval that draws fingers anew within each set. A rejected print scores `LOWEST`.
"""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from benchmarks import metrics
from benchmarks.datasets import Print, PrintSet
from benchmarks.metrics import Floats
from benchmarks.runner import Track, dumps, environment, untracked, write_atomic
from enroll.image import GrayImage, read_image
from enroll.pipeline import extract
from matcher.calibration import LOWEST, shipped
from matcher.compare import score
from matcher.cylinders import Prepared, prepare
from matcher.errors import InvalidInput

Pixels = NDArray[np.uint8]

FILE = "invariance.json"
TURNS = tuple(range(0, 360, 30))
"""Degrees; 0 is the unchanged print."""

IMPRESSIONS = slice(1, 4)
"""Of a finger's impressions, those that probes are drawn from."""

FMR = 1e-3
"""Rate whose threshold, of the shipped calibration, FNMR is stated at."""

UNCHANGED = "unchanged"
SIDES = ("width", "height")


class Sample(NamedTuple):
    """What is measured of every set: fingers with a probe, and references of other fingers for each."""

    fingers: int = 5
    impostors: int = 9
    seed: int = 0


class Task(NamedTuple):
    """One probe of a set: the numbers of its finger and of those that it meets, ways of its two shifts."""

    each: PrintSet
    probe: Print
    finger: int
    others: tuple[int, ...]
    ways: tuple[int, int]


class Met(NamedTuple):
    """Scores of one probe, changed in one way: its mate's, the others'; whether it was rejected."""

    mate: float
    others: tuple[float, ...]
    rejected: bool


def run(
    sets: Sequence[PrintSet],
    out: Path,
    *,
    sample: Sample | None = None,
    turns: Sequence[int] = TURNS,
    replicates: int = 1000,
    workers: int = 1,
    track: Track = untracked,
) -> dict[str, Any]:
    """Measure and write `invariance.json`.

    Parameters
    ----------
    sets : sequence of PrintSet
    out : Path
        Results folder; made when it does not exist.
    sample : Sample, optional
    turns : sequence of int
        Degrees. The unchanged print is measured whether 0 is among them or not.
    replicates : int
        Of the bootstrap.
    workers : int
        Threads.
    track : callable

    Returns
    -------
    dict
        `sample`, `threshold` and `changes`: by name `against`, `mean`, `difference`, `fnmr`, `fmr`, `eer`,
        `rejected`. Scores are log10 likelihood ratios, rates fractions.

    Raises
    ------
    InvalidInput
        A set has no finger with two impressions that can be enrolled, or fewer than two fingers.
    """
    drawn = sample or Sample()
    firsts = [_first_impressions(each) for each in sets]
    with ThreadPoolExecutor(workers) as pool:
        jobs = [(each, one) for each, found in zip(sets, firsts, strict=True) for one in found]
        loaded = list(track(pool.map(lambda job: _load(*job), jobs), "extracting references", len(jobs)))
        tasks = list(_draw_all(sets, [len(found) for found in firsts], loaded, drawn))
        met = list(track(pool.map(lambda t: _meet(t, loaded, turns), tasks), "changing prints", len(tasks)))
    strata = [(each.name, len(found)) for each, found in zip(sets, firsts, strict=True)]
    report = {
        "sample": drawn._asdict() | {"probes": len(tasks), "replicates": replicates},
        "calibration": shipped().id,
        "threshold": round(shipped().threshold(FMR), 6),
        "changes": _measure(tasks, met, strata, replicates, drawn.seed),
        "environment": environment(),
    }
    write_atomic(out / FILE, dumps(report))
    return report


def turned(pixels: Pixels, degrees: float) -> Pixels:
    """Return the whole image turned counter-clockwise as seen, on a canvas that holds it.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (H, W)
    degrees : float

    Returns
    -------
    ndarray of uint8, shape (H', W')
        H' = H |cos| + W |sin|, W' = W |cos| + H |sin|, rounded up; `border` outside.
    """
    height, width = pixels.shape
    middle = ((width - 1) / 2, (height - 1) / 2)
    matrix = np.asarray(cv2.getRotationMatrix2D(middle, degrees, 1.0), np.float64)
    c, s = np.abs(matrix[0, :2])
    size = [int(np.ceil(side - 1e-6)) for side in (width * c + height * s, height * c + width * s)]
    matrix[:, 2] += np.subtract(size, (width, height)) / 2
    return np.asarray(
        cv2.warpAffine(
            pixels,
            matrix,
            size,
            flags=cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=border(pixels),
        ),
        np.uint8,
    )


def border(pixels: Pixels) -> int:
    """Return the median grey of the outermost pixels."""
    return int(np.median(np.concatenate([pixels[[0, -1]].ravel(), pixels[1:-1, [0, -1]].ravel()])))


def shifted(pixels: Pixels, axis: int, way: int) -> tuple[Pixels, Pixels]:
    """Return the image pushed by a third of a side, and its control: the part that stays in sight, in place.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (H, W)
    axis : int
        0 pushes along x, 1 along y.
    way : int
        1 to the right or down, -1 to the left or up.

    Returns
    -------
    tuple of two ndarrays of uint8, shape (H, W)
        `border` where nothing is seen.
    """
    side = pixels.shape[1 - axis]
    third = side // 3
    low, high = slice(0, side - third), slice(third, side)
    source, target = (low, high) if way > 0 else (high, low)
    pushed, control = np.full_like(pixels, border(pixels)), np.full_like(pixels, border(pixels))
    for made, place in ((pushed, target), (control, source)):
        np.moveaxis(made, 1 - axis, 0)[place] = np.moveaxis(pixels, 1 - axis, 0)[source]
    return pushed, control


def table(report: Mapping[str, Any]) -> Table:
    """Lay the figures out for a terminal: scores, and rates in percent."""
    sample = report["sample"]
    grid = Table(
        title=f"Invariance: {sample['probes']} probes, each against its mate and at most"
        f" {sample['impostors']} others; FNMR over {report['threshold']:.2f}, stated for FMR {FMR:g}"
    )
    grid.add_column("change", no_wrap=True)
    for heading in ("against", "mean score", "difference", "95 %", "FNMR %", "FMR %", "EER %", "rejected"):
        grid.add_column(heading, justify="left" if heading == "against" else "right")
    for name, entry in report["changes"].items():
        gap = entry["difference"]
        cells = ("", "", "")
        if gap is not None:
            bounds = "" if gap["low"] is None else f"{gap['low']:+.2f} to {gap['high']:+.2f}"
            cells = (entry["against"], f"{gap['value']:+.2f}", bounds)
        rates = [f"{100 * entry[rate]:.2f}" for rate in ("fnmr", "fmr", "eer")]
        grid.add_row(name, cells[0], f"{entry['mean']:.2f}", *cells[1:], *rates, str(entry["rejected"]))
    return grid


def _first_impressions(each: PrintSet) -> list[Print]:
    return [next(found) for _, found in groupby(each.prints, key=lambda one: one.finger)]


def _load(each: PrintSet, one: Print) -> Prepared | None:
    return _prepared(read_image(one.path.read_bytes(), ppi=each.ppi))


def _prepared(image: GrayImage) -> Prepared | None:
    extraction = extract(image)
    return None if extraction.rejected else prepare(extraction.template)


def _draw_all(
    sets: Sequence[PrintSet], counts: Sequence[int], references: Sequence[Prepared | None], sample: Sample
) -> Iterator[Task]:
    start = 0
    for each, count in zip(sets, counts, strict=True):
        yield from _draw(each, references[start : start + count], start, sample)
        start += count


def _draw(each: PrintSet, references: Sequence[Prepared | None], start: int, sample: Sample) -> list[Task]:
    """Draw the probes of a set, whose fingers are numbered from `start`."""
    random = np.random.default_rng([sample.seed, zlib.crc32(each.name.encode())])
    hands = [list(found) for _, found in groupby(each.prints, key=lambda one: one.finger)]
    enrolled = [k for k, one in enumerate(references) if one is not None]
    usable = [k for k in enrolled if len(hands[k]) > 1]
    if not usable or len(enrolled) < 2:
        raise InvalidInput(
            f"{each.name} has too few prints that can be enrolled",
            remedy="give sets of two fingers or more, two impressions of each",
        )
    tasks = []
    for finger in sorted(random.permutation(usable)[: sample.fingers].tolist()):
        probe = hands[finger][IMPRESSIONS][random.integers(len(hands[finger][IMPRESSIONS]))]
        others = random.permutation([k for k in enrolled if k != finger])[: sample.impostors] + start
        ways = tuple(random.choice((-1, 1), 2).tolist())
        tasks.append(Task(each, probe, finger + start, tuple(others.tolist()), (ways[0], ways[1])))
    return tasks


def _changes(
    pixels: Pixels, ways: tuple[int, int], turns: Sequence[int]
) -> Iterator[tuple[str, str, Pixels]]:
    """Yield each change's name, what it is judged against ('' for nothing), and the changed image."""
    yield UNCHANGED, "", pixels
    for degrees in turns:
        if degrees % 360:
            yield f"turned {degrees}", UNCHANGED, turned(pixels, degrees)
    for axis, side in enumerate(SIDES):
        pushed, control = shifted(pixels, axis, ways[axis])
        yield f"control, {side}", UNCHANGED, control
        yield f"shifted, {side}", f"control, {side}", pushed


def _meet(
    task: Task, references: Sequence[Prepared | None], turns: Sequence[int]
) -> dict[tuple[str, str], Met]:
    image = read_image(task.probe.path.read_bytes(), ppi=task.each.ppi)
    met = {}
    for name, against, pixels in _changes(image.pixels, task.ways, turns):
        probe = _prepared(replace(image, pixels=pixels))
        mate, *others = (_score(probe, references[k]) for k in (task.finger, *task.others))
        met[name, against] = Met(mate, tuple(others), probe is None)
    return met


def _score(probe: Prepared | None, reference: Prepared | None) -> float:
    return LOWEST if probe is None or reference is None else score(probe, reference)


def _measure(
    tasks: Sequence[Task],
    met: Sequence[Mapping[tuple[str, str], Met]],
    strata: Sequence[tuple[str, int]],
    replicates: int,
    seed: int,
) -> dict[str, Any]:
    counts = [count for _, count in strata]
    draws = metrics.draw(counts, [name for name, _ in strata], replicates=replicates, seed=seed)
    weights = draws[:, [task.finger for task in tasks]]
    mates = {name: np.asarray([one[name, against].mate for one in met]) for name, against in met[0]}
    least = shipped().threshold(FMR)
    found = {}
    for name, against in met[0]:
        others = np.concatenate([one[name, against].others for one in met])
        found[name] = {
            "against": against or None,
            "mean": round(float(mates[name].mean()), 4),
            "difference": _difference(mates[name] - mates[against], weights) if against else None,
            "fnmr": round(float((mates[name] < least).mean()), 6),
            "fmr": round(float((others >= least).mean()), 6),
            "eer": round(metrics.eer(metrics.det(mates[name], others)), 6),
            "rejected": sum(one[name, against].rejected for one in met),
        }
    return found


def _difference(gaps: Floats, weights: NDArray[np.int64]) -> dict[str, float | None]:
    """Return the mean of the differences and its interval; `weights` (r, n) is how often each was drawn."""
    with np.errstate(invalid="ignore"):
        drawn = (weights @ gaps) / weights.sum(axis=1)
    (estimate,) = metrics.estimates(["gap"], gaps.mean(keepdims=True), drawn[:, None]).values()
    return {name: None if value is None else round(value, 4) for name, value in asdict(estimate).items()}
