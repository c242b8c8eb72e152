"""A tar, packed or not, as a folder: read once, from its beginning to its end, whatever its size.

A folder of a tar is a run of members that lie together, as tar writes them. While all its images may be one
person's they are held, up to `LIMITS.folder_held`; then the items hold them. Of a plain tar on the disk
nothing is held: its items read where their bytes lie. Where a person's folder begins a second time, its later
files are lines with ARCHIVE_ORDER. Outside such a folder, files are one encounter only where they lie side by
side. A tar that breaks off ends with a line that says so.
"""

import bz2
import lzma
import sys
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import groupby
from typing import BinaryIO, Protocol, cast

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

from papilar.archive.folder import folder_of, says_person
from papilar.archive.sources.flaws import LIMITS, flawed, hidden, safe_path
from papilar.archive.sources.member import HEAD, Member, faulty, in_order, said_by
from papilar.archive.sources.place import Bounded, Place
from papilar.errors import SourceFlaw, SourceInvalid, SourceUnreachable

_PIECE = 1 << 18  # bytes; of what is passed over, and of what is unpacked at a time
_MEMORY = 1 << 28  # bytes; for the window of xz, whose best preset takes a quarter of it
_WINDOW: Mapping[int, int] = {zstd.DecompressionParameter.window_log_max: 27}  # 128 MiB, as zstd --long asks


def tar_members(place: Place) -> Iterator[Member]:
    """Yield every file of a tar in its order, those of one encounter together.

    Parameters
    ----------
    place : Place

    Raises
    ------
    OSError
        It cannot be opened.
    SourceUnreachable
    """
    persons: dict[int, bool] = {}  # of each folder, by the hash of its name, whether it is a person
    for folder, run in groupby(_members(place), lambda member: folder_of(member.name)):
        yield from _run(hash(folder), run, persons)


def _run(folder: int, run: Iterator[Member], persons: dict[int, bool]) -> Iterator[Member]:
    """Yield the members that lie together in one folder, those of one encounter together."""
    held: list[Member] = []
    size = 0
    for member in run:
        vote = None if member.fault else says_person(member.name)
        known = persons.get(folder)
        if vote is None or known is False:
            yield member
        elif known is True:
            yield _misplaced(member)
        else:
            held.append(member)
            size += member.held
            if vote is False or size > LIMITS.folder_held:
                persons[folder] = vote  # where it is too large to tell, none goes in under a wrong name
                yield from map(_misplaced, held) if vote else held
                held = []
    if held:
        persons[folder] = True
        named = {member.name: member for member in held}
        for name in in_order(named, person=True):
            yield named[name]._replace(said=said_by(name, person=True))


def _misplaced(member: Member) -> Member:
    cause = "the files of its folder do not lie together, or are too many to tell whose they are"
    return faulty(member.name, flawed(SourceFlaw.ARCHIVE_ORDER, cause))


# ---- members, one after the other


def _members(place: Place) -> Iterator[Member]:
    with place.open(forward=True) as file:
        try:
            new = next((new for magic, new in PACKED.items() if place.part(0, HEAD).startswith(magic)), None)
            stream = _Forward(file, new, plain=place.local and new is None)
            yield from _walk(place, stream)
        except SourceUnreachable:
            raise
        except SourceInvalid as error:
            yield faulty(f"{place.name} (the rest)", error)
        except OSError as error:
            cause = f"it cannot be read further ({error.strerror or type(error).__name__})"
            why = SourceFlaw.ARCHIVE_DAMAGED if error.errno is None else SourceFlaw.FILE_UNREADABLE
            yield faulty(f"{place.name} (the rest)", flawed(why, cause))
        except Exception as error:  # of damaged bytes tarfile and the unpackers raise whatever they meet
            cause = f"it breaks off or is damaged ({type(error).__name__})"
            yield faulty(f"{place.name} (the rest)", flawed(SourceFlaw.ARCHIVE_DAMAGED, cause))


def _walk(place: Place, stream: "_Forward") -> Iterator[Member]:
    version, whole = place.version(), place.size()
    names: set[int] = set()
    tar = tarfile.TarFile(fileobj=cast(BinaryIO, Bounded(cast(BinaryIO, stream), LIMITS.header)), mode="r")
    while (info := tar.next()) is not None:
        tar.members.clear()  # type: ignore[attr-defined]  # it would keep them all
        name, fault = safe_path(info.name)
        if info.isdir() or (fault is None and hidden(name)):
            continue
        fault = fault or _refused(
            info, hash(name) in names, LIMITS.file if stream.plain else LIMITS.file_held
        )
        names.add(hash(name))
        if fault is not None:
            yield faulty(f"{name} (at {info.offset})", fault)
        else:
            member = _read_member(place, stream, name, info, version and f"{version}@{info.offset}")
            yield member._replace(share=stream.taken / whole if whole else None)
    if len(stream.last) < tarfile.BLOCKSIZE or stream.last.strip(b"\0"):
        raise flawed(SourceFlaw.ARCHIVE_DAMAGED, "it ends without the mark of its end")


def _refused(info: tarfile.TarInfo, twice: bool, most: int) -> SourceInvalid | None:
    """Refuse a member by its header."""
    if twice:
        return flawed(SourceFlaw.ARCHIVE_NAME_TWICE, "an earlier member has the same name")
    if info.islnk() or info.issym():
        return flawed(SourceFlaw.ARCHIVE_LINK, "this is a link")
    if info.issparse():
        return flawed(SourceFlaw.ARCHIVE_METHOD_UNKNOWN, "this is a sparse file")
    if not info.isfile():
        return flawed(SourceFlaw.ARCHIVE_DEVICE, "this is no file")
    if not 0 <= info.size <= most:
        return flawed(SourceFlaw.FILE_TOO_LARGE, f"{info.size} bytes, more than {most}")
    return None


def _read_member(place: Place, stream: "_Forward", name: str, info: tarfile.TarInfo, version: str) -> Member:
    said = said_by(name, person=False)
    stream.seek(info.offset_data)
    if stream.plain:
        head = stream.content(min(HEAD, info.size))
        return Member(name, said, partial(_read_at, place, info.offset_data, info.size), head, version)
    data = stream.content(info.size)
    return Member(name, said, partial(bytes, data), data[:HEAD], version, held=len(data))


def _read_at(place: Place, start: int, size: int) -> bytes:
    data = place.part(start, start + size)
    if len(data) < size:
        raise flawed(SourceFlaw.ARCHIVE_DAMAGED, "the archive breaks off within it")
    return data


# ---- bytes, forwards alone


class _Unpacker(Protocol):
    """What `lzma`, `bz2` and `zstd` have in common, and `zlib` nearly."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Gunzip:
    """`zlib` as the others are."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(16 + zlib.MAX_WBITS)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)


def _unzstd() -> _Unpacker:
    return zstd.ZstdDecompressor(options=_WINDOW)


PACKED: Mapping[bytes, Callable[[], _Unpacker]] = {
    b"\x1f\x8b": _Gunzip,
    b"\xfd7zXZ\x00": lambda: lzma.LZMADecompressor(memlimit=_MEMORY),
    b"BZh": bz2.BZ2Decompressor,
    b"\x28\xb5\x2f\xfd": _unzstd,
    b"\x50\x2a\x4d\x18": _unzstd,  # a frame to be passed over, as pzstd writes one first: RFC 8878, 3.1.2
}
"""How a packed file begins, and what unpacks it."""


class _Forward:
    """The content of a tar, unpacked while it is read; `last` is what was read last."""

    def __init__(self, file: BinaryIO, new: Callable[[], _Unpacker] | None, *, plain: bool) -> None:
        self._file, self._new, self.plain = file, new, plain
        self._unpacker = new and new()
        self._at = self._taken = 0
        self.last = b""

    @property
    def taken(self) -> int:
        """How many bytes of the file were read, or passed over."""
        return self._taken if self._new else self._at

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        """Pass over what lies before an offset; backwards is what a damaged header asks for."""
        if offset < self._at or whence:
            raise EOFError("backwards")
        if self.plain:
            self._at = self._file.seek(offset)
        while self._at < offset and self._piece(min(_PIECE, offset - self._at)):
            pass
        return self._at

    def read(self, size: int) -> bytes:
        pieces: list[bytes] = []
        while size > 0 and (piece := self._piece(size)):
            pieces.append(piece)
            size -= len(piece)
        self.last = b"".join(pieces)
        return self.last

    def content(self, size: int) -> bytes:
        """Return exactly so many bytes."""
        data = self.read(size)
        if len(data) < size:
            raise EOFError("a member is not whole")
        return data

    def _piece(self, size: int) -> bytes:
        data = self._file.read(size) if self._unpacker is None else self._unpacked(self._unpacker, size)
        self._at += len(data)
        if self._new and self._at > max(LIMITS.ratio_from_stream, LIMITS.ratio * self._taken):
            raise flawed(SourceFlaw.ARCHIVE_RATIO, f"{self._at} bytes out of {self._taken}")
        return data

    def _unpacked(self, unpacker: _Unpacker, size: int) -> bytes:
        while True:
            packed = unpacker.unused_data if unpacker.eof else b""
            if not packed and (unpacker.eof or unpacker.needs_input):
                packed = self._file.read(_PIECE)
                self._taken += len(packed)
            if unpacker.eof and self._new:  # one packed file may follow another
                if not packed:
                    return b""
                self._unpacker = unpacker = self._new()
            data = unpacker.decompress(packed, size)
            if data:
                return data
            if not packed and not unpacker.eof:
                raise EOFError("the packed bytes end early")
