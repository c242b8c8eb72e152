"""Nodes that break one rule each: what is made of a sound node and its seal, and answers in its place."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from google.protobuf.unknown_fields import UnknownFieldSet

from papilar.api.peer.v1 import peer_pb2, types_pb2
from papilar.audit import merkle
from papilar.audit.heads import TreeHead, read_payload
from papilar.conformance.prints import with_chunk
from papilar.errors import IdentityPresent, ReferenceUnknown, RequestInvalid
from papilar.exchange.asked import AskedNode
from papilar.exchange.seal import seal, stamp
from papilar.signing import Signer


class Broken:
    """Passes everything on to the sound node."""

    def __init__(self, asked: AskedNode, signer: Signer) -> None:
        self.asked, self.signer = asked, signer

    def __getattr__(self, name: str) -> Any:
        return getattr(self.asked, name)


Change = Callable[[peer_pb2.Answer], None]


def answers(change: Change, *, hits: bool = False) -> type[Broken]:
    """A node whose answers are changed and sealed again; `hits` those with candidates alone."""

    class Changed(Broken):
        def search(self, signed: types_pb2.Signed, peer: str) -> Iterator[Any]:
            for one in self.asked.search(signed, peer):
                if isinstance(one, types_pb2.Signed):
                    answer = peer_pb2.Answer.FromString(one.statement)
                    if not hits or answer.candidates:
                        change(answer)
                    yield seal("answer", answer, self.signer)
                else:
                    yield one

    return Changed


def receipts(change: Callable[[peer_pb2.Receipt], None]) -> type[Broken]:
    class Changed(Broken):
        def confirm(self, signed: types_pb2.Signed, peer: str) -> types_pb2.Signed:
            receipt = peer_pb2.Receipt.FromString(self.asked.confirm(signed, peer).statement)
            change(receipt)
            return seal("receipt", receipt, self.signer)

    return Changed


def described(change: Callable[[peer_pb2.NodeDescription], None]) -> type[Broken]:
    class Changed(Broken):
        def describe(self, peer: str) -> types_pb2.Signed:
            said = peer_pb2.NodeDescription.FromString(self.asked.describe(peer).statement)
            change(said)
            return seal("description", said, self.signer)

    return Changed


def counted(change: Callable[[peer_pb2.Statistics], None]) -> type[Broken]:
    class Changed(Broken):
        def statistics(self, month: str, peer: str) -> types_pb2.Signed:
            said = peer_pb2.Statistics.FromString(self.asked.statistics(month, peer).statement)
            change(said)
            return seal("statistics", said, self.signer)

    return Changed


def _kit_signer(kit: Any, stem: str) -> Signer:
    return Signer.load(kit / "home" / f"{stem}.pem", kit / "home" / f"{stem}.key")


def lenient(kit: Any, mend: Callable[[peer_pb2.Search], bool]) -> type[Broken]:
    """A node that takes a flaw: `mend` says whether a search has it, and takes it out."""

    class Lenient(Broken):
        def search(self, signed: types_pb2.Signed, peer: str) -> Iterator[Any]:
            try:
                search = peer_pb2.Search.FromString(signed.statement)
            except Exception:
                search = peer_pb2.Search()
            signer = _kit_signer(kit, "seal")
            if signed.certificate == signer.sign("search", b"").certificate and mend(search):
                signed = seal("search", search, signer)
            yield from self.asked.search(signed, peer)

    return Lenient


# ---- flaws that a lenient node takes


def unknown_field(search: peer_pb2.Search) -> bool:
    if not len(UnknownFieldSet(search)):
        return False
    search.DiscardUnknownFields()
    return True


def text_in_png(search: peer_pb2.Search) -> bool:
    for one in search.prints:
        at = one.image.find(b"tEXt")
        if at > 0:
            length = int.from_bytes(one.image[at - 4 : at], "big")
            one.image = one.image[: at - 4] + one.image[at + 8 + length :]
            return True
    return False


def clock(minutes: int) -> Callable[[peer_pb2.Search], bool]:
    def mend(search: peer_pb2.Search) -> bool:
        off = search.create_time.seconds - datetime.now(UTC).timestamp()
        wrong = off * minutes > 0 and abs(off) > 300 and search.create_time.seconds > 0
        if wrong:
            search.create_time.CopyFrom(stamp(datetime.now(UTC)))
        return wrong

    return mend


def field(name: str, good: Any, bad: Callable[[Any], bool]) -> Callable[[peer_pb2.Search], bool]:
    def mend(search: peer_pb2.Search) -> bool:
        value = getattr(search, name)
        found = bool(search.request_id) and bad(value)
        if found and name in ("files", "roles"):
            search.ClearField(name)  # type: ignore[arg-type]
            value = getattr(search, name)
            value.extend(good)
        elif found:
            setattr(search, name, good)
        return found

    return mend


# ---- nodes of their own


class TamperedAnswer(Broken):
    def search(self, signed: types_pb2.Signed, peer: str) -> Iterator[Any]:
        for one in self.asked.search(signed, peer):
            if isinstance(one, types_pb2.Signed):
                one.signature = bytes([one.signature[0] ^ 1]) + one.signature[1:]
            yield one


class OtherKind(Broken):
    """Seals its answers as another kind of statement."""

    def search(self, signed: types_pb2.Signed, peer: str) -> Iterator[Any]:
        for one in self.asked.search(signed, peer):
            sealed = isinstance(one, types_pb2.Signed)
            yield seal("receipt", peer_pb2.Answer.FromString(one.statement), self.signer) if sealed else one


class SecondEffect(Broken):
    """Answers what comes again anew."""

    def __init__(self, asked: AskedNode, signer: Signer) -> None:
        super().__init__(asked, signer)
        self.seen: set[bytes] = set()

    def search(self, signed: types_pb2.Signed, peer: str) -> Iterator[Any]:
        again = signed.statement in self.seen
        self.seen.add(signed.statement)
        for one in self.asked.search(signed, peer):
            if again and isinstance(one, types_pb2.Signed):
                answer = peer_pb2.Answer.FromString(one.statement)
                answer.create_time.CopyFrom(stamp(datetime.now(UTC)))
                yield seal("answer", answer, self.signer)
            else:
                yield one


class Strict(Broken):
    """Takes no pseudonym of 63 letters."""

    def search(self, signed: types_pb2.Signed, peer: str) -> Iterator[Any]:
        if b"a-0a-0a-0" in signed.statement:
            raise RequestInvalid("a long name", remedy="send a short one")
        yield from self.asked.search(signed, peer)


def nonsense(answer: peer_pb2.Answer) -> None:
    """Leave nothing of an answer as a program would expect it."""
    answer.create_time.seconds = answer.erasure.time.seconds = 1 << 62
    answer.outcome = 77  # type: ignore[assignment]
    answer.code = "\x1b[2J[red]"
    del answer.erasure.print_sha256[:]
    answer.log.head.statement = b"[]"
    answer.log.leaf_hash = b"x"
    answer.log.index = 1 << 63
    for one in answer.candidates:
        one.expire_time.seconds = -(1 << 62)
        one.score = float("nan")
        for met in one.prints:
            met.print.image = b"\x89PNG\r\n\x1a\n" + bytes(40)


class Garbage(Broken):
    """Signs bytes that are no messages."""

    def _garbage(self, kind: str) -> types_pb2.Signed:
        certificate, value = self.signer.sign(kind, b"\xff" * 9)
        return types_pb2.Signed(statement=b"\xff" * 9, certificate=certificate, signature=value)

    def describe(self, peer: str) -> types_pb2.Signed:
        return self._garbage("description")

    def search(self, signed: types_pb2.Signed, peer: str) -> Iterator[Any]:
        yield self._garbage("answer")

    def confirm(self, signed: types_pb2.Signed, peer: str) -> types_pb2.Signed:
        return self._garbage("receipt")

    def statistics(self, month: str, peer: str) -> types_pb2.Signed:
        return self._garbage("statistics")


class Silent(Broken):
    """Sends no progress."""

    def search(self, signed: types_pb2.Signed, peer: str) -> Iterator[Any]:
        yield from (one for one in self.asked.search(signed, peer) if isinstance(one, types_pb2.Signed))


class AcceptsTwice(Broken):
    """Takes a second conclusion on a reference."""

    def __init__(self, asked: AskedNode, signer: Signer) -> None:
        super().__init__(asked, signer)
        self.taken: dict[str, types_pb2.Signed] = {}

    def confirm(self, signed: types_pb2.Signed, peer: str) -> types_pb2.Signed:
        said = peer_pb2.Confirmation.FromString(signed.statement)
        try:
            receipt = self.asked.confirm(signed, peer)
        except ReferenceUnknown:
            if peer != "XTA" or said.reference not in self.taken:
                raise
            return self.taken[said.reference]
        self.taken[said.reference] = receipt
        return receipt


class TellsWhy(Broken):
    """Says that a reference is another country's."""

    def confirm(self, signed: types_pb2.Signed, peer: str) -> types_pb2.Signed:
        try:
            return self.asked.confirm(signed, peer)
        except ReferenceUnknown as error:
            if peer != "XTB":
                raise
            self.calls = getattr(self, "calls", 0) + 1
            why = "the reference is of another country" if self.calls == 1 else error.cause
            raise ReferenceUnknown(why, remedy="ask anew") from None


class UnknownFieldInConfirmation(Broken):
    """Drops what it does not know of a conclusion, and does not know the reference."""

    def confirm(self, signed: types_pb2.Signed, peer: str) -> types_pb2.Signed:
        try:
            return self.asked.confirm(signed, peer)
        except IdentityPresent:
            raise ReferenceUnknown("there is no such reference", remedy="search again") from None


class Head(Broken, ABC):
    """Offers another head than its own when heads are exchanged."""

    @abstractmethod
    def other(self, head: TreeHead) -> TreeHead:
        """The head that is offered for its own."""

    def exchange_heads(
        self, request: peer_pb2.ExchangeHeadsRequest, peer: str
    ) -> peer_pb2.ExchangeHeadsResponse:
        response = self.asked.exchange_heads(request, peer)
        payload = self.other(read_payload(response.head.statement)).payload()
        certificate, value = self.signer.sign("log_head", payload)
        response.head.CopyFrom(types_pb2.Signed(statement=payload, certificate=certificate, signature=value))
        return response


class RolledBack(Head):
    def other(self, head: TreeHead) -> TreeHead:
        return TreeHead(head.log_id, 1, bytes(32), head.time)


class Forked(Head):
    def other(self, head: TreeHead) -> TreeHead:
        return TreeHead(head.log_id, head.size, merkle.leaf_hash(head.root), head.time)


class ForgetsHeads(Broken):
    def exchange_heads(
        self, request: peer_pb2.ExchangeHeadsRequest, peer: str
    ) -> peer_pb2.ExchangeHeadsResponse:
        response = self.asked.exchange_heads(request, peer)
        response.known_size = 0
        return response


class BelievesExpired(Broken):
    """Takes what an expired seal has signed, and signs it with a good one."""

    kit: Any = None

    def search(self, signed: types_pb2.Signed, peer: str) -> Iterator[Any]:
        expired = _kit_signer(self.kit, "seal-expired").sign("search", b"").certificate
        if signed.certificate == expired:
            search = peer_pb2.Search.FromString(signed.statement)
            signed = seal("search", search, _kit_signer(self.kit, "seal"))
        yield from self.asked.search(signed, peer)


def believing_expired(kit: Any) -> type[Broken]:
    return type("Believing", (BelievesExpired,), {"kit": kit})


# ---- changes of an answer


def other_hash(answer: peer_pb2.Answer) -> None:
    answer.search_sha256 = bytes(32)


def other_request(answer: peer_pb2.Answer) -> None:
    answer.request_id = "0b9d1f62-6a3f-4f3c-9a40-6a2f0d3c1e55"


def other_country(answer: peer_pb2.Answer) -> None:
    answer.asking_country = "XTB"


def no_padding(answer: peer_pb2.Answer) -> None:
    answer.ClearField("padding")


def filled_padding(answer: peer_pb2.Answer) -> None:
    answer.padding = b"\1" * len(answer.padding)


def wrong_path(answer: peer_pb2.Answer) -> None:
    answer.log.path.append(bytes(32))


def same_entry(answer: peer_pb2.Answer) -> None:
    answer.log.index = 0


def old(answer: peer_pb2.Answer) -> None:
    answer.create_time.seconds -= 3600


def other_erasure(answer: peer_pb2.Answer) -> None:
    for place in range(len(answer.erasure.print_sha256)):
        answer.erasure.print_sha256[place] = bytes(32)


def other_law(answer: peer_pb2.Answer) -> None:
    answer.policy_sha256 = bytes(32)


def worst_first(answer: peer_pb2.Answer) -> None:
    worse = answer.candidates.add()
    worse.CopyFrom(answer.candidates[0])
    worse.score += 1
    worse.reference = ("0" if worse.reference[0] != "0" else "1") + worse.reference[1:]
    pad = len(answer.candidates[1].SerializeToString()) + 4
    answer.padding = answer.padding[: len(answer.padding) - pad]


def text_in_candidate(answer: peer_pb2.Answer) -> None:
    shown = answer.candidates[0].prints[0].print
    before = len(shown.image)
    shown.image = with_chunk(shown.image, b"tEXt")
    answer.padding = answer.padding[: len(answer.padding) - (len(shown.image) - before)]


def short_reference(answer: peer_pb2.Answer) -> None:
    answer.candidates[0].reference = answer.candidates[0].reference[:-1] + "="
