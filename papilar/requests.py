"""What a node is asked and what it answers: plain values, between the contract and the node."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any, NamedTuple

from matcher.calibration import Band, shipped
from matcher.compare import Comparison
from matcher.cylinders import Prepared
from matcher.fusion import may_meet
from matcher.template import Finger, Impression
from papilar.store import MissingFinger


@dataclass(frozen=True, slots=True)
class PrintInput:
    """One print as a caller sends it: an image file or a template record.

    Attributes
    ----------
    finger : Finger
    impression : Impression or None
        None where it is not stated; a template's is then what its record says.
    image : bytes or None
        The file as it is.
    ppi : float or None
        Resolution of the image, where the caller states one.
    template : bytes or None
        Record of any format of `matcher.codecs`.
    """

    finger: Finger = Finger.UNKNOWN
    impression: Impression | None = None
    image: bytes | None = field(default=None, repr=False)
    ppi: float | None = None
    template: bytes | None = field(default=None, repr=False)


class Assessment(NamedTuple):
    """What became of one print of a request.

    `ordinal` is its place in the request; `reasons` are pairs of a stable word and an advice in English;
    `quality` is None where there was no image. `nfiq2` has its version with it, or is None for the
    `nfiq2_reason`, which `enroll.nfiq` or `enroll.gate` names; empty where nobody told, as of a node.
    """

    ordinal: int
    finger: Finger
    accepted: bool
    quality: int | None
    reasons: tuple[tuple[str, str], ...]
    minutiae: int
    nfiq2: int | None = None
    nfiq2_version: str = ""
    nfiq2_reason: str = ""


class Threshold(NamedTuple):
    """A score, and the false-match or false-positive rate it stands for under a calibration."""

    score: float
    rate: float
    calibration: str


class PrintMatch(NamedTuple):
    """One print of the probe against one of the reference.

    `encounter` is empty where the request brought the reference; `ordinal` is the reference print's place in
    its encounter or in the request. `finger` is the reference print's position, `probe_finger` the probe's.
    """

    probe: int
    encounter: str
    ordinal: int
    finger: Finger
    score: float
    evidence: "Evidence | None" = None
    probe_finger: Finger = Finger.UNKNOWN

    @property
    def disagree(self) -> bool:
        """Whether the two positions are known and differ: one of them was recorded wrongly."""
        return not may_meet(self.finger, self.probe_finger)

    @property
    def band(self) -> Band:
        """How the score reads."""
        return shipped().band(self.score)


class Evidence(NamedTuple):
    """Why two prints are held to be alike: `comparison.pairs` index the minutiae of the two."""

    comparison: Comparison
    probe: Prepared
    reference: Prepared


class Found(NamedTuple):
    """A candidate as it is answered."""

    rank: int
    subject: str
    encounter: str
    score: float
    matches: tuple[PrintMatch, ...]

    @property
    def band(self) -> Band:
        """How the score reads, whatever the size of the gallery."""
        return shipped().band(self.score)


# ---- enrolment


@dataclass(frozen=True, slots=True)
class Enrollment:
    """An encounter to be enrolled; `subject_id` and `encounter_id` may be empty for new ones.

    `replaces` is the subject's earlier encounter that prints are taken again for; empty where there is none.
    """

    prints: tuple[PrintInput, ...]
    subject_id: str = ""
    encounter_id: str = ""
    missing: tuple[MissingFinger, ...] = ()
    check_duplicates: bool = False
    require_all: bool = False
    replaces: str = ""


class Repeat(NamedTuple):
    """What makes a change safe to repeat: the caller's UUID and a hash of all the request holds."""

    request_id: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class Enrolled:
    """The encounter is in the gallery, on the disk and findable; `repeated` when it was before the call."""

    subject_id: str
    encounter_id: str
    prints: tuple[Assessment, ...]
    repeated: bool = False

    def dump(self) -> bytes:
        """Return the answer as it is kept for a repeat: identifiers and quality, nothing biometric."""
        return json.dumps(asdict(self) | {"prints": [list(p) for p in self.prints]}).encode()

    @classmethod
    def load(cls, data: bytes) -> "Enrolled":
        """Return the answer to a repeat of the call that `dump` was kept for."""
        kept: Mapping[str, Any] = json.loads(data)
        prints = tuple(
            Assessment(i, Finger(finger), accepted, quality, tuple((r[0], r[1]) for r in reasons), *numbers)
            for i, finger, accepted, quality, reasons, *numbers in kept["prints"]
        )
        return cls(kept["subject_id"], kept["encounter_id"], prints, repeated=True)


@dataclass(frozen=True, slots=True)
class Rejected:
    """Too poor to enrol; nothing was kept."""

    prints: tuple[Assessment, ...]


@dataclass(frozen=True, slots=True)
class Duplicate:
    """The person seems to be in the gallery as another subject; nothing was kept."""

    candidates: tuple[Found, ...]
    threshold: Threshold


Outcome = Enrolled | Rejected | Duplicate


class Deleted(NamedTuple):
    """What a deletion removed."""

    prints: int
    subject_deleted: bool


# ---- comparison and search


@dataclass(frozen=True, slots=True)
class Verification:
    """The outcome of a comparison 1:1.

    No `matches`, and no `band`, where no finger is on both sides. `mirrored` is the score of the mirrored
    probe where the score is red and that one green, else None.
    """

    score: float
    threshold: Threshold
    matches: tuple[PrintMatch, ...]
    probe: tuple[Assessment, ...]
    references: tuple[Assessment, ...]
    band: Band | None = None
    mirrored: float | None = None

    @property
    def reached(self) -> bool:
        """Whether something was compared and the score reaches the threshold."""
        return bool(self.matches) and self.score >= self.threshold.score


class PartFailure(NamedTuple):
    """A part of a search that was not done: which, the reason's stable word, and what to do."""

    part: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Identification:
    """The outcome of a search 1:N.

    `mirrored` is the best score of the mirrored probe where it is green and no candidate is above red.
    """

    candidates: tuple[Found, ...]
    searched: int
    compared: int
    failures: tuple[PartFailure, ...]
    threshold: Threshold | None
    probe: tuple[Assessment, ...]
    extraction_time: timedelta
    search_time: timedelta
    mirrored: float | None = None


@dataclass(frozen=True, slots=True)
class Description:
    """What a gallery is and holds."""

    name: str
    created: float
    format_version: int
    facts: Mapping[str, str]
    subjects: int
    encounters: int
    prints: int
    keeps_images: bool
