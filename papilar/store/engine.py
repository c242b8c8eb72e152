"""Connections and transactions: what SQLite needs beyond plain SQL, and its errors in the project's words."""

import errno
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from matcher.errors import GalleryCorrupt, PapilarError
from papilar.errors import StorageFull, StorageUnavailable
from papilar.store.schema import APPLICATION_ID

_PRAGMAS = (
    "busy_timeout=10000",  # ms; only for writers outside this process, such as a backup
    "journal_mode=WAL",  # readers go on while one writes
    "synchronous=FULL",  # an acknowledged commit survives the loss of power
    "foreign_keys=ON",
    "secure_delete=ON",  # deleted content is overwritten with zeros
)
_CHECKPOINT_WAIT_MS = 1000  # then readers still need the log; the next write tries again

_FULL = StorageFull, "make room on the disk, or lift its limits; nothing of this transaction was kept"
_AWAY = (
    StorageUnavailable,
    "see that the data base runs and its files can be read and written, then try again",
)
_DAMAGED = GalleryCorrupt, "restore the gallery from a backup, or rebuild it from the images"
_Verdict = tuple[type[PapilarError], str]

_BY_SQLITE: dict[int, _Verdict] = {
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_IOERR_WRITE: _FULL,  # a quota or a limit on the size of files
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
    sqlite3.SQLITE_FORMAT: _DAMAGED,
}
_BY_SQLSTATE: dict[str, _Verdict] = {"53100": _FULL, "XX001": _DAMAGED, "XX002": _DAMAGED}
_BY_ERRNO: dict[int, _Verdict] = {errno.ENOSPC: _FULL, errno.EDQUOT: _FULL, errno.EFBIG: _FULL}


def sqlite_url(file: Path) -> URL:
    """Return the URL of an SQLite file."""
    return URL.create("sqlite", database=str(file))


def make_private(file: Path) -> None:
    """Make an empty file that only its owner can read; SQLite gives its log the same rights."""
    os.close(os.open(file, os.O_CREAT | os.O_CLOEXEC, 0o600))


def open_engine(url: URL) -> Engine:
    """Return the engine; nothing is opened yet. Errors never show parameters: they are biometric data."""
    engine = create_engine(url, hide_parameters=True, max_overflow=-1)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _set_up)
        event.listen(engine, "begin", _begin)
    return engine


def _set_up(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # the driver's own transactions leave out DDL; ours begin in `_begin`
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}").close()


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    # Writers lock at once: one that begins as a reader may find another in its way and has to fail.
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextmanager
def transaction(engine: Engine, *, writes: bool) -> Iterator[Connection]:
    """Yield a connection in a transaction: committed at the end, undone by any exception.

    Raises
    ------
    StorageFull, StorageUnavailable, GalleryCorrupt
        In place of what the data base raises.
    """
    with translated(), engine.connect().execution_options(writes=writes) as connection, connection.begin():
        yield connection


@contextmanager
def translated() -> Iterator[None]:
    """Raise the project's errors in place of the data base's and the disk's."""
    try:
        yield
    except (DBAPIError, PoolTimeout, sqlite3.Error, OSError) as error:
        origin = getattr(error, "orig", None) or error
        kind, remedy = _verdict(origin)
        raise kind(f"the gallery's store failed: {origin}", remedy=remedy) from error


def _verdict(origin: Any) -> _Verdict:
    sqlite = getattr(origin, "sqlite_errorcode", None)
    if sqlite is not None:
        return _BY_SQLITE.get(sqlite) or _BY_SQLITE.get(sqlite & 0xFF, _AWAY)
    if isinstance(origin, OSError):
        return _BY_ERRNO.get(origin.errno or 0, _AWAY)
    if isinstance(origin, sqlite3.DatabaseError) and "UTF-8" in str(origin):
        return _DAMAGED  # raised by the driver, without a code: text that is none
    return _BY_SQLSTATE.get(getattr(origin, "sqlstate", None) or "", _AWAY)


def sign(connection: Connection) -> None:
    """Write the magic number into the head of an SQLite file."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(f"PRAGMA application_id={APPLICATION_ID}")


def is_signed(connection: Connection) -> bool:
    """Tell whether the magic number is there; other data bases have none and pass."""
    if connection.dialect.name != "sqlite":
        return True
    return bool(connection.exec_driver_sql("PRAGMA application_id").scalar() == APPLICATION_ID)


def clear_log(engine: Engine) -> bool:
    """Empty SQLite's write-ahead log, where deleted content stands until then.

    Returns
    -------
    bool
        False where a reader, or a full disk, was in the way: try again later.
    """
    if engine.dialect.name != "sqlite":
        return True
    try:
        with closing(engine.raw_connection()) as connection:
            return _truncate(connection.cursor().execute)
    except (DBAPIError, sqlite3.Error):
        return False


def _truncate(execute: Callable[[str], Any]) -> bool:
    (patience,) = execute("PRAGMA busy_timeout").fetchone()
    execute(f"PRAGMA busy_timeout={_CHECKPOINT_WAIT_MS}")
    try:
        busy, _, _ = execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return not busy
    finally:
        execute(f"PRAGMA busy_timeout={patience}")
