"""Settings of a node: one TOML file -> frozen dataclasses. The only reader of settings and environment.

    [node]
    gallery = "/var/lib/papilar/gallery"
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

What is given on the command line wins over the file, the file over the defaults.
"""

import ipaddress
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_type_hints

from papilar.errors import ConfigInvalid, TransportInsecure

DEFAULT_LISTEN = "127.0.0.1:7443"


@dataclass(frozen=True, slots=True)
class Tls:
    """Files of a node's certificate; PEM. With `client_ca`, clients must show a certificate it signed."""

    certificate: Path
    key: Path
    client_ca: Path | None = None


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
        Serve without TLS on an address that others can reach.
    tls : Tls or None
        None: plain text, which is refused off loopback unless allowed.
    """

    gallery: Path
    listen: str = DEFAULT_LISTEN
    keep_images: bool = True
    shortlist: int = 500
    workers: int = 8
    max_message_bytes: int = 32 * 1024 * 1024
    allow_plain_text: bool = False
    tls: Tls | None = None

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
    unknown = set(data) - {"node", "tls"}
    if unknown:
        raise ConfigInvalid(f"unknown section [{min(unknown)}]", remedy="the sections are [node] and [tls]")
    node = _typed(NodeConfig, data.get("node", {}), "node")
    tls = data.get("tls")
    if tls is not None:
        node["tls"] = _built(Tls, _typed(Tls, tls, "tls"), "tls")
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


def _read_toml(path: Path) -> Mapping[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigInvalid(f"{path} cannot be read ({error.strerror})", remedy="check the path") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigInvalid(f"{path} is no TOML ({error})", remedy="mend the file") from error


def _typed(kind: type, values: Mapping[str, Any], section: str) -> dict[str, Any]:
    """Check the keys and types of a section; paths become `Path`."""
    if not isinstance(values, Mapping):
        raise ConfigInvalid(f"{section} is no section", remedy=f"write [{section}], and settings below it")
    hints = get_type_hints(kind)
    result: dict[str, Any] = {}
    for key, value in values.items():
        if key not in hints or key == "tls":
            known = ", ".join(f.name for f in fields(kind) if f.name != "tls")
            raise ConfigInvalid(f"unknown setting {section}.{key}", remedy=f"the settings are {known}")
        is_path = hints[key] in (Path, Path | None)
        wanted = str if is_path else hints[key]
        if type(value) is not wanted:
            raise ConfigInvalid(f"{section}.{key} is {value!r}", remedy=f"give one of type {wanted.__name__}")
        result[key] = Path(value) if is_path else value
    return result


def _built(kind: type, values: Mapping[str, Any], section: str) -> Any:
    try:
        return kind(**values)
    except TypeError as error:
        missing = [f.name for f in fields(kind) if f.name not in values and f.name in str(error)]
        raise ConfigInvalid(
            f"{section} lacks {' and '.join(missing) or 'a setting'}",
            remedy="add it to the file or the command",
        ) from error
