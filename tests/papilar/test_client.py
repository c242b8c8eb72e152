"""The client: every error of a node is itself again on this side; TLS; nodes that are away or late."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
import trustme
from nodes import ROOT, Served, a_person, enrolled_as, search_for, seen_again, serving

from matcher.codecs import decode, encode
from matcher.cylinders import prepare
from matcher.errors import PapilarError
from matcher.search import ProbePrint
from matcher.template import Template
from papilar.client import ClientTls, NodeClient, RemoteSearcher
from papilar.config import NodeConfig, Tls
from papilar.errors import (
    ConfigInvalid,
    DeadlinePassed,
    MessageTooLarge,
    NodeError,
    NodeUnreachable,
    RequestInvalid,
    TransportInsecure,
)
from papilar.node import Node
from papilar.requests import PrintInput
from papilar.server import CODES, NodeServer


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serving(tmp_path / "gallery") as served:
        yield served


@contextmanager
def black_hole() -> Iterator[str]:
    """The address of something that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


class TestErrors:
    @pytest.mark.parametrize("kind", CODES, ids=lambda kind: kind.__name__)
    def test_every_error_comes_back_as_itself(
        self, served: Served, monkeypatch: pytest.MonkeyPatch, kind: type[PapilarError]
    ) -> None:
        def fail() -> None:
            raise kind("a cause; with words", remedy="a remedy")

        monkeypatch.setattr(served.node, "describe", fail)
        with pytest.raises(PapilarError) as caught:
            served.client.gallery()
        assert type(caught.value) is kind
        assert (caught.value.cause, caught.value.remedy) == ("a cause; with words", "a remedy")

    def test_a_client_alone_knows_the_errors_of_images(self) -> None:
        code = "import papilar.client as c; assert 'IMAGE_EMPTY' in c._by_reason(); import sys; "
        code += "assert 'cv2' not in sys.modules and 'onnxruntime' not in sys.modules"
        subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)

    def test_an_error_that_nobody_foresaw(self, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(served.node, "describe", lambda: 1 / 0)
        with pytest.raises(NodeError, match="INTERNAL: the node failed; its log says why"):
            served.client.gallery()

    def test_a_message_far_over_the_limit(self, served: Served) -> None:
        with pytest.raises(MessageTooLarge):
            served.client.identify(search_for(PrintInput(image=bytes(2_000_000))))

    def test_a_call_that_takes_too_long(self, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(served.node, "describe", lambda: time.sleep(1))
        with NodeClient(served.address, timeout=0.2) as client, pytest.raises(DeadlinePassed):
            client.gallery()


class TestAway:
    def test_nobody_listens(self) -> None:
        with NodeClient(f"127.0.0.1:{free_port()}") as client, pytest.raises(NodeUnreachable) as caught:
            client.gallery()
        assert "no node answers at 127.0.0.1" in caught.value.cause

    def test_a_name_that_is_none(self) -> None:
        with (
            NodeClient("node.invalid:7443", allow_plain_text=True, timeout=20) as client,
            pytest.raises(NodeUnreachable),
        ):
            client.gallery()

    def test_a_server_of_something_else(self) -> None:
        other = grpc.server(futures.ThreadPoolExecutor(1))
        port = other.add_insecure_port("127.0.0.1:0")
        other.start()
        with NodeClient(f"127.0.0.1:{port}") as client, pytest.raises(NodeUnreachable):
            client.gallery()
        other.stop(None).wait()

    def test_someone_who_says_nothing(self) -> None:
        with (
            black_hole() as address,
            NodeClient(address, timeout=0.3) as client,
            pytest.raises((DeadlinePassed, NodeUnreachable)),
        ):
            client.gallery()


def ready(given: PrintInput) -> ProbePrint:
    """The print as a searcher takes it."""
    template = decode(given.template or b"")[0]
    return ProbePrint(given.finger, prepare(template), template)


class TestRemoteSearcher:
    def test_it_finds(self, served: Served) -> None:
        served.client.enroll(a_person(1, subject="one"))
        served.client.enroll(a_person(2, subject="two"))
        result = RemoteSearcher(served.client).search([ready(seen_again(2))], limit=5, least=2.0)
        assert [c.subject for c in result.candidates] == ["two"]
        assert (result.searched, result.complete, result.failures) == (2, True, ())

    def test_a_probe_that_is_too_poor(self, served: Served) -> None:
        empty = PrintInput(template=encode(Template.of([], [], [], [], size=(100, 100)), "papilar-2"))
        result = RemoteSearcher(served.client).search([ready(empty)], limit=5)
        assert not result.complete
        assert result.failures[0].startswith("probe: ")

    def test_a_node_that_is_down_is_a_failure_with_a_name(self) -> None:
        with NodeClient(f"127.0.0.1:{free_port()}") as client:
            result = RemoteSearcher(client).search([ready(enrolled_as(1))], limit=5)
        assert (result.candidates, result.complete) == ((), False)
        assert "no node answers" in result.failures[0]

    def test_a_node_that_is_late_is_a_failure_with_a_name(self) -> None:
        with black_hole() as address, NodeClient(address) as client:
            started = time.monotonic()
            result = RemoteSearcher(client).search([ready(enrolled_as(1))], limit=5, deadline=started + 0.3)
        assert time.monotonic() - started < 5
        assert not result.complete
        assert len(result.failures) == 1

    def test_a_deadline_that_has_passed(self, served: Served) -> None:
        result = RemoteSearcher(served.client).search(
            [ready(enrolled_as(1))], limit=5, deadline=time.monotonic()
        )
        assert not result.complete

    def test_what_the_caller_got_wrong_is_an_error(self, served: Served) -> None:
        whole = ready(enrolled_as(1))
        with pytest.raises(RequestInvalid, match="without its template"):
            RemoteSearcher(served.client).search([ProbePrint(whole.finger, whole.prepared)], limit=5)
        with pytest.raises(RequestInvalid, match="a limit of 5000"):
            RemoteSearcher(served.client).search([whole], limit=5000)


class TestPlainText:
    def test_it_does_not_leave_this_machine(self) -> None:
        with pytest.raises(TransportInsecure):
            NodeClient("10.0.0.1:7443")
        NodeClient("10.0.0.1:7443", allow_plain_text=True).close()

    def test_an_address_that_is_none(self) -> None:
        with pytest.raises(ConfigInvalid, match="is no address"):
            NodeClient("127.0.0.1")


# ---- TLS


class Papers:
    """Two authorities, and a certificate of each for a node and for a client."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("ours", "theirs"):
            authority = trustme.CA()
            authority.cert_pem.write_to_path(folder / f"{name}.pem")
            for holder in ("node", "client"):
                paper = authority.issue_cert("127.0.0.1", "localhost")
                paper.private_key_pem.write_to_path(folder / f"{name}-{holder}.key")
                paper.cert_chain_pems[0].write_to_path(folder / f"{name}-{holder}.pem")

    def node(self, *, asks_clients: bool = False) -> Tls:
        ca = self.folder / "ours.pem" if asks_clients else None
        return Tls(self.folder / "ours-node.pem", self.folder / "ours-node.key", ca)

    def client(self, trusts: str = "ours", shows: str = "") -> ClientTls:
        shown = (self.folder / f"{shows}-client.pem", self.folder / f"{shows}-client.key") if shows else ()
        return ClientTls(self.folder / f"{trusts}.pem", *shown)


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    return Papers(tmp_path_factory.mktemp("papers"))


def answers(address: str, tls: ClientTls | None) -> bool:
    with NodeClient(address, tls=tls, timeout=10) as client:
        try:
            return client.gallery().ready
        except NodeUnreachable:
            return False


class TestTls:
    def test_the_right_authority_and_no_other(self, tmp_path: Path, papers: Papers) -> None:
        with serving(tmp_path / "g", tls=papers.node()) as served:
            assert answers(served.address, papers.client())
            assert answers(served.address.replace("127.0.0.1", "localhost"), papers.client())
            assert not answers(served.address, papers.client(trusts="theirs"))
            assert not answers(served.address, None), "plain text"
            assert not answers(served.address, ClientTls()), "the system's authorities"

    def test_clients_that_must_show_a_certificate(self, tmp_path: Path, papers: Papers) -> None:
        with serving(tmp_path / "g", tls=papers.node(asks_clients=True)) as served:
            assert answers(served.address, papers.client(shows="ours"))
            assert not answers(served.address, papers.client()), "none"
            assert not answers(served.address, papers.client(shows="theirs"))
            assert not answers(served.address, None), "plain text"

    @pytest.mark.parametrize("halves", [{"certificate": Path("a.pem")}, {"key": Path("a.key")}])
    def test_half_of_an_own_certificate(self, halves: dict[str, Path]) -> None:
        with pytest.raises(ConfigInvalid, match="halves"):
            ClientTls(**halves)

    def test_files_that_are_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigInvalid, match="a certificate file cannot be read"):
            NodeClient("127.0.0.1:1", tls=ClientTls(tmp_path / "absent.pem"))
        absent = Tls(tmp_path / "absent.pem", tmp_path / "absent.key")
        with Node(tmp_path / "g", create=True) as node, pytest.raises(ConfigInvalid, match="No such file"):
            NodeServer(node, NodeConfig(tmp_path / "g", "127.0.0.1:0", tls=absent))

    def test_a_certificate_that_is_none(self, tmp_path: Path, papers: Papers) -> None:
        (tmp_path / "text.pem").write_text("no certificate")
        bad = Tls(tmp_path / "text.pem", papers.node().key)
        with Node(tmp_path / "g", create=True) as node, pytest.raises(ConfigInvalid) as caught:
            NodeServer(node, NodeConfig(tmp_path / "g", "127.0.0.1:0", tls=bad))
        assert "certificate" in str(caught.value)

    def test_an_address_in_use(self, tmp_path: Path, served: Served) -> None:
        with Node(tmp_path / "g", create=True) as node, pytest.raises(ConfigInvalid, match="cannot listen"):
            NodeServer(node, NodeConfig(tmp_path / "g", served.address))
