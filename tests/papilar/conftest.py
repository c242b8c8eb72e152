"""Fixtures that the tests of the store share: its tables, and a gallery with its place on each data base."""

import os
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import postgresql as servers
import pytest
from tables import Remembered

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
