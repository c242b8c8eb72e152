"""Signed laws, as an attacker meets them: altered bytes, other signers, older laws, laws before their day."""

import logging
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from laws import PERMIT, text
from trials import AT, countries

from matcher.errors import PapilarError
from papilar import pki
from papilar.errors import (
    CertificateRefused,
    LawInvalid,
    LawRefused,
    LawRolledBack,
    SignatureRefused,
    StorageUnavailable,
)
from papilar.policy import Bundle, InstalledLaw, Law, LawText, history, install, open_law
from papilar.signing import Signer
from papilar.trust import Trust

SHOWN = '[[example]]\nname = "One"\nexpect = "ALLOW"\nrules = ["all"]\n'
SHOWN += 'given = { action = "describe", direction = "inbound", peer = "HND" }\n'


class Country(NamedTuple):
    folder: Path
    trust: Trust

    def signed(self, law: LawText, *, by: str = "SLV", key: str = "law") -> bytes:
        signer = Signer.load(self.folder / by / f"{key}.pem", self.folder / by / f"{key}.key")
        return Bundle.sign(law, signer).pack()

    def version(self, number: int, more: str = "") -> bytes:
        return self.signed(text(PERMIT + more, version=number, examples=SHOWN))


@pytest.fixture(scope="module")
def country(tmp_path_factory: pytest.TempPathFactory) -> Country:
    folder = tmp_path_factory.mktemp("countries")
    return Country(folder, Trust.load(countries(folder, "SLV", "HND")))


@pytest.fixture
def put(country: Country, tmp_path: Path) -> Callable[[bytes], Law]:
    """Install a bundle at a node of El Salvador."""
    return lambda data: install(data, tmp_path / "laws", country.trust, country="SLV", at=AT)


def test_a_law_is_installed_and_kept_with_those_before(
    put: Callable[[bytes], Law], country: Country, tmp_path: Path
) -> None:
    assert history(tmp_path / "laws") == []
    bundles = [country.version(number) for number in (1, 2, 10)]
    laws = [put(data) for data in bundles]
    kept = history(tmp_path / "laws")
    assert [one.version for one in kept] == [1, 2, 10]
    assert [one.path.read_bytes() for one in kept] == bundles
    assert [Law.load(one.path).sha256 for one in kept] == [law.sha256 for law in laws]
    assert (
        InstalledLaw(tmp_path / "laws", country.trust, country="SLV", now=AT).current(AT).sha256
        == laws[2].sha256
    )


def test_an_older_law_is_refused(put: Callable[[bytes], Law], country: Country, tmp_path: Path) -> None:
    old = country.version(1)
    put(old)
    put(country.version(2))
    for data in (old, country.version(2, "// more")):
        with pytest.raises(LawRolledBack, match=r"law \d"):
            put(data)
    assert [one.version for one in history(tmp_path / "laws")] == [1, 2]


def test_the_law_in_force_may_be_signed_anew(put: Callable[[bytes], Law], tmp_path: Path) -> None:
    folder = tmp_path / "renewed"
    trust = Trust.load(countries(folder, "SLV"))
    here = Country(folder, trust)
    first = here.version(3)
    install(first, tmp_path / "laws", trust, country="SLV", at=AT)
    pki.renew(folder / "SLV", folder / "SLV" / "law.pem", at=AT, days=40)
    second = here.version(3)
    assert second != first
    install(second, tmp_path / "laws", trust, country="SLV", at=AT)
    assert (tmp_path / "laws" / "3.law").read_bytes() == second


@given(data=st.data())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_byte_that_was_altered_anywhere_is_refused(country: Country, data: st.DataObject) -> None:
    whole = country.version(1)
    place = data.draw(st.integers(0, len(whole) - 1))
    altered = bytearray(whole)
    altered[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(PapilarError) as caught:
        open_law(bytes(altered), country.trust, country="SLV", at=AT)
    assert isinstance(caught.value, LawInvalid | CertificateRefused | SignatureRefused)


@given(cut=st.integers(0, 2_000), tail=st.binary(max_size=8))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_bundle_cut_short_or_drawn_out_is_refused(country: Country, cut: int, tail: bytes) -> None:
    whole = country.version(1)
    data = whole[:cut] + tail
    if data != whole:
        with pytest.raises(PapilarError):
            open_law(data, country.trust, country="SLV", at=AT)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_bundle_or_are_refused(data: bytes) -> None:
    for candidate in (data, b"PAPLAW1\n" + data):
        try:
            assert Bundle.unpack(candidate).pack() == candidate
        except LawInvalid:
            continue


def test_nobody_else_signs_our_law(put: Callable[[bytes], Law], country: Country, tmp_path: Path) -> None:
    ours = text(PERMIT, examples=SHOWN)
    with pytest.raises(LawRefused, match="signed by HND"):
        put(country.signed(ours, by="HND"))
    with pytest.raises(CertificateRefused):  # a node's seal is no law key
        put(country.signed(ours, key="seal"))
    stranger = Country(tmp_path / "stranger", Trust.load(countries(tmp_path / "stranger", "SLV")))
    with pytest.raises(CertificateRefused):  # an authority that calls itself El Salvador
        put(stranger.signed(ours))
    with pytest.raises(LawRefused, match="a law of HND, signed by SLV"):
        put(country.signed(ours._replace(terms=ours.terms.replace("SLV", "HND"))))
    assert history(tmp_path / "laws") == []


def test_a_signature_of_another_kind_of_message_signs_no_law(country: Country) -> None:
    law = text(PERMIT, examples=SHOWN)
    signer = Signer.load(country.folder / "SLV" / "law.pem", country.folder / "SLV" / "law.key")
    data = Bundle(law, signer.sign("result", law.payload())).pack()
    with pytest.raises(SignatureRefused):
        open_law(data, country.trust, country="SLV", at=AT)


def test_a_law_is_refused_before_its_day_and_where_it_fails_itself(
    put: Callable[[bytes], Law], country: Country
) -> None:
    later = text(PERMIT, examples=SHOWN)
    later = later._replace(terms=later.terms.replace("2026-01-01", f"{AT + timedelta(days=1):%Y-%m-%d}"))
    with pytest.raises(LawRefused, match="in force from"):
        put(country.signed(later))
    with pytest.raises(LawRefused, match="fails its own examples"):
        put(country.signed(text(PERMIT)))


def test_a_folder_that_cannot_be_used(country: Country, tmp_path: Path) -> None:
    (tmp_path / "laws").write_text("no folder")
    with pytest.raises(StorageUnavailable):
        install(country.version(1), tmp_path / "laws", country.trust, country="SLV", at=AT)


def test_a_write_that_fails_leaves_the_law_in_force(
    put: Callable[[bytes], Law], country: Country, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(country.version(1))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageUnavailable, match="No space left"):
        put(country.version(2))
    assert (
        InstalledLaw(tmp_path / "laws", country.trust, country="SLV", now=AT).current(AT).terms.version == 1
    )


# ---- a node that runs


@pytest.fixture
def installed(put: Callable[[bytes], Law], country: Country, tmp_path: Path) -> InstalledLaw:
    put(country.version(5))
    return InstalledLaw(tmp_path / "laws", country.trust, country="SLV", now=AT)


def test_a_node_takes_a_new_law_while_it_runs(
    installed: InstalledLaw, put: Callable[[bytes], Law], country: Country
) -> None:
    first = installed.current(AT)
    assert installed.current(AT) is first
    put(country.version(6))
    assert installed.current(AT).terms.version == 6


@pytest.mark.parametrize("attack", ["older", "altered", "other content", "gone", "garbage that is newer"])
def test_a_node_keeps_its_law_whatever_becomes_of_the_folder(
    attack: str,
    installed: InstalledLaw,
    country: Country,
    put: Callable[[bytes], Law],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = tmp_path / "laws" / "5.law"
    whole = path.read_bytes()
    if attack == "older":
        path.write_bytes(country.version(4))
    elif attack == "altered":
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    elif attack == "other content":
        path.write_bytes(country.version(5, "// more"))
    elif attack == "gone":
        path.unlink()
    else:
        (tmp_path / "laws" / "9.law").write_bytes(b"PAPLAW1\n")
    before = installed.current(AT)
    assert before.terms.version == 5
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    installed.current(AT + timedelta(minutes=1))
    assert len(caplog.records) == 1  # told once
    (tmp_path / "laws" / "9.law").unlink(missing_ok=True)
    path.write_bytes(whole)
    put(country.version(6))
    assert installed.current(AT + timedelta(minutes=2)).terms.version == 6


@pytest.mark.parametrize("name", ["5.law", "9.law"])
def test_a_node_does_not_start_on_an_older_law_under_a_newer_name(
    name: str, installed: InstalledLaw, country: Country, tmp_path: Path
) -> None:
    (tmp_path / "laws" / name).write_bytes(country.version(4))
    with pytest.raises(LawRolledBack):
        InstalledLaw(tmp_path / "laws", country.trust, country="SLV", now=AT)


def test_a_node_does_not_start_without_a_law(country: Country, tmp_path: Path) -> None:
    with pytest.raises(LawRefused, match="no law is installed"):
        InstalledLaw(tmp_path / "laws", country.trust, country="SLV", now=AT)
