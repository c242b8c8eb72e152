"""Pictures of several prints: a slap, a scanned ten-print card. Each finger that one shows is an item.

The picture is cut when the first of its items is read, and what was cut out is kept until all are, so in a
run it is cut once; an error, too, is that of all its items.
What is said of a doubtful one is said of the fingers that it concerns; the others go in.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from threading import Lock
from typing import Any, TypeVar

from enroll import card, slap
from enroll.slap import Hand
from matcher.errors import InvalidInput
from matcher.template import Finger, Impression
from papilar.archive.cut import Cut, CutCall, SheetInput, Single, cut_sheet
from papilar.archive.item import Item
from papilar.archive.sources.flaws import flawed
from papilar.archive.sources.member import Member, Sheet
from papilar.errors import SourceFlaw

T = TypeVar("T")

RIGHT_FINGERS, LEFT_FINGERS = (tuple(Finger(first + k) for k in range(4)) for first in (2, 7))
THUMBS = (Finger.RIGHT_THUMB, Finger.LEFT_THUMB)
_SHOWN: Mapping[Sheet, Sequence[Finger]] = {
    Sheet.LEFT_SLAP: LEFT_FINGERS,
    Sheet.RIGHT_SLAP: RIGHT_FINGERS,
    Sheet.THUMBS: THUMBS,
}
_OF_CARD_FINGERS = (*THUMBS[:1], *RIGHT_FINGERS, *THUMBS[1:], *LEFT_FINGERS)
_OF_CARD = {"rolled": Impression.NONLIVE_ROLLED, "plain": Impression.NONLIVE_PLAIN}
_DOUBTS = frozenset({slap.Reason.HAND_DISAGREES, slap.Reason.GIVEN_DISAGREES, slap.Reason.TURNED_TOO_FAR})
_ADVICE = {str(reason): advice for table in (slap.ADVICE, card.ADVICE) for reason, advice in table.items()}


class Shared:
    """What several items are read from: made for the first that is read, let go after the last."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._readers = 0
        self._made: dict[object, Any] = {}

    def reader(self, read: Callable[[], bytes]) -> Callable[[], bytes]:
        """Return the reading of one item, which is done once, and never beside another."""
        self._readers += 1

        def counted() -> bytes:
            with self._lock:
                try:
                    return read()
                finally:
                    self._readers -= 1
                    if not self._readers:
                        self._made.clear()

        return counted

    def once(self, key: object, make: Callable[[], T]) -> T:
        """Return what is kept under a key, made now where it is not there; only from a reader.

        What cannot be made is not tried again: it may have cost the life of a process.
        """
        if key not in self._made:
            try:
                self._made[key] = make()
            except InvalidInput as error:
                self._made[key] = error
        found: T | InvalidInput = self._made[key]
        if isinstance(found, InvalidInput):
            raise found
        return found


def sheet_items(member: Member, *, ppi: float | None = None, cut: CutCall = cut_sheet) -> Iterator[Item]:
    """Yield the prints that a picture should show, those that it lacks among them.

    Parameters
    ----------
    member : Member
        A file that is said to be a sheet.
    ppi : float, optional
        Resolution, over what the member and the file say.
    cut : callable
        Cuts the picture.

    Notes
    -----
    Where nothing says how they were taken, the fingers of a slap are LIVE_PLAIN, as such pictures mostly are.
    Those that are said to be missing are not looked for.
    """
    missing = {each.finger for each in member.said.missing}
    whole, shared = member.item(), Shared()

    def found() -> Cut:
        return shared.once("cut", lambda: cut(_picture(member, ppi or whole.ppi)))

    if member.said.sheet is Sheet.CARD:
        for word, kind in _OF_CARD.items():
            for finger in (each for each in _OF_CARD_FINGERS if each not in missing):
                read = shared.reader(partial(_of_card, found, finger, kind))
                yield _single(whole, f"{finger.name.lower()}_{word}", finger, kind, read)
                whole = replace(whole, held=0)
    elif member.said.sheet is not None:
        for finger in (each for each in _SHOWN[member.said.sheet] if each not in missing):
            kind = member.said.kind or Impression.LIVE_PLAIN
            read = shared.reader(partial(_of_slap, found, finger))
            yield _single(whole, finger.name.lower(), finger, kind, read)
            whole = replace(whole, held=0)


def print_of(found: Iterable[Single], reasons: Sequence[str], finger: Finger) -> bytes:
    """Return one finger of a slap, or of a cell of a card, as PNG.

    Parameters
    ----------
    found : iterable of Single
    reasons : sequence of str
        What was said of the slap or cell.
    finger : Finger

    Raises
    ------
    SourceInvalid
        It is not there, or it is not sure which one it is.
    """
    told = "; ".join(_ADVICE[reason] for reason in reasons)
    if _DOUBTS.intersection(reasons):
        raise flawed(SourceFlaw.SLAP_DOUBTFUL, told)
    for each in found:
        if each.finger is finger:
            return each.png
    why = SourceFlaw.CELL_EMPTY if card.Reason.CELL_EMPTY in reasons else SourceFlaw.FINGER_NOT_FOUND
    raise flawed(why, told or "the finger is not in the picture")


def _single(whole: Item, name: str, finger: Finger, kind: Impression, read: Callable[[], bytes]) -> Item:
    return replace(whole, name=f"{whole.name}#{name}", finger=finger, kind=kind, read=read)


def _picture(member: Member, ppi: float | None) -> SheetInput:
    sheet, missing = member.said.sheet, frozenset(each.finger for each in member.said.missing)
    hand = {Sheet.LEFT_SLAP: Hand.LEFT, Sheet.RIGHT_SLAP: Hand.RIGHT}.get(sheet) if sheet else None
    return SheetInput(
        image=member.read(),
        ppi=ppi,
        card=sheet is Sheet.CARD,
        hand=hand,
        thumbs=sheet is Sheet.THUMBS,
        missing=missing,
    )


def _of_slap(found: Callable[[], Cut], finger: Finger) -> bytes:
    slap = found()
    return print_of(slap.prints, slap.reasons, finger)


def _of_card(found: Callable[[], Cut], finger: Finger, kind: Impression) -> bytes:
    whole = found()
    for cell in whole.cells:
        if finger in cell.fingers and cell.impression is kind:
            return print_of([one for one in whole.prints if one.impression is kind], cell.reasons, finger)
    told = "; ".join(_ADVICE[reason] for reason in whole.reasons)
    raise flawed(SourceFlaw.FORM_NOT_FOUND, told)
