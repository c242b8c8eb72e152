"""Prints of a peer, searched in several files of a node: read once, one threshold, one list."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from matcher.codecs import NATIVE, encode
from papilar.api.peer.v1 import peer_pb2
from papilar.errors import DeadlinePassed
from papilar.exchange.prints import print_input
from papilar.node import Node
from papilar.policy import File
from papilar.prints import ReadPrint, read_prints
from papilar.requests import Found, PrintInput

BELOW_LEAST = "BELOW_LEAST_QUALITY"
"""Why a print is too poor that is good enough elsewhere: the law asks for more."""


class Assessed(NamedTuple):
    """What became of a print: as `PrintAssessment` of the contract."""

    accepted: bool
    quality: int | None
    reasons: tuple[str, ...]


class FoundIn(NamedTuple):
    """A candidate and the file that has it; its matches name the prints of the request."""

    file: File
    found: Found


class Findings(NamedTuple):
    """What a search found.

    Attributes
    ----------
    candidates : tuple of FoundIn
        Best first.
    prints : tuple of Assessed
        In the order of the request.
    files : frozenset of File
        Those that were searched.
    complete : bool
        Whether they were searched in whole.
    threshold : float
    """

    candidates: tuple[FoundIn, ...] = ()
    prints: tuple[Assessed, ...] = ()
    files: frozenset[File] = frozenset()
    complete: bool = False
    threshold: float = 0.0

    @property
    def poor(self) -> bool:
        """Whether no print was good enough to search with."""
        return bool(self.prints) and not any(one.accepted for one in self.prints)


def search_files(
    nodes: Mapping[File, Node],
    search: peer_pb2.Search,
    *,
    files: frozenset[File],
    least: int,
    limit: int,
    deadline: float | None = None,
) -> Findings:
    """Search files for whom the prints of a search belong to.

    Every file has the same threshold: that of the wanted rate for all their prints together.

    Parameters
    ----------
    nodes : mapping of File to Node
    search : Search
    files : frozenset of File
        Those that may be searched.
    least : int
        Least quality of a print.
    limit : int
        Most candidates.
    deadline : float, optional
        `time.monotonic` instant; what was found until then is returned, not `complete`.

    Raises
    ------
    ImageError, TemplateError
        A print cannot be read; the message names its index.
    DeadlinePassed
        Before all prints were read.
    """
    read = read_prints([print_input(one) for one in search.prints], deadline=deadline)
    prints = tuple(_assessed(one, least) for one in read)
    usable = [place for place, one in enumerate(prints) if one.accepted]
    here = files & nodes.keys()
    if not usable:
        return Findings(prints=prints)
    probe = [_as_template(read[place]) for place in usable]
    sizes = {file: nodes[file].describe().prints for file in sorted(here)}
    candidates, complete, threshold = [], here == files, 0.0
    for file, size in sizes.items():
        if size:
            rate = search.target_fpir * size / sum(sizes.values())
            try:
                found = nodes[file].identify(
                    probe, limit=limit, target_fpir=rate, mirrored=False, deadline=deadline
                )
            except DeadlinePassed:  # in an earlier file
                complete = False
                break
            candidates += [FoundIn(file, _placed(one, usable)) for one in found.candidates]
            complete = complete and not found.failures
            threshold = found.threshold.score if found.threshold else threshold
    best = sorted(candidates, key=lambda one: -one.found.score)[:limit]
    return Findings(tuple(best), prints, here, complete, threshold)


def _assessed(one: ReadPrint, least: int) -> Assessed:
    found = one.assessment
    reasons = tuple(word for word, _ in found.reasons)
    if found.accepted and found.quality is not None and found.quality < least:
        return Assessed(False, found.quality, (*reasons, BELOW_LEAST))
    return Assessed(found.accepted, found.quality, reasons)


def _as_template(one: ReadPrint) -> PrintInput:
    """Return a print that was read as a node takes it, so that no file's search reads its image again."""
    return PrintInput(one.template.finger, one.template.impression, template=encode(one.template, NATIVE))


def _placed(found: Found, usable: Sequence[int]) -> Found:
    return found._replace(matches=tuple(one._replace(probe=usable[one.probe]) for one in found.matches))
