"""Cases of what no message may carry: a name has no room, in a statement or in a print."""

from collections.abc import Callable, Iterator
from itertools import chain

from papilar.api.peer.v1 import types_pb2
from papilar.conformance import prints
from papilar.conformance.bench import Bench, signed_bytes
from papilar.conformance.verdict import Case, Check, refused
from papilar.exchange.seal import has_unknown_fields

_IDENTITY, _IMAGE = "types.proto: No identity", "Print.image"
_PRESENT = "INVALID_ARGUMENT IDENTITY_PRESENT"
_ALLOWED = {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"pHYs", b"gAMA", b"sBIT"}
_NO_REFERENCE = "A" * 43


def _in_search(bench: Bench) -> Iterator[Check]:
    data = prints.unknown_field(bench.statement().SerializeToString(deterministic=True))
    reply = bench.send(signed_bytes("search", data, bench.home.signer()))
    yield refused("a search with the unknown field 99", reply, _PRESENT)


def _in_print(bench: Bench) -> Iterator[Check]:
    search = bench.statement()
    search.prints[0].MergeFromString(prints.unknown_field(b""))
    yield refused("a search whose print has the unknown field 99", bench.ask(search).reply, _PRESENT)


def _in_confirmation(bench: Bench) -> Iterator[Check]:
    said = bench.confirmation(bench.statement().request_id, _NO_REFERENCE)
    data = prints.unknown_field(said.SerializeToString(deterministic=True))
    signed = signed_bytes("confirmation", data, bench.home.signer("user-examiner-sign"))
    yield refused("a conclusion with the unknown field 99", bench.confirm(signed), _PRESENT)


def _with_print(what: str, make: Callable[[], types_pb2.Print]) -> Callable[[Bench], Iterator[Check]]:
    def run(bench: Bench) -> Iterator[Check]:
        yield refused(f"a search with {what}", bench.ask(bench.statement(make())).reply, _PRESENT)

    return run


def _chunks(bench: Bench) -> Iterator[Check]:
    for kind in prints.CHUNKS:
        sent = prints.image(prints.with_chunk(prints.tiny_png(), kind))
        reply = bench.ask(bench.statement(sent)).reply
        yield refused(f"a PNG with a chunk {kind.decode()}", reply, _PRESENT)


def _of_the_node(bench: Bench) -> Iterator[Check]:
    answers = [("a search", bench.nobody.answer)]
    answers.append(("DescribeNode", bench.description))  # type: ignore[arg-type]
    for what, answer in answers:
        came = "a field that is not known" if has_unknown_fields(answer) else "none"
        yield Check(came == "none", what, "no field that the contract does not know", came)


def _of_candidates(bench: Bench) -> Iterator[Check]:
    met = chain.from_iterable(candidate.prints for candidate in bench.found.candidates)
    for one in met:
        if one.print.image:
            kinds = _kinds(one.print.image)
            more = b" ".join(sorted(set(kinds) - _ALLOWED)).decode("ascii", "replace")
            whole = bool(kinds) and kinds[-1] == b"IEND"
            came = f"chunks {more}" if more else ("no PNG" if not whole else "no more")
            wanted = "a PNG with the chunks that the contract lists, and no more"
            yield Check(came == "no more", "a search that finds somebody", wanted, came)


def _kinds(png: bytes) -> list[bytes]:
    """Return the kinds of a PNG's chunks, and `tail` where bytes follow its end."""
    at, kinds = 8, list[bytes]()
    while at + 12 <= len(png) and (not kinds or kinds[-1] != b"IEND"):
        kinds.append(png[at + 4 : at + 8])
        at += 12 + int.from_bytes(png[at : at + 4], "big")
    return kinds if at == len(png) else [*kinds, b"tail"]


CASES = (
    Case("identity.unknown_field", _IDENTITY, _in_search, searches=1),
    Case("identity.unknown_field_in_print", _IDENTITY, _in_print, searches=1),
    Case("identity.unknown_field_in_confirmation", _IDENTITY, _in_confirmation),
    Case("identity.png_chunk", _IMAGE, _chunks, searches=len(prints.CHUNKS)),
    Case(
        "identity.png_tail",
        _IMAGE,
        _with_print("a PNG that goes on behind its end", lambda: prints.image(prints.tiny_png() + b"X")),
        searches=1,
    ),
    Case(
        "identity.template_extended",
        "Print.template",
        _with_print(
            "a template with extended data",
            lambda: types_pb2.Print(position=2, template=prints.template_with_extended_data()),
        ),
        searches=1,
    ),
    Case("identity.of_the_node", _IDENTITY, _of_the_node),
    Case("identity.of_candidates", "CandidatePrint.print", _of_candidates),
)
"""Identity."""
