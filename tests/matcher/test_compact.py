"""Compact cylinders, the vocabulary and the cascade: kernels against their twins, mates that are found."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from minutiae import finger, mate

from matcher import cascade, compact, index
from matcher.cascade import Found, Look, Part, Wanted, settle
from matcher.compact import MOST_CYLINDERS, QUICK, THOROUGH, Depth, Held, Likeness, seek
from matcher.cylinders import Prepared, frozen, prepare
from matcher.template import Finger, Template

P = Likeness()
SIZE = (300, 340)
PRINTS = [prepare(finger(seed, 20 + seed % 30, size=SIZE)) for seed in range(60)]
EMPTY = prepare(Template.of([[3, 4]], [1.0], [1], [50], size=(10, 10)))
DEPTHS = (QUICK, THOROUGH, Depth(words=4096, probe=9, print=7))


def held(prints: list[Prepared]) -> Held:
    """Some prints, as a segment holds them."""
    made = [compact.compact(one) for one in prints]
    starts = np.cumsum([0, *(len(one.words) for one in made)])
    words, codes = (np.concatenate([one[part] for one in made]) for part in (0, 1))
    return Held(frozen(words), frozen(codes), frozen(starts))


HELD = held([*PRINTS, EMPTY])
SLOTS = np.arange(len(PRINTS) + 1)


def again(seed: int, turn: float = 0.3) -> Prepared:
    """Another impression of a print of `PRINTS`."""
    return prepare(mate(finger(seed, 20 + seed % 30, size=SIZE), seed, turn=turn).template)


# ---- codes


def test_a_code_is_what_the_cylinder_shows() -> None:
    """Every bit of 32 cells, the valid ones, direction and place."""
    print_ = PRINTS[7]
    made = compact.compact(print_)
    bits = np.unpackbits(print_.every.bits.view(np.uint8), axis=1, bitorder="little").reshape(-1, 6, 192)
    valid = np.unpackbits(print_.every.valid.view(np.uint8), axis=1, bitorder="little")
    cells = compact._CELLS
    assert len(set(cells.tolist())) == 32
    for m, code in enumerate(made.codes.tolist()):
        for sector, cell in np.ndindex(6, 32):
            assert code[sector // 2] >> (32 * (sector % 2) + cell) & 1 == bits[m, sector, cells[cell]]
        assert [code[3] >> k & 1 for k in range(32)] == valid[m, cells].tolist()
        x, y, angle = print_.pose[print_.every.minutia[m]].tolist()
        turned = (code[3] >> 32 & 255) * np.pi / 128
        assert abs(np.angle(np.exp(1j * (angle - turned)))) <= np.pi / 256 + 1e-6
        assert (code[3] >> 40 & 255, code[3] >> 48 & 255, code[3] >> 56) == (x // 4, y // 4, 0)


def test_only_the_best_are_kept() -> None:
    """40 cylinders of 34 bytes, of the minutiae of best quality; of a print without cylinders none."""
    many = prepare(finger(3, 120, size=(700, 700)))
    made = compact.compact(many)
    assert len(many.every.minutia) > MOST_CYLINDERS == len(made.words) == len(made.codes)
    assert sum(array.nbytes for array in made) == 34 * MOST_CYLINDERS
    assert np.array_equal(made.codes, compact.compact(many, most=500).codes[:MOST_CYLINDERS])
    far = prepare(
        Template.of(many.pose[:, :2] + [1500, 0], many.pose[:, 2], [1] * 120, many.quality, size=(2500, 700))
    )
    assert (compact.compact(far).codes[:, 3] >> np.uint64(40) & np.uint64(255) == 255).all()
    for none in (compact.compact(EMPTY), compact.Compact(*(array[:0] for array in made))):
        assert (none.words.shape, none.codes.shape) == ((0,), (0, 4))
        assert (none.words.dtype, none.codes.dtype) == (np.uint16, np.uint64)


# ---- vocabulary


def test_words_are_the_nearest_by_cosine() -> None:
    known = index.shipped()
    assert len(known) == 4096
    cells = compact.cells_of(np.concatenate([p.every.bits for p in PRINTS[:6]]))
    found = known.nearest(cells, 5)
    words = known._index.reconstruct_n(0, len(known))
    cosine = cells / np.maximum(np.linalg.norm(cells, axis=1, keepdims=True), 1e-6) @ words.T
    best = np.take_along_axis(cosine, found, axis=1)
    np.testing.assert_allclose(best, -np.sort(-cosine, axis=1)[:, :5], atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(words, axis=1), 1, rtol=1e-5)
    assert known.nearest(cells[:0], 5).shape == (0, 5)


def test_a_vocabulary_is_trained_packed_and_read() -> None:
    """Around the vectors it was made of; the same numbers make the same words."""
    rng = np.random.default_rng(1)
    middles = rng.random((4, 6)).astype(np.float32)
    vectors = np.repeat(middles, 50, axis=0) + rng.normal(0, 0.001, (200, 6)).astype(np.float32)
    words = index.train(vectors, 4, rounds=20, seed=3)
    assert np.array_equal(words, index.train(vectors, 4, rounds=20, seed=3))
    assert np.array_equal(words, index.unpacked(index.packed(words), 4))
    found = index.Vocabulary(words).nearest(middles, 1)[:, 0]
    assert sorted(found.tolist()) == [0, 1, 2, 3]
    assert np.abs(words[found] / index.LEVELS - middles).max() < 0.04


# ---- scores


@given(st.integers(0, 59), st.sampled_from(DEPTHS))
@settings(max_examples=40, deadline=None)
def test_scores_are_the_twins(seed: int, depth: Depth) -> None:
    """Of a mate, of strangers and of prints without cylinders."""
    sought = seek(again(seed), depth)
    slots = np.unique([seed, (seed + 7) % 60, (seed + 31) % 60, 60])
    found = compact.score(sought, HELD, slots)
    expected = [naive.compact_score(sought, HELD, slot, P) for slot in slots.tolist()]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("turn", [0.0, 1.0, 2.5, np.pi])
def test_a_mate_scores_best_however_it_is_turned(turn: float) -> None:
    for seed in range(0, 60, 4):
        for depth in (QUICK, THOROUGH):
            assert compact.score(seek(again(seed, turn), depth), HELD, SLOTS).argmax() == seed


def test_prints_are_scored_alike_together_and_alone() -> None:
    sought = seek(again(5), THOROUGH)
    whole = compact.score(sought, HELD, SLOTS)
    alone = np.concatenate([compact.score(sought, HELD, SLOTS[k : k + 1]) for k in range(len(SLOTS))])
    assert np.array_equal(whole, alone)
    assert np.array_equal(whole[3::7], compact.score(sought, HELD, SLOTS[3::7]))


def test_a_probe_without_cylinders_is_like_nothing() -> None:
    assert not compact.score(seek(EMPTY, QUICK), HELD, SLOTS).any()
    assert compact.score(seek(PRINTS[0], QUICK), HELD, SLOTS[:0]).tolist() == []


# ---- the cascade


ENCOUNTER, CARDS = 5, 12
"""Prints of an encounter, and encounters: print k is finger k % 5 + 1 of encounter 5 (k // 5)."""

FINGERS = [Finger(k % ENCOUNTER + 1 if k < 50 else 0) for k in range(60)]


def parts() -> list[Part]:
    """All prints but for some, in three parts, one of them empty; row numbers are 100 more."""
    made = []
    for begin, end, step in ((0, 25, 1), (25, 25, 1), (25, 60, 2)):
        rows = np.arange(begin, end)
        made.append(
            Part(
                held(PRINTS[begin:end] or [EMPTY]),
                np.arange(0, end - begin, step),
                rows + 100,
                np.array(FINGERS[begin:end], np.uint8),
                rows // ENCOUNTER * ENCOUNTER + 100,
            )
        )
    return made


REACHED = [*range(25), *range(25, 60, 2)]


def scores(probe: Prepared, depth: Depth) -> np.ndarray:
    """What each print shows of a probe, -1 where it cannot be reached."""
    every = compact.score(seek(probe, depth), HELD, SLOTS)[:60]
    return np.where(np.isin(np.arange(60), REACHED), every, -1)


def best_of(votes: np.ndarray, limit: int) -> list[int]:
    """Numbers of the best votes above 0."""
    order = sorted(np.flatnonzero(votes > 0), key=lambda k: (-votes[k], k))
    return [int(k) for k in order[:limit]]


def shortlist(probe: list[Wanted], limit: int = 99, first: int = 0, **how: Any) -> Found:
    look = Look(probe, parts(), **how)
    return settle([look], look.kept, limit=limit, first=first)


def small(monkeypatch: pytest.MonkeyPatch, kept: int) -> None:
    """Let a gallery of more prints than that be a large one."""
    monkeypatch.setattr(cascade, "LEAST_KEPT", kept)
    monkeypatch.setattr(cascade, "RUN", 4)


def test_a_small_gallery_is_looked_at_thoroughly() -> None:
    probe = again(21)
    expected = scores(probe, THOROUGH)
    found = shortlist([Wanted(probe)], first=3)
    best = best_of(expected, 99)
    assert found.units.tolist() == [k + 100 for k in best]
    assert best[0] == 21
    assert np.array_equal(found.votes, expected[best])
    assert sorted(found.rows.tolist()) == sorted(found.units.tolist()) == sorted(found.unit_of.tolist())
    assert found.first[0].rows.tolist() == found.units[:3].tolist()
    assert shortlist([Wanted(probe)], limit=2).units.tolist() == found.units[:2].tolist()


@pytest.mark.parametrize("kept", [1, 5, 20])
def test_a_large_gallery_is_looked_at_quickly_first(monkeypatch: pytest.MonkeyPatch, kept: int) -> None:
    """What remains are the best of the quick step, wherever they lie, with the scores of the thorough one."""
    small(monkeypatch, kept)
    for seed in (3, 21, 41):
        probe = again(seed)
        quick, thorough = scores(probe, QUICK), scores(probe, THOROUGH)
        remain = np.where(np.isin(np.arange(60), best_of(quick, kept)), thorough, -1)
        found = shortlist([Wanted(probe)], penetration=0.0)
        assert found.units.tolist() == [k + 100 for k in best_of(remain, 99)]
        every = shortlist([Wanted(probe)], penetration=1.0)
        assert every.units.tolist() == [k + 100 for k in best_of(thorough, 99)]


def fused(probe: list[Wanted], depth: Depth, among: Callable[[Wanted], Sequence[int]]) -> np.ndarray:
    """For each encounter the sum of what each print is most like there, of fingers it is looked for among."""
    votes = np.zeros(CARDS)
    for wanted in probe:
        each = np.where(np.isin(FINGERS, among(wanted)), scores(wanted.prepared, depth), 0)
        votes += np.maximum(each, 0).reshape(CARDS, ENCOUNTER).max(axis=1)
    return votes


def test_several_prints_speak_together_for_an_encounter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Positions may be wrong: few prints are looked for among all fingers, in both steps."""
    probe = [
        Wanted(again(seed), finger) for seed, finger in ((11, Finger(4)), (12, Finger(2)), (4, Finger(5)))
    ]
    anything = range(11)
    thorough = fused(probe, THOROUGH, lambda _: anything)
    found = shortlist(probe, limit=3, first=2)
    assert found.units.tolist() == [100 + ENCOUNTER * k for k in best_of(thorough, 3)]
    assert found.units[0] == 110
    np.testing.assert_allclose(found.votes, np.sort(thorough)[:-4:-1], rtol=1e-6)
    assert sorted(set(found.unit_of.tolist())) == sorted(found.units.tolist())
    rows = [k + 100 for k in REACHED if 100 + k // ENCOUNTER * ENCOUNTER in found.units]
    assert sorted(found.rows.tolist()) == rows
    assert [one.rows[0] for one in found.first] == [111, 112, 104]
    small(monkeypatch, 9)
    remain = best_of(fused(probe, QUICK, lambda _: anything), 3)
    kept = np.where(np.isin(np.arange(CARDS), remain), thorough, 0)
    found = shortlist(probe, penetration=0.0)
    assert found.units.tolist() == [100 + ENCOUNTER * k for k in best_of(kept, 99)]


def own(wanted: Wanted) -> Sequence[int]:
    """Its own finger, and an unknown one."""
    return (0, wanted.finger)


def other(wanted: Wanted) -> Sequence[int]:
    """That of the other hand."""
    return (0, (wanted.finger + 4) % 10 + 1)


@pytest.mark.parametrize("hand", [0, 5])
def test_many_prints_are_looked_for_among_those_of_their_finger(
    monkeypatch: pytest.MonkeyPatch, hand: int
) -> None:
    """And of the other hand: the right hand alone was enrolled, and is found though taken for the left."""
    small(monkeypatch, 40)
    probe = [Wanted(again(20 + k), Finger(k + 1 + hand)) for k in range(ENCOUNTER)]
    led = sorted(range(ENCOUNTER), key=lambda k: -len(probe[k].prepared.sure.minutia))[: cascade.LEADERS]
    said = fused([probe[k] for k in led], QUICK, own)
    remain = best_of(np.maximum(said, fused([probe[k] for k in led], QUICK, other)), 2)
    thorough = np.maximum(fused(probe, THOROUGH, own), fused(probe, THOROUGH, other))
    kept = np.where(np.isin(np.arange(CARDS), remain), thorough, 0)
    found = shortlist(probe, penetration=0.0, first=1)
    assert found.units.tolist() == [100 + ENCOUNTER * k for k in best_of(kept, 99)]
    assert found.units[0] == 120
    assert [one.rows.tolist() for one in found.first] == [[120 + k] for k in range(ENCOUNTER)]


def test_the_best_finger_that_both_hands_have_leads() -> None:
    probe = [Wanted(again(k), Finger(k % 10 + 1)) for k in range(10)]
    sure = [len(one.prepared.sure.minutia) for one in probe]
    best = max(range(5), key=lambda k: min(sure[k], sure[k + 5]))
    assert list(cascade._leading([*probe, Wanted(again(3))])) == [best, best + 5]
    one_hand = cascade._leading([*probe[:4], Wanted(again(3))])
    assert sorted(sure[k] for k in one_hand) == sorted(sure[:4])[1:]


@pytest.mark.parametrize("kept", [3, 12, 10_000])
def test_a_gallery_in_parts_finds_the_same(monkeypatch: pytest.MonkeyPatch, kept: int) -> None:
    """Each part looked at by itself, and what they say put together; numbers that are far apart as well."""
    small(monkeypatch, kept)
    few = [Wanted(again(21), Finger(2))]
    several = [Wanted(again(seed), Finger(seed % 5 + 1)) for seed in (20, 21, 22, 23)]
    for probe in (few, [*few, Wanted(again(3))], several):
        whole = shortlist(probe, limit=4, first=3, penetration=0.0)
        for far in (0, 10**9):
            apart = [one._replace(rows=one.rows + far, encounters=one.encounters + far) for one in parts()]
            looks = [Look(probe, [one], total=len(REACHED), penetration=0.0) for one in apart]
            with ThreadPoolExecutor(3) as pool:
                found = settle(looks, looks[0].kept, limit=4, first=3, spread=pool.map)
            assert found.units.tolist() == (whole.units + far).tolist()
            assert np.array_equal(found.votes, whole.votes)
            assert sorted(found.rows.tolist()) == sorted((whole.rows + far).tolist())
            assert [one.rows.tolist() for one in found.first] == [
                (o.rows + far).tolist() for o in whole.first
            ]


def test_threads_find_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch, 5)
    alone = shortlist([Wanted(again(29))])
    with ThreadPoolExecutor(3) as pool:
        for _ in range(5):
            found = shortlist([Wanted(again(29))], spread=pool.map)
            assert np.array_equal(found.units, alone.units)
            assert np.array_equal(found.votes, alone.votes)


def test_nothing_to_look_at() -> None:
    nobody = Look([Wanted(again(3))], [])
    assert settle([nobody], nobody.kept, limit=5, first=5).units.tolist() == []
    found = shortlist([Wanted(EMPTY), Wanted(EMPTY)], first=3)
    assert (found.units.tolist(), found.rows.tolist()) == ([], [])
    assert [one.rows.tolist() for one in found.first] == [[], []]
