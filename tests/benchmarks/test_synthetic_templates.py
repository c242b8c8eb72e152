"""Synthetic templates: the same by seed and number, of real prints' statistics, with mates that are found."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.synthetic import flows, likeness
from benchmarks.synthetic.pattern import Pattern
from benchmarks.synthetic.templates import finger, fingers, fitted, impression
from matcher.codecs import NATIVE, decode, encode
from matcher.compare import compare, score
from matcher.cylinders import prepare
from matcher.ridges import unpacked


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**63), number=st.integers(0, 10**7), ridges=st.booleans())
def test_a_finger_is_the_same_alone_and_survives_its_record(seed, number, ridges):
    (alone,) = fingers(seed, number, 1, ridges=ridges)
    again = impression(finger(seed, number), ridges=ridges)
    assert alone == again
    assert decode(encode(alone, NATIVE))[0] == alone
    assert bool(alone.ridges) == ridges
    assert alone.finger == number % 10 + 1


def test_a_gallery_is_its_fingers_one_by_one():
    assert list(fingers(3, 5, 4)) == [impression(finger(3, number)) for number in range(5, 9)]
    assert next(fingers(3, 5, 1)) != next(fingers(4, 5, 1))
    with_ridges = next(fingers(3, 5, 1, ridges=True))
    assert np.array_equal(with_ridges.xy, next(fingers(3, 5, 1)).xy)


@pytest.mark.parametrize("ridges", [False, True])
def test_mates_are_told_from_strangers(ridges):
    made = [finger(11, number) for number in range(12)]
    first, second = ([prepare(impression(one, k, ridges=ridges)) for one in made] for k in (0, 1))
    scores = np.array([[score(probe, reference) for reference in first] for probe in second])
    mated = np.diagonal(scores)
    assert np.median(mated) > 5
    assert np.median(scores[~np.eye(12, dtype=bool)]) < -2
    assert (scores.argmax(axis=1) == np.arange(12)).mean() > 0.9


def test_waves_of_two_impressions_are_the_same_waves():
    one = finger(2, 0)
    met = compare(*(prepare(impression(one, k, ridges=True)) for k in (0, 1)))
    assert np.average(met.common[:, 2]) > 0.5


def test_waves_run_along_the_ridges():
    """The normal of a wave is at right angles to the minutiae near it: half of them within 12 degrees."""
    off = []
    for template in fingers(1, 0, 20, ridges=True):
        grid = unpacked(template.ridges)
        column, row = ((template.xy - (grid.x, grid.y) + grid.step / 2) // (2 * grid.step)).astype(int).T
        inside = (row >= 0) & (column >= 0) & (row < grid.weight.shape[0]) & (column < grid.weight.shape[1])
        row, column, angle = row[inside], column[inside], template.angle[inside]
        kept = grid.weight[row, column] > 0
        turn = angle - grid.direction[row, column] * np.pi / 64 - np.pi / 2
        off.append(np.abs(np.mod(turn + np.pi / 2, np.pi) - np.pi / 2)[kept])
    assert np.median(np.concatenate(off)) < np.radians(12)


def test_ridges_that_spread_have_minutiae_that_point_along_them():
    """What the module rests on, seen in what it makes: among minutiae where ridges spread, 7 of 10 agree."""
    agree = []
    for number in range(40):
        one = finger(6, number)
        spread = flows.divergence(one.flow, flows.STEP) * 1e4 / one.period
        row = np.clip(np.rint((one.xy[:, 1] - flows.TOP) / flows.STEP).astype(int), 0, flows.ROWS - 1)
        column = np.clip(np.rint((one.xy[:, 0] - flows.LEFT) / flows.STEP).astype(int), 0, flows.COLUMNS - 1)
        strong = np.abs(spread[row, column]) > 4
        along = np.cos(one.angle - np.angle(one.flow[row, column]) / 2) * np.sign(spread[row, column])
        agree.append(along[strong] > 0)
    assert 0.7 < np.concatenate(agree).mean() < 0.98


@pytest.mark.parametrize("pattern", list(Pattern))
def test_a_flow_has_the_singular_points_of_its_class(pattern):
    """Around the whole finger the direction turns as often as cores outnumber deltas: never, on balance."""
    for seed in range(5):
        flow = flows.draw(pattern, np.random.default_rng(seed))
        assert np.allclose(np.abs(flow), 1, atol=1e-3)
        turns = _winding(flow)
        cores = {Pattern.ARCH: 0, Pattern.WHORL: 2}.get(pattern, 1)
        assert (turns > 0.5).sum() >= cores
        assert (turns > 0.5).sum() - (turns < -0.5).sum() <= 2


def _winding(flow):
    """Turns of the doubled direction around each square of four places."""
    corners = [flow[:-1, :-1], flow[1:, :-1], flow[1:, 1:], flow[:-1, 1:]]
    steps = [np.angle(b * a.conj()) for a, b in zip(corners, corners[1:] + corners[:1], strict=True)]
    return sum(steps) / (2 * np.pi)


def test_divergence_of_a_known_flow():
    """Ridges that leave a point on all sides spread by 1 / r."""
    y, x = np.mgrid[100:612:16, 100:612:16].astype(float)
    flow = np.exp(-2j * np.arctan2(y, x)).astype(np.complex64)
    found = flows.divergence(flow, 16)[3:-3, 3:-3]
    assert np.allclose(found, (1 / np.hypot(x, y))[3:-3, 3:-3], rtol=0.05)


def test_distance_of_samples():
    rng = np.random.default_rng(0)
    a = rng.normal(size=4000)
    assert likeness.distance(a, a) == 0
    assert likeness.distance(a, a + 100) == 1
    assert likeness.distance(a, rng.normal(size=4000)) < 0.05
    assert likeness.distance(a, a + 1) == pytest.approx(0.383, abs=0.03)  # 2 Phi(1/2) - 1


def test_counts_and_quality_are_those_of_the_tables():
    """What was fitted comes out: medians of 300 fingers within a tenth of the real prints'."""
    model, made = fitted(), list(fingers(8, 0, 300))
    wanted = np.interp(0.5, np.linspace(0, 1, len(model.area)), model.area) * 5.4254e-4
    assert np.median([len(one) for one in made]) == pytest.approx(wanted, rel=0.1)
    quality = np.concatenate([one.quality for one in made])
    assert np.abs(np.quantile(quality, np.linspace(0, 1, len(model.quality))) - model.quality)[3:].max() < 8


def test_likeness_of_a_model_to_itself_is_close(tmp_path):
    real = [[impression(finger(1, number), k, ridges=True) for k in range(2)] for number in range(30)]
    figures = likeness.hold(real, tmp_path, count=40, pairs=120, workers=1)
    assert (tmp_path / likeness.PICTURE).stat().st_size > 10_000
    assert (tmp_path / likeness.FILE).exists()
    assert set(figures["distances"]) >= {"count", "spacing", "turn", "quality", "score"}
    for name, row in figures["distances"].items():
        assert row["synthetic"] < 0.3, name
