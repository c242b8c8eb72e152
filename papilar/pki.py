"""An authority for a trial: certificates and keys in a folder. In earnest a country has its own.

    FOLDER/ca.pem, ca.key           the authority. Its key lies there in the clear: this is for a trial only
    FOLDER/trust/SLV/ca.pem         for the trust list of every node, ours and those of other countries
    FOLDER/trust/SLV/revoked.pem    likewise
    FOLDER/node.pem, node.key       TLS: ECDSA on P-256, which the library under gRPC takes
    FOLDER/seal.pem, law.pem        signatures: Ed25519; their keys beside them
    FOLDER/user-e7-tls.pem, user-e7-sign.pem     a user has one of each
    FOLDER/issued/                  every certificate that was ever made, by its serial number

Files are written whole or not at all. A key is never written over, and at no moment can others read it.
"""

import fcntl
import os
import re
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID

from papilar.durable import part_of, write_durably
from papilar.errors import (
    CertificateFlaw,
    CertificateRefused,
    ConfigInvalid,
    RequestInvalid,
    StorageUnavailable,
)
from papilar.identity import Identity, Kind, domain_uri, is_country, server_name
from papilar.signing import read_pair
from papilar.trust import DOCUMENT_SIGNING

AUTHORITY_DAYS = 3650
REVOCATIONS_DAYS = 30
"""Days after which a list of what was revoked is out of date, and the country's certificates are refused."""

_BACKDATED = timedelta(minutes=5)  # for nodes whose clock is behind ours: they take no date before its time
_SHA256 = hashes.SHA256()

_Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


class Use(StrEnum):
    """What a certificate is for; the end of a user's file names."""

    TLS = "tls"
    SIGN = "sign"


_USES = {Kind.NODE: (Use.TLS,), Kind.SEAL: (Use.SIGN,), Kind.LAW: (Use.SIGN,), Kind.USER: (Use.TLS, Use.SIGN)}


class _Authority(NamedTuple):
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    country: str


def init(folder: Path, country: str, *, at: datetime, days: int = 365) -> None:
    """Make an authority, its empty list of what is revoked, and a node, a seal and a law with their keys.

    Parameters
    ----------
    folder : Path
        Made if missing.
    country : str
        ISO 3166-1 alpha-3, upper case.
    at : datetime
        Now, UTC.
    days : int
        How long node, seal and law are valid.

    Raises
    ------
    RequestInvalid
        No such country code.
    ConfigInvalid
        The folder holds an authority.
    StorageUnavailable
        The folder cannot be written.
    """
    if not is_country(country):
        raise RequestInvalid(f"country {country!r}", remedy="give the three letters of ISO 3166-1, as SLV")
    with _alone(folder, make=True):
        key = ec.generate_private_key(ec.SECP256R1())
        _write_key(folder / "ca.key", key)
        certificate = _pem(_authority_certificate(key, country, at))
        _write(folder / "ca.pem", certificate)
        _write(folder / "trust" / country / "ca.pem", certificate)
        authority = _open(folder)
        _publish(folder, authority, [], 1, at)
        for kind in (Kind.NODE, Kind.SEAL, Kind.LAW):
            _issue(folder, authority, Identity(country, kind, "main"), at, days)


def issue(folder: Path, identity: Identity, *, at: datetime, days: int = 365) -> tuple[Path, ...]:
    """Make the certificates of a name, with new keys; return their paths. A user has two.

    Raises
    ------
    RequestInvalid
        A name of another country.
    ConfigInvalid
        The folder holds no authority, or a key of that name.
    StorageUnavailable
        The folder cannot be written.
    """
    with _alone(folder):
        authority = _open(folder)
        if identity.country != authority.country:
            raise RequestInvalid(
                f"a name of {identity.country} from the authority of {authority.country}",
                remedy="have each country name its own",
            )
        return _issue(folder, authority, identity, at, days)


def renew(folder: Path, certificate: Path, *, at: datetime, days: int = 365) -> None:
    """Put a new certificate, of the same name and the same key, in the place of one.

    Raises
    ------
    ConfigInvalid
        The folder holds no authority, or the certificate cannot be read.
    CertificateRefused
        Another authority's, or revoked.
    StorageUnavailable
        The folder cannot be written.
    """
    with _alone(folder):
        authority = _open(folder)
        old = _own(authority, certificate)
        known = _revocations(folder, authority)
        if known.get_revoked_certificate_by_serial_number(old.serial_number) is not None:
            raise CertificateRefused(
                f"{certificate} has been revoked",
                remedy="move it and its key away, and issue the name anew",
                why=CertificateFlaw.REVOKED,
            )
        identity = Identity.parse(_names(old, x509.UniformResourceIdentifier)[0])
        _write(certificate, _made(folder, authority, identity, old.public_key(), at, days))


def revoke(folder: Path, certificate: Path, *, at: datetime) -> Path:
    """Add a certificate to what is revoked, and sign that list anew; return the list's path.

    Every other certificate of the same key is revoked with it: before it was renewed there was one.

    Raises
    ------
    ConfigInvalid, CertificateRefused, StorageUnavailable
        As `renew`, but what is revoked stays so.
    """
    with _alone(folder):
        authority = _open(folder)
        given = _own(authority, certificate)
        issued = [given, *map(_read_certificate, sorted((folder / "issued").glob("*.pem")))]
        serials = {one.serial_number for one in issued if one.public_key() == given.public_key()}
        known = _revocations(folder, authority)
        serials -= {one.serial_number for one in known}
        blank = x509.RevokedCertificateBuilder().revocation_date(at)
        new = [blank.serial_number(serial).build() for serial in sorted(serials)]
        return _publish(folder, authority, [*known, *new], _number(known) + 1, at)


def publish(folder: Path, *, at: datetime) -> Path:
    """Sign the list of what is revoked anew, for another `REVOCATIONS_DAYS` days; return the list's path.

    Raises
    ------
    ConfigInvalid, StorageUnavailable
        As `renew`.
    """
    with _alone(folder):
        authority = _open(folder)
        known = _revocations(folder, authority)
        return _publish(folder, authority, known, _number(known) + 1, at)


def country_of(folder: Path) -> str:
    """Return the country of a folder's authority; raises `ConfigInvalid` where there is none."""
    return _open(folder).country


def describe(certificate: Path) -> dict[str, Any]:
    """Return what a certificate says, as plain values for people to read. Nothing of it is checked.

    Raises
    ------
    ConfigInvalid
        It cannot be read.
    """
    found = _read_certificate(certificate)
    key = found.public_key()
    kind = type(key).__name__.removesuffix("PublicKey")
    return {
        "name": _names(found, x509.UniformResourceIdentifier),
        "server": _names(found, x509.DNSName),
        "issuer": found.issuer.rfc4514_string(),
        "valid_from": f"{found.not_valid_before_utc:%Y-%m-%dT%H:%M:%SZ}",
        "valid_until": f"{found.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}",
        "key": f"ECDSA {key.curve.name}" if isinstance(key, ec.EllipticCurvePublicKey) else kind,
        "serial": f"{found.serial_number:x}",
        "sha256": found.fingerprint(_SHA256).hex(),
    }


# ---- certificates


def _authority_certificate(key: ec.EllipticCurvePrivateKey, country: str, at: datetime) -> x509.Certificate:
    # A name of its own, so that a later authority of the country is not taken for this one.
    name = _subject(f"{country} trial authority {secrets.token_hex(4)}")
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(domain_uri(country))]
    builder = _builder(key.public_key(), name, name, names).add_extension(
        _usage(authority=True), critical=True
    )
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    return _dated(builder, at, at + timedelta(days=AUTHORITY_DAYS)).sign(key, _SHA256)


def _issue(
    folder: Path, authority: _Authority, identity: Identity, at: datetime, days: int
) -> tuple[Path, ...]:
    paths = {use: folder / f"{_stem(identity, use)}.pem" for use in _USES[identity.kind]}
    for path in paths.values():
        _check_free(path.with_suffix(".key"))
    for use, path in paths.items():
        key = _new_key(use)
        _write_key(path.with_suffix(".key"), key)
        _write(path, _made(folder, authority, identity, key.public_key(), at, days))
    return tuple(paths.values())


def _made(
    folder: Path, authority: _Authority, identity: Identity, key: Any, at: datetime, days: int
) -> bytes:
    """Return a new certificate, PEM, once there is a note of it."""
    certificate = _leaf(authority, identity, key, at, days)
    _write(folder / "issued" / f"{certificate.serial_number:040x}.pem", _pem(certificate))
    return _pem(certificate)


def _stem(identity: Identity, use: Use) -> str:
    """Return what a name's files are called: node, node-second, user-e7-tls."""
    if identity.kind is Kind.USER:
        return f"{identity.kind}-{identity.name}-{use}"
    return str(identity.kind) if identity.name == "main" else f"{identity.kind}-{identity.name}"


def _new_key(use: Use) -> _Key:
    if use is Use.SIGN:
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key(ec.SECP256R1())


def _leaf(authority: _Authority, identity: Identity, key: Any, at: datetime, days: int) -> x509.Certificate:
    """Return the certificate of a name: of an Ed25519 key for signatures, else for TLS."""
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(identity.uri)]
    purposes = [DOCUMENT_SIGNING]
    if not isinstance(key, ed25519.Ed25519PublicKey):
        purposes = [ExtendedKeyUsageOID.CLIENT_AUTH]
        if identity.kind is Kind.NODE:
            names.append(x509.DNSName(server_name(identity.country)))
            purposes.append(ExtendedKeyUsageOID.SERVER_AUTH)
    subject = _subject(f"{identity.country} {identity.kind}")
    builder = _builder(key, subject, authority.certificate.subject, names)
    builder = builder.add_extension(_usage(authority=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    end = min(at + timedelta(days=days), authority.certificate.not_valid_after_utc)
    return _dated(builder, at, end).sign(authority.key, _SHA256)


def _builder(
    key: Any, subject: x509.Name, issuer: x509.Name, names: list[x509.GeneralName]
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().issuer_name(issuer).subject_name(subject).public_key(key)
    builder = builder.serial_number(x509.random_serial_number())
    return builder.add_extension(x509.SubjectAlternativeName(names), critical=False)


def _dated(builder: x509.CertificateBuilder, begin: datetime, end: datetime) -> x509.CertificateBuilder:
    return builder.not_valid_before(begin - _BACKDATED).not_valid_after(end)


def _subject(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _names(
    certificate: x509.Certificate, kind: type[x509.UniformResourceIdentifier | x509.DNSName]
) -> list[str]:
    held = [e.value for e in certificate.extensions if isinstance(e.value, x509.SubjectAlternativeName)]
    return [name for one in held for name in one.get_values_for_type(kind)]


# ---- the authority of a folder


def _open(folder: Path) -> _Authority:
    pair = read_pair(folder / "ca.pem", folder / "ca.key")
    certificate = x509.load_pem_x509_certificate(pair.certificate)
    key = load_pem_private_key(pair.key, None)
    names = _names(certificate, x509.UniformResourceIdentifier)
    found = re.fullmatch(r"spiffe://([a-z]{3})\.papilar", names[0] if names else "")
    if found is None or not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigInvalid(f"{folder} holds no authority of ours", remedy="make one: papilar pki init")
    return _Authority(certificate, key, found[1].upper())


def _own(authority: _Authority, path: Path) -> x509.Certificate:
    """Read a certificate that the authority signed, other than that of itself."""
    certificate = _read_certificate(path)
    with suppress(ValueError, TypeError, InvalidSignature):
        certificate.verify_directly_issued_by(authority.certificate)
        if certificate != authority.certificate:
            return certificate
    raise CertificateRefused(
        f"{path} was not made by this authority",
        remedy="give the folder of the authority that signed it",
        why=CertificateFlaw.UNKNOWN_AUTHORITY,
    )


def _read_certificate(path: Path) -> x509.Certificate:
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        _ = certificate.extensions, certificate.public_key()  # which are read only when they are asked for
        return certificate
    except OSError as error:
        raise ConfigInvalid(f"{path} cannot be read ({error.strerror})", remedy="check the path") from error
    except (ValueError, x509.InvalidVersion, x509.DuplicateExtension, UnsupportedAlgorithm):
        raise ConfigInvalid(f"{path} is no certificate", remedy="give a PEM file of one") from None


def _revocations(folder: Path, authority: _Authority) -> x509.CertificateRevocationList:
    path = _revocations_path(folder, authority)
    try:
        return x509.load_pem_x509_crl(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigInvalid(
            f"{path} cannot be read, so what was revoked is not known",
            remedy="restore it from where it was given to others",
        ) from error


def _publish(
    folder: Path,
    authority: _Authority,
    revoked: Iterable[x509.RevokedCertificate],
    number: int,
    at: datetime,
) -> Path:
    builder = x509.CertificateRevocationListBuilder().issuer_name(authority.certificate.subject)
    builder = builder.last_update(at).next_update(at + timedelta(days=REVOCATIONS_DAYS))
    builder = builder.add_extension(x509.CRLNumber(number), critical=False)
    for one in revoked:
        builder = builder.add_revoked_certificate(one)
    path = _revocations_path(folder, authority)
    _write(path, builder.sign(authority.key, _SHA256).public_bytes(Encoding.PEM))
    return path


def _revocations_path(folder: Path, authority: _Authority) -> Path:
    return folder / "trust" / authority.country / "revoked.pem"


def _number(known: x509.CertificateRevocationList) -> int:
    return known.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


# ---- files


@contextmanager
def _alone(folder: Path, *, make: bool = False) -> Iterator[None]:
    """Let one process at a time change the folder: two at once could lose what one of them revoked."""
    try:
        if make:
            folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigInvalid(f"{folder} cannot be used ({error.strerror})", remedy="check the path") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    except OSError as error:
        raise StorageUnavailable(
            f"{folder} cannot be written ({error.strerror})", remedy="check its rights and the disk"
        ) from error
    finally:
        os.close(handle)


def _check_free(path: Path) -> None:
    if path.exists():
        raise ConfigInvalid(
            f"{path} is there, and a key is never written over",
            remedy="renew its certificate, or move the key away, or take another folder",
        )


def _write_key(path: Path, key: _Key) -> None:
    _check_free(path)
    data = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with part_of(path, data, mode=0o600) as part:
        os.link(part, path)  # unlike a rename it fails where a key is


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_durably(path, data, mode=0o644)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)
