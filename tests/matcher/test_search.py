"""Calibration, fusion of fingers, and the search of one gallery: who is found, and in what order."""

import itertools
import math
import time
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from minutiae import finger, mate

from matcher.calibration import LOWEST, Calibration, shipped
from matcher.compare import compare
from matcher.cylinders import Prepared, prepare
from matcher.fusion import fuse
from matcher.gallery import Gallery
from matcher.search import (
    Candidate,
    LocalSearcher,
    Match,
    Owner,
    ProbePrint,
    batched_tuples,
    fuse_encounters,
    may_meet,
    rank,
    threshold,
)
from matcher.template import Finger

# ---- calibration

calibrations = st.builds(
    Calibration,
    id=st.just("test"),
    slope=st.floats(0.5, 10),
    intercept=st.floats(0, 40),
    tail_from=st.floats(-5, -1),
    tail_rate=st.floats(1e-3, 0.2),
    tail_mean=st.floats(0.05, 0.5),
)


@given(calibrations, st.floats(-12, 0))
@settings(deadline=None)
def test_threshold_and_false_match_rate_are_inverse(calibration: Calibration, exponent: float) -> None:
    """Wherever the threshold is above the lowest ratio ever stated."""
    fmr = calibration.tail_rate * 10**exponent
    least = calibration.threshold(fmr)
    if least > LOWEST:
        assert calibration.fmr(least) == pytest.approx(fmr, rel=1e-6)


@given(calibrations, st.floats(-1e300, 1e300), st.floats(0, 100))
@settings(deadline=None)
def test_rates_fall_with_the_threshold(calibration: Calibration, llr: float, more: float) -> None:
    """Never above the tail's rate, never negative, whatever score is asked about."""
    assert 0 <= calibration.fmr(llr + more) <= calibration.fmr(llr) <= calibration.tail_rate


@given(calibrations, st.floats(-7, 0), st.floats(0, 2))
@settings(deadline=None)
def test_ratios_rise_with_the_raw_score(calibration: Calibration, raw: float, more: float) -> None:
    assert LOWEST <= calibration.llr(raw) <= calibration.llr(raw + more)


@pytest.mark.parametrize("fmr", [0.0, -1e-3, 0.5, 1.0, math.nan])
def test_rates_outside_the_tail_have_no_threshold(fmr: float) -> None:
    with pytest.raises(ValueError, match="false-match rate"):
        shipped().threshold(fmr)


def test_the_shipped_calibration_is_sound() -> None:
    calibration = shipped()
    assert calibration.slope > 0
    assert 0 < calibration.tail_rate < 0.5
    assert calibration.threshold(1e-3) < calibration.threshold(1e-4) < calibration.threshold(1e-9)
    assert shipped() is calibration


@given(calibrations, st.floats(1e-6, 0.999), st.integers(0, 10**9))
@settings(deadline=None)
def test_threshold_of_a_search(calibration: Calibration, target: float, size: int) -> None:
    """1 - (1 - FMR)^N is the rate that was asked for, or less where the tail's edge answers."""
    least = threshold(calibration, target_fpir=target, gallery_size=size)
    if least > LOWEST:
        reached = -math.expm1(max(size, 1) * math.log1p(-calibration.fmr(least)))
        assert reached <= target * (1 + 1e-6)
        if least > calibration.llr(calibration.tail_from) + 1e-9:
            assert reached == pytest.approx(target, rel=1e-6)
    assert threshold(calibration, target_fpir=target, gallery_size=10 * size + 10) >= least


@pytest.mark.parametrize("target", [0.0, 1.0, -0.1, 2.0, math.nan])
def test_impossible_rates_of_a_search(target: float) -> None:
    with pytest.raises(ValueError, match="FPIR"):
        threshold(shipped(), target_fpir=target, gallery_size=10)


# ---- fusion


def naive_fusion(scores: np.ndarray, allowed: np.ndarray) -> tuple[int, float]:
    """Of all assignments: as many pairs as possible, and of those the largest sum."""
    p, r = scores.shape
    best = (0, 0.0)
    for columns in itertools.product([None, *range(r)], repeat=p):
        used = [j for j in columns if j is not None]
        pairs = [(i, j) for i, j in enumerate(columns) if j is not None]
        if len(set(used)) == len(used) and all(allowed[i, j] for i, j in pairs):
            best = max(best, (len(pairs), math.fsum(scores[i, j] for i, j in pairs)))
    return best


@given(st.integers(0, 4), st.integers(0, 4), st.integers(0, 2**32 - 1), st.floats(0, 1))
@settings(deadline=None)
def test_fusion_is_the_best_assignment(p: int, r: int, seed: int, share: float) -> None:
    random = np.random.default_rng(seed)
    scores, allowed = random.uniform(-3, 25, (p, r)), random.random((p, r)) < share
    fused = fuse(scores, allowed)
    count, total = naive_fusion(scores, allowed)
    assert len(fused.pairs) == count
    assert fused.score == pytest.approx(total, abs=1e-6)
    assert all(allowed[i, j] for i, j in fused.pairs)
    assert fused.score == pytest.approx(sum(scores[i, j] for i, j in fused.pairs))
    for column in fused.pairs.T:
        assert len(set(column.tolist())) == len(column)


def test_a_finger_that_does_not_match_is_evidence() -> None:
    """An allowed pair counts with a ratio below 1 too; what is not allowed says nothing."""
    scores = np.array([[5.0, -2.0], [-2.0, -1.0]])
    assert fuse(scores, np.eye(2, dtype=bool)).score == 4.0
    assert fuse(scores, np.array([[True, False], [False, False]])).score == 5.0
    assert fuse(scores, np.zeros((2, 2), bool)).score == 0.0


def test_positions_that_may_meet() -> None:
    assert may_meet(Finger.LEFT_RING, Finger.LEFT_RING)
    assert may_meet(Finger.UNKNOWN, Finger.LEFT_RING)
    assert may_meet(Finger.LEFT_RING, Finger.UNKNOWN)
    assert not may_meet(Finger.LEFT_RING, Finger.RIGHT_RING)


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
    fused = fuse_encounters([Match(0, 1, -np.inf), Match(0, 2, 1.5)], owners)
    assert [(c.score, c.matches) for c in fused] == [(1.5, (Match(0, 2, 1.5),))]
    assert fuse_encounters([Match(0, 1, -np.inf)], owners) == []


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
            assert best.matches == (Match(0, 3 * person + 2, expected),)
            assert best.score == expected > result.candidates[1].score + 3
            assert [c.rank for c in result.candidates] == [1, 2, 3, 4, 5]
            assert (result.complete, result.failures, result.searched) == (True, (), 3 * COUNT)
            assert result.compared == (COUNT if code else 3 * COUNT)


def test_a_wrong_position_finds_nobody(searcher: LocalSearcher) -> None:
    """A print that is said to be of another finger is compared with those of that finger only."""
    result = searcher.search(
        [ProbePrint(Finger.LEFT_INDEX, again(3, Finger.RIGHT_INDEX))], limit=3, least=2.0
    )
    assert result.candidates == ()
    assert result.complete
    assert (
        searcher.search([ProbePrint(Finger.LEFT_LITTLE, again(3, Finger.RIGHT_INDEX))], limit=3).compared == 0
    )


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


def test_swapped_positions_are_evidence_against(searcher: LocalSearcher) -> None:
    """Thumb said to be index and index thumb: neither matches, so the person is not put forward."""
    a, b = again(5, Finger.RIGHT_THUMB), again(5, Finger.RIGHT_INDEX)
    swapped = [ProbePrint(Finger.RIGHT_INDEX, a), ProbePrint(Finger.RIGHT_THUMB, b)]
    assert searcher.search(swapped, limit=5, least=2.0).candidates == ()
    right = [ProbePrint(Finger.RIGHT_THUMB, a), ProbePrint(Finger.RIGHT_INDEX, b)]
    assert searcher.search(right, limit=5, least=2.0).candidates[0].subject == "subject-05"


def test_one_reference_print_is_used_once(searcher: LocalSearcher) -> None:
    """The same finger given twice does not count twice."""
    twice = [ProbePrint(Finger.UNKNOWN, again(5, Finger.RIGHT_THUMB))] * 2
    best = searcher.search(twice, limit=1).candidates[0]
    assert len({m.row for m in best.matches}) == 2
    assert {m.probe for m in best.matches} == {0, 1}
    once = searcher.search(twice[:1], limit=1).candidates[0]
    assert best.score < once.score
    same_code = [ProbePrint(Finger.RIGHT_THUMB, again(5, Finger.RIGHT_THUMB))] * 2
    assert searcher.search(same_code, limit=1).candidates[0].score == pytest.approx(once.score)


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
    assert {c.score for c in result.candidates} <= {LOWEST, shipped().llr(math.log(1e-3))}
    nobody = LocalSearcher(Gallery(tmp_path / "none", np.zeros(0, np.int64)), People(), workers=1)
    found = nobody.search([blank], limit=5, deadline=time.monotonic() + 60)
    assert (found.candidates, found.searched, found.complete) == ((), 0, True)
    nobody.close()
