"""What the command line shows: tables for people, JSON for programs."""

import json
import sys
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from rich import box
from rich.console import Console, JustifyMethod
from rich.markup import escape
from rich.table import Table

from matcher.calibration import shipped
from matcher.compare import Comparison
from matcher.template import Finger
from papilar.api.v1 import matching_pb2, types_pb2
from papilar.archive.item import Line, Result
from papilar.explanation import BANDS, MIRRORED, OPPOSED, PARTS, common_area, model_words, with_ridges
from papilar.files import PrintSide
from papilar.requests import Description

_WIDE = 1_000  # columns for a file or another program, so that no identifier is broken in two

out = Console(width=None if sys.stdout.isatty() else _WIDE)
err = Console(stderr=True)


def show_error(cause: str, remedy: str) -> None:
    """Show an error as two lines, however wide the terminal is."""
    for word, text in (("[bold red]error:[/]", cause), ("[bold]remedy:[/]", remedy)):
        err.print(f"{word} {escape(' '.join(text.split()))}", highlight=False, soft_wrap=True)


_COLOURS = {Result.ENROLLED: "green", Result.ALREADY: "cyan", Result.NOT_TRIED: "yellow"}


def show_receipt(lines: Sequence[Line], *, as_json: bool) -> None:
    """Show what became of every file of an archive, and why of those that were not enrolled."""
    counts = Counter(str(line.result) for line in lines)
    if as_json:
        print_json({"files": [asdict(line) for line in lines], "counts": dict(counts)})
        return
    table = new_table("Receipt", "file", "result", "quality", "minutiae", "subject", "encounter")
    for line in lines:
        colour = _COLOURS.get(line.result, "red")
        quality, minutiae = ("" if value is None else str(value) for value in (line.quality, line.minutiae))
        file, subject = escape(printable(line.file)), escape(line.subject_id)
        table.add_row(file, f"[{colour}]{line.result}[/]", quality, minutiae, subject, line.encounter_id)
    out.print(table)
    _show_troubles(lines)
    out.print(", ".join(f"{count} {result.lower().replace('_', ' ')}" for result, count in counts.items()))


_NUMBERS = frozenset({"quality", "minutiae", "rank", "log10 LR", "measured", "adds", "entries"})
_SHORT = _NUMBERS | {"result", "band"}
_WHOLE_UUID = 100  # columns from which an identifier that is to be copied stays in one piece


def new_table(title: str, *columns: str, numbers: Collection[str] = _NUMBERS) -> Table:
    """Return a table; where the terminal is narrow, names fold and nothing is cut off.

    Parameters
    ----------
    title : str
        Empty for none.
    columns : str
    numbers : collection of str
        Those of the columns, and others, that stand to the right.
    """
    table = Table(title=escape(title) or None, title_justify="left", box=box.SIMPLE_HEAD)
    for column in columns:
        short = column in _SHORT or (column == "encounter" and out.width >= _WHOLE_UUID)
        justify: JustifyMethod = "right" if column in numbers else "left"
        table.add_column(column, justify=justify, no_wrap=short, overflow="fold")
    return table


def add_row(table: Table, *values: object) -> None:
    """Add a row of values as they are, whatever a terminal would make of them."""
    table.add_row(*(escape(printable(str(value))) for value in values))


def printable(text: str) -> str:
    """Return a file's name with what a terminal would obey, or could not show, written as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _show_troubles(lines: Sequence[Line]) -> None:
    """Name each cause, and each warning, once, with the files that it is about."""
    causes: dict[tuple[str, str], list[str]] = {}
    for line in lines:
        if line.result not in (Result.ENROLLED, Result.ALREADY):
            causes.setdefault((f"{line.result} {line.reason}", line.message), []).append(line.file)
        for warning in line.warnings:
            causes.setdefault(("WARNING", warning), []).append(line.file)
    for (head, message), files in causes.items():
        named = ", ".join(map(printable, files[:_FILES_NAMED])) + (
            ", ..." if len(files) > _FILES_NAMED else ""
        )
        out.print(f"[bold]{head}[/]: {escape(message)}", highlight=False)
        out.print(f"  {len(files)} of {len(lines)}: {escape(named)}", highlight=False)


_FILES_NAMED = 5


def counted(count: int, word: str) -> str:
    """Return a number with its word: no prints, 1 print, 2 prints."""
    return f"{count or 'no'} {word}{'' if count == 1 else 's'}"


def show_listening(gallery: Description, address: str, secured: str, peers: str) -> None:
    """Say what is served, and where; `peers` is the address for other countries, empty for none."""
    held = f"{counted(gallery.prints, 'print')} of {counted(gallery.subjects, 'subject')}"
    err.print(f"gallery '{escape(gallery.name)}': {held}")
    if peers:
        err.print(f"other countries are answered on {peers}")
    err.print(f"listening on {address} ({secured}); stop with Ctrl-C")


def print_json(value: object) -> None:
    """Print a value as JSON, in ASCII: whatever reads it, a file's name stays what it is."""
    out.print_json(json.dumps(value, default=str), ensure_ascii=True)


def message_dict(message: Message) -> dict[str, Any]:
    """Return a message as JSON has it, but counts as numbers: protobuf writes 64 bits as text."""
    fields: dict[str, Any] = MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return _with_numbers(fields)


def _with_numbers(fields: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _with_numbers(value)
        if isinstance(value, dict)
        else int(value)
        if key in _COUNTS and isinstance(value, str)
        else value
        for key, value in fields.items()
    }


_COUNTS = frozenset(
    field.name
    for kind in (matching_pb2.Gallery, matching_pb2.IdentifyResponse, types_pb2.SearchStatistics)
    for field in kind.DESCRIPTOR.fields
    if field.type == FieldDescriptor.TYPE_UINT64
)


def show_candidates(response: matching_pb2.IdentifyResponse, names: Sequence[str]) -> None:
    """Show the candidates of a search, its threshold, and what was not searched.

    Parameters
    ----------
    response : IdentifyResponse
    names : sequence of str
        What to call the prints of the probe, in their order.
    """
    for probe in response.probe:
        if not probe.accepted:
            advice = "; ".join(reason.advice for reason in probe.quality.reasons)
            name = escape(printable(names[probe.index]))
            out.print(f"[red]{name} is too poor to search with:[/] {escape(advice)}", highlight=False)
    _show_ranks(response)
    if response.HasField("threshold"):
        score, rate, source = (getattr(response.threshold, n) for n in ("score", "rate", "calibration_id"))
        out.print(f"threshold {score:.1f} for a false-positive rate of {rate:g} ({source})", highlight=False)
    if response.HasField("mirrored_score"):
        out.print(
            f"[yellow]warning:[/] mirrored, the prints find somebody with {response.mirrored_score:.1f}: "
            "the image is mirrored; flip it and search again",
            highlight=False,
        )
    for failure in response.failures:
        out.print(f"[yellow]not complete:[/] {failure.part}: {escape(failure.message)}", highlight=False)


def _show_ranks(response: matching_pb2.IdentifyResponse) -> None:
    found, searched = len(response.candidates), response.searched_prints
    title = f"{counted(found, 'candidate')}, {counted(searched, 'print')} searched"
    if not found:
        out.print(title, highlight=False)
        return
    table = new_table(title, "rank", "log10 LR", "band", "subject", "encounter", "finger")
    for c in response.candidates:
        fingers = ", ".join(_finger(m.position) for m in c.comparisons)
        score = str(c.rank), f"{c.score:.1f}", _band(types_pb2.Band.Name(c.band))
        table.add_row(*score, escape(c.subject_id), c.encounter_id, fingers)
    out.print(table)
    for c in response.candidates:
        for m in c.comparisons:
            if m.positions_disagree:
                out.print(f"[yellow]rank {c.rank}:[/] {_disagreement(m)}", highlight=False)
    out.print("A candidate is not an identification: an examiner decides.", style="dim")


def _band(name: str) -> str:
    """Return a band in its own colour, by its name here or in the contract; nothing for an unknown one."""
    word = name.removeprefix("BAND_").lower()
    return f"[{word}]{word}[/]" if word in list(BANDS) else ""


def _disagreement(m: types_pb2.Comparison) -> str:
    mine, theirs = _finger(m.probe_position), _finger(m.position)
    return f"probe's {mine} met reference's {theirs}: positions disagree"


def _finger(code: int) -> str:
    return Finger(code).name.lower().replace("_", " ")


def comparison_dict(
    probe: PrintSide, reference: PrintSide, comparison: Comparison, mirrored: float | None = None
) -> dict[str, Any]:
    """Return what a comparison says, for JSON; `mirrored` is what `explanation.mirrored_score` gives."""
    move, told = comparison.transform, ((comparison.opposed, OPPOSED), (mirrored is not None, MIRRORED))
    a, b = probe.side.template, reference.side.template

    def describe(one: PrintSide) -> dict[str, Any]:
        return {
            "file": one.side.label,
            "minutiae": len(one.side.template),
            "quality": one.quality,
            "rejected_for": list(one.reasons),
            "warnings": list(one.warnings),
        }

    return {
        "score": comparison.score,
        "band": str(shipped().band(comparison.score)),
        "parts": [part._asdict() for part in comparison.parts],
        "model": "ridges" if with_ridges(comparison) else "minutiae",
        "rests_on": model_words(comparison, a, b),
        "common_area_mm2": round(common_area(comparison, a, b), 1),
        "mirrored_score": mirrored,
        "warnings": [warning for applies, warning in told if applies],
        "a": describe(probe),
        "b": describe(reference),
        "transform": {"dx": move.dx, "dy": move.dy, "turn": move.turn},
        "matched": [{"a": a.xy[i].tolist(), "b": b.xy[j].tolist()} for i, j in comparison.pairs.tolist()],
    }


def show_comparison(report: Mapping[str, Any]) -> None:
    """Show what `comparison_dict` returned."""
    pairs: dict[str, Any] = {
        "log10 likelihood ratio": f"{report['score']:.2f}",
        "band": f"{report['band']}: {BANDS[report['band']]}",
        "rests on": report["rests_on"],
        "matched minutiae": len(report["matched"]),
        "common area": f"{report['common_area_mm2']:.0f} mm2",
    }
    for side in ("a", "b"):
        one = report[side]
        quality = "quality not known" if one["quality"] is None else f"quality {one['quality']}"
        poor = f", too poor: {' '.join(one['rejected_for'])}" if one["rejected_for"] else ""
        notes = "".join(f"; {warning}" for warning in one["warnings"])
        pairs[f"{side}: {one['file']}"] = f"{one['minutiae']} minutiae, {quality}{poor}{notes}"
    show_pairs("comparison", pairs)
    _show_parts(report)
    for warning in report["warnings"]:
        score = f"mirrored, a scores {report['mirrored_score']:.1f}: " if warning == MIRRORED else ""
        out.print(f"[yellow]warning:[/] {score}{warning}", highlight=False)


def _show_parts(report: Mapping[str, Any]) -> None:
    """Show what the score is the sum of."""
    table = new_table("parts of the score", "part", "what it is", "measured", "adds")
    for part in report["parts"]:
        name, measured, adds = part["name"], f"{part['measured']:.2f}", f"{part['adds']:+.2f}"
        table.add_row(name, PARTS.get(name, ""), measured, adds)
    total = sum(part["adds"] for part in report["parts"])
    table.add_row("sum", "", "", f"{total:+.2f}")
    out.print(table)
    if total < report["score"]:
        out.print(f"a sum below {report['score']:.0f} is stated as {report['score']:.0f}", highlight=False)


def show_pairs(title: str, pairs: Mapping[str, Any]) -> None:
    """Show names and values."""
    table = Table(title=escape(title), title_justify="left", show_header=False, box=box.SIMPLE)
    table.add_column(overflow="fold")
    table.add_column(overflow="fold")
    for key, value in pairs.items():
        text = ", ".join(value) if isinstance(value, list) else str(value)
        if text:
            table.add_row(escape(printable(key)), escape(printable(text)))
    out.print(table)
