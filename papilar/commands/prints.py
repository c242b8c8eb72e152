"""`papilar compare` and `papilar extract`: prints alone, without a node.

Exit codes: 0 done; 3 done, but a print was too poor, as the output says.
"""

from pathlib import Path
from typing import Annotated

import typer

from enroll.image import read_image
from enroll.pipeline import extract as extract_template
from matcher.codecs import CODECS, encode
from matcher.compare import compare as compare_templates
from matcher.compare import prepare
from matcher.template import Finger
from papilar.commands.options import JsonFlag, PlotOption, PpiOption
from papilar.errors import RequestInvalid
from papilar.explanation import MIRRORED, mirrored_score
from papilar.files import check_outputs, read_file, read_side, write_file
from papilar.picture import draw_match, draw_minutiae
from papilar.show import comparison_dict, print_json, show_comparison, show_pairs

OK, SOME_LEFT_OUT = 0, 3
WRITABLE = [name for name, codec in CODECS.items() if codec.write]


def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="Image or template.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Image or template.")],
    ppi: PpiOption = None,
    plot: PlotOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Compare two prints: log10 likelihood ratio, its parts, and what they share."""
    check_outputs((a, b), plot)
    probe, reference = (read_side(path, ppi) for path in (a, b))
    found = compare_templates(prepare(probe.side.template), prepare(reference.side.template))
    mirrored = mirrored_score(found, probe.side.template, reference.side.template)
    report = comparison_dict(probe, reference, found, mirrored)
    if as_json:
        print_json(report)
    else:
        show_comparison(report)
    if plot is not None:
        warning = None if mirrored is None else MIRRORED
        write_file(plot, draw_match(probe.side, reference.side, found, warning=warning))
    raise typer.Exit(SOME_LEFT_OUT if probe.reasons or reference.reasons else OK)


def extract(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="Image of one finger.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Template file to write.")],
    format_name: Annotated[
        str, typer.Option("--format", help=f"One of {', '.join(WRITABLE)}.")
    ] = "iso-19794-2:2011",
    finger: Annotated[int, typer.Option(min=0, max=10, help="Finger position, ISO code; 0 unknown.")] = 0,
    ppi: PpiOption = None,
    plot: PlotOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Extract the template of a print into a file."""
    if format_name not in WRITABLE:
        raise RequestInvalid(f"template format '{format_name}'", remedy=f"use one of {', '.join(WRITABLE)}")
    check_outputs((image,), output, plot)
    read = read_image(read_file(image), ppi=ppi)
    found = extract_template(read, finger=Finger(finger))
    report = {
        "minutiae": len(found.template),
        "quality": found.quality.score,
        "accepted": not found.rejected,
        "reasons": [str(reason) for reason in found.quality.reasons],
        "advice": list(found.quality.advice),
        "warnings": list(read.warnings),
    }
    if not found.rejected:
        write_file(output, encode(found.template, format_name))
        report |= {"format": format_name, "file": str(output)}
    if as_json:
        print_json(report)
    else:
        show_pairs(image.name, report)
    if plot is not None:
        write_file(plot, draw_minutiae(found.image, found.template))
    raise typer.Exit(SOME_LEFT_OUT if found.rejected else OK)
