"""The laws of a node: a folder of signed bundles, one a version. The one with the highest number is in force.

    FOLDER/7.law, FOLDER/8.law

A law comes in by `install` alone, which takes it whole or not at all, and never one that is older. None is
removed: the log of requests names the law that decided, and here it can still be read.
"""

import fcntl
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from matcher.errors import PapilarError
from papilar.durable import write_durably
from papilar.errors import LawRefused, LawRolledBack, StorageUnavailable
from papilar.identity import Kind
from papilar.policy.bundle import KIND, Bundle, read_bytes
from papilar.policy.law import Law
from papilar.policy.trial import try_law
from papilar.trust import Trust

_log = logging.getLogger(__name__)
_READ_AGAIN = timedelta(seconds=10)

_Stamp = tuple[tuple[int, ...], tuple[int, ...]]


def open_law(data: bytes, trust: Trust, *, country: str, at: datetime) -> Law:
    """Return the law of a bundle whose signature is that of the country's law key.

    Parameters
    ----------
    data : bytes
        As `papilar policy pack` writes it.
    trust : Trust
    country : str
        The country whose law it must be, ISO 3166-1 alpha-3.
    at : datetime
        UTC, aware.

    Raises
    ------
    LawInvalid
        No bundle, or no law.
    CertificateRefused, SignatureRefused
        As `Trust.check`.
    LawRefused
        Signed by another country, or a law of another country.
    """
    bundle = Bundle.unpack(data)
    payload = bundle.text.payload()
    signer = trust.check(KIND, payload, bundle.signature, at=at, kinds={Kind.LAW})
    law = Law.read(bundle.text)  # nothing of it was looked at before
    if not signer.country == law.terms.country == country:
        raise LawRefused(
            f"a law of {law.terms.country}, signed by {signer.country}, for a node of {country}",
            remedy="install the law of the node's own country, signed by its law key",
        )
    return law


def install(data: bytes, folder: Path, trust: Trust, *, country: str, at: datetime) -> Law:
    """Put a law in force. To install the one in force again, under a newer certificate, renews its signature.

    Parameters
    ----------
    data, trust, country, at
        As `open_law`.
    folder : Path
        Where the node keeps its laws; made if missing.

    Returns
    -------
    Law

    Raises
    ------
    LawInvalid, CertificateRefused, SignatureRefused
        As `open_law`. Nothing was changed then, and for all below.
    LawRefused
        Also: not in force yet; fails its own examples.
    LawRolledBack
        Older than the law in force, or of the same version with other content.
    StorageUnavailable
        The folder cannot be read or written.
    """
    law = open_law(data, trust, country=country, at=at)
    if law.terms.valid_from > at:
        raise LawRefused(
            f"the law is in force from {law.terms.valid_from:%Y-%m-%d} UTC", remedy="install it then"
        )
    if not try_law(law).passed:
        raise LawRefused("the law fails its own examples", remedy="run papilar policy test, and mend it")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            _check_newer(law, folder)
            write_durably(folder / _name(law.terms.version), data, mode=0o644)
    except OSError as error:
        raise StorageUnavailable(
            f"the folder of the laws cannot be used ({error.strerror})", remedy="check path, rights and disk"
        ) from error
    return law


class Kept(NamedTuple):
    """One law that was installed: its number and its file."""

    version: int
    path: Path


def history(folder: Path) -> list[Kept]:
    """Return the laws that were installed, the first one first; raises `StorageUnavailable`."""
    try:
        found = [path for path in folder.iterdir() if re.fullmatch(r"[1-9]\d{0,6}\.law", path.name)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StorageUnavailable(
            f"the folder of the laws cannot be read ({error.strerror})", remedy="check path and rights"
        ) from error
    return sorted(Kept(int(path.stem), path) for path in found)


class InstalledLaw:
    """The law in force at a node; safe to use from several threads.

    Every law is checked as `open_law` does before it is used. Where the folder changes to what cannot be
    used, to an older law or to none, the last good law stays in force, the log says so, and the folder is
    read again every 10 seconds.

    Parameters
    ----------
    folder : Path
    trust : Trust
    country : str
    now : datetime
        UTC, aware.

    Raises
    ------
    LawRefused
        No law is installed.
    LawInvalid, CertificateRefused, SignatureRefused, LawRolledBack, StorageUnavailable
        As `install`, for the law that lies there.
    """

    def __init__(self, folder: Path, trust: Trust, *, country: str, now: datetime) -> None:
        self._folder, self._trust, self._country = folder, trust, country
        self._lock = Lock()
        folder_before = _stamp(folder)
        self._law = self._read(now, None)
        self._stamp = folder_before, self._look()[1]
        self._again = now
        self._trouble = ""

    def current(self, now: datetime) -> Law:
        """Return the law in force, read anew where the folder has changed; some microseconds otherwise."""
        with self._lock:
            if self._look() != self._stamp and now >= self._again:
                self._renew(now)
            return self._law

    def _look(self) -> _Stamp:
        """Return what changes when a law comes, or when the bytes of the one in force do."""
        return _stamp(self._folder), _stamp(self._folder / _name(self._law.terms.version))

    def _renew(self, now: datetime) -> None:
        before, folder = self._law.terms.version, _stamp(self._folder)
        try:
            self._law = self._read(now, self._law)
        except PapilarError as error:
            if str(error) != self._trouble:
                _log.error("the laws on the disk are not to be used, law %d stays: %s", before, error)
            self._trouble, self._again = str(error), now + _READ_AGAIN
            return
        self._trouble, self._stamp = "", (folder, self._look()[1])  # what came since is seen by the next call
        if self._law.terms.version != before:
            _log.warning("law %d of %s is in force", self._law.terms.version, self._country)

    def _read(self, now: datetime, before: Law | None) -> Law:
        kept = history(self._folder)
        if not kept:
            raise LawRefused("no law is installed", remedy="install one: papilar policy install")
        law = open_law(read_bytes(kept[-1].path), self._trust, country=self._country, at=now)
        if law.terms.version != kept[-1].version or (before and not _follows(law, before)):
            raise LawRolledBack(
                f"{kept[-1].path.name} holds law {law.terms.version}, older or altered",
                remedy="install the law in force again",
            )
        return law


def _follows(law: Law, before: Law) -> bool:
    """Return whether a law is newer than another, or the same."""
    return law.terms.version > before.terms.version or law.sha256 == before.sha256


def _check_newer(law: Law, folder: Path) -> None:
    kept = history(folder)
    if kept and not _follows(law, Law.load(kept[-1].path)):
        raise LawRolledBack(
            f"law {law.terms.version} is older than law {kept[-1].version}, or differs under its number",
            remedy="give a law that was changed a higher version, and sign it",
        )


def _name(version: int) -> str:
    return f"{version}.law"


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_size, found.st_ino


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one installation at a time look at the folder and write; the lock ends with the file."""
    with (folder / "lock").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
