"""What tests need that not every machine has: where it lacks, they are left out and say why."""

import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

NBIS = pytest.mark.skipif(
    sys.platform != "darwin" and platform.machine() != "x86_64",
    reason="nbis-py has no wheel for this machine",
)
"""By the machine, not by whether it can be imported: where there is a wheel, one that is broken fails."""


@contextmanager
def disk(path: Path, size: str) -> Iterator[None]:
    """Make a folder that is a disk of its own, until it is unmounted here or by the test."""
    path.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
    mounted = subprocess.run(command, capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield
    finally:
        if os.path.ismount(path):
            subprocess.run(["umount", "--lazy", str(path)], check=True)
