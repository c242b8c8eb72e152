"""Settings of a node: one TOML file -> frozen dataclasses. The only reader of settings and environment.

    [node]
    gallery = "/var/lib/papilar/gallery"
    store = "postgresql://papilar@db.example.org/papilar?sslmode=verify-full&passfile=/etc/papilar/pgpass"
    listen = "0.0.0.0:7443"
    keep_images = true
    shortlist = 500
    workers = 8
    max_message_bytes = 33554432
    allow_plain_text = false

    [tls]
    certificate = "/etc/papilar/node.pem"
    key = "/etc/papilar/node.key"
    client_ca = "/etc/papilar/clients.pem"     # asks every client for a certificate

    [users]                                    # who may call; without it: whoever can connect, everything
    country = "SLV"
    trust = "/etc/papilar/trust"               # in place of client_ca: asks for a certificate of this list
    key = "/etc/papilar/marks.key"             # hexadecimal, 32 bytes or more
    required = true
    calls_per_minute = 600                     # most consultations about persons of one user

    [users.oidc]                               # tokens; with trust as well, they come from machines it knows
    issuer = "https://login.example.org"
    audience = "papilar"
    keys = "https://login.example.org/keys"    # or a file

    [region]                                   # whom this node asks
    patience_seconds = 2.0

    [region.peers]                             # by country, ISO 3166-1 alpha-3
    HND = ["node.hnd.example.org:7444", "node2.hnd.example.org:7444"]

    [peer]                                     # answers other countries, on a port of its own
    country = "SLV"
    listen = "0.0.0.0:7444"
    certificate = "/etc/papilar/node.pem"
    key = "/etc/papilar/node.key"
    seal = "/etc/papilar/seal.pem"
    seal_key = "/etc/papilar/seal.key"
    trust = "/etc/papilar/trust"
    law = "/var/lib/papilar/laws"
    marks = "/etc/papilar/marks.key"           # hexadecimal, 32 bytes or more
    store = "/var/lib/papilar/exchange"        # or the URL of a data base: log and exchange

    [peer.files]                               # file of the law, folder of its gallery
    criminal = "/var/lib/papilar/gallery"

What is given on the command line wins over the file, the file over the defaults.
"""

import ipaddress
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, get_type_hints
from urllib.parse import parse_qs, urlsplit

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
        Prints compared in full for each print of a probe.
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
    users : Users or None
        None: whoever can connect may do everything.
    region : Region or None
        None: no other country is asked.
    peer : Peer or None
        None: no other country is answered.
    """

    gallery: Path
    listen: str = DEFAULT_LISTEN
    keep_images: bool = True
    shortlist: int = 500
    workers: int = 8
    max_message_bytes: int = 32 * 1024 * 1024
    allow_plain_text: bool = False
    tls: Tls | None = None
    store: str = field(default="", repr=False)  # it may hold a password
    users: Users | None = None
    region: Region | None = None
    peer: Peer | None = None

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


def load_config(path: Path | None, **given: object) -> NodeConfig:
    """Read a node's settings.

    Parameters
    ----------
    path : Path or None
        TOML file.
    **given
        Fields of `NodeConfig` that win over the file; None means not given.

    Raises
    ------
    ConfigInvalid
        The file cannot be read, has unknown keys, or a value is of the wrong type.
    """
    data = _read_toml(path) if path else {}
    unknown = set(data) - {"node", "tls", "users", "region", "peer"}
    if unknown:
        known = "the sections are [node], [tls], [users], [region] and [peer]"
        raise ConfigInvalid(f"unknown section [{min(unknown)}]", remedy=known)
    node = _typed(NodeConfig, data.get("node", {}), "node")
    tls = data.get("tls")
    if tls is not None:
        node["tls"] = _built(Tls, _typed(Tls, tls, "tls"), "tls")
    if "users" in data:
        node["users"] = _users(data["users"])
    if "region" in data:
        node["region"] = _region(data["region"])
    if "peer" in data:
        node["peer"] = _peer(data["peer"])
    node.update({key: value for key, value in given.items() if value is not None})
    config: NodeConfig = _built(NodeConfig, node, "node")
    return config


def quieten_grpc() -> None:
    """Keep gRPC's own log off the terminal, unless the environment asks for it; before gRPC is loaded."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")


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


def _region(table: Any) -> Region:
    own = {k: v for k, v in table.items() if k != "peers"} if isinstance(table, Mapping) else table
    values = _typed(Region, own, "region")
    peers = table.get("peers", {})
    listed = isinstance(peers, Mapping) and all(
        isinstance(addresses, list) and all(isinstance(one, str) for one in addresses)
        for addresses in peers.values()
    )
    if not listed:
        raise ConfigInvalid("region.peers is no table of lists", remedy='write HND = ["HOST:PORT"]')
    values["peers"] = {country: tuple(addresses) for country, addresses in peers.items()}
    region: Region = _built(Region, values, "region")
    return region


def _read_toml(path: Path) -> Mapping[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigInvalid(f"{path} cannot be read ({error.strerror})", remedy="check the path") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigInvalid(f"{path} is no TOML ({error})", remedy="mend the file") from error


def _users(table: Any) -> Users:
    own = {k: v for k, v in table.items() if k != "oidc"} if isinstance(table, Mapping) else table
    values = _typed(Users, own, "users")
    if "oidc" in table:
        values["oidc"] = _built(Oidc, _typed(Oidc, table["oidc"], "users.oidc"), "users.oidc")
    users: Users = _built(Users, values, "users")
    return users


def _peer(table: Any) -> Peer:
    own = {k: v for k, v in table.items() if k != "files"} if isinstance(table, Mapping) else table
    values = _typed(Peer, own, "peer")
    files = table.get("files", {})
    if not (isinstance(files, Mapping) and all(isinstance(one, str) for one in files.values())):
        raise ConfigInvalid("peer.files is no table of folders", remedy='write criminal = "FOLDER"')
    values["files"] = {word: Path(folder) for word, folder in files.items()}
    peer: Peer = _built(Peer, values, "peer")
    return peer


def _typed(kind: type, values: Mapping[str, Any], section: str) -> dict[str, Any]:
    """Check the keys and types of a section; paths become `Path`."""
    if not isinstance(values, Mapping):
        raise ConfigInvalid(f"{section} is no section", remedy=f"write [{section}], and settings below it")
    hints = get_type_hints(kind)
    result: dict[str, Any] = {}
    for key, value in values.items():
        if key not in hints or key in _SECTIONS:
            known = ", ".join(f.name for f in fields(kind) if f.name not in _SECTIONS)
            raise ConfigInvalid(f"unknown setting {section}.{key}", remedy=f"the settings are {known}")
        is_path = hints[key] in (Path, Path | None)
        wanted = str if is_path else hints[key]
        if type(value) is not wanted:
            raise ConfigInvalid(f"{section}.{key} is {value!r}", remedy=f"give one of type {wanted.__name__}")
        result[key] = Path(value) if is_path else value
    return result


_SECTIONS = ("tls", "users", "oidc", "region", "peer")


def _built(kind: type, values: Mapping[str, Any], section: str) -> Any:
    try:
        return kind(**values)
    except TypeError as error:
        missing = [f.name for f in fields(kind) if f.name not in values and f.name in str(error)]
        raise ConfigInvalid(
            f"{section} lacks {' and '.join(missing) or 'a setting'}",
            remedy="add it to the file or the command",
        ) from error
