"""`papilar enroll`: an archive goes into a gallery, or to a node; `papilar receipt`: what became of it.

Exit codes: 0 all is in; 1 the run was stopped, by somebody, a full disk or a lost node; 3 done, but some
prints were too poor or could not be read, as the receipt says.
"""

import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NamedTuple

import typer
from rich.live import Live
from rich.text import Text

from enroll.gate import QualityGate
from matcher.errors import PapilarError
from papilar import translate
from papilar.archive.cut import CutCall
from papilar.archive.extent import Extent
from papilar.archive.item import Item, Line, Result
from papilar.archive.journal import Journal
from papilar.archive.progress import Progress, in_words
from papilar.archive.quarantine import Quarantine, quarantined
from papilar.archive.receipt import KIND, ReceiptWriter, Verified, now, read_lines, verify_receipt
from papilar.archive.runner import EnrollCall, Prepare, RunOptions, run_archive
from papilar.archive.sources import Sheet, open_source
from papilar.archive.workers import MEGABYTES, SECONDS, Readers
from papilar.client import NodeClient
from papilar.cluster import RayReaders
from papilar.commands.options import Connection, JsonFlag, PpiOption, grouped
from papilar.config import OriginalsConfig
from papilar.errors import RequestInvalid
from papilar.exchange.seal import SEALS
from papilar.files import check_outputs, write_file
from papilar.node import Node
from papilar.originals import originals_of
from papilar.picture.archive import Tally, archive_page, tally
from papilar.requests import Enrollment, Outcome
from papilar.show import err, out, print_json, show_pairs, show_receipt
from papilar.signing import Signer
from papilar.store.journal import JournalStore
from papilar.trust import Trust

OK, STOPPED, SOME_LEFT_OUT = 0, 1, 3
_MOST_SHOWN = 1_000  # lines of a receipt on a terminal; its file has all
_SAID_EVERY = 60.0  # seconds, where nobody looks at a terminal
_HERE = (Result.ENROLLED, Result.ALREADY, Result.COPY, Result.MISSING)

receipt_app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)

StoreOption = Annotated[
    str | None,
    typer.Option("--store", help="URL of a PostgreSQL data base, without its password; else SQLite."),
]


@dataclass(frozen=True, slots=True)
class Target:
    """Where prints go."""

    gallery: Annotated[Path | None, typer.Option("--gallery", help="Gallery folder; made if missing.")] = None
    node: Annotated[str | None, typer.Option("--node", help="Enrol at a running node instead.")] = None
    store: StoreOption = None
    name: Annotated[str, typer.Option(help="Name of a new gallery; by default the folder's.")] = ""
    images: Annotated[bool, typer.Option(help="Keep images beside the templates.")] = True
    originals: Annotated[
        str | None, typer.Option("--originals", help="Keep the files too, encrypted, in this folder or URL.")
    ] = None
    originals_key: Annotated[
        Path | None, typer.Option("--originals-key", help="File of the keys that encrypt them.")
    ] = None
    journal: Annotated[
        Path | None,
        typer.Option("--journal", help="With --node: folder for the journal, by which a later run goes on."),
    ] = None

    @property
    def kept(self) -> OriginalsConfig | None:
        """Where the files are kept."""
        if self.originals is None and self.originals_key is None:
            return None
        if self.originals is None or self.originals_key is None or self.gallery is None:
            remedy = "give --gallery, --originals and --originals-key; a node has its own settings"
            raise RequestInvalid("originals by halves", remedy=remedy)
        return OriginalsConfig(self.originals_key, self.originals)


@dataclass(frozen=True, slots=True)
class Course:
    """How a run goes."""

    manifest: Annotated[
        str | None, typer.Option("--manifest", help="Table, CSV or Parquet, that says whose the prints are.")
    ] = None
    sheet: Annotated[
        Sheet | None, typer.Option("--sheet", help="Every image is such a sheet; its fingers are cut out.")
    ] = None
    ppi: PpiOption = None
    check_duplicates: Annotated[
        bool, typer.Option("--check-duplicates", help="Do not enrol who is there under another name.")
    ] = False
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that read prints; by default one a core.")
    ] = None
    cluster: Annotated[
        str | None,
        typer.Option("--cluster", help="Read on a Ray cluster: HOST:PORT, ray://HOST:PORT, or local."),
    ] = None
    seconds: Annotated[float, typer.Option(min=0.1, help="How long reading one print may take.")] = SECONDS
    megabytes: Annotated[int, typer.Option(min=256, help="Memory that one process may use for it, MiB.")] = (
        MEGABYTES
    )
    quarantine: Annotated[
        Path | None, typer.Option("--quarantine", help="Keep what did not go in in this folder.")
    ] = None
    retry_quarantine: Annotated[
        Path | None, typer.Option("--retry-quarantine", help="Enrol what lies in this quarantine.")
    ] = None


@dataclass(frozen=True, slots=True)
class Quality:
    """What is asked of a print; a running node asks by its own settings."""

    least_nfiq2: Annotated[
        int, typer.Option("--least-nfiq2", min=0, max=100, help="Reject prints of a lower NFIQ 2; 0: none.")
    ] = 0
    least_minutiae: Annotated[
        int, typer.Option("--least-minutiae", min=0, help="Reject prints of fewer usable minutiae.")
    ] = 0
    least_area_mm2: Annotated[
        float, typer.Option("--least-area-mm2", min=0, help="Reject prints of less area, square mm.")
    ] = 0.0
    nfiq2: Annotated[bool, typer.Option(help="Compute NFIQ 2 and keep it with each print.")] = True

    @property
    def gate(self) -> QualityGate:
        """The same, as a gallery takes it."""
        return QualityGate(
            nfiq2=self.nfiq2,
            least_nfiq2=self.least_nfiq2,
            least_minutiae=self.least_minutiae,
            least_area_mm2=self.least_area_mm2,
        )


@dataclass(frozen=True, slots=True)
class Record:
    """What a run leaves behind."""

    receipt: Annotated[
        Path | None, typer.Option("--receipt", help="Write the receipt, JSON lines, to this file.")
    ] = None
    sign_cert: Annotated[
        Path | None, typer.Option("--sign-cert", help="Certificate of the seal that signs the receipt, PEM.")
    ] = None
    sign_key: Annotated[Path | None, typer.Option("--sign-key", help="Its key, PEM.")] = None

    @property
    def signer(self) -> Signer | None:
        """Who signs the receipt."""
        if self.sign_cert is None and self.sign_key is None:
            return None
        if self.sign_cert is None or self.sign_key is None:
            raise RequestInvalid("a seal by halves", remedy="give both --sign-cert and --sign-key")
        if self.receipt is None:
            raise RequestInvalid("no receipt to sign", remedy="give --receipt FILE as well")
        return Signer.load(self.sign_cert, self.sign_key)


class _Source(NamedTuple):
    """What is enrolled: what names it on every run, its items, how much there is."""

    name: str
    items: Callable[[CutCall], Iterable[Item]]
    extent: Extent


class _Goal(NamedTuple):
    """A gallery or node, ready to take prints."""

    call: EnrollCall
    prepare: Prepare
    cut: CutCall
    workers: int
    journal: JournalStore
    in_gallery: bool
    label: str


@grouped
def enroll(
    *,
    archive: Annotated[
        str, typer.Argument(help="Folder, tar, zip, manifest or transaction; on the disk or by URL.")
    ] = "",
    target: Target,
    course: Course,
    quality: Quality,
    record: Record,
    connection: Connection,
    as_json: JsonFlag = False,
) -> None:
    """Enrol an archive of prints and give a receipt: one line for each. Run it again to go on."""
    if (target.gallery is None) == (target.node is None):
        raise RequestInvalid("no target, or two", remedy="give --gallery DIR or --node HOST:PORT")
    signer = record.signer
    source = _source(archive, course, target)  # a wrong path must not leave an empty gallery behind
    with ExitStack() as stack:
        goal = _goal(stack, target, course, quality.gate, connection)
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="papilar-"))
        receipt = record.receipt or Path(scratch) / "receipt"
        told = {
            "sheet": course.sheet,
            "ppi": course.ppi,
            "check_duplicates": course.check_duplicates,
            **asdict(quality),
        }
        writer = ReceiptWriter(
            receipt, source=source.name, target=goal.label, begun=now(), options=told, signer=signer
        )
        stopped = _run(source, goal, course, f"{quality.gate}", stack.enter_context(writer))
        results = {Result(name) for name in writer.counts}
        _show(receipt, writer, as_json=as_json)
    if isinstance(stopped, PapilarError):
        raise stopped
    whole = not stopped and Result.NOT_TRIED not in results
    raise typer.Exit(STOPPED if not whole else OK if results <= {*_HERE} else SOME_LEFT_OUT)


@receipt_app.callback()
def root() -> None:
    """Read the receipt of an archive."""


@receipt_app.command()
def verify(
    receipt: Annotated[Path, typer.Argument(metavar="FILE", help="What --receipt wrote.")],
    trust: Annotated[
        Path | None, typer.Option("--trust", help="Folder of authorities: check who signed it, too.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """See that a receipt is whole and unchanged, and with --trust that a country's seal is on it."""
    found = verify_receipt(receipt)
    ended = datetime.fromisoformat(found.end["ended"]).astimezone(UTC)
    report = {
        "source": found.head["source"],
        "target": found.head["target"],
        "ended": found.end["ended"],
        "complete": found.end["complete"],
        "counts": ", ".join(f"{count} {in_words(name)}" for name, count in found.end["counts"].items()),
        "root": found.end["root"],
        "signed by": _signer_of(found, trust, ended),
    }
    if as_json:
        print_json(report)
    else:
        show_pairs(receipt.name, report)


@receipt_app.command()
def page(
    receipts: Annotated[list[Path], typer.Argument(metavar="FILE...", help="What --receipt wrote.")],
    drawing: Annotated[Path, typer.Option("--out", help="Write the page, HTML, to this file.")],
) -> None:
    """Draw outcomes, quality, pace and reasons of one run or several; the page names nobody."""
    check_outputs(receipts, drawing)
    write_file(drawing, archive_page([_tallied(receipt) for receipt in receipts]).encode())


def _tallied(receipt: Path) -> Tally:
    found = verify_receipt(receipt)
    return tally(found.head, found.end, read_lines(receipt), found.marks)


def _signer_of(found: Verified, trust: Path | None, at: datetime) -> str:
    if trust is None:
        return "not asked; give --trust DIR" if found.signature else "nobody"
    if found.signature is None:
        raise RequestInvalid("nobody signed the receipt", remedy="enrol with --sign-cert and --sign-key")
    return Trust.load(trust).check(KIND, found.signed, found.signature, at=at, kinds=SEALS).country


# ---- what goes where


def _source(archive: str, course: Course, target: Target) -> _Source:
    folder = course.retry_quarantine
    if bool(archive) == (folder is not None):
        raise RequestInvalid("nothing to enrol, or two", remedy="give ARCHIVE or --retry-quarantine DIR")
    if folder is not None:
        kept = quarantined(folder)
        return _Source(f"quarantine {folder.resolve()}", lambda cut: kept, Extent(None, "quarantine"))
    places = [place for place in (archive, course.manifest) if place]
    whole = [place if "://" in place else str(Path(place).resolve()) for place in places]
    found = open_source(
        archive, manifest=course.manifest, gallery=target.gallery, sheet=course.sheet, ppi=course.ppi
    )
    counted = None if "://" in places[-1] else Path(places[-1])
    return _Source(" by ".join(whole), found.items, Extent(counted, found.kind))


def _goal(
    stack: ExitStack, target: Target, course: Course, gate: QualityGate, connection: Connection
) -> _Goal:
    originals = originals_of(target.kept)
    readers, workers = _readers(course, keep_images=target.images, gate=gate)
    stack.enter_context(readers)
    if target.gallery is None:
        client = stack.enter_context(connection.to(str(target.node), NodeClient))
        place = target.journal or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="papilar-")))
        store = JournalStore.open(place, create=True)
        stack.callback(store.close)
        return _Goal(_at_node(client), readers.check, readers.cut, workers, store, False, str(target.node))
    node = Node(
        target.gallery,
        store=target.store or "",
        create=True,
        name=target.name,
        keep_images=target.images,
        read=readers.read_prints,
        originals=originals,
        gate=gate,
    )
    stack.enter_context(node)
    store = JournalStore.open(target.store or target.gallery)
    stack.callback(store.close)
    return _Goal(_in_gallery(node), readers.prepare, readers.cut, workers, store, True, node.name)


def _readers(course: Course, *, keep_images: bool, gate: QualityGate) -> tuple[Readers, int]:
    """Return who reads the prints, to be closed, and how many they are."""
    how: dict[str, Any] = {"keep_images": keep_images, "gate": gate}
    how |= {"seconds": course.seconds, "megabytes": course.megabytes}
    if course.cluster is not None:
        away = RayReaders(course.cluster, course.workers, **how)
        return away, away.count
    workers = course.workers or len(os.sched_getaffinity(0))
    return Readers(workers, **how), workers


def _in_gallery(node: Node) -> EnrollCall:
    """Give the call that enrols one encounter in this process, as a node of its own would."""

    def call(new: Enrollment, request_id: str) -> Outcome:
        repeat = translate.repeat(translate.to_enroll_request(new, request_id=request_id))
        return node.enroll(new, repeat=repeat)  # so an archive begun here can be ended at a node

    return call


def _at_node(client: NodeClient) -> EnrollCall:
    """Give the call that enrols one encounter at a node."""
    return lambda new, request_id: translate.outcome(client.enroll(new, request_id=request_id))


# ---- the run


def _run(
    source: _Source, goal: _Goal, course: Course, gate: str, writer: ReceiptWriter
) -> PapilarError | bool:
    """Enrol, write the receipt, and return what stopped the run: an error, True for a signal, or False."""
    quarantine = None if course.quarantine is None else Quarantine(course.quarantine)
    retried = None if course.retry_quarantine is None else Quarantine(course.retry_quarantine)
    options = RunOptions(course.ppi, course.check_duplicates, goal.workers + 2, quarantine or retried)
    bearing = f"{options.bearing} {gate}"
    journal = Journal(goal.journal, source.name, options=bearing, in_gallery=goal.in_gallery)
    progress = Progress(lambda: source.extent.files)
    with _stopping() as stop:
        items = progress.drawn(source.items(goal.cut))
        lines = run_archive(
            items, goal.call, prepare=goal.prepare, journal=journal, options=options, stop=stop
        )
        try:
            for line in _watched(lines, progress):
                writer.add(line)
                if retried is not None and line.result in _HERE:
                    retried.release(line)
        except PapilarError as error:
            writer.end(now(), stopped=error.reason)
            return error
        writer.end(now(), stopped="STOPPED" if stop.is_set() else "")
        return stop.is_set()


@contextmanager
def _stopping() -> Iterator[threading.Event]:
    """Let the first SIGINT or SIGTERM end the run cleanly; a second one acts as it always does."""
    stop = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, frame: FrameType | None) -> None:
        stop.set()
        _restore(before)
        err.print("stopping: what is under way is finished; the same command again enrols the rest")

    if threading.current_thread() is threading.main_thread():
        for number in before:
            signal.signal(number, ask)
    try:
        yield stop
    finally:
        if threading.current_thread() is threading.main_thread():
            _restore(before)


def _restore(handlers: Mapping[signal.Signals, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)


def _watched(lines: Iterator[Line], progress: Progress) -> Iterator[Line]:
    """Show how far the run is: on a terminal always, else once a minute."""
    if err.is_terminal:
        with Live(
            console=err, transient=True, refresh_per_second=2, get_renderable=lambda: Text(f"{progress}")
        ):
            for line in lines:
                progress.add(line)
                yield line
        return
    said = time.monotonic()
    for line in lines:
        progress.add(line)
        if time.monotonic() - said >= _SAID_EVERY:
            said = time.monotonic()
            err.print(f"{progress}", highlight=False)
        yield line


# ---- what is shown


def _show(receipt: Path, writer: ReceiptWriter, *, as_json: bool) -> None:
    """Show the receipt; of a long one what is not in the gallery, which its reader looks for."""
    lines = read_lines(receipt)
    if writer.counts.total() <= _MOST_SHOWN or as_json:
        show_receipt(list(lines), as_json=as_json)
        return
    left_out = (line for line in lines if line.result not in _HERE)
    show_receipt(list(islice(left_out, _MOST_SHOWN)), as_json=False)
    out.print("of all: " + ", ".join(f"{n} {in_words(result)}" for result, n in writer.counts.items()))
