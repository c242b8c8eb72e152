"""Comparison of two prints: mates above impostors however they lie, true correspondences, odd templates."""

import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from drawings import Drawn, described
from hypothesis import given, settings
from hypothesis import strategies as st
from minutiae import finger, mate, prints, rotation

from matcher.calibration import LOWEST, Evidence, Term, shipped
from matcher.compare import NUMBERS, Comparison, compare, evidence, score
from matcher.cylinders import LEAST_SURE, SURE_QUALITY, Prepared, Shape, cell_centres, prepare
from matcher.kernels import minutiae as kernels
from matcher.kernels import ridges as ridge_kernels
from matcher.ridges import pack, unpacked
from matcher.segment import Entry, Place, SealedSegment, write_segment
from matcher.structure import RELAXATION, UNLIKE
from matcher.template import Finger, Template

TOLERANCES = NUMBERS.alignment.tolerances


def structure(a: Prepared, b: Prepared) -> float:
    return evidence(a, b).structure


def common(a: Prepared, b: Prepared) -> float:
    """Return the natural logarithm of the structure, before strangers come in."""
    found: float = kernels.structure_of(*((one.pose, one.every, one.sure) for one in (a, b)), RELAXATION)
    return found


def arrays_of(p: Prepared) -> list[np.ndarray]:
    return [p.pose, p.quality, *p.every, *p.sure, p.ridges, p.strangers]


@pytest.fixture(scope="module")
def impostors() -> float:
    """The highest structure of two different fingers, of 300 comparisons in either order."""
    several = prints(25, first=1000)
    return max(structure(a, b) for a in several for b in several if a is not b)


@pytest.fixture(scope="session")
def ridged(drawn: list[list[Drawn]]) -> list[list[Prepared]]:
    """The drawn prints, prepared."""
    return [[prepare(one.template) for one in impressions] for impressions in drawn]


def right(result: Comparison, truth: np.ndarray) -> float:
    """Share of the returned pairs that are true correspondences."""
    return float(np.mean([truth[i] == j for i, j in result.pairs]))


@pytest.mark.parametrize("degrees", range(0, 360, 15))
def test_a_mate_is_found_at_any_turn(degrees: int, impostors: float) -> None:
    """Whatever the rotation and the shift: the score, the pairs and the motion are right, in both orders."""
    one = finger(degrees)
    other = mate(one, degrees + 1, turn=np.radians(degrees), shift=(35, -60))
    a, b = prepare(other.template), prepare(one)
    assert structure(a, b) > impostors + 1.5
    found = compare(a, b)
    assert len(found.pairs) >= 0.6 * len(one)
    assert right(found, other.truth) >= 0.9
    turn, shift = found.transform.turn, np.array([found.transform.dx, found.transform.dy])
    true = other.template.xy[other.truth >= 0]
    moved = true @ rotation(turn).T + shift
    assert np.hypot(*(moved - (true @ rotation(other.turn).T + other.shift)).T).max() < 4
    assert np.hypot(*(moved - one.xy[other.truth[other.truth >= 0]]).T).mean() < 4
    back = compare(b, a)
    assert right(back, np.array([_where(other.truth, i) for i in range(len(one))])) >= 0.9
    assert kernels.wrapped(back.transform.turn + turn) == pytest.approx(0, abs=0.03)


def _where(truth: np.ndarray, i: int) -> int:
    found = np.flatnonzero(truth == i)
    return int(found[0]) if len(found) else -1


@given(
    st.integers(0, 10**6),
    st.floats(0, 2 * np.pi),
    st.tuples(st.floats(-300, 300), st.floats(-300, 300)),
    st.integers(25, 60),
)
@settings(max_examples=40, deadline=None)
def test_mates_score_above_impostors(seed: int, turn: float, shift: tuple[float, float], n: int) -> None:
    one, other = (with_quality(finger(seed + k, n), np.full(n, 60)) for k in (0, 1))
    a, b = prepare(mate(one, seed, turn=turn, shift=shift).template), prepare(one)
    stranger = prepare(other)
    assert structure(a, b) > max(structure(a, stranger), structure(stranger, b)) + 1.0


@given(st.integers(0, 10**6), st.booleans(), st.floats(0, 2 * np.pi))
@settings(max_examples=60, deadline=None)
def test_either_order_scores_nearly_alike(seed: int, same: bool, turn: float) -> None:
    """Only equally similar pairs are taken by position, and the radial angle is one side's."""
    one = finger(seed)
    other = mate(one, seed, turn=turn).template if same else finger(seed + 1)
    a, b = prepare(one), prepare(other)
    assert common(a, b) == pytest.approx(common(b, a), abs=0.15)
    if same:
        assert score(a, b) == pytest.approx(score(b, a), abs=1.0)


def test_a_print_against_itself() -> None:
    a = prepare(finger(5))
    found = compare(a, a)
    assert {(i, j) for i, j in found.pairs.tolist()} == {(i, i) for i in range(40)}
    assert found.transform == pytest.approx((0, 0, 0), abs=1e-4)
    assert found.score == pytest.approx(score(a, a))


def test_less_of_a_finger_scores_less() -> None:
    """More minutiae lost, or more jitter: lower on average."""

    def mean(**how: float) -> float:
        return float(
            np.mean(
                [
                    structure(prepare(mate(finger(k), k, **how).template), prepare(finger(k)))
                    for k in range(12)
                ]
            )
        )

    assert mean(lost=0, false=0) > mean(lost=0.3, false=0.3) > mean(lost=0.6, false=0.6)
    assert mean(jitter=0.5) > mean(jitter=2.5) > mean(jitter=5)


def _odd() -> dict[str, Template]:
    def of(xy: object, angle: object, size: tuple[int, int] = (500, 500)) -> Template:
        n = len(np.atleast_1d(np.asarray(angle)))
        return Template.of(xy, angle, np.ones(n), np.full(n, 50), size=size)

    line = np.arange(40)
    return {
        "none": of(np.zeros((0, 2)), np.zeros(0)),
        "one": of([[5, 5]], [0.5]),
        "two": of([[5, 5], [60, 80]], [0.5, 1]),
        "two in one place": of([[5, 5]] * 2, [0.5, 0.5]),
        "far apart": of([[0, 0], [499, 499], [0, 499]], [0, 1, 2]),
        "line": of(np.column_stack((line * 12, line * 12)), line % 7),
        "parallel line": of(np.column_stack((line * 12, line * 0)), line * 0),
        "spot": of(np.full((255, 2), 250), np.zeros(255)),
        "duplicates": of(np.repeat(finger(1, 20).xy, 3, axis=0), np.repeat(finger(1, 20).angle, 3)),
        "edges": of([[0, 0], [499, 0], [0, 499], [499, 499], [250, 250]], [0, np.pi, 1, 2, 2 * np.pi]),
        "many": finger(2, 255),
        "too many": finger(3, 400, size=(800, 800)),
        "widest": of(finger(4).xy.astype(int) * 65, finger(4).angle, (32767, 32767)),
        "plain": finger(6),
    }


ODD = _odd()


@pytest.mark.parametrize("name", ODD)
def test_odd_templates_compare(name: str) -> None:
    """No exception, a finite score, pairs within bounds and once each, against every other odd template."""
    a = prepare(ODD[name])
    assert len(a.pose) <= 255
    for other in ODD.values():
        b = prepare(other)
        found = compare(a, b)
        assert np.isfinite([found.score, *found.transform]).all()
        assert found.score >= LOWEST
        if len(a.every.bits) < 2 or len(b.every.bits) < 2:
            assert found.score == LOWEST
            assert len(found.pairs) == 0
            assert found.transform == (0, 0, 0)
        for column, most in zip(found.pairs.T, (len(a.pose), len(b.pose)), strict=True):
            assert len(set(column.tolist())) == len(column)
            assert ((column >= 0) & (column < most)).all()


def test_what_makes_no_cylinder() -> None:
    """Fewer than three minutiae within reach make none; a line, a spot and duplicates do, without harm."""
    for name in ("none", "one", "two", "two in one place", "far apart"):
        assert len(prepare(ODD[name]).every.bits) == 0
    for name in ("duplicates", "many", "plain"):
        assert len(prepare(ODD[name]).every.bits) > 10


def test_the_best_255_minutiae_count() -> None:
    everything = ODD["too many"]
    assert np.array_equal(prepare(everything).pose, prepare(everything.best(255)).pose)


def test_nothing_is_changed_and_everything_repeats() -> None:
    one, other = finger(8), mate(finger(8), 1).template
    before = [array.tobytes() for t in (one, other) for array in (t.xy, t.angle, t.kind, t.quality)]
    a, b = prepare(one), prepare(other)
    prepared = [array.tobytes() for p in (a, b) for array in arrays_of(p)]
    results = [compare(a, b) for _ in range(3)] + [compare(prepare(one), prepare(other))]
    assert len({r.score for r in results}) == 1
    assert len({r.pairs.tobytes() for r in results}) == 1
    assert len({r.transform for r in results}) == 1
    assert before == [array.tobytes() for t in (one, other) for array in (t.xy, t.angle, t.kind, t.quality)]
    assert prepared == [array.tobytes() for p in (a, b) for array in arrays_of(p)]


def test_shapes_dtypes_and_read_only() -> None:
    p = prepare(finger(9))
    n = len(p.pose)
    assert (p.pose.shape, p.pose.dtype) == ((n, 3), np.float32)
    assert (p.quality.shape, p.quality.dtype) == ((n,), np.uint8)
    assert (p.ridges.shape, p.ridges.dtype) == ((0,), np.uint8)
    for kind in (p.every, p.sure):
        m = len(kind.bits)
        assert (kind.bits.shape, kind.bits.dtype) == ((m, 18), np.uint64)
        assert (kind.valid.shape, kind.valid.dtype) == ((m, 3), np.uint64)
        assert (kind.minutia.shape, kind.minutia.dtype) == ((m,), np.int16)
        assert (np.diff(kind.minutia) > 0).all()
    assert np.abs(p.pose[:, 2]).max() <= np.float32(np.pi)
    assert (np.diff(p.quality.astype(int)) <= 0).all()
    for name in ("plain", "none"):
        assert not any(array.flags.writeable for array in arrays_of(prepare(ODD[name])))
    assert len(cell_centres(Shape())) == 192


def with_quality(template: Template, quality: object) -> Template:
    return Template.of(template.xy, template.angle, template.kind, quality, size=template.size)


def test_sure_minutiae_have_cylinders_of_their_own() -> None:
    """As if there were no others; all are sure where none, few or all are of good quality."""
    one = finger(5)
    for count in (20, len(one) - 1):
        some = with_quality(one, np.where(np.arange(len(one)) < count, SURE_QUALITY, SURE_QUALITY - 1))
        p, alone = prepare(some), prepare(some.best(count))
        assert p.sure is not p.every
        for array, other in zip(p.sure, alone.every, strict=True):
            assert np.array_equal(array, other)
    for count in (0, LEAST_SURE - 1, len(one)):
        p = prepare(with_quality(one, np.where(np.arange(len(one)) < count, SURE_QUALITY, 1)))
        assert p.sure is p.every
    # Sure minutiae too few or too scattered for cylinders of their own must not outweigh all the others.
    sparse = prepare(finger(65, 25))
    count = int((sparse.quality >= SURE_QUALITY).sum())
    assert LEAST_SURE <= count < len(sparse.pose)
    assert len(prepare(finger(65, 25).best(count)).every.bits) < LEAST_SURE
    assert sparse.sure is sparse.every
    unstated = prepare(with_quality(one, np.zeros(len(one))))
    assert unstated.sure is unstated.every


def test_a_segments_views_score_bit_for_bit(tmp_path: Path, drawn: list[list[Drawn]]) -> None:
    """The same numbers from a memory-mapped file as from fresh arrays; nothing is compiled anew."""
    templates = [finger(k) for k in range(4)] + [mate(finger(k), k).template for k in range(4)]
    templates += [ODD["none"], ODD["many"], ODD["one"], *(one.template for one in drawn[0])]
    fresh = [prepare(t) for t in templates]
    path = tmp_path / "segment-00000001.pps"
    entries = [Entry.of(one, Place(Finger.UNKNOWN, row)) for row, one in enumerate(fresh)]
    write_segment(path, range(len(fresh)), entries)
    segment = SealedSegment(path)
    mapped = [segment.prepared(slot) for slot in range(len(fresh))]
    for a, b in zip(fresh, mapped, strict=True):
        for array, other in zip(arrays_of(a), arrays_of(b), strict=True):
            assert np.array_equal(array, other)
            assert array.dtype == other.dtype
            assert not other.flags.writeable
    compiled = [kernels.motions, kernels.share, ridge_kernels.best]
    for i, j in [(0, 4), (1, 5), (2, 3), (8, 0), (9, 0), (10, 9), (11, 12), (13, 12), (11, 0)]:
        expected = compare(fresh[i], fresh[j])
        kinds = [len(kernel.signatures) for kernel in compiled]
        for a, b in [(mapped[i], mapped[j]), (fresh[i], mapped[j]), (mapped[i], fresh[j])]:
            found = compare(a, b)
            assert (found.score, found.transform) == (expected.score, expected.transform)
            assert np.array_equal(found.pairs, expected.pairs)
            assert np.array_equal(found.common, expected.common)
        assert kinds == [len(kernel.signatures) for kernel in compiled]


def opposed(one: Drawn) -> Template:
    """The print with its ridges where its valleys were, as in an inverted image that nobody recognised."""
    grid = unpacked(one.template.ridges)
    return replace(one.template, ridges=pack(grid._replace(phase=(grid.phase + 4) % 8)))


def test_ridges_in_the_valleys_of_the_other_are_told_and_taken_back(drawn: list[list[Drawn]]) -> None:
    """An inverted mate scores as its print does; an inverted stranger gains nothing by it."""
    for (one, mated, *_), (stranger, *_) in pairwise(drawn):
        straight = compare(prepare(mated.template), prepare(one.template))
        inverted = compare(prepare(opposed(mated)), prepare(one.template))
        assert (straight.opposed, inverted.opposed) == (False, True)
        assert inverted.score == pytest.approx(straight.score, abs=0.5)
        assert compare(prepare(opposed(mated)), prepare(opposed(one))).score == pytest.approx(
            straight.score, abs=0.1
        )
        assert score(prepare(opposed(stranger)), prepare(one.template)) < 0


def test_another_process_scores_the_same() -> None:
    """Compiled anew or from the cache, with another hash seed: the same bits."""
    code = (
        "import sys; sys.path[:0] = sys.argv[1:]\n"
        "from minutiae import *; from matcher.compare import evidence\n"
        "f = finger(11, 120); e = evidence(prepare(f), prepare(mate(f, 1).template)); print(repr(e))"
    )
    tests = Path(__file__).resolve().parents[1]
    said = subprocess.run(
        [sys.executable, "-c", code, str(tests.parent), str(tests)],
        capture_output=True,
        text=True,
        check=True,
    )
    one = finger(11, 120)
    assert said.stdout.strip() == repr(evidence(prepare(one), prepare(mate(one, 1).template)))


def test_the_trace_tells_the_steps() -> None:
    """All cylinders, then the sure ones; of each the upright hypothesis, then the turned one."""
    a, b = prepare(finger(1)), prepare(mate(finger(1), 1).template)
    seen: list[tuple[str, object]] = []
    traced = compare(a, b, trace=lambda key, value: seen.append((key, value)))
    level = ["similarities", *["pairs", "compatibility", "relaxed"] * 2]
    assert [key for key, _ in seen] == [*level, *level, "motions", "evidence"]
    shapes = [value.shape for key, value in seen if key == "similarities"]  # type: ignore[attr-defined]
    assert shapes == [(len(x), len(y)) for x, y in ((a.every.bits, b.every.bits), (a.sure.bits, b.sure.bits))]
    assert seen[-1][1] == evidence(a, b)._asdict()
    plain = compare(a, b)
    assert traced.score == plain.score
    assert np.array_equal(traced.pairs, plain.pairs)


def test_an_upside_down_mate_is_explained_by_the_hypothesis_that_scored() -> None:
    """The turn of the motion is near the hypothesis whose score was given."""
    for degrees in (0, 80, 100, 180, 260, 280):
        one = finger(degrees)
        other = mate(one, 2, turn=np.radians(degrees))
        found = compare(prepare(other.template), prepare(one))
        assert abs(kernels.wrapped(found.transform.turn - other.turn)) < 0.05


# ---- evidence


def test_without_ridges_minutiae_speak(drawn: list[list[Drawn]]) -> None:
    """Either template without a description: no ridges in the evidence, and the model of minutiae."""
    a, b = (one.template for one in drawn[0][:2])
    bare = [prepare(replace(one, ridges=b"")) for one in (a, b)]
    for x, y in ((bare[0], prepare(b)), (prepare(a), bare[1]), (bare[0], bare[1])):
        found = evidence(x, y)
        assert found.ridges is None
        assert found == evidence(bare[0], bare[1])
        compared = compare(x, y)
        assert [part.name for part in compared.parts] == list(shipped().minutiae.terms)
        assert len(compared.common) == 0
        assert compared.score > shipped().threshold(1e-5)
    both = compare(prepare(a), prepare(b))
    assert [part.name for part in both.parts] == list(shipped().ridges.terms)
    assert len(both.common) > 100


def test_mates_with_ridges_stand_above_impostors(ridged: list[list[Prepared]]) -> None:
    """Every mate above every impostor, in each of the three measures, though turned, slipped and noisy."""
    mates = [evidence(a, b) for one in ridged for a in one for b in one if a is not b]
    strangers = [
        evidence(a, b) for one in ridged for other in ridged if one is not other for a in one for b in other
    ]
    for name in ("structure", "share", "ridges"):
        least, most = min(getattr(e, name) for e in mates), max(getattr(e, name) for e in strangers)
        assert least > most + 0.1, name
    ratios = [[shipped().llr(e) for e in some] for some in (mates, strangers)]
    assert min(ratios[0]) > shipped().threshold(1e-5) > max(ratios[1])


def test_ridges_agree_where_they_were_compared(ridged: list[list[Prepared]]) -> None:
    a, b, _ = ridged[0]
    for probe, reference, least, most in ((a, b, 0.8, 1), (a, a, 0.98, 1), (a, ridged[1][0], -1, 0.6)):
        common = compare(probe, reference).common
        assert (common.dtype, common.shape[1]) == (np.float32, 3)
        assert np.abs(common[:, 2]).max() <= 1
        assert least <= common[:, 2].mean() <= most
        assert (common[:, :2].min(axis=0) > reference.pose[:, :2].min(axis=0) - 60).all()
        assert (common[:, :2].max(axis=0) < reference.pose[:, :2].max(axis=0) + 60).all()


@given(st.integers(0, 10**6), st.booleans(), st.floats(0, 6.2))
@settings(max_examples=30, deadline=None)
def test_parts_sum_to_the_score(seed: int, same: bool, turn: float) -> None:
    one = finger(seed)
    a, b = prepare(one), prepare(mate(one, seed, turn=turn).template if same else finger(seed + 1))
    assert_sums(a, b)


def assert_sums(a: Prepared, b: Prepared) -> None:
    found = compare(a, b)
    assert found.score == max(LOWEST, sum(part.adds for part in found.parts))
    assert found.score == score(a, b) == shipped().llr(evidence(a, b))


def test_parts_sum_to_the_score_with_ridges(ridged: list[list[Prepared]]) -> None:
    for a in ridged[0]:
        for b in (*ridged[0], *ridged[1]):
            assert_sums(a, b)


def test_another_calibration_changes_the_ratio_alone() -> None:
    a, b = prepare(finger(1)), prepare(mate(finger(1), 1).template)
    minutiae = shipped().minutiae
    less = {
        name: Term(*(line._replace(neutral=line.neutral + 0.1) for line in term))
        for name, term in minutiae.terms.items()
    }
    other = replace(shipped(), minutiae=replace(minutiae, terms=less))
    one, two = compare(a, b), compare(a, b, calibration=other)
    assert two.score == score(a, b, calibration=other) < one.score
    assert [part.measured for part in two.parts] == [part.measured for part in one.parts]
    assert np.array_equal(one.pairs, two.pairs)


# ---- how prints lie


def turned_by(template: Template, turn: float) -> Template:
    """The same print turned about its middle, on a larger image."""
    side = int(np.hypot(*template.size)) + 20
    away = (template.xy - np.asarray(template.size) / 2) @ rotation(turn).T + side / 2
    return Template.of(away, template.angle + turn, template.kind, template.quality, size=(side, side))


def moved_by(template: Template, x: int, y: int) -> Template:
    """The same print farther right and down, on a larger image."""
    size = template.size[0] + x, template.size[1] + y
    return Template.of(
        template.xy + np.array([x, y]), template.angle, template.kind, template.quality, size=size
    )


@given(st.integers(0, 10**6), st.booleans(), st.floats(0, 2 * np.pi), st.booleans())
@settings(max_examples=60, deadline=None)
def test_turning_a_template_changes_little(seed: int, same: bool, turn: float, probe: bool) -> None:
    """Positions are rounded anew, and a print upside down is told from an upright one by a little."""
    one = finger(seed)
    other = mate(one, seed).template if same else finger(seed + 1)
    turned = (turned_by(one, turn), other) if probe else (one, turned_by(other, turn))
    both = [(prepare(a), prepare(b)) for a, b in ((one, other), turned)]
    assert common(*both[1]) == pytest.approx(common(*both[0]), abs=0.6)
    before, after = (evidence(a, b) for a, b in both)
    if same:
        assert after.share == pytest.approx(before.share, abs=0.12)


@given(st.integers(0, 10**6), st.booleans(), st.integers(0, 600), st.integers(0, 600))
@settings(max_examples=60, deadline=None)
def test_moving_a_template_changes_nothing(seed: int, same: bool, x: int, y: int) -> None:
    """By whole pixels, of the probe or of the reference."""
    one = finger(seed)
    other = mate(one, seed, turn=0.4).template if same else finger(seed + 1)
    still = evidence(prepare(one), prepare(other))
    for a, b in ((moved_by(one, x, y), other), (one, moved_by(other, x, y))):
        after = evidence(prepare(a), prepare(b))
        assert after.structure == pytest.approx(still.structure, abs=1e-3)
        assert after.share == pytest.approx(still.share, abs=0.02)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_turning_a_print_by_quarters_changes_little(
    drawn: list[list[Drawn]], ridged: list[list[Prepared]], quarters: int
) -> None:
    """Picture, minutiae and ridges together; the wave is told from the other side, and still meets."""
    pixels, template = drawn[0][0]
    xy = template.xy.astype(float)
    size = template.size
    for _ in range(quarters):  # counter-clockwise as seen, as rot90 does
        xy, size = np.column_stack((xy[:, 1], size[0] - 1 - xy[:, 0])), size[::-1]
    angle = template.angle + quarters * math.pi / 2
    turned = Template.of(xy, angle, template.kind, template.quality, size=size)
    turned = described(np.ascontiguousarray(np.rot90(pixels, quarters)), turned)
    for other in (*ridged[0][1:], ridged[1][0]):
        before, after = evidence(ridged[0][0], other), evidence(prepare(turned), other)
        mates = other is not ridged[1][0]
        assert common(prepare(turned), other) == pytest.approx(common(ridged[0][0], other), abs=0.4)
        if mates:
            assert after.share == pytest.approx(before.share, abs=0.1)
            assert after.ridges == pytest.approx(before.ridges, abs=0.05)
        else:
            assert after.ridges < 0.6


def test_either_order_with_ridges(ridged: list[list[Prepared]]) -> None:
    for one in ridged:
        for a in one:
            for b in one:
                there, back = evidence(a, b), evidence(b, a)
                assert there.structure == pytest.approx(back.structure, abs=0.1)
                assert there.share == pytest.approx(back.share, abs=0.1)
                assert there.ridges == pytest.approx(back.ridges, abs=0.05)


@given(st.integers(0, 10**6), st.floats(0, 2 * np.pi), st.integers(3, 60), st.booleans())
@settings(max_examples=60, deadline=None)
def test_minutiae_are_carried_to_their_partners(seed: int, turn: float, n: int, same: bool) -> None:
    """Within the tolerance at which they were paired: the last one where the print was bent."""
    one = finger(seed, n)
    other = mate(one, seed, turn=turn, jitter=3).template if same else finger(seed + 1, n)
    assert_carried(prepare(one), prepare(other))


def assert_carried(a: Prepared, b: Prepared) -> None:
    found = compare(a, b)
    carried = found.carry(a.pose[found.pairs[:, 0], :2])
    away = np.hypot(*(carried - b.pose[found.pairs[:, 1], :2]).T)
    enough = len(found.pairs) >= NUMBERS.alignment.bending_pairs
    assert away.max(initial=0) <= (TOLERANCES[-1] if enough else TOLERANCES[0]) + 1e-3
    assert (len(found.bend.at) > 0) >= enough
    assert found.carry(a.pose[:, :2]).shape == (len(a.pose), 2)


def test_minutiae_with_ridges_are_carried_to_their_partners(ridged: list[list[Prepared]]) -> None:
    for a in ridged[0]:
        for b in (*ridged[0], *ridged[1]):
            assert_carried(a, b)


def test_a_slipped_print_is_carried_to_a_pixel_or_two(ridged: list[list[Prepared]]) -> None:
    """Where a motion alone is off by several: the finger slipped by ten pixels on the glass."""
    found = compare(ridged[0][0], ridged[0][1])
    probe, reference = (p.pose[pairs, :2] for p, pairs in zip(ridged[0][:2], found.pairs.T, strict=True))
    bent = np.hypot(*(found.carry(probe) - reference).T)
    rigid = np.hypot(
        *(replace(found, bend=compare(prepare(ODD["none"]), ridged[0][0]).bend).carry(probe) - reference).T
    )
    assert bent.mean() < 1.5 < rigid.mean()


# ---- few, many, and threads


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 5, 255])
def test_minutiae_at_random(n: int) -> None:
    """No exception, and finite, whatever lies where; also all in one place, or on one line."""
    for seed in range(6):
        random = np.random.default_rng(seed)
        scattered = random.integers(0, 500, (n, 2))
        line = np.outer(random.integers(0, 490, n), (1, seed % 2))
        few = random.integers(0, 2, (n, 2)) * 9 + 240
        made = [
            prepare(
                Template.of(
                    xy,
                    random.uniform(0, 7, n),
                    np.ones(n),
                    random.integers(0, 101, n),
                    size=(500, 500),
                )
            )
            for xy in (scattered, line, few)
        ]
        for a in made:
            for b in made:
                found = compare(a, b)
                said = evidence(a, b)
                assert np.isfinite([found.score, *found.transform, *said[:3]]).all()
                assert np.isfinite(found.carry(a.pose[:, :2])).all()
                assert said.share >= 0
                assert said.ridges is None
                if n < 2:
                    assert said == Evidence(UNLIKE, 0.0, 0.0, None, min(len(a.every.bits), len(b.every.bits)))
                    assert found.score == LOWEST


@pytest.mark.parametrize("name", ["none", "one", "two", "spot", "line", "many"])
def test_odd_minutiae_with_ridges(name: str, drawn: list[list[Drawn]]) -> None:
    """A description does not help where minutiae propose no motion; where they do, it is asked."""
    whole = drawn[0][0].template
    odd = prepare(replace(ODD[name], ridges=whole.ridges))
    for other in (prepare(whole), odd, prepare(ODD["plain"])):
        for a, b in ((odd, other), (other, odd)):
            found, said = compare(a, b), evidence(a, b)
            assert np.isfinite([found.score, *found.transform, *said[:3]]).all()
            if said.ridges is not None:
                assert -1 <= said.ridges <= 1
            if min(len(a.every.bits), len(b.every.bits)) < 2:
                assert said == Evidence(UNLIKE, 0.0, 0.0, None, min(len(a.every.bits), len(b.every.bits)))


def test_threads_say_the_same(ridged: list[list[Prepared]]) -> None:
    """Kernels without the lock, eight at a time, on the same arrays."""
    several = [*(p for one in ridged for p in one), *prints(3)]
    pairs = [(a, b) for a in several for b in several]
    alone = [evidence(a, b) for a, b in pairs]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            assert list(pool.map(lambda pair: evidence(*pair), pairs)) == alone
