"""What is kept of the exchange, on both data bases: counters, references, approvals, erasure, a full disk."""

import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import event

from papilar.errors import ConfigInvalid, GalleryUnknown, StorageFull
from papilar.store.exchange import ExchangeStore, Name, NewReference, ReferenceState

NOW = datetime(2026, 11, 22, 23, 59, tzinfo=UTC)
LATER = NOW + timedelta(days=14)
ONE = Name("HND", "0b9d1f62-6a3f-4f3c-9a40-6a2f0d3c1e55", b"c" * 32)
REFERENCE = NewReference(b"r" * 32, "criminal", "person-1", ONE.id, LATER)


@pytest.fixture
def store(target: Path | str) -> Iterator[ExchangeStore]:
    """A new store, once on each data base."""
    found = ExchangeStore.open(target, create=True)
    yield found
    found.close()


def admitted(store: ExchangeStore, number: int, *, per_day: int = 5, now: datetime = NOW) -> bool:
    name = Name("HND", f"{number:036}", b"c" * 32)
    return store.admit(name, "TP_TP", noted=False, per_day=per_day, now=now, expires=LATER)


def test_a_counter_never_passes_its_quota(store: ExchangeStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        granted = list(pool.map(lambda number: admitted(store, number), range(20)))
    assert granted.count(True) == 5
    assert store.used("HND", "TP_TP", "2026-11-22") == 5
    assert store.used("GTM", "TP_TP", "2026-11-22") == 0
    assert admitted(store, 21, per_day=6), "a new law gives more"
    assert admitted(store, 22, now=NOW + timedelta(minutes=1)), "a new UTC day"


def test_what_was_refused_leaves_no_name(store: ExchangeStore) -> None:
    assert not admitted(store, 1, per_day=0)
    assert store.known(Name("HND", f"{1:036}", b"")) is None


def kept(store: ExchangeStore) -> None:
    assert store.admit(ONE, "TP_TP", noted=False, per_day=5, now=NOW, expires=LATER)
    store.keep(ONE, b"answer", [REFERENCE])


def test_an_answer_lives_as_long_as_its_references(store: ExchangeStore) -> None:
    kept(store)
    known = store.known(ONE)
    assert known is not None
    assert (known.same, known.answer) == (True, b"answer")
    assert store.known(ONE._replace(content=b"d" * 32)).same is False  # type: ignore[union-attr]
    assert store.sweep(LATER - timedelta(seconds=1)) == 0
    assert store.sweep(LATER) == 2
    erased = store.known(ONE)
    assert erased is not None
    assert (erased.answer, erased.answered) == (None, True)


def test_a_reference_is_taken_once(store: ExchangeStore) -> None:
    kept(store)
    names = [Name("HND", f"{number:036}", b"c" * 32) for number in range(8)]

    def take(name: Name) -> ReferenceState:
        return store.take(b"r" * 32, name, request_id=ONE.id, statement=b"signed", now=NOW).state

    with ThreadPoolExecutor(8) as pool:
        states = list(pool.map(take, names))
    assert sorted(states) == [ReferenceState.TAKEN] + [ReferenceState.USED] * 7
    winner = names[states.index(ReferenceState.TAKEN)]
    assert store.taken(winner) == "person-1"
    assert store.confirmation(winner) is not None
    assert sum(store.confirmation(name) is not None for name in names) == 1
    store.keep_receipt(winner, b"receipt")
    assert store.confirmation(winner).answer == b"receipt"  # type: ignore[union-attr]
    assert store.known(ONE).answer is None, "no open reference is left"  # type: ignore[union-attr]


def test_why_a_reference_is_not_taken(store: ExchangeStore) -> None:
    kept(store)

    def state(digest: bytes = b"r" * 32, peer: str = "HND", now: datetime = NOW) -> ReferenceState:
        name = Name(peer, ONE.id, b"c" * 32)
        return store.take(digest, name, request_id=ONE.id, statement=b"", now=now).state

    assert state(b"x" * 32) is ReferenceState.UNKNOWN
    assert state(peer="GTM") is ReferenceState.OF_ANOTHER
    assert state(now=LATER) is ReferenceState.EXPIRED


def test_a_person_decides_once(store: ExchangeStore) -> None:
    assert store.ask_person(ONE, "{}", now=NOW, expires=LATER).agreed is None
    (waiting,) = store.approvals()
    assert store.decide(waiting, agreed=True, person="sv1", why="sound", now=NOW)
    assert not store.decide(waiting, agreed=False, person="sv2", why="late", now=NOW)
    again = store.ask_person(ONE, "other", now=NOW, expires=LATER)
    assert (again.agreed, again.person, again.facts) == (True, "sv1", "{}")
    store.sweep(LATER)
    assert store.approvals(ONE.id) == []


def test_a_full_disk_leaves_all_as_it_was(tmp_path: Path) -> None:
    store = ExchangeStore.open(tmp_path, create=True)
    kept(store)

    def shrink(connection: object, *_: object) -> None:
        connection.execute("PRAGMA max_page_count=1").close()  # type: ignore[attr-defined]

    event.listen(store._engine, "checkout", shrink)
    with pytest.raises(StorageFull):
        store.keep(ONE, secrets.token_bytes(1 << 20))
    event.remove(store._engine, "checkout", shrink)
    assert store.known(ONE).answer == b"answer"  # type: ignore[union-attr]
    store.close()


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(GalleryUnknown):
        ExchangeStore.open(tmp_path / "absent")
    with pytest.raises(ConfigInvalid):
        ExchangeStore.open("mysql://host/base")
