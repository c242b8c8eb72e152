"""Attacks on the asked side, each over a real socket or on the bytes of a sealed statement."""

import shutil
import socket
import ssl
import struct
import time
import zlib
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from countries import Answering, Asking, a_print, answering, law, make_world
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nodes import picture, refusal
from trials import DAY, countries

from matcher.errors import PapilarError
from papilar import pki
from papilar.api.peer.v1 import peer_pb2, types_pb2
from papilar.audit.entry import Act
from papilar.errors import CertificateRefused, RequestRefused
from papilar.exchange.seal import seal, stamp
from papilar.node import Node
from papilar.peer_server import PeerLimits
from papilar.policy import File

NOW = datetime.now(UTC)
_FULL = grpc.StatusCode.RESOURCE_EXHAUSTED
SLOW = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def sent(asking: Asking, signed: types_pb2.Signed, stem: str = "node") -> Any:
    """How a search over the wire is refused."""

    def call(request: Any, timeout: float) -> Any:
        return list(stub.Search(request, timeout=timeout))

    with asking.calling(stem) as stub:
        return refusal(call, peer_pb2.SearchRequest(search=signed))


# ---- who calls


class TestCertificates:
    @pytest.fixture
    def world(self, tmp_path: Path) -> Path:
        """Countries of this test alone, to be revoked and renewed."""
        return make_world(tmp_path / "world")

    def test_an_expired_one(self, slv: Answering, hnd: Asking, world: Path) -> None:
        pki.renew(world / "HND", world / "HND/node.pem", at=NOW - 2 * DAY, days=1)
        assert sent(hnd, hnd.sealed()).code is grpc.StatusCode.UNAVAILABLE, "no connection"

    def test_an_expired_seal(self, slv: Answering, hnd: Asking, world: Path) -> None:
        pki.renew(world / "HND", world / "HND/seal.pem", at=NOW - 2 * DAY, days=1)
        assert sent(hnd, hnd.sealed()).reason == "CERTIFICATE_REFUSED"

    def test_a_revoked_one(self, slv: Answering, hnd: Asking, world: Path) -> None:
        listed = pki.revoke(world / "HND", world / "HND/node.pem", at=NOW)
        shutil.copy(listed, world / "trust/HND/new")
        (world / "trust/HND/new").rename(world / "trust/HND/revoked.pem")
        refused = sent(hnd, hnd.sealed())
        assert (refused.code, refused.reason) == (grpc.StatusCode.UNAUTHENTICATED, "CERTIFICATE_REFUSED")

    def test_one_of_an_unknown_authority(self, slv: Answering, hnd: Asking, tmp_path: Path) -> None:
        countries(tmp_path / "other", "HND", "SLV", at=NOW - DAY)
        shutil.copytree(hnd.world / "trust", tmp_path / "other/trust", dirs_exist_ok=True)
        stranger = Asking(tmp_path / "other", "HND", slv.address)
        assert sent(stranger, hnd.sealed()).code is grpc.StatusCode.UNAVAILABLE, "no connection"
        assert sent(hnd, stranger.sealed()).reason == "CERTIFICATE_REFUSED", "a seal of that authority"

    def test_a_person_is_no_node(self, slv: Answering, hnd: Asking) -> None:
        assert sent(hnd, hnd.sealed(), "user-e7-tls").reason == "CERTIFICATE_REFUSED"

    def test_our_own_country(self, slv: Answering, hnd: Asking) -> None:
        own = Asking(hnd.world, "SLV", slv.address)
        assert sent(own, own.sealed()).reason == "COUNTRY_MISMATCH"

    def test_no_certificate(self, slv: Answering) -> None:
        credentials = grpc.ssl_channel_credentials(slv.trust.roots("SLV"))
        options = [("grpc.ssl_target_name_override", "node.slv.papilar")]
        with grpc.secure_channel(slv.address, credentials, options) as channel:
            call = channel.unary_unary("/papilar.api.peer.v1.PeerService/DescribeNode")
            with pytest.raises(grpc.RpcError):
                call(b"", timeout=10)


class TestCountries:
    def test_another_countrys_statement(self, slv: Answering, hnd: Asking, gtm: Asking) -> None:
        refused = sent(gtm, hnd.sealed())
        assert (refused.code, refused.reason) == (grpc.StatusCode.PERMISSION_DENIED, "COUNTRY_MISMATCH")

    @pytest.mark.parametrize("wrong", [{"asking_country": "GTM"}, {"asked_country": "GTM"}])
    def test_a_body_that_names_another_country(
        self, slv: Answering, hnd: Asking, wrong: dict[str, str]
    ) -> None:
        assert sent(hnd, hnd.sealed(**wrong)).reason == "COUNTRY_MISMATCH"
        assert slv.entries()[-1].code == "COUNTRY_MISMATCH"

    def test_another_countrys_head(self, slv: Answering, hnd: Asking, gtm: Asking) -> None:
        head = slv.asked._office.proofs.head()
        request = peer_pb2.ExchangeHeadsRequest(head=types_pb2.Signed(statement=head.head.payload()))
        with hnd.calling() as stub:
            assert refusal(stub.ExchangeHeads, request).reason == "COUNTRY_MISMATCH"


# ---- what is said


class TestStatements:
    @pytest.mark.parametrize(
        "field", ["officer", "ordering_officer", "reason", "case_reference", "request_id", "asking_country"]
    )
    @pytest.mark.parametrize(
        "text", ["Juan Pérez", "x'; DROP TABLE peer_reference;--", "a\nb", "a\0b", "\x1b[2J", "\u202e", "e7 "]
    )
    def test_words_in_a_text_field(self, slv: Answering, hnd: Asking, field: str, text: str) -> None:
        with pytest.raises(PapilarError) as refused:
            slv.answer(hnd.sealed(**{field: text}))
        assert refused.value.reason in ("REQUEST_INVALID", "COUNTRY_MISMATCH")
        assert text not in str(refused.value)
        assert text not in str(slv.entries()), "nor in the log"

    @pytest.mark.parametrize("field", ["confirmation_id", "request_id", "reference", "asked_country"])
    def test_words_in_a_conclusion(self, slv: Answering, hnd: Asking, field: str) -> None:
        reference = slv.answer(hnd.sealed()).candidates[0].reference
        said = hnd.concluded("0b9d1f62-6a3f-4f3c-9a40-6a2f0d3c1e55", reference)
        changed = peer_pb2.Confirmation.FromString(said.statement)
        setattr(changed, field, "' OR 1=1 --")
        with pytest.raises(PapilarError):
            slv.asked.confirm(seal("confirmation", changed, hnd.signer("user-e7-sign")), "HND")
        assert Act.CONFIRMATION not in [one.act for one in slv.entries()]

    def test_a_field_that_the_contract_does_not_know(self, slv: Answering, hnd: Asking) -> None:
        """`name = 99` in the search, and in one of its prints."""
        extra = b"\x9a\x06\x04Juan"
        signer = hnd.signer()
        inside = hnd.statement()
        inside.prints[0].MergeFromString(extra)
        for statement in (hnd.statement().SerializeToString() + extra, inside.SerializeToString()):
            signature = signer.sign("search", statement)
            signed = types_pb2.Signed(
                statement=statement, certificate=signature.certificate, signature=signature.value
            )
            refused = sent(hnd, signed)
            assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "IDENTITY_PRESENT")

    def test_an_image_that_carries_text(self, slv: Answering, hnd: Asking) -> None:
        data = picture(900)
        chunk = b"tEXt" + b"Comment\0Juan"
        named = data[:-12] + struct.pack(">I", len(chunk) - 4) + chunk
        named += struct.pack(">I", zlib.crc32(chunk)) + data[-12:]
        refused = sent(hnd, hnd.sealed(types_pb2.Print(position=1, ppi=500, image=named)))
        assert refused.reason == "IDENTITY_PRESENT"
        assert "print 0" in refused.message
        assert slv.entries()[-1].code == "IDENTITY_PRESENT"

    @pytest.mark.parametrize("hours", [-1, 1])
    def test_a_clock_an_hour_off(self, slv: Answering, hnd: Asking, hours: int) -> None:
        at = stamp(slv.clock() + timedelta(hours=hours))
        refused = sent(hnd, hnd.sealed(create_time=at))
        assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "CLOCK_SKEW")

    def test_a_decompression_bomb(self, slv: Answering, hnd: Asking) -> None:
        for image, reason in (
            (bomb(60_000, 60_000, 10), "IMAGE_TOO_LARGE"),
            (bomb(300, 400, 200_000_000), "IDENTITY_PRESENT"),
        ):
            started = time.monotonic()
            refused = sent(hnd, hnd.sealed(types_pb2.Print(position=1, ppi=500, image=image)))
            assert refused.reason == reason
            assert time.monotonic() - started < 2


def bomb(width: int, height: int, zeros: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    packer = zlib.compressobj(9)
    body = b"".join(packer.compress(bytes(1 << 20)) for _ in range(zeros >> 20)) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", body) + chunk(b"IEND", b"")


class TestTampering:
    @SLOW
    @given(
        st.sampled_from(["statement", "certificate", "signature"]),
        st.integers(0, 1 << 16),
        st.integers(1, 255),
    )
    def test_any_byte_of_a_sealed_search(
        self, slv: Answering, hnd: Asking, part: str, place: int, change: int
    ) -> None:
        signed = hnd.sealed()
        changed = bytearray(getattr(signed, part))
        changed[place % len(changed)] ^= change
        setattr(signed, part, bytes(changed))
        before = len(slv.entries())
        with pytest.raises((RequestRefused, CertificateRefused)):
            slv.answer(signed)
        assert len(slv.entries()) == before

    def test_a_signature_of_another_kind(self, slv: Answering, hnd: Asking) -> None:
        signed = seal("confirmation", hnd.statement(), hnd.signer())
        assert sent(hnd, signed).reason == "SIGNATURE_REFUSED"

    def test_a_search_signed_by_a_person(self, slv: Answering, hnd: Asking) -> None:
        signed = seal("search", hnd.statement(), hnd.signer("user-e7-sign"))
        assert sent(hnd, signed).reason == "CERTIFICATE_REFUSED"

    @settings(SLOW, max_examples=12)
    @given(st.lists(st.integers(0, 3), min_size=2, max_size=10))
    def test_replayed_reordered_duplicated(self, slv: Answering, hnd: Asking, order: list[int]) -> None:
        """Any order and number of repeats has the effects of each message once."""
        signed = [hnd.sealed(a_print(seed)) for seed in (7, 31, 7, 100)]
        before = [one.act for one in slv.entries()].count(Act.CONSULTATION)
        answers: dict[int, bytes] = {}
        for place in order:
            got = slv.ask(signed[place])[1].SerializeToString()
            assert answers.setdefault(place, got) == got
        done = [one.act for one in slv.entries()].count(Act.CONSULTATION) - before
        assert done == len(set(order))


# ---- how much, how slow


class TestLoad:
    def test_an_oversized_message(self, slv: Answering, hnd: Asking) -> None:
        prints = [types_pb2.Print(position=1, ppi=500, image=bytes(1_100_000))]
        refused = sent(hnd, hnd.sealed(*prints))
        assert (refused.code, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE")
        far = hnd.sealed(types_pb2.Print(position=1, ppi=500, image=bytes(3_000_000)))
        assert sent(hnd, far).code is grpc.StatusCode.RESOURCE_EXHAUSTED, "cut off before it is read"

    def test_probing_the_quota_with_small_requests(
        self, slv: Answering, hnd: Asking, in_force: Any, tmp_path: Path
    ) -> None:
        in_force.law = law(per_day=3)
        codes = [slv.answer(hnd.sealed(offence_class=petty)).code for petty in [2, 4, 4] + [2, 4] * 10]
        assert codes == ["OFFENCE_TOO_LIGHT", "", ""] + ["QUOTA"] * 20

    def test_a_message_that_never_ends(self, world: Path, gallery: Node, tmp_path: Path) -> None:
        """It counts from its first byte, leaves room for others, and is cut off."""
        limits = PeerLimits(calls=1, threads=2, message_seconds=2)
        files = {File.CRIMINAL: gallery}
        with answering(world, files, tmp_path / "peer", law=law, limits=limits) as slv:
            hnd, gtm = Asking(world, "HND", slv.address), Asking(world, "GTM", slv.address)
            with endless(world, slv.address) as slow:
                time.sleep(0.5)
                refused = sent(hnd, hnd.sealed())
                assert (refused.code, refused.reason) == (_FULL, "TOO_MANY_CALLS")
                with gtm.calling() as stub:
                    stub.DescribeNode(peer_pb2.DescribeNodeRequest(), timeout=5)
                started = time.monotonic()
                while time.monotonic() - started < 10 and not ended(slow):
                    pass
                assert time.monotonic() - started < 5
            with hnd.calling() as stub:
                stub.DescribeNode(peer_pb2.DescribeNodeRequest(), timeout=5)

    def test_a_connection_has_an_end(self, world: Path, gallery: Node, tmp_path: Path) -> None:
        limits = PeerLimits(connection_seconds=1)
        files = {File.CRIMINAL: gallery}
        with (
            answering(world, files, tmp_path / "peer", law=law, limits=limits) as slv,
            endless(world, slv.address) as slow,
        ):
            started = time.monotonic()
            while time.monotonic() - started < 10 and dribble(slow):
                pass
            assert time.monotonic() - started < 5

    def test_a_caller_that_says_nothing(self, world: Path, gallery: Node, tmp_path: Path) -> None:
        limits = PeerLimits(idle_seconds=1)
        files = {File.CRIMINAL: gallery}
        with answering(world, files, tmp_path / "peer", law=law, limits=limits) as slv:
            host, _, port = slv.address.rpartition(":")
            with socket.create_connection((host, int(port)), timeout=10) as silent:
                assert silent.recv(1) == b"", "no handshake: closed"


def endless(world: Path, address: str) -> ssl.SSLSocket:
    """Begin a call by hand (RFC 9113): a gRPC message of a megabyte, of which five bytes are sent."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(world / "trust/SLV/ca.pem")
    context.load_cert_chain(world / "HND/node.pem", world / "HND/node.key")
    context.set_alpn_protocols(["h2"])
    host, _, port = address.rpartition(":")
    slow = context.wrap_socket(socket.create_connection((host, int(port)), timeout=10))
    slow.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b""))
    names = {
        ":method": "POST",
        ":scheme": "https",
        ":path": "/papilar.api.peer.v1.PeerService/Search",
        ":authority": "node.slv.papilar",
        "content-type": "application/grpc",
        "te": "trailers",
    }
    block = b"".join(b"\0" + text(name) + text(value) for name, value in names.items())
    slow.sendall(frame(1, 4, 1, block) + frame(0, 0, 1, b"\0" + struct.pack(">I", 1_000_000)))
    return slow


def frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return struct.pack(">I", len(body))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + body


def text(value: str) -> bytes:
    return bytes([len(value)]) + value.encode()


def ended(slow: ssl.SSLSocket) -> bool:
    """Send one more byte; return whether the stream was reset (RST_STREAM, or trailers that end it)."""
    slow.settimeout(0.1)
    with suppress(TimeoutError):
        slow.sendall(frame(0, 0, 1, b"x"))
        got = slow.recv(4096)
        return b"\x03\x00\x00\x00\x00\x01" in got or b"\x01\x05\x00\x00\x00\x01" in got
    return False


def dribble(slow: ssl.SSLSocket) -> bool:
    """Send one more byte; return whether the other side still takes it."""
    slow.settimeout(0.1)
    try:
        slow.sendall(frame(0, 0, 1, b"x"))
        with suppress(TimeoutError):
            return slow.recv(4096) != b""
    except OSError:
        return False
    return True
