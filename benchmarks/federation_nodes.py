"""Five trial countries for the benchmark of the exchange, each a real node in a process of its own.

Their galleries are load: random minutiae that keep their distance and follow a smooth field, so that a search
has as much to read and to compare as in a country's file. They are no realistic prints, carry no description
of ridges, and say nothing of accuracy. Among them are a few synthetic fingers (benchmarks.synthetic) whose
further impressions are searched.
"""

import random
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.commands import Process, free_addresses, listens, node
from benchmarks.runner import Track
from benchmarks.synthetic import archive
from enroll.pipeline import EXTRACTOR
from matcher.codecs import NATIVE, encode
from matcher.errors import InvalidInput
from matcher.template import Finger, Impression, Template
from papilar import pki
from papilar.identity import Identity
from papilar.node import Node
from papilar.policy import LawText, install
from papilar.policy.bundle import Bundle
from papilar.requests import Enrollment, PrintInput
from papilar.signing import Signer
from papilar.store import NewEncounter, NewPrint, Store
from papilar.trust import Trust

ASKING, ANSWERING, REFUSING = LARGE = ("HND", "SLV", "GTM")
"""HND asks, and searches its own file along; SLV answers; GTM answers, and refuses a petty offence."""

HIDING = {"NIC": 2.0, "CRI": 0.001}
"""Countries that hide that they refuse a petty offence, and the quantum of their answers, seconds: the usual
one, and one that is far shorter than a search."""

HANGING = "NIC"
"""It also hangs when it is told to, and its quota at SLV is nought."""

COUNTRIES = (*LARGE, *HIDING)

SMALL = 500
"""Most fingers of the galleries that hide: there a search is best shorter than the usual quantum."""

OFFICER = "o1"
"""The one user of every node."""

MATES = 3
"""Synthetic fingers that every gallery has, numbered from 1; the next is a stranger everywhere."""

_FINGERS_EACH = 10  # prints of a subject of the load
_MINUTIAE = (30, 46)  # of a print, from and below; the synthetic impressions have about as many
_SIZE, _CELL, _JITTER = (400, 480), 22, 4  # pixels: of a print, of the lattice, off the lattice
_START_S = 600.0

_RULES = (
    '@id("all")\n@reads("Every search is permitted.")\npermit (principal, action, resource);\n',
    '@id("not-for-less")\n@reads("Nothing is answered for a petty offence.")\n@code("OFFENCE_NOT_COVERED")\n'
    'forbid (principal, action == Action::"search", resource) when '
    '{ context.direction == Direction::"inbound" && context.offence_class == OffenceClass::"petty" };\n',
)
_EXAMPLES = """[usual]
action = "search"
direction = "inbound"
peer = "PAN"
roles = ["officer"]
files = ["criminal"]
purpose = "criminal_investigation"
offence_class = "serious"
legal_basis = "treaty"
search_type = "TP_TP"

[[example]]
name = "A serious offence"
expect = "ALLOW"
rules = ["all"]
"""
_LESSER = """
[[example]]
name = "A petty offence"
given = { offence_class = "petty" }
expect = "DENY"
rules = ["not-for-less"]
code = "OFFENCE_NOT_COVERED"
"""


class Address(NamedTuple):
    """Where a node listens: for its own users, and for other countries."""

    users: str
    peers: str


# ---- galleries


def prints(folder: Path, *, seed: int = 0) -> tuple[Path, ...]:
    """Write two impressions of the mates and of a stranger; return the second ones, the stranger's last."""
    archive(folder, subjects=MATES + 1, impressions=2, seed=seed)
    return tuple(folder / f"{number:03d}_2.png" for number in range(1, MATES + 2))


def gallery(folder: Path, fingers: int, mates: Path, *, seed: int, track: Track) -> Path:
    """Make a gallery of so many fingers and the mates; one that is there is taken as it is.

    The load goes into the store directly, ten prints an encounter, and the node that opens it makes it
    findable, as after a restart. To enrol each encounter by itself would extract an image for every print.

    Parameters
    ----------
    folder : Path
    fingers : int
        Prints of the load.
    mates : Path
        Folder that `prints` has written.
    seed : int
    track : callable
        Shows progress.
    """
    if folder.is_dir():
        return folder
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    with Store.open(part, create=True, name="load", facts={"extractor": EXTRACTOR}) as store:
        subjects = range(0, fingers, _FINGERS_EACH)
        for first in track(subjects, f"{folder.name}: writing", len(subjects)):
            store.enroll(_encounter(seed, first, min(_FINGERS_EACH, fingers - first)))
    with Node(part) as node:
        for number in range(1, MATES + 1):
            image = PrintInput(image=(mates / f"{number:03d}_1.png").read_bytes())
            node.enroll(Enrollment((image,), subject_id=mate_name(number)))
    return part.rename(folder)


def mate_name(number: int) -> str:
    """Return the subject that a synthetic finger is enrolled as."""
    return f"mate-{number}"


def load_template(rng: np.random.Generator, finger: Finger) -> Template:
    """Return minutiae of nobody: scattered in an ellipse, directed along a smooth random field."""
    middle = np.asarray(_SIZE) / 2
    lattice = np.stack(np.meshgrid(*(np.arange(_CELL, side - _CELL, _CELL) for side in _SIZE)), -1)
    xy = lattice.reshape(-1, 2) + rng.uniform(-_JITTER, _JITTER, (lattice.size // 2, 2))
    xy = rng.permutation(xy[(((xy - middle) / middle) ** 2).sum(axis=1) <= 1])[: rng.integers(*_MINUTIAE)]
    x, y = (xy / middle - 1).T
    bend, lean, wave, shift = rng.uniform((0.3, -0.6, 0.1, 0.0), (1.2, 0.6, 0.5, 2 * np.pi))
    angle = lean - bend * x * (1 - 0.4 * y) + wave * np.sin(2 * y + 1.5 * x + shift)
    turned = angle + np.pi * rng.integers(0, 2, len(xy))
    kind, quality = rng.integers(1, 3, len(xy)), rng.integers(20, 100, len(xy))
    return Template.of(xy, turned, kind, quality, size=_SIZE, finger=finger)


def _encounter(seed: int, first: int, count: int) -> NewEncounter:
    rng = np.random.default_rng((seed, first))
    made = [load_template(rng, Finger(place + 1)) for place in range(count)]
    name = uuid.UUID(int=random.Random(f"{seed} {first}").getrandbits(128), version=4)  # noqa: S311
    kept = (NewPrint(one.finger, Impression.UNKNOWN, encode(one, NATIVE), len(one)) for one in made)
    return NewEncounter(f"load-{first}", str(name), tuple(kept))


# ---- countries


def countries(folder: Path, galleries: Mapping[str, Path]) -> dict[str, Address]:
    """Give each country an authority, trust in the others, a law, its gallery and its settings.

    Parameters
    ----------
    folder : Path
    galleries : mapping of str to Path
        By country; copied into the country's folder.

    Returns
    -------
    dict of str to Address
    """
    now, ports = datetime.now(UTC), iter(free_addresses(2 * len(COUNTRIES)))
    addresses = {country: Address(next(ports), next(ports)) for country in COUNTRIES}
    for country in COUNTRIES:
        pki.init(folder / country, country, at=now)
        officer = Identity.parse(f"spiffe://{country.lower()}.papilar/user/officer/{OFFICER}")
        pki.issue(folder / country, officer, at=now)
    for country in COUNTRIES:
        own = folder / country
        for other in set(COUNTRIES) - {country}:
            shutil.copytree(folder / other / "trust" / other, own / "trust" / other)
        signer = Signer.load(own / "law.pem", own / "law.key")
        bundle = Bundle.sign(law_of(country), signer).pack()
        install(bundle, own / "laws", Trust.load(own / "trust"), country=country, at=now)
        shutil.copytree(galleries[country], own / "gallery")
        _write_settings(own, addresses)
    return addresses


def law_of(country: str) -> LawText:
    """Return the law of a country of the trial."""
    lesser = country == REFUSING or country in HIDING
    none = f"[quotas.{HANGING}]\nTP_TP = {{ per_day = 0, candidates = 1 }}\n" if country == ANSWERING else ""
    terms = (
        f'country = "{country}"\nversion = 1\ntitle = "A law for measurement"\nvalid_from = 2026-01-01\n'
        f"hides_denial = {str(country in HIDING).lower()}\nleast_print_quality = 0\n\n"
        f'[quotas."*"]\nTP_TP = {{ per_day = 100000, candidates = 10 }}\n\n{none}'
    )
    return LawText(terms, "\n".join(_RULES[: 1 + lesser]), _EXAMPLES + _LESSER * lesser)


def _write_settings(own: Path, addresses: Mapping[str, Address]) -> None:
    country = own.name
    (own / "marks.key").touch(mode=0o600)
    (own / "marks.key").write_text("a4" * 32, encoding="ascii")
    others = "\n".join(f'{c} = ["{addresses[c].peers}"]' for c in sorted(set(COUNTRIES) - {country}))
    files = f'certificate = "{own}/node.pem"\nkey = "{own}/node.key"\n'
    (own / "node.toml").write_text(
        f'[node]\ngallery = "{own}/gallery"\nlisten = "{addresses[country].users}"\n\n[tls]\n{files}\n'
        f'[users]\ncountry = "{country}"\ntrust = "{own}/trust"\nkey = "{own}/marks.key"\n\n'
        f'[peer]\ncountry = "{country}"\nlisten = "{addresses[country].peers}"\n{files}'
        f'seal = "{own}/seal.pem"\nseal_key = "{own}/seal.key"\ntrust = "{own}/trust"\nlaw = "{own}/laws"\n'
        f'marks = "{own}/marks.key"\nstore = "{own}/exchange"\n'
        f"quantum_seconds = {HIDING.get(country, 2.0)}\n\n"
        f'[peer.files]\ncriminal = "{own}/gallery"\n\n[region.peers]\n{others}\n',
        encoding="utf-8",
    )


# ---- processes


@contextmanager
def serving(folder: Path, addresses: Mapping[str, Address]) -> Iterator[Mapping[str, Process]]:
    """Run the node of every country by `papilar serve --config` until the block ends.

    Raises
    ------
    InvalidInput
        One did not start.
    """
    with ExitStack() as end:
        nodes = {country: end.enter_context(_node(folder / country)) for country in addresses}
        for country, process in nodes.items():
            if not listens(process, addresses[country].peers, seconds=_START_S):
                raise InvalidInput("a node did not start", remedy="see the log beside its settings")
        yield nodes


def _node(own: Path) -> AbstractContextManager[Process]:
    return node("--config", str(own / "node.toml"), log=own / "node.log")
