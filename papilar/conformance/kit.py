"""A country for trials: good certificates and odd ones, what others should trust, two prints.

    FOLDER/home/             the testing country: node, seal, examiner; expired and revoked ones; an officer
    FOLDER/abroad/           a second country, for what one may not do in another's name
    FOLDER/unknown/          an authority of the testing country's name that nobody trusts
    FOLDER/trust/XTA, XTB    to be added to the trust list of the node under test; its own authority goes here
    FOLDER/prints/           enrolled.png is to be enrolled at the node; probe.png is searched with

The codes begin with X: ISO 3166 leaves them to users, so no country is spoken for.
"""

import re
import shutil
from datetime import datetime, timedelta
from pathlib import Path

from papilar import pki
from papilar.conformance.prints import draw_pair
from papilar.errors import RequestInvalid
from papilar.files import write_file
from papilar.identity import Identity, Kind, Role

HOME, ABROAD = "XTA", "XTB"
_SEED = 20261122
_AGE = timedelta(days=3)  # of the authorities, so that there is something that has expired since
_MADE_UP = re.compile("AA[A-Z]|Q[M-Z][A-Z]|X[A-Z]{2}|ZZ[A-Z]")


def is_made_up(country: str) -> bool:
    """Return whether ISO 3166-1 leaves a code to its users: AAA to AAZ, QMA to QZZ, X.., ZZ."""
    return _MADE_UP.fullmatch(country) is not None


def make_kit(folder: Path, *, at: datetime, home: str = HOME, abroad: str = ABROAD, days: int = 90) -> None:
    """Make the folder of the kit.

    Parameters
    ----------
    folder : Path
        Made if missing.
    at : datetime
        Now, UTC.
    home, abroad : str
        Codes of the testing country and the second one.
    days : int
        How long what is valid stays so.

    Raises
    ------
    RequestInvalid
        A code that may be a country's.
    ConfigInvalid, StorageUnavailable
        As `papilar.pki.init`.
    """
    if not (is_made_up(home) and is_made_up(abroad)) or home == abroad:
        raise RequestInvalid("a code that may be a country's, or one code twice", remedy="take XTA and XTB")
    _make_home(folder / "home", home, at, days)
    _make_abroad(folder / "abroad", abroad, at, days)
    pki.init(folder / "unknown", home, at=at, days=days)
    for name, country in (("home", home), ("abroad", abroad)):
        shutil.copytree(folder / name / "trust" / country, folder / "trust" / country)
    pair = draw_pair(_SEED)
    (folder / "prints").mkdir()
    write_file(folder / "prints" / "enrolled.png", pair.enrolled)
    write_file(folder / "prints" / "probe.png", pair.probe)


def _make_home(folder: Path, country: str, at: datetime, days: int) -> None:
    """Make the testing country: `node`, `seal`, two users, and of node and seal one expired, one revoked."""
    began = at - _AGE
    pki.init(folder, country, at=began, days=days + _AGE.days)
    for role, name in ((Role.EXAMINER, "examiner"), (Role.OFFICER, "officer")):
        pki.issue(folder, Identity(country, Kind.USER, name, frozenset({role})), at=at, days=days)
    for kind in (Kind.NODE, Kind.SEAL):
        pki.issue(folder, Identity(country, kind, "expired"), at=began, days=1)
        (made,) = pki.issue(folder, Identity(country, kind, "revoked"), at=at, days=days)
        pki.revoke(folder, made, at=at)


def _make_abroad(folder: Path, country: str, at: datetime, days: int) -> None:
    pki.init(folder, country, at=at, days=days)
    examiner = Identity(country, Kind.USER, "examiner", frozenset({Role.EXAMINER}))
    pki.issue(folder, examiner, at=at, days=days)
