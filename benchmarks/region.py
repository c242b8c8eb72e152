"""`make region`: three countries with three laws on one machine, and one case from the search to the audit.

Every step is a command that you can type; the story between them is this file. The prints are synthetic
(benchmarks.synthetic): no person has these fingers. Everything lands in region/, and stays there to be seen.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.synthetic import archive

FOLDER = Path("region")
EXAMPLES = os.path.relpath(Path(__file__).parents[1] / "examples" / "policies")
LAWS = {"SLV": "restrictive", "HND": "reciprocal", "GTM": "humanitarian"}
SEEDS = {"SLV": 503, "HND": 504, "GTM": 502}
"""Seeds of the countries' fingers."""

FINGERS, IMPRESSIONS, WANTED = 8, 2, "005"
MARKS = "a4" * 32
"""Key of the marks of subjects in the logs. A real one is random, and nobody sees it."""

CASE = ["--purpose", "criminal_investigation", "--reason", "HOMICIDE", "--legal-basis", "treaty"]
SERIOUS = [*CASE, "--offence-class", "serious", "--ordering-officer", "judge-3", "--case", "HND-2026/114"]

out = Console(highlight=False)


def main() -> None:
    """Run the story from the project's root."""
    started = time.monotonic()
    for made in (*LAWS, "candidates"):  # never more than the story has made
        shutil.rmtree(FOLDER / made, ignore_errors=True)
    FOLDER.mkdir(exist_ok=True)
    addresses = _free_addresses()
    _authorities()
    _laws()
    probe = _galleries()
    _settings(addresses)
    with ExitStack() as running:
        nodes = {country: running.enter_context(_node(country, addresses)) for country in LAWS}
        own = _officer(addresses)
        answer = _search(own, probe)
        _refusal(own, probe)
        _confirmation(own, answer)
        _peer_down(own, probe, nodes["SLV"], running, addresses)
    _audit()
    out.rule("[bold]9. What you have seen")
    out.print(
        "Three countries, each under its own law. HND asked, SLV had the person, GTM does not answer police "
        "and did not even say so.\nAn examiner confirmed. Both sides logged it, and neither can rewrite its "
        "log unseen.\n"
        f"Logs, laws, certificates and prints: [bold]{FOLDER}/[/]. Time: {time.monotonic() - started:.0f} s."
    )


# ---- before the case


def _authorities() -> None:
    out.rule("[bold]1. Each country has an authority, and trusts the others'")
    for country in LAWS:
        _papilar("pki", "init", f"{FOLDER}/{country}", "--country", country)
    for country in LAWS:
        for other in set(LAWS) - {country}:
            shutil.copytree(FOLDER / other / "trust" / other, FOLDER / country / "trust" / other)
    out.print("Their trust lists went from hand to hand: ca.pem and revoked.pem of each, in trust/COUNTRY/.")
    _papilar("pki", "issue", f"{FOLDER}/HND", "user/officer/o12")
    _papilar("pki", "issue", f"{FOLDER}/HND", "user/examiner/e7")


def _laws() -> None:
    out.rule("[bold]2. Each country signs and installs its law")
    for country, law in LAWS.items():
        own = FOLDER / country
        _papilar("policy", "test", f"{EXAMPLES}/{law}", quiet=True)
        key = ["--key", f"{own}/law.key", "--cert", f"{own}/law.pem"]
        _papilar("policy", "pack", f"{EXAMPLES}/{law}", *key, "--output", f"{own}/1.law")
        place = ["--folder", f"{own}/laws", "--trust", f"{own}/trust", "--country", country]
        _papilar("policy", "install", f"{own}/1.law", *place)


def _galleries() -> Path:
    """Enrol each country's fingers; return a further impression of one that SLV has."""
    out.rule("[bold]3. Each country enrols its own synthetic fingers")
    for country, seed in SEEDS.items():
        spare = country == "SLV"
        folder = FOLDER / country / "archive"
        archive(folder, subjects=FINGERS, impressions=IMPRESSIONS + spare, seed=seed)
        if spare:
            probe = (folder / f"{WANTED}_{IMPRESSIONS + 1}.png").replace(FOLDER / "probe.png")
            for other in folder.glob(f"*_{IMPRESSIONS + 1}.png"):
                other.unlink()
        _papilar("enroll", str(folder), "--gallery", f"{FOLDER}/{country}/gallery", quiet=True)
    out.print(
        f"probe: a further impression of a finger of SLV, {probe}. HND has it from the scene of a crime."
    )
    return probe


def _settings(addresses: dict[str, tuple[str, str]]) -> None:
    for country, (users, peers) in addresses.items():
        own = FOLDER / country
        (own / "marks.key").touch(mode=0o600)
        (own / "marks.key").write_text(MARKS, encoding="ascii")
        others = "\n".join(f'{c} = ["{addresses[c][1]}"]' for c in sorted(set(LAWS) - {country}))
        (own / "node.toml").write_text(
            f'[node]\ngallery = "{own}/gallery"\nlisten = "{users}"\n\n'
            f'[tls]\ncertificate = "{own}/node.pem"\nkey = "{own}/node.key"\n\n'
            f'[users]\ncountry = "{country}"\ntrust = "{own}/trust"\nkey = "{own}/marks.key"\n\n'
            f'[peer]\ncountry = "{country}"\nlisten = "{peers}"\ncertificate = "{own}/node.pem"\n'
            f'key = "{own}/node.key"\nseal = "{own}/seal.pem"\nseal_key = "{own}/seal.key"\n'
            f'trust = "{own}/trust"\nlaw = "{own}/laws"\nmarks = "{own}/marks.key"\n'
            f'store = "{own}/exchange"\n\n'
            f'[peer.files]\ncriminal = "{own}/gallery"\n\n[region.peers]\n{others}\n',
            encoding="utf-8",
        )


# ---- the case


def _search(own: Sequence[str], probe: Path) -> dict[str, Any]:
    out.rule("[bold]4. An officer in HND asks the region")
    ask = ["region", "identify", str(probe), *SERIOUS, "--request-id", str(uuid.uuid4()), *own]
    _papilar(*ask, "--save", f"{FOLDER}/candidates", may_fail=True)
    out.print(
        "SLV's law permits it, and SLV has the finger. GTM's law is for families, and hides that it refused."
    )
    found: dict[str, Any] = _ask([*ask, "--json"])  # the same again: the same answer, and no second effect
    return found


def _refusal(own: Sequence[str], probe: Path) -> None:
    out.rule("[bold]5. The same question for a lesser offence")
    lesser = ["--offence-class", "less_serious", "--ordering-officer", "judge-3", "--case", "HND-2026/115"]
    _papilar("region", "identify", str(probe), *CASE, *lesser, "--country", "SLV", *own, may_fail=True)
    request = FOLDER / "request.json"
    request.write_text(json.dumps(_REQUEST, indent=2), encoding="utf-8")
    _papilar("policy", "explain", f"{EXAMPLES}/restrictive", str(request), may_fail=True)


def _confirmation(own: Sequence[str], found: dict[str, Any]) -> None:
    out.rule("[bold]6. An examiner compares, and confirms under her own signature")
    best = found["candidates"][0]
    marked = FOLDER / "marked.json"
    marked.write_text(json.dumps({"marked": "the correspondences that the examiner drew"}), encoding="utf-8")
    seal = ["--sign-cert", f"{FOLDER}/HND/user-e7-sign.pem", "--sign-key", f"{FOLDER}/HND/user-e7-sign.key"]
    words = ["--conclusion", "identification", "--marked", str(marked), "--count", "14", *seal]
    examiner = _as(own, "e7")
    place = [best["country"], found["request_id"], best["reference"]]
    _papilar("region", "confirm", *place, *words, "--receipt", f"{FOLDER}/receipt.bin", *examiner)
    out.print("The reference is used up: whoever tries it again learns nothing.")
    again = ["--receipt", f"{FOLDER}/second.bin"]
    _papilar("region", "confirm", *place, *words, *again, *examiner, may_fail=True)


def _peer_down(
    own: Sequence[str],
    probe: Path,
    node: "subprocess.Popen[bytes]",
    running: ExitStack,
    addresses: dict[str, tuple[str, str]],
) -> None:
    out.rule("[bold]7. A country is down: a named gap, and the search waits for it")
    node.terminate()
    node.wait(timeout=60)
    waiting = [*SERIOUS, "--keep-hours", "1", "--timeout", "8"]
    request = str(uuid.uuid4())
    _papilar("region", "identify", str(probe), *waiting, "--request-id", request, *own, may_fail=True)
    running.enter_context(_node("SLV", addresses))
    until = time.monotonic() + 90
    while time.monotonic() < until:
        late = _ask(["region", "answers", request, *own, "--json"])
        if any("answer" in one for one in late):
            break
        time.sleep(3)
    _papilar("region", "answers", request, *own, may_fail=True)


def _audit() -> None:
    out.rule("[bold]8. The logs")
    for country in LAWS:
        _papilar("audit", "verify", f"{FOLDER}/{country}/exchange")
    person = ["--subject", WANTED, "--key-file", f"{FOLDER}/SLV/marks.key"]
    out.print(
        "HND keeps the heads that the others signed; the disclosure of SLV is proven against one of its own:"
    )
    _papilar("audit", "heads", f"{FOLDER}/HND/exchange")
    _papilar("audit", "prove", f"{FOLDER}/SLV/exchange", "2")
    out.print("A citizen of SLV asks who asked about her:")
    _papilar("audit", "report", f"{FOLDER}/SLV/exchange", *person)
    month = ["--month", f"{datetime.now(UTC):%Y-%m}", "--whole", "--page", f"{FOLDER}/statistics.html"]
    _papilar("stats", f"{FOLDER}/SLV/exchange", "--country", "SLV", *month)
    _tamper()


def _tamper() -> None:
    """Change one byte of a copy of a log, and let it be found."""
    copy = FOLDER / "SLV" / "exchange-altered"
    shutil.copytree(FOLDER / "SLV" / "exchange", copy)
    file = copy / "papilar.sqlite3"
    data = bytearray(file.read_bytes())
    place = data.rfind(b'"outcome":"CANDIDATES"')
    data[place + 11 : place + 21] = b"NO_HIT____"
    file.write_bytes(data)
    out.print("In a copy of SLV's log somebody has made a hit a no-hit:")
    _papilar("audit", "verify", str(copy), may_fail=True)


_REQUEST = {
    "action": "search",
    "direction": "inbound",
    "peer": "HND",
    "roles": ["officer"],
    "files": ["criminal"],
    "purpose": "criminal_investigation",
    "offence_class": "less_serious",
    "legal_basis": "treaty",
    "search_type": "TP_TP",
    "ordering_officer": True,
}

# ---- processes


def _officer(addresses: dict[str, tuple[str, str]]) -> list[str]:
    """Return the options by which officer o12 calls the node of HND."""
    files = ["--tls-cert", f"{FOLDER}/HND/user-o12-tls.pem", "--tls-key", f"{FOLDER}/HND/user-o12-tls.key"]
    authority = ["--tls-ca", f"{FOLDER}/HND/ca.pem", "--tls-country", "HND"]
    return ["--node", addresses["HND"][0], *authority, *files]


def _as(own: Sequence[str], person: str) -> list[str]:
    return [part.replace("user-o12", f"user-{person}") for part in own]


def _papilar(*arguments: str, quiet: bool = False, may_fail: bool = False) -> None:
    """Show a command, run it, and end the story where it fails and may not."""
    out.print(f"[bold cyan]$ papilar {' '.join(arguments)}")
    # S603: the arguments are the constants above, and what the commands themselves answered.
    done = subprocess.run(  # noqa: S603
        _command(arguments), check=False, stdout=subprocess.DEVNULL if quiet else None
    )
    if done.returncode and not may_fail:
        sys.exit(f"papilar {arguments[0]} ended with code {done.returncode}")


def _ask(arguments: Sequence[str]) -> Any:
    """Run a command for what it says as JSON, without showing it."""
    done = subprocess.run(_command(arguments), check=False, capture_output=True)  # noqa: S603
    return json.loads(done.stdout or b"{}")


def _command(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "papilar", *arguments]


@contextmanager
def _node(country: str, addresses: dict[str, tuple[str, str]]) -> Iterator["subprocess.Popen[bytes]"]:
    """Serve a country's node until the block ends."""
    arguments = ["serve", "--config", f"{FOLDER}/{country}/node.toml"]
    out.print(f"[bold cyan]$ papilar {' '.join(arguments)} &")
    node = subprocess.Popen(_command(arguments))  # noqa: S603
    try:
        _wait_until_ready(node, addresses[country])
        yield node
    finally:
        node.terminate()
        node.wait(timeout=60)


def _free_addresses() -> dict[str, tuple[str, str]]:
    """Return a free port for users and one for peers, for each country."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(2 * len(LAWS))]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        ports = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    return {country: (ports[2 * k], ports[2 * k + 1]) for k, country in enumerate(LAWS)}


def _wait_until_ready(
    node: "subprocess.Popen[bytes]", address: tuple[str, str], patience: float = 90.0
) -> None:
    until = time.monotonic() + patience
    while time.monotonic() < until and node.poll() is None:
        with socket.socket() as port:
            host, number = address[1].rsplit(":", 1)
            if port.connect_ex((host, int(number))) == 0:
                return
        time.sleep(0.2)
    sys.exit("a node did not start; its message is above")


if __name__ == "__main__":
    main()
