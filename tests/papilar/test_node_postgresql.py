"""A node on a PostgreSQL server: what it has in memory stays what the server has, whatever happens."""

from collections.abc import Iterator
from pathlib import Path

import postgresql as servers
import pytest
from nodes import a_person, best_of, search_for, seen_again, serving
from stores import lose_the_next_answer

from papilar.errors import GalleryLocked, StorageUnavailable
from papilar.node import Node
from papilar.requests import Enrolled, Repeat
from papilar.store import writer

REPEAT = Repeat("00000000-0000-4000-8000-00000000000a", b"digest")


@pytest.fixture
def url(postgresql: servers.Server) -> str:
    return postgresql.new_place()


@pytest.fixture
def node(folder: Path, url: str) -> Iterator[Node]:
    with Node(folder, store=url, create=True) as node:
        yield node


def put(node: Node, seed: int, subject: str, repeat: Repeat | None = None) -> Enrolled:
    done = node.enroll(a_person(seed, subject=subject), repeat=repeat)
    assert isinstance(done, Enrolled)
    return done


def names(node: Node, *seeds: int) -> list[str]:
    """Whom searches for fingers name, with evidence for it."""
    found = (node.identify([seen_again(seed)]).candidates for seed in seeds)
    return [c.subject for candidates in found for c in candidates if c.score > 3]


class TestOpening:
    def test_what_was_enrolled_is_there_again(self, node: Node, folder: Path, url: str) -> None:
        put(node, 1, "one")
        node.delete(put(node, 2, "two").encounter_id)
        node.close()
        for _ in range(2):
            with Node(folder, store=url) as again:
                assert names(again, 1, 2) == ["one"]
        with Node(folder.parent / "elsewhere", store=url) as again:
            assert names(again, 1, 2) == ["one"], "segments are made again from the store"

    def test_a_second_node(
        self, node: Node, folder: Path, url: str, postgresql: servers.Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(writer, "_PATIENCE_MS", 50)
        with pytest.raises(GalleryLocked, match="session"):
            Node(folder.parent / "elsewhere", store=url)
        with pytest.raises(GalleryLocked, match="process"):
            Node(folder, store=postgresql.new_place(), create=True)

    def test_another_store_in_the_same_folder(
        self, node: Node, folder: Path, postgresql: servers.Server
    ) -> None:
        """Rows of the same numbers are other people's there."""
        put(node, 1, "one")
        node.close()
        with Node(folder, store=postgresql.new_place(), create=True) as other:
            put(other, 2, "two")
            assert names(other, 1, 2) == ["two"]
        with Node(folder, create=True) as file:
            put(file, 3, "three")
            assert names(file, 1, 2, 3) == ["three"]


class TestLostConnections:
    def test_an_enrolment_whose_answer_was_lost(self, node: Node) -> None:
        put(node, 1, "one")
        lose_the_next_answer(node._store)
        with pytest.raises(StorageUnavailable):
            put(node, 2, "two", REPEAT)
        done = put(node, 2, "two", REPEAT)
        assert names(node, 1, 2) == ["one", "two"], "it is acknowledged, so it is findable"
        assert node.delete(done.encounter_id).prints == 1
        assert names(node, 1, 2) == ["one"]

    def test_a_deletion_whose_answer_was_lost(self, node: Node) -> None:
        done = put(node, 1, "one")
        lose_the_next_answer(node._store)
        with pytest.raises(StorageUnavailable):
            node.delete(done.encounter_id, repeat=REPEAT)
        assert names(node, 1) == []
        assert node.delete(done.encounter_id, repeat=REPEAT).prints == 1
        assert (names(node, 1), len(node._gallery)) == ([], 0)

    def test_another_was_at_work_meanwhile(self, node: Node, folder: Path, url: str) -> None:
        gone = put(node, 1, "one")
        servers.cut(url)
        with Node(folder.parent / "elsewhere", store=url) as other:
            put(other, 2, "two")
            other.delete(gone.encounter_id)
        put(node, 3, "three")
        assert names(node, 1, 2, 3) == ["two", "three"]


class TestTheServer:
    @pytest.fixture
    def server(self, postgresql: servers.Server) -> Iterator[servers.Server]:
        """The server, for tests that stop it."""
        yield postgresql
        postgresql.stop()
        postgresql.start()

    def test_it_stops_while_the_node_runs(self, server: servers.Server, folder: Path) -> None:
        with serving(folder, store=server.new_place()) as served:
            client = served.client
            client.enroll(a_person(1, subject="one"))
            server.stop()
            for call in (
                lambda: client.enroll(a_person(2, subject="two")),
                lambda: client.identify(search_for(seen_again(1))),
                client.gallery,
            ):
                with pytest.raises(StorageUnavailable):
                    call()
            server.start()
            client.enroll(a_person(3, subject="three"))
            assert best_of(client.identify(search_for(seen_again(1)))) == "one"
            assert client.gallery().subjects == 2
