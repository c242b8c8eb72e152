"""`make demo`: two countries, synthetic prints, one question. Every step is a command that you can type.

The prints are synthetic (benchmarks.synthetic): no person has these fingers. Everything lands in demo/.
"""

import shutil
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

from benchmarks.commands import out, papilar, shown_node
from benchmarks.synthetic import archive

FOLDER = Path("demo")
COUNTRIES = {"SLV": 503, "HND": 504}
"""Country and the seed of its fingers."""

FINGERS, IMPRESSIONS = 10, 2
WANTED = "007"


def main() -> None:
    """Run the demo from the project's root."""
    started = time.monotonic()
    for made in ("archives", "galleries"):  # never more than the demo has made
        shutil.rmtree(FOLDER / made, ignore_errors=True)
    out.rule("[bold]1. Two archives of synthetic prints")
    for country, seed in COUNTRIES.items():
        spare = country == "HND"  # one impression more, of which the probe is taken
        archive(FOLDER / "archives" / country, subjects=FINGERS, impressions=IMPRESSIONS + spare, seed=seed)
        out.print(f"{country}: {FINGERS} fingers x {IMPRESSIONS} impressions in demo/archives/{country}")
    probe = _set_probe_apart(FOLDER / "archives" / "HND")
    out.rule("[bold]2. Each country enrols its own")
    for country in COUNTRIES:
        papilar("enroll", f"demo/archives/{country}", "--gallery", f"demo/galleries/{country}")
    out.rule("[bold]3. A node serves, a laboratory asks")
    for country in COUNTRIES:
        address = f"127.0.0.1:{_free_port()}"
        with shown_node(address, "--gallery", f"demo/galleries/{country}", "--listen", address):
            picture = ["--plot", "demo/match.png"] if country == "HND" else []
            papilar(
                "identify", str(probe), "--node", address, "--target-fpir", "0.001", "--limit", "5", *picture
            )
    out.rule("[bold]4. What you have seen")
    out.print(
        f"The probe, another impression of finger {WANTED} of HND, is unknown in SLV and found in HND.\n"
        f"The picture of the match: [bold]demo/match.png[/]. Time: {time.monotonic() - started:.0f} s."
    )


def _set_probe_apart(folder: Path) -> Path:
    """Take the spare impressions out of an archive; that of the wanted finger gets a name of no meaning."""
    spare = f"_{IMPRESSIONS + 1}.png"
    probe = (folder / f"{WANTED}{spare}").replace(FOLDER / "probe.png")
    for other in folder.glob(f"*{spare}"):
        other.unlink()
    out.print(f"probe: a further impression of one of these fingers, {probe}")
    return probe


def _free_port() -> int:
    """Return 7443, the usual port, or another one where something listens there."""
    for port in (7443, 0):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    sys.exit("no port is free on 127.0.0.1")


if __name__ == "__main__":
    main()
