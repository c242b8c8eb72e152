"""Cases of what a search may say, and of what comes again."""

from collections.abc import Callable, Iterator
from math import nan
from typing import Any

from papilar.api.peer.v1 import peer_pb2, types_pb2
from papilar.conformance import prints
from papilar.conformance.bench import Asked, Bench, moment, read, sealed, signed_bytes
from papilar.conformance.verdict import Case, Check, equal, refused
from papilar.exchange.seal import stamp

_INVALID = "INVALID_ARGUMENT REQUEST_INVALID"
_REPEATS = "types.proto: Repeats"

Run = Callable[[Bench], Iterator[Check]]


def _outside(field: str, *values: Any) -> Case:
    """Return the case that a field with each of these values is refused."""

    def run(bench: Bench) -> Iterator[Check]:
        for value in values:
            reply = bench.ask(bench.statement(**{field: value})).reply
            yield refused(f"a search whose {field} is {value!r}", reply, _INVALID)

    return Case(f"search.{field}", f"Search.{field}", run, searches=len(values))


def _a_print(
    name: str, clause: str, make: Callable[[], types_pb2.Print], *wanted: str, where: str = "1"
) -> Case:
    """Return the case that a search whose second print is this one is refused, and says which it is."""

    def run(bench: Bench) -> Iterator[Check]:
        reply = bench.ask(bench.statement(prints.image(prints.tiny_png()), make())).reply
        yield refused(f"a search whose second print has {name.replace('_', ' ')}", reply, *wanted)
        if where and reply.reason != "REQUEST_INVALID":
            yield Check(where in reply.text, "a second print that is none", "its index, 1", reply.text)

    return Case(f"search.print_{name}", clause, run, searches=1)


def _widest(bench: Bench) -> Iterator[Check]:
    """Ask with all that the alphabets and bounds give room for."""
    search = bench.statement(
        officer="a-0" * 21,
        ordering_officer="z-9" * 21,
        roles=[types_pb2.ROLE_OFFICER, types_pb2.ROLE_EXAMINER],
        reason="A_Z0" * 8,
        case_reference="AZ09-/.." * 8,
        target_fpir=0.1,
    )
    reply = bench.ask(search).reply
    yield Check(reply.answer is not None, "a search with the longest texts", "an answer", str(reply))


def _too_many_prints(bench: Bench) -> Iterator[Check]:
    tiny = prints.image(prints.tiny_png())
    for count in (0, 41):
        search = bench.statement(tiny)
        del search.prints[:]
        search.prints.extend([tiny] * count)
        yield refused(f"a search with {count} prints", bench.ask(search).reply, _INVALID)


def _garbage(bench: Bench) -> Iterator[Check]:
    signed = signed_bytes("search", b"\xff" * 20, bench.home.signer())
    yield refused("a sealed statement that is no Search", bench.send(signed), _INVALID)


def _answered(bench: Bench) -> Iterator[Check]:
    reply = bench.nobody.reply
    steps = [one for one in reply.messages if one.WhichOneof("message") == "progress"]
    wanted = "progress, then one answer, which ends the stream"
    came = " ".join(one.WhichOneof("message") or "nothing" for one in reply.messages) or str(reply)
    sound = reply.answer is not None and len(steps) == len(reply.messages) - 1 and bool(steps)
    yield Check(reply.code == "OK" and sound, "a search", wanted, came)
    for one in steps:
        yield equal("a search", "request_id", bench.nobody.search.request_id, one.progress.request_id)


def _same(bench: Bench, asked: Asked, reply: Any, what: str) -> Check:
    first = read(asked.sealed, peer_pb2.Answer())
    if reply.answer is None:
        return Check(False, what, "the first answer", str(reply))
    again = read(reply.answer, peer_pb2.Answer())
    return Check(reply.answer.statement == asked.sealed.statement, what, _place(first), _place(again))


def _place(answer: peer_pb2.Answer) -> str:
    return f"the answer of {moment(answer.create_time):%H:%M:%S.%f}, entry {answer.log.index}"


def _same_bytes(bench: Bench) -> Iterator[Check]:
    _ = bench.nobody.sealed
    yield _same(bench, bench.nobody, bench.send(bench.nobody.signed), "the same bytes once more")


def _signed_anew(bench: Bench) -> Iterator[Check]:
    first, again = bench.nobody, peer_pb2.Search()
    _ = first.sealed
    again.CopyFrom(first.search)
    again.create_time.CopyFrom(stamp(bench.clock()))
    yield _same(bench, first, bench.ask(again).reply, "the same search, signed anew")


def _conflict(bench: Bench) -> Iterator[Check]:
    first = bench.nobody
    _ = first.sealed
    other = peer_pb2.Search()
    other.CopyFrom(first.search)
    other.case_reference = "KIT/2"
    reply = bench.ask(other).reply
    yield refused("the request_id once more, for another case", reply, "ALREADY_EXISTS REQUEST_CONFLICT")


def _of_another(bench: Bench) -> Iterator[Check]:
    _ = bench.nobody.sealed
    search = bench.statement(party=bench.abroad, request_id=bench.nobody.search.request_id)
    signed = sealed("search", search, bench.abroad.signer())
    reply = bench.send(signed, bench.abroad)
    came = str(reply)
    if reply.answer is not None:
        came = f"an answer to {read(reply.answer, peer_pb2.Answer()).asking_country}"
    wanted = f"an answer to {bench.abroad.country}"
    yield Check(came == wanted, "the request_id of another country's search", wanted, came)


CASES = (
    Case("search.answered", "PeerService.Search", _answered),
    Case("search.widest", "types.proto: Text", _widest, searches=1),
    Case("search.no_search", "SearchRequest.search", _garbage, searches=1),
    _outside("request_id", "1", "0B9D1F62-6A3F-4F3C-9A40-6A2F0D3C1E55"),
    _outside("officer", "", "a b", "a" * 64),
    _outside("ordering_officer", "A", "a" * 64),
    _outside("reason", "", "a b", "A" * 33),
    _outside("case_reference", "", "a b", "A" * 65),
    _outside("roles", [0]),
    _outside("purpose", 0, 99),
    _outside("offence_class", 0, 99),
    _outside("legal_basis", 0, 99),
    _outside("search_type", 0, 99),
    _outside("files", [], [0], [99]),
    _outside("target_fpir", 0.0, 0.11, nan),
    _outside("limit", 0),
    Case("search.prints", "Search.prints", _too_many_prints, searches=2),
    _a_print("position_11", "Print.position", lambda: _changed(position=11), _INVALID),
    _a_print("no_data", "Print.data", lambda: types_pb2.Print(position=2, ppi=500), _INVALID),
    _a_print(
        "no_resolution", "Print.ppi", lambda: _changed(ppi=0), "INVALID_ARGUMENT RESOLUTION_*", _INVALID
    ),
    _a_print(
        "half_an_image",
        "types.proto: IMAGE_*",
        lambda: prints.image(prints.tiny_png()[:60]),
        "INVALID_ARGUMENT IMAGE_*",
    ),
    _a_print(
        "no_template",
        "types.proto: TEMPLATE_*",
        lambda: types_pb2.Print(position=2, template=b"FMR\0 20\0" + bytes(20)),
        "INVALID_ARGUMENT TEMPLATE_*",
    ),
    Case("search.same_bytes", _REPEATS, _same_bytes, searches=1),
    Case("search.signed_anew", _REPEATS, _signed_anew, searches=1),
    Case("search.conflict", "REQUEST_CONFLICT", _conflict, searches=1),
    Case("search.id_of_another_country", _REPEATS, _of_another),
)
"""Search."""


def _changed(**fields: Any) -> types_pb2.Print:
    plain: dict[str, Any] = {"position": 2, "ppi": 500, "image": prints.tiny_png()}
    return types_pb2.Print(**plain | fields)
