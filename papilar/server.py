"""The node over gRPC: servicers, errors as canonical codes, TLS, health, reflection, clean stop.

Every error that leaves goes through one table, `CODES`: class -> canonical code; its `reason` travels as
`google.rpc.ErrorInfo`. Logs name calls, codes and times, never a print, a subject or a file.
"""

import logging
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from types import FrameType, MappingProxyType
from typing import Any

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from grpc_status import rpc_status

import enroll.errors as image_errors
import matcher.errors as matcher_errors
from matcher.errors import PapilarError
from papilar import errors, translate
from papilar.access import Access, Log
from papilar.api.v1 import enrollment_pb2, enrollment_pb2_grpc, matching_pb2, matching_pb2_grpc
from papilar.config import NodeConfig, Tls, is_loopback, split_address
from papilar.node import MATCHER_VERSION, Node
from papilar.tls import TlsFiles, server_credentials
from papilar.trust import Trust

DOMAIN = "papilar"
MOST_STREAMED = 1_000
MOST_CANDIDATES = 1_000
_PACKAGE = "papilar.api.v1"
_MARGIN = 0.05  # seconds kept back from a caller's deadline, to send the answer in
_GRACE = 20.0  # seconds that calls under way have to end on a stop

_log = logging.getLogger(__name__)

_C = grpc.StatusCode
CODES = MappingProxyType(
    {
        matcher_errors.PapilarError: _C.INTERNAL,
        matcher_errors.InvalidInput: _C.INVALID_ARGUMENT,
        matcher_errors.TemplateError: _C.INVALID_ARGUMENT,
        matcher_errors.TemplateFormatUnknown: _C.INVALID_ARGUMENT,
        matcher_errors.TemplateVersionUnsupported: _C.INVALID_ARGUMENT,
        matcher_errors.TemplateTruncated: _C.INVALID_ARGUMENT,
        matcher_errors.TemplateOutOfBounds: _C.INVALID_ARGUMENT,
        matcher_errors.GalleryError: _C.FAILED_PRECONDITION,
        matcher_errors.GalleryTooNew: _C.FAILED_PRECONDITION,
        matcher_errors.GalleryCorrupt: _C.DATA_LOSS,
        image_errors.ImageError: _C.INVALID_ARGUMENT,
        image_errors.ImageEmpty: _C.INVALID_ARGUMENT,
        image_errors.ImageFormatUnknown: _C.INVALID_ARGUMENT,
        image_errors.ImageTruncated: _C.INVALID_ARGUMENT,
        image_errors.ImageTooLarge: _C.INVALID_ARGUMENT,
        image_errors.ImageTooSmall: _C.INVALID_ARGUMENT,
        image_errors.ResolutionUnknown: _C.INVALID_ARGUMENT,
        image_errors.ResolutionImplausible: _C.INVALID_ARGUMENT,
        image_errors.TransactionError: _C.INVALID_ARGUMENT,
        image_errors.TransactionFormatUnknown: _C.INVALID_ARGUMENT,
        image_errors.TransactionXml: _C.INVALID_ARGUMENT,
        image_errors.TransactionVersionUnsupported: _C.INVALID_ARGUMENT,
        image_errors.TransactionTruncated: _C.INVALID_ARGUMENT,
        image_errors.TransactionTooLarge: _C.INVALID_ARGUMENT,
        image_errors.RecordLengthWrong: _C.INVALID_ARGUMENT,
        image_errors.RecordContentMismatch: _C.INVALID_ARGUMENT,
        image_errors.RecordFieldInvalid: _C.INVALID_ARGUMENT,
        image_errors.RecordCharacterSet: _C.INVALID_ARGUMENT,
        image_errors.RecordImageMissing: _C.INVALID_ARGUMENT,
        image_errors.RecordCompressionWrong: _C.INVALID_ARGUMENT,
        image_errors.RecordImageSize: _C.INVALID_ARGUMENT,
        image_errors.ProfileUnknown: _C.INVALID_ARGUMENT,
        errors.RequestInvalid: _C.INVALID_ARGUMENT,
        errors.MessageTooLarge: _C.RESOURCE_EXHAUSTED,
        errors.ConfigInvalid: _C.FAILED_PRECONDITION,
        errors.TransportInsecure: _C.FAILED_PRECONDITION,
        errors.RequestRefused: _C.FAILED_PRECONDITION,
        errors.GalleryUnknown: _C.NOT_FOUND,
        errors.SubjectUnknown: _C.NOT_FOUND,
        errors.EncounterUnknown: _C.NOT_FOUND,
        errors.EncounterErased: _C.FAILED_PRECONDITION,
        errors.EncounterExists: _C.ALREADY_EXISTS,
        errors.RequestConflict: _C.ALREADY_EXISTS,
        errors.DeadlinePassed: _C.DEADLINE_EXCEEDED,
        errors.GalleryLocked: _C.UNAVAILABLE,
        errors.GalleryIncomplete: _C.UNAVAILABLE,
        errors.SourceInvalid: _C.INVALID_ARGUMENT,
        errors.WorkerDied: _C.INVALID_ARGUMENT,
        errors.ImageTooSlow: _C.INVALID_ARGUMENT,
        errors.ReceiptInvalid: _C.INVALID_ARGUMENT,
        errors.SourceUnreachable: _C.UNAVAILABLE,
        errors.SourceForbidden: _C.UNAVAILABLE,
        errors.StorageError: _C.UNAVAILABLE,
        errors.StorageFull: _C.RESOURCE_EXHAUSTED,
        errors.StorageUnavailable: _C.UNAVAILABLE,
        errors.LawInvalid: _C.INVALID_ARGUMENT,
        errors.LawRefused: _C.FAILED_PRECONDITION,
        errors.LawRolledBack: _C.FAILED_PRECONDITION,
        errors.RetentionNotOver: _C.FAILED_PRECONDITION,
        errors.CertificateRefused: _C.UNAUTHENTICATED,
        errors.SignatureRefused: _C.PERMISSION_DENIED,
        errors.CountryMismatch: _C.PERMISSION_DENIED,
        errors.IdentityPresent: _C.INVALID_ARGUMENT,
        errors.ClockSkew: _C.FAILED_PRECONDITION,
        errors.ReferenceUnknown: _C.NOT_FOUND,
        errors.TooManyCalls: _C.RESOURCE_EXHAUSTED,
        errors.CallerTooFast: _C.RESOURCE_EXHAUSTED,
        errors.CaseUnknown: _C.NOT_FOUND,
        errors.CaseDecided: _C.FAILED_PRECONDITION,
        errors.SubjectMerged: _C.FAILED_PRECONDITION,
        errors.RunUnderWay: _C.FAILED_PRECONDITION,
        errors.NodeError: _C.UNAVAILABLE,
        errors.NodeUnreachable: _C.UNAVAILABLE,
        errors.CallerUnknown: _C.UNAUTHENTICATED,
        errors.CallNotPermitted: _C.PERMISSION_DENIED,
        errors.PurposeMissing: _C.INVALID_ARGUMENT,
        errors.AnswerInvalid: _C.UNAVAILABLE,
        errors.LogForked: _C.UNAVAILABLE,
        errors.NotPermitted: _C.PERMISSION_DENIED,
        errors.OriginalCorrupt: _C.DATA_LOSS,
        errors.OriginalMissing: _C.DATA_LOSS,
        errors.OriginalKeyUnknown: _C.FAILED_PRECONDITION,
    }
)
"""Canonical code of every error class of the project; a test fails on a class without a row."""

Context = Any  # grpc.ServicerContext, generic in the stubs only
AddService = Callable[[grpc.Server, Node, NodeConfig, Access], str]


def status_of(error: PapilarError) -> status_pb2.Status:
    """Return the rich status of an error: code, message, `ErrorInfo` with reason and remedy."""
    detail = any_pb2.Any()
    detail.Pack(
        error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata={"remedy": error.remedy})
    )
    return status_pb2.Status(code=CODES[type(error)].value[0], message=str(error), details=[detail])


def answering(call: Callable[..., Any]) -> Callable[..., Any]:
    """Let the call in or not, turn errors into statuses, log, and answer for a deadline that has passed."""

    @wraps(call)
    def answer(self: "Servicer", request: Any, context: Context) -> Any:
        started, code = time.monotonic(), "OK"
        try:
            return self.access.answer(
                f"{_PACKAGE}.{type(self).__name__}/{call.__name__}",
                request,
                context,
                lambda: self.work(call, request, context),
            )
        except PapilarError as error:
            code = error.reason
            context.abort_with_status(rpc_status.to_status(status_of(error)))
        except grpc.RpcError:  # the caller went away in the middle of its stream
            code = "CANCELLED"
            raise
        except Exception as error:
            # Type and places only: a message may quote what was sent, the name of a subject say.
            code = type(error).__name__
            places = "".join(traceback.format_tb(error.__traceback__))
            _log.error("%s failed with %s\n%s", call.__name__, code, places)
            context.abort(_C.INTERNAL, "the node failed; its log says why")
        finally:
            _log.info("%s %s %.0f ms", call.__name__, code, 1e3 * (time.monotonic() - started))

    return answer


def _check_time(context: Context) -> None:
    left = context.time_remaining()
    if left is not None and left <= 0:
        raise errors.DeadlinePassed("the deadline passed before the work began", remedy="allow more time")


def _deadline(context: Context) -> float | None:
    left = context.time_remaining()
    return None if left is None else time.monotonic() + left - _MARGIN


class Servicer:
    """What the services share."""

    def __init__(self, node: Node, config: NodeConfig, access: Access) -> None:
        self.node = node
        self.config = config
        self.access = access

    def work(self, call: Callable[..., Any], request: Any, context: Context) -> Any:
        """Do the work of a call that was let in."""
        _check_time(context)
        self.check_size(request)
        return call(self, request, context)

    def check_size(
        self, message: object, *, remedy: str = "send fewer prints at a time, or compressed images"
    ) -> None:
        """Refuse a message over the limit; a stream's are checked one by one."""
        size = message.ByteSize() if isinstance(message, Message) else 0
        if size > self.config.max_message_bytes:
            raise errors.MessageTooLarge(
                f"a message of {size} bytes, the most is {self.config.max_message_bytes}",
                remedy=remedy,
            )


class EnrollmentService(Servicer, enrollment_pb2_grpc.EnrollmentServiceServicer):
    """See proto/papilar/api/v1/enrollment.proto."""

    @answering
    def Enroll(self, request: enrollment_pb2.EnrollRequest, context: Context) -> Any:  # noqa: N802
        """Enrol one encounter."""
        self.node.check_name(request.gallery)
        repeat = translate.repeat(request)
        outcome = self.node.enroll(translate.enrollment(request.enrollment), repeat=repeat)
        return enrollment_pb2.EnrollResponse(**translate.to_outcome(outcome))

    @answering
    def EnrollMany(self, request: Iterator[enrollment_pb2.EnrollManyRequest], context: Context) -> Any:  # noqa: N802
        """Enrol a stream of encounters, each on its own."""
        outcomes = [self._enroll_one(place, one) for place, one in enumerate(request)]
        return enrollment_pb2.EnrollManyResponse(outcomes=outcomes)

    @answering
    def GetEncounter(self, request: enrollment_pb2.GetEncounterRequest, context: Context) -> Any:  # noqa: N802
        """Show one encounter."""
        self.node.check_name(request.gallery)
        codec = translate.template_codec(request.template_format) if request.include_templates else None
        found = self.node.encounter(request.encounter_id, images=request.include_images)
        response = enrollment_pb2.GetEncounterResponse(encounter=translate.to_encounter(found, codec=codec))
        self.check_size(response, remedy="ask without include_images")
        return response

    @answering
    def DeleteEncounter(self, request: enrollment_pb2.DeleteEncounterRequest, context: Context) -> Any:  # noqa: N802
        """Delete one encounter."""
        self.node.check_name(request.gallery)
        deleted = self.node.delete(request.encounter_id, repeat=translate.repeat(request))
        return enrollment_pb2.DeleteEncounterResponse(
            deleted_prints=deleted.prints, subject_deleted=deleted.subject_deleted
        )

    def _enroll_one(
        self, place: int, request: enrollment_pb2.EnrollManyRequest
    ) -> enrollment_pb2.EnrollOutcome:
        head: dict[str, Any] = {"index": place, "request_id": request.request_id}
        if place >= MOST_STREAMED:
            raise errors.MessageTooLarge(
                f"more than {MOST_STREAMED} encounters in one stream", remedy="send the rest in another"
            )
        try:
            self.check_size(request)
            self.node.check_name(request.gallery)
            repeat = translate.repeat(request)
            outcome = self.node.enroll(translate.enrollment(request.enrollment), repeat=repeat)
        except PapilarError as error:
            failure = translate.to_failure(error, part=f"item {place}", code=CODES[type(error)].value[0])
            return enrollment_pb2.EnrollOutcome(**head, failure=failure)
        return enrollment_pb2.EnrollOutcome(**head, **translate.to_outcome(outcome))


class MatchingService(Servicer, matching_pb2_grpc.MatchingServiceServicer):
    """See proto/papilar/api/v1/matching.proto."""

    @answering
    def Verify(self, request: matching_pb2.VerifyRequest, context: Context) -> Any:  # noqa: N802
        """Compare 1:1."""
        brought = request.WhichOneof("reference") == "reference_prints"
        if not brought:
            self.node.check_name(request.gallery)
        outcome = self.node.verify(
            [translate.print_input(p) for p in request.probe],
            references=[translate.print_input(p) for p in request.reference_prints.prints]
            if brought
            else None,
            subject_id=request.subject_id,
            encounter_id=request.encounter_id,
            target_fmr=request.target_fmr if request.HasField("target_fmr") else 1e-3,
            evidence=request.include_evidence,
        )
        return translate.to_verification(outcome)

    @answering
    def Identify(self, request: matching_pb2.IdentifyRequest, context: Context) -> Any:  # noqa: N802
        """Search 1:N."""
        self.node.check_name(request.gallery)
        if request.limit > MOST_CANDIDATES:
            raise errors.RequestInvalid(f"a limit of {request.limit}", remedy=f"it is 1 to {MOST_CANDIDATES}")
        outcome = self.node.identify(
            [translate.print_input(p) for p in request.probe],
            limit=request.limit or 10,
            target_fpir=request.target_fpir if request.HasField("target_fpir") else None,
            evidence=request.include_evidence,
            mirrored=not request.skip_mirrored,
            deadline=_deadline(context),
        )
        return translate.to_identification(outcome)

    @answering
    def GetGallery(self, request: matching_pb2.GetGalleryRequest, context: Context) -> Any:  # noqa: N802
        """Describe the gallery."""
        self.node.check_name(request.gallery)
        gallery = translate.to_gallery(
            self.node.describe(),
            matcher_version=MATCHER_VERSION,
            calibration=self.node.calibration,
            max_message_bytes=self.config.max_message_bytes,
        )
        return matching_pb2.GetGalleryResponse(gallery=gallery)


class NodeServer:
    """A node listening; `start` it, `stop` it.

    Parameters
    ----------
    node : Node
        Closed by `stop`.
    config : NodeConfig
    log : callable, optional
        Takes an entry of the log for each call of a user; what cannot be logged is not answered.
    services : sequence of callable
        Add further services: `service(server, node, config, access)` returns the full name of what it added.

    Raises
    ------
    ConfigInvalid
        The address cannot be bound, a certificate cannot be read, or users cannot be known.
    """

    def __init__(
        self,
        node: Node,
        config: NodeConfig,
        *,
        log: Log | None = None,
        services: Sequence[AddService] = (),
    ) -> None:
        self._node = node
        self._access = Access(config.users, log)
        self._server = grpc.server(
            ThreadPoolExecutor(config.workers, thread_name_prefix="call"),
            options=[
                # Twice the limit, so that what is a little over is refused with a reason, not cut off.
                ("grpc.max_receive_message_length", 2 * config.max_message_bytes),
                ("grpc.max_send_message_length", 2 * config.max_message_bytes),
                ("grpc.so_reuseport", 0),
            ],
        )
        self._health = health.HealthServicer()
        self._names = self._add_services(config, services)
        self.port = _bind(self._server, config, self._access)
        _warn_of_strangers(config)

    def start(self) -> None:
        """Answer calls."""
        self._server.start()
        for name in ("", *self._names):
            self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    def stop(self) -> None:
        """Take no new calls, let those under way end, close the node."""
        self._health.enter_graceful_shutdown()
        self._server.stop(_GRACE).wait()
        self._node.close()

    def serve_until_signalled(
        self, on_ready: Callable[[], None] = lambda: None, *, before_stop: Callable[[], None] = lambda: None
    ) -> None:
        """Answer calls until SIGTERM or SIGINT, then stop.

        `on_ready` is called once calls are answered and a signal ends the node cleanly, `before_stop` when
        one has come.
        """
        signalled = threading.Event()

        def on_signal(number: int, frame: FrameType | None) -> None:
            signalled.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, on_signal)
        self.start()
        on_ready()
        signalled.wait()
        before_stop()
        self.stop()

    def _add_services(self, config: NodeConfig, services: Sequence[AddService]) -> tuple[str, ...]:
        """Add all services; return the names of those that work on the gallery."""
        enrollment_pb2_grpc.add_EnrollmentServiceServicer_to_server(
            EnrollmentService(self._node, config, self._access), self._server
        )
        matching_pb2_grpc.add_MatchingServiceServicer_to_server(
            MatchingService(self._node, config, self._access), self._server
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        more = (add(self._server, self._node, config, self._access) for add in services)
        names = (*_SERVICES, *more)
        if config.users is None:  # what is not asked who calls is health alone
            reflection.enable_server_reflection(
                (*names, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server
            )
        return names


_SERVICES = (
    enrollment_pb2.DESCRIPTOR.services_by_name["EnrollmentService"].full_name,
    matching_pb2.DESCRIPTOR.services_by_name["MatchingService"].full_name,
)


def _warn_of_strangers(config: NodeConfig) -> None:
    if not is_loopback(split_address(config.listen)[0]) and not (config.users and config.users.required):
        _log.warning("%s asks nobody who calls: whoever can connect may search; give [users]", config.listen)


def _bind(server: grpc.Server, config: NodeConfig, access: Access) -> int:
    remedy = "stop what listens there, or take another address with --listen"
    if config.tls is not None:
        remedy += "; see that certificate and key are PEM files of one pair"
    try:
        if config.tls is None:
            port = server.add_insecure_port(config.listen)
        else:
            port = server.add_secure_port(config.listen, _credentials(config.tls, access.trust))
    except RuntimeError:
        port = 0
    if not port:
        raise errors.ConfigInvalid(f"cannot listen on {config.listen}", remedy=remedy)
    return port


def _credentials(tls: Tls, trust: Trust | None) -> grpc.ServerCredentials:
    if trust is not None:
        return server_credentials(TlsFiles(tls.certificate, tls.key), trust)
    try:
        key, certificate = tls.key.read_bytes(), tls.certificate.read_bytes()
        ca = tls.client_ca.read_bytes() if tls.client_ca else None
    except OSError as error:
        raise errors.ConfigInvalid(
            f"a certificate file cannot be read ({error.strerror})", remedy="check the paths under [tls]"
        ) from error
    return grpc.ssl_server_credentials(
        [(key, certificate)], root_certificates=ca, require_client_auth=ca is not None
    )
