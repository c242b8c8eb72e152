"""Where a source lies: a path in a file system of `fsspec`, the disk or a store of objects.

On the disk a file that cannot be read is an `OSError` of its own, unless the whole disk is gone. Elsewhere
so is one that is not there or not permitted; whatever else goes wrong there means that the store does not
answer, or not to us, and ends the run. A store's listings are not kept: they would grow with the archive,
and hide that the store is gone.
"""

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from enum import Enum, auto
from io import BufferedReader, RawIOBase
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import quote, unquote, urlsplit

import fsspec
from fsspec.implementations.local import LocalFileSystem

from matcher.errors import PapilarError
from papilar.archive.sources.flaws import LIMITS, flawed
from papilar.errors import SourceFlaw, SourceForbidden, SourceInvalid, SourceUnreachable
from papilar.objects import no_bucket, no_credentials, past_the_end, said_by_store

_BLOCK = 4 << 20  # bytes that are asked for at a time of a file that is read forwards
_PIECE = 1 << 16  # bytes of them that are looked at


_GONE = frozenset(  # what the disk, or the server of a share, says when it is no longer there
    {
        errno.ENODEV,
        errno.ENXIO,
        errno.ESTALE,
        errno.ENOTCONN,
        errno.ESHUTDOWN,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.ENETDOWN,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.ETIMEDOUT,
    }
)
_OF_ONE_FILE = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)


class Kind(Enum):
    """What lies at a path."""

    FILE = auto()
    FOLDER = auto()
    OTHER = auto()


class Entry(NamedTuple):
    """What lies in a folder: its name there, and what changes when it does, where the listing says so.

    The name of an object that can be none of a file ends with "/"; it is `Kind.OTHER` then.
    """

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
        try:
            with self.asking():
                return _kind(self.fs.info(self.path))
        except FileNotFoundError:
            return Kind.OTHER
        except PermissionError as error:
            if self.local:
                raise
            raise self.forbidden(error) from error

    def version(self) -> str:
        """Return what changes when the file does: size, and time or tag. Empty where none is told."""
        if self.local:
            return _local_version(self.path)
        with self.asking():
            return _version(self.fs.info(self.path))

    def size(self) -> int | None:
        """Return how many bytes the file has; None where that is not told."""
        with self.asking():
            size = self.fs.info(self.path).get("size")
        return int(size) if size else None

    def entries(self) -> list[Entry]:
        """List a folder in the order of names.

        Raises
        ------
        OSError
            It cannot be read.
        SourceUnreachable
        """
        if self.local:
            with self.asking(), os.scandir(self.path) as found:
                return sorted((_local_entry(each) for each in found), key=_by_name)
        with self.asking():
            listed = self.fs.ls(self.path, detail=True)
        return sorted(filter(None, map(self._entry, listed)), key=_by_name)

    def open(self, *, forward: bool = False) -> BinaryIO:
        """Open the file for reading bytes; `forward` where it is read from its beginning to its end alone.

        Raises
        ------
        OSError
            It cannot be read.
        SourceUnreachable
        """
        with self.asking():
            more = {} if self._http else {"block_size": _BLOCK}
            if forward and self._http:
                more = {"block_size": 0}  # so any server can give it
            return BufferedReader(_Asked(self.fs.open(self.path, "rb", **more), self), _PIECE)

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
        if self.local or self._http:
            with self.open() as file:
                data = file.read(LIMITS.file + 1)
        else:
            data = self.part(0, LIMITS.file + 1)  # one request, where to open it would be another
        if len(data) > LIMITS.file:
            raise flawed(SourceFlaw.FILE_TOO_LARGE, f"more than {LIMITS.file} bytes")
        return data

    def part(self, start: int, end: int) -> bytes:
        """Return the bytes from `start` to `end`, or to the file's end if it comes first."""
        if self.local:
            with self.asking(), open(self.path, "rb") as file:
                file.seek(start)
                return file.read(end - start)
        with self.asking():
            try:
                data = bytes(self.fs.cat_file(self.path, start=start, end=end))
            except Exception as error:
                if not past_the_end(error):
                    raise
                data = b""
        return (
            data if len(data) <= end - start else data[start:end]
        )  # a server that knows no ranges sends all

    def heads(self, paths: Sequence[str], size: int) -> list[bytes | OSError]:
        """Return how each of some files below begins, or why it cannot be read; asked for all at once."""
        full = [self.inner(path).path for path in paths]
        with self.asking():
            found = self.fs.cat_ranges(full, [0] * len(full), [size] * len(full), on_error="return")
            return [_head(self, each, size) for each in found]

    @property
    def _http(self) -> bool:
        return self._protocol in {"http", "https"}

    @property
    def _protocol(self) -> str:
        protocol = self.fs.protocol
        return protocol if isinstance(protocol, str) else protocol[0]

    def _entry(self, info: Mapping[str, Any]) -> Entry | None:
        path, kind = str(info["name"]), _kind(info)
        name = Place(self.fs, path).name
        if self._http:  # the columns of a server's listing, which sort it anew, are links with a question
            name = "" if "?" in name else unquote(name)
            return Entry(name, kind, _version(info)) if name else None
        if path.endswith("/") and kind is Kind.FILE and not info.get("size"):
            return None  # an object that only says that there is a folder
        if path.endswith("/") or name in (".", ".."):  # sound names of objects, and none below a folder
            return Entry("/" if path.endswith("/") else f"{name}/", Kind.OTHER)
        return Entry(name, kind, _version(info))

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Let through what concerns one file; on another machine all else means that it does not answer."""
        try:
            yield
        except PapilarError:
            raise
        except Exception as error:
            if isinstance(error, OSError) and self._of_one_file(error):
                raise
            if self._http and isinstance(error, ValueError):
                cause = "the server gives no parts of a file"
                raise flawed(SourceFlaw.SOURCE_UNKNOWN, cause) from error
            raise self.unreachable(error) from error

    def mark(self) -> object:
        """Return what is another thing once its disk was taken out or its share unmounted."""
        with suppress(OSError):
            found = os.stat(self.path) if self.local else None
            return found and (found.st_dev, found.st_ino)
        return None

    def _of_one_file(self, error: OSError) -> bool:
        if self.local:
            return error.errno not in _GONE
        return isinstance(error, _OF_ONE_FILE) and not no_credentials(error) and not no_bucket(error)

    def unreachable(self, error: BaseException) -> SourceUnreachable:
        """Say that the store of objects does not answer; its address may hold a key and is not told."""
        if no_credentials(error):
            return self.forbidden(error)
        if no_bucket(error):
            return SourceUnreachable(f"there is no such bucket ({self._protocol})", remedy="see to its name")
        return SourceUnreachable(
            f"the source ({self._protocol}) does not answer ({said_by_store(error)})",
            remedy="see to the network and run the same command again: it goes on where it stopped",
        )

    def forbidden(self, error: BaseException) -> SourceForbidden:
        """Say that the store of objects does not let us in."""
        return SourceForbidden(
            f"the source ({self._protocol}) refuses the credentials, or has none ({said_by_store(error)})",
            remedy="see to them, where its package finds them, and to what they allow; then the same command",
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
        A protocol that is unknown, or whose package is not installed; credentials in the URL.
    """
    if "://" not in where:
        return Place(LocalFileSystem(), os.path.abspath(where))
    if "@" in urlsplit(where).netloc:  # it would stand in the receipt
        raise SourceInvalid(
            "the URL holds a name or a key",
            remedy="take it out; its package finds them in its own settings, as AWS_PROFILE or ~/.aws",
            why=SourceFlaw.SOURCE_UNKNOWN,
        )
    try:
        fs, path = fsspec.core.url_to_fs(where, use_listings_cache=False, **(options or {}))
    except ImportError as error:
        raise flawed(SourceFlaw.SOURCE_UNKNOWN, f"a package is not installed: {error}") from error
    except Exception as error:  # each file system has errors of its own, none of them ours
        cause = f"the URL cannot be used ({type(error).__name__})"
        raise flawed(SourceFlaw.SOURCE_UNKNOWN, cause) from error
    return Place(fs, path)


class _Asked(RawIOBase):
    """A file whose reading fails as its place does; who buffers it gives lines too."""

    def __init__(self, file: BinaryIO, place: Place) -> None:
        self._file, self._place = file, place

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._file.seekable()

    def readinto(self, into: Any) -> int:
        with self._place.asking():
            data = self._file.read(len(into))
        into[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        with self._place.asking():
            return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()
        super().close()


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


def _kind(info: Mapping[str, Any]) -> Kind:
    return {"file": Kind.FILE, "directory": Kind.FOLDER}.get(str(info.get("type")), Kind.OTHER)


def _head(place: Place, found: bytes | Exception, size: int) -> bytes | OSError:
    if isinstance(found, bytes):
        return found[:size]
    if past_the_end(found):
        return b""
    if isinstance(found, OSError) and place._of_one_file(found):
        return found
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
