"""The store against dictionaries, whatever is done to it in whatever order."""

from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from stores import (
    integrity,
)

from matcher.template import Finger, Impression
from papilar.errors import (
    EncounterErased,
    EncounterExists,
    EncounterUnknown,
    RequestConflict,
)
from papilar.store import (
    Counts,
    MissingFinger,
    MissingReason,
    NewEncounter,
    NewPrint,
    Request,
    Store,
    Written,
)

subjects = st.sampled_from(["a", "b", "c"])
new_prints = st.builds(
    NewPrint,
    finger=st.sampled_from([Finger(0), Finger(1), Finger(2)]),
    impression=st.sampled_from(Impression),
    template=st.binary(min_size=1, max_size=6000),
    minutiae=st.integers(0, 300),
    quality=st.none() | st.integers(0, 100),
    source_sha256=st.none() | st.binary(min_size=32, max_size=32),
    image=st.none() | st.binary(max_size=9000),
)
new_encounters = st.builds(
    NewEncounter,
    subject_id=subjects,
    encounter_id=st.uuids(version=4).map(str),
    prints=st.lists(new_prints, min_size=1, max_size=4).map(tuple),
    missing=st.sampled_from([(), (MissingFinger(Finger(9), MissingReason.AMPUTATED),)]),
)


class StoreMachine(RuleBasedStateMachine):
    """Anything a node may do, against dictionaries."""

    requests = Bundle("requests")

    def __init__(self, new_target: Callable[[], Path | str]) -> None:
        super().__init__()
        self.new_target = new_target

    @initialize()
    def create(self) -> None:
        self.target = self.new_target()
        self.store = Store.open(self.target, create=True)
        self.encounters: dict[str, NewEncounter] = {}
        self.rows: dict[str, tuple[int, ...]] = {}
        self.answers: dict[str, tuple[str, bytes] | None] = {}
        self.last_row = 0

    def enrolled(self, new: NewEncounter, written: Written) -> None:
        count = len(new.prints)
        assert written.rows == tuple(range(self.last_row + 1, self.last_row + count + 1))
        assert written.subject_changed == (
            new.subject_id not in {e.subject_id for e in self.encounters.values()}
        )
        self.last_row += count
        self.encounters[new.encounter_id], self.rows[new.encounter_id] = new, written.rows

    @rule(target=requests, new=new_encounters, request_id=st.uuids(version=4).map(str))
    def enrol(self, new: NewEncounter, request_id: str) -> tuple[NewEncounter, str]:
        if new.encounter_id in self.encounters or request_id in self.answers:
            return new, request_id
        response = UUID(new.encounter_id).bytes
        request = Request(request_id, b"first", lambda _: response)
        self.enrolled(new, self.store.enroll(new, request=request))
        self.answers[request_id] = (new.encounter_id, response)
        return new, request_id

    @rule(known=requests, digest=st.sampled_from([b"first", b"first", b"other"]))
    def repeat(self, known: tuple[NewEncounter, str], digest: bytes) -> None:
        new, request_id = known
        answer, request = self.answers[request_id], Request(request_id, digest, lambda _: b"never")
        if answer is None:
            with pytest.raises(EncounterErased):
                self.store.enroll(new, request=request)
        elif digest == b"other":
            with pytest.raises(RequestConflict):
                self.store.enroll(new, request=request)
        else:
            assert self.store.enroll(new, request=request) == Written((), False, answer[1], True)
            assert self.store.replay(request_id, digest) == answer[1]

    @rule(known=requests)
    def enrol_the_same_id(self, known: tuple[NewEncounter, str]) -> None:
        new, _ = known
        if new.encounter_id in self.encounters:
            with pytest.raises(EncounterExists):
                self.store.enroll(new)
        else:
            self.enrolled(new, self.store.enroll(new))

    @rule(known=requests)
    def delete(self, known: tuple[NewEncounter, str]) -> None:
        key = known[0].encounter_id
        if key not in self.encounters:
            with pytest.raises(EncounterUnknown):
                self.store.delete(key)
            return
        gone = self.encounters.pop(key)
        last = gone.subject_id not in {e.subject_id for e in self.encounters.values()}
        assert self.store.delete(key) == Written(self.rows.pop(key), last, None, False)
        self.answers = {r: None if a and a[0] == key else a for r, a in self.answers.items()}

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = Store.open(self.target)

    @rule(known=requests)
    def look(self, known: tuple[NewEncounter, str]) -> None:
        key = known[0].encounter_id
        if key not in self.encounters:
            with pytest.raises(EncounterUnknown):
                self.store.encounter(key)
            return
        found, was = self.store.encounter(key, images=True), self.encounters[key]
        assert (found.subject_id, found.missing) == (was.subject_id, was.missing)
        assert [(p.template, p.image, p.quality, p.source_sha256) for p in found.prints] == [
            (p.template, p.image, p.quality, p.source_sha256) for p in was.prints
        ]

    @rule(subject=subjects)
    def look_for_a_subject(self, subject: str) -> None:
        keys = {key for key, e in self.encounters.items() if e.subject_id == subject}
        assert {e.encounter_id for e in self.store.encounters_of(subject)} == keys

    @invariant()
    def agrees(self) -> None:
        rows = {row: key for key, rows in self.rows.items() for row in rows}
        assert self.store.live_rows().tolist() == sorted(rows)
        assert {
            row: owner.encounter_id for row, owner in self.store.owners(range(self.last_row + 2)).items()
        } == rows
        names = {e.subject_id for e in self.encounters.values()}
        assert self.store.counts() == Counts(len(names), len(self.encounters), len(rows))
        templates = [
            p.template
            for key in sorted(self.rows, key=self.rows.__getitem__)
            for p in self.encounters[key].prints
        ]
        assert [p.template for p in self.store.templates()] == templates

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            if isinstance(self.target, Path):
                assert integrity(self.target) == "ok"


def test_against_dictionaries(new_target: Callable[[], Path | str]) -> None:
    examples = 20 if isinstance(new_target(), Path) else 8
    run_state_machine_as_test(
        lambda: StoreMachine(new_target),
        settings=settings(
            max_examples=examples,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
