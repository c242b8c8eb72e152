"""The node's service for searches in the region: messages in, values to the searcher, messages out."""

import logging
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import grpc
from grpc_status import rpc_status

from enroll.pipeline import EXTRACTOR
from matcher.errors import PapilarError
from papilar import translate
from papilar.access import Access, caller
from papilar.api.peer.v1 import peer_pb2, types_pb2
from papilar.api.v1 import region_pb2, region_pb2_grpc
from papilar.audit.heads import latest_head
from papilar.audit.log import AuditLog
from papilar.config import NodeConfig, Region
from papilar.config import Peer as PeerConfig
from papilar.errors import CallerUnknown, PurposeMissing, RequestInvalid
from papilar.exchange.asking import FederatedSearcher
from papilar.exchange.calls import Gone
from papilar.exchange.conclusions import hand_on
from papilar.exchange.outbox import Courier, Late, Outbox
from papilar.exchange.own import OwnGallery
from papilar.exchange.region import (
    DEFAULT_FPIR,
    CountryAnswer,
    Gap,
    GapKind,
    RegionCandidate,
    RegionResult,
    RegionSearch,
)
from papilar.exchange.seal import SKEW, stamp
from papilar.exchange.words import canonical_uuid_only, to_word
from papilar.node import Node
from papilar.peer_client import open_peer
from papilar.policy import File, InstalledLaw, SearchType
from papilar.server import AddService, Servicer, answering, status_of
from papilar.signing import Signer
from papilar.store.outbox import OutboxStore
from papilar.tls import TlsFiles
from papilar.trust import Trust
from papilar.users import Caller

_log = logging.getLogger(__name__)

LONGEST_KEPT = timedelta(days=7)
"""Longest that prints may wait here for a country that is down."""

_LONGEST, _USUAL = 600.0, 30.0  # seconds that a search may take, and takes where the call has no deadline
_MARGIN = 0.1  # seconds kept back from a caller's deadline, to send the list in


class Asking(NamedTuple):
    """What asks other countries, and what waits for them."""

    searcher: FederatedSearcher
    outbox: Outbox


class RegionService(Servicer, region_pb2_grpc.RegionServiceServicer):
    """See proto/papilar/api/v1/region.proto.

    Parameters
    ----------
    node, config, access
        As for the other services of the node.
    searcher : FederatedSearcher
    outbox : Outbox
    """

    def __init__(
        self, node: Node, config: NodeConfig, access: Access, *, searcher: FederatedSearcher, outbox: Outbox
    ) -> None:
        super().__init__(node, config, access)
        self._searcher = searcher
        self._outbox = outbox

    @answering
    def IdentifyRegion(self, request: region_pb2.IdentifyRegionRequest, context: Any) -> Any:  # noqa: N802
        """Search in the region."""
        asked, gone = region_search(request, _known(caller()), seconds=_seconds(context)), Gone()
        if not context.add_callback(gone.tell):
            gone.tell()
        return _streamed(self._answers(asked, gone), context)

    @answering
    def GetRegionAnswers(self, request: region_pb2.GetRegionAnswersRequest, context: Any) -> Any:  # noqa: N802
        """Give what came later."""
        canonical_uuid_only(request.request_id, "request_id")
        officer = _known(caller()).identity.name
        late, waits = self._outbox.answers(request.request_id, officer=officer)
        queued = [Gap(country, GapKind.QUEUED, "WAITING") for country in waits]
        answers = [
            *map(self._late, late),
            *(region_pb2.IdentifyRegionResponse(gap=to_gap(g)) for g in queued),
        ]
        return region_pb2.GetRegionAnswersResponse(answers=answers)

    @answering
    def ConfirmCandidate(self, request: region_pb2.ConfirmCandidateRequest, context: Any) -> Any:  # noqa: N802
        """Hand on a conclusion."""
        signed = types_pb2.Signed(
            statement=request.statement, certificate=request.certificate, signature=request.signature
        )
        examiner, seconds = _known(caller()).identity.name, _seconds(context)
        receipt = hand_on(self._searcher, request.country, signed, examiner=examiner, seconds=seconds)
        return region_pb2.ConfirmCandidateResponse(receipt=receipt.SerializeToString())

    @answering
    def GetPeerStatistics(self, request: region_pb2.GetPeerStatisticsRequest, context: Any) -> Any:  # noqa: N802
        """Fetch another country's counters."""
        signed = self._searcher.statistics(request.country, request.month, seconds=_seconds(context))
        return region_pb2.GetPeerStatisticsResponse(statistics=signed.SerializeToString())

    @answering
    def ListPeers(self, request: region_pb2.ListPeersRequest, context: Any) -> Any:  # noqa: N802
        """List whom the node can ask."""
        return region_pb2.ListPeersResponse(peers=[self._peer(c) for c in sorted(self._searcher.peers)])

    def _answers(self, asked: RegionSearch, gone: Gone) -> Iterator[region_pb2.IdentifyRegionResponse]:
        came: list[CountryAnswer] = []
        with closing(self._searcher.search(asked, gone=gone)) as answers:
            for one in answers:
                came.append(one)
                yield self._response(one)
        yield region_pb2.IdentifyRegionResponse(result=to_result(self._searcher.merge(came)))

    def _response(self, came: CountryAnswer) -> region_pb2.IdentifyRegionResponse:
        if came.gap is not None:
            return region_pb2.IdentifyRegionResponse(gap=to_gap(came.gap))
        return region_pb2.IdentifyRegionResponse(answer=to_answer(self._searcher.merge([came]), came))

    def _late(self, late: Late) -> region_pb2.IdentifyRegionResponse:
        if late.answer is not None:
            return self._response(CountryAnswer(late.country, late.answer))
        kind = GapKind.TIMED_OUT if late.code == "EXPIRED" else GapKind.REFUSED
        return region_pb2.IdentifyRegionResponse(gap=to_gap(Gap(late.country, kind, late.code)))

    def _peer(self, country: str) -> region_pb2.Peer:
        kept = latest_head(self._searcher.log.store, country)
        resting = self._searcher.peers[country].resting
        peer = region_pb2.Peer(country=country, resting=resting, log_size=kept.head.size if kept else 0)
        if kept is not None:
            peer.log_time.CopyFrom(stamp(kept.head.time))
        offer = self._searcher.offer(country)
        if offer is not None:
            peer.offer.CopyFrom(to_offer(offer))
        return peer


@contextmanager
def asking_region(
    region: Region, peer: PeerConfig, files: Mapping[File, Node], log: AuditLog
) -> Iterator[Asking]:
    """Ask other countries as the settings say, and deliver what waits, for as long as the context lasts.

    Parameters
    ----------
    region : Region
        Whom to ask.
    peer : papilar.config.Peer
        Who we are: country, certificate, seal, trust list, law, and where the log lies.
    files : mapping of File to Node
        Our own galleries, to be searched along; empty for none.
    log : AuditLog
        The node's.

    Raises
    ------
    ConfigInvalid, GalleryUnknown, LawInvalid, LawRefused, StorageUnavailable
    """
    with ExitStack() as end:
        trust = Trust.load(peer.trust, skew=SKEW)
        law = InstalledLaw(peer.law, trust, country=peer.country, now=datetime.now(UTC))
        kept = end.enter_context(closing(OutboxStore.open(peer.store, create=True)))
        outbox, tls = Outbox(kept, log), TlsFiles(peer.certificate, peer.key)
        peers = {
            country: open_peer(
                country,
                addresses,
                tls=tls,
                trust=trust,
                patience=region.patience_seconds,
                max_message_bytes=region.max_message_bytes,
            )
            for country, addresses in region.peers.items()
        }
        searcher = FederatedSearcher(
            peer.country,
            peers,
            law=law.current,
            trust=trust,
            signer=Signer.load(peer.seal, peer.seal_key),
            log=log,
            outbox=outbox,
            own=OwnGallery(files) if files else None,
        )
        end.callback(searcher.close)
        searcher.look_at_offers()
        courier = Courier(outbox, lambda search, seconds: searcher.ask(search, seconds=seconds))
        courier.start()
        end.callback(courier.stop)
        yield Asking(searcher, outbox)


def region_service(asking: Asking) -> AddService:
    """Return what adds the service for searches in the region to a server."""

    def add(server: grpc.Server, node: Node, config: NodeConfig, access: Access) -> str:
        service = RegionService(node, config, access, searcher=asking.searcher, outbox=asking.outbox)
        region_pb2_grpc.add_RegionServiceServicer_to_server(service, server)
        return region_pb2.DESCRIPTOR.services_by_name["RegionService"].full_name

    return add


# ---- message -> value


def region_search(request: region_pb2.IdentifyRegionRequest, who: Caller, *, seconds: float) -> RegionSearch:
    """Return what a caller asks of the region.

    Raises
    ------
    RequestInvalid
        A field is outside what its comment states.
    PurposeMissing
        The call does not say what for.
    """
    mandate = who.mandate
    if mandate is None:
        raise PurposeMissing("the call does not say what for", remedy="send papilar-purpose and the others")
    if request.keep_seconds > LONGEST_KEPT.total_seconds():
        raise RequestInvalid("keep_seconds is too long", remedy=f"at most {LONGEST_KEPT.days} days")
    return RegionSearch(
        request_id=request.request_id,
        prints=tuple(map(translate.print_input, request.probe)),
        purpose=mandate.purpose,
        offence_class=mandate.offence_class,
        legal_basis=mandate.legal_basis,
        search_type=to_word(SearchType, request.search_type),
        files=frozenset(to_word(File, number) for number in request.files),
        officer=who.identity.name,
        roles=who.identity.roles,
        reason=mandate.reason,
        case_reference=mandate.case_reference,
        ordering_officer=mandate.ordering_officer,
        expedite=request.expedite,
        minor=request.minor,
        adult_present=request.adult_present,
        countries=tuple(request.countries),
        target_fpir=request.target_fpir if request.HasField("target_fpir") else DEFAULT_FPIR,
        limit=request.limit or 10,
        seconds=seconds,
        keep=timedelta(seconds=request.keep_seconds),
    )


# ---- value -> message


def to_gap(gap: Gap) -> region_pb2.Gap:
    """Write a gap."""
    return region_pb2.Gap(
        country=gap.country,
        kind=region_pb2.GapKind.Value(f"GAP_KIND_{gap.kind}"),
        code=gap.code,
        retry_after_seconds=gap.retry_after,
    )


def to_offer(said: peer_pb2.NodeDescription) -> region_pb2.PeerOffer:
    """Write what a peer offers. Types of search and their numbers are the same in both contracts."""
    known = {*types_pb2.SearchType.values()} - {types_pb2.SEARCH_TYPE_UNSPECIFIED}
    types: Any = sorted({one.search_type for one in said.quotas if one.per_day} & known)
    return region_pb2.PeerOffer(
        time=said.create_time,
        policy_version=said.policy_version,
        calibration_id=said.calibration_id,
        extractor_version=said.extractor_version,
        same_extractor=said.extractor_version == EXTRACTOR,
        ordinary_seconds=said.ordinary_seconds,
        urgent_seconds=said.urgent_seconds,
        search_types=types,
        max_message_bytes=said.max_message_bytes,
    )


def to_answer(result: RegionResult, came: CountryAnswer) -> region_pb2.CountryAnswer:
    """Write a country's answer; `result` is that of it alone."""
    answer = came.answer or peer_pb2.Answer()
    flaws = [
        region_pb2.ProbeFlaw(probe_index=place, reasons=one.reasons)
        for place, one in enumerate(answer.prints)
        if not one.accepted
    ]
    return region_pb2.CountryAnswer(
        country=came.country,
        candidates=[to_candidate(one) for one in result.candidates],
        complete=result.complete,
        calibration_id=answer.calibration_id,
        flaws=flaws,
        seconds=came.seconds,
    )


def to_result(result: RegionResult) -> region_pb2.RegionResult:
    """Write the merged list."""
    return region_pb2.RegionResult(
        candidates=[to_candidate(one) for one in result.candidates],
        gaps=[to_gap(gap) for gap in result.gaps],
        complete=result.complete,
        comparable=result.comparable,
    )


def to_candidate(one: RegionCandidate) -> region_pb2.RegionCandidate:
    """Write a candidate. Bands, positions and their numbers are the same in both contracts."""
    found: Any = one.candidate
    message = region_pb2.RegionCandidate(
        country=one.country,
        reference=found.reference,
        score=found.score,
        band=found.band,
        prints=[
            region_pb2.RegionCandidatePrint(
                probe_index=each.probe_index,
                position=each.print.position,
                image=each.print.image,
                ppi=each.print.ppi,
                score=each.score,
                band=each.band,
            )
            for each in found.prints
        ],
        comparable=one.comparable,
    )
    if found.HasField("expire_time"):
        message.expire_time.CopyFrom(found.expire_time)
    return message


# ---- calls


def _known(who: Caller | None) -> Caller:
    if who is None:
        raise CallerUnknown(
            "this node asks nobody who calls, and other countries want to know",
            remedy="give [users] in the node's settings, and call with a certificate or token",
        )
    return who


def _seconds(context: Any) -> float:
    left = context.time_remaining()
    return _USUAL if left is None else max(_MARGIN, min(_LONGEST, left - _MARGIN))


def _streamed(
    responses: Iterator[region_pb2.IdentifyRegionResponse], context: Any
) -> Generator[region_pb2.IdentifyRegionResponse, None, None]:
    """Turn an error in the middle of a stream into its status."""
    try:
        yield from responses
    except PapilarError as error:
        context.abort_with_status(rpc_status.to_status(status_of(error)))
    except Exception as error:  # its text may quote what was sent
        _log.error("IdentifyRegion failed with %s", type(error).__name__)
        context.abort(grpc.StatusCode.INTERNAL, "the node failed; its log says why")
