"""A node: one gallery, its store, its searcher, and the extraction that feeds them. Knows no network.

Order of a change: the store's transaction first, the gallery in memory after, under one lock; so what was
acknowledged is on the disk and findable, and what was deleted is neither.
"""

import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path

from enroll.gate import OPEN, QualityGate
from enroll.pipeline import EXTRACTOR, network
from matcher import search as matching
from matcher.calibration import shipped
from matcher.gallery import SEAL_AFTER
from matcher.search import LocalSearcher, Match
from matcher.segment import Place
from papilar.deduplication import Deduplication, check_whole
from papilar.directory import Directory
from papilar.errors import GalleryUnknown, RequestInvalid, SubjectUnknown
from papilar.mirror import mirrored_hit
from papilar.opening import Opening, follow, open_here
from papilar.originals import Originals, erase_waiting, kept_with
from papilar.prints import (
    Reading,
    ReadPrint,
    assessments_of,
    check_count,
    new_print,
    probe_of,
    read_prints,
    usable_of,
)
from papilar.reextraction import Parts, Reextraction, check_extractor, find_segments
from papilar.requests import (
    Deleted,
    Description,
    Duplicate,
    Enrolled,
    Enrollment,
    Found,
    Identification,
    Outcome,
    PartFailure,
    PrintInput,
    PrintMatch,
    Rejected,
    Repeat,
    Threshold,
    Verification,
)
from papilar.sequence import in_sequence
from papilar.store import (
    NewEncounter,
    Owner,
    Request,
    Store,
    StoredEncounter,
    Written,
    canonical_uuid,
)
from papilar.thresholds import check_fpir, threshold_fmr, threshold_fpir
from papilar.tidying import Tidying
from papilar.verification import Reference, brought_references, count_chances, explain, verdict

MATCHER_VERSION = "mcc-ridges-1"

DUPLICATE_FPIR = 1e-3
"""Rate of new persons taken for known ones that the search before an enrolment is set for."""


class Node:
    """Enrols into, searches and describes one gallery; `duplicates` finds who is in it twice, and merges.

    Parameters
    ----------
    folder : Path
        The gallery.
    store : str
        URL of the data base that holds the store; empty for SQLite in the folder.
    create : bool
        Make it where there is none.
    name : str
        Of the gallery; by default the folder's.
    keep_images : bool
        Keep each print's image (500 ppi, PNG) in the store, for examiners to see candidates.
    shortlist : int
        Prints compared in full for each print of a probe.
    read : callable
        Reads the prints of requests; by default in this process.
    gate : QualityGate
        What is asked of prints that are enrolled, and whether NFIQ 2 is kept with them.
    originals : callable, optional
        Gives the place where image files are kept as they come, for a gallery of this name.
    opening : callable
        Opens what is searched; by default in this process.

    Raises
    ------
    GalleryUnknown, GalleryLocked, GalleryTooNew, GalleryCorrupt, StorageFull, StorageUnavailable
    ConfigInvalid
        The URL is none, or its driver is not installed.
    """

    def __init__(
        self,
        folder: Path,
        *,
        store: str = "",
        create: bool = False,
        name: str = "",
        keep_images: bool = True,
        shortlist: int = matching.SHORTLIST,
        read: Reading = read_prints,
        gate: QualityGate = OPEN,
        originals: Callable[[str], Originals] | None = None,
        opening: Opening = open_here,
    ) -> None:
        facts = {"extractor": EXTRACTOR}
        self._opening = opening
        with ExitStack() as end:
            self._store = Store.open(store or folder, folder=folder, create=create, name=name, facts=facts)
            end.callback(self._store.close)
            self._hold = self._store.hold()
            created = f"{self._store.gallery.created:%Y%m%d%H%M%S%f}"
            self._segments = folder / (f"segments-{created}" if store else "segments")
            segments = find_segments(self._segments, self._store.gallery)
            self._gallery = end.enter_context(opening(segments, self._store))
            self._tidying = Tidying(self._gallery, seal_after=SEAL_AFTER)
            self._originals = originals(created) if originals else None
            follow(self._gallery, self._store, self._tidying.look)
            erase_waiting(self._originals, self._store.originals)
            self._end = end.pop_all()
        check_extractor(self._store.gallery)
        network()  # loaded now, so that the first call does not wait for it
        self._searcher = LocalSearcher(self._gallery, Directory(self._store), shortlist=shortlist)
        self._calibration = shipped()
        self._keep_images = keep_images
        self._read = read
        self._gate = gate
        self._changing = threading.Lock()
        self._closed = False
        self._tidying.start()
        self.duplicates = Deduplication(self._store, self._gallery, self._searcher, change=self._change)

    def close(self) -> None:
        """Finish searches, seal what is in memory, erase what was deleted, let go of the gallery.

        A second call does nothing: the gallery may be another node's by then.
        """
        self._searcher.close()
        with self._changing:
            if not self._closed:
                self._closed = True
                self._tidying.close()
                self._end.close()

    def __enter__(self) -> "Node":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # ---- enrolment

    def enroll(self, new: Enrollment, *, repeat: Repeat | None = None) -> Outcome:
        """Enrol one encounter: all or nothing.

        Raises
        ------
        RequestInvalid, ImageError, TemplateError
            A field or a print cannot be read; the message names its index.
        EncounterExists, RequestConflict, EncounterErased, StorageFull, StorageUnavailable
        """
        check_count(new.prints)
        if repeat is not None:
            repeat = repeat._replace(request_id=canonical_uuid(repeat.request_id, field="request_id"))
        done = self._done(repeat)
        if done is not None:
            return done
        prints = in_sequence(self._read(new.prints, keep_images=self._keep_images, gate=self._gate))
        usable = usable_of(prints)
        if not usable or (new.require_all and len(usable) < len(prints)):
            return Rejected(assessments_of(prints))
        if new.check_duplicates:
            known = self._duplicates(new.subject_id, usable)
            if known.candidates:
                # Whom the search found may be what the same request, sent twice at a time, has just enrolled.
                return self._done(repeat) or known
        return self._keep(new, prints, repeat)

    def delete(self, encounter_id: str, *, repeat: Repeat | None = None) -> Deleted:
        """Delete an encounter: at once from every search, and from the store.

        Raises
        ------
        EncounterUnknown, RequestConflict, StorageFull, StorageUnavailable
        """
        encounter_id = canonical_uuid(encounter_id, field="encounter_id")

        def answer(written: Written) -> bytes:
            return b"%d %d" % (len(written.rows), written.subject_changed)

        with self._change():
            written = self._store.delete(encounter_id, request=_request(repeat, answer))
            self._gallery.hide(written.rows)
        erase_waiting(self._originals, self._store.originals)
        if written.repeated:
            count, gone = (written.response or b"0 0").split()
            return Deleted(int(count), gone == b"1")
        return Deleted(len(written.rows), written.subject_changed)

    def reextraction(self, read: Reading, *, threads: int) -> Reextraction:
        """Return what extracts every print anew, with `read` in so many threads; the caller runs it."""
        parts = Parts(
            self._store, self._gallery, self._opening, self._originals, self._segments, self._change
        )
        return Reextraction(parts, read, threads=threads)

    def encounter(self, encounter_id: str, *, images: bool = False) -> StoredEncounter:
        """Return an encounter, with its images where asked for and kept.

        Raises
        ------
        RequestInvalid, EncounterUnknown
        """
        return self._store.encounter(canonical_uuid(encounter_id, field="encounter_id"), images=images)

    # ---- comparison and search

    def verify(
        self,
        probe: Sequence[PrintInput],
        *,
        references: Sequence[PrintInput] | None = None,
        subject_id: str = "",
        encounter_id: str = "",
        target_fmr: float = 1e-3,
        evidence: bool = False,
    ) -> Verification:
        """Compare a probe with prints of the request, with a subject, or with an encounter.

        Raises
        ------
        RequestInvalid, ImageError, TemplateError, SubjectUnknown, EncounterUnknown
        """
        check_count(probe)
        # A rate that is none is refused before any print is read.
        threshold_fmr(self._calibration, target_fmr)
        brought = []
        if references is not None:
            check_count(references)
            brought = self._read(references)
            groups = [brought_references(usable_of(brought))]
        else:
            groups = [self._references(found) for found in self._encounters(subject_id, encounter_id)]
        read = self._read(probe)
        usable = usable_of(read)
        threshold = threshold_fmr(self._calibration, target_fmr, chances=count_chances(usable, groups))
        met = verdict(usable, groups, self._calibration, evidence=evidence)
        assessed = assessments_of(read), assessments_of(brought)
        return Verification(met.score, threshold, met.matches, *assessed, met.band, met.mirrored)

    def identify(
        self,
        probe: Sequence[PrintInput],
        *,
        limit: int = 10,
        target_fpir: float | None = None,
        evidence: bool = False,
        mirrored: bool = True,
        deadline: float | None = None,
    ) -> Identification:
        """Search the gallery for the person whose prints these are.

        Parameters
        ----------
        mirrored : bool
            Where nothing above red is found, search once more with the mirror image, to be able to say so.
        deadline : float, optional
            `time.monotonic` instant; what was found until then is answered, incomplete.

        Raises
        ------
        RequestInvalid, ImageError, TemplateError
        DeadlinePassed
            Before the search could begin.
        """
        check_count(probe)
        check_fpir(target_fpir)
        started = time.monotonic()
        read = self._read(probe, deadline=deadline)
        extracted = time.monotonic()
        usable = usable_of(read)
        threshold = None if target_fpir is None else self._threshold(target_fpir, usable)
        if not usable:
            return _unsearched(read, threshold, timedelta(seconds=extracted - started))
        result = self._searcher.search(
            probe_of(usable),
            limit=limit,
            least=None if threshold is None else threshold.score,
            deadline=deadline,
        )
        hit = mirrored_hit(self._searcher, usable, result, self._calibration, deadline) if mirrored else None
        return Identification(
            self._found(result.candidates, usable, evidence=evidence),
            result.searched,
            result.compared,
            tuple(_failure(text) for text in result.failures),
            threshold,
            assessments_of(read),
            timedelta(seconds=extracted - started),
            timedelta(seconds=time.monotonic() - extracted),
            hit,
        )

    # ---- about the gallery

    @property
    def name(self) -> str:
        """Name of the gallery."""
        return self._store.gallery.name

    def check_name(self, name: str) -> None:
        """Raise `GalleryUnknown` unless `name` is empty or this gallery's."""
        if name not in ("", self.name):
            raise GalleryUnknown(
                f"this node has no gallery of the name that was asked for, it has '{self.name}'",
                remedy="leave the name empty, or ask the node that has it",
            )

    @property
    def calibration(self) -> str:
        """Which calibration turns scores into likelihood ratios."""
        return self._calibration.id

    def describe(self) -> Description:
        """Return what the gallery is and holds."""
        gallery, counts = self._store.gallery, self._store.counts()
        return Description(
            gallery.name,
            gallery.created.timestamp(),
            gallery.schema_version,
            gallery.facts,
            *counts,
            keeps_images=self._keep_images,
        )

    # ---- enrolment

    def _done(self, repeat: Repeat | None) -> Enrolled | None:
        """Return the first answer to a request that enrolled before."""
        kept = None if repeat is None else self._store.replay(*repeat)
        if kept is None:
            return None
        with self._change():  # what a call wrote whose end it did not see is findable from here on
            return Enrolled.load(kept)

    def _duplicates(self, subject_id: str, usable: Sequence[ReadPrint]) -> Duplicate:
        threshold = self._threshold(DUPLICATE_FPIR, usable)
        result = self._searcher.search(probe_of(usable), limit=10, least=threshold.score)
        others = matching.rank(
            (c for c in result.candidates if c.subject != subject_id), limit=10, least=None
        )
        if not others:
            check_whole(result)
        return Duplicate(self._found(others, usable, evidence=False), threshold)

    def _threshold(self, rate: float, usable: Sequence[ReadPrint]) -> Threshold:
        gallery = self._gallery.positions
        return threshold_fpir(self._calibration, rate, gallery=gallery, probe=probe_of(usable))

    def _keep(self, new: Enrollment, prints: Sequence[ReadPrint], repeat: Repeat | None) -> Enrolled:
        usable = usable_of(prints)
        given = [new.prints[one.assessment.ordinal] for one in usable]
        encounter = NewEncounter(
            new.subject_id or str(uuid.uuid4()),
            canonical_uuid(new.encounter_id, field="encounter_id") if new.encounter_id else str(uuid.uuid4()),
            tuple(new_print(p) for p in usable),
            new.missing,
            canonical_uuid(new.replaces, field="replaces_encounter_id") if new.replaces else None,
        )
        enrolled = Enrolled(encounter.subject_id, encounter.encounter_id, assessments_of(prints))
        with kept_with(encounter, given, self._originals, self._store.originals) as whole, self._change():
            self.duplicates.check_name(encounter.subject_id)
            written = self._store.enroll(whole, request=_request(repeat, lambda _: enrolled.dump()))
            if written.repeated and written.response is not None:
                return Enrolled.load(written.response)
            for row, one in zip(written.rows, usable, strict=True):
                self._gallery.add(row, one.prepared, Place(one.assessment.finger, written.rows[0]))
            self._tidying.look()
        return enrolled

    # ---- store and gallery

    @contextmanager
    def _change(self) -> Iterator[None]:
        """Hold the lock of changes. Where the store's connection was lost, read again what it has."""
        with self._changing:
            hold = self._store.hold()
            if hold != self._hold:
                follow(self._gallery, self._store, self._tidying.look)
                self._hold = hold
            yield

    # ---- answers

    def _found(
        self, candidates: Iterable[matching.Candidate], usable: Sequence[ReadPrint], *, evidence: bool
    ) -> tuple[Found, ...]:
        """Name the prints that met; a candidate that was deleted meanwhile is left out."""
        candidates = list(candidates)
        owners = self._store.owners(m.row for c in candidates for m in c.matches)
        alive = [c for c in candidates if any(m.row in owners for m in c.matches)]
        return tuple(
            Found(
                place,
                c.subject,
                c.encounter,
                c.score,
                self._matches(c.matches, owners, usable, evidence=evidence),
            )
            for place, c in enumerate(alive, 1)
        )

    def _matches(
        self,
        matches: Sequence[Match],
        owners: Mapping[int, Owner],
        usable: Sequence[ReadPrint],
        *,
        evidence: bool,
    ) -> tuple[PrintMatch, ...]:
        named = []
        for match in sorted(matches, key=lambda m: -m.score):
            owner, one = owners.get(match.row), usable[match.probe]
            reference = self._gallery.prepared(match.row)
            if owner is not None and reference is not None:
                why = explain(one.prepared, reference) if evidence else None
                mine, place = one.assessment, (owner.encounter_id, owner.ordinal, owner.finger)
                named.append(PrintMatch(mine.ordinal, *place, match.score, why, mine.finger))
        return tuple(named)

    # ---- references of a verification

    def _encounters(self, subject_id: str, encounter_id: str) -> Sequence[StoredEncounter]:
        if bool(subject_id) == bool(encounter_id):
            raise RequestInvalid("no reference", remedy="send prints, a subject_id or an encounter_id")
        if encounter_id:
            return (self.encounter(encounter_id),)
        found = self._store.encounters_of(subject_id)
        if not found:
            raise SubjectUnknown("there is no such subject", remedy="check the id; it may be deleted")
        return found

    def _references(self, encounter: StoredEncounter) -> list[Reference]:
        ready = ((p, self._gallery.prepared(p.row)) for p in encounter.prints)
        return [
            Reference(encounter.encounter_id, p.ordinal, p.finger, prepared)
            for p, prepared in ready
            if prepared is not None
        ]


def _request(repeat: Repeat | None, answer: Callable[[Written], bytes]) -> Request | None:
    if repeat is None:
        return None
    return Request(canonical_uuid(repeat.request_id, field="request_id"), repeat.digest, answer)


def _failure(text: str) -> PartFailure:
    """Return what a search says was not searched."""
    part, _, why = text.partition(": ")
    if part == "deadline":
        return PartFailure("gallery", "DEADLINE_PASSED", text)
    return PartFailure(part, "PART_LOST", why)


def _unsearched(
    read: Sequence[ReadPrint], threshold: Threshold | None, extraction: timedelta
) -> Identification:
    text = "no print of the probe is good enough to search with; see the advice"
    failure = PartFailure("probe", "PROBE_REJECTED", text)
    return Identification((), 0, 0, (failure,), threshold, assessments_of(read), extraction, timedelta())
