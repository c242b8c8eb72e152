"""What the tests of statistics share: searches between countries as both sides log them, and a year."""

import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from papilar.api.peer.v1 import peer_pb2, types_pb2
from papilar.audit.entry import Act, Entry, Outcome
from papilar.exchange import diary
from papilar.exchange.records import Ended, Records
from papilar.exchange.region import CountryAnswer, Gap, GapKind
from papilar.exchange.words import policy_request, to_number
from papilar.identity import Identity, Kind, Role
from papilar.policy import Decision, Direction, File, Law, LawText, Ruling, SearchType, Verdict

KEY = bytes(range(32))
START = datetime(2025, 12, 1, tzinfo=UTC)
LAW = Law.read(
    LawText(
        'country = "SLV"\nversion = 1\ntitle = "A law of the tests"\nvalid_from = 2025-01-01\n',
        '@id("all")\n@reads("Everything is permitted here.")\npermit(principal, action, resource);\n',
        "",
    )
)
DECISION = Decision((Ruling(File.CRIMINAL, Verdict.ALLOW, "ALLOWED", ()),), 1, LAW.sha256)
MARK = "subject-7"
_GAPS = {
    Outcome.REFUSED: (peer_pb2.OUTCOME_REFUSED, GapKind.REFUSED),
    Outcome.QUOTA: (peer_pb2.OUTCOME_QUOTA, GapKind.QUOTA),
    Outcome.NEEDS_HUMAN: (peer_pb2.OUTCOME_NEEDS_HUMAN, GapKind.NEEDS_HUMAN),
}
_CONCLUSIONS = {
    Outcome.CONFIRMED: peer_pb2.CONCLUSION_IDENTIFICATION,
    Outcome.REJECTED: peer_pb2.CONCLUSION_EXCLUSION,
    Outcome.INCONCLUSIVE: peer_pb2.CONCLUSION_INCONCLUSIVE,
}


@dataclass(frozen=True, slots=True)
class Case:
    """A search, and what both sides log of it, with the writers of the exchange itself."""

    number: int
    asking: str
    asked: str
    kind: SearchType
    time: datetime

    @property
    def search(self) -> peer_pb2.Search:
        number: Any = to_number(self.kind)
        return peer_pb2.Search(
            request_id=str(UUID(int=self.number, version=4)),
            asking_country=self.asking,
            asked_country=self.asked,
            officer="e7",
            roles=[types_pb2.ROLE_OFFICER],
            purpose=types_pb2.PURPOSE_CRIMINAL_INVESTIGATION,
            reason="ART_129",
            offence_class=types_pb2.OFFENCE_CLASS_SERIOUS,
            legal_basis=types_pb2.LEGAL_BASIS_TREATY,
            case_reference="C-1",
            search_type=number,
            files=[types_pb2.FILE_CRIMINAL],
            prints=[types_pb2.Print(image=b"made up")],
        )

    def sent(self) -> Entry:
        return diary.sent_out(self.search, DECISION, at=self.time)

    def came(self, outcome: Outcome, seconds: float) -> Entry:
        """What the asking side logs of an answer; UNREACHABLE is none."""
        at, answer, gap = self.time + timedelta(seconds=seconds), None, None
        stated, kind = _GAPS.get(outcome, (None, GapKind.UNREACHABLE))
        if outcome is not Outcome.UNREACHABLE:
            word = "POOR_PRINTS" if outcome is Outcome.ERROR else outcome
            number: Any = stated or peer_pb2.Outcome.Value(f"OUTCOME_{word}")
            answer = peer_pb2.Answer(outcome=number, policy_version=1, policy_sha256=bytes(32))
        if outcome in _GAPS or outcome is Outcome.UNREACHABLE:
            gap = Gap(self.asked, kind, "CODE")
        return diary.came_back(self.search, CountryAnswer(self.asked, answer, gap), at=at)

    def answered(self, outcome: Outcome, seconds: float, *, begun: bool = False) -> list[Entry]:
        """What the asked side logs; only if wanted, when it took the prints in."""
        search = self.search
        subjects = (MARK,) if outcome is Outcome.CANDIDATES else ()
        request = policy_request(search, direction=Direction.INBOUND)
        at = self.time + timedelta(seconds=seconds)
        ended = Ended(outcome, str(outcome), subjects)
        entries = Records(self.asked, KEY).of_search(search, request, LAW, ended, began=self.time, at=at)
        return [entry for entry in entries if begun or entry.act is not Act.COLLECTION]

    def concluded(self, outcome: Outcome, at: datetime) -> tuple[list[Entry], Entry]:
        """What both sides log of a conclusion: the asking one before it is sent, and with the receipt."""
        said = peer_pb2.Confirmation(
            request_id=self.search.request_id,
            asking_country=self.asking,
            asked_country=self.asked,
            conclusion=_CONCLUSIONS[outcome],
            correspondences_sha256=bytes(32),
        )
        examiner = Identity(self.asking, Kind.USER, "e7", frozenset({Role.EXAMINER}))
        ours = [diary.confirmed(said, "e7", answered=done, at=at) for done in (False, True)]
        return ours, Records(self.asked, KEY).of_confirmation(said, examiner, MARK, at=at)

    def refused_here(self) -> Entry:
        gap = Gap(self.asked, GapKind.NOT_PERMITTED_HERE, "NO_RULE")
        return diary.refused_here(self.search, DECISION, gap, at=self.time)


LOADS = {
    ("SLV", "HND"): 1400,
    ("HND", "SLV"): 1150,
    ("SLV", "GTM"): 700,
    ("GTM", "SLV"): 90,
    ("SLV", "USA"): 57,
    ("USA", "SLV"): 6973,
}
"""Searches in a year: the last pair as lopsided as one that was counted (shared profile of the exchange)."""

_OUTCOMES = {
    Outcome.NO_HIT: 0.86,
    Outcome.CANDIDATES: 0.08,
    Outcome.REFUSED: 0.03,
    Outcome.QUOTA: 0.01,
    Outcome.NEEDS_HUMAN: 0.005,
    Outcome.UNREACHABLE: 0.015,
}


def year(seed: int, *, share: float = 1.0) -> dict[str, list[Entry]]:
    """Return the logs of four countries over a year, made up; each entry by the country that writes it."""
    dice, logs, number = random.Random(seed), defaultdict[str, list[Entry]](list), 0  # noqa: S311
    for (asking, asked), load in LOADS.items():
        for _ in range(round(load * share)):
            number += 1
            kind = dice.choices((SearchType.TP_TP, SearchType.LT_TP, SearchType.TP_UL), (0.8, 0.15, 0.05))[0]
            time = START + timedelta(seconds=dice.uniform(0, 364 * 86_400))
            for country, entry in _logged(Case(number, asking, asked, kind, time), dice):
                logs[country].append(entry)
    return dict(logs)


def _logged(case: Case, dice: random.Random) -> Iterator[tuple[str, Entry]]:
    outcome = dice.choices(list(_OUTCOMES), list(_OUTCOMES.values()))[0]
    seconds = dice.lognormvariate(3.5 if case.kind is SearchType.LT_TP else 1.5, 0.8)
    yield case.asking, case.sent()
    yield case.asking, case.came(outcome, seconds)
    if outcome is Outcome.UNREACHABLE:
        return
    yield from ((case.asked, entry) for entry in case.answered(outcome, seconds))
    if outcome is Outcome.CANDIDATES and dice.random() < 0.9:
        verdict = dice.choices(list(_CONCLUSIONS), (0.5, 0.42, 0.08))[0]
        ours, theirs = case.concluded(verdict, case.time + timedelta(hours=dice.uniform(1, 240)))
        yield from ((case.asking, entry) for entry in ours)
        yield case.asked, theirs
