"""One process at a time works on a gallery."""

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from papilar.errors import GalleryLocked


class GalleryLock:
    """An exclusive lock on a gallery's folder, held until `release` or the end of the process.

    A child that is forked without starting another program shares it: start workers by spawning.

    Parameters
    ----------
    folder : Path
        The gallery; a file `lock` is made in it. It stays there, and its presence alone means nothing.

    Raises
    ------
    GalleryLocked
        Someone holds it, in this process or another.
    """

    def __init__(self, folder: Path) -> None:
        self._file: int | None = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._file, 32, 0).decode("ascii", "replace").strip()
            os.close(self._file)
            raise GalleryLocked(
                f"process {holder or 'unknown'} works on the gallery {folder}",
                remedy="stop that process, or use another folder; one node serves a gallery",
            ) from None
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode("ascii"), 0)

    def release(self) -> None:
        """Let others work on the gallery; a second call does nothing."""
        if self._file is not None:
            fcntl.flock(self._file, fcntl.LOCK_UN)
            os.close(self._file)
            self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
