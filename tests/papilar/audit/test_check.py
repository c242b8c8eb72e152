"""Every kind of tampering, done with raw SQL behind the log's back, and found where it was done."""

# ruff: noqa: S608
import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from entries import MARK, START, an_entry, entry_number, tamper
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from papilar.audit import merkle
from papilar.audit.check import Flaw, verify
from papilar.audit.entry import Act, Outcome, Sent, Side, encode
from papilar.audit.heads import TreeHead, sign_head
from papilar.audit.log import ERASED, AuditLog, facts_of
from papilar.signing import Signature
from papilar.store.log import LogStore, NewRow

SIZE = 45
LATER = START + timedelta(days=740)


def found(log: AuditLog, *heads: TreeHead) -> set[tuple[Flaw, int]]:
    verification = verify(log.store, heads=heads)
    assert sum(verification.counts.values()) == len(verification.findings)
    return {(finding.flaw, finding.index) for finding in verification.findings}


def unchecked(kind: str, payload: bytes) -> Signature:
    return Signature(b"certificate", b"signature")


def signed(log: AuditLog, size: int | None = None) -> TreeHead:
    head = log.head(size)
    return TreeHead("SLV", head.size, head.root, START)


def literal(data: bytes) -> str:
    return f"x'{data.hex()}'"


def set_bytes(index: int, data: bytes, *, leaf: bool = False) -> str:
    hashed = f", leaf = {literal(merkle.leaf_hash(data))}" if leaf else ""
    return f"UPDATE log_entry SET bytes = {literal(data)}{hashed} WHERE leaf_index = {index}"


def exchange(one: int, other: int, columns: str) -> list[str]:
    moves = ((one, -1), (other, one), (-1, other))
    if columns == "rows":
        return [f"UPDATE log_entry SET leaf_index = {b} WHERE leaf_index = {a}" for a, b in moves]
    both = f"leaf_index IN ({one}, {other})"
    kept = f"SELECT bytes FROM kept WHERE leaf_index = {one + other} - log_entry.leaf_index"
    return [
        f"CREATE TEMP TABLE kept AS SELECT leaf_index, bytes FROM log_entry WHERE {both}",
        f"UPDATE log_entry SET bytes = ({kept}) WHERE {both}",
    ]


def rebuilt(file: Path, entries: range, *, change: int = -1) -> None:
    """Replace the whole log by one that is sound in itself: the tamperer recomputes everything but heads."""
    with closing(sqlite3.connect(file)) as connection, connection:
        for table in ("log_entry", "log_node", "log_fact", "log_subject"):
            connection.execute(f"DELETE FROM {table}")
    log = AuditLog(LogStore.open(file.parent))
    changed = {change: an_entry(justification="rewritten")}
    log.append_all([changed.get(index) or entry_number(index) for index in entries])
    log.store.close()


def test_an_untouched_log_is_whole(full: AuditLog) -> None:
    sign_head(full, "SLV", sign=unchecked, now=START)
    verification = verify(full.store, heads=[signed(full, 0), signed(full, 7), signed(full)])
    assert verification.findings == ()
    assert (verification.size, verification.root) == full.head()
    assert verification.heads == 4


# ---- entries


@pytest.mark.parametrize("index", [0, 1, 17, 31, 32, 44])
def test_a_changed_entry_is_named(full: AuditLog, file: Path, index: int) -> None:
    tamper(file, set_bytes(index, encode(an_entry(officer="SLV:nobody"))))
    assert found(full, signed(full)) == {(Flaw.CHANGED, index)}


@pytest.mark.parametrize("index", [0, 1, 17, 31, 32])
def test_an_entry_changed_with_its_hash_is_placed_by_the_tree(full: AuditLog, file: Path, index: int) -> None:
    entry = replace(entry_number(index), justification="another")
    head = signed(full)
    tamper(file, set_bytes(index, encode(entry), leaf=True))
    assert found(full, head) == {(Flaw.TREE, index & ~1)}


@pytest.mark.parametrize("index", [0, 17, 43])
def test_a_missing_entry_is_a_gap(full: AuditLog, file: Path, index: int) -> None:
    tamper(file, f"DELETE FROM log_entry WHERE leaf_index = {index}")
    assert found(full) == {(Flaw.MISSING, index)}


def test_the_last_entry_cut_off_leaves_its_facts_and_its_head(full: AuditLog, file: Path) -> None:
    head = signed(full)
    tamper(file, "DELETE FROM log_entry WHERE leaf_index = 44")
    assert found(full, head) == {(Flaw.INDEX, 44), (Flaw.TRUNCATED, 44)}
    tamper(file, "DELETE FROM log_fact WHERE leaf_index = 44")
    assert found(full, head) == {(Flaw.TRUNCATED, 44)}


def test_entries_cut_off_leave_nodes(full: AuditLog, file: Path) -> None:
    tables = ("log_entry", "log_fact", "log_subject")
    tamper(file, *(f"DELETE FROM {table} WHERE leaf_index >= 20" for table in tables))
    assert found(full) == {(Flaw.TREE, 20)}


@pytest.mark.parametrize(("one", "other"), [(4, 5), (3, 30), (0, 43), (7, 44)])
def test_entries_in_each_others_place(full: AuditLog, file: Path, one: int, other: int) -> None:
    tamper(file, *exchange(one, other, "bytes"))
    assert found(full, signed(full)) == {(Flaw.REORDERED, one), (Flaw.REORDERED, other)}


@pytest.mark.parametrize(("one", "other"), [(4, 5), (3, 30), (0, 43)])
def test_rows_in_each_others_place(full: AuditLog, file: Path, one: int, other: int) -> None:
    tamper(file, *exchange(one, other, "rows"))
    flaws = found(full)
    assert {(Flaw.REORDERED, one), (Flaw.REORDERED, other)} <= flaws
    assert {flaw for flaw, _ in flaws} == {Flaw.REORDERED, Flaw.INDEX}


def test_a_gap_closed_by_moving_up_the_rest(full: AuditLog, file: Path) -> None:
    head = signed(full)
    tamper(
        file,
        "DELETE FROM log_entry WHERE leaf_index = 20",
        "UPDATE log_entry SET leaf_index = leaf_index - 1 WHERE leaf_index > 20",
    )
    flaws = found(full, head)
    assert {Flaw.TRUNCATED, Flaw.INDEX} <= {flaw for flaw, _ in flaws}
    assert (Flaw.TREE, 20) in flaws or (Flaw.REORDERED, 20) in flaws


def test_bytes_that_are_no_entry(full: AuditLog, file: Path) -> None:
    for data in (b"\xff", b"7", b"{}", b"[" * 5000):
        tamper(file, set_bytes(44, data, leaf=True))
        assert (Flaw.UNREADABLE, 44) in found(full)


def test_an_entry_below_the_first(full: AuditLog, file: Path) -> None:
    tamper(file, f"INSERT INTO log_entry VALUES (-1, {literal(bytes(32))}, NULL)")
    assert found(full) == {(Flaw.TREE, SIZE)}


# ---- erasure


@pytest.mark.parametrize("facts", [True, False])
def test_bytes_gone_without_a_record(full: AuditLog, file: Path, facts: bool) -> None:
    tamper(file, "UPDATE log_entry SET bytes = NULL WHERE leaf_index = 9")
    assert found(full) == {(Flaw.ERASED, 0), (Flaw.INDEX, 9)}
    tamper(file, "DELETE FROM log_fact WHERE leaf_index = 9")
    assert found(full) == {(Flaw.ERASED, 0)}


def test_more_gone_than_the_record_says(full: AuditLog, file: Path) -> None:
    own = {"side": Side.OWN, "act": Act.ERASURE, "outcome": Outcome.DONE}
    full.erase_before(START + timedelta(hours=9), record=an_entry(time=LATER, **own))
    assert found(full) == set()
    for index in (9, 20):
        tamper(
            file,
            f"UPDATE log_entry SET bytes = NULL WHERE leaf_index = {index}",
            f"DELETE FROM log_fact WHERE leaf_index = {index}",
            f"DELETE FROM log_subject WHERE leaf_index = {index}",
        )
        assert found(full) == {(Flaw.ERASED, 9)}


def test_a_record_that_claims_more_than_was_there(full: AuditLog, file: Path) -> None:
    """One that is not written by `erase_before`, as of a changed program: it covers nothing."""
    record = an_entry(side=Side.OWN, act=Act.ERASURE, outcome=Outcome.DONE, sent=(Sent(ERASED, 999),))
    tamper(file, *(f"DELETE FROM {table} WHERE leaf_index = 44" for table in ("log_entry", "log_fact")))
    data = encode(record)
    with full.store.writing() as rows:
        facts = facts_of(json.loads(data))
        rows.insert([NewRow(44, merkle.leaf_hash(data), data, facts, ())], [])
    assert found(full) == set()
    tamper(file, "UPDATE log_entry SET bytes = NULL WHERE leaf_index < 9")
    assert (Flaw.ERASED, 0) in found(full)


# ---- the tree


@pytest.mark.parametrize(("level", "place"), [(1, 0), (2, 7), (3, 2), (4, 1), (5, 0)])
def test_a_changed_node(full: AuditLog, file: Path, level: int, place: int) -> None:
    head = signed(full)
    where = f"WHERE level = {level} AND node_index = {place}"
    tamper(file, f"UPDATE log_node SET hash = {literal(bytes(32))} {where}")
    assert found(full, head) == {(Flaw.TREE, place << level)}
    tamper(file, f"DELETE FROM log_node {where}")
    assert found(full, head) == {(Flaw.TREE, place << level)}


def test_a_node_that_belongs_to_nothing(full: AuditLog, file: Path) -> None:
    tamper(file, f"INSERT INTO log_node VALUES (3, 77, {literal(bytes(32))})")
    assert found(full) == {(Flaw.TREE, SIZE)}


# ---- what reports look for


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE log_fact SET officer = 'SLV:nobody' WHERE leaf_index = 13",
        "UPDATE log_fact SET time_us = 0 WHERE leaf_index = 13",
        "UPDATE log_fact SET case_reference = '' WHERE leaf_index = 13",
        "DELETE FROM log_fact WHERE leaf_index = 13",
        "DELETE FROM log_subject WHERE leaf_index = 13",
        "INSERT INTO log_subject VALUES ('mark', 13)",
    ],
)
def test_an_index_that_points_wrong(full: AuditLog, file: Path, statement: str) -> None:
    tamper(file, statement)
    assert found(full) == {(Flaw.INDEX, 13)}


def test_an_index_that_points_nowhere(full: AuditLog, file: Path) -> None:
    tamper(file, f"INSERT INTO log_subject VALUES ('{MARK}', 99)")
    assert found(full) == {(Flaw.INDEX, SIZE)}


# ---- histories


def test_a_rewritten_history_is_found_by_ones_own_head(full: AuditLog, file: Path) -> None:
    sign_head(full, "SLV", sign=unchecked, now=START)
    rebuilt(file, range(SIZE), change=12)
    assert found(full) == {(Flaw.FORKED, 0)}


def test_a_rewritten_history_is_found_by_heads_that_others_kept(full: AuditLog, file: Path) -> None:
    kept = [signed(full, size) for size in (5, 12, 30, 45)]
    rebuilt(file, range(SIZE), change=12)
    assert found(full) == set()  # it is sound in itself
    assert found(full, *kept) == {(Flaw.FORKED, 12)}
    verification = verify(full.store, heads=kept)
    assert [(f.index, f.entries) for f in verification.findings] == [(12, 18), (12, 33)]


def test_a_truncated_history_is_found_by_heads(full: AuditLog, file: Path) -> None:
    kept = [signed(full, size) for size in (5, 45)]
    rebuilt(file, range(30))
    assert found(full, *kept) == {(Flaw.TRUNCATED, 30)}


@pytest.mark.parametrize("column", ["root", "size", "payload"])
def test_a_damaged_head(full: AuditLog, file: Path, column: str) -> None:
    sign_head(full, "SLV", sign=unchecked, now=START)
    value = "7" if column == "size" else literal(bytes(32))
    tamper(file, f"UPDATE log_head SET {column} = {value}")
    assert found(full) == {(Flaw.HEAD, 7 if column == "size" else SIZE)}


# ---- anything


def test_findings_without_number_are_counted(log: AuditLog, file: Path) -> None:
    log.append_all([entry_number(index) for index in range(1200)])
    tamper(file, "UPDATE log_fact SET officer = 'SLV:nobody'")
    verification = verify(log.store)
    assert len(verification.findings) == 1000
    assert verification.counts == {Flaw.INDEX: 1200}


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_bit_flipped_anywhere_is_found(full: AuditLog, file: Path, data: st.DataObject) -> None:
    """Change one bit of one stored value, see that it is found, and change it back."""
    table, column = data.draw(
        st.sampled_from([("log_entry", "leaf"), ("log_entry", "bytes"), ("log_node", "hash")])
    )
    with closing(sqlite3.connect(file)) as connection, connection:
        rows = connection.execute(f"SELECT {column}, * FROM {table}").fetchall()
        value, *key = data.draw(st.sampled_from(rows))
        bit = data.draw(st.integers(0, len(value) * 8 - 1))
        flipped = bytearray(value)
        flipped[bit // 8] ^= 1 << bit % 8
        where = "leaf_index = ?" if table == "log_entry" else "level = ? AND node_index = ?"
        keys = key[:1] if table == "log_entry" else key[:2]
        update = f"UPDATE {table} SET {column} = ? WHERE {where}"
        connection.execute(update, (bytes(flipped), *keys))
    flaws = found(full)
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(update, (value, *keys))
    assert len(flaws) == 1
    assert found(full) == set()


def test_json_of_a_stored_entry_is_what_was_written(full: AuditLog, file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        (data,) = connection.execute("SELECT bytes FROM log_entry WHERE leaf_index = 7").fetchone()
    assert json.loads(data) == json.loads(encode(entry_number(7)))
