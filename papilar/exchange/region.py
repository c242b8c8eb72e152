"""A search in the region, as values: what an officer asks, and what came of it from each country."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from math import expm1, log1p
from typing import Any, NamedTuple

from enroll.image import read_image
from matcher.codecs import decode, encode
from papilar.api.peer.v1 import peer_pb2, types_pb2
from papilar.errors import MessageTooLarge, RequestInvalid
from papilar.exchange.prints import clean_image
from papilar.exchange.words import to_number
from papilar.identity import Role
from papilar.policy import File, LegalBasis, OffenceClass, Purpose, SearchType
from papilar.requests import PrintInput

DEFAULT_FPIR = 0.01
UNITS_PPI = 500.0
_SEALED_BYTES = 2048  # of certificate and signature around a search; ours have less than 1,000
_SENT_TEMPLATE = "iso-19794-2:2011"


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionSearch:
    """What an officer asks the countries of the region. The words are those of the contract.

    Attributes
    ----------
    request_id : str
        UUID in canonical form; the same for every country.
    prints : tuple of PrintInput
        1 to 40, of one person. Images lose all that is no picture before they are sent.
    purpose, offence_class, legal_basis, search_type, files
    officer : str
        Pseudonym.
    roles : frozenset of Role
        What the officer is, by the country's own authority.
    reason : str
        1 to 32 of `A-Z`, `0-9` and the underscore, a letter first.
    case_reference : str
    ordering_officer : str
        Pseudonym, or empty.
    expedite, minor, adult_present : bool
    countries : tuple of str
        Whom to ask; empty for all.
    target_fpir : float
        Wanted rate of searches without a mate that still find somebody, in the region as a whole.
    limit : int
        Most candidates of each country.
    seconds : float
        How long to wait for answers.
    keep : timedelta
        How long the search waits for a country that is down; zero: not at all.
    """

    request_id: str
    prints: tuple[PrintInput, ...] = field(repr=False)
    purpose: Purpose
    offence_class: OffenceClass
    legal_basis: LegalBasis
    search_type: SearchType
    files: frozenset[File]
    officer: str
    roles: frozenset[Role]
    reason: str
    case_reference: str
    ordering_officer: str = ""
    expedite: bool = False
    minor: bool = False
    adult_present: bool = False
    countries: tuple[str, ...] = ()
    target_fpir: float = DEFAULT_FPIR
    limit: int = 10
    seconds: float = 30.0
    keep: timedelta = timedelta(0)


class GapKind(StrEnum):
    """Why a country is missing from a result."""

    REFUSED = "REFUSED"
    QUOTA = "QUOTA"
    UNREACHABLE = "UNREACHABLE"
    TIMED_OUT = "TIMED_OUT"
    NOT_PERMITTED_HERE = "NOT_PERMITTED_HERE"
    NEEDS_HUMAN = "NEEDS_HUMAN"
    INVALID_ANSWER = "INVALID_ANSWER"
    QUEUED = "QUEUED"


class Gap(NamedTuple):
    """A country that has not answered, and why.

    `code` is a word for programs: of the law that refuses, of the error, or, where the search is QUEUED, the
    kind of gap that it is queued for. `retry_after` is in seconds, 0 where nothing is known.
    """

    country: str
    kind: GapKind
    code: str
    retry_after: int = 0


@dataclass(frozen=True, slots=True)
class CountryAnswer:
    """What came from one country: an answer, or the gap that it leaves.

    Attributes
    ----------
    country : str
    answer : Answer or None
        With NO_HIT, CANDIDATES or POOR_PRINTS.
    gap : Gap or None
    seconds : float
        From the asking to the answer.
    signed : Signed or None
        The answer as it was sealed.
    """

    country: str
    answer: peer_pb2.Answer | None = None
    gap: Gap | None = None
    seconds: float = 0.0
    signed: types_pb2.Signed | None = None


class RegionCandidate(NamedTuple):
    """A candidate and whose it is; not `comparable` where its score is of another calibration than ours."""

    country: str
    candidate: peer_pb2.Candidate
    calibration_id: str
    comparable: bool


@dataclass(frozen=True, slots=True)
class RegionResult:
    """Everything that came: one list over all countries, and the gaps.

    Attributes
    ----------
    candidates : tuple of RegionCandidate
        By log10 likelihood ratio, best first.
    answers : tuple of CountryAnswer
        In the order in which they came.
    """

    candidates: tuple[RegionCandidate, ...]
    answers: tuple[CountryAnswer, ...]

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """The countries that are missing."""
        return tuple(one.gap for one in self.answers if one.gap is not None)

    @property
    def comparable(self) -> bool:
        """Whether all scores are of our calibration, so that the order of the list means something."""
        return all(one.comparable for one in self.candidates)

    @property
    def complete(self) -> bool:
        """Whether every country searched all that it was asked to: only then is an empty list a no-hit."""
        poor = peer_pb2.OUTCOME_POOR_PRINTS
        return all(
            a.answer is not None and a.answer.complete and a.answer.outcome != poor for a in self.answers
        )


def merge(answers: Sequence[CountryAnswer], *, calibration_id: str) -> RegionResult:
    """Put the candidates of all countries into one list; `calibration_id` is ours."""
    found = [
        RegionCandidate(a.country, c, a.answer.calibration_id, a.answer.calibration_id == calibration_id)
        for a in answers
        if a.answer is not None
        for c in a.answer.candidates
    ]
    found.sort(key=lambda one: (-one.candidate.score, one.country))
    return RegionResult(tuple(found), tuple(answers))


def share_of_rate(target: float, nodes: int) -> float:
    """Return the false-positive rate for each of several nodes that together have `target`.

    A stranger is found by none of n nodes with probability (1 - rate)**n.
    """
    return -expm1(log1p(-target) / nodes)


def statement(
    asked: RegionSearch, *, asking: str, country: str, prints: Sequence[types_pb2.Print]
) -> peer_pb2.Search:
    """Return the search as it is stated to one country, before the law and the time have their say."""
    return peer_pb2.Search(
        request_id=asked.request_id,
        asking_country=asking,
        asked_country=country,
        officer=asked.officer,
        roles=sorted(map(_number, asked.roles)),
        ordering_officer=asked.ordering_officer,
        purpose=_number(asked.purpose),
        reason=asked.reason,
        offence_class=_number(asked.offence_class),
        legal_basis=_number(asked.legal_basis),
        case_reference=asked.case_reference,
        search_type=_number(asked.search_type),
        files=sorted(map(_number, asked.files)),
        expedite=asked.expedite,
        minor=asked.minor,
        adult_present=asked.adult_present,
        target_fpir=asked.target_fpir,
        limit=asked.limit,
        prints=prints,
    )


def not_offered(search: peer_pb2.Search, offer: peer_pb2.NodeDescription) -> Gap | None:
    """Return the gap that a search would leave, as far as a peer has said beforehand."""
    country = search.asked_country
    if search.search_type not in {quota.search_type for quota in offer.quotas if quota.per_day}:
        return Gap(country, GapKind.REFUSED, "NOT_OFFERED")
    if search.ByteSize() + _SEALED_BYTES > offer.max_message_bytes:
        return Gap(country, GapKind.REFUSED, MessageTooLarge.reason)
    return None


def _number(word: StrEnum) -> Any:
    return to_number(word)


def sent_print(given: PrintInput) -> types_pb2.Print:
    """Return a print as it is sent: a picture without text, or a template of ISO/IEC 19794-2:2011.

    Raises
    ------
    RequestInvalid, ImageError, TemplateError
        It cannot be read. A print without image and template is left to `check_prints`.
    """
    sent = types_pb2.Print(
        position=given.finger.value, impression=0 if given.impression is None else given.impression.value + 1
    )
    if given.image is not None:
        image = read_image(given.image, ppi=given.ppi)
        sent.image, sent.ppi = clean_image(image), image.ppi
    elif given.template is not None:
        views = decode(given.template)
        if len(views) != 1:
            raise RequestInvalid(f"a template of {len(views)} views", remedy="send each finger by itself")
        sent.template, sent.ppi = encode(views[0], _SENT_TEMPLATE), UNITS_PPI
    return sent
