"""`papilar cluster`: a node whose gallery lies in parts on the machines of a Ray cluster."""

from contextlib import ExitStack
from typing import Annotated

import typer

from papilar import service
from papilar.cluster import LOCAL, RayReaders
from papilar.cluster.gallery import cluster
from papilar.commands.options import grouped
from papilar.commands.serve import Served, shown_when_ready
from papilar.errors import RequestInvalid
from papilar.prints import read_prints

MOST_PARTS = 1024

app = typer.Typer(
    no_args_is_help=True, help="A gallery in parts, on one machine or several; see docs/cluster.md."
)


@app.callback()
def _group() -> None:
    """Let typer keep the word `up`, though it is the only one yet."""


@app.command()
@grouped
def up(
    *,
    local: Annotated[
        int, typer.Option("--local", min=0, max=MOST_PARTS, help="Parts, on a cluster of this machine alone.")
    ] = 0,
    address: Annotated[str, typer.Option("--address", help="HOST:PORT of a cluster that there is.")] = "",
    parts: Annotated[int, typer.Option("--parts", min=0, max=MOST_PARTS, help="Parts, on that.")] = 0,
    readers: Annotated[
        int,
        typer.Option("--readers", min=0, help="Cores of the cluster that read prints; 0: this process does."),
    ] = 0,
    served: Served,
) -> None:
    """Serve a gallery that lies on a cluster, until SIGTERM or Ctrl-C; see `papilar serve`."""
    if bool(local) == bool(address) or bool(address) != bool(parts):
        raise RequestInvalid(
            "no cluster, or two", remedy="give --local PARTS, or --address HOST:PORT and --parts PARTS"
        )
    served.log()
    settings = served.settings()
    with ExitStack() as end:
        there = end.enter_context(cluster(address or LOCAL, local or parts))
        read = read_prints
        if readers:
            read = end.enter_context(RayReaders(address or LOCAL, readers)).read_prints
        service.serve(
            settings,
            create=served.create,
            on_ready=shown_when_ready(settings),
            opening=there.open,
            read=read,
        )
