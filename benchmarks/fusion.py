"""Fuse: what several fingers, and several impressions, are worth; and whether swapped fingers are found.

Persons are made up: each has one finger of each of some FVC sets, drawn anew for every pairing, so that no
two persons of a pairing share a finger. Impression i of one finger goes with impression i of the others: they
were taken under like conditions. Ratios are those of a run's evidence (`evidence.csv`) by a fit to the
other sets, and `matcher.fusion` fuses them as a node does. A person is compared with all whose fingers
are of the same sets, since a run compares no two sets. A finger that is known to stand in two sets
(`datasets.SAME_FINGER`) takes part under its first name only.

Rates are those of `metrics`, all pairings under one threshold. Their intervals draw persons anew within one
pairing at a time, each under its own threshold: pairings share fingers, and all together would pass for more
people than there are.

With the prints themselves, persons of two fingers of different sets are also enrolled, first impressions into
a gallery, and searched for by `matcher.search` with all other impressions: as they are, with the two fingers
exchanged, and with one finger alone under the other's position. `fusion.json` in the results folder says what
came of it.
"""

import tempfile
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import combinations, product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import calibration, metrics
from benchmarks.calibration import Observed
from benchmarks.datasets import SAME_FINGER, PrintSet, natural, split_name
from benchmarks.metrics import Floats, Scores
from benchmarks.runner import FAILED, Track, dumps, untracked, write_atomic
from benchmarks.systems import Papilar
from matcher.calibration import Model, shipped
from matcher.cylinders import Prepared
from matcher.errors import InvalidInput
from matcher.fusion import RULES, fuse
from matcher.gallery import Gallery
from matcher.search import Candidate, LocalSearcher, Owner, ProbePrint, threshold
from matcher.segment import Place
from matcher.template import Finger

FILE = "fusion.json"
CASES = ((1, 1), (2, 1), (4, 1), (1, 2), (2, 2))
"""Fingers of a person, impressions of each finger on each side."""

RATES = (1e-2, 1e-3, 1e-4)
FPIR = 0.01
POSITIONS = tuple(Finger)[1:]
PAIR = (Finger.RIGHT_INDEX, Finger.LEFT_INDEX)


class Ratios(NamedTuple):
    """log10 ratios of one set: `values` (f, n, f, n) of finger, impression, finger, impression; NaN: none."""

    fingers: tuple[str, ...]
    values: Floats


def run(
    results: Path,
    sets: Sequence[PrintSet] = (),
    *,
    pairings: int = 8,
    replicates: int = 1000,
    seed: int = 0,
    track: Track = untracked,
) -> dict[str, Any]:
    """Measure fusion on a run's evidence, and swapped fingers on the prints where there are some.

    Parameters
    ----------
    results : Path
        Results folder of `run fvc` with system papilar; `fusion.json` is written into it.
    sets : sequence of PrintSet
    pairings, replicates, seed : int
        How often persons are made up; bootstrap.
    track : callable

    Returns
    -------
    dict
        What was written.

    Raises
    ------
    InvalidInput
        Too few sets, or no evidence.
    """
    ratios, fitted = load(results)
    if len(ratios) < max(fingers for fingers, _ in CASES):
        raise InvalidInput(f"{len(ratios)} sets", remedy="run four sets or more")
    cases = track(CASES, "fusing", len(CASES))
    report = {
        "rules": asdict(RULES),
        "pairings": pairings,
        "cases": [
            measure(ratios, fitted, *case, pairings=pairings, replicates=replicates, seed=seed)
            for case in cases
        ],
        "swapped": _search_all(sets, pairings, seed, track) if sets else None,
    }
    write_atomic(results / FILE, dumps(report))
    return report


def load(results: Path) -> tuple[dict[str, Ratios], Model]:
    """Read the evidence of every set as ratios by a fit to the others; return also the fit to all.

    Raises
    ------
    InvalidInput
        There is none, a file is not its run's, or there is one set alone.
    """
    kind = calibration.KINDS["ridges"]
    sets = calibration.load_kind(results, kind)
    models = calibration.left_out(sets, kind.terms)
    found = {name: _by_finger(both.whole, name, models[name]) for name, both in sets.items()}
    return found, calibration.fit(list(sets.values()), kind.terms)


def measure(
    ratios: Mapping[str, Ratios],
    fitted: Model,
    fingers: int,
    impressions: int,
    *,
    pairings: int,
    replicates: int,
    seed: int,
) -> dict[str, Any]:
    """Return the rates of persons of so many fingers, with so many impressions of each on either side.

    Parameters
    ----------
    ratios : mapping of str to Ratios
    fitted : Model
        Whose thresholds are tried.
    fingers, impressions, pairings, replicates, seed : int
    """
    parts = [pair_up(ratios, fingers, impressions, np.random.default_rng([seed, k])) for k in range(pairings)]
    scores = metrics.pool(parts)
    drawn = [_replicate(part, -(-replicates // pairings), seed + k) for k, part in enumerate(parts)]
    values = metrics.estimates(metrics.METRICS, metrics.measure(scores), np.concatenate(drawn))
    return {
        "fingers": fingers,
        "impressions": impressions,
        "persons": sum(parts[0].strata),
        "mated": len(scores.mated),
        "nonmated": len(scores.nonmated),
        "rates": {name: asdict(value) for name, value in values.items()},
        "stated": [_stated(scores, rate, fitted.threshold(rate)) for rate in RATES],
    }


def pair_up(
    ratios: Mapping[str, Ratios], fingers: int, impressions: int, random: np.random.Generator
) -> Scores:
    """Make persons up, and compare each with itself and with all others whose fingers are of the same sets.

    Parameters
    ----------
    ratios : mapping of str to Ratios
    fingers : int
        Of a person, each of another set.
    impressions : int
        Of a finger, on either side of a comparison.
    random : Generator

    Returns
    -------
    Scores
        Persons stand for its fingers, each group of sets for one of its sets.
    """
    names = random.permutation(sorted(ratios, key=natural)).tolist()
    groups = [names[at : at + fingers] for at in range(0, len(names) - fingers + 1, fingers)]
    return metrics.pool([_compare_group([ratios[n] for n in g], impressions, random) for g in groups])


def _compare_group(parts: Sequence[Ratios], impressions: int, random: np.random.Generator) -> Scores:
    count = min(len(part.fingers) for part in parts)
    people = np.array([random.permutation(len(part.fingers))[:count] for part in parts]).T
    order = random.permutation(min(part.values.shape[1] for part in parts))
    taken = [order[at : at + impressions] for at in range(0, len(order) - impressions + 1, impressions)]

    def compare(a: int, i: int, b: int, j: int) -> float:
        values = [
            part.values[people[a, k]][taken[i]][:, people[b, k]][:, taken[j]] for k, part in enumerate(parts)
        ]
        return fuse_fingers(values)

    occasions = range(len(taken))
    mated = [(a, compare(a, i, a, j)) for a in range(count) for i, j in combinations(occasions, 2)]
    others = [
        (a, b, compare(a, i, b, j))
        for a, b in combinations(range(count), 2)
        for i, j in product(occasions, occasions)
    ]
    return Scores(
        np.array([score for _, score in mated]),
        np.array([a for a, _ in mated]),
        np.array([score for _, _, score in others]),
        np.array([(a, b) for a, b, _ in others]),
        (count,),
    )


def fuse_fingers(values: Sequence[Floats]) -> float:
    """Fuse the ratios of each finger's impressions, (p, r) each, all positions being right."""
    rows, columns = (np.cumsum([0, *(value.shape[side] for value in values)]) for side in (0, 1))
    scores = np.full((rows[-1], columns[-1]), np.nan)
    mine, theirs = (
        [POSITIONS[k] for k, value in enumerate(values) for _ in range(value.shape[side])] for side in (0, 1)
    )
    for k, value in enumerate(values):
        scores[rows[k] : rows[k + 1], columns[k] : columns[k + 1]] = value
    fused = fuse(mine, theirs, scores)
    return fused.score if len(fused.pairs) else FAILED


def _replicate(part: Scores, replicates: int, seed: int) -> Floats:
    names = [str(k) for k in range(len(part.strata))]
    return metrics.replicate(part, metrics.draw(part.strata, names, replicates=replicates, seed=seed))


def _stated(scores: Scores, rate: float, least: float) -> dict[str, float]:
    fmr, fnmr = (scores.nonmated >= least).mean(), (scores.mated < least).mean()
    return {"stated_fmr": rate, "threshold": least, "fmr": float(fmr), "fnmr": float(fnmr)}


def _by_finger(observed: Observed, name: str, model: Model) -> Ratios:
    """Return the ratios of a set by finger and impression; NaN where a print failed to enrol."""
    stated = np.where(observed.failed, np.nan, calibration.ratios_of(observed.values, model))
    prints = sorted({one for names in observed.names for one in names}, key=natural)
    parts = {one: split_name(one) or (one, "") for one in prints}
    fingers = [f for f in dict.fromkeys(part[0] for part in parts.values()) if not _is_second(name, f)]
    impressions = list(dict.fromkeys(part[1] for part in parts.values()))
    values = np.full((len(fingers), len(impressions)) * 2, np.nan)
    for (probe, reference), ratio in zip(observed.names, stated.tolist(), strict=True):
        (f, i), (g, j) = parts[probe], parts[reference]
        if f in fingers and g in fingers:
            a = fingers.index(f), impressions.index(i)
            b = fingers.index(g), impressions.index(j)
            values[(*a, *b)] = values[(*b, *a)] = ratio
    return Ratios(tuple(fingers), values)


def _is_second(name: str, finger: str) -> bool:
    subject = f"{name}/{finger}"
    return any(subject == sorted(names)[1] for names in SAME_FINGER if subject in names)


# ---- swapped fingers, by real searches


class _People(dict[int, Owner]):
    """Whose the rows of a gallery are."""

    def owners(self, rows: Collection[int]) -> Mapping[int, Owner]:
        """Return the owner of each row that exists."""
        return {row: self[row] for row in rows if row in self}

    def rows_of(self, encounters: Collection[str]) -> Collection[int]:
        """Return the rows of all prints of these encounters."""
        return [row for row, owner in self.items() if owner.encounter in encounters]


class _Found(NamedTuple):
    """What came of a search: of the mate; of strangers, whether one reached the threshold; its work."""

    first: bool
    reached: bool
    all_disagree: bool
    some_disagree: bool
    stranger: bool
    compared: int
    seconds: float


SHARES = ("rank1", "reached", "all_disagree", "some_disagree", "fpir")

Hand = list[list[Prepared | None]]
"""Fingers, and the impressions of each; None where a print was rejected."""


def _search_all(sets: Sequence[PrintSet], pairings: int, seed: int, track: Track) -> dict[str, Any]:
    hands = dict(_extract(sets, track))
    found: dict[str, list[_Found]] = {"right": [], "swapped": [], "one misplaced": []}
    for k in track(range(pairings), "searching", pairings):
        with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
            for how, one in _search_pairing(_couples(hands, [seed, k]), Path(folder)):
                found[how].append(one)
    return {"fpir": FPIR, "calibration": shipped().id} | {how: _share(each) for how, each in found.items()}


def _extract(sets: Sequence[PrintSet], track: Track) -> Iterator[tuple[str, list[Prepared | None]]]:
    """Yield each finger as `<set>/<finger>` and its impressions."""
    system, hands = Papilar(), dict[str, list[Prepared | None]]()
    prints = [(each, one) for each in sets for one in each.prints if not _is_second(each.name, one.finger)]
    for each, one in track(prints, "extracting", len(prints)):
        prepared = system.extract(one.path.read_bytes(), ppi=each.ppi)
        hands.setdefault(f"{each.name}/{one.finger}", []).append(prepared)
    yield from hands.items()


def _couples(hands: Mapping[str, list[Prepared | None]], seed: Sequence[int]) -> list[Hand]:
    """Draw persons of two fingers of different sets, whose first impressions both were good enough."""
    names = np.random.default_rng(seed).permutation([n for n, prints in hands.items() if prints[0]]).tolist()
    couples: list[Hand] = []
    while names:
        one = names.pop()
        other = next((n for n in names if n.rpartition("/")[0] != one.rpartition("/")[0]), None)
        if other is not None:
            names.remove(other)
            couples.append([hands[one], hands[other]])
    return couples


def _search_pairing(people: Sequence[Hand], folder: Path) -> Iterator[tuple[str, _Found]]:
    gallery, directory = Gallery(folder, np.zeros(0, np.int64)), _People()
    for person, finger in product(range(len(people)), range(2)):
        prepared = people[person][finger][0]
        if prepared is not None:
            directory[2 * person + finger] = Owner(str(person), str(person), PAIR[finger])
            gallery.add(2 * person + finger, prepared, Place(PAIR[finger], 2 * person))
    searcher = LocalSearcher(gallery, directory)
    try:
        for person, hand in enumerate(people):
            for a, b in zip(hand[0][1:], hand[1][1:], strict=False):
                if a is not None and b is not None:
                    for how, probe in _probes(a, b):
                        yield how, _search(searcher, probe, str(person), gallery.positions)
    finally:
        searcher.close()


def _probes(a: Prepared, b: Prepared) -> Iterator[tuple[str, list[ProbePrint]]]:
    yield "right", [ProbePrint(PAIR[0], a), ProbePrint(PAIR[1], b)]
    yield "swapped", [ProbePrint(PAIR[1], a), ProbePrint(PAIR[0], b)]
    yield "one misplaced", [ProbePrint(PAIR[1], a)]


def _search(searcher: LocalSearcher, probe: list[ProbePrint], mate: str, gallery: Counter[Finger]) -> _Found:
    least = threshold(shipped(), target_fpir=FPIR, gallery=gallery, probe=[one.finger for one in probe])
    started = time.perf_counter()
    result = searcher.search(probe, limit=2)
    seconds = time.perf_counter() - started
    best: Candidate | None = next(iter(result.candidates), None)
    first = best is not None and best.subject == mate
    disagree = [m.disagree for m in best.matches] if first and best is not None else []
    return _Found(
        first,
        first and best is not None and best.score >= least,
        bool(disagree) and all(disagree),
        any(disagree),
        any(c.subject != mate and c.score >= least for c in result.candidates),
        result.compared,
        seconds,
    )


def _share(found: Sequence[_Found]) -> dict[str, float | int]:
    table = np.array(found, np.float64)
    named = dict(zip(SHARES, table[:, : len(SHARES)].mean(axis=0).tolist(), strict=True))
    work = {"compared": float(table[:, -2].mean()), "seconds": float(np.median(table[:, -1]))}
    return {"searches": len(found)} | {key: round(value, 6) for key, value in (named | work).items()}
