"""Run: extract every print once, compare every pair once, write raw scores. No metric is computed here.

What lies in the results folder::

    environment.json               machine and versions of the latest run
    <set>/<system>/scores.csv      probe,reference,mated,score: every unordered pair once
    <set>/<system>/evidence.csv    probe,reference,mated and the fields of `Evidence`: for `calibrate`, where
                                   the system has it
    <set>/<system>/run.json        resolution, failures to enrol, times, digests of the scores, environment

A print that failed to enrol scores minus infinity against every other. Each file is written beside its
place and moved into it, and `run.json` last, so that a run cut off leaves nothing that passes for a result.
"""

import csv
import hashlib
import io
import json
import math
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from benchmarks.datasets import Print, PrintSet, digest
from benchmarks.systems import EvidentSystem, System
from enroll.errors import ResolutionImplausible, ResolutionUnknown
from matcher.compare import Evidence
from matcher.errors import InvalidInput

FAILED = -math.inf
"""Score of a pair in which a print failed to enrol."""

EVIDENCE = "evidence.csv"

NO_EVIDENCE = Evidence(FAILED, 0.0, 0.0, None, 0)
"""Evidence of such a pair."""

PACKAGES = (
    "papilar", "faiss-cpu", "matplotlib", "nbis-py", "numba", "numpy", "onnxruntime",
    "opencv-python-headless", "pillow", "scikit-image", "scipy", "wsq",
)  # fmt: skip
"""Packages whose versions bear on a result."""

_In = TypeVar("_In")
_Out = TypeVar("_Out")

Track = Callable[[Iterable[Any], str, int], Iterable[Any]]
"""Passes items on and shows how far it is: (items, what, how many) -> items."""


class Extracted(NamedTuple):
    """A print as the system holds it, or why it failed to enrol; seconds it took."""

    prepared: Any
    failure: str | None
    seconds: float


class Compared(NamedTuple):
    """Scores of the pairs in the order of `pairs`, and the seconds of each that was computed.

    `evidence` holds what they were calibrated from; it is empty where the system cannot tell.
    """

    scores: list[float]
    evidence: list[Evidence]
    seconds: list[float]


def untracked(items: Iterable[Any], what: str, count: int) -> Iterable[Any]:
    """Show nothing."""
    return items


def run(
    sets: Sequence[PrintSet],
    systems: Sequence[System],
    out: Path,
    *,
    workers: int = 1,
    track: Track = untracked,
) -> None:
    """Measure every system on every set and write what it gave.

    Parameters
    ----------
    sets, systems : sequence
    out : Path
        Results folder; made where it is missing. Results of the same set and system are replaced.
    workers : int
        Threads for a system that allows several.
    track : callable
        Shows progress.

    Raises
    ------
    InvalidInput
        A resolution is unknown or implausible, or `workers` is not positive.
    """
    if workers < 1:
        raise InvalidInput(f"{workers} workers", remedy="give --workers 1 or more")
    where = environment()
    write_atomic(out / "environment.json", dumps(where))
    for each in sets:
        for system in systems:
            folder = out / each.name / system.name
            threads = workers if system.concurrent else 1
            _measure(each, system, folder, workers=threads, track=track, where=where)


def pairs(count: int) -> Iterator[tuple[int, int]]:
    """Every unordered pair of `count` prints once, the earlier first."""
    return ((i, j) for i in range(count) for j in range(i + 1, count))


def environment() -> dict[str, Any]:
    """Return what a reader needs to judge the times and repeat the scores; JSON can hold it."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "git": _commit(),
    }


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file as a whole or not at all, making its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        beside.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def dumps(value: Any) -> str:
    """Return indented JSON that ends with a newline; refuses NaN and infinity, which JSON does not have."""
    return json.dumps(value, indent=1, allow_nan=False) + "\n"


def _measure(
    each: PrintSet, system: System, folder: Path, *, workers: int, track: Track, where: dict[str, Any]
) -> None:
    what, count = f"{each.name} {system.name}", len(each.prints)
    watch = _Watch()
    extracted = list(track(_extract_all(each, system, workers), f"{what}: extracting", count))
    extraction = watch.spent() | _spread([item.seconds for item in extracted])
    watch = _Watch()
    rows = list(track(_compare_all(each, extracted, system, workers), f"{what}: comparing", count))
    comparison = watch.spent() | _spread([seconds for row in rows for seconds in row.seconds])
    by_name = list(zip([item.name for item in each.prints], extracted, strict=True))
    about = {
        "set": each.name,
        "system": {"name": system.name, **system.about()},
        "ppi": each.ppi,
        "prints": count,
        "pairs": count * (count - 1) // 2,
        "data_digest": digest(item.path for item in each.prints),
        "failures_to_enrol": [{"print": n, "reason": e.failure} for n, e in by_name if e.failure],
        "workers": workers,
        "clock": "thread CPU" if system.in_process else "wall",
        "extraction_seconds": extraction | {"per_print": {n: round(e.seconds, 6) for n, e in by_name}},
        "comparison_seconds": comparison,
        "environment": where,
    }
    _save(folder, each.prints, _joined(rows), about)


def _extract_all(each: PrintSet, system: System, workers: int) -> Iterator[Extracted]:
    return _map(lambda item: _extract(item, each.ppi, system), each.prints, workers)


def _extract(item: Print, ppi: float | None, system: System) -> Extracted:
    data = item.path.read_bytes()
    clock = _clock(system)
    started = clock()
    try:
        prepared = system.extract(data, ppi=ppi)
    except (ResolutionUnknown, ResolutionImplausible) as error:
        raise InvalidInput(
            f"{item.path.name}: {error.cause}",
            remedy="give the set's resolution as --ppi, in pixels per inch",
        ) from error
    except InvalidInput as error:
        return Extracted(None, error.reason, clock() - started)
    return Extracted(prepared, None if prepared is not None else "REJECTED", clock() - started)


def _compare_all(
    each: PrintSet, extracted: list[Extracted], system: System, workers: int
) -> Iterator[Compared]:
    """Yield the row of each print: its pairs with all later ones."""
    return _map(lambda i: _compare_row(each, extracted, i, system), range(len(extracted)), workers)


def _compare_row(each: PrintSet, extracted: list[Extracted], i: int, system: System) -> Compared:
    row, clock = Compared([], [], []), _clock(system)
    evidence = system.evidence if isinstance(system, EvidentSystem) else None
    for j in range(i + 1, len(extracted)):
        probe, reference = extracted[i], extracted[j]
        failed = probe.failure or reference.failure
        if failed:
            row.scores.append(FAILED)
        else:
            started = clock()
            row.scores.append(float(system.compare(probe.prepared, reference.prepared)))
            row.seconds.append(clock() - started)
        if evidence is not None:
            row.evidence.append(NO_EVIDENCE if failed else evidence(probe.prepared, reference.prepared))
        if math.isnan(row.scores[-1]):
            raise RuntimeError(f"{system.name} scored {each.prints[i].name}, {each.prints[j].name} as NaN")
    return row


def _joined(rows: Iterable[Compared]) -> Compared:
    return Compared(*([value for part in parts for value in part] for parts in zip(*rows, strict=True)))


def _map(function: Callable[[_In], _Out], items: Sequence[_In], workers: int) -> Iterator[_Out]:
    """Map in order, in this thread or in several; the first error stops the rest."""
    if workers == 1:
        yield from map(function, items)
        return
    pool = ThreadPoolExecutor(workers)
    try:
        yield from pool.map(function, items)
    finally:
        pool.shutdown(cancel_futures=True)


def _clock(system: System) -> Callable[[], float]:
    return time.thread_time if system.in_process else time.perf_counter


class _Watch:
    """Time passed and CPU time of the whole process since it was made, in seconds."""

    def __init__(self) -> None:
        self._wall, self._process = time.perf_counter(), time.process_time()

    def spent(self) -> dict[str, float]:
        wall, process = time.perf_counter() - self._wall, time.process_time() - self._process
        return {"wall": round(wall, 3), "process_cpu": round(process, 3)}


def _spread(seconds: list[float]) -> dict[str, float | int | None]:
    """Median, mean and 95th percentile; in nanoseconds' resolution, as the clocks give it."""
    if not seconds:
        return {"count": 0, "median": None, "mean": None, "p95": None}
    values = np.asarray(seconds)
    median, p95 = np.percentile(values, [50, 95])
    spread = {"median": median, "mean": values.mean(), "p95": p95}
    return {"count": len(seconds)} | {key: round(float(value), 9) for key, value in spread.items()}


def _save(folder: Path, prints: Sequence[Print], compared: Compared, about: dict[str, Any]) -> None:
    content = _table(prints, ["score"], [[repr(score)] for score in compared.scores])
    digests = {"scores_digest": hashlib.sha256(content).hexdigest()}
    write_atomic(folder / "scores.csv", content)
    if compared.evidence:
        rows = [["" if value is None else repr(value) for value in one] for one in compared.evidence]
        content = _table(prints, Evidence._fields, rows)
        digests["evidence_digest"] = hashlib.sha256(content).hexdigest()
        write_atomic(folder / EVIDENCE, content)
    write_atomic(folder / "run.json", dumps(about | digests))


def _table(prints: Sequence[Print], columns: Sequence[str], rows: Sequence[Sequence[str]]) -> bytes:
    """Return the CSV of some values of every pair; floats with the shortest digits that give them again."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["probe", "reference", "mated", *columns])
    for (i, j), row in zip(pairs(len(prints)), rows, strict=True):
        mated = int(prints[i].finger == prints[j].finger)
        writer.writerow([prints[i].name, prints[j].name, mated, *row])
    return table.getvalue().encode()


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> dict[str, Any] | None:
    """Commit of this source tree and whether it was changed since; None outside a git checkout."""
    head, status = _git("rev-parse", "HEAD"), _git("status", "--porcelain")
    return None if head is None else {"commit": head, "changed": bool(status)}


def _git(*arguments: str) -> str | None:
    git, tree = shutil.which("git"), Path(__file__).resolve().parents[1]
    if git is None or not (tree / ".git").exists():
        return None
    done = subprocess.run(  # noqa: S603  fixed arguments
        [git, "-C", str(tree), *arguments], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else None
