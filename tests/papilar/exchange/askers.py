"""What the tests of the asking side share: countries, and peers that follow a script over mutual TLS."""

import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from grpc_status import rpc_status
from trials import DAY, countries

from enroll.image import GrayImage, encode_png
from papilar.api.peer.v1 import peer_pb2, peer_pb2_grpc, types_pb2
from papilar.audit.entry import Act, Entry, Outcome, Side
from papilar.audit.heads import sign_head
from papilar.audit.log import AuditLog
from papilar.errors import ReferenceUnknown
from papilar.exchange.answers import data_of, from_head
from papilar.exchange.asking import FederatedSearcher
from papilar.exchange.calls import Peer, PeerLine
from papilar.exchange.region import RegionSearch
from papilar.exchange.seal import content_hash, seal, stamp
from papilar.identity import Role
from papilar.peer_client import open_peer
from papilar.policy import File, Law, LawText, LegalBasis, OffenceClass, Purpose, SearchType
from papilar.requests import PrintInput
from papilar.server import status_of
from papilar.signing import Signer
from papilar.store.log import LogStore
from papilar.store.store import FILE_NAME
from papilar.tls import TlsFiles, server_credentials
from papilar.trust import Trust

ASKING, PEERS = "SLV", ("HND", "GTM", "CRI")
CALIBRATION = "test-1"
TERMS = 'country = "SLV"\nversion = 3\ntitle = "A law of the tests"\nvalid_from = 2026-01-01\n'
PERMIT = '@id("all")\n@reads("Everything is permitted here.")\npermit(principal, action, resource);\n'


def law(rules: str = PERMIT) -> Law:
    return Law.read(LawText(TERMS, rules, ""))


def world(folder: Path) -> Path:
    """Give every country of these tests an authority, and a folder for its log."""
    countries(folder, ASKING, *PEERS, at=datetime.now(UTC) - DAY)
    return folder


def open_log(folder: Path) -> AuditLog:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE_NAME).touch()
    return AuditLog(LogStore.open(folder, create=True))


def signer(folder: Path, country: str, name: str = "seal") -> Signer:
    return Signer.load(folder / country / f"{name}.pem", folder / country / f"{name}.key")


@cache
def png(seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (160, 160), np.uint8)
    return encode_png(GrayImage(pixels, 500.0, "", ()))


def asked(**given: Any) -> RegionSearch:
    values: dict[str, Any] = {
        "request_id": str(uuid.uuid4()),
        "prints": (PrintInput(image=png()),),
        "purpose": Purpose.CRIMINAL_INVESTIGATION,
        "offence_class": OffenceClass.SERIOUS,
        "legal_basis": LegalBasis.COURT_ORDER,
        "search_type": SearchType.TP_TP,
        "files": frozenset({File.CRIMINAL}),
        "officer": "e7",
        "roles": frozenset({Role.EXAMINER}),
        "reason": "ARREST",
        "case_reference": "2026/SS-114",
        "seconds": 5.0,
    }
    return RegionSearch(**values | given)


Script = Callable[["ScriptedPeer", peer_pb2.Search, Any], Iterator[peer_pb2.SearchResponse]]


class ScriptedPeer(peer_pb2_grpc.PeerServiceServicer):
    """A country's node that does with each search what its script says; `asked` holds what came."""

    def __init__(self, folder: Path, country: str, script: Script, *, port: int = 0) -> None:
        self.country, self.script = country, script
        self.signer = signer(folder, country)
        self.log = open_log(folder / country / f"log-{uuid.uuid4().hex}")
        self.asked: list[peer_pb2.Search] = []
        self.free = threading.Event()
        trust = Trust.load(folder / "trust")
        files = TlsFiles(folder / country / "node.pem", folder / country / "node.key")
        self.server = grpc.server(
            ThreadPoolExecutor(12), options=[("grpc.max_send_message_length", -1), ("grpc.so_reuseport", 0)]
        )
        peer_pb2_grpc.add_PeerServiceServicer_to_server(self, self.server)
        self.port = self.server.add_secure_port(f"127.0.0.1:{port}", server_credentials(files, trust))
        self.address = f"127.0.0.1:{self.port}"
        self.server.start()

    def close(self) -> None:
        self.free.set()
        self.server.stop(0).wait()
        self.log.store.close()

    def Search(self, request: peer_pb2.SearchRequest, context: Any) -> Iterator[peer_pb2.SearchResponse]:  # noqa: N802
        search = peer_pb2.Search.FromString(request.search.statement)
        self.asked.append(search)
        yield from self.script(self, search, context)

    def ExchangeHeads(self, request: peer_pb2.ExchangeHeadsRequest, context: Any) -> Any:  # noqa: N802
        head = sign_head(self.log, self.country, sign=self.signer.sign, now=datetime.now(UTC))
        proof = self.log.consistency_proof(request.known_size, head.head.size)
        return peer_pb2.ExchangeHeadsResponse(head=from_head(head), consistency=proof)

    # ---- what scripts are made of

    def hang(self, context: Any, seconds: float = 60) -> None:
        """Wait until the test is over or the caller has gone."""
        context.add_callback(self.free.set)
        self.free.wait(seconds)

    def proof(self) -> types_pb2.InclusionProof:
        receipt = self.log.append(an_entry())
        head = sign_head(self.log, self.country, sign=self.signer.sign, now=datetime.now(UTC))
        path = self.log.inclusion_proof(receipt.index, head.head.size)
        return types_pb2.InclusionProof(
            index=receipt.index, leaf_hash=receipt.leaf_hash, path=path, head=from_head(head)
        )

    def statement(self, search: peer_pb2.Search, *scores: float, **changes: Any) -> peer_pb2.Answer:
        """Return a sound answer, with a candidate for each score; then change it."""
        values: dict[str, Any] = {
            "request_id": search.request_id,
            "asking_country": search.asking_country,
            "asked_country": self.country,
            "create_time": stamp(datetime.now(UTC)),
            "search_sha256": content_hash(search),
            "outcome": peer_pb2.OUTCOME_CANDIDATES if scores else peer_pb2.OUTCOME_NO_HIT,
            "policy_version": 5,
            "policy_sha256": bytes(32),
            "files": search.files,
            "candidates": [candidate(score) for score in scores],
            "complete": True,
            "threshold": 4.0,
            "calibration_id": CALIBRATION,
            "prints": [peer_pb2.PrintAssessment(accepted=True, quality=70) for _ in search.prints],
            "erasure": peer_pb2.Erasure(
                time=stamp(datetime.now(UTC)),
                print_sha256=[sha256(data_of(one)).digest() for one in search.prints],
            ),
            "log": self.proof(),
            "padding": bytes(100),
        }
        return peer_pb2.Answer(**values | changes)

    def sealed(self, answer: peer_pb2.Answer, by: Signer | None = None) -> peer_pb2.SearchResponse:
        return peer_pb2.SearchResponse(answer=seal("answer", answer, by or self.signer))


def candidate(score: float, **changes: Any) -> peer_pb2.Candidate:
    values: dict[str, Any] = {
        "reference": (uuid.uuid4().hex * 2)[:43],
        "expire_time": stamp(datetime.now(UTC) + timedelta(days=14)),
        "score": score,
        "band": types_pb2.BAND_GREEN,
        "prints": [
            peer_pb2.CandidatePrint(
                probe_index=0,
                print=types_pb2.Print(image=png(1), ppi=500),
                score=score,
                band=types_pb2.BAND_GREEN,
            )
        ],
    }
    return peer_pb2.Candidate(**values | changes)


def an_entry() -> Entry:
    return Entry(
        time=datetime.now(UTC),
        side=Side.OWN,
        act=Act.NOTICE,
        outcome=Outcome.DONE,
        officer="node",
        justification="a test",
    )


def description(country: str, **changes: Any) -> peer_pb2.NodeDescription:
    """Return what a node offers, with changes."""
    quota = peer_pb2.Quota(search_type=types_pb2.SEARCH_TYPE_TP_TP, per_day=10, candidates=5)
    values: dict[str, Any] = {
        "country": country,
        "peer": ASKING,
        "create_time": stamp(datetime.now(UTC)),
        "extractor_version": "e-1",
        "matcher_version": "m-1",
        "calibration_id": "cal-1",
        "policy_version": 5,
        "policy_sha256": bytes(32),
        "max_message_bytes": 1 << 20,
        "quotas": [quota],
        "ordinary_seconds": 30,
        "urgent_seconds": 5,
    }
    return peer_pb2.NodeDescription(**values | changes)


def progress(search: peer_pb2.Search) -> peer_pb2.SearchResponse:
    step = peer_pb2.Progress.STEP_SEARCHING
    return peer_pb2.SearchResponse(progress=peer_pb2.Progress(request_id=search.request_id, step=step))


def answering(*scores: float, **changes: Any) -> Script:
    """A script that answers as it should, but for the changes."""

    def script(
        peer: ScriptedPeer, search: peer_pb2.Search, context: Any
    ) -> Iterator[peer_pb2.SearchResponse]:
        yield progress(search)
        yield peer.sealed(peer.statement(search, *scores, **changes))

    return script


def hanging(peer: ScriptedPeer, search: peer_pb2.Search, context: Any) -> Iterator[peer_pb2.SearchResponse]:
    peer.hang(context)
    yield progress(search)


def refusing(peer: ScriptedPeer, search: peer_pb2.Search, context: Any) -> Iterator[peer_pb2.SearchResponse]:
    yield peer.sealed(peer.statement(search, outcome=peer_pb2.OUTCOME_REFUSED, code="PURPOSE_NOT_COVERED"))


class Confirming(ScriptedPeer):
    """Takes conclusions, with a change of the receipt."""

    def __init__(self, folder: Path, country: str, script: Script | None = None) -> None:
        super().__init__(folder, country, script or answering(7.0))
        self.changes: dict[str, Any] = {}
        self.taken: list[peer_pb2.Confirmation] = []

    def Confirm(self, request: peer_pb2.ConfirmRequest, context: Any) -> Any:  # noqa: N802
        said = peer_pb2.Confirmation.FromString(request.confirmation.statement)
        if said.reference == "0" * 43:
            error = ReferenceUnknown("there is no such reference", remedy="search again")
            context.abort_with_status(rpc_status.to_status(status_of(error)))
        self.taken = [said]
        values: dict[str, Any] = {
            "confirmation_id": said.confirmation_id,
            "confirmation_sha256": sha256(request.confirmation.statement).digest(),
            "create_time": stamp(datetime.now(UTC)),
            "log": self.proof(),
        }
        receipt = peer_pb2.Receipt(**values | self.changes)
        return peer_pb2.ConfirmResponse(receipt=seal("receipt", receipt, self.signer))


class Region:
    """The asking country, and the peers that a test gives scripts to."""

    def __init__(self, folder: Path, log_folder: Path) -> None:
        self.folder = folder
        self.trust = Trust.load(folder / "trust")
        self.tls = TlsFiles(folder / ASKING / "node.pem", folder / ASKING / "node.key")
        self.log = open_log(log_folder)
        self.scripted: list[ScriptedPeer] = []
        self.searchers: list[FederatedSearcher] = []

    def peer(self, country: str, script: Script, **given: Any) -> ScriptedPeer:
        self.scripted.append(ScriptedPeer(self.folder, country, script, **given))
        return self.scripted[-1]

    def line(self, country: str, *addresses: str, patience: float = 1.0, **given: Any) -> Peer[PeerLine]:
        return open_peer(country, addresses, tls=self.tls, trust=self.trust, patience=patience, **given)

    def searcher(
        self, *peers: Peer[PeerLine] | ScriptedPeer, rules: str = PERMIT, **given: Any
    ) -> FederatedSearcher:
        lines = [one if isinstance(one, Peer) else self.line(one.country, one.address) for one in peers]
        in_force = law(rules)
        searcher = FederatedSearcher(
            ASKING,
            {line.country: line for line in lines},
            law=lambda at: in_force,
            trust=self.trust,
            signer=signer(self.folder, ASKING),
            log=self.log,
            calibration_id=CALIBRATION,
            **given,
        )
        self.searchers.append(searcher)
        return searcher

    def entries(self) -> list[Entry]:
        return [stored.entry for stored in self.log.entries() if stored.entry is not None]

    def close(self) -> None:
        for peer in self.scripted:
            peer.free.set()
        for searcher in self.searchers:
            searcher.close()
        for peer in self.scripted:
            peer.close()
        self.log.store.close()
