"""The node's service for duplicates: messages in, values to the node, messages out."""

import logging
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing
from typing import Any

import grpc
from grpc_status import rpc_status

from matcher.calibration import shipped
from matcher.errors import PapilarError
from papilar import translate
from papilar.access import NOBODY, Access, caller
from papilar.api.v1 import duplicates_pb2, duplicates_pb2_grpc, types_pb2
from papilar.config import NodeConfig
from papilar.duplicates import FALSE_PER_PRINT, Case, PrintPair, Progress, State
from papilar.errors import RequestInvalid
from papilar.node import Node
from papilar.server import Servicer, answering, status_of
from papilar.store import Owner

_log = logging.getLogger(__name__)

MOST_CASES, USUAL_CASES = 1_000, 100


class DuplicateService(Servicer, duplicates_pb2_grpc.DuplicateServiceServicer):
    """See proto/papilar/api/v1/duplicates.proto."""

    @answering
    def FindDuplicates(self, request: duplicates_pb2.FindDuplicatesRequest, context: Any) -> Any:  # noqa: N802
        """Look the gallery through."""
        self.node.check_name(request.gallery)
        rate = request.target_fpir if request.HasField("target_fpir") else FALSE_PER_PRINT
        return _streamed(self._answers(rate, again=request.again), context)

    @answering
    def ListDuplicateCases(  # noqa: N802
        self, request: duplicates_pb2.ListDuplicateCasesRequest, context: Any
    ) -> Any:
        """List cases."""
        self.node.check_name(request.gallery)
        if request.limit > MOST_CASES:
            raise RequestInvalid(f"a limit of {request.limit}", remedy=f"it is 1 to {MOST_CASES}")
        after, most = request.after_case_number, request.limit or USUAL_CASES
        cases = self.node.duplicates.cases(decided=request.include_decided, after=after, most=most)
        response = duplicates_pb2.ListDuplicateCasesResponse(cases=self._messages(cases))
        self.check_size(response, remedy="ask with a lower limit")
        return response

    @answering
    def DecideDuplicateCase(  # noqa: N802
        self, request: duplicates_pb2.DecideDuplicateCaseRequest, context: Any
    ) -> Any:
        """Decide a case."""
        self.node.check_name(request.gallery)
        (decided,) = self._messages([_decide(self.node, request)])
        return duplicates_pb2.DecideDuplicateCaseResponse(case=decided)

    @answering
    def UnmergeSubjects(self, request: duplicates_pb2.UnmergeSubjectsRequest, context: Any) -> Any:  # noqa: N802
        """Undo a merge."""
        self.node.check_name(request.gallery)
        repeat: Any = request
        self.node.duplicates.unmerge(
            request.merge_id, by=_who(), note=request.note, repeat=translate.repeat(repeat)
        )
        return duplicates_pb2.UnmergeSubjectsResponse()

    def _answers(
        self, rate: float, *, again: bool
    ) -> Generator[duplicates_pb2.FindDuplicatesResponse, None, None]:
        with closing(self.node.duplicates.find(rate=rate, again=again)) as found:
            for one in found:
                if isinstance(one, Progress):
                    progress = duplicates_pb2.DuplicateProgress(searched_prints=one.done, prints=one.total)
                    yield duplicates_pb2.FindDuplicatesResponse(progress=progress)
                else:
                    (case,) = self._messages([one])
                    yield duplicates_pb2.FindDuplicatesResponse(case=case)

    def _messages(self, cases: Iterable[Case]) -> list[duplicates_pb2.DuplicateCase]:
        cases = list(cases)
        owners = self.node.duplicates.owners(cases)
        return [to_case(case, owners) for case in cases]


def duplicate_service(server: grpc.Server, node: Node, config: NodeConfig, access: Access) -> str:
    """Add the service to a server; return its full name."""
    service = DuplicateService(node, config, access)
    duplicates_pb2_grpc.add_DuplicateServiceServicer_to_server(service, server)
    return duplicates_pb2.DESCRIPTOR.services_by_name["DuplicateService"].full_name


# ---- value -> message


def to_case(case: Case, owners: Mapping[int, Owner]) -> duplicates_pb2.DuplicateCase:
    """Write a case; of `owners` are the prints that are still there."""
    found, decision = case.finding, case.decision
    message = duplicates_pb2.DuplicateCase(
        case_number=case.number,
        kind=duplicates_pb2.DuplicateKind.Value(f"DUPLICATE_KIND_{found.kind}"),
        subject_id=found.first,
        other_subject_id=found.second,
        score=found.score,
        band=_band(found.score),
        pairs=[_pair(one, owners) for one in found.pairs if {one.row, one.other_row} <= owners.keys()],
        state=duplicates_pb2.DuplicateState.Value(f"DUPLICATE_STATE_{case.state}"),
        merge_id=case.merge_id,
    )
    message.create_time.FromDatetime(case.found)
    if decision is not None:
        message.decided_by, message.note = decision.by, decision.note
        message.decide_time.FromDatetime(decision.at)
    return message


def _pair(pair: PrintPair, owners: Mapping[int, Owner]) -> duplicates_pb2.PrintPair:
    return duplicates_pb2.PrintPair(
        print=_place(owners[pair.row]),
        other_print=_place(owners[pair.other_row]),
        score=pair.score,
        band=_band(pair.score),
        same_file=pair.same_file,
    )


def _place(owner: Owner) -> duplicates_pb2.PrintPlace:
    position: Any = owner.finger.value
    return duplicates_pb2.PrintPlace(encounter_id=owner.encounter_id, index=owner.ordinal, position=position)


def _band(score: float) -> types_pb2.Band.ValueType:
    return types_pb2.Band.Value(f"BAND_{shipped().band(score).upper()}")


# ---- calls


def _decide(node: Node, request: duplicates_pb2.DecideDuplicateCaseRequest) -> Case:
    sent: Any = request
    how: dict[str, Any] = {"by": _who(), "note": request.note, "repeat": translate.repeat(sent)}
    if request.decision == duplicates_pb2.DUPLICATE_STATE_MERGED:
        return node.duplicates.merge_case(request.case_number, request.subject_id, **how)
    if request.decision != duplicates_pb2.DUPLICATE_STATE_DISTINCT or request.subject_id:
        raise RequestInvalid(
            "no decision", remedy=f"send {State.MERGED} with a subject_id, or {State.DISTINCT} without"
        )
    return node.duplicates.call_distinct(request.case_number, **how)


def _who() -> str:
    """Return the pseudonym of the caller; of a trial among friends, whom nobody asked, that of nobody."""
    who = caller()
    return who.identity.name if who else NOBODY


def _streamed(
    answers: Generator[duplicates_pb2.FindDuplicatesResponse, None, None], context: Any
) -> Iterator[duplicates_pb2.FindDuplicatesResponse]:
    """Stop with the caller; turn an error in the middle of a stream into its status."""
    with closing(answers):
        try:
            for one in answers:
                if not context.is_active():
                    return
                yield one
        except PapilarError as error:
            context.abort_with_status(rpc_status.to_status(status_of(error)))
        except Exception as error:  # its text may quote what is stored
            _log.error("FindDuplicates failed with %s", type(error).__name__)
            context.abort(grpc.StatusCode.INTERNAL, "the node failed; its log says why")
