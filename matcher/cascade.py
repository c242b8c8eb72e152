"""The cascade: of all prints of a gallery those worth a full comparison, found in two steps.

All prints are looked at quickly, and those that speak most for the probe thoroughly, a fiftieth of them or
`LEAST_KEPT`; the best of those are the shortlist. Where there are no more than that, all are looked at
thoroughly. What each step loses and costs is in docs/scale.md.

What is kept or dropped is a *unit*: a print, where one print is looked for; where several are, an encounter,
for which each of them speaks with what it is most like there. So the fingers of a person help each other
before anything is dropped.

Ten prints need not be looked for among all prints of all fingers. Where the positions of `SEVERAL` of them
are known, each is looked for among prints of its own finger, and of the same finger of the other hand, since
hands are taken for each other: an encounter's vote is the greater of the two. And the quick step looks for
two prints alone, of the same finger of both hands: whichever two fingers of a card are exchanged, one of
these is right, or both are as if hands were taken for each other. Fewer prints, and prints of a small
gallery, are looked for everywhere: a position may be wrong.

A gallery may lie in parts on several machines. Then each part is a `Look`, and `settle` asks them twice: for
the votes it takes to know which are kept of all, and for the best of those. What is found is the same.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from matcher.compact import QUICK, THOROUGH, Depth, Held, Sought, score, seek
from matcher.cylinders import Prepared
from matcher.template import Finger

PENETRATION = 0.02
"""Share of a large gallery that remains after the quick step."""

LEAST_KEPT = 10_000
"""Prints that remain at least: they take a processor 0.05 s."""

SEVERAL = 4
"""Prints of known positions from which positions are relied on in the quick step."""

LEADERS = 3
"""Prints that are then looked for quickly where no finger is there of both hands: any two of them may be
exchanged, and one is right."""

RUN = 5_000
"""Prints that a thread looks at in one go: some milliseconds."""

Spread = Callable[[Callable[..., Any], Iterable[Any]], Iterable[Any]]
"""As `map`, or a pool's."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


class Wanted(NamedTuple):
    """A print that is looked for."""

    prepared: Prepared
    finger: Finger = Finger.UNKNOWN


class Part(NamedTuple):
    """Prints that lie together, of which `slots` (k,), ascending, are searched; the others are (g,) each."""

    held: Held
    slots: Ints
    rows: Ints
    fingers: NDArray[np.uint8]
    encounters: Ints


class Ranked(NamedTuple):
    """Rows (k,) int64 and what each scores (k,) float32, best first."""

    rows: Ints
    votes: Floats


class Found(NamedTuple):
    """What is worth a full comparison.

    Attributes
    ----------
    units : ndarray of int64, shape (u,)
        Rows, or encounters where several prints are looked for; best first.
    votes : ndarray of float32, shape (u,)
    rows, unit_of : ndarray of int64, shape (r,)
        All rows of the units, and the unit of each.
    first : tuple of Ranked
        For each print the rows that are most like it, wherever they stand.
    failures : tuple of str
        Parts that were not searched, and why.
    searched : int
        Prints that could have been found.
    """

    units: Ints
    votes: Floats
    rows: Ints
    unit_of: Ints
    first: tuple[Ranked, ...]
    failures: tuple[str, ...] = ()
    searched: int = 0


class Looking(Protocol):
    """A search of a part of a gallery, under way."""

    def votes(self) -> Floats:
        """Return the votes of the units that may be kept, in any order."""

    def best(self, least: float, *, limit: int, first: int) -> Found:
        """Return the best `limit` of the units whose vote was `least` or more, and `first` rows a print."""


def settle(looks: Sequence[Looking], kept: int, *, limit: int, first: int = 0, spread: Spread = map) -> Found:
    """Return what is worth a full comparison of all parts of a gallery.

    Parameters
    ----------
    looks : sequence of Looking
    kept : int
        Units that remain after the quick step.
    limit, first : int
        Units returned at most, and rows for each print.
    spread : callable
        As `map`; asks the parts at the same time if it can.
    """
    votes = np.concatenate([np.zeros(0, np.float32), *spread(lambda look: look.votes(), looks)])
    least = _least(votes, kept)
    found = list(spread(lambda look: look.best(least, limit=limit, first=first), looks))
    return merged(found, limit=limit, first=first)


def merged(found: Sequence[Found], *, limit: int, first: int) -> Found:
    """Return what was found in several parts as if they were one; no unit lies in two of them."""
    units, votes, rows, unit_of = (np.concatenate([one[part] for one in found]) for part in range(4))
    best = _best(votes, units, limit)
    here = np.isin(unit_of, units[best])
    each = [_all(same) for same in zip(*(one.first for one in found), strict=True)]
    return Found(
        units[best],
        votes[best],
        rows[here],
        unit_of[here],
        tuple(_ranked(one.rows, one.votes, first) for one in each),
        tuple(failure for one in found for failure in one.failures),
        sum(one.searched for one in found),
    )


class Look:
    """A search of prints on this machine, under way; see `Looking`.

    Parameters
    ----------
    probe : sequence of Wanted
    parts : sequence of Part
    total : int, optional
        Prints of the whole gallery, where this is a part of it.
    penetration : float
        Share of all prints that is looked at thoroughly; 1 leaves the quick step out.
    spread : callable
        As `map`; runs of prints are handed to it.
    """

    def __init__(
        self,
        probe: Sequence[Wanted],
        parts: Sequence[Part],
        *,
        total: int | None = None,
        penetration: float = PENETRATION,
        spread: Spread = map,
    ) -> None:
        self._probe, self._parts, self._spread = probe, parts, spread
        self._ends = np.cumsum([0, *(len(part.slots) for part in parts)])
        self._rows = _joined([_taken(part.rows, part.slots) for part in parts], np.int64)
        self._fingers = _joined([_taken(part.fingers, part.slots) for part in parts], np.uint8)
        alone = len(probe) == 1
        units = self._rows if alone else _joined([_taken(p.encounters, p.slots) for p in parts], np.int64)
        self._unit, self._names = _numbered(units)
        size = len(self._rows) if total is None else total
        budget = max(LEAST_KEPT, int(np.ceil(penetration * size)))
        self._whole = budget >= size
        self._anywhere = self._whole or not _relied_on(probe)
        self.kept = -(-budget // max(len(probe) if self._anywhere else 4 * len(probe), 1))
        self._votes = np.zeros(0, np.float32)

    def votes(self) -> Floats:
        """Return the votes of the units that may be kept; of none where all are looked at thoroughly."""
        if self._whole:
            return self._votes
        every = np.arange(len(self._rows))
        leading = range(len(self._probe)) if self._anywhere else _leading(self._probe)
        said, turned = self._silence(), self._silence()
        for number, sought in self._seek(leading, QUICK).items():
            self._ask(number, sought, every, said)
            if not self._anywhere:
                self._ask(number, sought, every, turned, other=True)
        self._votes = np.maximum(said, turned)
        spoken = self._votes[self._votes > 0]
        return spoken[spoken >= _least(spoken, self.kept)]

    def best(self, least: float, *, limit: int, first: int) -> Found:
        """Return the best `limit` of the units whose vote was `least` or more, and `first` rows a print."""
        places = np.arange(len(self._rows))
        if not self._whole:
            places = np.flatnonzero(((self._votes >= least) & (self._votes > 0))[self._unit])
        said, turned, ranked = self._silence(), self._silence(), []
        for number, sought in self._seek(range(len(self._probe)), THOROUGH).items():
            asked = [self._ask(number, sought, places, said)]
            if not self._anywhere:
                asked.append(self._ask(number, sought, places, turned, other=True))
            every = _all(asked)
            ranked.append(_ranked(every.rows, every.votes, first))
        votes = np.maximum(said, turned)
        best = _best(votes, self._names, limit)
        units = np.zeros(len(self._names), np.bool_)
        units[best] = True
        here = places[units[self._unit[places]]]
        names = self._names[self._unit[here]]
        searched = len(self._rows)
        return Found(self._names[best], votes[best], self._rows[here], names, tuple(ranked), (), searched)

    def _silence(self) -> Floats:
        """Return votes that nobody has spoken for."""
        return np.zeros(len(self._names), np.float32)

    def _ask(
        self, number: int, sought: Sought, places: Ints, votes: Floats, *, other: bool = False
    ) -> Ranked:
        """Look for a print at places of its finger, or that of the other hand, and add to the units' votes.

        To each what the print is most like there. The rows and what they score are returned, in no order.
        """
        if not self._anywhere:
            finger = self._probe[number].finger
            finger = _other(finger) if other else finger
            every = len(places) == len(self._fingers)
            meets = _meets(self._fingers if every else self._fingers[places], finger)
            places = np.flatnonzero(meets) if every else places[meets]
        scores, best = self._scores(sought, places), self._silence()
        np.maximum.at(best, self._unit[places], scores)
        votes += best
        return Ranked(self._rows[places], scores)

    def _seek(self, numbers: Iterable[int], depth: Depth) -> dict[int, Sought]:
        """Make prints ready to be looked for, each by whichever thread is free."""

        def one(number: int) -> tuple[int, Sought]:
            return number, seek(self._probe[number].prepared, depth)

        return dict(self._spread(one, numbers))

    def _scores(self, sought: Sought, places: Ints) -> Floats:
        """Return what prints at some places show of a print, computed in runs by whichever thread is free."""
        bounds = np.searchsorted(places, self._ends)
        runs = [
            (part, part.slots[places[at : min(at + RUN, end)] - offset])
            for part, offset, begin, end in zip(
                self._parts, self._ends[:-1], bounds[:-1], bounds[1:], strict=True
            )
            for at in range(begin, end, RUN)
        ]

        def one(run: tuple[Part, Ints]) -> Floats:
            return score(sought, run[0].held, run[1])

        return _joined(list(self._spread(one, runs)), np.float32)


def _leading(probe: Sequence[Wanted]) -> Sequence[int]:
    """Return the prints (their numbers) that are looked for quickly: the best finger that both hands have."""
    sure = [len(wanted.prepared.sure.minutia) for wanted in probe]
    known = [number for number, wanted in enumerate(probe) if wanted.finger != Finger.UNKNOWN]
    both = [(j, k) for j in known for k in known if j < k and probe[j].finger == _other(probe[k].finger)]
    if both:
        return max(both, key=lambda pair: min(sure[number] for number in pair))
    return sorted(known, key=lambda number: -sure[number])[:LEADERS]


def _relied_on(probe: Sequence[Wanted]) -> bool:
    return sum(wanted.finger != Finger.UNKNOWN for wanted in probe) >= SEVERAL


def _other(finger: Finger) -> Finger:
    """Return the same finger of the other hand."""
    return Finger((finger + 4) % 10 + 1) if finger else finger


def _meets(fingers: NDArray[np.uint8], wanted: Finger) -> NDArray[np.bool_]:
    """Return which fingers may be the one that is wanted: are it, or one of the two is unknown."""
    table = np.full(256, wanted == Finger.UNKNOWN)
    table[[Finger.UNKNOWN, wanted]] = True
    return table[fingers]


def _numbered(units: Ints) -> tuple[Ints, Ints]:
    """Return units (k,) as numbers, few enough to index an array by, and what each number stands for."""
    low, high = (int(units.min()), int(units.max())) if len(units) else (0, 0)
    if high - low > 8 * len(units):
        names, numbers = np.unique(units, return_inverse=True)
        return numbers, names
    there = np.zeros(high - low + 1, np.bool_)
    there[units - low] = True
    return (np.cumsum(there) - 1)[units - low], np.flatnonzero(there) + low


def _least(votes: Floats, most: int) -> float:
    """Return the least vote of the best `most`."""
    if most < 1 or not len(votes):
        return np.inf
    at = max(len(votes) - most, 0)
    return float(np.partition(votes, at)[at])


def _best(votes: Floats, names: Ints, limit: int) -> Ints:
    """Return where the best `limit` votes above 0 are, best first, ties by name."""
    spoken = np.flatnonzero(votes > 0)
    spoken = spoken[votes[spoken] >= _least(votes[spoken], limit)]
    return spoken[np.lexsort((names[spoken], -votes[spoken]))][:limit]


def _ranked(rows: Ints, votes: Floats, limit: int) -> Ranked:
    best = _best(votes, rows, limit)
    return Ranked(rows[best], votes[best])


def _all(some: Sequence[Ranked]) -> Ranked:
    return Ranked(np.concatenate([one.rows for one in some]), np.concatenate([one.votes for one in some]))


def _taken(array: NDArray[Any], slots: Ints) -> NDArray[Any]:
    return array if len(slots) == len(array) else array[slots]


def _joined(arrays: Sequence[NDArray[Any]], dtype: type[np.generic]) -> NDArray[Any]:
    return np.concatenate([np.zeros(0, dtype), *arrays])
