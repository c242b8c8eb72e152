"""`papilar serve`: a node on this machine until it is stopped; and the options of whatever serves one."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from papilar import service
from papilar.commands.enroll import StoreOption
from papilar.commands.options import TlsCert, TlsKey, grouped
from papilar.config import DEFAULT_LISTEN, NodeConfig, Tls, load_config
from papilar.errors import RequestInvalid
from papilar.show import show_listening


@dataclass(frozen=True, slots=True)
class Served:
    """What is served, where, and how callers and node know each other."""

    gallery: Annotated[Path | None, typer.Option("--gallery", help="Gallery folder.")] = None
    config: Annotated[
        Path | None, typer.Option("--config", help="Settings, TOML; see papilar/config/__init__.py.")
    ] = None
    store: StoreOption = None
    listen: Annotated[str | None, typer.Option("--listen", help=f"HOST:PORT. [{DEFAULT_LISTEN}]")] = None
    create: Annotated[bool, typer.Option("--create", help="Make the gallery where there is none.")] = False
    tls_cert: TlsCert = None
    tls_key: TlsKey = None
    tls_client_ca: Annotated[
        Path | None,
        typer.Option("--tls-client-ca", help="Ask clients for a certificate of this authority, PEM."),
    ] = None
    allow_plain_text: Annotated[
        bool, typer.Option("--allow-plain-text", help="Serve without TLS where others can reach it.")
    ] = False
    verbose: Annotated[bool, typer.Option("--verbose", help="Log every call (never what it held).")] = False

    def settings(self) -> NodeConfig:
        """Return the settings of the node; raises as `load_config` does."""
        if self.gallery is None and self.config is None:
            raise RequestInvalid(
                "no gallery to serve", remedy="give --gallery DIR, or --config FILE that names it"
            )
        return load_config(
            self.config,
            gallery=self.gallery,
            store=self.store,
            listen=self.listen,
            tls=self._tls(),
            allow_plain_text=self.allow_plain_text or None,
        )

    def log(self) -> None:
        """Have what the node says written to the terminal."""
        logging.basicConfig(
            level=logging.INFO if self.verbose else logging.WARNING,
            format="%(asctime)s %(levelname)s %(name)s %(message)s",
        )

    def _tls(self) -> Tls | None:
        if self.tls_cert and self.tls_key:
            return Tls(self.tls_cert, self.tls_key, self.tls_client_ca)
        if self.tls_cert or self.tls_key or self.tls_client_ca:
            raise RequestInvalid("TLS by halves", remedy="give both --tls-cert and --tls-key")
        return None


def shown_when_ready(settings: NodeConfig) -> Callable[[service.Running], None]:
    """Return what tells the terminal that a node answers."""
    line = "TLS" if settings.tls else "plain text"
    return lambda on: show_listening(on.gallery, on.address, line, on.peers)


@grouped
def serve(*, served: Served) -> None:
    """Serve a gallery over gRPC until SIGTERM or Ctrl-C."""
    served.log()
    settings = served.settings()
    service.serve(settings, create=served.create, on_ready=shown_when_ready(settings))
