"""A disk that is full: under the gallery, the quarantine or the originals, while a run writes.

The disk is one of 8 MiB, in memory, which only root may mount. The limit of a process for the size of its
files anybody may set.
"""

import os
import resource
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import needs
import pytest
from archives import Archive, enroller, held, record, results
from stores import integrity

from matcher.errors import InvalidInput, PapilarError
from matcher.template import Finger
from papilar.archive.item import Item, Line, Result
from papilar.archive.quarantine import Quarantine
from papilar.archive.receipt import ReceiptWriter, now, read_lines, verify_receipt
from papilar.encryption import Keys
from papilar.errors import StorageFull
from papilar.node import Node
from papilar.originals import Originals, survey
from papilar.prints import ReadPrint, read_prints
from papilar.requests import PrintInput

COUNT = 60
KEYS = Keys([bytes(range(32))])
OUT = {"FAILED INVALID_INPUT", "REJECTED TOO_FEW_MINUTIAE"}
FULL = {"NOT_TRIED STORAGE_FULL", "NOT_TRIED STOPPED"}


class Disk:
    """A disk of 8 MiB, of which as much is taken as a test wants."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def leave(self, free: int) -> None:
        """Take all but so many bytes."""
        self.free()
        found = os.statvfs(self.path)
        self._filler.write_bytes(bytes(found.f_bavail * found.f_frsize - free))

    def free(self) -> None:
        """Give back what was taken."""
        self._filler.unlink(missing_ok=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    path = tmp_path / "disk"
    with needs.disk(path, "8m"):
        yield Disk(path)


# ---- a run: prints of two fingers a person, and some files that are bad


def items(count: int = COUNT) -> Iterator[Item]:
    for number in range(count):
        person, finger = divmod(number, 2)
        data = partial(content, number)
        yield Item(f"{number}_1.png", f"p{person}", "1", Finger(finger + 1), data, version="1")


def content(number: int) -> bytes:
    """A record; some are none, in some there is nothing to compare."""
    if number % 5 == 3:
        return b"bad" + bytes([number]) * 20_000
    return record(number, n=0 if number % 7 == 5 else 14)


def read(prints: Sequence[PrintInput], **_: Any) -> list[ReadPrint]:
    """Read an image as the template's record that it is: no second goes into extraction."""
    return read_prints([replace(one, image=None, template=one.image) for one in prints])


def prepare(given: PrintInput) -> tuple[PrintInput, tuple[str, ...]]:
    if (given.image or b"").startswith(b"bad"):
        raise InvalidInput("this is no print", remedy="leave it")
    return given, ()


class Places:
    """Where a run writes; one of them may be on the disk."""

    def __init__(self, folder: Path, **elsewhere: Path) -> None:
        self.gallery = elsewhere.get("gallery", folder / "gallery")
        self.quarantine = elsewhere.get("quarantine", folder / "quarantine")
        self.originals = elsewhere.get("originals", folder / "originals")

    def node(self) -> Node:
        return Node(self.gallery, create=True, keep_images=False, read=read, originals=self._opened)

    def _opened(self, gallery: str) -> Originals:
        return Originals(str(self.originals), KEYS, gallery=gallery)

    def run(self) -> tuple[dict[str, Line], PapilarError | None]:
        """Run to the end, or to what stops it; give the lines, and what did."""
        lines: dict[str, Line] = {}
        with self.node() as node:
            archive = Archive(self.gallery, in_gallery=True)
            options = {"threads": 3, "quarantine": Quarantine(self.quarantine)}
            try:
                for line in archive.run(items(), enroller(node), prepare=prepare, **options):
                    lines[line.file] = line
            except PapilarError as error:
                return lines, error
            finally:
                archive.store.close()
        return lines, None

    def check(self, lines: dict[str, Line]) -> None:
        """Nothing is half there, and what is said to be in is."""
        assert integrity(self.gallery) == "ok"
        prints, _ = held(self.gallery)
        assert not prints or max(prints.values()) == 1
        there = {(subject, finger) for subject, finger, _ in prints}
        told = {line.file: (line.subject_id, line.finger) for line in lines.values() if line.encounter_id}
        assert set(told.values()) <= there
        for path in self.quarantine.iterdir():
            assert path.suffix == ".json" or sha256(path.read_bytes()).hexdigest() == path.name
        with self.node() as node:
            found = survey(Originals(str(self.originals), KEYS, gallery=created(node)), node_rows(node))
        assert found.flaws == ()
        assert not list(self.originals.rglob("*.part"))


def created(node: Node) -> str:
    return str(node._originals._place._root.name)  # type: ignore[union-attr]


def node_rows(node: Node) -> Any:
    return node._store.originals


@pytest.mark.parametrize(
    ("place", "left"), [("gallery", 400_000), ("quarantine", 60_000), ("originals", 60_000)]
)
def test_a_run_on_a_full_disk_says_so_and_goes_on_where_there_is_room(
    tmp_path: Path, disk: Disk, place: str, left: int
) -> None:
    undisturbed = Places(tmp_path / "undisturbed")
    wanted, _ = undisturbed.run()
    assert set(results(wanted).values()) == {"ENROLLED", *OUT}
    places = Places(tmp_path, **{place: disk.path / place})
    with places.node():
        pass
    Quarantine(places.quarantine)
    disk.leave(left)
    first, error = places.run()
    assert isinstance(error, StorageFull) or set(results(first).values()) & FULL
    assert error is None or error.reason == "STORAGE_FULL"
    assert "room" in str(error or [line.message for line in first.values() if "FULL" in line.reason])
    assert set(results(first).values()) <= {"ENROLLED", *OUT, *FULL}
    assert "ENROLLED" in results(first).values()
    disk.free()
    places.check(first)
    second, error = places.run()
    assert error is None
    assert set(results(second).values()) == {"ENROLLED", "ALREADY", *OUT}
    places.check(second)
    assert held(places.gallery)[0] == held(undisturbed.gallery)[0]
    assert contents(places.quarantine) == contents(undisturbed.quarantine)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_gallery_on_a_full_disk_is_not_opened_and_says_so(disk: Disk) -> None:
    places = Places(disk.path)
    places.run()
    disk.leave(4096)
    with pytest.raises(StorageFull, match="room"):
        places.run()
    disk.free()
    lines, _ = places.run()
    assert set(results(lines).values()) == {"ALREADY", *OUT}


def test_a_receipt_on_a_full_disk_says_so_and_what_was_enrolled_stays(tmp_path: Path, disk: Disk) -> None:
    """The run ends, and the next one's receipt tells of all."""
    places, path = Places(tmp_path), disk.path / "receipt"
    disk.leave(12_288)  # a page for what is buffered, and a few lines
    with pytest.raises(StorageFull, match=r"the receipt .* cannot be written"):
        receive(places, path)
    assert not path.exists(), "one that is not whole has another name"
    disk.free()
    before = set(held(places.gallery)[0])
    assert before
    receive(places, path)
    found = Counter(line.result for line in read_lines(path))
    assert verify_receipt(path).end["complete"]
    assert found[Result.ALREADY] == len(before)
    assert found.total() == COUNT


def receive(places: Places, path: Path) -> None:
    """Run, and write a receipt of it as `papilar enroll` does."""
    with places.node() as node:
        archive = Archive(places.gallery, in_gallery=True)
        with closing(archive.store), ReceiptWriter(path, source="a", target="g", begun=now()) as receipt:
            for line in archive.run(items(), enroller(node), prepare=prepare, threads=3):
                receipt.add(line)
            receipt.end(now())


# ---- for who is not root


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let no file of this process grow further: a write then ends half-way, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("place", ["quarantine", "originals"])
def test_a_write_that_ends_half_way_leaves_nothing_and_can_be_done_again(tmp_path: Path, place: str) -> None:
    data = os.urandom(100_000)
    item = Item("1_1.png", "p", "1")
    line = Line("1_1.png", Result.REJECTED, sha256=sha256(data).hexdigest())
    quarantine = partial(Quarantine(tmp_path / "quarantine").put, item, line, data)
    originals = partial(Originals(str(tmp_path / "originals"), KEYS, gallery="g").put, data)
    put = quarantine if place == "quarantine" else originals
    with files_of_at_most(50_000), pytest.raises(StorageFull) as caught:
        put()
    assert caught.value.reason == "STORAGE_FULL"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    put()
    assert [path for path in (tmp_path / place).rglob("*") if path.stat().st_size >= len(data)]
