"""What tests of archive runs share: cheap items, a stand-in for a gallery, runs with a journal.

Run as a program it is a run that can be killed. `python archives.py FOLDER COUNT` enrols the crowd of that
many prints into FOLDER/gallery and writes a byte a line. What fails, fails once: FOLDER/tried remembers.
"""

import hashlib
import sqlite3
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

from minutiae import finger
from nodes import as_png

from enroll.image import read_image
from matcher.codecs import decode, encode
from matcher.errors import PapilarError
from matcher.template import Finger
from papilar.archive.item import Item, Line
from papilar.archive.journal import Journal
from papilar.archive.quarantine import Quarantine
from papilar.archive.receipt import ReceiptWriter
from papilar.archive.runner import RunOptions, run_archive
from papilar.node import Node
from papilar.requests import Assessment, Enrolled, Enrollment, Outcome, PrintInput, Rejected
from papilar.store import MissingReason
from papilar.store.journal import JournalStore
from papilar.translate import repeat, to_enroll_request

ADVICE = (("BLANK", "look at the scanner"),)


def image(grey: int = 128, ppi: float | None = 500) -> bytes:
    """PNG of one grey: no print, and as good as one for a stand-in."""
    import numpy as np

    return as_png(np.full((200, 160), grey, np.uint8), ppi)


def item(name: str, subject: str = "", impression: str = "1", **more: Any) -> Item:
    """An item that reads as an image of its own."""
    grey = hashlib.sha256(name.encode(errors="replace")).digest()[0]
    given = {"read": lambda: image(grey) + name.encode(errors="replace"), "version": "1", **more}
    return Item(name, subject or name, impression, **given)


def record(seed: int, *, n: int = 30) -> bytes:
    """A template's record, which is read in a few milliseconds."""
    return encode(finger(seed, n), "papilar-2")


def in_process(given: PrintInput) -> tuple[PrintInput, tuple[str, ...]]:
    """Decode, in this process."""
    return given, read_image(given.image or b"", ppi=given.ppi).warnings


class Gallery:
    """Stands for a node: remembers what it was asked to enrol."""

    def __init__(
        self, *, poor: frozenset[int] = frozenset(), fails: Mapping[int, PapilarError] | None = None
    ):
        self.asked: list[tuple[Enrollment, str]] = []
        self._poor, self._fails = poor, fails or {}
        self._lock = threading.Lock()

    def __call__(self, new: Enrollment, request_id: str) -> Outcome:
        with self._lock:
            repeated = request_id in [done for _, done in self.asked]
            self.asked.append((new, request_id))
            turn = len(self.asked)
        if turn in self._fails:
            raise self._fails[turn]
        prints = tuple(
            Assessment(i, p.finger, i not in self._poor, 70, ADVICE if i in self._poor else (), 40)
            for i, p in enumerate(new.prints)
        )
        if all(not p.accepted for p in prints):
            return Rejected(prints)
        return Enrolled(new.subject_id, f"encounter {turn}", prints, repeated)

    @property
    def ids(self) -> list[str]:
        """The ids of the requests, in their order."""
        return [request_id for _, request_id in self.asked]


class Archive:
    """A folder with a journal, and the runs over it: each is a process of its own, as far as it can tell."""

    def __init__(self, folder: Path, *, in_gallery: bool = False) -> None:
        self.store = JournalStore.open(folder, create=True)
        self._in_gallery = in_gallery

    def run(
        self,
        items: Iterable[Item],
        call: Callable[[Enrollment, str], Outcome],
        *,
        source: str = "a",
        stop: threading.Event | None = None,
        prepare: Any = in_process,
        **options: Any,
    ) -> Iterator[Line]:
        how = RunOptions(**{"threads": 1, **options})
        journal = Journal(self.store, source, options=how.bearing, in_gallery=self._in_gallery)
        return run_archive(items, call, prepare=prepare, journal=journal, options=how, stop=stop)

    def lines(self, items: Iterable[Item], call: Any, **options: Any) -> dict[str, Line]:
        """Return all lines of a run, by name."""
        lines = list(self.run(items, call, **options))
        assert len({line.file for line in lines}) == len(lines)
        return {line.file: line for line in lines}


def results(lines: Mapping[str, Line]) -> dict[str, str]:
    return {name: f"{line.result} {line.reason}".strip() for name, line in lines.items()}


# ---- a crowd of cheap prints, and a run over them in a process of its own

KINDS = 8
"""How many kinds of persons a crowd has, one after the other: see `_prints`."""

POOR = record(1, n=1)


def crowd(count: int, mended: Path) -> Iterator[Item]:
    """Yield prints of persons with three fingers; what fails, fails until there is the file `mended`."""
    for number in range(count):
        person, place = divmod(number, 3)
        content, impression, more = _print(person, place)
        fault = content if isinstance(content, Fault) else None
        yield Item(
            f"{person:05}/{place + 1}_{impression}.fmr",
            f"p{person:05}",
            impression,
            Finger(place + 1),
            partial(_read, number if fault else content, fault, mended),
            record=True,
            **{"version": "1", **more},
        )


class Fault(StrEnum):
    """What is wrong with a file."""

    UNREADABLE = "the disk does not give it"
    BROKEN = "it is no record"
    LATE = "it is no record, which whoever reads it first does not see"
    ALWAYS = "it is no record, nor will it ever be, and everybody has the same"


def _print(person: int, place: int) -> tuple[int | Fault, str, dict[str, Any]]:
    """Return what a print holds, of which encounter it is, and what else is said of it."""
    own: tuple[int, str] = (3 * person + place, "1")
    odd: Mapping[tuple[int, int], tuple[int | Fault, str, dict[str, Any]]] = {
        (0, 1): (Fault.UNREADABLE, "1", {}),
        (1, 0): (Fault.BROKEN, "1", {}),
        (2, 2): (own[0] - 1, "1", {}),  # the same bytes as the finger before
        (3, 1): (own[0] - 5, "1", {}),  # those of the finger before of the person before
        (4, 2): (own[0] - 2, "2", {}),  # those of the first finger, of another encounter
        (5, 1): (Fault.ALWAYS, "1", {}),
        (6, 1): (own[0], "1", {"missing": MissingReason.AMPUTATED}),
        (6, 2): (own[0], "1", {"version": ""}),  # the source cannot tell whether it has changed
        (7, 1): (Fault.LATE, "1", {}),
        (7, 2): (-1, "1", {}),  # too poor
    }
    return odd.get((person % KINDS, place), (*own, {}))


def _read(seed: int, fault: Fault | None, mended: Path) -> bytes:
    broken = fault is not None and not mended.exists()
    if broken and fault is Fault.UNREADABLE:
        raise OSError(5, "Input/output error")
    if fault is Fault.ALWAYS:
        return b"no record"
    if broken:
        return f"{fault} {seed}".encode()
    return record(seed, n=14) if seed >= 0 else POOR


Held = Counter[tuple[str, int, bytes]]


def held(gallery: Path) -> tuple[Held, set[tuple[str, tuple[int, ...]]]]:
    """Return the prints that a gallery holds, and the fingers of each encounter."""
    with closing(sqlite3.connect(gallery / "papilar.sqlite3")) as store:
        rows = store.execute(
            "SELECT subject_id, encounter_id, finger, template FROM print JOIN encounter USING (encounter_id)"
            " ORDER BY ordinal"
        ).fetchall()
    encounters: dict[tuple[str, str], tuple[int, ...]] = {}
    for subject, encounter, code, _ in rows:
        encounters[subject, encounter] = (*encounters.get((subject, encounter), ()), code)
    prints = Counter((subject, code, template) for subject, _, code, template in rows)
    return prints, {(subject, fingers) for (subject, _), fingers in encounters.items()}


def enroller(node: Node) -> Callable[[Enrollment, str], Outcome]:
    """Enrol in this process, safe to repeat."""

    def call(new: Enrollment, request_id: str) -> Outcome:
        return node.enroll(new, repeat=repeat(to_enroll_request(new, request_id=request_id)))

    return call


def decoded(given: PrintInput) -> tuple[PrintInput, tuple[str, ...]]:
    """Decode a record, in this process; of one kind of fault see nothing."""
    if not (given.template or b"").startswith(Fault.LATE.encode()):
        decode(given.template or b"")
    return given, ()


def letters(folder: Path, count: int) -> Iterator[str]:
    """Run over the crowd, with receipt and quarantine; yield the first letter of each result."""
    gallery = folder / "gallery"
    begun, aside = datetime.now(UTC), Quarantine(folder / "quarantine")
    with (
        Node(gallery, create=True, keep_images=False) as node,
        ReceiptWriter(folder / "receipt", source="a", target="g", begun=begun) as receipt,
    ):
        archive = Archive(gallery, in_gallery=True)
        items, call = crowd(count, folder / "mended"), enroller(node)
        for line in archive.run(items, call, threads=3, prepare=decoded, quarantine=aside):
            receipt.add(line)
            yield line.result[0]
        receipt.end(datetime.now(UTC))


if __name__ == "__main__":
    for letter in letters(Path(sys.argv[1]), int(sys.argv[2])):
        print(letter, end="", flush=True)  # noqa: T201
