"""Groups of the command `papilar`, each a typer application that `papilar.cli` mounts under its name."""

from collections.abc import Mapping
from types import MappingProxyType

import typer

from papilar.commands import audit, pki, policy

GROUPS: Mapping[str, typer.Typer] = MappingProxyType(
    {"audit": audit.app, "pki": pki.app, "policy": policy.app}
)
"""The groups by name."""
