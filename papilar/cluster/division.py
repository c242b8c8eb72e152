"""Which part of a gallery has which row: all prints of an encounter are in one.

The division follows from the number of an encounter alone, so nobody has to remember it.
"""

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from matcher.segment import Rows

_ODD = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio, as in Fibonacci hashing


def part_of(encounters: Rows, parts: int) -> NDArray[np.int64]:
    """Return the part of each encounter, from the number of its first row: 0 to `parts` less 1.

    Notes
    -----
    Those numbers may all have one last digit, say where all have ten prints. So they are scattered first.
    """
    scattered = (encounters.astype(np.uint64) * _ODD) >> np.uint64(33)
    part: NDArray[np.int64] = (scattered % np.uint64(parts)).astype(np.int64)
    return part


class Division:
    """The rows of a gallery and their parts. Whoever uses it excludes others.

    Parameters
    ----------
    rows : ndarray of int64
        Row numbers, ascending.
    encounters : ndarray of int64
        The first row of each one's encounter.
    parts : int
        How many; an attribute, too.
    """

    def __init__(self, rows: Rows, encounters: Rows, parts: int) -> None:
        self.parts = parts
        self._size = self._living = len(rows)  # slots in use; those of rows that are there
        self._rows, self._encounters = rows.astype(np.int64), encounters.astype(np.int64)
        self._alive = np.ones(len(rows), np.bool_)

    def __len__(self) -> int:
        return self._living

    @property
    def rows(self) -> Rows:
        """All rows, ascending."""
        return self._rows[: self._size][self._alive[: self._size]]

    def rows_of(self, part: int) -> Rows:
        """Return the rows of a part, ascending."""
        parts = part_of(self._encounters[: self._size], self.parts)
        rows: Rows = self._rows[: self._size][self._alive[: self._size] & (parts == part)]
        return rows

    def find(self, row: int) -> int | None:
        """Return the part of a row; None where it is not there."""
        encounter = self.encounter(row)
        return None if encounter is None else self._part(encounter)

    def encounter(self, row: int) -> int | None:
        """Return the first row of a row's encounter; None where the row is not there."""
        slot = self._slot(row)
        known = slot < self._size and self._rows[slot] == row and self._alive[slot]
        return int(self._encounters[slot]) if known else None

    def add(self, row: int, encounter: int) -> int | None:
        """Take a row in and return its part; None where it is there already."""
        slot = self._slot(row)
        if slot == self._size or self._rows[slot] != row:
            self._insert(slot, row, encounter)
        elif self._alive[slot]:
            return None
        self._alive[slot] = True
        self._living += 1
        return self._part(encounter)

    def drop(self, rows: Collection[int]) -> dict[int, list[int]]:
        """Take rows out that are there; return them by their parts."""
        gone: dict[int, list[int]] = {}
        for row in rows:
            if (part := self.find(row)) is not None:
                self._alive[self._slot(row)] = False
                self._living -= 1
                gone.setdefault(part, []).append(row)
        return gone

    def _part(self, encounter: int) -> int:
        return int(part_of(np.array([encounter]), self.parts)[0])

    def _slot(self, row: int) -> int:
        """Return where a row is, or belongs."""
        return int(np.searchsorted(self._rows[: self._size], row))

    def _insert(self, slot: int, row: int, encounter: int) -> None:
        """Make a slot for a row; that is the last one but where an old row comes back."""
        if self._size == len(self._rows):
            more = np.zeros(max(self._size, 1024), np.int64)
            self._rows, self._encounters = (np.append(old, more) for old in (self._rows, self._encounters))
            self._alive = np.append(self._alive, more.astype(np.bool_))
        for array, value in ((self._rows, row), (self._encounters, encounter), (self._alive, False)):
            array[slot + 1 : self._size + 1] = array[slot : self._size]
            array[slot] = value
        self._size += 1
