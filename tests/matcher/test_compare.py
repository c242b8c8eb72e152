"""Comparison of two prints: mates above impostors however they lie, true correspondences, odd templates."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from minutiae import finger, mate, prints, rotation

from matcher import kernels
from matcher.calibration import LOWEST, shipped
from matcher.compare import FLOOR, Comparison, compare, raw_score, score
from matcher.cylinders import Shape, cell_centres, prepare
from matcher.segment import SealedSegment, write_segment
from matcher.template import Template

FIELDS = ("pose", "bits", "valid", "minutia")
FLOOR_SCORE = shipped().llr(float(np.log(FLOOR)))


@pytest.fixture(scope="module")
def impostors() -> float:
    """The highest raw score of two different fingers, of 300 comparisons in either order."""
    several = prints(25, first=1000)
    return max(raw_score(a, b) for a in several for b in several if a is not b)


def right(result: Comparison, truth: np.ndarray) -> float:
    """Share of the returned pairs that are true correspondences."""
    return float(np.mean([truth[i] == j for i, j in result.pairs]))


@pytest.mark.parametrize("degrees", range(0, 360, 15))
def test_a_mate_is_found_at_any_turn(degrees: int, impostors: float) -> None:
    """Whatever the rotation and the shift: the score, the pairs and the motion are right, in both orders."""
    one = finger(degrees)
    other = mate(one, degrees + 1, turn=np.radians(degrees), shift=(35, -60))
    a, b = prepare(other.template), prepare(one)
    assert raw_score(a, b) > impostors + 1.5
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
    one = finger(seed, n)
    a, b = prepare(mate(one, seed, turn=turn, shift=shift).template), prepare(one)
    stranger = prepare(finger(seed + 1, n))
    assert raw_score(a, b) > max(raw_score(a, stranger), raw_score(stranger, b)) + 1.0


@given(st.integers(0, 10**6), st.booleans(), st.floats(0, 2 * np.pi))
@settings(max_examples=60, deadline=None)
def test_either_order_scores_nearly_alike(seed: int, same: bool, turn: float) -> None:
    """Only equally similar pairs are taken by position, and the radial angle is one side's."""
    one = finger(seed)
    other = mate(one, seed, turn=turn).template if same else finger(seed + 1)
    a, b = prepare(one), prepare(other)
    assert raw_score(a, b) == pytest.approx(raw_score(b, a), abs=0.15)


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
                    raw_score(prepare(mate(finger(k), k, **how).template), prepare(finger(k)))
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
        if len(a.bits) < 2 or len(b.bits) < 2:
            assert found.score == FLOOR_SCORE
            assert len(found.pairs) == 0
            assert found.transform == (0, 0, 0)
        for column, most in zip(found.pairs.T, (len(a.pose), len(b.pose)), strict=True):
            assert len(set(column.tolist())) == len(column)
            assert ((column >= 0) & (column < most)).all()


def test_what_makes_no_cylinder() -> None:
    """Fewer than three minutiae within reach make none; a line, a spot and duplicates do, without harm."""
    for name in ("none", "one", "two", "two in one place", "far apart"):
        assert len(prepare(ODD[name]).bits) == 0
    for name in ("duplicates", "many", "plain"):
        assert len(prepare(ODD[name]).bits) > 10


def test_the_best_255_minutiae_count() -> None:
    everything = ODD["too many"]
    assert np.array_equal(prepare(everything).pose, prepare(everything.best(255)).pose)


def test_nothing_is_changed_and_everything_repeats() -> None:
    one, other = finger(8), mate(finger(8), 1).template
    before = [array.tobytes() for t in (one, other) for array in (t.xy, t.angle, t.kind, t.quality)]
    a, b = prepare(one), prepare(other)
    prepared = [getattr(p, name).tobytes() for p in (a, b) for name in FIELDS]
    results = [compare(a, b) for _ in range(3)] + [compare(prepare(one), prepare(other))]
    assert len({r.score for r in results}) == 1
    assert len({r.pairs.tobytes() for r in results}) == 1
    assert len({r.transform for r in results}) == 1
    assert before == [array.tobytes() for t in (one, other) for array in (t.xy, t.angle, t.kind, t.quality)]
    assert prepared == [getattr(p, name).tobytes() for p in (a, b) for name in FIELDS]


def test_shapes_dtypes_and_read_only() -> None:
    p = prepare(finger(9))
    n, m = len(p.pose), len(p.bits)
    assert (p.pose.shape, p.pose.dtype) == ((n, 3), np.float32)
    assert (p.bits.shape, p.bits.dtype) == ((m, 18), np.uint64)
    assert (p.valid.shape, p.valid.dtype) == ((m, 3), np.uint64)
    assert (p.minutia.shape, p.minutia.dtype) == ((m,), np.int16)
    assert np.abs(p.pose[:, 2]).max() <= np.float32(np.pi)
    assert (np.diff(p.minutia) > 0).all()
    assert not any(getattr(p, name).flags.writeable for name in FIELDS)
    assert not any(getattr(prepare(ODD["none"]), name).flags.writeable for name in FIELDS)
    assert len(cell_centres(Shape())) == 192


def test_a_segments_views_score_bit_for_bit(tmp_path: Path) -> None:
    """The same numbers from a memory-mapped file as from fresh arrays; nothing is compiled anew."""
    templates = [finger(k) for k in range(4)] + [mate(finger(k), k).template for k in range(4)]
    templates += [ODD["none"], ODD["many"], ODD["one"]]
    fresh = [prepare(t) for t in templates]
    path = tmp_path / "segment-00000001.pps"
    write_segment(path, range(len(fresh)), fresh)
    segment = SealedSegment(path)
    mapped = [segment.prepared(slot) for slot in range(len(fresh))]
    for a, b in zip(fresh, mapped, strict=True):
        for name in FIELDS:
            assert np.array_equal(getattr(a, name), getattr(b, name))
            assert getattr(a, name).dtype == getattr(b, name).dtype
            assert not getattr(b, name).flags.writeable
    kinds = [len(k.signatures) for k in (kernels.similarities, kernels.relaxed_score, kernels.grow_pairs)]
    for i, j in [(0, 4), (1, 5), (2, 3), (8, 0), (9, 0), (10, 9)]:
        expected = compare(fresh[i], fresh[j])
        for a, b in [(mapped[i], mapped[j]), (fresh[i], mapped[j]), (mapped[i], fresh[j])]:
            found = compare(a, b)
            assert (found.score, found.transform) == (expected.score, expected.transform)
            assert np.array_equal(found.pairs, expected.pairs)
    assert kinds == [
        len(k.signatures) for k in (kernels.similarities, kernels.relaxed_score, kernels.grow_pairs)
    ]


def test_another_process_scores_the_same() -> None:
    """Compiled anew or from the cache, with another hash seed: the same bits."""
    code = (
        "import sys; sys.path[:0] = sys.argv[1:]\n"
        "from minutiae import *; from matcher.compare import raw_score\n"
        "f = finger(11, 120); print(raw_score(prepare(f), prepare(mate(f, 1).template)).hex())"
    )
    tests = Path(__file__).resolve().parents[1]
    said = subprocess.run(
        [sys.executable, "-c", code, str(tests.parent), str(tests)],
        capture_output=True,
        text=True,
        check=True,
    )
    one = finger(11, 120)
    assert said.stdout.strip() == raw_score(prepare(one), prepare(mate(one, 1).template)).hex()


def test_the_trace_tells_the_steps() -> None:
    a, b = prepare(finger(1)), prepare(mate(finger(1), 1).template)
    seen: dict[str, object] = {}
    traced = compare(a, b, trace=seen.__setitem__)
    assert list(seen) == ["similarities", "pairs", "compatibility", "relaxed"]
    assert seen["similarities"].shape == (len(a.bits), len(b.bits))  # type: ignore[attr-defined]
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
