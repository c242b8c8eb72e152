"""Profiles of transactions, and whether one keeps to them.

A profile is a TOML file in `profiles/` that says which records and fields a user group demands, and where
that is written. It may extend another; its own words about a field then replace the other's.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any, NamedTuple

from enroll.errors import ProfileUnknown
from enroll.nist.codec import Transaction
from enroll.nist.pictures import PICTURE_TYPES
from enroll.nist.record import Record, whole_number
from enroll.nist.rules import RULES, Fault

_FOLDER = resources.files("enroll.nist") / "profiles"
_SUFFIX = ".toml"
_CHARACTERS = MappingProxyType(
    {
        "A": r"[A-Za-z]*",
        "N": r"[0-9]*",
        "AN": r"[A-Za-z0-9]*",
        "ANS": r"[ -~]*",
        "NS": r"[0-9 !-/:-@\[-`{-~]*",
        "H": r"[0-9A-Fa-f]*",
        "U": r"[^\x00-\x1f]*",
        "D": r"[0-9]{8}",
        "Z": r"[0-9]{14}Z",
    }
)
_TIMES = MappingProxyType({"D": "%Y%m%d", "Z": "%Y%m%d%H%M%SZ"})
_WORDS = MappingProxyType(
    {
        "A": "letters",
        "N": "digits",
        "AN": "letters and digits",
        "ANS": "printable ASCII",
        "NS": "digits and signs",
        "H": "hexadecimal digits",
        "U": "printable text",
        "D": "a date YYYYMMDD",
        "Z": "a time YYYYMMDDHHMMSSZ",
    }
)


@dataclass(frozen=True, slots=True)
class ItemRule:
    """What an item may be; see the head of `profiles/ansi-nist.toml`."""

    name: str
    characters: str
    length: tuple[int, int] | None
    ranges: tuple[tuple[int, int], ...]
    codes: frozenset[str]
    pattern: str
    optional: bool


@dataclass(frozen=True, slots=True)
class FieldRule:
    """What a field must be; see the head of `profiles/ansi-nist.toml`."""

    type: int
    number: int
    name: str
    need: str
    occurs: tuple[int, int]
    items: tuple[ItemRule, ...]
    open: bool

    @property
    def label(self) -> str:
        """Its number and name, "14.013 FGP"."""
        return f"{self.type}.{self.number:03d} {self.name}"


class TransactionRule(NamedTuple):
    """What a type of transaction needs beyond its records: `fields` of Type 2, and how many `images`."""

    fields: tuple[str, ...]
    images: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Profile:
    """What a user group demands of its transactions.

    Attributes
    ----------
    name, title : str
    sources : tuple of str
        Where it is written, its own and those of the profile that it extends.
    records : mapping of int to (int, int)
        Least and most records of a type.
    fields : mapping of (int, int) to FieldRule
        By type and number.
    transactions : mapping of str to TransactionRule
        By field 1.004.
    rules : tuple of str
        Names of `enroll.nist.rules.RULES` that hold.
    """

    name: str
    title: str
    sources: tuple[str, ...]
    records: Mapping[int, tuple[int, int]]
    fields: Mapping[tuple[int, int], FieldRule]
    transactions: Mapping[str, TransactionRule]
    rules: tuple[str, ...]


def profile_names() -> tuple[str, ...]:
    """Return the names of the profiles there are."""
    files = (entry.name for entry in _FOLDER.iterdir())
    return tuple(sorted(name.removesuffix(_SUFFIX) for name in files if name.endswith(_SUFFIX)))


@cache
def load_profile(name: str) -> Profile:
    """Read a profile.

    Parameters
    ----------
    name : str
        "ansi-nist", "ebts" or "int-i".

    Raises
    ------
    ProfileUnknown
        There is none of that name.
    """
    if name not in profile_names():
        raise ProfileUnknown(f"no profile {name!r}", remedy=f"there are {', '.join(profile_names())}")
    read = tomllib.loads((_FOLDER / f"{name}{_SUFFIX}").read_text(encoding="utf-8"))
    base = load_profile(read["extends"]) if "extends" in read else None
    own = {(rule.type, rule.number): rule for rule in map(_field_rule, read["fields"].items())}
    return Profile(
        name,
        read["title"],
        (*read["sources"], *(base.sources if base else ())),
        MappingProxyType({int(kind): _pair(bounds) for kind, bounds in read["records"].items()}),
        MappingProxyType({**(base.fields if base else {}), **own}),
        MappingProxyType(
            {
                kind: TransactionRule(tuple(said["fields"]), _pair(said["images"]))
                for kind, said in read.get("transactions", {}).items()
            }
        ),
        tuple(read.get("rules", ())) or (base.rules if base else ()),
    )


def _field_rule(entry: tuple[str, Mapping[str, Any]]) -> FieldRule:
    label, said = entry
    kind, _, number = label.partition(".")
    items = tuple(map(_item_rule, said.get("items", (said,))))
    need, occurs = said.get("need", "optional"), _pair(said.get("occurs", (1, 1)))
    return FieldRule(int(kind), int(number), said["name"], need, occurs, items, said.get("open", False))


def _item_rule(said: Mapping[str, Any]) -> ItemRule:
    length = said.get("length")
    return ItemRule(
        said["name"],
        said.get("characters", "ANS"),
        _pair(length) if length else None,
        tuple(_pair(bounds) for bounds in said.get("ranges", ())),
        frozenset(said.get("codes", ())),
        said.get("pattern", ""),
        said.get("optional", False),
    )


def _pair(values: Sequence[int]) -> tuple[int, int]:
    low, high = values
    return low, high


def check(transaction: Transaction, profile: Profile) -> tuple[Fault, ...]:
    """Name everything in which a transaction does not keep to a profile.

    Parameters
    ----------
    transaction : Transaction
    profile : Profile

    Returns
    -------
    tuple of Fault
        By record, then by field; empty where it keeps to it. Never with the values of fields.
    """
    faults = [
        *_counts(transaction, profile),
        *(
            fault
            for place, record in enumerate(transaction.records, 1)
            for fault in _record(place, record, profile)
        ),
        *_of_its_type(transaction, profile),
        *(fault for rule in profile.rules for fault in RULES[rule](transaction)),
    ]
    return tuple(sorted(dict.fromkeys(faults)))


def _counts(transaction: Transaction, profile: Profile) -> Iterator[Fault]:
    for kind, (least, most) in profile.records.items():
        count = sum(1 for _ in transaction.of_type(kind))
        if not least <= count <= most:
            yield Fault(
                1, "1", "1.003 CNT", f"{count} records of Type {kind}, {_between(least, most)} wanted"
            )


def _of_its_type(transaction: Transaction, profile: Profile) -> Iterator[Fault]:
    rule = profile.transactions.get(transaction.header.get(4) or "")
    if rule is None:
        return
    images = sum(1 for _ in transaction.of_type(*PICTURE_TYPES))
    if not rule.images[0] <= images <= rule.images[1]:
        yield Fault(1, "1", "1.003 CNT", f"{images} images, {_between(*rule.images)} wanted")
    for place, record in enumerate(transaction.records, 1):
        if record.type == 2:
            for label in rule.fields:
                if not record.get(label):
                    known = profile.fields.get((2, int(label[2:])))
                    yield Fault(
                        place, record.label, known.label if known else label, "mandatory, and missing"
                    )
            return


def _record(place: int, record: Record, profile: Profile) -> Iterator[Fault]:
    for (kind, number), rule in profile.fields.items():
        if kind != record.type:
            continue
        wanted = rule.need == "mandatory" or (rule.need == "image" and bool(record.data))
        if record.bytes_of(number) is None:
            if wanted:
                yield Fault(place, record.label, rule.label, "mandatory, and missing")
        else:
            yield from (Fault(place, record.label, rule.label, text) for text in _field(record, rule))


def _field(record: Record, rule: FieldRule) -> Iterator[str]:
    subfields = record.items(rule.number)
    least, most = rule.occurs
    if not least <= len(subfields) <= most:
        yield f"{len(subfields)} subfields, {_between(least, most)} wanted"
    for items in subfields[:most]:
        needed = sum(not item.optional for item in rule.items)
        if len(items) < needed or (len(items) > len(rule.items) and not rule.open):
            yield f"{len(items)} items, {_between(needed, len(rule.items))} wanted"
        for item, text in zip(rule.items, items, strict=False):
            name = f"{item.name}: " if len(rule.items) > 1 else ""
            yield from (name + fault for fault in _item(text, item))


def _item(text: str, rule: ItemRule) -> Iterator[str]:
    """Yield what is wrong with an item, without quoting it: it may be a name."""
    if not text:
        if not rule.optional:
            yield "is empty"
        return
    if not re.fullmatch(_CHARACTERS[rule.characters], text, re.DOTALL) or not _is_time(text, rule.characters):
        yield f"is not {_WORDS[rule.characters]}"
        return
    if rule.length and not rule.length[0] <= len(text) <= rule.length[1]:
        yield f"has {len(text)} characters, {_between(*rule.length)} wanted"
    number = whole_number(text)
    if rule.ranges and not (number is not None and any(low <= number <= high for low, high in rule.ranges)):
        yield f"is not {', '.join(_between(low, high) for low, high in rule.ranges)}"
    if rule.codes and text not in rule.codes:
        yield f"is none of {', '.join(sorted(rule.codes))}"
    if rule.pattern and not re.fullmatch(rule.pattern, text, re.ASCII):
        yield "is not of the form that is wanted"


def _is_time(text: str, characters: str) -> bool:
    if characters not in _TIMES:
        return True
    try:
        datetime.strptime(text, _TIMES[characters])  # only whether there is such a day
    except ValueError:
        return False
    return True


def _between(low: int, high: int) -> str:
    return str(low) if low == high else f"{low} to {high}"
