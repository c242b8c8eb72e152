"""The command `papilar`. Reads arguments, calls the packages, shows what they say; decides nothing.

Exit codes: 0 done; 1 the system failed (a node, a disk); 2 the input or the arguments are wrong; 3 done, but
some prints were too poor or could not be read, as the output says.
"""

import importlib.metadata
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

from matcher.errors import InvalidInput, PapilarError
from papilar import translate
from papilar.api.v1 import matching_pb2
from papilar.client import NodeClient
from papilar.commands import GROUPS
from papilar.commands.enroll import enroll, receipt_app
from papilar.commands.options import (
    Connection,
    FingersOption,
    FpirOption,
    JsonFlag,
    NodeOption,
    PlotOption,
    PpiOption,
    grouped,
)
from papilar.commands.plot import plot_candidate
from papilar.commands.prints import compare, extract
from papilar.commands.reextract import reextract
from papilar.commands.region import identify_region, region_request
from papilar.commands.serve import serve
from papilar.commands.stats import stats
from papilar.config import DEFAULT_LISTEN
from papilar.errors import EncounterUnknown, GalleryUnknown
from papilar.exchange.words import MOST_CANDIDATES
from papilar.files import check_outputs, read_probe
from papilar.region_client import RegionClient
from papilar.show import (
    counted,
    message_dict,
    out,
    print_json,
    show_candidates,
    show_error,
    show_pairs,
)

OK, FAILED, WRONG_INPUT, SOME_LEFT_OUT = 0, 1, 2, 3

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for _group, _commands in GROUPS.items():
    app.add_typer(_commands, name=_group)
app.command("serve")(serve)
app.command("stats")(stats)
app.command("enroll")(enroll)
app.command("reextract")(reextract)
app.add_typer(receipt_app, name="receipt")


def _show_version(wanted: bool) -> None:
    if wanted:
        out.print(f"papilar {importlib.metadata.version('papilar')}", highlight=False)
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """Fingerprint identification: enrol prints, serve them, identify and compare."""


# ---- ask


@app.command()
@grouped
def identify(
    *,
    prints: Annotated[
        list[Path], typer.Argument(metavar="PRINT", help="Image or template of a finger; several fuse.")
    ],
    node: NodeOption = DEFAULT_LISTEN,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Most candidates.")] = 10,
    target_fpir: FpirOption = None,
    fingers: FingersOption = "",
    ppi: PpiOption = None,
    plot: PlotOption = None,
    region: Annotated[
        bool, typer.Option("--region", help="Search in all countries; `papilar region` has more options.")
    ] = False,
    connection: Connection,
    as_json: JsonFlag = False,
) -> None:
    """Search a node's gallery for the person whose prints these are."""
    check_outputs(prints, plot)
    probe = read_probe(prints, fingers, ppi)
    if region:
        wanted = region_request(probe, limit=min(limit, MOST_CANDIDATES), target_fpir=target_fpir)
        with connection.to(node, RegionClient) as asked:
            raise typer.Exit(identify_region(asked, wanted, as_json=as_json))
    request = matching_pb2.IdentifyRequest(
        probe=[translate.to_print(p) for p in probe], limit=limit, include_evidence=plot is not None
    )
    if target_fpir is not None:
        request.target_fpir = target_fpir
    with connection.to(node, NodeClient) as client:
        response = client.identify(request)
        if as_json:
            print_json(message_dict(response))
        else:
            show_candidates(response, [path.name for path in prints])
        if plot is not None:
            plot_candidate(plot, client, response, probe)
    raise typer.Exit(OK if any(p.accepted for p in response.probe) else SOME_LEFT_OUT)


@app.command()
@grouped
def delete(
    *,
    encounter: Annotated[
        str, typer.Argument(metavar="ENCOUNTER", help="UUID of the encounter, from the receipt.")
    ],
    node: NodeOption = DEFAULT_LISTEN,
    connection: Connection,
) -> None:
    """Delete an encounter from a node's gallery."""
    with connection.to(node, NodeClient) as client:
        gone = client.delete(encounter)
    subject = ", and its subject with it" if gone.subject_deleted else ""
    out.print(f"deleted {counted(gone.deleted_prints, 'print')}{subject}")


@app.command()
@grouped
def status(
    *,
    node: NodeOption = DEFAULT_LISTEN,
    connection: Connection = Connection(timeout=10.0),
    as_json: JsonFlag = False,
) -> None:
    """Show what a node's gallery is and holds."""
    with connection.to(node, NodeClient) as client:
        described = message_dict(client.gallery())
    if as_json:
        print_json(described)
    else:
        show_pairs(f"node {node}", {key.replace("_", " "): value for key, value in described.items()})


app.command()(compare)
app.command()(extract)


def main() -> None:
    """Run the command; every error becomes two lines and an exit code."""
    try:
        app()
    except PapilarError as error:
        show_error(error.cause, error.remedy)
        sys.exit(WRONG_INPUT if isinstance(error, _OF_THE_INPUT) else FAILED)
    except Exception as error:  # a fault of ours: say where, for whoever mends it
        at = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(at.filename).name}, line {at.lineno}"
        show_error(
            f"a fault in papilar: {type(error).__name__}: {error} ({place})",
            "report it with the command that you gave",
        )
        sys.exit(FAILED)


_OF_THE_INPUT = (InvalidInput, GalleryUnknown, EncounterUnknown)
