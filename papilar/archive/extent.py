"""How many files an archive holds, counted beside the run: for the time that is left, and nothing else.

Counted is what lies on the disk and tells it without being read: the names of a folder, the directory of a
zip, the lines of a manifest in CSV. A tar, a Parquet table and what lies elsewhere say nothing. A count may
be off by a few: what is hidden or twice there counts too.
"""

import os
import threading
from contextlib import suppress
from pathlib import Path

_END_OF_ZIP = b"PK\x05\x06"  # APPNOTE.TXT 6.3.10, section 4.3.16
_END_OF_ZIP64 = b"PK\x06\x06"  # section 4.3.14
_PARQUET = b"PAR1"
_LAST = (1 << 16) + 200  # bytes in which both lie, with the longest comment
_PIECE = 1 << 20


class Extent:
    """Counts the files of an archive in a thread of its own, which ends with the process.

    Parameters
    ----------
    path : Path or None
        What is on the disk: a folder, a zip, a manifest. None for what lies elsewhere.
    kind : str
        As `papilar.archive.sources.Source.kind`.

    Attributes
    ----------
    files : int or None
        None until they are counted, and where that cannot be done.
    """

    def __init__(self, path: Path | None, kind: str) -> None:
        self.files: int | None = None
        if path is not None:
            threading.Thread(target=self._count, args=(path, kind), name="count", daemon=True).start()

    def _count(self, path: Path, kind: str) -> None:
        with suppress(OSError, ValueError):
            if kind == "folder":
                self.files = _in_folder(path)
            elif kind == "zip":
                self.files = _in_zip(path)
            elif kind == "manifest":
                self.files = _in_table(path)


def _in_folder(path: Path) -> int:
    count = 0
    for _, folders, names in os.walk(path):
        folders[:] = (name for name in folders if not name.startswith("."))
        count += sum(not name.startswith(".") for name in names)
    return count


def _in_zip(path: Path) -> int | None:
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _LAST))
        end = file.read()
    at, large = end.rfind(_END_OF_ZIP), end.rfind(_END_OF_ZIP64)
    if large >= 0:
        return int.from_bytes(end[large + 32 : large + 40], "little")
    return int.from_bytes(end[at + 10 : at + 12], "little") if at >= 0 else None


def _in_table(path: Path) -> int | None:
    with path.open("rb") as file:
        if file.read(4) == _PARQUET:
            return None
        file.seek(0)
        lines, last = 0, b"\n"
        while piece := file.read(_PIECE):
            lines, last = lines + piece.count(b"\n"), piece
    return max(0, lines + (not last.endswith(b"\n")) - 1)  # without the heading
