"""Users of a node: who calls, what for, and which role may make which call. What no row permits is denied.

A call says what for in its metadata. All but the ordering officer must be there, each once:

    papilar-purpose           criminal_investigation       the words of `papilar.policy.request`
    papilar-reason            ARREST                       1 to 32 of A-Z, 0-9 and _, a letter first
    papilar-legal-basis       court_order
    papilar-offence-class     serious
    papilar-case              2026/SS-114                  1 to 64 of A-Z, 0-9 and -/. which is not first
    papilar-ordering-officer  o12                          a pseudonym

Nothing here takes free text, so no name gets in by mistake.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple, Self

from papilar.audit.entry import Act
from papilar.errors import CallerUnknown, CallNotPermitted, PurposeMissing, RequestInvalid
from papilar.identity import Identity, Kind, Role, domain_uri
from papilar.policy.request import LegalBasis, OffenceClass, Purpose

Metadata = Iterable[tuple[str, str | bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mandate:
    """What a call is made for.

    Each word may be given as its enum or as plain text; it is kept as the enum.

    Attributes
    ----------
    purpose : Purpose
    reason : str
        Code: 1 to 32 of `A-Z`, `0-9` and `_`; a letter first.
    legal_basis : LegalBasis
    offence_class : OffenceClass
    case_reference : str
        1 to 64 of `A-Z`, `0-9` and `-/.`; a letter or digit first, so it is no path and no option.
    ordering_officer : str
        Pseudonym; empty where nobody ordered it.

    Raises
    ------
    PurposeMissing
        A field is of another form. What it holds is not quoted: it may be anything.
    """

    purpose: Purpose
    reason: str
    legal_basis: LegalBasis
    offence_class: OffenceClass
    case_reference: str
    ordering_officer: str = ""

    def __post_init__(self) -> None:
        for name, kind in _WORDS.items():
            object.__setattr__(self, name, _word(kind, getattr(self, name), name))
        for name, form in _FORMS.items():
            if not re.fullmatch(form, getattr(self, name), re.ASCII):
                raise _wrong(name, f"write it as {form}")
        if self.ordering_officer and not is_pseudonym(self.ordering_officer):
            raise _wrong("ordering_officer", _PSEUDONYM)

    @property
    def justification(self) -> str:
        """Why, as the log states it: made of the codes alone."""
        return f"{self.reason}, by {self.legal_basis}"

    @classmethod
    def read(cls, metadata: Metadata) -> Self | None:
        """Return what a call's metadata states; None where it states nothing.

        Raises
        ------
        PurposeMissing
            Something is missing, there twice, of another form, or unknown.
        """
        given = [(key, value) for key, value in metadata if key.startswith(PREFIX)]
        found = {_FIELDS.get(key, ""): value for key, value in given}
        if not found:
            return None
        if "" in found or len(found) < len(given):
            known = ", ".join(_FIELDS)
            raise PurposeMissing(f"metadata {PREFIX}* unknown, or there twice", remedy=f"send {known}")
        missing = [key for key, name in _FIELDS.items() if name != "ordering_officer" and name not in found]
        if missing:
            raise PurposeMissing("the call does not say what for", remedy=f"send {', '.join(missing)}")
        texts: dict[str, Any] = {name: value for name, value in found.items() if isinstance(value, str)}
        if len(texts) < len(found):
            raise PurposeMissing("metadata of bytes", remedy="send text")
        return cls(**texts)

    def metadata(self) -> dict[str, str]:
        """Return the metadata that states this."""
        return {key: str(getattr(self, name)) for key, name in _FIELDS.items() if getattr(self, name)}


PREFIX = "papilar-"
_PSEUDONYM = "a pseudonym is 1 to 63 of a-z, 0-9 and the hyphen, which is neither first nor last"
_WORDS: Mapping[str, type[StrEnum]] = {
    "purpose": Purpose,
    "legal_basis": LegalBasis,
    "offence_class": OffenceClass,
}
_FORMS = {"reason": r"[A-Z][A-Z0-9_]{0,31}", "case_reference": r"[A-Z0-9][A-Z0-9/.-]{0,63}"}
_FIELDS = {
    PREFIX + field.name.removesuffix("_reference").replace("_", "-"): field.name for field in fields(Mandate)
}


def is_pseudonym(text: str) -> bool:
    """Return whether a text can stand for a person: the form of the last part of a name."""
    try:
        return Identity.parse(f"{domain_uri('AAA')}/{Kind.NODE}/{text}").name == text
    except RequestInvalid:
        return False


def _word(kind: type[StrEnum], value: str, name: str) -> StrEnum:
    if value not in list(kind):
        raise _wrong(name, f"it is one of {', '.join(kind)}")
    return kind(value)


def _wrong(name: str, remedy: str) -> PurposeMissing:
    return PurposeMissing(f"{name.replace('_', ' ')} is not of its form", remedy=remedy)


# ---- who may do what


class Permit(NamedTuple):
    """Who may make a call.

    Attributes
    ----------
    roles : frozenset of Role
        One of them is enough.
    act : Act
        What the log calls it.
    about_persons : bool
        Whether it must say what for; a call about the node itself need not.
    """

    roles: frozenset[Role]
    act: Act
    about_persons: bool = True


_SEARCHING = frozenset({Role.OFFICER, Role.EXAMINER})
_READING = frozenset({Role.EXAMINER, Role.SUPERVISOR})
_ENROLLMENT = "papilar.api.v1.EnrollmentService"
_MATCHING = "papilar.api.v1.MatchingService"
_REGION = "papilar.api.v1.RegionService"
_MAINTENANCE = "papilar.api.v1.MaintenanceService"
_RUNNING = frozenset({Role.ADMINISTRATOR})
_DUPLICATES = "papilar.api.v1.DuplicateService"
PERMITS: Mapping[str, Permit] = MappingProxyType(
    {
        f"{_MATCHING}/GetGallery": Permit(frozenset(Role), Act.CONSULTATION, about_persons=False),
        f"{_MATCHING}/Verify": Permit(_SEARCHING, Act.CONSULTATION),
        f"{_MATCHING}/Identify": Permit(_SEARCHING, Act.CONSULTATION),
        f"{_ENROLLMENT}/Enroll": Permit(_SEARCHING, Act.COLLECTION),
        f"{_ENROLLMENT}/EnrollMany": Permit(_SEARCHING, Act.COLLECTION),
        f"{_ENROLLMENT}/GetEncounter": Permit(_READING, Act.CONSULTATION),
        f"{_ENROLLMENT}/DeleteEncounter": Permit(frozenset({Role.SUPERVISOR}), Act.ERASURE),
        f"{_DUPLICATES}/FindDuplicates": Permit(frozenset({Role.EXAMINER}), Act.CONSULTATION),
        f"{_DUPLICATES}/ListDuplicateCases": Permit(_READING, Act.CONSULTATION),
        f"{_DUPLICATES}/DecideDuplicateCase": Permit(_READING, Act.COMBINATION),
        f"{_DUPLICATES}/UnmergeSubjects": Permit(_READING, Act.ALTERATION),
        f"{_REGION}/IdentifyRegion": Permit(_SEARCHING, Act.CONSULTATION),
        f"{_REGION}/GetRegionAnswers": Permit(_SEARCHING, Act.CONSULTATION, about_persons=False),
        f"{_REGION}/ListPeers": Permit(_SEARCHING, Act.CONSULTATION, about_persons=False),
        f"{_REGION}/ConfirmCandidate": Permit(_READING, Act.CONFIRMATION, about_persons=False),
        f"{_REGION}/GetPeerStatistics": Permit(
            frozenset({Role.SUPERVISOR}), Act.CONSULTATION, about_persons=False
        ),
        f"{_MAINTENANCE}/StartReextraction": Permit(_RUNNING, Act.ALTERATION, about_persons=False),
        f"{_MAINTENANCE}/GetReextraction": Permit(_RUNNING, Act.CONSULTATION, about_persons=False),
    }
)
"""By full name of the call. Who runs the machine searches nothing with it; who searches deletes nothing."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a call, and what for.

    Attributes
    ----------
    identity : Identity
        Of a user: country, pseudonym and roles, as certificate or token state them.
    mandate : Mandate or None
        None for a call about the node itself that states none.
    """

    identity: Identity
    mandate: Mandate | None = None


def check_user(identity: Identity, *, country: str) -> None:
    """Refuse who is no user of a country; raises `CallerUnknown`."""
    if identity.kind is not Kind.USER or identity.country != country:
        raise CallerUnknown(
            f"the caller is no user of {country}", remedy="call with the certificate or token of one"
        )


def admit(method: str, identity: Identity, metadata: Metadata) -> Caller:
    """Return who makes a call, if that is permitted.

    Parameters
    ----------
    method : str
        Full name, as `papilar.api.v1.MatchingService/Identify`.
    identity : Identity
        That `check_user` lets pass.
    metadata : iterable of (str, str or bytes)
        Of the call.

    Raises
    ------
    CallNotPermitted
        The call is not in `PERMITS`, or needs another role.
    PurposeMissing
        As `Mandate.read`; or nothing is stated where the call is about persons.
    """
    permit = PERMITS.get(method, _NOBODY)
    if not permit.roles & identity.roles:
        raise CallNotPermitted("no role of the caller permits this call", remedy=_remedy(permit))
    mandate = Mandate.read(metadata)
    if mandate is None and permit.about_persons:
        raise PurposeMissing("the call does not say what for", remedy=f"send {', '.join(_FIELDS)}")
    return Caller(identity, mandate)


_NOBODY = Permit(frozenset(), Act.REFUSAL)


def _remedy(permit: Permit) -> str:
    roles = " or ".join(sorted(permit.roles))
    return f"ask someone who is {roles}" if roles else "nobody may make it at this node"


def own_subject(pseudonym: str) -> str:
    """Return the subject id under which a laboratory enrols an officer's own prints, to rule them out."""
    return f"officer-{pseudonym}"
