"""Fetch the public sets that have a direct address: part B of FVC2000, FVC2002 and FVC2004.

They are served over plain HTTP without published checksums, so every set is checked: always for its
structure (10 fingers x 8 impressions, image size) and, where a copy was at hand to compute it from,
against the digest in `datasets.KNOWN`.
"""

import os
import re
import shutil
import tempfile
import urllib.error
import urllib.request
import zipfile
from pathlib import Path, PurePosixPath
from urllib.response import addinfourl

from benchmarks.datasets import KNOWN, Known, digest
from enroll.image import read_image
from matcher.errors import InvalidInput, PapilarError

HOST = "http://bias.csr.unibo.it"
"""Biometric System Laboratory, University of Bologna, which held the competitions."""

NAMES = tuple(f"{competition}-{db}_B" for competition, db in KNOWN if competition != "fvc2006")
"""Sets that can be fetched; FVC2006 and the parts A are on request, see `datasets/README.md`."""

TIMEOUT_S = 60
"""Longest silence of the server."""

MAX_BYTES = 1 << 28
"""Largest archive, and largest content of one; the real ones have 10 to 30 MB."""


def download(name: str, into: Path, *, host: str = HOST, check_digest: bool = True) -> Path:
    """Fetch, check and unpack one set into `into/<competition>/<database>_B`; return that folder.

    A transfer that broke off is resumed. The folder appears as a whole, after all checks, or not at all;
    one that is already there and passes them is kept.

    Parameters
    ----------
    name : str
        One of `NAMES`.
    into : Path
    host : str
        Scheme and host of the server.
    check_digest : bool
        False accepts a set of the right structure whose bytes differ from those measured here.

    Raises
    ------
    InvalidInput
        The name is unknown, the server does not give the file, or what it gives is not the set.
    """
    if name not in NAMES:
        raise InvalidInput(f"no direct address of {name}", remedy=f"name one of {', '.join(NAMES)}")
    competition, _, part = name.partition("-")
    known = KNOWN[competition, part[:3]]
    folder = into / competition / part
    if folder.is_dir():
        _check(folder, known, check_digest)
        return folder
    archive = into / f"{name}.zip.part"
    into.mkdir(parents=True, exist_ok=True)
    _fetch(f"{host}/{competition}/Downloads/{part}.zip", archive)
    with tempfile.TemporaryDirectory(dir=into, prefix=".unpack-") as scratch:
        _unpack(archive, Path(scratch) / part)
        _check(Path(scratch) / part, known, check_digest)
        folder.parent.mkdir(exist_ok=True)
        os.replace(Path(scratch) / part, folder)
    archive.unlink()
    return folder


def _fetch(url: str, path: Path) -> None:
    """Append what is missing of `url` to `path`."""
    have = path.stat().st_size if path.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as reply:  # noqa: S310  HOST or the caller's
            _copy(reply, path, "ab" if reply.status == 206 else "wb")
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing is missing
            return
        raise _unfetched(url, error) from error
    except OSError as error:
        raise _unfetched(url, error) from error


def _copy(reply: addinfourl, path: Path, mode: str) -> None:
    expected = int(reply.headers.get("Content-Length") or -1)
    if expected > MAX_BYTES:
        raise InvalidInput(f"{expected} bytes offered", remedy="no set has over 30 MB; check the address")
    with path.open(mode) as file:
        before = file.tell()
        shutil.copyfileobj(reply, file)
        if expected >= 0 and file.tell() - before != expected:
            raise OSError(f"{file.tell() - before} of {expected} bytes arrived")


def _unfetched(url: str, error: Exception) -> InvalidInput:
    return InvalidInput(f"{url} cannot be fetched ({error})", remedy="try again: what has arrived is kept")


def _unpack(archive: Path, folder: Path) -> None:
    """Write the archive's prints, by their own names alone, whatever path it gives them."""
    folder.mkdir()
    try:
        with zipfile.ZipFile(archive) as content:
            members = {PurePosixPath(item.filename).name: item for item in content.infolist()}
            prints = {name: item for name, item in members.items() if re.fullmatch(r"\d+_\d+\.tif", name)}
            if sum(item.file_size for item in prints.values()) > MAX_BYTES:
                raise InvalidInput("the archive's content is too large", remedy="check the address")
            for name, item in prints.items():
                (folder / name).write_bytes(content.read(item))
    except zipfile.BadZipFile as error:
        archive.unlink()
        raise InvalidInput(f"what arrived is no whole zip archive ({error})", remedy="try again") from error


def _check(folder: Path, known: Known, check_digest: bool) -> None:
    expected = {f"{finger}_{impression}.tif" for finger in range(101, 111) for impression in range(1, 9)}
    found = {path.name for path in folder.iterdir()}
    if found != expected:
        extra = len(found - expected)
        raise _wrong(folder, f"{len(found & expected)} of its 80 prints and {extra} other files")
    for name in sorted(expected):
        if _size(folder / name) != known.size:
            width, height = known.size
            raise _wrong(folder, f"a {name} that is no image of {width} x {height} pixels")
    if check_digest and known.digest not in (None, digest(folder.iterdir())):
        raise _wrong(folder, "other bytes than the copy that the published figures were measured on")


def _size(path: Path) -> tuple[int, int] | None:
    try:
        height, width = read_image(path.read_bytes(), ppi=500).pixels.shape
    except PapilarError:
        return None
    return width, height


def _wrong(folder: Path, what: str) -> InvalidInput:
    return InvalidInput(
        f"{folder.name} holds {what}", remedy="remove it and try again, or --no-digest for other bytes"
    )
