"""`papilar stats`: counters of the exchange out of a log, of a month: as a table, as JSON, as a page.

With `--peer` they are held against what the other country has signed. Exit code 3: the two do not agree.
"""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from papilar.api.peer.v1 import peer_pb2, types_pb2
from papilar.audit.entry import Entry
from papilar.commands.options import REGION, JsonFlag, NodeOption, Reach, grouped
from papilar.config import DEFAULT_LISTEN
from papilar.errors import RequestInvalid
from papilar.exchange.statistics import Difference, compare, entries_of, stated_rows
from papilar.files import write_file
from papilar.picture.statistics import statistics_page
from papilar.region_client import RegionClient
from papilar.show import new_table, out, print_json
from papilar.statistics import (
    Row,
    confirmation_rate,
    count,
    month_of,
    months_to,
    own_countries,
    reciprocity,
    suppress,
)
from papilar.store.log import LogStore

DIFFERENT = 3
_COLUMNS = ("searches", "with_candidates", "refused", "quota", "unanswered", "confirmed", "rejected")


@grouped
def stats(
    *,
    gallery: Annotated[str, typer.Argument(metavar="GALLERY", help="Folder with the log, or its URL.")],
    month: Annotated[str, typer.Option(help="Of which month, as 2026-11; by default the last one.")] = "",
    page: Annotated[Path | None, typer.Option(help="Write a page with plots (HTML) to this file.")] = None,
    months: Annotated[int, typer.Option(min=2, max=24, help="How many months the page shows.")] = 12,
    country: Annotated[str, typer.Option(help="Whose log this is, where it cannot be told.")] = "",
    states_refusals: Annotated[
        bool, typer.Option("--states-refusals", help="State how many we refused: only if our law hides none.")
    ] = False,
    whole: Annotated[
        bool, typer.Option("--whole", help="Withhold nothing. For the country itself; not to be passed on.")
    ] = False,
    as_json: JsonFlag = False,
    peer: Annotated[str, typer.Option(help="Hold our counters against what this country has signed.")] = "",
    node: NodeOption = DEFAULT_LISTEN,
    connection: Reach = REGION,
) -> None:
    """Count a month of the exchange by pair of countries and type of search, out of the log."""
    wanted = months_to(month or months_to(month_of(datetime.now(UTC)), 2)[0], months if page else 1)
    with closing(LogStore.open(gallery)) as store:
        entries = list(entries_of(store, wanted))
    own = country or _own(entries)
    rows = [row for each in wanted for row in count(entries, own, each)]
    if peer:
        with connection.client(node, RegionClient) as client:
            theirs = _theirs(client, peer, wanted[-1])
        ours = [row for row in rows if row.month == wanted[-1] and {row.asking, row.asked} == {own, peer}]
        raise typer.Exit(_show_differences(compare(ours, theirs), peer, wanted[-1], as_json=as_json))
    if not whole:
        rows = list(suppress(rows, hides_refusals=() if states_refusals else {own}))
    if page is not None:
        write_file(page, statistics_page(rows, own, wanted, suppressed=not whole).encode())
    last = [row for row in rows if row.month == wanted[-1]]
    print_json(_dict(last, own, wanted[-1])) if as_json else _show(last, own, wanted[-1])


app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
app.command()(stats)


def _own(entries: Sequence[Entry]) -> str:
    found = own_countries(entries)
    if len(found) > 1:
        raise RequestInvalid("the log has entries of several countries", remedy="say whose with --country")
    return next(iter(found), "")


def _theirs(client: RegionClient, peer: str, month: str) -> tuple[Row, ...]:
    """Return what a country has signed of a month; the own node has checked it."""
    signed = types_pb2.Signed.FromString(client.peer_statistics(peer, month).statistics)
    return stated_rows(peer_pb2.Statistics.FromString(signed.statement))


def _show_differences(found: Sequence[Difference], peer: str, month: str, *, as_json: bool) -> int:
    """Show where two sides differ, and return the exit code."""
    if as_json:
        print_json({"peer": peer, "month": month, "differences": [one._asdict() for one in found]})
    elif not found:
        out.print(f"{peer} has signed the same of {month} as our log says", highlight=False)
    else:
        columns = ("asking", "asked", "type", "counter", "our log", "theirs")
        table = new_table(f"Differences with {peer} in {month}", *columns)
        for one in found:
            theirs = "withheld" if one.theirs is None else str(one.theirs)
            kind = one.search_type or "unknown"
            table.add_row(one.asking, one.asked, kind, one.counter.replace("_", " "), str(one.ours), theirs)
        out.print(table)
    return DIFFERENT if found else 0


def _dict(rows: Sequence[Row], country: str, month: str) -> dict[str, Any]:
    peers = sorted({name for row in rows for name in (row.asking, row.asked)} - {country})
    return {
        "country": country,
        "month": month,
        "counters": [asdict(row) for row in rows],
        "peers": {peer: _peer_dict(rows, peer) for peer in peers},
    }


def _peer_dict(rows: Sequence[Row], peer: str) -> dict[str, Any]:
    """Return what the counters with a peer say; of confirmations only those that we made."""
    rate = confirmation_rate([row for row in rows if row.asked == peer])
    return {"reciprocity": reciprocity(rows, peer)._asdict(), "confirmation_rate": rate and rate._asdict()}


def _show(rows: Sequence[Row], country: str, month: str) -> None:
    if not rows:
        out.print(f"nothing was asked in {month}")
        return
    numbers = [name.replace("_", " ") for name in (*_COLUMNS, "median s")]
    title = f"Exchange of {country} in {month}"
    table = new_table(title, "asking", "asked", "type", *numbers, numbers=numbers)
    for row in rows:
        counts = ["—" if (number := getattr(row, name)) is None else str(number) for name in _COLUMNS]
        seconds = "—" if row.median_seconds is None else f"{row.median_seconds:.1f}"
        table.add_row(row.asking, row.asked, row.search_type or "unknown", *counts, seconds)
    out.print(table)
    for peer, said in _dict(rows, country, month)["peers"].items():
        out.print(f"{peer}: {said['reciprocity']['meaning']}", highlight=False)
