"""`papilar originals`: see that the kept image files are whole, and erase what no print refers to.

Exit codes: 0 done, and all is as it should be; 1 the system failed, or an original is missing or damaged.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from papilar.commands.options import JsonFlag
from papilar.config import NodeConfig, load_config
from papilar.errors import ConfigInvalid
from papilar.originals import Originals, erase_waiting, originals_of, survey
from papilar.show import out, print_json, show_pairs
from papilar.store import GalleryFacts, Store
from papilar.store.beside import Beside

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)

OK, FLAWED = 0, 1

Config = Annotated[Path, typer.Option("--config", help="Settings of the node, TOML, with [originals].")]


@app.callback()
def root() -> None:
    """Look after the image files that prints came from."""


@app.command()
def check(
    config: Config,
    quick: Annotated[
        bool, typer.Option("--quick", help="See only that each file is there; read none.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Read every original, and name what is missing or damaged. The node may go on."""
    with _beside(config) as (store, originals):
        found = survey(originals, store.originals, read=not quick)
    told: dict[str, Any] = {
        "sound": found.sound,
        "flaws": [f"{flaw.reason} {flaw.name.hex()} row {flaw.row}" for flaw in found.flaws],
        "of no print": len(found.strays),
    }
    print_json(told) if as_json else show_pairs("originals", told)
    raise typer.Exit(FLAWED if found.flaws else OK)


@app.command()
def sweep(config: Config) -> None:
    """Erase the originals that no print refers to, of a stopped node: left by a process that was killed."""
    with _opened(config) as (store, originals):
        erase_waiting(originals, store.originals)
        strays = store.originals.unused(list(originals.names()))
        for name in strays:
            originals.delete(name)
        halves = originals.sweep()
    out.print(f"erased {len(strays)} originals of no print, and {halves} that were half written")


@app.command()
def rekey(config: Config) -> None:
    """Encrypt with the first key of the key file what is under another, at a stopped node."""
    with _opened(config) as (store, originals):
        changed = sum(originals.renew(name) for name, _ in store.originals.used())
    out.print(f"encrypted {changed} originals anew")


@app.command()
def failures(config: Config, as_json: JsonFlag = False) -> None:
    """List the prints that the last re-extraction left as they were, and why: the first 1,000."""
    with _beside(config) as (store, _):
        found = store.anew.failures(1_000)
    if as_json:
        print_json([dict(zip(("row", "encounter", "ordinal", "reason"), one, strict=True)) for one in found])
    else:
        show_pairs("not extracted", {f"row {row}": f"{e} print {n}: {why}" for row, e, n, why in found})


@contextmanager
def _beside(config: Path) -> Iterator[tuple[Beside, Originals]]:
    settings = load_config(config)
    with closing(Beside.open(settings.store or settings.gallery)) as store:
        yield store, _originals(settings, store.gallery)


@contextmanager
def _opened(config: Path) -> Iterator[tuple[Store, Originals]]:
    settings = load_config(config)
    with Store.open(settings.store or settings.gallery, folder=settings.gallery) as store:
        yield store, _originals(settings, store.gallery)


def _originals(settings: NodeConfig, gallery: GalleryFacts) -> Originals:
    make = originals_of(settings.originals)
    if make is None:
        raise ConfigInvalid("the node keeps no originals", remedy="give its settings [originals]")
    return make(f"{gallery.created:%Y%m%d%H%M%S%f}")
