"""How the benchmark of the exchange asks: through a country's own node, and one country's node directly."""

import asyncio
import multiprocessing
import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from ctypes import c_int64
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import cycle
from multiprocessing.sharedctypes import RawArray
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import numpy as np

from benchmarks import federation_nodes as trial
from benchmarks.federation_nodes import ANSWERING, ASKING, Address
from matcher.codecs import NATIVE, encode
from matcher.errors import InvalidInput
from matcher.template import Finger
from papilar import translate
from papilar.api.peer.v1 import peer_pb2, types_pb2
from papilar.api.v1 import region_pb2
from papilar.audit.entry import Entry
from papilar.audit.log import AuditLog
from papilar.client import ClientTls
from papilar.exchange.region import RegionSearch, sent_print, statement
from papilar.exchange.seal import seal, stamp
from papilar.identity import Role
from papilar.peer_client import PeerChannel
from papilar.policy import File, LegalBasis, OffenceClass, Purpose, SearchType
from papilar.region_client import RegionClient
from papilar.requests import PrintInput
from papilar.signing import Signer
from papilar.store.log import LogStore
from papilar.tls import TlsFiles, channel_credentials, channel_options
from papilar.trust import Trust
from papilar.users import Mandate

RATE = 200
"""Searches a second of the country that is refused by its quota."""

PATIENCE = 600.0
"""Seconds for a search that nothing is to cut off."""

_SEARCH = f"/{peer_pb2.DESCRIPTOR.services_by_name['PeerService'].full_name}/Search"
_SETTLE = 0.5  # seconds between two conditions
_REST = 2.5  # after which what was asked for is answered: more than `AskedOptions.put_off_seconds`

Search = Callable[..., types_pb2.Signed]


@dataclass(frozen=True, slots=True)
class Region:
    """The countries, running: their folder, addresses, processes, and the prints that are searched."""

    folder: Path
    addresses: Mapping[str, Address]
    nodes: Mapping[str, Any]
    mate: PrintInput
    stranger: PrintInput

    def entries(self, country: str) -> list[Entry]:
        """Return a country's log."""
        with closing(LogStore.open(self.folder / country / "exchange")) as rows:
            return [one.entry for one in AuditLog(rows).entries() if one.entry is not None]


# ---- asking through the own node


class Asked(NamedTuple):
    """What came of a search in the region, and after how many seconds each country's part."""

    id: str
    seconds: float
    answers: Mapping[str, region_pb2.CountryAnswer]
    gaps: Mapping[str, str]
    came: Mapping[str, float]


@contextmanager
def asking(region: Region, offence: OffenceClass, *, timeout: float = PATIENCE) -> Iterator[RegionClient]:
    """Yield a connection of the officer to the own node, for a case of this weight."""
    own = region.folder / ASKING
    stem = own / f"user-{trial.OFFICER}-tls"
    tls = ClientTls(own / "ca.pem", stem.with_suffix(".pem"), stem.with_suffix(".key"), ASKING)
    mandate = Mandate(
        purpose=Purpose.CRIMINAL_INVESTIGATION,
        reason="MEASUREMENT",
        legal_basis=LegalBasis.TREATY,
        offence_class=offence,
        case_reference="HND-2026/1",
    )
    address = region.addresses[ASKING].users
    with RegionClient(address, tls=tls, timeout=timeout, caller=mandate.metadata()) as client:
        yield client


def ask(client: RegionClient, probe: PrintInput, countries: Sequence[str]) -> Asked:
    """Search a print in some countries, and note what came when."""
    request = region_pb2.IdentifyRegionRequest(
        request_id=str(uuid.uuid4()),
        probe=[translate.to_print(probe)],
        search_type=region_pb2.SEARCH_TYPE_TP_TP,
        files=[region_pb2.FILE_CRIMINAL],
        countries=countries,
    )
    answers, missing, came = {}, {}, {}
    started = time.perf_counter()
    for one in client.identify_region(request):
        seconds = time.perf_counter() - started
        if one.HasField("answer"):
            answers[one.answer.country], came[one.answer.country] = one.answer, seconds
        elif one.HasField("gap"):
            kind = region_pb2.GapKind.Name(one.gap.kind).removeprefix("GAP_KIND_")
            missing[one.gap.country], came[one.gap.country] = f"{kind} {one.gap.code}", seconds
    return Asked(request.request_id, time.perf_counter() - started, answers, missing, came)


# ---- asking a country directly


@contextmanager
def line_to(region: Region, country: str, asked: str) -> Iterator[tuple[PeerChannel, Search]]:
    """Yield a channel from one country to another, and what makes sealed searches for it."""
    with _channel(region.folder, country, asked, region.addresses[asked].peers) as channel:
        yield channel, _searcher(region.folder, country, asked)


@contextmanager
def _channel(folder: Path, country: str, asked: str, address: str) -> Iterator[PeerChannel]:
    own = folder / country
    tls, trust = TlsFiles(own / "node.pem", own / "node.key"), Trust.load(own / "trust")
    with closing(PeerChannel(asked, address, tls=tls, trust=trust)) as channel:
        yield channel


def _searcher(folder: Path, country: str, asked: str) -> Search:
    signer = Signer.load(folder / country / "seal.pem", folder / country / "seal.key")

    def search(one: PrintInput, offence: OffenceClass = OffenceClass.SERIOUS) -> types_pb2.Signed:
        given = RegionSearch(
            request_id=str(uuid.uuid4()),
            prints=(one,),
            purpose=Purpose.CRIMINAL_INVESTIGATION,
            offence_class=offence,
            legal_basis=LegalBasis.TREATY,
            search_type=SearchType.TP_TP,
            files=frozenset({File.CRIMINAL}),
            officer=trial.OFFICER,
            roles=frozenset({Role.OFFICER}),
            reason="MEASUREMENT",
            case_reference=f"{country}-2026/1",
        )
        said = statement(given, asking=country, country=asked, prints=[sent_print(one)])
        said.create_time.CopyFrom(stamp(datetime.now(UTC)))
        return seal("search", said, signer)

    return search


# ---- a country that asks on


@dataclass(frozen=True, slots=True)
class Flood:
    """A process that asks on and on; `counts` are asked, refused by quota, turned away."""

    process: Any
    counts: Any

    def tally(self) -> tuple[int, ...]:
        """Return the counts."""
        return tuple(self.counts)

    def wait_until_asking(self) -> None:
        """Wait for the first refusals."""
        while self.process.is_alive() and self.counts[1] < RATE // 10:
            time.sleep(_SETTLE)
        if not self.process.is_alive():
            raise InvalidInput("the country that asks on has ended", remedy="see what it wrote above")

    def pause(self) -> None:
        """Let it rest."""
        os.kill(self.process.pid, signal.SIGSTOP)
        time.sleep(_REST)

    def go_on(self) -> None:
        """Let it ask again."""
        os.kill(self.process.pid, signal.SIGCONT)
        time.sleep(_SETTLE)


@contextmanager
def flooding(region: Region) -> Iterator[Flood]:
    """Run a country that asks SLV on and on, in a process of its own, until the block ends."""
    context = multiprocessing.get_context("spawn")
    counts = RawArray(c_int64, 3)
    given = (region.folder, region.addresses[ANSWERING].peers, counts)
    process = context.Process(target=_ask_on, args=given, daemon=True)
    process.start()
    try:
        yield Flood(process, counts)
    finally:
        process.kill()
        process.join()


def _ask_on(folder: Path, address: str, counts: Any) -> None:
    """Be a country without a quota: ask with a template 200 times a second, and count what comes."""
    search = _searcher(folder, trial.HANGING, ANSWERING)
    made = trial.load_template(np.random.default_rng(0), Finger.UNKNOWN)
    one = PrintInput(template=encode(made, NATIVE))
    requests = [peer_pb2.SearchRequest(search=search(one)).SerializeToString() for _ in range(50)]
    own = folder / trial.HANGING
    files, trust = TlsFiles(own / "node.pem", own / "node.key"), Trust.load(own / "trust")
    credentials = channel_credentials(files, trust, ANSWERING)
    asyncio.run(_flood(address, credentials, requests, counts))


async def _flood(
    address: str, credentials: grpc.ChannelCredentials, requests: Sequence[bytes], counts: Any
) -> None:
    """Send bytes, and look at the outcome alone: who asks on should take little of this machine."""
    async with grpc.aio.secure_channel(address, credentials, channel_options(ANSWERING)) as channel:
        call: Any = channel.unary_stream(_SEARCH)

        async def ask(request: bytes) -> None:
            last = b""
            try:
                async for one in call(request, timeout=30):
                    last = one
            except grpc.aio.AioRpcError:
                counts[2] += 1
                return
            answer = peer_pb2.SearchResponse.FromString(last).answer.statement
            refused = peer_pb2.Answer.FromString(answer).outcome == peer_pb2.OUTCOME_QUOTA
            counts[1 if refused else 2] += 1

        due, under_way = time.monotonic(), set()
        for request in cycle(requests):
            task = asyncio.create_task(ask(request))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            counts[0] += 1
            due = max(due + 1 / RATE, time.monotonic() - 0.1)  # what was missed in a pause is not made up for
            await asyncio.sleep(max(0.0, due - time.monotonic()))
