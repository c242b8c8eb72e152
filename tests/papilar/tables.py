"""The tables of a new store, which Alembic works out once a test process instead of once a test."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, event

from papilar.store import migrations

Statement = tuple[str, Any]
"""SQL, and its values."""


class Remembered:
    """What the versions say to an empty data base of each kind is noted, and said again to the next one.

    The first new store of each kind in a process is still made by the versions themselves, and so is every
    older one that is brought up to date. test_store_migrations.py has all of its stores made `anew`.
    """

    def __init__(self) -> None:
        self.anew = migrations.upgrade
        self.scripts = migrations._scripts
        self._said: dict[str, list[Statement]] = {}

    def upgrade(self, connection: Connection, version: int) -> None:
        """Stand in for `migrations.upgrade`."""
        kind = connection.dialect.name
        if version or migrations._scripts is not self.scripts:
            self.anew(connection, version)
        elif kind in self._said:
            for statement, values in self._said[kind]:
                connection.exec_driver_sql(statement, values or None)
        else:
            with _noting(connection) as said:
                self.anew(connection, version)
            self._said[kind] = said


@contextmanager
def _noting(connection: Connection) -> Iterator[list[Statement]]:
    said: list[Statement] = []

    def note(_: object, __: object, statement: str, values: Any, *___: object) -> None:
        if not statement.lstrip().startswith(("SELECT", "PRAGMA")):
            said.append((statement, values))

    event.listen(connection, "before_cursor_execute", note)
    try:
        yield said
    finally:
        event.remove(connection, "before_cursor_execute", note)
