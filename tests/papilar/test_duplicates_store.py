"""Cases and merges in the store: against dictionaries, on a full disk, killed in the middle, erased."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import event
from stores import a_print, a_request, an_encounter, integrity, new_id, set_pragma

from matcher.template import Finger
from papilar.duplicates import Decision, Finding, Kind, PrintPair, State
from papilar.errors import (
    CaseDecided,
    CaseUnknown,
    RequestConflict,
    RequestInvalid,
    StorageFull,
    SubjectUnknown,
)
from papilar.store import Request, Store
from papilar.store.duplicates import DuplicateStore, Merge

ROOT = Path(__file__).resolve().parents[2]
Target = Path | str
AT = datetime(2026, 11, 22, tzinfo=UTC)
WHY = Decision("e7", AT, "SAME_CARD")
NAMES = ("a", "b", "c")
names = st.sampled_from(NAMES)
pairs = st.sampled_from(list(permutations(NAMES, 2)))


def finding(first: str, second: str, kind: Kind = Kind.SAME_PERSON) -> Finding:
    pairs = (PrintPair(1, 2, Finger(2), Finger(2), 7.5), PrintPair(3, 4, Finger(1), Finger(0), -1.25, True))
    return Finding(kind, *sorted((first, second)), 6.25, pairs)


def put(store: Store, subject: str) -> str:
    new = an_encounter(subject)
    store.enroll(new)
    return new.encounter_id


def merge(rows: DuplicateStore, survivor: str, absorbed: str, request: Request | None = None) -> str:
    merge_id = new_id()
    rows.merge(Merge(merge_id, survivor, absorbed), WHY, request=request)
    return merge_id


def subjects(store: Store) -> dict[str, list[str]]:
    """The encounters of each subject that is there."""
    return {name: [e.encounter_id for e in store.encounters_of(name)] for name in NAMES}


class DuplicateMachine(RuleBasedStateMachine):
    """Enrol, delete, find, decide, merge and unmerge in any order, against dictionaries.

    Identifiers are random, so what is drawn is drawn by its place in these dictionaries, which keep the order
    of insertion: a replay then does the same things.
    """

    def __init__(self, new_target: Callable[[], Target]) -> None:
        super().__init__()
        self.new_target = new_target

    @initialize()
    def create(self) -> None:
        self.target = self.new_target()
        Store.open(self.target, create=True).close()
        self.open()
        self.owner: dict[str, str] = {}  # encounter: subject
        self.moved: dict[str, list[str]] = {}  # merge in force: encounters
        self.names: dict[str, tuple[str, str]] = {}  # merge: survivor, absorbed
        self.cases: dict[int, tuple[str, str]] = {}
        self.states: dict[int, State] = {}
        for name in NAMES:
            self.enrol(name)

    # ---- the twin

    def now(self, name: str) -> str:
        into = {absorbed: survivor for m, (survivor, absorbed) in self.names.items() if m in self.moved}
        while name in into:
            name = into[name]
        return name

    def alive(self) -> set[str]:
        return set(self.owner.values())

    def forget_erased(self) -> None:
        """What was noted of a name whose prints are all gone goes too."""
        dead = {m for m, pair in self.names.items() if self.holders(m, pair) - self.alive()}
        cases = {k for k, pair in self.cases.items() if {self.now(one) for one in pair} - self.alive()}
        self.names = {m: pair for m, pair in self.names.items() if m not in dead}
        self.moved = {m: one for m, one in self.moved.items() if m not in dead}
        self.cases = {k: pair for k, pair in self.cases.items() if k not in cases}

    def holders(self, merge_id: str, pair: tuple[str, str]) -> set[str]:
        return {self.now(pair[0])} if merge_id in self.moved else {self.now(one) for one in pair}

    def between(self, first: str, second: str) -> list[int]:
        return [k for k, pair in self.cases.items() if {self.now(one) for one in pair} == {first, second}]

    # ---- what is done

    @rule(name=names)
    def enrol(self, name: str) -> None:
        gone = name in {pair[1] for m, pair in self.names.items() if m in self.moved}
        assert self.rows.absorbed(name) is gone
        if not gone:
            self.owner[put(self.store, name)] = name

    @precondition(lambda self: self.owner)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        which = data.draw(st.sampled_from(list(self.owner)))
        self.store.delete(which)
        del self.owner[which]
        self.moved = {m: [one for one in found if one != which] for m, found in self.moved.items()}
        self.forget_erased()

    @rule(pair=pairs)
    def find_and_merge(self, pair: tuple[str, str]) -> None:
        self.find(*pair)
        self.merge(*pair)

    @rule(first=names, second=names)
    def find(self, first: str, second: str) -> None:
        case = self.rows.keep(finding(first, second), 1)
        fits = {first, second} <= self.alive() and not self.between(first, second)
        assert (case is not None) is fits
        if case is not None:
            assert case.finding == finding(first, second)
            self.cases[case.number], self.states[case.number] = (first, second), State.OPEN

    @rule(survivor=names)
    def merge_all(self, survivor: str) -> None:
        """One into the next, and that into the survivor."""
        first, second = sorted(set(NAMES) - {survivor})
        self.merge(second, first)
        self.merge(survivor, second)

    @rule(survivor=names, absorbed=names)
    def merge(self, survivor: str, absorbed: str) -> None:
        if survivor == absorbed:
            with pytest.raises(RequestInvalid):
                merge(self.rows, survivor, absorbed)
        elif not {survivor, absorbed} <= self.alive():
            with pytest.raises(SubjectUnknown):
                merge(self.rows, survivor, absorbed)
        else:
            self.states |= dict.fromkeys(self.between(survivor, absorbed), State.MERGED)
            merge_id = merge(self.rows, survivor, absorbed)
            self.moved[merge_id] = [e for e, name in self.owner.items() if name == absorbed]
            self.names[merge_id] = (survivor, absorbed)
            self.owner |= dict.fromkeys(self.moved[merge_id], survivor)

    @precondition(lambda self: self.names)
    @rule(data=st.data())
    def unmerge(self, data: st.DataObject) -> None:
        which = data.draw(st.sampled_from(list(self.names)))
        survivor, absorbed = self.names[which]
        if which not in self.moved or self.now(survivor) != survivor or not self.moved[which]:
            with pytest.raises(CaseDecided):
                self.rows.unmerge(which, WHY)
            return
        reopened = [case.number for case in self.rows.cases(decided=True) if case.merge_id == which]
        self.rows.unmerge(which, WHY)
        self.owner |= dict.fromkeys(self.moved.pop(which), absorbed)
        self.states |= dict.fromkeys(reopened, State.OPEN)
        self.forget_erased()

    @precondition(lambda self: self.cases)
    @rule(data=st.data())
    def call_distinct(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(list(self.cases)))
        if self.states[number] is State.MERGED:
            with pytest.raises(CaseDecided):
                self.rows.call_distinct(number, WHY)
        else:
            self.rows.call_distinct(number, WHY)
            self.states[number] = State.DISTINCT

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.open()

    def open(self) -> None:
        self.store = Store.open(self.target)
        self.rows = DuplicateStore(self.store)
        if isinstance(self.target, Path):
            set_pragma(self.store, "synchronous=OFF")  # the power stays on, and it is ten times as quick

    # ---- what holds

    @invariant()
    def everything_is_under_its_name(self) -> None:
        if not hasattr(self, "store"):
            return
        found = subjects(self.store)
        assert {name: set(ids) for name, ids in found.items()} == {
            name: {e for e, owner in self.owner.items() if owner == name} for name in NAMES
        }
        assert self.store.counts().subjects == len(self.alive())

    @invariant()
    def cases_are_those_of_the_twin(self) -> None:
        if not hasattr(self, "rows"):
            return
        kept = {case.number: case for case in self.rows.cases(decided=True)}
        assert kept.keys() == self.cases.keys()
        for number, case in kept.items():
            merged = self.states[number] is State.MERGED
            named = self.cases[number] if merged else tuple(self.now(n) for n in self.cases[number])
            assert {case.finding.first, case.finding.second} == set(named)
            assert case.state is self.states[number]
        open_ = {k for k in kept if self.states[k] is State.OPEN and self.apart(k)}
        assert {case.number for case in self.rows.cases()} == open_

    def apart(self, number: int) -> bool:
        first, second = self.cases[number]
        return first == second or self.now(first) != self.now(second)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()


@pytest.fixture
def rows(store: Store) -> DuplicateStore:
    return DuplicateStore(store)


def test_whatever_is_done(new_target: Callable[[], Target], request: pytest.FixtureRequest) -> None:
    slow = "postgresql" in request.node.name
    run_state_machine_as_test(
        lambda: DuplicateMachine(new_target),
        settings=settings(
            max_examples=3 if slow else 12,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


class TestRepeats:
    def test_a_merge_is_done_once(self, store: Store, rows: DuplicateStore) -> None:
        put(store, "a"), put(store, "b")
        request = a_request(response=b"first")
        merge(rows, "a", "b", request)
        again = rows.merge(Merge(new_id(), "a", "b"), WHY, request=request)
        assert (again.repeated, again.response) == (True, b"first")

    def test_other_content_is_a_conflict(self, store: Store, rows: DuplicateStore) -> None:
        put(store, "a"), put(store, "b")
        request = a_request()
        merge(rows, "a", "b", request)
        with pytest.raises(RequestConflict):
            merge(rows, "a", "b", Request(request.request_id, b"other", lambda _: b""))

    def test_an_unmerge_is_done_once(self, store: Store, rows: DuplicateStore) -> None:
        put(store, "a"), put(store, "b")
        merge_id, request = merge(rows, "a", "b"), a_request()
        rows.unmerge(merge_id, WHY, request=request)
        assert rows.unmerge(merge_id, WHY, request=request).repeated
        with pytest.raises(CaseDecided):
            rows.unmerge(merge_id, WHY)

    def test_what_is_not_there(self, rows: DuplicateStore) -> None:
        for call in (
            lambda: rows.unmerge(new_id(), WHY),
            lambda: rows.case(1),
            lambda: rows.call_distinct(1, WHY),
        ):
            with pytest.raises(CaseUnknown):
                call()


class TestFaults:
    def test_a_full_disk_merges_nothing(self, file_store: Store, folder: Path) -> None:
        rows = DuplicateStore(file_store)
        for name in ("a", "b"):
            for _ in range(150):
                put(file_store, name)
        before = subjects(file_store)
        set_pragma(file_store, "max_page_count=1")
        with pytest.raises(StorageFull):
            merge(rows, "a", "b")
        assert subjects(file_store) == before
        assert not rows.absorbed("b")
        set_pragma(file_store, "max_page_count=100000")
        merge_id = merge(rows, "a", "b")
        assert len(subjects(file_store)["a"]) == 300
        set_pragma(file_store, "max_page_count=1")
        with suppress(StorageFull):  # where it fits into pages that are there, it is done
            rows.unmerge(merge_id, WHY)
        assert subjects(file_store) in (before, {**before, "a": before["a"] + before["b"], "b": []})
        file_store.close()
        assert integrity(folder) == "ok"

    @pytest.mark.parametrize("statement", ["INSERT INTO merged_encounter", "UPDATE encounter", "DELETE FROM"])
    def test_killed_between_two_statements(self, folder: Path, statement: str) -> None:
        with Store.open(folder, create=True) as store:
            put(store, "a"), put(store, "b")
            before = subjects(store)
        paths = os.pathsep.join([str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "papilar")])
        environment = {**os.environ, "PYTHONPATH": paths}
        done = subprocess.run([sys.executable, __file__, folder, statement], check=False, env=environment)
        assert done.returncode == -signal.SIGKILL
        with Store.open(folder) as store:
            assert subjects(store) == before
            assert not DuplicateStore(store).absorbed("b")
            merge(DuplicateStore(store), "a", "b")


class TestErasure:
    def test_nothing_is_left_of_a_subject(self, file_store: Store, folder: Path) -> None:
        ids = [put(file_store, name) for name in ("here", "gone-survivor", "gone-absorbed")]
        rows = DuplicateStore(file_store)
        rows.keep(finding("gone-absorbed", "here"), 1)
        rows.keep(finding("gone-absorbed", "gone-survivor"), 1)
        rows.unmerge(merge(rows, "here", "gone-survivor"), WHY)
        merge(rows, "gone-survivor", "gone-absorbed")
        for encounter_id in ids[1:]:
            file_store.delete(encounter_id)
        assert rows.cases(decided=True) == []
        file_store.close()
        on_disk = b"".join(path.read_bytes() for path in folder.iterdir())
        assert b"gone-" not in on_disk
        assert b"here" in on_disk


class TestReplaced:
    def test_no_encounter_replaces_one_of_another_subject(self, store: Store, rows: DuplicateStore) -> None:
        put(store, "a")
        old = put(store, "b")
        merge_id = merge(rows, "a", "b")
        new = replace(an_encounter("a"), replaces=old)
        store.enroll(new)
        assert store.encounter(new.encounter_id).replaces == old
        rows.unmerge(merge_id, WHY)
        assert store.encounter(old).subject_id == "b"
        assert (store.encounter(new.encounter_id).subject_id, store.encounter(new.encounter_id).replaces) == (
            "a",
            None,
        )


class TestFiles:
    def test_whose_prints_are_of_one_file(self, store: Store, rows: DuplicateStore) -> None:
        one, other = a_print(image=b"one"), a_print(image=b"other")
        for subject, prints in (("b", (one,)), ("a", (one, other)), ("c", (other, other))):
            store.enroll(an_encounter(subject, prints))
        assert rows.owners_of_file(one.source_sha256 or b"", besides=1) == {"a"}
        assert rows.owners_of_file(other.source_sha256 or b"", besides=4) == {"a", "c"}
        assert rows.owners_of_file(other.source_sha256 or b"", besides=3) == {"c"}
        assert rows.owners_of_file(bytes(32), besides=1) == set()

    def test_a_cursor(self, store: Store, rows: DuplicateStore) -> None:
        assert rows.cursor() == 0
        rows.move_cursor(7)
        rows.move_cursor(12)
        assert rows.cursor() == 12
        assert store.gallery.facts == {"extractor": "leader-1"}


def _die_at(folder: Path, statement: str) -> None:
    """Merge, and be killed before a statement; what runs in a process of its own."""
    store = Store.open(folder)

    @event.listens_for(store._engine, "before_cursor_execute")
    def die(_: object, __: object, sent: str, *___: object) -> None:
        if sent.startswith(statement):
            os.kill(os.getpid(), signal.SIGKILL)

    merge(DuplicateStore(store), "a", "b")


if __name__ == "__main__":
    _die_at(Path(sys.argv[1]), sys.argv[2])
