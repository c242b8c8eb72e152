"""What the steps of a search lose and cost: real mates hidden among synthetic fingers.

    python -m benchmarks.cascade --data DATA --fingers 100000 --out cascade.json

Every print of the sets is a probe. Its mates, all other prints of its finger, and one after the other, lie
among the synthetic fingers; the share of those that score above a mate is the penetration at which that mate
is reached, and the pre-selection error at a penetration is the share of mates that are reached later. The
same among the prints of the other real fingers, which are of few sensors, stands beside it.

The recall is that of the whole cascade: the first impression of each finger is hidden among the synthetic
ones, the others are probes. A mate that the full comparison would not score above the false-match rate
`SURE_FMR` is left out: an exhaustive search would not find it first either.

Persons are put together at random, each out of ten fingers of the sets, and hidden among synthetic ones.
`LEAST_KEPT` is left out there, so that as small a share of them remains as of a large gallery.

Times are of one processor, CPU time, and of the compiled step alone.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from benchmarks.datasets import SAME_FINGER, PrintSet, load
from benchmarks.synthetic.templates import fingers
from enroll.image import read_image
from enroll.pipeline import extract
from matcher import cascade, compact
from matcher.calibration import shipped
from matcher.cascade import Found, Look, Part, Wanted, settle
from matcher.compact import QUICK, THOROUGH, Compact, Depth, Held
from matcher.compare import score as compare_score
from matcher.cylinders import Prepared, frozen, prepare
from matcher.template import Finger

SEED = 1
PENETRATIONS = (0.005, 0.01, 0.02, 0.05, 0.1)
SHORTLISTS = (1, 10, 20, 50, 100, 200, 500)
SHUFFLES = 16
"""Times that the fingers of the sets are put together to persons."""
SURE_FMR = 1e-6

Floats = NDArray[np.float64]


class Real(NamedTuple):
    """A print of the sets."""

    finger: str
    prepared: Prepared


@dataclass(frozen=True, slots=True)
class Lost:
    """What a step loses, and its cost.

    Attributes
    ----------
    among_synthetic, among_real : mapping of str to float
        Pre-selection error in percent by penetration in percent.
    pairs : int
        Of a probe and a mate.
    microseconds : float
        A finger, median over the probes.
    """

    among_synthetic: dict[str, float]
    among_real: dict[str, float]
    pairs: int
    microseconds: float


def main() -> None:
    """Extract, draw, measure, write."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--data", type=Path, required=True)
    asked.add_argument("--fingers", type=int, default=100_000)
    asked.add_argument("--out", type=Path, required=True)
    given = asked.parse_args()
    real, gallery = read(load(given.data).sets), synthetic(given.fingers)
    size = sum(array.nbytes for array in gallery) / given.fingers
    made: dict[str, Any] = {"fingers": given.fingers, "bytes_a_finger": size}
    for name, depth in (("quick", QUICK), ("thorough", THOROUGH)):
        made[name] = asdict(lost(real, gallery, depth))
    made["recall"] = recall(real, gallery)
    made["persons"] = persons(real, gallery)
    given.out.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")


def read(sets: Sequence[PrintSet]) -> list[Real]:
    """Return the prints of some sets; a finger that stands in two has one name."""
    first = {other: min(same) for same in SAME_FINGER for other in same}
    made = []
    for one in sets:
        for each in one.prints:
            name = f"{one.name}/{each.finger}"
            found = extract(read_image(each.path.read_bytes(), ppi=one.ppi))
            made.append(Real(first.get(name, name), prepare(found.template)))
    return made


def synthetic(count: int) -> Held:
    """Return the compact cylinders of so many synthetic fingers."""
    return held([compact.compact(prepare(template)) for template in fingers(SEED, 0, count)])


def held(prints: Sequence[Compact]) -> Held:
    """Return prints as a segment holds them."""
    words, codes = (np.concatenate([one[part] for one in prints]) for part in (0, 1))
    return Held(frozen(words), frozen(codes), frozen(np.cumsum([0, *(len(one.words) for one in prints)])))


def lost(real: Sequence[Real], gallery: Held, depth: Depth) -> Lost:
    """Return what a step loses of all pairs of mates, and its cost."""
    others, slots = held([compact.compact(one.prepared) for one in real]), np.arange(len(gallery.starts) - 1)
    names = np.array([one.finger for one in real])
    synthetic_share, real_share, taken = [], [], []
    for number, one in enumerate(real):
        sought = compact.seek(one.prepared, depth)
        near = compact.score(sought, others, np.arange(len(real)))
        began = time.thread_time()
        far = compact.score(sought, gallery, slots)
        taken.append((time.thread_time() - began) / len(slots) * 1e6)
        same = names == one.finger
        for mate in np.flatnonzero(same & (np.arange(len(real)) != number)).tolist():
            synthetic_share.append(above(far, near[mate]))
            real_share.append(above(near[~same], near[mate]))
    return Lost(_errors(synthetic_share), _errors(real_share), len(real_share), float(np.median(taken)))


def above(scores: NDArray[np.float32], score: float) -> float:
    """Return the share of scores above one, of those that equal it half."""
    return float((scores > score).mean() + (scores == score).mean() / 2)


def recall(real: Sequence[Real], gallery: Held) -> dict[str, float]:
    """Return the share of sure mates, in percent, that stand among the first so many of the shortlist."""
    firsts = {one.finger: number for number, one in reversed([*enumerate(real)])}
    enrolled = held([compact.compact(real[number].prepared) for number in firsts.values()])
    parts = [_part(enrolled, 0), _part(gallery, len(firsts))]
    least, ranks = shipped().threshold(SURE_FMR), []
    for number, one in enumerate(real):
        mate = firsts[one.finger]
        if number != mate and compare_score(one.prepared, real[mate].prepared) >= least:
            found = _shortlist([Wanted(one.prepared)], parts)
            ranks.append(_rank(found, list(firsts).index(one.finger), len(firsts)))
    return {"probes": len(ranks)} | _shares(ranks)


def persons(real: Sequence[Real], gallery: Held) -> dict[str, dict[str, float]]:
    """Return the share of persons of ten fingers, in percent, that stand among the first so many encounters.

    Positions as they are, with the hands taken for each other, and with two fingers exchanged.
    """
    rng, ranks = np.random.default_rng(SEED), {"as they are": [], "hands": [], "two fingers": []}  # type: ignore[var-annotated]
    names = sorted({one.finger for one in real})
    for _ in range(SHUFFLES):
        for some in rng.permutation(len(names))[: len(names) // 10 * 10].reshape(-1, 10).tolist():
            prints = [[one.prepared for one in real if one.finger == names[k]] for k in some]
            parts = [_part(held([compact.compact(each[0]) for each in prints]), 0), _part(gallery, 10)]
            probe = [each[int(rng.integers(1, len(each)))] for each in prints]
            two = rng.permutation(10)[:2]
            for how, order in (
                ("as they are", np.arange(10)),
                ("hands", (np.arange(10) + 5) % 10),
                ("two fingers", _exchanged(two)),
            ):
                wanted = [Wanted(one, Finger(k + 1)) for one, k in zip(probe, order.tolist(), strict=True)]
                with patch.object(cascade, "LEAST_KEPT", 0):
                    ranks[how].append(_rank(_shortlist(wanted, parts), 0, 10))
    return {how: {"probes": len(some)} | _shares(some) for how, some in ranks.items()}


def _exchanged(two: NDArray[np.int64]) -> NDArray[np.int64]:
    order = np.arange(10)
    order[two] = two[::-1]
    return order


def _part(some: Held, first: int) -> Part:
    """Return prints as a part of a gallery: ten rows that follow each other are one encounter's."""
    slots = np.arange(len(some.starts) - 1)
    rows = slots + first
    return Part(some, slots, rows, (slots % 10 + 1).astype(np.uint8), rows - slots % 10)


def _shortlist(probe: Sequence[Wanted], parts: Sequence[Part]) -> Found:
    look = Look(probe, parts)
    return settle([look], look.kept, limit=10**9)


def _rank(found: Found, mate: int, own: int) -> float:
    """Return how many units of `own` and above come before one; infinite where it was dropped."""
    at = np.flatnonzero(found.units == mate)
    return float((found.units[: at[0]] >= own).sum()) if len(at) else np.inf


def _shares(ranks: Sequence[float]) -> dict[str, float]:
    return {str(k): 100 * float(np.mean(np.array(ranks) < k)) for k in SHORTLISTS}


def _errors(shares: Sequence[float]) -> dict[str, float]:
    reached = np.array(shares)
    return {f"{100 * p:g}": 100 * float((reached > p).mean()) for p in PENETRATIONS}


if __name__ == "__main__":
    main()
