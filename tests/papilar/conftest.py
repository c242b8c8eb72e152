"""Fixtures that the tests of the store share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from papilar.store import Store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A gallery's folder, not made yet."""
    return tmp_path / "gallery"


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    """A new gallery's store in `folder`."""
    with Store.open(folder, create=True, name="hn", facts={"extractor": "leader-1"}) as store:
        yield store
