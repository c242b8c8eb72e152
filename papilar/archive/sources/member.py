"""What lies in a source, not yet read: a file, a member of an archive or a row, and what is said of it."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import date
from enum import StrEnum
from typing import NamedTuple

from matcher.errors import PapilarError
from matcher.template import Finger, Impression
from papilar.archive.folder import name_file
from papilar.archive.item import Item, no_bytes
from papilar.store.values import MissingFinger

HEAD = 256
"""How many bytes tell what a file is."""


class Sheet(StrEnum):
    """A picture of several fingers."""

    CARD = "card"
    """A ten-print card."""
    LEFT_SLAP = "left-slap"
    RIGHT_SLAP = "right-slap"
    THUMBS = "thumbs"


class Said(NamedTuple):
    """What is said of a file beside it: by its name, or, where `stated`, by a manifest."""

    subject: str
    impression: str
    finger: Finger = Finger.UNKNOWN
    ppi: float | None = None
    category: str = ""
    retention: date | None = None
    stated: bool = False
    sheet: Sheet | None = None
    kind: Impression | None = None
    missing: tuple[MissingFinger, ...] = ()


class Member(NamedTuple):
    """One file of a source.

    Attributes
    ----------
    name : str
        Path within the source, parts joined by '/'.
    said : Said
    read : callable
        Gives all its bytes; from any thread, at any time.
    head : bytes
        Its first `HEAD` bytes.
    version : str
        What changes when its bytes do; empty where that is not known.
    fault : PapilarError or None
        Why it cannot be read.
    held : int
        How many bytes `read` holds in memory; 0 where it reads from where they lie.
    empty : bool
        Whether there is no file: a row that says which fingers are missing, and no more.
    share : float or None
        As of `papilar.archive.item.Item`.
    """

    name: str
    said: Said
    read: Callable[[], bytes] = no_bytes
    head: bytes = b""
    version: str = ""
    fault: PapilarError | None = None
    held: int = 0
    empty: bool = False
    share: float | None = None

    def item(self, read: Callable[[], bytes] | None = None) -> Item:
        """Return the one print that it is."""
        subject, impression, finger, ppi, category, retention, *_ = self.said
        return Item(
            self.name,
            subject,
            impression,
            finger,
            read or self.read,
            self.version,
            ppi=ppi,
            kind=self.said.kind,
            category=category,
            retention=retention,
            fault=self.fault,
            held=self.held,
            share=self.share,
        )


def missing_items(member: Member) -> Iterator[Item]:
    """Yield the fingers of which it is said that there is no print, and why."""
    for finger, reason in member.said.missing:
        name = f"{member.name}#{finger.name.lower()}_{reason.lower()}"
        item = member._replace(name=name, version="", held=0).item(no_bytes)
        yield replace(item, finger=finger, kind=None, missing=reason)


def said_by(name: str, *, person: bool) -> Said:
    """Return what the name of a file says, by the rules of `papilar.archive.folder`."""
    return Said(*name_file(name, person=person))


def faulty(name: str, fault: PapilarError) -> Member:
    """Return a member of which there is nothing to read."""
    return Member(name, said_by(name, person=False), fault=fault)


def in_order(names: Iterable[str], *, person: bool) -> list[str]:
    """Return the files of one folder, those of one encounter together."""
    return sorted(names, key=lambda name: (*said_by(name, person=person)[:2], name))
