"""Fixtures of the exchange: three countries, a gallery of SLV, and its node answering HND under a law."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from countries import Answering, Asking, answering, law, make_gallery, make_world

from papilar.exchange.asked import AskedOptions
from papilar.node import Node
from papilar.policy import File, Law

SMALL = AskedOptions(
    answer_bytes=64 * 1024, quantum_seconds=0.05, max_message_bytes=1_000_000, put_off_seconds=0.01
)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with make_gallery(tmp_path_factory.mktemp("galleries") / "criminal") as node:
        yield node


class InForce:
    """The law of SLV; a test may change it."""

    def __init__(self) -> None:
        self.law = law()

    def __call__(self) -> Law:
        return self.law


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
