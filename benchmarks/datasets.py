"""Folders of prints: which files are prints of which finger, and what is known of public sets.

"FVC-style" means a folder of `<finger>_<impression>.<ext>`, where the finger is all before the last
underscore. A folder that is named itself is a set when it holds a mated and a non-mated pair. Of the folders
below one that is named, those are sets in which also most fingers have two impressions or more: a folder of
single prints, some of whose names look alike, is left out, and named to the caller. Nothing here opens an
image.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from matcher.errors import InvalidInput

SUFFIXES = frozenset({".bmp", ".jp2", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".wsq"})
"""Endings of the files that are taken for prints, in lower case."""

MAX_DEPTH = 4
"""Folders below `--data` that are looked into: competition, database, part, and one to spare."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a public set before its files are seen.

    Attributes
    ----------
    ppi : float
        Resolution, pixels per inch; the files themselves carry none or a wrong one.
    size : (int, int)
        Width and height of every image, pixels.
    digest : str or None
        `digest` of the set's part B as its figures are quoted here; None where no copy was at hand.
    """

    ppi: float
    size: tuple[int, int]
    digest: str | None = None


# Resolution and size: the "Databases" pages of http://bias.csr.unibo.it/fvc2000/, /fvc2002/, /fvc2004/ and
# /fvc2006/, and D. Maltoni, D. Maio, A. K. Jain, J. Feng, Handbook of Fingerprint Recognition, 3rd ed.
# (2022), section 4.7. DB4 is synthetic (SFinGe), "about 500 dpi".
KNOWN: dict[tuple[str, str], Known] = {
    ("fvc2000", "DB1"): Known(500, (300, 300)),
    ("fvc2000", "DB2"): Known(500, (256, 364)),
    ("fvc2000", "DB3"): Known(500, (448, 478)),
    ("fvc2000", "DB4"): Known(500, (240, 320)),
    ("fvc2002", "DB1"): Known(
        500, (388, 374), "4127e484a99b90ba2def64aad7315dffa88d42ba1a2412f64412b2f8674c7dd9"
    ),
    ("fvc2002", "DB2"): Known(
        569, (296, 560), "daf7ab5d45895bd53ce77c2767174d604b9b799fc9845fe203e0e3c3b184eef6"
    ),
    ("fvc2002", "DB3"): Known(
        500, (300, 300), "189b7ec60520353913d52e8f90a0f96f36a922d1a9538c481cbc585525be43c6"
    ),
    ("fvc2002", "DB4"): Known(
        500, (288, 384), "860d8cdfc5c63863ec6e3eeb90bdc9ad6c9dc318e312377e7e082d335427d404"
    ),
    ("fvc2004", "DB1"): Known(
        500, (640, 480), "e34828a975af3a566a2e139099e600cced297f53c0d5ff14127a466e2422b2ca"
    ),
    ("fvc2004", "DB2"): Known(
        500, (328, 364), "abb1e878e2f08d2606ec11a6fcbd3d32449314d54b2a1a3fc0fb3010a1032836"
    ),
    ("fvc2004", "DB3"): Known(
        512, (300, 480), "4f05bf1c86dfe488381ffbf0b01a6e1b502d847d95c67f284e7ad455001ebdf0"
    ),
    ("fvc2004", "DB4"): Known(
        500, (288, 384), "93df718122b1defef630b1bf067012abc06fbc892c232e28b94d934a8e88a2ac"
    ),
    ("fvc2006", "DB1"): Known(250, (96, 96)),
    ("fvc2006", "DB2"): Known(569, (400, 560)),
    ("fvc2006", "DB3"): Known(500, (400, 500)),
    ("fvc2006", "DB4"): Known(500, (288, 384)),
}
"""Public sets by competition and database; parts A and B of a database share sensor and resolution."""


SAME_FINGER: frozenset[frozenset[str]] = frozenset(
    {frozenset({"fvc2002-DB3_B/108", "fvc2004-DB3_B/102"})},
)
"""Fingers that stand in two public sets under two names, as `<set>/<finger>`.

FVC did not say so: it was seen here, when identification over all sets confused just these two. The 64 pairs
of their impressions score 2.6 to 15.7 (log10 likelihood ratio), where no other two fingers' first impressions
reach 0.8; and laid on each other 31 of 36 minutiae, the core and the course of the ridges agree."""


@dataclass(frozen=True, slots=True)
class Print:
    """One file: an impression of a finger.

    Attributes
    ----------
    path : Path
    finger : str
        All before the last underscore of the file's name.
    impression : str
        Between the last underscore and the ending.
    """

    path: Path
    finger: str
    impression: str

    @property
    def name(self) -> str:
        """The file's name without its ending; unique in its set."""
        return self.path.stem


@dataclass(frozen=True, slots=True)
class PrintSet:
    """One folder of prints, with at least one mated and one non-mated pair.

    Attributes
    ----------
    name : str
        Unique among the sets of a run, as `fvc2002-DB1_B`.
    ppi : float or None
        Pixels per inch; None where each file must state its own.
    prints : tuple of Print
        By finger, then impression, numbers in them in numeric order.
    """

    name: str
    ppi: float | None
    prints: tuple[Print, ...]


class Loaded(NamedTuple):
    """The sets of a folder, and the folders in it that hold prints but are no sets."""

    sets: tuple[PrintSet, ...]
    left_out: tuple[str, ...]


def load(data: Path, *, ppi: float | None = None) -> Loaded:
    """Find the sets in `data`: one folder of prints, or a folder of such folders.

    Parameters
    ----------
    data : Path
    ppi : float, optional
        Pixels per inch of every file, over whatever is known of the sets.

    Raises
    ------
    InvalidInput
        `data` is no folder, holds no prints or no pairs, names a print twice, or `ppi` is not positive.
    """
    if ppi is not None and not 0 < ppi < float("inf"):
        raise InvalidInput(f"a resolution of {ppi} ppi", remedy="give --ppi in pixels per inch, as 500")
    root = data.resolve()
    if not root.is_dir():
        raise InvalidInput(
            f"{data} is no folder", remedy="give --data a folder of <finger>_<impression>.<ext>"
        )
    found = {folder: prints for folder in _folders(root) if (prints := _prints(folder))}
    if not found:
        raise InvalidInput(
            f"no prints in {data}", remedy="name the files <finger>_<impression>.<ext>, as 101_1.tif"
        )
    paired = {f: prints for f, prints in found.items() if _is_set(prints, named=f == root)}
    if not paired:
        raise InvalidInput(
            f"no pairs to compare in {data}",
            remedy="a set needs two fingers or more, and two impressions of most of them",
        )
    names = _names(list(paired))
    sets = tuple(PrintSet(names[f], resolution(f) if ppi is None else ppi, p) for f, p in paired.items())
    return Loaded(sets, tuple(str(folder.relative_to(root)) for folder in found if folder not in paired))


def resolution(folder: Path) -> float | None:
    """Pixels per inch of a folder of a public set, known by its name and its parents'; None for any other."""
    key = identify(folder)
    return KNOWN[key].ppi if key in KNOWN else None


def identify(folder: Path) -> tuple[str, str] | None:
    """Return competition and database, as `("fvc2002", "DB1")`, from a folder's and its parents' names."""
    database = re.fullmatch(r"(DB[1-4])(_[AB])?", folder.name, re.IGNORECASE)
    competition = _competition(folder)
    if database is None or competition is None:
        return None
    return competition, database[1].upper()


def digest(paths: Iterable[Path]) -> str:
    """SHA-256 of a set's content, in hexadecimal.

    The same as `sha256sum * | sha256sum` in the set's folder in the C locale, so that anyone can check it.
    """
    lines = (f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in _by_name(paths))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def natural(text: str) -> tuple[tuple[int, int | str], ...]:
    """Key that sorts the numbers in a text by value: `2` before `10`, `1_a` before `1_b`."""
    parts = re.split(r"([0-9]+)", text)
    return tuple((0, int(part)) if part.isdecimal() else (1, part) for part in parts if part)


def split_name(name: str) -> tuple[str, str] | None:
    """Finger and impression of a print's name, or None where it does not have both."""
    finger, _, impression = name.rpartition("_")
    return (finger, impression) if finger and impression else None


def _by_name(paths: Iterable[Path]) -> list[Path]:
    return sorted(paths, key=lambda path: path.name.encode())


def _folders(folder: Path, depth: int = 0) -> Iterator[Path]:
    yield folder
    if depth < MAX_DEPTH:
        for child in sorted(folder.iterdir()):
            if child.is_dir() and not child.name.startswith("."):
                yield from _folders(child, depth + 1)


def _prints(folder: Path) -> tuple[Print, ...]:
    files = (path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    parts = ((path, split_name(path.stem)) for path in files if not path.name.startswith("."))
    prints = [Print(path, *names) for path, names in parts if names is not None]
    for name, count in Counter(each.name for each in prints).items():
        if count > 1:
            raise InvalidInput(f"{count} files of print {name} in {folder.name}", remedy="keep one of them")
    return tuple(sorted(prints, key=lambda each: (natural(each.finger), natural(each.impression))))


def _is_set(prints: tuple[Print, ...], *, named: bool) -> bool:
    counts = [len(list(group)) for _, group in groupby(prints, key=lambda each: each.finger)]
    mated = sum(count > 1 for count in counts)
    return len(counts) > 1 and (mated > 0 if named else mated > len(counts) / 2)


def _competition(folder: Path) -> str | None:
    for parent in list(folder.parents)[:3]:
        if match := re.fullmatch(r"fvc[ _-]?(20\d\d)", parent.name, re.IGNORECASE):
            return f"fvc{match[1]}"
    return None


def _names(folders: list[Path]) -> dict[Path, str]:
    names = {folder: _name(folder) for folder in folders}
    for depth in range(1, MAX_DEPTH + 2):
        counts = Counter(names.values())
        for folder in folders:
            if counts[names[folder]] > 1:
                names[folder] = "-".join(folder.parts[1:][-depth - 1 :])
    return names


def _name(folder: Path) -> str:
    competition = _competition(folder) if identify(folder) else None
    return f"{competition}-{folder.name.upper()}" if competition else folder.name
