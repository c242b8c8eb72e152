"""`papilar review`: look through the calls of a node's users, and close what was found.

`papilar review watch` is to run every hour or so. Exit codes: 0 done; 1 there is something new to look at.
"""

from contextlib import closing
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from papilar.commands.options import JsonFlag
from papilar.show import add_row, counted, new_table, out, print_json, printable, show_pairs
from papilar.store.review import Closing, Review, ReviewStore
from papilar.watch import Thresholds, findings

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)

Gallery = Annotated[str, typer.Argument(metavar="GALLERY", help="Gallery folder, or the data base's URL.")]
Number = Annotated[int, typer.Argument(metavar="NUMBER", min=1, help="Of the finding, as listed.")]


@app.callback()
def root() -> None:
    """Watch the calls of a node's users for misuse. A person decides what a finding means."""


@app.command()
def watch(gallery: Gallery, as_json: JsonFlag = False) -> None:
    """Look through the calls of the last weeks, queue what is found, and forget older calls."""
    thresholds = Thresholds()
    since = datetime.now(UTC) - thresholds.window
    with closing(ReviewStore.open(gallery)) as store:
        calls = store.calls(since)
        new = store.keep(findings(calls, thresholds=thresholds))
        forgotten = store.forget(since)
    seen = {"calls": len(calls), "new findings": new, "calls forgotten": forgotten}
    print_json(seen) if as_json else show_pairs("watch", seen)
    raise typer.Exit(1 if new else 0)


@app.command("list")
def list_findings(
    gallery: Gallery,
    closed: Annotated[bool, typer.Option("--closed", help="Also those that are closed.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """List the findings that are open."""
    with closing(ReviewStore.open(gallery)) as store:
        found = store.reviews(closed=closed)
    if as_json:
        print_json([_dict(review) for review in found])
        return
    columns = ("number", "kind", "officer", "since", "until", "count", "why", "state")
    table = new_table(counted(len(found), "finding"), *columns)
    for values in map(_dict, found):
        add_row(table, *(values[column] for column in columns))
    out.print(table)


@app.command()
def show(gallery: Gallery, number: Number, as_json: JsonFlag = False) -> None:
    """Show a finding, and who closed it."""
    with closing(ReviewStore.open(gallery)) as store:
        _show(store.review(number), as_json=as_json)


@app.command()
def close(
    gallery: Gallery,
    number: Number,
    by: Annotated[str, typer.Option("--by", help="Pseudonym of who closes it; not of whom it is about.")],
    note: Annotated[str, typer.Option("--note", help="What was found out. No names.")],
    as_json: JsonFlag = False,
) -> None:
    """Close a finding that was looked into."""
    with closing(ReviewStore.open(gallery)) as store:
        _show(store.close_review(number, Closing(by, datetime.now(UTC), note)), as_json=as_json)


def _show(review: Review, *, as_json: bool) -> None:
    values = _dict(review)
    print_json(values) if as_json else show_pairs(f"finding {review.number}", values)


def _dict(review: Review) -> dict[str, Any]:
    finding, closed = review.finding, review.closed
    values = {
        "number": review.number,
        "kind": str(finding.kind),
        "officer": finding.officer,
        "since": f"{finding.since:%Y-%m-%d %H:%M:%S}",
        "until": f"{finding.until:%Y-%m-%d %H:%M:%S}",
        "count": finding.count,
        "why": finding.why,
        "state": "closed" if closed else "open",
    }
    if closed:
        values |= {"closed by": closed.by, "closed": f"{closed.at:%Y-%m-%d %H:%M:%S}"}
        values |= {"note": printable(closed.note)}
    return values
