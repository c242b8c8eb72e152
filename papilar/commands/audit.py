"""`papilar audit`: verify the tamper-evident log, report out of it, prove an entry, show signed heads.

Exit codes: 0 done, and nothing found; 1 something was found that should not be.
"""

import json
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from papilar.audit import check, merkle
from papilar.audit.entry import subject_mark
from papilar.audit.heads import SignedHead, TreeHead, kept_heads
from papilar.audit.log import AuditLog
from papilar.audit.report import (
    LIMIT,
    AuthorityReport,
    Line,
    SubjectReport,
    report_for_authority,
    report_for_subject,
    to_json,
)
from papilar.commands.options import JsonFlag
from papilar.errors import RequestInvalid
from papilar.files import read_file
from papilar.show import add_row, counted, new_table, out, print_json, show_pairs
from papilar.store.log import LogStore

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)

Gallery = Annotated[str, typer.Argument(metavar="GALLERY", help="Gallery folder, or the data base's URL.")]
_FIRST, _LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)


@app.callback()
def root() -> None:
    """Verify the tamper-evident log, and answer an authority or a citizen out of it."""


@app.command()
def verify(
    gallery: Gallery,
    heads: Annotated[
        list[Path] | None,
        typer.Option("--heads", help="What `papilar audit heads --json` gave at another country's node."),
    ] = None,
    country: Annotated[str, typer.Option(help="Whose log this is; with --heads.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """Read the whole log and find what was changed, is missing, or differs from what was signed."""
    if heads and not country:
        raise RequestInvalid("heads of whose log?", remedy="give --country, as SLV")
    kept = [head for path in heads or () for head in _read_heads(path, country)]
    with closing(LogStore.open(gallery)) as store:
        found = check.verify(store, heads=kept)
    if as_json:
        print_json(to_json(found))
    else:
        _show_verification(found)
    raise typer.Exit(1 if found.counts else 0)


@app.command()
def report(
    gallery: Gallery,
    since: Annotated[datetime | None, typer.Option(help="From this time, UTC.")] = None,
    until: Annotated[datetime | None, typer.Option(help="Before this time, UTC.")] = None,
    country: Annotated[str, typer.Option(help="Only what concerns this other country.")] = "",
    officer: Annotated[str, typer.Option(help="Only of this pseudonym.")] = "",
    case: Annotated[str, typer.Option(help="Only of this case reference.")] = "",
    subject: Annotated[str, typer.Option(help="Who asked about this subject? Needs --key-file.")] = "",
    key_file: Annotated[
        Path | None, typer.Option("--key-file", help="The key for marks of subjects, hexadecimal.")
    ] = None,
    with_case: Annotated[
        bool, typer.Option("--with-case", help="Tell a subject the case references.")
    ] = False,
    limit: Annotated[int, typer.Option(min=0, help="Most entries listed; all are counted.")] = LIMIT,
    as_json: JsonFlag = False,
) -> None:
    """Count and list what happened in a time; or, with --subject, who asked about a person."""
    mark = _mark(subject, key_file) if subject else ""
    with closing(LogStore.open(gallery)) as store:
        if mark:
            told = report_for_subject(store, mark, with_case=with_case, limit=limit)
            print_json(to_json(told)) if as_json else _show_subject(told)
            return
        times = _utc(since) or _FIRST, _utc(until) or _LAST
        found = report_for_authority(
            store, *times, country=country, officer=officer, case_reference=case, limit=limit
        )
        print_json(to_json(found)) if as_json else _show_authority(found)


@app.command()
def prove(
    gallery: Gallery,
    index: Annotated[int, typer.Argument(metavar="INDEX", min=0, help="Of the entry, from 0.")],
    as_json: JsonFlag = False,
) -> None:
    """Prove that an entry is in the log: its hash, the tree's root, and the path between them (RFC 9162)."""
    with closing(LogStore.open(gallery)) as store:
        log = AuditLog(store)
        head = log.head()
        proof = log.inclusion_proof(index, head.size)
        (entry,) = log.entries(index, index + 1)
    fits = merkle.holds_inclusion(entry.leaf_hash, index, head.size, proof, head.root)
    values = {
        "index": index,
        "leaf_hash": entry.leaf_hash.hex(),
        "size": head.size,
        "root": head.root.hex(),
        "path": [step.hex() for step in proof],
        "holds": fits,
    }
    print_json(values) if as_json else show_pairs(f"entry {index}", values)
    raise typer.Exit(0 if fits else 1)


@app.command("heads")
def show_heads(gallery: Gallery, as_json: JsonFlag = False) -> None:
    """Show the signed heads that were kept: of the own log, and of those of other countries."""
    with closing(LogStore.open(gallery)) as store:
        kept = kept_heads(store)
    if as_json:
        print_json([each.to_json() for each in kept])
        return
    table = new_table("Signed heads", "log", "entries", "signed", "root")
    for each in kept:
        head = each.head
        add_row(table, head.log_id, head.size, f"{head.time:%Y-%m-%d %H:%M:%S}", head.root.hex())
    out.print(table)


# ---- what is read


def _read_heads(path: Path, country: str) -> list[TreeHead]:
    try:
        values = json.loads(read_file(path))
    except ValueError:
        values = None
    if not isinstance(values, list):
        raise RequestInvalid(
            f"{path} holds no heads", remedy="give what `papilar audit heads --json` printed"
        )
    heads = [SignedHead.from_json(each).head for each in values]
    return [head for head in heads if head.log_id == country]


def _mark(subject: str, key_file: Path | None) -> str:
    if key_file is None:
        raise RequestInvalid("no key for the subject's mark", remedy="give --key-file")
    try:
        key = bytes.fromhex(read_file(key_file).decode("ascii"))
    except ValueError:  # not chained: the key stays out of every message
        raise RequestInvalid(f"{key_file} holds no key", remedy="it must be hexadecimal") from None
    return subject_mark(key, subject)


def _utc(time: datetime | None) -> datetime | None:
    return time and time.replace(tzinfo=UTC)


# ---- what is shown


def _show_verification(found: check.Verification) -> None:
    facts = {
        "entries": found.size,
        "root": found.root.hex(),
        "erased after their time": found.erased,
        "signed heads compared": found.heads,
    }
    show_pairs("log", facts)
    if not found.counts:
        out.print("[green]nothing was changed[/]")
        return
    table = new_table("Findings", "flaw", "from entry", "entries", "what")
    for finding in found.findings:
        add_row(table, finding.flaw, finding.index, finding.entries, finding.what)
    out.print(table)
    total = sum(found.counts.values())
    more = f", {len(found.findings)} of them shown" if total > len(found.findings) else ""
    out.print(f"[red]{counted(total, 'finding')}{more}[/]")


def _show_authority(found: AuthorityReport) -> None:
    pairs = new_table(counted(found.entries, "act"), "asking", "asked", "side", "act", "outcome", "entries")
    for pair in found.pairs:
        add_row(pairs, pair.asking, pair.asked, pair.side, pair.act, pair.outcome, pair.entries)
    officers = new_table("Officers", "officer", "act", "entries")
    for each in found.officers:
        add_row(officers, each.officer, each.act, each.entries)
    lines = new_table(
        "Entries", "index", "time", "officer", "act", "outcome", "asking", "asked", "case", "reason"
    )
    for line in found.lines:
        add_row(lines, *_columns(line))
    for table in (pairs, officers, lines):
        if table.row_count:
            out.print(table)
    if len(found.lines) < found.entries:
        out.print(f"the first {len(found.lines)} of {found.entries} are listed; --limit lists more")


def _columns(line: Line) -> tuple[Any, ...]:
    e = line.entry
    time = f"{e.time:%Y-%m-%d %H:%M:%S}"
    return line.index, time, e.officer, e.act, e.outcome, e.asking, e.asked, e.case_reference, e.justification


def _show_subject(told: SubjectReport) -> None:
    names = ("index", "time", "act", "asking", "asked", "purpose", "legal basis", "outcome", "case")
    table = new_table(f"asked about, or told of: {counted(told.entries, 'time')}", *names)
    for line in told.lines:
        case = "withheld" if line.case_reference is None else line.case_reference
        time = f"{line.time:%Y-%m-%d %H:%M:%S}"
        countries = line.asking, line.asked
        add_row(
            table, line.index, time, line.act, *countries, line.purpose, line.legal_basis, line.outcome, case
        )
    out.print(table)
