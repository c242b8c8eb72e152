"""What the tests of the asked side share: countries with certificates, a node that answers, one that asks."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
from nodes import enrolled_as, image_of, mate_record, picture
from trials import DAY, countries, user

from matcher.codecs import decode, encode
from matcher.template import Finger
from papilar.api.peer.v1 import peer_pb2, peer_pb2_grpc, types_pb2
from papilar.audit.entry import Entry
from papilar.audit.log import AuditLog
from papilar.exchange.asked import AskedNode, AskedOptions
from papilar.exchange.disguise import Pace
from papilar.exchange.seal import seal, stamp
from papilar.node import Node
from papilar.peer_server import PeerLimits, PeerServer
from papilar.policy import File, Law, LawText
from papilar.requests import Enrollment
from papilar.signing import Signer
from papilar.store.exchange import ExchangeStore
from papilar.store.log import LogStore
from papilar.tls import TlsFiles, channel_credentials, channel_options
from papilar.trust import Trust

KEY = bytes(range(32))
PERMIT = '@id("all")\n@reads("Everything is permitted here.")\npermit(principal, action, resource);\n'
NEVER = (
    '@id("petty") @reads("Nothing for a petty offence.") @code("OFFENCE_TOO_LIGHT")\n'
    'forbid(principal, action == Action::"search", resource)'
    ' when { context.offence_class == OffenceClass::"petty" };\n'
)
TERMS = 'country = "SLV"\nversion = 3\ntitle = "A law of the tests"\nvalid_from = 2026-01-01\n'
PERSON = (
    '@id("asylum") @reads("A person decides on asylum.") @decision("needs_human")\n'
    'permit(principal, action == Action::"search", resource) when { context.purpose == Purpose::"asylum" };\n'
)
SEED, IMAGED, STRANGER = 7, 900, 31
SMALL = AskedOptions(
    answer_bytes=64 * 1024, quantum_seconds=0.05, max_message_bytes=1_000_000, put_off_seconds=0.01
)


def law(*, rules: str = PERMIT + NEVER, hides: bool = False, per_day: int = 1000, more: str = "") -> Law:
    terms = (
        f"{TERMS}hides_denial = {str(hides).lower()}\n{more}\n"
        f'[quotas."*"]\nTP_TP = {{ per_day = {per_day}, candidates = 3 }}\n'
    )
    return Law.read(LawText(terms, rules, ""))


class InForce:
    """The law of SLV; a test may change it."""

    def __init__(self) -> None:
        self.law = law()

    def __call__(self) -> Law:
        return self.law


class Clock:
    """A clock that can be turned."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


def make_gallery(folder: Path) -> Node:
    node = Node(folder, create=True)
    for seed in (SEED, *range(100, 110)):
        node.enroll(Enrollment((enrolled_as(seed, Finger.RIGHT_INDEX),), subject_id=f"person-{seed}"))
    node.enroll(Enrollment((image_of(IMAGED, code=Finger.RIGHT_THUMB),), subject_id=f"person-{IMAGED}"))
    return node


def make_world(folder: Path) -> Path:
    now = datetime.now(UTC) - DAY
    countries(folder, "SLV", "HND", "GTM", at=now)
    for code in ("HND", "GTM", "SLV"):
        user(folder / code, at=now)
        user(folder / code, "o1", "officer", at=now)
    return folder


def iso(seed: int) -> bytes:
    """Template, as it may travel, of another impression of a finger."""
    return encode(decode(mate_record(seed)), "iso-19794-2:2011")


def a_print(seed: int = SEED) -> types_pb2.Print:
    return types_pb2.Print(position=2, template=iso(seed))


def an_image(seed: int = IMAGED, number: int = 1) -> types_pb2.Print:
    return types_pb2.Print(position=1, ppi=500, image=picture(seed, number))


@dataclass
class Asking:
    """A country's node that asks, as badly as a test wants."""

    world: Path
    country: str
    address: str = ""
    asked: str = "SLV"
    clock: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))

    def signer(self, stem: str = "seal") -> Signer:
        return Signer.load(
            self.world / self.country / f"{stem}.pem", self.world / self.country / f"{stem}.key"
        )

    def statement(self, *prints: types_pb2.Print, **fields: Any) -> peer_pb2.Search:
        usual: dict[str, Any] = {
            "request_id": str(uuid4()),
            "asking_country": self.country,
            "asked_country": self.asked,
            "create_time": stamp(self.clock()),
            "officer": "o1",
            "roles": [types_pb2.ROLE_OFFICER],
            "purpose": types_pb2.PURPOSE_CRIMINAL_INVESTIGATION,
            "reason": "ART_12",
            "offence_class": types_pb2.OFFENCE_CLASS_SERIOUS,
            "legal_basis": types_pb2.LEGAL_BASIS_TREATY,
            "case_reference": "C-2026/1",
            "search_type": types_pb2.SEARCH_TYPE_TP_TP,
            "files": [types_pb2.FILE_CRIMINAL],
            "target_fpir": 0.01,
            "limit": 5,
            "prints": prints or [a_print()],
        }
        return peer_pb2.Search(**usual | fields)

    def sealed(self, *prints: types_pb2.Print, **fields: Any) -> types_pb2.Signed:
        return seal("search", self.statement(*prints, **fields), self.signer())

    def concluded(self, request_id: str, reference: str, *, who: str = "user-e7-sign", **fields: Any) -> Any:
        usual: dict[str, Any] = {
            "confirmation_id": str(uuid4()),
            "request_id": request_id,
            "reference": reference,
            "asking_country": self.country,
            "asked_country": self.asked,
            "create_time": stamp(self.clock()),
            "conclusion": peer_pb2.CONCLUSION_IDENTIFICATION,
            "correspondences_sha256": sha256(b"marks").digest(),
            "correspondences": 14,
        }
        return seal("confirmation", peer_pb2.Confirmation(**usual | fields), self.signer(who))

    @contextmanager
    def calling(self, stem: str = "node") -> Iterator[peer_pb2_grpc.PeerServiceStub]:
        files = TlsFiles(self.world / self.country / f"{stem}.pem", self.world / self.country / f"{stem}.key")
        credentials = channel_credentials(files, Trust.load(self.world / "trust"), self.asked)
        options = [*channel_options(self.asked), ("grpc.use_local_subchannel_pool", 1)]
        options.append(("grpc.max_receive_message_length", -1))
        with grpc.secure_channel(self.address, credentials, options) as channel:
            yield peer_pb2_grpc.PeerServiceStub(channel)


@dataclass
class Answering:
    """The node of SLV: its parts, for a look behind its back."""

    asked: AskedNode
    store: ExchangeStore
    log: AuditLog
    clock: Clock
    trust: Trust
    address: str

    def entries(self) -> list[Entry]:
        return [one.entry for one in self.log.entries() if one.entry is not None]

    def ask(self, signed: types_pb2.Signed, peer: str = "HND") -> tuple[list[Any], types_pb2.Signed]:
        """Ask without a socket; return the progress and the sealed answer."""
        *progress, last = list(self.asked.search(signed, peer))
        assert isinstance(last, types_pb2.Signed)
        return progress, last

    def answer(self, signed: types_pb2.Signed, peer: str = "HND") -> peer_pb2.Answer:
        return read(self.ask(signed, peer)[1])


def read(signed: types_pb2.Signed) -> peer_pb2.Answer:
    return peer_pb2.Answer.FromString(signed.statement)


@contextmanager
def answering(
    world: Path,
    files: dict[File, Node],
    folder: Path,
    *,
    law: Callable[[], Law],
    pace: Pace | None = None,
    limits: PeerLimits | None = None,
    options: AskedOptions = AskedOptions(),  # noqa: B008
) -> Iterator[Answering]:
    with ExitStack() as end:
        store = ExchangeStore.open(folder, create=True)
        end.callback(store.close)
        rows = LogStore.open(folder, create=True)
        end.callback(rows.close)
        ticks = iter(range(0, 1 << 40, 2))
        clock, trust = Clock(), Trust.load(world / "trust", clock=lambda: next(ticks))
        log, signer = AuditLog(rows), Signer.load(world / "SLV/seal.pem", world / "SLV/seal.key")
        asked = AskedNode(
            "SLV",
            files=files,
            law=law,
            trust=trust,
            signer=signer,
            log=log,
            store=store,
            key=KEY,
            options=options,
            pace=pace,
            clock=clock,
        )
        tls = TlsFiles(world / "SLV/node.pem", world / "SLV/node.key")
        server = PeerServer(asked, trust, listen="127.0.0.1:0", tls=tls, limits=limits or PeerLimits())
        server.start()
        end.callback(server.stop, 1)
        yield Answering(asked, store, log, clock, trust, f"127.0.0.1:{server.port}")
