"""Where the log, the exchange, what waits and what is watched lie: one data base, and its tables up to date.

That may be a gallery's own store, or a data base of its own: the tables are the same, whoever fills them.
"""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Self

from sqlalchemy import URL, Connection, Engine

from matcher.errors import GalleryTooNew
from papilar.errors import GalleryUnknown
from papilar.store import engine as engines
from papilar.store import migrations
from papilar.store.rows import read_meta
from papilar.store.store import FILE_NAME


class Placed:
    """What lies in such a data base. All threads may use one.

    Raises
    ------
    StorageFull, StorageUnavailable, GalleryCorrupt
        From any method, which then has changed nothing.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @classmethod
    def open(cls, target: Path | str, *, create: bool = False) -> Self:
        """Open it; others may be at work on it.

        Parameters
        ----------
        target : Path or str
            A folder with an SQLite file in it, as a gallery's, or the URL of a data base.
        create : bool
            Make folder, file and tables where they are missing, and bring older tables up to date.

        Raises
        ------
        GalleryUnknown
            There is nothing, or tables of an earlier version and not `create`.
        GalleryTooNew
            The tables are of a later version than this Papilar knows.
        ConfigInvalid
            The URL is none, or its driver is not installed.
        """
        return cls(_open(target, create=create))

    def close(self) -> None:
        """Close the files."""
        self._engine.dispose()

    def _read(self) -> AbstractContextManager[Connection]:
        return engines.transaction(self._engine, writes=False)

    def _write(self) -> AbstractContextManager[Connection]:
        return engines.transaction(self._engine, writes=True)


def _open(target: Path | str, *, create: bool) -> Engine:
    by_url = "://" in str(target)
    with engines.translated():
        url = engines.read_url(str(target)) if by_url else _file(Path(target), create=create)
    engine = engines.open_engine(url)
    with engines.transaction(engine, writes=create) as connection:
        if create:
            engines.lift_limits(connection)
        version, newest = migrations.noted(connection) or 0, migrations.newest()
        if version > newest:
            raise GalleryTooNew(
                f"the tables have version {version}, this Papilar knows {newest}",
                remedy="install a newer Papilar",
            )
        if version < newest and not (create and (version or not read_meta(connection))):
            raise GalleryUnknown(
                "the tables are of an earlier version, or missing", remedy="start a node on it once"
            )
        if version < newest:
            engines.sign(connection)
            migrations.upgrade(connection, version)
    return engine


def _file(folder: Path, *, create: bool) -> URL:
    file = folder / FILE_NAME
    if create:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        engines.make_private(file)
    elif not file.is_file():
        raise GalleryUnknown(f"{folder} holds no data base", remedy="check the path")
    return engines.sqlite_url(file)
