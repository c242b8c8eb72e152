"""What libraries take from the environment alone, set before they are loaded."""

import os
import secrets
from functools import cache


@cache
def _token() -> str:
    """Return this process's token: Ray reads it once, however many clusters the process starts."""
    return secrets.token_hex(32)


def confine_ray() -> None:
    """Let a Ray that this process starts hear loopback alone, and there only who has this run's token.

    Notes
    -----
    Ray binds to loopback where it is told that it may not form clusters, which was made for two systems.
    """
    os.environ.update(
        RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0",
        RAY_AUTH_MODE="token",
        RAY_AUTH_TOKEN=_token(),
        RAY_USAGE_STATS_ENABLED="0",
    )
