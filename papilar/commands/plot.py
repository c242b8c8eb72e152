"""The picture of a search's best candidate: asked of the node, compared again here, drawn."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from enroll.image import read_image
from matcher.calibration import Part
from matcher.codecs import decode
from matcher.compare import Bend, Comparison, Transform, prepare
from matcher.compare import compare as compare_templates
from matcher.template import Template
from papilar.api.v1 import enrollment_pb2, matching_pb2, types_pb2
from papilar.client import NodeClient
from papilar.files import probe_side, write_file
from papilar.picture import Side, draw_match
from papilar.requests import PrintInput
from papilar.show import err


def plot_candidate(
    path: Path, client: NodeClient, response: matching_pb2.IdentifyResponse, probe: Sequence[PrintInput]
) -> None:
    """Draw the best candidate's best print beside the probe's.

    Parameters
    ----------
    path : Path
        PNG to write.
    client : NodeClient
        Of the node that answered; it is asked for the candidate's encounter.
    response : IdentifyResponse
        With evidence.
    probe : sequence of PrintInput
    """
    if not response.candidates:
        err.print("no candidate, so no picture")
        return
    candidate = response.candidates[0]
    best = candidate.comparisons[0]
    request = enrollment_pb2.GetEncounterRequest(
        encounter_id=candidate.encounter_id,
        include_images=True,
        include_templates=True,
        template_format=types_pb2.TEMPLATE_FORMAT_PAPILAR,
    )
    stored = client.encounter(request).prints[best.reference_index]
    reference = Side(
        read_image(stored.image.data) if stored.image.data else None,
        decode(stored.template.data)[0],
        f"subject {candidate.subject_id}",
    )
    mine = probe_side(probe[best.probe_index])
    found = _as_the_node(best, mine.template, reference.template)
    caption = f"rank 1 of {response.searched_prints} prints searched"
    write_file(path, draw_match(mine, reference, found, caption=caption))


def _as_the_node(best: types_pb2.Comparison, probe: Template, reference: Template) -> Comparison:
    """Compare again; where that does not give the node's score, return what the node says, and no more."""
    again = compare_templates(prepare(probe), prepare(reference))
    if abs(again.score - best.score) < _SAME_SCORE:
        return again
    move = best.transform
    return Comparison(
        best.score,
        tuple(Part(part.name, part.measured, part.adds) for part in best.parts),
        _pairs(best, probe, reference),
        Transform(move.dx, move.dy, move.rotation),
        Bend(np.zeros((0, 2)), np.zeros((3, 2))),
        np.zeros((0, 3), np.float32),
    )


_SAME_SCORE = 0.01


def _pairs(best: types_pb2.Comparison, probe: Template, reference: Template) -> "np.ndarray[Any, Any]":
    """Return the correspondences as indices into the two templates, by position."""
    ends = [(c.probe, c.reference) for c in best.correspondences]
    pairs = [(_nearest(probe, p.x, p.y), _nearest(reference, r.x, r.y)) for p, r in ends]
    return np.asarray(pairs, np.int16).reshape(-1, 2)


def _nearest(template: Template, x: float, y: float) -> int:
    return int(np.abs(template.xy - np.asarray((x, y))).sum(axis=1).argmin())
