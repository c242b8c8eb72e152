"""Who writes to the data base: one connection at a time, and on PostgreSQL the one that holds the lock.

SQLite's file is in a folder that is locked as a whole, so any connection may write. A PostgreSQL server has
other clients. There the right to write is a lock of one session, and all that is written goes through that
session: when its connection is lost, so is the lock, and nothing is written until a new connection has it
again. The server gives it only when the old session has ended, its last transaction committed or undone.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from sqlalchemy import Connection, Engine, func, select
from sqlalchemy.exc import DBAPIError

from papilar.errors import GalleryLocked
from papilar.store import engine as engines
from papilar.store.schema import APPLICATION_ID

_PATIENCE_MS = 2000  # for the session of a process that was killed a moment ago


class Writer(Protocol):
    """The way to write to one data base; one thread at a time."""

    def hold(self) -> int:
        """Make sure of the right to write, and return how often it was taken; from 1.

        Raises
        ------
        GalleryLocked, StorageUnavailable
        """

    def transaction(self) -> AbstractContextManager[Connection]:
        """Yield a connection in a transaction: committed at the end, undone by any exception.

        Raises
        ------
        GalleryLocked, StorageFull, StorageUnavailable, GalleryCorrupt
        """

    def close(self) -> None:
        """Give up the right to write; a second call does nothing."""


def open_writer(engine: Engine) -> Writer:
    """Return the writer that suits a data base, with the right to write.

    Raises
    ------
    GalleryLocked
        Another session has it.
    StorageUnavailable
    """
    return SessionWriter(engine) if engine.dialect.name == "postgresql" else FileWriter(engine)


class FileWriter:
    """Writes to an SQLite file, which its folder's lock keeps for this process."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def hold(self) -> int:
        """Return 1: the folder's lock is never lost."""
        return 1

    def transaction(self) -> AbstractContextManager[Connection]:
        """Yield a connection in a transaction; see `Writer`."""
        return engines.transaction(self._engine, writes=True)

    def close(self) -> None:
        """Do nothing: the folder's lock belongs to the store."""


class SessionWriter:
    """Writes to PostgreSQL through the session that holds the advisory lock of the data base's schema."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Connection | None = None
        self._taken = 0
        self.hold()

    def hold(self) -> int:
        """Return how often the lock was taken, after taking it anew where the connection was lost."""
        if self._connection is None or not _is_alive(self._connection):
            self.close()
            with engines.translated():
                self._connection = _lock(self._engine)
            self._taken += 1
        return self._taken

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Yield the connection that holds the lock, in a transaction; see `Writer`."""
        self.hold()
        if self._connection is not None:
            with engines.translated(), self._connection.begin():
                yield self._connection

    def close(self) -> None:
        """End the session, and the lock with it."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _is_alive(connection: Connection) -> bool:
    if connection.invalidated:
        return False  # SQLAlchemy would connect again, without the lock
    try:
        with connection.begin():
            connection.exec_driver_sql("SELECT 1")
    except DBAPIError:
        return False
    return True


def _lock(engine: Engine) -> Connection:
    """Return a connection that has the lock, and belongs to no pool: closing it ends its session."""
    connection = engine.connect()
    connection.detach()
    try:
        with connection.begin():
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = {_PATIENCE_MS}")
            schema = func.hashtext(func.current_schema())
            connection.execute(select(func.pg_advisory_lock(APPLICATION_ID, schema)))
    except BaseException as error:
        connection.close()
        if getattr(getattr(error, "orig", None), "sqlstate", None) == engines.LOCK_NOT_AVAILABLE:
            raise GalleryLocked(
                "another session works on the gallery in this data base",
                remedy="stop the node that has it; one node serves a gallery",
            ) from None
        raise
    return connection
