"""The cascade: of all prints of a gallery those worth a full comparison, found in two steps.

All prints are looked at quickly, and the share `PENETRATION` of them, but `LEAST_KEPT` at least, thoroughly;
the best of those are the shortlist. Where there are no more than that, all are looked at thoroughly. What
each step loses and costs is in docs/scale.md.

The quick step is told below what score a print is certainly not kept. It is read off a sample first; most
prints are then done with before any motion is tried.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from matcher.compact import QUICK, THOROUGH, Held, Sought, score, seek
from matcher.cylinders import Prepared

PENETRATION = 0.02
"""Share of a large gallery that remains after the quick step."""

LEAST_KEPT = 10_000
"""Prints that remain at least: they take a processor 0.06 s."""

SAMPLE = 4_000
"""Prints off which the least score is read; it leaves twice as many as are wanted."""

RUN = 5_000
"""Prints that a thread looks at in one go: some milliseconds."""

Spread = Callable[[Callable[..., Any], Iterable[Any]], Iterable[Any]]
"""As `map`, or a pool's."""

Slots = NDArray[np.int64]
Floats = NDArray[np.float32]


class Part(NamedTuple):
    """Prints of a gallery that lie together: `slots` (k,) of `held` are searched, ascending."""

    held: Held
    slots: Slots


class Best(NamedTuple):
    """What remains of a part: `slots` (k,), ascending, and their `scores` (k,) float32, above 0."""

    slots: Slots
    scores: Floats


def look(
    probe: Prepared, parts: Sequence[Part], *, penetration: float = PENETRATION, spread: Spread = map
) -> list[Best]:
    """Return what remains of each part after both steps.

    Parameters
    ----------
    probe : Prepared
    parts : sequence of Part
    penetration : float
        Share of all prints that is looked at thoroughly; 1 leaves the quick step out.
    spread : callable
        As `map`; runs of prints are handed to it.

    Returns
    -------
    list of Best
        As long as `parts`. A print of which nothing agrees is left out.
    """
    total = sum(len(part.slots) for part in parts)
    kept = max(LEAST_KEPT, int(np.ceil(penetration * total)))
    if total > kept:
        parts = _quick(seek(probe, QUICK), parts, kept, total, spread)
    return [
        Best(part.slots[scores > 0], scores[scores > 0])
        for part, scores in zip(parts, _scores(seek(probe, THOROUGH), parts, 0.0, spread), strict=True)
    ]


def _quick(sought: Sought, parts: Sequence[Part], kept: int, total: int, spread: Spread) -> list[Part]:
    """Return the parts with the `kept` best slots of all."""
    every = max(1, total // SAMPLE)
    sample = [Part(part.held, part.slots[every // 2 :: every]) for part in parts]
    seen = np.concatenate(_scores(sought, sample, 0.0, spread))
    floor = float(np.quantile(seen, max(0.0, 1 - 2 * kept / total)))
    found = _scores(sought, parts, floor, spread)
    scores = np.concatenate(found)
    least = np.partition(scores, total - kept)[total - kept]
    return [
        Part(part.held, part.slots[(one >= least) & (one > 0)])
        for part, one in zip(parts, found, strict=True)
    ]


def _scores(sought: Sought, parts: Sequence[Part], floor: float, spread: Spread) -> list[Floats]:
    """Return the scores of each part's slots, computed in runs by whichever thread is free."""
    runs = [
        (number, part.slots[at : at + RUN])
        for number, part in enumerate(parts)
        for at in range(0, len(part.slots), RUN)
    ]

    def one(run: tuple[int, Slots]) -> Floats:
        return score(sought, parts[run[0]].held, run[1], floor=floor)

    out: list[list[Floats]] = [[np.zeros(0, np.float32)] for _ in parts]
    for (number, _), scores in zip(runs, spread(one, runs), strict=True):
        out[number].append(scores)
    return [np.concatenate(each) for each in out]
