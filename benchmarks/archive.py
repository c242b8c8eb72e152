"""An archive's run against what it cannot do without: the extraction of the same prints on all cores.

`python -m benchmarks run archive` times both in turn, in one run, on the same files: processes that do
nothing but extract, and a whole enrolment, from the folder into a new gallery, with journal and receipt.
Then it enrols 1,000 and 10,000 cheap files, each number in a process of its own, and compares the memory that
these took.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from threading import Event, Thread

import cv2
import numpy as np

from benchmarks import datasets
from benchmarks.runner import dumps, environment, write_atomic
from enroll.gate import OPEN
from enroll.image import encode_png, read_image
from enroll.pipeline import extract
from matcher.codecs import NATIVE, encode
from matcher.errors import InvalidInput
from papilar import translate
from papilar.archive.item import Item, Result
from papilar.archive.journal import Journal
from papilar.archive.receipt import ReceiptWriter, now
from papilar.archive.runner import EnrollCall, Prepare, RunOptions, run_archive
from papilar.archive.sources import open_source
from papilar.archive.workers import ONE_CORE, Readers
from papilar.node import Node
from papilar.requests import Assessment, Enrolled, Enrollment, Outcome
from papilar.store.journal import JournalStore

FILE = "archive.json"
"""Name of the figures in the results folder."""


@dataclass(frozen=True, slots=True)
class Round:
    """What the same prints took: to extract, to enrol whole, and to enrol with NFIQ 2.

    Seconds, and CPU seconds of all processes.
    """

    prints: int
    extraction_s: float
    enrolment_s: float
    nfiq2_s: float
    extraction_cpu_s: float
    enrolment_cpu_s: float
    nfiq2_cpu_s: float

    @property
    def ratio(self) -> float:
        """Throughput of the enrolment, of that of the extraction."""
        return self.extraction_s / self.enrolment_s

    @property
    def cpu_ratio(self) -> float:
        """The same by CPU time: what a machine without other work would show, were the disk no limit."""
        return self.extraction_cpu_s / self.enrolment_cpu_s

    @property
    def nfiq2_ratio(self) -> float:
        """Throughput of the enrolment with NFIQ 2, of that of the extraction."""
        return self.extraction_s / self.nfiq2_s


@dataclass(frozen=True, slots=True)
class Memory:
    """Most memory that a run took, MiB: its own process, without those that read prints.

    Only what the process holds itself (anonymous). The pages of the gallery's files that are mapped are the
    system's to drop.
    """

    files: int
    in_gallery: bool
    seconds: float
    mebibytes: float


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured; intervals, 95 %, are of the mean ratios, rounds drawn anew."""

    cores: int
    rounds: Sequence[Round]
    ratio: float
    interval: tuple[float, float]
    cpu_ratio: float
    cpu_interval: tuple[float, float]
    nfiq2_ratio: float
    nfiq2_interval: tuple[float, float]
    memory: Sequence[Memory]


def run(
    data: Path,
    out: Path,
    *,
    prints: int = 20,
    rounds: int = 5,
    files: Sequence[int] = (1_000, 10_000),
    replicates: int = 1000,
    seed: int = 0,
    show: Callable[[str], None] = lambda line: None,
) -> Figures:
    """Measure, and write `archive.json`.

    Parameters
    ----------
    data : Path
        Folder of sets of prints.
    out : Path
        Results folder.
    prints : int
        Prints of each set in an archive.
    rounds : int
        How often both are timed.
    files : sequence of int
        Sizes of the archives of which the memory is taken.
    replicates, seed : int
        Of the bootstrap.
    show : callable
        Shown a line after each measurement.

    Raises
    ------
    InvalidInput
        See `benchmarks.datasets.load`.
    """
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        laid = _lay(data, folder / "archive", prints)
        timed = _time(laid, folder, cores, rounds, show)
        memory = [_memory(n, laid, folder, in_gallery=held) for held in (False, True) for n in files]
    for one in memory:
        where = "its gallery" if one.in_gallery else "a node"
        show(f"{one.files} files into {where}: {one.mebibytes:.0f} MiB, {one.seconds:.0f} s")
    random = np.random.default_rng(seed)
    wall = _mean([one.ratio for one in timed], replicates, random)
    cpu = _mean([one.cpu_ratio for one in timed], replicates, random)
    nfiq2 = _mean([one.nfiq2_ratio for one in timed], replicates, random)
    figures = Figures(cores, timed, *wall, *cpu, *nfiq2, memory)
    write_atomic(out / FILE, dumps(asdict(figures) | {"environment": environment()}))
    return figures


def _lay(data: Path, folder: Path, prints: int) -> Path:
    """Lay out an archive: a few prints of every set of known resolution, which the files then state."""
    folder.mkdir()
    for group in datasets.load(data).sets:
        if group.ppi is None:
            continue
        for number, one in enumerate(group.prints[:prints]):
            image = read_image(one.path.read_bytes(), ppi=group.ppi)
            (folder / f"{group.name}-{number}_1.png").write_bytes(encode_png(image))
    if not any(folder.iterdir()):
        raise InvalidInput(f"{data} holds no set of known resolution", remedy="see datasets/README.md")
    return folder


def _mean(
    ratios: Sequence[float], replicates: int, random: np.random.Generator
) -> tuple[float, tuple[float, float]]:
    drawn = random.choice(ratios, (replicates, len(ratios))).mean(axis=1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return float(np.mean(ratios)), (float(low), float(high))


# ---- speed


def _time(
    archive: Path, folder: Path, cores: int, rounds: int, show: Callable[[str], None]
) -> Sequence[Round]:
    files = sorted(archive.iterdir())
    timed = []
    # One core a process, as the run has it: threads that wait for each other would cost the extraction time.
    os.environ.update(dict.fromkeys(ONE_CORE, "1"))
    with (
        ProcessPoolExecutor(cores, get_context("spawn"), partial(cv2.setNumThreads, 1)) as pool,
        Readers(cores) as plain,
        Readers(cores, gate=OPEN) as gated,
    ):
        list(pool.map(_extract, files[: 4 * cores]))  # so that all are warm
        for readers in (plain, gated):
            _enrol_files(files[: 4 * cores], readers)
        for number in range(rounds):
            times = [(time.perf_counter(), _cpu())]
            list(pool.map(_extract, files))
            times.append((time.perf_counter(), _cpu()))
            for name, readers in (("plain", plain), ("nfiq2", gated)):
                _enrol(archive, folder / f"round-{number}-{name}", readers, cores)
                times.append((time.perf_counter(), _cpu()))
            wall, cpu = np.diff(np.array(times), axis=0).T.tolist()
            one = Round(len(files), *wall, *cpu)
            timed.append(one)
            told = (
                f"{one.ratio:.2f} by time, {one.cpu_ratio:.2f} by CPU time, {one.nfiq2_ratio:.2f} with NFIQ 2"
            )
            show(f"round {number + 1}: {wall[0]:.1f} s to extract, {wall[1]:.1f} s to enrol, {told}")
    return timed


def _cpu() -> float:
    """Return the CPU seconds of this process and those that it has started."""
    started = (pid for one in Path("/proc/self/task").glob("*/children") for pid in one.read_text().split())
    used = 0.0
    for pid in ("self", *started):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        used += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return used


def _extract(file: Path) -> int:
    return len(extract(read_image(file.read_bytes())).template)


def _enrol_files(files: Sequence[Path], readers: Readers) -> None:
    """Enrol a few into a gallery that is thrown away."""
    with tempfile.TemporaryDirectory() as scratch:
        few = Path(scratch) / "few"
        few.mkdir()
        for file in files:
            shutil.copy(file, few)
        _enrol(few, Path(scratch) / "g", readers, 2)


def _enrol(archive: Path, folder: Path, readers: Readers, cores: int) -> None:
    with Node(folder / "g", create=True, read=readers.read_prints) as node:
        call, source = partial(_enroll, node), open_source(archive)
        _run(source, folder, call, readers.prepare, threads=cores + 2, in_gallery=True)
    shutil.rmtree(folder)


def _run(
    items: Iterable[Item], folder: Path, call: EnrollCall, prepare: Prepare, *, threads: int, in_gallery: bool
) -> None:
    options = RunOptions(threads=threads)
    store = JournalStore.open(folder / "g", create=not in_gallery)
    journal = Journal(store, "archive", options=options.bearing, in_gallery=in_gallery)
    with ReceiptWriter(folder / "receipt", source="archive", target="g", begun=now()) as receipt:
        for line in run_archive(items, call, prepare=prepare, journal=journal, options=options):
            if line.result not in (Result.ENROLLED, Result.REJECTED):
                raise InvalidInput(f"{line.file}: {line.result} {line.reason}", remedy=line.message)
            receipt.add(line)
        receipt.end(now())
    store.close()


# ---- memory


def _memory(count: int, archive: Path, folder: Path, *, in_gallery: bool) -> Memory:
    """Enrol so many files in a process of its own."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_measure, count, archive, folder / f"{count}-{in_gallery}", in_gallery).result()


def _measure(count: int, archive: Path, folder: Path, in_gallery: bool) -> Memory:
    folder.mkdir()
    file = folder / "record"
    file.write_bytes(_record(archive))
    begun = time.perf_counter()
    with ExitStack() as stack:
        most = stack.enter_context(_watched_memory())
        readers = stack.enter_context(Readers(1))
        call, prepare = _answer, readers.check
        if in_gallery:
            node = stack.enter_context(Node(folder / "g", create=True, read=readers.read_prints))
            call, prepare = partial(_enroll, node), readers.prepare
        _run(_cheap(count, file), folder, call, prepare, threads=3, in_gallery=in_gallery)
    return Memory(count, in_gallery, time.perf_counter() - begun, most[0])


@contextmanager
def _watched_memory() -> Iterator[list[float]]:
    """Look twenty times a second at the anonymous memory of this process, and keep the most of it, MiB."""
    most, done = [0.0], Event()

    def watch() -> None:
        while not done.wait(0.05):
            lines = Path("/proc/self/status").read_text().splitlines()
            held = next(line for line in lines if line.startswith("RssAnon"))
            most[0] = max(most[0], int(held.split()[1]) / 1024)

    watching = Thread(target=watch, daemon=True)
    watching.start()
    try:
        yield most
    finally:
        done.set()
        watching.join()


def _record(archive: Path) -> bytes:
    """Return the template's record of a print: read in milliseconds."""
    image = read_image(min(archive.iterdir()).read_bytes())
    return encode(extract(image).template, NATIVE)


def _cheap(count: int, file: Path) -> Iterator[Item]:
    for number in range(count):
        yield Item(f"{number}", f"p{number}", "1", read=file.read_bytes, version="1", record=True)


def _answer(new: Enrollment, request_id: str) -> Outcome:
    """Stand for a node elsewhere, whose memory is its own."""
    prints = tuple(Assessment(i, p.finger, True, 70, (), 40) for i, p in enumerate(new.prints))
    return Enrolled(new.subject_id, request_id, prints)


def _enroll(node: Node, new: Enrollment, request_id: str) -> Outcome:
    repeat = translate.repeat(translate.to_enroll_request(new, request_id=request_id))
    return node.enroll(new, repeat=repeat)
