"""Settings of a node: one TOML file -> frozen dataclasses. The only reader of settings and environment.

    [node]
    gallery = "/var/lib/papilar/gallery"
    store = "postgresql://papilar@db.example.org/papilar?sslmode=verify-full&passfile=/etc/papilar/pgpass"
    listen = "0.0.0.0:7443"
    keep_images = true
    shortlist = 300
    workers = 8
    max_message_bytes = 33554432
    allow_plain_text = false

    [enrolment]                                # what is asked of a print beyond being fit to compare
    nfiq2 = true                               # compute NFIQ 2 and keep it
    least_nfiq2 = 0                            # 0: off
    least_minutiae = 0
    least_area_mm2 = 0.0

    [tls]
    certificate = "/etc/papilar/node.pem"
    key = "/etc/papilar/node.key"
    client_ca = "/etc/papilar/clients.pem"     # asks every client for a certificate

    [originals]                                # image files as they came, encrypted
    url = "/var/lib/papilar/originals"         # or of a store of objects, as s3://bucket/prefix
    key_file = "/etc/papilar/originals.key"    # hexadecimal, 32 bytes a line; the first writes

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

import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

from enroll.gate import QualityGate
from matcher.errors import InvalidInput
from papilar.config.sections import (
    DEFAULT_LISTEN,
    NodeConfig,
    Oidc,
    OriginalsConfig,
    Peer,
    Region,
    Tls,
    Users,
    is_loopback,
    split_address,
)
from papilar.errors import ConfigInvalid

__all__ = [
    "DEFAULT_LISTEN",
    "NodeConfig",
    "Oidc",
    "OriginalsConfig",
    "Peer",
    "Region",
    "Tls",
    "Users",
    "is_loopback",
    "load_config",
    "quieten_grpc",
    "split_address",
]


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
    unknown = set(data) - {"node", *_READERS}
    if unknown:
        known = ", ".join(f"[{name}]" for name in ("node", *_READERS))
        raise ConfigInvalid(f"unknown section [{min(unknown)}]", remedy=f"the sections are {known}")
    node = _typed(NodeConfig, data.get("node", {}), "node")
    node.update({name: read(data[name]) for name, read in _READERS.items() if name in data})
    node.update({key: value for key, value in given.items() if value is not None})
    config: NodeConfig = _built(NodeConfig, node, "node")
    return config


def quieten_grpc() -> None:
    """Keep gRPC's own log off the terminal, unless the environment asks for it; before gRPC is loaded."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")


def _originals(table: Any) -> OriginalsConfig:
    values = _typed(OriginalsConfig, table, "originals")
    originals: OriginalsConfig = _built(OriginalsConfig, values, "originals")
    return originals


def _tls(table: Any) -> Tls:
    tls: Tls = _built(Tls, _typed(Tls, table, "tls"), "tls")
    return tls


def _enrolment(table: Any) -> QualityGate:
    try:
        gate: QualityGate = _built(QualityGate, _typed(QualityGate, table, "enrolment"), "enrolment")
    except InvalidInput as error:
        if isinstance(error, ConfigInvalid):
            raise
        raise ConfigInvalid(f"[enrolment]: {error.cause}", remedy=error.remedy) from error
    return gate


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


_READERS: Mapping[str, Callable[[Any], object]] = {
    "tls": _tls,
    "enrolment": _enrolment,
    "originals": _originals,
    "users": _users,
    "region": _region,
    "peer": _peer,
}
"""Sections of the file beside [node]; each is a field of `NodeConfig`."""

_SECTIONS = (*_READERS, "oidc")


def _built(kind: type, values: Mapping[str, Any], section: str) -> Any:
    try:
        return kind(**values)
    except TypeError as error:
        missing = [f.name for f in fields(kind) if f.name not in values and f.name in str(error)]
        raise ConfigInvalid(
            f"{section} lacks {' and '.join(missing) or 'a setting'}",
            remedy="add it to the file or the command",
        ) from error
