"""Prints that are taken again: under the ids they had where nothing was kept, else as a further encounter."""

import uuid
from dataclasses import replace
from pathlib import Path

import pytest
from nodes import a_person, enrolled_as, seen_again, white
from stores import a_request, an_encounter

from papilar.errors import EncounterUnknown, RequestInvalid
from papilar.node import Node
from papilar.requests import Enrolled, Enrollment, PrintInput, Rejected, Repeat
from papilar.store import Store


def test_what_was_rejected_is_sent_again_under_its_own_ids(tmp_path: Path) -> None:
    poor = Enrollment((PrintInput(image=white()),), subject_id="s", encounter_id=str(uuid.uuid4()))
    request = str(uuid.uuid4())
    with Node(tmp_path / "gallery", create=True) as node:
        assert isinstance(node.enroll(poor, repeat=Repeat(request, b"poor")), Rejected)
        better = replace(poor, prints=(enrolled_as(1),))
        done = node.enroll(better, repeat=Repeat(request, b"better"))
        assert isinstance(done, Enrolled)
        assert (done.subject_id, done.encounter_id, done.repeated) == ("s", poor.encounter_id, False)
        assert node.enroll(better, repeat=Repeat(request, b"better")) == replace(done, repeated=True)


def test_a_finger_taken_again_makes_its_person_findable_by_either_print(tmp_path: Path) -> None:
    with Node(tmp_path / "gallery", create=True) as node:
        first = node.enroll(a_person(1, 2, subject="s"))
        again = node.enroll(a_person(3, subject="s"))
        assert isinstance(first, Enrolled)
        assert isinstance(again, Enrolled)
        for seed in (1, 3):
            (best, *_) = node.identify([seen_again(seed)]).candidates
            assert (best.subject, best.score > 3) == ("s", True)


class TestTheStore:
    def test_the_later_encounter_names_the_earlier_which_stays(self, store: Store) -> None:
        first = an_encounter("s")
        store.enroll(first)
        again = replace(an_encounter("s"), replaces=first.encounter_id)
        store.enroll(again)
        assert [e.replaces for e in store.encounters_of("s")] == [None, first.encounter_id]
        assert store.counts().prints == 2

    def test_a_repeat_changes_nothing(self, store: Store) -> None:
        first, request = an_encounter("s"), a_request()
        store.enroll(first)
        again = replace(an_encounter("s"), replaces=first.encounter_id)
        assert not store.enroll(again, request=request).repeated
        assert store.enroll(again, request=request).repeated
        assert store.counts().encounters == 2

    def test_another_subject_s_or_none_is_refused_and_nothing_kept(self, store: Store) -> None:
        first = an_encounter("s")
        store.enroll(first)
        with pytest.raises(RequestInvalid, match="another subject"):
            store.enroll(replace(an_encounter("t"), replaces=first.encounter_id))
        with pytest.raises(EncounterUnknown):
            store.enroll(replace(an_encounter("s"), replaces=str(uuid.uuid4())))
        own = an_encounter("s")
        with pytest.raises(EncounterUnknown):
            store.enroll(replace(own, replaces=own.encounter_id))
        assert store.counts()[:2] == (1, 1)

    def test_of_an_encounter_that_is_deleted_no_trace_is_left(self, store: Store) -> None:
        first = an_encounter("s")
        again = replace(an_encounter("s"), replaces=first.encounter_id)
        other = an_encounter("s")
        third = replace(an_encounter("s"), replaces=other.encounter_id)
        for new in (first, other, again, third):
            store.enroll(new)
        store.delete(first.encounter_id)
        assert store.encounter(again.encounter_id).replaces is None
        assert store.encounter(third.encounter_id).replaces == other.encounter_id
        store.delete(third.encounter_id)
        assert store.counts().encounters == 2
