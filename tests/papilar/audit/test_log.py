"""The log: what it keeps, proves and erases, with many threads, statements that fail, and kill -9."""

import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from entries import START, an_entry, entry_number, tamper
from hypothesis import given, settings
from hypothesis import strategies as st
from pymerkle import InmemoryTree
from sqlalchemy import event

from matcher.errors import GalleryCorrupt
from papilar.audit import merkle
from papilar.audit.check import verify
from papilar.audit.entry import Act, Outcome, Sent, Side, decode, encode
from papilar.audit.log import AuditLog, Receipt
from papilar.errors import (
    ConfigInvalid,
    GalleryUnknown,
    RequestInvalid,
    RetentionNotOver,
    StorageFull,
    StorageUnavailable,
)
from papilar.store.log import LogStore

ERASURE = an_entry(
    side=Side.OWN, act=Act.ERASURE, outcome=Outcome.DONE, time=START + timedelta(days=740), sent=()
)


def sound(log: AuditLog) -> bool:
    return verify(log.store).counts == {}


# ---- appends and proofs


def test_an_empty_log(log: AuditLog) -> None:
    assert log.head() == (0, merkle.EMPTY)
    assert list(log.entries()) == []
    assert sound(log)
    assert verify(log.store).root == merkle.EMPTY


def test_every_receipt_is_provable_in_every_later_tree(log: AuditLog) -> None:
    oracle = InmemoryTree(algorithm="sha256")
    receipts = [log.append(entry_number(0)), *log.append_all([entry_number(i) for i in range(1, 20)])]
    for index, receipt in enumerate(receipts):
        data = encode(entry_number(index))
        oracle.append_entry(data)
        root = bytes(oracle.get_root())
        assert receipt == Receipt(index, merkle.leaf_hash(data), index + 1, root)
        assert log.head(index + 1) == (index + 1, root)
        for size in range(index + 1, 21):
            proof, head = log.inclusion_proof(index, size), log.head(size)
            assert merkle.holds_inclusion(receipt.leaf_hash, index, size, proof, head.root)
            steps = log.consistency_proof(index + 1, size)
            assert merkle.holds_consistency(index + 1, size, root, head.root, steps)
    assert [stored.entry for stored in log.entries(3, 7)] == [entry_number(i) for i in range(3, 7)]
    assert len(list(log.entries())) == 20


def test_a_log_is_the_same_after_it_was_opened_again(full: AuditLog, file: Path) -> None:
    again = AuditLog(LogStore.open(file.parent))
    assert again.head() == full.head()
    assert [stored.entry for stored in again.entries()] == [entry_number(i) for i in range(45)]
    assert again.append(an_entry()).index == 45
    assert sound(full)


@pytest.mark.parametrize("index", [-1, 45])
def test_what_is_not_there_has_no_proof(full: AuditLog, index: int) -> None:
    with pytest.raises(RequestInvalid):
        full.inclusion_proof(index)
    with pytest.raises(RequestInvalid):
        full.inclusion_proof(3, 3)
    with pytest.raises(RequestInvalid):
        full.consistency_proof(5, 4)
    with pytest.raises(RequestInvalid):
        full.head(46)


def test_a_log_is_made_only_where_that_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(GalleryUnknown, match="no data base"):
        LogStore.open(tmp_path)
    (tmp_path / "papilar.sqlite3").touch()
    with pytest.raises(GalleryUnknown, match="earlier version, or missing"):
        LogStore.open(tmp_path)


def test_a_damaged_tree_is_not_grown(full: AuditLog, file: Path) -> None:
    tamper(file, "DELETE FROM log_node WHERE level = 5")
    with pytest.raises(GalleryCorrupt):
        AuditLog(full.store).append(an_entry())
    with pytest.raises(GalleryCorrupt):
        full.head()
    tamper(file, "UPDATE log_entry SET bytes = x'7b7d' WHERE leaf_index = 3")
    with pytest.raises(GalleryCorrupt, match="entry 3"):
        list(full.entries())


def test_threads_append_side_by_side(log: AuditLog) -> None:
    def work(worker: int) -> list[Receipt]:
        return [log.append(an_entry(request_id=f"{worker}-{i}")) for i in range(12)]

    with ThreadPoolExecutor(8) as pool:
        by_worker = list(pool.map(work, range(8)))
    entries = {stored.index: stored.entry for stored in log.entries()}
    assert len(entries) == 96
    for worker, receipts in enumerate(by_worker):
        assert [r.index for r in receipts] == sorted(r.index for r in receipts)
        for i, receipt in enumerate(receipts):
            entry = entries[receipt.index]
            assert entry is not None
            assert entry.request_id == f"{worker}-{i}"
            assert log.head(receipt.size).root == receipt.root
    assert sound(log)


def test_those_who_wait_share_a_transaction(log: AuditLog) -> None:
    begun: Counter[str] = Counter()
    event.listen(log.store._engine, "commit", lambda _: begun.update(["commit"]))
    log._writing.acquire()
    with ThreadPoolExecutor(6) as pool:
        waiting = [pool.submit(log.append, entry_number(i)) for i in range(6)]
        while len(log._waiting) < 6:
            time.sleep(0.001)
        log._writing.release()
        assert sorted(each.result().index for each in waiting) == list(range(6))
    assert begun["commit"] == 1


# ---- crashes


@contextmanager
def failing_at(log: AuditLog, number: int) -> Iterator[list[str]]:
    """Raise before the statement of that number, the commit included."""
    seen: list[str] = []

    def fail(what: str) -> None:
        seen.append(what)
        if len(seen) == number:
            raise OSError(28, "cut")

    def statement(_c: Any, _cursor: Any, text: str, *_: Any) -> None:
        fail(text)

    def commit(_: Any) -> None:
        fail("COMMIT")

    event.listen(log.store._engine, "before_cursor_execute", statement)
    event.listen(log.store._engine, "commit", commit)
    yield seen
    event.remove(log.store._engine, "before_cursor_execute", statement)
    event.remove(log.store._engine, "commit", commit)


def attempt(call: Callable[[], object]) -> bool:
    """Tell whether a call went through; the one error that may come is that of `failing_at`."""
    try:
        call()
    except StorageFull:
        return False
    return True


def test_an_append_cut_off_at_any_statement_leaves_no_trace(full: AuditLog) -> None:
    head, number, cut = full.head(), 0, 0
    while True:
        number += 1
        with failing_at(full, number) as seen:
            done = attempt(lambda: full.append_all([entry_number(i) for i in range(45, 48)]))
        if done:
            break
        cut += 1
        assert full.head() == head
        assert sound(full)
    assert cut >= 6  # size, four tables, commit
    assert seen[-1] == "COMMIT"
    assert full.head().size == 48
    assert sound(full)


def test_an_erasure_cut_off_at_any_statement_leaves_no_trace(full: AuditLog) -> None:
    head, number = full.head(), 0
    while True:
        number += 1
        with failing_at(full, number):
            done = attempt(lambda: full.erase_before(START + timedelta(hours=9), record=ERASURE))
        if done:
            break
        assert full.head() == head
        assert verify(full.store).erased == 0
        assert sound(full)
    assert number >= 9
    assert verify(full.store).erased == 9


def test_all_who_share_a_failed_transaction_hear_of_it(log: AuditLog) -> None:
    log._writing.acquire()
    with ThreadPoolExecutor(3) as pool, failing_at(log, 3):
        waiting = [pool.submit(log.append, entry_number(i)) for i in range(3)]
        while len(log._waiting) < 3:
            time.sleep(0.001)
        log._writing.release()
        assert all(each.exception() is not None for each in waiting)
    assert log.head().size == 0
    assert log.append(an_entry()).index == 0


def test_a_locked_file_is_an_error_with_a_name(full: AuditLog, file: Path) -> None:
    event.listen(full.store._engine, "checkout", lambda c, *_: c.execute("PRAGMA busy_timeout=50").close())
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageUnavailable):
        full.append(an_entry())
    other.close()
    assert full.append(an_entry()).index == 45


WRITER = """
import sys
import time
sys.path[:0] = sys.argv[2:]
from entries import entry_number
from papilar.audit.log import AuditLog
from papilar.store.log import LogStore
log = AuditLog(LogStore.open(sys.argv[1]))
while True:
    receipt = log.append(entry_number(log.head().size))
    print(receipt.size, receipt.root.hex(), flush=True)
"""


@pytest.mark.parametrize("after", [1, 7, 20])
def test_what_was_acknowledged_survives_kill_9(log: AuditLog, file: Path, after: int) -> None:
    root = str(Path(__file__).resolve().parents[3])
    command = [sys.executable, "-c", WRITER, str(file.parent), root, str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(after)]
        child.send_signal(signal.SIGKILL)
        lines += child.stdout.readlines()
    acknowledged = [line.split() for line in lines if line.endswith("\n")]
    assert log.head().size >= len(acknowledged) >= after
    for size, root in acknowledged:
        assert log.head(int(size)).root.hex() == root
    assert sound(log)


# ---- erasure


def test_what_is_erased_is_gone_and_its_hash_stays(full: AuditLog, file: Path) -> None:
    before = full.head()
    with_record = replace(ERASURE, sent=(Sent("NOTE", 1),))
    done = full.erase_before(START + timedelta(hours=9), record=with_record)
    assert (done.erased, done.end) == (9, 9)
    assert done.receipt is not None
    assert full.head(45) == before
    assert merkle.holds_inclusion(
        next(full.entries(4, 5)).leaf_hash, 4, 45, full.inclusion_proof(4, 45), before.root
    )
    assert [stored.index for stored in full.entries() if stored.entry is None] == list(range(9))
    record = next(full.entries(45)).entry
    assert record is not None
    assert record.sent == (Sent("NOTE", 1), Sent("LOG_ENTRY", 9, full.head(9).root.hex()))
    found = verify(full.store)
    assert (found.counts, found.erased, found.size) == ({}, 9, 46)
    on_disk = b"".join(path.read_bytes() for path in file.parent.iterdir())
    assert b'"request-3"' not in on_disk
    assert b'"request-20"' in on_disk


def test_a_second_erasure_takes_what_is_due_then(full: AuditLog) -> None:
    full.erase_before(START + timedelta(hours=9), record=ERASURE)
    nothing = full.erase_before(START + timedelta(hours=9), record=ERASURE)
    assert (nothing.erased, nothing.receipt) == (0, None)
    late = replace(ERASURE, time=START + timedelta(days=2000))
    everything = full.erase_before(START + timedelta(days=1000), record=late)
    assert (everything.erased, everything.end) == (37, 46)
    found = verify(full.store)
    assert (found.counts, found.erased, found.size) == ({}, 46, 47)
    assert full.append(an_entry()).index == 47
    assert sound(full)


def test_nothing_is_erased_before_its_time(full: AuditLog) -> None:
    with pytest.raises(RetentionNotOver):
        full.erase_before(START + timedelta(days=10), record=ERASURE)
    longer = AuditLog(full.store, retention=timedelta(days=3000))
    with pytest.raises(RetentionNotOver):
        longer.erase_before(START, record=ERASURE)
    with pytest.raises(ConfigInvalid):
        AuditLog(full.store, retention=timedelta(days=730))
    with pytest.raises(RequestInvalid):
        full.erase_before(START, record=an_entry(time=ERASURE.time))
    assert verify(full.store).erased == 0


def test_nobody_else_may_say_that_entries_were_erased(log: AuditLog) -> None:
    with pytest.raises(RequestInvalid):
        log.append(replace(ERASURE, sent=(Sent("LOG_ENTRY", 5),)))


# ---- any sequence


@settings(max_examples=15)
@given(st.lists(st.integers(1, 5), max_size=8))
def test_batches_of_any_size_give_the_same_tree(sizes: list[int]) -> None:
    with TemporaryDirectory() as folder:
        (Path(folder) / "papilar.sqlite3").touch()
        log, oracle, count = AuditLog(LogStore.open(folder, create=True)), InmemoryTree("sha256"), 0
        for size in sizes:
            batch = [entry_number(count + i) for i in range(size)]
            receipts = log.append_all(batch)
            count += size
            for each in batch:
                oracle.append_entry(encode(each))
            assert receipts[-1].root == log.head().root == bytes(oracle.get_root())
        assert [decode(encode(s.entry)) for s in log.entries() if s.entry] == [
            entry_number(i) for i in range(count)
        ]
        assert sound(log)
        log.store.close()


def test_who_reads_beside_a_node_takes_nothing_from_it(tmp_path: Path) -> None:
    """A node opens the file several times; another process that reads it must not end as its last user."""
    with closing(LogStore.open(tmp_path, create=True)) as rows, closing(LogStore.open(tmp_path, create=True)):
        log = AuditLog(rows)
        log.append(an_entry())
        code = (
            "import sys; from papilar.audit.log import AuditLog; from papilar.store.log import LogStore\n"
            "store = LogStore.open(sys.argv[1]); print(AuditLog(store).head().size); store.close()"
        )
        for size in (1, 2, 3):
            said = subprocess.run(
                [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
            )
            assert int(said.stdout) == size
            log.append(an_entry())
