"""Mutual TLS between nodes: gRPC credentials from a node's certificate and the trust list.

The handshake proves that the other side holds the key of a certificate that some authority signed. Which
country that is, and whether it was revoked, is asked of each call: `Trust.verify(peer_certificate(context))`.
"""

import logging
from pathlib import Path
from typing import Any, NamedTuple

import grpc

from papilar.errors import CertificateFlaw, CertificateRefused, ConfigInvalid
from papilar.identity import server_name
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


def channel_credentials(files: TlsFiles, trust: Trust, country: str) -> grpc.ChannelCredentials:
    """Return credentials to call a node of one country: no other country's authority is believed.

    They hold the files as they are now. Make a new channel when the files change.

    Raises
    ------
    ConfigInvalid
        The files cannot be used.
    CertificateRefused
        The country is not in the trust list.
    """
    pair = read_pair(*files)
    return grpc.ssl_channel_credentials(trust.roots(country), pair.key, pair.certificate)


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
