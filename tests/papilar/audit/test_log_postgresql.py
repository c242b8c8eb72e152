"""The log on a PostgreSQL server: the same tree, the same findings, one writer at a time."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from entries import MARK, START, an_entry, entry_number
from sqlalchemy import text

from papilar.audit.check import Flaw, verify
from papilar.audit.entry import Act, Outcome, Side
from papilar.audit.log import AuditLog
from papilar.audit.report import report_for_authority, report_for_subject
from papilar.errors import GalleryUnknown
from papilar.store.log import LogStore


@pytest.fixture
def url(postgresql: object) -> str:
    return str(postgresql.new_place())  # type: ignore[attr-defined]


@pytest.fixture
def remote(url: str) -> Iterator[AuditLog]:
    store = LogStore.open(url, create=True)
    yield AuditLog(store)
    store.close()


def test_it_is_the_same_log(remote: AuditLog, full: AuditLog) -> None:
    remote.append_all([entry_number(index) for index in range(45)])
    assert remote.head() == full.head()
    assert remote.inclusion_proof(13, 40) == full.inclusion_proof(13, 40)
    assert remote.consistency_proof(13, 40) == full.consistency_proof(13, 40)
    times = START, START + timedelta(days=1)
    assert report_for_authority(remote.store, *times) == report_for_authority(full.store, *times)
    assert report_for_subject(remote.store, MARK) == report_for_subject(full.store, MARK)
    assert verify(remote.store) == verify(full.store)


def test_writers_in_two_processes_wait_for_each_other(remote: AuditLog, url: str) -> None:
    logs = remote, AuditLog(LogStore.open(url)), AuditLog(LogStore.open(url))
    with ThreadPoolExecutor(6) as pool:
        receipts = list(pool.map(lambda i: logs[i % 3].append(entry_number(i)), range(60)))
    assert sorted(receipt.index for receipt in receipts) == list(range(60))
    assert verify(remote.store).counts == {}
    for log in logs[1:]:
        log.store.close()


def test_tampering_and_erasure(remote: AuditLog) -> None:
    remote.append_all([entry_number(index) for index in range(45)])
    record = an_entry(side=Side.OWN, act=Act.ERASURE, outcome=Outcome.DONE, time=START + timedelta(days=740))
    assert remote.erase_before(START + timedelta(hours=9), record=record).erased == 9
    assert verify(remote.store).counts == {}
    with remote.store._engine.begin() as connection:
        connection.execute(text("UPDATE log_entry SET bytes = '' WHERE leaf_index = 20"))
    assert verify(remote.store).counts == {Flaw.CHANGED: 1}


def test_a_place_without_a_log(url: str) -> None:
    with pytest.raises(GalleryUnknown):
        LogStore.open(url)
