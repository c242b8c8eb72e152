"""`papilar nist`: look into an ANSI/NIST-ITL transaction, and hold it against a profile.

Names and other particulars of a person stand in such a file. `show` prints those fields alone that describe
the record and its image, and of the others how long they are, unless `--personal` asks for them.

Exit codes: 0 done; 2 the file is no transaction, or a damaged one; 3 read, but it does not keep to the
profile (`check`), or a picture or minutiae in it cannot be used (`show`).
"""

from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import typer
from rich.markup import escape

from enroll import nist
from enroll.image import encode_png
from matcher.errors import InvalidInput
from papilar.commands.options import JsonFlag
from papilar.files import read_file, write_file
from papilar.show import add_row, counted, new_table, out, print_json, printable

NOT_GOOD = 3
_STANDARD = "ansi-nist"
_LONGEST = 100  # characters of a value in the table; JSON has all of it
_OF_PRINT = frozenset(range(3, 32)) - {20}  # 20 is a comment: whatever somebody typed
_OPEN = MappingProxyType(
    {
        1: frozenset(range(3, 20)),
        4: frozenset(range(3, 9)),
        7: frozenset(range(3, 9)),
        9: frozenset({*range(3, 24), *range(126, 141), 300, 302, 303, 307, 331}),
        10: frozenset(range(3, 20)),
        13: _OF_PRINT,
        14: _OF_PRINT,
        15: _OF_PRINT,
    }
)
"""Fields by type that describe a record and its image, never a person; beside length and designation."""
_NAMES = MappingProxyType({1: "LEN", 999: "DATA"})

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)

FileArgument = Annotated[
    Path, typer.Argument(metavar="FILE", help="Transaction, in the traditional encoding.")
]


@app.callback()
def root() -> None:
    """Look into ANSI/NIST-ITL transactions, and check them."""


@app.command()
def show(
    file: FileArgument,
    images: Annotated[
        Path | None, typer.Option("--images", help="Write the pictures of prints (PNG) into this folder.")
    ] = None,
    personal: Annotated[
        bool, typer.Option("--personal", help="Also print what describes a person: names, dates of birth.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show the records of a transaction, its pictures and minutiae."""
    transaction = nist.decode(read_file(file))
    records = [_record(place, one, personal=personal) for place, one in enumerate(transaction.records, 1)]
    pictures = list(_pictures(transaction, images))
    minutiae = list(_minutiae(transaction))
    if as_json:
        said = {"records": records, "pictures": pictures, "minutiae": minutiae}
        print_json({**said, "warnings": list(transaction.warnings)})
    else:
        _show_records(records)
        _show_rows("Pictures", pictures)
        _show_rows("Minutiae", minutiae)
        for warning in transaction.warnings:
            out.print(f"[yellow]warning:[/] {escape(warning)}", highlight=False)
    raise typer.Exit(NOT_GOOD if any("error" in one for one in (*pictures, *minutiae)) else 0)


@app.command()
def check(
    file: FileArgument,
    profile: Annotated[
        str, typer.Option("--profile", help=f"Of {', '.join(nist.profile_names())}.")
    ] = _STANDARD,
    as_json: JsonFlag = False,
) -> None:
    """Name everything in which a transaction does not keep to a profile."""
    wanted = nist.load_profile(profile)
    transaction = nist.decode(read_file(file))
    faults = nist.check(transaction, wanted)
    if as_json:
        print_json(
            {
                "profile": wanted.name,
                "sources": list(wanted.sources),
                "faults": [fault._asdict() for fault in faults],
                "warnings": list(transaction.warnings),
            }
        )
    else:
        _show_rows(wanted.title, [fault._asdict() for fault in faults])
        out.print(f"{counted(len(faults), 'fault')} by the profile {wanted.name}", highlight=False)
    raise typer.Exit(NOT_GOOD if faults else 0)


# ---- records


def _record(place: int, record: nist.Record, *, personal: bool) -> dict[str, Any]:
    names = {key: rule.name for key, rule in nist.load_profile(_STANDARD).fields.items()}
    return {
        "place": place,
        "type": record.type,
        "record": record.label,
        "bytes": len(record.encode()),
        "fields": [
            {
                "field": f"{record.type}.{field.number:03d}",
                "name": names.get((record.type, field.number)) or _NAMES.get(field.number, ""),
                "value": _value(record, field, personal=personal),
            }
            for field in record.fields
        ],
    }


def _value(record: nist.Record, field: nist.Field, *, personal: bool) -> str:
    """Return a field's value with its separators made visible, or only its length."""
    if field.value == record.data and record.data:
        return f"({len(field.value)} bytes of image)"
    if not personal and not _describes_record(record.type, field.number):
        return f"(personal: {counted(len(field.value), 'byte')})"
    text = record.get(field.number) or ""
    return printable(text.replace("\x1e", " | ").replace("\x1f", ", "))


def _describes_record(kind: int, number: int) -> bool:
    return number <= 2 or number in _OPEN.get(kind, ())


def _show_records(records: list[dict[str, Any]]) -> None:
    table = new_table("Records", "record", "field", "name", "value")
    for record in records:
        for field in record["fields"]:
            value = field["value"] if len(field["value"]) <= _LONGEST else field["value"][:_LONGEST] + "..."
            table.add_row(record["record"], field["field"], field["name"], escape(value))
    out.print(table)


# ---- pictures


def _pictures(transaction: nist.Transaction, folder: Path | None) -> Iterator[dict[str, Any]]:
    for place, record in enumerate(transaction.records, start=1):
        if record.type in nist.PICTURE_TYPES:
            try:
                yield _picture(nist.picture(transaction, record), place, folder)
            except InvalidInput as error:
                yield {"record": record.label, "error": f"{error.reason}: {error.cause}"}


def _minutiae(transaction: nist.Transaction) -> Iterator[dict[str, Any]]:
    for record in transaction.of_type(9):
        try:
            for one in nist.features(transaction, record):
                yield {"record": one.label, "form": str(one.form), "minutiae": len(one.template)}
        except InvalidInput as error:
            yield {"record": record.label, "error": f"{error.reason}: {error.cause}"}


def _picture(picture: nist.Picture, place: int, folder: Path | None) -> dict[str, Any]:
    """Describe a picture, and write it where that is asked for."""
    file = ""
    if folder is not None and picture.data:
        file = f"{place:02d}-{picture.label}-position-{picture.position}.png"
        write_file(folder / file, encode_png(picture.image()))
    return {
        "record": picture.label,
        "position": picture.position,
        "content": str(picture.content),
        "fingers": [finger.name for finger in picture.fingers],
        "impression": picture.impression.name,
        "ppi": picture.ppi,
        "bytes": len(picture.data),
        "missing": [f"{position} {code}" for position, code in picture.missing],
        "segments": [{"finger": one.finger.name, "corners": one.corners} for one in picture.segments],
        "file": file,
        "warnings": list(picture.warnings),
    }


def _show_rows(title: str, rows: list[dict[str, Any]]) -> None:
    """Show what has the same keys as a table; the keys that nothing has a value for are left out."""
    columns = [
        key for key in dict.fromkeys(key for row in rows for key in row) if any(row.get(key) for row in rows)
    ]
    if not columns:
        return
    table = new_table(title, *columns)
    for row in rows:
        add_row(table, *(_cell(row.get(column)) for column in columns))
    out.print(table)


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return "; ".join(one["finger"] if isinstance(one, dict) else str(one) for one in value)
    return f"{value:g}" if isinstance(value, float) else "" if value is None else str(value)
