"""Candidates under opaque names: what goes out, and the hash by which a name is found again."""

import json
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any, NamedTuple

from matcher.calibration import Band, shipped
from matcher.template import PPI
from papilar.api.peer.v1 import peer_pb2, types_pb2
from papilar.errors import EncounterUnknown
from papilar.exchange.seal import stamp
from papilar.exchange.searching import FoundIn
from papilar.exchange.words import to_number
from papilar.node import Node
from papilar.policy import File, PolicyRequest
from papilar.requests import PrintMatch
from papilar.store import StoredPrint
from papilar.store.exchange import NewReference

ALPHABET = "[A-Za-z0-9_-]{43}"
_BYTES = 32
_MOST_PRINTS = 10
"""Prints of one candidate that are sent, the best ones: a person's fingers."""


class Given(NamedTuple):
    """A candidate as it goes out, and what is kept of it."""

    candidate: peer_pb2.Candidate
    kept: NewReference


def digest(reference: str) -> bytes:
    """Return the hash by which a reference is kept: from it nobody can make the reference."""
    return sha256(reference.encode()).digest()


def give(
    found: Iterable[FoundIn],
    nodes: Mapping[File, Node],
    *,
    expires: datetime,
    request: PolicyRequest | None = None,
) -> tuple[Given, ...]:
    """Give each candidate a new reference and its prints; one that was deleted meanwhile is left out.

    What the law was asked is kept with the reference: it is asked again when an examiner concludes.
    """
    given, facts = [], {} if request is None else request.table()
    for one in found:
        try:
            stored = nodes[one.file].encounter(one.found.encounter, images=True)
        except EncounterUnknown:
            continue
        reference = urlsafe_b64encode(secrets.token_bytes(_BYTES)).rstrip(b"=").decode()
        prints = {each.ordinal: each for each in stored.prints}
        met = [each for each in one.found.matches if each.encounter == stored.encounter_id]
        candidate = peer_pb2.Candidate(
            reference=reference,
            expire_time=stamp(expires),
            score=one.found.score,
            band=_band(one.found.band),
            prints=[_sent(each, prints[each.ordinal]) for each in met[:_MOST_PRINTS]],
        )
        kept = NewReference(
            digest(reference),
            one.file,
            one.found.subject,
            stored.encounter_id,
            expires,
            json.dumps(facts | {"files": [str(one.file)]}),
        )
        given.append(Given(candidate, kept))
    return tuple(given)


def _sent(met: PrintMatch, stored: StoredPrint) -> peer_pb2.CandidatePrint:
    print_ = types_pb2.Print(position=stored.finger, impression=stored.impression + 1, ppi=PPI)
    if stored.image is not None:
        print_.image = stored.image
    return peer_pb2.CandidatePrint(
        probe_index=met.probe, print=print_, score=met.score, band=_band(shipped().band(met.score))
    )


def _band(band: Band) -> Any:
    return to_number(band)  # the stubs tell an enum's numbers from others
