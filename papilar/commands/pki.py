"""The group `papilar pki`: an authority for a trial, and what a certificate says."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from papilar import pki
from papilar.commands.options import JsonFlag
from papilar.identity import Identity, domain_uri
from papilar.show import out, print_json, show_pairs

app = typer.Typer(
    no_args_is_help=True,
    help="Certificates for a trial. In earnest a country has an authority of its own.",
)

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of the authority.")]
Certificate = Annotated[Path, typer.Argument(metavar="CERT", help="Certificate, PEM.")]
Days = Annotated[int, typer.Option("--days", min=1, max=pki.AUTHORITY_DAYS, help="Days of validity.")]


@app.command()
def init(
    folder: Folder,
    country: Annotated[str, typer.Option("--country", help="ISO 3166-1 alpha-3, as SLV.")],
    days: Days = 365,
) -> None:
    """Make an authority for a trial, and a country's node, seal and law."""
    pki.init(folder, country, at=datetime.now(UTC), days=days)
    out.print(f"made the authority of {country}, its node, seal and law; for a trial only", highlight=False)
    _show_path("give to every node, for its trust list", folder / "trust" / country)
    _show_path("keep to yourself", folder / "ca.key")


@app.command()
def issue(
    folder: Folder,
    names: Annotated[
        list[str], typer.Argument(metavar="NAME", help="node/NAME, seal/NAME, user/ROLE+ROLE/PSEUDONYM.")
    ],
    days: Days = 365,
) -> None:
    """Make certificates and keys for names."""
    country = pki.country_of(folder)
    identities = [Identity.parse(f"{domain_uri(country)}/{name}") for name in names]
    for identity in identities:
        for path in pki.issue(folder, identity, at=datetime.now(UTC), days=days):
            _show_path("made", path)


@app.command()
def renew(folder: Folder, certificate: Certificate, days: Days = 365) -> None:
    """Replace a certificate by a new one, of the same name and key."""
    pki.renew(folder, certificate, at=datetime.now(UTC), days=days)
    _show_path("renewed", certificate)


@app.command()
def revoke(folder: Folder, certificate: Certificate) -> None:
    """Revoke a certificate. Others know once they have the list."""
    _show_path(
        "give to every node, for its trust list", pki.revoke(folder, certificate, at=datetime.now(UTC))
    )


@app.command()
def publish(folder: Folder) -> None:
    """Sign the list of what is revoked anew, before it is out of date."""
    _show_path("give to every node, for its trust list", pki.publish(folder, at=datetime.now(UTC)))


@app.command()
def show(
    certificate: Certificate,
    as_json: JsonFlag = False,
) -> None:
    """Show what a certificate says. Nothing of it is checked."""
    described = pki.describe(certificate)
    if as_json:
        print_json(described)
    else:
        show_pairs(certificate.name, {key.replace("_", " "): value for key, value in described.items()})


def _show_path(what: str, path: Path) -> None:
    out.print(f"{what}: {path}", highlight=False, markup=False, soft_wrap=True)
