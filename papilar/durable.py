"""Files that are whole as soon as they have their names, and that outlast a loss of power."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PART = ".part"
"""How the name of a file ends that is being written."""


def write_durably(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Write a file whole or not at all, in place of one that is there; raises `OSError`."""
    with part_of(path, data, mode=mode) as part:
        part.replace(path)
    flush_folder(path.parent)


@contextmanager
def part_of(path: Path, data: bytes, *, mode: int) -> Iterator[Path]:
    """Give a new file beside `path` that is on the disk, made with these rights; at the end it is gone."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}{PART}")
    try:
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield part
    finally:
        part.unlink(missing_ok=True)


def flush_folder(folder: Path) -> None:
    """Bring to the disk what was named and unnamed in a folder."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
