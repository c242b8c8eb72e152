"""Options that commands share, each declared once: a node, the way to it, who calls and what for, prints.

Options that belong together are the fields of a frozen dataclass. A command under `grouped` takes one value
of it; at the terminal each field is an option, as if the command had declared it itself.
"""

import tomllib
from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

from enroll.image import LIMITS
from papilar.client import DEFAULT_TIMEOUT, ClientTls, NodeClient
from papilar.errors import PurposeMissing
from papilar.files import read_file
from papilar.users import Mandate

C = TypeVar("C", bound=NodeClient)
R = TypeVar("R")

PlotOption = Annotated[Path | None, typer.Option("--plot", help="Write a picture (PNG) to this file.")]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
NodeOption = Annotated[str, typer.Option("--node", help="Address of the node, HOST:PORT.")]
TlsCert = Annotated[Path | None, typer.Option("--tls-cert", help="Own certificate, PEM.")]
TlsKey = Annotated[Path | None, typer.Option("--tls-key", help="Key of the own certificate, PEM.")]
PpiOption = Annotated[
    float | None,
    typer.Option(
        "--ppi",
        min=LIMITS.ppi_low,
        max=LIMITS.ppi_high,
        help="Resolution of the images, pixels per inch, over what the files say.",
    ),
]
FingersOption = Annotated[
    str, typer.Option("--fingers", help="Finger positions of the prints, ISO codes: 2 or 2,7.")
]
FpirOption = Annotated[
    float | None,
    typer.Option("--target-fpir", help="Share of searches without a mate that may still hit."),
]


# ---- options in groups


def grouped(command: Callable[..., R]) -> Callable[..., R]:
    """Return a command that has the fields of its dataclasses as options; for typer alone, by keywords.

    Parameters
    ----------
    command : callable
        Each parameter whose type is a dataclass stands for its fields, which are annotated as options are. A
        field's default is that of the parameter's default value, where there is one, else its own; without
        either the option must be given. No two options have one name.
    """
    hints = get_type_hints(command, include_extras=True)
    given = [p.replace(annotation=hints[p.name]) for p in signature(command).parameters.values()]
    groups: dict[str, Any] = {p.name: p.annotation for p in given if is_dataclass(p.annotation)}
    options = [option for p in given for option in (_options(p) if p.name in groups else [p])]

    @wraps(command)
    def call(**values: Any) -> R:
        for name, group in groups.items():
            values[name] = group(**{field.name: values.pop(field.name) for field in fields(group)})
        return command(**values)

    shown = [option.replace(kind=Parameter.KEYWORD_ONLY) for option in options]
    call.__signature__ = Signature(shown)  # type: ignore[attr-defined]  # what typer reads, with the hints
    call.__annotations__ = {option.name: option.annotation for option in shown}
    return call


def _options(group: Parameter) -> Iterator[Parameter]:
    """Yield the parameters that a parameter stands for, one for each field of its class."""
    hints = get_type_hints(group.annotation, include_extras=True)
    for field in fields(group.annotation):
        own = Parameter.empty if field.default is MISSING else field.default
        default = own if group.default is Parameter.empty else getattr(group.default, field.name)
        yield Parameter(field.name, Parameter.KEYWORD_ONLY, default=default, annotation=hints[field.name])


# ---- the way to a node


@dataclass(frozen=True, slots=True)
class Reach:
    """How a node is reached, by whom, and how long a call may take, in seconds."""

    tls_ca: Annotated[
        Path | None, typer.Option("--tls-ca", help="Authority that signed the node's certificate, PEM.")
    ] = None
    tls_cert: TlsCert = None
    tls_key: TlsKey = None
    tls_country: Annotated[str, typer.Option("--tls-country", help="Country whose node it is, as SLV.")] = ""
    token_file: Annotated[
        Path | None, typer.Option("--token-file", help="File with the caller's OIDC token.")
    ] = None
    allow_plain_text: Annotated[
        bool,
        typer.Option("--allow-plain-text", help="Talk without TLS to another machine. Not for real prints."),
    ] = False
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.001, max=86_400, help="Seconds a call may take.")
    ] = DEFAULT_TIMEOUT

    @property
    def tls(self) -> ClientTls | None:
        """What the options name; None, plain text, where they name no file."""
        named = self.tls_ca or self.tls_cert or self.tls_key
        return ClientTls(self.tls_ca, self.tls_cert, self.tls_key, self.tls_country) if named else None

    def client(self, node: str, kind: type[C], *, mandate: Mandate | None = None) -> C:
        """Return a client of a node, `HOST:PORT`, to be closed; raises as `NodeClient` does."""
        caller = dict(mandate.metadata()) if mandate else {}
        if self.token_file is not None:
            token = read_file(self.token_file).decode("ascii", "replace").strip()
            caller["authorization"] = f"Bearer {token}"
        return kind(
            node,
            tls=self.tls,
            allow_plain_text=self.allow_plain_text,
            timeout=self.timeout,
            caller=caller,
        )


REGION = Reach(timeout=30.0)
"""Where other countries may have to answer first."""


@dataclass(frozen=True, slots=True)
class Connection(Reach):
    """The same, and what the calls are made for."""

    mandate: Annotated[
        Path | None,
        typer.Option(
            "--mandate",
            help="What the call is made for, TOML: purpose, reason, legal_basis, offence_class, "
            "case_reference.",
        ),
    ] = None

    def to(self, node: str, kind: type[C]) -> C:
        """Return a client of a node, `HOST:PORT`, to be closed.

        Raises
        ------
        PurposeMissing
            The file is no TOML, or states anything but a mandate.
        """
        return self.client(node, kind, mandate=_mandate(self.mandate) if self.mandate else None)


def _mandate(file: Path) -> Mandate:
    try:
        return Mandate(**tomllib.loads(read_file(file).decode()))
    except (TypeError, ValueError):
        wanted = "purpose, reason, legal_basis, offence_class and case_reference"
        raise PurposeMissing(
            f"{file.name} states no mandate", remedy=f"write {wanted}, each as text, in TOML"
        ) from None
