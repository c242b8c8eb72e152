"""Groups of the command `papilar`, each a typer application that `papilar.cli` mounts under its name."""

from collections.abc import Mapping
from types import MappingProxyType

import typer

from papilar.commands import audit, peer, pki, policy, region, review

GROUPS: Mapping[str, typer.Typer] = MappingProxyType(
    {
        "audit": audit.app,
        "peer": peer.app,
        "pki": pki.app,
        "policy": policy.app,
        "region": region.app,
        "review": review.app,
    }
)
"""The groups by name."""
