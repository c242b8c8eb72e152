"""A gallery looked through for duplicates while it serves; persons merged and parted again.

Each print is searched alone among the others, in the order of rows, and a cursor says how far that has come:
a run that was broken off goes on, and one that had come to its end takes only what was enrolled since. The
search is cheap and lets much pass; whom it brings near is compared print by print, and judged.
"""

import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from threading import Lock

import numpy as np

from matcher.calibration import shipped
from matcher.compare import score
from matcher.cylinders import Prepared
from matcher.gallery import Gallery
from matcher.search import ProbePrint, Searcher, SearchResult
from papilar.audit.entry import microseconds
from papilar.duplicates import (
    FALSE_PER_PRINT,
    Case,
    Decision,
    Finding,
    Held,
    Progress,
    State,
    Subject,
    check_decision,
    files_twice,
    judge,
    least_ratio,
)
from papilar.errors import CaseDecided, GalleryIncomplete, RequestInvalid, RunUnderWay, SubjectMerged
from papilar.requests import Repeat
from papilar.store import Owner, Request, Store, StoredPrint, canonical_uuid
from papilar.store.duplicates import DuplicateStore, Merge

NEAR_FPIR = 0.1
"""Rate of the searches that bring a stranger near. To compare all prints of two persons for one search in ten
costs little beside the search, and a person whose every finger matches poorly is still seen."""

MOST_NEAR = 20
"""Subjects that one print may bring near: more have the same print only where something went very wrong."""

_STRIDE = 32  # prints between two notes of how far a run is: a second or so of work to do again

Change = Callable[[], AbstractContextManager[None]]


class Deduplication:
    """Duplicates of one gallery. Part of a node, as `Node.duplicates`.

    Parameters
    ----------
    store : Store
    gallery : Gallery
    searcher : Searcher
        Over that gallery.
    change : callable
        Gives the context in which the store is changed.
    clock : callable
        The time, UTC.
    """

    def __init__(
        self,
        store: Store,
        gallery: Gallery,
        searcher: Searcher,
        *,
        change: Change,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._gallery = gallery
        self._searcher = searcher
        self._calibration = shipped()
        self._change = change
        self._clock = clock
        self._rows = DuplicateStore(store)
        self._running = Lock()

    # ---- finding

    def find(
        self, *, rate: float = FALSE_PER_PRINT, again: bool = False
    ) -> Generator[Case | Progress, None, None]:
        """Yield each pair of subjects that was not known, once it is in the queue; and how far the run is.

        The gallery serves meanwhile. Whoever stops to take goes on another time where this ended.

        Parameters
        ----------
        rate : float
            False-positive rate of the search for one print, in (0, 1); see `papilar.duplicates`.
        again : bool
            Begin at the first print. What was found before is not found again.

        Raises
        ------
        RequestInvalid
            The rate is none.
        RunUnderWay
        """
        if not 0.0 < rate < 1.0:
            raise RequestInvalid(f"a rate of {rate:g}", remedy="state one over 0 and under 1")
        if not self._running.acquire(blocking=False):
            raise RunUnderWay(
                "a search for duplicates runs already",
                remedy="wait for it; papilar dedup list shows its cases",
            )
        try:
            yield from self._find(rate, 0 if again else self._rows.cursor())
        finally:
            self._running.release()

    def cases(self, *, decided: bool = False, after: int = 0, most: int = 1_000) -> list[Case]:
        """Return cases by number: as `DuplicateStore.cases`."""
        return self._rows.cases(decided=decided, after=after, most=most)

    def owners(self, cases: Iterable[Case]) -> Mapping[int, Owner]:
        """Return whose the prints of these cases are; those that are gone are left out."""
        pairs = [pair for case in cases for pair in case.finding.pairs]
        return self._store.owners(row for pair in pairs for row in (pair.row, pair.other_row))

    # ---- deciding

    def call_distinct(self, number: int, *, by: str, note: str, repeat: Repeat | None = None) -> Case:
        """Decide that the two of a case are two persons; it is not found again.

        Parameters
        ----------
        number : int
        by : str
            Pseudonym of who decides.
        note : str
            Why, as a code.
        repeat : Repeat, optional

        Raises
        ------
        RequestInvalid, CaseUnknown, CaseDecided, RequestConflict, StorageFull, StorageUnavailable
        """
        decision = self._decision(by, note)
        with self._change():
            self._rows.call_distinct(number, decision, request=_request(repeat, ""))
        return self._rows.case(number)

    def merge_case(
        self, number: int, survivor: str, *, by: str, note: str, repeat: Repeat | None = None
    ) -> Case:
        """Decide that the two of a case are one person, who keeps the name `survivor`; as `merge`.

        Raises
        ------
        CaseUnknown
        CaseDecided
            They are merged.
        RequestInvalid
            Who is to keep the name is none of the two.
        """
        decision, merge_id = self._decision(by, note), str(uuid.uuid4())
        request = _request(repeat, merge_id)
        with self._change():
            if request is None or self._store.replay(request.request_id, request.digest) is None:
                absorbed = _absorbed(self._rows.case(number), survivor)
                self._rows.merge(Merge(merge_id, survivor, absorbed), decision, request=request)
        return self._rows.case(number)

    def merge(self, survivor: str, absorbed: str, *, by: str, note: str, repeat: Repeat | None = None) -> str:
        """Give all encounters of one subject to another, at once for every search; return the merge's UUID.

        The absorbed name is gone: nothing more is enrolled under it, until the merge is undone.

        Parameters
        ----------
        survivor, absorbed : str
        by, note, repeat
            As of `call_distinct`.

        Raises
        ------
        RequestInvalid
            A subject with itself.
        SubjectUnknown, RequestConflict, StorageFull, StorageUnavailable
        """
        decision, merge_id = self._decision(by, note), str(uuid.uuid4())
        with self._change():
            new = Merge(merge_id, survivor, absorbed)
            written = self._rows.merge(new, decision, request=_request(repeat, merge_id))
        return written.response.decode() if written.response else merge_id

    def unmerge(self, merge_id: str, *, by: str, note: str, repeat: Repeat | None = None) -> None:
        """Undo a merge: what it moved, and is still there, has its first name again.

        Raises
        ------
        RequestInvalid, CaseUnknown, RequestConflict, StorageFull, StorageUnavailable
        CaseDecided
            It was undone before, the survivor was merged since, or nothing is left to give back.
        """
        merge_id, decision = canonical_uuid(merge_id, field="merge_id"), self._decision(by, note)
        with self._change():
            self._rows.unmerge(merge_id, decision, request=_request(repeat, merge_id))

    def check_name(self, subject_id: str) -> None:
        """Refuse a name that was merged into another; raises `SubjectMerged`."""
        if self._rows.absorbed(subject_id):
            raise SubjectMerged(
                "the subject was merged into another",
                remedy="search for the person, and enrol under the name that is found; or undo the merge",
            )

    # ---- one print after the other

    def _find(self, rate: float, after: int) -> Iterator[Case | Progress]:
        prints, total = self._gallery.positions, len(self._gallery)
        rates = rate, max(rate, NEAR_FPIR)
        least, near = (least_ratio(prints, rate=one, calibration=self._calibration) for one in rates)
        done, last = int(np.searchsorted(self._gallery.rows, after, side="right")), after
        for one in self._store.templates(after):
            for finding in self._findings(one, least, near):
                case = self._rows.keep(finding, microseconds(self._clock()))
                if case is not None:
                    yield case
            done, last = done + 1, one.row
            if done % _STRIDE == 0:
                self._rows.move_cursor(last)
                yield Progress(done, max(done, total))
        self._rows.move_cursor(last)
        yield Progress(done, done)

    def _findings(self, one: StoredPrint, least: float, near: float) -> Iterator[Finding]:
        prepared, owner = self._gallery.prepared(one.row), self._store.owners([one.row]).get(one.row)
        if prepared is None or owner is None:
            return  # deleted meanwhile
        own = owner.subject_id
        result = self._searcher.search([ProbePrint(one.finger, prepared)], limit=MOST_NEAR + 1, least=near)
        check_whole(result)
        met = {candidate.subject for candidate in result.candidates} - {own}
        if one.source_sha256 is not None:
            met |= self._rows.owners_of_file(one.source_sha256, besides=one.row)
        for other in sorted(met):
            first, second = sorted((own, other))
            found = None if self._rows.known(first, second) else self._judge(first, second, least)
            if found is not None:
                yield found

    def _judge(self, first: str, second: str, least: float) -> Finding | None:
        if first == second:
            return files_twice(self._subject(first), compare=self._score)
        return judge(self._subject(first), self._subject(second), least=least, compare=self._score)

    def _subject(self, subject_id: str) -> Subject:
        stored = (one for encounter in self._store.encounters_of(subject_id) for one in encounter.prints)
        ready = ((one, self._gallery.prepared(one.row)) for one in stored)
        held = [Held(one.row, one.finger, made, one.source_sha256) for one, made in ready if made is not None]
        return Subject(subject_id, held)

    def _score(self, a: Prepared, b: Prepared) -> float:
        return score(a, b, calibration=self._calibration)

    def _decision(self, by: str, note: str) -> Decision:
        decision = Decision(by, self._clock(), note)
        check_decision(decision)
        return decision


def check_whole(result: SearchResult) -> None:
    """Refuse to take it that somebody is not in a gallery of which a part was not searched.

    Raises
    ------
    GalleryIncomplete
    """
    if not result.complete:
        raise GalleryIncomplete(
            f"a part of the gallery cannot be searched ({'; '.join(result.failures)})",
            remedy="repeat the call when the part is restored; a node restores it by itself",
        )


def _absorbed(case: Case, survivor: str) -> str:
    names = {case.finding.first, case.finding.second}
    if case.state is State.MERGED:
        raise CaseDecided("the two are merged", remedy="papilar dedup unmerge undoes it")
    if len(names) == 1 or survivor not in names:
        raise RequestInvalid(
            "the case is not of two subjects of whom this is one", remedy="name one of its two subjects"
        )
    (absorbed,) = names - {survivor}
    return absorbed


def _request(repeat: Repeat | None, response: str) -> Request | None:
    if repeat is None:
        return None
    request_id = canonical_uuid(repeat.request_id, field="request_id")
    return Request(request_id, repeat.digest, lambda _: response.encode())
