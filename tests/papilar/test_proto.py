"""The contract: its style, its generated side, and that it says what the domain says."""

import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest

import enroll.errors  # noqa: F401  (adds its branch to the error tree)
import papilar.errors  # noqa: F401
from matcher.errors import PapilarError
from matcher.template import Finger, Impression
from papilar.api.v1 import enrollment_pb2, matching_pb2, types_pb2
from papilar.store import MissingReason

ROOT = Path(__file__).resolve().parents[2]
PROTO = ROOT / "proto"


def kinds(base: type[PapilarError] = PapilarError) -> list[type[PapilarError]]:
    return [base, *(kind for child in base.__subclasses__() for kind in kinds(child))]


def test_style() -> None:
    buf = Path(sys.executable).parent / "buf"
    done = subprocess.run([buf, "lint", PROTO], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_generated_code_is_what_the_contract_says(tmp_path: Path) -> None:
    subprocess.run([sys.executable, PROTO / "generate", tmp_path], check=True, capture_output=True)
    made = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*.py*")}
    kept = {
        path.relative_to(ROOT): path.read_bytes()
        for path in (ROOT / "papilar" / "api").rglob("*.py*")
        if path.suffix in {".py", ".pyi"}
    }
    assert made.keys() == kept.keys(), "run `make proto`"
    assert [name for name in made if made[name] != kept[name]] == [], "run `make proto`"


def test_finger_positions_are_the_iso_codes() -> None:
    named = {name.removeprefix("FINGER_POSITION_"): code for name, code in types_pb2.FingerPosition.items()}
    assert named.pop("UNSPECIFIED") == Finger.UNKNOWN
    assert named == {finger.name: finger.value for finger in Finger if finger}


def test_impression_types_are_the_iso_codes_plus_one() -> None:
    named = {name.removeprefix("IMPRESSION_TYPE_"): code for name, code in types_pb2.ImpressionType.items()}
    assert named.pop("UNSPECIFIED") == 0
    assert named == {impression.name: impression.value + 1 for impression in Impression}


def test_missing_reasons_are_those_of_the_store() -> None:
    named = {name.removeprefix("MISSING_REASON_") for name in types_pb2.MissingReason.keys()}  # noqa: SIM118
    assert named == {"UNSPECIFIED", *MissingReason}


def test_what_changes_the_gallery_takes_a_request_id() -> None:
    for service in (*enrollment_pb2.DESCRIPTOR.services_by_name.values(),):
        for method in service.methods:
            changes = not method.name.startswith("Get")
            assert ("request_id" in method.input_type.fields_by_name) is changes, method.full_name
    for method in matching_pb2.DESCRIPTOR.services_by_name["MatchingService"].methods:
        assert "request_id" not in method.input_type.fields_by_name
        assert "gallery" in method.input_type.fields_by_name


def test_reasons_named_in_comments_exist() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in sorted(PROTO.rglob("*.proto")))
    named = set(re.findall(r"^ *//   +[A-Z]+_[A-Z_]+ +([A-Z]+_[A-Z_]+)(?:  |\n)", text, re.MULTILINE))
    assert len(named) >= 10
    assert named - {kind.reason for kind in kinds()} == set()


@pytest.mark.parametrize("branch", ["papilar.errors"])
def test_reasons_are_stable_words_of_their_own(branch: str) -> None:
    ours = [kind for kind in kinds() if kind.__module__ == branch]
    reasons = [kind.reason for kind in kinds()]
    assert ours
    for kind in ours:
        assert re.fullmatch("[A-Z][A-Z_]+[A-Z]", kind.reason)
        assert reasons.count(kind.reason) == 1
        again = pickle.loads(pickle.dumps(kind("cause", remedy="remedy")))  # noqa: S301
        assert (type(again), str(again)) == (kind, "cause; remedy")
