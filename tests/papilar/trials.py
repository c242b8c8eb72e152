"""What the tests of trust share: countries with an authority, and certificates that nobody should make."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from papilar import pki
from papilar.identity import Identity
from papilar.trust import DOCUMENT_SIGNING

AT = datetime(2026, 11, 22, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def countries(folder: Path, *codes: str, at: datetime = AT, days: int = 20) -> Path:
    """Give each country an authority in a folder of its name; return the trust list of them all."""
    for code in codes:
        pki.init(folder / code, code, at=at, days=days)
        shutil.copytree(folder / code / "trust" / code, folder / "trust" / code)
    return folder / "trust"


def user(folder: Path, name: str = "e7", roles: str = "examiner", *, at: datetime = AT) -> tuple[Path, ...]:
    """Issue a user of the country that the folder is named by."""
    identity = Identity.parse(f"spiffe://{folder.name.lower()}.papilar/user/{roles}/{name}")
    return pki.issue(folder, identity, at=at, days=20)


def usage(*, signs_messages: bool = True, signs_certificates: bool = False) -> x509.KeyUsage:
    others = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False
    )
    return x509.KeyUsage(
        digital_signature=signs_messages,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
        **others,
    )


def odd(
    authority: Path,
    *uris: str,
    use: x509.KeyUsage | None = usage(),  # noqa: B008
    extra: x509.ExtensionType | None = None,
    critical: bool = False,
    purpose: x509.ObjectIdentifier = DOCUMENT_SIGNING,
) -> tuple[Ed25519PrivateKey, x509.Certificate]:
    """Sign, with a country's authority, a certificate that `pki` would not make."""
    key = Ed25519PrivateKey.generate()
    issuer = x509.load_pem_x509_certificate((authority / "ca.pem").read_bytes())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "odd")])
    builder = x509.CertificateBuilder().issuer_name(issuer.subject).subject_name(subject)
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(AT - DAY).not_valid_after(AT + DAY)
    if uris:
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri) for uri in uris])
        builder = builder.add_extension(names, critical=False)
    if use is not None:
        builder = builder.add_extension(use, critical=True)
    if extra is not None:
        builder = builder.add_extension(extra, critical=critical)
    builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    secret = load_pem_private_key((authority / "ca.key").read_bytes(), None)
    return key, builder.sign(secret, hashes.SHA256())  # type: ignore[arg-type]


def revocations(authority: Path, extra: x509.ExtensionType, *, critical: bool) -> bytes:
    """Sign an empty list of what was revoked, with an extension that `pki` would not give it; PEM."""
    issuer = x509.load_pem_x509_certificate((authority / "ca.pem").read_bytes())
    builder = x509.CertificateRevocationListBuilder().issuer_name(issuer.subject)
    builder = builder.last_update(AT).next_update(AT + DAY)
    builder = builder.add_extension(extra, critical=critical)
    secret = load_pem_private_key((authority / "ca.key").read_bytes(), None)
    return builder.sign(secret, hashes.SHA256()).public_bytes(Encoding.PEM)  # type: ignore[arg-type]


def der(certificate: x509.Certificate | Path) -> bytes:
    if isinstance(certificate, Path):
        certificate = x509.load_pem_x509_certificate(certificate.read_bytes())
    return certificate.public_bytes(Encoding.DER)
