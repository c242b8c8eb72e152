"""Where a source lies: a path in a file system of `fsspec`, the disk or a store of objects.

On the disk a file that cannot be read is an `OSError` of its own. Elsewhere so is one that is not there or
not permitted; whatever else goes wrong there means that the store does not answer, and ends the run.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Any, BinaryIO, NamedTuple, cast
from urllib.parse import quote, unquote

import fsspec
from fsspec.implementations.local import LocalFileSystem

from matcher.errors import PapilarError
from papilar.archive.sources.flaws import LIMITS, flawed
from papilar.errors import SourceFlaw, SourceUnreachable


class Kind(Enum):
    """What lies at a path."""

    FILE = auto()
    FOLDER = auto()
    OTHER = auto()


class Entry(NamedTuple):
    """What lies in a folder: its name there, and what changes when it does, where the listing says so."""

    name: str
    kind: Kind
    version: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """A path in a file system.

    Attributes
    ----------
    fs : fsspec.AbstractFileSystem
    path : str
        As this file system names it.
    """

    fs: Any
    path: str

    @property
    def local(self) -> bool:
        """Whether it is on a disk of this machine."""
        return isinstance(self.fs, LocalFileSystem)

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rstrip("/").rpartition("/")[2]

    def inner(self, path: str) -> "Place":
        """Return what lies below it, at a path of safe parts."""
        if not path:
            return self
        path = quote(path) if self._http else path
        return replace(self, path=f"{self.path.rstrip('/')}/{path}")

    def folder(self) -> "Place":
        """Return the folder that it lies in."""
        return replace(self, path=self.path.rstrip("/").rpartition("/")[0] or "/")

    def kind(self) -> Kind:
        """Tell what lies here. Over HTTP a folder ends with '/': to ask for one is to fetch it."""
        if self._http:
            return Kind.FOLDER if self.path.endswith("/") else Kind.FILE
        with self.asking():
            if self.fs.isdir(self.path):
                return Kind.FOLDER
            return Kind.FILE if self.fs.isfile(self.path) else Kind.OTHER

    def version(self) -> str:
        """Return what changes when the file does: size, and time or tag. Empty where none is told."""
        if self.local:
            return _local_version(self.path)
        with self.asking():
            return _version(self.fs.info(self.path))

    def entries(self) -> list[Entry]:
        """List a folder in the order of names.

        Raises
        ------
        OSError
            It cannot be read.
        SourceUnreachable
        """
        if self.local:
            with os.scandir(self.path) as found:
                return sorted((_local_entry(each) for each in found), key=_by_name)
        with self.asking():
            listed = self.fs.ls(self.path, detail=True)
        return sorted((entry for entry in map(self._entry, listed) if entry.name), key=_by_name)

    def open(self, *, forward: bool = False) -> BinaryIO:
        """Open the file for reading bytes; `forward` where it is read from its beginning to its end alone.

        Raises
        ------
        OSError
            It cannot be read.
        SourceUnreachable
        """
        with self.asking():
            more = {"block_size": 0} if forward and self._http else {}  # so any server can give it
            return cast(BinaryIO, _Asked(self.fs.open(self.path, "rb", **more), self))

    def read(self) -> bytes:
        """Return the content of a file.

        Raises
        ------
        OSError
            It cannot be read.
        SourceInvalid
            It is larger than any print.
        SourceUnreachable
        """
        with self.open() as file:
            data = file.read(LIMITS.file + 1)
        if len(data) > LIMITS.file:
            raise flawed(SourceFlaw.FILE_TOO_LARGE, f"more than {LIMITS.file} bytes")
        return data

    def part(self, start: int, end: int) -> bytes:
        """Return the bytes from `start` to `end`, or to the file's end if it comes first."""
        if self.local:
            with open(self.path, "rb") as file:
                file.seek(start)
                return file.read(end - start)
        with self.asking():
            data = bytes(self.fs.cat_file(self.path, start=start, end=end))
        return (
            data if len(data) <= end - start else data[start:end]
        )  # a server that knows no ranges sends all

    def heads(self, paths: Sequence[str], size: int) -> list[bytes | OSError]:
        """Return how each of some files below begins, or why it cannot be read; asked for all at once."""
        full = [self.inner(path).path for path in paths]
        with self.asking():
            found = self.fs.cat_ranges(full, [0] * len(full), [size] * len(full), on_error="return")
            return [_head(each, size, local=self.local) for each in found]

    @property
    def _http(self) -> bool:
        return self._protocol in {"http", "https"}

    @property
    def _protocol(self) -> str:
        protocol = self.fs.protocol
        return protocol if isinstance(protocol, str) else protocol[0]

    def _entry(self, info: Mapping[str, Any]) -> Entry:
        path = str(info["name"])
        name = Place(self.fs, path).name
        if self._http:  # the columns of a server's listing, which sort it anew, are links with a question
            name = "" if "?" in name else unquote(name)
        kind = {"file": Kind.FILE, "directory": Kind.FOLDER}.get(str(info.get("type")), Kind.OTHER)
        return Entry(name, kind, _version(info))

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Let through what concerns one file; on another machine all else means that it does not answer."""
        try:
            yield
        except (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, PapilarError):
            raise
        except Exception as error:
            if self.local and isinstance(error, OSError):
                raise
            if self._http and isinstance(error, ValueError):
                cause = "the server gives no parts of a file"
                raise flawed(SourceFlaw.SOURCE_UNKNOWN, cause) from error
            raise self.unreachable(error) from error

    def unreachable(self, error: BaseException) -> SourceUnreachable:
        """Say that the store of objects does not answer; its address may hold a key and is not told."""
        return SourceUnreachable(
            f"the source ({self._protocol}) does not answer ({type(error).__name__})",
            remedy="see to the network and run the same command again: it goes on where it stopped",
        )


def place_at(where: str, options: Mapping[str, object] | None = None) -> Place:
    """Return the place of a path on the disk, or of a URL.

    Parameters
    ----------
    where : str
        A path, or a URL of a protocol that fsspec knows: `s3://`, `https://`, `memory://`.
    options : mapping, optional
        What that file system wants to know: keys, an endpoint.

    Raises
    ------
    SourceInvalid
        A protocol that is unknown, or whose package is not installed.
    """
    if "://" not in where:
        return Place(LocalFileSystem(), os.path.abspath(where))
    try:
        fs, path = fsspec.core.url_to_fs(where, **(options or {}))
    except ImportError as error:
        raise flawed(SourceFlaw.SOURCE_UNKNOWN, f"a package is not installed: {error}") from error
    except Exception as error:  # each file system has errors of its own, none of them ours
        cause = f"the URL cannot be used ({type(error).__name__})"
        raise flawed(SourceFlaw.SOURCE_UNKNOWN, cause) from error
    return Place(fs, path)


class _Asked:
    """A file whose reading fails as its place does."""

    def __init__(self, file: BinaryIO, place: Place) -> None:
        self._file, self._place = file, place

    def read(self, size: int = -1) -> bytes:
        with self._place.asking():
            return self._file.read(size)

    def readline(self, size: int = -1) -> bytes:
        with self._place.asking():
            return self._file.readline(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        with self._place.asking():
            return self._file.seek(offset, whence)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> "_Asked":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


class Bounded:
    """A file that refuses to read more than so many bytes at once: a header that lies costs no memory."""

    def __init__(self, file: BinaryIO, most: int) -> None:
        self._file, self._most = file, most

    def read(self, size: int = -1) -> bytes:
        """Read as the file does."""
        if size > self._most:
            raise flawed(SourceFlaw.FILE_TOO_LARGE, f"{size} bytes of names, more than {self._most}")
        return self._file.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _by_name(entry: Entry) -> str:
    return entry.name


def _head(found: bytes | Exception, size: int, *, local: bool) -> bytes | OSError:
    if isinstance(found, bytes):
        return found[:size]
    if isinstance(found, OSError if local else FileNotFoundError | PermissionError | IsADirectoryError):
        return cast(OSError, found)
    if getattr(found, "status", None) == 416:  # an empty file has no range: RFC 9110, section 15.5.17
        return b""
    raise found


def _local_entry(entry: "os.DirEntry[str]") -> Entry:
    """Return what lies in a local folder; a link to a file is a file, a link to a folder is neither."""
    try:
        if entry.is_dir(follow_symlinks=False):
            return Entry(entry.name, Kind.FOLDER)
        kind = Kind.FILE if entry.is_file() else Kind.OTHER
    except OSError:
        kind = Kind.OTHER
    return Entry(entry.name, kind)


def _local_version(path: str) -> str:
    try:
        found = os.stat(path)
    except OSError:
        return ""
    return f"{found.st_size}-{found.st_mtime_ns}"


def _version(info: Mapping[str, Any]) -> str:
    marks = (info.get(key) for key in ("ETag", "etag", "LastModified", "mtime", "created"))
    mark = next((each for each in marks if each), None)
    return "" if mark is None else f"{info.get('size')}-{mark}"
