"""What is measured of one gallery in a process of its own: opening, memory, searches, shortlists, additions.

An exhaustive search has a mate first where no stranger scores higher. So `recall` is the share of mates first
of those whose own score a stranger in so large a gallery is not expected to reach: above the threshold at a
false-match rate of one in its prints. For some probes all rows of a small gallery are compared as well.
"""

import os
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.scale_gallery import FINGERS, Multiplied, People, Plan, Rows, name_of
from benchmarks.synthetic.templates import finger, impression
from matcher import compact
from matcher.calibration import shipped
from matcher.codecs import decode
from matcher.compact import QUICK, Held
from matcher.compare import score
from matcher.cylinders import prepare
from matcher.gallery import Gallery
from matcher.search import LocalSearcher, ProbePrint, SearchResult
from matcher.segment import SealedSegment
from matcher.template import Finger

PENETRATIONS = (0.005, 0.01, 0.02, 0.05, 0.1)
"""Shares of the gallery that remain after the quick look."""

ADDED_PER_SECOND = 50
BLOCK = 10
"""Probes that are searched without additions and with them in turn, so that what else the machine does,
now more, now less, bears on both alike."""

EXHAUSTIVE = 1
"""Probes that are compared with all rows of a gallery of no more than `SMALL`."""

SMALL = 10_000
PERSONS = 10
"""Searches with all ten fingers of a synthetic person, at most; no more than there are probes."""

_RUN = 50_000  # prints that a thread looks at in one go


class Probe(NamedTuple):
    """Further impressions of hidden fingers of one person: the fingers' numbers, and templates, encoded."""

    fingers: tuple[int, ...]
    templates: tuple[bytes, ...]


# ---- measuring


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
    """Bytes a finger: of the heap after opening and searching, of mapped files in memory, of the disk.

    `file_bytes` counts whatever the searches touched; of that `read_bytes` is what every search reads of
    every finger, and what should stay in memory.
    """

    heap_bytes: float
    file_bytes: float
    disk_bytes: float
    read_bytes: float


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured of a gallery.

    Attributes
    ----------
    searched : int
        Prints that a search reaches.
    open_seconds, first_seconds : float
        Until the first search can begin, with the files in the system's cache or not, as they were; and until
        its answer from there.
    memory : Memory
    search, ten_fingers, during_additions : Times
        With one real print; with ten, real ones and synthetic ones; with one, while prints are added.
    added_per_second : float
        How many were, on average; `ADDED_PER_SECOND` were asked for.
    recall : float
        Share of mates first, of those that the exhaustive search has first; see the module.
    rank1, persons_rank1, synthetic_rank1 : float
        Share of mates first; of persons by their real fingers; of synthetic persons by ten fingers.
    preselection_error : dict of str to float
        Share of mates that do not remain after the quick look where that share of the gallery remains.
    exhaustive_agrees : float or None
        Share of the probes compared with all rows whose first candidate is the search's; None where none was.
    """

    searched: int
    open_seconds: float
    first_seconds: float
    memory: Memory
    search: Times
    ten_fingers: Times
    during_additions: Times
    added_per_second: float
    recall: float
    rank1: float
    persons_rank1: float
    synthetic_rank1: float
    preselection_error: dict[str, float]
    exhaustive_agrees: float | None


class _Asked(NamedTuple):
    """A probe made ready, and the rows of its mates."""

    prints: list[ProbePrint]
    rows: list[int]


class _Answer(NamedTuple):
    result: SearchResult
    wall: float
    cpu: float


class _Resident(NamedTuple):
    """Bytes of this process in memory: its own, and of files."""

    heap: int
    file: int

    def less(self, before: "_Resident") -> "_Resident":
        """Return how many came since."""
        return _Resident(self.heap - before.heap, self.file - before.file)


def measure(plan: Plan, probes: Sequence[Probe], persons: Sequence[Probe]) -> Measured:
    """Open a gallery and measure it.

    Parameters
    ----------
    plan : Plan
        Its folder holds the gallery, and its copies.
    probes : sequence of Probe
        Of one finger each.
    persons : sequence of Probe
        Of all the fingers of a person.
    """
    singles, real = [_asked(plan, probe) for probe in probes], [_asked(plan, probe) for probe in persons]
    made = list(_synthetic(plan, min(PERSONS, len(probes))))
    _compile(plan, singles[:2])
    before, started = _resident(), time.perf_counter()
    gallery = Gallery(plan.folder, plan.alive)
    multiplied = Multiplied(gallery, plan)
    opened, searched = time.perf_counter() - started, len(multiplied)
    searcher = LocalSearcher(multiplied, People(plan))
    firsts = [_search(searcher, asked) for asked in singles]
    tens = [_search(searcher, asked) for asked in (*real, *made)]
    after = _resident()
    additions = _Additions(gallery, plan)
    alone, disturbed = _in_turn(searcher, additions, singles)
    searcher.close()
    segments = [SealedSegment(path) for path in sorted(plan.folder.glob("segment-*.pps"))]
    return Measured(
        searched,
        opened,
        firsts[0].wall,
        _memory(plan, segments, after.less(before)),
        _times(alone),
        _times(tens),
        _times(disturbed),
        additions.count / additions.seconds,
        _recall(gallery, plan.total, singles, alone),
        _rank1(singles, alone),
        _rank1(real, tens[: len(real)]),
        _rank1(made, tens[len(real) :]),
        _preselection(segments, singles),
        _exhaustive(gallery, plan, singles, alone),
    )


def _asked(plan: Plan, probe: Probe) -> _Asked:
    """Make a probe ready. A finger alone is of unknown position, so that it meets all rows."""
    rows = [plan.row_of(number) for number in probe.fingers]
    fingers = [plan.place(row).finger for row in rows] if len(rows) > 1 else [Finger.UNKNOWN]
    prepared = [prepare(decode(template)[0]) for template in probe.templates]
    return _Asked([ProbePrint(*each) for each in zip(fingers, prepared, strict=True)], rows)


def _synthetic(plan: Plan, count: int) -> Iterator[_Asked]:
    """Yield second impressions of all fingers of some synthetic persons."""
    numbers = np.setdiff1d(np.arange(plan.persons), plan.real)
    for number in numbers[np.linspace(0, len(numbers) - 1, count).astype(int)].tolist():
        rows = list(range(FINGERS * number, FINGERS * (number + 1)))
        templates = [impression(finger(plan.seed, row), 1, ridges=plan.ridges) for row in rows]
        yield _Asked([ProbePrint(template.finger, prepare(template)) for template in templates], rows)


def _compile(plan: Plan, asked: Sequence[_Asked]) -> None:
    """Search a tiny gallery: compiled kernels, words and the calibration are no part of a gallery's cost."""
    with tempfile.TemporaryDirectory() as folder:
        gallery = Gallery(Path(folder), np.arange(len(asked)))
        for row, one in enumerate(asked):
            gallery.add(row, one.prints[0].prepared)
        gallery.seal()
        searcher = LocalSearcher(gallery, People(plan))
        _search(searcher, asked[0])
        searcher.close()


def _search(searcher: LocalSearcher, asked: _Asked) -> _Answer:
    cpu, wall = time.process_time(), time.perf_counter()
    result = searcher.search(asked.prints, limit=10)
    return _Answer(result, time.perf_counter() - wall, time.process_time() - cpu)


def _in_turn(
    searcher: LocalSearcher, additions: "_Additions", singles: Sequence[_Asked]
) -> tuple[list[_Answer], list[_Answer]]:
    """Search for each probe without additions and with them, block by block."""
    alone: list[_Answer] = []
    disturbed: list[_Answer] = []
    for begin in range(0, len(singles), BLOCK):
        block = singles[begin : begin + BLOCK]
        alone += [_search(searcher, asked) for asked in block]
        with additions.under_way():
            disturbed += [_search(searcher, asked) for asked in block]
    return alone, disturbed


class _Additions:
    """Adds prints beyond a plan's rows at a steady rate, never sealed; counts them, and the seconds."""

    def __init__(self, gallery: Gallery, plan: Plan) -> None:
        self.count, self.seconds = 0, 0.0
        self._gallery, self._plan = gallery, plan
        self._templates = [
            impression(finger(plan.seed, plan.total + k), ridges=plan.ridges) for k in range(100)
        ]

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Add until the block ends."""
        end, started = threading.Event(), time.perf_counter()
        thread = threading.Thread(target=self._add, args=(end,))
        thread.start()
        try:
            yield
        finally:
            end.set()
            thread.join()
            self.seconds += time.perf_counter() - started

    def _add(self, end: threading.Event) -> None:
        due = time.monotonic()
        while not end.wait(max(0.0, due - time.monotonic())):
            row = self._plan.total + self.count
            template = self._templates[self.count % len(self._templates)]
            self._gallery.add(row, prepare(template), self._plan.place(row))
            self.count, due = self.count + 1, due + 1 / ADDED_PER_SECOND


def _first(answer: _Answer) -> str:
    return answer.result.candidates[0].subject if answer.result.candidates else ""


def _times(answers: Sequence[_Answer]) -> Times:
    median, p95, p99 = np.percentile([answer.wall for answer in answers], (50, 95, 99)).tolist()
    cpu = float(np.median([answer.cpu for answer in answers]))
    compared = float(np.median([answer.result.compared for answer in answers]))
    return Times(len(answers), median, p95, p99, cpu, compared)


def _rank1(asked: Sequence[_Asked], answers: Sequence[_Answer]) -> float:
    """Return the share of probes whose person came first."""
    pairs = zip(asked, answers, strict=True)
    return float(np.mean([_first(answer) == name_of(one.rows[0]) for one, answer in pairs]))


def _recall(gallery: Gallery, size: int, asked: Sequence[_Asked], answers: Sequence[_Answer]) -> float:
    """Return the share of mates that came first, of those that would have in an exhaustive search."""
    known = shipped()
    least, first = known.threshold(min(1 / size, known.tail_rate)), []
    for one, answer in zip(asked, answers, strict=True):
        mate = gallery.prepared(one.rows[0])
        if mate is not None and score(one.prints[0].prepared, mate) >= least:
            first.append(_first(answer) == name_of(one.rows[0]))
    return float(np.mean(first))


def _preselection(segments: Sequence[SealedSegment], asked: Sequence[_Asked]) -> dict[str, float]:
    """Return the share of mates that the quick look drops, by the share of the gallery that it keeps."""
    rows, held = np.concatenate([one.rows for one in segments]), [one.held for one in segments]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        places = [_place(one, held, rows, pool) for one in asked]
    return {f"{share:g}": float(np.mean([place >= share for place in places])) for share in PENETRATIONS}


def _place(asked: _Asked, held: Sequence[Held], rows: Rows, pool: ThreadPoolExecutor) -> float:
    """Return the share of a gallery that is at least as like a probe as its mate is, by the quick look.

    Copies of a gallery have the share that it has.
    """
    sought = compact.seek(asked.prints[0].prepared, QUICK)
    runs = [
        (one, np.arange(begin, min(begin + _RUN, len(one.starts) - 1)))
        for one in held
        for begin in range(0, len(one.starts) - 1, _RUN)
    ]
    scores = np.concatenate(list(pool.map(lambda run: compact.score(sought, *run), runs)))
    mate = scores[rows == asked.rows[0]][0]
    return float((scores >= mate).sum() - 1) / len(scores) if mate > 0 else 1.0


def _exhaustive(
    gallery: Gallery, plan: Plan, asked: Sequence[_Asked], answers: Sequence[_Answer]
) -> float | None:
    if plan.total > SMALL:
        return None
    every = [(row, one) for row in plan.alive.tolist() if (one := gallery.prepared(row)) is not None]
    agree = []
    for probe, answer in zip(asked[:EXHAUSTIVE], answers[:EXHAUSTIVE], strict=True):
        scores = [(score(probe.prints[0].prepared, one), row) for row, one in every]
        agree.append(name_of(max(scores)[1]) == _first(answer))
    return float(np.mean(agree))


def _memory(plan: Plan, segments: Sequence[SealedSegment], resident: _Resident) -> Memory:
    files = [*plan.folder.glob("*"), *(plan.folder.glob("copies/*") if plan.copies > 1 else ())]
    disk = sum(path.stat().st_size for path in files if path.is_file())
    columns = [(*one.held, one.rows, one.fingers, one.encounters) for one in segments]
    read = plan.copies * sum(array.nbytes for arrays in columns for array in arrays)
    return Memory(*(size / plan.total for size in (*resident, disk, read)))


def _resident() -> _Resident:
    """Return what the kernel counts, shared pages by share."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()
    bytes_of = {line.split(":")[0]: 1024 * int(line.split()[1]) for line in lines[1:]}
    return _Resident(bytes_of["Pss_Anon"], bytes_of["Pss_File"])
