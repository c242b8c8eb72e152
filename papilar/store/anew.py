"""Prints that were extracted anew, beside those in force. For `papilar.reextraction`.

A row belongs to the generation that it was made for. While that is the gallery's next, nobody else reads it;
once it is the gallery's, every reader takes it in place of the print's own template. `settle` moves it there.
A row without a template says why there is none, and stays until the next time.
"""

from collections.abc import Iterable
from typing import NamedTuple
from zlib import crc32

from sqlalchemy import and_, delete, func, insert, not_, or_, select, update

from matcher.template import Finger, Impression
from papilar.store import rows as sql
from papilar.store.engine import Part
from papilar.store.schema import anew, image, print_


class Source(NamedTuple):
    """A print that is to be extracted anew, and from what.

    `original` is the name of its file, read at `ppi` where that is not None; `png` is its image at 500 ppi,
    where that alone is kept.
    """

    row: int
    finger: Finger
    impression: Impression
    original: bytes | None
    ppi: float | None
    png: bytes | None


class Anew(NamedTuple):
    """A print extracted anew; or, without a template, why it was not."""

    row: int
    reason: str = ""
    quality: int | None = None
    minutiae: int | None = None
    template: bytes | None = None


class AnewRows(Part):
    """Part of a store, `Store.anew`; each method is one transaction."""

    def begin(self, extractor: str) -> int:
        """Forget what is of no more use, and return the generation to be made; what is of it is kept."""
        with self._write() as connection:
            force = sql.generation(connection)
            of_use = or_(anew.c.generation <= force, anew.c.extractor == extractor)
            kept = and_(anew.c.template.is_not(None), of_use)  # what failed is tried again
            connection.execute(delete(anew).where(not_(kept)))
        return force + 1

    def sources(self, after_row: int, until_row: int, most: int) -> list[Source]:
        """Return the first prints in a range of rows that were not extracted anew yet."""
        p = print_.c
        alone = and_(image.c.row == p.row, p.original.is_(None))
        query = (
            select(p.row, p.finger, p.impression, p.original, p.original_ppi, image.c.png)
            .select_from(print_.outerjoin(anew, anew.c.row == p.row).outerjoin(image, alone))
            .where(p.row > after_row, p.row <= until_row, anew.c.row.is_(None))
            .order_by(p.row)
            .limit(most)
        )
        with self._read() as connection:
            return [
                Source(row, Finger(finger), Impression(impression), *rest)
                for row, finger, impression, *rest in connection.execute(query)
            ]

    def write(self, generation: int, extractor: str, made: Iterable[Anew]) -> None:
        """Keep what was extracted; of a print that was deleted meanwhile, nothing."""
        values = [
            one._asdict()
            | {"generation": generation, "extractor": extractor}
            | {"crc32": None if one.template is None else crc32(one.template)}
            for one in made
        ]
        with self._write() as connection:
            rows = print_.c.row.in_([value["row"] for value in values])
            alive = set(connection.scalars(select(print_.c.row).where(rows)))
            some = [value for value in values if value["row"] in alive]
            if some:
                connection.execute(insert(anew), some)

    def count(self) -> int:
        """Count the prints that were extracted anew, and are not settled."""
        query = select(func.count()).select_from(anew).where(anew.c.template.is_not(None))
        with self._read() as connection:
            return connection.scalar(query) or 0

    def failures(self, most: int) -> list[tuple[int, str, int, str]]:
        """Return row, encounter, ordinal and reason of prints that were not to be had."""
        p = print_.c
        query = select(p.row, p.encounter_id, p.ordinal, anew.c.reason).join(anew, anew.c.row == p.row)
        with self._read() as connection:
            found = connection.execute(query.where(anew.c.reason != "").order_by(p.row).limit(most))
            return [(row, encounter, ordinal, reason) for row, encounter, ordinal, reason in found]

    def settle(self, after_row: int, most: int) -> int:
        """Move the first templates after a row that are in force into their prints.

        Returns
        -------
        int
            The last row that was moved; 0 where there was none.
        """
        with self._write() as connection:
            due = and_(anew.c.generation <= sql.generation(connection), anew.c.template.is_not(None))
            next_ = select(anew).where(due, anew.c.row > after_row).order_by(anew.c.row).limit(most)
            found = connection.execute(next_).all()
            for one in found:
                own = {name: getattr(one, name) for name in ("template", "crc32", "minutiae", "quality")}
                connection.execute(update(print_).where(print_.c.row == one.row).values(own))
                connection.execute(delete(anew).where(anew.c.row == one.row))
        return int(found[-1].row) if found else 0
