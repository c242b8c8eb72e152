"""The prints of a request as they are read: what a gate adds for those to be enrolled, and for no others."""

import pickle

import needs
import pytest
from nodes import enrolled_as, image_of, white

from enroll import nfiq
from enroll.gate import ADVICE, Shortcoming
from enroll.gate import QualityGate as Gate
from matcher.template import Finger, Impression
from papilar.prints import read_prints
from papilar.requests import Enrolled, PrintInput

STRICT = Gate(least_nfiq2=100, least_minutiae=500, least_area_mm2=2000.0)


def gated(given: PrintInput, gate: Gate | None) -> tuple[str, ...]:
    """Return the words said of a print that is held against a gate."""
    (read,) = read_prints([given], gate=gate)
    assert all(advice for _, advice in read.assessment.reasons)
    return tuple(word for word, _ in read.assessment.reasons)


def test_an_open_gate_lets_through_what_is_let_through_without_one() -> None:
    given = [image_of(1), PrintInput(image=white()), enrolled_as(2)]
    read, without = read_prints(given, gate=Gate()), read_prints(given)
    assert [one.assessment.accepted for one in read] == [True, False, True]
    for one, plain in zip(read, without, strict=True):
        assert one.assessment._replace(nfiq2=None, nfiq2_version="", nfiq2_reason="") == plain.assessment
        assert one.template == plain.template or one.template.xy.tolist() == plain.template.xy.tolist()


@needs.NBIS
def test_nfiq2_goes_with_a_print_to_be_enrolled_and_is_not_computed_for_a_probe() -> None:
    enrolling, probing = read_prints([image_of(1)], gate=Gate()), read_prints([image_of(1)])
    assert enrolling[0].assessment.nfiq2 in range(20, 101)
    assert enrolling[0].assessment.nfiq2_version == nfiq.version()
    assert enrolling[0].assessment.nfiq2_reason == ""
    assert probing[0].assessment[6:] == (None, "", "")


def test_of_a_print_without_nfiq2_it_is_told_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def told(given: PrintInput, *, nfiq2: bool = True) -> tuple[object, ...]:
        return read_prints([given], gate=Gate(nfiq2=nfiq2))[0].assessment[6:]

    assert told(image_of(1), nfiq2=False) == (None, "", "NOT_ASKED")
    latent = PrintInput(Finger(2), Impression.LATENT_LIFT, image_of(1).image)
    assert told(latent) == (None, "", "IMPRESSION_NOT_JUDGED")
    assert told(enrolled_as(1)) == (None, "", "")
    monkeypatch.setattr(nfiq, "_ask", lambda file: {})
    assert told(image_of(1))[2] in ("NFIQ2_FAILED", "NFIQ2_UNAVAILABLE")
    monkeypatch.setattr(nfiq, "find_spec", lambda name: None)
    assert told(image_of(1)) == (None, "", "NFIQ2_UNAVAILABLE")


@needs.NBIS
def test_a_print_that_fails_is_told_all_it_missed() -> None:
    (read,) = read_prints([image_of(1)], gate=STRICT)
    words = [word for word, _ in read.assessment.reasons]
    assert not read.assessment.accepted
    assert words[:3] == ["LOW_NFIQ2", "FEW_USABLE_MINUTIAE", "SMALL_AREA"]
    assert dict(read.assessment.reasons)["SMALL_AREA"] == ADVICE[Shortcoming.SMALL_AREA]
    assert read.assessment.nfiq2 is not None, "the score is told of a print that fails too"


def test_of_a_node_that_cannot_compute_what_it_asks_for_no_print_is_good_enough(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(nfiq, "find_spec", lambda name: None)
    assert gated(image_of(1), Gate()) == ()
    assert gated(image_of(1), Gate(least_nfiq2=1)) == ("NFIQ2_UNAVAILABLE",)


@pytest.mark.parametrize("impression", [Impression.LATENT_LIFT, Impression.LIVE_CONTACTLESS_PLAIN])
def test_no_gate_is_for_latents_and_photographs(impression: Impression) -> None:
    image = image_of(1).image
    assert gated(PrintInput(Finger(2), impression, image), STRICT) == ()


def test_nor_for_templates() -> None:
    assert gated(enrolled_as(1), STRICT) == ()


def test_what_is_read_can_be_sent_to_another_process_and_kept_for_a_repeat() -> None:
    (read,) = read_prints([image_of(1)], gate=STRICT)
    assert pickle.loads(pickle.dumps(read)).assessment == read.assessment  # noqa: S301
    assert pickle.loads(pickle.dumps(STRICT)) == STRICT  # noqa: S301
    enrolled = Enrolled("s", "e", (read.assessment,), repeated=True)
    assert Enrolled.load(enrolled.dump()) == enrolled
