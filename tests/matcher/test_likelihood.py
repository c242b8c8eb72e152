"""Calibration: what evidence adds up to, and which false-match rate a score stands for."""

import json
import math
from dataclasses import asdict, replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matcher.calibration import (
    GREEN_FMR,
    LOWEST,
    MANY,
    YELLOW_FMR,
    Band,
    Calibration,
    Evidence,
    Line,
    Model,
    Term,
    shipped,
)
from matcher.fusion import RULES, may_meet
from matcher.search import threshold
from matcher.template import Finger


def models(*names: str) -> st.SearchStrategy[Model]:
    return st.builds(
        Model,
        terms=st.fixed_dictionaries(dict.fromkeys(names, terms)),
        tail_from=st.floats(-5, 2),
        tail_rate=st.floats(1e-3, 0.2),
        tail_mean=st.floats(0.05, 1.5),
    )


lines = st.builds(Line, weight=st.floats(0, 10), neutral=st.floats(-4, 4))
terms = st.builds(Term, few=lines, many=lines)
calibrations = st.builds(
    Calibration,
    id=st.just("test"),
    ridges=models("structure", "share", "ridges"),
    minutiae=models("structure", "share"),
)
pieces = st.builds(
    Evidence,
    st.floats(-20, 30),
    st.floats(0, 1.2),
    st.floats(0, 100),
    st.none() | st.floats(-1, 1),
    st.integers(0, 255),
)
rates = st.floats(-12, 0)


# ---- evidence to ratio


@given(calibrations, pieces)
def test_parts_sum_to_the_ratio(calibration: Calibration, evidence: Evidence) -> None:
    """Each lies between its lines for few minutiae and for many; the sum stops at the lowest."""
    parts = calibration.parts(evidence)
    model = calibration.minutiae if evidence.ridges is None else calibration.ridges
    assert [part.name for part in parts] == list(model.terms)
    for part in parts:
        few, many = (line.weight * (part.measured - line.neutral) for line in model.terms[part.name])
        assert part.measured == getattr(evidence, part.name)
        assert part.adds == pytest.approx(few + min(evidence.fewer, MANY) / MANY * (many - few), abs=1e-9)
    assert calibration.llr(evidence) == pytest.approx(max(LOWEST, math.fsum(part.adds for part in parts)))


@given(calibrations, pieces, st.sampled_from(["structure", "share", "ridges"]), st.floats(0, 2))
def test_ratios_rise_with_the_evidence(
    calibration: Calibration, evidence: Evidence, name: str, more: float
) -> None:
    if getattr(evidence, name) is not None:
        stronger = evidence._replace(**{name: getattr(evidence, name) + more})
        assert LOWEST <= calibration.llr(evidence) <= calibration.llr(stronger) + 1e-9


@given(calibrations, pieces, st.floats(0, 100))
def test_what_matched_is_no_part_of_the_ratio(
    calibration: Calibration, evidence: Evidence, matched: float
) -> None:
    assert calibration.llr(evidence._replace(matched=matched)) == calibration.llr(evidence)


@pytest.mark.parametrize("ridges", [None, 0.9])
def test_few_minutiae_say_little(ridges: float | None) -> None:
    """Of the shipped fit: the same agreement says more the more minutiae there were, up to a number."""
    said = [shipped().llr(Evidence(8.0, 0.9, 5.0, ridges, fewer)) for fewer in (3, 6, 12, 24, 30, 200)]
    assert said[:5] == sorted(set(said[:5]))
    assert said[4] == said[5]
    assert said[0] < shipped().threshold(1e-5) < said[4]


LINE = Line(2.0, 0.5)


def test_prints_without_ridges_have_a_model_of_their_own() -> None:
    other = replace(shipped(), minutiae=replace(shipped().minutiae, terms={"share": Term(LINE, LINE)}))
    evidence = Evidence(-1.0, 0.75, 9.0, None, 20)
    assert other.llr(evidence) == 0.5
    assert other.llr(evidence._replace(ridges=0.5)) == shipped().llr(evidence._replace(ridges=0.5))


# ---- rates and thresholds


@given(calibrations, rates)
def test_threshold_and_false_match_rate_are_inverse(calibration: Calibration, exponent: float) -> None:
    fmr = calibration.tail_rate * 10**exponent
    assert calibration.fmr(calibration.threshold(fmr)) == pytest.approx(fmr, rel=1e-6)


@given(calibrations, rates)
def test_a_threshold_holds_with_ridges_and_without(calibration: Calibration, exponent: float) -> None:
    """No more than the rate of either, and exactly it of one."""
    fmr = calibration.tail_rate * 10**exponent
    least = calibration.threshold(fmr)
    reached = [model.fmr(least) for model in (calibration.ridges, calibration.minutiae)]
    assert max(reached) == pytest.approx(fmr, rel=1e-6)


@given(calibrations, st.floats(-1e300, 1e300), st.floats(0, 100))
def test_rates_fall_with_the_threshold(calibration: Calibration, llr: float, more: float) -> None:
    """Never above the tail's rate, never negative, whatever score is asked about."""
    assert 0 <= calibration.fmr(llr + more) <= calibration.fmr(llr) <= calibration.tail_rate


@given(calibrations, rates, rates)
def test_thresholds_rise_as_rates_fall(calibration: Calibration, one: float, other: float) -> None:
    least = [calibration.threshold(calibration.tail_rate * 10**exponent) for exponent in sorted((one, other))]
    assert least[0] >= least[1] - 1e-9


@given(calibrations)
def test_a_rate_ten_times_rarer_lies_a_fixed_step_higher(calibration: Calibration) -> None:
    """The tail is exponential: tail_mean ln 10 each time."""
    model = calibration.ridges
    steps = [model.threshold(10.0**-k) - model.threshold(10.0 ** -(k - 1)) for k in range(4, 12)]
    assert steps == pytest.approx([model.tail_mean * math.log(10)] * 8)


@given(calibrations)
def test_rates_outside_the_tail_have_no_threshold(calibration: Calibration) -> None:
    calibration.threshold(calibration.tail_rate)
    for fmr in (0.0, -1e-3, math.nextafter(calibration.tail_rate, 1), 0.5, 1.0, math.nan):
        with pytest.raises(ValueError, match="false-match rate"):
            calibration.threshold(fmr)


@given(
    calibrations,
    st.floats(1e-6, 0.999),
    st.dictionaries(st.sampled_from(list(Finger)), st.integers(0, 10**9)),
    st.lists(st.sampled_from(list(Finger)), min_size=1, max_size=4),
)
def test_threshold_of_a_search(
    calibration: Calibration, target: float, gallery: dict[Finger, int], probe: list[Finger]
) -> None:
    """The chance that any comparison is as high is the rate that was asked for, or less at the edge."""
    least = threshold(calibration, target_fpir=target, gallery=gallery, probe=probe)
    fingers = sorted({finger for finger in probe if finger}) + [f for f in probe if not f]
    none = 0.0
    for finger, (other, count) in product(fingers, gallery.items()):
        none += count * math.log1p(-calibration.fmr(least + (0 if may_meet(finger, other) else RULES.price)))
    assert -math.expm1(none) <= target * (1 + 1e-6)
    if least > calibration.threshold(calibration.tail_rate):
        assert -math.expm1(none) == pytest.approx(target, rel=1e-6)
    more = {finger: 10 * count + 10 for finger, count in gallery.items()}
    assert threshold(calibration, target_fpir=target, gallery=more, probe=probe) >= least - 1e-9
    unknown = {Finger.UNKNOWN: sum(gallery.values())}
    assert threshold(calibration, target_fpir=target, gallery=unknown, probe=probe) >= least - 1e-9


# ---- bands


@given(calibrations)
def test_bands_begin_at_their_rates(calibration: Calibration) -> None:
    yellow, green = calibration.threshold(YELLOW_FMR), calibration.threshold(GREEN_FMR)
    assert yellow < green
    below = [calibration.band(math.nextafter(edge, -math.inf)) for edge in (yellow, green)]
    assert below == [Band.RED, Band.YELLOW]
    assert [calibration.band(edge) for edge in (yellow, green)] == [Band.YELLOW, Band.GREEN]
    assert calibration.band(LOWEST - 99) == Band.RED
    assert calibration.band(green + 99) == Band.GREEN


# ---- kept and shipped


@given(calibrations)
def test_it_comes_back_from_its_fields(calibration: Calibration) -> None:
    """From plain values, and from the JSON of them."""
    assert Calibration.of(asdict(calibration)) == calibration
    assert Calibration.of(json.loads(json.dumps(asdict(calibration)))) == calibration


def test_the_shipped_calibration_is_sound() -> None:
    """Whatever was fitted: all evidence speaks for, in the right model, and the tails reach the bands."""
    calibration = shipped()
    assert shipped() is calibration
    assert calibration.id
    assert "ridges" in calibration.ridges.terms
    assert set(calibration.ridges.terms) <= set(Evidence._fields)
    assert set(calibration.minutiae.terms) <= set(Evidence._fields) - {"ridges"}
    for model in (calibration.ridges, calibration.minutiae):
        assert all(weight > 0 for term in model.terms.values() for weight, _ in term)
        assert YELLOW_FMR <= model.tail_rate < 0.5
        assert model.tail_mean > 0
        assert model.tail_from > LOWEST
    assert calibration.threshold(1e-3) < calibration.threshold(1e-4) < calibration.threshold(1e-9)
    assert calibration.llr(Evidence(-10.0, 0.0, 0.0, None, 40)) == LOWEST
    assert calibration.llr(Evidence(20.0, 1.0, 40.0, 1.0, 40)) > calibration.threshold(GREEN_FMR)
    assert calibration.llr(Evidence(20.0, 1.0, 40.0, None, 40)) > calibration.threshold(GREEN_FMR)
