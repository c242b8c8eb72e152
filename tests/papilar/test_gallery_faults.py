"""A node's gallery and what befalls it: killed at every step, a damaged file, a full disk.

Nothing acknowledged is lost, nothing deleted comes back, nothing is there twice, no file is left over.
"""

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

import needs
import numpy as np
import pytest
from faults import PLACES, Nursery, Places, Steps, Told, begun, check, check_files, go_on, record

import papilar.node
import papilar.tidying
from matcher.gallery import MANIFEST
from matcher.segment import _PREFIX
from papilar.node import Node
from papilar.requests import PrintInput


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    made = Nursery(tmp_path_factory.mktemp("nursery") / "log")
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(papilar.node, "network", lambda: None)


# ---- kill -9


@pytest.mark.parametrize("all_steps", [False, pytest.param(True, marks=pytest.mark.soak)])
def test_killed_at_every_step(
    tmp_path: Path, nursery: Nursery, monkeypatch: pytest.MonkeyPatch, all_steps: bool
) -> None:
    """Of enrolling, sealing and compacting: each time what was acknowledged is there, once, and no more.

    Of steps of one kind in a row, as the writes of a segment, it is killed at the first and the last alone.
    """
    (tmp_path / "first").mkdir()
    begun(tmp_path / "first")
    died: Counter[str] = Counter()
    for number in count(1) if all_steps else steps_to_die_at(tmp_path, monkeypatch):
        folder = tmp_path / "killed"
        shutil.copytree(tmp_path / "first", folder)
        nursery.begin("killed_at", folder, number)
        killed = nursery.end()
        told = Told(folder / "told")
        with Node(folder / "gallery") as node:
            check(node, told)
        check_files(folder / "gallery", told)
        if killed:
            died[(folder / "died").read_text()] += 1
        elif all_steps:
            break
        shutil.rmtree(folder)
    assert died.keys() == {"open", "truncate", "write", "fsync", "replace", "unlink", "close"}, died
    assert died["replace"] >= 6, died  # of segments and of manifests, when sealing and when compacting
    assert died["write"] >= (50 if all_steps else 6), died


def steps_to_die_at(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the first and the last of steps of one kind in a row; two threads mix them a little."""
    shutil.copytree(folder / "first", folder / "alive")
    with monkeypatch.context() as patch:
        patch.setattr(papilar.node, "SEAL_AFTER", 3)
        patch.setattr(papilar.tidying, "COMPACT_EVERY_S", 0.02)
        names = names_of_steps(lambda: go_on(folder / "alive"))
    return [n for n in range(1, len(names) - 1) if names[n - 1] != names[n] or names[n] != names[n + 1]]


def names_of_steps(work: Callable[[], None]) -> list[str]:
    """Do something and return its steps, from place 1 on."""
    names = [""]
    with Steps(lambda _, name: names.append(name)).watching():
        work()
    return [*names, ""]


def kill_often(folder: Path, nursery: Nursery, times: int) -> Counter[str]:
    """Kill one process after the other at work on a gallery; return what they were at then."""
    chance, struck = random.Random(3), Counter[str]()  # noqa: S311
    (folder / "places").write_bytes(bytes(len(PLACES)))
    places = Places(folder / "places")
    for life in range(1, times + 1):
        places.clear()
        process = nursery.begin("work_until_killed", folder, 1000 * life)
        time.sleep(chance.uniform(0.1, 0.4))
        wanted, until = PLACES[life % len(PLACES)], time.monotonic() + 5
        while wanted not in places and time.monotonic() < until:
            pass
        time.sleep(chance.choice((0.0, 0.002)))
        with suppress(ProcessLookupError):  # it has failed; `end` says how
            os.kill(process, signal.SIGKILL)
        assert nursery.end()
        struck.update(place for place in PLACES if place in places)
    return struck


def check_killed(folder: Path, nursery: Nursery, times: int) -> None:
    struck, told = kill_often(folder, nursery, times), Told(folder / "told")
    with Node(folder / "gallery") as node:
        check(node, told, sample=10**6)
    check_files(folder / "gallery", told)
    assert struck["seal"] + struck["compact"] > 0, struck
    assert len(told.read().certain) > times


@pytest.mark.soak
def test_killed_at_any_moment(tmp_path: Path, nursery: Nursery) -> None:
    """The same gallery goes on after each time, and searches go on beside what writes."""
    check_killed(tmp_path, nursery, 12)


@pytest.mark.soak
def test_killed_a_hundred_times(tmp_path: Path, nursery: Nursery) -> None:
    check_killed(tmp_path, nursery, 100)


# ---- a damaged file


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gallery of two segments, nine persons and three."""
    folder = tmp_path_factory.mktemp("closed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(papilar.node, "network", lambda: None)
        with Node(folder / "gallery", create=True, keep_images=False) as node:
            for number in range(12):
                Told(folder / "told").enrol(node, number)
                if number in (8, 11):
                    node._gallery.seal()
    assert len(list((folder / "gallery" / "segments").glob("*.pps"))) == 2
    return folder


def answers(node: Node, numbers: range = range(13)) -> list[list[tuple[str, float]]]:
    """What searches say of some persons; the last of all is not in."""
    prints = [PrintInput(template=record(number)) for number in numbers]
    asked = [node.identify([one], mirrored=False) for one in prints]
    return [[(c.subject, c.score) for c in answer.candidates] for answer in asked]


@pytest.fixture(scope="module")
def right(closed: Path) -> list[list[tuple[str, float]]]:
    """The answers of a gallery that is whole."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(papilar.node, "network", lambda: None)
        with Node(closed / "gallery") as node:
            return answers(node)


class Bench:
    """Damages a copy of the gallery, and sees that its answers stay right and its files become so."""

    def __init__(
        self, folder: Path, closed: Path, right: list[list[tuple[str, float]]], log: pytest.LogCaptureFixture
    ) -> None:
        self._folder, self._closed, self._right, self._log = folder, closed, right, log

    def try_damage(self, name: str, damage: Callable[[bytearray], bytes]) -> None:
        folder = self._folder / "damaged"
        shutil.copytree(self._closed, folder)
        path = folder / "gallery" / "segments" / name
        path.write_bytes(damage(bytearray(path.read_bytes())))
        self._log.clear()
        with Node(folder / "gallery") as node:
            assert answers(node) == self._right
        assert name in self._log.text or "all are rebuilt" in self._log.text or "manifest" in self._log.text
        self._log.clear()
        check_files(folder / "gallery", Told(folder / "told"))
        with Node(folder / "gallery") as node:
            assert node._gallery.live_rows == 0, "all is sealed again"
            assert answers(node, range(4)) == self._right[:4]
        assert not self._log.records
        shutil.rmtree(folder)


@pytest.fixture
def bench(
    tmp_path: Path, closed: Path, right: list[list[tuple[str, float]]], caplog: pytest.LogCaptureFixture
) -> Bench:
    return Bench(tmp_path, closed, right, caplog)


def flipped(at: int) -> Callable[[bytearray], bytes]:
    def flip(data: bytearray) -> bytes:
        data[at] ^= 1 << at % 8
        return bytes(data)

    return flip


SEGMENT = "segment-00000001.pps"


def arrays_of(closed: Path) -> dict[str, tuple[int, int]]:
    """Return where each array of the segment lies, and how many bytes it has."""
    data = (closed / "gallery" / "segments" / SEGMENT).read_bytes()
    header = json.loads(data[_PREFIX.size : _PREFIX.size + _PREFIX.unpack_from(data)[3]])
    return {
        name: (one["at"], int(np.prod(one["shape"])) * np.dtype(one["dtype"]).itemsize)
        for name, one in header.items()
    }


def test_a_flipped_bit_of_any_array(closed: Path, bench: Bench) -> None:
    chance, arrays = random.Random(7), arrays_of(closed)  # noqa: S311
    assert len(arrays) >= 17
    for at, size in arrays.values():
        assert size > 0
        bench.try_damage(SEGMENT, flipped(at + chance.randrange(size)))


def test_a_flipped_bit_of_the_header(closed: Path, bench: Bench) -> None:
    for at in (0, 9, 13, 20, _PREFIX.size, _PREFIX.size + 300):
        bench.try_damage(SEGMENT, flipped(at))


def test_a_segment_that_is_cut_short(closed: Path, bench: Bench) -> None:
    whole = (closed / "gallery" / "segments" / SEGMENT).stat().st_size
    starts = sorted(at for at, _ in arrays_of(closed).values())
    for length in (0, 5, _PREFIX.size + 9, starts[0], starts[5], starts[-1], whole // 2, whole - 1):
        bench.try_damage(SEGMENT, lambda data, length=length: bytes(data[:length]))  # type: ignore[misc]


def test_a_damaged_manifest(closed: Path, bench: Bench) -> None:
    text = (closed / "gallery" / "segments" / MANIFEST).read_bytes()
    for at in (0, text.index(b"segments"), text.index(b"0001"), text.index(b"mcc"), len(text) - 3):
        bench.try_damage(MANIFEST, flipped(at))
    for length in (0, len(text) // 2):
        bench.try_damage(MANIFEST, lambda data, length=length: bytes(data[:length]))  # type: ignore[misc]


# ---- a full disk


def wait_for_sealing(node: Node) -> None:
    until = time.monotonic() + 20
    while node._gallery.live_rows >= 3 and time.monotonic() < until:
        time.sleep(0.01)
    assert node._gallery.live_rows < 3


def first_steps(folder: Path) -> list[int]:
    """Return the steps that differ from the one before, of those that need room."""
    told = Told(folder / "told")
    with Node(folder / "gallery") as node:
        names = names_of_steps(lambda: fill(node, told))
    return [n for n in range(1, len(names)) if names[n] != names[n - 1] and names[n] in ROOM]


ROOM = ("open", "truncate", "write", "fsync", "replace")
"""Steps that a full disk refuses."""


def fill(node: Node, told: Told) -> None:
    for number in range(20, 23):
        told.enrol(node, number)
    told.delete(node, 2)
    told.delete(node, 21)
    told.enrol(node, 23)


def test_a_disk_that_is_full_from_any_step_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is, all is found and enrolling goes on; when there is room again, all is sealed."""
    monkeypatch.setattr(papilar.node, "SEAL_AFTER", 3)
    (tmp_path / "first").mkdir()
    begun(tmp_path / "first")
    shutil.copytree(tmp_path / "first", tmp_path / "dry")
    for full in first_steps(tmp_path / "dry"):
        folder = tmp_path / "full"
        shutil.copytree(tmp_path / "first", folder)

        def refuse(now: int, name: str, full: int = full) -> None:
            if now >= full and name in ROOM:
                raise OSError(errno.ENOSPC, "No space left on device")

        told = Told(folder / "told")
        with Node(folder / "gallery") as node:
            with Steps(refuse).watching():
                fill(node, told)
                check(node, told)
            for number in range(30, 34):
                told.enrol(node, number)
            wait_for_sealing(node)
            check(node, told)
        check_files(folder / "gallery", told)
        with Node(folder / "gallery") as node:
            check(node, told)
        shutil.rmtree(folder)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """A disk for the segments alone; what is given is told how large it is to be."""
    path = tmp_path / "gallery" / "segments"

    def resize(size: str) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", str(path)], check=True)

    with needs.disk(path, "256k"):
        yield resize


def test_a_disk_that_is_full(
    tmp_path: Path,
    disk: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A real one, of the segments alone: the store goes on, and so do searches."""
    monkeypatch.setattr(papilar.node, "SEAL_AFTER", 3)
    told, numbers = Told(tmp_path / "told"), count()
    with Node(tmp_path / "gallery", create=True, keep_images=False) as node:
        while "No space left" not in caplog.text:
            told.enrol(node, next(numbers))
        for _ in range(8):
            told.enrol(node, next(numbers))
        told.delete(node, 3)
        check(node, told)
        assert node._gallery.live_rows >= 8
        disk("16m")
        for _ in range(8):
            told.enrol(node, next(numbers))
        wait_for_sealing(node)
        check(node, told)
    check_files(tmp_path / "gallery", told)
    with Node(tmp_path / "gallery") as node:
        check(node, told, sample=10**6)
