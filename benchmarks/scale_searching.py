"""What is measured of one gallery in a process of its own: opening, memory, searches, shortlists, additions.

A mate that a search loses counts only where the exhaustive search would have had it first, as far as is
known: where its own score exceeds the best that the search returned. So `recall` is that against the
exhaustive search, or a little less. For some probes all rows of a small gallery are compared as well.
"""

import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.synthetic.templates import finger, impression
from matcher.codecs import decode
from matcher.compare import score
from matcher.cylinders import prepare
from matcher.gallery import Gallery
from matcher.search import LocalSearcher, Owner, ProbePrint, SearchResult
from matcher.template import Finger

PENETRATIONS = (0.01, 0.02, 0.05, 0.1)
"""Shares of the gallery that a shortlist may hold."""

ADDED_PER_SECOND = 50
EXHAUSTIVE = 1
"""Probes that are compared with all rows of a gallery of no more than `SMALL`."""

SMALL = 10_000
PERSONS = 3
"""Searches with all ten fingers of a synthetic person."""


class Probe(NamedTuple):
    """A further impression of a hidden finger: the row of the first, and its template, encoded."""

    row: int
    template: bytes


class Plan(NamedTuple):
    """Which row of a gallery is what: a hidden print at equal distances, else the finger of its number.

    Ten rows that follow each other, but for the hidden ones, are one person's.
    """

    folder: Path
    size: int
    seed: int
    ridges: bool
    hidden: int

    @property
    def alive(self) -> NDArray[np.int64]:
        """All rows."""
        return np.arange(self.size, dtype=np.int64)

    @property
    def hidden_rows(self) -> range:
        """The rows of the hidden prints, in their order."""
        return range(0, self.hidden * (self.size // self.hidden), self.size // self.hidden)

    def row_of(self, number: int) -> int:
        """Return the row of a hidden print."""
        return self.hidden_rows[number]

    def owner(self, row: int) -> Owner:
        """Return whose a row is."""
        if row in self.hidden_rows:
            return Owner(f"hidden-{row}", f"hidden-{row}", Finger.UNKNOWN)
        return Owner(f"person-{row // 10}", f"person-{row // 10}", Finger(row % 10 + 1))


class People:
    """The directory of a plan."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def owners(self, rows: Collection[int]) -> Mapping[int, Owner]:
        """Return the owner of each row."""
        return {row: self._plan.owner(row) for row in rows}

    def rows_of(self, encounters: Collection[str]) -> Collection[int]:
        """Return the rows of all prints of these encounters."""
        found: list[int] = []
        for encounter in encounters:
            kind, number = encounter.split("-")
            rows = range(10 * int(number), 10 * int(number) + 10) if kind == "person" else [int(number)]
            found += [
                row for row in rows if row < self._plan.size and self._plan.owner(row).encounter == encounter
            ]
        return found


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of some searches, as time passed and as CPU time of the process."""

    count: int
    wall_median: float
    wall_p95: float
    wall_p99: float
    cpu_median: float
    compared_median: float


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes a finger: of the heap after opening and searching, of mapped files in memory, of the disk."""

    heap_bytes: float
    file_bytes: float
    disk_bytes: float


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured of a gallery.

    Attributes
    ----------
    open_seconds : float
        Until the first search can begin; the file may lie in the system's cache.
    memory : Memory
    search, ten_fingers, during_additions : Times
        With one real print; with ten synthetic ones; with one, while `ADDED_PER_SECOND` prints are added.
    recall : float
        Share of mates first, of those that the exhaustive search has first; see the module.
    rank1 : float
        Share of mates first.
    persons_found : float
        Share of synthetic persons first, by ten fingers.
    preselection_error : dict of str to float
        Share of mates that a shortlist of that share of the gallery lacks.
    exhaustive_agrees : float or None
        Share of the probes compared with all rows whose first candidate is the search's; None where none was.
    """

    open_seconds: float
    memory: Memory
    search: Times
    ten_fingers: Times
    during_additions: Times
    recall: float
    rank1: float
    persons_found: float
    preselection_error: dict[str, float]
    exhaustive_agrees: float | None


class _Answer(NamedTuple):
    result: SearchResult
    wall: float
    cpu: float


class _Resident(NamedTuple):
    """Bytes of this process in memory: its own, and of files."""

    heap: int
    file: int


def measure(plan: Plan, probes: Sequence[Probe]) -> Measured:
    """Open a gallery and measure it.

    Parameters
    ----------
    plan : Plan
        Its folder holds the gallery.
    probes : sequence of Probe
        Their rows are the gallery's.
    """
    ready = [ProbePrint(Finger.UNKNOWN, prepare(decode(probe.template)[0])) for probe in probes]
    score(
        ready[0].prepared, ready[1].prepared
    )  # compiled kernels and the calibration are no part of a gallery
    before, started = _resident(), time.perf_counter()
    gallery = Gallery(plan.folder, plan.alive)
    opened = time.perf_counter() - started
    searcher = LocalSearcher(gallery, People(plan))
    answers = [_search(searcher, [one]) for one in ready]
    after = _resident()
    rows = [probe.row for probe in probes]
    persons = list(_persons(plan))
    tens = [_search(searcher, prints) for _, prints in persons]
    with _adding(gallery, plan):
        disturbed = [_search(searcher, [one]) for one in ready]
    searcher.close()
    firsts = [_first(answer.result) for answer in answers]
    found = [first == f"hidden-{row}" for first, row in zip(firsts, rows, strict=True)]
    named = [_first(ten.result) == name for (name, _), ten in zip(persons, tens, strict=True)]
    disk = sum(path.stat().st_size for path in plan.folder.rglob("*") if path.is_file())
    return Measured(
        opened,
        Memory(
            (after.heap - before.heap) / plan.size, (after.file - before.file) / plan.size, disk / plan.size
        ),
        _times(answers),
        _times(tens),
        _times(disturbed),
        _recall(gallery, ready, rows, answers),
        float(np.mean(found)),
        float(np.mean(named)),
        _preselection(gallery, ready, rows),
        _exhaustive(gallery, plan, ready, firsts),
    )


def _search(searcher: LocalSearcher, probe: Sequence[ProbePrint]) -> _Answer:
    cpu, wall = time.process_time(), time.perf_counter()
    result = searcher.search(probe, limit=10)
    return _Answer(result, time.perf_counter() - wall, time.process_time() - cpu)


def _first(result: SearchResult) -> str:
    return result.candidates[0].subject if result.candidates else ""


def _times(answers: Sequence[_Answer]) -> Times:
    median, p95, p99 = np.percentile([answer.wall for answer in answers], (50, 95, 99)).tolist()
    cpu = float(np.median([answer.cpu for answer in answers]))
    compared = float(np.median([answer.result.compared for answer in answers]))
    return Times(len(answers), median, p95, p99, cpu, compared)


def _recall(
    gallery: Gallery, probes: Sequence[ProbePrint], rows: Sequence[int], answers: Sequence[_Answer]
) -> float:
    """Return the share of mates that came first, of those that would have in an exhaustive search."""
    hits = lost = 0
    for probe, row, (result, _, _) in zip(probes, rows, answers, strict=True):
        best = result.candidates[0].score if result.candidates else -np.inf
        mate = gallery.prepared(row)
        if _first(result) == f"hidden-{row}":
            hits += 1
        elif mate is not None and score(probe.prepared, mate) > best:
            lost += 1
    return hits / max(hits + lost, 1)


def _preselection(gallery: Gallery, probes: Sequence[ProbePrint], rows: Sequence[int]) -> dict[str, float]:
    """Return the share of mates that shortlists lack, by the share of the gallery that they hold."""
    limit = int(max(PENETRATIONS) * len(gallery))
    places = []
    for probe, row in zip(probes, rows, strict=True):
        at = np.flatnonzero(gallery.shortlist(probe.prepared, limit=limit).rows == row)
        places.append(int(at[0]) if len(at) else len(gallery))
    return {
        f"{share:g}": float(np.mean([place >= int(share * len(gallery)) for place in places]))
        for share in PENETRATIONS
    }


def _exhaustive(
    gallery: Gallery, plan: Plan, probes: Sequence[ProbePrint], firsts: Sequence[str]
) -> float | None:
    if plan.size > SMALL:
        return None
    every = [(row, one) for row in plan.alive.tolist() if (one := gallery.prepared(row)) is not None]
    agree = []
    for probe, first in zip(probes[:EXHAUSTIVE], firsts[:EXHAUSTIVE], strict=True):
        best, _ = max(every, key=lambda item: score(probe.prepared, item[1]))
        agree.append(plan.owner(best).subject == first)
    return float(np.mean(agree))


def _persons(plan: Plan) -> Iterator[tuple[str, list[ProbePrint]]]:
    """Yield second impressions of all fingers of some synthetic persons, and their names."""
    people = People(plan)
    for number in np.linspace(1, plan.size // 10 - 1, PERSONS).astype(int).tolist():
        name = f"person-{number}"
        templates = [
            impression(finger(plan.seed, row), 1, ridges=plan.ridges) for row in people.rows_of([name])
        ]
        yield name, [ProbePrint(template.finger, prepare(template)) for template in templates]


@contextmanager
def _adding(gallery: Gallery, plan: Plan) -> Iterator[None]:
    """Add templates at a steady rate until the block ends; they are beyond the plan, and never sealed."""
    end = threading.Event()

    def add() -> None:
        row, due = plan.size, time.monotonic()
        templates = [impression(finger(plan.seed, plan.size + k), ridges=plan.ridges) for k in range(100)]
        while not end.wait(max(0.0, due - time.monotonic())):
            gallery.add(row, prepare(templates[row % 100]))
            row, due = row + 1, due + 1 / ADDED_PER_SECOND

    thread = threading.Thread(target=add)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def _resident() -> _Resident:
    """Return what the kernel counts, shared pages by share."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()
    bytes_of = {line.split(":")[0]: 1024 * int(line.split()[1]) for line in lines[1:]}
    return _Resident(bytes_of["Pss_Anon"], bytes_of["Pss_File"])
