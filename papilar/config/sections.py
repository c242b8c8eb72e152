"""The settings as values: each section of the file is a frozen class that refuses what cannot be."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from enroll.gate import OPEN, QualityGate
from matcher.search import SHORTLIST
from papilar.errors import ConfigInvalid, TransportInsecure
from papilar.identity import is_country

DEFAULT_LISTEN = "127.0.0.1:7443"


@dataclass(frozen=True, slots=True)
class Tls:
    """Files of a node's certificate; PEM. With `client_ca`, clients must show a certificate it signed."""

    certificate: Path
    key: Path
    client_ca: Path | None = None


@dataclass(frozen=True, slots=True)
class OriginalsConfig:
    """Where image files are kept as they came, and the file of the keys that encrypt them."""

    key_file: Path
    url: str = field(repr=False)  # it may hold a password


@dataclass(frozen=True, slots=True)
class Oidc:
    """An identity provider whose tokens name users.

    Attributes
    ----------
    issuer, audience : str
        What the claims `iss` and `aud` must say.
    keys : str
        The provider's JSON Web Key Set: a file, or an https URL; plain http on loopback alone.
    roles_claim : str
        Claim that lists roles, as `examiner`; others in it are left out.
    pseudonym_claim : str
        Claim that names the person. What is no pseudonym becomes one by way of `Users.key`.
    skew_seconds : int
        How far the provider's clock may be from ours, 0 to 300.
    """

    issuer: str
    audience: str
    keys: str
    roles_claim: str = "papilar_roles"
    pseudonym_claim: str = "sub"
    skew_seconds: int = 30

    def __post_init__(self) -> None:
        for name in ("issuer", "audience", "keys", "roles_claim", "pseudonym_claim"):
            if not getattr(self, name):
                raise ConfigInvalid(f"users.oidc.{name} is empty", remedy="say what the provider uses")
        if not 0 <= self.skew_seconds <= 300:
            raise ConfigInvalid(f"users.oidc.skew_seconds is {self.skew_seconds}", remedy="it is 0 to 300")
        if "://" in self.keys and not _is_checked(self.keys):
            raise TransportInsecure("keys of tokens over plain text", remedy="give an https URL, or a file")


@dataclass(frozen=True, slots=True)
class Users:
    """Who may call a node.

    Attributes
    ----------
    country : str
        The node's own, ISO 3166-1 alpha-3; it has no users of others.
    trust : Path or None
        Folder of authorities: every caller shows a certificate of one. A user's names the person.
    oidc : Oidc or None
        A token names the person, whatever certificate comes with it.
    key : Path or None
        File of the key for marks of subjects and prints in the log, hexadecimal. Without it there are none.
    required : bool
        False: who brings no token is served as nobody, for a trial. Where there is a trust list, a user's
        certificate is asked for all the same.
    calls_per_minute : int
        Most consultations about persons by one user: more than hands can do, and a stop for a loop. Each
        process of the node counts its own; enrolling is not counted.
    """

    country: str
    trust: Path | None = None
    oidc: Oidc | None = None
    key: Path | None = None
    required: bool = True
    calls_per_minute: int = 600

    def __post_init__(self) -> None:
        if not is_country(self.country):
            raise ConfigInvalid(
                "users.country is no country", remedy="write it as ISO 3166-1 alpha-3, as SLV"
            )
        if self.trust is None and self.oidc is None:
            raise ConfigInvalid("users whom nothing names", remedy="give users.trust or [users.oidc]")
        if self.calls_per_minute < 1:
            raise ConfigInvalid(
                f"users.calls_per_minute is {self.calls_per_minute}", remedy="it is 1 or more"
            )


@dataclass(frozen=True, slots=True)
class Region:
    """Whom a node asks.

    Attributes
    ----------
    peers : mapping of str to tuple of str
        Country, ISO 3166-1 alpha-3, to the addresses of its node, `HOST:PORT`; the first is tried first.
    patience_seconds : float
        Without a sign of life for so long, a search is tried at the next address as well.
    max_message_bytes : int
        Largest message exchanged with a peer.
    """

    peers: Mapping[str, tuple[str, ...]]
    patience_seconds: float = 2.0
    max_message_bytes: int = 64 * 1024 * 1024

    def __post_init__(self) -> None:
        if not 0.1 <= self.patience_seconds <= 60:
            raise ConfigInvalid("region.patience_seconds is out of range", remedy="it is 0.1 to 60")
        if self.max_message_bytes < 1:
            raise ConfigInvalid("region.max_message_bytes is out of range", remedy="it is at least 1")
        for country, addresses in self.peers.items():
            if not (is_country(country) and addresses):
                raise ConfigInvalid(
                    "region.peers has what is no country, or one without an address",
                    remedy='write HND = ["HOST:PORT"]',
                )
            for address in addresses:
                split_address(address)


@dataclass(frozen=True, slots=True)
class Peer:
    """How a node answers other countries.

    Attributes
    ----------
    country : str
        Ours, ISO 3166-1 alpha-3.
    listen : str
        `HOST:PORT`.
    certificate, key : Path
        Of the node, for mutual TLS; PEM.
    seal, seal_key : Path
        What signs answers.
    trust, law : Path
        Folders: authorities that are believed, laws that are installed.
    marks : Path
        File of the key for marks of subjects and prints in the log, hexadecimal.
    store : str
        Folder, or URL of a data base, of the log and of what is kept of the exchange.
    files : mapping of str to Path
        Word of the law for a file, as `criminal`, to the folder of its gallery.
    answer_bytes : int
        Answers are a multiple as long.
    quantum_seconds : float
        Where the law hides refusals, answers take a multiple of it.
    search_seconds : float
        Longest that one search may take; what it has by then is answered, incomplete.
    searches, calls : int
        Searches at a time; calls of one country at a time.
    max_message_bytes : int
    """

    country: str
    certificate: Path
    key: Path
    seal: Path
    seal_key: Path
    trust: Path
    law: Path
    marks: Path
    store: str = field(repr=False)  # it may hold a password
    files: Mapping[str, Path]
    listen: str = "127.0.0.1:7444"
    answer_bytes: int = 256 * 1024
    quantum_seconds: float = 2.0
    search_seconds: float = 300.0
    searches: int = 2
    calls: int = 16
    max_message_bytes: int = 32 * 1024 * 1024

    def __post_init__(self) -> None:
        if not (is_country(self.country) and self.files):
            raise ConfigInvalid("[peer] without a country or a file", remedy="give both")
        for name in ("searches", "calls", "max_message_bytes"):
            if getattr(self, name) < 1:
                raise ConfigInvalid(f"peer.{name} is {getattr(self, name)}", remedy="it is at least 1")
        seconds = self.quantum_seconds, self.search_seconds
        if self.answer_bytes < 1024 or not all(0 < one <= 3600 for one in seconds):
            raise ConfigInvalid(
                "peer.answer_bytes, quantum_seconds or search_seconds is out of range",
                remedy="they are at least 1024 bytes, and at most an hour",
            )


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """What `papilar serve` runs on.

    Attributes
    ----------
    gallery : Path
    listen : str
        `HOST:PORT`; port 0 takes a free one.
    keep_images : bool
        Keep images beside the templates.
    shortlist : int
        Pairs of prints compared in full, about; see `matcher.search`.
    workers : int
        Calls served at a time.
    max_message_bytes : int
        Largest message taken.
    allow_plain_text : bool
        Serve without TLS on an address that others can reach, and talk so to a data base elsewhere.
    tls : Tls or None
        None: plain text, which is refused off loopback unless allowed.
    store : str
        URL of a PostgreSQL data base for the store; by default it is SQLite in the gallery's folder.
    enrolment : QualityGate
        What is asked of a print that is enrolled.
    users : Users or None
        None: whoever can connect may do everything.
    region : Region or None
        None: no other country is asked.
    peer : Peer or None
        None: no other country is answered.
    originals : OriginalsConfig or None
        None: image files are not kept.
    """

    gallery: Path
    listen: str = DEFAULT_LISTEN
    keep_images: bool = True
    shortlist: int = SHORTLIST
    workers: int = 8
    max_message_bytes: int = 32 * 1024 * 1024
    allow_plain_text: bool = False
    tls: Tls | None = None
    store: str = field(default="", repr=False)  # it may hold a password
    enrolment: QualityGate = OPEN
    users: Users | None = None
    region: Region | None = None
    peer: Peer | None = None
    originals: OriginalsConfig | None = None

    def __post_init__(self) -> None:
        for name in ("shortlist", "workers", "max_message_bytes"):
            if getattr(self, name) < 1:
                raise ConfigInvalid(f"{name} is {getattr(self, name)}", remedy="it is at least 1")
        host, _ = split_address(self.listen)
        if self.tls is None and not (self.allow_plain_text or is_loopback(host)):
            raise TransportInsecure(
                f"plain text on {self.listen}, which other machines can reach",
                remedy="give a certificate (--tls-cert, --tls-key), or --allow-plain-text behind a proxy",
            )
        if not (self.allow_plain_text or _is_private(self.store)):
            raise TransportInsecure(
                "the store's data base is on another machine, and TLS is not asked for",
                remedy="add sslmode=verify-full, or verify-ca, to the store's URL",
            )
        by_certificate = self.users is not None and self.users.trust is not None
        if by_certificate and (self.tls is None or self.tls.client_ca is not None):
            raise ConfigInvalid(
                "users.trust without TLS, or beside tls.client_ca",
                remedy="give certificate and key under [tls], and no client_ca",
            )


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of `HOST:PORT`; an IPv6 host stands in brackets.

    Raises
    ------
    ConfigInvalid
        Not of that form.
    """
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isdecimal() and int(port) < 65536):
        raise ConfigInvalid(f"'{address}' is no address", remedy="write HOST:PORT, as 127.0.0.1:7443")
    return host.strip("[]"), int(port)


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_checked(url: str) -> bool:
    """Return whether what comes from a web address is of that address: by TLS, or from this machine."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))


def _is_private(store: str) -> bool:
    """Return whether the store's data base is on this machine, or its certificate is checked."""
    try:
        url = urlsplit(store)
        asked = parse_qs(url.query)
        hosts = [url.hostname or "", *",".join(asked.get("host", []) + asked.get("hostaddr", [])).split(",")]
    except ValueError:
        raise ConfigInvalid("the store is no URL", remedy="write postgresql://USER@HOST/DATABASE") from None
    checked = asked.get("sslmode", [""])[-1] in ("verify-full", "verify-ca")
    return checked or all(not host or host.startswith("/") or is_loopback(host) for host in hosts)
