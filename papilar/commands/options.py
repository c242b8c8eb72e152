"""Options that commands share: who calls a node, and what for."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from papilar.errors import PurposeMissing
from papilar.files import read_file
from papilar.users import Mandate

MandateOption = Annotated[
    Path | None,
    typer.Option(
        "--mandate",
        help="What the call is made for, TOML: purpose, reason, legal_basis, offence_class, case_reference.",
    ),
]
TokenOption = Annotated[Path | None, typer.Option("--token-file", help="File with the caller's OIDC token.")]
TlsCountry = Annotated[str, typer.Option("--tls-country", help="Country whose node it is, as SLV.")]


def caller_of(mandate: Path | None, token: Path | None) -> Mapping[str, str]:
    """Return the metadata that says who calls, and what for; empty where neither file is given.

    Raises
    ------
    PurposeMissing
        The file is no TOML, or states anything but a mandate.
    """
    said = dict(_mandate(mandate).metadata()) if mandate else {}
    if token is not None:
        said["authorization"] = f"Bearer {read_file(token).decode('ascii', 'replace').strip()}"
    return said


def _mandate(file: Path) -> Mandate:
    try:
        return Mandate(**tomllib.loads(read_file(file).decode()))
    except (TypeError, ValueError):
        fields = "purpose, reason, legal_basis, offence_class and case_reference"
        raise PurposeMissing(
            f"{file.name} states no mandate", remedy=f"write {fields}, each as text, in TOML"
        ) from None
