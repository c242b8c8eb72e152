"""A Ray cluster of this machine, shared by the tests that need one."""

import os
from collections.abc import Iterator
from typing import Any

import pytest

from papilar.cluster.connection import LOCAL, connected


@pytest.fixture(scope="package")
def ray() -> Iterator[Any]:
    """A cluster that believes to have four cores; whoever asks for a local one gets it."""
    environment = dict(os.environ)
    with connected(LOCAL, 4) as found:
        yield found
    os.environ.clear()
    os.environ.update(environment)
