"""The terms of a law: what it is, and the numbers that are no rule. `law.toml`, read and checked.

    country = "SLV"
    version = 7                     # a later law has a higher number
    title = "..."
    valid_from = 2026-01-01         # in force from 00:00 UTC
    hides_denial = false            # a refusal looks like a no-hit to the peer
    least_print_quality = 20        # 0 to 100; poorer prints are sent back

    [days]
    reference = 14                  # how long an unconfirmed reference lives

    [answer_seconds]                # how soon an answer is promised
    ordinary = 86400
    urgent = 3600
    watch_list = 10

    [quotas."*"]                    # for every peer that has no table of its own
    TP_TP = { per_day = 100, candidates = 1 }

What is left out has the default of the exchange profile; the first four have none.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from types import MappingProxyType
from typing import Any

from papilar.errors import LawInvalid
from papilar.identity import is_country
from papilar.policy.quota import DEFAULT_QUOTAS, Quota
from papilar.policy.request import SearchType

EVERY_PEER = "*"


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms of a law.

    Attributes
    ----------
    country : str
        ISO 3166-1 alpha-3.
    version : int
    title : str
    valid_from : datetime
        UTC.
    hides_denial : bool
    least_print_quality : int
        0 to 100.
    reference_days : int
    ordinary_seconds, urgent_seconds, watch_list_seconds : int
    quotas : mapping of str to mapping of SearchType to Quota
        By peer, `*` for those without their own.
    """

    country: str
    version: int
    title: str
    valid_from: datetime
    hides_denial: bool
    least_print_quality: int
    reference_days: int
    ordinary_seconds: int
    urgent_seconds: int
    watch_list_seconds: int
    quotas: Mapping[str, Mapping[SearchType, Quota]]

    def quota(self, peer: str, search_type: SearchType) -> Quota:
        """Return what a peer may ask: its own table, else that of every peer, else the profile's."""
        for table in (self.quotas.get(peer, {}), self.quotas.get(EVERY_PEER, {})):
            if search_type in table:
                return table[search_type]
        return DEFAULT_QUOTAS[search_type]


def read_terms(text: str) -> Terms:
    """Return the terms that `law.toml` states.

    Raises
    ------
    LawInvalid
        It is no TOML; a term is unknown, missing, of the wrong type or outside its range.
    """
    table = _Table(read_toml(text, "law.toml"), "")
    days, answers = table.section("days"), table.section("answer_seconds")
    terms = Terms(
        country=table.text("country", r"[A-Z]{3}", "an ISO 3166-1 alpha-3 code, as HND"),
        version=table.number("version", None, 1, 1_000_000),
        title=table.text("title", r"[^\x00-\x1f\x7f-\x9f]{3,200}", "a title of 3 to 200 letters"),
        valid_from=table.day("valid_from"),
        hides_denial=table.flag("hides_denial", default=False),
        least_print_quality=table.number("least_print_quality", 0, 0, 100),
        reference_days=days.number("reference", 14, 1, 90),
        ordinary_seconds=answers.number("ordinary", 86_400, 1, 604_800),
        urgent_seconds=answers.number("urgent", 3_600, 1, 86_400),
        watch_list_seconds=answers.number("watch_list", 10, 1, 3_600),
        quotas=_quotas(table.section("quotas")),
    )
    for left in (table, days, answers):
        left.nothing_left()
    return terms


def read_toml(text: str, name: str) -> dict[str, Any]:
    """Return a TOML file's table; raises `LawInvalid`, which names the line, where it is none."""
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise LawInvalid(f"{name} is no TOML ({error})", remedy="mend the file") from error


def _quotas(table: "_Table") -> Mapping[str, Mapping[SearchType, Quota]]:
    quotas: dict[str, Mapping[SearchType, Quota]] = {}
    for peer in list(table.values):
        if peer != EVERY_PEER and not is_country(peer):
            raise LawInvalid(
                "law.toml: quotas for what is no country", remedy='write [quotas.HND] or [quotas."*"]'
            )
        types = table.section(peer)
        quotas[peer] = MappingProxyType(
            {kind: _quota(types, kind) for kind in SearchType if kind in types.values}
        )
        types.nothing_left()
    return MappingProxyType(quotas)


def _quota(table: "_Table", kind: SearchType) -> Quota:
    row = table.section(kind)
    quota = Quota(row.number("per_day", None, 0, 1_000_000), row.number("candidates", None, 1, 100))
    row.nothing_left()
    return quota


class _Table:
    """A table of TOML from which each term is taken once, by type and range."""

    def __init__(self, values: object, path: str) -> None:
        if not isinstance(values, Mapping):
            raise LawInvalid(f"law.toml: {path} is no table", remedy="write it as the page on policy shows")
        self.values, self._path = dict(values), path

    def section(self, key: str) -> "_Table":
        return _Table(self.values.pop(key, {}), f"{self._path}{key}.")

    def text(self, key: str, pattern: str, words: str) -> str:
        value = self._take(key, None)
        if not (isinstance(value, str) and re.fullmatch(pattern, value)):
            raise self._wrong(key, words)
        return value

    def number(self, key: str, default: int | None, low: int, high: int) -> int:
        value = self._take(key, default)
        if type(value) is not int or not low <= value <= high:
            raise self._wrong(key, f"a whole number, {low} to {high}")
        return value

    def flag(self, key: str, *, default: bool) -> bool:
        value = self._take(key, default)
        if type(value) is not bool:
            raise self._wrong(key, "true or false")
        return value

    def day(self, key: str) -> datetime:
        value = self._take(key, None)
        if type(value) is not date:
            raise self._wrong(key, "a date, as 2026-01-01")
        return datetime.combine(value, time(), UTC)

    def nothing_left(self) -> None:
        if self.values:
            key = f"{self._path}{min(self.values)}"
            raise LawInvalid(
                f"law.toml: unknown term {key!r}", remedy="see docs/policy.md for the terms there are"
            )

    def _take(self, key: str, default: object) -> object:
        if key not in self.values and default is None:
            raise LawInvalid(f"law.toml lacks {self._path}{key}", remedy="add it")
        return self.values.pop(key, default)

    def _wrong(self, key: str, words: str) -> LawInvalid:
        return LawInvalid(f"law.toml: {self._path}{key} is not well formed", remedy=f"write {words}")
