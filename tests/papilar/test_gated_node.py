"""A node with a gate: what it keeps with a print, what it turns away, and that probes are left alone."""

from pathlib import Path

from nodes import image_of

from enroll import nfiq
from enroll.gate import QualityGate
from papilar.node import Node
from papilar.requests import Enrolled, Enrollment, Rejected


def test_nfiq2_is_kept_with_the_print_and_told(tmp_path: Path) -> None:
    with Node(tmp_path / "gallery", create=True) as node:
        done = node.enroll(Enrollment((image_of(1),), subject_id="s"))
        assert isinstance(done, Enrolled)
        (stored,) = node.encounter(done.encounter_id).prints
        assert (stored.nfiq2, stored.nfiq2_version or "") == done.prints[0][6:8]
        assert (stored.nfiq2 is not None) == bool(nfiq.version())


def test_a_gate_turns_prints_away_and_no_probe(tmp_path: Path) -> None:
    with Node(tmp_path / "gallery", create=True, gate=QualityGate(least_minutiae=500)) as node:
        refused = node.enroll(Enrollment((image_of(1),), subject_id="s"))
        assert isinstance(refused, Rejected)
        assert refused.prints[0].reasons[0][0] == "FEW_USABLE_MINUTIAE"
        assert node.describe().prints == 0
        assert node.identify([image_of(1)]).probe[0].accepted


def test_an_encounter_says_which_one_it_replaces(tmp_path: Path) -> None:
    with Node(tmp_path / "gallery", create=True, gate=QualityGate(nfiq2=False)) as node:
        first = node.enroll(Enrollment((image_of(1),), subject_id="s"))
        assert isinstance(first, Enrolled)
        again = node.enroll(Enrollment((image_of(2),), subject_id="s", replaces=first.encounter_id.upper()))
        assert isinstance(again, Enrolled)
        assert node.encounter(again.encounter_id).replaces == first.encounter_id
