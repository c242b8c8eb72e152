"""One to one between sets of prints: which print meets which, the fused score, and why."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from matcher.compare import compare, score
from matcher.cylinders import Prepared
from matcher.fusion import fuse
from matcher.search import may_meet
from matcher.template import Finger
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


def explain(probe: Prepared, reference: Prepared) -> Evidence:
    """Return the minutiae that two prints share, and how one lies on the other."""
    return Evidence(compare(probe, reference), probe, reference)


def _meet(probe: Sequence[ReadPrint], references: Sequence[Reference], *, evidence: bool) -> Meeting:
    scores = np.zeros((len(probe), len(references)))
    allowed = np.zeros(scores.shape, bool)
    for i, one in enumerate(probe):
        for j, other in enumerate(references):
            if may_meet(one.assessment.finger, other.finger):
                allowed[i, j] = True
                scores[i, j] = score(one.prepared, other.prepared)
    fused = fuse(scores, allowed)
    pairs = sorted(fused.pairs.tolist(), key=lambda pair: -scores[pair[0], pair[1]])
    named = (_name(probe[i], references[j], float(scores[i, j]), evidence=evidence) for i, j in pairs)
    return Meeting(fused.score, tuple(named))


def _name(one: ReadPrint, other: Reference, value: float, *, evidence: bool) -> PrintMatch:
    why = explain(one.prepared, other.prepared) if evidence else None
    return PrintMatch(one.assessment.ordinal, other.encounter, other.ordinal, other.finger, value, why)
