"""The search of one gallery: who is found, in what order, and after how much work."""

import itertools
import math
import time
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from minutiae import finger, mate

from matcher.calibration import shipped
from matcher.cascade import PENETRATION, Found, Ranked, Wanted
from matcher.compare import compare, score
from matcher.cylinders import Prepared, prepare
from matcher.fusion import RULES
from matcher.gallery import Gallery
from matcher.search import (
    FIRST,
    FIRST_ALONE,
    LEADERS,
    Candidate,
    LocalSearcher,
    Match,
    Owner,
    ProbePrint,
    batched_tuples,
    count_fingers,
    fuse_encounters,
    rank,
    threshold,
)
from matcher.template import Finger, Impression


@pytest.mark.parametrize("target", [0.0, 1.0, -0.1, 2.0, math.nan])
def test_impossible_rates_of_a_search(target: float) -> None:
    with pytest.raises(ValueError, match="FPIR"):
        threshold(shipped(), target_fpir=target, gallery={Finger.UNKNOWN: 10})


@given(st.integers(0, 100), st.integers(1, 40))
@settings(deadline=None)
def test_batches(n: int, size: int) -> None:
    items = [(i, -i) for i in range(n)]
    batches = list(batched_tuples(items, size))
    assert [item for batch in batches for item in batch] == items
    assert all(len(batch) == size for batch in batches[:-1])
    assert all(batches)


# ---- ranking


def candidate(subject: str, encounter: str, score: float) -> Candidate:
    return Candidate(subject, encounter, score, 0, ())


def test_ranking() -> None:
    """The best encounter of each subject, ties by subject then encounter, numbered from 1."""
    given_ = [
        candidate("b", "e1", 3.0),
        candidate("a", "e3", 3.0),
        candidate("a", "e2", 3.0),
        candidate("c", "e4", 9.0),
        candidate("c", "e5", -1.0),
        candidate("d", "e6", -2.0),
    ]
    for order in itertools.permutations(given_):
        ranked = rank(order, limit=10, least=None)
        assert [(c.subject, c.encounter, c.rank) for c in ranked] == [
            ("c", "e4", 1),
            ("a", "e2", 2),
            ("b", "e1", 3),
            ("d", "e6", 4),
        ]
    assert [c.subject for c in rank(given_, limit=2, least=None)] == ["c", "a"]
    assert [c.subject for c in rank(given_, limit=10, least=3.0)] == ["c", "a", "b"]
    assert rank(given_, limit=10, least=9.1) == ()
    assert rank(given_, limit=0, least=None) == ()
    assert rank([], limit=5, least=None) == ()


def test_rows_that_vanished_take_no_part_in_fusion() -> None:
    owners = {1: Owner("a", "e", Finger.UNKNOWN), 2: Owner("a", "e", Finger.UNKNOWN)}
    probe = [ProbePrint(Finger.UNKNOWN, prepare(finger(1, 4)))]
    (fused,) = fuse_encounters([Match(0, 1, -np.inf), Match(0, 2, 1.5)], probe, owners).values()
    assert (fused.score, fused.matches) == (1.5, (Match(0, 2, 1.5),))
    assert fuse_encounters([Match(0, 1, -np.inf)], probe, owners) == {}


def test_fingers_of_a_probe() -> None:
    one = prepare(finger(1, 4))
    codes = [Finger.UNKNOWN, Finger.LEFT_RING, Finger.UNKNOWN, Finger.LEFT_RING, Finger.LEFT_INDEX]
    assert count_fingers([ProbePrint(code, one) for code in codes]) == 4


# ---- a whole search


class People(dict[int, Owner]):
    """A directory of rows, as the store is one."""

    def owners(self, rows: Collection[int]) -> Mapping[int, Owner]:
        return {row: self[row] for row in rows if row in self}

    def rows_of(self, encounters: Collection[str]) -> Collection[int]:
        return [row for row, owner in self.items() if owner.encounter in encounters]


COUNT = 30
FINGERS = (Finger.RIGHT_THUMB, Finger.RIGHT_INDEX, Finger.LEFT_INDEX)


def seed_of(person: int, code: Finger) -> int:
    return 1000 * person + int(code)


def reference(person: int, code: Finger) -> Prepared:
    return prepare(finger(seed_of(person, code), 24, size=(280, 340)))


def again(person: int, code: Finger, **how: float) -> Prepared:
    """A second impression."""
    one = finger(seed_of(person, code), 24, size=(280, 340))
    return prepare(mate(one, seed_of(person, code) + 500, turn=0.2, shift=(10, -8), **how).template)


@pytest.fixture(scope="module")
def prepared_people() -> list[tuple[Owner, Prepared]]:
    """Thirty persons of three fingers each, of one encounter."""
    return [
        (Owner(f"subject-{person:02d}", f"encounter-{person:02d}", code), reference(person, code))
        for person in range(COUNT)
        for code in FINGERS
    ]


@pytest.fixture
def people(tmp_path: Path, prepared_people: list[tuple[Owner, Prepared]]) -> tuple[Gallery, People]:
    """Row numbers from 1; two thirds of them sealed."""
    gallery, directory = Gallery(tmp_path, np.zeros(0, np.int64)), People()
    for row, (owner, prepared) in enumerate(prepared_people, 1):
        gallery.add(row, prepared)
        directory[row] = owner
        if row == 2 * COUNT:
            gallery.seal()
    return gallery, directory


@pytest.fixture
def searcher(people: tuple[Gallery, People]):
    made = LocalSearcher(*people, workers=2)
    yield made
    made.close()


def with_shortlist(people: tuple[Gallery, People], shortlist: int) -> LocalSearcher:
    return LocalSearcher(*people, shortlist=shortlist, workers=2)


def test_a_known_mate_ranks_first(searcher: LocalSearcher) -> None:
    """One finger, its position known or not: the person, the row and the score of the comparison itself."""
    for person in (0, 7, 29):
        for code in (Finger.RIGHT_INDEX, Finger.UNKNOWN):
            probe = again(person, Finger.RIGHT_INDEX)
            result = searcher.search([ProbePrint(code, probe)], limit=5)
            best = result.candidates[0]
            assert (best.subject, best.encounter) == (f"subject-{person:02d}", f"encounter-{person:02d}")
            expected = compare(probe, reference(person, Finger.RIGHT_INDEX)).score
            assert best.matches == (Match(0, 3 * person + 2, expected, disagree=False),)
            assert best.score == expected > result.candidates[1].score + 3
            assert [c.rank for c in result.candidates] == [1, 2, 3, 4, 5]
            assert (result.complete, result.failures, result.searched) == (True, (), 3 * COUNT)
            if code:  # those of its finger, and the first of its shortlist
                assert COUNT < result.compared <= COUNT + FIRST_ALONE < 3 * COUNT
            else:
                assert result.compared == 3 * COUNT


def test_one_print_under_a_wrong_position_is_found_and_reported(searcher: LocalSearcher) -> None:
    """The person has another print of that position, or none at all."""
    for person in (3, 17):
        own = again(person, Finger.RIGHT_INDEX)
        expected = compare(own, reference(person, Finger.RIGHT_INDEX)).score
        for said in (Finger.LEFT_INDEX, Finger.LEFT_LITTLE):
            best = searcher.search([ProbePrint(said, own)], limit=3, least=2.0).candidates[0]
            assert best.subject == f"subject-{person:02d}"
            assert best.matches == (Match(0, 3 * person + 2, expected, disagree=True),)
            assert best.score == pytest.approx(expected - RULES.price)


def test_a_stranger_under_a_wrong_position_is_nobody(searcher: LocalSearcher) -> None:
    for said in (Finger.LEFT_INDEX, Finger.LEFT_LITTLE):
        result = searcher.search([ProbePrint(said, again(COUNT + 3, Finger.RIGHT_INDEX))], limit=3)
        assert not any(m.disagree for c in result.candidates for m in c.matches)
        assert all(c.score < 2 for c in result.candidates)


def test_fingers_add_up(searcher: LocalSearcher) -> None:
    codes = FINGERS
    probe = [ProbePrint(code, again(5, code)) for code in codes]
    singly = [searcher.search([one], limit=1).candidates[0] for one in probe]
    best = searcher.search(probe, limit=3).candidates[0]
    assert best.subject == "subject-05"
    assert best.score == pytest.approx(sum(one.score for one in singly))
    assert [(m.probe, m.row) for m in best.matches] == [(0, 16), (1, 17), (2, 18)]


def test_positions_unknown_or_some_of_them(searcher: LocalSearcher) -> None:
    """The best assignment is found without positions, in any order."""
    known = searcher.search([ProbePrint(c, again(5, c)) for c in FINGERS], limit=1).candidates[0]
    for order in itertools.permutations(FINGERS):
        probe = [ProbePrint(Finger.UNKNOWN, again(5, code)) for code in order]
        best = searcher.search(probe, limit=1).candidates[0]
        assert best.score == pytest.approx(known.score)
        assert [m.row for m in best.matches] == [16 + FINGERS.index(code) for code in order]
    probe[0] = ProbePrint(order[0], probe[0].prepared)
    assert searcher.search(probe, limit=1).candidates[0].score == pytest.approx(known.score)


@pytest.mark.parametrize("shortlist", [500, 5])
def test_a_swapped_pair_is_found_and_reported(people: tuple[Gallery, People], shortlist: int) -> None:
    """Thumb said to be index and index thumb, in a gallery taken whole and behind a short list."""
    own = with_shortlist(people, shortlist)
    a, b = again(5, Finger.RIGHT_THUMB), again(5, Finger.RIGHT_INDEX)
    third = ProbePrint(Finger.LEFT_INDEX, again(5, Finger.LEFT_INDEX))
    right = [ProbePrint(Finger.RIGHT_THUMB, a), ProbePrint(Finger.RIGHT_INDEX, b)]
    swapped = [ProbePrint(Finger.RIGHT_INDEX, a), ProbePrint(Finger.RIGHT_THUMB, b)]
    for more in ([], [third]):
        as_it_is = own.search([*right, *more], limit=5, least=2.0).candidates[0]
        best, *others = own.search([*swapped, *more], limit=5, least=2.0).candidates
        assert best.subject == as_it_is.subject == "subject-05"
        assert others == []
        assert best.score == pytest.approx(as_it_is.score - RULES.price)
        assert [(m.probe, m.row, m.disagree) for m in best.matches[:2]] == [(0, 16, True), (1, 17, True)]
        assert not any(m.disagree for m in as_it_is.matches)
        assert [m.disagree for m in best.matches[2:]] == [False] * len(more)
    own.close()


def test_the_second_of_a_swapped_pair_is_compared_though_no_shortlist_names_it(
    people: tuple[Gallery, People], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thumb leads to the person; only then is the index compared with what is left of the person's."""
    gallery = people[0]
    real = gallery.shortlist
    poor = again(5, Finger.RIGHT_INDEX)

    def shortlist(probe: list[Wanted], **how: Any) -> Found:
        found = real(probe, **how)
        thumb, index = found.first
        kept = index.rows != 17
        return found._replace(first=(thumb, Ranked(index.rows[kept], index.votes[kept])))

    monkeypatch.setattr(gallery, "shortlist", shortlist)
    own = with_shortlist(people, 5)
    thumb = again(5, Finger.RIGHT_THUMB)
    swapped = [ProbePrint(Finger.RIGHT_INDEX, thumb), ProbePrint(Finger.RIGHT_THUMB, poor)]
    best = own.search(swapped, limit=1).candidates[0]
    assert [(m.probe, m.row, m.disagree) for m in best.matches] == [(0, 16, True), (1, 17, True)]
    own.close()


def test_wrong_positions_cost_little_work(searcher: LocalSearcher) -> None:
    """At most `FIRST` comparisons for all prints, and those of unmatched fingers of the `LEADERS`."""
    known = [ProbePrint(code, again(5, code)) for code in FINGERS]
    assert searcher.search(known, limit=1).compared <= 3 * COUNT + FIRST < 9 * COUNT
    strangers = [ProbePrint(code, again(COUNT + 5, code)) for code in FINGERS]
    assert searcher.search(strangers, limit=1).compared <= 3 * COUNT + FIRST + 6 * LEADERS


def test_several_impressions_of_a_finger(people: tuple[Gallery, People]) -> None:
    """On both sides: worth more than the best two, less than their sum, and reported as one finger."""
    gallery, directory = people
    gallery.add(900, again(4, Finger.RIGHT_THUMB, jitter=1.0))
    directory[900] = Owner("subject-04", "encounter-04", Finger.RIGHT_THUMB)
    own = LocalSearcher(gallery, directory, workers=1)
    pair = [ProbePrint(Finger.RIGHT_THUMB, again(4, Finger.RIGHT_THUMB, lost=lost)) for lost in (0.1, 0.25)]
    singles = [
        compare(one.prepared, other).score
        for one in pair
        for other in (reference(4, Finger.RIGHT_THUMB), again(4, Finger.RIGHT_THUMB, jitter=1.0))
    ]
    best = own.search(pair, limit=1).candidates[0]
    assert best.subject == "subject-04"
    assert best.score == pytest.approx(sum(singles) / (1 + 3 * RULES.correlation))
    assert [m.score for m in best.matches] == [max(singles)]
    own.close()


def test_one_reference_print_is_used_once(searcher: LocalSearcher) -> None:
    """The same finger given twice does not count twice."""
    twice = [ProbePrint(Finger.UNKNOWN, again(5, Finger.RIGHT_THUMB))] * 2
    best = searcher.search(twice, limit=1).candidates[0]
    assert len({m.row for m in best.matches}) == 2
    assert {m.probe for m in best.matches} == {0, 1}
    once = searcher.search(twice[:1], limit=1).candidates[0]
    assert best.score < once.score
    same_code = [ProbePrint(Finger.RIGHT_THUMB, again(5, Finger.RIGHT_THUMB))] * 2
    impressions = searcher.search(same_code, limit=1).candidates[0]
    assert impressions.score == pytest.approx(once.score * 2 / (1 + RULES.correlation))
    assert len(impressions.matches) == 1


def test_the_other_fingers_of_an_encounter_speak_though_not_shortlisted(
    people: tuple[Gallery, People],
) -> None:
    """A shortlist of one row brings the whole encounter: a finger that differs lowers the score."""
    small = with_shortlist(people, 1)
    probe = [
        ProbePrint(Finger.RIGHT_THUMB, again(5, Finger.RIGHT_THUMB)),
        ProbePrint(Finger.RIGHT_INDEX, again(9, Finger.RIGHT_INDEX)),
    ]
    found = {c.subject: c for c in small.search(probe, limit=5).candidates}
    assert set(found) == {"subject-05", "subject-09"}
    assert all(len(c.matches) == 2 for c in found.values())
    assert all(min(m.score for m in c.matches) < 0 < max(m.score for m in c.matches) for c in found.values())
    small.close()


def test_a_shortlist_smaller_than_the_gallery_finds_mates(people: tuple[Gallery, People]) -> None:
    small = with_shortlist(people, 5)
    for person in range(0, COUNT, 3):
        result = small.search([ProbePrint(Finger.UNKNOWN, again(person, Finger.LEFT_INDEX))], limit=3)
        assert result.candidates[0].subject == f"subject-{person:02d}"
        assert result.compared == 5
        assert result.searched == 3 * COUNT
        assert result.complete
    small.close()


def test_least_and_limit(searcher: LocalSearcher) -> None:
    probe = [ProbePrint(Finger.UNKNOWN, again(3, Finger.RIGHT_THUMB))]
    everyone = searcher.search(probe, limit=1000).candidates
    assert len(everyone) == COUNT
    assert [c.score for c in everyone] == sorted((c.score for c in everyone), reverse=True)
    least = everyone[4].score
    assert (
        searcher.search(probe, limit=1000, least=least).candidates
        == everyone[: sum(c.score >= least for c in everyone)]
    )
    assert searcher.search(probe, limit=2).candidates == everyone[:2]
    assert searcher.search(probe, limit=2, least=1e9).candidates == ()
    assert searcher.search(probe, limit=0).candidates == ()


def test_it_repeats_itself(searcher: LocalSearcher) -> None:
    """Threads finish in any order; the answer does not depend on it."""
    probe = [ProbePrint(Finger.UNKNOWN, again(3, code)) for code in FINGERS]
    first = searcher.search(probe, limit=50)
    assert all(searcher.search(probe, limit=50) == first for _ in range(5))


def test_a_subject_of_several_encounters_stands_once(people: tuple[Gallery, People]) -> None:
    gallery, directory = people
    gallery.add(900, again(4, Finger.RIGHT_THUMB, jitter=0.2, lost=0, false=0))
    directory[900] = Owner("subject-04", "later", Finger.RIGHT_THUMB)
    own = LocalSearcher(gallery, directory, workers=1)
    probe = [ProbePrint(Finger.RIGHT_THUMB, again(4, Finger.RIGHT_THUMB, jitter=0.2, lost=0, false=0))]
    candidates = own.search(probe, limit=100).candidates
    assert [c.encounter for c in candidates if c.subject == "subject-04"] == ["later"]
    assert len({c.subject for c in candidates}) == len(candidates)
    own.close()


@pytest.mark.parametrize("late", [0.0, 5.0, math.inf])
def test_a_deadline_already_past(searcher: LocalSearcher, late: float) -> None:
    """Nothing is compared, nobody is put forward, and the answer says so."""
    deadline = time.monotonic() - late
    result = searcher.search(
        [ProbePrint(Finger.UNKNOWN, again(1, Finger.RIGHT_THUMB))], limit=5, deadline=deadline
    )
    assert result.candidates == ()
    assert not result.complete
    assert result.failures == (f"deadline: 0 of {3 * COUNT} compared",)
    assert result.compared == 0
    assert result.searched == 3 * COUNT


def test_a_deadline_on_the_way(people: tuple[Gallery, People], monkeypatch: pytest.MonkeyPatch) -> None:
    """What was compared in time is ranked, with the scores it would have had; the rest is counted."""
    gallery, directory = people
    one = LocalSearcher(gallery, directory, workers=1)
    probe = [ProbePrint(Finger.UNKNOWN, again(1, Finger.RIGHT_THUMB))]
    whole = {m.row: m.score for c in one.search(probe, limit=99).candidates for m in c.matches}
    looks = iter(range(100))
    monkeypatch.setattr("matcher.search.time.monotonic", lambda: float(next(looks)))
    result = one.search(probe, limit=99, deadline=2.0)
    monkeypatch.undo()
    assert result.failures == ("deadline: 64 of 90 compared",)
    assert (result.complete, result.compared) == (False, 64)
    assert result.candidates[0].subject == "subject-01"
    assert all(m.score <= whole.get(m.row, m.score) for c in result.candidates for m in c.matches)
    one.close()


def test_a_deadline_between_two_rounds(
    people: tuple[Gallery, People], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What leads to a swapped pair was compared in time, the rest of its encounter was not: it is said."""
    one = LocalSearcher(*people, shortlist=5, workers=1)
    thumb, stranger = again(5, Finger.RIGHT_THUMB), again(COUNT + 5, Finger.RIGHT_INDEX)
    probe = [ProbePrint(Finger.RIGHT_INDEX, thumb), ProbePrint(Finger.RIGHT_THUMB, stranger)]
    whole = one.search(probe, limit=1)
    with monkeypatch.context() as patched:
        patched.setattr("matcher.search.LEADERS", 0)
        first = one.search(probe, limit=1)
    assert first.complete
    assert first.compared < whole.compared
    looks = iter(range(100))
    with monkeypatch.context() as patched:
        patched.setattr("matcher.search.time.monotonic", lambda: float(next(looks)))
        cut = one.search(probe, limit=1, deadline=float(math.ceil(first.compared / 32)))
    assert cut.failures == (f"deadline: {first.compared} of {whole.compared} compared",)
    assert not cut.complete
    assert cut.candidates == first.candidates
    assert cut.candidates[0].subject == "subject-05"
    one.close()


def test_a_deadline_far_away_changes_nothing(searcher: LocalSearcher) -> None:
    probe = [ProbePrint(Finger.UNKNOWN, again(1, Finger.RIGHT_THUMB))]
    assert searcher.search(probe, limit=5, deadline=time.monotonic() + 60) == searcher.search(probe, limit=5)


def test_a_row_hidden_during_the_search(people: tuple[Gallery, People]) -> None:
    """Deleted after the shortlist was drawn: it is no candidate, and no error."""
    gallery, directory = people

    class Meanwhile(People):
        def owners(self, rows: Collection[int]) -> Mapping[int, Owner]:
            gallery.hide([4, 5, 6])
            return super().owners(rows)

    own = LocalSearcher(gallery, Meanwhile(directory), workers=2)
    result = own.search([ProbePrint(Finger.UNKNOWN, again(1, Finger.RIGHT_THUMB))], limit=99)
    assert "subject-01" not in {c.subject for c in result.candidates}
    assert len(result.candidates) == COUNT - 1
    assert result.complete
    own.close()


def test_rows_the_store_does_not_know_are_passed_over(people: tuple[Gallery, People]) -> None:
    """Erased in the store, not yet hidden here; or in the store, not yet added here."""
    gallery, directory = people
    del directory[4]
    directory[901] = Owner("subject-01", "encounter-01", Finger.RIGHT_THUMB)
    own = LocalSearcher(gallery, directory, workers=2)
    probe = [ProbePrint(c, again(1, c)) for c in FINGERS[:2]]
    best = own.search(probe, limit=1).candidates[0]
    assert best.subject == "subject-01"
    assert [m.row for m in best.matches] == [5]
    own.close()


def test_probes_that_say_nothing(searcher: LocalSearcher, tmp_path: Path) -> None:
    """No print, or one without cylinders: an answer, with nobody above the floor; an empty gallery too."""
    assert searcher.search([], limit=5).candidates == ()
    blank = ProbePrint(Finger.UNKNOWN, prepare(finger(1, 1)))
    result = searcher.search([blank], limit=5)
    assert result.complete
    assert {c.score for c in result.candidates} <= {score(blank.prepared, reference(0, FINGERS[0]))}
    nobody = LocalSearcher(Gallery(tmp_path / "none", np.zeros(0, np.int64)), People(), workers=1)
    found = nobody.search([blank], limit=5, deadline=time.monotonic() + 60)
    assert (found.candidates, found.searched, found.complete) == ((), 0, True)
    nobody.close()


# ---- what is compared


def test_an_exhaustive_search_compares_every_row(people: tuple[Gallery, People]) -> None:
    """As a search whose shortlist holds the gallery, for one print and for several."""
    whole, every = LocalSearcher(*people, workers=1), LocalSearcher(*people, shortlist=2, exhaustive=True)
    for codes in (FINGERS[:1], FINGERS):
        probe = [ProbePrint(code, again(4, code)) for code in codes]
        assert every.search(probe, limit=99) == whole.search(probe, limit=99)
        assert every.search(probe, limit=99).compared >= COUNT * len(codes)
    whole.close()
    every.close()


def test_nothing_is_passed_over_for_a_latent(
    people: tuple[Gallery, People], monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery, asked = people[0], []
    real = gallery.shortlist

    def shortlist(probe: list[Wanted], **how: Any) -> Found:
        asked.append(how["penetration"])
        return real(probe, **how)

    monkeypatch.setattr(gallery, "shortlist", shortlist)
    own = with_shortlist(people, 5)
    for impression in (Impression.LATENT_LIFT, Impression.LIVE_PLAIN, None):
        template = impression if impression is None else replace(finger(1, 12), impression=impression)
        own.search([ProbePrint(Finger.UNKNOWN, again(1, Finger.RIGHT_THUMB), template)], limit=1)
    assert asked == [1.0, PENETRATION, PENETRATION]
    own.close()
