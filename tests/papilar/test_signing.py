"""Signatures: bound to the kind of a message; keys open to others, or of another pair, are not used."""

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trials import AT, countries, der

from papilar.errors import (
    CertificateFlaw,
    CertificateRefused,
    ConfigInvalid,
    RequestInvalid,
    SignatureRefused,
)
from papilar.signing import Signature, Signer, read_pair, signed_bytes
from papilar.trust import Trust

KINDS = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("signing")
    countries(folder, "SLV", "HND")
    return folder


@pytest.fixture(scope="module")
def trust(folder: Path) -> Trust:
    return Trust.load(folder / "trust")


@pytest.fixture(scope="module")
def seal(folder: Path) -> Signer:
    return Signer.load(folder / "SLV/seal.pem", folder / "SLV/seal.key")


def test_the_signer_of_a_message_is_known(trust: Trust, seal: Signer, folder: Path) -> None:
    signature = seal.sign("search", b"payload")
    assert signature.certificate == der(folder / "SLV/seal.pem")
    assert trust.check("search", b"payload", signature, at=AT, kinds=["seal"]) == (
        "SLV",
        "seal",
        "main",
        frozenset(),
    )


@given(KINDS, st.binary(), KINDS, st.binary())
def test_two_messages_are_never_signed_over_the_same_bytes(a: str, b: bytes, c: str, d: bytes) -> None:
    assert (signed_bytes(a, b) == signed_bytes(c, d)) == ((a, b) == (c, d))


@given(st.binary(max_size=60))
def test_a_payload_that_looks_like_a_kind_is_none(payload: bytes) -> None:
    assert signed_bytes("a", b"b\0" + payload) != signed_bytes("a\x20b", payload)


@pytest.mark.parametrize("kind", ["", "a\0b", "\0", "búsqueda", "a\n"])
def test_a_kind_is_a_word(seal: Signer, kind: str) -> None:
    with pytest.raises(RequestInvalid):
        seal.sign(kind, b"")


@pytest.mark.parametrize(
    "change",
    [
        lambda s: ("confirm", b"payload", s),
        lambda s: ("search", b"payloae", s),
        lambda s: ("search", b"", s),
        lambda s: ("search", b"payload", s._replace(value=bytes(64))),
        lambda s: ("search", b"payload", s._replace(value=b"")),
        lambda s: ("search", b"payload", s._replace(value=s.value + b"\0")),
        lambda s: ("search", b"payload", s._replace(value=s.value[:63] + bytes([s.value[63] ^ 1]))),
    ],
)
def test_a_signature_on_anything_else_is_refused(
    trust: Trust, seal: Signer, change: Callable[[Signature], tuple[str, bytes, Signature]]
) -> None:
    kind, payload, signature = change(seal.sign("search", b"payload"))
    with pytest.raises(SignatureRefused, match="seal of SLV") as refused:
        trust.check(kind, payload, signature, at=AT, kinds=["seal"])
    assert refused.value.reason == "SIGNATURE_REFUSED"


def test_the_signature_of_another_country_is_not_ours(trust: Trust, seal: Signer, folder: Path) -> None:
    theirs = seal.sign("search", b"payload")._replace(certificate=der(folder / "HND/seal.pem"))
    with pytest.raises(SignatureRefused, match="seal of HND"):
        trust.check("search", b"payload", theirs, at=AT, kinds=["seal"])


def test_a_seal_signs_no_law(trust: Trust, seal: Signer) -> None:
    with pytest.raises(CertificateRefused, match="law is asked for") as refused:
        trust.check("law", b"permit", seal.sign("law", b"permit"), at=AT, kinds=["law"])
    assert refused.value.why is CertificateFlaw.WRONG_KIND


def test_a_tls_certificate_signs_no_message(trust: Trust, folder: Path) -> None:
    with pytest.raises(CertificateRefused, match="not for signing") as refused:
        trust.check("a", b"", Signature(der(folder / "SLV/node.pem"), bytes(64)), at=AT, kinds=["node"])
    assert refused.value.why is CertificateFlaw.WRONG_KIND
    with pytest.raises(ConfigInvalid, match="no Ed25519 key"):
        Signer.load(folder / "SLV/node.pem", folder / "SLV/node.key")


# ---- files


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_key_that_others_can_reach_is_not_used(folder: Path, tmp_path: Path, mode: int) -> None:
    key = tmp_path / "seal.key"
    key.write_bytes((folder / "SLV/seal.key").read_bytes())
    key.chmod(mode)
    with pytest.raises(ConfigInvalid, match="open to others") as refused:
        Signer.load(folder / "SLV/seal.pem", key)
    assert refused.value.remedy.startswith(f"chmod 600 {key}")
    key.chmod(0o400)
    assert Signer.load(folder / "SLV/seal.pem", key)


def test_certificate_and_key_are_one_pair(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="not the certificate of"):
        read_pair(folder / "SLV/seal.pem", folder / "HND/seal.key")
    with pytest.raises(ConfigInvalid, match="cannot be read"):
        read_pair(folder / "SLV/seal.pem", tmp_path / "absent.key")
    with pytest.raises(ConfigInvalid, match="not PEM"):
        read_pair(folder / "SLV/seal.key", folder / "SLV/seal.key")
    with pytest.raises(ConfigInvalid, match="cannot be read"):
        read_pair(tmp_path, folder / "SLV/seal.key")


def test_no_part_of_a_key_is_shown(folder: Path, tmp_path: Path) -> None:
    secret = (folder / "SLV/seal.key").read_text().splitlines()[1]
    broken = tmp_path / "broken.key"
    broken.touch(0o600)
    broken.write_text(f"-----BEGIN PRIVATE KEY-----\n{secret[:-4]}\n-----END PRIVATE KEY-----\n")
    with pytest.raises(ConfigInvalid) as refused:
        Signer.load(folder / "SLV/seal.pem", broken)
    signer = Signer.load(folder / "SLV/seal.pem", folder / "SLV/seal.key")
    assert secret[20:40] not in f"{refused.value!r} {refused.value} {signer!r}"


def test_a_flaw_survives_the_way_between_processes() -> None:
    error = CertificateRefused("a", remedy="b", why=CertificateFlaw.EXPIRED)
    back = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (str(back), back.why) == ("a; b", CertificateFlaw.EXPIRED)
    assert CertificateRefused("a", remedy="b").why is None
