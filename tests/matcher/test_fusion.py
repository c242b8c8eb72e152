"""Fusion: several fingers, several impressions, unknown and wrong positions, fingers that are missing."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from matcher.calibration import LOWEST, shipped
from matcher.fusion import RULES, FusionRules, count_choices, fingers_of, fuse, may_meet, unmatched_pairs
from matcher.search import threshold
from matcher.template import Finger

UNKNOWN = Finger.UNKNOWN
THUMB, INDEX, MIDDLE = Finger.RIGHT_THUMB, Finger.RIGHT_INDEX, Finger.RIGHT_MIDDLE
LEFT = Finger.LEFT_INDEX
KNOWN = tuple(Finger)[1:]

positions = st.lists(st.sampled_from([UNKNOWN, THUMB, INDEX, LEFT]), max_size=5)
named = st.lists(st.sampled_from([THUMB, INDEX, LEFT]), max_size=5)
distinct = st.lists(st.sampled_from(KNOWN), unique=True, max_size=5)
seeds = st.integers(0, 2**32 - 1)


def ratios(seed: int, p: int, r: int, low: float = -3, high: float = 12) -> np.ndarray:
    return np.random.default_rng(seed).uniform(low, high, (p, r))


def total(*fused):
    return [pytest.approx(one.score, abs=1e-6) for one in fused]


def test_positions_that_agree() -> None:
    assert may_meet(Finger.LEFT_RING, Finger.LEFT_RING)
    assert may_meet(UNKNOWN, Finger.LEFT_RING)
    assert may_meet(Finger.LEFT_RING, UNKNOWN)
    assert not may_meet(Finger.LEFT_RING, Finger.RIGHT_RING)


@given(positions)
def test_prints_of_one_known_position_are_of_one_finger(given_: list[Finger]) -> None:
    groups = fingers_of(given_)
    assert sorted(i for group in groups for i in group) == list(range(len(given_)))
    assert len(groups) == len(set(given_) - {UNKNOWN}) + given_.count(UNKNOWN)
    assert all(len({given_[i] for i in group}) == 1 for group in groups)


@given(distinct, distinct, st.integers(1, 5), st.integers(1, 5))
def test_choices(mine: list[Finger], theirs: list[Finger], p: int, r: int) -> None:
    """None where positions are known; where they are not, all pairs for the fingers that can be assigned."""
    assert count_choices(mine * 2, theirs) == 1
    assert count_choices([UNKNOWN] * p, [UNKNOWN] * r) == max(p, r)
    assert count_choices(KNOWN, [UNKNOWN] * r) == 10


# ---- fingers


def naive_assignment(scores: np.ndarray, agree: np.ndarray) -> tuple[int, float]:
    """Of all assignments: as many pairs as possible, and of those the largest sum."""
    p, r = scores.shape
    best = (0, 0.0)
    for columns in itertools.product([None, *range(r)], repeat=p):
        used = [j for j in columns if j is not None]
        pairs = [(i, j) for i, j in enumerate(columns) if j is not None]
        if len(set(used)) == len(used) and all(agree[i, j] for i, j in pairs):
            best = max(best, (len(pairs), math.fsum(scores[i, j] for i, j in pairs)))
    return best


@given(st.integers(0, 4), st.integers(0, 4), seeds)
def test_unknown_positions_take_the_best_assignment(p: int, r: int, seed: int) -> None:
    """One side without positions, the other with some: nothing can disagree."""
    some = [(UNKNOWN, *KNOWN)[k] for k in np.random.default_rng(seed).permutation(5)[:r]]
    scores = ratios(seed, p, r)
    fused = fuse([UNKNOWN] * p, some, scores)
    count, best = naive_assignment(scores, np.ones((p, r), bool))
    assert len(fused.pairs) == count
    assert fused.score == pytest.approx(best, abs=1e-6)
    assert fused.score == pytest.approx(sum(scores[i, j] for i, j in fused.pairs))
    for column in fused.pairs.T:
        assert len(set(column.tolist())) == len(column)


@given(distinct, distinct, seeds)
def test_known_positions_meet_their_like(mine: list[Finger], theirs: list[Finger], seed: int) -> None:
    """Where no other pair was compared: the sum over the fingers on both sides; the others say nothing."""
    scores = ratios(seed, len(mine), len(theirs))
    agree = np.array([[a == b for b in theirs] for a in mine], bool).reshape(scores.shape)
    fused = fuse(mine, theirs, np.where(agree, scores, np.nan))
    assert fused.score == pytest.approx(scores[agree].sum())
    assert {(mine[i], theirs[j]) for i, j in fused.pairs} == {(f, f) for f in set(mine) & set(theirs)}


def test_a_finger_that_does_not_match_is_evidence_and_one_that_is_missing_is_none() -> None:
    scores = np.array([[5.0, np.nan], [np.nan, -1.0]])
    assert fuse([THUMB, INDEX], [THUMB, INDEX], scores).score == 4.0
    assert fuse([THUMB, INDEX], [THUMB, MIDDLE], scores[:, :1].repeat(2, axis=1) * [1, np.nan]).score == 5.0
    for mine, theirs in (([], []), ([THUMB], []), ([], [THUMB]), ([THUMB], [INDEX])):
        nothing = fuse(mine, theirs, np.full((len(mine), len(theirs)), np.nan))
        assert (nothing.score, nothing.pairs.shape) == (0.0, (0, 2))


@given(named, named, seeds)
def test_a_finger_with_ratio_1_changes_nothing(mine: list[Finger], theirs: list[Finger], seed: int) -> None:
    little = Finger.LEFT_LITTLE
    scores = ratios(seed, len(mine), len(theirs))
    wider = np.full((len(mine) + 1, len(theirs) + 1), np.nan)
    wider[:-1, :-1], wider[-1, -1] = scores, 0.0
    assert [fuse([*mine, little], [*theirs, little], wider).score] == total(fuse(mine, theirs, scores))


@given(positions, positions, seeds)
def test_the_order_of_prints_changes_nothing(mine: list[Finger], theirs: list[Finger], seed: int) -> None:
    random, scores = np.random.default_rng(seed), ratios(seed, len(mine), len(theirs))
    a, b = random.permutation(len(mine)), random.permutation(len(theirs))
    again = fuse([mine[i] for i in a], [theirs[j] for j in b], scores[np.ix_(a, b)])
    first = fuse(mine, theirs, scores)
    assert [again.score] == total(first)
    assert {(a[i], b[j]) for i, j in again.pairs} == {(i, j) for i, j in first.pairs}


@given(positions, positions, seeds)
def test_probe_and_reference_are_alike(mine: list[Finger], theirs: list[Finger], seed: int) -> None:
    scores = ratios(seed, len(mine), len(theirs))
    assert [fuse(theirs, mine, scores.T).score] == total(fuse(mine, theirs, scores))


@given(positions, positions, seeds, st.integers(0, 24), st.floats(0, 9))
def test_a_greater_ratio_of_positions_that_agree_never_lowers_the_sum(
    mine: list[Finger], theirs: list[Finger], seed: int, place: int, more: float
) -> None:
    scores = ratios(seed, len(mine), len(theirs))
    for i, j in np.ndindex(scores.shape):
        scores[i, j] = scores[i, j] if may_meet(mine[i], theirs[j]) else np.nan
    raised = scores.copy()
    raised.flat[place % max(scores.size, 1) : place % max(scores.size, 1) + 1] += more
    assert fuse(mine, theirs, raised).score >= fuse(mine, theirs, scores).score - 1e-6


# ---- impressions


@given(st.integers(1, 4), st.integers(1, 4), seeds)
def test_impressions_are_worth_more_than_their_mean_and_never_twice_it(p: int, r: int, seed: int) -> None:
    scores = ratios(seed, p, r)
    fused, mean = fuse([THUMB] * p, [THUMB] * r, scores), scores.mean()
    n = p * r
    assert fused.score == pytest.approx(mean * n / (1 + (n - 1) * RULES.correlation))
    assert abs(mean) - 1e-9 <= abs(fused.score) <= min(n, 1 / RULES.correlation) * abs(mean) + 1e-9
    assert [tuple(pair) for pair in fused.pairs] == [np.unravel_index(scores.argmax(), scores.shape)]


def test_the_rule_reaches_from_sum_to_mean() -> None:
    scores = np.array([[4.0, 2.0]])
    for correlation, worth in ((0.0, 6.0), (1.0, 3.0)):
        rules = FusionRules(correlation=correlation)
        assert fuse([INDEX], [INDEX, INDEX], scores, rules=rules).score == pytest.approx(worth)


@given(seeds)
def test_impressions_that_were_not_compared_do_not_count(seed: int) -> None:
    scores = ratios(seed, 2, 2)
    scores[1] = np.nan
    whole = fuse([THUMB, THUMB], [THUMB, THUMB], scores)
    assert [whole.score] == total(fuse([THUMB], [THUMB, THUMB], scores[:1]))


def test_impressions_of_a_finger_stand_beside_other_fingers() -> None:
    """Two impressions of the thumb in the probe, and an unknown print that is of their index."""
    scores = np.array([[6.0, -2.0], [3.0, -1.0], [-2.0, 7.0]])
    fused = fuse([THUMB, THUMB, UNKNOWN], [THUMB, INDEX], np.where(scores == -1, np.nan, scores))
    assert fused.score == pytest.approx(9 / (1 + RULES.correlation) + 7)
    assert fused.pairs.tolist() == [[0, 0], [2, 1]]


# ---- wrong positions


def test_a_swapped_pair_costs_once() -> None:
    scores = np.array([[-2.5, 8.0], [7.0, -2.5]])
    fused = fuse([INDEX, LEFT], [INDEX, LEFT], scores)
    assert fused.score == pytest.approx(15 - RULES.price)
    assert sorted(map(tuple, fused.pairs.tolist())) == [(0, 1), (1, 0)]


def test_exchanged_hands_are_found() -> None:
    right, left = list(KNOWN[:5]), list(KNOWN[5:])
    scores = np.where(np.roll(np.eye(10), 5, axis=1) > 0, 9.0, -2.5)
    fused = fuse(right + left, right + left, scores)
    assert fused.score == pytest.approx(10 * 9 - 5 * RULES.price)
    assert [(i, (i + 5) % 10) for i in range(10)] == sorted(map(tuple, fused.pairs.tolist()))


@pytest.mark.parametrize("ratio", [-2.5, 0.0, 2.0, RULES.price + 0.1, 9.0])
def test_one_print_alone_is_found_by_its_own_ratio(ratio: float) -> None:
    """Beside a finger that is missing, and beside one that differs, which then says nothing."""
    carried = ratio > RULES.price
    missing = fuse([INDEX], [LEFT], np.array([[ratio]]))
    assert (missing.score, len(missing.pairs)) == ((ratio - RULES.price, 1) if carried else (0.0, 0))
    differs = fuse([INDEX], [INDEX, LEFT], np.array([[-2.5, ratio]]))
    assert differs.score == (ratio - RULES.price if carried else -2.5)
    assert differs.pairs.tolist() == [[0, int(carried)]]


def test_what_is_left_without_its_partner_still_speaks_against() -> None:
    """The probe's index met the left one; that its own left one did not is explained by nothing."""
    scores = np.array([[-2.5, 9.0], [-2.0, -1.5]])
    fused = fuse([INDEX, LEFT], [INDEX, LEFT], scores)
    assert fused.pairs.tolist() == [[0, 1]]
    assert fused.score == pytest.approx(9 - RULES.price - 1.5)


@given(distinct, distinct, seeds)
def test_a_choice_of_wrong_positions_never_lowers_and_pays_its_price(
    mine: list[Finger], theirs: list[Finger], seed: int
) -> None:
    scores = ratios(seed, len(mine), len(theirs), high=8)
    agree = np.array([[a == b for b in theirs] for a in mine], bool).reshape(scores.shape)
    straight = fuse(mine, theirs, np.where(agree, scores, np.nan))
    fused = fuse(mine, theirs, scores)
    assert fused.score >= straight.score
    disagreeing = [scores[i, j] for i, j in fused.pairs if not agree[i, j]]
    if disagreeing:
        most = scores[tuple(fused.pairs.T)].sum() - RULES.price * math.ceil(len(disagreeing) / 2)
        assert fused.score <= most + 1e-6
        assert max(disagreeing) > RULES.price
    else:
        assert [fused.score] == total(straight)


@given(distinct, distinct)
def test_pairs_that_are_still_to_be_compared(mine: list[Finger], theirs: list[Finger]) -> None:
    everything = [(i, j) for i, a in enumerate(mine) for j, b in enumerate(theirs) if a != b]
    assert unmatched_pairs(mine, theirs, []) == everything
    if mine and theirs:
        left = unmatched_pairs(mine, theirs, [(0, 0)])
        assert left == [(i, j) for i, j in everything if i and j]
    assert unmatched_pairs([UNKNOWN, *mine], [UNKNOWN] * 2, []) == []


# ---- strangers: what is stated holds


def strangers(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draw ratios of strangers: in the tail the calibration's own, below it evenly down to the lowest."""
    rate, calibration = random.uniform(0, 1, shape), shipped()
    edge = calibration.tail_rate
    tail = np.vectorize(calibration.threshold)(np.minimum(rate, edge))
    return np.where(rate <= edge, tail, np.interp(rate, (edge, 1), (calibration.threshold(edge), LOWEST)))


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        ([INDEX], [INDEX]),
        ([INDEX], list(KNOWN)),
        ([INDEX, LEFT], [INDEX, LEFT]),
        (list(KNOWN), [INDEX]),
        ([INDEX], [LEFT]),
        (list(KNOWN[:4]), list(KNOWN[:4])),
        ([INDEX, UNKNOWN], [INDEX, LEFT, UNKNOWN]),
        ([UNKNOWN] * 5, [UNKNOWN]),
        ([UNKNOWN] * 2, [UNKNOWN] * 2),
        ([INDEX] * 2, [INDEX] * 2),
    ],
    ids=lambda prints: f"{len(prints)}-{prints[0].name.lower()}",
)
def test_a_search_for_a_stranger_keeps_its_stated_rate(mine: list[Finger], theirs: list[Finger]) -> None:
    """The wanted rate of false positives, a tenth, is not exceeded but by the luck of 500 searches."""
    random, people, searches, rate = np.random.default_rng(5), 20, 500, 0.1
    least = threshold(
        shipped(),
        target_fpir=rate,
        gallery={finger: people * count for finger, count in Counter(theirs).items()},
        probe=mine,
    )
    scores = strangers(random, (searches, people, len(mine), len(theirs)))
    hits = sum(any(fuse(mine, theirs, one).score >= least for one in search) for search in scores)
    assert hits / searches <= rate + 3 * math.sqrt(rate * (1 - rate) / searches)


def test_wrong_positions_hardly_raise_the_rate_of_false_matches() -> None:
    """One print against a stranger's ten fingers: nine chances more, at their price."""
    random, count, rate = np.random.default_rng(6), 4000, 0.01
    least, scores = shipped().threshold(rate), strangers(random, (count, 1, 10))
    hits = sum(fuse([INDEX], KNOWN, one).score >= least for one in scores)
    assert hits / count <= 1.2 * rate + 3 * math.sqrt(rate / count)
