"""The testing side: its certificates, statements as the contract has them, and what it has seen so far.

What several cases look at is asked for once: a search that finds nobody, one that finds somebody, a
conclusion.
"""

import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from uuid import uuid4

from google.protobuf.message import DecodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp

from papilar import pki
from papilar.api.peer.v1 import peer_pb2, types_pb2
from papilar.audit import merkle
from papilar.audit.heads import TreeHead
from papilar.conformance import prints
from papilar.conformance.kit import is_made_up
from papilar.conformance.verdict import Unmet
from papilar.conformance.wire import Line, Reply, Wire
from papilar.exchange.seal import stamp
from papilar.identity import Identity
from papilar.signing import Signer
from papilar.tls import TlsFiles
from papilar.trust import Trust

_ENTRY = b"the only entry in the log of the conformance kit"

M = TypeVar("M", bound=Message)


class Party:
    """A folder of certificates: the testing country, a second one, or an authority that nobody trusts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @cached_property
    def country(self) -> str:
        """Its country, as the certificate of its seal says."""
        return Identity.parse(pki.describe(self.files("seal").certificate)["name"][0]).country

    def signer(self, stem: str = "seal") -> Signer:
        """Return who signs; `Unmet` where the folder has no such certificate."""
        return Signer.load(*self.files(stem))

    def files(self, stem: str) -> TlsFiles:
        """Return a certificate and its key; `Unmet` where the folder has none."""
        found = TlsFiles(self._folder / f"{stem}.pem", self._folder / f"{stem}.key")
        if not all(path.exists() for path in found):
            raise Unmet(f"{self._folder.name}/{stem}.pem and its key")
        return found


class Asked(NamedTuple):
    """A search that was sent, and how its call ended."""

    search: peer_pb2.Search
    signed: types_pb2.Signed
    reply: Reply

    @property
    def sealed(self) -> types_pb2.Signed:
        """The sealed answer; `Unmet` without one."""
        if self.reply.answer is None:
            raise Unmet(f"an answer to a sound search; what came was {self.reply}")
        return self.reply.answer

    @property
    def answer(self) -> peer_pb2.Answer:
        """The answer; `Unmet` without one that can be read, or where the quota is used up."""
        found = read(self.sealed, peer_pb2.Answer())
        if found.outcome == peer_pb2.OUTCOME_QUOTA:
            raise Unmet("searches that the quota of this day has left")
        return found


class Concluded(NamedTuple):
    """A conclusion that was sent, and how its call ended."""

    said: peer_pb2.Confirmation
    signed: types_pb2.Signed
    reply: Reply

    @property
    def sealed(self) -> types_pb2.Signed:
        """The sealed receipt; `Unmet` without one."""
        if not self.reply.messages:
            raise Unmet(f"a receipt for a sound conclusion; what came was {self.reply}")
        receipt: types_pb2.Signed = self.reply.messages[0].receipt
        return receipt


def read(signed: types_pb2.Signed, into: M) -> M:
    """Read a statement, whatever its signature is worth; `Unmet` where it is none of the contract's."""
    try:
        into.ParseFromString(signed.statement)
    except DecodeError:
        raise Unmet("a statement that can be read") from None
    return into


class Bench:
    """All that a case needs of the testing side.

    Parameters
    ----------
    address : str
        Of the node under test, `HOST:PORT`.
    country : str
        Its country.
    folder : Path
        The kit; see `papilar.conformance.kit`.
    probe : Print, optional
        Of somebody whom the node has.
    clock : callable
        UTC.
    timeout : float
        Seconds that a call may take.

    Raises
    ------
    ConfigInvalid
        The address is none, or the trust list cannot be used.
    """

    def __init__(
        self,
        address: str,
        country: str,
        folder: Path,
        *,
        probe: types_pb2.Print | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        timeout: float = 60.0,
    ) -> None:
        self.country = country
        self.trust = Trust.load(folder / "trust")
        self.home, self.abroad = Party(folder / "home"), Party(folder / "abroad")
        self.unknown = Party(folder / "unknown")
        self.clock = clock
        self.wire = Wire(address, country, self.trust, timeout=timeout)
        self.searches = 0
        self._probe = probe

    def close(self) -> None:
        """End all connections."""
        self.wire.close()

    # ---- statements

    def statement(
        self, *given: types_pb2.Print, party: Party | None = None, **fields: Any
    ) -> peer_pb2.Search:
        """Return a search that is sound but for the fields that are given."""
        usual: dict[str, Any] = {
            "request_id": str(uuid4()),
            "asking_country": (party or self.home).country,
            "asked_country": self.country,
            "create_time": stamp(self.clock()),
            "officer": "conformance-kit",
            "roles": [types_pb2.ROLE_OFFICER],
            "purpose": types_pb2.PURPOSE_CRIMINAL_INVESTIGATION,
            "reason": "CONFORMANCE",
            "offence_class": types_pb2.OFFENCE_CLASS_SERIOUS,
            "legal_basis": types_pb2.LEGAL_BASIS_TREATY,
            "case_reference": "KIT/1",
            "search_type": types_pb2.SEARCH_TYPE_TP_TP,
            "files": [types_pb2.FILE_CRIMINAL],
            "target_fpir": 0.01,
            "limit": 5,
            "prints": given or [prints.light()],
        }
        return peer_pb2.Search(**usual | fields)

    def confirmation(self, request_id: str, reference: str, **fields: Any) -> peer_pb2.Confirmation:
        """Return a conclusion that is sound but for the fields that are given."""
        usual: dict[str, Any] = {
            "confirmation_id": str(uuid4()),
            "request_id": request_id,
            "reference": reference,
            "asking_country": self.home.country,
            "asked_country": self.country,
            "create_time": stamp(self.clock()),
            "conclusion": peer_pb2.CONCLUSION_INCONCLUSIVE,
            "correspondences_sha256": sha256(b"conformance").digest(),
            "correspondences": 12,
        }
        return peer_pb2.Confirmation(**usual | fields)

    def head(self) -> TreeHead:
        """Return the head of the testing country's log, which has one entry for ever, so that it never forks.

        `Unmet` for a country that has a log of its own: two heads of one log are a fork.
        """
        country = self.home.country
        if not is_made_up(country):
            raise Unmet("a testing country that is made up, as XTA: a real one has a log of its own")
        return TreeHead(country, 1, merkle.leaf_hash(_ENTRY), self.clock())

    def exchange(self, payload: bytes, known_size: int = 0) -> Reply:
        """Seal the bytes of a head and offer it."""
        request = peer_pb2.ExchangeHeadsRequest(
            head=signed_bytes("log_head", payload, self.home.signer()), known_size=known_size
        )
        return self.call("ExchangeHeads", request)

    # ---- calls

    def line(self, stem: str = "node", party: Party | None = None) -> Line:
        """Return the connection with a certificate."""
        return self.wire.line((party or self.home).files(stem))

    def call(self, method: str, request: Message) -> Reply:
        """Call in the name of the testing country."""
        return self.line().call(method, request)

    def send(self, signed: types_pb2.Signed, party: Party | None = None) -> Reply:
        """Send a sealed search."""
        self.searches += party is None
        return self.line(party=party).call("Search", peer_pb2.SearchRequest(search=signed))

    def ask(self, search: peer_pb2.Search, party: Party | None = None) -> Asked:
        """Seal a search and send it."""
        signed = sealed("search", search, (party or self.home).signer())
        return Asked(search, signed, self.send(signed, party))

    def conclude(self, said: peer_pb2.Confirmation, stem: str = "user-examiner-sign") -> Concluded:
        """Sign a conclusion and send it."""
        signed = sealed("confirmation", said, self.home.signer(stem))
        return Concluded(said, signed, self.confirm(signed))

    def confirm(self, signed: types_pb2.Signed, party: Party | None = None) -> Reply:
        """Send a signed conclusion."""
        return self.line(party=party).call("Confirm", peer_pb2.ConfirmRequest(confirmation=signed))

    # ---- what has been seen

    @cached_property
    def stranger(self) -> types_pb2.Print:
        """A print of nobody, another one in each run."""
        return prints.image(prints.to_png(prints.draw_ridges(secrets.randbits(64))))

    @cached_property
    def described(self) -> Reply:
        """How DescribeNode ended."""
        return self.call("DescribeNode", peer_pb2.DescribeNodeRequest())

    @property
    def description(self) -> peer_pb2.NodeDescription:
        """What the node says of itself; `Unmet` without that."""
        if not self.described.messages:
            raise Unmet(f"an answer to DescribeNode; what came was {self.described}")
        return read(self.described.messages[0].description, peer_pb2.NodeDescription())

    @cached_property
    def nobody(self) -> Asked:
        """A search for a print that nobody has."""
        return self.ask(self.statement(self.stranger))

    @cached_property
    def somebody(self) -> Asked:
        """A search for a print that the node has; use `found`."""
        if self._probe is None:
            raise Unmet("--probe: a print of somebody whom the node has")
        return self.ask(self.statement(self._probe))

    @property
    def found(self) -> peer_pb2.Answer:
        """The answer to `somebody`; `Unmet` where it has no candidates."""
        answer = self.somebody.answer
        if not answer.candidates:
            outcome = outcome_name(answer.outcome)
            raise Unmet(
                f"a probe whose mate the node has, and a law that permits it; its answer was {outcome}"
            )
        return answer

    @cached_property
    def concluded(self) -> Concluded:
        """The conclusion on the first candidate of `found`."""
        reference = self.found.candidates[0].reference
        return self.conclude(self.confirmation(self.somebody.search.request_id, reference))

    @cached_property
    def exchanged(self) -> Reply:
        """The first exchange of heads."""
        return self.exchange(self.head().payload())


def sealed(kind: str, statement: Message, signer: Signer) -> types_pb2.Signed:
    """Return a statement with its signature."""
    return signed_bytes(kind, statement.SerializeToString(deterministic=True), signer)


def signed_bytes(kind: str, data: bytes, signer: Signer) -> types_pb2.Signed:
    """Return bytes with a signature, whatever they are."""
    certificate, value = signer.sign(kind, data)
    return types_pb2.Signed(statement=data, certificate=certificate, signature=value)


def moment(stated: Timestamp) -> datetime:
    """Return a time of the contract, UTC; the first of all for one that no calendar has."""
    try:
        return datetime.fromtimestamp(stated.seconds + stated.nanos / 1e9, UTC)
    except (OverflowError, ValueError, OSError):
        return datetime.min.replace(tzinfo=UTC)


def outcome_name(number: int) -> str:
    """Return the name of an outcome, or its number where the contract has none."""
    value = peer_pb2.DESCRIPTOR.enum_types_by_name["Outcome"].values_by_number.get(number)
    return value.name if value else str(number)
