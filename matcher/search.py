"""One to many: the `Searcher` protocol, and the searcher over this node's own gallery.

Shortlist of the probe print; with several, the encounters for which their votes together speak most, and all
prints of those -> full comparison -> fingers fused per encounter -> the best encounter of each subject,
ranked. All work is done on the one thread pool of the searcher.

Positions save comparisons, and may be wrong. Where they disagree, two prints are compared only if it may
matter: a probe print with the rows that are most like it, `FIRST` for all prints together, and then the
fingers that are still without a match in the `LEADERS` encounters that lead and have one. For p prints, and
encounters of up to e, that is at most FIRST + LEADERS p e comparisons more, however large the gallery. Where
positions agree they are about SHORTLIST, for one print as for several, but never of fewer than `FEWEST`
encounters.

A latent is a part of a print, and poor: of a gallery none is passed over after a quick look for it.
"""

import heapq
import os
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from matcher.calibration import Calibration, shipped
from matcher.cascade import PENETRATION, Found, Spread, Wanted
from matcher.cylinders import Prepared
from matcher.fusion import RULES, fingers_of, fuse, may_meet, unmatched_pairs
from matcher.template import LATENTS, Finger, Template

SHORTLIST = 300
FEWEST = 50
"""Encounters at least that are compared in full, however many prints are looked for."""

FIRST = 100
"""Rows most like the probe's prints that these are compared with whatever their positions; each print has
the same number of them, at most `FIRST_ALONE`. What it finds: `python -m benchmarks fuse`."""

FIRST_ALONE = 50

LEADERS = 10
"""Encounters whose unmatched fingers are compared across positions: as many as are shown by default."""

_BATCH = 32
"""Comparisons between two looks at the clock: a few milliseconds."""


@dataclass(frozen=True, slots=True)
class ProbePrint:
    """One finger of a probe, ready to be compared; a search elsewhere sends its `template`."""

    finger: Finger
    prepared: Prepared
    template: Template | None = None


class Owner(NamedTuple):
    """Whose row it is: opaque identifiers of the store."""

    subject: str
    encounter: str
    finger: Finger


class Directory(Protocol):
    """What a search must know of the store."""

    def owners(self, rows: Collection[int]) -> Mapping[int, Owner]:
        """Return the owner of each row that exists."""

    def rows_of(self, encounters: Collection[str]) -> Collection[int]:
        """Return the rows of all prints of these encounters."""


class Match(NamedTuple):
    """One probe print (its index) against one gallery row, and whether their positions disagree."""

    probe: int
    row: int
    score: float
    disagree: bool = False


@dataclass(frozen=True, slots=True)
class Candidate:
    """A subject that may be the probe's.

    Attributes
    ----------
    subject, encounter : str
        The encounter whose prints score best.
    score : float
        Fused log10 likelihood ratio.
    rank : int
        From 1.
    matches : tuple of Match
        Which fingers met, one pair of prints for each, with the ratio of that pair.
    """

    subject: str
    encounter: str
    score: float
    rank: int
    matches: tuple[Match, ...]


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a search found.

    Attributes
    ----------
    candidates : tuple of Candidate
        Best first; may be empty.
    searched : int
        Prints of the gallery that the search could have found.
    complete : bool
        False when a part was not searched.
    failures : tuple of str
        What was not searched, and why.
    compared : int
        Pairs of prints that were compared in full.
    """

    candidates: tuple[Candidate, ...]
    searched: int
    complete: bool = True
    failures: tuple[str, ...] = ()
    compared: int = 0


class Searcher(Protocol):
    """Everything that can search: this node, a cluster, a remote node, a federation."""

    def search(
        self,
        probe: Sequence[ProbePrint],
        *,
        limit: int,
        least: float | None = None,
        deadline: float | None = None,
    ) -> SearchResult:
        """Return the best `limit` subjects with a score of at least `least`.

        `deadline` is a `time.monotonic` instant; a search that reaches it returns what it has, incomplete.
        """


class Holdings(Protocol):
    """Prints that can be searched: a gallery of this machine, or one that lies in parts on several."""

    @property
    def rows(self) -> NDArray[np.int64]:
        """Row numbers that a search reaches, ascending."""

    def __len__(self) -> int:
        """Return how many they are."""

    def shortlist(
        self,
        probe: Sequence[Wanted],
        *,
        limit: int,
        first: int,
        penetration: float,
        spread: Spread,
        deadline: float | None,
    ) -> Found:
        """Return the prints worth a full comparison; see `matcher.gallery.Gallery.shortlist`."""

    def scores(
        self, probe: Sequence[Prepared], pairs: Sequence[tuple[int, int]], calibration: Calibration
    ) -> Sequence[float]:
        """Compare prints in full; see `matcher.gallery.Gallery.scores`."""


class LocalSearcher:
    """Searches one gallery.

    Parameters
    ----------
    gallery : Holdings
    directory : Directory
    calibration : Calibration, optional
    shortlist : int
        Comparisons in full, about; see above.
    exhaustive : bool
        Compare every row in full, whatever the shortlist: for measuring what it loses.
    workers : int, optional
        Threads; by default one a processor.
    """

    def __init__(
        self,
        gallery: Holdings,
        directory: Directory,
        *,
        calibration: Calibration | None = None,
        shortlist: int = SHORTLIST,
        exhaustive: bool = False,
        workers: int | None = None,
    ) -> None:
        self._gallery = gallery
        self._directory = directory
        self._exhaustive = exhaustive
        self._calibration = calibration or shipped()
        self._shortlist = shortlist
        self._pool = ThreadPoolExecutor(workers or os.cpu_count() or 1, thread_name_prefix="search")

    def close(self) -> None:
        """Stop the threads; searches under way end first."""
        self._pool.shutdown()

    def search(
        self,
        probe: Sequence[ProbePrint],
        *,
        limit: int,
        least: float | None = None,
        deadline: float | None = None,
    ) -> SearchResult:
        """Return the best `limit` subjects; see `Searcher.search`."""
        owners, named, found = self._reachable(probe, deadline)
        tasks = [
            (i, row) for i, p in enumerate(probe) for row in owners if may_meet(p.finger, owners[row].finger)
        ]
        tasks += sorted(named - set(tasks))
        matches = self._compare_all(probe, tasks, deadline)
        fused = fuse_encounters(matches, probe, owners)
        if len(matches) == len(tasks):
            more = [task for task in _unmatched(fused.values(), probe, owners) if task not in named]
            matches += self._compare_all(probe, more, deadline)
            tasks += more
            led = {owners[row].encounter for _, row in more}
            fused |= fuse_encounters((m for m in matches if owners[m.row].encounter in led), probe, owners)
        late = () if len(matches) == len(tasks) else (f"deadline: {len(matches)} of {len(tasks)} compared",)
        failures = (*found.failures, *late)
        ranked = rank(fused.values(), limit=limit, least=least)
        return SearchResult(ranked, found.searched, not failures, failures, len(matches))

    def _reachable(
        self, probe: Sequence[ProbePrint], deadline: float | None
    ) -> tuple[dict[int, Owner], set[tuple[int, int]], Found]:
        """Return whose the rows are that may be compared, those most like one print, and the shortlist.

        The rows are those of the shortlist; with several prints, all of every encounter that they lead to.
        """
        found, rows = self._found(probe, deadline)
        named = {(i, row) for i, one in enumerate(found.first) for row in one.rows.tolist()}
        owners = self._directory.owners({*rows, *(row for _, row in named)})
        if len(probe) > 1:
            led = {owner.encounter for owner in owners.values()}
            owners = self._directory.owners(self._directory.rows_of(led))
        return dict(owners), {(i, row) for i, row in named if row in owners}, found

    def _found(self, probe: Sequence[ProbePrint], deadline: float | None) -> tuple[Found, list[int]]:
        """Return what was found, and the rows worth a full comparison: of a small gallery all."""
        latent = any(one.template is not None and one.template.impression in LATENTS for one in probe)
        known = any(one.finger != Finger.UNKNOWN for one in probe)  # others meet all rows anyway
        most = len(self._gallery) if self._exhaustive else self._shortlist
        prints = max(len(probe), 1)
        found = self._gallery.shortlist(
            [Wanted(one.prepared, one.finger) for one in probe],
            limit=max(most // prints, min(FEWEST, most)),
            first=min(FIRST_ALONE, FIRST // prints, most) if known else 0,
            penetration=1.0 if latent else PENETRATION,
            spread=self._pool.map,
            deadline=deadline,
        )
        whole = len(self._gallery) <= most
        return found, (self._gallery.rows if whole else found.rows).tolist()

    def _compare_all(
        self, probe: Sequence[ProbePrint], tasks: Iterable[tuple[int, int]], deadline: float | None
    ) -> list[Match]:
        """Compare on the pool; hand out no work after the deadline. A row hidden meanwhile scores lowest."""
        prepared = [one.prepared for one in probe]

        def compare_some(batch: tuple[tuple[int, int], ...]) -> list[Match]:
            if deadline is not None and time.monotonic() >= deadline:
                return []
            scores = self._gallery.scores(prepared, batch, self._calibration)
            return [Match(i, row, score) for (i, row), score in zip(batch, scores, strict=True)]

        done = self._pool.map(compare_some, batched_tuples(tasks, _BATCH))
        return [match for batch in done for match in batch]


def batched_tuples(items: Iterable[tuple[int, int]], size: int) -> Iterable[tuple[tuple[int, int], ...]]:
    """Yield runs of at most `size` items (`itertools.batched`, which Python 3.11 lacks)."""
    rest = iter(items)
    while batch := tuple(islice(rest, size)):
        yield batch


def fuse_encounters(
    matches: Iterable[Match], probe: Sequence[ProbePrint], owners: Mapping[int, Owner]
) -> dict[str, Candidate]:
    """Return each encounter as a candidate, its fingers fused; not yet ranked (rank 0)."""
    by_encounter: dict[str, list[Match]] = {}
    for match in matches:
        if np.isfinite(match.score):
            by_encounter.setdefault(owners[match.row].encounter, []).append(match)
    return {encounter: _fuse_one(found, probe, owners) for encounter, found in by_encounter.items()}


def rank(candidates: Iterable[Candidate], *, limit: int, least: float | None) -> tuple[Candidate, ...]:
    """Return the best encounter of each subject, best first, ties by subject, numbered from 1."""
    best: dict[str, Candidate] = {}
    for candidate in sorted(candidates, key=lambda c: (-c.score, c.subject, c.encounter)):
        best.setdefault(candidate.subject, candidate)
    kept = [c for c in best.values() if least is None or c.score >= least][:limit]
    return tuple(replace(candidate, rank=place) for place, candidate in enumerate(kept, 1))


def threshold(
    calibration: Calibration,
    *,
    target_fpir: float,
    gallery: Mapping[Finger, int],
    probe: Sequence[Finger] = (Finger.UNKNOWN,),
) -> float:
    """Return the score at which a search has the false-positive rate `target_fpir`.

    FPIR = 1 - (1 - FMR)^N (ISO/IEC 19795-1:2021, annex on identification), where N counts every finger of the
    probe with every print of the gallery, since any of them may meet a stranger's only print. Positions that
    disagree have their price (`matcher.fusion`), and make so many fewer false positives.

    Parameters
    ----------
    calibration : Calibration
    target_fpir : float
        In (0, 1).
    gallery : mapping of Finger to int
        How many prints of each position are searched.
    probe : sequence of Finger
        Of each print of the probe; by default one of unknown position, which agrees with all.

    Raises
    ------
    ValueError
        `target_fpir` outside (0, 1).
    """
    if not 0.0 < target_fpir < 1.0:
        raise ValueError(f"target FPIR {target_fpir} is not in (0, 1)")
    total, unknown = sum(gallery.values()), gallery.get(Finger.UNKNOWN, 0)
    fingers = [probe[group[0]] for group in fingers_of(probe)]
    agree = sum(total if f == Finger.UNKNOWN else gallery.get(f, 0) + unknown for f in fingers)
    disagree = total * len(fingers) - agree
    return threshold_for(calibration, -float(np.log1p(-target_fpir)), agree=agree, disagree=disagree)


def threshold_for(calibration: Calibration, expected: float, *, agree: float, disagree: float) -> float:
    """Return the score that comparisons of strangers are expected to reach so many times.

    Parameters
    ----------
    calibration : Calibration
        Rates above its tail are answered at the tail's edge.
    expected : float
        How often.
    agree, disagree : float
        Comparisons of prints whose positions agree, and of others, whose score is lowered by their price.
    """

    def surplus(score: float) -> float:
        rates = np.array([calibration.fmr(score), calibration.fmr(score + RULES.price)])
        return float(-np.log1p(-rates) @ (agree, disagree) - expected)

    low = calibration.threshold(calibration.tail_rate)
    if surplus(low) <= 0:
        return low
    fmr = -np.expm1(-expected / (agree + disagree))
    high = calibration.threshold(min(float(fmr), calibration.tail_rate))  # as if all agreed
    return high if surplus(high) >= 0 else float(brentq(surplus, low, high))


def count_fingers(probe: Iterable[ProbePrint]) -> int:
    """Return how many fingers the prints are of: those of one known position are of one."""
    return len(fingers_of([one.finger for one in probe]))


def _fuse_one(
    matches: Sequence[Match], probe: Sequence[ProbePrint], owners: Mapping[int, Owner]
) -> Candidate:
    prints = sorted({m.probe for m in matches})
    rows = sorted({m.row for m in matches})
    at, on = ({value: k for k, value in enumerate(values)} for values in (prints, rows))
    scores = np.full((len(prints), len(rows)), np.nan)
    for m in matches:
        scores[at[m.probe], on[m.row]] = m.score
    mine, theirs = [probe[i].finger for i in prints], [owners[row].finger for row in rows]
    fused = fuse(mine, theirs, scores)
    met = tuple(
        Match(prints[i], rows[j], float(scores[i, j]), not may_meet(mine[i], theirs[j]))
        for i, j in fused.pairs.tolist()
    )
    owner = owners[rows[0]]
    return Candidate(owner.subject, owner.encounter, fused.score, 0, met)


def _unmatched(
    candidates: Iterable[Candidate], probe: Sequence[ProbePrint], owners: Mapping[int, Owner]
) -> list[tuple[int, int]]:
    """Return the pairs whose positions disagree of the encounters that lead, of fingers still unmatched.

    Only an encounter in which some finger matches can lead: a ratio below 1 throughout says nothing of swaps.
    """
    speaking = [c for c in candidates if any(m.score > 0 for m in c.matches)]
    leading = heapq.nlargest(LEADERS, speaking, key=lambda c: (c.score, c.encounter))
    rows_of: dict[str, list[int]] = {c.encounter: [] for c in leading}
    for row, owner in owners.items():
        if owner.encounter in rows_of:
            rows_of[owner.encounter].append(row)
    mine, tasks = [one.finger for one in probe], []
    for c in leading:
        rows = sorted(rows_of[c.encounter])
        matched = [(m.probe, rows.index(m.row)) for m in c.matches if m.score > 0]
        pairs = unmatched_pairs(mine, [owners[row].finger for row in rows], matched)
        tasks += [(i, rows[j]) for i, j in pairs]
    return tasks
