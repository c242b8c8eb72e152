"""The seam between the sources of an archive and its run: what one print of a source is, and how it ended.

A source yields `Item`s lazily, in the same order each time, those of one encounter (`subject`, `impression`)
next to each other. A run gives back one `Line` for each, in the same order. Of the items of a source only a
window is held at a time, so that a source which can be read in its order alone may keep the bytes of what it
yielded within the item.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import date
from enum import StrEnum
from typing import Any

from matcher.errors import PapilarError
from matcher.template import Finger, Impression
from papilar.store import MissingReason


class Result(StrEnum):
    """What became of an item."""

    ENROLLED = "ENROLLED"
    """It is in the gallery."""
    ALREADY = "ALREADY"
    """It was, before this run."""
    MISSING = "MISSING"
    """The source says that the finger is missing, and so does the encounter now."""
    COPY = "COPY"
    """The same bytes as another item of the same person, which stands for both."""
    REJECTED = "REJECTED"
    """Too poor; with reasons."""
    DUPLICATE = "DUPLICATE"
    """The person seems to be in the gallery under another name; asked for by an option."""
    FAILED = "FAILED"
    """It cannot be read. The next run tries it again."""
    NOT_TRIED = "NOT_TRIED"
    """The run was stopped, or had to stop, before it."""


def no_bytes() -> bytes:
    """Stand for the reading of an item that has nothing to read."""
    return b""


@dataclass(frozen=True, slots=True)
class Item:
    """One print of an archive: whose it is, of which finger and encounter, and how it is read.

    Attributes
    ----------
    name : str
        Path within the source, parts joined by '/'; a record of a transaction adds '#' and its number, as
        `case.an2#14.3`. Unique in the source, and the same on each run.
    subject : str
        Whose print it is.
    impression : str
        Which encounter of the subject's; any text.
    finger : Finger
    read : callable
        Gives the bytes: called at most once a run, from any thread, several items at a time, perhaps long
        after later items were yielded, and not at all where the journal knows the item. May raise
        `OSError` or a `PapilarError`: `InvalidInput` concerns this item, `StorageError` stops the run.
    version : str
        What changes when the bytes do, as size and time of change, or an ETag. Empty where the source cannot
        tell: the item is then read on each run.
    record : bool
        Whether the bytes are a template's record rather than an image.
    ppi : float or None
        Resolution of the image, where the source states one that the file does not; pixels per inch.
    kind : Impression or None
        How the print was taken, where that is stated.
    category : str
        What the source says the print is held for; the receipt repeats it.
    retention : date or None
        Until when it may be held; the receipt repeats it.
    missing : MissingReason or None
        Why there is no print of the finger; nothing is read then.
    fault : PapilarError or None
        Why nothing can be read, known beforehand: as of a row of a manifest whose file is not there.
    held : int
        How many bytes of memory it holds until it is read; of items that hold them together the first.
    share : float or None
        How much of the source's bytes was read when it was yielded, 0 to 1, of a source that is read once
        from its beginning to its end and whose size is known.
    """

    name: str
    subject: str
    impression: str
    finger: Finger = Finger.UNKNOWN
    read: Callable[[], bytes] = field(default=no_bytes, repr=False, compare=False)
    version: str = ""
    record: bool = False
    ppi: float | None = None
    kind: Impression | None = None
    category: str = ""
    retention: date | None = None
    missing: MissingReason | None = None
    fault: PapilarError | None = field(default=None, compare=False)
    held: int = field(default=0, compare=False)
    share: float | None = field(default=None, compare=False)

    @property
    def encounter(self) -> tuple[str, str]:
        """What the items of one encounter share."""
        return self.subject, self.impression


@dataclass(frozen=True, slots=True)
class Line:
    """What became of one item: one line of the receipt, which repeats what the source says of it.

    Attributes
    ----------
    file : str
        The item's name.
    result : Result
    subject_id, encounter_id : str
        Empty where nothing was enrolled.
    quality : int or None
    minutiae : int or None
    reason : str
        Stable words, one blank between two, of a rejection or an error; empty for a good print. All are
        listed in `docs/enrolment.md`.
    message : str
        What is wrong and what to do.
    warnings : tuple of str
        What to know of how a good file was read.
    sha256 : str
        Of the bytes, 64 hexadecimal digits; empty where nothing was read.
    finger, impression, category, retention
        As the source says; `retention` as `2031-12-31`.
    nfiq2 : int or None
        NFIQ 2 of the image, 0 to 100 (ISO/IEC 29794-4).
    nfiq2_version : str
        Of the program that computed it; empty without a score.
    nfiq2_reason : str
        Why there is no score of a print that was read, one of those in `docs/enrolment.md`. Else empty.
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
    sha256: str = ""
    finger: int = 0
    impression: str = ""
    category: str = ""
    retention: str = ""
    nfiq2: int | None = None
    nfiq2_version: str = ""
    nfiq2_reason: str = ""


def line_of(item: Item, result: Result, reason: str = "", message: str = "", **more: object) -> Line:
    """Return an item's line, with what its source says of it."""
    about = {
        "finger": int(item.finger),
        "impression": item.impression,
        "category": item.category,
        "retention": item.retention.isoformat() if item.retention else "",
    }
    return replace(Line(item.name, result, reason=reason, message=message, **about), **more)  # type: ignore[arg-type]


def nfiq2_of(item: Item, score: int | None, told: str) -> dict[str, Any]:
    """Return what a line says of the NFIQ 2 of a print that was read; `told`: its version, or why none."""
    if score is not None:
        return {"nfiq2": score, "nfiq2_version": told, "nfiq2_reason": ""}
    return {"nfiq2_reason": told or ("NO_IMAGE" if item.record else "NOT_COMPUTED")}


def printable(text: str) -> str:
    """Return text that any data base and file takes: what is no character becomes an escape."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
