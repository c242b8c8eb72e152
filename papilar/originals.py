"""Image files as they came, kept so that prints can be extracted anew: encrypted, named by their content.

    URL/CREATED/ab/cd/abcd...       CREATED names the gallery, by the microsecond it was made

On the disk a file is written beside its place, flushed and renamed; in a store of objects it is one put. The
store of the gallery says which print came from which. What no print refers to is erased: at once where an
encounter is deleted, at the next start where the process was killed in between. What a process left that was
killed while enrolling, `survey` finds.
"""

import errno
import logging
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import fsspec
from fsspec.implementations.local import LocalFileSystem

from matcher.errors import InvalidInput, PapilarError
from papilar.config import OriginalsConfig
from papilar.durable import PART, flush_folder, write_durably
from papilar.encryption import Keys
from papilar.errors import (
    ConfigInvalid,
    OriginalCorrupt,
    OriginalKeyUnknown,
    OriginalMissing,
    RequestRefused,
    StorageError,
    StorageFull,
    StorageUnavailable,
)
from papilar.objects import no_bucket, no_room, said_by_store
from papilar.requests import PrintInput
from papilar.store import NewEncounter
from papilar.store.originals import OriginalRows

_log = logging.getLogger(__name__)

_NAME_BYTES = 32
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Originals:
    """Files under the names of their contents. All threads may use one.

    Parameters
    ----------
    url : str
        A folder, or a URL of a protocol that fsspec knows: `s3://`, `memory://`.
    keys : Keys
    gallery : str
        Which gallery's: those of others lie beside.

    Raises
    ------
    ConfigInvalid
        A protocol that is unknown, or whose package is not installed.
    StorageFull, StorageUnavailable
        From any method: the place cannot be written to, or does not answer.
    """

    def __init__(self, url: str, keys: Keys, *, gallery: str) -> None:
        self._place = _place(url, gallery)
        self._keys = keys
        self._lock = threading.Lock()  # held while a file is erased, and to note what must not be
        self._held: Counter[bytes] = Counter()

    def put(self, data: bytes) -> bytes:
        """Keep a file, once; return its name, 32 bytes. One that is there and damaged is written again."""
        name = self._keys.name(data)
        try:
            self.get(name)
        except (OriginalMissing, OriginalCorrupt, OriginalKeyUnknown):
            self._place.write(name.hex(), self._keys.seal(name, data))
        return name

    def get(self, name: bytes) -> bytes:
        """Return a file.

        Raises
        ------
        OriginalMissing, OriginalCorrupt, OriginalKeyUnknown
        """
        return self._keys.open(name, self._place.read(name.hex()))

    def has(self, name: bytes) -> bool:
        """Tell whether there is a file of that name, sound or not."""
        return self._place.has(name.hex())

    def delete(self, name: bytes) -> None:
        """Erase a file; nothing where there is none."""
        self._place.erase(name.hex())

    def names(self) -> Iterator[bytes]:
        """Yield the names of all files, in no order."""
        yield from self._place.names()

    def renew(self, name: bytes) -> bool:
        """Encrypt a file with the first key, if it is under another; tell whether it was.

        Raises
        ------
        OriginalMissing, OriginalCorrupt, OriginalKeyUnknown
        """
        sealed = self._place.read(name.hex())
        data = self._keys.open(name, sealed)
        if self._keys.is_first(sealed):
            return False
        self._place.write(name.hex(), self._keys.seal(name, data))
        return True

    @contextmanager
    def keeping(self, files: Sequence[bytes | None], rows: OriginalRows) -> Iterator[Sequence[bytes | None]]:
        """Keep files while what refers to them is committed: until the end, none of them is erased.

        What no print refers to at the end is erased, but for a failure of the store: then that is open.

        Yields
        ------
        sequence of bytes or None
            Their names; None for None.
        """
        names = [None if data is None else self._keys.name(data) for data in files]
        contents = {name: data for name, data in zip(names, files, strict=True) if name and data}
        open_end = True
        with self._lock:
            self._held.update(contents.keys())
        try:
            for data in contents.values():
                self.put(data)
            yield names
            open_end = False
        except (RequestRefused, InvalidInput):
            open_end = False
            raise
        finally:
            self._release(contents.keys(), None if open_end else rows)

    def _release(self, names: Collection[bytes], rows: OriginalRows | None) -> None:
        with self._lock, suppress(StorageError):
            self._held -= Counter(names)
            for name in rows.unused(names) if rows else ():
                if name not in self._held:
                    self.delete(name)

    def erase_waiting(self, rows: OriginalRows) -> None:
        """Erase what the store says is to go, unless a print has come that refers to it.

        A print that is just being enrolled holds its file: that one stays noted, and the next call decides.
        """
        for name in rows.waiting():
            with self._lock:  # until it is noted: who enrols the file meanwhile waits, and keeps it anew
                if name not in self._held and not rows.spare(name):
                    self.delete(name)
                    rows.forget(name)

    def sweep(self) -> int:
        """Erase what writers that were killed have left half written; nobody may be writing."""
        return self._place.sweep()


def originals_of(kept: OriginalsConfig | None) -> Callable[[str], Originals] | None:
    """Return what opens the originals of a gallery, by its name; None where none are kept.

    Raises
    ------
    ConfigInvalid
        The key file cannot be used.
    """
    if kept is None:
        return None
    keys = Keys.load(kept.key_file)
    return lambda gallery: Originals(kept.url, keys, gallery=gallery)


@contextmanager
def kept_with(
    encounter: NewEncounter, given: Sequence[PrintInput], originals: Originals | None, rows: OriginalRows
) -> Iterator[NewEncounter]:
    """Keep the originals of an encounter while it is committed; see `Originals.keeping`.

    Parameters
    ----------
    encounter : NewEncounter
    given : sequence of PrintInput
        What each of its prints came from.
    originals : Originals or None
        None: nothing is kept.
    rows : OriginalRows

    Yields
    ------
    NewEncounter
        The same, its prints with the names of their originals.
    """
    if originals is None:
        yield encounter
        return
    with originals.keeping([one.image for one in given], rows) as names:
        prints = zip(encounter.prints, names, given, strict=True)
        named = (replace(one, original=name, original_ppi=each.ppi) for one, name, each in prints)
        yield replace(encounter, prints=tuple(named))


def erase_waiting(originals: Originals | None, rows: OriginalRows) -> None:
    """Erase what waits for it; what cannot be at this time stays noted, and is logged."""
    if originals is not None:
        try:
            originals.erase_waiting(rows)
        except StorageError as error:
            _log.warning("originals of deleted prints are not erased yet, the next deletion tries: %s", error)


# ---- what is there against what should be


class Flaw(NamedTuple):
    """An original that is not as it should be: its name, the error's reason, and a row that refers to it."""

    name: bytes
    reason: str
    row: int


class Survey(NamedTuple):
    """What a check found.

    Attributes
    ----------
    sound : int
        Originals that prints refer to and that can be read.
    flaws : tuple of Flaw
        Those that cannot.
    strays : tuple of bytes
        Names to which no print refers.
    """

    sound: int
    flaws: tuple[Flaw, ...]
    strays: tuple[bytes, ...]


def survey(originals: Originals, rows: OriginalRows, *, read: bool = True) -> Survey:
    """Hold what is kept against what the store's prints refer to; a node may be at work meanwhile.

    Parameters
    ----------
    originals : Originals
    rows : OriginalRows
    read : bool
        Read and decrypt every file; else only see that it is there.

    Raises
    ------
    StorageUnavailable
    """
    strays = set(originals.names())  # listed first: what is enrolled meanwhile is then no stray
    sound, flaws = 0, []
    for name, row in rows.used():
        strays.discard(name)
        reason = _wrong_with(originals, name, read=read)
        if not reason:
            sound += 1
        elif not rows.unused([name]):  # else it was deleted just now
            flaws.append(Flaw(name, reason, row))
    return Survey(sound, tuple(flaws), tuple(rows.unused(sorted(strays))))


def _wrong_with(originals: Originals, name: bytes, *, read: bool) -> str:
    if not read:
        return "" if originals.has(name) else OriginalMissing.reason
    try:
        originals.get(name)
    except (OriginalMissing, OriginalCorrupt, OriginalKeyUnknown) as error:
        return error.reason
    return ""


# ---- where they lie


class _Place(Protocol):
    """What keeps files by names of hexadecimal digits."""

    def read(self, name: str) -> bytes: ...

    def write(self, name: str, data: bytes) -> None: ...

    def has(self, name: str) -> bool: ...

    def erase(self, name: str) -> None: ...

    def names(self) -> Iterator[bytes]: ...

    def sweep(self) -> int: ...


def _place(url: str, gallery: str) -> _Place:
    try:
        # A listing that was kept from earlier would hide what was written since.
        fs, path = fsspec.core.url_to_fs(url, use_listings_cache=False)
    except (
        Exception
    ) as error:  # each file system has errors of its own; the URL may hold a key, and is not told
        raise ConfigInvalid(
            f"originals.url cannot be used ({type(error).__name__})",
            remedy="give a folder, or a URL whose package is installed, such as s3fs for s3://",
        ) from error
    if isinstance(fs, LocalFileSystem):
        return _Folder(Path(path) / gallery)
    return _Objects(fs, f"{path.rstrip('/')}/{gallery}")


def _parts(name: str) -> str:
    return f"{name[:2]}/{name[2:4]}/{name}"


def _named(path: str) -> bytes | None:
    """Return the name that the last part of a path states; None for what is not ours."""
    with suppress(ValueError):
        name = bytes.fromhex(path.rpartition("/")[2])
        if len(name) == _NAME_BYTES:
            return name
    return None


class _Folder:
    """A folder of this machine, for its owner alone."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, name: str) -> bytes:
        with _disk():
            try:
                return (self._root / _parts(name)).read_bytes()
            except FileNotFoundError:
                raise _gone(name) from None

    def write(self, name: str, data: bytes) -> None:
        path = self._root / _parts(name)
        with _disk():
            _make_folder(path.parent)
            write_durably(path, data)

    def has(self, name: str) -> bool:
        with _disk():
            return (self._root / _parts(name)).exists()

    def erase(self, name: str) -> None:
        path = self._root / _parts(name)
        with _disk(), suppress(FileNotFoundError):
            path.unlink()
            flush_folder(path.parent)

    def names(self) -> Iterator[bytes]:
        with _disk():
            yield from filter(None, (_named(str(path)) for path in self._root.glob("??/??/*")))

    def sweep(self) -> int:
        with _disk():
            parts = list(self._root.glob(f"??/??/*{PART}"))
            for part in parts:
                part.unlink()
        return len(parts)


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it, so that a power cut does not take them back."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        flush_folder(folder.parent)


@contextmanager
def _disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        kind = StorageFull if error.errno in _NO_ROOM else StorageUnavailable
        raise kind(
            f"the folder of originals fails ({error.strerror})",
            remedy="see to the disk, its room and its rights; nothing of this change was kept",
        ) from error


class _Objects:
    """A store of objects, or any other file system of fsspec."""

    def __init__(self, fs: Any, root: str) -> None:
        self._fs = fs
        self._root = root

    def read(self, name: str) -> bytes:
        with self._asking():
            try:
                return bytes(self._fs.cat_file(self._path(name)))
            except FileNotFoundError as error:
                if no_bucket(error):
                    raise
                raise _gone(name) from None

    def write(self, name: str, data: bytes) -> None:
        with self._asking():
            self._fs.pipe_file(self._path(name), data)

    def has(self, name: str) -> bool:
        with self._asking():
            return bool(self._fs.exists(self._path(name)))

    def erase(self, name: str) -> None:
        with self._asking():
            try:
                self._fs.rm_file(self._path(name))
            except FileNotFoundError as error:
                if no_bucket(error):  # where the bucket is a wrong one, the file is still in the right one
                    raise

    def names(self) -> Iterator[bytes]:
        with self._asking():
            found = self._fs.find(self._root)
        yield from filter(None, map(_named, found))

    def sweep(self) -> int:
        return 0  # what a put has not ended is not there

    def _path(self, name: str) -> str:
        return f"{self._root}/{_parts(name)}"

    @contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            yield
        except PapilarError:
            raise
        except Exception as error:  # each file system has its own
            full = no_room(error)
            kind = StorageFull if full else StorageUnavailable
            does = "has no room" if full else "does not answer"
            raise kind(
                f"the store of originals {does} ({said_by_store(error)})",
                remedy="see to the network, its address, its room and the credentials, then try again",
            ) from error


def _gone(name: str) -> OriginalMissing:
    return OriginalMissing(
        f"the original {name} is not there", remedy="restore it from a backup of the originals"
    )
