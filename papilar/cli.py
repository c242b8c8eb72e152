"""The command `papilar`. Reads arguments, calls the packages, shows what they say; decides nothing.

Exit codes: 0 done; 1 the system failed (a node, a disk); 2 the input or the arguments are wrong; 3 done, but
some prints were too poor or could not be read, as the output says.
"""

import importlib.metadata
import logging
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from enroll.image import LIMITS, read_image
from enroll.pipeline import extract as extract_template
from matcher.codecs import CODECS, encode
from matcher.compare import compare as compare_templates
from matcher.compare import prepare
from matcher.errors import InvalidInput, PapilarError
from matcher.template import Finger
from papilar import service, translate
from papilar.api.v1 import matching_pb2
from papilar.archive import EnrollCall, Item, Line, Result, enroll_archive, find_items
from papilar.client import ClientTls, NodeClient
from papilar.commands import GROUPS
from papilar.commands.options import MandateOption, TlsCountry, TokenOption, caller_of
from papilar.commands.plot import plot_candidate
from papilar.commands.region import identify_region, region_request
from papilar.commands.stats import stats
from papilar.config import DEFAULT_LISTEN, Tls, load_config
from papilar.errors import EncounterUnknown, GalleryUnknown, RequestInvalid
from papilar.exchange.words import MOST_CANDIDATES
from papilar.explanation import MIRRORED, mirrored_score
from papilar.files import check_outputs, read_file, read_probe, read_side, write_file
from papilar.node import Node
from papilar.picture import draw_match, draw_minutiae
from papilar.policy import File, SearchType
from papilar.region_client import RegionClient
from papilar.requests import Enrollment, Outcome
from papilar.show import (
    comparison_dict,
    counted,
    err,
    message_dict,
    out,
    print_json,
    show_candidates,
    show_comparison,
    show_error,
    show_listening,
    show_pairs,
    show_receipt,
)

C = TypeVar("C", bound=NodeClient)
OK, FAILED, WRONG_INPUT, SOME_LEFT_OUT = 0, 1, 2, 3

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for _group, _commands in GROUPS.items():
    app.add_typer(_commands, name=_group)
app.command("stats")(stats)
WRITABLE = [name for name, codec in CODECS.items() if codec.write]

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
PpiOption = Annotated[
    float | None,
    typer.Option(
        "--ppi",
        min=LIMITS.ppi_low,
        max=LIMITS.ppi_high,
        help="Resolution of the images, pixels per inch, over what the files say.",
    ),
]
PlotOption = Annotated[Path | None, typer.Option("--plot", help="Write a picture (PNG) to this file.")]
NodeOption = Annotated[str, typer.Option("--node", help="Address of the node, HOST:PORT.")]
TlsCa = Annotated[
    Path | None, typer.Option("--tls-ca", help="Authority that signed the node's certificate, PEM.")
]
TlsCert = Annotated[Path | None, typer.Option("--tls-cert", help="Own certificate, PEM.")]
TlsKey = Annotated[Path | None, typer.Option("--tls-key", help="Key of the own certificate, PEM.")]
PlainText = Annotated[
    bool, typer.Option("--allow-plain-text", help="Talk without TLS to another machine. Not for real prints.")
]
StoreOption = Annotated[
    str | None,
    typer.Option("--store", help="URL of a PostgreSQL data base, without its password; else SQLite."),
]
Timeout = Annotated[float, typer.Option("--timeout", min=0.001, max=86_400, help="Seconds a call may take.")]


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


# ---- enrol, serve


@app.command()
def enroll(
    archive: Annotated[
        Path,
        typer.Argument(metavar="ARCHIVE", help="Folder of images: FINGER_IMPRESSION.ext, sub-folders too."),
    ],
    gallery: Annotated[
        Path | None, typer.Option("--gallery", help="Gallery folder; made if missing.")
    ] = None,
    node: Annotated[str | None, typer.Option("--node", help="Enrol at a running node instead.")] = None,
    store: StoreOption = None,
    name: Annotated[str, typer.Option(help="Name of a new gallery; by default the folder's.")] = "",
    ppi: PpiOption = None,
    check_duplicates: Annotated[
        bool, typer.Option("--check-duplicates", help="Do not enrol who is there under another name.")
    ] = False,
    images: Annotated[bool, typer.Option(help="Keep images beside the templates.")] = True,
    workers: Annotated[int, typer.Option(min=1, help="Encounters worked on at a time.")] = 2,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    tls_country: TlsCountry = "",
    mandate: MandateOption = None,
    token_file: TokenOption = None,
    allow_plain_text: PlainText = False,
    timeout: Timeout = 60.0,
    as_json: JsonFlag = False,
) -> None:
    """Enrol a folder of images and print a receipt: one line for each file."""
    if (gallery is None) == (node is None):
        raise RequestInvalid("no target, or two", remedy="give --gallery DIR or --node HOST:PORT")
    items = find_items(archive, gallery=gallery)  # a wrong path must not leave an empty gallery behind
    with ExitStack() as stack:
        if gallery is not None:
            made = Node(gallery, store=store or "", create=True, name=name, keep_images=images)
            call = _enroller(stack.enter_context(made))
        else:
            files, who = (tls_ca, tls_cert, tls_key, tls_country), (mandate, token_file)
            client = _client(NodeClient, str(node), files, who, allow_plain_text, timeout)
            call = _remote_enroller(stack.enter_context(client))
        lines = _run_archive(items, call, ppi=ppi, check=check_duplicates, workers=workers)
    show_receipt(lines, as_json=as_json)
    raise typer.Exit(_receipt_code(lines))


@app.command()
def serve(
    gallery: Annotated[Path | None, typer.Option("--gallery", help="Gallery folder.")] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="Settings, TOML; see papilar/config.py.")
    ] = None,
    store: StoreOption = None,
    listen: Annotated[str | None, typer.Option("--listen", help=f"HOST:PORT. [{DEFAULT_LISTEN}]")] = None,
    create: Annotated[bool, typer.Option("--create", help="Make the gallery where there is none.")] = False,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    tls_client_ca: Annotated[
        Path | None,
        typer.Option("--tls-client-ca", help="Ask clients for a certificate of this authority, PEM."),
    ] = None,
    allow_plain_text: Annotated[
        bool, typer.Option("--allow-plain-text", help="Serve without TLS where others can reach it.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Log every call (never what it held).")] = False,
) -> None:
    """Serve a gallery over gRPC until SIGTERM or Ctrl-C."""
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
    )
    if gallery is None and config is None:
        raise RequestInvalid(
            "no gallery to serve", remedy="give --gallery DIR, or --config FILE that names it"
        )
    tls = Tls(tls_cert, tls_key, tls_client_ca) if tls_cert and tls_key else None
    if tls is None and (tls_cert or tls_key or tls_client_ca):
        raise RequestInvalid("TLS by halves", remedy="give both --tls-cert and --tls-key")
    settings = load_config(
        config,
        gallery=gallery,
        store=store,
        listen=listen,
        tls=tls,
        allow_plain_text=allow_plain_text or None,
    )
    secured = "TLS" if settings.tls else "plain text"
    service.serve(
        settings,
        create=create,
        on_ready=lambda on: show_listening(on.gallery, on.address, secured, on.peers),
    )


# ---- ask


@app.command()
def identify(
    prints: Annotated[
        list[Path], typer.Argument(metavar="PRINT", help="Image or template of a finger; several fuse.")
    ],
    node: NodeOption = DEFAULT_LISTEN,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Most candidates.")] = 10,
    target_fpir: Annotated[
        float | None,
        typer.Option("--target-fpir", help="Share of searches without a mate that may still hit."),
    ] = None,
    fingers: Annotated[
        str, typer.Option("--fingers", help="Finger positions of the prints, ISO codes: 2 or 2,7.")
    ] = "",
    ppi: PpiOption = None,
    plot: PlotOption = None,
    region: Annotated[
        bool, typer.Option("--region", help="Search in all countries; `papilar region` has more options.")
    ] = False,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    tls_country: TlsCountry = "",
    mandate: MandateOption = None,
    token_file: TokenOption = None,
    allow_plain_text: PlainText = False,
    timeout: Timeout = 60.0,
    as_json: JsonFlag = False,
) -> None:
    """Search a node's gallery for the person whose prints these are."""
    check_outputs(prints, plot)
    probe = read_probe(prints, fingers, ppi)
    files, who = (tls_ca, tls_cert, tls_key, tls_country), (mandate, token_file)
    if region:
        wanted = region_request(
            probe,
            search_type=SearchType.TP_TP,
            files=[File.CRIMINAL],
            limit=min(limit, MOST_CANDIDATES),
            target_fpir=target_fpir,
        )
        with _client(RegionClient, node, files, who, allow_plain_text, timeout) as asked:
            raise typer.Exit(identify_region(asked, wanted, as_json=as_json))
    request = matching_pb2.IdentifyRequest(
        probe=[translate.to_print(p) for p in probe], limit=limit, include_evidence=plot is not None
    )
    if target_fpir is not None:
        request.target_fpir = target_fpir
    with _client(NodeClient, node, files, who, allow_plain_text, timeout) as client:
        response = client.identify(request)
        if as_json:
            print_json(message_dict(response))
        else:
            show_candidates(response, [path.name for path in prints])
        if plot is not None:
            plot_candidate(plot, client, response, probe)
    raise typer.Exit(OK if any(p.accepted for p in response.probe) else SOME_LEFT_OUT)


@app.command()
def delete(
    encounter: Annotated[
        str, typer.Argument(metavar="ENCOUNTER", help="UUID of the encounter, from the receipt.")
    ],
    node: NodeOption = DEFAULT_LISTEN,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    tls_country: TlsCountry = "",
    mandate: MandateOption = None,
    token_file: TokenOption = None,
    allow_plain_text: PlainText = False,
    timeout: Timeout = 60.0,
) -> None:
    """Delete an encounter from a node's gallery."""
    files, who = (tls_ca, tls_cert, tls_key, tls_country), (mandate, token_file)
    with _client(NodeClient, node, files, who, allow_plain_text, timeout) as client:
        gone = client.delete(encounter)
    subject = ", and its subject with it" if gone.subject_deleted else ""
    out.print(f"deleted {counted(gone.deleted_prints, 'print')}{subject}")


@app.command()
def status(
    node: NodeOption = DEFAULT_LISTEN,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    tls_country: TlsCountry = "",
    mandate: MandateOption = None,
    token_file: TokenOption = None,
    allow_plain_text: PlainText = False,
    timeout: Timeout = 10.0,
    as_json: JsonFlag = False,
) -> None:
    """Show what a node's gallery is and holds."""
    files, who = (tls_ca, tls_cert, tls_key, tls_country), (mandate, token_file)
    with _client(NodeClient, node, files, who, allow_plain_text, timeout) as client:
        described = message_dict(client.gallery())
    if as_json:
        print_json(described)
    else:
        show_pairs(f"node {node}", {key.replace("_", " "): value for key, value in described.items()})


# ---- alone, without a node


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="Image or template.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Image or template.")],
    ppi: PpiOption = None,
    plot: PlotOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Compare two prints: log10 likelihood ratio, its parts, and what they share."""
    check_outputs((a, b), plot)
    probe, reference = (read_side(path, ppi) for path in (a, b))
    found = compare_templates(prepare(probe.side.template), prepare(reference.side.template))
    mirrored = mirrored_score(found, probe.side.template, reference.side.template)
    report = comparison_dict(probe, reference, found, mirrored)
    if as_json:
        print_json(report)
    else:
        show_comparison(report)
    if plot is not None:
        warning = None if mirrored is None else MIRRORED
        write_file(plot, draw_match(probe.side, reference.side, found, warning=warning))
    raise typer.Exit(SOME_LEFT_OUT if probe.reasons or reference.reasons else OK)


@app.command()
def extract(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="Image of one finger.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Template file to write.")],
    format_name: Annotated[
        str, typer.Option("--format", help=f"One of {', '.join(WRITABLE)}.")
    ] = "iso-19794-2:2011",
    finger: Annotated[int, typer.Option(min=0, max=10, help="Finger position, ISO code; 0 unknown.")] = 0,
    ppi: PpiOption = None,
    plot: PlotOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Extract the template of a print into a file."""
    if format_name not in WRITABLE:
        raise RequestInvalid(f"template format '{format_name}'", remedy=f"use one of {', '.join(WRITABLE)}")
    check_outputs((image,), output, plot)
    read = read_image(read_file(image), ppi=ppi)
    found = extract_template(read, finger=Finger(finger))
    report = {
        "minutiae": len(found.template),
        "quality": found.quality.score,
        "accepted": not found.rejected,
        "reasons": [str(reason) for reason in found.quality.reasons],
        "advice": list(found.quality.advice),
        "warnings": list(read.warnings),
    }
    if not found.rejected:
        write_file(output, encode(found.template, format_name))
        report |= {"format": format_name, "file": str(output)}
    if as_json:
        print_json(report)
    else:
        show_pairs(image.name, report)
    if plot is not None:
        write_file(plot, draw_minutiae(found.image, found.template))
    raise typer.Exit(SOME_LEFT_OUT if found.rejected else OK)


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


# ---- enrolment


def _enroller(node: Node) -> EnrollCall:
    """Give the call that enrols one encounter in this process, as a node of its own would."""

    def call(new: Enrollment, request_id: str) -> Outcome:
        repeat = translate.repeat(translate.to_enroll_request(new, request_id=request_id))
        return node.enroll(new, repeat=repeat)  # so an archive begun here can be ended at a node

    return call


def _remote_enroller(client: NodeClient) -> EnrollCall:
    """Give the call that enrols one encounter at a node."""
    return lambda new, request_id: translate.outcome(client.enroll(new, request_id=request_id))


def _run_archive(
    items: Sequence[Item], call: EnrollCall, *, ppi: float | None, check: bool, workers: int
) -> list[Line]:
    columns = (TextColumn("enrolling"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, disable=not err.is_terminal, transient=True) as bar:
        task = bar.add_task("enrolling", total=len(items))
        lines = enroll_archive(
            items,
            call,
            ppi=ppi,
            check_duplicates=check,
            workers=workers,
            progress=lambda count: bar.advance(task, count),
        )
        try:
            return list(lines)
        except KeyboardInterrupt:
            err.print("stopped; what was enrolled stays: the same command again enrols the rest")
            raise


def _receipt_code(lines: Sequence[Line]) -> int:
    results = {line.result for line in lines}
    if Result.NOT_TRIED in results:
        return FAILED
    return OK if results <= {Result.ENROLLED, Result.ALREADY} else SOME_LEFT_OUT


@contextmanager
def _client(
    kind: type[C],
    address: str,
    files: tuple[Path | None, Path | None, Path | None, str],
    who: tuple[Path | None, Path | None],
    plain: bool,
    timeout: float,
) -> Iterator[C]:
    """Connect to a node; `files` are its authority, the own certificate, its key, and whose node it is."""
    tls = ClientTls(*files) if any(files[:3]) else None
    caller = caller_of(*who)
    made: C = kind(address, tls=tls, allow_plain_text=plain, timeout=timeout, caller=caller)
    with made:
        yield made
