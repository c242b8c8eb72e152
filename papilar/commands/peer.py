"""`papilar peer`: the searches of other countries that wait for a person, and the decision on one.

It works on the store of the settings' [peer], while the node is at work or not.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from papilar.audit.entry import moment
from papilar.audit.log import AuditLog
from papilar.commands.options import JsonFlag
from papilar.config import load_config
from papilar.errors import ConfigInvalid
from papilar.exchange import approvals
from papilar.show import add_row, new_table, out, print_json
from papilar.store.exchange import Approval, ExchangeStore
from papilar.store.log import LogStore

app = typer.Typer(
    no_args_is_help=True, help="Searches of other countries that a person of this one must agree to."
)

Config = Annotated[Path, typer.Option("--config", help="Settings of the node, TOML, with [peer].")]


@app.command()
def pending(
    config: Config,
    as_json: JsonFlag = False,
) -> None:
    """List what waits, the oldest first."""
    with _opened(config) as (store, _):
        waiting = [_told(one) for one in approvals.pending(store)]
    if as_json:
        print_json({"waiting": waiting})
        return
    table = new_table("", "request", "country", "asked", "purpose", "files", "case")
    for one in waiting:
        files = " ".join(one["waiting"])
        add_row(table, one["request_id"], one["peer"], one["asked"], one["purpose"], files, one["case"])
    out.print(table if waiting else "nothing waits")


@app.command()
def approve(
    config: Config,
    request_id: Annotated[str, typer.Argument(metavar="REQUEST", help="As `papilar peer pending` shows it.")],
    person: Annotated[str, typer.Option("--person", help="Pseudonym of who decides.")],
    why: Annotated[str, typer.Option("--why", help="Why, in one line; it goes into the log.")],
    refuse: Annotated[bool, typer.Option("--refuse", help="Refuse it instead.")] = False,
    country: Annotated[str, typer.Option("--country", help="Who asks, where two chose one request.")] = "",
) -> None:
    """Agree to a search, or refuse it. The asking country sends it again and gets the answer."""
    with _opened(config) as (store, log):
        decided = approvals.approve(
            store,
            log,
            request_id,
            person=person,
            agree=not refuse,
            why=why,
            now=datetime.now(UTC),
            peer=country,
        )
    done = "refused" if refuse else "agreed to"
    out.print(f"{done}: {decided.request_id} of {decided.peer}", highlight=False, markup=False)


def _told(one: Approval) -> dict[str, Any]:
    asked = f"{moment(one.asked_us):%Y-%m-%d %H:%M:%S}"
    return {"request_id": one.request_id, **approvals.facts_of(one), "peer": one.peer, "asked": asked}


@contextmanager
def _opened(config: Path) -> Iterator[tuple[ExchangeStore, AuditLog]]:
    peer = load_config(config).peer
    if peer is None:
        raise ConfigInvalid("the settings have no [peer]", remedy="add the section")
    with closing(ExchangeStore.open(peer.store)) as store, closing(LogStore.open(peer.store)) as rows:
        yield store, AuditLog(rows)
