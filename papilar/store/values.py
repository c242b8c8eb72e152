"""What goes into the store and comes out of it; plain values that know no data base."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from matcher.segment import Place
from matcher.template import Finger, Impression
from papilar.errors import RequestInvalid

SUBJECT_ID_LENGTH = 128
"""Most characters of a subject's opaque name."""


def canonical_uuid(value: str, *, field: str) -> str:
    """Return a UUID in its one canonical text form, lower case with hyphens.

    Parameters
    ----------
    value : str
        The UUID in any form that `uuid.UUID` reads.
    field : str
        Name of the field it came in, for the error.

    Raises
    ------
    RequestInvalid
        It is none.
    """
    try:
        return str(UUID(value))
    except ValueError:
        raise RequestInvalid(
            f"{field} is no UUID", remedy="send 32 hexadecimal digits in the form 8-4-4-4-12"
        ) from None


class MissingReason(StrEnum):
    """Why there is no print of a finger."""

    AMPUTATED = "AMPUTATED"
    BANDAGED = "BANDAGED"
    DAMAGED = "DAMAGED"
    UNABLE_TO_PRINT = "UNABLE_TO_PRINT"
    NOT_TAKEN = "NOT_TAKEN"


class MissingFinger(NamedTuple):
    """A finger of which there is no print, and why."""

    finger: Finger
    reason: MissingReason


@dataclass(frozen=True, slots=True)
class NewPrint:
    """A print to be stored.

    Attributes
    ----------
    finger : Finger
    impression : Impression
    template : bytes
        The minutiae in the form the caller reads them back in; opaque here.
    minutiae : int
        Number of minutiae in it.
    quality : int or None
        0 to 100; None where it was not assessed.
    source_sha256 : bytes or None
        SHA-256, 32 bytes, of the file it was extracted from.
    image : bytes or None
        The image as PNG, where images are kept.
    nfiq2 : int or None
        NFIQ 2 (ISO/IEC 29794-4), 0 to 100; None where it was not computed.
    nfiq2_version : str or None
        What computed it, at most 64 characters; with a score only.
    original : bytes or None
        Name of the image file as it came, 32 bytes, where it is kept.
    original_ppi : float or None
        Its resolution, where the caller stated one.

    Raises
    ------
    RequestInvalid
        A value outside its range.
    """

    finger: Finger
    impression: Impression
    template: bytes = field(repr=False)
    minutiae: int
    quality: int | None = None
    source_sha256: bytes | None = None
    image: bytes | None = field(default=None, repr=False)
    nfiq2: int | None = None
    nfiq2_version: str | None = None
    original: bytes | None = None
    original_ppi: float | None = None

    def __post_init__(self) -> None:
        if not self.template:
            raise RequestInvalid("a print has an empty template", remedy="send the template's bytes")
        if self.minutiae < 0 or not (self.quality is None or 0 <= self.quality <= 100):
            raise RequestInvalid(
                f"{self.minutiae} minutiae of quality {self.quality}",
                remedy="a count is not negative, a quality is 0 to 100 or not stated",
            )
        if self.source_sha256 is not None and len(self.source_sha256) != 32:
            raise RequestInvalid(
                f"a SHA-256 of {len(self.source_sha256)} bytes",
                remedy="it has 32 bytes, not their hexadecimal text",
            )
        _check_nfiq2(self.nfiq2, self.nfiq2_version)


def _check_nfiq2(score: int | None, version: str | None) -> None:
    if (score is None) != (version is None) or not 0 <= (score or 0) <= 100 or len(version or "") > 64:
        raise RequestInvalid(
            f"NFIQ 2 of {score} by version {version}",
            remedy="a score is 0 to 100, and comes with its version",
        )


@dataclass(frozen=True, slots=True)
class NewEncounter:
    """An encounter to be stored: one occasion on which prints of a subject were taken.

    Attributes
    ----------
    subject_id : str
        Opaque name of 1 to 128 printable characters; new, or of a subject that is there.
    encounter_id : str
        UUID in canonical form, new.
    prints : tuple of NewPrint
        At least one; their order is kept.
    missing : tuple of MissingFinger
        Each finger at most once, and none of which there is a print.
    replaces : str or None
        The earlier encounter of this subject that prints are taken again for.

    Raises
    ------
    RequestInvalid
        A value outside its range.
    """

    subject_id: str
    encounter_id: str
    prints: tuple[NewPrint, ...]
    missing: tuple[MissingFinger, ...] = ()
    replaces: str | None = None

    def __post_init__(self) -> None:
        if not (0 < len(self.subject_id) <= SUBJECT_ID_LENGTH and self.subject_id.isprintable()):
            raise RequestInvalid(
                f"a subject_id of {len(self.subject_id)} characters",
                remedy=f"it has 1 to {SUBJECT_ID_LENGTH} characters, all printable",
            )
        if canonical_uuid(self.encounter_id, field="encounter_id") != self.encounter_id:
            raise RequestInvalid(
                "encounter_id is not in canonical form", remedy="pass it through canonical_uuid"
            )
        if not self.prints:
            raise RequestInvalid("an encounter without a print", remedy="send at least one print")
        _check_missing(self.missing, {item.finger for item in self.prints})


def _check_missing(missing: tuple[MissingFinger, ...], printed: set[Finger]) -> None:
    fingers = [item.finger for item in missing]
    if len(set(fingers)) < len(fingers) or Finger.UNKNOWN in fingers or printed.intersection(fingers):
        raise RequestInvalid(
            "a missing finger is unknown, named twice, or there is a print of it",
            remedy="name each finger once, as printed or as missing",
        )


class Written(NamedTuple):
    """What a change did.

    Attributes
    ----------
    rows : tuple of int
        The prints that this call inserted or deleted, in their order; empty for a repeat.
    subject_changed : bool
        The subject came with the encounter, or went with it.
    response : bytes or None
        What to answer: of a repeat, the first call's; None for a change without a request.
    repeated : bool
        The request was done before, and nothing was done now.
    """

    rows: tuple[int, ...]
    subject_changed: bool
    response: bytes | None
    repeated: bool


@dataclass(frozen=True, slots=True)
class Request:
    """What makes the repeat of a change safe.

    Attributes
    ----------
    request_id : str
        UUID in canonical form, chosen by whoever asks.
    digest : bytes
        Hash of all the request's content; equal for a repeat, and for a repeat only.
    answer : callable
        From what was done to the response's bytes; called inside the transaction, so it must be quick and
        must not call the store. The bytes are kept until the encounter is deleted; no print, no name in them.
    """

    request_id: str
    digest: bytes
    answer: Callable[[Written], bytes]

    def __post_init__(self) -> None:
        if canonical_uuid(self.request_id, field="request_id") != self.request_id:
            raise RequestInvalid(
                "request_id is not in canonical form", remedy="pass it through canonical_uuid"
            )
        if not self.digest:
            raise RequestInvalid("a request without a digest", remedy="hash the request's content")


@dataclass(frozen=True, slots=True)
class StoredPrint:
    """A print of the store.

    Attributes
    ----------
    row : int
        Its number, from 1, growing in the order of enrolment and never used again.
    encounter_id : str
    ordinal : int
        Its place in the encounter, from 0.
    finger, impression, template, minutiae, quality, source_sha256, nfiq2, nfiq2_version
        As in `NewPrint`; so are `original` and `original_ppi`.
    image : bytes or None
        PNG; None where it was not kept or not asked for.
    """

    row: int
    encounter_id: str
    ordinal: int
    finger: Finger
    impression: Impression
    template: bytes = field(repr=False)
    minutiae: int
    quality: int | None
    source_sha256: bytes | None
    image: bytes | None = field(default=None, repr=False)
    nfiq2: int | None = None
    nfiq2_version: str | None = None
    original: bytes | None = None
    original_ppi: float | None = None

    @property
    def place(self) -> Place:
        """Where it stands in a gallery: the prints of an encounter are written one after the other."""
        return Place(self.finger, self.row - self.ordinal)


@dataclass(frozen=True, slots=True)
class StoredEncounter:
    """An encounter of the store.

    Attributes
    ----------
    subject_id, encounter_id : str
    created : datetime
        When it was enrolled, UTC.
    prints : tuple of StoredPrint
        In the order they were given.
    missing : tuple of MissingFinger
        In the order of their codes.
    replaces : str or None
        As in `NewEncounter`; None again once that encounter is deleted.
    """

    subject_id: str
    encounter_id: str
    created: datetime
    prints: tuple[StoredPrint, ...]
    missing: tuple[MissingFinger, ...]
    replaces: str | None = None


class Owner(NamedTuple):
    """Whose print a row is."""

    subject_id: str
    encounter_id: str
    ordinal: int
    finger: Finger
    impression: Impression


class Counts(NamedTuple):
    """How much there is."""

    subjects: int
    encounters: int
    prints: int


@dataclass(frozen=True, slots=True)
class GalleryFacts:
    """What is known of the gallery as a whole.

    Attributes
    ----------
    name : str
    created : datetime
        UTC.
    schema_version : int
        Of the store's tables.
    facts : mapping of str to str
        What the caller noted, such as the extractor's version.
    generation : int
        How often its prints were extracted anew.
    """

    name: str
    created: datetime
    schema_version: int
    facts: Mapping[str, str]
    generation: int = 0
