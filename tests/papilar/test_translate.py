"""Messages <-> values: nothing is lost, every code of the contract has its value, others are refused."""

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from minutiae import finger, mate

from matcher.codecs import decode, encode
from matcher.compare import compare
from matcher.cylinders import prepare
from matcher.template import Finger, Impression
from papilar import translate
from papilar.api.v1 import enrollment_pb2, types_pb2
from papilar.errors import GalleryUnknown, RequestInvalid
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
    PartFailure,
    PrintInput,
    PrintMatch,
    Rejected,
    Threshold,
)
from papilar.store import MissingFinger, MissingReason, StoredEncounter, StoredPrint

names = st.text(max_size=20)
numbers = st.integers(0, 2**31 - 1)
reals = st.floats(-1e6, 1e6)
fingers = st.sampled_from(Finger)
impressions = st.none() | st.sampled_from(Impression)
prints = st.one_of(
    st.builds(
        PrintInput,
        fingers,
        impressions,
        st.binary(max_size=50),
        st.none() | st.floats(0.0, 3000.0),
        st.none(),
    ),
    st.builds(PrintInput, fingers, impressions, st.none(), st.none(), st.binary(max_size=50)),
    st.builds(PrintInput, fingers, impressions),
)
missing = st.builds(MissingFinger, fingers, st.sampled_from(MissingReason))
enrollments = st.builds(
    Enrollment,
    st.lists(prints, max_size=4).map(tuple),
    names,
    names,
    st.lists(missing, max_size=4).map(tuple),
    st.booleans(),
    st.booleans(),
    names,
)
nfiq2 = st.just((None, "")) | st.tuples(st.integers(0, 100), names)
assessments = st.lists(
    st.builds(
        lambda judged, *rest: Assessment(*rest, *judged),
        nfiq2,
        numbers,
        fingers,
        st.booleans(),
        st.none() | st.integers(0, 100),
        st.lists(st.tuples(names, names), max_size=3).map(tuple),
        numbers,
    ),
    max_size=4,
).map(tuple)
found = st.builds(Found, numbers, names, names, reals, st.just(()))
outcomes = st.one_of(
    st.builds(Enrolled, names, names, assessments, st.booleans()),
    st.builds(Rejected, assessments),
    st.builds(
        Duplicate, st.lists(found, max_size=3).map(tuple), st.builds(Threshold, reals, st.floats(0, 1), names)
    ),
)


class TestRoundTrips:
    @given(prints)
    def test_a_print(self, given: PrintInput) -> None:
        wire = translate.to_print(given).SerializeToString()
        assert translate.print_input(types_pb2.Print.FromString(wire)) == given

    @given(enrollments)
    def test_an_enrollment(self, new: Enrollment) -> None:
        wire = translate.to_enrollment(new).SerializeToString()
        assert translate.enrollment(enrollment_pb2.Enrollment.FromString(wire)) == new

    @given(outcomes)
    def test_an_outcome(self, outcome: Outcome) -> None:
        response = enrollment_pb2.EnrollResponse(**translate.to_outcome(outcome))
        wire = response.SerializeToString()
        assert translate.outcome(enrollment_pb2.EnrollResponse.FromString(wire)) == outcome

    @given(st.builds(Enrolled, names, names, assessments, st.just(True)))
    def test_what_is_kept_for_a_repeat(self, enrolled: Enrolled) -> None:
        assert Enrolled.load(enrolled.dump()) == enrolled

    def test_what_was_kept_before_there_was_nfiq2(self) -> None:
        kept = b'{"subject_id": "s", "encounter_id": "e", "prints": [[0, 3, true, 70, [["A", "b"]], 40]]}'
        (print_,) = Enrolled.load(kept).prints
        assert print_ == Assessment(0, Finger(3), True, 70, (("A", "b"),), 40, None, "")


class TestCodes:
    @pytest.mark.parametrize("code", types_pb2.FingerPosition.values())
    def test_every_finger(self, code: int) -> None:
        assert translate.print_input(types_pb2.Print(position=code)).finger == code

    @pytest.mark.parametrize("code", types_pb2.ImpressionType.values())
    def test_every_impression(self, code: int) -> None:
        impression = translate.print_input(types_pb2.Print(impression=code)).impression
        assert (0 if impression is None else impression + 1) == code

    @pytest.mark.parametrize("code", set(types_pb2.MissingReason.values()) - {0})
    def test_every_reason_of_a_missing_finger(self, code: int) -> None:
        new = enrollment_pb2.Enrollment(missing=[types_pb2.MissingFinger(position=3, reason=code)])
        ((finger, reason),) = translate.enrollment(new).missing
        assert finger == Finger.RIGHT_MIDDLE
        assert types_pb2.MissingReason.Value(f"MISSING_REASON_{reason}") == code

    @pytest.mark.parametrize("code", types_pb2.TemplateFormat.values())
    def test_every_template_format(self, code: int) -> None:
        sent = types_pb2.Print(template=types_pb2.Template(data=b"x", format=code))
        assert translate.print_input(sent).template == b"x"
        if code == types_pb2.TEMPLATE_FORMAT_ANSI_378_2009:
            with pytest.raises(RequestInvalid):
                translate.template_codec(code)
        else:
            codec = translate.template_codec(code)
            assert decode(encode(finger(1), codec))[0].size == finger(1).size

    @pytest.mark.parametrize("code", enrollment_pb2.DuplicateCheck.values())
    def test_every_duplicate_check(self, code: int) -> None:
        new = translate.enrollment(enrollment_pb2.Enrollment(duplicate_check=code))
        assert new.check_duplicates is (code == enrollment_pb2.DUPLICATE_CHECK_REFUSE)

    @pytest.mark.parametrize(
        "new",
        [
            enrollment_pb2.Enrollment(prints=[types_pb2.Print(position=11)]),
            enrollment_pb2.Enrollment(prints=[types_pb2.Print(position=-1)]),
            enrollment_pb2.Enrollment(prints=[types_pb2.Print(impression=11)]),
            enrollment_pb2.Enrollment(prints=[types_pb2.Print(impression=-1)]),
            enrollment_pb2.Enrollment(prints=[types_pb2.Print(template=types_pb2.Template(format=77))]),
            enrollment_pb2.Enrollment(missing=[types_pb2.MissingFinger(position=1)]),
            enrollment_pb2.Enrollment(missing=[types_pb2.MissingFinger(position=1, reason=99)]),
            enrollment_pb2.Enrollment(missing=[types_pb2.MissingFinger(position=99, reason=1)]),
            enrollment_pb2.Enrollment(duplicate_check=3),
        ],
        ids=str,
    )
    def test_others_are_refused(self, new: enrollment_pb2.Enrollment) -> None:
        with pytest.raises(RequestInvalid):
            translate.enrollment(enrollment_pb2.Enrollment.FromString(new.SerializeToString()))

    @pytest.mark.parametrize("code", [-1, 4, 6, 99])
    def test_formats_that_are_not_written(self, code: int) -> None:
        with pytest.raises(RequestInvalid, match="not written"):
            translate.template_codec(code)


class TestAnswers:
    def test_an_encounter(self) -> None:
        template = finger(5, code=Finger.LEFT_INDEX)
        stored = StoredPrint(
            9,
            "e",
            0,
            Finger.LEFT_INDEX,
            Impression.LATENT_LIFT,
            encode(template, "papilar-2"),
            40,
            0,
            None,
            b"P",
            0,
            "2.3.0",
        )
        created = datetime(2026, 5, 4, 3, 2, 1, 500, tzinfo=UTC)
        lost = MissingFinger(Finger.LEFT_THUMB, MissingReason.BANDAGED)
        message = translate.to_encounter(
            StoredEncounter("s", "e", created, (stored,), (lost,)), codec="iso-19794-2:2005"
        )
        (one,) = message.prints
        assert message.create_time.ToDatetime(UTC) == created
        assert (one.position, one.impression) == (7, types_pb2.IMPRESSION_TYPE_LATENT_LIFT)
        assert (one.image.data, one.image.ppi) == (b"P", 500.0)
        assert one.HasField("quality_score"), "0 is a quality"
        assert one.quality_score == 0
        assert one.HasField("nfiq2"), "0 is a score"
        assert (one.nfiq2, one.nfiq2_version) == (0, "2.3.0")
        assert one.template.format == types_pb2.TEMPLATE_FORMAT_ISO_19794_2_2005
        assert np.array_equal(decode(one.template.data)[0].xy, template.xy)
        assert [(m.position, m.reason) for m in message.missing] == [(6, types_pb2.MISSING_REASON_BANDAGED)]

    def test_an_encounter_without_templates_and_images(self) -> None:
        stored = StoredPrint(9, "e", 0, Finger(1), Impression(0), b"never read", 40, None, None)
        message = translate.to_encounter(
            StoredEncounter("s", "e", datetime.now(UTC), (stored,), ()), codec=None
        )
        (one,) = message.prints
        absent = {"image", "template", "quality_score", "nfiq2", "nfiq2_version"}
        assert absent.isdisjoint(field.name for field, _ in one.ListFields())

    def test_evidence_is_stated_in_the_contract_s_units(self) -> None:
        first = finger(3)
        second = mate(first, 4, turn=2.5).template
        probe, reference = prepare(second), prepare(first)
        evidence = Evidence(compare(probe, reference), probe, reference)
        message = translate.to_comparison(PrintMatch(2, "e", 1, Finger.LEFT_RING, 7.5, evidence))
        assert (message.probe_index, message.reference_index, message.position) == (2, 1, 9)
        assert len(message.correspondences) == len(evidence.comparison.pairs) > 10
        assert all(
            0 <= m.angle < 2 * math.pi for c in message.correspondences for m in (c.probe, c.reference)
        )
        assert -math.pi < message.transform.rotation <= math.pi

    @pytest.mark.parametrize(
        ("mine", "theirs", "disagree"), [(2, 7, True), (2, 2, False), (0, 7, False), (2, 0, False)]
    )
    def test_positions_that_disagree(self, mine: int, theirs: int, disagree: bool) -> None:
        match = PrintMatch(0, "e", 1, Finger(theirs), 7.5, probe_finger=Finger(mine))
        message = translate.to_comparison(match)
        assert (message.probe_position, message.position) == (mine, theirs)
        assert message.positions_disagree is match.disagree is disagree

    def test_no_alignment_no_transform(self) -> None:
        nothing = prepare(finger(3).best(1))
        evidence = Evidence(compare(nothing, nothing), nothing, nothing)
        message = translate.to_comparison(PrintMatch(0, "", 0, Finger(0), -3.0, evidence))
        assert not message.HasField("transform")
        assert not message.correspondences

    @pytest.mark.parametrize(("reason", "code"), [("PROBE_REJECTED", 9), ("DEADLINE_PASSED", 4)])
    def test_a_search_that_is_not_complete(self, reason: str, code: int) -> None:
        second = timedelta(seconds=1.5)
        probe = (Assessment(0, Finger(0), True, 9, (), 30), Assessment(1, Finger(0), False, 9, (), 0))
        message = translate.to_identification(
            Identification((), 7, 5, (PartFailure("probe", reason, "do"),), None, probe, second, second)
        )
        assert not message.complete
        assert (message.failures[0].code, message.failures[0].reason) == (code, reason)
        assert not message.HasField("threshold")
        assert message.statistics.scanned_prints == 7, "once for each print that was searched with"
        assert message.statistics.search_time.ToTimedelta() == second

    def test_a_failure_and_a_gallery(self) -> None:
        failure = translate.to_failure(GalleryUnknown("none", remedy="ask"), part="item 3", code=5)
        assert (failure.part, failure.code, failure.reason) == ("item 3", 5, "GALLERY_UNKNOWN")
        assert failure.message == "none; ask"
        described = Description("hn", 1e9, 1, {"extractor": "leader"}, 1, 2, 3, keeps_images=True)
        gallery = translate.to_gallery(described, matcher_version="m", calibration="c", max_message_bytes=9)
        assert (gallery.subjects, gallery.encounters, gallery.prints) == (1, 2, 3)
        assert gallery.create_time.ToDatetime(UTC) == datetime.fromtimestamp(1e9, UTC)
        assert (gallery.extractor_version, gallery.matcher_version) == ("leader", "m")
