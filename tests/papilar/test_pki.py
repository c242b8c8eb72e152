"""The authority for a trial: keys never written over and never open, nothing half written."""

import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from cryptography import x509
from trials import AT, DAY, countries, der, user
from typer.testing import CliRunner

from papilar import pki
from papilar.commands.pki import app
from papilar.errors import (
    CertificateFlaw,
    CertificateRefused,
    ConfigInvalid,
    RequestInvalid,
    StorageUnavailable,
)
from papilar.identity import Identity
from papilar.signing import Signer, read_pair
from papilar.trust import Trust


@pytest.fixture
def slv(tmp_path: Path) -> Path:
    countries(tmp_path, "SLV")
    return tmp_path / "SLV"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def believed(folder: Path, certificate: Path, **given: Any) -> Identity:
    return Trust.load(folder / "trust").verify(der(certificate), **{"at": AT, **given})


# ---- what is made


def test_all_that_a_country_needs(slv: Path) -> None:
    assert {path.name for path in slv.glob("*")} == {
        *("ca.key", "ca.pem", "node.key", "node.pem", "seal.key", "seal.pem", "law.key", "law.pem"),
        *("trust", "issued"),
    }
    assert [path.name for path in sorted((slv / "trust/SLV").iterdir())] == ["ca.pem", "revoked.pem"]
    for kind in ("node", "seal", "law"):
        assert read_pair(slv / f"{kind}.pem", slv / f"{kind}.key")
        assert believed(slv, slv / f"{kind}.pem", kind=kind) == Identity("SLV", kind, "main")  # type: ignore[arg-type]


def test_a_user_has_a_certificate_for_tls_and_one_to_sign(slv: Path) -> None:
    tls, sign = user(slv)
    assert (tls.name, sign.name) == ("user-e7-tls.pem", "user-e7-sign.pem")
    assert believed(slv, tls) == believed(slv, sign) == ("SLV", "user", "e7", {"examiner"})
    assert Signer.load(sign, sign.with_suffix(".key"))


def test_a_further_node_is_the_same_server(slv: Path) -> None:
    (path,) = pki.issue(slv, Identity.parse("spiffe://slv.papilar/node/second"), at=AT)
    assert path == slv / "node-second.pem"
    assert pki.describe(path)["server"] == ["node.slv.papilar"]
    assert pki.describe(slv / "seal.pem")["server"] == []


def test_the_authority_signs_no_other_and_nothing_outlives_it(slv: Path) -> None:
    made = x509.load_pem_x509_certificate((slv / "ca.pem").read_bytes())
    limits = made.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (limits.critical, limits.value.ca, limits.value.path_length) == (True, True, 0)
    (path,) = pki.issue(slv, Identity.parse("spiffe://slv.papilar/seal/x"), at=AT, days=99_999)
    ends = [
        x509.load_pem_x509_certificate(p.read_bytes()).not_valid_after_utc for p in (path, slv / "ca.pem")
    ]
    assert ends[0] == ends[1] == AT + pki.AUTHORITY_DAYS * DAY


# ---- keys


def test_no_key_is_ever_open_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looked at when each file has its name but not yet its bytes, under a umask that hides nothing."""
    at_birth: list[tuple[str, int]] = []
    opened = os.open

    def watched(path: Any, flags: int, mode: int = 0o777, **given: Any) -> int:
        handle = opened(path, flags, mode, **given)
        at_birth.append((Path(path).name, stat.S_IMODE(os.fstat(handle).st_mode)))
        return handle

    monkeypatch.setattr(os, "open", watched)
    old = os.umask(0)
    try:
        pki.init(tmp_path / "SLV", "SLV", at=AT)
        user(tmp_path / "SLV")
    finally:
        os.umask(old)
    born = [mode for name, mode in at_birth if ".key." in name]
    afterwards = [stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "SLV").rglob("*.key")]
    assert born == afterwards == [0o600] * 6


def test_a_key_is_never_written_over(slv: Path) -> None:
    user(slv)
    before = contents(slv)
    calls: list[Callable[[], object]] = [
        lambda: pki.init(slv, "SLV", at=AT),
        lambda: pki.init(slv, "HND", at=AT),
        lambda: pki.issue(slv, Identity.parse("spiffe://slv.papilar/node/main"), at=AT),
        lambda: user(slv, roles="officer"),
    ]
    for call in calls:
        with pytest.raises(ConfigInvalid, match="never written over") as refused:
            call()
        assert "move the key away" in refused.value.remedy
    assert contents(slv) == before
    (slv / "user-e7-tls.key").unlink()
    with pytest.raises(ConfigInvalid, match="user-e7-sign"):
        user(slv)
    assert not (slv / "user-e7-tls.key").exists(), "both or none"


@pytest.mark.parametrize("call", ["fsync", "link", "replace"])
def test_a_disk_that_fails_leaves_what_was_there(
    slv: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    before = contents(slv)

    def fails(*given: object, **named: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path if call == "replace" else os, call, fails)
    with pytest.raises(StorageUnavailable, match="No space left"):
        pki.revoke(slv, slv / "node.pem", at=AT) if call != "link" else user(slv)
    monkeypatch.undo()
    assert contents(slv) == before


# ---- renew, revoke


def test_a_renewed_certificate_is_of_the_same_key(slv: Path) -> None:
    key = (slv / "node.key").read_bytes()
    later = AT + 19 * DAY
    pki.renew(slv, slv / "node.pem", at=later, days=20)
    assert (slv / "node.key").read_bytes() == key
    assert read_pair(slv / "node.pem", slv / "node.key")
    assert believed(slv, slv / "node.pem", at=AT + 21 * DAY).name == "main"
    assert pki.describe(slv / "node.pem")["valid_until"] == f"{later + 20 * DAY:%Y-%m-%dT%H:%M:%SZ}"
    assert pki.describe(slv / "node.pem")["server"] == ["node.slv.papilar"]


def test_with_a_key_all_its_certificates_are_revoked(slv: Path, tmp_path: Path) -> None:
    """Who stole the key has the certificate from before the renewal too."""
    shutil.copy(slv / "seal.pem", tmp_path / "old.pem")
    pki.renew(slv, slv / "seal.pem", at=AT)
    pki.revoke(slv, slv / "seal.pem", at=AT)
    for path in (slv / "seal.pem", tmp_path / "old.pem"):
        with pytest.raises(CertificateRefused) as refused:
            believed(slv, path)
        assert refused.value.why is CertificateFlaw.REVOKED
    assert believed(slv, slv / "law.pem")
    with pytest.raises(CertificateRefused, match="has been revoked"):
        pki.renew(slv, slv / "seal.pem", at=AT)


def test_what_is_revoked_stays_so(slv: Path) -> None:
    for kind in ("node", "seal", "node"):
        pki.revoke(slv, slv / f"{kind}.pem", at=AT)
    listed = x509.load_pem_x509_crl(pki.publish(slv, at=AT + 29 * DAY).read_bytes())
    assert len(listed) == 2
    assert listed.next_update_utc == AT + (29 + pki.REVOCATIONS_DAYS) * DAY
    assert listed.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 5


def test_two_at_once_lose_nothing(slv: Path) -> None:
    certificates = [user(slv, f"u{n}")[0] for n in range(8)]
    threads = [Thread(target=pki.revoke, args=(slv, path), kwargs={"at": AT}) for path in certificates]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(x509.load_pem_x509_crl((slv / "trust/SLV/revoked.pem").read_bytes())) == 8


def test_a_lost_list_is_not_begun_anew(slv: Path) -> None:
    (slv / "trust/SLV/revoked.pem").unlink()
    for call in (pki.revoke, pki.renew):
        with pytest.raises(ConfigInvalid, match="what was revoked is not known"):
            call(slv, slv / "node.pem", at=AT)


# ---- wrong use


def test_an_authority_acts_for_its_country_alone(slv: Path, tmp_path: Path) -> None:
    countries(tmp_path, "HND")
    with pytest.raises(RequestInvalid, match="a name of HND"):
        pki.issue(slv, Identity.parse("spiffe://hnd.papilar/node/main"), at=AT)
    for foreign in (tmp_path / "HND/node.pem", slv / "ca.pem"):
        for call in (pki.revoke, pki.renew):
            with pytest.raises(CertificateRefused, match="not made by this authority") as refused:
                call(slv, foreign, at=AT)
            assert refused.value.why is CertificateFlaw.UNKNOWN_AUTHORITY


def test_a_wrong_path_makes_no_folder(tmp_path: Path) -> None:
    for call in (lambda: user(tmp_path / "SLV"), lambda: pki.publish(tmp_path / "SLV", at=AT)):
        with pytest.raises(ConfigInvalid, match="check the path"):
            call()
    with pytest.raises(RequestInvalid, match="country 'slv'"):
        pki.init(tmp_path / "SLV", "slv", at=AT)
    assert not (tmp_path / "SLV").exists()
    (tmp_path / "file").touch()
    with pytest.raises(ConfigInvalid, match="cannot be used"):
        pki.init(tmp_path / "file", "SLV", at=AT)


def test_the_folder_of_a_seal_is_no_authority(slv: Path) -> None:
    for name in ("seal.pem", "seal.key"):
        shutil.copy(slv / name, slv / name.replace("seal", "ca"))
    with pytest.raises(ConfigInvalid, match="no authority of ours"):
        pki.publish(slv, at=AT)


# ---- the command


def papilar_pki(*given: object) -> str:
    result = CliRunner().invoke(app, [str(one) for one in given])
    if result.exception is not None:
        raise result.exception
    return result.stdout


def test_the_command_from_init_to_revoke(tmp_path: Path) -> None:
    folder = tmp_path / "slv"
    said = papilar_pki("init", folder, "--country", "SLV", "--days", 30)
    assert "for a trial only" in said
    assert str(folder / "trust/SLV") in said
    made = papilar_pki("issue", folder, "node/second", "user/examiner+officer/e7").split()
    assert [Path(one).name for one in made[1::2]] == [
        "node-second.pem",
        "user-e7-tls.pem",
        "user-e7-sign.pem",
    ]
    shown = json.loads(papilar_pki("show", folder / "user-e7-sign.pem", "--json"))
    assert shown["name"] == ["spiffe://slv.papilar/user/examiner+officer/e7"]
    assert shown["key"] == "Ed25519"
    shown = papilar_pki("show", folder / "node.pem")
    assert "node.slv.papilar" in shown
    assert "ECDSA secp256r1" in shown
    papilar_pki("renew", folder, folder / "node.pem", "--days", 60)
    papilar_pki("revoke", folder, folder / "node.pem")
    papilar_pki("publish", folder)
    assert len(x509.load_pem_x509_crl((folder / "trust/SLV/revoked.pem").read_bytes())) == 2


def test_the_command_issues_all_names_or_none(slv: Path) -> None:
    before = contents(slv)
    with pytest.raises(RequestInvalid, match="in the order of the alphabet"):
        papilar_pki("issue", slv, "node/second", "user/officer+examiner/e7")
    with pytest.raises(ConfigInvalid, match="no certificate"):
        papilar_pki("show", slv / "node.key")
    with pytest.raises(ConfigInvalid, match="cannot be read"):
        papilar_pki("show", slv / "absent.pem")
    assert contents(slv) == before
