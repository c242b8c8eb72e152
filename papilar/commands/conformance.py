"""`papilar peer check` and `papilar peer kit`: hold a node of any make to the contract between countries.

Exit codes of `check`: 0 every case passed; 1 one failed; 2 the arguments are wrong; 3 some were not run.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from papilar.api.peer.v1 import types_pb2
from papilar.commands.options import JsonFlag
from papilar.conformance.bench import Bench
from papilar.conformance.cases import CASES, SHARED_SEARCHES
from papilar.conformance.kit import ABROAD, HOME, make_kit
from papilar.conformance.prints import read_probe
from papilar.conformance.verdict import Case, Group, Result, Verdict, judge
from papilar.errors import NodeUnreachable, RequestInvalid
from papilar.files import read_file
from papilar.show import counted, err, new_table, out, print_json, printable

PASSED, FAILED, SOME_NOT_RUN = 0, 1, 3

app = typer.Typer(no_args_is_help=True)

_COLOURS = {Result.PASS: "green", Result.FAIL: "bold red", Result.NOT_RUN: "yellow"}
_SILENT = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "UNAUTHENTICATED")
_LONGEST = 400  # characters of what came that are shown


@app.command()
def check(
    host: Annotated[str, typer.Argument(metavar="HOST", help="Node under test, HOST:PORT.")],
    country: Annotated[str, typer.Option("--country", help="Its country, ISO 3166-1 alpha-3.")],
    folder: Annotated[
        Path, typer.Option("--kit", help="What `papilar peer kit` made; its trust/ has the node's authority.")
    ],
    probe: Annotated[
        Path | None,
        typer.Option("--probe", help="Image of a print that the node has. [prints/probe.png of the kit]"),
    ] = None,
    only: Annotated[
        list[Group] | None, typer.Option("--only", help="This group of cases alone; may be repeated.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before the searches begin.")] = False,
    timeout: Annotated[
        float, typer.Option("--timeout", min=1, max=600, help="Seconds a call may take.")
    ] = 60,
    as_json: JsonFlag = False,
) -> None:
    """Try on a node what the contract between countries says, case by case."""
    cases = [case for case in CASES if not only or case.group in only]
    image = probe or folder / "prints" / "probe.png"
    mate = read_probe(read_file(image)) if probe or image.exists() else None
    with closing(Bench(host, country, folder, probe=mate, timeout=timeout)) as bench:
        _announce(bench, host, cases)
        if not yes:
            typer.confirm("Go on?", abort=True, err=True)
        verdicts = _run(bench, cases)
    if as_json:
        counts = {str(result): _count(verdicts, result) for result in Result}
        said = {"node": host, "country": country, "searches": bench.searches, "counts": counts}
        print_json(said | {"cases": [one.to_dict() for one in verdicts]})
    else:
        _show(verdicts, bench.searches)
    if _count(verdicts, Result.FAIL):
        raise typer.Exit(FAILED)
    raise typer.Exit(SOME_NOT_RUN if _count(verdicts, Result.NOT_RUN) else PASSED)


@app.command()
def kit(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Made; must not be there.")],
    home: Annotated[str, typer.Option("--country", help="Made-up code of the testing country.")] = HOME,
    abroad: Annotated[str, typer.Option("--second", help="Made-up code of a second country.")] = ABROAD,
) -> None:
    """Make what `check` needs: two made-up countries with good and odd certificates, and a pair of prints."""
    if folder.exists():
        raise RequestInvalid(f"{folder} is there", remedy="give a folder that is not")
    make_kit(folder, at=datetime.now(UTC), home=home, abroad=abroad)
    for what, where in (
        ("add to the trust list of the node under test", folder / "trust" / home),
        ("and, for what is tried in another country's name", folder / "trust" / abroad),
        ("enrol at the node, in its criminal file", folder / "prints" / "enrolled.png"),
        ("put the authority of the node's country beside them", folder / "trust" / "COUNTRY" / "ca.pem"),
    ):
        out.print(f"{what}: {where}", highlight=False, markup=False, soft_wrap=True)


# ---- the run


def _announce(bench: Bench, host: str, cases: Sequence[Case]) -> None:
    """Say how many searches there will be, and of how many; raises `NodeUnreachable` for a silent node."""
    came = bench.described
    if came.code in _SILENT:
        raise NodeUnreachable(
            f"{host} does not describe itself ({came})",
            remedy="check the address, that the node trusts the kit's country, and the kit the node's",
        )
    most = sum(case.searches for case in cases) + SHARED_SEARCHES
    quotas = {one.search_type: one.per_day for one in bench.description.quotas}
    per_day = quotas.get(types_pb2.SEARCH_TYPE_TP_TP, 0)
    told = f"{counted(len(cases), 'case')}, at most {most} searches; {host} permits {per_day} a day."
    err.print(told, highlight=False, markup=False, soft_wrap=True)


def _run(bench: Bench, cases: Iterable[Case]) -> list[Verdict]:
    verdicts = []
    with err.status("") as line:
        for case in cases:
            line.update(case.id)
            verdicts.append(judge(case, bench))
    return verdicts


def _count(verdicts: Iterable[Verdict], result: Result) -> int:
    return sum(one.result is result for one in verdicts)


# ---- what is shown


def _show(verdicts: Sequence[Verdict], searches: int) -> None:
    table = new_table("", "case", "result", "clause", "what")
    for before, one in zip([None, *verdicts], verdicts, strict=False):
        if before is not None and before.case.group is not one.case.group:
            table.add_section()
        colour = _COLOURS[one.result]
        table.add_row(one.case.id, f"[{colour}]{one.result}[/]", escape(one.case.clause), _what(one))
    out.print(table)
    counts = Counter(one.result for one in verdicts)
    told = ", ".join(f"{counts[result]} {result}" for result in Result)
    out.print(f"{told}; {counted(searches, 'call')} of Search", highlight=False)


def _what(one: Verdict) -> str:
    if one.check is None:
        return escape(_short(f"needs {one.needs}")) if one.needs else ""
    said = {"sent": one.check.sent, "must come": one.check.wanted, "came": one.check.came}
    return "\n".join(f"[bold]{word}[/] {escape(_short(text))}" for word, text in said.items())


def _short(text: str) -> str:
    return printable(text if len(text) <= _LONGEST else text[:_LONGEST] + " ...")
