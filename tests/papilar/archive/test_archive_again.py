"""A run that ends at any moment and is begun again ends as one that nobody disturbed: a naive twin of kills.

Here a kill is an exception at the n-th write of the journal or the n-th enrolment, before it or after it.
From there on nothing more is written or enrolled, as after `kill -9`.
"""

import shutil
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from archives import ADVICE, Archive
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from enroll.errors import ImageTooSmall
from matcher.template import Finger
from papilar.archive.item import Item, Line, Result
from papilar.requests import Assessment, Enrolled, Enrollment, Outcome, PrintInput, Rejected
from papilar.store import MissingReason


class Killed(BaseException):
    """The end of a run."""


class Death:
    """Kills at a moment, and all that comes after it."""

    def __init__(self, moment: int | None) -> None:
        self._left = moment
        self._lock = threading.Lock()

    def __call__(self) -> None:
        with self._lock:
            if self._left is not None:
                self._left -= 1
                if self._left < 0:
                    raise Killed


class Holding:
    """Stands for a gallery: what it holds, by request, whatever run asked."""

    def __init__(self) -> None:
        self.held: dict[str, tuple[str, tuple[bytes, ...]]] = {}

    def enroller(self, death: Death) -> Callable[[Enrollment, str], Outcome]:
        def call(new: Enrollment, request_id: str) -> Outcome:
            death()
            contents = [print_.image or b"" for print_ in new.prints]
            if any(content.startswith(b"late") for content in contents):
                raise ImageTooSmall("broken", remedy="mend it")
            good = [b"poor" not in content for content in contents]
            prints = tuple(
                Assessment(i, p.finger, ok, 70, () if ok else ADVICE, 40)
                for i, (p, ok) in enumerate(zip(new.prints, good, strict=True))
            )
            if not any(good):
                return Rejected(prints)
            repeated = request_id in self.held
            kept = tuple(content for content, ok in zip(contents, good, strict=True) if ok)
            self.held.setdefault(request_id, (new.subject_id, kept))
            death()
            return Enrolled(new.subject_id, request_id, prints, repeated)

        return call


def prepare(given: PrintInput) -> tuple[PrintInput, tuple[str, ...]]:
    if (given.image or b"").startswith(b"broken"):
        raise ImageTooSmall("broken", remedy="mend it")
    return given, ()


class File(NamedTuple):
    """A file of an archive, as it is drawn."""

    person: str
    impression: str
    content: str
    version: str
    missing: bool

    @property
    def mended(self) -> str:
        return self.content.removeprefix("unreadable ").removeprefix("broken ").removeprefix("late ")

    def item(self, number: int, *, mended: bool) -> Item:
        content = self.mended if mended else self.content

        def read() -> bytes:
            if content.startswith("unreadable"):
                raise OSError(5, "Input/output error")
            return content.encode()

        version = f"{self.version}{content}" if self.version else ""
        missing = MissingReason.AMPUTATED if self.missing else None
        return Item(
            f"{number}", self.person, self.impression, Finger(number % 10 + 1), read, version, missing=missing
        )


FAULTY = ["poor", "unreadable x", "unreadable w", "broken y", "broken t", "late s"]
FILE = st.builds(
    File,
    st.sampled_from("ab"),
    st.sampled_from("12"),
    st.sampled_from(["x", "y", "z", "u", "v", *FAULTY]),
    st.sampled_from(["", "1"]),
    st.sampled_from([False, False, False, True]),
)


class Ended(NamedTuple):
    lines: list[Line]
    held: Counter[tuple[str, tuple[bytes, ...]]]
    rows: list[Any]


def run(
    archive: Archive, holding: Holding, items: Sequence[Item], threads: int, moment: int | None = None
) -> Any:
    death, write = Death(moment), archive.store.write

    def written(*rows: Any) -> None:
        death()
        write(*rows)
        death()

    archive.store.write = written  # type: ignore[method-assign]
    try:
        return list(archive.run(items, holding.enroller(death), threads=threads, prepare=prepare))
    finally:
        archive.store.write = write  # type: ignore[method-assign]


def ended(archive: Archive, holding: Holding, items: Sequence[Item], threads: int) -> Ended:
    lines = run(archive, holding, items, threads)
    known = archive.store.known(_source(), [_key(item.name) for item in items])
    told = [replace(line, result=_here(line.result)) for line in lines]
    return Ended(told, Counter(holding.held.values()), sorted(kept.row for kept in known))


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal with nothing in it: to copy it is faster than to make it."""
    folder = tmp_path_factory.mktemp("empty") / "journal"
    Archive(folder).store.close()
    return folder


def begun(empty: Path, factory: pytest.TempPathFactory) -> tuple[Archive, Holding]:
    return Archive(Path(shutil.copytree(empty, factory.mktemp("again") / "journal"))), Holding()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(FILE, max_size=10), st.lists(st.integers(0, 12), max_size=3), st.integers(1, 3), st.booleans()
)
def test_it_ends_as_an_undisturbed_run(
    empty: Path,
    tmp_path_factory: pytest.TempPathFactory,
    files: list[File],
    moments: list[int],
    threads: int,
    later: bool,
) -> None:
    files.sort(key=lambda file: file[:2])
    undisturbed, disturbed = (begun(empty, tmp_path_factory) for _ in range(2))
    for mended in (False, True)[: 1 + later]:
        items = [file.item(number, mended=mended) for number, file in enumerate(files)]
        for moment in moments:
            with suppress(Killed):
                run(*disturbed, items, threads, moment)
        assert ended(*disturbed, items, threads) == ended(*undisturbed, items, threads)
    for archive, _ in (undisturbed, disturbed):
        archive.store.close()


@settings(max_examples=60, deadline=None)
@given(st.lists(FILE, max_size=10), st.lists(st.tuples(st.booleans(), st.integers(0, 12)), max_size=4))
def test_whenever_files_are_mended_none_is_in_twice_and_none_is_missed(
    empty: Path, tmp_path_factory: pytest.TempPathFactory, files: list[File], moments: list[tuple[bool, int]]
) -> None:
    if any(not mended for mended, _ in moments):  # one of the limits in docs/enrolment.md
        bytes_of = Counter((file.person, file.mended) for file in files)
        assume(all(bytes_of[file.person, file.mended] == 1 for file in files if file.mended != file.content))
    files.sort(key=lambda file: file[:2])
    archive, holding = begun(empty, tmp_path_factory)
    broken, whole = (
        [file.item(number, mended=mended) for number, file in enumerate(files)] for mended in (False, True)
    )
    for mended, moment in sorted(moments):
        with suppress(Killed):
            run(archive, holding, whole if mended else broken, 2, moment)
    lines = run(archive, holding, whole, 2)
    assert {line.result for line in lines} <= {*Result} - {Result.NOT_TRIED, Result.DUPLICATE}
    held = Counter((subject, content) for subject, contents in holding.held.values() for content in contents)
    wanted = {
        (item.subject, content)
        for item in whole
        if item.missing is None and b"poor" not in (content := item.read())
    }
    assert held.keys() == wanted
    assert max(held.values(), default=1) == 1
    archive.store.close()


def _here(result: Result) -> Result:
    return Result.ENROLLED if result is Result.ALREADY else result


def _source() -> bytes:
    return sha256(b"a").digest()


def _key(name: str) -> bytes:
    return sha256(name.encode()).digest()
