"""The node over a real socket: the main job, every outcome, every documented error, health and reflection."""

import importlib
import json
import pkgutil
import subprocess
import sys
import threading
import time
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import skimage.data
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from minutiae import finger, mate, rotation
from nodes import (
    MOST_BYTES,
    Refusal,
    Served,
    a_person,
    as_png,
    best_of,
    enrolled_as,
    image_of,
    mate_record,
    message_of,
    picture,
    record,
    refusal,
    search_for,
    seen_again,
    serving,
    white,
)
from PIL import Image
from stores import set_pragma

import enroll
import matcher
import papilar
from matcher.calibration import shipped
from matcher.codecs import decode, encode
from matcher.errors import PapilarError
from matcher.template import Finger, Impression
from papilar import translate
from papilar.api.v1 import enrollment_pb2, matching_pb2, types_pb2
from papilar.client import NodeClient
from papilar.errors import EncounterErased, EncounterUnknown, RequestConflict
from papilar.requests import Enrollment, PrintInput
from papilar.server import CODES, MOST_STREAMED
from papilar.store import MissingFinger, MissingReason

UNKNOWN_ID = "00000000-0000-4000-8000-000000000000"
THUMB, INDEX, MIDDLE = Finger.RIGHT_THUMB, Finger.RIGHT_INDEX, Finger.RIGHT_MIDDLE


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serving(tmp_path / "hn") as served:
        yield served


def new_id() -> str:
    return str(uuid.uuid4())


def counts(served: Served) -> tuple[int, int, int]:
    gallery = served.client.gallery()
    return gallery.subjects, gallery.encounters, gallery.prints


def shown(served: Served, encounter: str, **fields: Any) -> enrollment_pb2.Encounter:
    return served.client.encounter(enrollment_pb2.GetEncounterRequest(encounter_id=encounter, **fields))


def photograph() -> bytes:
    return as_png(skimage.data.camera())


class TestMainJob:
    def test_a_print_is_found_until_it_is_deleted(self, served: Served) -> None:
        for seed in (1, 2):
            new = Enrollment((image_of(seed, code=THUMB),), subject_id=f"s{seed}")
            assert served.client.enroll(new).WhichOneof("outcome") == "enrolled"
            assert best_of(served.client.identify(search_for(image_of(seed, 1)))) == f"s{seed}"
        (best, *_) = served.client.identify(search_for(image_of(1, 1))).candidates
        assert served.client.delete(best.encounter_id).subject_deleted
        found = served.client.identify(search_for(image_of(1, 1)))
        assert [c.subject_id for c in found.candidates] == ["s2"]
        assert found.searched_prints == 1
        with pytest.raises(EncounterUnknown):
            shown(served, best.encounter_id)
        assert counts(served) == (1, 1, 1)

    @pytest.mark.datasets
    def test_real_prints(self, served: Served, datasets: Path) -> None:
        folder = datasets / "fvc2002" / "DB1_B"
        for person in range(101, 105):
            data = (folder / f"{person}_1.tif").read_bytes()
            served.client.enroll(Enrollment((PrintInput(image=data, ppi=500),), subject_id=str(person)))
        for person in range(101, 105):
            data = (folder / f"{person}_2.tif").read_bytes()
            found = served.client.identify(search_for(PrintInput(image=data, ppi=500), target_fpir=0.001))
            assert [c.subject_id for c in found.candidates] == [str(person)]

    @pytest.mark.datasets
    def test_real_templates_of_other_makers(self, served: Served, datasets: Path) -> None:
        for path in sorted((datasets / "formats" / "templates").glob("*.dat")):
            views = decode(path.read_bytes())
            one = PrintInput(finger=views[0].finger, template=path.read_bytes())
            response = served.client.enroll(Enrollment((one,), subject_id=path.stem))
            (assessed,) = getattr(response, response.WhichOneof("outcome")).prints
            assert assessed.minutiae == len(views[0])

    def test_the_gallery_describes_itself(self, served: Served) -> None:
        served.client.enroll(a_person(1, 2, subject="a"))
        served.client.enroll(a_person(3, subject="a"))
        gallery = served.client.gallery("hn")
        assert (gallery.name, gallery.subjects, gallery.encounters, gallery.prints) == ("hn", 1, 2, 3)
        assert gallery.ready
        assert gallery.max_message_bytes == MOST_BYTES
        assert gallery.extractor_version
        assert gallery.calibration_id
        assert abs(gallery.create_time.ToSeconds() - time.time()) < 100

    def test_a_call_without_a_deadline(self, served: Served) -> None:
        served.client.enroll(a_person(1, subject="a"))
        assert best_of(served.matching.Identify(search_for(seen_again(1)))) == "a"


class TestEnroll:
    def test_what_is_kept_of_an_image(self, served: Served) -> None:
        one = PrintInput(finger=INDEX, impression=Impression.LIVE_PLAIN, image=picture(1))
        done = served.client.enroll(Enrollment((one,))).enrolled
        (assessed,) = done.prints
        assert assessed.accepted
        assert assessed.quality.score > 50
        assert uuid.UUID(done.subject_id) != uuid.UUID(done.encounter_id)
        encounter = shown(
            served, done.encounter_id, include_images=True, include_templates=True, template_format=5
        )
        (kept,) = encounter.prints
        assert (kept.position, kept.impression) == (INDEX, Impression.LIVE_PLAIN + 1)
        assert (kept.quality_score, kept.minutiae) == (assessed.quality.score, assessed.minutiae)
        assert len(kept.source_sha256) == 32
        assert Image.open(BytesIO(kept.image.data)).size == Image.open(BytesIO(picture(1))).size
        assert len(decode(kept.template.data)[0]) == kept.minutiae
        without = shown(served, done.encounter_id).prints[0]
        assert {"image", "template"}.isdisjoint(d.name for d, _ in without.ListFields())

    @pytest.mark.parametrize(
        ("make", "reason"),
        [
            (white, "BLANK"),
            (photograph, ""),
            (lambda: as_png(np.random.default_rng(1).integers(0, 256, (400, 400), np.uint8)), ""),
        ],
        ids=["white", "photograph", "noise"],
    )
    def test_what_is_no_print_is_rejected(
        self, served: Served, make: Callable[[], bytes], reason: str
    ) -> None:
        repeat = new_id()
        response = served.client.enroll(Enrollment((PrintInput(image=make()),)), request_id=repeat)
        assert response.WhichOneof("outcome") == "rejected"
        (assessed,) = response.rejected.prints
        assert not assessed.accepted
        assert all(r.code and r.advice for r in assessed.quality.reasons)
        assert reason in {"", *(r.code for r in assessed.quality.reasons)}
        assert assessed.quality.reasons
        assert counts(served) == (0, 0, 0)
        again = served.client.enroll(a_person(1), request_id=repeat)
        assert again.WhichOneof("outcome") == "enrolled", "a rejection is not kept"

    def test_a_poor_print_is_left_out_or_rejects_all(self, served: Served) -> None:
        prints = (PrintInput(finger=THUMB, image=white()), enrolled_as(1, INDEX))
        rejected = served.client.enroll(Enrollment(prints, require_all=True)).rejected
        assert [p.accepted for p in rejected.prints] == [False, True]
        assert counts(served) == (0, 0, 0)
        done = served.client.enroll(Enrollment(prints)).enrolled
        assert [(p.index, p.accepted) for p in done.prints] == [(0, False), (1, True)]
        (kept,) = shown(served, done.encounter_id).prints
        assert (kept.index, kept.position) == (0, INDEX)
        (best,) = served.client.identify(search_for(seen_again(1))).candidates
        assert best.comparisons[0].reference_index == 0

    def test_a_template_of_hardly_any_minutiae_is_rejected(self, served: Served) -> None:
        one = PrintInput(template=record(1, n=1))
        (assessed,) = served.client.enroll(Enrollment((one,))).rejected.prints
        assert [r.code for r in assessed.quality.reasons] == ["TOO_FEW_MINUTIAE"]

    def test_missing_fingers(self, served: Served) -> None:
        missing = (
            MissingFinger(Finger.LEFT_LITTLE, MissingReason.BANDAGED),
            MissingFinger(INDEX, MissingReason.AMPUTATED),
        )
        done = served.client.enroll(Enrollment((enrolled_as(1, THUMB),), missing=missing)).enrolled
        got = [(m.position, m.reason) for m in shown(served, done.encounter_id).missing]
        assert got == [
            (types_pb2.FINGER_POSITION_RIGHT_INDEX, types_pb2.MISSING_REASON_AMPUTATED),
            (types_pb2.FINGER_POSITION_LEFT_LITTLE, types_pb2.MISSING_REASON_BANDAGED),
        ]

    @pytest.mark.parametrize("form", ["iso-19794-2:2005", "iso-19794-2:2011", "ansi-378:2004", "papilar-2"])
    def test_templates_of_every_form(self, served: Served, form: str) -> None:
        one = PrintInput(template=record(5, INDEX, form=form))
        done = served.client.enroll(Enrollment((one,), subject_id="s")).enrolled
        assert done.prints[0].position == INDEX, "what the record says"
        assert best_of(served.client.identify(search_for(seen_again(5, INDEX)))) == "s"
        code = next(f for f, name in translate.TEMPLATE_FORMATS.items() if f and name == form)
        (kept,) = shown(served, done.encounter_id, include_templates=True, template_format=code).prints
        assert kept.template.format == code
        assert len(decode(kept.template.data)[0]) == 36

    def test_the_view_of_the_finger_that_is_stated(self, served: Served) -> None:
        views = encode([finger(1, 36, code=THUMB), finger(2, 36, code=INDEX)], "iso-19794-2:2011")
        served.client.enroll(Enrollment((PrintInput(finger=INDEX, template=views),), subject_id="index"))
        assert best_of(served.client.identify(search_for(seen_again(2)))) == "index"
        assert best_of(served.client.identify(search_for(seen_again(1)))) == ""
        for stated in (Finger.UNKNOWN, MIDDLE):
            new = translate.to_enrollment(Enrollment((PrintInput(finger=stated, template=views),)))
            refused = refusal(served.enrollment.Enroll, enrollment_pb2.EnrollRequest(enrollment=new))
            assert refused.reason == "TEMPLATE_INVALID"
            assert "print 0: 2 views" in refused.message

    def test_a_duplicate_is_named_and_not_enrolled(self, served: Served) -> None:
        first = served.client.enroll(a_person(1, subject="known"))
        new = Enrollment((seen_again(1),), subject_id="other", check_duplicates=True)
        duplicate = served.client.enroll(new).duplicate
        assert [(c.rank, c.subject_id) for c in duplicate.candidates] == [(1, "known")]
        assert duplicate.candidates[0].encounter_id == first.enrolled.encounter_id
        assert duplicate.candidates[0].score >= duplicate.threshold.score
        assert counts(served) == (1, 1, 1)
        same = Enrollment((seen_again(1),), subject_id="known", check_duplicates=True)
        assert served.client.enroll(same).WhichOneof("outcome") == "enrolled"
        third = Enrollment((seen_again(9),), subject_id="third", check_duplicates=True)
        assert served.client.enroll(third).WhichOneof("outcome") == "enrolled"

    def test_a_duplicate_beside_the_own_subject_is_the_first(self, served: Served) -> None:
        served.client.enroll(a_person(1, subject="own"))
        served.client.enroll(Enrollment((seen_again(1, number=2),), subject_id="other"))
        new = Enrollment((enrolled_as(1),), subject_id="own", check_duplicates=True)
        assert [(c.rank, c.subject_id) for c in served.client.enroll(new).duplicate.candidates] == [
            (1, "other")
        ]


class TestEnrollMany:
    def test_good_and_bad_ones(self, served: Served) -> None:
        ids = [new_id() for _ in range(6)]
        taken = served.client.enroll(a_person(1, subject="a")).enrolled
        several = [
            a_person(2, subject="b"),
            Enrollment((PrintInput(image=b"text"),)),
            Enrollment((PrintInput(image=white()),)),
            Enrollment((seen_again(1),), subject_id="c", check_duplicates=True),
            a_person(3, encounter_id=taken.encounter_id),
            a_person(4, subject="d"),
        ]
        outcomes = served.client.enroll_many(_stream(several, ids)).outcomes
        assert [o.index for o in outcomes] == list(range(6))
        assert [o.request_id for o in outcomes] == ids
        kinds = [o.WhichOneof("outcome") for o in outcomes]
        assert kinds == ["enrolled", "failure", "rejected", "duplicate", "failure", "enrolled"]
        assert [(o.failure.code, o.failure.reason, o.failure.part) for o in outcomes if o.failure.code] == [
            (3, "IMAGE_FORMAT_UNKNOWN", "item 1"),
            (6, "ENCOUNTER_EXISTS", "item 4"),
        ]
        assert counts(served) == (3, 3, 3)
        again = served.client.enroll_many(_stream(several[:1], ids[:1])).outcomes[0].enrolled
        assert again.encounter_id == outcomes[0].enrolled.encounter_id
        assert again.repeated
        assert counts(served) == (3, 3, 3)

    def test_an_item_over_the_limit_or_for_another_gallery(self, served: Served) -> None:
        big = Enrollment((PrintInput(image=bytes(MOST_BYTES + 1)),))
        items = [
            *_stream([big], [""]),
            *_stream([a_person(1)], [""], gallery="sv"),
            *_stream([a_person(1)], [""]),
        ]
        outcomes = served.client.enroll_many(items).outcomes
        assert [o.failure.reason for o in outcomes] == ["MESSAGE_TOO_LARGE", "GALLERY_UNKNOWN", ""]

    def test_nothing_sent(self, served: Served) -> None:
        assert not served.client.enroll_many([]).outcomes

    def test_more_than_one_stream_holds(self, served: Served) -> None:
        bad = enrollment_pb2.EnrollManyRequest()
        outcomes = served.client.enroll_many([bad] * MOST_STREAMED).outcomes
        assert {o.failure.reason for o in outcomes} == {"REQUEST_INVALID"}
        refused = refusal(
            lambda items, timeout: served.enrollment.EnrollMany(iter(items), timeout=timeout),
            [bad] * (MOST_STREAMED + 1),
        )
        assert refused[:2] == (grpc.StatusCode.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE")

    def test_a_stream_that_breaks_keeps_what_was_enrolled(self, served: Served) -> None:
        broken, ids = threading.Event(), [new_id(), new_id()]

        def items() -> Iterator[enrollment_pb2.EnrollManyRequest]:
            yield from _stream([a_person(1, subject="kept")], ids)
            broken.wait(10)

        call = served.enrollment.EnrollMany.future(items())
        while counts(served) == (0, 0, 0):
            time.sleep(0.01)
        call.cancel()
        broken.set()
        done = served.client.enroll_many(_stream([a_person(1, subject="kept"), a_person(2)], ids)).outcomes
        assert [o.enrolled.repeated for o in done] == [True, False]
        assert counts(served) == (2, 2, 2)


def _stream(
    several: list[Enrollment], ids: list[str], *, gallery: str = ""
) -> Iterator[enrollment_pb2.EnrollManyRequest]:
    for new, request_id in zip(several, ids, strict=False):
        yield enrollment_pb2.EnrollManyRequest(
            request_id=request_id, gallery=gallery, enrollment=translate.to_enrollment(new)
        )


class TestRepeats:
    def test_the_same_answer_and_nothing_twice_also_after_a_restart(self, tmp_path: Path) -> None:
        new, request_id = Enrollment((image_of(1),)), new_id()
        with serving(tmp_path / "g") as served:
            first = served.client.enroll(new, request_id=request_id).enrolled
            again = served.client.enroll(new, request_id=request_id.upper()).enrolled
            assert again == _repeated(first)
        with serving(tmp_path / "g") as served:
            assert served.client.enroll(new, request_id=request_id).enrolled == _repeated(first)
            assert counts(served) == (1, 1, 1)
            with pytest.raises(RequestConflict):
                served.client.enroll(Enrollment((image_of(2),)), request_id=request_id)

    def test_of_a_deletion(self, served: Served) -> None:
        enrolling, deleting = new_id(), new_id()
        done = served.client.enroll(a_person(1, 2), request_id=enrolling).enrolled
        other = served.client.enroll(a_person(3)).enrolled
        first = served.client.delete(done.encounter_id, request_id=deleting)
        assert (first.deleted_prints, first.subject_deleted) == (2, True)
        assert served.client.delete(done.encounter_id, request_id=deleting) == first
        with pytest.raises(EncounterUnknown):
            served.client.delete(done.encounter_id)
        with pytest.raises(RequestConflict):
            served.client.delete(other.encounter_id, request_id=deleting)
        with pytest.raises(EncounterErased):
            served.client.enroll(a_person(1, 2), request_id=enrolling)
        assert counts(served) == (1, 1, 1)

    @pytest.mark.parametrize("check_duplicates", [False, True])
    def test_at_one_time_from_several_threads(self, served: Served, check_duplicates: bool) -> None:
        new, request_id = Enrollment((enrolled_as(7),), check_duplicates=check_duplicates), new_id()
        with ThreadPoolExecutor(8) as pool:
            calls = [pool.submit(served.client.enroll, new, request_id=request_id) for _ in range(16)]
            answers = [call.result() for call in calls]
        assert {a.WhichOneof("outcome") for a in answers} == {"enrolled"}
        assert len({a.enrolled.encounter_id for a in answers}) == 1
        assert sorted(a.enrolled.repeated for a in answers) == [False] + [True] * 15
        assert counts(served) == (1, 1, 1)


def _repeated(enrolled: enrollment_pb2.Enrolled) -> enrollment_pb2.Enrolled:
    again = enrollment_pb2.Enrolled()
    again.CopyFrom(enrolled)
    again.repeated = True
    return again


class TestVerify:
    def test_prints_of_the_request(self, served: Served) -> None:
        for brought, reached in ((seen_again(1), True), (seen_again(2), False)):
            response = served.client.verify(_verify([enrolled_as(1)], [brought]))
            assert response.reached is reached
            assert (response.score >= response.threshold.score) is reached
            (one,) = response.comparisons
            assert (one.reference_encounter_id, one.score) == ("", response.score)
            assert len(response.probe) == len(response.references) == 1
        assert counts(served) == (0, 0, 0)

    def test_a_subject_and_an_encounter(self, served: Served) -> None:
        first = served.client.enroll(a_person(1, subject="a")).enrolled
        second = served.client.enroll(a_person(2, subject="a")).enrolled
        probe = message_of(seen_again(2))
        subject = served.client.verify(matching_pb2.VerifyRequest(probe=probe, subject_id="a"))
        assert subject.reached
        assert [c.reference_encounter_id for c in subject.comparisons] == [second.encounter_id]
        assert not subject.references
        for encounter, reached in ((first, False), (second, True)):
            request = matching_pb2.VerifyRequest(probe=probe, encounter_id=encounter.encounter_id.upper())
            assert served.client.verify(request).reached is reached

    def test_fingers_that_are_missing_say_nothing(self, served: Served) -> None:
        response = served.client.verify(_verify([enrolled_as(1, THUMB)], [seen_again(2, INDEX)]))
        assert (response.score, response.reached, len(response.comparisons)) == (0, False, 0)
        shared = [enrolled_as(1, THUMB), enrolled_as(2, INDEX)], [seen_again(1, THUMB), seen_again(3, MIDDLE)]
        alone = served.client.verify(_verify(*([side[0]] for side in shared)))
        assert served.client.verify(_verify(*shared)).score == alone.score

    def test_one_print_under_a_wrong_position_is_reported(self, served: Served) -> None:
        right, wrong = (
            served.client.verify(_verify([enrolled_as(1, THUMB)], [seen_again(1, code)]))
            for code in (THUMB, INDEX)
        )
        assert wrong.reached
        (one,) = wrong.comparisons
        assert (one.probe_position, one.position, one.positions_disagree) == (THUMB, INDEX, True)
        assert wrong.score < one.score == right.comparisons[0].score == right.score
        assert not right.comparisons[0].positions_disagree
        assert (right.comparisons[0].probe_position, right.comparisons[0].position) == (THUMB, THUMB)

    def test_a_swapped_pair_is_reported(self, served: Served) -> None:
        served.client.enroll(Enrollment((enrolled_as(1, THUMB), enrolled_as(2, INDEX)), subject_id="a"))
        probe = message_of(seen_again(2, THUMB), seen_again(1, INDEX))
        response = served.client.verify(matching_pb2.VerifyRequest(probe=probe, subject_id="a"))
        assert response.reached
        assert _met(response.comparisons) == [(0, 1, THUMB, INDEX, True), (1, 0, INDEX, THUMB, True)]
        strangers = message_of(seen_again(8, THUMB), seen_again(9, INDEX))
        other = served.client.verify(matching_pb2.VerifyRequest(probe=strangers, subject_id="a"))
        assert not other.reached
        assert _met(other.comparisons) == [(0, 0, THUMB, THUMB, False), (1, 1, INDEX, INDEX, False)]

    def test_several_impressions_of_a_finger(self, served: Served) -> None:
        """Worth more than one, less than their sum, and stated once."""
        both = [seen_again(1, THUMB, 1), seen_again(1, THUMB, 2)]
        alone = [served.client.verify(_verify([enrolled_as(1, THUMB)], [one])).score for one in both]
        together = served.client.verify(_verify([enrolled_as(1, THUMB)], both))
        assert sum(alone) / 2 < together.score < sum(alone)
        (one,) = together.comparisons
        assert (one.reference_index, one.score) == (int(np.argmax(alone)), max(alone))

    def test_an_encounter_that_says_nothing_does_not_hide_one_that_does(self, served: Served) -> None:
        served.client.enroll(Enrollment((enrolled_as(1, THUMB),), subject_id="a"))
        other = served.client.enroll(Enrollment((enrolled_as(2, INDEX),), subject_id="a")).enrolled
        request = matching_pb2.VerifyRequest(probe=message_of(seen_again(5, INDEX)), subject_id="a")
        response = served.client.verify(request)
        assert [c.reference_encounter_id for c in response.comparisons] == [other.encounter_id]
        assert response.score < 0

    def test_a_probe_that_is_too_poor(self, served: Served) -> None:
        response = served.client.verify(_verify([PrintInput(image=white())], [enrolled_as(1)]))
        assert (response.score, response.reached) == (0, False)
        assert not response.probe[0].accepted
        assert response.probe[0].quality.reasons

    def test_the_threshold_follows_the_rate(self, served: Served) -> None:
        wanted = (0.01, None, 1e-6)
        got = [
            served.client.verify(_verify([enrolled_as(1)], [seen_again(1)], target_fmr=rate)).threshold
            for rate in wanted
        ]
        assert got[0].score < got[1].score < got[2].score
        assert [t.rate for t in got][1:] == [1e-3, 1e-6]
        assert got[0].calibration_id

    def test_a_choice_raises_the_threshold(self, served: Served) -> None:
        """Of unknown positions, and of encounters; where positions are known there is none."""
        known, unknown = [enrolled_as(1, THUMB), enrolled_as(2, INDEX)], [enrolled_as(1), enrolled_as(2)]
        probe = [seen_again(1, THUMB)], [seen_again(1)]
        single, many = (
            served.client.verify(_verify(one, side)).threshold.score
            for one, side in zip(probe, (known, unknown), strict=True)
        )
        assert single < many
        for _ in range(2):
            served.client.enroll(Enrollment(tuple(known), subject_id="a"))
        request = matching_pb2.VerifyRequest(probe=message_of(*probe[0]), subject_id="a")
        assert served.client.verify(request).threshold.score == many

    def test_the_bands(self, served: Served) -> None:
        """Of each pair and of all; none where nothing was compared."""
        mates = served.client.verify(_verify([enrolled_as(1)], [seen_again(1)]))
        assert mates.band == mates.comparisons[0].band == types_pb2.BAND_GREEN
        strangers = served.client.verify(_verify([enrolled_as(1)], [seen_again(2)]))
        assert strangers.band == strangers.comparisons[0].band == types_pb2.BAND_RED
        assert not strangers.HasField("mirrored_score")
        nothing = served.client.verify(_verify([enrolled_as(1)], [PrintInput(image=white())]))
        assert (nothing.band, len(nothing.comparisons)) == (types_pb2.BAND_UNSPECIFIED, 0)

    def test_the_bands_begin_at_their_rates(self, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
        """Yellow where 1 in 1,000 is reached, green where 1 in 100,000 is, whatever the choice."""
        for thumb, index in ((THUMB, INDEX), (Finger.UNKNOWN, Finger.UNKNOWN)):
            sides = [enrolled_as(1, thumb), enrolled_as(2, index)], [seen_again(1, thumb)]
            for rate, under, over in (
                (1e-3, types_pb2.BAND_RED, types_pb2.BAND_YELLOW),
                (1e-5, types_pb2.BAND_YELLOW, types_pb2.BAND_GREEN),
            ):
                least = served.client.verify(_verify(*sides, target_fmr=rate)).threshold.score
                for score, band in ((least - 1e-6, under), (least + 1e-6, over)):
                    monkeypatch.setattr("papilar.verification.score", lambda *_, value=score: value)
                    said = served.client.verify(_verify(*sides, target_fmr=rate))
                    monkeypatch.undo()
                    assert (said.score, said.band) == (pytest.approx(score), band)
                    assert said.reached is (band == over)

    def test_evidence_says_what_a_score_is_made_of(self, served: Served) -> None:
        for probe in (seen_again(1), seen_again(2)):
            sides = [enrolled_as(1)], [probe]
            (one,) = served.client.verify(_verify(*sides, include_evidence=True)).comparisons
            assert [part.name for part in one.parts][:1] == ["structure"]
            assert "ridges" not in {part.name for part in one.parts}, "records without a description"
            assert max(-3, sum(part.adds for part in one.parts)) == pytest.approx(one.score)
            (bare,) = served.client.verify(_verify(*sides)).comparisons
            assert not bare.parts
        images = [image_of(1)], [image_of(1, 1)]
        (one,) = served.client.verify(_verify(*images, include_evidence=True)).comparisons
        measured = {part.name: part.measured for part in one.parts}
        assert 0.5 < measured["ridges"] <= 1

    def test_evidence_lays_the_probe_on_the_reference(self, served: Served) -> None:
        first = finger(3)
        seen = mate(first, 4, turn=0.7, shift=(30, -25), jitter=0.5)
        (one,) = served.client.verify(
            _verify(
                [PrintInput(template=encode(seen.template, "papilar-2"))],
                [PrintInput(template=encode(first, "papilar-2"))],
                include_evidence=True,
            )
        ).comparisons
        motion = one.transform
        assert motion.rotation == pytest.approx(seen.turn, abs=0.05)
        assert len(one.correspondences) > 20
        _check_motion(one)
        corner = np.array([250.0, 200.0])
        expected = rotation(seen.turn) @ corner + seen.shift
        got = rotation(motion.rotation) @ corner + (motion.dx, motion.dy)
        assert np.hypot(*(got - expected)) < 5
        for c in one.correspondences:
            assert any(np.allclose((c.probe.x, c.probe.y), xy) for xy in seen.template.xy)
            assert any(np.allclose((c.reference.x, c.reference.y), xy) for xy in first.xy)


def _verify(
    probe: list[PrintInput], reference: list[PrintInput], *, target_fmr: float | None = None, **fields: Any
) -> matching_pb2.VerifyRequest:
    brought = matching_pb2.PrintSet(prints=message_of(*reference))
    return matching_pb2.VerifyRequest(
        probe=message_of(*probe), reference_prints=brought, target_fmr=target_fmr, **fields
    )


def _met(comparisons: Iterable[types_pb2.Comparison]) -> list[tuple[int, int, int, int, bool]]:
    """Which prints met, under which positions."""
    return sorted(
        (c.probe_index, c.reference_index, c.probe_position, c.position, c.positions_disagree)
        for c in comparisons
    )


def _check_motion(one: types_pb2.Comparison) -> None:
    """The transform takes the probe's minutiae to the reference's, in place and in direction."""
    t = one.transform
    for c in one.correspondences:
        moved = rotation(t.rotation) @ (c.probe.x, c.probe.y) + (t.dx, t.dy)
        assert np.hypot(*(moved - (c.reference.x, c.reference.y))) < 16
        assert np.cos(c.probe.angle + t.rotation - c.reference.angle) > np.cos(np.pi / 8 + 0.01)


class TestIdentify:
    def test_limit_and_ranks(self, served: Served) -> None:
        for seed in range(15):
            served.client.enroll(a_person(seed, subject=f"s{seed}"))
        for limit, count in ((0, 10), (3, 3), (1000, 15)):
            found = served.client.identify(search_for(seen_again(4), limit=limit)).candidates
            assert [c.rank for c in found] == list(range(1, count + 1))
            assert found[0].subject_id == "s4"
            assert [c.score for c in found] == sorted((c.score for c in found), reverse=True)
            assert [c.band for c in found] == [c.comparisons[0].band for c in found]
            assert found[0].band == types_pb2.BAND_GREEN
            assert {c.band for c in found[1:]} == {types_pb2.BAND_RED}

    def test_a_target_leaves_out_who_stays_below(self, served: Served) -> None:
        for seed in range(8):
            served.client.enroll(a_person(seed, subject=f"s{seed}"))
        hit = served.client.identify(search_for(seen_again(4), target_fpir=0.001))
        miss = served.client.identify(search_for(seen_again(44), target_fpir=0.001))
        assert [c.subject_id for c in hit.candidates] == ["s4"]
        assert (len(miss.candidates), miss.complete, miss.searched_prints) == (0, True, 8)
        assert miss.threshold.rate == 0.001
        all_of_them = served.client.identify(search_for(seen_again(44), target_fpir=1.0))
        assert len(all_of_them.candidates) == 8
        assert not served.client.identify(search_for(seen_again(44))).HasField("threshold")

    def test_several_fingers_fuse(self, served: Served) -> None:
        served.client.enroll(
            Enrollment((enrolled_as(1, THUMB), enrolled_as(2, INDEX), enrolled_as(3, MIDDLE)), subject_id="a")
        )
        served.client.enroll(Enrollment((enrolled_as(4, THUMB), enrolled_as(2, INDEX)), subject_id="mixed"))
        probe = seen_again(1, THUMB), seen_again(2, INDEX)
        best, second = served.client.identify(search_for(*probe)).candidates
        assert (best.subject_id, second.subject_id) == ("a", "mixed")
        assert best.score == pytest.approx(sum(c.score for c in best.comparisons))
        assert sorted((c.probe_index, c.reference_index, c.position) for c in best.comparisons) == [
            (0, 0, THUMB),
            (1, 1, INDEX),
        ]
        assert best.comparisons[0].score >= best.comparisons[1].score
        alone = served.client.identify(search_for(probe[0])).candidates[0]
        assert best.score > alone.score

    def test_a_swapped_pair_is_found_and_reported(self, served: Served) -> None:
        for k in range(6):
            prints = enrolled_as(3 * k, THUMB), enrolled_as(3 * k + 1, INDEX), enrolled_as(3 * k + 2, MIDDLE)
            served.client.enroll(Enrollment(prints, subject_id=f"s{k}"))
        swapped = seen_again(7, THUMB), seen_again(6, INDEX)
        for probe in (swapped, (*swapped, seen_again(8, MIDDLE)), swapped[:1]):
            (best,) = served.client.identify(search_for(*probe, target_fpir=0.001)).candidates
            assert best.subject_id == "s2"
            assert (
                _met(best.comparisons)
                == [
                    (0, 1, THUMB, INDEX, True),
                    (1, 0, INDEX, THUMB, True),
                    (2, 2, MIDDLE, MIDDLE, False),
                ][: len(probe)]
            )
            assert best.score < sum(c.score for c in best.comparisons)
        strangers = seen_again(77, THUMB), seen_again(76, INDEX)
        found = served.client.identify(search_for(*strangers)).candidates
        assert not any(c.positions_disagree for one in found for c in one.comparisons)

    def test_more_fingers_ask_for_a_higher_threshold(self, served: Served) -> None:
        """Each may meet a stranger's only print; two impressions of one finger are one chance."""
        served.client.enroll(a_person(1, 2, 3))
        probes = (
            [seen_again(8, THUMB)],
            [seen_again(8, THUMB), seen_again(8, THUMB, 2)],
            [seen_again(8, THUMB), seen_again(9, INDEX)],
        )
        one, again, two = (
            served.client.identify(search_for(*probe, target_fpir=0.01)).threshold.score for probe in probes
        )
        assert one == again < two

    def test_positions_that_are_known_ask_for_a_lower_threshold(self, served: Served) -> None:
        """A finger may meet those of its own position, and hardly another."""
        for seed in range(10):
            prints = enrolled_as(2 * seed, THUMB), enrolled_as(2 * seed + 1, INDEX)
            served.client.enroll(Enrollment(prints, subject_id=f"of two {seed}"))
        unknown, index, other = (
            served.client.identify(search_for(probe, target_fpir=0.001)).threshold.score
            for probe in (seen_again(8), seen_again(8, INDEX), seen_again(8, Finger.LEFT_RING))
        )
        assert unknown == pytest.approx(shipped().threshold(0.001 / 20), abs=0.01)
        assert index == pytest.approx(shipped().threshold(0.001 / 10), abs=0.01)
        assert other < index

    def test_unknown_positions_are_assigned(self, served: Served) -> None:
        served.client.enroll(Enrollment((enrolled_as(1), enrolled_as(2)), subject_id="a"))
        (best,) = served.client.identify(search_for(seen_again(2), seen_again(1))).candidates
        assert sorted((c.probe_index, c.reference_index) for c in best.comparisons) == [(0, 1), (1, 0)]

    def test_evidence(self, served: Served) -> None:
        served.client.enroll(Enrollment((image_of(1),), subject_id="a"))
        request = search_for(PrintInput(image=white()), image_of(1, 1), include_evidence=True)
        response = served.client.identify(request)
        assert [p.accepted for p in response.probe] == [False, True]
        (one,) = response.candidates[0].comparisons
        assert (one.probe_index, one.reference_index) == (1, 0)
        assert len(one.correspondences) > 10
        _check_motion(one)
        plain = served.client.identify(search_for(image_of(1, 1))).candidates[0].comparisons[0]
        assert not plain.correspondences
        assert not plain.HasField("transform")

    def test_a_probe_that_is_too_poor_is_stated(self, served: Served) -> None:
        served.client.enroll(a_person(1))
        response = served.client.identify(search_for(PrintInput(image=white())))
        assert (len(response.candidates), response.complete, response.searched_prints) == (0, False, 0)
        (failure,) = response.failures
        assert (failure.part, failure.code, failure.reason) == ("probe", 9, "PROBE_REJECTED")
        assert response.probe[0].quality.reasons

    def test_an_empty_gallery(self, served: Served) -> None:
        response = served.client.identify(search_for(seen_again(1), target_fpir=0.01))
        assert (len(response.candidates), response.complete, response.searched_prints) == (0, True, 0)

    def test_what_it_says_of_its_work(self, served: Served) -> None:
        served.client.enroll(a_person(1, 2))
        said = served.client.identify(search_for(image_of(1), seen_again(2))).statistics
        assert (said.scanned_prints, said.compared_prints) == (4, 4)
        assert said.extraction_time.ToTimedelta().total_seconds() > 0.01
        assert said.search_time.ToTimedelta().total_seconds() > 0

    def test_a_deadline_cuts_it_short(self, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
        served.client.enroll_many(_stream([a_person(k) for k in range(70)], [""] * 70))
        scores = served.node._gallery.scores
        monkeypatch.setattr(served.node._gallery, "scores", lambda *some: time.sleep(0.08) or scores(*some))
        monkeypatch.setattr("matcher.search._BATCH", 2)
        monkeypatch.setattr("papilar.server._MARGIN", 0.5)
        response = served.matching.Identify(search_for(seen_again(1)), timeout=1.1)
        assert not response.complete
        assert response.failures[0].reason == "DEADLINE_PASSED"
        assert 0 < response.statistics.compared_prints < 70


def grainy(code: Finger) -> PrintInput:
    """A print whose JPEG is small and whose PNG is not."""
    grain = np.random.default_rng(0).integers(0, 60, (480, 388))
    pixels = np.asarray(Image.open(BytesIO(picture(1))), np.int64) - grain
    out = BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(out, "JPEG", dpi=(500, 500), quality=50)
    return PrintInput(finger=code, image=out.getvalue())


def huge_png() -> bytes:
    """A PNG of 30,000 x 30,000 pixels that says so in its header and has no pixels."""
    data = bytearray(as_png(np.zeros((64, 64), np.uint8)))
    data[16:24] = (30_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


def bad_version() -> bytes:
    return b"FMR\x00 99\x00" + record(1, form="iso-19794-2:2005")[8:]


def outside() -> bytes:
    """A 2005 record whose image is narrower than its minutiae lie."""
    data = bytearray(record(1, form="iso-19794-2:2005"))
    data[14:18] = (20).to_bytes(2, "big") * 2
    return bytes(data)


BAD_PRINTS: list[tuple[str, Callable[[], PrintInput], str]] = [
    ("empty image", lambda: PrintInput(image=b""), "IMAGE_EMPTY"),
    ("text", lambda: PrintInput(image=b"This is not an image.\n" * 9), "IMAGE_FORMAT_UNKNOWN"),
    ("truncated", lambda: PrintInput(image=picture(1)[:-900]), "IMAGE_TRUNCATED"),
    (
        "no resolution",
        lambda: PrintInput(image=as_png(np.zeros((99, 99), np.uint8), None)),
        "RESOLUTION_UNKNOWN",
    ),
    ("72 ppi", lambda: PrintInput(image=as_png(np.zeros((99, 99), np.uint8), 72)), "RESOLUTION_IMPLAUSIBLE"),
    ("ppi given", lambda: PrintInput(image=picture(1), ppi=1.0), "RESOLUTION_IMPLAUSIBLE"),
    ("ppi none", lambda: PrintInput(image=picture(1), ppi=float("nan")), "RESOLUTION_IMPLAUSIBLE"),
    ("huge", lambda: PrintInput(image=huge_png()), "IMAGE_TOO_LARGE"),
    ("small", lambda: PrintInput(image=as_png(np.zeros((9, 9), np.uint8))), "IMAGE_TOO_SMALL"),
    ("template text", lambda: PrintInput(template=b"text"), "TEMPLATE_FORMAT_UNKNOWN"),
    ("template empty", lambda: PrintInput(template=b""), "TEMPLATE_FORMAT_UNKNOWN"),
    ("template version", lambda: PrintInput(template=bad_version()), "TEMPLATE_VERSION_UNSUPPORTED"),
    (
        "template cut",
        lambda: PrintInput(template=record(1, form="iso-19794-2:2011")[:-9]),
        "TEMPLATE_TRUNCATED",
    ),
    ("template outside", lambda: PrintInput(template=outside()), "TEMPLATE_OUT_OF_BOUNDS"),
    ("nothing", PrintInput, "REQUEST_INVALID"),
]


def check(refused: Refusal, code: str, reason: str) -> None:
    assert (refused.code.name, refused.reason, refused.domain) == (code, reason, "papilar")
    assert len(refused.remedy) > 10
    assert refused.message.endswith(refused.remedy)
    assert "Traceback" not in refused.message
    assert "/" not in refused.message.replace("types.proto", ""), "no path"


class TestErrors:
    @pytest.mark.parametrize(
        ("make", "reason"), [row[1:] for row in BAD_PRINTS], ids=[r[0] for r in BAD_PRINTS]
    )
    def test_a_print_that_can_not_be_read(
        self, served: Served, make: Callable[[], PrintInput], reason: str
    ) -> None:
        prints = message_of(enrolled_as(1), make())
        new = enrollment_pb2.Enrollment(prints=prints)
        reference = matching_pb2.PrintSet(prints=prints)
        for call, request in (
            (served.enrollment.Enroll, enrollment_pb2.EnrollRequest(enrollment=new)),
            (served.matching.Identify, matching_pb2.IdentifyRequest(probe=prints)),
            (
                served.matching.Verify,
                matching_pb2.VerifyRequest(probe=prints[:1], reference_prints=reference),
            ),
        ):
            refused = refusal(call, request)
            check(refused, "INVALID_ARGUMENT", reason)
            assert refused.message.startswith("print 1: ")
        assert counts(served) == (0, 0, 0)

    @pytest.mark.parametrize(
        "new",
        [
            enrollment_pb2.Enrollment(),
            enrollment_pb2.Enrollment(prints=message_of(PrintInput(template=b"x")) * 41),
            enrollment_pb2.Enrollment(prints=[types_pb2.Print(position=11)]),
            enrollment_pb2.Enrollment(prints=[types_pb2.Print(impression=99)]),
            enrollment_pb2.Enrollment(prints=message_of(enrolled_as(1)), duplicate_check=9),
            enrollment_pb2.Enrollment(prints=message_of(enrolled_as(1)), encounter_id="1234"),
            enrollment_pb2.Enrollment(prints=message_of(enrolled_as(1)), subject_id="x" * 129),
            enrollment_pb2.Enrollment(prints=message_of(enrolled_as(1)), subject_id="a\nb"),
            enrollment_pb2.Enrollment(
                prints=message_of(enrolled_as(1)), missing=[types_pb2.MissingFinger(position=1)]
            ),
            enrollment_pb2.Enrollment(
                prints=message_of(enrolled_as(1)), missing=[types_pb2.MissingFinger(reason=1)]
            ),
            enrollment_pb2.Enrollment(
                prints=message_of(enrolled_as(1, THUMB)),
                missing=[types_pb2.MissingFinger(position=1, reason=1)],
            ),
        ],
        ids=range(11),
    )
    def test_an_enrolment_out_of_range(self, served: Served, new: enrollment_pb2.Enrollment) -> None:
        request = enrollment_pb2.EnrollRequest(request_id=new_id(), enrollment=new)
        check(refusal(served.enrollment.Enroll, request), "INVALID_ARGUMENT", "REQUEST_INVALID")
        assert counts(served) == (0, 0, 0)

    @pytest.mark.parametrize(
        "request_",
        [
            matching_pb2.IdentifyRequest(),
            search_for(*[enrolled_as(1)] * 41),
            search_for(enrolled_as(1), limit=1001),
            search_for(enrolled_as(1), target_fpir=0.0),
            search_for(enrolled_as(1), target_fpir=1.01),
            search_for(enrolled_as(1), target_fpir=float("nan")),
        ],
        ids=range(6),
    )
    def test_a_search_out_of_range(self, served: Served, request_: matching_pb2.IdentifyRequest) -> None:
        check(refusal(served.matching.Identify, request_), "INVALID_ARGUMENT", "REQUEST_INVALID")

    @pytest.mark.parametrize(
        "request_",
        [
            matching_pb2.VerifyRequest(probe=message_of(enrolled_as(1))),
            matching_pb2.VerifyRequest(probe=message_of(enrolled_as(1)), subject_id=""),
            matching_pb2.VerifyRequest(probe=message_of(enrolled_as(1)), encounter_id="12"),
            matching_pb2.VerifyRequest(
                probe=message_of(enrolled_as(1)), reference_prints=matching_pb2.PrintSet()
            ),
            _verify([], [enrolled_as(1)]),
            _verify([enrolled_as(1)], [enrolled_as(1)], target_fmr=0.2),
            _verify([enrolled_as(1)], [enrolled_as(1)], target_fmr=0.0),
        ],
        ids=range(7),
    )
    def test_a_verification_out_of_range(self, served: Served, request_: matching_pb2.VerifyRequest) -> None:
        check(refusal(served.matching.Verify, request_), "INVALID_ARGUMENT", "REQUEST_INVALID")

    def test_what_is_not_there(self, served: Served) -> None:
        probe = message_of(enrolled_as(1))
        for call, request, reason in (
            (
                served.matching.Verify,
                matching_pb2.VerifyRequest(probe=probe, subject_id="x"),
                "SUBJECT_UNKNOWN",
            ),
            (
                served.matching.Verify,
                matching_pb2.VerifyRequest(probe=probe, encounter_id=UNKNOWN_ID),
                "ENCOUNTER_UNKNOWN",
            ),
            (
                served.enrollment.GetEncounter,
                enrollment_pb2.GetEncounterRequest(encounter_id=UNKNOWN_ID),
                "ENCOUNTER_UNKNOWN",
            ),
            (
                served.enrollment.DeleteEncounter,
                enrollment_pb2.DeleteEncounterRequest(encounter_id=UNKNOWN_ID, request_id=new_id()),
                "ENCOUNTER_UNKNOWN",
            ),
        ):
            check(refusal(call, request), "NOT_FOUND", reason)

    def test_ids_that_are_none(self, served: Served) -> None:
        for call, request in (
            (served.enrollment.GetEncounter, enrollment_pb2.GetEncounterRequest(encounter_id="x")),
            (served.enrollment.DeleteEncounter, enrollment_pb2.DeleteEncounterRequest()),
            (
                served.enrollment.DeleteEncounter,
                enrollment_pb2.DeleteEncounterRequest(encounter_id=UNKNOWN_ID, request_id="x"),
            ),
            (
                served.enrollment.Enroll,
                enrollment_pb2.EnrollRequest(request_id="x", enrollment=translate.to_enrollment(a_person(1))),
            ),
        ):
            check(refusal(call, request), "INVALID_ARGUMENT", "REQUEST_INVALID")

    def test_a_gallery_of_another_name(self, served: Served) -> None:
        for call, request in (
            (served.matching.Identify, search_for(enrolled_as(1), gallery="sv")),
            (served.matching.Verify, matching_pb2.VerifyRequest(gallery="sv", subject_id="x")),
            (served.matching.GetGallery, matching_pb2.GetGalleryRequest(gallery="sv")),
            (served.enrollment.Enroll, enrollment_pb2.EnrollRequest(gallery="sv")),
            (served.enrollment.GetEncounter, enrollment_pb2.GetEncounterRequest(gallery="sv")),
            (served.enrollment.DeleteEncounter, enrollment_pb2.DeleteEncounterRequest(gallery="sv")),
        ):
            check(refusal(call, request), "NOT_FOUND", "GALLERY_UNKNOWN")
        brought = _verify([enrolled_as(1)], [enrolled_as(1)], gallery="sv")
        assert served.client.verify(brought).reached, "not looked at when the request brings the reference"

    def test_what_is_there_already(self, served: Served) -> None:
        done = served.client.enroll(a_person(1)).enrolled
        new = translate.to_enrollment(a_person(2, encounter_id=done.encounter_id))
        refused = refusal(served.enrollment.Enroll, enrollment_pb2.EnrollRequest(enrollment=new))
        check(refused, "ALREADY_EXISTS", "ENCOUNTER_EXISTS")
        assert counts(served) == (1, 1, 1)

    def test_request_ids(self, served: Served) -> None:
        first, other = (
            enrollment_pb2.EnrollRequest(request_id=UNKNOWN_ID, enrollment=translate.to_enrollment(new))
            for new in (a_person(1), a_person(2))
        )
        done = served.enrollment.Enroll(first).enrolled
        check(refusal(served.enrollment.Enroll, other), "ALREADY_EXISTS", "REQUEST_CONFLICT")
        served.client.delete(done.encounter_id)
        check(refusal(served.enrollment.Enroll, first), "FAILED_PRECONDITION", "ENCOUNTER_ERASED")

    def test_a_message_over_the_limit(self, served: Served) -> None:
        little = search_for(PrintInput(image=bytes(MOST_BYTES)))
        check(refusal(served.matching.Identify, little), "RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE")
        far = refusal(served.matching.Identify, search_for(PrintInput(image=bytes(5 * MOST_BYTES))))
        assert (far.code, far.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "")

    def test_an_answer_over_the_limit(self, served: Served) -> None:
        done = served.client.enroll(Enrollment((grainy(THUMB), grainy(INDEX)))).enrolled
        assert [p.accepted for p in done.prints] == [True, True]
        request = enrollment_pb2.GetEncounterRequest(encounter_id=done.encounter_id, include_images=True)
        refused = refusal(served.enrollment.GetEncounter, request)
        check(refused, "RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE")
        assert "include_images" in refused.remedy
        assert len(shown(served, done.encounter_id).prints) == 2

    def test_bad_template_formats(self, served: Served) -> None:
        done = served.client.enroll(a_person(1)).enrolled
        for code in (types_pb2.TEMPLATE_FORMAT_ANSI_378_2009, 77):
            request = enrollment_pb2.GetEncounterRequest(
                encounter_id=done.encounter_id, include_templates=True, template_format=code
            )
            check(refusal(served.enrollment.GetEncounter, request), "INVALID_ARGUMENT", "REQUEST_INVALID")

    @pytest.mark.parametrize("timeout", [0.0, 1e-4, 0.06])
    def test_a_deadline_that_is_too_short(self, served: Served, timeout: float) -> None:
        request = search_for(image_of(1), image_of(1))
        refused = refusal(served.matching.Identify, request, timeout=timeout)
        assert refused.code == grpc.StatusCode.DEADLINE_EXCEEDED
        new = translate.to_enrollment(Enrollment((image_of(1),)))
        refused = refusal(
            served.enrollment.Enroll, enrollment_pb2.EnrollRequest(enrollment=new), timeout=timeout
        )
        assert refused.code == grpc.StatusCode.DEADLINE_EXCEEDED

    def test_a_full_disk_refuses_enrolments_and_serves_searches(self, served: Served) -> None:
        served.client.enroll(a_person(1, subject="kept"))
        set_pragma(served.node._store, "max_page_count=1")  # as many as there are
        request = enrollment_pb2.EnrollRequest(
            enrollment=translate.to_enrollment(Enrollment((image_of(1),), subject_id="late"))
        )
        check(refusal(served.enrollment.Enroll, request), "RESOURCE_EXHAUSTED", "STORAGE_FULL")
        (outcome,) = served.client.enroll_many(_stream([Enrollment((image_of(1),))], [""])).outcomes
        assert (outcome.failure.code, outcome.failure.reason) == (8, "STORAGE_FULL")
        found = served.client.identify(search_for(seen_again(1)))
        assert [c.subject_id for c in found.candidates] == ["kept"]
        set_pragma(served.node._store, "max_page_count=100000")
        assert served.enrollment.Enroll(request).WhichOneof("outcome") == "enrolled"

    def test_an_unforeseen_error_says_nothing_of_what_was_sent(
        self, served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(new: Enrollment, **_: object) -> None:
            raise ValueError(f"the subject {new.subject_id}")

        monkeypatch.setattr(served.node, "enroll", fail)
        new = translate.to_enrollment(a_person(1, subject="Jane-Roe-1970"))
        refused = refusal(served.enrollment.Enroll, enrollment_pb2.EnrollRequest(enrollment=new))
        assert refused == (grpc.StatusCode.INTERNAL, "", "", "", "the node failed; its log says why")
        refused = refusal(
            lambda items, timeout: served.enrollment.EnrollMany(iter(items), timeout=timeout),
            [enrollment_pb2.EnrollManyRequest(enrollment=new)],
        )
        assert refused.code == grpc.StatusCode.INTERNAL
        assert "Jane" not in refused.message + caplog.text
        assert "Enroll failed with ValueError" in caplog.text
        assert "in fail" in caplog.text, "where"

    def test_bytes_that_are_no_message(self, served: Served) -> None:
        raw = served.channel.unary_unary("/papilar.api.v1.MatchingService/Identify")
        with pytest.raises(grpc.RpcError) as caught:
            raw(b"\xff\xff\xff", timeout=10)
        assert "Traceback" not in caught.value.details()
        assert served.client.gallery().ready


def kinds(base: type[PapilarError] = PapilarError) -> list[type[PapilarError]]:
    return [base, *(kind for child in base.__subclasses__() for kind in kinds(child))]


class TestTable:
    def test_every_error_has_a_row_and_a_reason_of_its_own(self) -> None:
        for package in (matcher, enroll, papilar):
            for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
                importlib.import_module(module.name)
        ours = [kind for kind in kinds() if kind.__module__.split(".")[0] in ("matcher", "enroll", "papilar")]
        assert set(ours) == set(CODES)
        assert len({kind.reason for kind in ours}) == len(ours)


class TestHealth:
    def test_every_service_serves(self, served: Served) -> None:
        stub = health_pb2_grpc.HealthStub(served.channel)
        for name in ("", "papilar.api.v1.MatchingService", "papilar.api.v1.EnrollmentService"):
            got = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=5)
            assert got.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as caught:
            stub.Check(health_pb2.HealthCheckRequest(service="other"), timeout=5)
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND

    def test_who_watches_learns_of_the_end(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("papilar.server._GRACE", 0.5)
        with serving(tmp_path / "g") as served:
            channel = grpc.insecure_channel(served.address)
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=60)
            assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        channel.close()


class TestReflection:
    def test_it_lists_and_describes(self, served: Served) -> None:
        database = ProtoReflectionDescriptorDatabase(served.channel)
        assert set(database.get_services()) == {
            "papilar.api.v1.MatchingService",
            "papilar.api.v1.EnrollmentService",
            "grpc.health.v1.Health",
            "grpc.reflection.v1alpha.ServerReflection",
        }
        pool = DescriptorPool(database)
        service = pool.FindServiceByName("papilar.api.v1.EnrollmentService")
        method = service.methods_by_name["Enroll"]
        described = method.input_type.fields_by_name["enrollment"].message_type
        assert described.fields_by_name["prints"].message_type.fields_by_name["position"].enum_type.values
        assert pool.FindMessageTypeByName("papilar.api.v1.IdentifyResponse").fields_by_name["candidates"]


class TestAnotherProgram:
    def test_a_general_grpc_client_needs_no_file_of_ours(self, served: Served) -> None:
        """`buf curl` learns the contract from the node alone, as grpcurl does."""
        served.client.enroll(a_person(1, subject="one"))
        command = [
            str(Path(sys.executable).with_name("buf")),
            *("curl", "--http2-prior-knowledge", "--protocol", "grpc"),
            f"http://{served.address}/papilar.api.v1.MatchingService/GetGallery",
            *("--data", "{}"),
        ]
        answered = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert answered.returncode == 0, answered.stderr
        assert json.loads(answered.stdout)["gallery"]["prints"] == "1"


class TestConcurrency:
    def test_nothing_is_lost_and_nothing_fails(self, served: Served) -> None:
        until, per_thread = time.monotonic() + 3, 400
        kept: dict[int, list[int]] = {}

        def work(thread: int) -> None:
            with NodeClient(served.address) as client:
                for k in range(per_thread):
                    seed = 1000 + thread * per_thread + k
                    done = client.enroll(a_person(seed, subject=f"s{seed}")).enrolled
                    if k % 5 == 4:
                        client.delete(done.encounter_id)
                    else:
                        kept.setdefault(thread, []).append(seed)
                    found = client.identify(search_for(enrolled_as(seed), limit=1))
                    assert (best_of(found) == f"s{seed}") is (k % 5 != 4)
                    if time.monotonic() > until:
                        return

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))
        everyone = [seed for seeds in kept.values() for seed in seeds]
        assert counts(served) == (len(everyone),) * 3
        for seed in everyone[::7]:
            assert (
                best_of(served.client.identify(search_for(PrintInput(template=mate_record(seed)))))
                == f"s{seed}"
            )
