"""A folder of images becomes encounters, and each of its files a line of the receipt.

How files are named says whose they are:

- `FINGER_IMPRESSION.ext` (the finger is all before the last underscore; without one, the whole stem): each
  finger is a subject of its own, each impression an encounter. In a sub-folder the subject is
  `sub/folder/FINGER`.
- In a sub-folder whose files are all named `POSITION_IMPRESSION.ext` with finger positions 1 to 10 (ISO/IEC
  19794-2), the folder is one person: the subject is `sub/folder`, and each impression number is an encounter
  of all its fingers.

  What is no image by its extension has no say in this, and is no print of the person.

Every file has its line, also one that is no image, and a link to a folder, which is not followed; hidden
files are passed over, and so is the gallery where it lies in the archive. What was enrolled before is
recognised by its content and name, so running again after an interruption enrols what is left.
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

from enroll.errors import ImageFormatUnknown
from enroll.image import read_image
from matcher.errors import GalleryError, PapilarError
from matcher.template import Finger
from papilar.errors import (
    DeadlinePassed,
    EncounterErased,
    NodeError,
    RequestConflict,
    RequestInvalid,
    StorageError,
)
from papilar.requests import Assessment, Duplicate, Enrolled, Enrollment, Outcome, PrintInput, Rejected
from papilar.store.values import SUBJECT_ID_LENGTH

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
    warnings : tuple of str
        What to know of how a good file was read.
    """

    file: str
    result: Result
    subject_id: str = ""
    encounter_id: str = ""
    quality: int | None = None
    minutiae: int | None = None
    reason: str = ""
    message: str = ""
    warnings: tuple[str, ...] = ()


class Item(NamedTuple):
    """One file of an archive: whose print it is, of which finger, and of which encounter of theirs.

    `file` is its path within the archive.
    """

    path: Path
    file: str
    subject: str
    impression: str
    finger: Finger


class _Loaded(NamedTuple):
    item: Item
    data: bytes
    warnings: tuple[str, ...]


def find_items(archive: Path, *, gallery: Path | None = None) -> list[Item]:
    """Return every file of an archive, in the order of encounters.

    Parameters
    ----------
    archive : Path
        A folder; hidden files and folders are passed over.
    gallery : Path, optional
        Passed over where it lies in the archive.

    Raises
    ------
    RequestInvalid
        No folder, one that cannot be read or that holds no file, or the gallery itself.
    """
    remedy = "give the folder that holds the images"
    if not archive.is_dir():
        raise RequestInvalid(f"{archive} is no folder", remedy=remedy)
    if gallery is not None and gallery.resolve() == archive.resolve():
        raise RequestInvalid(
            f"{archive} is archive and gallery at once", remedy="give the gallery its own folder"
        )
    files = list(_walk(archive, None if gallery is None else gallery.resolve()))
    if not files:
        raise RequestInvalid(f"{archive} holds no file", remedy=remedy)
    items = [
        item
        for folder, group in groupby(files, lambda p: p.parent)
        for item in _name(archive, folder, [*group])
    ]
    return sorted(items, key=lambda item: (item.subject, item.impression, item.path))


def _walk(folder: Path, gallery: Path | None) -> Iterator[Path]:
    """Yield what lies in a folder and is none, then what lies in its sub-folders."""
    try:
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
        inner = [entry for entry in entries if entry.is_dir() and not entry.is_symlink()]
    except OSError as error:
        raise RequestInvalid(
            f"the folder {folder} cannot be read ({error.strerror})", remedy="see to its permissions"
        ) from error
    yield from (entry for entry in entries if entry not in inner)
    for one in inner:
        if one.resolve() != gallery:
            yield from _walk(one, gallery)


def enroll_archive(
    items: Sequence[Item],
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
    items : sequence of Item
        As `find_items` returns them.
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
        One for each item, in their order. After a full disk or a lost node the rest is `NOT_TRIED`: run
        again when it is mended.
    """
    encounters = [[*g] for _, g in groupby(items, lambda item: (item.subject, item.impression))]
    broken = threading.Event()

    def work(some: Sequence[Item]) -> list[Line]:
        lines = {item: _line(item, Result.NOT_TRIED, "STOPPED", _STOPPED) for item in some}
        if not broken.is_set():
            try:
                lines.update(_enroll_encounter(some, call, ppi=ppi, check=check_duplicates))
            except _BREAKING as error:
                broken.set()
                lines = {item: _failed(item, error, Result.NOT_TRIED) for item in some}
        progress(len(some))
        return [lines[item] for item in some]

    with ThreadPoolExecutor(workers, thread_name_prefix="enroll") as pool:
        for lines in pool.map(work, encounters):
            yield from lines


_BREAKING = (StorageError, GalleryError, NodeError, DeadlinePassed)
"""After these no other encounter would fare better. A late answer may have been an enrolment: again, it is
`ALREADY`."""

_STOPPED = "left out after what went wrong before; mend that and run the same command again"


def _enroll_encounter(
    items: Sequence[Item], call: EnrollCall, *, ppi: float | None, check: bool
) -> Mapping[Item, Line]:
    lines: dict[Item, Line] = {}
    loaded = []
    for item in items:
        try:
            loaded.append(_load(item, ppi))  # one bad file must not keep the others of its encounter out
        except PapilarError as error:
            lines[item] = _failed(item, error)
        except OSError as error:
            message = f"the file cannot be read ({error.strerror})"
            lines[item] = _line(item, Result.FAILED, "FILE_UNREADABLE", message)
    if loaded:
        lines.update(_call(loaded, call, ppi=ppi, check=check))
    return lines


def _load(item: Item, ppi: float | None) -> _Loaded:
    if not item.subject.isprintable():
        raise RequestInvalid("the name has characters that cannot be printed", remedy="rename the file")
    if len(item.subject) > SUBJECT_ID_LENGTH:
        raise RequestInvalid(
            f"the path names a subject by more than {SUBJECT_ID_LENGTH} characters", remedy="rename the file"
        )
    if item.path.exists() and not item.path.is_file():
        raise ImageFormatUnknown("this is no file", remedy="put the images themselves into the archive")
    data = item.path.read_bytes()
    return _Loaded(item, data, read_image(data, ppi=ppi).warnings)


def _call(
    loaded: Sequence[_Loaded], call: EnrollCall, *, ppi: float | None, check: bool
) -> Mapping[Item, Line]:
    items = [one.item for one in loaded]
    new = Enrollment(
        tuple(PrintInput(one.item.finger, image=one.data, ppi=ppi) for one in loaded),
        subject_id=items[0].subject,
        check_duplicates=check,
    )
    try:
        outcome = call(new, _request_id(loaded, ppi))
    except _BREAKING:
        raise
    except RequestConflict:  # the id is of the prints alone: they are there, enrolled with other options
        return {item: _line(item, Result.ALREADY, "", subject=item.subject) for item in items}
    except EncounterErased:
        return {item: _line(item, Result.FAILED, EncounterErased.reason, _ERASED) for item in items}
    except PapilarError as error:
        return {item: _failed(item, error) for item in items}
    return {one.item: _outcome(one, i, outcome) for i, one in enumerate(loaded)}


_ERASED = "enrolled before and deleted since; to bring it back, give the file another impression number"


def _outcome(one: _Loaded, ordinal: int, outcome: Outcome) -> Line:
    match outcome:
        case Duplicate(candidates):
            message = f"like subject {candidates[0].subject}, log10 LR {candidates[0].score:.1f}"
            return _line(one.item, Result.DUPLICATE, "DUPLICATE", message)
        case Rejected(prints):
            return _assessed(one, prints[ordinal], Result.REJECTED, "", "")
        case Enrolled(subject, encounter, prints, repeated):
            done = Result.ALREADY if repeated else Result.ENROLLED
            return _assessed(one, prints[ordinal], done, subject, encounter)


def _assessed(one: _Loaded, found: Assessment, result: Result, subject: str, encounter: str) -> Line:
    if not found.accepted:
        result, subject, encounter = Result.REJECTED, "", ""
    return Line(
        one.item.file,
        result,
        subject,
        encounter,
        found.quality,
        found.minutiae,
        " ".join(code for code, _ in found.reasons),
        "; ".join(advice for _, advice in found.reasons),
        one.warnings,
    )


def _line(item: Item, result: Result, reason: str, message: str = "", *, subject: str = "") -> Line:
    return Line(item.file, result, subject, reason=reason, message=message)


def _failed(item: Item, error: PapilarError, result: Result = Result.FAILED) -> Line:
    return _line(item, result, error.reason, str(error).removeprefix("print 0: "))


def _request_id(loaded: Iterable[_Loaded], ppi: float | None) -> str:
    """Derive the id from what is enrolled, so that the same files are the same request on every run."""
    parts = [f"{ppi}"]
    for item, data, _ in loaded:
        digest = hashlib.sha256(data).hexdigest()
        parts += [item.subject, item.impression, str(int(item.finger)), digest]
    # A name may hold bytes that are no UTF-8; `backslashreplace` gives those a text of their own.
    return str(uuid.uuid5(_NAMESPACE, "\n".join(parts).encode(errors="backslashreplace").decode()))


def _name(archive: Path, folder: Path, files: Sequence[Path]) -> Iterator[Item]:
    inner = _relative(archive, folder)
    images = [_split(file)[0] for file in files if file.suffix.lower() in _IMAGES]
    one_person = folder != archive and bool(images) and all(map(_position, images))
    for file in files:
        finger, impression = _split(file)
        position = _position(finger) if one_person else None
        if position is not None:
            yield Item(file, _relative(archive, file), inner, impression, position)
        else:
            subject = finger if folder == archive else f"{inner}/{finger}"
            yield Item(file, _relative(archive, file), subject, impression, Finger.UNKNOWN)


_IMAGES = frozenset(
    {".png", ".bmp", ".tif", ".tiff", ".jpg", ".jpeg", ".jp2", ".j2k", ".wsq", ".pgm", ".ppm", ".pbm"}
)


def _split(file: Path) -> tuple[str, str]:
    finger, underscore, impression = file.stem.rpartition("_")
    return (finger, impression) if underscore and finger else (file.stem, "1")


def _position(text: str) -> Finger | None:
    return Finger(int(text)) if text.isascii() and text.isdigit() and 1 <= int(text) <= 10 else None


def _relative(archive: Path, path: Path) -> str:
    return path.relative_to(archive).as_posix()
