"""The certificate of the node that is asked, over real sockets: what is not believed is sent no print."""

import shutil
import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from askers import Region, ScriptedPeer, answering, asked, world
from trials import DAY, HOUR, user

from papilar import peer_client, pki
from papilar.api.peer.v1 import peer_pb2
from papilar.errors import CertificateFlaw, CertificateRefused, NodeUnreachable
from papilar.exchange import calls
from papilar.exchange.region import Gap, GapKind
from papilar.identity import Identity
from papilar.peer_client import PeerChannel
from papilar.tls import TlsFiles, shown_certificate
from papilar.trust import Trust

NOT_BELIEVED = (Gap("HND", GapKind.INVALID_ANSWER, "CERTIFICATE_REFUSED"),)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tries follow each other sooner than in earnest."""
    monkeypatch.setattr(calls, "_BACK_OFF", 0.02)


@pytest.fixture
def region(tmp_path: Path) -> Iterator[Region]:
    region = Region(world(tmp_path / "world"), tmp_path / "log")
    ticks = iter(range(0, 1 << 40, 2))  # a change of the trust list is seen at once
    region.trust = Trust.load(region.folder / "trust", clock=lambda: next(ticks))
    yield region
    region.close()


@pytest.fixture
def hnd(region: Region) -> ScriptedPeer:
    return region.peer("HND", answering(7.0))


def now() -> datetime:
    return datetime.now(UTC)


def revoke(region: Region, name: str = "node.pem") -> None:
    listed = pki.revoke(region.folder / "HND", region.folder / "HND" / name, at=now() - HOUR)
    shutil.copy(listed, region.folder / "trust/HND/new")
    (region.folder / "trust/HND/new").rename(region.folder / "trust/HND/revoked.pem")


def flaw(region: Region, peer: ScriptedPeer) -> CertificateFlaw | None:
    with pytest.raises(CertificateRefused) as caught:
        shown_certificate(peer.address, region.tls, region.trust, "HND", at=now(), timeout=5)
    return caught.value.why


def test_a_revoked_node_is_sent_nothing(region: Region, hnd: ScriptedPeer) -> None:
    revoke(region)
    assert region.searcher(hnd).collect(asked()).gaps == NOT_BELIEVED
    assert hnd.asked == []
    assert flaw(region, hnd) is CertificateFlaw.REVOKED


def test_a_node_revoked_while_connected_is_sent_nothing_more(region: Region, hnd: ScriptedPeer) -> None:
    searcher = region.searcher(hnd)
    assert len(searcher.collect(asked()).candidates) == 1
    revoke(region)
    assert searcher.collect(asked()).gaps == NOT_BELIEVED
    assert len(hnd.asked) == 1


@pytest.mark.parametrize(
    ("begins", "why"),
    [(timedelta(days=-4), CertificateFlaw.EXPIRED), (timedelta(days=2), CertificateFlaw.NOT_YET_VALID)],
)
def test_an_expired_node_is_sent_nothing(region: Region, begins: timedelta, why: CertificateFlaw) -> None:
    home = region.folder / "HND"
    pki.renew(home, home / "node.pem", at=now() + begins, days=1)
    hnd = region.peer("HND", answering(7.0))
    assert region.searcher(hnd).collect(asked()).gaps == NOT_BELIEVED
    assert hnd.asked == []
    assert flaw(region, hnd) is why


def test_a_list_of_revocations_that_is_stale_stops_what_is_sent(region: Region, hnd: ScriptedPeer) -> None:
    home = region.folder / "HND"
    shutil.copy(pki.publish(home, at=now() - 300 * DAY), region.folder / "trust/HND/revoked.pem")
    assert flaw(region, hnd) is CertificateFlaw.CRL_STALE


def test_the_node_of_another_country_is_sent_nothing(region: Region) -> None:
    gtm = region.peer("GTM", answering(7.0))
    searcher = region.searcher(region.line("HND", gtm.address))
    assert searcher.collect(asked()).gaps == NOT_BELIEVED
    assert gtm.asked == []


def test_one_that_speaks_for_another_country_is_sent_nothing(region: Region) -> None:
    """The authority of HND signs, as HND's node by its server name, what names a node of GTM."""
    authority = pki._open(region.folder / "GTM")._replace(country="HND")
    pki._issue(region.folder / "GTM", authority, Identity.parse("spiffe://hnd.papilar/node/odd"), now(), 20)
    files = TlsFiles(region.folder / "GTM/node-odd.pem", region.folder / "GTM/node-odd.key")
    for source, to in zip(files, ("node.pem", "node.key"), strict=True):
        source.replace(region.folder / "GTM" / to)
    odd = region.peer("GTM", answering(7.0))
    assert region.searcher(region.line("HND", odd.address)).collect(asked()).gaps == NOT_BELIEVED
    assert odd.asked == []


def test_a_user_is_no_node(region: Region) -> None:
    user(region.folder / "HND", at=now() - DAY)
    for part in ("pem", "key"):
        (region.folder / f"HND/user-e7-tls.{part}").replace(region.folder / f"HND/node.{part}")
    hnd = region.peer("HND", answering(7.0))
    assert region.searcher(hnd).collect(asked()).gaps == NOT_BELIEVED
    assert hnd.asked == []


def test_a_second_address_that_is_believed_answers(region: Region, hnd: ScriptedPeer) -> None:
    gtm = region.peer("GTM", answering(3.0))
    searcher = region.searcher(region.line("HND", gtm.address, hnd.address))
    assert [one.candidate.score for one in searcher.collect(asked()).candidates] == [7.0]
    assert gtm.asked == []


# ---- renewed


def test_renewed_while_connected(region: Region, hnd: ScriptedPeer) -> None:
    """What is open goes on; when the node comes back with a new certificate, the next call takes it."""
    searcher, home = region.searcher(hnd), region.folder / "HND"
    assert len(searcher.collect(asked()).candidates) == 1
    pki.renew(home, home / "node.pem", at=now())
    assert len(searcher.collect(asked()).candidates) == 1
    hnd.server.stop(0).wait()
    again = region.peer("HND", answering(6.0), port=hnd.port)
    hnd.log, again.log = again.log, hnd.log
    assert [one.candidate.score for one in searcher.collect(asked()).candidates] == [6.0]
    assert len(again.asked) == 1


def test_a_new_key_and_the_old_one_revoked(region: Region, hnd: ScriptedPeer) -> None:
    """The open connection is left at once, though it still works."""
    searcher, home = region.searcher(hnd), region.folder / "HND"
    assert len(searcher.collect(asked()).candidates) == 1
    shutil.copy(home / "node.pem", home / "old.pem")
    pki.issue(home, Identity.parse("spiffe://hnd.papilar/node/new"), at=now())
    for part in ("key", "pem"):
        (home / f"node-new.{part}").replace(home / f"node.{part}")
    revoke(region, "old.pem")
    assert searcher.collect(asked()).gaps == ()
    assert len({one.request_id for one in hnd.asked}) == 2  # asked twice for one, where it was slow to answer


def test_a_call_of_one_message_survives_a_renewal(region: Region, hnd: ScriptedPeer) -> None:
    channel, home = PeerChannel("HND", hnd.address, tls=region.tls, trust=region.trust), region.folder / "HND"
    ask = peer_pb2.ExchangeHeadsRequest()
    channel.exchange_heads(ask, timeout=5)
    pki.renew(home, home / "node.pem", at=now())
    hnd.server.stop(0).wait()
    region.peer("HND", answering(6.0), port=hnd.port)
    assert channel.exchange_heads(ask, timeout=5).head.statement
    channel.close()
    with pytest.raises(NodeUnreachable):
        channel.exchange_heads(ask, timeout=5)


# ---- between the look and the call


def test_a_node_swapped_between_look_and_call(
    region: Region, hnd: ScriptedPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another holder of a certificate of that country is at the address when prints are sent."""
    home = region.folder / "HND"
    pki.issue(home, Identity.parse("spiffe://hnd.papilar/node/stolen"), at=now() - DAY)
    good = {part: (home / f"node.{part}").read_bytes() for part in ("pem", "key")}
    for part in good:
        shutil.copy(home / f"node-stolen.{part}", home / f"node.{part}")
    stolen = region.peer("HND", answering(9.0))
    for part, held in good.items():
        (home / f"node.{part}").write_bytes(held)
    genuine = shown_certificate(hnd.address, region.tls, region.trust, "HND", at=now(), timeout=5)
    monkeypatch.setattr(peer_client, "shown_certificate", lambda *given, **named: genuine)
    # Its server reads the files for each connection: let them be the stolen ones for it alone.
    for part in good:
        shutil.copy(home / f"node-stolen.{part}", home / f"node.{part}")
    channel = PeerChannel("HND", stolen.address, tls=region.tls, trust=region.trust)
    with pytest.raises(NodeUnreachable):
        list(channel.search(peer_pb2.SearchRequest(), timeout=2))
    channel.close()
    assert stolen.asked == []


class Odd:
    """A port that takes a connection and does what a test says with it."""

    def __init__(self, serve: Any) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._serve, args=(serve,))
        self.thread.start()

    def _serve(self, serve: Any) -> None:
        with self.listener, self.listener.accept()[0] as connection:
            serve(connection, self.over)

    def close(self) -> None:
        self.over.set()
        self.thread.join()


def silent(connection: socket.socket, over: threading.Event) -> None:
    over.wait(20)


def dripping(connection: socket.socket, over: threading.Event) -> None:
    """Send a record of TLS one byte at a time."""
    record = b"\x16\x03\x03\x40\x00" + bytes(0x4000)
    for byte in record:
        if over.wait(0.05):
            return
        try:
            connection.send(bytes([byte]))
        except OSError:
            return


def talking(connection: socket.socket, over: threading.Event) -> None:
    connection.send(b"HTTP/1.1 400 Ana Lopez\r\n\r\n")


@pytest.mark.parametrize("serve", [silent, dripping, talking])
def test_a_port_without_tls_costs_no_more_than_its_time(region: Region, serve: Any) -> None:
    odd, started = Odd(serve), time.monotonic()
    with pytest.raises(NodeUnreachable) as caught:
        shown_certificate(odd.address, region.tls, region.trust, "HND", at=now(), timeout=0.4)
    assert time.monotonic() - started < 1.5
    assert "Lopez" not in str(caught.value)
    odd.close()


def test_a_search_cancelled_while_it_looks_is_not_sent(region: Region, hnd: ScriptedPeer) -> None:
    channel = PeerChannel("HND", hnd.address, tls=region.tls, trust=region.trust)
    call = channel.search(peer_pb2.SearchRequest(), timeout=5)
    call.cancel()
    assert list(call) == []
    assert hnd.asked == []
    channel.close()


def test_the_look_is_one_per_connection(
    region: Region, hnd: ScriptedPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []

    def look(*given: Any, **named: Any) -> bytes:
        looks.append(given)
        return shown_certificate(*given, **named)

    monkeypatch.setattr(peer_client, "shown_certificate", look)
    channel = PeerChannel("HND", hnd.address, tls=region.tls, trust=region.trust)
    for _ in range(5):
        channel.exchange_heads(peer_pb2.ExchangeHeadsRequest(), timeout=5)
    channel.close()
    assert len(looks) == 1
