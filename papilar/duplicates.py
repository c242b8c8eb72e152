"""Duplicates in a gallery: what it means that prints of two subjects meet. Knows no store and no network.

Three things go wrong in an archive. One person stands in it under two names. A print was filed under another
person's name. One image file was enrolled twice. The prints of two subjects tell them apart: a finger that
both have speaks for one person or against, and one that only one of them has says nothing.

The threshold. Each of N prints is searched among the others, so that each of the N (N - 1) / 2 pairs of
prints of different fingers may bring one false candidate, where its ratio reaches T by chance: at the rate
FMR(T), or FMR(T + price) where the positions disagree, since such a pair pays the price of a wrong position
(`matcher.fusion`). Searches have the false-positive rate r in the mean (ISO/IEC 19795-1:2021) where the sum
over all pairs is r (N - 1) / 2 (`least_ratio`): r / 2 false candidates for each print, since a pair is found
from either side. With `FALSE_PER_PRINT` that is one for every 2,000 prints, under one in 1,000. It holds for
single prints. The fused ratio of several fingers is held against the same T: each finger of strangers lowers
it on average.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from itertools import combinations, product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from matcher.calibration import Band, Calibration, shipped
from matcher.cylinders import Prepared
from matcher.fusion import RULES, Fused, fuse, may_meet
from matcher.search import threshold_for
from matcher.template import Finger
from papilar.errors import RequestInvalid

FALSE_PER_PRINT = 1e-3
"""False-positive rate of the search for one print; see the module for what it means for a gallery."""

SPEAKS = 1.0
"""log10 ratio from which a finger speaks for one person, and below whose negative it speaks against.

An assumption, not a fit: ten to one. It decides of which kind a finding is, not whether there is one."""


class Kind(StrEnum):
    """What two subjects have in common.

    `SAME_PERSON`: more of their fingers speak for one person than against. `ONE_PRINT`: one print agrees,
    while others that both have speak against, so that it stands under a wrong name. `ONE_FILE`: the same file
    is under two names, or twice under one, and nothing else says that they are one person.
    """

    SAME_PERSON = "SAME_PERSON"
    ONE_PRINT = "ONE_PRINT"
    ONE_FILE = "ONE_FILE"


class State(StrEnum):
    """What became of a case."""

    OPEN = "OPEN"
    MERGED = "MERGED"
    DISTINCT = "DISTINCT"


class Held(NamedTuple):
    """A print of the gallery: its row, ready to be compared; `sha256` of its file where that is known."""

    row: int
    finger: Finger
    prepared: Prepared
    sha256: bytes | None


class Subject(NamedTuple):
    """A name in the gallery, and all prints under it."""

    name: str
    prints: Sequence[Held]

    def without(self, rows: Collection[int]) -> "Subject":
        """Leave out the prints of some rows."""
        return self._replace(prints=[one for one in self.prints if one.row not in rows])


Compare = Callable[[Prepared, Prepared], float]
"""Gives the log10 ratio of two prints."""


class PrintPair(NamedTuple):
    """A print of the first subject and one of the second, by row of the gallery; `score` is a log10 ratio."""

    row: int
    other_row: int
    finger: Finger
    other_finger: Finger
    score: float
    same_file: bool = False

    @property
    def worth(self) -> float:
        """The ratio, less the price of two positions that disagree."""
        return self.score - (0.0 if may_meet(self.finger, self.other_finger) else RULES.price)


@dataclass(frozen=True, slots=True)
class Finding:
    """Two subjects whose prints meet.

    Attributes
    ----------
    kind : Kind
    first, second : str
        The subjects, in the order of their names; equal where one file is twice under one name.
    score : float
        log10 likelihood ratio of what the kind says: of one person, or of one print or file alone.
    pairs : tuple of PrintPair
        One for each finger that both have, the best of its prints, best first; and every file in common.
    """

    kind: Kind
    first: str
    second: str
    score: float
    pairs: tuple[PrintPair, ...]

    @property
    def band(self) -> Band:
        """How the score reads, whatever the size of the gallery."""
        return shipped().band(self.score)

    @property
    def agreeing(self) -> tuple[PrintPair, ...]:
        """The pairs that speak for one person."""
        return tuple(pair for pair in self.pairs if pair.worth >= SPEAKS)

    @property
    def against(self) -> tuple[PrintPair, ...]:
        """The pairs that speak against."""
        return tuple(pair for pair in self.pairs if pair.worth <= -SPEAKS)


class Decision(NamedTuple):
    """Who decided, by pseudonym, when, and why as a code; see `check_decision`."""

    by: str
    at: datetime
    note: str


class Case(NamedTuple):
    """A finding in the queue.

    `finding` names the subjects that have the prints now; of a merged case, the two that were merged.
    `decision` is None while the case is open; `merge_id` is empty unless it is merged.
    """

    number: int
    finding: Finding
    found: datetime
    state: State = State.OPEN
    decision: Decision | None = None
    merge_id: str = ""


class Progress(NamedTuple):
    """How many prints of a run have been searched, and how many there are."""

    done: int
    total: int


def check_decision(decision: Decision) -> None:
    """Raise `RequestInvalid` unless the note is a code: 1 to 32 of `A-Z`, `0-9` and `_`, a letter first."""
    if not re.fullmatch(r"[A-Z][A-Z0-9_]{0,31}", decision.note, re.ASCII):
        raise RequestInvalid(
            "a note that is no code", remedy="write 1 to 32 of A-Z, 0-9 and _, a letter first"
        )


def least_ratio(prints: Mapping[Finger, int], *, rate: float, calibration: Calibration) -> float:
    """Return the log10 ratio from which two prints of a gallery are put forward; see the module.

    Parameters
    ----------
    prints : mapping of Finger to int
        How many prints of each position the gallery has.
    rate : float
        False-positive rate of the search for one print, in (0, 1).
    calibration : Calibration
        Rates above its tail are answered at the tail's edge.
    """
    total, unknown = sum(prints.values()), prints.get(Finger.UNKNOWN, 0)
    agree = unknown * (total - unknown) + sum(count * (count - 1) / 2 for count in prints.values())
    disagree = total * (total - 1) / 2 - agree
    return threshold_for(calibration, rate * max(total - 1, 0) / 2, agree=agree, disagree=disagree)


def judge(first: Subject, second: Subject, *, least: float, compare: Compare) -> Finding | None:
    """Return what two subjects have in common; None where nothing reaches the threshold.

    Two prints of one file are one print. They say nothing of their subjects, and are left out where the other
    prints are judged.

    Parameters
    ----------
    first, second : Subject
        In the order of their names.
    least : float
        log10 ratio; see the module.
    compare : callable
    """
    files = _of_one_file(product(first.prints, second.prints))
    twice = {one.row for pair in files for one in pair}
    found = _by_ridges(first.without(twice), second.without(twice), least, compare)
    if not files or (found is not None and found.kind is Kind.SAME_PERSON):
        return found
    pairs = (*_of_files(files, compare), *(found.pairs if found else ()))
    return Finding(Kind.ONE_FILE, first.name, second.name, pairs[0].score, pairs)


def files_twice(subject: Subject, *, compare: Compare) -> Finding | None:
    """Return the files that one subject has more than once; None where there are none."""
    files = _of_one_file(combinations(subject.prints, 2))
    if not files:
        return None
    pairs = _of_files(files, compare)
    return Finding(Kind.ONE_FILE, subject.name, subject.name, pairs[0].score, pairs)


def _of_one_file(pairs: Iterable[tuple[Held, Held]]) -> list[tuple[Held, Held]]:
    return [(a, b) for a, b in pairs if a.sha256 is not None and a.sha256 == b.sha256]


def _of_files(files: Sequence[tuple[Held, Held]], compare: Compare) -> tuple[PrintPair, ...]:
    pairs = [
        PrintPair(a.row, b.row, a.finger, b.finger, compare(a.prepared, b.prepared), True) for a, b in files
    ]
    return tuple(sorted(pairs, key=lambda pair: -pair.score))


def _by_ridges(first: Subject, second: Subject, least: float, compare: Compare) -> Finding | None:
    prints, others = first.prints, second.prints
    if not prints or not others:
        return None
    scores = np.array([[compare(a.prepared, b.prepared) for b in others] for a in prints])
    fused = fuse([one.finger for one in prints], [one.finger for one in others], scores)
    pairs = sorted(_pairs(fused, scores, prints, others), key=lambda pair: -pair.worth)
    best = max((pair.worth for pair in pairs), default=-np.inf)
    seen = Finding(Kind.SAME_PERSON, first.name, second.name, fused.score, tuple(pairs))
    outvoted = bool(seen.against) and len(seen.agreeing) <= len(seen.against)
    if fused.score >= least and not outvoted:
        return seen
    kind = Kind.ONE_PRINT if seen.against else Kind.SAME_PERSON
    return replace(seen, kind=kind, score=best) if best >= least else None


def _pairs(
    fused: Fused, scores: NDArray[np.float64], prints: Sequence[Held], others: Sequence[Held]
) -> Iterator[PrintPair]:
    for i, j in fused.pairs.tolist():
        a, b = prints[i], others[j]
        yield PrintPair(a.row, b.row, a.finger, b.finger, float(scores[i, j]))
