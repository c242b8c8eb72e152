"""A folder of images becomes encounters, and each of its files a line of the receipt.

How files are named says whose they are:

- `FINGER_IMPRESSION.ext` (the finger is all before the last underscore; without one, the whole stem): each
  finger is a subject of its own, each impression an encounter. In a sub-folder the subject is
  `sub/folder/FINGER`.
- In a sub-folder whose files are all named `POSITION_IMPRESSION.ext` with finger positions 1 to 10 (ISO/IEC
  19794-2), the folder is one person: the subject is `sub/folder`, and each impression number is an encounter
  of all its fingers.

Every file has its line, also one that is no image. What was enrolled before is recognised by its content
and name, so running again after an interruption enrols what is left.
"""

import hashlib
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from enroll.image import read_image
from matcher.errors import PapilarError
from matcher.template import Finger
from papilar.errors import NodeError, RequestInvalid, StorageError
from papilar.requests import Assessment, Duplicate, Enrolled, Enrollment, Outcome, PrintInput, Rejected

EnrollCall = Callable[[Enrollment, str], Outcome]
"""Enrols one encounter under a request_id, in this process or at a node."""

_NAMESPACE = uuid.UUID("a9c6d1f2-6f0a-5b53-9c0e-2f0f1c6a7d11")  # of the request ids of archives; ours


class Result(StrEnum):
    """What became of a file."""

    ENROLLED = "ENROLLED"
    ALREADY = "ALREADY"
    REJECTED = "REJECTED"
    DUPLICATE = "DUPLICATE"
    FAILED = "FAILED"
    NOT_TRIED = "NOT_TRIED"


@dataclass(frozen=True, slots=True)
class Line:
    """One file of the receipt.

    Attributes
    ----------
    file : str
        Relative to the archive.
    result : Result
    subject_id, encounter_id : str
        Empty where nothing was enrolled.
    quality : int or None
    minutiae : int or None
    reason : str
        Stable words, of a rejection or an error; empty for a good print.
    message : str
        What is wrong and what to do.
    """

    file: str
    result: Result
    subject_id: str = ""
    encounter_id: str = ""
    quality: int | None = None
    minutiae: int | None = None
    reason: str = ""
    message: str = ""


class Item(NamedTuple):
    """One file of an archive: whose print it is, of which finger, and of which encounter of theirs."""

    path: Path
    subject: str
    impression: str
    finger: Finger


class _Loaded(NamedTuple):
    item: Item
    data: bytes


def find_items(archive: Path) -> list[Item]:
    """Return every file of an archive, in the order of encounters.

    Parameters
    ----------
    archive : Path
        A folder; hidden files and folders are passed over.

    Raises
    ------
    RequestInvalid
        No folder, or none with a file in it.
    """
    if not archive.is_dir():
        raise RequestInvalid(f"{archive} is no folder", remedy="give the folder that holds the images")
    files = sorted(p for p in archive.rglob("*") if p.is_file() and not _hidden(p.relative_to(archive)))
    if not files:
        raise RequestInvalid(f"{archive} holds no file", remedy="give the folder that holds the images")
    items = [
        item
        for folder, group in groupby(files, lambda p: p.parent)
        for item in _name(archive, folder, [*group])
    ]
    return sorted(items, key=lambda item: (item.subject, item.impression, item.path))


def enroll_archive(
    archive: Path,
    call: EnrollCall,
    *,
    ppi: float | None = None,
    check_duplicates: bool = False,
    workers: int = 2,
    progress: Callable[[int], None] = lambda count: None,
) -> Iterator[Line]:
    """Enrol an archive, encounter by encounter; good files go in whatever else lies beside them.

    Parameters
    ----------
    archive : Path
    call : callable
    ppi : float, optional
        Resolution of every image, over what the files say.
    check_duplicates : bool
        Search for the same person under another name before each enrolment.
    workers : int
        Encounters worked on at a time.
    progress : callable
        Told how many files were finished, after each encounter.

    Yields
    ------
    Line
        One for each file, in the order of `find_items`. After a full disk or a lost node the rest is
        `NOT_TRIED`: run again when it is mended.

    Raises
    ------
    RequestInvalid
        See `find_items`.
    """
    encounters = [[*g] for _, g in groupby(find_items(archive), lambda item: (item.subject, item.impression))]
    broken = threading.Event()

    def work(items: Sequence[Item]) -> list[Line]:
        lines = {item.path: _line(archive, item, Result.NOT_TRIED, "STOPPED") for item in items}
        if not broken.is_set():
            try:
                lines.update(_enroll_encounter(archive, items, call, ppi=ppi, check=check_duplicates))
            except (StorageError, NodeError) as error:
                broken.set()
                lines = {item.path: _failed(archive, item, error, Result.NOT_TRIED) for item in items}
        progress(len(items))
        return [lines[item.path] for item in items]

    with ThreadPoolExecutor(workers, thread_name_prefix="enroll") as pool:
        for lines in pool.map(work, encounters):
            yield from lines


def _enroll_encounter(
    archive: Path, items: Sequence[Item], call: EnrollCall, *, ppi: float | None, check: bool
) -> Mapping[Path, Line]:
    lines: dict[Path, Line] = {}
    loaded = []
    for item in items:
        try:
            data = item.path.read_bytes()
            read_image(data, ppi=ppi)  # one bad file must not keep the others of its encounter out
            loaded.append(_Loaded(item, data))
        except PapilarError as error:
            lines[item.path] = _failed(archive, item, error)
        except OSError as error:
            message = f"the file cannot be read ({error.strerror})"
            lines[item.path] = _line(archive, item, Result.FAILED, "FILE_UNREADABLE", message)
    if loaded:
        lines.update(_call(archive, loaded, call, ppi=ppi, check=check))
    return lines


def _call(
    archive: Path, loaded: Sequence[_Loaded], call: EnrollCall, *, ppi: float | None, check: bool
) -> Mapping[Path, Line]:
    first = loaded[0].item
    new = Enrollment(
        tuple(PrintInput(one.item.finger, image=one.data, ppi=ppi) for one in loaded),
        subject_id=first.subject,
        check_duplicates=check,
    )
    try:
        outcome = call(new, _request_id(loaded, ppi))
    except (StorageError, NodeError):
        raise
    except PapilarError as error:
        return {one.item.path: _failed(archive, one.item, error) for one in loaded}
    return {one.item.path: _outcome(archive, one.item, i, outcome) for i, one in enumerate(loaded)}


def _outcome(archive: Path, item: Item, ordinal: int, outcome: Outcome) -> Line:
    match outcome:
        case Duplicate(candidates):
            message = f"like subject {candidates[0].subject}, log10 LR {candidates[0].score:.1f}"
            return _line(archive, item, Result.DUPLICATE, "DUPLICATE", message)
        case Rejected(prints):
            return _assessed(archive, item, prints[ordinal], Result.REJECTED, "", "")
        case Enrolled(subject, encounter, prints, repeated):
            done = Result.ALREADY if repeated else Result.ENROLLED
            return _assessed(archive, item, prints[ordinal], done, subject, encounter)


def _assessed(
    archive: Path, item: Item, one: Assessment, result: Result, subject: str, encounter: str
) -> Line:
    if not one.accepted:
        result, subject, encounter = Result.REJECTED, "", ""
    return Line(
        _relative(archive, item.path),
        result,
        subject,
        encounter,
        one.quality,
        one.minutiae,
        " ".join(code for code, _ in one.reasons),
        "; ".join(advice for _, advice in one.reasons),
    )


def _line(archive: Path, item: Item, result: Result, reason: str, message: str = "") -> Line:
    return Line(_relative(archive, item.path), result, reason=reason, message=message)


def _failed(archive: Path, item: Item, error: PapilarError, result: Result = Result.FAILED) -> Line:
    return _line(archive, item, result, error.reason, str(error))


def _request_id(loaded: Iterable[_Loaded], ppi: float | None) -> str:
    """Derive the id from what is enrolled, so that the same files are the same request on every run."""
    parts = [f"{ppi}"]
    for item, data in loaded:
        parts += [item.subject, item.impression, str(int(item.finger)), hashlib.sha256(data).hexdigest()]
    return str(uuid.uuid5(_NAMESPACE, "\n".join(parts)))


def _name(archive: Path, folder: Path, files: Sequence[Path]) -> Iterator[Item]:
    inner = _relative(archive, folder)
    one_person = folder != archive and all(_position(_split(f)[0]) for f in files)
    for file in files:
        finger, impression = _split(file)
        if one_person:
            yield Item(file, inner, impression, _position(finger) or Finger.UNKNOWN)
        else:
            subject = finger if folder == archive else f"{inner}/{finger}"
            yield Item(file, subject, impression, Finger.UNKNOWN)


def _split(file: Path) -> tuple[str, str]:
    finger, underscore, impression = file.stem.rpartition("_")
    return (finger, impression) if underscore and finger else (file.stem, "1")


def _position(text: str) -> Finger | None:
    return Finger(int(text)) if text.isascii() and text.isdigit() and 1 <= int(text) <= 10 else None


def _relative(archive: Path, path: Path) -> str:
    return path.relative_to(archive).as_posix()


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
