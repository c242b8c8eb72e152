"""A gallery's prints extracted anew, by the extractor of this program, while searches go on.

1. Every print is extracted again from its original, or from its image where that alone was kept. The
   templates are kept in the store beside those in force, so that a run that was stopped goes on where it was.
2. Segments are built of them in a folder beside the present one.
3. Under the lock of changes, what was enrolled and deleted meanwhile is made good, and one transaction of the
   store says that the new generation is in force. The gallery takes over the new segments.
4. The templates are moved into the prints, some at a time; until then readers find them where they are.

Killed before the transaction, the old generation is whole; after it, the new one, its segments there already.
A print that cannot be extracted keeps its old template and is reported.
"""

import logging
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from enroll.pipeline import EXTRACTOR
from matcher.codecs import NATIVE, decode, encode
from matcher.cylinders import Prepared, prepare
from matcher.errors import InvalidInput, PapilarError
from matcher.gallery import SEAL_AFTER, Gallery
from papilar.errors import OriginalCorrupt, OriginalMissing
from papilar.opening import Opening
from papilar.originals import Originals
from papilar.prints import Reading
from papilar.requests import PrintInput
from papilar.store import GalleryFacts, Store, StoredPrint
from papilar.store.anew import Anew, Source

NO_ORIGINAL = "NO_ORIGINAL"
"""Why a print was not extracted: neither its original nor its image was kept."""

TOO_POOR = "TOO_POOR"
"""Why a print was not extracted: this extractor would not enrol it."""

_NEARLY = 100  # rows that may be missing when the lock of changes is taken
_BATCH = 8  # prints of each thread between two transactions
_SETTLED = 256  # prints moved in one transaction

_log = logging.getLogger(__name__)


class State(StrEnum):
    """Where a re-extraction is."""

    NONE = "NONE"
    EXTRACTING = "EXTRACTING"
    BUILDING = "BUILDING"
    SETTLING = "SETTLING"
    DONE = "DONE"
    STOPPED = "STOPPED"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class Report:
    """How far a re-extraction is.

    Attributes
    ----------
    state : State
    extractor : str
        Its version.
    prints : int
        There were when it began.
    done : int
        Of them, extracted.
    failed : mapping of str to int
        By reason; these keep their templates.
    error : str
        Reason of the error that ended it, as `STORAGE_FULL`.
    """

    state: State = State.NONE
    extractor: str = EXTRACTOR
    prints: int = 0
    done: int = 0
    failed: Mapping[str, int] = field(default_factory=dict)
    error: str = ""


class Parts(NamedTuple):
    """What a node lends to a re-extraction.

    Attributes
    ----------
    store : Store
    gallery : Gallery
        That searches use.
    opening : callable
        Opened that.
    originals : Originals or None
    segments : Path
        Folder of the segments of generation 0.
    change : callable
        Takes the lock of changes.
    """

    store: Store
    gallery: Gallery
    opening: Opening
    originals: Originals | None
    segments: Path
    change: Callable[[], AbstractContextManager[None]]


def segments_of(first: Path, generation: int) -> Path:
    """Return the folder of the segments of a generation, from that of generation 0."""
    return first if generation == 0 else first.with_name(f"{first.name}.{generation}")


def find_segments(first: Path, gallery: GalleryFacts) -> Path:
    """Return the folder of the segments in force, and delete those of other generations."""
    kept = segments_of(first, gallery.generation)
    for folder in [first, *first.parent.glob(f"{first.name}.*")]:
        if folder != kept:
            shutil.rmtree(folder, ignore_errors=True)
    return kept


def check_extractor(gallery: GalleryFacts) -> None:
    """Log a warning where a gallery's templates are of another extractor than this program's."""
    made_with = gallery.facts.get("extractor")
    if made_with != EXTRACTOR:
        _log.warning(
            "the gallery's templates are of extractor %s, probes will be of %s: they compare less well; see"
            " 'papilar reextract'",
            made_with,
            EXTRACTOR,
        )


class Reextraction:
    """One re-extraction of one gallery; `run` it once.

    Parameters
    ----------
    parts : Parts
    read : callable
        Reads prints, as `papilar.prints.read_prints`; called from several threads.
    threads : int
        How many prints are read at a time.
    """

    def __init__(self, parts: Parts, read: Reading, *, threads: int) -> None:
        self._parts = parts
        self._read = read
        self._threads = threads
        self._stop = threading.Event()
        self.report = Report(State.EXTRACTING)

    def stop(self) -> None:
        """Let `run` end soon; what was extracted is kept."""
        self._stop.set()

    def run(self) -> Report:
        """Extract, build, switch.

        Where not one print could be extracted the gallery stays as it is.

        Raises
        ------
        OriginalKeyUnknown, StorageFull, StorageUnavailable, NodeError, OSError
            Nothing has changed for searches; what was extracted is kept for the next run.
        """
        self._settle()
        generation = self._parts.store.anew.begin(EXTRACTOR)
        self._extract_all(generation)
        if not self._stop.is_set() and self.report.done:
            self._say(State.BUILDING)
            if self._switch(generation):
                self._say(State.SETTLING)
                self._settle()
        self._say(State.STOPPED if self._stop.is_set() else State.DONE)
        return self.report

    def _say(self, state: State) -> None:
        self.report = replace(self.report, state=state)

    def _count(self, made: Sequence[Anew]) -> None:
        failed = Counter(one.reason for one in made if one.reason) + Counter(self.report.failed)
        done = self.report.done + sum(not one.reason for one in made)
        self.report = replace(self.report, done=done, failed=dict(sorted(failed.items())))

    # ---- 1. extract

    def _extract_all(self, generation: int) -> None:
        store = self._parts.store
        rows = store.live_rows()
        last = int(rows[-1]) if len(rows) else 0  # what comes later is of this extractor already
        self.report = Report(State.EXTRACTING, prints=len(rows), done=store.anew.count())
        after, most = 0, self._threads * _BATCH
        with ThreadPoolExecutor(self._threads, "reextract") as pool:
            while not self._stop.is_set():
                sources = store.anew.sources(after, last, most)
                if not sources:
                    return
                made = [one for one in pool.map(self._extract, sources) if one is not None]
                store.anew.write(generation, EXTRACTOR, made)
                self._count(made)
                after = sources[-1].row

    def _extract(self, source: Source) -> Anew | None:
        if self._stop.is_set():
            return None
        try:
            given = self._input(source)
            if given is None:
                return Anew(source.row, NO_ORIGINAL)
            found = self._read([given])[0]
        except (InvalidInput, OriginalMissing, OriginalCorrupt) as error:
            return Anew(source.row, error.reason)
        if not found.assessment.accepted:
            return Anew(source.row, TOO_POOR)
        template = encode(found.template, NATIVE)
        return Anew(source.row, "", found.assessment.quality, len(found.template), template)

    def _input(self, source: Source) -> PrintInput | None:
        originals = self._parts.originals
        if source.original is not None and originals is not None:
            data, ppi = originals.get(source.original), source.ppi
        elif source.png is not None:
            data, ppi = source.png, None
        else:
            return None
        return PrintInput(source.finger, source.impression, image=data, ppi=ppi)

    # ---- 2. and 3. build and switch

    def _switch(self, generation: int) -> bool:
        """Build the segments beside the old, and bring them in force; False where it was stopped before."""
        parts, old = self._parts, segments_of(self._parts.segments, generation - 1)
        folder = segments_of(parts.segments, generation)
        shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
        with parts.opening(folder, parts.store, generation) as fresh:
            while self._catch_up(fresh, generation) > _NEARLY and not self._stop.is_set():
                pass
            fresh.compact()
            fresh.seal()
            with parts.change():
                self._catch_up(fresh, generation)
                if self._stop.is_set():
                    return False
                parts.store.renew(EXTRACTOR)
                parts.gallery.adopt(fresh)
        shutil.rmtree(old, ignore_errors=True)  # searches under way have its files open
        return True

    def _catch_up(self, fresh: Gallery, generation: int) -> int:
        """Hide what is no more, add what is lacking, and return how much that was; end early at a stop."""
        alive, held = self._parts.gallery.rows, fresh.rows
        fresh.hide(np.setdiff1d(held, alive, assume_unique=True).tolist())
        missing = set(np.setdiff1d(alive, held, assume_unique=True).tolist())
        first = min(missing, default=0)
        found = self._parts.store.templates(first - 1, generation=generation) if missing else iter(())
        wanted = (stored for stored in found if stored.row in missing)
        with ThreadPoolExecutor(self._threads, "prepare") as pool:
            while some := list(islice(wanted, 0 if self._stop.is_set() else self._threads * _BATCH)):
                for stored, prepared in zip(some, pool.map(_prepared, some), strict=True):
                    fresh.add(stored.row, prepared, stored.place)
                if fresh.live_rows >= SEAL_AFTER:
                    fresh.seal()
        return len(missing)

    # ---- 4. settle

    def _settle(self) -> None:
        """Move what is in force into the prints; the next run does the rest of one that was stopped."""
        row = 0
        while not self._stop.is_set() and (row := self._parts.store.anew.settle(row, _SETTLED)):
            pass


def _prepared(stored: StoredPrint) -> Prepared:
    return prepare(decode(stored.template)[0])


class Job:
    """Re-extractions of a running node, one at a time, in a thread of its own.

    Parameters
    ----------
    make : callable
        Makes a re-extraction, within a context that has what it needs, with so many threads.
    """

    def __init__(self, make: Callable[[int], AbstractContextManager[Reextraction]]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._current: Reextraction | None = None
        self._report = Report()
        self._closed = False

    def start(self, threads: int) -> Report:
        """Begin, unless one is under way; return how far it is."""
        with self._lock:
            if not self._closed and (self._thread is None or not self._thread.is_alive()):
                self._report = Report(State.EXTRACTING)
                self._thread = threading.Thread(target=self._run, args=(threads,), name="reextract")
                self._thread.start()
        return self.report

    @property
    def report(self) -> Report:
        """How far the latest one is."""
        current = self._current
        return self._report if current is None else current.report

    def close(self) -> None:
        """Stop the one under way, and wait for it."""
        with self._lock:
            self._closed = True
            thread = self._thread
        if self._current is not None:
            self._current.stop()
        if thread is not None:
            thread.join()

    def _run(self, threads: int) -> None:
        try:
            with self._make(threads) as run:
                self._current = run
                if self._closed:
                    run.stop()
                self._report = run.run()
        except (PapilarError, OSError) as error:
            reason = error.reason if isinstance(error, PapilarError) else "STORAGE_FAILED"
            _log.warning("the re-extraction ended (%s); searches go on as before", reason)
            self._report = replace(self.report, state=State.FAILED, error=reason)
        finally:
            self._current = None
