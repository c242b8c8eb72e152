"""Synthetic fingers: the same bytes every time, and minutiae that stand where the picture shows them."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from benchmarks.kernels import RESPONSE_BITS, TAPS, filter_variant
from benchmarks.synthetic import (
    Conditions,
    Pattern,
    SyntheticFinger,
    SyntheticImpression,
    archive,
    finger,
    impression,
)
from benchmarks.synthetic.growth import GrowthModel, filter_bank
from benchmarks.synthetic.pattern import FREQUENCIES, draw_pattern, smooth_noise
from benchmarks.synthetic.press import PressModel, _to_finger, _to_image
from enroll.leader import load
from matcher.template import Kind, Template

SKEWED = Conditions(rotation=0.4, translation=(9.0, -12.0), drag=(8.0, -5.0), twist=0.05)


def naive_filter_variant(padded, bank, choice, limit):
    out = np.zeros(choice.shape, np.int16)
    for (y, x), k in np.ndenumerate(choice):
        if k >= 0:
            window = padded[y : y + bank.shape[1], x : x + TAPS].astype(np.int64)
            out[y, x] = np.clip((window * bank[k]).sum() >> RESPONSE_BITS, -limit, limit)
    return out


@pytest.fixture(scope="module")
def fingers() -> list[SyntheticFinger]:
    """Two of each class."""
    return [finger(2000 + i, pattern=list(Pattern)[i % 5]) for i in range(10)]


@pytest.fixture(scope="module")
def clean(fingers: list[SyntheticFinger]) -> list[SyntheticImpression]:
    return [impression(made) for made in fingers]


@given(st.data())
@settings(max_examples=30, deadline=None)
def test_the_kernel_is_its_formula(data: st.DataObject) -> None:
    height, width, rows = (data.draw(st.integers(1, 6)) for _ in range(3))
    waves, taps = st.integers(-255, 255), st.integers(-20000, 20000)
    padded = data.draw(arrays.arrays(np.int16, (height + rows, width + TAPS), elements=waves))
    bank = data.draw(arrays.arrays(np.int16, (3, rows, TAPS), elements=taps))
    choice = data.draw(arrays.arrays(np.int32, (height, width), elements=st.integers(-1, 2)))
    out = np.full((height, width), 99, np.int16)
    filter_variant(padded, bank, choice, 255, out)
    np.testing.assert_array_equal(out, naive_filter_variant(padded, bank, choice, 255))


def test_a_filter_answers_its_own_wave_and_nothing_flat() -> None:
    model = GrowthModel()
    bank = filter_bank(model).astype(np.float64) / 2**RESPONSE_BITS
    x = np.arange(TAPS) - model.radius
    wave = np.cos(2 * np.pi * x / model.period_range[0])[:, None]  # ridges along x: orientation 0
    rows = bank.shape[1]
    assert (bank[0] * wave[:rows]).sum() == pytest.approx(model.gain, rel=0.01)
    assert np.abs(bank.sum(axis=(1, 2))).max() < 0.02
    assert np.abs(filter_bank(model).astype(np.int64)).sum(axis=(1, 2)).max() * model.limit < 2**31


def test_smooth_noise_has_unit_variance() -> None:
    rng = np.random.default_rng(0)
    for scale in (1.2, 3, 20):
        assert smooth_noise(rng, (900, 900), scale).std() == pytest.approx(1, abs=0.15)


def test_classes_follow_their_natural_frequencies() -> None:
    rng = np.random.default_rng(1)
    drawn = [draw_pattern(rng) for _ in range(4000)]
    for pattern, share in FREQUENCIES.items():
        assert drawn.count(pattern) / 4000 == pytest.approx(share, abs=0.03)


def test_equal_seeds_are_equal_bytes_and_others_differ() -> None:
    first, again, other = finger(7), finger(7), finger(8)
    assert first.pattern is again.pattern
    assert first.wave.tobytes() == again.wave.tobytes() != other.wave.tobytes()
    assert all(a.tobytes() == b.tobytes() for a, b in zip(first.minutiae, again.minutiae, strict=True))
    worn = Conditions.random(np.random.default_rng(3), 0.7)
    one, two = impression(first, 5, conditions=worn), impression(again, 5, conditions=worn)
    assert one.pixels.tobytes() == two.pixels.tobytes()
    assert one.template == two.template
    assert impression(first, 6, conditions=worn).pixels.tobytes() != one.pixels.tobytes()


def test_arrays_are_read_only(fingers: list[SyntheticFinger], clean: list[SyntheticImpression]) -> None:
    for array in (fingers[0].wave, fingers[0].pores, fingers[0].minutiae.xy, clean[0].pixels):
        with pytest.raises(ValueError, match="read-only"):
            array.flat[0] = 0


def test_singular_points_belong_to_the_class(fingers: list[SyntheticFinger]) -> None:
    counts = {Pattern.ARCH: 0, Pattern.WHORL: 2}
    for made in fingers:
        cores, deltas = made.singularities
        assert len(cores) == len(deltas) == counts.get(made.pattern, 1)
        if made.pattern is Pattern.LEFT_LOOP:  # ridges leave to the left, so the delta is on the right
            assert deltas[0, 0] > cores[0, 0]
        if made.pattern is Pattern.RIGHT_LOOP:
            assert deltas[0, 0] < cores[0, 0]


def test_ridges_are_grown_with_the_period_asked_for(fingers: list[SyntheticFinger]) -> None:
    for made in fingers:
        crossings = np.abs(np.diff(np.sign(made.wave), axis=0)).sum() / 2
        crossings_x = np.abs(np.diff(np.sign(made.wave), axis=1)).sum() / 2
        inside = made.outline
        turn = made.orientation[inside]
        waves = 1 / made.period[inside]
        assert crossings == pytest.approx(2 * (waves * np.abs(np.cos(turn))).sum(), rel=0.1)
        assert crossings_x == pytest.approx(2 * (waves * np.abs(np.sin(turn))).sum(), rel=0.1)
        assert (np.abs(made.wave[inside]) > 0.1).mean() > 0.85  # grown everywhere


def test_there_are_as_many_minutiae_as_on_real_fingers(
    fingers: list[SyntheticFinger], clean: list[SyntheticImpression]
) -> None:
    for made, shown in zip(fingers, clean, strict=True):
        assert 30 <= len(made.minutiae.xy) <= 90
        assert 20 <= len(shown.template) <= len(made.minutiae.xy)
        assert 0.25 < (made.minutiae.kind == Kind.ENDING).mean() < 0.75


def _grey(shown: SyntheticImpression, kind: Kind, way: int) -> np.ndarray:
    """Mean grey 5 to 8 pixels from each minutia of the kind, before it (way 1) or behind it (-1)."""
    found = shown.template
    chosen = found.kind == kind
    unit = np.stack([np.cos(found.angle), -np.sin(found.angle)], axis=1)[chosen]
    steps = [np.rint(found.xy[chosen] + way * r * unit).astype(int) for r in (5, 6, 7, 8)]
    return np.mean([shown.pixels[at[:, 1], at[:, 0]] for at in steps], axis=0)


@pytest.mark.parametrize("conditions", [Conditions.clean(), SKEWED], ids=["clean", "skewed"])
def test_directions_agree_with_the_picture(fingers: list[SyntheticFinger], conditions: Conditions) -> None:
    prints = [impression(made, 1, conditions=conditions) for made in fingers[:5]]
    dark, light = (
        np.concatenate([_grey(shown, kind, 1) < _grey(shown, kind, -1) for shown in prints]).mean()
        for kind in (Kind.ENDING, Kind.BIFURCATION)
    )
    assert dark > 0.9  # an ending looks back into its ridge
    assert light < 0.15  # a bifurcation looks into the valley that it encloses


def test_the_way_to_the_finger_and_back(fingers: list[SyntheticFinger]) -> None:
    rng, model = np.random.default_rng(4), PressModel()
    for _ in range(20):
        worst = Conditions.random(rng, 1.0)
        points = rng.uniform((60, 60), (340, 480), (50, 2))
        there = _to_image(points, fingers[0], worst, model)
        back = np.stack(_to_finger(there[:, 0], there[:, 1], fingers[0], worst, model), axis=1)
        np.testing.assert_allclose(back, points, atol=0.05)


def test_the_print_turns_as_asked(fingers: list[SyntheticFinger]) -> None:
    upright, turned = (
        impression(fingers[2], conditions=Conditions(rotation=turn, contact=(120.0, 120.0))).template
        for turn in (0.0, 0.5)
    )
    centre = np.array(upright.size) / 2
    turn = np.array([[math.cos(0.5), -math.sin(0.5)], [math.sin(0.5), math.cos(0.5)]])
    moved = (upright.xy - centre) @ turn + centre  # y down: counter-clockwise as seen
    distance = np.hypot(*(moved[:, None] - turned.xy[None]).transpose(2, 0, 1))
    gap = np.angle(np.exp(1j * (upright.angle[:, None] + 0.5 - turned.angle[None])))
    assert ((distance < 2) & (np.abs(gap) < 0.05)).any(axis=1).mean() > 0.8


def test_worse_conditions_stay_prints(fingers: list[SyntheticFinger]) -> None:
    rng = np.random.default_rng(5)
    for severity in (0.0, 0.5, 1.0):
        shown = impression(fingers[4], 2, conditions=Conditions.random(rng, severity))
        assert shown.pixels.shape == (480, 388)
        assert shown.pixels.dtype == np.uint8
        assert shown.pixels[:4].mean() > 200 or severity == 1.0
        assert shown.pixels.min() < 110
        assert len(shown.template) >= 5


def _agreement(true: Template, pixels: np.ndarray, leader) -> tuple[float, float]:
    """Recall and precision at 12 pixels and 20 degrees."""
    planes = leader.planes(pixels)
    row, column = np.nonzero(planes.quality >= 0.5)
    distance = np.hypot(true.xy[:, :1] - column, true.xy[:, 1:] - row)
    gap = np.angle(np.exp(1j * (true.angle[:, None] - planes.direction[row, column])))
    same = (distance <= 12) & (np.abs(gap) <= math.radians(20))
    return same.any(axis=1).mean(), same.any(axis=0).mean()


def test_the_extractor_finds_the_true_minutiae(
    clean: list[SyntheticImpression], tmp_path_factory: pytest.TempPathFactory
) -> None:
    leader = load(tmp_path_factory.mktemp("leader"))
    measured = np.array([_agreement(shown.template, shown.pixels, leader) for shown in clean])
    recall, precision = measured.mean(axis=0)
    assert recall > 0.9
    assert measured[:, 0].min() > 0.8
    assert precision > 0.8


def test_an_archive_is_a_folder_of_500_ppi_prints(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    archive(one, subjects=2, impressions=2, seed=9, prefix="A", workers=1)
    archive(two, subjects=2, impressions=2, seed=9, prefix="A")
    names = ["A001_1.png", "A001_2.png", "A002_1.png", "A002_2.png"]
    assert sorted(path.name for path in one.iterdir()) == names
    for name in names:
        assert (one / name).read_bytes() == (two / name).read_bytes()
        with Image.open(one / name) as image:
            assert (image.mode, image.size) == ("L", (388, 480))
            assert image.info["dpi"] == pytest.approx((500, 500), abs=0.02)


def test_probes_are_further_prints_of_the_same_fingers(tmp_path: Path) -> None:
    archive(tmp_path, subjects=1, impressions=2, seed=9, first=3)
    archive(tmp_path / "all", subjects=1, impressions=4, seed=9)
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["001_3.png", "001_4.png"]
    assert (tmp_path / "001_4.png").read_bytes() == (tmp_path / "all" / "001_4.png").read_bytes()
