"""The run: items of a source go through the workers into a gallery, and each has its line.

Straight through: encounters are drawn from the source one after the other (`_encounters`), a window of them
is at work on threads (`_Run.work`), lines come out in the order of the items. Whatever waits, waits bounded:
a slow gallery slows the source.

An encounter goes in by one request, whose id follows from what is in it, so that the same files are the same
request on every run. What an earlier run left over of an encounter goes in by itself; see
`papilar.archive.journal`.
"""

import hashlib
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

from matcher.errors import GalleryError, InvalidInput, PapilarError
from papilar.archive.encounters import MOST_HELD, Encounter, encounters_of
from papilar.archive.item import Item, Line, Result, line_of, nfiq2_of
from papilar.archive.journal import ERASED, PERSON_ERASED, SAME_CONTENT, Journal, Known
from papilar.archive.turns import Turns
from papilar.errors import (
    DeadlinePassed,
    EncounterErased,
    NodeError,
    RequestConflict,
    RequestInvalid,
    StorageError,
)
from papilar.prints import MOST_PRINTS
from papilar.requests import Assessment, Duplicate, Enrolled, Enrollment, Outcome, PrintInput, Rejected
from papilar.store import MissingFinger
from papilar.store.values import SUBJECT_ID_LENGTH

EnrollCall = Callable[[Enrollment, str], Outcome]
"""Enrols one encounter under a request_id, in this process or at a node."""

Prepare = Callable[[PrintInput], tuple[PrintInput, tuple[str, ...]]]
"""Reads one print, or as much of it as shows that it can be read: `Readers.prepare` or `Readers.check`."""

BREAKING = (StorageError, GalleryError, NodeError, DeadlinePassed)
"""After these no other encounter would fare better. A late answer may have been an enrolment: again, it is
`ALREADY`."""

_NAMESPACE = uuid.UUID("a9c6d1f2-6f0a-5b53-9c0e-2f0f1c6a7d11")  # of the request ids of archives; ours
_WAITING = 4  # encounters under way or waiting for their turn to be told, for each at work
_OUT = (Result.FAILED, Result.REJECTED)
_IN = (Result.ENROLLED, Result.ALREADY)
_LEFT_OUT = frozenset({Result.NOT_TRIED, Result.FAILED, Result.REJECTED})
_STOPPED = "the run was stopped, or something before it went wrong: mend that and run the same command again"


class Keep(Protocol):
    """Takes what did not go in: `papilar.archive.quarantine.Quarantine`."""

    def put(self, item: Item, line: Line, data: bytes) -> None:
        """Keep the bytes of an item beside its line."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a run goes.

    Attributes
    ----------
    ppi : float or None
        Resolution of every image, over what items and files say.
    check_duplicates : bool
        Search for the same person under another name before each enrolment.
    threads : int
        Encounters worked on at a time; more than workers, so that these never wait.
    quarantine : Keep or None
        Where what failed or was rejected goes.
    """

    ppi: float | None = None
    check_duplicates: bool = False
    threads: int = 4
    quarantine: Keep | None = None

    @property
    def bearing(self) -> str:
        """What of this bears on what becomes of an item, for the journal."""
        return f"ppi={self.ppi} check_duplicates={self.check_duplicates}"


class _Loaded(NamedTuple):
    item: Item
    data: bytes
    sha256: bytes
    given: PrintInput
    warnings: tuple[str, ...] = ()
    before: Known | None = None  # what an earlier run made of it


Lines = dict[str, Line]
_Waiting = tuple[Encounter, Future[list[Line]]]


def run_archive(
    items: Iterable[Item],
    call: EnrollCall,
    *,
    prepare: Prepare,
    journal: Journal,
    options: RunOptions = RunOptions(),
    stop: threading.Event | None = None,
) -> Iterator[Line]:
    """Enrol an archive, encounter by encounter; good files go in whatever else lies beside them.

    Parameters
    ----------
    items : iterable of Item
        Those of one encounter next to each other. Never more than a window of them is held.
    call : callable
    prepare : callable
    journal : Journal
        Of this source and these options (`RunOptions.bearing`).
    options : RunOptions
    stop : Event, optional
        Once it is set no encounter is begun; those under way are finished and the lines end.

    Yields
    ------
    Line
        One for each item, in their order. After a full disk or a lost node the rest is `NOT_TRIED`: run
        again when it is mended. Whoever leaves off drawing lines ends the run as `stop` does.

    Raises
    ------
    PapilarError
        Of the source itself, as `SourceUnreachable`, after the lines of what it gave; or of the journal.
    """
    run = _Run(call, prepare, journal, options, stop or threading.Event())
    trouble: PapilarError | None = None
    try:
        for encounter, lines in run.lines(encounters_of(items, journal)):
            try:
                journal.note(zip(encounter.items, lines, strict=True))
            except BREAKING as error:  # the lines are true nevertheless
                trouble = trouble or error
                run.break_off()
            yield from lines
        if trouble is not None:
            raise trouble
    finally:
        with suppress(*BREAKING):
            journal.flush()


class _Run:
    """A run under way."""

    def __init__(
        self, call: EnrollCall, prepare: Prepare, journal: Journal, options: RunOptions, stop: threading.Event
    ) -> None:
        self._call = call
        self._prepare = prepare
        self._journal = journal
        self._options = options
        self._stop = stop
        self._broken = threading.Event()
        self._turns = Turns()
        self._erased: set[str] = set()  # subjects of whom a file was erased, and nothing is left

    def lines(self, encounters: Iterator[Encounter]) -> Iterator[tuple[Encounter, list[Line]]]:
        """Yield the lines of each encounter, in their order."""
        waiting: deque[_Waiting] = deque()
        with ThreadPoolExecutor(self._options.threads, thread_name_prefix="enroll") as pool:
            try:
                for number, encounter in enumerate(self._until_stopped(encounters)):
                    waiting.append((encounter, pool.submit(self._work, number, encounter)))
                    while len(waiting) >= _WAITING * self._options.threads or _over(waiting):
                        yield _finished(waiting)
            except PapilarError as error:
                yield from _all_finished(waiting)  # what the source gave before it failed goes in
                raise error
            except GeneratorExit:
                self._stop.set()
                raise
            yield from _all_finished(waiting)

    def break_off(self) -> None:
        """Try no more encounters."""
        self._broken.set()

    def _until_stopped(self, encounters: Iterator[Encounter]) -> Iterator[Encounter]:
        while not self._stop.is_set() and (encounter := next(encounters, None)) is not None:
            yield encounter

    def _work(self, number: int, encounter: Encounter) -> list[Line]:
        lines = {item.name: line_of(item, Result.NOT_TRIED, "STOPPED", _STOPPED) for item in encounter.items}
        try:
            if not self._broken.is_set() and not self._stop.is_set():
                self._encounter(number, encounter, lines)
        except BREAKING as error:
            self._broken.set()
            for item in encounter.items:  # what failed is perhaps not noted, what was rejected not set aside
                if lines[item.name].result in _LEFT_OUT:
                    lines[item.name] = _failed(item, error, Result.NOT_TRIED)
        finally:
            self._turns.give_up(number)
        return [lines[item.name] for item in encounter.items]

    # ---- one encounter

    def _encounter(self, number: int, encounter: Encounter, lines: Lines) -> None:
        """Put what becomes of each item of an encounter into its lines."""
        loaded = [
            one
            for item in encounter.items
            if item.missing is None and (one := self._load(item, encounter.known.get(item.name), lines))
        ]
        with self._turns.turn(number):
            loaded = [one for each in loaded if (one := self._claim(each, encounter.known, lines))]
            if self._closed(encounter, loaded, lines):
                return
        before = {one.item.name: one.before for one in loaded if one.before is not None}
        tried = dict(encounter.known) | before
        apart = _apart(encounter.items, tried, lines)
        ready = [one for each in loaded if (one := self._prepared(each, lines))]
        failed = [item for item in encounter.items if lines[item.name].result is Result.FAILED]
        new = any(item.name not in tried for item in failed)
        ready = [one for one in ready if not (_doubtful(one, new) and self._is_in(one, lines))]
        if ready:  # those that failed are from now on not of the others' request
            self._journal.note_apart(
                (item, tried.get(item.name)) for item in failed if not apart or item.name not in tried
            )
        missing = [item for item in encounter.items if item.missing is not None]
        alone = [one for one in ready if apart and one.before is not None]
        together = [one for one in ready if not apart or one.before is None]
        requests = [together[i : i + MOST_PRINTS] for i in range(0, len(together), MOST_PRINTS)]
        for request in requests + [[one] for one in alone]:
            self._enroll(request, missing, lines)
        _settle_missing(missing, encounter.known, [one.item.name for one in ready], lines)
        if not self._closed(encounter, loaded, lines):
            self._set_aside(loaded, lines)

    def _closed(self, encounter: Encounter, loaded: Sequence[_Loaded], lines: Lines) -> bool:
        """Leave an encounter out of which something was deleted and nothing is in, or of whose person."""
        said, subject = lines.values(), encounter.items[0].subject
        deleted = any(line.reason == ERASED[0] for line in said)
        if any(line.result in _IN for line in said) or not (deleted or subject in self._erased):
            return False
        if not self._journal.is_there(subject):
            self._erased.add(subject)
        contents = {one.item.name: one.sha256.hex() for one in loaded}
        for item in encounter.items:
            content = contents.get(item.name) or lines[item.name].sha256
            reason, message = ERASED if deleted else PERSON_ERASED
            lines[item.name] = line_of(item, Result.FAILED, reason, message, sha256=content)
        return True

    def _load(self, item: Item, known: Known | None, lines: Lines) -> _Loaded | None:
        """Read an item, unless the journal has its line or it cannot be read."""
        if known is not None and known.same:
            lines[item.name] = known.line
            return None
        try:
            _check_subject(item.subject)
            if item.fault is not None:
                raise item.fault
            data = item.read()
        except BREAKING:
            raise
        except PapilarError as error:
            lines[item.name] = _failed(item, error)
        except OSError as error:
            message = f"the file cannot be read ({error.strerror}); see to its permissions and to the disk"
            lines[item.name] = line_of(item, Result.FAILED, "FILE_UNREADABLE", message)
        else:
            ppi = self._options.ppi or item.ppi
            image, record = (None, data) if item.record else (data, None)
            given = PrintInput(item.finger, item.kind, image, None if item.record else ppi, record)
            return _Loaded(item, data, hashlib.sha256(data).digest(), given)
        return None

    def _claim(self, one: _Loaded, known: Mapping[str, Known], lines: Lines) -> _Loaded | None:
        """Leave out what is in by this content already, under this name or another of the person."""
        item, content = one.item, one.sha256.hex()
        claim = self._journal.claim(item, one.sha256)
        if claim.erased:
            lines[item.name] = _told(one, Result.FAILED, *ERASED)
            return None
        befores = [one for one in (known.get(item.name), claim.known) if one is not None]
        for before in befores:
            if before.settled and before.line.sha256 == content:
                lines[item.name] = before.line
                return None
        if claim.known is None and claim.copy_of:
            message = f"the same bytes as {claim.copy_of}, of the same person; that file stands for both"
            lines[item.name] = line_of(item, Result.COPY, SAME_CONTENT, message, sha256=content)
            return None
        notes = (f"{SAME_CONTENT}: another person has a file of the same bytes",) if claim.elsewhere else ()
        return one._replace(warnings=notes, before=next(iter(befores), None))

    def _prepared(self, one: _Loaded, lines: Lines) -> _Loaded | None:
        try:
            given, warnings = self._prepare(one.given)
        except InvalidInput as error:  # one bad file must not keep the others of its encounter out
            line = _failed(one.item, error)
            lines[one.item.name] = replace(line, sha256=one.sha256.hex(), warnings=one.warnings)
            return None
        return one._replace(given=given, warnings=warnings + one.warnings)

    def _is_in(self, one: _Loaded, lines: Lines) -> bool:
        """See whether a run that was killed has enrolled a print, beside others that now fail."""
        line = self._journal.enrolled(one.item, one.sha256)
        if line is not None:
            lines[one.item.name] = replace(line, warnings=one.warnings)
        return line is not None

    def _enroll(self, loaded: Sequence[_Loaded], missing: Sequence[Item], lines: Lines) -> None:
        """Enrol prints by one request; where that cannot be read as a whole, each by its own."""
        printed = {one.item.finger for one in loaded}
        absent = {one.finger: one.missing for one in missing if one.missing and one.finger not in printed}
        new = Enrollment(
            tuple(one.given for one in loaded),
            subject_id=loaded[0].item.subject,
            missing=tuple(MissingFinger(*each) for each in absent.items()),
            check_duplicates=self._options.check_duplicates,
        )
        try:
            outcome = self._call(new, request_id(loaded, self._options.ppi))
        except BREAKING:
            raise
        except RequestConflict:  # the id is of the prints alone: they are there, enrolled with other options
            lines |= {one.item.name: _told(one, Result.ALREADY, subject_id=new.subject_id) for one in loaded}
        except EncounterErased:
            lines |= {one.item.name: _told(one, Result.FAILED, *ERASED) for one in loaded}
        except InvalidInput as error:
            if len(loaded) == 1:
                lines[loaded[0].item.name] = _refused(loaded[0], error)
                return
            self._journal.note_apart((one.item, one.before) for one in loaded)
            for one in loaded:
                self._enroll([one], missing, lines)
        except PapilarError as error:
            lines |= {one.item.name: _refused(one, error) for one in loaded}
        else:
            lines |= {one.item.name: _outcome(one, i, outcome) for i, one in enumerate(loaded)}

    def _set_aside(self, loaded: Sequence[_Loaded], lines: Lines) -> None:
        """Put into the quarantine what belongs there; what it has no room for was not tried."""
        if self._options.quarantine is None:
            return
        told = [(one, lines[one.item.name]) for one in loaded]
        left = [(one, line) for one, line in told if line.result in _OUT and line.reason != ERASED[0]]
        lines |= {one.item.name: line_of(one.item, Result.NOT_TRIED) for one, _ in left}
        for one, line in left:
            self._options.quarantine.put(one.item, line, one.data)
            lines[one.item.name] = line


def _over(waiting: Iterable[_Waiting]) -> bool:
    """Tell whether what is under way holds more than it may."""
    return sum(encounter.held for encounter, _ in waiting) > MOST_HELD


def _finished(waiting: deque[_Waiting]) -> tuple[Encounter, list[Line]]:
    encounter, future = waiting.popleft()
    return encounter, future.result()


def _all_finished(waiting: deque[_Waiting]) -> Iterator[tuple[Encounter, list[Line]]]:
    while waiting:
        yield _finished(waiting)


def _check_subject(subject: str) -> None:
    if not subject.isprintable():
        raise RequestInvalid("the name has characters that cannot be printed", remedy="rename the file")
    if len(subject) > SUBJECT_ID_LENGTH:
        raise RequestInvalid(
            f"the path names a subject by more than {SUBJECT_ID_LENGTH} characters", remedy="rename the file"
        )


def _apart(items: Sequence[Item], tried: Mapping[str, Known], lines: Lines) -> bool:
    """Tell whether prints of an encounter that were tried before go in one by one.

    They do where others of the encounter are in, or may be: by a request that was made without them.
    """
    befores = [tried.get(item.name) for item in items if item.missing is None]
    unsure = any(before is None or before.apart for before in befores)
    return unsure or any(line.result in _IN for line in lines.values())


def _doubtful(one: _Loaded, new: bool) -> bool:
    """Tell whether a run that was killed may have enrolled a print by another request than is made now.

    So it may where others fail that did not before (`new`), and where this one did, unread.
    """
    before = one.before
    return new if before is None else not (before.apart or before.line.sha256)


def _settle_missing(
    missing: Sequence[Item], known: Mapping[str, Known], sent: Sequence[str], lines: Lines
) -> None:
    """Say of each missing finger with which encounter, of those that were sent, it was noted."""
    noted = next((lines[name] for name in sent if lines[name].encounter_id), None)
    for item in missing:
        before = known.get(item.name)
        if before is not None and before.same:
            lines[item.name] = before.line
        elif noted is None:
            message = "no print of the encounter went in with which it could be noted"
            lines[item.name] = line_of(item, Result.FAILED, "NO_PRINT", message)
        else:
            where = {"subject_id": noted.subject_id, "encounter_id": noted.encounter_id}
            lines[item.name] = line_of(item, Result.MISSING, str(item.missing), **where)


def _outcome(one: _Loaded, ordinal: int, outcome: Outcome) -> Line:
    match outcome:
        case Duplicate(candidates):
            message = f"like subject {candidates[0].subject}, log10 LR {candidates[0].score:.1f}"
            return _told(one, Result.DUPLICATE, "DUPLICATE", message)
        case Rejected(prints):
            return _assessed(one, prints[ordinal], Result.REJECTED, "", "")
        case Enrolled(subject, encounter, prints, repeated):
            done = Result.ALREADY if repeated else Result.ENROLLED
            return _assessed(one, prints[ordinal], done, subject, encounter)


def _assessed(one: _Loaded, found: Assessment, result: Result, subject: str, encounter: str) -> Line:
    if not found.accepted:
        result, subject, encounter = Result.REJECTED, "", ""
    return _told(
        one,
        result,
        " ".join(code for code, _ in found.reasons),
        "; ".join(advice for _, advice in found.reasons),
        subject_id=subject,
        encounter_id=encounter,
        quality=found.quality,
        minutiae=found.minutiae,
        **nfiq2_of(one.item, found.nfiq2, found.nfiq2_reason if found.nfiq2 is None else found.nfiq2_version),
    )


def _told(one: _Loaded, result: Result, reason: str = "", message: str = "", **more: object) -> Line:
    return line_of(one.item, result, reason, message, warnings=one.warnings, sha256=one.sha256.hex(), **more)


def _refused(one: _Loaded, error: PapilarError) -> Line:
    return replace(_failed(one.item, error), sha256=one.sha256.hex(), warnings=one.warnings)


def _failed(item: Item, error: PapilarError, result: Result = Result.FAILED) -> Line:
    return line_of(item, result, error.reason, str(error).removeprefix("print 0: "))


def request_id(loaded: Iterable[_Loaded], ppi: float | None) -> str:
    """Derive the id from what is enrolled, so that the same files are the same request on every run."""
    parts = [f"{ppi}"]
    for one in loaded:
        item = one.item
        parts += [item.subject, item.impression, str(int(item.finger)), one.sha256.hex()]
    # A name may hold bytes that are no UTF-8; `backslashreplace` gives those a text of their own.
    return str(uuid.uuid5(_NAMESPACE, "\n".join(parts).encode(errors="backslashreplace").decode()))
