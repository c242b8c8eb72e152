"""`papilar region`: ask other countries through one's own node, fetch what came later, conclude, list peers.

Exit codes of `identify` and `answers`: 0 every country answered in full; 3 some did not, as the output says.
"""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from papilar import pki, translate
from papilar.api.peer.v1 import peer_pb2
from papilar.api.v1 import region_pb2, types_pb2
from papilar.commands.options import (
    REGION,
    FingersOption,
    FpirOption,
    JsonFlag,
    NodeOption,
    PpiOption,
    Reach,
    grouped,
)
from papilar.config import DEFAULT_LISTEN
from papilar.exchange.seal import seal, stamp
from papilar.exchange.words import to_number, to_word
from papilar.files import read_file, read_probe, write_file
from papilar.identity import Identity
from papilar.policy import File, LegalBasis, OffenceClass, Purpose, SearchType
from papilar.region_client import RegionClient
from papilar.requests import PrintInput
from papilar.show import counted, message_dict, new_table, out, print_json, printable
from papilar.signing import Signer
from papilar.users import Mandate

OK, SOME_LEFT_OUT = 0, 3

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)


class Concluded(StrEnum):
    """What an examiner may conclude."""

    IDENTIFICATION = "identification"
    EXCLUSION = "exclusion"
    INCONCLUSIVE = "inconclusive"


SaveOption = Annotated[
    Path | None, typer.Option("--save", help="Write the candidates' prints into this folder.")
]


@dataclass(frozen=True, slots=True)
class _Grounds:
    """Why another country is asked to search."""

    purpose: Annotated[Purpose, typer.Option("--purpose", help="What for.")]
    reason: Annotated[str, typer.Option("--reason", help="Reason, in the own country's code: ARREST.")]
    legal_basis: Annotated[LegalBasis, typer.Option("--legal-basis", help="What it rests on.")]
    case: Annotated[str, typer.Option("--case", help="Reference of the case; no name.")]
    offence_class: Annotated[
        OffenceClass, typer.Option("--offence-class", help="How grave the offence is.")
    ] = OffenceClass.NONE
    ordering_officer: Annotated[
        str, typer.Option("--ordering-officer", help="Pseudonym of who ordered it.")
    ] = ""

    def mandate(self) -> Mandate:
        return Mandate(
            purpose=self.purpose,
            reason=self.reason,
            legal_basis=self.legal_basis,
            offence_class=self.offence_class,
            case_reference=self.case,
            ordering_officer=self.ordering_officer,
        )


@dataclass(frozen=True, slots=True)
class _Search:
    """What is searched, where, for how many candidates, and whose prints they are."""

    search_type: Annotated[SearchType, typer.Option("--type", help="What with what.")] = SearchType.TP_TP
    files: Annotated[
        list[File] | None,
        typer.Option("--file", help="File to search; may be repeated."),
    ] = None
    countries: Annotated[
        list[str] | None, typer.Option("--country", help="Whom to ask; may be repeated. By default all.")
    ] = None
    limit: Annotated[int, typer.Option(min=1, max=100, help="Most candidates of each country.")] = 10
    target_fpir: FpirOption = None
    fingers: FingersOption = ""
    ppi: PpiOption = None
    expedite: Annotated[bool, typer.Option("--expedite", help="Ask to be answered before others.")] = False
    minor: Annotated[bool, typer.Option("--minor", help="The prints are a minor's.")] = False
    adult_present: Annotated[bool, typer.Option("--adult-present", help="An adult stood by.")] = False
    keep_hours: Annotated[
        float, typer.Option("--keep-hours", min=0, max=168, help="Let it wait so long for who is down.")
    ] = 0

    def request(self, prints: Sequence[Path], request_id: str) -> region_pb2.IdentifyRegionRequest:
        return region_request(
            read_probe(prints, self.fingers, self.ppi),
            search_type=self.search_type,
            files=self.files or [File.CRIMINAL],
            countries=self.countries or [],
            request_id=request_id,
            target_fpir=self.target_fpir,
            limit=self.limit,
            keep_seconds=int(3600 * self.keep_hours),
            expedite=self.expedite,
            minor=self.minor,
            adult_present=self.adult_present,
        )


@app.callback()
def root() -> None:
    """Ask other countries through the own node."""


@app.command()
@grouped
def identify(
    *,
    prints: Annotated[list[Path], typer.Argument(metavar="PRINT", help="Image or template of a finger.")],
    grounds: _Grounds,
    search: _Search,
    save: SaveOption = None,
    request_id: Annotated[str, typer.Option("--request-id", help="UUID; by default a new one.")] = "",
    node: NodeOption = DEFAULT_LISTEN,
    connection: Reach = REGION,
    as_json: JsonFlag = False,
) -> None:
    """Search in other countries for the person whose prints these are."""
    mandate = grounds.mandate()  # before the prints, which take longer
    request = search.request(prints, request_id)
    with connection.client(node, RegionClient, mandate=mandate) as client:
        code = identify_region(client, request, save=save, as_json=as_json)
    raise typer.Exit(code)


@app.command()
@grouped
def answers(
    *,
    request_id: Annotated[str, typer.Argument(metavar="REQUEST_ID", help="That of the search.")],
    save: SaveOption = None,
    node: NodeOption = DEFAULT_LISTEN,
    connection: Reach = REGION,
    as_json: JsonFlag = False,
) -> None:
    """Fetch what came later. It is erased at the node ten minutes after."""
    with connection.client(node, RegionClient) as client:
        found = client.region_answers(request_id).answers
    if as_json:
        print_json([message_dict(one) for one in found])
    for one in found:
        if not as_json:
            _show_one(one)
            _show_candidates(one.answer.candidates)
        _save(save, one.answer.candidates)
    raise typer.Exit(SOME_LEFT_OUT if any(one.HasField("gap") for one in found) else OK)


@app.command()
@grouped
def confirm(
    *,
    country: Annotated[str, typer.Argument(metavar="COUNTRY", help="Where the candidate is from.")],
    request_id: Annotated[str, typer.Argument(metavar="REQUEST_ID", help="That of the search.")],
    reference: Annotated[str, typer.Argument(metavar="REFERENCE", help="The candidate's.")],
    conclusion: Annotated[Concluded, typer.Option("--conclusion", help="What you conclude.")],
    marked: Annotated[
        Path, typer.Option("--marked", help="File of the correspondences you marked; its hash is signed.")
    ],
    count: Annotated[int, typer.Option("--count", min=0, help="How many you marked.")],
    sign_cert: Annotated[Path, typer.Option("--sign-cert", help="Your certificate for signatures, PEM.")],
    sign_key: Annotated[Path, typer.Option("--sign-key", help="Its key, PEM.")],
    receipt: Annotated[Path, typer.Option("--receipt", help="Write the signed receipt to this file.")],
    node: NodeOption = DEFAULT_LISTEN,
    connection: Reach = REGION,
) -> None:
    """Sign a conclusion on a candidate with your own key, and hand it on. It uses the reference up."""
    said = peer_pb2.Confirmation(
        confirmation_id=str(uuid.uuid4()),
        request_id=request_id,
        reference=reference,
        asking_country=Identity.parse(pki.describe(sign_cert)["name"][0]).country,
        asked_country=country,
        create_time=stamp(datetime.now(UTC)),
        conclusion=peer_pb2.Conclusion.Value(f"CONCLUSION_{conclusion.upper()}"),
        correspondences_sha256=sha256(read_file(marked)).digest(),
        correspondences=count,
    )
    signed = seal("confirmation", said, Signer.load(sign_cert, sign_key))
    request = region_pb2.ConfirmCandidateRequest(
        country=country,
        statement=signed.statement,
        certificate=signed.certificate,
        signature=signed.signature,
    )
    with connection.client(node, RegionClient) as client:
        write_file(receipt, client.confirm_candidate(request).receipt)
    out.print(
        f"{country} has taken the conclusion; the receipt is in {printable(str(receipt))}", markup=False
    )


@app.command("peers")
@grouped
def list_peers(
    *,
    node: NodeOption = DEFAULT_LISTEN,
    connection: Reach = REGION,
    as_json: JsonFlag = False,
) -> None:
    """List the countries that the own node can ask."""
    with connection.client(node, RegionClient) as client:
        found = client.peers().peers
    if as_json:
        print_json([message_dict(one) for one in found])
        return
    columns = ("log entries", "signed", "law", "calibration", "extractor", "answers in s", "types")
    table = new_table("Peers", "country", "state", *columns)
    for one in found:
        signed = f"{one.log_time.ToDatetime():%Y-%m-%d %H:%M:%S}" if one.HasField("log_time") else ""
        state = "does not answer" if one.resting else ""
        table.add_row(one.country, state, str(one.log_size), signed, *_offered(one))
    out.print(table)


def _offered(one: region_pb2.Peer) -> tuple[str, ...]:
    """Return what a peer has said that it offers, as cells."""
    if not one.HasField("offer"):
        return ("",) * 5
    offer = one.offer
    extractor = offer.extractor_version + ("" if offer.same_extractor else " (not ours)")
    types = " ".join(to_word(SearchType, number) for number in offer.search_types)
    promised = f"{offer.ordinary_seconds}, urgent {offer.urgent_seconds}"
    return (str(offer.policy_version), escape(offer.calibration_id), escape(extractor), promised, types)


# ---- what `papilar identify --region` shares


def region_request(
    prints: Iterable[PrintInput],
    *,
    search_type: SearchType = SearchType.TP_TP,
    files: Iterable[File] = (File.CRIMINAL,),
    request_id: str = "",
    **given: Any,
) -> region_pb2.IdentifyRegionRequest:
    """Return the request of a search in the region; `given` are its other fields, None what is not stated."""
    numbers: Any = [to_number(search_type), sorted(map(to_number, files))]
    return region_pb2.IdentifyRegionRequest(
        request_id=request_id or str(uuid.uuid4()),
        probe=[translate.to_print(one) for one in prints],
        search_type=numbers[0],
        files=numbers[1],
        **{name: value for name, value in given.items() if value is not None},
    )


def identify_region(
    client: RegionClient,
    request: region_pb2.IdentifyRegionRequest,
    *,
    save: Path | None = None,
    as_json: bool = False,
) -> int:
    """Search, show each country as it comes and the list at last, and return the exit code.

    Parameters
    ----------
    client : RegionClient
    request : IdentifyRegionRequest
    save : Path, optional
        Folder for the candidates' prints: RANK-COUNTRY-PRINT.png.
    as_json : bool
    """
    result = region_pb2.RegionResult()
    for one in client.identify_region(request):
        if one.HasField("result"):
            result = one.result
        elif not as_json:
            _show_one(one)
    if as_json:
        print_json({"request_id": request.request_id} | message_dict(result))
    else:
        _show_candidates(result.candidates)
        _show_doubts(request.request_id, result)
    _save(save, result.candidates)
    return SOME_LEFT_OUT if result.gaps else OK


def _show_one(one: region_pb2.IdentifyRegionResponse) -> None:
    if one.HasField("gap"):
        kind, again = region_pb2.GapKind.Name(one.gap.kind).removeprefix("GAP_KIND_"), ""
        if one.gap.retry_after_seconds:
            again = f", again in {one.gap.retry_after_seconds} s"
        out.print(
            f"[yellow]{escape(one.gap.country)}[/] {kind} ({escape(one.gap.code)}){again}", highlight=False
        )
        return
    answer = one.answer
    final = "" if answer.complete else ", not all of its files"
    found = f"{counted(len(answer.candidates), 'candidate')} after {answer.seconds:.1f} s{final}"
    out.print(f"[green]{escape(answer.country)}[/] {found}", highlight=False)
    for flaw in answer.flaws:
        out.print(
            f"  print {flaw.probe_index + 1} not used: {escape(', '.join(flaw.reasons))}", highlight=False
        )


def _show_candidates(candidates: Sequence[region_pb2.RegionCandidate]) -> None:
    if not candidates:
        return
    table = new_table("Candidates", "rank", "country", "log10 LR", "band", "reference")
    for rank, one in enumerate(candidates, 1):
        score = f"{one.score:.1f}" + ("" if one.comparable else " *")
        band = types_pb2.Band.Name(one.band).removeprefix("BAND_").lower()
        table.add_row(str(rank), one.country, score, band, escape(printable(one.reference)))
    out.print(table)
    out.print("A candidate is not an identification: an examiner decides.", style="dim")


def _show_doubts(request_id: str, result: region_pb2.RegionResult) -> None:
    if not result.comparable:
        out.print("[yellow]*[/] a score of another calibration: the order says little there", highlight=False)
    if not result.complete:
        out.print("[yellow]not complete:[/] a no-hit is not final", highlight=False)
    if any(gap.kind == region_pb2.GAP_KIND_QUEUED for gap in result.gaps):
        out.print(f"what waits: papilar region answers {request_id}", highlight=False)


def _save(folder: Path | None, candidates: Iterable[region_pb2.RegionCandidate]) -> None:
    for rank, one in enumerate(candidates if folder is not None else (), 1):
        for place, each in enumerate(one.prints, 1):
            if folder is not None and each.image:
                write_file(folder / f"{rank}-{one.country}-{place}.png", each.image)
