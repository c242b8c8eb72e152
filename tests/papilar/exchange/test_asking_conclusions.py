"""Our law and the conclusions that leave: it is asked with the facts of the search, else nothing is sent."""

import json
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from askers import (
    ASKING,
    Confirming,
    Region,
    answering,
    asked,
    candidate,
    law,
    signer,
    world,
)
from trials import DAY, user

from papilar.api.peer.v1 import peer_pb2, types_pb2
from papilar.audit.entry import Act, Outcome, Side
from papilar.errors import NotPermitted, ReferenceUnknown, StorageUnavailable
from papilar.exchange.asking import FederatedSearcher
from papilar.exchange.conclusions import hand_on
from papilar.exchange.outbox import Outbox
from papilar.exchange.region import Gap, GapKind
from papilar.exchange.seal import seal, stamp
from papilar.policy import File, OffenceClass
from papilar.store.exchange import ExchangeStore, OwnSearches
from papilar.store.outbox import OutboxStore
from papilar.store.store import FILE_NAME

SEARCH = (
    '@id("ask") @reads("Everything may be asked.")\n'
    'permit(principal, action in [Action::"search", Action::"describe"], resource);\n'
)
TELL = SEARCH + (
    '@id("tell") @reads("Examiners may tell HND what they conclude on serious offences.")\n'
    'permit(principal in Role::"examiner", action == Action::"confirm", resource == File::"criminal")\n'
    ' when { context.direction == Direction::"outbound" && context.peer == Country::"HND" &&\n'
    '  context.offence_class == OffenceClass::"serious" && context.search_type == SearchType::"TP_TP" };\n'
)
HEADS_TELL = TELL + (
    '@id("heads") @reads("Only who also supervises may conclude.") @code("NO_SUPERVISOR")\n'
    'forbid(principal, action == Action::"confirm", resource) unless { principal in Role::"supervisor" };\n'
)
SILENT = SEARCH + (
    '@id("silent") @reads("No conclusion leaves any more.") @code("NO_LONGER")\n'
    'forbid(principal, action == Action::"confirm", resource);\n'
)
HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = world(tmp_path_factory.mktemp("world"))
    for name, roles in {"e7": "examiner", "s2": "examiner+supervisor"}.items():
        user(folder / ASKING, name, roles, at=datetime.now(UTC) - DAY)
    return folder


@pytest.fixture
def region(folder: Path, tmp_path: Path) -> Iterator[Region]:
    region = Region(folder, tmp_path / "store")
    yield region
    region.close()


@pytest.fixture
def hnd(region: Region) -> Confirming:
    region.scripted.append(peer := Confirming(region.folder, "HND"))
    return peer


def searched(searcher: FederatedSearcher, **given: Any) -> str:
    """Search in HND; return the id of the request."""
    search = asked(countries=("HND",), **given)
    searcher.collect(search)
    return search.request_id


def conclude(
    searcher: FederatedSearcher, region: Region, request_id: str, *, by: str = "e7", country: str = "HND"
) -> types_pb2.Signed:
    said = peer_pb2.Confirmation(
        confirmation_id=str(uuid.uuid4()),
        request_id=request_id,
        reference="a" * 43,
        asking_country=ASKING,
        asked_country=country,
        create_time=stamp(searcher.clock()),
        conclusion=peer_pb2.CONCLUSION_IDENTIFICATION,
        correspondences_sha256=bytes(32),
    )
    signed = seal("confirmation", said, signer(region.folder, ASKING, f"user-{by}-sign"))
    return hand_on(searcher, country, signed, examiner=by, seconds=5)


def rows(region: Region) -> list[tuple[Any, ...]]:
    file = Path(str(region.log.store._engine.url.database))
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute("SELECT country, request_id, facts, expires_us FROM own_search").fetchall()


def last_refusal(region: Region, code: str) -> None:
    """Hold that the log ends with a refusal of ours, and that no conclusion was sent before it."""
    entry = region.entries()[-1]
    assert (entry.side, entry.act, entry.outcome, entry.code) == (
        Side.ASKING,
        Act.REFUSAL,
        Outcome.REFUSED,
        code,
    )
    assert (entry.asking, entry.asked, entry.recipients, entry.sent) == (ASKING, "HND", (), ())
    assert not [e for e in region.entries() if e.act is Act.CONFIRMATION]


# ---- what the law says


def test_it_is_asked_with_the_facts_of_the_search(region: Region, hnd: Confirming) -> None:
    searcher = region.searcher(hnd, rules=TELL)
    request_id = searched(searcher)
    assert conclude(searcher, region, request_id).statement
    assert [one.request_id for one in hnd.taken] == [request_id]
    lesser = searched(searcher, offence_class=OffenceClass.LESS_SERIOUS)
    with pytest.raises(NotPermitted, match="NO_RULE_PERMITS"):
        conclude(searcher, region, lesser)
    assert [one.request_id for one in hnd.taken] == [request_id]


def test_the_roles_are_those_of_who_concludes(region: Region, hnd: Confirming) -> None:
    searcher = region.searcher(hnd, rules=HEADS_TELL)
    request_id = searched(searcher)
    with pytest.raises(NotPermitted, match="NO_SUPERVISOR"):
        conclude(searcher, region, request_id)
    assert hnd.taken == []
    last_refusal(region, "NO_SUPERVISOR")
    entry = region.entries()[-1]
    assert (entry.officer, entry.request_id, entry.policy_version) == ("e7", request_id, "3")
    assert entry.policy_hash == law(HEADS_TELL).sha256
    assert conclude(searcher, region, request_id, by="s2").statement


def test_a_law_that_changed_between_search_and_conclusion(region: Region, hnd: Confirming) -> None:
    searcher, other = region.searcher(hnd, rules=TELL), law(SILENT)
    request_id = searched(searcher)
    searcher.law = lambda at: other
    with pytest.raises(NotPermitted, match="NO_LONGER"):
        conclude(searcher, region, request_id)
    assert hnd.taken == []
    last_refusal(region, "NO_LONGER")


def test_it_must_permit_every_file_that_was_searched(region: Region, hnd: Confirming) -> None:
    """A candidate does not say of which file it is."""
    searcher = region.searcher(hnd, rules=TELL)
    request_id = searched(searcher, files=frozenset({File.CRIMINAL, File.UNSOLVED_LATENTS}))
    with pytest.raises(NotPermitted, match="NO_RULE_PERMITS"):
        conclude(searcher, region, request_id)
    assert hnd.taken == []


def test_a_file_that_was_not_asked_for_is_not_among_the_facts(region: Region, hnd: Confirming) -> None:
    never = (
        '@id("never") @reads("No minors.") @code("MINORS")\n'
        'forbid(principal, action == Action::"search", resource == File::"minors");\n'
    )
    searcher = region.searcher(hnd, rules=TELL + never)
    request_id = searched(searcher, files=frozenset({File.CRIMINAL, File.MINORS}))
    assert json.loads(rows(region)[0][2])["files"] == ["criminal"]
    assert conclude(searcher, region, request_id).statement


# ---- no facts


def test_nothing_is_sent_on_what_was_not_found(region: Region, hnd: Confirming) -> None:
    searcher = region.searcher(hnd)
    hnd.script = answering()
    for request_id in (str(uuid.uuid4()), searched(searcher)):
        with pytest.raises(ReferenceUnknown, match="no candidate of HND"):
            conclude(searcher, region, request_id)
        last_refusal(region, "REFERENCE_UNKNOWN")
    assert (hnd.taken, rows(region)) == ([], [])


def test_what_was_found_in_one_country_says_nothing_to_another(region: Region, hnd: Confirming) -> None:
    region.scripted.append(gtm := Confirming(region.folder, "GTM"))
    searcher = region.searcher(hnd, gtm)
    request_id = searched(searcher)
    with pytest.raises(ReferenceUnknown, match="no candidate of GTM"):
        conclude(searcher, region, request_id, country="GTM")
    assert gtm.taken == []
    assert conclude(searcher, region, request_id).statement


def test_it_ends_with_the_references_and_is_erased(region: Region, hnd: Confirming, tmp_path: Path) -> None:
    ends = [stamp(datetime.now(UTC) + after) for after in (HOUR, 2 * HOUR)]
    hnd.script = answering(
        candidates=[candidate(7.0, expire_time=one) for one in ends], outcome=peer_pb2.OUTCOME_CANDIDATES
    )
    ahead = timedelta()

    def clock() -> datetime:
        return datetime.now(UTC) + ahead

    searcher = region.searcher(hnd, clock=clock)
    request_id = searched(searcher)
    with (
        closing(OutboxStore.open(tmp_path / "store")) as kept,
        closing(ExchangeStore.open(tmp_path / "store")) as store,
    ):
        outbox, ahead = Outbox(kept, region.log, clock=clock), timedelta(minutes=90)
        outbox.deliver_due(lambda search, seconds: searcher.ask(search, seconds=seconds))
        assert store.sweep(clock()) == 0
        assert len(rows(region)) == 1, "one of the two references is open"
        ahead = timedelta(minutes=121)
        assert len(rows(region)) == 1
        assert searcher.own_searches.facts("HND", request_id, now=clock()) is None
        outbox.deliver_due(lambda search, seconds: searcher.ask(search, seconds=seconds))
        assert rows(region) == []
    with pytest.raises(ReferenceUnknown):
        conclude(searcher, region, request_id)
    assert hnd.taken == []


# ---- what is kept


def test_neither_print_nor_name_is_kept(region: Region, hnd: Confirming) -> None:
    request_id = searched(region.searcher(hnd), ordering_officer="o12")
    ((country, request, facts, _),) = rows(region)
    assert (country, request) == ("HND", request_id)
    words = json.loads(facts)
    flags = {"expedite", "ordering_officer", "minor", "adult_present"}
    chosen = {"purpose", "offence_class", "legal_basis", "search_type", "files"}
    assert set(words) == flags | chosen | {"action", "direction", "peer", "roles"}
    assert (words["direction"], words["peer"], words["ordering_officer"]) == ("outbound", "HND", True)


@pytest.mark.parametrize(("seconds", "days"), [(253_402_300_799, 90), (1 << 60, 90), (-1, 0)])
def test_whatever_a_peer_states_it_is_not_kept_for_ever(
    region: Region, hnd: Confirming, seconds: int, days: int
) -> None:
    found = candidate(7.0)
    found.expire_time.Clear()
    found.expire_time.seconds = seconds
    hnd.script = answering(candidates=[found], outcome=peer_pb2.OUTCOME_CANDIDATES)
    searched(region.searcher(hnd))
    ((*_, expires_us),) = rows(region)
    left = expires_us / 1e6 - datetime.now(UTC).timestamp()
    assert left == pytest.approx(days * DAY.total_seconds(), abs=30)


def test_a_restart_between_search_and_conclusion(
    region: Region, hnd: Confirming, folder: Path, tmp_path: Path
) -> None:
    request_id = searched(region.searcher(hnd, rules=TELL))
    region.searchers.pop().close()
    again = Region(folder, tmp_path / "store")
    try:
        searcher = again.searcher(hnd, rules=TELL)
        assert conclude(searcher, again, request_id).statement
    finally:
        again.close()
    assert [one.request_id for one in hnd.taken] == [request_id]


def test_what_the_outbox_delivers_later_counts(region: Region, hnd: Confirming, tmp_path: Path) -> None:
    hnd.script = answering(outcome=peer_pb2.OUTCOME_NEEDS_HUMAN)
    late = timedelta()
    with closing(OutboxStore.open(tmp_path / "store")) as kept:
        outbox = Outbox(kept, region.log, clock=lambda: datetime.now(UTC) + late)
        searcher = region.searcher(hnd, rules=TELL, outbox=outbox)
        search = asked(keep=HOUR)
        assert searcher.collect(search).gaps == (Gap("HND", GapKind.QUEUED, "NEEDS_HUMAN"),)
        with pytest.raises(ReferenceUnknown):
            conclude(searcher, region, search.request_id)
        hnd.script, late = answering(7.0), timedelta(minutes=1)
        outbox.deliver_due(lambda one, seconds: searcher.ask(one, seconds=seconds))
        assert conclude(searcher, region, search.request_id).statement


def test_a_store_that_is_away_hands_no_candidate_on(region: Region, hnd: Confirming, tmp_path: Path) -> None:
    """What cannot be kept is not shown: nobody could conclude on it."""
    searcher = region.searcher(hnd)
    with closing(sqlite3.connect(tmp_path / "store" / FILE_NAME)) as other:
        other.execute("ALTER TABLE own_search RENAME TO away")
        other.commit()
        with pytest.raises(StorageUnavailable):
            searched(searcher)
        other.execute("ALTER TABLE away RENAME TO own_search")
        other.commit()


# ---- the rows, on each data base


def test_rows_are_kept_replaced_and_erased(target: Path | str) -> None:
    now = datetime(2026, 11, 22, 12, tzinfo=UTC)
    with closing(OutboxStore.open(target, create=True)) as store:
        own = OwnSearches.beside(store)
        for country, request_id, hours in (("HND", "a", 1), ("GTM", "a", 2), ("HND", "b", 3)):
            own.keep(country, request_id, f"{country} {request_id}", expires=now + hours * HOUR)
        assert own.facts("HND", "a", now=now) == "HND a"
        assert own.facts("HND", "a", now=now + HOUR) is None
        assert own.facts("CRI", "a", now=now) is None
        own.keep("HND", "a", "again", expires=now + 4 * HOUR)
        assert own.facts("HND", "a", now=now + HOUR) == "again"
        own.erase(now + 2 * HOUR)
        assert own.facts("GTM", "a", now=now) is None, "it is gone, not only hidden"
        assert own.facts("HND", "b", now=now) == "HND b"
    with closing(ExchangeStore.open(target)) as store:
        store.sweep(now + 3 * HOUR)
        left = [OwnSearches.beside(store).facts("HND", one, now=now) for one in "ab"]
    assert left == ["again", None]
