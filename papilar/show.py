"""What the command line shows: tables for people, JSON for programs."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from matcher.compare import Comparison
from matcher.template import Finger
from papilar.api.v1 import matching_pb2, types_pb2
from papilar.archive import Line, Result
from papilar.picture import Side

out = Console()
err = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class PrintSide:
    """A print of the command line, why it is too poor, if it is, and its quality."""

    side: Side
    reasons: tuple[str, ...]
    quality: int | None


_COLOURS = {Result.ENROLLED: "green", Result.ALREADY: "cyan", Result.NOT_TRIED: "yellow"}


def show_receipt(lines: Sequence[Line], *, as_json: bool) -> None:
    """Show what became of every file of an archive, and why of those that were not enrolled."""
    counts = Counter(str(line.result) for line in lines)
    if as_json:
        print_json({"files": [asdict(line) for line in lines], "counts": dict(counts)})
        return
    table = Table(title="Receipt", title_justify="left", box=box.SIMPLE_HEAD)
    for column in ("file", "result", "quality", "minutiae", "subject", "encounter"):
        number = column in ("quality", "minutiae")
        table.add_column(column, justify="right" if number else "left", overflow="fold")
    for line in lines:
        colour = _COLOURS.get(line.result, "red")
        quality, minutiae = ("" if value is None else str(value) for value in (line.quality, line.minutiae))
        file, subject = escape(line.file), escape(line.subject_id)
        table.add_row(file, f"[{colour}]{line.result}[/]", quality, minutiae, subject, line.encounter_id)
    out.print(table)
    _show_troubles(lines)
    out.print(", ".join(f"{count} {result.lower().replace('_', ' ')}" for result, count in counts.items()))


def _show_troubles(lines: Sequence[Line]) -> None:
    """Name each cause once, with the files it kept out."""
    causes: dict[tuple[str, str, str], list[str]] = {}
    for line in lines:
        if line.result not in (Result.ENROLLED, Result.ALREADY):
            causes.setdefault((line.result, line.reason, line.message), []).append(line.file)
    for (result, reason, message), files in causes.items():
        named = ", ".join(files[:_FILES_NAMED]) + (", ..." if len(files) > _FILES_NAMED else "")
        out.print(f"[bold]{result} {reason}[/]: {escape(message)}", highlight=False)
        out.print(f"  {len(files)} of {len(lines)}: {escape(named)}", highlight=False)


_FILES_NAMED = 5


def print_json(value: object) -> None:
    """Print a value as JSON."""
    out.print_json(json.dumps(value, default=str))


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


def show_candidates(response: matching_pb2.IdentifyResponse) -> None:
    """Show the candidates of a search, its threshold, and what was not searched."""
    for probe in response.probe:
        if not probe.accepted:
            advice = "; ".join(reason.advice for reason in probe.quality.reasons)
            out.print(f"[red]print {probe.index} is too poor to search with:[/] {advice}")
    table = Table(
        title=f"{len(response.candidates)} candidates of {response.searched_prints} prints",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    for column in ("rank", "log10 LR", "subject", "encounter", "finger"):
        table.add_column(
            column, justify="right" if column in ("rank", "log10 LR") else "left", overflow="fold"
        )
    for c in response.candidates:
        fingers = ", ".join(Finger(m.position).name.lower().replace("_", " ") for m in c.comparisons)
        table.add_row(str(c.rank), f"{c.score:.1f}", escape(c.subject_id), c.encounter_id, fingers)
    out.print(table)
    if response.HasField("threshold"):
        score, rate, source = (getattr(response.threshold, n) for n in ("score", "rate", "calibration_id"))
        out.print(f"threshold {score:.1f} for a false-positive rate of {rate:g} ({source})", highlight=False)
    for failure in response.failures:
        out.print(f"[yellow]not complete:[/] {failure.part}: {failure.message}")
    out.print("A candidate is not an identification: an examiner decides.", style="dim")


def comparison_dict(probe: PrintSide, reference: PrintSide, comparison: Comparison) -> dict[str, Any]:
    """Return what a comparison says, for JSON."""

    def describe(one: PrintSide) -> dict[str, Any]:
        return {
            "file": one.side.label,
            "minutiae": len(one.side.template),
            "quality": one.quality,
            "rejected_for": list(one.reasons),
        }

    move = comparison.transform
    a, b = probe.side.template, reference.side.template
    return {
        "score": comparison.score,
        "a": describe(probe),
        "b": describe(reference),
        "transform": {"dx": move.dx, "dy": move.dy, "turn": move.turn},
        "matched": [{"a": a.xy[i].tolist(), "b": b.xy[j].tolist()} for i, j in comparison.pairs.tolist()],
    }


def show_comparison(report: Mapping[str, Any]) -> None:
    """Show what `comparison_dict` returned."""
    pairs: dict[str, Any] = {
        "log10 likelihood ratio": f"{report['score']:.2f}",
        "matched minutiae": len(report["matched"]),
    }
    for side in ("a", "b"):
        one = report[side]
        pairs[one["file"]] = f"{one['minutiae']} minutiae, quality {one['quality']}"
        if one["rejected_for"]:
            pairs[one["file"]] += f", too poor: {' '.join(one['rejected_for'])}"
    show_pairs("comparison", pairs)


def show_pairs(title: str, pairs: Mapping[str, Any]) -> None:
    """Show names and values."""
    table = Table(title=title, title_justify="left", show_header=False, box=box.SIMPLE)
    for key, value in pairs.items():
        text = ", ".join(value) if isinstance(value, list) else str(value)
        table.add_row(escape(key), escape(text))
    out.print(table)
