"""What the law of the asked country says of calls that are about its node, and how long a search may take."""

import time
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from countries import PERMIT, SMALL, Answering, Asking, a_print, answering, law
from grpc_status import rpc_status

from papilar.api.peer.v1 import peer_pb2
from papilar.audit.entry import Act, Outcome
from papilar.errors import NotPermitted
from papilar.node import Node
from papilar.policy import File
from papilar.requests import Description

NOTHING_OF_NODES = PERMIT + (
    '@id("no") @reads("Nothing about nodes.") @code("NOT_OF_NODES")\n'
    'forbid(principal, action in [Action::"describe", Action::"statistics"], resource);\n'
)


@pytest.mark.parametrize("hides", [True, False])
def test_a_law_that_does_not_say_what_the_node_offers(
    slv: Answering, hnd: Asking, in_force: object, hides: bool
) -> None:
    with hnd.calling() as stub:
        assert stub.DescribeNode(peer_pb2.DescribeNodeRequest()).description.statement
        in_force.law = law(rules=NOTHING_OF_NODES, hides=hides)  # type: ignore[attr-defined]
        month = peer_pb2.GetStatisticsRequest(month="2026-10")
        for call, request in (
            (stub.DescribeNode, peer_pb2.DescribeNodeRequest()),
            (stub.GetStatistics, month),
        ):
            with pytest.raises(grpc.RpcError) as refused:
                call(request)
            status = rpc_status.from_call(refused.value)
            assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED  # type: ignore[attr-defined]
            assert NotPermitted.reason.encode() in status.details[0].value
    logged = [(e.act, e.outcome, e.code, e.asking) for e in slv.entries() if "permit to" in e.justification]
    assert logged == [(Act.REFUSAL, Outcome.REFUSED, "NOT_PERMITTED", "HND")] * 2
    assert slv.answer(hnd.sealed(a_print())).outcome == peer_pb2.OUTCOME_CANDIDATES


@pytest.mark.parametrize("hides", [True, False])
def test_a_search_that_takes_too_long_says_that_it_is_not_complete(
    world: Path, gallery: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hides: bool
) -> None:
    describe, options = gallery.describe, replace(SMALL, search_seconds=0.3)

    def slowly() -> Description:
        time.sleep(0.4)
        return describe()

    monkeypatch.setattr(gallery, "describe", slowly)
    with answering(
        world, {File.CRIMINAL: gallery}, tmp_path, law=lambda: law(hides=hides), options=options
    ) as slv:
        answer = slv.answer(Asking(world, "HND").sealed(a_print()))
    assert (answer.outcome, answer.complete) == (peer_pb2.OUTCOME_NO_HIT, False)
