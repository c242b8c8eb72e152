"""Mirrored prints: one print alone does not tell, its mirror image, compared or searched, does.

A scanner that mirrors does so to every print, so all prints of a probe are mirrored at once. What is found
that way is a hint to flip the image and ask again; no score and no candidate comes of it.
"""

from collections.abc import Sequence

from matcher.calibration import GREEN_FMR, YELLOW_FMR, Calibration
from matcher.cylinders import prepare
from matcher.search import Searcher, SearchResult, count_fingers
from papilar.prints import ReadPrint, probe_of


def mirrored_prints(prints: Sequence[ReadPrint]) -> list[ReadPrint]:
    """Return the prints with left and right exchanged, ready to be compared."""
    return [
        one._replace(template=one.template.mirrored(), prepared=prepare(one.template.mirrored()))
        for one in prints
    ]


def mirrored_hit(
    searcher: Searcher,
    probe: Sequence[ReadPrint],
    found: SearchResult,
    calibration: Calibration,
    deadline: float | None = None,
) -> float | None:
    """Return the best score of the mirrored probe where it is green and all that `found` has is red.

    Parameters
    ----------
    searcher : Searcher
    probe : sequence of ReadPrint
        As it was sent.
    found : SearchResult
        Of that; where it is not complete there is no time for a second search.
    calibration : Calibration
    deadline : float, optional
        `time.monotonic` instant. A second search that it cuts short says what it saw until then.

    Returns
    -------
    float or None
    """
    turned = probe_of(mirrored_prints(probe))
    chances = max(1, found.searched * count_fingers(turned))
    best = found.candidates[0].score if found.candidates else calibration.threshold(calibration.tail_rate)
    if not found.complete or best >= calibration.threshold(YELLOW_FMR / chances):
        return None
    least = calibration.threshold(GREEN_FMR / chances)
    other = searcher.search(turned, limit=1, least=least, deadline=deadline)
    return other.candidates[0].score if other.candidates else None
