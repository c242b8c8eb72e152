"""The metrics against cases worked by hand, against the obvious way to compute them, and against laws."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import metrics
from benchmarks.metrics import Scores

SCORES = st.lists(st.integers(-4, 4).map(float) | st.just(-np.inf), min_size=1, max_size=30).map(np.asarray)


def naive_det(mated, nonmated):
    thresholds = [*sorted({*mated, *nonmated}), np.inf]
    fmr = [sum(score >= t for score in nonmated) / len(nonmated) for t in thresholds]
    fnmr = [sum(score < t for score in mated) / len(mated) for t in thresholds]
    return thresholds, fmr, fnmr


def naive_fnmr_at(mated, nonmated, limit):
    return next(b for _, a, b in zip(*naive_det(mated, nonmated), strict=True) if a <= limit)


def naive_eer(mated, nonmated):
    _, fmr, fnmr = naive_det(mated, nonmated)
    for i in range(1, len(fmr)):
        if fmr[i] <= fnmr[i]:
            before, after = fmr[i - 1] - fnmr[i - 1], fmr[i] - fnmr[i]
            return fmr[i - 1] + before / (before - after) * (fmr[i] - fmr[i - 1])
    raise AssertionError("the curves always cross")


def make(mated, nonmated, fingers=3, seed=0):
    rng = np.random.default_rng(seed)
    first = rng.integers(fingers, size=len(nonmated))
    second = (first + rng.integers(1, fingers, size=len(nonmated))) % fingers
    return Scores(
        np.asarray(mated, float),
        rng.integers(fingers, size=len(mated)),
        np.asarray(nonmated, float),
        np.stack([first, second], axis=1),
        (fingers,),
    )


def test_separable_scores_have_no_error():
    curve = metrics.det(np.array([3.0, 4.0]), np.array([1.0, 2.0]))
    assert metrics.eer(curve) == 0
    assert metrics.fnmr_at(curve, 0) == 0


def test_one_crossing_by_hand():
    # Thresholds 1 2 3 4 5 inf; FMR 1 .75 .5 .25 0 0; FNMR 0 0 0 .25 .5 1 -> they meet at .25 exactly.
    mated, nonmated = np.array([3.0, 4.0, 5.0, 5.0]), np.array([1.0, 2.0, 3.0, 4.0])
    curve = metrics.det(mated, nonmated)
    assert curve.fmr.tolist() == [1, 0.75, 0.5, 0.25, 0, 0]
    assert curve.fnmr.tolist() == [0, 0, 0, 0.25, 0.5, 1]
    assert metrics.eer(curve) == 0.25
    assert metrics.fnmr_at(curve, 0.25) == 0.25
    assert metrics.fnmr_at(curve, 0.2) == 0.5


def test_crossing_between_two_points_is_interpolated():
    # At threshold 2 the tie of one mated and both non-mated moves (FMR, FNMR) from (1, 1/3) to (0, 2/3):
    # d = 2/3, -2/3, so half way: EER = 1/2.
    curve = metrics.det(np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0]))
    assert metrics.eer(curve) == pytest.approx(0.5)


def test_all_scores_equal_is_chance():
    curve = metrics.det(np.zeros(5), np.zeros(7))
    assert metrics.eer(curve) == 0.5
    assert metrics.fnmr_at(curve, 0) == 1


def test_a_failed_print_is_an_error_at_every_threshold():
    curve = metrics.det(np.array([-np.inf, 5.0]), np.array([-np.inf, 1.0]))
    assert metrics.fnmr_at(curve, 0) == 0.5


def test_one_of_a_hundred_is_exactly_fmr100():
    nonmated = np.append(np.zeros(99), 1.0)
    values = metrics.measure(make([0.5, 2.0], nonmated))
    assert values[metrics.METRICS.index("fmr100")] == 0  # threshold 0.5 accepts one of a hundred
    assert values[metrics.METRICS.index("zero_fmr")] == 0.5


def test_what_the_pairs_cannot_measure_is_not_given():
    values = metrics.measure(make([1.0, 2.0], np.zeros(999)))
    assert np.isnan(values).tolist() == [False, False, True, True, False]


@pytest.mark.parametrize(("mated", "nonmated"), [([], [1.0]), ([1.0], []), ([np.nan], [1.0])])
def test_no_scores_or_nan_is_refused(mated, nonmated):
    with pytest.raises(ValueError, match="need some"):
        metrics.det(np.asarray(mated, float), np.asarray(nonmated, float))


@given(SCORES, SCORES)
def test_equals_the_naive_way(mated, nonmated):
    curve = metrics.det(mated, nonmated)
    thresholds, fmr, fnmr = naive_det(mated, nonmated)
    np.testing.assert_array_equal(curve.threshold, thresholds)
    np.testing.assert_allclose(curve.fmr, fmr)
    np.testing.assert_allclose(curve.fnmr, fnmr)
    assert metrics.eer(curve) == pytest.approx(naive_eer(mated, nonmated))
    for limit in (0, 0.1, 0.5, 1):
        assert metrics.fnmr_at(curve, limit) == pytest.approx(naive_fnmr_at(mated, nonmated, limit))


@given(SCORES, SCORES)
def test_bounds_and_monotony(mated, nonmated):
    curve = metrics.det(mated, nonmated)
    assert (np.diff(curve.fmr) <= 0).all()
    assert (np.diff(curve.fnmr) >= 0).all()
    assert 0 <= metrics.eer(curve) <= 1
    assert (
        0 <= metrics.fnmr_at(curve, 0.01) <= metrics.fnmr_at(curve, 0.001) <= metrics.fnmr_at(curve, 0) <= 1
    )


@given(SCORES, SCORES, st.sampled_from([np.arctan, lambda x: 3 * x - 7, lambda x: x**3]))
def test_a_rising_transform_of_the_scores_changes_nothing(mated, nonmated, transform):
    before = metrics.measure(make(mated, nonmated))
    np.testing.assert_allclose(metrics.measure(make(transform(mated), transform(nonmated))), before)


@given(SCORES, SCORES)
def test_swapping_mated_and_nonmated_with_the_sign_keeps_eer(mated, nonmated):
    # Ties included, the DET is mirrored in its diagonal.
    eer = metrics.eer(metrics.det(mated, nonmated))
    assert metrics.eer(metrics.det(-nonmated, -mated)) == pytest.approx(eer)


@given(SCORES, SCORES, st.integers(0, 99))
def test_a_replicate_is_the_measure_of_repeated_pairs(mated, nonmated, seed):
    scores = make(mated, nonmated, fingers=4, seed=seed)
    draws = metrics.draw((4,), ["set"], replicates=5, seed=seed)
    for drawn, values in zip(draws, metrics.replicate(scores, draws), strict=True):
        first, second = scores.nonmated_fingers.T
        a = np.repeat(scores.mated, drawn[scores.mated_finger])
        b = np.repeat(scores.nonmated, drawn[first] * drawn[second])
        if len(a) and len(b):
            assert values[0] == pytest.approx(naive_eer(a, b))
            assert values[-1] == pytest.approx(naive_fnmr_at(a, b, 0))
        else:
            assert np.isnan(values).all()


def test_blocks_do_not_change_replicates(monkeypatch):
    scores = make(np.arange(20.0), np.arange(-10, 5.0))
    draws = metrics.draw(scores.strata, ["set"], replicates=50, seed=1)
    whole = metrics.replicate(scores, draws)
    monkeypatch.setattr(metrics, "BLOCK", 100)
    np.testing.assert_array_equal(metrics.replicate(scores, draws), whole)


def test_draws_are_seeded_by_set_and_keep_its_size():
    draws = metrics.draw((5, 7), ["a", "b"], replicates=100, seed=3)
    assert draws.shape == (100, 12)
    assert (draws[:, :5].sum(axis=1) == 5).all()
    assert (draws[:, 5:].sum(axis=1) == 7).all()
    np.testing.assert_array_equal(draws[:, 5:], metrics.draw((7,), ["b"], replicates=100, seed=3))
    assert (draws != metrics.draw((5, 7), ["a", "b"], replicates=100, seed=4)).any()


def test_interval_brackets_the_value_and_narrows_with_fingers():
    rng = np.random.default_rng(0)
    widths = []
    for fingers in (5, 80):
        mated_finger = np.repeat(np.arange(fingers), 10)
        ability = rng.normal(2, 1, fingers)
        pairs = np.stack(np.triu_indices(fingers, 1), axis=1)
        scores = Scores(
            ability[mated_finger] + rng.normal(size=len(mated_finger)),
            mated_finger,
            rng.normal(size=len(pairs)),
            pairs,
            (fingers,),
        )
        draws = metrics.draw(scores.strata, ["set"], replicates=400, seed=0)
        table = metrics.replicate(scores, draws)
        eer = metrics.estimates(metrics.METRICS, metrics.measure(scores), table)["eer"]
        assert eer.low <= eer.value <= eer.high
        widths.append(eer.high - eer.low)
    assert widths[1] < widths[0] / 2


def test_estimates_without_replicates_have_no_interval():
    found = metrics.estimates(["a", "b"], np.array([0.5, np.nan]), np.empty((0, 2)))
    assert found["a"] == metrics.Estimate(0.5, None, None)
    assert found["b"] == metrics.Estimate(None, None, None)


def test_pooling_keeps_fingers_of_two_sets_apart():
    one, two = make([1.0, 2.0], [0.0]), make([3.0], [1.0, 2.0], fingers=5)
    pooled = metrics.pool([one, two])
    assert pooled.strata == (3, 5)
    assert pooled.mated.tolist() == [1, 2, 3]
    assert (pooled.mated_finger[2:] >= 3).all()
    assert (pooled.nonmated_fingers[1:] >= 3).all()


def test_macro_det_is_the_mean_at_equal_fmr():
    perfect = metrics.det(np.array([2.0]), np.array([1.0]))
    useless = metrics.det(np.array([1.0]), np.array([2.0]))
    fmr, fnmr = metrics.macro_det([perfect, useless], points=5)
    assert fmr[[0, -1]] == pytest.approx([1e-4, 1])
    assert fnmr.tolist() == [0.5, 0.5, 0.5, 0.5, 0]
