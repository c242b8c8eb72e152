"""Command line of the benchmarks: `python -m benchmarks run fvc`, `report` and `download`.

Exit codes: 0 done; 2 an argument, a data folder or a results folder is wrong, and why is said on standard
error.
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

from benchmarks import datasets, report, runner, systems
from matcher.errors import InvalidInput

app = typer.Typer(
    help="Measure matchers on public data.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
runs = typer.Typer(help="Run matchers and keep their raw scores.", no_args_is_help=True)
app.add_typer(runs, name="run")


@contextmanager
def errors() -> Iterator[None]:
    """Turn what the caller can mend into a message and exit code 2."""
    try:
        yield
    except InvalidInput as error:
        typer.secho(f"error: {error}", fg=typer.colors.RED, err=True)
        raise typer.Exit(2) from error


@runs.command()
def fvc(
    *,
    data: Annotated[Path, typer.Option(help="Folder of <finger>_<impression>.<ext>, or a folder of such.")],
    out: Annotated[Path, typer.Option(help="Results folder.")],
    ppi: Annotated[float | None, typer.Option(help="Pixels per inch, over what is known.")] = None,
    names: Annotated[str, typer.Option("--systems", help="Systems, separated by commas.")] = "papilar,nbis",
    command: Annotated[
        list[str] | None, typer.Option(help="NAME=COMMAND or NAME:iso=COMMAND: one more system.")
    ] = None,
    workers: Annotated[int, typer.Option(help="Threads.")] = os.cpu_count() or 1,
) -> None:
    """Compare every pair of prints of every set, once a system."""
    with errors(), ExitStack() as stack:
        loaded = datasets.load(data, ppi=ppi)
        for folder in loaded.left_out:
            typer.echo(f"left out {folder}: it holds no pairs", err=True)
        more = dict(map(systems.parse_command, command or []))
        wanted = [name.strip() for name in names.split(",") if name.strip()]
        made = systems.make(wanted + [name for name in more if name not in wanted], more)
        for system in made:
            stack.callback(system.close)
        runner.run(loaded.sets, made, out, workers=workers, track=_track)
        typer.echo(f"{len(loaded.sets)} sets, {len(made)} systems: now python -m benchmarks report {out}")


@app.command("report")
def report_(
    results: Annotated[Path, typer.Argument(help="Results folder of a run.")],
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here too.")] = None,
    replicates: Annotated[int, typer.Option(min=0, help="Bootstrap replicates.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")] = 0,
) -> None:
    """Print error rates and times, and draw DET plots into the results folder."""
    with errors():
        found = report.load(results)
        figures = {"environment": report.environment(results)}
        figures |= report.build(found, replicates=replicates, seed=seed)
        if json_file is not None:
            runner.write_atomic(json_file, runner.dumps(figures))
        console = Console() if sys.stdout.isatty() else Console(width=160)
        console.print(report.table(figures))
        for path in report.plot(found, results):
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


def _track(items: Iterable[Any], what: str, count: int) -> Iterable[Any]:
    return track(items, what, total=count, console=Console(stderr=True))


if __name__ == "__main__":
    app(prog_name="python -m benchmarks")
