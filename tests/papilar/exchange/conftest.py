"""Fixtures of the exchange: three countries, a gallery of SLV, and its node answering HND under a law."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from countries import SMALL, Answering, Asking, InForce, answering, make_gallery, make_world

from papilar.node import Node
from papilar.policy import File


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with make_gallery(tmp_path_factory.mktemp("galleries") / "criminal") as node:
        yield node


@pytest.fixture
def in_force() -> InForce:
    return InForce()


@pytest.fixture
def slv(world: Path, gallery: Node, in_force: InForce, tmp_path: Path) -> Iterator[Answering]:
    with answering(world, {File.CRIMINAL: gallery}, tmp_path / "peer", law=in_force, options=SMALL) as found:
        yield found


@pytest.fixture
def hnd(world: Path, slv: Answering) -> Asking:
    return Asking(world, "HND", slv.address, clock=slv.clock)


@pytest.fixture
def gtm(world: Path, slv: Answering) -> Asking:
    return Asking(world, "GTM", slv.address, clock=slv.clock)
