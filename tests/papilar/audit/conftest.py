"""Fixtures of the log: an empty one, and one with entries, in a folder that would be a gallery's."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from entries import entry_number

from papilar.audit.log import AuditLog
from papilar.store.log import LogStore
from papilar.store.store import FILE_NAME


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / FILE_NAME
    path.touch()
    return path


@pytest.fixture
def log(file: Path) -> Iterator[AuditLog]:
    store = LogStore.open(file.parent, create=True)
    yield AuditLog(store)
    store.close()


@pytest.fixture
def full(log: AuditLog) -> AuditLog:
    log.append_all([entry_number(index) for index in range(45)])
    return log
