"""Words of the contract and words of the law: one table, and the alphabets of what is text.

A request of the contract becomes a `PolicyRequest` here, and nowhere else; so does the way back.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, TypeVar

from matcher.calibration import Band
from papilar.api.peer.v1 import peer_pb2, types_pb2
from papilar.errors import NotPermitted, RequestInvalid
from papilar.identity import Role, is_country
from papilar.policy.decision import Decision, Verdict
from papilar.policy.law import Law
from papilar.policy.request import (
    Action,
    Direction,
    File,
    LegalBasis,
    OffenceClass,
    PolicyRequest,
    Purpose,
    SearchType,
)
from papilar.policy.rules import DEFAULT_DENY
from papilar.store import canonical_uuid

MOST_PRINTS = 40
MOST_CANDIDATES = 100

W = TypeVar("W", bound=StrEnum)
_ENUMS: Mapping[Any, Any] = MappingProxyType(
    {
        Band: types_pb2.Band,
        File: types_pb2.File,
        LegalBasis: types_pb2.LegalBasis,
        OffenceClass: types_pb2.OffenceClass,
        Purpose: types_pb2.Purpose,
        Role: types_pb2.Role,
        SearchType: types_pb2.SearchType,
    }
)

_PSEUDONYM = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_ALPHABETS: Mapping[str, str] = MappingProxyType(
    {
        "officer": _PSEUDONYM,
        "ordering_officer": f"(?:{_PSEUDONYM})?",
        "reason": "[A-Z][A-Z0-9_]{0,31}",
        "case_reference": "[A-Z0-9][A-Z0-9/.-]{0,63}",
        "asking_country": "[A-Z]{3}",
        "asked_country": "[A-Z]{3}",
    }
)


def to_word(kind: type[W], value: int) -> W:
    """Return the law's word for a number of the contract; raises `RequestInvalid` for none."""
    table = _table(kind)
    for word, number in table.items():
        if number == value:
            return word
    raise RequestInvalid(
        f"{kind.__name__} {value} is none of the contract's", remedy="state one of its values"
    )


def to_words(kind: type[W], numbers: Iterable[int]) -> list[W]:
    """Return the law's words for numbers of the contract; raises as `to_word`."""
    return [to_word(kind, number) for number in numbers]


def to_number(word: StrEnum) -> int:
    """Return the contract's number for a word of the law."""
    return _table(type(word))[word]


def _table(kind: type[W]) -> Mapping[W, int]:
    prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).upper()
    return {word: _ENUMS[kind].Value(f"{prefix}_{word.upper().replace('-', '_')}") for word in kind}


def check_search(search: peer_pb2.Search) -> None:
    """Refuse a search that is outside what its comments state, whoever made it.

    Raises
    ------
    RequestInvalid
        The message names the field, never its content.
    """
    canonical_uuid_only(search.request_id, "request_id")
    for name, alphabet in _ALPHABETS.items():
        if re.fullmatch(alphabet, getattr(search, name)) is None:
            raise RequestInvalid(
                f"{name} is outside its alphabet", remedy="see the contract for what it may be"
            )
    if not 0 < search.target_fpir <= 0.1:
        raise RequestInvalid("target_fpir is not over 0 and at most 0.1", remedy="state one that is")
    if not 1 <= search.limit <= MOST_CANDIDATES:
        raise RequestInvalid(f"a limit of {search.limit}", remedy=f"it is 1 to {MOST_CANDIDATES}")
    if not 1 <= len(search.prints) <= MOST_PRINTS:
        raise RequestInvalid(f"{len(search.prints)} prints", remedy=f"send 1 to {MOST_PRINTS}")


def canonical_uuid_only(value: str, field: str) -> None:
    """Raise `RequestInvalid` unless a text is a UUID in its canonical form."""
    if canonical_uuid(value, field=field) != value:
        raise RequestInvalid(
            f"{field} is not in canonical form", remedy="write it in lower case, as 8-4-4-4-12"
        )


def policy_request(search: peer_pb2.Search, *, direction: Direction) -> PolicyRequest:
    """Return a search as a law sees it.

    Parameters
    ----------
    search : Search
    direction : Direction
        Inbound: the law is that of the asked country, and the peer is who asks; outbound the other way round.
    """
    peer = search.asking_country if direction is Direction.INBOUND else search.asked_country
    return PolicyRequest(
        action=Action.SEARCH,
        direction=direction,
        peer=peer,
        roles=frozenset(to_words(Role, search.roles)),
        files=frozenset(to_words(File, search.files)),
        purpose=to_word(Purpose, search.purpose),
        offence_class=to_word(OffenceClass, search.offence_class),
        legal_basis=to_word(LegalBasis, search.legal_basis),
        search_type=to_word(SearchType, search.search_type),
        expedite=search.expedite,
        ordering_officer=bool(search.ordering_officer),
        minor=search.minor,
        adult_present=search.adult_present,
    )


def check_permitted(law: Law, action: Action, peer: str, *, direction: Direction) -> None:
    """Ask a law about a call that is about a node, no person; raises `NotPermitted`."""
    decision = law.decide(PolicyRequest(action=action, direction=direction, peer=peer))
    if decision.verdict is not Verdict.ALLOW:
        raise NotPermitted(
            f"the law of {law.terms.country} does not permit to {action} ({decision.code})",
            remedy="ask those who make that law",
        )


def why_refused(decision: Decision, files: Collection[File]) -> str:
    """Return the code for which a law does not permit all of some files; empty where it permits all."""
    refused = [one.code for one in decision.rulings if one.file in files and one.verdict is not Verdict.ALLOW]
    return min(refused, key=lambda code: code == DEFAULT_DENY, default="")


def check_country(value: str) -> str:
    """Return a country's code; raises `RequestInvalid` where a text is none."""
    if not is_country(value):
        raise RequestInvalid("no country of ISO 3166-1 alpha-3", remedy="write three capital letters, as HND")
    return value
