"""Processes forked from one that has everything loaded: they begin in a moment, and may be killed.

What is tested with them is what they do and what their end leaves behind. How a node begins from nothing is
for the tests of `papilar serve`.
"""

import multiprocessing
import os
from functools import cache
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from papilar.archive.workers import ONE_CORE

TESTS = Path(__file__).resolve().parents[1]


@cache
def forks() -> ForkServerContext:
    """Return what makes such processes; the first call starts the one that they are forked from."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["loaded"])
    with pytest.MonkeyPatch.context() as patch:
        for name in ONE_CORE:
            patch.setenv(name, "1")  # threads would be lost by a fork
        patch.setenv("PYTHONPATH", os.pathsep.join(map(str, (TESTS.parent, TESTS, TESTS / "papilar"))))
        forkserver.ensure_running()
    return context
