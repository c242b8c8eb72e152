"""Connections and transactions: what each data base needs beyond plain SQL, and its errors in our words."""

import errno
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from matcher.errors import GalleryCorrupt, PapilarError
from papilar.errors import ConfigInvalid, StorageFull, StorageUnavailable
from papilar.store.schema import APPLICATION_ID

_PRAGMAS = (
    "busy_timeout=10000",  # ms; only for writers outside this process, such as a backup
    "journal_mode=WAL",  # readers go on while one writes
    "synchronous=FULL",  # an acknowledged commit survives the loss of power
    "foreign_keys=ON",
    "secure_delete=ON",  # deleted content is overwritten with zeros
)

_SETTINGS = {
    "statement_timeout": "60s",  # a statement that takes so long is stuck; versions of the tables lift it
    "lock_timeout": "10s",  # only for locks of others, such as an operator's
    "idle_in_transaction_session_timeout": "60s",
    "tcp_keepalives_idle": "30s",  # a node whose machine is gone loses its lock within a minute
    "tcp_keepalives_interval": "10s",
    "tcp_keepalives_count": "3",
}
"""What every session of ours on PostgreSQL asks of the server."""

_CONNECTING = {
    "application_name": "papilar",
    "client_encoding": "utf8",
    "connect_timeout": 10,  # s
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,  # ms, for what is sent and not acknowledged
}

LOCK_NOT_AVAILABLE = "55P03"
"""SQLSTATE of a lock that was not given in time."""

_POSTGRESQL = "postgresql+psycopg"
_WRITE_URL = "write postgresql://USER@HOST/DATABASE"

_CHECKPOINT_WAIT_MS = 1000  # then readers still need the log; the next write tries again

_FULL = StorageFull, "make room on the disk, or lift its limits; nothing of this transaction was kept"
_AWAY = (
    StorageUnavailable,
    "see that the data base runs and its files can be read and written, then try again",
)
_DAMAGED = GalleryCorrupt, "restore the gallery from a backup, or rebuild it from the images"
Transaction = Callable[[], AbstractContextManager[Connection]]
_Verdict = tuple[type[PapilarError], str]

_BY_SQLITE: dict[int, _Verdict] = {
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_IOERR_WRITE: _FULL,  # a quota or a limit on the size of files
    sqlite3.SQLITE_IOERR_SHMSIZE: _FULL,  # no room for the index of the log, when a store is opened
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
    sqlite3.SQLITE_FORMAT: _DAMAGED,
}
_BY_SQLSTATE: dict[str, _Verdict] = {"53100": _FULL, "XX001": _DAMAGED, "XX002": _DAMAGED}
_BY_ERRNO: dict[int, _Verdict] = {errno.ENOSPC: _FULL, errno.EDQUOT: _FULL, errno.EFBIG: _FULL}


def sqlite_url(file: Path) -> URL:
    """Return the URL of an SQLite file."""
    return URL.create("sqlite", database=str(file))


def read_url(text: str) -> URL:
    """Return the URL of a data base; `postgresql://` means the driver that Papilar brings.

    Raises
    ------
    ConfigInvalid
        It is none, or of a data base that Papilar does not know. The text is not repeated: it may hold
        a password.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise ConfigInvalid("the store's URL cannot be read", remedy=_WRITE_URL) from None
    if url.drivername in ("sqlite", _POSTGRESQL):
        return url
    if url.drivername in ("postgresql", "postgres"):
        return url.set(drivername=_POSTGRESQL)
    raise ConfigInvalid(f"a store cannot be in {url.drivername}", remedy=_WRITE_URL)


def place_of(url: URL) -> str:
    """Return a URL without what may be secret in it."""
    return url.set(username=None, password=None, query={}).render_as_string()


def make_private(file: Path) -> None:
    """Make an empty file that only its owner can read; SQLite gives its log the same rights.

    One that is there is not opened: to close it again would end the locks that this process has on it, and
    the next process that closes the data base would take itself for the last and delete SQLite's log.
    """
    with suppress(FileExistsError):
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def open_engine(url: URL) -> Engine:
    """Return the engine; nothing is opened yet. Errors never show parameters: they are biometric data.

    Raises
    ------
    ConfigInvalid
        The driver is not installed.
    """
    if url.drivername == _POSTGRESQL:
        return _open_postgresql(url)
    engine = create_engine(url, hide_parameters=True, max_overflow=-1)
    event.listen(engine, "connect", _set_up)
    event.listen(engine, "begin", _begin)
    return engine


def _open_postgresql(url: URL) -> Engine:
    try:
        engine = create_engine(
            url,
            hide_parameters=True,
            max_overflow=-1,
            pool_pre_ping=True,  # a server that was restarted meanwhile is not noticed by readers
            # One snapshot for all statements of a reader. Writers are one at a time: none fails to serialise.
            isolation_level="REPEATABLE READ",
            connect_args={key: value for key, value in _CONNECTING.items() if key not in url.query},
        )
    except ModuleNotFoundError as error:
        raise ConfigInvalid(
            "the driver of PostgreSQL is not installed", remedy="install papilar[postgresql]"
        ) from error
    event.listen(engine, "connect", _ask_settings)
    return engine


def _ask_settings(connection: Any, _record: object) -> None:
    # An acknowledged commit survives the loss of power. Stronger settings, of a server with replicas, stay.
    durable = "CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' ELSE"
    asked = [f"set_config('{name}', '{value}', false)" for name, value in _SETTINGS.items()]
    asked.append(
        f"set_config('synchronous_commit', {durable} current_setting('synchronous_commit') END, false)"
    )
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {', '.join(asked)}")
    connection.commit()


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
    options = {"writes": writes} if engine.dialect.name == "sqlite" else {"postgresql_readonly": not writes}
    with translated(), engine.connect().execution_options(**options) as connection, connection.begin():
        yield connection


class Part:
    """What of a store has statements of its own, in the store's transactions.

    Parameters
    ----------
    read, write : callable
        Begin a transaction of the store.

    Raises
    ------
    StorageFull, StorageUnavailable, GalleryCorrupt
        From any method.
    """

    def __init__(self, read: Transaction, write: Transaction) -> None:
        self._read = read
        self._write = write


@contextmanager
def translated() -> Iterator[None]:
    """Raise the project's errors in place of the data base's and the disk's."""
    try:
        yield
    except (DBAPIError, PoolTimeout, sqlite3.Error, OSError) as error:
        origin = getattr(error, "orig", None) or error
        kind, remedy = _verdict(origin)
        # What PostgreSQL adds to its messages quotes values: neither its text nor its trace goes further.
        told = getattr(getattr(origin, "diag", None), "message_primary", None)
        cause = None if told else error
        raise kind(f"the gallery's store failed: {told or origin}", remedy=remedy) from cause


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


def lift_limits(connection: Connection) -> None:
    """Let this transaction take its time: new tables and columns may mean much work."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")


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
