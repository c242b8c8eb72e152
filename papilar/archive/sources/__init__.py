"""Where the prints of an archive come from: a folder, a tar, a zip, a manifest, on the disk or by URL.

Every source yields `Item`s lazily, in the same order each time, those of one encounter together. What cannot
be used is an item too, with a fault that says why: one bad file never keeps others out. What ends a source
is that it cannot be opened at all (`SourceInvalid`), or answers no longer (`SourceUnreachable`).
"""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from papilar.archive.cut import CutCall, cut_sheet
from papilar.archive.item import Item
from papilar.archive.sources.flaws import flawed
from papilar.archive.sources.manifest import PARQUET, manifest_members
from papilar.archive.sources.member import HEAD, Member, Sheet, missing_items, said_by
from papilar.archive.sources.place import Kind, Place, place_at
from papilar.archive.sources.sheet import sheet_items
from papilar.archive.sources.tar import PACKED, tar_members
from papilar.archive.sources.transaction import is_transaction, transaction_items
from papilar.archive.sources.tree import member_at, tree_members
from papilar.archive.sources.zipped import zip_members
from papilar.errors import SourceFlaw, SourceInvalid

__all__ = ["Sheet", "Source", "open_source"]

_TAR_MARK = slice(257, 262)  # POSIX.1-2017, pax, ustar Interchange Format: magic
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")


@dataclass(frozen=True, slots=True)
class Source:
    """What holds prints. To iterate begins it anew, and yields the same items in the same order.

    Attributes
    ----------
    name : str
        The last part of its path: for a report.
    kind : str
        "folder", "tar", "zip", "manifest" or "transaction".
    sheet : Sheet or None
        What every image is, where it is one of several fingers.
    ppi : float or None
        Resolution of every image, over what items and files say; sheets are cut by it.
    """

    name: str
    kind: str
    _root: Place = field(repr=False)
    _members: Callable[[], Iterator[Member]] = field(repr=False)
    sheet: Sheet | None = None
    ppi: float | None = None

    def __iter__(self) -> Iterator[Item]:
        return self.items()

    def items(self, cut: CutCall = cut_sheet) -> Iterator[Item]:
        """Yield the items, pictures of several fingers cut by `cut`; by default in this process."""
        references: set[int] = set()  # of transactions
        for member in _while_there(self._root, self._members()):
            if member.fault is not None:
                yield member.item()
            elif member.empty:
                yield from missing_items(member)
            elif is_transaction(member.head):
                yield from transaction_items(member, references, cut=cut)
            elif (stated := self._as_sheet(member)).said.sheet is not None:
                yield from sheet_items(stated, ppi=self.ppi, cut=cut)
                yield from missing_items(stated)
            else:
                yield member.item()
                yield from missing_items(member)

    def _as_sheet(self, member: Member) -> Member:
        """Say of a member what it is; its name then says no finger."""
        if self.sheet is None or member.said.stated:
            return member
        return member._replace(said=said_by(member.name, person=False)._replace(sheet=self.sheet))


def open_source(
    where: str | Path,
    *,
    manifest: str | Path | None = None,
    gallery: Path | None = None,
    sheet: Sheet | None = None,
    ppi: float | None = None,
    options: Mapping[str, object] | None = None,
) -> Source:
    """Open what holds prints; what it is its bytes say.

    Parameters
    ----------
    where : str or Path
        A folder, a tar (plain, gz, xz, bz2, zst), a zip, a manifest, one transaction; on the disk, or by a
        URL of `fsspec`. With `manifest`, the folder that its paths are relative to.
    manifest : str or Path, optional
        A table in CSV or Parquet that says whose the prints are, see `papilar.archive.sources.manifest`.
        Given as `where`, its paths are relative to the folder that it lies in.
    gallery : Path, optional
        A folder on the disk that is passed over where it lies in the archive.
    sheet : Sheet, optional
        What every image is, of a folder, a tar or a zip of cards or slaps.
    ppi : float, optional
        Resolution of every image, over what manifest and files say.
    options : mapping, optional
        For the file systems of URLs: keys, an endpoint.

    Returns
    -------
    Source

    Raises
    ------
    SourceInvalid
        There is nothing, it holds nothing, it is of no kind that is read, or it is the gallery itself. A
        manifest with other columns than are known, or one beside `sheet`.
    SourceUnreachable
        Nothing answers at the URL; `SourceForbidden`: nothing to us.
    """
    place = place_at(os.fspath(where), options)
    if manifest is not None:
        table = place_at(os.fspath(manifest), options)
        source = Source(table.name, "manifest", place, partial(manifest_members, table, place))
    else:
        source = _opened(place, gallery)
    if sheet is not None and source.kind == "manifest":
        raise SourceInvalid(
            "a manifest says itself which files are sheets", remedy="say it there, in the column finger"
        )
    return _begun(replace(source, sheet=sheet, ppi=ppi))


def _opened(place: Place, gallery: Path | None) -> Source:
    try:
        kind = place.kind()
    except OSError as error:
        raise flawed(SourceFlaw.FILE_UNREADABLE, "the source cannot be read") from error
    if kind is Kind.FOLDER:
        avoided = None if gallery is None else os.path.realpath(gallery)
        if place.local and os.path.realpath(place.path) == avoided:
            raise flawed(SourceFlaw.SOURCE_UNKNOWN, "the folder is archive and gallery at once")
        return Source(place.name, "folder", place, partial(tree_members, place, gallery=avoided))
    if kind is Kind.OTHER:
        raise flawed(SourceFlaw.SOURCE_EMPTY, "there is no such folder or file")
    return _of_file(place)


def _of_file(place: Place) -> Source:
    try:
        head = place.part(0, 512)
    except OSError as error:
        raise flawed(SourceFlaw.FILE_UNREADABLE, "the file cannot be read") from error
    if head.startswith(_ZIP):
        return Source(place.name, "zip", place, partial(zip_members, place))
    if head.startswith(tuple(PACKED)) or head[_TAR_MARK] == b"ustar":
        return Source(place.name, "tar", place, partial(tar_members, place))
    if is_transaction(head[:HEAD]):
        return Source(place.name, "transaction", place, partial(_alone, place, head[:HEAD]))
    if head.startswith(PARQUET) or place.name.lower().endswith(".csv"):
        return Source(place.name, "manifest", place, partial(manifest_members, place, place.folder()))
    raise flawed(SourceFlaw.SOURCE_UNKNOWN, "this is no archive, no manifest and no transaction")


def _while_there(root: Place, members: Iterator[Member]) -> Iterator[Member]:
    """End the source where its disk is gone, which would make every other file one that is not there."""
    mark = root.mark()

    def check() -> None:
        if root.mark() != mark:
            raise root.unreachable(FileNotFoundError())

    def reading(read: Callable[[], bytes]) -> bytes:
        try:
            return read()
        except OSError:
            check()
            raise

    for member in members:
        if member.fault is not None:
            check()
        yield member._replace(read=partial(reading, member.read))


def _alone(place: Place, head: bytes) -> Iterator[Member]:
    yield member_at(place, place.name, said_by(place.name, person=False), head)


def _begun(source: Source) -> Source:
    """Return the source, if it can be read at all and is not empty."""
    members = source._members()
    try:
        first = next(members, None)
    except OSError as error:
        raise flawed(SourceFlaw.FILE_UNREADABLE, "the source cannot be read") from error
    if first is None:
        raise flawed(SourceFlaw.SOURCE_EMPTY, "the source holds no file")
    return source
