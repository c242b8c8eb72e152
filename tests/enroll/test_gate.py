"""Measures of a print and the gate of a country: what is measured, what fails, and that all of it is told."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.synthetic import Conditions, finger, impression
from enroll import nfiq
from enroll.gate import ADVICE, FAILING, QualityGate, Shortcoming
from enroll.image import GrayImage, read_image, resample
from enroll.measures import LIE, PARAMS, Measures, _ridge_share, lie, measure
from enroll.nfiq import FAILED, NOT_ASKED, UNAVAILABLE, Nfiq
from enroll.pipeline import extract
from enroll.segment import foreground
from matcher.errors import InvalidInput

GOOD = Measures(Nfiq(60, "2.3.0"), 40, 180.0, 0.45, 2.0)


@cache
def grown(seed):
    return finger(seed)


@cache
def pressed(seed=1, **conditions):
    return impression(grown(seed), 0, conditions=Conditions(**conditions)).pixels


def of(pixels, **options) -> Measures:
    return measure(extract(GrayImage(np.ascontiguousarray(pixels), 500.0, "")), **options)


def upright(pixels) -> float:
    return float(lie(pixels, foreground(pixels)) @ LIE)


# ---- measures


def test_a_print_is_measured():
    found = of(pressed())
    assert found.nfiq.score is not None or not nfiq.version()
    assert found.minutiae > 15
    assert found.area_mm2 > 100
    assert 0.1 < found.ridge_share < 0.7
    assert found == of(pressed())


def test_nfiq2_is_asked_only_where_it_is_wanted():
    assert of(pressed(), with_nfiq2=False).nfiq == Nfiq(None, "", reason=NOT_ASKED)


def test_a_print_turned_over_has_the_opposite_lie_and_a_mirrored_one_the_same():
    for seed in (1, 2):
        pixels = pressed(seed)
        assert upright(pixels) > 0
        assert upright(np.rot90(pixels, 2)) == pytest.approx(-upright(pixels), abs=0.3)
        assert upright(pixels[:, ::-1]) == pytest.approx(upright(pixels), abs=0.3)


def test_the_harder_it_is_pressed_the_more_of_it_is_ridge():
    prints = [pressed(pressure=pressure) for pressure in (-0.4, -0.2, 0.0, 0.2, 0.4)]
    shares = [_ridge_share(pixels, foreground(pixels), PARAMS) for pixels in prints]
    assert shares == sorted(shares)
    assert shares[-1] > 1.3 * shares[0]


def test_a_blank_image_has_no_share_and_no_lie():
    found = of(np.full((300, 300), 200, np.uint8), with_nfiq2=False)
    assert (found.ridge_share, found.upright, found.area_mm2) == (0, 0, 0)


@pytest.mark.datasets
def test_real_prints_are_upright_and_none_is_told_to_be_upside_down(datasets: Path):
    told = []
    for folder in ("fvc2002/DB1_B", "fvc2004/DB3_B"):
        for path in sorted((datasets / folder).glob("*_[15].tif")):
            pixels = resample(read_image(path.read_bytes(), ppi=500)).pixels
            told.append(upright(pixels) / np.log(10))
    assert np.mean(np.array(told) > 0) > 0.9
    assert min(told) > -0.75
    assert np.mean(np.array(told) > 0.75) > 0.6, "turned over, these would be told"


# ---- the gate


def test_nothing_is_asked_by_default():
    worst = Measures(Nfiq(None, "", reason=UNAVAILABLE), 0, 0.0, 0.5, 0.0)
    assert QualityGate().shortcomings(worst) == ()
    assert QualityGate().shortcomings(GOOD) == ()


def test_every_threshold_that_was_missed_is_told():
    gate = QualityGate(least_nfiq2=61, least_minutiae=41, least_area_mm2=180.5)
    assert gate.shortcomings(GOOD) == (
        Shortcoming.LOW_NFIQ2,
        Shortcoming.FEW_USABLE_MINUTIAE,
        Shortcoming.SMALL_AREA,
    )
    assert QualityGate(least_nfiq2=60, least_minutiae=40, least_area_mm2=180).shortcomings(GOOD) == ()


@pytest.mark.parametrize("reason", [FAILED, UNAVAILABLE])
def test_a_print_without_a_score_falls_short_of_any(reason):
    told = QualityGate(least_nfiq2=1).shortcomings(replace(GOOD, nfiq=Nfiq(None, "", reason=reason)))
    assert told == (Shortcoming.NFIQ2_UNAVAILABLE if reason == UNAVAILABLE else Shortcoming.LOW_NFIQ2,)
    assert set(told) <= FAILING


@pytest.mark.parametrize(("share", "cause"), [(0.2, Shortcoming.DRY), (0.8, Shortcoming.WET)])
def test_a_cause_is_told_of_a_poor_print_alone(share, cause):
    measures = replace(GOOD, ridge_share=share)
    assert QualityGate().shortcomings(measures) == ()
    assert QualityGate().shortcomings(measures, poor=True) == (cause,)
    assert QualityGate(least_minutiae=50).shortcomings(measures)[-1] == cause


def test_a_print_upside_down_is_told_and_not_failed():
    assert QualityGate().shortcomings(replace(GOOD, upright=-2.0)) == (Shortcoming.WRONG_WAY_UP,)
    assert Shortcoming.WRONG_WAY_UP not in FAILING


measures = st.builds(
    Measures,
    st.builds(
        Nfiq, st.none() | st.integers(0, 100), st.just("v"), st.just({}), st.sampled_from(["", FAILED])
    ),
    st.integers(0, 90),
    st.floats(0, 400),
    st.floats(0, 1),
    st.floats(-3, 3),
)


@given(measures, st.integers(0, 100), st.integers(0, 90), st.floats(0, 400))
def test_a_stricter_gate_fails_no_fewer(found, score, count, area):
    gate = QualityGate(least_nfiq2=score, least_minutiae=count, least_area_mm2=area)
    stricter = replace(gate, least_nfiq2=min(100, score + 1), least_minutiae=count + 1)
    failing = set(gate.shortcomings(found)) & FAILING
    assert failing <= set(stricter.shortcomings(found))
    assert bool(failing) == (
        (found.nfiq.score or 0) < score or found.minutiae < count or found.area_mm2 < area
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"least_nfiq2": 101},
        {"least_nfiq2": -1},
        {"least_minutiae": -1},
        {"least_area_mm2": -0.5},
        {"least_area_mm2": float("nan")},
        {"least_nfiq2": 1, "nfiq2": False},
    ],
)
def test_a_gate_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(InvalidInput):
        QualityGate(**wrong)


def test_every_shortcoming_has_advice():
    assert ADVICE.keys() == set(Shortcoming)
    assert set(Shortcoming) > FAILING
