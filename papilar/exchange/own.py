"""Our own gallery as one of the nodes of a search in the region."""

from collections.abc import Mapping
from datetime import UTC, datetime

from matcher.calibration import shipped
from papilar.api.peer.v1 import peer_pb2
from papilar.exchange import references
from papilar.exchange.searching import search_files
from papilar.exchange.words import to_number, to_word
from papilar.node import Node
from papilar.policy import File


class OwnGallery:
    """Searches our own files as a peer would; an `OwnSearcher`.

    Parameters
    ----------
    files : mapping of File to Node
        None of them is closed here.
    """

    def __init__(self, files: Mapping[File, Node]) -> None:
        self._files = files

    def __call__(self, search: peer_pb2.Search, *, deadline: float) -> peer_pb2.Answer:
        """Return what a peer would answer, unsigned; a reference is the subject's own name.

        Parameters
        ----------
        search : Search
        deadline : float
            `time.monotonic` instant; what was found until then is the answer, and it is not `complete`.

        Raises
        ------
        DeadlinePassed
            Before all prints were read.
        """
        wanted = frozenset(to_word(File, number) for number in search.files)
        found = search_files(
            self._files, search, files=wanted, least=0, limit=search.limit, deadline=deadline
        )
        # No reference is kept, so none can be used up and none expires.
        given = references.give(found.candidates, self._files, expires=datetime.max.replace(tzinfo=UTC))
        for one in given:
            one.candidate.reference = one.kept.subject_id
            one.candidate.ClearField("expire_time")
        outcome = peer_pb2.OUTCOME_CANDIDATES if given else peer_pb2.OUTCOME_NO_HIT
        return peer_pb2.Answer(
            request_id=search.request_id,
            asked_country=search.asked_country,
            outcome=peer_pb2.OUTCOME_POOR_PRINTS if found.poor else outcome,
            candidates=[one.candidate for one in given],
            files=sorted(map(to_number, found.files)),  # type: ignore[arg-type]
            complete=found.complete,
            threshold=found.threshold,
            calibration_id=shipped().id,
            prints=[peer_pb2.PrintAssessment(**one._asdict()) for one in found.prints],
        )
