"""Messages of the contract <-> plain values; nothing else. See proto/papilar/api/v1 for what fields mean."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from types import MappingProxyType
from typing import Any, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import code_pb2

from matcher.calibration import Band
from matcher.codecs import NATIVE, decode, encode
from matcher.compare import Comparison
from matcher.errors import PapilarError
from matcher.template import Finger, Impression
from papilar.api.v1 import enrollment_pb2, matching_pb2, types_pb2
from papilar.errors import RequestInvalid
from papilar.requests import (
    Assessment,
    Description,
    Duplicate,
    Enrolled,
    Enrollment,
    Evidence,
    Found,
    Identification,
    Outcome,
    PrintInput,
    PrintMatch,
    Rejected,
    Repeat,
    Threshold,
    Verification,
)
from papilar.store import MissingFinger, MissingReason, StoredEncounter, StoredPrint

TEMPLATE_FORMATS = MappingProxyType(
    {
        types_pb2.TEMPLATE_FORMAT_UNSPECIFIED: "iso-19794-2:2011",
        types_pb2.TEMPLATE_FORMAT_ISO_19794_2_2005: "iso-19794-2:2005",
        types_pb2.TEMPLATE_FORMAT_ISO_19794_2_2011: "iso-19794-2:2011",
        types_pb2.TEMPLATE_FORMAT_ANSI_378_2004: "ansi-378:2004",
        types_pb2.TEMPLATE_FORMAT_PAPILAR: NATIVE,
    }
)
"""Forms in which a template can be asked for, and their codecs."""

# ---- requests: message -> value


def print_input(message: types_pb2.Print) -> PrintInput:
    """Read one print of a request.

    Raises
    ------
    RequestInvalid
        A code that the contract does not have.
    """
    source = message.WhichOneof("source")
    if message.template.format not in types_pb2.TemplateFormat.values():
        raise RequestInvalid(
            f"template format {message.template.format}", remedy="use the codes of types.proto"
        )
    return PrintInput(
        finger=_finger(message.position),
        impression=_impression(message.impression),
        image=message.image.data if source == "image" else None,
        ppi=message.image.ppi if source == "image" and message.image.HasField("ppi") else None,
        template=message.template.data if source == "template" else None,
    )


_Change = TypeVar(
    "_Change",
    enrollment_pb2.EnrollRequest,
    enrollment_pb2.EnrollManyRequest,
    enrollment_pb2.DeleteEncounterRequest,
)


def repeat(request: _Change) -> Repeat | None:
    """Return what makes a request safe to repeat: its id, and a hash of all the rest. None without an id."""
    if not request.request_id:
        return None
    rest = type(request)()
    rest.CopyFrom(request)
    rest.ClearField("request_id")
    return Repeat(request.request_id, sha256(rest.SerializeToString(deterministic=True)).digest())


def enrollment(message: enrollment_pb2.Enrollment) -> Enrollment:
    """Read an encounter to be enrolled.

    Raises
    ------
    RequestInvalid
        A code that the contract does not have.
    """
    return Enrollment(
        prints=tuple(print_input(p) for p in message.prints),
        subject_id=message.subject_id,
        encounter_id=message.encounter_id,
        missing=tuple(_missing(m) for m in message.missing),
        check_duplicates=_refuses_duplicates(message.duplicate_check),
        require_all=message.require_all,
        replaces=message.replaces_encounter_id,
    )


def _finger(code: int) -> Finger:
    try:
        return Finger(code)
    except ValueError:
        raise RequestInvalid(
            f"finger position {code}", remedy="use the codes of types.proto: 0 to 10"
        ) from None


def _impression(code: int) -> Impression | None:
    """Take one off: the contract's numbers are ISO's plus one, 0 standing for "not stated"."""
    try:
        return None if code == 0 else Impression(code - 1)
    except ValueError:
        raise RequestInvalid(f"impression type {code}", remedy="use the codes of types.proto") from None


def _refuses_duplicates(code: int) -> bool:
    if code not in enrollment_pb2.DuplicateCheck.values():
        raise RequestInvalid(f"duplicate check {code}", remedy="use the codes of enrollment.proto")
    return code == enrollment_pb2.DUPLICATE_CHECK_REFUSE


def _missing(message: types_pb2.MissingFinger) -> MissingFinger:
    name = types_pb2.MissingReason.Name(message.reason) if message.reason in _REASONS else ""
    if not name:
        raise RequestInvalid("a missing finger without a reason", remedy="state one of MissingReason")
    return MissingFinger(_finger(message.position), MissingReason(name.removeprefix("MISSING_REASON_")))


_REASONS = frozenset(types_pb2.MissingReason.values()) - {types_pb2.MISSING_REASON_UNSPECIFIED}

# ---- requests: value -> message


def to_print(given: PrintInput) -> types_pb2.Print:
    """Write one print of a request."""
    message = types_pb2.Print(position=given.finger.value)  # type: ignore[arg-type]
    if given.impression is not None:
        message.impression = given.impression.value + 1  # type: ignore[assignment]
    if given.image is not None:
        message.image.data = given.image
        if given.ppi is not None:
            message.image.ppi = given.ppi
    if given.template is not None:
        message.template.data = given.template
    return message


def to_enrollment(new: Enrollment) -> enrollment_pb2.Enrollment:
    """Write an encounter to be enrolled."""
    check = enrollment_pb2.DUPLICATE_CHECK_REFUSE if new.check_duplicates else 0
    return enrollment_pb2.Enrollment(
        subject_id=new.subject_id,
        encounter_id=new.encounter_id,
        prints=[to_print(p) for p in new.prints],
        missing=[_to_missing(m) for m in new.missing],
        duplicate_check=check,  # type: ignore[arg-type]
        require_all=new.require_all,
        replaces_encounter_id=new.replaces,
    )


def to_enroll_request(
    new: Enrollment, *, request_id: str = "", gallery: str = ""
) -> enrollment_pb2.EnrollRequest:
    """Write the request that enrols an encounter."""
    return enrollment_pb2.EnrollRequest(request_id=request_id, gallery=gallery, enrollment=to_enrollment(new))


def _to_missing(item: MissingFinger) -> types_pb2.MissingFinger:
    reason = types_pb2.MissingReason.Value(f"MISSING_REASON_{item.reason}")
    return types_pb2.MissingFinger(position=item.finger.value, reason=reason)  # type: ignore[arg-type]


# ---- answers: message -> value


def outcome(response: enrollment_pb2.EnrollResponse) -> Outcome:
    """Read an enrolment's outcome."""
    match response.WhichOneof("outcome"):
        case "enrolled":
            done = response.enrolled
            return Enrolled(done.subject_id, done.encounter_id, _assessments(done.prints), done.repeated)
        case "rejected":
            return Rejected(_assessments(response.rejected.prints))
        case _:
            known, least = response.duplicate.candidates, response.duplicate.threshold
            found = tuple(Found(c.rank, c.subject_id, c.encounter_id, c.score, ()) for c in known)
            return Duplicate(found, Threshold(least.score, least.rate, least.calibration_id))


def _assessments(prints: Iterable[types_pb2.PrintAssessment]) -> tuple[Assessment, ...]:
    return tuple(
        Assessment(
            p.index,
            Finger(p.position),
            p.accepted,
            p.quality.score if p.quality.HasField("score") else None,
            tuple((r.code, r.advice) for r in p.quality.reasons),
            p.minutiae,
            p.quality.nfiq2 if p.quality.HasField("nfiq2") else None,
            p.quality.nfiq2_version,
        )
        for p in prints
    )


# ---- answers: value -> message


def to_assessment(one: Assessment) -> types_pb2.PrintAssessment:
    """Write what became of a print."""
    message = types_pb2.PrintAssessment(
        index=one.ordinal,
        position=one.finger.value,  # type: ignore[arg-type]
        accepted=one.accepted,
        minutiae=one.minutiae,
    )
    if one.quality is not None:
        message.quality.score = one.quality
    if one.nfiq2 is not None:
        message.quality.nfiq2, message.quality.nfiq2_version = one.nfiq2, one.nfiq2_version
    message.quality.reasons.extend(types_pb2.QualityReason(code=c, advice=a) for c, a in one.reasons)
    return message


def to_assessments(prints: Iterable[Assessment]) -> list[types_pb2.PrintAssessment]:
    """Write what became of each print."""
    return [to_assessment(one) for one in prints]


def to_outcome(outcome: Outcome) -> dict[str, Any]:
    """Write an enrolment's outcome, under the name of the field it goes into."""
    match outcome:
        case Enrolled(subject, encounter, prints, repeated):
            message = enrollment_pb2.Enrolled(
                subject_id=subject,
                encounter_id=encounter,
                prints=to_assessments(prints),
                repeated=repeated,
            )
            return {"enrolled": message}
        case Rejected(prints):
            return {"rejected": enrollment_pb2.Rejected(prints=to_assessments(prints))}
        case Duplicate(candidates, threshold):
            found = [to_candidate(c) for c in candidates]
            return {
                "duplicate": enrollment_pb2.Duplicate(candidates=found, threshold=to_threshold(threshold))
            }


def to_failure(error: PapilarError, *, part: str, code: int) -> types_pb2.Failure:
    """Write an error that ends one part of a call while the rest goes on."""
    return types_pb2.Failure(part=part, code=code, reason=error.reason, message=str(error))


def to_threshold(threshold: Threshold) -> types_pb2.Threshold:
    """Write a threshold."""
    score, rate, calibration = threshold
    return types_pb2.Threshold(score=score, rate=rate, calibration_id=calibration)


def to_candidate(found: Found) -> types_pb2.Candidate:
    """Write a candidate."""
    return types_pb2.Candidate(
        rank=found.rank,
        subject_id=found.subject,
        encounter_id=found.encounter,
        score=found.score,
        comparisons=[to_comparison(m) for m in found.matches],
        band=_BANDS[found.band],
    )


def to_comparison(match: PrintMatch) -> types_pb2.Comparison:
    """Write one print against another, with what was found in both where there is evidence."""
    message = types_pb2.Comparison(
        probe_index=match.probe,
        reference_encounter_id=match.encounter,
        reference_index=match.ordinal,
        position=match.finger.value,  # type: ignore[arg-type]
        score=match.score,
        probe_position=match.probe_finger.value,  # type: ignore[arg-type]
        positions_disagree=match.disagree,
        band=_BANDS[match.band],
    )
    if match.evidence is not None:
        parts = match.evidence.comparison.parts
        message.parts.extend(
            types_pb2.ScorePart(name=p.name, measured=p.measured, adds=p.adds) for p in parts
        )
        message.ridges_opposed = match.evidence.comparison.opposed
    if match.evidence is not None and len(match.evidence.comparison.pairs):
        message.correspondences.extend(_to_correspondences(match.evidence))
        dx, dy, turn = match.evidence.comparison.transform
        message.transform.MergeFrom(types_pb2.Transform(dx=dx, dy=dy, rotation=turn))
    return message


_BANDS = MappingProxyType(
    {
        None: types_pb2.BAND_UNSPECIFIED,
        Band.RED: types_pb2.BAND_RED,
        Band.YELLOW: types_pb2.BAND_YELLOW,
        Band.GREEN: types_pb2.BAND_GREEN,
    }
)


def _to_correspondences(evidence: Evidence) -> Iterable[types_pb2.Correspondence]:
    comparison: Comparison = evidence.comparison
    for i, j in comparison.pairs.tolist():
        yield types_pb2.Correspondence(
            probe=_to_minutia(evidence.probe.pose[i].tolist()),
            reference=_to_minutia(evidence.reference.pose[j].tolist()),
        )


def _to_minutia(pose: Sequence[float]) -> types_pb2.Minutia:
    x, y, angle = pose
    return types_pb2.Minutia(x=x, y=y, angle=angle % 6.283185307179586)


def to_verification(outcome: Verification) -> matching_pb2.VerifyResponse:
    """Write the outcome of a comparison 1:1."""
    return matching_pb2.VerifyResponse(
        score=outcome.score,
        threshold=to_threshold(outcome.threshold),
        reached=outcome.reached,
        comparisons=[to_comparison(m) for m in outcome.matches],
        probe=to_assessments(outcome.probe),
        references=to_assessments(outcome.references),
        band=_BANDS[outcome.band],
        mirrored_score=outcome.mirrored,
    )


def to_identification(outcome: Identification) -> matching_pb2.IdentifyResponse:
    """Write the outcome of a search 1:N."""
    extraction, search = Duration(), Duration()
    extraction.FromTimedelta(outcome.extraction_time)
    search.FromTimedelta(outcome.search_time)
    return matching_pb2.IdentifyResponse(
        candidates=[to_candidate(c) for c in outcome.candidates],
        searched_prints=outcome.searched,
        complete=not outcome.failures,
        failures=[
            types_pb2.Failure(part=f.part, code=_FAILURE_CODES[f.reason], reason=f.reason, message=f.message)
            for f in outcome.failures
        ],
        threshold=None if outcome.threshold is None else to_threshold(outcome.threshold),
        probe=to_assessments(outcome.probe),
        statistics=types_pb2.SearchStatistics(
            scanned_prints=outcome.searched * sum(p.accepted for p in outcome.probe),
            compared_prints=outcome.compared,
            extraction_time=extraction,
            search_time=search,
        ),
        mirrored_score=outcome.mirrored,
    )


_FAILURE_CODES = MappingProxyType(
    {
        "PROBE_REJECTED": code_pb2.FAILED_PRECONDITION,
        "DEADLINE_PASSED": code_pb2.DEADLINE_EXCEEDED,
        "PART_LOST": code_pb2.UNAVAILABLE,
    }
)


def to_encounter(stored: StoredEncounter, *, codec: str | None) -> enrollment_pb2.Encounter:
    """Write an encounter; with templates in the form `codec` where it is not None."""
    created = Timestamp()
    created.FromDatetime(stored.created)
    return enrollment_pb2.Encounter(
        encounter_id=stored.encounter_id,
        subject_id=stored.subject_id,
        create_time=created,
        prints=[_to_enrolled_print(p, codec) for p in stored.prints],
        missing=[_to_missing(m) for m in stored.missing],
        replaces_encounter_id=stored.replaces or "",
    )


def _to_enrolled_print(stored: StoredPrint, codec: str | None) -> enrollment_pb2.EnrolledPrint:
    message = enrollment_pb2.EnrolledPrint(
        index=stored.ordinal,
        position=stored.finger.value,  # type: ignore[arg-type]
        impression=stored.impression.value + 1,  # type: ignore[arg-type]
        minutiae=stored.minutiae,
        source_sha256=stored.source_sha256 or b"",
    )
    if stored.quality is not None:
        message.quality_score = stored.quality
    if stored.nfiq2 is not None:
        message.nfiq2, message.nfiq2_version = stored.nfiq2, stored.nfiq2_version or ""
    if stored.image is not None:
        message.image.data, message.image.ppi = stored.image, 500.0
    if codec is not None:
        message.template.data = encode(decode(stored.template), codec)
        message.template.format = next(f for f, name in TEMPLATE_FORMATS.items() if f and name == codec)
    return message


def template_codec(code: int) -> str:
    """Return the codec of a template format.

    Raises
    ------
    RequestInvalid
        One that is not written.
    """
    codec = TEMPLATE_FORMATS.get(code)  # type: ignore[call-overload]
    if codec is None:
        raise RequestInvalid(f"template format {code} is not written", remedy="ask for another format")
    return str(codec)


def to_gallery(
    described: Description, *, matcher_version: str, calibration: str, max_message_bytes: int
) -> matching_pb2.Gallery:
    """Write what a gallery is and holds."""
    created = Timestamp()
    created.FromDatetime(datetime.fromtimestamp(described.created, UTC))
    return matching_pb2.Gallery(
        name=described.name,
        subjects=described.subjects,
        encounters=described.encounters,
        prints=described.prints,
        extractor_version=described.facts.get("extractor", ""),
        matcher_version=matcher_version,
        calibration_id=calibration,
        format_version=described.format_version,
        create_time=created,
        ready=True,
        keeps_images=described.keeps_images,
        max_message_bytes=max_message_bytes,
    )
