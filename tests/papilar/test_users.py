"""Who may call and what for: the forms of all that a call states, and the table of permits."""

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from papilar.api.v1 import duplicates_pb2, enrollment_pb2, maintenance_pb2, matching_pb2, region_pb2
from papilar.audit.entry import Act
from papilar.errors import CallerUnknown, CallNotPermitted, PurposeMissing
from papilar.identity import Identity, Kind, Role
from papilar.policy.request import LegalBasis, OffenceClass, Purpose
from papilar.users import PERMITS, Mandate, admit, check_user, is_pseudonym

METADATA = {
    "papilar-purpose": "criminal_investigation",
    "papilar-reason": "ARREST",
    "papilar-legal-basis": "court_order",
    "papilar-offence-class": "serious",
    "papilar-case": "2026/SS-114.2",
    "papilar-ordering-officer": "o12",
}
MANDATE = Mandate(
    purpose=Purpose.CRIMINAL_INVESTIGATION,
    reason="ARREST",
    legal_basis=LegalBasis.COURT_ORDER,
    offence_class=OffenceClass.SERIOUS,
    case_reference="2026/SS-114.2",
    ordering_officer="o12",
)
MATCHING, ENROLLMENT = "papilar.api.v1.MatchingService", "papilar.api.v1.EnrollmentService"
REGION, MAINTENANCE = "papilar.api.v1.RegionService", "papilar.api.v1.MaintenanceService"
DUPLICATES = "papilar.api.v1.DuplicateService"
MAY = {
    f"{MAINTENANCE}/StartReextraction": {Role.ADMINISTRATOR},
    f"{MAINTENANCE}/GetReextraction": {Role.ADMINISTRATOR},
    f"{MATCHING}/GetGallery": set(Role),
    f"{MATCHING}/Verify": {Role.OFFICER, Role.EXAMINER},
    f"{MATCHING}/Identify": {Role.OFFICER, Role.EXAMINER},
    f"{ENROLLMENT}/Enroll": {Role.OFFICER, Role.EXAMINER},
    f"{ENROLLMENT}/EnrollMany": {Role.OFFICER, Role.EXAMINER},
    f"{ENROLLMENT}/GetEncounter": {Role.EXAMINER, Role.SUPERVISOR},
    f"{ENROLLMENT}/DeleteEncounter": {Role.SUPERVISOR},
    f"{DUPLICATES}/FindDuplicates": {Role.EXAMINER},
    f"{DUPLICATES}/ListDuplicateCases": {Role.EXAMINER, Role.SUPERVISOR},
    f"{DUPLICATES}/DecideDuplicateCase": {Role.EXAMINER, Role.SUPERVISOR},
    f"{DUPLICATES}/UnmergeSubjects": {Role.EXAMINER, Role.SUPERVISOR},
    f"{REGION}/IdentifyRegion": {Role.OFFICER, Role.EXAMINER},
    f"{REGION}/GetRegionAnswers": {Role.OFFICER, Role.EXAMINER},
    f"{REGION}/ListPeers": {Role.OFFICER, Role.EXAMINER},
    f"{REGION}/ConfirmCandidate": {Role.EXAMINER, Role.SUPERVISOR},
    f"{REGION}/GetPeerStatistics": {Role.SUPERVISOR},
}
ABOUT_NO_PERSON = {
    f"{MATCHING}/GetGallery",
    f"{MAINTENANCE}/StartReextraction",
    f"{MAINTENANCE}/GetReextraction",
    *(
        f"{REGION}/{call}"
        for call in ("GetRegionAnswers", "ListPeers", "ConfirmCandidate", "GetPeerStatistics")
    ),
}
HOSTILE = [
    "",
    " ",
    "'; DROP TABLE x; --",
    "A\nB",
    "A\x00B",
    "\x1b[31m",
    "é",
    "\uff21",
    "\u0663",
    "A" * 65,
    "A\n",
]


def person(*roles: Role, country: str = "SLV", kind: Kind = Kind.USER, name: str = "e7") -> Identity:
    return Identity(country, kind, name, frozenset(roles))


def sent(**changed: Any) -> list[tuple[str, Any]]:
    """The metadata with fields changed, or left out where None; among what gRPC itself sends."""
    values = METADATA | {f"papilar-{key.replace('_', '-')}": value for key, value in changed.items()}
    return [("user-agent", "grpc"), *((k, v) for k, v in values.items() if v is not None)]


class TestMandate:
    def test_what_a_call_states(self) -> None:
        assert Mandate.read(sent()) == MANDATE
        assert MANDATE.metadata() == METADATA
        assert MANDATE.justification == "ARREST, by court_order"

    def test_nobody_needs_to_have_ordered_it(self) -> None:
        found = Mandate.read(sent(ordering_officer=None))
        assert found is not None
        assert found.ordering_officer == ""
        assert Mandate.read(found.metadata().items()) == found

    def test_a_call_that_states_nothing(self) -> None:
        assert Mandate.read([("user-agent", "x"), ("authorization", "Bearer y")]) is None

    @pytest.mark.parametrize("key", [k for k in METADATA if k != "papilar-ordering-officer"])
    def test_all_must_be_there(self, key: str) -> None:
        with pytest.raises(PurposeMissing, match=key):
            Mandate.read([(k, v) for k, v in METADATA.items() if k != key])

    @pytest.mark.parametrize("key", METADATA)
    def test_nothing_may_be_there_twice(self, key: str) -> None:
        with pytest.raises(PurposeMissing, match="twice"):
            Mandate.read([*METADATA.items(), (key, METADATA[key])])

    @pytest.mark.parametrize(
        "key", ["papilar-name", "papilar-", "papilar-case-reference", "papilar-case-bin"]
    )
    def test_nothing_else_may_be_there(self, key: str) -> None:
        with pytest.raises(PurposeMissing, match="unknown"):
            Mandate.read([*METADATA.items(), (key, "x")])

    @pytest.mark.parametrize("key", METADATA)
    @pytest.mark.parametrize("text", HOSTILE)
    def test_text_of_another_form(self, key: str, text: str) -> None:
        if not text and key == "papilar-ordering-officer":
            return
        with pytest.raises(PurposeMissing) as refused:
            Mandate.read([(k, text if k == key else v) for k, v in METADATA.items()])
        assert len(text) < 3 or text not in str(refused.value)

    @pytest.mark.parametrize("key", METADATA)
    def test_bytes(self, key: str) -> None:
        with pytest.raises(PurposeMissing):
            Mandate.read([(k, v.encode() if k == key else v) for k, v in METADATA.items()])

    @given(st.text(max_size=70))
    def test_a_case_reference_is_of_its_alphabet(self, text: str) -> None:
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-/."
        fits = 1 <= len(text) <= 64 and set(text) <= set(alphabet) and text[0] not in "-/."
        assert reads("case", text) == fits

    @given(st.sampled_from("AZ09"), st.text("ABZ09-/.", max_size=63))
    def test_every_case_reference_of_the_alphabet(self, first: str, rest: str) -> None:
        assert reads("case", first + rest)

    @given(st.text("AZ09_ a", max_size=34))
    def test_a_reason_is_a_code(self, text: str) -> None:
        fits = 1 <= len(text) <= 32 and set(text) <= set("AZ09_") and text[0] in "AZ"
        assert reads("reason", text) == fits


def reads(key: str, text: str) -> bool:
    try:
        return Mandate.read(sent(**{key: text})) is not None
    except PurposeMissing:
        return False


@given(st.text("az09-/+:\n", max_size=66) | st.text(max_size=5))
def test_a_pseudonym_is_the_last_part_of_a_name(text: str) -> None:
    alphabet = set("abcdefghijklmnopqrstuvwxyz0123456789-")
    fits = 1 <= len(text) <= 63 and set(text) <= alphabet and "-" not in (text[0], text[-1])
    assert is_pseudonym(text) == fits
    if fits:
        assert Identity.parse(person(Role.OFFICER, name=text).uri).name == text


class TestPermits:
    @pytest.mark.parametrize("role", Role)
    @pytest.mark.parametrize("method", MAY)
    def test_who_may_do_what(self, method: str, role: Role) -> None:
        if role in MAY[method]:
            assert admit(method, person(role), sent()).mandate == MANDATE
        else:
            with pytest.raises(CallNotPermitted):
                admit(method, person(role), sent())

    def test_one_role_of_several_is_enough(self) -> None:
        identity = person(Role.ADMINISTRATOR, Role.EXAMINER)
        assert admit(f"{MATCHING}/Identify", identity, sent()).identity is identity

    @pytest.mark.parametrize(
        "method", ["", "/", f"{MATCHING}/identify", f"/{MATCHING}/Identify", f"{MATCHING}/Identify ", "x/y"]
    )
    def test_what_is_not_in_the_table_is_denied(self, method: str) -> None:
        with pytest.raises(CallNotPermitted):
            admit(method, person(*Role), sent())

    def test_every_call_of_the_contract_is_in_the_table(self) -> None:
        """And nothing else: a new call is denied until somebody has thought about it."""
        contract = calls(duplicates_pb2, enrollment_pb2, maintenance_pb2, matching_pb2, region_pb2)
        assert set(PERMITS) == set(MAY) == set(contract)

    def test_without_a_purpose(self) -> None:
        for method, roles in MAY.items():
            if method in ABOUT_NO_PERSON:
                assert admit(method, person(*roles), []).mandate is None
            else:
                with pytest.raises(PurposeMissing, match="what for"):
                    admit(method, person(*Role), [])

    def test_a_purpose_that_is_not_asked_for_is_held_to_its_form(self) -> None:
        with pytest.raises(PurposeMissing):
            admit(f"{MATCHING}/GetGallery", person(Role.OFFICER), sent(case="a b"))

    def test_the_role_is_looked_at_before_the_purpose(self) -> None:
        with pytest.raises(CallNotPermitted):
            admit(f"{MATCHING}/Identify", person(Role.ADMINISTRATOR), [])

    @pytest.mark.parametrize("kind", [Kind.NODE, Kind.SEAL, Kind.LAW])
    def test_only_persons(self, kind: Kind) -> None:
        with pytest.raises(CallerUnknown):
            check_user(person(kind=kind), country="SLV")

    def test_only_of_the_own_country(self) -> None:
        check_user(person(Role.OFFICER), country="SLV")
        with pytest.raises(CallerUnknown):
            check_user(person(Role.OFFICER, country="HND"), country="SLV")

    def test_what_the_log_calls_it(self) -> None:
        acts = {method.rpartition("/")[2]: permit.act for method, permit in PERMITS.items()}
        assert (acts["Enroll"], acts["DeleteEncounter"]) == (Act.COLLECTION, Act.ERASURE)
        assert (acts["DecideDuplicateCase"], acts["UnmergeSubjects"]) == (Act.COMBINATION, Act.ALTERATION)
        assert {acts[call] for call in ("Verify", "Identify", "GetEncounter")} == {Act.CONSULTATION}


def calls(*files: Any) -> Iterable[str]:
    for file in files:
        for service in file.DESCRIPTOR.services_by_name.values():
            yield from (f"{service.full_name}/{method.name}" for method in service.methods)
