"""Structure against strangers: the cohort, what it does to a score, and that few minutiae say little."""

import math

import numpy as np
import pytest
from minutiae import finger, mate

from matcher.calibration import shipped
from matcher.codecs import encode
from matcher.compare import evidence, score
from matcher.cylinders import Prepared, prepare
from matcher.kernels import minutiae as kernels
from matcher.structure import LEAST_DEVIATION, RELAXATION, UNLIKE, above, cohort, strangers
from matcher.template import Template

PRINTS = [prepare(finger(seed)) for seed in range(40)]
EMPTY = prepare(Template.of(np.zeros((0, 2)), np.zeros(0), np.zeros(0), np.zeros(0), size=(400, 400)))


def coded(one: Prepared) -> tuple:
    return one.pose, one.every, one.sure


def few(seed: int, count: int) -> Prepared:
    """Return the minutiae of a finger that are nearest to one of them."""
    whole = finger(seed)
    random = np.random.default_rng(seed)
    middle = whole.xy[random.integers(len(whole.xy))]
    near = np.sort(np.argsort(((whole.xy - middle) ** 2).sum(axis=1), kind="stable")[:count])
    parts = (array[near] for array in (whole.xy, whole.angle, whole.kind, whole.quality))
    return prepare(Template.of(*parts, size=whole.size))


def test_the_cohort_is_of_synthetic_prints_without_ridges() -> None:
    assert len(cohort()) == 64
    assert cohort() is cohort()
    assert all(10 < len(one) < 120 and not one.ridges for one in cohort())
    assert len({encode(one, "papilar-2") for one in cohort()}) == 64


def test_the_cohort_is_what_its_command_draws() -> None:
    """Of the few first: all take a while."""
    from benchmarks.cohort import SEED
    from benchmarks.synthetic.templates import fingers

    for one, drawn in zip(cohort(), fingers(SEED, 0, 4), strict=False):
        np.testing.assert_allclose(one.xy, drawn.xy, atol=1)
        assert np.array_equal(one.quality, drawn.quality)


def test_strangers_are_mean_and_deviation_of_the_structure() -> None:
    others = [coded(one) for one in PRINTS[1:16]]
    wanted = [kernels.structure_of(coded(PRINTS[0]), other, RELAXATION) for other in others]
    assert np.std(wanted) > LEAST_DEVIATION
    found = strangers(coded(PRINTS[0]), others)
    np.testing.assert_allclose(found, [np.mean(wanted), np.std(wanted)], rtol=1e-6)
    assert (found.dtype, found.shape) == (np.float32, (2,))


def test_every_print_has_met_the_cohort() -> None:
    one = PRINTS[0]
    others = [coded(prepare(other)) for other in cohort()]
    assert np.array_equal(one.strangers, strangers(coded(one), others))
    assert not one.strangers.flags.writeable


def test_who_agrees_with_everybody_alike_is_not_sure_of_anything() -> None:
    mean, deviation = EMPTY.strangers.tolist()
    assert mean == pytest.approx(math.log(RELAXATION.floor))
    assert deviation == pytest.approx(LEAST_DEVIATION)


def test_structure_is_stated_in_deviations_of_both() -> None:
    one, other = np.array([-4.0, 0.3], np.float32), np.array([-5.0, 0.4], np.float32)
    assert above(-3.5, one, other) == pytest.approx(1.0 / math.sqrt((0.09 + 0.16) / 2), rel=1e-6)
    assert above(-3.5, one, other) == above(-3.5, other, one)


def test_what_a_comparison_says_of_structure() -> None:
    for a, b in ((PRINTS[0], PRINTS[1]), (PRINTS[2], prepare(mate(finger(2), 2).template))):
        raw = kernels.structure_of(coded(a), coded(b), RELAXATION)
        assert evidence(a, b).structure == above(raw, a.strangers, b.strangers)
        assert evidence(a, b).fewer == min(len(a.every.minutia), len(b.every.minutia))


def test_mates_stand_far_above_strangers() -> None:
    """Who are to each other about what the cohort is to them."""
    found = [evidence(a, b).structure for k, a in enumerate(PRINTS[:12]) for b in PRINTS[k + 1 : 12]]
    assert abs(np.mean(found)) < 3
    assert np.std(found) < 3
    mated = [evidence(prepare(finger(k)), prepare(mate(finger(k), k).template)).structure for k in range(5)]
    assert min(mated) > max(found) > -10 > UNLIKE


@pytest.mark.parametrize("count", [2, 3, 4, 5, 6, 8, 10, 14])
def test_few_minutiae_do_not_pass_for_somebodys(count: int) -> None:
    """However well a handful agrees with some stranger's: no more often than is stated."""
    probes = [few(seed, count) for seed in range(100, 140)]
    scores = np.array([score(probe, other) for probe in probes for other in PRINTS])
    assert (scores >= shipped().threshold(1e-3)).mean() <= 0.006
    assert (scores >= shipped().threshold(1e-5)).sum() == 0
