"""`papilar policy`, as a ministry's lawyer and engineer meet it."""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from laws import EXAMPLES, SHIPPED, USUAL
from trials import countries
from typer.testing import CliRunner, Result

from papilar.commands.policy import app
from papilar.errors import LawInvalid, LawRefused, LawRolledBack, RequestInvalid
from papilar.policy import history

RESTRICTIVE = EXAMPLES / "restrictive"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def said(*arguments: object) -> Any:
    return json.loads(run(*arguments, "--json").stdout)


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return Path(shutil.copytree(RESTRICTIVE, tmp_path / "mine"))


def altered(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_the_shipped_laws_pass() -> None:
    result = run("test", *(EXAMPLES / name for name in SHIPPED))
    assert result.exit_code == 0
    assert result.stdout.count("0 failed, no untested rules") == 3
    assert all(trial["passed"] for trial in said("test", *(EXAMPLES / name for name in SHIPPED)))


def test_a_law_that_is_not_as_its_examples_say_fails(mine: Path) -> None:
    altered(mine / "rules.cedar", 'OffenceClass::"serious"', 'OffenceClass::"less_serious"')
    result = run("test", mine)
    assert result.exit_code == 1
    assert "fail A homicide in Honduras" in result.stdout
    assert "verdict: DENY" in result.stdout


def test_a_rule_that_no_example_shows_fails(mine: Path) -> None:
    with (mine / "rules.cedar").open("a", encoding="utf-8") as stream:
        stream.write('\n@id("odd")\n@reads("Never of use.")\n@code("ODD_RULE")\n')
        stream.write('forbid(principal, action == Action::"search", resource) when { false };\n')
    result = run("test", mine)
    assert result.exit_code == 1
    assert "untested rule odd, line 108" in result.stdout
    assert said("test", mine)[0]["untested_rules"] == ["odd"]


@pytest.mark.parametrize("suffix", ["toml", "json"])
def test_explain_names_rule_sentence_and_what_would_alter_it(suffix: str, tmp_path: Path) -> None:
    request = USUAL | {"roles": ["officer"], "ordering_officer": False}
    path = tmp_path / f"request.{suffix}"
    lines = [f"{key} = {json.dumps(value)}" for key, value in request.items()]
    path.write_text(json.dumps(request) if suffix == "json" else "\n".join(lines), encoding="utf-8")
    result = said("explain", RESTRICTIVE, path)
    assert (result["verdict"], result["code"]) == ("DENY", "ORDERING_OFFICER_MISSING")
    assert result["rules"] == ["no-search-without-an-order"]
    assert result["reads"][0].startswith("No search, in either direction")
    assert [(c["field"], c["value"], c["verdict"]) for c in result["changes"]] == [
        ("ordering_officer", "true", "ALLOW")
    ]
    shown = run("explain", RESTRICTIVE, path).stdout
    assert "rules.cedar, line" in shown
    assert "unless { context.ordering_officer };" in shown


def test_explain_says_where_no_single_change_helps(tmp_path: Path) -> None:
    path = tmp_path / "request.json"
    path.write_text(json.dumps(USUAL | {"purpose": "border", "offence_class": "petty"}), encoding="utf-8")
    assert "No single change" in run("explain", RESTRICTIVE, path).stdout


@pytest.mark.parametrize(
    ("name", "content"), [("a.json", "{"), ("a.json", "[]"), ("a.toml", "x"), ("a.toml", "x = 1")]
)
def test_a_request_that_cannot_be_read_is_refused(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert isinstance(run("explain", RESTRICTIVE, tmp_path / name).exception, RequestInvalid)


def test_show_and_check_say_what_the_law_is(mine: Path) -> None:
    shown = said("show", EXAMPLES / "reciprocal")
    assert shown["country"] == "HND"
    assert shown["quotas"]["SLV"]["TP_TP"] == {"per_day": 100, "candidates": 1}
    assert shown["quotas"]["*"]["TP_TP"]["per_day"] == 0
    assert {"id": "ask-guatemala", "effect": "permits"}.items() <= shown["rules"][5].items()
    assert "permits, if a person agrees" in run("show", RESTRICTIVE).stdout
    assert said("check", mine)["rules"] == 9
    assert "well formed" in run("check", mine).stdout
    altered(mine / "rules.cedar", "context.minor", "context.miner")
    refused = run("check", mine).exception
    assert isinstance(refused, LawInvalid)
    assert "line 87" in refused.cause


def test_a_law_is_signed_installed_and_not_rolled_back(mine: Path, tmp_path: Path) -> None:
    trust = countries(tmp_path / "countries", "SLV", at=datetime.now(UTC))
    keys = tmp_path / "countries" / "SLV"
    node = ("--folder", tmp_path / "laws", "--trust", trust, "--country", "SLV")

    def packed(name: str) -> Path:
        done = run("pack", mine, "--key", keys / "law.key", "--cert", keys / "law.pem", "-o", tmp_path / name)
        assert done.exit_code == 0
        return tmp_path / name

    first = packed("slv-1.law")
    assert run("install", first, *node).exit_code == 0
    altered(mine / "law.toml", "version = 1", "version = 2")
    assert "law 2 of SLV is in force" in run("install", packed("slv-2.law"), *node).stdout
    assert isinstance(run("install", first, *node).exception, LawRolledBack)
    assert [one.version for one in history(tmp_path / "laws")] == [1, 2]
    assert said("check", first)["sha256"] == said("check", RESTRICTIVE)["sha256"]


def test_a_law_that_fails_its_examples_is_not_signed(mine: Path, tmp_path: Path) -> None:
    altered(mine / "examples.toml", 'expect = "NEEDS_HUMAN"', 'expect = "ALLOW"')
    done = run(
        "pack", mine, "--key", tmp_path / "law.key", "--cert", tmp_path / "law.pem", "-o", tmp_path / "a.law"
    )
    assert isinstance(done.exception, LawRefused)
    assert not (tmp_path / "a.law").exists()
