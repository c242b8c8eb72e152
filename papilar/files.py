"""The files of the command line: prints that are read, results that are written whole or not at all."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from enroll.image import read_image
from enroll.pipeline import extract
from matcher.codecs import decode, recognise
from matcher.errors import TemplateError, TemplateFormatUnknown
from matcher.template import Finger
from papilar.errors import RequestInvalid
from papilar.picture import Side
from papilar.requests import PrintInput


@dataclass(frozen=True, slots=True)
class PrintSide:
    """A print of the command line, why it is too poor, if it is, its quality, what to know of its file."""

    side: Side
    reasons: tuple[str, ...]
    quality: int | None
    warnings: tuple[str, ...] = ()


def read_file(path: Path) -> bytes:
    """Return a file's bytes; raises `RequestInvalid` where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise RequestInvalid(f"{path} cannot be read ({error.strerror})", remedy="check the path") from error


def write_file(path: Path, data: bytes) -> None:
    """Write a file, and the folders above it; raises `RequestInvalid` where that cannot be."""
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data)
        part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise RequestInvalid(
            f"{path} cannot be written ({error.strerror})", remedy="check path and disk"
        ) from error


def check_outputs(inputs: Sequence[Path], *outputs: Path | None) -> None:
    """Raise `RequestInvalid` for an output that would replace an input, or another output."""
    taken = {path.resolve() for path in inputs}
    for path in outputs:
        if path is not None and path.resolve() in taken:
            raise RequestInvalid(f"{path} would be overwritten", remedy="give another name to write to")
        if path is not None:
            taken.add(path.resolve())


def read_probe(paths: Sequence[Path], fingers: str, ppi: float | None) -> list[PrintInput]:
    """Return the prints of a probe, each under the finger position that `fingers` ("2,7") gives it."""
    codes = [code.strip() for code in fingers.split(",")] if fingers else ["0"] * len(paths)
    known = all(code.isascii() and code.isdigit() and int(code) <= 10 for code in codes)
    if len(codes) != len(paths) or not known:
        raise RequestInvalid(
            f"--fingers {fingers} for {len(paths)} prints",
            remedy="give one ISO code, 0 to 10, for each print",
        )
    return [_print_input(path, Finger(int(code)), ppi) for path, code in zip(paths, codes, strict=True)]


def read_side(path: Path, ppi: float | None) -> PrintSide:
    """Return the print of an image or of a template record."""
    data = read_file(path)
    if _is_template(data):
        views = decode(data)
        if len(views) > 1:
            raise TemplateError(f"{path} holds {len(views)} prints", remedy="give a file of one print")
        return PrintSide(Side(None, views[0], path.name), (), views[0].print_quality)
    image = read_image(data, ppi=ppi)
    found = extract(image)
    reasons = tuple(str(r) for r in found.quality.reasons) if found.rejected else ()
    return PrintSide(
        Side(found.image, found.template, path.name), reasons, found.quality.score, image.warnings
    )


def probe_side(given: PrintInput) -> Side:
    """Return a print of a probe as it is drawn: the very view that the node has searched with."""
    if given.image is None:
        views = decode(given.template or b"")
        template = next((view for view in views if view.finger == given.finger), views[0])
        return Side(None, template, f"{len(template)} minutiae")
    found = extract(read_image(given.image, ppi=given.ppi))
    return Side(found.image, found.template, f"{len(found.template)} minutiae")


def _print_input(path: Path, finger: Finger, ppi: float | None) -> PrintInput:
    data = read_file(path)
    if _is_template(data):
        return PrintInput(finger, template=data)
    return PrintInput(finger, image=data, ppi=ppi)


def _is_template(data: bytes) -> bool:
    try:
        recognise(data)
    except TemplateFormatUnknown:
        return False
    return True
