"""Mutual TLS between nodes: gRPC credentials from a node's certificate and the trust list.

The handshake proves that the other side holds the key of a certificate that some authority signed. Which
country that is, and whether it was revoked, is asked of each call: `Trust.verify(peer_certificate(context))`.
gRPC for Python does not tell who calls what certificate the other side showed. So who calls looks at it
first, over a connection of its own, and then lets gRPC talk to the holder of that certificate alone.
"""

import logging
import select
import socket
import ssl
import time
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import grpc

from papilar.config import split_address
from papilar.errors import CertificateFlaw, CertificateRefused, ConfigInvalid, NodeUnreachable
from papilar.identity import Kind, server_name
from papilar.signing import read_pair
from papilar.trust import Trust

_log = logging.getLogger(__name__)


class TlsFiles(NamedTuple):
    """A node's certificate and its key, PEM files."""

    certificate: Path
    key: Path


def server_credentials(files: TlsFiles, trust: Trust) -> grpc.ServerCredentials:
    """Return credentials that ask every caller for a certificate of a country in the trust list.

    Certificate, key and trust list are read anew for each new connection; those that are open go on. Where
    the files cannot be used, the last good ones stay in force, and the log says so.

    Raises
    ------
    ConfigInvalid
        The files cannot be used at the start.
    """
    offer = _Offer(files, trust)
    return grpc.dynamic_ssl_server_credentials(offer(), offer, require_client_authentication=True)


def channel_credentials(
    files: TlsFiles, trust: Trust, country: str, *, shown: bytes | None = None
) -> grpc.ChannelCredentials:
    """Return credentials to call a node of one country: no other country's authority is believed.

    They hold the files as they are now. Make a new channel when the files change.

    Parameters
    ----------
    files : TlsFiles
    trust : Trust
    country : str
    shown : bytes, optional
        A certificate, PEM, as `shown_certificate` returns it: nobody but its holder is then talked to.

    Raises
    ------
    ConfigInvalid
        The files cannot be used.
    CertificateRefused
        The country is not in the trust list.
    """
    pair, roots = read_pair(*files), trust.roots(country)
    return grpc.ssl_channel_credentials(shown or roots, pair.key, pair.certificate)


def shown_certificate(
    address: str, files: TlsFiles, trust: Trust, country: str, *, at: datetime, timeout: float
) -> bytes:
    """Return the certificate, PEM, that a country's node shows, once it is believed.

    Parameters
    ----------
    address : str
        `HOST:PORT`.
    files : TlsFiles
        Ours.
    trust : Trust
    country : str
        Whose node it must be.
    at : datetime
        Now, UTC.
    timeout : float
        Seconds.

    Raises
    ------
    NodeUnreachable
        Nobody answers there, or not with TLS.
    CertificateRefused
        As `check_node`.
    ConfigInvalid
        Our files cannot be used.
    """
    context, ends = _context(files, trust, country), time.monotonic() + timeout
    try:
        with socket.create_connection(split_address(address), timeout=timeout) as plain:
            leaf = _leaf(plain, context, server_name(country), ends)
    except ssl.SSLCertVerificationError as error:
        why = _FLAWS.get(error.verify_code, CertificateFlaw.UNKNOWN_AUTHORITY)
        raise CertificateRefused(
            f"{address} does not show the certificate of a node of {country} ({why})", remedy=_TELL, why=why
        ) from None
    except OSError:  # what it says may be the other side's words
        raise NodeUnreachable(f"nobody answers at {address} over TLS", remedy="ask again later") from None
    check_node(leaf, trust, country, at=at)
    return ssl.DER_cert_to_PEM_cert(leaf).encode("ascii")


def check_node(leaf: bytes, trust: Trust, country: str, *, at: datetime) -> None:
    """Refuse a certificate that is not a node's of this country at this time; raises as `Trust.verify`."""
    found = trust.verify(leaf, at=at, kind=Kind.NODE).country
    if found != country:
        raise CertificateRefused(
            f"a node of {found}, where one of {country} is asked for",
            remedy=_TELL,
            why=CertificateFlaw.WRONG_NAME,
        )


def channel_options(country: str) -> list[tuple[str, str]]:
    """Return the options of a channel to a node of a country, which has its name, whatever its address is."""
    return [("grpc.ssl_target_name_override", server_name(country))]


def peer_certificate(context: Any) -> bytes:
    """Return the certificate, PEM, whose key the caller of a `grpc.ServicerContext` holds.

    Raises
    ------
    CertificateRefused
        The connection has none, as one without TLS.
    """
    shown = context.auth_context().get("x509_pem_cert", ())
    if len(shown) != 1:
        raise CertificateRefused(
            "the caller showed no certificate",
            remedy="call over TLS, with a certificate of a country's authority",
            why=CertificateFlaw.UNREADABLE,
        )
    return bytes(shown[0])


class _Offer:
    """What a server shows and whom it asks, as of now; called for each connection, on the threads of gRPC."""

    def __init__(self, files: TlsFiles, trust: Trust) -> None:
        self._files = files
        self._trust = trust
        self._pair = read_pair(*files)

    def __call__(self) -> grpc.ServerCertificateConfiguration:
        try:
            self._pair = read_pair(*self._files)
        except ConfigInvalid as error:
            _log.error("the TLS files cannot be used, the last good ones stay in force: %s", error)
        pair = self._pair
        return grpc.ssl_server_certificate_configuration(
            [(pair.key, pair.certificate)], root_certificates=self._trust.all_roots()
        )


# ---- a look at a certificate

_TELL = "tell that node's operator; nothing was sent"
_FLAWS = {  # X509_V_ERR_* of OpenSSL, x509_vfy.h
    9: CertificateFlaw.NOT_YET_VALID,
    10: CertificateFlaw.EXPIRED,
    62: CertificateFlaw.WRONG_NAME,
}


def _context(files: TlsFiles, trust: Trust, country: str) -> ssl.SSLContext:
    """Return what our side of a handshake believes and shows."""
    read_pair(*files)  # says what is wrong with them, and that the key is ours alone
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=trust.roots(country).decode("ascii"))
    context.set_alpn_protocols(["h2"])
    try:
        context.load_cert_chain(*files)
    except OSError as error:  # replaced in between
        raise ConfigInvalid(f"{files.certificate} cannot be used", remedy="try again") from error
    return context


def _leaf(plain: socket.socket, context: ssl.SSLContext, name: str, ends: float) -> bytes:
    """Return the certificate, DER, that a handshake brings to light by its end, however slowly it goes."""
    plain.settimeout(0)
    with context.wrap_socket(plain, server_hostname=name, do_handshake_on_connect=False) as tls:
        poll = select.poll()
        while True:
            try:
                tls.do_handshake()
                return tls.getpeercert(binary_form=True) or b""
            except ssl.SSLWantReadError:
                poll.register(tls, select.POLLIN)
            except ssl.SSLWantWriteError:
                poll.register(tls, select.POLLOUT)
            if not poll.poll(max(0.0, 1e3 * (ends - time.monotonic()))):
                raise TimeoutError("no handshake in time")
