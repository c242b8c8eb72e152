"""Groups of the command `papilar`, each a typer application that `papilar.cli` mounts under its name."""

from collections.abc import Mapping
from types import MappingProxyType

import typer

from papilar.commands import (
    audit,
    cluster,
    conformance,
    dedup,
    nist,
    originals,
    peer,
    pki,
    policy,
    region,
    review,
)

peer.app.add_typer(conformance.app)  # `check` and `kit` beside `pending` and `approve`
GROUPS: Mapping[str, typer.Typer] = MappingProxyType(
    {
        "audit": audit.app,
        "cluster": cluster.app,
        "dedup": dedup.app,
        "nist": nist.app,
        "originals": originals.app,
        "peer": peer.app,
        "pki": pki.app,
        "policy": policy.app,
        "region": region.app,
        "review": review.app,
    }
)
"""The groups by name."""
