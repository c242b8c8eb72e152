"""The galleries of the scaling benchmark: which row is what, and ten galleries laid out of one.

A gallery of ten million fingers is a tenth of them laid out ten times (`Multiplied`): time and memory are
those of ten million different prints, but an impostor's score comes ten times over, each time of another
person. What is compared in full stays in the gallery itself: it would not fit on a disk ten times, and is
read of few prints.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from matcher import cascade
from matcher.calibration import Calibration
from matcher.cascade import Found, Look, Part, Spread, Wanted
from matcher.compact import Held
from matcher.cylinders import Prepared
from matcher.gallery import Gallery
from matcher.search import Owner
from matcher.segment import Place, SealedSegment
from matcher.template import Finger

FINGERS = 10
"""Of a person."""

_HELD = ("rows", "words", "codes", "starts")

Rows = NDArray[np.int64]


class Plan(NamedTuple):
    """Which row of a gallery is what. Ten rows from a multiple of ten are the fingers of one person.

    Persons at equal distances are real: the hidden fingers, ten by ten. All else is the synthetic finger of
    the row's number. With `copies` the gallery is laid out so many times: row numbers go on, and the fingers
    of each position, other than those of real persons, are dealt to other persons in each copy.
    """

    folder: Path
    size: int
    seed: int
    ridges: bool
    hidden: int
    copies: int = 1

    @property
    def alive(self) -> Rows:
        """All rows of the gallery itself."""
        return np.arange(self.size, dtype=np.int64)

    @property
    def total(self) -> int:
        """Where row numbers end, copies included."""
        return self.size * self.copies

    @property
    def persons(self) -> int:
        """Persons of the gallery itself."""
        return self.size // FINGERS

    @property
    def real(self) -> range:
        """The persons whose fingers are hidden ones."""
        count = -(-self.hidden // FINGERS)
        return range(0, count * (self.persons // count), self.persons // count)

    @property
    def hidden_rows(self) -> list[int]:
        """The rows of the hidden fingers, in their order."""
        return [self.row_of(number) for number in range(self.hidden)]

    def row_of(self, number: int) -> int:
        """Return the row of a hidden finger."""
        return FINGERS * self.real[number // FINGERS] + number % FINGERS

    def place(self, row: int) -> Place:
        """Return finger and encounter of a row."""
        return Place(Finger(row % FINGERS + 1), row // FINGERS * FINGERS)

    def copied(self, rows: Rows, copy: int) -> Rows:
        """Return the row numbers that the prints of some rows of the gallery itself have in a copy."""
        person, position = np.divmod(rows, FINGERS)
        return copy * self.size + (person + self._shift(copy, position)) % self.persons * FINGERS + position

    def source(self, row: int) -> int:
        """Return the row of the gallery itself that holds the same print; what was added later is its own."""
        if row >= self.total:
            return row
        copy, rest = divmod(row, self.size)
        person, position = divmod(rest, FINGERS)
        return (person - int(self._shift(copy, position))) % self.persons * FINGERS + position

    def _shift(self, copy: int, position: int | Rows) -> Rows:
        """Return how many persons on a finger is dealt: different for each position of each copy."""
        return np.asarray((FINGERS * (copy - 1) + position + 1) * (copy > 0), np.int64)


class People:
    """The directory of a plan, whose subjects are named by their number."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def owners(self, rows: Collection[int]) -> Mapping[int, Owner]:
        """Return the owner of each row."""
        return {row: Owner(name_of(row), name_of(row), self._plan.place(row).finger) for row in rows}

    def rows_of(self, encounters: Collection[str]) -> Collection[int]:
        """Return the rows of all prints of these encounters."""
        first = [FINGERS * int(encounter.removeprefix("person-")) for encounter in encounters]
        return [row for begin in first for row in range(begin, begin + FINGERS)]


def name_of(row: int) -> str:
    """Return the name of the person of a row, which is its encounter's too."""
    return f"person-{row // FINGERS}"


# ---- a gallery laid out several times


class Multiplied:
    """A gallery and copies of it (`lay_out`), as one: what `LocalSearcher` searches. See `Plan.copied`."""

    def __init__(self, gallery: Gallery, plan: Plan) -> None:
        self._gallery, self._plan = gallery, plan
        self._parts = [
            _part(plan, path.name.removesuffix("rows.npy"), copy)
            for copy in range(1, plan.copies)
            for path in sorted(_copies(plan).glob(f"*-{copy}-rows.npy"))
        ]

    @property
    def rows(self) -> Rows:
        """Row numbers that a search reaches, ascending."""
        return np.sort(np.concatenate([self._gallery.rows, *(part.rows[part.slots] for part in self._parts)]))

    def __len__(self) -> int:
        return len(self._gallery) + sum(len(part.slots) for part in self._parts)

    def shortlist(
        self,
        probe: Sequence[Wanted],
        *,
        limit: int,
        first: int,
        penetration: float,
        spread: Spread,
        deadline: float | None = None,
    ) -> Found:
        """Return the prints worth a full comparison; see `Gallery.shortlist`."""
        total = len(self)
        looks = [self._gallery.look(probe, total=total, penetration=penetration, spread=spread)]
        if self._parts:
            looks.append(Look(probe, self._parts, total=total, penetration=penetration, spread=spread))
        return cascade.settle(looks, looks[0].kept, limit=limit, first=first)

    def scores(
        self, probe: Sequence[Prepared], pairs: Sequence[tuple[int, int]], calibration: Calibration
    ) -> list[float]:
        """Compare prints in full; see `Gallery.scores`."""
        sources = [(number, self._plan.source(row)) for number, row in pairs]
        return self._gallery.scores(probe, sources, calibration)


def lay_out(plan: Plan) -> None:
    """Write what a search reads of the prints of a sealed gallery, once more for each copy.

    Those of real persons are left out.
    """
    folder = _copies(plan)
    folder.mkdir(mode=0o700, exist_ok=True)
    for path in [*folder.iterdir()]:
        path.unlink()
    for path in sorted(plan.folder.glob("segment-*.pps")):
        arrays = _without(SealedSegment(path), plan.real)
        for copy in range(1, plan.copies):
            for name, array in zip(_HELD, arrays, strict=True):
                np.save(folder / f"{path.stem}-{copy}-{name}.npy", array)


def _without(segment: SealedSegment, persons: Sequence[int]) -> tuple[NDArray[Any], ...]:
    """Return rows, words, codes and starts of a segment without those of some persons."""
    kept = ~np.isin(segment.rows // FINGERS, persons)
    words, codes, starts = segment.held
    lengths = np.diff(starts)
    mine = np.repeat(kept, lengths)
    ends = np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths[kept])))
    return segment.rows[kept], words[mine], codes[mine], ends


def _copies(plan: Plan) -> Path:
    return plan.folder / "copies"


def _part(plan: Plan, stem: str, copy: int) -> Part:
    """Return a copy of a segment as the cascade takes it."""
    rows, *held = (np.asarray(np.load(_copies(plan) / f"{stem}{name}.npy", mmap_mode="r")) for name in _HELD)
    renumbered, fingers = plan.copied(rows, copy), (rows % FINGERS + 1).astype(np.uint8)
    return Part(Held(*held), np.arange(len(rows)), renumbered, fingers, renumbered // FINGERS * FINGERS)
