"""Whose certificates a node believes: a folder of authorities, one sub-folder a country.

    trust/SLV/ca.pem         the country's authority: old and new certificate while one replaces the other
    trust/SLV/revoked.pem    optional: what each of them has revoked (CRL, RFC 5280 section 5)

A chain is one step: authority, then the one who acts. A country's authority is believed for that country's
names alone. Change the files by renaming whole ones into place; a change is seen within a second.
"""

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple, Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding

from papilar.errors import (
    CertificateFlaw,
    CertificateRefused,
    ConfigInvalid,
    RequestInvalid,
    SignatureRefused,
)
from papilar.identity import Identity, domain_uri, is_country
from papilar.signing import Signature, signed_bytes

DOCUMENT_SIGNING = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.36")
"""Extended key usage of every certificate that signs messages (RFC 9336)."""

_LOOK_AGAIN = 1.0  # seconds between two looks at the files
_MOST_BYTES = 16 * 1024  # of a certificate that a peer shows; ours have less than 1,000
_MOST_CHAINS = 1024  # remembered: those who call, seal and examine now, at a kilobyte or two each

_log = logging.getLogger(__name__)


class _Authority(NamedTuple):
    certificate: x509.Certificate
    revoked: x509.CertificateRevocationList | None


_Authorities = Mapping[str, tuple[_Authority, ...]]


class _Chain(NamedTuple):
    """A certificate, whom it names, and the authority that signed it."""

    certificate: x509.Certificate
    identity: Identity
    authority: _Authority


class _Good(NamedTuple):
    """The files as they were read, and, by their bytes, certificates that these authorities have signed.

    To read a certificate and check its signature costs ten times what the rest does, and who calls shows the
    same one at every call. Its use, its dates and whether it was revoked are asked each time. With the files
    goes what was remembered of them.
    """

    authorities: _Authorities
    chains: dict[bytes, _Chain]
    roots: Mapping[str, bytes]

    @classmethod
    def of(cls, authorities: _Authorities) -> "_Good":
        return cls(authorities, {}, {country: _pem(some) for country, some in authorities.items()})


_Stamp = tuple[tuple[str, int, int, int], ...]


class Trust:
    """The authorities that are believed; safe to use from several threads.

    Parameters
    ----------
    folder : Path
    skew : timedelta
        How far the clock of another country may be from ours when a date is looked at.
    clock : callable
        Seconds of a clock that never goes back; says when to look at the files again.

    Raises
    ------
    ConfigInvalid
        The folder, or a file in it, cannot be used. Later the last good state is kept, and the log says so.
    """

    def __init__(
        self, folder: Path, *, skew: timedelta = timedelta(0), clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._folder = folder
        self._skew = skew
        self._clock = clock
        self._lock = threading.Lock()
        self._looked = clock()
        self._stamp = _stamp(folder)  # before reading: a change in between is seen at the next look
        self._good = _Good.of(_load(folder))
        self._trouble = ""

    @classmethod
    def load(
        cls, folder: Path, *, skew: timedelta = timedelta(0), clock: Callable[[], float] = time.monotonic
    ) -> Self:
        """Read a folder of authorities; as the class."""
        return cls(folder, skew=skew, clock=clock)

    @property
    def countries(self) -> frozenset[str]:
        """The countries whose authorities are believed, ISO 3166-1 alpha-3."""
        return frozenset(self._state().authorities)

    def roots(self, country: str) -> bytes:
        """Return the certificates of a country's authorities, PEM.

        Raises
        ------
        CertificateRefused
            The country is not in the list.
        """
        state = self._state()
        _of_country(state.authorities, country)
        return state.roots[country]

    def all_roots(self) -> bytes:
        """Return the certificates of all authorities, PEM. A chain to one of them alone says no country."""
        return b"".join(self._state().roots.values())

    def verify(self, leaf: bytes, *, at: datetime, kind: str | None = None) -> Identity:
        """Return whose certificate this is.

        Parameters
        ----------
        leaf : bytes
            One certificate, PEM or DER.
        at : datetime
            UTC, aware. A certificate that has been revoked is refused for any time.
        kind : str, optional
            What the certificate must name; None: anything.

        Raises
        ------
        CertificateRefused
            With the flaw in `why`. The cause says country and kind, and never the name.

        References
        ----------
        RFC 5280, sections 4.2.1, 5 and 6.1, for chains of one step.
        """
        return self._verified(leaf, at, None if kind is None else (kind,)).identity

    def check(
        self, kind: str, payload: bytes, signature: Signature, *, at: datetime, kinds: Collection[str]
    ) -> Identity:
        """Return who signed a message.

        Parameters
        ----------
        kind : str
            Of the message, as it was signed.
        payload : bytes
        signature : Signature
        at : datetime
            UTC, aware.
        kinds : collection of str
            The kinds of names that may sign this kind of message.

        Raises
        ------
        CertificateRefused
            As `verify`; or the certificate is not for signing.
        SignatureRefused
            The signature is not that of the certificate's key on this payload as this kind.
        """
        certificate, identity, _ = self._verified(signature.certificate, at, kinds)
        with _reading():
            key = _signing_key(certificate)
        try:
            key.verify(signature.value, signed_bytes(kind, payload))
        except InvalidSignature:
            raise SignatureRefused(
                f"the signature of {_who(identity)} is not on these bytes as '{kind}'",
                remedy="send the message as it was signed",
            ) from None
        return identity

    def _verified(self, leaf: bytes, at: datetime, kinds: Collection[str] | None) -> _Chain:
        if at.tzinfo is None:
            raise RequestInvalid("a time without its zone", remedy="give it in UTC")
        with _reading():
            found = _chain(self._state(), leaf)
            certificate, identity, authority = found
            _check_use(certificate, identity, kinds)
            _check_dates(authority.certificate, f"the authority of {identity.country}", at, self._skew)
            _check_dates(certificate, _who(identity), at, self._skew)
            _check_revoked(authority, certificate, identity, at - self._skew)
        return found

    def _state(self) -> _Good:
        """Return the last good state, after a look at the files where a second has passed since the last."""
        with self._lock:
            now = self._clock()
            if now - self._looked >= _LOOK_AGAIN:
                self._looked = now
                self._look()
            return self._good

    def _look(self) -> None:
        try:
            stamp = _stamp(self._folder)
            if stamp != self._stamp:
                self._good = _Good.of(_load(self._folder))
                self._stamp = stamp
                _log.info("the trust list was read anew: %s", " ".join(sorted(self._good.authorities)))
            self._trouble = ""
        except ConfigInvalid as error:  # tried again at every look, told once
            if str(error) != self._trouble:
                _log.error("the trust list is broken, the last good one stays in force: %s", error)
            self._trouble = str(error)


# ---- the files


def _stamp(folder: Path) -> _Stamp:
    """Return what changes when a file of the folder does."""
    try:
        files = sorted(folder.glob("*/*.pem"))
        return tuple((str(f), s.st_mtime_ns, s.st_size, s.st_ino) for f in files for s in (f.stat(),))
    except OSError as error:
        raise _unusable(str(folder), f"cannot be read ({error.strerror})") from error


def _load(folder: Path) -> _Authorities:
    try:
        countries = sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")
        found = {path.name: _load_country(path) for path in countries}
    except OSError as error:
        raise _unusable(str(error.filename), f"cannot be read ({error.strerror})") from error
    if not found:
        raise _unusable(str(folder), "names no country")
    return found


def _load_country(folder: Path) -> tuple[_Authority, ...]:
    if not is_country(folder.name):
        raise _unusable(str(folder), "is not named by a country, as SLV")
    revoked = folder / "revoked.pem"
    try:
        certificates = x509.load_pem_x509_certificates((folder / "ca.pem").read_bytes())
        lists = _lists(revoked.read_bytes()) if revoked.exists() else None
        return tuple(_authority(one, lists, folder.name) for one in certificates)
    except (*_BROKEN, InvalidSignature) as error:
        raise _unusable(str(folder), f"holds what cannot be used ({error})") from error


def _authority(
    certificate: x509.Certificate, lists: Sequence[x509.CertificateRevocationList] | None, country: str
) -> _Authority:
    """Return an authority with its list; ValueError for one that may not sign, or is another country's."""
    extensions = [extension.value for extension in certificate.extensions]
    limits = [one for one in extensions if isinstance(one, x509.BasicConstraints)]
    usages = [one for one in extensions if isinstance(one, x509.KeyUsage)]
    if not (limits and limits[0].ca and usages and usages[0].key_cert_sign):
        raise ValueError("a certificate that is not an authority's")
    if not set(_uris(certificate)) <= {domain_uri(country)}:
        raise ValueError("the authority of another country")
    return _Authority(certificate, _latest(certificate, lists))


def _lists(pem: bytes) -> list[x509.CertificateRevocationList]:
    """Return the lists of a file. A partial one marks itself as critical, and is not taken (section 5.2)."""
    end = b"-----END X509 CRL-----"
    found = [x509.load_pem_x509_crl(part + end) for part in pem.split(end)[:-1]]
    if not found or any(extension.critical for one in found for extension in one.extensions):
        raise ValueError("no list of what is revoked, or one in parts")
    return found


def _latest(
    authority: x509.Certificate, lists: Sequence[x509.CertificateRevocationList] | None
) -> x509.CertificateRevocationList | None:
    """Return the latest list that an authority signed. Where a country has lists, each authority has one."""
    if lists is None:
        return None
    key = authority.public_key()
    own = [one for one in lists if one.is_signature_valid(key)]  # type: ignore[arg-type]
    if not own:
        raise ValueError("an authority without a list of what it has revoked, where another has one")
    return max(own, key=lambda one: one.last_update_utc)


def _unusable(what: str, fault: str) -> ConfigInvalid:
    return ConfigInvalid(f"{what} {fault}", remedy="give a trust list: COUNTRY/ca.pem, COUNTRY/revoked.pem")


def _pem(authorities: Iterable[_Authority]) -> bytes:
    return b"".join(one.certificate.public_bytes(Encoding.PEM) for one in authorities)


# ---- one certificate


_BROKEN = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""What the library raises for a certificate that it cannot read; it reads some parts only when asked."""


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except _BROKEN:
        raise _refused(CertificateFlaw.UNREADABLE, "the certificate cannot be read") from None


def _chain(good: _Good, leaf: bytes) -> _Chain:
    """Return the chain of a certificate, as it was found before or by a look at it."""
    found = good.chains.get(leaf)
    if found is None:
        certificate = _certificate(leaf)
        identity = _named(certificate)
        authority = _issuer(_of_country(good.authorities, identity.country), certificate, identity)
        found = _Chain(certificate, identity, authority)
        if len(good.chains) >= _MOST_CHAINS:
            good.chains.clear()
        good.chains[leaf] = found
    return found


def _certificate(leaf: bytes) -> x509.Certificate:
    if len(leaf) > _MOST_BYTES:
        raise ValueError("too large")
    if leaf.startswith(b"-----BEGIN"):
        (only,) = x509.load_pem_x509_certificates(leaf)
    else:
        only = x509.load_der_x509_certificate(leaf)
    # The count of unused bits before a signature is under no signature, and nothing reads it: DER wants none.
    if not only.public_bytes(Encoding.DER).endswith(b"\0" + only.signature):
        raise ValueError("a signature that is not of whole bytes")
    return only


def _named(certificate: x509.Certificate) -> Identity:
    """Return whom a certificate names: its only URI."""
    uris = _uris(certificate)
    try:
        if len(uris) == 1:
            return Identity.parse(uris[0])
    except RequestInvalid:
        pass
    raise _refused(CertificateFlaw.WRONG_NAME, "the certificate has no name of ours, or several")


def _uris(certificate: x509.Certificate) -> list[str]:
    names = [e.value for e in certificate.extensions if isinstance(e.value, x509.SubjectAlternativeName)]
    return [uri for one in names for uri in one.get_values_for_type(x509.UniformResourceIdentifier)]


def _of_country(authorities: _Authorities, country: str) -> tuple[_Authority, ...]:
    if country not in authorities:
        raise _refused(CertificateFlaw.UNKNOWN_AUTHORITY, f"no authority of {country} is believed here")
    return authorities[country]


def _issuer(
    authorities: tuple[_Authority, ...], certificate: x509.Certificate, identity: Identity
) -> _Authority:
    for one in authorities:
        try:
            certificate.verify_directly_issued_by(one.certificate)
        except (*_BROKEN, InvalidSignature):
            continue
        return one
    raise _refused(
        CertificateFlaw.UNKNOWN_AUTHORITY, f"no authority of {identity.country} signed {_who(identity)}"
    )


def _check_use(certificate: x509.Certificate, identity: Identity, kinds: Collection[str] | None) -> None:
    """Refuse a certificate of another kind, an authority, or one that asks for what is not understood."""
    if kinds is not None and identity.kind not in kinds:
        raise _refused(
            CertificateFlaw.WRONG_KIND, f"{_who(identity)}, where {' or '.join(sorted(kinds))} is asked for"
        )
    extensions = certificate.extensions
    usages = [e.value for e in extensions if isinstance(e.value, x509.KeyUsage)]
    leaf = not any(isinstance(e.value, x509.BasicConstraints) and e.value.ca for e in extensions)
    if not (leaf and usages and usages[0].digital_signature and not usages[0].key_cert_sign):
        raise _refused(CertificateFlaw.WRONG_KIND, f"{_who(identity)} is not made to act, but for other use")
    if any(e.critical and not isinstance(e.value, _UNDERSTOOD) for e in extensions):
        raise _refused(
            CertificateFlaw.WRONG_KIND, f"{_who(identity)} has a critical extension not known here"
        )


_UNDERSTOOD = (x509.BasicConstraints, x509.KeyUsage, x509.ExtendedKeyUsage, x509.SubjectAlternativeName)


def _check_dates(certificate: x509.Certificate, who: str, at: datetime, skew: timedelta) -> None:
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if at + skew < begins:
        raise _refused(CertificateFlaw.NOT_YET_VALID, f"{who} is valid from {begins:%Y-%m-%d %H:%M:%S} UTC")
    if at - skew > ends:
        raise _refused(CertificateFlaw.EXPIRED, f"{who} was valid until {ends:%Y-%m-%d %H:%M:%S} UTC")


def _check_revoked(
    authority: _Authority, certificate: x509.Certificate, identity: Identity, at: datetime
) -> None:
    known = authority.revoked
    if known is None:
        return
    if known.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None:
        raise _refused(CertificateFlaw.REVOKED, f"{_who(identity)} has been revoked")
    if known.next_update_utc is None or at > known.next_update_utc:
        raise _refused(
            CertificateFlaw.CRL_STALE,
            f"the list of what {identity.country} has revoked is out of date",
        )


def _signing_key(certificate: x509.Certificate) -> Ed25519PublicKey:
    key = certificate.public_key()
    uses = [e.value for e in certificate.extensions if isinstance(e.value, x509.ExtendedKeyUsage)]
    if not isinstance(key, Ed25519PublicKey) or not uses or DOCUMENT_SIGNING not in uses[0]:
        raise _refused(CertificateFlaw.WRONG_KIND, "the certificate is not for signing messages")
    return key


def _who(identity: Identity) -> str:
    """Return what may be said of a name in an error: not the name, which is a person's pseudonym."""
    return f"the certificate of a {identity.kind} of {identity.country}"


def _refused(why: CertificateFlaw, cause: str) -> CertificateRefused:
    return CertificateRefused(f"{cause} ({why})", remedy=_REMEDIES[why], why=why)


_REMEDIES = {
    CertificateFlaw.UNREADABLE: "send one X.509 certificate, PEM or DER",
    CertificateFlaw.WRONG_NAME: "take a certificate with one URI, as spiffe://slv.papilar/node/main",
    CertificateFlaw.WRONG_KIND: "use the certificate that is made for this",
    CertificateFlaw.UNKNOWN_AUTHORITY: "have the countries exchange the certificates of their authorities",
    CertificateFlaw.NOT_YET_VALID: "compare the clocks of both nodes, or wait",
    CertificateFlaw.EXPIRED: "renew the certificate, or compare the clocks of both nodes",
    CertificateFlaw.REVOKED: "take a new certificate and a new key",
    CertificateFlaw.CRL_STALE: "fetch the country's present list of what it has revoked",
}
