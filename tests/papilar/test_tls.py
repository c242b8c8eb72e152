"""TLS between nodes over real sockets: who is let in, who it is, and certificates replaced while it runs."""

import shutil
import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from trials import DAY, countries, user

from papilar import pki
from papilar.errors import CertificateFlaw, CertificateRefused, ConfigInvalid
from papilar.identity import Identity
from papilar.tls import TlsFiles, channel_credentials, channel_options, peer_certificate, server_credentials
from papilar.trust import Trust

NOW = datetime.now(UTC)
ASKED = "/test.Test/WhoAmI"


class WhoAmI(grpc.GenericRpcHandler):
    """Answers with the name that the caller's certificate has, or with the flaw of it."""

    def __init__(self, trust: Trust) -> None:
        self.trust = trust

    def service(self, handler_call_details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(self.answer)

    def answer(self, request: bytes, context: Any) -> bytes:
        try:
            identity = self.trust.verify(peer_certificate(context), at=datetime.now(UTC))
        except CertificateRefused as error:
            return str(error.why).encode()
        return identity.uri.encode()


class Turned:
    """A clock that moves on by two seconds at every look: a change of the trust list is seen at once."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 2
        return self.now


def files(folder: Path, stem: str = "node") -> TlsFiles:
    return TlsFiles(folder / f"{stem}.pem", folder / f"{stem}.key")


@pytest.fixture
def world(tmp_path: Path) -> Path:
    countries(tmp_path, "SLV", "HND", at=NOW - DAY)
    return tmp_path


@contextmanager
def listening(credentials: grpc.ServerCredentials | None, trust: Trust) -> Iterator[str]:
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool)
        server.add_generic_rpc_handlers((WhoAmI(trust),))
        port = (
            server.add_secure_port("127.0.0.1:0", credentials)
            if credentials is not None
            else server.add_insecure_port("127.0.0.1:0")
        )
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(0).wait()


@pytest.fixture
def trust(world: Path) -> Trust:
    return Trust.load(world / "trust", clock=Turned())


@pytest.fixture
def address(world: Path, trust: Trust) -> Iterator[str]:
    """A node of SLV, listening."""
    with listening(server_credentials(files(world / "SLV"), trust), trust) as address:
        yield address


def ask(address: str, credentials: grpc.ChannelCredentials | None, country: str = "SLV") -> str:
    """Ask who we are over a new connection; an empty answer where there is no connection."""
    options = [*channel_options(country), ("grpc.use_local_subchannel_pool", 1)]
    channel = (
        grpc.secure_channel(address, credentials, options) if credentials else grpc.insecure_channel(address)
    )
    with channel:
        try:
            return str(channel.unary_unary(ASKED)(b"", timeout=10), "ascii")
        except grpc.RpcError as error:
            return "" if error.code() is grpc.StatusCode.UNAVAILABLE else repr(error)  # type: ignore[attr-defined]


def ask_as(address: str, world: Path, trust: Trust, country: str, stem: str = "node") -> str:
    return ask(address, channel_credentials(files(world / country, stem), trust, "SLV"))


def test_each_side_knows_the_other(address: str, world: Path, trust: Trust) -> None:
    assert ask_as(address, world, trust, "HND") == "spiffe://hnd.papilar/node/main"
    user(world / "SLV", at=NOW - DAY)
    assert ask_as(address, world, trust, "SLV", "user-e7-tls") == "spiffe://slv.papilar/user/examiner/e7"


def test_who_shows_nothing_is_not_let_in(address: str, trust: Trust) -> None:
    assert ask(address, grpc.ssl_channel_credentials(trust.roots("SLV"))) == ""


def test_who_shows_a_strangers_certificate_is_not_let_in(
    address: str, world: Path, trust: Trust, tmp_path: Path
) -> None:
    countries(tmp_path / "other", "GTM", "HND", at=NOW - DAY)
    assert ask_as(address, tmp_path / "other", trust, "GTM") == ""
    assert ask_as(address, tmp_path / "other", trust, "HND") == "", "another authority of a known name"


def test_an_expired_certificate_is_not_let_in(address: str, world: Path, trust: Trust) -> None:
    pki.renew(world / "HND", world / "HND/node.pem", at=NOW - 2 * DAY, days=1)
    assert ask_as(address, world, trust, "HND") == ""


@pytest.mark.parametrize("off", [timedelta(hours=1), timedelta(minutes=6)])
def test_a_certificate_from_a_clock_ahead_is_not_let_in(
    address: str, world: Path, trust: Trust, off: timedelta
) -> None:
    pki.renew(world / "HND", world / "HND/node.pem", at=datetime.now(UTC) + off)
    assert ask_as(address, world, trust, "HND") == ""


def test_a_revoked_certificate_is_told_by_its_first_call(address: str, world: Path, trust: Trust) -> None:
    """The handshake knows no lists of what is revoked: the call asks the trust list."""
    listed = pki.revoke(world / "HND", world / "HND/node.pem", at=NOW)
    shutil.copy(listed, world / "trust/HND/new")
    (world / "trust/HND/new").rename(world / "trust/HND/revoked.pem")
    assert ask_as(address, world, trust, "HND") == "REVOKED"


def test_a_call_over_an_old_connection_is_refused_too(address: str, world: Path, trust: Trust) -> None:
    credentials = channel_credentials(files(world / "HND"), trust, "SLV")
    with grpc.secure_channel(address, credentials, channel_options("SLV")) as channel:
        call = channel.unary_unary(ASKED)
        assert call(b"", timeout=10) == b"spiffe://hnd.papilar/node/main"
        pki.revoke(world / "HND", world / "HND/node.pem", at=NOW)
        (world / "HND/trust/HND/revoked.pem").rename(world / "trust/HND/revoked.pem")
        assert call(b"", timeout=10) == b"REVOKED"


def test_a_country_that_speaks_for_another_is_refused(address: str, world: Path, trust: Trust) -> None:
    """The handshake believes every authority of the list: the call asks which country it is of."""
    as_slv = Identity.parse("spiffe://slv.papilar/node/main")
    authority = pki._open(world / "HND")._replace(country="SLV")
    (world / "mix").mkdir()
    pki._issue(world / "mix", authority, as_slv, NOW - DAY, 20)
    assert ask(address, channel_credentials(files(world / "mix"), trust, "SLV")) == "UNKNOWN_AUTHORITY"


def test_a_seal_is_not_let_in(address: str, world: Path, trust: Trust) -> None:
    """A signing key opens no connection, whatever the library would take."""
    assert ask_as(address, world, trust, "HND", "seal") == ""


def test_who_trusts_hnd_alone_does_not_call_slv(address: str, world: Path, trust: Trust) -> None:
    credentials = channel_credentials(files(world / "HND"), trust, "HND")
    assert ask(address, credentials, "SLV") == "", "the name of SLV, signed by another"
    assert ask(address, credentials, "HND") == ""


def test_a_node_of_another_name_is_not_called(address: str, world: Path, trust: Trust) -> None:
    credentials = channel_credentials(files(world / "HND"), trust, "SLV")
    assert ask(address, credentials, "HND") == "", "its certificate says SLV"
    with grpc.secure_channel(address, credentials) as channel, pytest.raises(grpc.RpcError):
        channel.unary_unary(ASKED)(b"", timeout=10)  # without channel_options the address is the name


def test_no_one_calls_a_user_taken_for_a_node(world: Path, trust: Trust) -> None:
    user(world / "SLV", at=NOW - DAY)
    with listening(server_credentials(files(world / "SLV", "user-e7-tls"), trust), trust) as address:
        assert ask_as(address, world, trust, "HND") == ""


# ---- replaced while it runs


def shown(address: str, world: Path) -> bytes:
    """The certificate, DER, that a new connection gets."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(world / "trust/SLV/ca.pem")
    context.load_cert_chain(*files(world / "HND"))
    context.set_alpn_protocols(["h2"])
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as plain, context.wrap_socket(plain) as tls:
        return tls.getpeercert(binary_form=True) or b""


def in_der(path: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(path.read_text())


def test_a_new_certificate_without_a_restart(address: str, world: Path, trust: Trust) -> None:
    old = in_der(world / "SLV/node.pem")
    assert shown(address, world) == old
    credentials = channel_credentials(files(world / "HND"), trust, "SLV")
    with grpc.secure_channel(address, credentials, channel_options("SLV")) as channel:
        call = channel.unary_unary(ASKED)
        call(b"", timeout=10)
        pki.renew(world / "SLV", world / "SLV/node.pem", at=NOW)
        new = in_der(world / "SLV/node.pem")
        assert new != old
        assert shown(address, world) == new
        assert call(b"", timeout=10), "what is open goes on"
    assert ask_as(address, world, trust, "HND") == "spiffe://hnd.papilar/node/main"


def test_a_new_key_between_its_two_files(address: str, world: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One file is the new one and the other not yet: the last pair stays in force."""
    old = in_der(world / "SLV/node.pem")
    pki.issue(world / "SLV", Identity.parse("spiffe://slv.papilar/node/new"), at=NOW)
    (world / "SLV/node-new.key").replace(world / "SLV/node.key")
    assert shown(address, world) == old
    assert "the last good ones stay in force" in caplog.text
    (world / "SLV/node-new.pem").replace(world / "SLV/node.pem")
    assert shown(address, world) == in_der(world / "SLV/node.pem") != old


def test_a_country_joins_and_leaves_without_a_restart(
    address: str, world: Path, trust: Trust, tmp_path: Path
) -> None:
    countries(tmp_path / "other", "GTM", at=NOW - DAY)
    assert ask_as(address, tmp_path / "other", trust, "GTM") == ""
    shutil.copytree(tmp_path / "other/trust/GTM", world / "trust/GTM")
    assert ask_as(address, tmp_path / "other", trust, "GTM") == "spiffe://gtm.papilar/node/main"
    shutil.rmtree(world / "trust/GTM")
    assert ask_as(address, tmp_path / "other", trust, "GTM") == ""


# ---- files and connections that cannot be used


def test_files_that_cannot_be_used(world: Path, trust: Trust) -> None:
    (world / "SLV/node.pem").write_text("no PEM")
    for call in (
        lambda: server_credentials(files(world / "SLV"), trust),
        lambda: channel_credentials(files(world / "SLV"), trust, "SLV"),
        lambda: channel_credentials(files(world / "absent"), trust, "SLV"),
    ):
        with pytest.raises(ConfigInvalid):
            call()
    with pytest.raises(CertificateRefused) as refused:
        channel_credentials(files(world / "HND"), trust, "GTM")
    assert refused.value.why is CertificateFlaw.UNKNOWN_AUTHORITY


def test_without_tls_there_is_no_certificate(trust: Trust) -> None:
    with listening(None, trust) as address:
        assert ask(address, None) == "UNREADABLE"
