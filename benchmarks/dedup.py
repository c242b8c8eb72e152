"""Dedup: duplicates planted in an archive of real prints; how many are found, and what is found beside them.

Persons are made up of fingers of the sets: one finger of each of four sets, drawn anew for every pairing, or
one finger alone. Each stands in a gallery under two names: the first has one of the impressions 1 to 4 of its
fingers and the second one of 5 to 8, or the first has all of 1 to 4 and the second 5 to 7. Of persons of four
fingers every fourth also has one further print filed under the next person's name, and every fourth has the
file of one of its prints under a third name. A node enrols all of it and looks for duplicates as it ships.

What was planted and is not named by the node is missed, prints that the node rejected included. What it names
beside is false, unless the two share a finger. A finger that stands in two sets under two names
(`datasets.SAME_FINGER`) is one finger. No number of the search for duplicates was fitted to these sets; the
calibration of the scores was fitted to all of them.

Intervals of what is found draw persons anew within one pairing at a time, since pairings share fingers. Of
false candidates there are too few to draw: their rate has the exact interval of a Poisson count, as if pairs
of prints were independent. `large` counts what would be found too at the threshold of a gallery of a million
prints, of ten fingers in equal parts: by the scores, without the million.
"""

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from itertools import combinations, groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import chi2

from benchmarks import metrics
from benchmarks.datasets import SAME_FINGER, PrintSet
from benchmarks.metrics import Floats
from benchmarks.runner import Track, dumps, environment, untracked, write_atomic
from enroll.gate import QualityGate
from matcher.calibration import shipped
from matcher.errors import InvalidInput
from matcher.template import Finger
from papilar.deduplication import NEAR_FPIR
from papilar.duplicates import FALSE_PER_PRINT, Case, Kind, least_ratio
from papilar.node import Node
from papilar.prints import ReadPrint, in_turn, read_print
from papilar.requests import Enrolled, Enrollment, PrintInput

FILE = "dedup.json"
FINGERS = 4
POSITIONS = (Finger.RIGHT_INDEX, Finger.RIGHT_MIDDLE, Finger.LEFT_INDEX, Finger.LEFT_MIDDLE)
LARGE = 1_000_000
TEN = tuple(Finger(position) for position in range(1, 11))
IMPRESSIONS = 4
"""On the first side; as many are left for the second, and for a print that is misfiled."""


@dataclass(frozen=True, slots=True)
class FingerPrints:
    """A finger of a set: `name` is `<set>/<finger>`, `prints` its impressions in order."""

    name: str
    prints: tuple[PrintInput, ...]


class Planted(NamedTuple):
    """Two subjects that should be found: as what, in which figures, and of which person."""

    first: str
    second: str
    kind: Kind
    case: str
    person: int


class Archive(NamedTuple):
    """What is enrolled, encounter by encounter; what was planted; and the fingers of every subject."""

    encounters: tuple[Enrollment, ...]
    planted: tuple[Planted, ...]
    fingers: Mapping[str, frozenset[str]]
    persons: int


class Outcome(NamedTuple):
    """What came of an archive: the case of each planted pair or None, and those that are false."""

    archive: Archive
    cases: tuple[Case | None, ...]
    false: tuple[Case, ...]
    prints: int
    seconds: float


def run(
    sets: Sequence[PrintSet],
    out: Path,
    *,
    pairings: int = 4,
    replicates: int = 1000,
    seed: int = 0,
    track: Track = untracked,
) -> dict[str, Any]:
    """Plant, look, and write `dedup.json` into a results folder; return what was written.

    Parameters
    ----------
    sets : sequence of PrintSet
        Four or more, with eight impressions of each finger.
    out : Path
    pairings, replicates, seed : int
        How often persons of four fingers are made up; bootstrap.
    track : callable

    Raises
    ------
    InvalidInput
        Too few sets, or a finger with fewer impressions.
    """
    fingers = [_fingers(each) for each in sets]
    if len(fingers) < FINGERS:
        raise InvalidInput(f"{len(fingers)} sets", remedy=f"name {FINGERS} sets or more")
    read, plans = _Reader(), list(_plans(fingers, pairings, seed))
    figures: dict[str, Any] = {"false_per_print": FALSE_PER_PRINT, "large": LARGE, "cases": []}
    parts: dict[str, list[Outcome]] = {}
    for name, archive in track(plans, "looking for duplicates", len(plans)):
        parts.setdefault(name, []).append(_look(archive, read))
    figures["cases"] = [
        {"archive": name} | measure(outcomes, replicates=replicates, seed=seed)
        for name, outcomes in parts.items()
    ]
    figures["all"] = _false([one for outcomes in parts.values() for one in outcomes])
    figures["environment"] = environment()
    write_atomic(out / FILE, dumps(figures))
    return figures


def measure(outcomes: Sequence[Outcome], *, replicates: int, seed: int) -> dict[str, Any]:
    """Return the rates of archives of one make: found and named rightly, by what was planted; and false."""
    names = dict.fromkeys(one.case for outcome in outcomes for one in outcome.archive.planted)
    found = {name: _found(outcomes, name, replicates, seed) for name in names}
    seconds = sum(outcome.seconds for outcome in outcomes)
    return {"archives": len(outcomes), "seconds": seconds, "planted": found, "false": _false(outcomes)}


# ---- what is planted


def _fingers(each: PrintSet) -> list[FingerPrints]:
    groups = groupby(each.prints, key=lambda one: one.finger)
    made = [
        FingerPrints(
            f"{each.name}/{finger}",
            tuple(PrintInput(image=one.path.read_bytes(), ppi=each.ppi) for one in prints),
        )
        for finger, prints in groups
    ]
    if any(len(finger.prints) < 2 * IMPRESSIONS for finger in made):
        raise InvalidInput(f"{each.name} has fewer than {2 * IMPRESSIONS} impressions", remedy="leave it out")
    return made


def _plans(sets: Sequence[Sequence[FingerPrints]], pairings: int, seed: int) -> Iterator[tuple[str, Archive]]:
    """Yield every archive under the name of its make: how many fingers, and impressions of each."""
    alone = [(finger,) for fingers in sets for finger in fingers]
    for taken in range(IMPRESSIONS):
        yield "1 finger, 1 impression", _archive(alone, [taken], seed)
    yield f"1 finger, {IMPRESSIONS} impressions", _archive(alone, list(range(IMPRESSIONS)), seed)
    for pairing in range(pairings):
        people = list(_people(sets, np.random.default_rng([seed, pairing])))
        for taken in range(IMPRESSIONS):
            yield f"{FINGERS} fingers, 1 impression", _archive(people, [taken], seed)
        whole = _archive(people, list(range(IMPRESSIONS)), seed)
        yield f"{FINGERS} fingers, {IMPRESSIONS} impressions", whole


def _people(
    sets: Sequence[Sequence[FingerPrints]], random: np.random.Generator
) -> Iterator[tuple[FingerPrints, ...]]:
    order = random.permutation(len(sets)).tolist()
    for at in range(0, len(order) - FINGERS + 1, FINGERS):
        group = [sets[k] for k in order[at : at + FINGERS]]
        rows = [random.permutation(len(part)).tolist() for part in group]
        for places in zip(*rows, strict=False):
            yield tuple(part[place] for part, place in zip(group, places, strict=True))


def _archive(people: Sequence[Sequence[FingerPrints]], taken: Sequence[int], seed: int) -> Archive:
    """Put every person in twice; of persons of several fingers also a misfiled print, or a file, for some."""
    second = [k + IMPRESSIONS for k in taken if len(taken) == 1 or k + 1 < IMPRESSIONS]
    further = (taken[0] + 1) % IMPRESSIONS if len(taken) == 1 else 2 * IMPRESSIONS - 1
    encounters: list[Enrollment] = []
    planted: list[Planted] = []
    for n, person in enumerate(people):
        encounters += [_card(f"{n:03}", person, taken)]
        encounters += [_card(f"{n:03}-again", person, second)]
        planted += [Planted(f"{n:03}", f"{n:03}-again", Kind.SAME_PERSON, "person", n)]
        if len(person) > 1 and n % 4 == 0:
            other = f"{(n + 1) % len(people):03}"
            encounters += [_one(other, person, 0, further)]
            planted += [_planted(f"{n:03}", other, n)]
            planted += [_planted(f"{n:03}-again", other, n)]
        if len(person) > 1 and n % 4 == 2:
            encounters += [_one(f"{n:03}-file", person, 1, taken[0])]
            planted += [Planted(f"{n:03}", f"{n:03}-file", Kind.ONE_FILE, "file", n)]
            planted += [
                Planted(f"{n:03}-again", f"{n:03}-file", Kind.SAME_PERSON, "one finger of several", n)
            ]
    order = np.random.default_rng(seed).permutation(len(encounters)).tolist()
    return Archive(tuple(encounters[k] for k in order), tuple(planted), _owned(people), len(people))


def _planted(name: str, other: str, person: int) -> Planted:
    return Planted(min(name, other), max(name, other), Kind.ONE_PRINT, "misfiled print", person)


def _card(name: str, person: Sequence[FingerPrints], taken: Sequence[int]) -> Enrollment:
    prints = [
        replace(finger.prints[k], finger=position)
        for finger, position in zip(person, POSITIONS, strict=False)
        for k in taken
    ]
    return Enrollment(tuple(prints), subject_id=name)


def _one(name: str, person: Sequence[FingerPrints], place: int, impression: int) -> Enrollment:
    return Enrollment((replace(person[place].prints[impression], finger=POSITIONS[place]),), subject_id=name)


def _owned(people: Sequence[Sequence[FingerPrints]]) -> dict[str, frozenset[str]]:
    """Return the fingers under each name; what is not planted and shares none is false."""
    owned: dict[str, frozenset[str]] = {}
    for n, person in enumerate(people):
        fingers = frozenset(_canonical(finger.name) for finger in person)
        owned |= {f"{n:03}{tail}": fingers for tail in ("", "-again", "-file")}
    return owned


def _canonical(name: str) -> str:
    return next((min(names) for names in SAME_FINGER if name in names), name)


# ---- what a node says of it


class _Reader:
    """Reads each image once for all archives, as a node does."""

    def __init__(self) -> None:
        self._known: dict[bytes, ReadPrint] = {}

    def __call__(
        self,
        prints: Sequence[PrintInput],
        *,
        keep_images: bool = False,
        deadline: float | None = None,
        gate: QualityGate | None = None,
    ) -> list[ReadPrint]:
        return in_turn(prints, self._once)

    def _once(self, given: PrintInput) -> ReadPrint:
        key = sha256(given.image or b"").digest()
        if key not in self._known:
            self._known[key] = read_print(given)
        read = self._known[key]
        return read._replace(
            assessment=read.assessment._replace(finger=given.finger),
            template=replace(read.template, finger=given.finger),
        )


def _look(archive: Archive, read: _Reader) -> Outcome:
    with (
        tempfile.TemporaryDirectory(prefix="benchmark-") as folder,
        Node(Path(folder) / "gallery", create=True, keep_images=False, read=read) as node,
    ):
        done = [node.enroll(new) for new in archive.encounters]
        started = time.perf_counter()
        found = [one for one in node.duplicates.find() if isinstance(one, Case)]
        seconds = time.perf_counter() - started
    prints = sum(p.accepted for one in done if isinstance(one, Enrolled) for p in one.prints)
    by_pair = {(one.finding.first, one.finding.second): one for one in found}
    cases = tuple(by_pair.pop((one.first, one.second), None) for one in archive.planted)
    return Outcome(archive, cases, tuple(_strangers(by_pair, archive)), prints, seconds)


def _strangers(found: Mapping[tuple[str, str], Case], archive: Archive) -> Iterator[Case]:
    for (first, second), case in found.items():
        if not archive.fingers[first] & archive.fingers[second]:
            yield case


# ---- figures


def _found(outcomes: Sequence[Outcome], name: str, replicates: int, seed: int) -> dict[str, Any]:
    tables = [_table(outcome, name) for outcome in outcomes]
    each = -(-replicates // len(tables))
    drawn = np.concatenate([_drawn(table, each, seed + k) for k, table in enumerate(tables)])
    totals = np.sum([table.sum(axis=0) for table in tables], axis=0)
    rates = metrics.estimates(("found", "named", "large"), totals[1:] / totals[0], drawn)
    return {"planted": int(totals[0])} | {key: asdict(value) for key, value in rates.items()}


def _table(outcome: Outcome, name: str) -> Floats:
    """Count by person, (persons, 4): planted, found, named rightly too, found in a large gallery."""
    table = np.zeros((outcome.archive.persons, 4))
    for one, case in zip(outcome.archive.planted, outcome.cases, strict=True):
        if one.case == name:
            seen = case is not None, case is not None and case.finding.kind is one.kind, _in_large(case)
            table[one.person] += (1, *seen)
    return table


def _in_large(case: Case | None) -> bool:
    if case is None:
        return False
    if case.finding.kind is Kind.ONE_FILE:
        return True
    least, near = (
        least_ratio(dict.fromkeys(TEN, LARGE // len(TEN)), rate=rate, calibration=shipped())
        for rate in (FALSE_PER_PRINT, NEAR_FPIR)
    )
    return case.finding.score >= least and case.finding.pairs[0].score >= near


def _drawn(table: Floats, replicates: int, seed: int) -> Floats:
    weights = metrics.draw([len(table)], ["persons"], replicates=replicates, seed=seed)
    sums = weights @ table
    with np.errstate(invalid="ignore"):
        return np.asarray(sums[:, 1:] / sums[:, :1], np.float64)


def _false(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    count = sum(len(outcome.false) for outcome in outcomes)
    prints = sum(outcome.prints for outcome in outcomes)
    pairs = sum(_stranger_pairs(outcome.archive) for outcome in outcomes)
    low = float(chi2.ppf(0.025, 2 * count)) / 2 if count else 0.0
    high = float(chi2.ppf(0.975, 2 * count + 2)) / 2
    return {
        "candidates": count,
        "prints": prints,
        "stranger_pairs": pairs,
        "per_print": {"value": count / prints, "low": low / prints, "high": high / prints},
    }


def _stranger_pairs(archive: Archive) -> int:
    names = sorted({one.subject_id for one in archive.encounters})
    return sum(not archive.fingers[a] & archive.fingers[b] for a, b in combinations(names, 2))
