"""Fixtures of the matcher: synthetic prints, drawn once a session."""

import pytest
from drawings import Drawn, drawn_prints


@pytest.fixture(scope="session")
def drawn() -> list[list[Drawn]]:
    return drawn_prints()
