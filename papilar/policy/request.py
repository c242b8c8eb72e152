"""What a law is asked: who (roles, never a name), what for, which file, which peer. Plain checked words.

The words are those of `papilar.cedarschema`, which says what each means.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any

from papilar.errors import RequestInvalid
from papilar.identity import Role, is_country


class Action(StrEnum):
    """What is to be done."""

    SEARCH = "search"
    CONFIRM = "confirm"
    DESCRIBE = "describe"
    STATISTICS = "statistics"


class Direction(StrEnum):
    """Whether the peer asks us, or we ask the peer."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"


class File(StrEnum):
    """Which file is asked about."""

    CRIMINAL = "criminal"
    UNSOLVED_LATENTS = "unsolved_latents"
    MISSING_PERSONS = "missing_persons"
    MINORS = "minors"


class Purpose(StrEnum):
    """What for."""

    CRIMINAL_INVESTIGATION = "criminal_investigation"
    IDENTIFICATION_OF_DEAD = "identification_of_dead"
    MISSING_PERSON = "missing_person"
    REPATRIATION = "repatriation"
    BORDER = "border"
    ASYLUM = "asylum"


class OffenceClass(StrEnum):
    """How grave the offence is."""

    NONE = "none"
    PETTY = "petty"
    LESS_SERIOUS = "less_serious"
    SERIOUS = "serious"


class LegalBasis(StrEnum):
    """What the request rests on."""

    TREATY = "treaty"
    COURT_ORDER = "court_order"
    PROSECUTOR_ORDER = "prosecutor_order"
    CONSENT = "consent"
    HUMANITARIAN_AGREEMENT = "humanitarian_agreement"


class SearchType(StrEnum):
    """What is compared with what."""

    TP_TP = "TP_TP"
    TP_UL = "TP_UL"
    LT_TP = "LT_TP"
    LT_UL = "LT_UL"
    PP_ULP = "PP_ULP"
    LP_PP = "LP_PP"
    LP_ULP = "LP_ULP"


@dataclass(frozen=True, slots=True)
class PolicyRequest:
    """A request as a law sees it. It holds no name, no number and no print.

    Each word may be given as its enum or as plain text; it is kept as the enum.

    Attributes
    ----------
    action : Action
    direction : Direction
    peer : str
        The other country, ISO 3166-1 alpha-3, whoever asks.
    roles : frozenset of Role
        Of the person who asks, as her own country's authority states them.
    files : frozenset of File
        For a search or a confirmation at least one; otherwise none.
    purpose, offence_class, legal_basis, search_type
        For a search or a confirmation all four; otherwise None.
    expedite, ordering_officer, minor, adult_present : bool

    Raises
    ------
    RequestInvalid
        A word is not one of the schema's, a field is missing or too many.
    """

    action: Action
    direction: Direction
    peer: str
    roles: frozenset[Role] = frozenset()
    files: frozenset[File] = frozenset()
    purpose: Purpose | None = None
    offence_class: OffenceClass | None = None
    legal_basis: LegalBasis | None = None
    search_type: SearchType | None = None
    expedite: bool = False
    ordering_officer: bool = False
    minor: bool = False
    adult_present: bool = False

    def __post_init__(self) -> None:
        for name, kind in WORDS.items():
            value = getattr(self, name)
            if value is not None or name in _ALWAYS:
                object.__setattr__(self, name, _word(kind, value, name))
        for name, kind in SETS.items():
            object.__setattr__(self, name, _set(kind, getattr(self, name), name))
        for name in FLAGS:
            if type(getattr(self, name)) is not bool:
                raise RequestInvalid(f"{name} is no yes or no", remedy="give true or false")
        if not (isinstance(self.peer, str) and is_country(self.peer)):
            raise RequestInvalid("peer is no country", remedy="write it as ISO 3166-1 alpha-3 does, as HND")
        self._check_shape()

    def _check_shape(self) -> None:
        given = {name for name in OF_A_SEARCH if getattr(self, name)}
        if self.action in ABOUT_FILES:
            wanted = OF_A_SEARCH - set(FLAGS)
            if not wanted <= given:
                missing = ", ".join(sorted(wanted - given))
                raise RequestInvalid(f"a request to {self.action} lacks {missing}", remedy="state it")
        elif given:
            raise RequestInvalid(
                f"a request to {self.action} has {', '.join(sorted(given))}",
                remedy="it is about a node: leave it out",
            )

    @classmethod
    def of(cls, table: Mapping[str, Any]) -> "PolicyRequest":
        """Return the request of a TOML or JSON table; raises `RequestInvalid` for what it cannot be."""
        unknown = {str(key) for key in table} - {f.name for f in fields(cls)}
        if unknown:
            known = ", ".join(f.name for f in fields(cls))
            raise RequestInvalid("a request has a field that there is not", remedy=f"its fields are {known}")
        missing = _ALWAYS - set(table)
        if missing:
            raise RequestInvalid(f"a request lacks {', '.join(sorted(missing))}", remedy="state it")
        return cls(**table)

    def table(self) -> dict[str, Any]:
        """Return what `of` takes: plain text, lists and booleans, without what is not stated."""
        stated = {f.name: getattr(self, f.name) for f in fields(self)}
        words = {k: str(v) if isinstance(v, str) else v for k, v in stated.items() if v or k in FLAGS}
        plain = {k: sorted(map(str, v)) if isinstance(v, frozenset) else v for k, v in words.items()}
        return {k: v for k, v in plain.items() if self.action in ABOUT_FILES or k not in OF_A_SEARCH}


ABOUT_FILES = frozenset({Action.SEARCH, Action.CONFIRM})
WORDS: Mapping[str, type[StrEnum]] = {
    "action": Action,
    "direction": Direction,
    "purpose": Purpose,
    "offence_class": OffenceClass,
    "legal_basis": LegalBasis,
    "search_type": SearchType,
}
SETS: Mapping[str, type[StrEnum]] = {"roles": Role, "files": File}
FLAGS = ("expedite", "ordering_officer", "minor", "adult_present")
OF_A_SEARCH = {"files", "purpose", "offence_class", "legal_basis", "search_type", *FLAGS}
_ALWAYS = {"action", "direction", "peer"}


def _word(kind: type[StrEnum], value: object, field: str) -> StrEnum:
    # The text itself is not repeated: it came from outside, and an error is shown and logged.
    if isinstance(value, str):
        for word in kind:
            if word == value:
                return word
    raise RequestInvalid(f"{field} has a word that there is not", remedy=f"use one of {', '.join(kind)}")


def _set(kind: type[StrEnum], values: object, field: str) -> frozenset[StrEnum]:
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise RequestInvalid(f"{field} is no list", remedy="write a list, even of one")
    return frozenset(_word(kind, value, field) for value in values)
