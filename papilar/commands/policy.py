"""`papilar policy`: test, explain, sign and install a country's law. Reads arguments, decides nothing."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from papilar.commands.options import JsonFlag
from papilar.errors import LawInvalid, LawRefused, RequestInvalid
from papilar.files import write_file
from papilar.policy import (
    Bundle,
    Decision,
    Law,
    PolicyRequest,
    SearchType,
    Trial,
    changes,
    install,
    read_bytes,
    try_law,
)
from papilar.policy.rules import Rule
from papilar.policy.terms import EVERY_PEER, read_toml
from papilar.show import counted, new_table, out, print_json, printable, show_pairs
from papilar.signing import Signer
from papilar.trust import Trust

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)

LawArgument = Annotated[
    Path, typer.Argument(metavar="LAW", help="Folder of a law, or a bundle. Its signature is not looked at.")
]


@app.callback()
def root() -> None:
    """Test, explain, sign and install a country's law."""


@app.command()
def check(law: LawArgument, as_json: JsonFlag = False) -> None:
    """Read a law and hold its rules against the schema; examples are not tried."""
    found = Law.load(law)
    report = _about(found) | {"rules": len(found.rules.rules), "examples": len(found.examples)}
    if as_json:
        print_json(report)
    else:
        show_pairs("the law is well formed", report)


@app.command("test")
def try_laws(
    laws: Annotated[list[Path], typer.Argument(metavar="LAW...", help="Folders of laws, or bundles.")],
    as_json: JsonFlag = False,
) -> None:
    """Try laws on their own examples. Fails, too, where a rule decides in no example."""
    trials = [(path, try_law(Law.load(path))) for path in laws]
    if as_json:
        print_json([_trial_dict(path, trial) for path, trial in trials])
    else:
        for path, trial in trials:
            _show_trial(path, trial)
    raise typer.Exit(0 if all(trial.passed for _, trial in trials) else 1)


@app.command()
def explain(
    law: LawArgument,
    request: Annotated[Path, typer.Argument(metavar="REQUEST", help="The request, .toml or .json.")],
    as_json: JsonFlag = False,
) -> None:
    """Say what a law decides, by which rule, and which single change would be answered with more."""
    found, asked = Law.load(law), _read_request(request)
    decision, others = found.decide(asked), changes(found, asked)
    if as_json:
        changed = [
            {"field": c.field, "value": c.value, "verdict": c.decision.verdict, "rules": c.decision.rules}
            for c in others
        ]
        print_json(_decision_dict(decision) | {"changes": changed})
        return
    _show_decision(decision)
    if others:
        table = new_table("one change that would be answered with more", "field", "instead", "verdict", "by")
        for c in others:
            table.add_row(c.field, c.value, c.decision.verdict, ", ".join(c.decision.rules))
        out.print(table)
    elif not decision.files:
        out.print("No single change of the request would be answered with more.")


@app.command()
def show(law: LawArgument, as_json: JsonFlag = False) -> None:
    """Show a law as it reads: its terms, its rules as sentences, its quotas."""
    found = Law.load(law)
    rules = [{"id": rule.id, "effect": _effect(rule), "reads": rule.reads} for rule in found.rules.rules]
    quotas = _quotas(found)
    if as_json:
        print_json(_about(found) | {"rules": rules, "quotas": quotas})
        return
    show_pairs(found.terms.title, _about(found))
    table = new_table("rules; whatever none permits is refused", "rule", "effect", "reads")
    for rule in rules:
        table.add_row(rule["id"], rule["effect"], escape(rule["reads"]))
    out.print(table)
    table = new_table("searches a day / most candidates", "search", *quotas)
    for kind in SearchType:
        table.add_row(kind, *(f"{q[kind]['per_day']} / {q[kind]['candidates']}" for q in quotas.values()))
    out.print(table)


@app.command()
def pack(
    law: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of the law.")],
    key: Annotated[Path, typer.Option("--key", help="The country's law key, PEM.")],
    cert: Annotated[Path, typer.Option("--cert", help="Its certificate, PEM.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Bundle to write, as slv-7.law.")],
) -> None:
    """Sign a law that passes its own examples, as one file."""
    found = Law.load(law)
    if not try_law(found).passed:
        raise LawRefused("the law fails its own examples", remedy="run papilar policy test, and mend it")
    write_file(output, Bundle.sign(found.text, Signer.load(cert, key)).pack())
    out.print(f"law {found.terms.version} of {found.terms.country}, sha256 {found.sha256}", highlight=False)


@app.command("install")
def install_law(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="What papilar policy pack has written.")],
    folder: Annotated[Path, typer.Option("--folder", help="Where the node keeps its laws.")],
    trust: Annotated[Path, typer.Option("--trust", help="Whose certificates the node believes, a folder.")],
    country: Annotated[str, typer.Option("--country", help="The node's own country, as SLV.")],
) -> None:
    """Put a law in force at a node of this machine, if it is signed, newer, and in force by its date."""
    law = install(read_bytes(bundle), folder, Trust.load(trust), country=country, at=datetime.now(UTC))
    out.print(
        f"law {law.terms.version} of {law.terms.country} is in force, sha256 {law.sha256}", highlight=False
    )


# ---- what is shown


def _read_request(path: Path) -> PolicyRequest:
    text = read_bytes(path).decode("utf-8", "replace")
    try:
        table: Any = json.loads(text) if path.suffix == ".json" else read_toml(text, path.name)
    except ValueError as error:
        raise RequestInvalid(f"{path.name} is no JSON", remedy="mend the file") from error
    except LawInvalid as error:
        raise RequestInvalid(error.cause, remedy="write TOML, or name the file .json") from error
    if not isinstance(table, dict):
        raise RequestInvalid(f"{path.name} is no table", remedy='write { "action": "search", ... }')
    return PolicyRequest.of(table)


def _about(law: Law) -> dict[str, Any]:
    terms = law.terms
    return {
        "country": terms.country,
        "version": terms.version,
        "title": terms.title,
        "valid_from": f"{terms.valid_from:%Y-%m-%d}",
        "hides_denial": terms.hides_denial,
        "least_print_quality": terms.least_print_quality,
        "reference_days": terms.reference_days,
        "ordinary_seconds": terms.ordinary_seconds,
        "urgent_seconds": terms.urgent_seconds,
        "watch_list_seconds": terms.watch_list_seconds,
        "sha256": law.sha256,
    }


def _quotas(law: Law) -> dict[str, dict[str, dict[str, int]]]:
    peers = [EVERY_PEER, *sorted(set(law.terms.quotas) - {EVERY_PEER})]
    return {peer: {kind: law.quota(peer, kind)._asdict() for kind in SearchType} for peer in peers}


def _effect(rule: Rule) -> str:
    if not rule.permits:
        return "forbids"
    return "permits, if a person agrees" if rule.needs_human else "permits"


def _decision_dict(decision: Decision) -> dict[str, Any]:
    return {
        "verdict": decision.verdict,
        "code": decision.code,
        "files": [
            {"file": r.file, "verdict": r.verdict, "code": r.code, "rules": [rule.id for rule in r.rules]}
            for r in decision.rulings
        ],
        "rules": decision.rules,
        "reads": decision.reads,
        "version": decision.version,
        "sha256": decision.sha256,
    }


def _show_decision(decision: Decision) -> None:
    out.print(f"{_coloured(decision.verdict)} {decision.code}, by law {decision.version}", highlight=False)
    table = new_table("", "file", "verdict", "code", "rule", "line", "reads")
    for file, verdict, code, rules in decision.rulings:
        head = file or "(the node)", _coloured(verdict), code
        if not rules:
            table.add_row(*head, "(none)", "", "What no rule permits is refused.")
        for rule in rules:
            table.add_row(*head, rule.id, str(rule.line), escape(rule.reads))
    out.print(table)
    for ruling in decision.rulings:
        for rule in ruling.rules:
            if not rule.permits:
                out.print(
                    f"rules.cedar, line {rule.line}:\n{escape(_printable_lines(rule.text))}", highlight=False
                )


def _printable_lines(text: str) -> str:
    """Return a rule's text line by line, with what a terminal would obey written as escapes."""
    return "\n".join(f"    {printable(line)}" for line in text.splitlines())


def _trial_dict(path: Path, trial: Trial) -> dict[str, Any]:
    examples = [
        {"name": o.example.name, "expect": o.example.verdict, "passed": not o.wrong, "wrong": o.wrong}
        | {"verdict": o.decision.verdict, "code": o.decision.code, "rules": o.decision.rules}
        for o in trial.outcomes
    ]
    untested = [rule.id for rule in trial.untested]
    return {"law": str(path), "passed": trial.passed, "examples": examples, "untested_rules": untested}


def _show_trial(path: Path, trial: Trial) -> None:
    table = new_table(printable(str(path)), "", "example", "verdict", "code", "rules")
    for outcome in trial.outcomes:
        mark = "[red]fail[/]" if outcome.wrong else "[green]pass[/]"
        said = outcome.decision
        rules = ", ".join(said.rules) or "(none)"
        table.add_row(mark, escape(printable(outcome.example.name)), said.verdict, said.code, rules)
    out.print(table)
    for outcome in trial.outcomes:
        if outcome.wrong:
            name = escape(printable(outcome.example.name))
            out.print(f"[red]fail[/] {name}: got {escape(outcome.wrong)}", highlight=False)
    for rule in trial.untested:
        out.print(f"[red]untested rule[/] {rule.id}, line {rule.line}: no example shows it", highlight=False)
    failed = sum(bool(outcome.wrong) for outcome in trial.outcomes)
    untested = counted(len(trial.untested), "untested rule")
    out.print(f"{counted(len(trial.outcomes), 'example')}, {failed} failed, {untested}", highlight=False)


def _coloured(verdict: str) -> str:
    colour = {"ALLOW": "green", "NEEDS_HUMAN": "yellow"}.get(verdict, "red")
    return f"[{colour}]{verdict}[/]"
