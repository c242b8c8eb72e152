"""What the tests of the kit share: a kit, a node of SLV that trusts it, and a place to break one rule."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from enroll.image import read_image
from enroll.pipeline import extract
from matcher.codecs import encode
from papilar import pki
from papilar.api.peer.v1 import types_pb2
from papilar.audit.log import AuditLog
from papilar.conformance.kit import make_kit
from papilar.exchange.asked import AskedNode, AskedOptions
from papilar.node import Node
from papilar.peer_server import PeerServer
from papilar.policy import File, Law, LawText
from papilar.requests import Enrollment, PrintInput
from papilar.signing import Signer
from papilar.store.exchange import ExchangeStore
from papilar.store.log import LogStore
from papilar.tls import TlsFiles
from papilar.trust import Trust

PERMIT = '@id("all")\n@reads("Everything is permitted here.")\npermit(principal, action, resource);\n'
KEY = bytes(range(32))
OPTIONS = AskedOptions(quantum_seconds=0.05, put_off_seconds=0.01, max_message_bytes=2_000_000)


def law(*, per_day: int = 100, hides: bool = False) -> Law:
    terms = (
        'country = "SLV"\nversion = 3\ntitle = "A law of the tests"\nvalid_from = 2026-01-01\n'
        f"hides_denial = {str(hides).lower()}\n"
        '[quotas."*"]\nLP_PP = { per_day = 0, candidates = 1 }\n'
        f"TP_TP = {{ per_day = {per_day}, candidates = 3 }}\n"
    )
    return Law.read(LawText(terms, PERMIT, ""))


class World(NamedTuple):
    """A kit, the node's own authority, a gallery with the kit's print, and its probe, as a template."""

    kit: Path
    slv: Path
    gallery: Node
    probe: types_pb2.Print


@contextmanager
def world(folder: Path) -> Iterator[World]:
    now = datetime.now(UTC)
    make_kit(folder / "kit", at=now)
    pki.init(folder / "SLV", "SLV", at=now)
    shutil.copytree(folder / "SLV/trust/SLV", folder / "kit/trust/SLV")
    with Node(folder / "gallery", create=True) as gallery:
        image = (folder / "kit/prints/enrolled.png").read_bytes()
        gallery.enroll(Enrollment((PrintInput(image=image),), subject_id="kit-1"))
        found = extract(read_image((folder / "kit/prints/probe.png").read_bytes())).template
        probe = types_pb2.Print(template=encode(found, "iso-19794-2:2005"))
        yield World(folder / "kit", folder / "SLV", gallery, probe)


Break = Callable[[AskedNode, Signer], Any]


class Answering(NamedTuple):
    address: str
    store: ExchangeStore
    log: AuditLog


@contextmanager
def answering(
    at: World,
    folder: Path,
    *,
    law: Callable[[], Law] = law,
    broken: Break = lambda asked, _: asked,
    trust: Path | None = None,
    options: AskedOptions = OPTIONS,
) -> Iterator[Answering]:
    """Serve the node of SLV over a real socket; `broken` may put something else in its place."""
    with ExitStack() as end:
        store = ExchangeStore.open(folder, create=True)
        end.callback(store.close)
        rows = LogStore.open(folder, create=True)
        end.callback(rows.close)
        believed = Trust.load(trust or at.kit / "trust")
        signer = Signer.load(at.slv / "seal.pem", at.slv / "seal.key")
        log = AuditLog(rows)
        asked = AskedNode(
            "SLV",
            files={File.CRIMINAL: at.gallery},
            law=law,
            trust=believed,
            signer=signer,
            log=log,
            store=store,
            key=KEY,
            options=options,
        )
        tls = TlsFiles(at.slv / "node.pem", at.slv / "node.key")
        server = PeerServer(broken(asked, signer), believed, listen="127.0.0.1:0", tls=tls)
        server.start()
        end.callback(server.stop, 1)
        yield Answering(f"127.0.0.1:{server.port}", store, log)
