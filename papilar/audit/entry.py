"""One entry of the log: what was done, by whom, for whom and why. A value, and its canonical bytes.

The bytes are JSON with sorted keys, UTF-8, without white space; the log keeps and hashes exactly them. Every
field is always there. Officers are pseudonyms, persons are marks (`subject_mark`), what was sent is a number
and a keyed digest: no field takes bytes, and none takes a name.
"""

import hmac
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple

from papilar.errors import RequestInvalid

VERSION = 1
"""Of the bytes. A reader refuses one that it does not know."""

TEXT_LENGTH = 500
"""Longest free text, characters."""

LIST_LENGTH = 256
"""Most items of a list."""

KEY_BYTES = 32
"""Shortest key of `subject_mark`: as long as the hash (RFC 2104, section 3)."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Side(StrEnum):
    """Which part the writer of the entry had."""

    ASKING = "ASKING"
    ASKED = "ASKED"
    OWN = "OWN"  # nobody else was concerned


class Act(StrEnum):
    """What was done: the acts that a log must show, and what the exchange adds to them.

    References
    ----------
    Directive (EU) 2016/680, article 25.
    """

    CONSULTATION = "CONSULTATION"
    DISCLOSURE = "DISCLOSURE"
    REFUSAL = "REFUSAL"
    COLLECTION = "COLLECTION"
    ALTERATION = "ALTERATION"
    COMBINATION = "COMBINATION"
    ERASURE = "ERASURE"
    CONFIRMATION = "CONFIRMATION"
    NOTICE = "NOTICE"


class Outcome(StrEnum):
    """What came of it."""

    DONE = "DONE"
    NO_HIT = "NO_HIT"
    CANDIDATES = "CANDIDATES"
    REFUSED = "REFUSED"
    QUOTA = "QUOTA"
    NEEDS_HUMAN = "NEEDS_HUMAN"
    ERROR = "ERROR"
    UNREACHABLE = "UNREACHABLE"
    CONFIRMED = "CONFIRMED"
    REJECTED = "REJECTED"
    INCONCLUSIVE = "INCONCLUSIVE"
    RELEASED = "RELEASED"
    WITHHELD = "WITHHELD"
    NEEDS_TREATY_REQUEST = "NEEDS_TREATY_REQUEST"


class Sent(NamedTuple):
    """Data that went from one side to the other: of what kind, how many, and a keyed SHA-256, hexadecimal."""

    kind: str
    number: int
    digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry of the log. Empty text where a field does not apply.

    Attributes
    ----------
    time : datetime
        When it was done; with a zone, kept as microseconds since 1970 UTC.
    officer, ordering_officer : str
        Pseudonyms of who did it and who ordered it: no space, so no name by mistake.
    request_id : str
        Of the exchange; required where two countries are concerned, as are both countries.
    asking, asked : str
        ISO 3166-1 alpha-3.
    purpose, search_type, reason, offence_class, code : str
        Codes: upper case, digits, underscore.
    policy_hash : str
        SHA-256 of the policy that decided, hexadecimal.
    sent : tuple of Sent
    recipients : tuple of str
        Countries or authorities, as identifiers.
    subjects : tuple of str
        Marks of `subject_mark`.

    Raises
    ------
    RequestInvalid
        A field is of the wrong form or too long.
    """

    time: datetime
    side: Side
    act: Act
    outcome: Outcome
    officer: str
    justification: str
    request_id: str = ""
    search_type: str = ""
    asking: str = ""
    asked: str = ""
    ordering_officer: str = ""
    purpose: str = ""
    reason: str = ""
    legal_basis: str = ""
    offence_class: str = ""
    case_reference: str = ""
    code: str = ""
    policy_version: str = ""
    policy_hash: str = ""
    note: str = ""
    sent: tuple[Sent, ...] = ()
    recipients: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.time, datetime) or self.time.tzinfo is None:
            raise _wrong("time", "a date and time with a zone")
        for kind, name in ((Side, "side"), (Act, "act"), (Outcome, "outcome")):
            if not isinstance(getattr(self, name), kind):
                raise _wrong(name, f"one of {', '.join(kind)}")
        for form, names in _FORMS.items():
            for name in names:
                _check(name, getattr(self, name), form, empty=name not in _REQUIRED)
        self._check_parties()
        self._check_lists()

    def _check_parties(self) -> None:
        if self.side is Side.OWN:
            return
        for name in ("request_id", "asking", "asked"):
            if not getattr(self, name):
                raise _wrong(name, "given where two countries are concerned")

    def _check_lists(self) -> None:
        for name in ("sent", "recipients", "subjects"):
            value = getattr(self, name)
            if not isinstance(value, tuple) or len(value) > LIST_LENGTH:
                raise _wrong(name, f"a tuple of at most {LIST_LENGTH}")
        for recipient in self.recipients:
            _check("recipients", recipient, _NAME)
        for mark in self.subjects:
            _check("subjects", mark, _DIGEST)
        for item in self.sent:
            _check_sent(item)


class _Form(NamedTuple):
    fits: Callable[[str], object]
    words: str


def _pattern(expression: str, words: str) -> _Form:
    return _Form(re.compile(expression).fullmatch, words)


_CODE = _pattern(r"[A-Z][A-Z0-9_]{0,31}", "a code: at most 32 of A-Z, 0-9 and _")
_NAME = _pattern(r"[A-Za-z0-9._:/@-]{1,128}", "an identifier: at most 128 letters, digits and ._:/@-")
_COUNTRY = _pattern(r"[A-Z]{3}", "a country as ISO 3166-1 alpha-3")
_DIGEST = _pattern(r"[0-9a-f]{64}", "a SHA-256 in lower hexadecimal")
_TEXT = _Form(
    lambda text: len(text) <= TEXT_LENGTH and text.isprintable(),
    f"printable text of at most {TEXT_LENGTH} characters",
)

_FORMS = {
    _CODE: ("search_type", "purpose", "reason", "offence_class", "code"),
    _NAME: ("request_id", "officer", "ordering_officer", "case_reference", "policy_version"),
    _COUNTRY: ("asking", "asked"),
    _DIGEST: ("policy_hash",),
    _TEXT: ("legal_basis", "justification", "note"),
}
_REQUIRED = frozenset({"officer", "justification"})


def _check(name: str, value: object, form: _Form, *, empty: bool = False) -> None:
    if not isinstance(value, str) or not (form.fits(value) if value else empty):
        raise _wrong(name, form.words)


def _check_sent(item: object) -> None:
    if not isinstance(item, Sent):
        raise _wrong("sent", "a tuple of Sent")
    _check("sent", item.kind, _CODE)
    _check("sent", item.digest, _DIGEST, empty=True)
    if type(item.number) is not int or not 0 <= item.number < 1 << 53:  # what JSON carries everywhere
        raise _wrong("sent", "counted by a whole number")


def _wrong(name: str, wanted: str) -> RequestInvalid:
    return RequestInvalid(f"{name} of a log entry does not fit", remedy=f"it must be {wanted}")


# ---- bytes


def encode(entry: Entry) -> bytes:
    """Return the canonical bytes of an entry."""
    values = {name: getattr(entry, name) for name in _NAMES}
    del values["time"]
    return canonical(values | {"time_us": microseconds(entry.time), "version": VERSION})


def decode(data: bytes) -> Entry:
    """Return the entry of canonical bytes; nothing else is taken.

    Raises
    ------
    RequestInvalid
        Other than what `encode` gives.
    """
    try:
        values: dict[str, Any] = dict(json.loads(data))
        if values.pop("version") != VERSION:
            raise _not_canonical()
        entry = Entry(
            time=moment(values.pop("time_us")),
            side=Side(values.pop("side")),
            act=Act(values.pop("act")),
            outcome=Outcome(values.pop("outcome")),
            sent=tuple(Sent(*item) for item in values.pop("sent")),
            recipients=tuple(values.pop("recipients")),
            subjects=tuple(values.pop("subjects")),
            **values,
        )
        same = encode(entry) == data
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        raise _not_canonical() from None
    if not same:
        raise _not_canonical()
    return entry


_NAMES = tuple(field.name for field in fields(Entry))


def _not_canonical() -> RequestInvalid:
    remedy = f"they must be canonical JSON of version {VERSION}"
    return RequestInvalid("the bytes are not those of a log entry", remedy=remedy)


def canonical(values: Mapping[str, Any]) -> bytes:
    """Return values as the one JSON text that stands for them: sorted keys, UTF-8, no white space."""
    return json.dumps(values, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()


def microseconds(time: datetime) -> int:
    """Return a time as microseconds since 1970 UTC."""
    return (time - _EPOCH) // timedelta(microseconds=1)


def moment(microseconds: int) -> datetime:
    """Return the time that `microseconds` gave, in UTC.

    Raises
    ------
    OverflowError, TypeError
        No such time.
    """
    return _EPOCH + timedelta(microseconds=microseconds)


def subject_mark(key: bytes, subject_id: str) -> str:
    """Return what stands for a subject in the log: HMAC-SHA256 of its id, hexadecimal.

    Whoever lacks the key cannot find out whom a mark stands for by trying ids.

    Parameters
    ----------
    key : bytes
        From the node's configuration, at least `KEY_BYTES` long. Another key makes other marks.
    subject_id : str

    Raises
    ------
    RequestInvalid
        The key is too short.

    References
    ----------
    RFC 2104.
    """
    if len(key) < KEY_BYTES:
        raise RequestInvalid(
            "the key for marks of subjects is too short", remedy=f"give at least {KEY_BYTES} random bytes"
        )
    return hmac.digest(key, subject_id.encode(), "sha256").hex()
