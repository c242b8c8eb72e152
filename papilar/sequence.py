"""The order of an encounter's fingers: rolled and plain prints of it are held against each other.

What speaks against a print's finger becomes an advice beside it. It is enrolled all the same: a person looks.
"""

from collections.abc import Iterator, Mapping, Sequence

from enroll.sequence import ADVICE, Finding, Kind, Side, check_sequence
from matcher.template import Finger, Impression, Template
from papilar.prints import ReadPrint

LEAST = 2
"""Prints of each side, of different fingers: of fewer none can be in another's place."""

REASONS: Mapping[str, str] = {
    f"SEQUENCE_{kind}": advice for kind, advice in ADVICE.items() if kind is not Kind.AGREES
}
"""The reasons, and what to do about each."""

_SIDES: Mapping[Impression, Side] = {
    Impression.LIVE_ROLLED: Side.ROLLED,
    Impression.NONLIVE_ROLLED: Side.ROLLED,
    Impression.LIVE_PLAIN: Side.PLAIN,
    Impression.NONLIVE_PLAIN: Side.PLAIN,
}
_THUMBS = (Finger.RIGHT_THUMB, Finger.LEFT_THUMB)


def in_sequence(prints: Sequence[ReadPrint]) -> list[ReadPrint]:
    """Add what speaks against the fingers under which the prints of an encounter stand.

    Parameters
    ----------
    prints : sequence of ReadPrint
        Of a finger taken twice, the one of most minutiae counts.

    Returns
    -------
    list of ReadPrint
        In their order. Whether a print is accepted is as it was.
    """
    places: dict[Side, dict[Finger, int]] = {side: {} for side in Side}
    for place, one in sorted(enumerate(prints), key=lambda each: len(each[1].template)):
        side = _SIDES.get(one.template.impression)
        if side is not None and one.template.finger is not Finger.UNKNOWN:
            places[side][one.template.finger] = place
    told = [*prints]
    if min(map(len, places.values())) < LEAST:
        return told
    for place, reason, advice in _said(places, [one.template for one in prints]):
        assessed = told[place].assessment
        reasons = (*assessed.reasons, (reason, advice))
        told[place] = told[place]._replace(assessment=assessed._replace(reasons=reasons))
    return told


def _said(
    places: Mapping[Side, Mapping[Finger, int]], templates: Sequence[Template]
) -> Iterator[tuple[int, str, str]]:
    """Yield the places of prints, each with the reason and the advice that it is told."""
    rolled, plain = ({f: templates[at] for f, at in places[side].items()} for side in Side)
    for found in check_sequence(rolled, plain).findings:
        side = found.side
        if found.kind is Kind.MISSING:
            if not any(_taken_with(found.finger, other) for other in places[side]):
                continue  # its hand was not taken in this way at all
            side = Side.PLAIN if side is Side.ROLLED else Side.ROLLED  # the print that has no counterpart
        if found.kind is not Kind.AGREES:
            yield places[side][found.finger], f"SEQUENCE_{found.kind}", _advice(found)


def _taken_with(finger: Finger, other: Finger) -> bool:
    """Tell whether two fingers are taken together: by a slap of four, or as thumbs."""

    def group(one: Finger) -> object:
        return "thumbs" if one in _THUMBS else one < Finger.LEFT_THUMB

    return group(finger) == group(other)


def _advice(found: Finding) -> str:
    if found.other is None:
        return ADVICE[found.kind]
    return f"{ADVICE[found.kind]} (it is like the {found.other.name.lower().replace('_', ' ')})"
