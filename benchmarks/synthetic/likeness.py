"""Run: synthetic templates held against real ones, their impostor scores too; figures, and a picture of both.

Real prints are those of live-scanned sets: FVC's DB4 is synthetic itself. Impostors are pairs of different
fingers, whatever their sets. A distance is that of Kolmogorov and Smirnov, the greatest difference of the two
distributions; beside it stands the distance of one half of the real fingers from the other, which no model
needs to be better than.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.datasets import SAME_FINGER, PrintSet
from benchmarks.datasets import Print as File
from benchmarks.runner import Track, dumps, environment, untracked, write_atomic
from benchmarks.synthetic.templates import fingers
from enroll.image import read_image
from enroll.pipeline import extract
from matcher.calibration import shipped
from matcher.compare import evidence
from matcher.cylinders import Prepared, prepare
from matcher.errors import InvalidInput
from matcher.template import Template

Floats = NDArray[np.float64]

FILE, PICTURE = "synthetic.json", "synthetic.png"

NEAR = 40.0
"""Pixels within which minutiae are neighbours whose directions are held against each other: four ridges."""

_SEED = 20260
_TITLES = {
    "count": "minutiae of a print",
    "spacing": "distance to the nearest minutia, pixels",
    "turn": f"directions within {NEAR:g} pixels: difference, degrees",
    "quality": "quality of a minutia",
    "print_quality": "mean quality of a print's minutiae",
    "structure": "impostors: structure (deviations above strangers)",
    "ridges": "impostors: agreement of ridges",
    "minutiae_score": "impostors: score by minutiae alone",
    "score": "impostors: score",
}


class Impostors(NamedTuple):
    """What comparisons of different fingers gave, of one or of many."""

    structure: Any
    minutiae_score: Any
    ridges: Any
    score: Any


def live(sets: Sequence[PrintSet]) -> list[PrintSet]:
    """Return the sets of real fingers.

    Raises
    ------
    InvalidInput
        There is none.
    """
    real = [each for each in sets if "-DB4_" not in each.name]
    if not real:
        raise InvalidInput("no set of real fingers", remedy="name a folder of FVC's DB1, DB2 or DB3")
    return real


def extracted(sets: Sequence[PrintSet], *, track: Track = untracked) -> list[list[Template]]:
    """Return the templates of the prints that are not rejected, finger by finger."""
    fingers: dict[str, list[Template]] = {}
    every = [(each, one) for each in sets for one in each.prints]
    for each, one in track(every, "extracting", len(every)):
        found = extract(read_image(one.path.read_bytes(), ppi=each.ppi))
        if not found.rejected:
            fingers.setdefault(name_of(each, one), []).append(found.template)
    return list(fingers.values())


def name_of(each: PrintSet, one: File) -> str:
    """Return the name of a print's finger; the same for one that stands in two sets under two names."""
    name = f"{each.name}/{one.finger}"
    return min((min(names) for names in SAME_FINGER if name in names), default=name)


def run(
    sets: Sequence[PrintSet],
    out: Path,
    *,
    count: int = 1000,
    pairs: int = 20_000,
    seed: int = 0,
    workers: int = 1,
    track: Track = untracked,
) -> dict[str, Any]:
    """Compare synthetic templates with real ones and write `synthetic.json` and `synthetic.png`.

    Parameters
    ----------
    sets : sequence of PrintSet
        Of which the synthetic ones are left out.
    out : Path
        Results folder.
    count : int
        Synthetic fingers.
    pairs : int
        Of each kind of impostors: real and real, real and synthetic, synthetic and synthetic.
    seed : int
        Of the synthetic fingers and the pairs.
    workers : int
        Threads that compare.
    track : callable

    Returns
    -------
    dict
        `distances` by what is measured: of synthetic from real, of `mixed` impostors from real ones, and of
        `halves` of the real; `medians` of both; `prints`, `fingers`, `pairs`, `environment`.

    Raises
    ------
    InvalidInput
        There is no set of real fingers.
    """
    real = extracted(live(sets), track=track)
    return hold(real, out, count=count, pairs=pairs, seed=seed, workers=workers, track=track)


def hold(
    real: Sequence[Sequence[Template]],
    out: Path,
    *,
    count: int,
    pairs: int,
    seed: int = 0,
    workers: int = 1,
    track: Track = untracked,
) -> dict[str, Any]:
    """Do what `run` does, of real templates finger by finger."""
    ours = [[_print(template) for template in group] for group in real]
    made = [[_print(template)] for template in fingers(_SEED + seed, 0, count, ridges=True)]
    groups = {"real": (ours, ours), "mixed": (ours, made), "synthetic": (made, made)}
    groups |= {"half": (ours[::2], ours[::2]), "other half": (ours[1::2], ours[1::2])}
    found: dict[str, dict[str, Floats]] = {}
    for name, sides in groups.items():
        drawn = _pairs(*sides, pairs, np.random.default_rng([seed, len(found)]))
        with ThreadPoolExecutor(workers) as pool:
            met = list(track(pool.map(_compared, drawn), f"impostors, {name}", pairs))
        found[name] = Impostors(*np.array(met, np.float64).T)._asdict()
        if name != "mixed":
            found[name] |= _statistics(sides[1])
    figures = {
        "distances": {name: _distances(found, name) for name in _TITLES},
        "medians": {
            name: {side: float(np.median(found[side][name])) for side in ("real", "synthetic")}
            for name in _TITLES
        },
        "tail": {side: _tail(found[side]["score"]) for side in ("real", "mixed", "synthetic")},
        "prints": sum(map(len, real)),
        "fingers": {"real": len(real), "synthetic": count},
        "pairs": pairs,
        "environment": environment(),
    }
    write_atomic(out / FILE, dumps(figures))
    draw(found, out / PICTURE)
    return figures


class _Print(NamedTuple):
    """A print, whole and by its minutiae alone."""

    template: Template
    whole: Prepared
    bare: Prepared


def _print(template: Template) -> _Print:
    whole = prepare(template)
    return _Print(template, whole, replace(whole, ridges=whole.ridges[:0]))


def _statistics(groups: Sequence[Sequence[_Print]]) -> dict[str, Floats]:
    """Return what templates alone tell, each over all of its minutiae, pairs or prints."""
    templates = [one.template for group in groups for one in group]
    spacing, turn = [], []
    for template in templates:
        xy, angle = template.xy.astype(np.float64), template.angle.astype(np.float64)
        apart = np.hypot(*(xy[:, None] - xy).transpose(2, 0, 1))
        np.fill_diagonal(apart, np.inf)
        spacing.append(apart.min(axis=1))
        first, second = np.nonzero(np.triu(apart < NEAR))
        turn.append(np.degrees(np.abs(np.angle(np.exp(1j * (angle[first] - angle[second]))))))
    return {
        "count": np.array([len(template) for template in templates], np.float64),
        "spacing": np.concatenate(spacing),
        "turn": np.concatenate(turn),
        "quality": np.concatenate([template.quality for template in templates]).astype(np.float64),
        "print_quality": np.array([template.quality.mean() for template in templates]),
    }


def _pairs(
    ours: Sequence[Sequence[_Print]],
    theirs: Sequence[Sequence[_Print]],
    count: int,
    rng: np.random.Generator,
) -> Iterator[tuple[_Print, _Print]]:
    """Yield prints of different fingers."""
    for _ in range(count):
        i, j = int(rng.integers(len(ours))), int(rng.integers(len(theirs) - (ours is theirs)))
        group, other = ours[i], theirs[j + (ours is theirs and j >= i)]
        yield group[int(rng.integers(len(group)))], other[int(rng.integers(len(other)))]


def _compared(pair: tuple[_Print, _Print]) -> Impostors:
    probe, reference = pair
    bare, whole = evidence(probe.bare, reference.bare), evidence(probe.whole, reference.whole)
    agreement = 0.0 if whole.ridges is None else whole.ridges
    return Impostors(whole.structure, shipped().llr(bare), agreement, shipped().llr(whole))


def _distances(found: Mapping[str, Mapping[str, Floats]], name: str) -> dict[str, float]:
    real = found["real"][name]
    sides = {"synthetic": (real, found["synthetic"][name])}
    if name in found["mixed"]:
        sides["mixed"] = (real, found["mixed"][name])
    sides["halves"] = (found["half"][name], found["other half"][name])
    return {side: round(distance(*both), 4) for side, both in sides.items()}


def distance(a: Floats, b: Floats) -> float:
    """Return the Kolmogorov-Smirnov distance of two samples, 0 to 1."""
    a, b = np.sort(a), np.sort(b)
    every = np.concatenate((a, b))
    shares = [np.searchsorted(each, every, side="right") / len(each) for each in (a, b)]
    return float(np.abs(shares[0] - shares[1]).max())


def _tail(scores: Floats) -> dict[str, float]:
    """Return the scores that one impostor in 100 and in 1,000 exceeds."""
    return {f"{rate:g}": float(np.quantile(scores, 1 - rate)) for rate in (1e-2, 1e-3)}


def draw(found: Mapping[str, Mapping[str, Floats]], path: Path) -> None:
    """Draw the distributions, synthetic over real; of scores the share that exceeds each, which tells tails.

    Parameters
    ----------
    found : mapping
        Samples by side (`real`, `synthetic`, `mixed`), then by what was measured.
    path : Path
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 10), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(3, 3)
    colours = {"real": "black", "synthetic": "tab:red", "mixed": "tab:blue"}
    for at, (name, title) in zip(axes.flat, _TITLES.items(), strict=True):
        sides = {side: found[side][name] for side in colours if name in found[side]}
        for side, values in sides.items():
            if "score" in name:
                ordered = np.sort(values)
                at.step(ordered, 1 - np.arange(len(ordered)) / len(ordered), color=colours[side], label=side)
                at.set_yscale("log")
            else:
                low, high = np.quantile(np.concatenate(list(sides.values())), (0.001, 0.999)).tolist()
                edges = np.linspace(low, high, 40)
                at.hist(values, edges, density=True, histtype="step", color=colours[side], label=side)
        at.set_title(title, fontsize=9)
        at.tick_params(labelsize=8)
    axes.flat[-1].legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})
