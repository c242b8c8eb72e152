"""A node in full, out of its settings: gallery, users' port, other countries' port, what is asked of them.

All of it writes into one log. What is stopped first is what others ask, last the gallery.
"""

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from typing import NamedTuple

from papilar.audit.entry import Entry
from papilar.audit.log import AuditLog
from papilar.config import NodeConfig
from papilar.duplicates_server import duplicate_service
from papilar.errors import ConfigInvalid
from papilar.maintenance_server import maintenance_service, reextracting
from papilar.node import Node
from papilar.opening import Opening, open_here
from papilar.originals import originals_of
from papilar.peer_server import answering_peers
from papilar.policy import File
from papilar.prints import Reading, read_prints
from papilar.region_server import asking_region, region_service
from papilar.requests import Description
from papilar.server import AddService, NodeServer
from papilar.store.log import LogStore
from papilar.store.review import ReviewStore
from papilar.watch import call_of


class Running(NamedTuple):
    """A node that answers: what it holds, and its addresses; none for other countries is the empty text."""

    gallery: Description
    address: str
    peers: str


def serve(
    settings: NodeConfig,
    *,
    create: bool,
    on_ready: Callable[[Running], None],
    opening: Opening = open_here,
    read: Reading = read_prints,
) -> None:
    """Run a node until SIGTERM or SIGINT.

    Parameters
    ----------
    settings : NodeConfig
    create : bool
        Make the gallery where there is none.
    on_ready : callable
        Called once calls are answered and a signal ends the node cleanly.
    opening, read : callable
        As of `Node`, for the gallery under [node].

    Raises
    ------
    ConfigInvalid, GalleryUnknown, GalleryLocked, LawInvalid, LawRefused, StorageUnavailable
    """
    with ExitStack() as end:
        node = end.enter_context(
            Node(
                settings.gallery,
                store=settings.store,
                create=create,
                keep_images=settings.keep_images,
                shortlist=settings.shortlist,
                gate=settings.enrolment,
                originals=originals_of(settings.originals),
                opening=opening,
                read=read,
            )
        )
        log = end.enter_context(_log_of(settings))
        files = end.enter_context(open_files(settings, node))
        first = end.enter_context(ExitStack())  # what is stopped before the server
        maintenance = maintenance_service(first.enter_context(reextracting(node)))
        services: list[AddService] = [duplicate_service, maintenance]
        if settings.region is not None:
            if settings.peer is None or log is None:
                raise ConfigInvalid(
                    "[region] without [peer]", remedy="say under [peer] who this node is to other countries"
                )
            asking = end.enter_context(asking_region(settings.region, settings.peer, files, log))
            services.append(region_service(asking))
        record = end.enter_context(_recorder(settings, log))
        server = NodeServer(node, settings, log=record, services=services)
        others = ""
        if settings.peer is not None and log is not None:
            port = first.enter_context(answering_peers(settings.peer, files, log)).port
            others = _at(settings.peer.listen, port)
        address = _at(settings.listen, server.port)
        # What is here now stays to the end. To look it through for what is unused would stop every call for
        # a tenth of a second and more, again and again.
        gc.freeze()
        end.callback(gc.unfreeze)
        server.serve_until_signalled(
            lambda: on_ready(Running(node.describe(), address, others)), before_stop=first.close
        )


def _at(listen: str, port: int) -> str:
    """Return the address with the port that was found free, where 0 was asked for."""
    return f"{listen.rpartition(':')[0]}:{port}"


def _place(settings: NodeConfig) -> str:
    """Return where the log lies: with the exchange, or else with the gallery."""
    return settings.peer.store if settings.peer else settings.store or str(settings.gallery)


@contextmanager
def _log_of(settings: NodeConfig) -> Iterator[AuditLog | None]:
    """Yield the log of a node that knows its users or other countries; of a trial among friends, None."""
    if settings.users is None and settings.peer is None:
        yield None
        return
    with closing(LogStore.open(_place(settings), create=True)) as rows:
        yield AuditLog(rows)


@contextmanager
def _recorder(settings: NodeConfig, log: AuditLog | None) -> Iterator[Callable[[Entry], None] | None]:
    """Yield what writes a user's call into the log, and where misuse is watched for."""
    if settings.users is None or log is None:
        yield None
        return
    with closing(ReviewStore.open(_place(settings), create=True)) as queue:

        def record(entry: Entry) -> None:
            log.append(entry)
            call = call_of(entry)
            if call is not None:
                queue.record(call)

        yield record


@contextmanager
def open_files(settings: NodeConfig, node: Node) -> Iterator[Mapping[File, Node]]:
    """Yield the node of each file that other countries may ask about.

    Parameters
    ----------
    settings : NodeConfig
    node : Node
        Of the gallery under [node]; it is left open. Those of other folders are opened here, and closed.

    Raises
    ------
    ConfigInvalid
        A word is no file of the law.
    GalleryUnknown, GalleryLocked
    """
    named = {_file(word): folder for word, folder in (settings.peer.files if settings.peer else {}).items()}
    own = settings.gallery.resolve()
    with ExitStack() as end:
        yield {
            file: node if folder.resolve() == own else end.enter_context(Node(folder))
            for file, folder in named.items()
        }


def _file(word: str) -> File:
    try:
        return File(word)
    except ValueError:
        raise ConfigInvalid(f"peer.files has no file '{word}'", remedy=f"use {', '.join(File)}") from None
