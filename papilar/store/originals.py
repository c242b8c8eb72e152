"""Which originals the prints refer to, and which are to be erased. For `papilar.originals`."""

from collections.abc import Collection, Iterator

from sqlalchemy import delete, func, select

from papilar.store import rows as sql
from papilar.store.engine import Part
from papilar.store.schema import erasure, print_

_BATCH = 4096


class OriginalRows(Part):
    """Part of a store, `Store.originals`; each method is one short transaction."""

    def used(self) -> Iterator[tuple[bytes, int]]:
        """Yield each original that a print refers to, and the first row that does; by name."""
        after, p = b"", print_.c
        while True:
            batch = select(p.original, func.min(p.row)).where(p.original > after).group_by(p.original)
            with self._read() as connection:
                found = connection.execute(batch.order_by(p.original).limit(_BATCH)).all()
            yield from ((bytes(name), row) for name, row in found)
            if len(found) < _BATCH:
                return
            after = found[-1][0]

    def unused(self, names: Collection[bytes]) -> list[bytes]:
        """Return those of some originals that no print refers to."""
        with self._read() as connection:
            return sql.unused_originals(connection, names)

    def waiting(self) -> list[bytes]:
        """Return the originals that are to be erased."""
        with self._read() as connection:
            return [bytes(name) for name in connection.scalars(select(erasure.c.name))]

    def spare(self, name: bytes) -> bool:
        """Note that an original is not to be erased, if a print refers to it; return whether one does.

        One transaction: the last print that refers to it is deleted before, and nothing is noted, or after,
        and its deletion notes the original anew.
        """
        with self._write() as connection:
            used = not sql.unused_originals(connection, [name])
            if used:
                connection.execute(delete(erasure).where(erasure.c.name == name))
            return used

    def forget(self, name: bytes) -> None:
        """Note that an original is erased."""
        with self._write() as connection:
            connection.execute(delete(erasure).where(erasure.c.name == name))
