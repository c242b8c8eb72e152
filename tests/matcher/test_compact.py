"""Compact cylinders, the vocabulary and the cascade: kernels against their twins, mates that are found."""

from concurrent.futures import ThreadPoolExecutor

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from minutiae import finger, mate

from matcher import cascade, compact, index
from matcher.cascade import Part, look
from matcher.compact import MOST_CYLINDERS, QUICK, THOROUGH, Depth, Held, Likeness, seek
from matcher.cylinders import Prepared, frozen, prepare
from matcher.template import Template

P = Likeness()
SIZE = (300, 340)
PRINTS = [prepare(finger(seed, 20 + seed % 30, size=SIZE)) for seed in range(60)]
EMPTY = prepare(Template.of([[3, 4]], [1.0], [1], [50], size=(10, 10)))
DEPTHS = (QUICK, THOROUGH, Depth(words=1024, probe=9, print=7))


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
    assert len(known) == 1024
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
    assert np.abs(words[found] / 255 - middles).max() < 0.01


# ---- scores


@given(st.integers(0, 59), st.sampled_from(DEPTHS), st.floats(0, 3))
@settings(max_examples=40, deadline=None)
def test_scores_are_the_twins(seed: int, depth: Depth, floor: float) -> None:
    """Of a mate, of strangers and of prints without cylinders; below the floor a score need not be told."""
    sought = seek(again(seed), depth)
    slots = np.unique([seed, (seed + 7) % 60, (seed + 31) % 60, 60])
    found = compact.score(sought, HELD, slots)
    expected = [naive.compact_score(sought, HELD, slot, P) for slot in slots.tolist()]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    floored = compact.score(sought, HELD, slots, floor=floor)
    told = found > floor
    assert np.array_equal(floored[told], found[told])
    assert np.isin(floored, [*found, 0]).all()


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


def parts() -> list[Part]:
    """All prints, in three parts, one of them empty and one with gaps."""
    first, last = held(PRINTS[:23]), held([*PRINTS[23:], EMPTY])
    return [Part(first, np.arange(23)), Part(held([EMPTY]), SLOTS[:0]), Part(last, np.arange(0, 38, 2))]


def numbers(found: list[cascade.Best]) -> dict[int, float]:
    """Scores by number of print."""
    offsets = (0, 100, 23)
    return {
        offset + slot: score
        for offset, best in zip(offsets, found, strict=True)
        for slot, score in zip(best.slots.tolist(), best.scores.tolist(), strict=True)
    }


def test_a_small_gallery_is_looked_at_thoroughly() -> None:
    probe = again(29)
    found = numbers(look(probe, parts()))
    whole = compact.score(seek(probe, THOROUGH), HELD, SLOTS)
    reached = [*range(23), *range(23, 61, 2)]
    assert found == {n: whole[n] for n in reached if whole[n] > 0}
    assert max(found, key=found.__getitem__) == 29


@pytest.mark.parametrize("kept", [1, 5, 20])
def test_a_large_gallery_is_looked_at_quickly_first(monkeypatch: pytest.MonkeyPatch, kept: int) -> None:
    """What remains are the best of the quick step, wherever they lie, with the scores of the thorough one."""
    monkeypatch.setattr(cascade, "LEAST_KEPT", kept)
    monkeypatch.setattr(cascade, "RUN", 4)
    reached = [*range(23), *range(23, 61, 2)]
    for seed in (3, 29, 41):
        probe = again(seed)
        quick, thorough = (compact.score(seek(probe, depth), HELD, SLOTS) for depth in (QUICK, THOROUGH))
        least = np.sort(quick[reached])[-kept]
        remain = {n for n in reached if quick[n] >= least and quick[n] > 0}
        assert numbers(look(probe, parts(), penetration=0.0)) == {
            n: thorough[n] for n in remain if thorough[n] > 0
        }
        every = look(probe, parts(), penetration=1.0)
        assert numbers(every) == {n: thorough[n] for n in reached if thorough[n] > 0}


def test_threads_find_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cascade, "LEAST_KEPT", 5)
    monkeypatch.setattr(cascade, "RUN", 3)
    alone = numbers(look(again(29), parts()))
    with ThreadPoolExecutor(3) as pool:
        assert all(numbers(look(again(29), parts(), spread=pool.map)) == alone for _ in range(5))


def test_nothing_to_look_at() -> None:
    assert look(again(3), []) == []
    assert numbers(look(EMPTY, parts())) == {}
