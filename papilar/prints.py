"""The prints of a request, read: image or template record -> assessment, template, prepared template."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple, Protocol

from enroll.gate import ADVICE, FAILING, NOT_JUDGED, UNGATED, QualityGate
from enroll.image import encode_png, read_image
from enroll.measures import measure
from enroll.pipeline import Extraction, extract
from matcher.codecs import NATIVE, decode, encode
from matcher.cylinders import Prepared, prepare
from matcher.errors import InvalidInput, TemplateError
from matcher.search import ProbePrint
from matcher.template import Finger, Impression, Template
from papilar.errors import DeadlinePassed, RequestInvalid
from papilar.requests import Assessment, PrintInput
from papilar.store import NewPrint

MOST_PRINTS = 40


class ReadPrint(NamedTuple):
    """A print of a request, read; `png` is its image at 500 ppi where it has one and that was asked for.

    `warnings` say what to know of how the image was read.
    """

    assessment: Assessment
    template: Template
    prepared: Prepared
    sha256: bytes | None
    png: bytes | None
    warnings: tuple[str, ...] = ()


class Reading(Protocol):
    """Reads all prints of a request, as `read_prints` does in this process."""

    def __call__(
        self,
        prints: Sequence[PrintInput],
        *,
        keep_images: bool = False,
        deadline: float | None = None,
        gate: QualityGate | None = None,
    ) -> list[ReadPrint]:
        """Read them."""


def probe_of(prints: Sequence[ReadPrint]) -> list[ProbePrint]:
    """Return the prints as a search takes them."""
    return [ProbePrint(one.assessment.finger, one.prepared, one.template) for one in prints]


def read_prints(
    prints: Sequence[PrintInput],
    *,
    keep_images: bool = False,
    deadline: float | None = None,
    gate: QualityGate | None = None,
) -> list[ReadPrint]:
    """Read all prints of a request.

    Parameters
    ----------
    prints : sequence of PrintInput
    keep_images : bool
        Also give each image at 500 ppi as PNG.
    deadline : float, optional
        `time.monotonic` instant.
    gate : QualityGate, optional
        For prints to be enrolled: each image is measured too, with NFIQ 2, and held against it. Templates,
        latents and photographs of fingers are not.

    Raises
    ------
    RequestInvalid, ImageError, TemplateError
        The message names the print's index.
    DeadlinePassed
    """
    return in_turn(prints, partial(read_print, keep_image=keep_images, gate=gate), deadline=deadline)


def in_turn(
    prints: Sequence[PrintInput],
    read: Callable[[PrintInput], ReadPrint],
    *,
    deadline: float | None = None,
) -> list[ReadPrint]:
    """Read all prints of a request, each by `read`; as `read_prints`, in its order and with its errors."""
    found = []
    for index, given in enumerate(prints):
        if deadline is not None and time.monotonic() >= deadline:
            raise DeadlinePassed(
                f"the deadline passed with {index} of {len(prints)} prints read", remedy="allow more time"
            )
        try:
            one = read(given)
        except InvalidInput as error:
            raise type(error)(f"print {index}: {error.cause}", remedy=error.remedy) from error
        found.append(one._replace(assessment=one.assessment._replace(ordinal=index)))
    return found


def check_count(prints: Sequence[PrintInput]) -> None:
    """Raise `RequestInvalid` for no print or too many."""
    if not 1 <= len(prints) <= MOST_PRINTS:
        raise RequestInvalid(f"{len(prints)} prints", remedy=f"send 1 to {MOST_PRINTS}")


def read_print(given: PrintInput, *, keep_image: bool = False, gate: QualityGate | None = None) -> ReadPrint:
    """Read one print, as if it were the first of its request.

    Raises
    ------
    RequestInvalid, ImageError, TemplateError
    """
    if given.image is not None:
        return _read_image(given, given.image, keep_image, gate)
    if given.template is not None:
        return _read_template(given, given.template)
    raise RequestInvalid("neither an image nor a template", remedy="send one of the two")


def _read_image(given: PrintInput, file: bytes, keep_image: bool, gate: QualityGate | None) -> ReadPrint:
    image = read_image(file, ppi=given.ppi)
    impression = Impression.UNKNOWN if given.impression is None else given.impression
    found = extract(image, finger=given.finger, impression=impression)
    reasons = tuple(zip(map(str, found.quality.reasons), found.quality.advice, strict=True))
    assessment = Assessment(
        0, given.finger, not found.rejected, found.quality.score, reasons, len(found.template)
    )
    if impression in UNGATED:
        assessment = assessment._replace(nfiq2_reason=NOT_JUDGED)
    elif gate is not None:
        assessment = _gated(assessment, found, gate)
    png = encode_png(found.image) if keep_image else None
    digest, ready = bytes.fromhex(image.sha256), prepare(found.template)
    return ReadPrint(assessment, found.template, ready, digest, png, found.image.warnings)


def _gated(assessed: Assessment, found: Extraction, gate: QualityGate) -> Assessment:
    """Add what a gate says of a print."""
    measures = measure(found, with_nfiq2=gate.nfiq2)
    short = gate.shortcomings(measures, poor=found.rejected)
    score = measures.nfiq.score
    return assessed._replace(
        accepted=assessed.accepted and FAILING.isdisjoint(short),
        reasons=(*assessed.reasons, *((str(one), ADVICE[one]) for one in short)),
        nfiq2=score,
        nfiq2_version="" if score is None else measures.nfiq.version,
        nfiq2_reason=measures.nfiq.reason,
    )


def _read_template(given: PrintInput, data: bytes) -> ReadPrint:
    template = _view(decode(data), given.finger)
    if given.finger != Finger.UNKNOWN:
        template = replace(template, finger=given.finger)
    if given.impression is not None:
        template = replace(template, impression=given.impression)
    prepared = prepare(template)
    usable = len(prepared.every.minutia) >= 2
    reasons = () if usable else (("TOO_FEW_MINUTIAE", "too few minutiae to compare: send the image instead"),)
    assessment = Assessment(0, template.finger, usable, template.print_quality, reasons, len(template))
    return ReadPrint(assessment, template, prepared, None, None)


def _view(views: Sequence[Template], finger: Finger) -> Template:
    """Return the view that is meant: a record's only one, else the one of the finger."""
    known = [view for view in views if view.finger == finger != Finger.UNKNOWN]
    wanted = views if len(views) == 1 else known
    if not wanted:
        raise TemplateError(
            f"{len(views)} views, none of them of finger position {finger.value}",
            remedy="state the position of one of them",
        )
    return wanted[0]


def usable_of(prints: Sequence[ReadPrint]) -> list[ReadPrint]:
    """Return the prints that are good enough to be used."""
    return [p for p in prints if p.assessment.accepted]


def assessments_of(prints: Sequence[ReadPrint]) -> tuple[Assessment, ...]:
    """Return what became of each print."""
    return tuple(p.assessment for p in prints)


def new_print(one: ReadPrint) -> NewPrint:
    """Return a print as the store takes it."""
    return NewPrint(
        one.template.finger,
        one.template.impression,
        encode(one.template, NATIVE),
        len(one.template),
        one.assessment.quality,
        one.sha256,
        one.png,
        one.assessment.nfiq2,
        one.assessment.nfiq2_version or None,
    )
