"""One to one between sets of prints: which print meets which, the fused score, and why.

Prints are compared where their positions agree, and then all that are left without a match, whatever their
positions: at most p r comparisons for p prints against r.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from matcher.calibration import Band, Calibration
from matcher.compare import compare, score
from matcher.cylinders import Prepared
from matcher.fusion import Fused, count_choices, fuse, may_meet, unmatched_pairs
from matcher.template import Finger
from papilar.mirror import mirrored_prints
from papilar.prints import ReadPrint
from papilar.requests import Evidence, PrintMatch


class Reference(NamedTuple):
    """A print to be compared with: its encounter, empty where the request brought it, and its place there."""

    encounter: str
    ordinal: int
    finger: Finger
    prepared: Prepared


class Meeting(NamedTuple):
    """The fused log10 likelihood ratio of two sets of prints, and the pairs it rests on, best first."""

    score: float
    matches: tuple[PrintMatch, ...]


def brought_references(prints: Sequence[ReadPrint]) -> list[Reference]:
    """Return the reference prints that a request brought."""
    return [Reference("", p.assessment.ordinal, p.assessment.finger, p.prepared) for p in prints]


def best_meeting(
    probe: Sequence[ReadPrint], groups: Iterable[Sequence[Reference]], *, evidence: bool
) -> Meeting:
    """Compare a probe with several encounters; the one with the best score speaks.

    An encounter with nothing comparable says nothing, and comes after any that says something. Without any,
    the score is 0: no evidence either way.
    """
    meetings = [_meet(probe, references, evidence=evidence) for references in groups]
    return max(meetings, key=lambda met: (bool(met.matches), met.score), default=Meeting(0.0, ()))


def count_chances(probe: Sequence[ReadPrint], groups: Iterable[Sequence[Reference]]) -> float:
    """Return how often a stranger is compared: the best encounter speaks, and of it the best assignment."""
    mine = [one.assessment.finger for one in probe]
    return max(1.0, sum(count_choices(mine, [other.finger for other in group]) for group in groups))


class Verdict(NamedTuple):
    """A meeting and how it reads: its band, None where nothing was compared.

    `mirrored` is the score of the mirrored probe where the meeting's is red and that one green, else None.
    """

    score: float
    matches: tuple[PrintMatch, ...]
    band: Band | None
    mirrored: float | None


def verdict(
    probe: Sequence[ReadPrint],
    groups: Sequence[Sequence[Reference]],
    calibration: Calibration,
    *,
    evidence: bool,
) -> Verdict:
    """Compare a probe with several encounters, and, where the score is red, its mirror image as well.

    The score stays what it is.
    """
    met, chances = best_meeting(probe, groups, evidence=evidence), count_chances(probe, groups)
    band = _band(met, calibration, chances)
    if band != Band.RED:
        return Verdict(met.score, met.matches, band, None)
    other = best_meeting(mirrored_prints(probe), groups, evidence=False)
    green = _band(other, calibration, chances) == Band.GREEN
    return Verdict(met.score, met.matches, band, other.score if green else None)


def _band(met: Meeting, calibration: Calibration, chances: float) -> Band | None:
    """Return the band of a meeting; None where nothing was compared."""
    return calibration.band(met.score, chances=chances) if met.matches else None


def explain(probe: Prepared, reference: Prepared) -> Evidence:
    """Return the minutiae that two prints share, and how one lies on the other."""
    return Evidence(compare(probe, reference), probe, reference)


def _meet(probe: Sequence[ReadPrint], references: Sequence[Reference], *, evidence: bool) -> Meeting:
    mine, theirs = [one.assessment.finger for one in probe], [other.finger for other in references]
    scores = np.full((len(mine), len(theirs)), np.nan)

    def compare_all(pairs: Iterable[tuple[int, int]]) -> Fused:
        for i, j in pairs:
            scores[i, j] = score(probe[i].prepared, references[j].prepared)
        return fuse(mine, theirs, scores)

    fused = compare_all((i, j) for i, a in enumerate(mine) for j, b in enumerate(theirs) if may_meet(a, b))
    matched = [(i, j) for i, j in fused.pairs.tolist() if scores[i, j] > 0]
    fused = compare_all(unmatched_pairs(mine, theirs, matched))
    pairs = sorted(fused.pairs.tolist(), key=lambda pair: -scores[pair[0], pair[1]])
    named = (_name(probe[i], references[j], float(scores[i, j]), evidence=evidence) for i, j in pairs)
    return Meeting(fused.score, tuple(named))


def _name(one: ReadPrint, other: Reference, value: float, *, evidence: bool) -> PrintMatch:
    why = explain(one.prepared, other.prepared) if evidence else None
    mine = one.assessment
    return PrintMatch(mine.ordinal, other.encounter, other.ordinal, other.finger, value, why, mine.finger)
