"""Fixtures that many tests share: a store's tables and places, and what reads and extracts prints once."""

import os
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import postgresql as servers
import pytest
from tables import Remembered

import papilar.files
import papilar.prints
from enroll.image import GrayImage
from enroll.pipeline import Extraction, extract
from papilar.archive.workers import Readers
from papilar.commands import enroll as enroll_command
from papilar.commands import prints as prints_command
from papilar.store import Store, migrations

Target = Path | str
"""A folder, or the URL of a data base."""


@pytest.fixture(scope="session", autouse=True)
def remembered() -> Iterator[Remembered]:
    """The statements that make a new store's tables."""
    tables = Remembered()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(migrations, "upgrade", tables.upgrade)
        yield tables


@pytest.fixture(scope="session")
def postgresql() -> Iterator[servers.Server]:
    """A PostgreSQL server of this test process."""
    if servers.programs() is None:
        missing = "PostgreSQL's server is not installed: apt-get install postgresql"
        if os.environ.get("PAPILAR_DATASETS_REQUIRED"):
            pytest.fail(missing)
        pytest.skip(missing)
    server = servers.Server()
    yield server
    server.remove()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A gallery's folder, not made yet."""
    return tmp_path / "gallery"


@pytest.fixture
def file_store(folder: Path) -> Iterator[Store]:
    """A new gallery's store in `folder`, in SQLite."""
    with create(folder) as store:
        yield store


@pytest.fixture(params=["sqlite", "postgresql"])
def new_target(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Target]:
    """Give a place for a gallery with each call: a folder not made yet, or an empty schema's URL."""
    if request.param == "postgresql":
        server: servers.Server = request.getfixturevalue("postgresql")
        return server.new_place
    numbers = count()
    return lambda: tmp_path / f"gallery-{next(numbers)}"


@pytest.fixture
def target(new_target: Callable[[], Target]) -> Target:
    """A place for a gallery, not made yet."""
    return new_target()


@pytest.fixture
def store(target: Target) -> Iterator[Store]:
    """A new gallery's store in `target`, once on each data base."""
    with create(target) as store:
        yield store


def create(target: Target) -> Store:
    return Store.open(target, create=True, name="hn", facts={"extractor": "leader-1"})


# ---- prints, read and extracted once


@pytest.fixture(scope="session")
def reading() -> Iterator[Readers]:
    """A process that reads prints, started once: that takes longer than to read a dozen."""
    with Readers(1) as readers:
        yield readers


@pytest.fixture
def lasting_readers(reading: Readers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `papilar enroll` in this process find its reader started, and leave it so."""

    def lasting(_: int, **how: Any) -> Readers:
        readers = Readers(0, **how)
        readers._idle = reading._idle
        return readers

    monkeypatch.setattr(enroll_command, "Readers", lasting)


@pytest.fixture(scope="session")
def extracted() -> dict[tuple[Any, ...], Extraction]:
    """What was extracted in this process, by image and what is known of it."""
    return {}


@pytest.fixture
def extracted_once(extracted: dict[tuple[Any, ...], Extraction], monkeypatch: pytest.MonkeyPatch) -> None:
    """Extract each image once: what comes is the same each time, as the tests of `enroll` show."""

    def once(image: GrayImage, **known: Any) -> Extraction:
        key = (image.sha256, image.ppi, image.warnings, *sorted(known.items()))
        if key not in extracted:
            extracted[key] = extract(image, **known)
        return extracted[key]

    monkeypatch.setattr(papilar.prints, "extract", once)
    monkeypatch.setattr(papilar.files, "extract", once)
    monkeypatch.setattr(prints_command, "extract_template", once)
