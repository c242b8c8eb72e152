"""Whose print a file is, by its name and those beside it; the same in a folder, a tar, a zip and a bucket.

- `FINGER_IMPRESSION.ext` (the finger is all before the last underscore; without one, the whole stem): each
  finger is a subject of its own, each impression an encounter. In a sub-folder the subject is
  `sub/folder/FINGER`.
- In a sub-folder whose files are all named `POSITION_IMPRESSION.ext` with finger positions 1 to 10 (ISO/IEC
  19794-2), the folder is one person: the subject is `sub/folder`, and each impression number is an encounter
  of all its fingers.

  What is no image by its extension has no say in this, and is no print of the person.

Nothing here touches a disk.
"""

from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import NamedTuple

from matcher.template import Finger


class Named(NamedTuple):
    """Whose print it is, of which encounter of theirs, and which finger."""

    subject: str
    impression: str
    finger: Finger


def name_file(name: str, *, person: bool) -> Named:
    """Read the name of a file.

    Parameters
    ----------
    name : str
        Path within the archive, parts joined by '/'.
    person : bool
        Whether its folder is one person, as `is_person` says.
    """
    folder = folder_of(name)
    finger, impression = _split(name)
    position = _position(finger) if person and says_person(name) else None
    if position is not None:
        return Named(folder, impression, position)
    return Named(f"{folder}/{finger}" if folder else finger, impression, Finger.UNKNOWN)


def is_person(names: Iterable[str]) -> bool:
    """Tell whether the files of one folder are the fingers of one person.

    Parameters
    ----------
    names : iterable of str
        Paths of all its files, parts joined by '/'.
    """
    votes = [vote for vote in map(says_person, names) if vote is not None]
    return bool(votes) and all(votes)


def says_person(name: str) -> bool | None:
    """Tell whether a file speaks for its folder being one person, or against; None where it has no say."""
    if PurePosixPath(name).suffix.lower() not in _IMAGES:
        return None
    return bool(folder_of(name)) and _position(_split(name)[0]) is not None


def folder_of(name: str) -> str:
    """Return the folder of a path; empty for the archive itself."""
    return name.rpartition("/")[0]


_IMAGES = frozenset(
    {".png", ".bmp", ".tif", ".tiff", ".jpg", ".jpeg", ".jp2", ".j2k", ".wsq", ".pgm", ".ppm", ".pbm"}
)


def _split(name: str) -> tuple[str, str]:
    stem = PurePosixPath(name).stem
    finger, underscore, impression = stem.rpartition("_")
    return (finger, impression) if underscore and finger else (stem, "1")


def _position(text: str) -> Finger | None:
    return Finger(int(text)) if text.isascii() and text.isdigit() and 1 <= int(text) <= 10 else None
