"""Reports, against an obvious count over all entries; and the command that prints them."""

import json
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from entries import KEY, MARK, START, an_entry, entry_number, tamper
from typer.testing import CliRunner

from papilar.audit import merkle
from papilar.audit.entry import Act, Entry, Outcome, Side
from papilar.audit.heads import sign_head
from papilar.audit.log import AuditLog
from papilar.audit.report import report_for_authority, report_for_subject, to_json
from papilar.commands.audit import app
from papilar.errors import GalleryUnknown, RequestInvalid
from papilar.signing import Signature

ALL = (START, START + timedelta(days=10))
ENTRIES = [entry_number(index) for index in range(45)]


def selected(**wanted: str) -> list[Entry]:
    return [e for e in ENTRIES if all(getattr(e, name) == value for name, value in wanted.items())]


def test_everything_is_counted(full: AuditLog) -> None:
    report = report_for_authority(full.store, *ALL)
    assert report.entries == 45
    pairs = Counter((e.asking, e.asked, e.side, e.act, e.outcome) for e in ENTRIES)
    assert {(p.asking, p.asked, p.side, p.act, p.outcome): p.entries for p in report.pairs} == pairs
    officers = Counter((e.officer, e.act) for e in ENTRIES)
    assert {(o.officer, o.act): o.entries for o in report.officers} == officers
    assert [line.entry for line in report.lines] == ENTRIES


def test_a_time_begins_with_its_first_moment_and_ends_before_its_last(full: AuditLog) -> None:
    report = report_for_authority(full.store, START + timedelta(hours=3), START + timedelta(hours=9))
    assert [line.index for line in report.lines] == [3, 4, 5, 6, 7, 8]
    assert report.entries == 6


@pytest.mark.parametrize(
    "wanted", [{"officer": "SLV:3"}, {"case_reference": "C-2"}, {"request_id": "request-7"}]
)
def test_an_officer_a_case_a_request(full: AuditLog, wanted: dict[str, Any]) -> None:
    report = report_for_authority(full.store, *ALL, **wanted)
    assert [line.entry for line in report.lines] == selected(**wanted)
    assert report.entries == len(selected(**wanted)) > 0


def test_a_country_on_either_side(full: AuditLog) -> None:
    assert report_for_authority(full.store, *ALL, country="GTM").entries == len(selected(asking="GTM"))
    assert report_for_authority(full.store, *ALL, country="HND").entries == 45
    assert report_for_authority(full.store, *ALL, country="NIC").entries == 0


def test_a_list_has_its_limit_and_the_count_has_none(full: AuditLog) -> None:
    report = report_for_authority(full.store, *ALL, limit=4)
    assert (report.entries, [line.index for line in report.lines]) == (45, [0, 1, 2, 3])


def test_who_asked_about_me(full: AuditLog) -> None:
    about = [index for index, e in enumerate(ENTRIES) if MARK in e.subjects]
    told = report_for_subject(full.store, MARK)
    assert (told.entries, [line.index for line in told.lines]) == (len(about), about)
    first, entry = told.lines[0], ENTRIES[about[0]]
    assert (first.time, first.asking, first.purpose, first.outcome) == (
        entry.time,
        entry.asking,
        entry.purpose,
        entry.outcome,
    )
    assert {line.case_reference for line in told.lines} == {None}
    with_case = report_for_subject(full.store, MARK, with_case=True)
    assert [line.case_reference for line in with_case.lines] == [ENTRIES[i].case_reference for i in about]
    assert report_for_subject(full.store, "0" * 64).entries == 0


def test_what_is_erased_is_in_no_report(full: AuditLog) -> None:
    record = an_entry(side=Side.OWN, act=Act.ERASURE, outcome=Outcome.DONE, time=START + timedelta(days=740))
    full.erase_before(START + timedelta(hours=9), record=record)
    assert report_for_authority(full.store, *ALL).entries == 36
    assert report_for_subject(full.store, MARK).lines[0].index == 13


def test_reports_are_json(full: AuditLog) -> None:
    values = json.loads(json.dumps(to_json(report_for_authority(full.store, *ALL, limit=2))))
    assert values["since"] == "2026-03-01T00:00:00+00:00"
    assert values["lines"][1]["entry"]["subjects"] == [MARK]
    assert values["lines"][0]["entry"]["sent"] == [["PRINT", 10, "ab" * 32]]


# ---- the command


def run(*given: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [*map(str, given)], catch_exceptions=False)
    return done.exit_code, done.stdout


def run_json(*given: object) -> tuple[int, Any]:
    code, text = run(*given, "--json")
    return code, json.loads(text)


def test_the_command_verifies(full: AuditLog, file: Path) -> None:
    code, text = run("verify", file.parent)
    assert code == 0
    assert "nothing was changed" in text
    tamper(file, "UPDATE log_entry SET bytes = x'00' WHERE leaf_index = 7")
    code, text = run("verify", file.parent)
    assert code == 1
    assert "CHANGED" in text
    code, values = run_json("verify", file.parent)
    assert code == 1
    assert values["counts"] == {"CHANGED": 1}
    assert values["findings"][0]["index"] == 7


def test_the_command_holds_a_log_to_heads_that_others_kept(
    full: AuditLog, file: Path, tmp_path: Path
) -> None:
    sign_head(full, "SLV", sign=lambda *_: Signature(b"c", b"s"), now=START)
    code, kept = run_json("heads", file.parent)
    assert code == 0
    assert run("heads", file.parent)[0] == 0
    changed = kept[0] | {"payload": kept[0]["payload"].replace('"size":45', '"size":46')}
    other = tmp_path / "heads.json"
    other.write_text(json.dumps([changed]))
    assert run("verify", file.parent, "--heads", other, "--country", "HND")[0] == 0
    code, values = run_json("verify", file.parent, "--heads", other, "--country", "SLV")
    assert (code, values["counts"]) == (1, {"TRUNCATED": 1})
    with pytest.raises(RequestInvalid):
        run("verify", file.parent, "--heads", other)
    for wrong in ("{}", "no", "[7]"):
        other.write_text(wrong)
        with pytest.raises(RequestInvalid):
            run("verify", file.parent, "--heads", other, "--country", "SLV")


def test_the_command_reports(full: AuditLog, file: Path) -> None:
    code, text = run("report", file.parent, "--since", "2026-03-01", "--until", "2026-03-02", "--limit", 5)
    assert code == 0
    assert "24 acts" in text
    assert "the first 5 of 24" in text
    code, values = run_json("report", file.parent, "--officer", "SLV:3")
    assert (code, values["entries"]) == (0, len(selected(officer="SLV:3")))


def test_the_command_answers_a_citizen(full: AuditLog, file: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text(KEY.hex() + "\n")
    code, text = run("report", file.parent, "--subject", "subject-7", "--key-file", key)
    assert code == 0
    assert "withheld" in text
    assert "subject-7" not in text
    asked = ("report", file.parent, "--subject", "subject-7", "--key-file", key, "--with-case")
    assert run_json(*asked)[1]["lines"][0]["case_reference"] == "C-1"
    assert run_json("report", file.parent, "--subject", "subject-8", "--key-file", key)[1]["entries"] == 0
    with pytest.raises(RequestInvalid):
        run("report", file.parent, "--subject", "subject-7")
    key.write_text("secret")
    with pytest.raises(RequestInvalid) as refused:
        run("report", file.parent, "--subject", "subject-7", "--key-file", key)
    assert "secret" not in str(refused.value)


def test_the_command_proves_an_entry(full: AuditLog, file: Path) -> None:
    code, values = run_json("prove", file.parent, 13)
    assert (code, values["holds"], values["size"]) == (0, True, 45)
    path = [bytes.fromhex(step) for step in values["path"]]
    leaf, root = bytes.fromhex(values["leaf_hash"]), bytes.fromhex(values["root"])
    assert merkle.holds_inclusion(leaf, 13, 45, path, root)
    assert run("prove", file.parent, 13)[0] == 0
    with pytest.raises(RequestInvalid):
        run("prove", file.parent, 45)
    tamper(file, "UPDATE log_node SET hash = zeroblob(32) WHERE level = 2 AND node_index = 2")
    assert run_json("prove", file.parent, 13)[1]["holds"] is False


def test_the_command_needs_a_log(tmp_path: Path) -> None:
    with pytest.raises(GalleryUnknown):
        run("verify", tmp_path / "nowhere")
