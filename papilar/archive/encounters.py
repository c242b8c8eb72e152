"""The encounters of a source, one after the other, with what the journal knows of their items."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

from matcher.errors import PapilarError
from papilar.archive.item import Item
from papilar.archive.journal import Journal, Known

MOST_HELD = 256 << 20
"""Bytes that items hold, of those drawn and of those under way; and one encounter more."""

_LOOKED_UP = 256  # items that the journal is asked about at a time


class Encounter(NamedTuple):
    """The items of an encounter, and what is known of them by name."""

    items: Sequence[Item]
    known: Mapping[str, Known]

    @property
    def held(self) -> int:
        """How many bytes its items hold."""
        return _held(self.items)


def encounters_of(items: Iterable[Item], journal: Journal) -> Iterator[Encounter]:
    """Yield the encounters, with what the journal knows of their items."""
    groups = ([*group] for _, group in groupby(items, key=lambda item: item.encounter))
    trouble = None
    while trouble is None:
        some, trouble = _drawn(groups)
        known = journal.known([item for group in some for item in group])
        for group in some:
            yield Encounter(group, {item.name: known[item.name] for item in group if item.name in known})
        if not some and trouble is None:
            return
    raise trouble


def _drawn(groups: Iterator[list[Item]]) -> tuple[list[list[Item]], PapilarError | None]:
    """Draw some encounters, and what the source raised after them."""
    some: list[list[Item]] = []
    count = held = 0
    try:
        while count < _LOOKED_UP and held < MOST_HELD and (group := next(groups, None)) is not None:
            count += len(group)
            held += _held(group)
            some.append(group)
    except PapilarError as error:
        return some, error
    return some, None


def _held(items: Iterable[Item]) -> int:
    return sum(item.held for item in items)
