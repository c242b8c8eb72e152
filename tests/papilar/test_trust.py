"""Whose certificates are believed: every flaw has its name, and a country's authority speaks for it alone."""

import logging
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st
from trials import AT, DAY, HOUR, countries, der, odd, revocations, usage, user

from papilar import pki
from papilar.errors import CertificateRefused, ConfigInvalid, RequestInvalid
from papilar.identity import Identity
from papilar.signing import Signature, Signer, signed_bytes
from papilar.trust import Trust

NODE = "spiffe://slv.papilar/node/main"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trust")
    countries(folder, "SLV", "HND")
    return folder


@pytest.fixture(scope="module")
def trust(world: Path) -> Trust:
    return Trust.load(world / "trust")


def flaw(trust: Trust, leaf: bytes | Path | x509.Certificate, at: datetime = AT, **given: Any) -> str:
    """Why a certificate is refused; nothing where it is not."""
    try:
        trust.verify(leaf if isinstance(leaf, bytes) else der(leaf), at=at, **given)
    except CertificateRefused as error:
        return str(error.why)
    return ""


# ---- who is believed


def test_names_are_those_of_the_certificates(trust: Trust, world: Path) -> None:
    for country in ("SLV", "HND"):
        for kind in ("node", "seal", "law"):
            pem = (world / country / f"{kind}.pem").read_bytes()
            assert trust.verify(pem, at=AT, kind=kind) == Identity(country, kind, "main")  # type: ignore[arg-type]
            assert trust.verify(der(world / country / f"{kind}.pem"), at=AT).country == country
    assert trust.countries == {"SLV", "HND"}


def test_a_user_has_roles(trust: Trust, world: Path) -> None:
    for path in user(world / "HND", "u1", "examiner+officer"):
        found = trust.verify(path.read_bytes(), at=AT, kind="user")
        assert found == ("HND", "user", "u1", {"examiner", "officer"})


def test_roots_are_those_of_the_country(trust: Trust, world: Path) -> None:
    slv, hnd = ((world / country / "ca.pem").read_bytes() for country in ("SLV", "HND"))
    assert trust.roots("SLV") == slv
    assert trust.all_roots() == hnd + slv
    with pytest.raises(CertificateRefused, match="no authority of GTM"):
        trust.roots("GTM")


def test_a_country_speaks_for_itself_alone(trust: Trust, world: Path) -> None:
    _, foreign = odd(world / "HND", NODE)
    assert flaw(trust, foreign) == "UNKNOWN_AUTHORITY"
    _, own = odd(world / "SLV", NODE)
    assert flaw(trust, own) == ""


def test_an_authority_that_nobody_knows(world: Path, trust: Trust, tmp_path: Path) -> None:
    countries(tmp_path, "SLV", "GTM")
    assert flaw(trust, tmp_path / "SLV/node.pem") == "UNKNOWN_AUTHORITY", "another authority of that name"
    assert flaw(trust, tmp_path / "GTM/node.pem") == "UNKNOWN_AUTHORITY", "a country that is not in the list"


def test_a_leaf_is_no_authority(world: Path, tmp_path: Path) -> None:
    """A certificate of the authority, used as one: neither in a chain nor in the list."""
    shutil.copytree(world / "trust/SLV", tmp_path / "SLV")
    shutil.copy(world / "SLV/node.pem", tmp_path / "SLV/ca.pem")
    with pytest.raises(ConfigInvalid):
        Trust.load(tmp_path)


@pytest.mark.parametrize(
    ("uri", "ca", "signs", "good"),
    [
        ("spiffe://slv.papilar", True, True, True),
        ("spiffe://slv.papilar", True, False, False),
        ("spiffe://slv.papilar", False, True, False),
        ("spiffe://hnd.papilar", True, True, False),
        ("", True, True, True),
    ],
)
def test_an_authority_is_made_for_it(
    world: Path, tmp_path: Path, uri: str, ca: bool, signs: bool, good: bool
) -> None:
    """Also one that says nothing of its country, but none that is of another: a file in the wrong folder."""
    limits = x509.BasicConstraints(ca=ca, path_length=None)
    _, made = odd(world / "SLV", *filter(None, [uri]), use=usage(signs_certificates=signs), extra=limits)
    (tmp_path / "SLV").mkdir()
    (tmp_path / "SLV/ca.pem").write_bytes(made.public_bytes(Encoding.PEM))
    try:
        assert Trust.load(tmp_path).countries == {"SLV"}
        assert good
    except ConfigInvalid:
        assert not good


def test_old_and_new_authority_side_by_side(world: Path, tmp_path: Path) -> None:
    countries(tmp_path, "SLV")
    for name in ("ca.pem", "revoked.pem"):
        both = (world / "trust/SLV" / name).read_bytes() + (tmp_path / "trust/SLV" / name).read_bytes()
        (tmp_path / "trust/SLV" / name).write_bytes(both)
    trust = Trust.load(tmp_path / "trust")
    assert flaw(trust, world / "SLV/node.pem") == flaw(trust, tmp_path / "SLV/node.pem") == ""
    shutil.copy(world / "trust/SLV/revoked.pem", tmp_path / "trust/SLV/revoked.pem")
    with pytest.raises(ConfigInvalid, match="without a list"):
        Trust.load(tmp_path / "trust")
    (tmp_path / "trust/SLV/revoked.pem").unlink()
    assert flaw(Trust.load(tmp_path / "trust"), tmp_path / "SLV/node.pem") == ""


# ---- time


@pytest.mark.parametrize(
    ("off", "skew", "wanted"),
    [
        (timedelta(), timedelta(), ""),
        (-HOUR, timedelta(), "NOT_YET_VALID"),
        (-HOUR, timedelta(minutes=54), "NOT_YET_VALID"),
        (-HOUR, HOUR, ""),
        (20 * DAY, timedelta(), ""),
        (20 * DAY + timedelta(seconds=1), timedelta(), "EXPIRED"),
        (20 * DAY + HOUR, timedelta(minutes=59), "EXPIRED"),
        (20 * DAY + HOUR, HOUR, ""),
    ],
)
def test_a_clock_that_is_off(world: Path, off: timedelta, skew: timedelta, wanted: str) -> None:
    assert flaw(Trust.load(world / "trust", skew=skew), world / "SLV/node.pem", at=AT + off) == wanted


def test_an_authority_expires_too(tmp_path: Path) -> None:
    countries(tmp_path, "SLV", days=2 * pki.AUTHORITY_DAYS)
    (tmp_path / "trust/SLV/revoked.pem").unlink()
    trust = Trust.load(tmp_path / "trust")
    end = AT + pki.AUTHORITY_DAYS * DAY
    assert flaw(trust, tmp_path / "SLV/node.pem", at=end) == ""
    with pytest.raises(CertificateRefused, match="authority of SLV was valid until"):
        trust.verify(der(tmp_path / "SLV/node.pem"), at=end + HOUR)


def test_a_time_has_its_zone(trust: Trust, world: Path) -> None:
    with pytest.raises(RequestInvalid):
        trust.verify(der(world / "SLV/node.pem"), at=AT.replace(tzinfo=None))


# ---- what was revoked


def test_what_was_revoked_is_refused(tmp_path: Path) -> None:
    countries(tmp_path, "SLV")
    listed = pki.revoke(tmp_path / "SLV", tmp_path / "SLV/node.pem", at=AT)
    shutil.copy(listed, tmp_path / "trust/SLV/revoked.pem")
    trust = Trust.load(tmp_path / "trust")
    assert flaw(trust, tmp_path / "SLV/node.pem") == "REVOKED"
    assert flaw(trust, tmp_path / "SLV/node.pem", at=AT - timedelta(minutes=1)) == "REVOKED", "for any time"
    assert flaw(trust, tmp_path / "SLV/seal.pem") == ""


def test_a_list_out_of_date_refuses_all(tmp_path: Path) -> None:
    countries(tmp_path, "SLV", days=100)
    trust = Trust.load(tmp_path / "trust", skew=HOUR)
    end = AT + pki.REVOCATIONS_DAYS * DAY
    assert flaw(trust, tmp_path / "SLV/node.pem", at=end + HOUR) == ""
    assert flaw(trust, tmp_path / "SLV/node.pem", at=end + 2 * HOUR) == "CRL_STALE"


def test_a_list_of_another_country_is_none_of_ours(world: Path, tmp_path: Path) -> None:
    shutil.copytree(world / "trust", tmp_path / "trust")
    shutil.copy(world / "trust/HND/revoked.pem", tmp_path / "trust/SLV/revoked.pem")
    with pytest.raises(ConfigInvalid, match="SLV"):
        Trust.load(tmp_path / "trust")


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)])
def test_the_latest_list_is_the_one(tmp_path: Path, order: slice) -> None:
    countries(tmp_path, "SLV", days=100)
    lists = [(tmp_path / "trust/SLV/revoked.pem").read_bytes()]
    later = AT + 29 * DAY
    lists.append(pki.revoke(tmp_path / "SLV", tmp_path / "SLV/node.pem", at=later).read_bytes())
    (tmp_path / "trust/SLV/revoked.pem").write_bytes(b"".join(lists[order]))
    trust = Trust.load(tmp_path / "trust")
    assert flaw(trust, tmp_path / "SLV/node.pem", at=later) == "REVOKED"
    assert flaw(trust, tmp_path / "SLV/seal.pem", at=later + 20 * DAY) == ""


@pytest.mark.parametrize(("critical", "good"), [(False, True), (True, False)])
def test_a_partial_list_is_not_taken(tmp_path: Path, critical: bool, good: bool) -> None:
    """It would make what the full list has revoked good again."""
    folder = countries(tmp_path, "SLV")
    partial = revocations(tmp_path / "SLV", x509.DeltaCRLIndicator(1), critical=critical)
    (folder / "SLV/revoked.pem").write_bytes(partial)
    try:
        assert flaw(Trust.load(folder), tmp_path / "SLV/node.pem") == ""
        assert good
    except ConfigInvalid:
        assert not good


# ---- what a certificate says


@pytest.mark.parametrize(
    "uris",
    [
        (),
        (NODE, NODE),
        (NODE, "spiffe://slv.papilar/law/main"),
        (NODE, "https://example.org"),
        ("spiffe://slv.papilar/node/Main",),
        ("spiffe://slv.papilar",),
    ],
)
def test_one_name_of_ours(trust: Trust, world: Path, uris: tuple[str, ...]) -> None:
    assert flaw(trust, odd(world / "SLV", *uris)[1]) == "WRONG_NAME"


UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.55555.1"), b"\x05\x00")


@pytest.mark.parametrize(
    ("how", "wanted"),
    [
        ({}, ""),
        ({"use": None}, "WRONG_KIND"),
        ({"use": usage(signs_messages=False)}, "WRONG_KIND"),
        ({"use": usage(signs_certificates=True)}, "WRONG_KIND"),
        ({"extra": x509.BasicConstraints(ca=True, path_length=None)}, "WRONG_KIND"),
        ({"extra": x509.BasicConstraints(ca=False, path_length=None)}, ""),
        ({"extra": UNKNOWN, "critical": True}, "WRONG_KIND"),
        ({"extra": UNKNOWN}, ""),
    ],
)
def test_made_to_act_and_for_nothing_else(
    trust: Trust, world: Path, how: dict[str, Any], wanted: str
) -> None:
    assert flaw(trust, odd(world / "SLV", NODE, **how)[1]) == wanted


def test_the_kind_that_is_asked_for(trust: Trust, world: Path) -> None:
    assert flaw(trust, world / "SLV/seal.pem", kind="node") == "WRONG_KIND"


def test_a_signer_is_made_to_sign(trust: Trust, world: Path) -> None:
    key, certificate = odd(
        world / "SLV", "spiffe://slv.papilar/seal/x", purpose=ExtendedKeyUsageOID.CLIENT_AUTH
    )
    signature = Signature(der(certificate), key.sign(signed_bytes("a", b"")))
    with pytest.raises(CertificateRefused, match="not for signing"):
        trust.check("a", b"", signature, at=AT, kinds=["seal"])
    key, certificate = odd(world / "SLV", "spiffe://slv.papilar/seal/x")
    assert trust.check("a", b"", Signer(key, certificate).sign("a", b""), at=AT, kinds=["seal"]).name == "x"


def test_errors_name_nobody(trust: Trust, world: Path) -> None:
    path, _ = user(world / "SLV", "pseudonym-42")
    with pytest.raises(CertificateRefused) as refused:
        trust.verify(path.read_bytes(), at=AT + 30 * DAY)
    assert "a user of SLV" in str(refused.value)
    assert refused.value.reason == "CERTIFICATE_REFUSED"
    assert "EXPIRED" in refused.value.cause, "also for who reads it from afar"
    assert "pseudonym" not in str(refused.value)


# ---- bytes


@pytest.mark.parametrize(
    "change",
    [
        lambda pem: b"",
        lambda pem: b"x",
        lambda pem: b"-----BEGIN CERTIFICATE-----",
        lambda pem: pem[: len(pem) // 2],
        lambda pem: pem + pem,
        lambda pem: pem + b"\n" * 20_000,
        lambda pem: b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ],
)
def test_what_cannot_be_read(trust: Trust, world: Path, change: Callable[[bytes], bytes]) -> None:
    assert flaw(trust, change((world / "SLV/node.pem").read_bytes())) == "UNREADABLE"


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@settings(max_examples=400)
@given(st.data())
def test_a_changed_byte_is_refused(trust: Trust, world: Path, data: st.DataObject) -> None:
    """Outside of what is signed the encoding has a few spare bits: there the name stays the same."""
    good = der(world / data.draw(st.sampled_from(["SLV/node.pem", "SLV/seal.pem", "HND/law.pem"])))
    place, by = data.draw(st.integers(0, len(good) - 1)), data.draw(st.integers(1, 255))
    changed = good[:place] + bytes([good[place] ^ by]) + good[place + 1 :]
    signed = x509.load_der_x509_certificate(good).tbs_certificate_bytes
    with suppress(CertificateRefused):
        assert trust.verify(changed, at=AT) == trust.verify(good, at=AT)
        assert signed in changed


@given(st.binary(max_size=300))
def test_any_bytes_are_refused(trust: Trust, leaf: bytes) -> None:
    assert flaw(trust, leaf) == "UNREADABLE"


# ---- the folder


class Clock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_change_is_seen_within_a_second(
    tmp_path: Path, world: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    folder, clock = countries(tmp_path, "SLV"), Clock()
    trust = Trust.load(folder, clock=clock)
    shutil.copytree(world / "trust/HND", folder / "HND")
    clock.now += 0.9
    assert trust.countries == {"SLV"}, "looked at once a second"
    clock.now += 0.2
    assert trust.countries == {"SLV", "HND"}
    shutil.rmtree(folder / "SLV")
    clock.now += 1
    assert trust.countries == {"HND"}, "who is taken out is believed no more"
    assert flaw(trust, tmp_path / "SLV/node.pem") == "UNKNOWN_AUTHORITY"
    clock.now += 1
    assert trust.countries == {"HND"}
    assert len(caplog.records) == 2, "read where something changed, and not otherwise"


def test_a_change_of_the_same_size_and_time_is_seen(tmp_path: Path) -> None:
    folder, clock = countries(tmp_path, "SLV"), Clock()
    known = folder / "SLV/revoked.pem"
    known.write_bytes(known.read_bytes().ljust(2000, b"\n"))
    trust, before = Trust.load(folder, clock=clock), known.stat()
    listed = pki.revoke(tmp_path / "SLV", tmp_path / "SLV/node.pem", at=AT)
    (folder / "new").write_bytes(listed.read_bytes().ljust(2000, b"\n"))
    os.utime(folder / "new", ns=(before.st_atime_ns, before.st_mtime_ns))
    (folder / "new").rename(known)
    clock.now += 1
    assert flaw(trust, tmp_path / "SLV/node.pem") == "REVOKED"


def test_who_was_believed_before_is_asked_everything_again(tmp_path: Path) -> None:
    """What is remembered of a certificate says neither its kind, nor the time, nor that it is good still."""
    folder, clock = countries(tmp_path, "SLV"), Clock()
    trust, leaf = Trust.load(folder, clock=clock), (tmp_path / "SLV/node.pem").read_bytes()
    for _ in range(2):
        assert flaw(trust, leaf) == ""
        assert flaw(trust, leaf, kind="seal") == "WRONG_KIND"
        assert flaw(trust, leaf, at=AT - HOUR) == "NOT_YET_VALID"
        assert flaw(trust, leaf, at=AT + 21 * DAY) == "EXPIRED"
    listed = pki.revoke(tmp_path / "SLV", tmp_path / "SLV/node.pem", at=AT)
    shutil.copy(listed, folder / "SLV/revoked.pem")
    clock.now += 1
    assert flaw(trust, leaf) == "REVOKED"
    countries(tmp_path / "new", "SLV")
    for name in ("ca.pem", "revoked.pem"):
        shutil.copy(tmp_path / "new/trust/SLV" / name, folder / "SLV" / name)
    clock.now += 1
    assert flaw(trust, leaf) == "UNKNOWN_AUTHORITY", "signed by an authority that is gone"
    assert flaw(trust, tmp_path / "new/SLV/node.pem") == ""


def test_many_certificates_take_no_more_room(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only so many are remembered, and nobody is refused for it."""
    monkeypatch.setattr("papilar.trust._MOST_CHAINS", 3)
    fresh = Trust.load(world / "trust")
    for _ in range(2):
        for country in ("SLV", "HND"):
            for kind in ("node", "seal", "law"):
                assert flaw(fresh, world / country / f"{kind}.pem") == ""
                assert flaw(fresh, b"x") == "UNREADABLE"
                assert len(fresh._good.chains) <= 3


@pytest.mark.parametrize(
    "breaks",
    [
        lambda folder: (folder / "SLV/ca.pem").write_text("-----BEGIN CERT"),
        lambda folder: (folder / "SLV/ca.pem").write_text(""),
        lambda folder: (folder / "SLV/ca.pem").unlink(),
        lambda folder: (folder / "SLV/revoked.pem").write_text("-----BEGIN X509 CRL-----"),
        lambda folder: (folder / "SLV/revoked.pem").write_text(""),
        lambda folder: shutil.copy(folder / "SLV/ca.pem", folder / "SLV/revoked.pem"),
        lambda folder: (folder / "SLV").rename(folder / "Slv"),
        shutil.rmtree,
    ],
)
def test_a_broken_list_is_told_and_the_last_good_one_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, breaks: Callable[[Path], object]
) -> None:
    folder, clock = countries(tmp_path, "SLV"), Clock()
    good = tmp_path / "good"
    shutil.copytree(folder, good)
    trust = Trust.load(folder, clock=clock)
    breaks(folder)
    with caplog.at_level(logging.ERROR):
        for _ in range(5):
            clock.now += 1
            assert flaw(trust, tmp_path / "SLV/node.pem") == ""
    assert [record.levelname for record in caplog.records] == ["ERROR"], "told once"
    with pytest.raises(ConfigInvalid) as refused:
        Trust.load(folder)
    assert str(refused.value) in caplog.text
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(good, folder)
    shutil.copytree(good / "SLV", folder / ".hidden")
    shutil.copy(pki.revoke(tmp_path / "SLV", tmp_path / "SLV/node.pem", at=AT), folder / "SLV/revoked.pem")
    clock.now += 1
    assert flaw(trust, tmp_path / "SLV/node.pem") == "REVOKED", "mended, and read"
    breaks(folder)
    clock.now += 1
    assert flaw(trust, tmp_path / "SLV/node.pem") == "REVOKED"
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"], "told again"


def test_a_folder_without_countries_is_a_wrong_path(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="names no country"):
        Trust.load(tmp_path)
    with pytest.raises(ConfigInvalid, match="cannot be read"):
        Trust.load(tmp_path / "absent")


def test_a_key_beside_an_authority_goes_nowhere(tmp_path: Path) -> None:
    folder = countries(tmp_path, "SLV")
    with (folder / "SLV/ca.pem").open("ab") as file:
        file.write((tmp_path / "SLV/ca.key").read_bytes())
    roots = Trust.load(folder).all_roots()
    assert roots == x509.load_pem_x509_certificate(roots).public_bytes(Encoding.PEM)
