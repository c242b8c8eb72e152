"""The kit against our node over a real socket, and against nodes that break one rule each."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import broken
import peers
import pytest
import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf.timestamp_pb2 import Timestamp
from typer.testing import CliRunner

from papilar.api.peer.v1 import peer_pb2, types_pb2
from papilar.commands.conformance import app
from papilar.conformance.bench import Bench
from papilar.conformance.cases import CASES, SHARED_SEARCHES
from papilar.conformance.kit import is_made_up, make_kit
from papilar.conformance.prints import light, read_probe
from papilar.conformance.verdict import Group, Result, Unmet, Verdict, judge
from papilar.errors import NodeUnreachable, RequestInvalid
from papilar.exchange.seal import content_hash
from papilar.signing import signed_bytes

RUNNER = CliRunner()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[peers.World]:
    with peers.world(tmp_path_factory.mktemp("conformance")) as made:
        yield made


def run(at: peers.World, address: str, *groups: Group) -> list[Verdict]:
    """Run cases as the command does, with images."""
    image = read_probe((at.kit / "prints/probe.png").read_bytes())
    return judged(Bench(address, "SLV", at.kit, probe=image), *groups)


def run_fast(at: peers.World, address: str, *groups: Group) -> list[Verdict]:
    """Run cases with templates, which need no extraction."""
    bench = Bench(address, "SLV", at.kit, probe=at.probe)
    bench.__dict__["stranger"] = light()
    return judged(bench, *groups)


def judged(bench: Bench, *groups: Group) -> list[Verdict]:
    try:
        cases = [case for case in CASES if not groups or case.group in groups]
        verdicts = [judge(case, bench) for case in cases]
        assert bench.searches <= sum(case.searches for case in cases) + SHARED_SEARCHES
        return verdicts
    finally:
        bench.close()


def named(verdicts: list[Verdict], result: Result) -> list[str]:
    return [one.case.id for one in verdicts if one.result is result]


class TestOurNode:
    def test_it_passes(self, world: peers.World, tmp_path: Path) -> None:
        with peers.answering(world, tmp_path) as slv:
            verdicts = run(world, slv.address)
        assert [one.to_dict() for one in verdicts if one.result is not Result.PASS] == []

    def test_it_passes_again(self, world: peers.World, tmp_path: Path) -> None:
        """The kit leaves nothing behind that a second run would trip over."""
        with peers.answering(world, tmp_path) as slv:
            run_fast(world, slv.address, Group.LOG, Group.CONFIRMATION)
            again = run_fast(world, slv.address, Group.LOG, Group.CONFIRMATION)
            forks = [one for one in slv.log.entries() if one.entry and one.entry.code == "LOG_FORKED"]
        assert named(again, Result.PASS) == [one.case.id for one in again]
        assert forks == []

    def test_it_passes_under_a_law_that_hides_refusals(self, world: peers.World, tmp_path: Path) -> None:
        with peers.answering(world, tmp_path, law=lambda: peers.law(hides=True)) as slv:
            verdicts = run(world, slv.address, Group.ANSWER, Group.LIMITS)
        assert named(verdicts, Result.FAIL) == []

    def test_without_a_probe_nothing_that_needs_a_hit_is_run(
        self, world: peers.World, tmp_path: Path
    ) -> None:
        with peers.answering(world, tmp_path) as slv:
            verdicts = judged(Bench(slv.address, "SLV", world.kit), Group.ANSWER, Group.CONFIRMATION)
        left = {one.case.id: one.needs for one in verdicts if one.result is Result.NOT_RUN}
        assert left.keys() >= {"answer.reference", "confirmation.used", "confirmation.of_another_country"}
        assert set(left.values()) == {"--probe: a print of somebody whom the node has"}
        assert named(verdicts, Result.FAIL) == []

    def test_a_quota_that_is_used_up_is_no_failure(self, world: peers.World, tmp_path: Path) -> None:
        with peers.answering(world, tmp_path, law=lambda: peers.law(per_day=1)) as slv:
            verdicts = run_fast(world, slv.address, Group.LOG)
        assert named(verdicts, Result.FAIL) == []
        assert "log.entry_of_each_search" in named(verdicts, Result.NOT_RUN)


# ---- one rule broken at a time


def answer(change: Callable[..., None], **more: Any) -> Callable[..., Any]:
    return lambda kit: broken.answers(change, **more)


def lenient(mend: Callable[..., bool]) -> Callable[..., Any]:
    return lambda kit: broken.lenient(kit, mend)


def plain(kind: type) -> Callable[..., Any]:
    return lambda kit: kind


def expires_late(said: peer_pb2.NodeDescription) -> None:
    said.reference_days += 3


def quota_of_none(said: peer_pb2.NodeDescription) -> None:
    said.quotas[0].per_day = 0


def for_another(said: peer_pb2.NodeDescription) -> None:
    said.peer = "XTB"


def other_receipt(receipt: peer_pb2.Receipt) -> None:
    receipt.confirmation_sha256 = bytes(32)


def receipt_elsewhere(receipt: peer_pb2.Receipt) -> None:
    receipt.log.leaf_hash = bytes(32)


def few(said: peer_pb2.Statistics) -> None:
    said.counters.add(search_type=types_pb2.SEARCH_TYPE_TP_TP, searches=3)


def twice(said: peer_pb2.Statistics) -> None:
    for _ in range(2):
        said.counters.add(search_type=types_pb2.SEARCH_TYPE_TP_UL, searches=7)


def other_month(said: peer_pb2.Statistics) -> None:
    said.month = "2020-01"


MUTANTS: dict[str, Callable[[Path], Any]] = {
    "answer.search_sha256": answer(broken.other_hash),
    "answer.names": answer(broken.other_request),
    "answer.create_time": answer(broken.old),
    "answer.erasure": answer(broken.other_erasure),
    "answer.policy": answer(broken.other_law),
    "answer.padding": answer(broken.filled_padding),
    "answer.order": answer(broken.worst_first, hits=True),
    "identity.of_candidates": answer(broken.text_in_candidate, hits=True),
    "log.inclusion": answer(broken.wrong_path),
    "seal.answer": plain(broken.TamperedAnswer),
    "search.widest": plain(broken.Strict),
    "search.answered": plain(broken.Silent),
    "search.same_bytes": plain(broken.SecondEffect),
    "identity.unknown_field": lenient(broken.unknown_field),
    "identity.unknown_field_in_confirmation": plain(broken.UnknownFieldInConfirmation),
    "identity.png_chunk": lenient(broken.text_in_png),
    "seal.clock_behind": lenient(broken.clock(-1)),
    "seal.clock_ahead": lenient(broken.clock(+1)),
    "seal.asking_country": lenient(broken.field("asking_country", "XTA", lambda value: value == "XTB")),
    "seal.expired": broken.believing_expired,
    "search.officer": lenient(broken.field("officer", "k", lambda value: value == "a b")),
    "search.files": lenient(broken.field("files", [1], lambda value: not value)),
    "search.target_fpir": lenient(broken.field("target_fpir", 0.1, lambda value: value == 0.11)),
    "confirmation.used": plain(broken.AcceptsTwice),
    "confirmation.of_another_country": plain(broken.TellsWhy),
    "confirmation.receipt": lambda kit: broken.receipts(other_receipt),
    "log.inclusion_of_conclusion": lambda kit: broken.receipts(receipt_elsewhere),
    "log.grows": plain(broken.RolledBack),
    "log.consistency": plain(broken.Forked),
    "log.keeps_ours": plain(broken.ForgetsHeads),
    "limits.for_whom": lambda kit: broken.described(for_another),
    "limits.quotas": lambda kit: broken.described(quota_of_none),
    "statistics.suppressed": lambda kit: broken.counted(few),
    "statistics.counters": lambda kit: broken.counted(twice),
    "statistics.names": lambda kit: broken.counted(other_month),
    "answer.reference_expiry": lambda kit: broken.described(expires_late),
}


@pytest.mark.parametrize("case", MUTANTS)
def test_a_broken_node_fails_that_case_of_its_group(world: peers.World, tmp_path: Path, case: str) -> None:
    with peers.answering(world, tmp_path, broken=MUTANTS[case](world.kit)) as slv:
        verdicts = run_fast(world, slv.address, Group(case.partition(".")[0]))
    assert named(verdicts, Result.FAIL) == [case]


@pytest.mark.soak
@pytest.mark.parametrize("case", MUTANTS)
def test_a_broken_node_fails_that_case_alone(world: peers.World, tmp_path: Path, case: str) -> None:
    with peers.answering(world, tmp_path, broken=MUTANTS[case](world.kit)) as slv:
        verdicts = run_fast(world, slv.address)
    assert named(verdicts, Result.FAIL) == [case]


def test_answers_without_padding(world: peers.World, tmp_path: Path) -> None:
    """Two cases see it: of two searches that find nobody, and of one that finds somebody."""
    with peers.answering(world, tmp_path, broken=broken.answers(broken.no_padding)) as slv:
        verdicts = run_fast(world, slv.address, Group.ANSWER)
    assert named(verdicts, Result.FAIL) == ["answer.size", "answer.size_of_hit"]


@pytest.mark.parametrize("kind", [broken.answers(broken.nonsense), broken.Garbage])
def test_nonsense_is_a_failure_and_no_crash(world: peers.World, tmp_path: Path, kind: Any) -> None:
    with peers.answering(world, tmp_path, broken=kind) as slv:
        verdicts = run_fast(world, slv.address)
        shown = RUNNER.invoke(
            app,
            ["check", slv.address, "--country", "SLV", "--kit", str(world.kit), "--only", "answer", "--yes"],
        )
    assert named(verdicts, Result.FAIL)
    assert named(verdicts, Result.PASS), "and what does not hang on it is still judged"
    assert shown.exit_code in (1, 3), shown.output
    assert "\x1b[2J" not in shown.output


def test_a_node_that_believes_what_was_revoked(world: peers.World, tmp_path: Path) -> None:
    shutil.copytree(world.kit / "trust", tmp_path / "trust")
    (tmp_path / "trust/XTA/revoked.pem").unlink()
    with peers.answering(world, tmp_path / "peer", trust=tmp_path / "trust") as slv:
        verdicts = run_fast(world, slv.address, Group.TRANSPORT, Group.SEAL)
    assert named(verdicts, Result.FAIL) == ["transport.revoked", "seal.revoked"]


class TestKit:
    def test_what_is_missing_is_said_and_is_no_pass(self, world: peers.World, tmp_path: Path) -> None:
        part = tmp_path / "kit"
        shutil.copytree(world.kit, part)
        shutil.rmtree(part / "abroad")
        shutil.rmtree(part / "unknown")
        for stem in ("node-expired", "node-revoked", "seal-revoked"):
            (part / f"home/{stem}.pem").unlink()
        with peers.answering(world, tmp_path / "peer") as slv:
            verdicts = run_fast(world._replace(kit=part), slv.address, Group.TRANSPORT, Group.SEAL)
        needs = {one.case.id: one.needs for one in verdicts if one.result is Result.NOT_RUN}
        assert needs["transport.expired"] == "home/node-expired.pem and its key"
        assert needs["transport.unknown_authority"] == "unknown/node.pem and its key"
        assert needs["seal.another_country"] == "abroad/seal.pem and its key"
        assert len(needs) == 8
        assert named(verdicts, Result.FAIL) == []

    def test_no_country_is_spoken_for(self, tmp_path: Path) -> None:
        assert [code for code in ("XTA", "AAZ", "QMA", "ZZZ") if not is_made_up(code)] == []
        assert [code for code in ("SLV", "HND", "ABW", "QAT", "ZWE", "xta") if is_made_up(code)] == []
        with pytest.raises(RequestInvalid):
            make_kit(tmp_path / "kit", at=datetime.now(UTC), home="SLV")

    def test_a_real_country_offers_no_head(self, world: peers.World, tmp_path: Path) -> None:
        """Its log is its own: a head out of nothing would be a second history."""
        part = tmp_path / "kit"
        shutil.copytree(world.kit, part)
        shutil.rmtree(part / "home")
        shutil.copytree(world.slv, part / "home")
        bench = Bench("127.0.0.1:1", "SLV", part)
        with pytest.raises(Unmet, match="made up"):
            bench.head()

    def test_each_case_is_named_once_and_has_a_clause(self) -> None:
        names = [case.id for case in CASES]
        assert len(set(names)) == len(names)
        assert {case.group for case in CASES} == set(Group)
        assert [case.id for case in CASES if not case.clause] == []


class TestCommand:
    def check(self, address: str, kit: Path, *more: str) -> Any:
        return RUNNER.invoke(app, ["check", address, "--country", "SLV", "--kit", str(kit), *more])

    def test_all_passed(self, world: peers.World, tmp_path: Path) -> None:
        with peers.answering(world, tmp_path) as slv:
            done = self.check(slv.address, world.kit, "--only", "limits", "--yes", "--json")
        assert done.exit_code == 0, done.output
        said = json.loads(done.stdout)
        assert said["counts"] == {"pass": 6, "FAIL": 0, "not run": 0}
        assert {one["id"].partition(".")[0] for one in said["cases"]} == {"limits"}
        assert "at most 4 searches" in done.stderr
        assert "permits 100 a day" in done.stderr

    def test_a_failure_says_what_was_sent_and_what_came(self, world: peers.World, tmp_path: Path) -> None:
        with peers.answering(world, tmp_path, broken=broken.described(for_another)) as slv:
            done = self.check(slv.address, world.kit, "--only", "limits", "--yes")
        assert done.exit_code == 1, done.output
        for text in ("sent DescribeNode", "must come peer XTA", "came peer XTB", "NodeDescription.country"):
            assert text in done.stdout
        assert "5 pass, 1 FAIL, 0 not run" in done.stdout

    def test_some_were_not_run(self, world: peers.World, tmp_path: Path) -> None:
        part = tmp_path / "kit"
        shutil.copytree(world.kit, part)
        (part / "home/node-expired.key").unlink()
        with peers.answering(world, tmp_path / "peer") as slv:
            done = self.check(slv.address, part, "--only", "transport", "--yes")
        assert done.exit_code == 3, done.output
        assert "needs home/node-expired.pem and its key" in done.stdout

    def test_it_asks_before_it_searches(self, world: peers.World, tmp_path: Path) -> None:
        with peers.answering(world, tmp_path) as slv:
            done = RUNNER.invoke(
                app, ["check", slv.address, "--country", "SLV", "--kit", str(world.kit)], input="n\n"
            )
            assert slv.log.head().size == 0
        assert done.exit_code == 1

    def test_a_node_that_is_down(self, world: peers.World) -> None:
        done = self.check("127.0.0.1:1", world.kit, "--yes")
        assert isinstance(done.exception, NodeUnreachable)

    def test_it_makes_a_kit_once(self, tmp_path: Path) -> None:
        done = RUNNER.invoke(app, ["kit", str(tmp_path / "kit")])
        assert done.exit_code == 0, done.output
        assert "trust/XTA" in done.stdout
        assert (tmp_path / "kit/home/node-expired.pem").exists()
        again = RUNNER.invoke(app, ["kit", str(tmp_path / "kit")])
        assert isinstance(again.exception, RequestInvalid)

    def test_it_goes_into_a_group_of_others(self) -> None:
        group = typer.Typer()
        group.command("pending")(lambda: None)
        group.add_typer(app)
        shown = RUNNER.invoke(group, ["--help"]).stdout
        assert "check" in shown
        assert "kit" in shown


def test_the_example_of_the_document_is_true() -> None:
    """`docs/exchange.md` gives bytes for others to try their own code on."""
    text = (Path(__file__).parents[3] / "docs/exchange.md").read_text(encoding="utf-8")
    given = {
        block.split("\n")[0]: "".join(re.findall("(?m)^[0-9a-f]+$", block))
        for block in re.findall("(?s)```\n(statement\n.*?)```", text)[0].strip().split("\n\n")
    }
    search = peer_pb2.Search(
        request_id="0b9d1f62-6a3f-4f3c-9a40-6a2f0d3c1e55",
        asking_country="XTA",
        asked_country="SLV",
        create_time=Timestamp(seconds=1795305600),
        officer="k",
    )
    data = search.SerializeToString(deterministic=True)
    key = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    signed = signed_bytes("search", data)
    assert given == {
        "statement": data.hex(),
        "signed": signed.removesuffix(data).hex(),
        "signature": Ed25519PrivateKey.from_private_bytes(key).sign(signed).hex(),
        "search_sha256": content_hash(search).hex(),
    }
    without = data.replace(bytes.fromhex("22060880e188d806"), b"")
    assert given["search_sha256"] == sha256(without).hexdigest(), "the field taken out of the bytes"
