"""The rows of the outbox, on each data base."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from papilar.store.outbox import AnswerRow, Key, OutboxStore, SearchRow


@pytest.fixture
def rows(target: Path | str) -> Iterator[OutboxStore]:
    store = OutboxStore.open(target, create=True)
    yield store
    store.close()


def search(
    request: str, country: str = "HND", *, created: int = 0, due: int = 5, expedite: int = 0
) -> SearchRow:
    return SearchRow(request, country, expedite, created, 100, due, 0, "", b"statement", b"prints")


def answer(request: str, *, expires: int = 50) -> AnswerRow:
    return AnswerRow(request, "HND", "e7", 10, expires, "", b"answer")


def test_what_is_put_is_there_once(rows: OutboxStore) -> None:
    assert rows.put(search("a"))
    assert not rows.put(search("a", created=9))
    assert rows.put(search("a", "GTM"))
    assert rows.load(Key("a", "HND")) == search("a")
    assert rows.load(Key("b", "HND")) is None
    assert [row.country for row in rows.of_request("a")] == ["GTM", "HND"]
    assert [row.prints for row in rows.of_request("a")] == [None, None]


def test_what_is_due_comes_in_order(rows: OutboxStore) -> None:
    for row in (search("c", created=2), search("b", created=1), search("a", created=3, expedite=1)):
        rows.put(row)
    rows.put(search("late", due=7))
    assert rows.due(4) == []
    assert [key.request_id for key in rows.due(6)] == ["a", "b", "c"]
    assert rows.next_time() == 5
    assert rows.expired(99) == []
    assert len(rows.expired(100)) == 4


def test_a_delay_is_of_one_or_of_its_country(rows: OutboxStore) -> None:
    for row in (search("a"), search("b"), search("c", "GTM")):
        rows.put(row)
    rows.delay(Key("a", "HND"), 20, country=False)
    assert [key.request_id for key in rows.due(5)] == ["b", "c"]
    rows.delay(Key("b", "HND"), 30, country=True)
    assert [key.request_id for key in rows.due(29)] == ["c"]
    tries = [rows.load(Key(name, "HND")) for name in "ab"]
    assert [row.tries for row in tries if row is not None] == [1, 1]


def test_settled_once_then_forgotten(rows: OutboxStore) -> None:
    rows.put(search("a"))
    rows.forget(Key("a", "HND"))
    assert rows.load(Key("a", "HND")) is not None, "what holds prints is not forgotten"
    assert rows.settle(Key("a", "HND"), "SETTLED", answer("a"))
    assert not rows.settle(Key("a", "HND"), "EXPIRED", answer("a")._replace(code="EXPIRED", answer=None))
    (settled,) = rows.settled()
    assert (settled.prints, settled.why) == (None, "SETTLED")
    assert rows.due(99) == []
    assert rows.next_time() is None
    rows.forget(Key("a", "HND"))
    assert rows.settled() == []
    assert rows.answers("a", "e7", now=11, fetched_until=20) == [answer("a")]


def test_answers_go_when_fetched_or_expired(rows: OutboxStore) -> None:
    for name in "ab":
        rows.put(search(name))
        rows.settle(Key(name, "HND"), "SETTLED", answer(name))
    assert rows.answers("a", "e8", now=11, fetched_until=20) == []
    assert len(rows.answers("a", "e7", now=11, fetched_until=20)) == 1
    assert rows.erase_answers(20) == 1
    assert rows.answers("a", "e7", now=19, fetched_until=20) == []
    assert len(rows.answers("b", "e7", now=21, fetched_until=90)) == 1
    assert rows.answers("b", "e7", now=50, fetched_until=90) == [], "a fetch makes nothing live longer"
