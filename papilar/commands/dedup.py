"""`papilar dedup`: find persons who are in a gallery twice, list the cases, decide them, undo a merge."""

from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from papilar.api.v1 import duplicates_pb2 as api
from papilar.api.v1 import types_pb2
from papilar.commands.options import Connection, JsonFlag, NodeOption, grouped
from papilar.config import DEFAULT_LISTEN
from papilar.duplicates import FALSE_PER_PRINT, SPEAKS, Case
from papilar.duplicates_client import DuplicatesClient
from papilar.duplicates_server import to_case
from papilar.errors import RequestInvalid
from papilar.node import Node
from papilar.show import add_row, counted, err, message_dict, new_table, out, print_json

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)

Number = Annotated[int, typer.Argument(metavar="CASE", min=1, help="Number of the case, as listed.")]
Note = Annotated[str, typer.Option("--note", help="Why, as a code: SAME_CARD, TWINS. No names.")]

_NAMES = ("case", "kind", "subject", "other subject")
_COLUMNS = (*_NAMES, "log10 LR", "band", "for", "against", "state", "merge")
_PATIENT = Connection(timeout=86_400.0)  # a whole gallery may take hours


@app.callback()
def root() -> None:
    """Find persons who are in a gallery twice. An examiner decides what a case means."""


@app.command()
@grouped
def run(
    *,
    node: NodeOption = DEFAULT_LISTEN,
    gallery: Annotated[
        Path | None, typer.Option("--gallery", help="Gallery folder that no node serves, instead of a node.")
    ] = None,
    target_fpir: Annotated[
        float, typer.Option("--target-fpir", help="Share of searches for one print that may name a stranger.")
    ] = FALSE_PER_PRINT,
    again: Annotated[bool, typer.Option("--again", help="Begin at the first print.")] = False,
    connection: Connection = _PATIENT,
    as_json: JsonFlag = False,
) -> None:
    """Search each print among the others; what is broken off goes on with the next run."""
    if gallery is not None:
        cases = _here(gallery, target_fpir, again=again)
    else:
        request = api.FindDuplicatesRequest(target_fpir=target_fpir, again=again)
        cases = _there(node, connection, request)
    _show(map(_told, cases), as_json=as_json, what="new case")


@app.command("list")
@grouped
def list_cases(
    *,
    node: NodeOption = DEFAULT_LISTEN,
    decided: Annotated[bool, typer.Option("--decided", help="Also those that are decided.")] = False,
    after: Annotated[int, typer.Option("--after", min=0, help="Only cases of a higher number.")] = 0,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1_000, help="Most cases.")] = 100,
    connection: Connection,
    as_json: JsonFlag = False,
) -> None:
    """List the cases that are open."""
    request = api.ListDuplicateCasesRequest(include_decided=decided, after_case_number=after, limit=limit)
    with connection.to(node, DuplicatesClient) as client:
        _show(client.cases(request).cases, as_json=as_json, what="case")


@app.command()
@grouped
def merge(
    *,
    case: Number,
    survivor: Annotated[str, typer.Option("--survivor", help="Whose name stays: one of the two.")],
    note: Note,
    node: NodeOption = DEFAULT_LISTEN,
    connection: Connection,
    as_json: JsonFlag = False,
) -> None:
    """Decide that a case is one person, and give all encounters to one name."""
    request = api.DecideDuplicateCaseRequest(
        case_number=case, decision=api.DUPLICATE_STATE_MERGED, subject_id=survivor, note=note
    )
    with connection.to(node, DuplicatesClient) as client:
        _show([client.decide(request).case], as_json=as_json, what="case")


@app.command()
@grouped
def distinct(
    *,
    case: Number,
    note: Note,
    node: NodeOption = DEFAULT_LISTEN,
    connection: Connection,
    as_json: JsonFlag = False,
) -> None:
    """Decide that a case is two persons, or that nothing is to be done."""
    request = api.DecideDuplicateCaseRequest(
        case_number=case, decision=api.DUPLICATE_STATE_DISTINCT, note=note
    )
    with connection.to(node, DuplicatesClient) as client:
        _show([client.decide(request).case], as_json=as_json, what="case")


@app.command()
@grouped
def unmerge(
    *,
    merge_id: Annotated[str, typer.Argument(metavar="MERGE", help="UUID of the merge, as listed.")],
    note: Note,
    node: NodeOption = DEFAULT_LISTEN,
    connection: Connection,
) -> None:
    """Undo a merge: what it moved has its first name again."""
    with connection.to(node, DuplicatesClient) as client:
        client.unmerge(api.UnmergeSubjectsRequest(merge_id=merge_id, note=note))
    out.print("the merge is undone; its case is open again")


def _here(gallery: Path, rate: float, *, again: bool) -> Iterator[api.DuplicateCase]:
    if not gallery.is_dir():
        raise RequestInvalid(f"{gallery} is no folder", remedy="give the gallery's folder, or --node")
    with Node(gallery) as node, closing(node.duplicates.find(rate=rate, again=again)) as found:
        for one in found:
            if isinstance(one, Case):
                yield to_case(one, node.duplicates.owners([one]))


def _there(
    node: str, connection: Connection, request: api.FindDuplicatesRequest
) -> Iterator[api.DuplicateCase]:
    with connection.to(node, DuplicatesClient) as client:
        for answer in client.find(request):
            if answer.WhichOneof("outcome") == "case":
                yield answer.case


def _told(case: api.DuplicateCase) -> api.DuplicateCase:
    """Say at once, beside the output, that there is a case: a whole run may take hours."""
    err.print(f"case {case.case_number}: {_word(api.DuplicateKind.Name(case.kind))}", highlight=False)
    return case


def _show(cases: Iterable[api.DuplicateCase], *, as_json: bool, what: str) -> None:
    cases = list(cases)
    if as_json:
        print_json([message_dict(case) for case in cases])
        return
    table = new_table(counted(len(cases), what), *_COLUMNS)
    for case in cases:
        add_row(table, *_row(case))
    out.print(table)


def _row(case: api.DuplicateCase) -> tuple[str, ...]:
    agreeing, against = (sum(sign * pair.score >= SPEAKS for pair in case.pairs) for sign in (1, -1))
    return (
        str(case.case_number),
        _word(api.DuplicateKind.Name(case.kind)),
        case.subject_id,
        case.other_subject_id,
        f"{case.score:.1f}",
        types_pb2.Band.Name(case.band).removeprefix("BAND_").lower(),
        str(agreeing),
        str(against),
        _word(api.DuplicateState.Name(case.state)),
        case.merge_id,
    )


def _word(name: str) -> str:
    """Return a word of the contract for people: DUPLICATE_KIND_ONE_PRINT is `one print`."""
    return " ".join(name.split("_")[2:]).lower()
