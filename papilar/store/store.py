"""The store itself: transactions, one writer at a time, and the life of a gallery's files."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import URL, Connection, Engine

from matcher.errors import GalleryCorrupt, GalleryTooNew
from papilar.errors import EncounterUnknown, GalleryUnknown, StorageUnavailable
from papilar.store import engine as engines
from papilar.store import migrations, schema
from papilar.store import rows as sql
from papilar.store.anew import AnewRows
from papilar.store.lock import GalleryLock
from papilar.store.originals import OriginalRows
from papilar.store.values import (
    Counts,
    GalleryFacts,
    NewEncounter,
    Owner,
    Request,
    StoredEncounter,
    StoredPrint,
    Written,
)
from papilar.store.writer import Writer, open_writer

FILE_NAME = "papilar.sqlite3"
"""The store's file in a gallery's folder."""

_BATCH = 512  # prints read at a time: about a megabyte of templates
_FACT = "fact."  # what callers note is kept apart from what the store notes


class Store:
    """The system of record of one gallery. Open it with `Store.open`; all threads may use one.

    Writers wait for each other; readers wait for nobody and see what was committed when they began. A method
    that returns has its change on the disk; a method that raises has changed nothing.

    Raises
    ------
    StorageFull
        From any method that writes.
    StorageUnavailable
        From any method, when the data base cannot be used at this time or the store is closed.
    GalleryCorrupt
        From any method, when what is stored is damaged.
    GalleryLocked
        From any method that writes, when the server's connection was lost and another node has the gallery.
    """

    def __init__(
        self, engine: Engine, writer: Writer, gallery: GalleryFacts, lock: GalleryLock | None
    ) -> None:
        self._engine = engine
        self._writer = writer
        self._gallery = gallery
        self._lock = lock
        self._writing = Lock()
        self._log_to_clear = True  # a process that was killed may have left deleted content in the log
        self._closed = False

    @classmethod
    def open(
        cls,
        target: Path | str,
        *,
        folder: Path | None = None,
        create: bool = False,
        name: str = "",
        facts: Mapping[str, str] | None = None,
    ) -> Self:
        """Open a gallery's store, and bring its tables to the newest version.

        Parameters
        ----------
        target : Path or str
            The gallery's folder, with an SQLite file in it, or the URL of a data base. Until `close` the
            folder is locked, or in PostgreSQL the schema.
        folder : Path, optional
            With a URL, a folder to make and lock as well.
        create : bool
            Make the gallery where there is none.
        name : str
            Name of the gallery; that of an existing one must be the same. By default the folder's.
        facts : mapping of str to str, optional
            What to note of a new gallery, such as the extractor's version.

        Raises
        ------
        GalleryUnknown
            There is no gallery, or one of another name.
        GalleryLocked
            Someone works on it.
        ConfigInvalid
            The URL is none, or its driver is not installed.
        GalleryTooNew, GalleryCorrupt, StorageFull, StorageUnavailable
        """
        with ExitStack() as undo, engines.translated():
            place = _find(target, folder, create=create)
            lock = undo.enter_context(GalleryLock(place.folder)) if place.folder else None
            engine = engines.open_engine(place.url)
            undo.callback(engine.dispose)
            writer = open_writer(engine)
            undo.callback(writer.close)
            if create:
                _create(writer, name or place.name, facts or {})
            store = cls(engine, writer, _bring_up(engine, writer, name), lock)
            undo.pop_all()
        store._clear_log()
        return store

    def close(self) -> None:
        """Wait for the writer, close the files and give up the lock; a second call does nothing."""
        with self._writing:
            if self._closed:
                return
            self._closed = True
            self._clear_log()
            self._writer.close()
            self._engine.dispose()
            if self._lock is not None:
                self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- changes

    def enroll(self, new: NewEncounter, *, request: Request | None = None) -> Written:
        """Store an encounter, in one transaction with what makes its repeat safe.

        Returns
        -------
        Written
            The rows of its prints, in their order; for a repeat, no rows and the first call's response.

        Raises
        ------
        EncounterExists
        EncounterUnknown, RequestInvalid
            The encounter that it replaces is not there, or of another subject.
        RequestConflict
            The request_id was used with another digest.
        EncounterErased
            The request enrolled an encounter that has been deleted since.
        """
        with self._write() as connection:
            earlier = sql.earlier(connection, request)
            if earlier:
                return earlier
            written = sql.insert_encounter(connection, new)
            return sql.answered(connection, written, request, new.encounter_id)

    def delete(self, encounter_id: str, *, request: Request | None = None) -> Written:
        """Erase an encounter: its prints, images, missing fingers and answers; its subject with the last one.

        What the journal of archives says of it goes too, with the last one what it says of the subject.
        The content is overwritten in SQLite's file. Its write-ahead log is emptied too, at once where no
        reader is in the way, else with the next write or `close`. PostgreSQL overwrites nothing: there the
        bytes stay in its files until it is vacuumed and its log recycled.

        Returns
        -------
        Written
            The rows that are gone; for a repeat, no rows and the first call's response.

        Raises
        ------
        EncounterUnknown
        RequestConflict
            The request_id was used with another digest.
        """
        with self._write() as connection:
            earlier = sql.earlier(connection, request)
            if earlier:
                return earlier
            written = sql.delete_encounter(connection, encounter_id)
            self._log_to_clear = True
            return sql.answered(connection, written, request)

    def note(self, facts: Mapping[str, str]) -> None:
        """Note facts of the gallery, in place of what was noted under their keys."""
        with self._write() as connection:
            sql.write_meta(connection, {_FACT + key: value for key, value in facts.items()})
            self._gallery = facts_of(sql.read_meta(connection))

    def hold(self) -> int:
        """Make sure that this store, and no other, may write; return how often that right was taken, from 1.

        A number other than the last says that the connection to the server was lost in between: whether a
        change that failed was kept is open, and another node may have written. Read again what matters.

        Raises
        ------
        GalleryLocked
            Another node has the gallery now.
        """
        with self._writing:
            self._check_open()
            return self._writer.hold()

    # ---- questions

    @property
    def gallery(self) -> GalleryFacts:
        """What is known of the gallery as a whole."""
        return self._gallery

    def replay(self, request_id: str, digest: bytes) -> bytes | None:
        """Return the response to a request that was done before; None where it is new.

        It saves the work that comes before `enroll`, which asks again by itself.

        Raises
        ------
        RequestConflict
            It was done with another digest.
        EncounterErased
            What it enrolled has been deleted since.
        """
        with self._read() as connection:
            return sql.earlier_response(connection, request_id, digest)

    def encounter(self, encounter_id: str, *, images: bool = False) -> StoredEncounter:
        """Return an encounter; its images only where asked for.

        Raises
        ------
        EncounterUnknown
        """
        with self._read() as connection:
            found = sql.read_encounters(
                connection, schema.encounter.c.encounter_id == encounter_id, images=images
            )
        if not found:
            raise EncounterUnknown(
                f"there is no encounter {encounter_id}", remedy="check the id; it may be deleted"
            )
        return found[0]

    def encounters_of(self, subject_id: str, *, images: bool = False) -> tuple[StoredEncounter, ...]:
        """Return the encounters of a subject, the oldest first; none where there is no such subject."""
        with self._read() as connection:
            return sql.read_encounters(connection, schema.encounter.c.subject_id == subject_id, images=images)

    def templates(self, after_row: int = 0, *, generation: int | None = None) -> Iterator[StoredPrint]:
        """Yield the prints after a row, in the order of rows, without images.

        They are read in batches, each a short transaction: a print deleted meanwhile may be missing, one
        enrolled meanwhile comes at the end. By default they are those in force; with the number of a
        generation that is being extracted, as they will be when it is.
        """
        while True:
            with self._read() as connection:
                batch = sql.read_templates(connection, after_row, _BATCH, generation)
            yield from batch
            if len(batch) < _BATCH:
                return
            after_row = batch[-1].row

    def live_rows(self) -> NDArray[np.int64]:
        """Return the rows of all prints, ascending, shape (g,)."""
        with self._read() as connection:
            return sql.read_rows(connection)

    def places(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the rows of all prints, ascending, and of each the first row of its encounter."""
        with self._read() as connection:
            return sql.read_places(connection)

    def prints(self, rows: Sequence[int], *, generation: int | None = None) -> Iterator[StoredPrint]:
        """Yield these prints, without images, in batches as `templates`; one that is gone is left out."""
        for start in range(0, len(rows), _BATCH):
            with self._read() as connection:
                batch = list(sql.read_prints(connection, rows[start : start + _BATCH], generation))
            yield from batch

    def owners(self, rows: Iterable[int]) -> dict[int, Owner]:
        """Return whose prints the rows are; a row that is gone is left out."""
        with self._read() as connection:
            return sql.read_owners(connection, rows)

    def rows_of(self, encounters: Iterable[str]) -> list[int]:
        """Return the rows of all prints of these encounters."""
        with self._read() as connection:
            return sql.read_rows_of(connection, encounters)

    def counts(self) -> Counts:
        """Count subjects, encounters and prints."""
        with self._read() as connection:
            return sql.count(connection)

    # ---- what has statements of its own, in the same transactions

    @property
    def originals(self) -> OriginalRows:
        """Which originals prints refer to, and which are to be erased."""
        return OriginalRows(self._read, self._write)

    @property
    def anew(self) -> AnewRows:
        """Prints extracted anew."""
        return AnewRows(self._read, self._write)

    def renew(self, extractor: str) -> int:
        """Bring in force what was extracted anew, in one transaction; return the new generation."""
        with self._write() as connection:
            generation = sql.generation(connection) + 1
            facts = {sql.GENERATION: str(generation), _FACT + "extractor": extractor}
            sql.write_meta(connection, facts)
        self._gallery = replace(
            self._gallery, generation=generation, facts={**self._gallery.facts, "extractor": extractor}
        )
        return generation

    # ---- transactions

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        self._check_open()
        with engines.transaction(self._engine, writes=False) as connection:
            yield connection

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        with self._writing:
            self._check_open()
            with self._writer.transaction() as connection:
                yield connection
            self._clear_log()

    def _check_open(self) -> None:
        if self._closed:
            raise StorageUnavailable("the store is closed", remedy="open it again")

    def _clear_log(self) -> None:
        if self._log_to_clear:
            self._log_to_clear = not engines.clear_log(self._engine)


class _Place(NamedTuple):
    url: URL
    folder: Path | None
    name: str


def _find(target: Path | str, folder: Path | None, *, create: bool) -> _Place:
    if "://" in str(target):
        url = engines.read_url(str(target))
        if folder is not None:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return _Place(url, folder, _name_of(folder))
    folder = Path(target)
    if folder.exists() and not folder.is_dir():
        raise GalleryUnknown(f"{folder} is a file", remedy="give the gallery's folder")
    file = folder / FILE_NAME
    if create:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        engines.make_private(file)
    elif not file.is_file():
        raise GalleryUnknown(
            f"{folder} holds no gallery", remedy="check the path, or enrol into it to make one"
        )
    return _Place(engines.sqlite_url(file), folder, _name_of(folder))


def _name_of(folder: Path | None) -> str:
    return (folder.resolve().name if folder else "") or "gallery"


def _create(writer: Writer, name: str, facts: Mapping[str, str]) -> None:
    """Make tables and facts in one transaction, unless they are there."""
    with writer.transaction() as connection:
        if sql.read_meta(connection):
            return
        engines.sign(connection)
        migrations.upgrade(connection, 0)
        own = {"schema_version": str(migrations.newest()), "name": name, "created": str(schema.now())}
        sql.write_meta(connection, own | {_FACT + key: value for key, value in facts.items()})


def _bring_up(engine: Engine, writer: Writer, name: str) -> GalleryFacts:
    """Read the gallery's facts and, in one transaction, bring tables of an earlier version to the newest."""
    gallery, revision = _read_gallery(engine, name)
    if revision not in (None, gallery.schema_version):
        raise GalleryCorrupt(
            "two versions are noted of the store's tables", remedy="restore it from a backup"
        )
    if revision == migrations.newest():
        return gallery
    with writer.transaction() as connection:
        engines.lift_limits(connection)
        migrations.upgrade(connection, gallery.schema_version)
        # A Papilar from before Alembic looks here, and leaves alone what is too new for it.
        sql.write_meta(connection, {"schema_version": str(migrations.newest())})
        return facts_of(sql.read_meta(connection))


def _read_gallery(engine: Engine, name: str) -> tuple[GalleryFacts, int | None]:
    with engines.transaction(engine, writes=False) as connection:
        noted, signed = sql.read_meta(connection), engines.is_signed(connection)
        revision = migrations.noted(connection)
    where = engines.place_of(engine.url)
    if not noted:
        raise GalleryUnknown(
            f"{where} holds no gallery", remedy="check the path, or enrol into it to make one"
        )
    if not signed:
        raise GalleryCorrupt(f"{where} is not marked as a Papilar store", remedy="restore it from a backup")
    gallery = facts_of(noted)
    if name and name != gallery.name:
        raise GalleryUnknown(
            f"{where} holds the gallery {gallery.name}, not {name}", remedy="check path and name"
        )
    return gallery, revision


def facts_of(noted: Mapping[str, str]) -> GalleryFacts:
    """Return what is noted of a gallery; raises `GalleryCorrupt` and `GalleryTooNew`."""
    try:
        version, created = int(noted["schema_version"]), int(noted["created"])
        name, generation = noted["name"], int(noted.get(sql.GENERATION, 0))
    except (KeyError, ValueError):
        raise GalleryCorrupt(
            "the gallery's own facts are incomplete", remedy="restore it from a backup"
        ) from None
    if version > migrations.newest():
        raise GalleryTooNew(
            f"the gallery's store has version {version}, this Papilar knows {migrations.newest()}",
            remedy="install a newer Papilar",
        )
    facts = {key.removeprefix(_FACT): value for key, value in noted.items() if key.startswith(_FACT)}
    return GalleryFacts(name, schema.moment(created), version, facts, generation)
