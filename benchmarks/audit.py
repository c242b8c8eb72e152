"""Speed of the tamper-evident log: append, proof, full verification and reports on a log of many entries.

`python -m benchmarks run audit --entries 1000000` fills a log in a folder of its own with made-up entries,
many in a transaction, and then times single appends, each durable when it returns.
"""

import os
import random
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from benchmarks.runner import dumps, environment, write_atomic
from papilar.audit.check import verify
from papilar.audit.entry import Act, Entry, Outcome, Sent, Side, subject_mark
from papilar.audit.log import AuditLog
from papilar.audit.report import report_for_authority, report_for_subject
from papilar.store.log import LogStore
from papilar.store.store import FILE_NAME

FILE = "audit.json"
"""Name of the figures in the results folder."""

_START = datetime(2026, 1, 1, tzinfo=UTC)
_KEY = bytes(32)  # of marks of subjects that nobody is
_BATCH = 5000  # entries a transaction while the log is filled

Track = Callable[[Iterable[Any], str, int], Iterable[Any]]


@dataclass(frozen=True, slots=True)
class Spread:
    """Times of single calls, milliseconds."""

    median: float
    p99: float
    most: float


@dataclass(frozen=True, slots=True)
class Figures:
    """What a run measured.

    Attributes
    ----------
    entries : int
        In the log when single calls were timed.
    bytes_an_entry : float
        Of the file, with tree and tables for reports.
    append, append_cpu, inclusion, consistency : Spread
        An append takes its thread's processor, and waits for the disk.
    flush : Spread
        Of the disk alone: 16 KiB written and flushed, between the appends.
    shared : float
        Milliseconds an entry, where 8 threads append at the same time.
    verification_seconds : float
        Of everything.
    findings : int
        Of that verification: none.
    authority_seconds, month_seconds, subject_seconds : float
        Reports: of the whole time, of 30 days, about one person.
    """

    entries: int
    bytes_an_entry: float
    append: Spread
    append_cpu: Spread
    inclusion: Spread
    consistency: Spread
    flush: Spread
    shared: float
    verification_seconds: float
    findings: int
    authority_seconds: float
    month_seconds: float
    subject_seconds: float


def run(out: Path, *, entries: int, calls: int = 1000, seed: int = 0, track: Track) -> Figures:
    """Fill a log, time it, and write the figures to a results folder.

    Parameters
    ----------
    out : Path
        Results folder; the log lies in it while the run lasts.
    entries : int
        Entries of the log.
    calls : int
        Single calls of each kind that are timed.
    seed : int
    track : callable
        Shows progress.

    Returns
    -------
    Figures
    """
    out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out) as folder:
        file = Path(folder) / FILE_NAME
        file.touch()
        store = LogStore.open(folder, create=True)
        figures = _measure(store, file, entries, calls, random.Random(seed), track)  # noqa: S311
        store.close()
    write_atomic(out / FILE, dumps({"figures": asdict(figures), "environment": environment()}))
    return figures


def _measure(
    store: LogStore, file: Path, entries: int, calls: int, rng: random.Random, track: Track
) -> Figures:
    log = AuditLog(store)
    batches = range(0, entries, _BATCH)
    for first in track(batches, "filling the log", len(batches)):
        log.append_all([_entry(i, rng) for i in range(first, min(first + _BATCH, entries))])
    store.clear_erased()  # what the write-ahead log holds is in the file then
    size = file.stat().st_size
    places = [rng.randrange(entries) for _ in range(calls)]
    new = [_entry(entries + i, rng) for i in range(calls)]
    until, mark = _START + timedelta(days=3650), subject_mark(_KEY, "7")
    month = _START + timedelta(minutes=entries // 2)
    appended = _append(log, new, file.with_name("flushed"))
    with ThreadPoolExecutor(8) as pool:
        shared = _seconds(lambda: list(pool.map(log.append, new)))
    started = time.perf_counter()
    found = verify(store)
    verified = time.perf_counter() - started
    return Figures(
        entries,
        size / entries,
        append=_spread(each.wall for each in appended),
        append_cpu=_spread(each.cpu for each in appended),
        flush=_spread(each.flush for each in appended),
        shared=1000 * shared / len(new),
        inclusion=_spread(_seconds(partial(log.inclusion_proof, each)) for each in places),
        consistency=_spread(_seconds(partial(log.consistency_proof, each)) for each in places),
        verification_seconds=verified,
        findings=sum(found.counts.values()),
        authority_seconds=_seconds(lambda: report_for_authority(store, _START, until)),
        month_seconds=_seconds(lambda: report_for_authority(store, month, month + timedelta(days=30))),
        subject_seconds=_seconds(lambda: report_for_subject(store, mark)),
    )


class _Append(NamedTuple):
    wall: float
    cpu: float
    flush: float


def _append(log: AuditLog, new: Iterable[Entry], beside: Path) -> list[_Append]:
    """Append one by one, and flush a file between, so that both see the same disk. Seconds."""
    times = []
    with beside.open("wb", buffering=0) as file:
        for each in new:
            file.write(bytes(16_384))
            flush, cpu = _seconds(partial(os.fsync, file.fileno())), time.thread_time()
            wall = _seconds(partial(log.append, each))
            times.append(_Append(wall, time.thread_time() - cpu, flush))
    return times


def _spread(seconds: Iterable[float]) -> Spread:
    median, p99, most = np.percentile(1000 * np.fromiter(seconds, float), (50, 99, 100))
    return Spread(float(median), float(p99), float(most))


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _entry(number: int, rng: random.Random) -> Entry:
    """Make up an entry: one a minute, of 50 officers, 5 countries and many cases."""
    asking, asked = rng.sample(("SLV", "HND", "GTM", "NIC", "CRI"), 2)
    return Entry(
        time=_START + timedelta(minutes=number),
        side=Side.ASKED,
        act=rng.choice((Act.CONSULTATION, Act.CONSULTATION, Act.DISCLOSURE, Act.REFUSAL)),
        outcome=rng.choice((Outcome.NO_HIT, Outcome.CANDIDATES, Outcome.REFUSED)),
        officer=f"{asking}:{rng.randrange(50)}",
        ordering_officer=f"{asking}:{rng.randrange(10)}",
        justification="identification of an arrested person who gives no name",
        request_id=f"{rng.getrandbits(128):032x}",
        search_type="TP_TP",
        asking=asking,
        asked=asked,
        purpose="CRIMINAL",
        legal_basis="Convention of 24 June 2024, article 5",
        offence_class="HOMICIDE",
        case_reference=f"C-{rng.randrange(20_000)}",
        policy_version="7",
        policy_hash=f"{7:064x}",
        sent=(Sent("PRINT", 10, f"{rng.getrandbits(256):064x}"),),
        recipients=(asking,),
        subjects=(subject_mark(_KEY, str(rng.randrange(100_000))),) if number % 2 else (),
    )
