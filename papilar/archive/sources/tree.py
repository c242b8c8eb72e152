"""A folder on the disk, or what looks like one in a store of objects; one folder's names are held."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TypeVar

from papilar.archive.folder import is_person
from papilar.archive.sources.flaws import flawed
from papilar.archive.sources.member import HEAD, Member, Said, faulty, in_order, said_by
from papilar.archive.sources.place import Entry, Kind, Place
from papilar.errors import SourceFlaw

T = TypeVar("T")

AT_A_TIME = 64
"""How many files are asked at a time how they begin: a store of objects answers late, but many at once."""


def tree_members(root: Place, *, gallery: str | None = None) -> Iterator[Member]:
    """Yield every file of a folder, those of one encounter together, then those of its sub-folders.

    Parameters
    ----------
    root : Place
        A folder; hidden files and folders are passed over, a link to a folder is a line.
    gallery : str, optional
        A folder on the disk, without links in its path; passed over where it lies in the archive.

    Raises
    ------
    SourceInvalid
        The folder itself cannot be read. A sub-folder that cannot is a line.
    SourceUnreachable
    """
    yield from _walk(root, "", gallery)


def _walk(root: Place, folder: str, gallery: str | None) -> Iterator[Member]:
    try:
        entries = [e for e in root.inner(folder).entries() if e.name[0] != "." or e.name[-1] == "/"]
    except OSError as error:
        fault = flawed(SourceFlaw.FILE_UNREADABLE, f"the folder cannot be read ({error.strerror})")
        if not folder:
            raise fault from error
        yield faulty(folder, fault)
        return
    named = [(f"{folder}/{entry.name}" if folder else entry.name, entry) for entry in entries]
    files = {name: entry for name, entry in named if entry.kind is not Kind.FOLDER}
    person = is_person(files)
    for some in batches(in_order(files, person=person), AT_A_TIME):
        yield from _members(root, some, files, person=person)
    for name in (name for name, entry in named if entry.kind is Kind.FOLDER):
        yield from () if _is(root.inner(name), gallery) else _walk(root, name, gallery)


def _members(
    root: Place, names: Sequence[str], files: Mapping[str, Entry], *, person: bool
) -> Iterator[Member]:
    sound = [name for name in names if files[name].kind is Kind.FILE]
    heads = dict(zip(sound, root.heads(sound, HEAD), strict=True))
    for name in names:
        if name in heads:
            said = said_by(name, person=person)
            yield member_at(root.inner(name), name, said, heads[name], files[name].version)
        elif name.endswith("/"):
            cause = "the name of an object has a part that is empty or dots, which no file has"
            yield faulty(name, flawed(SourceFlaw.ARCHIVE_PATH_UNSAFE, cause))
        else:
            yield faulty(name, flawed(SourceFlaw.ARCHIVE_DEVICE, "this is no file, nor a link to one"))


def member_at(place: Place, name: str, said: Said, head: bytes | OSError, version: str = "") -> Member:
    """Return the member that a file is.

    Parameters
    ----------
    place : Place
    name : str
        Within the source.
    said : Said
    head : bytes or OSError
        How it begins, or why it cannot be read.
    version : str
        As its folder's listing tells it.
    """
    if isinstance(head, OSError):
        why = SourceFlaw.FILE_MISSING if isinstance(head, FileNotFoundError) else SourceFlaw.FILE_UNREADABLE
        told = "there is no such file" if why is SourceFlaw.FILE_MISSING else "the file cannot be read"
        return Member(name, said, fault=flawed(why, told))
    return Member(name, said, place.read, head, version or (place.version() if place.local else ""))


def batches(some: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield what comes in lists of `size`, the last one shorter."""
    left = iter(some)
    while batch := list(islice(left, size)):
        yield batch


def _is(place: Place, gallery: str | None) -> bool:
    return place.local and os.path.realpath(place.path) == gallery
