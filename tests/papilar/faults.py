"""What tests of faults share: persons, what a node was told of them, nodes that die at any step.

Run as a program this is a `Nursery`: it loads and compiles everything once, and then gives birth to nodes
that are there in milliseconds.
"""

import json
import mmap
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple

import pytest

import papilar.node
import papilar.tidying
from benchmarks.synthetic.templates import finger, impression
from matcher import gallery as gallery_module
from matcher import segment as segment_module
from matcher.codecs import NATIVE, encode
from matcher.cylinders import prepare
from matcher.gallery import MANIFEST
from matcher.template import Template
from papilar.node import Node
from papilar.requests import Enrolled, Enrollment, PrintInput

ROOT = Path(__file__).resolve().parents[2]
SURE = 2.5
"""Of 1,200 numbers a finger's own template scores 3.8 at least, of 60,000 pairs a stranger's 1.1 at most."""


# ---- persons, and what a node was told of them


@cache
def template(number: int) -> Template:
    """Of few minutiae, so that a thousand searches take little time."""
    return impression(finger(1, number), ridges=number % 4 == 0).best(20)


def record(number: int) -> bytes:
    return encode(template(number), NATIVE)


def found(node: Node, number: int) -> list[str]:
    """Whom a search for a person's finger names, with evidence for it."""
    answer = node.identify([PrintInput(template=record(number))], mirrored=False)
    return [c.subject for c in answer.candidates if c.score > SURE]


class Known(NamedTuple):
    """Persons by number: whose enrolment was asked for, who is in and where; the same of deletions."""

    asked: set[int]
    there: dict[int, str]
    doomed: set[int]
    gone: set[int]

    @property
    def certain(self) -> list[int]:
        """Who must be found."""
        return sorted(self.there.keys() - self.doomed)


class Told:
    """What a node was asked and has acknowledged, in a file that survives it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def _tell(self, sign: str, number: int, encounter: str = "") -> None:
        with self._path.open("a") as file:  # short lines: each is there whole or not at all
            file.write(f"{sign} {number} {encounter}\n")

    def read(self) -> Known:
        lines = [line.split() for line in self._path.read_text().splitlines()] if self._path.exists() else []
        asked, doomed, gone = ({int(line[1]) for line in lines if line[0] == sign} for sign in "?!-")
        return Known(asked, {int(line[1]): line[2] for line in lines if line[0] == "+"}, doomed, gone)

    def enrol(self, node: Node, number: int) -> None:
        self._tell("?", number)
        done = node.enroll(Enrollment((PrintInput(template=record(number)),), subject_id=f"s{number}"))
        assert isinstance(done, Enrolled)
        self._tell("+", number, done.encounter_id)

    def delete(self, node: Node, number: int) -> None:
        self._tell("!", number)
        node.delete(self.read().there[number])
        self._tell("-", number)


def check(node: Node, told: Told, *, sample: int = 4) -> None:
    """See that an opened gallery has what was acknowledged, once, and nothing of what was deleted."""
    known = told.read()
    certain, gone = known.certain, sorted(known.gone)
    for number in {*certain[-4:], *random.sample(certain, min(sample, len(certain)))}:
        assert found(node, number) == [f"s{number}"], number
    for number in random.sample(gone, min(sample, len(gone))):
        assert found(node, number) == [], number
    held = node.describe()
    assert held.prints == held.encounters == held.subjects == len(node._gallery)
    assert node._gallery.rows.tolist() == node._store.live_rows().tolist()
    assert len(certain) <= held.prints <= len(known.asked - known.gone)


def check_files(folder: Path, told: Told) -> None:
    """See that a closed gallery has the files of its manifest and no trace of who was deleted."""
    segments = folder / "segments"
    named = json.loads((segments / MANIFEST).read_text())["segments"] if segments.exists() else []
    kept = {path.name for path in segments.glob("*")}
    assert kept in ({MANIFEST, *named}, set())
    data = b"".join(path.read_bytes() for path in segments.glob("*.pps"))
    known = told.read()
    assert not any(pose_of(number) in data for number in known.gone)
    assert all(pose_of(number) in data for number in known.certain)


@cache
def pose_of(number: int) -> bytes:
    return prepare(template(number)).pose.tobytes()


# ---- steps: what the code of galleries does to the disk


class Steps:
    """Counts the steps, and does something at each: before it, or when a write is half done."""

    def __init__(self, at: Callable[[int, str], None]) -> None:
        self._at, self._count, self._lock = at, count(1), threading.Lock()

    def step(self, name: str) -> None:
        with self._lock:
            number = next(self._count)
        self._at(number, name)

    def counted(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*given: Any, **named: Any) -> Any:
            self.step(name)
            return call(*given, **named)

        return counted

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch what is done from here on."""
        with pytest.MonkeyPatch.context() as patch:
            for name in ("open", "fsync", "replace", "unlink", "close"):
                patch.setattr(os, name, self.counted(name, getattr(os, name)))
            create = segment_module.create_private
            for module in (segment_module, gallery_module):
                patch.setattr(module, "create_private", lambda path: Watched(create(path), self))
            yield


class Watched:
    """A file whose writing is watched."""

    def __init__(self, file: BinaryIO, steps: Steps) -> None:
        self._file, self._steps = file, steps

    def write(self, data: bytes) -> None:
        half = len(data) // 2
        self._file.write(data[:half])
        self._file.flush()
        self._steps.step("write")
        self._file.write(data[half:])

    def truncate(self, size: int) -> None:
        self._steps.step("truncate")
        self._file.truncate(size)

    def __enter__(self) -> "Watched":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


# ---- the work that is interrupted


def begun(folder: Path) -> Told:
    """Make a gallery of two segments, of which the larger has a deleted row, and a row that is in none."""
    told = Told(folder / "told")
    node = Node(folder / "gallery", create=True, keep_images=False)
    for number in range(9):
        told.enrol(node, number)
        if number in (5, 7):
            node._gallery.seal()
    told.delete(node, 1)
    node._store.close()  # and not the node, which would compact and seal
    return told


def go_on(folder: Path) -> None:
    """Open it, enrol, delete of what is sealed and what is not, close it."""
    told = Told(folder / "told")
    with Node(folder / "gallery") as node:
        for number in range(20, 23):
            told.enrol(node, number)
        for number in (2, 21):
            told.delete(node, number)


def killed_at(folder: Path, number: int) -> None:
    """Do it and die at a step."""

    def die(now: int, name: str) -> None:
        if now == number:
            (folder / "died").write_text(name)
            os.kill(os.getpid(), signal.SIGKILL)

    papilar.node.SEAL_AFTER, papilar.tidying.COMPACT_EVERY_S = 3, 0.02
    with Steps(die).watching():
        go_on(folder)


PLACES = ("enrol", "delete", "seal", "compact", "search")


class Places:
    """Where a process is, told to others by a file that they share."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), len(PLACES))

    def clear(self) -> None:
        self._map[:] = bytes(len(PLACES))

    def __contains__(self, place: str) -> bool:
        return self._map[PLACES.index(place)] == 1

    def told(self, owner: Any, name: str, place: Callable[..., str]) -> None:
        """Let a method tell that it is under way."""
        call = getattr(owner, name)

        def told(*given: Any, **named: Any) -> Any:
            at = PLACES.index(place(*given))
            self._map[at] = 1
            try:
                return call(*given, **named)
            finally:
                self._map[at] = 0

        setattr(owner, name, told)


def work_until_killed(folder: Path, first: int) -> None:
    """Check what is there, then enrol, delete and search until the end comes."""
    papilar.node.SEAL_AFTER, papilar.tidying.COMPACT_EVERY_S = 3, 0.02
    told, numbers = Told(folder / "told"), count(first)
    node = Node(folder / "gallery", create=True, keep_images=False)
    check(node, told)
    gallery, places = node._gallery, Places(folder / "places")
    places.told(node._store, "enroll", lambda *_: "enrol")
    places.told(node._store, "delete", lambda *_: "delete")
    places.told(gallery, "_rewrite", lambda _, read: "seal" if gallery._live in read else "compact")
    places.told(node._searcher, "search", lambda *_: "search")

    def search() -> None:
        while True:
            for number in random.sample(certain := told.read().certain, min(5, len(certain))):
                named = found(node, number)
                assert named == [f"s{number}"] or number in told.read().doomed, (number, named)
                time.sleep(0.005)

    threading.Thread(target=dying, args=(search,), daemon=True).start()
    until = time.monotonic() + 60  # and not for ever, should nobody be left to kill it
    while time.monotonic() < until:
        number = next(numbers)
        told.enrol(node, number)
        if number % 4 == 3:
            told.delete(node, number - random.choice((0, 1, 2)))  # noqa: S311


def dying(work: Callable[[], None]) -> None:
    """Do it; a failure is the end of the process."""
    try:
        work()
    except BaseException:
        traceback.print_exc()
        os._exit(1)


# ---- processes that may be killed


class Nursery:
    """Gives birth to processes that do one of the works above."""

    def __init__(self, log: Path) -> None:
        self._log = log
        paths = os.pathsep.join(map(str, (ROOT, ROOT / "tests", ROOT / "tests" / "papilar")))
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
                text=True,
            )

    def begin(self, work: str, folder: Path, number: int) -> int:
        """Begin a work; return its process."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{work} {number} {folder}\n")
        self._process.stdin.flush()
        return int(self._line())

    def end(self) -> bool:
        """Wait until the process has ended; return whether it was killed. One that failed raises."""
        code = int(self._line())
        assert code in (0, -signal.SIGKILL), self._log.read_text()[-4000:]
        return code != 0

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


def _give_birth() -> None:
    vars(papilar.node)["network"] = lambda: None  # nothing here needs it, and it takes long to load
    with tempfile.TemporaryDirectory() as name:
        begun(Path(name))  # so that every kernel is loaded
        go_on(Path(name))
    works = {work.__name__: work for work in (killed_at, work_until_killed)}
    for line in sys.stdin:
        work, number, folder = line.rstrip("\n").split(" ", 2)
        child = os.fork()
        if not child:
            dying(partial(works[work], Path(folder), int(number)))
            os._exit(0)
        print(child, flush=True)  # noqa: T201
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)  # noqa: T201


if __name__ == "__main__":
    _give_birth()
