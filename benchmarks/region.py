"""`make region`: three countries with three laws on one machine, and one case from the search to the audit.

Every step is a command that you can type; the story between them is this file. The prints are synthetic
(benchmarks.synthetic): no person has these fingers. Everything lands in region/, and stays there to be seen.
"""

import json
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.commands import Process, command, free_addresses, out, papilar, shown_node
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


def main() -> None:
    """Run the story from the project's root."""
    started = time.monotonic()
    for made in (*LAWS, "candidates"):  # never more than the story has made
        shutil.rmtree(FOLDER / made, ignore_errors=True)
    FOLDER.mkdir(exist_ok=True)
    ports = iter(free_addresses(2 * len(LAWS)))
    addresses = {country: (next(ports), next(ports)) for country in LAWS}  # for users, and for peers
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
        papilar("pki", "init", f"{FOLDER}/{country}", "--country", country)
    for country in LAWS:
        for other in set(LAWS) - {country}:
            shutil.copytree(FOLDER / other / "trust" / other, FOLDER / country / "trust" / other)
    out.print("Their trust lists went from hand to hand: ca.pem and revoked.pem of each, in trust/COUNTRY/.")
    papilar("pki", "issue", f"{FOLDER}/HND", "user/officer/o12")
    papilar("pki", "issue", f"{FOLDER}/HND", "user/examiner/e7")


def _laws() -> None:
    out.rule("[bold]2. Each country signs and installs its law")
    for country, law in LAWS.items():
        own = FOLDER / country
        papilar("policy", "test", f"{EXAMPLES}/{law}", quiet=True)
        key = ["--key", f"{own}/law.key", "--cert", f"{own}/law.pem"]
        papilar("policy", "pack", f"{EXAMPLES}/{law}", *key, "--output", f"{own}/1.law")
        place = ["--folder", f"{own}/laws", "--trust", f"{own}/trust", "--country", country]
        papilar("policy", "install", f"{own}/1.law", *place)


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
        papilar("enroll", str(folder), "--gallery", f"{FOLDER}/{country}/gallery", quiet=True)
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
    papilar(*ask, "--save", f"{FOLDER}/candidates", may_fail=True)
    out.print(
        "SLV's law permits it, and SLV has the finger. GTM's law is for families, and hides that it refused."
    )
    found: dict[str, Any] = _ask([*ask, "--json"])  # the same again: the same answer, and no second effect
    return found


def _refusal(own: Sequence[str], probe: Path) -> None:
    out.rule("[bold]5. The same question for a lesser offence")
    lesser = ["--offence-class", "less_serious", "--ordering-officer", "judge-3", "--case", "HND-2026/115"]
    papilar("region", "identify", str(probe), *CASE, *lesser, "--country", "SLV", *own, may_fail=True)
    request = FOLDER / "request.json"
    request.write_text(json.dumps(_REQUEST, indent=2), encoding="utf-8")
    papilar("policy", "explain", f"{EXAMPLES}/restrictive", str(request), may_fail=True)


def _confirmation(own: Sequence[str], found: dict[str, Any]) -> None:
    out.rule("[bold]6. An examiner compares, and confirms under her own signature")
    best = found["candidates"][0]
    marked = FOLDER / "marked.json"
    marked.write_text(json.dumps({"marked": "the correspondences that the examiner drew"}), encoding="utf-8")
    seal = ["--sign-cert", f"{FOLDER}/HND/user-e7-sign.pem", "--sign-key", f"{FOLDER}/HND/user-e7-sign.key"]
    words = ["--conclusion", "identification", "--marked", str(marked), "--count", "14", *seal]
    examiner = _as(own, "e7")
    place = [best["country"], found["request_id"], best["reference"]]
    papilar("region", "confirm", *place, *words, "--receipt", f"{FOLDER}/receipt.bin", *examiner)
    out.print("The reference is used up: whoever tries it again learns nothing.")
    again = ["--receipt", f"{FOLDER}/second.bin"]
    papilar("region", "confirm", *place, *words, *again, *examiner, may_fail=True)


def _peer_down(
    own: Sequence[str],
    probe: Path,
    node: Process,
    running: ExitStack,
    addresses: dict[str, tuple[str, str]],
) -> None:
    out.rule("[bold]7. A country is down: a named gap, and the search waits for it")
    node.terminate()
    node.wait(timeout=60)
    waiting = [*SERIOUS, "--keep-hours", "1", "--timeout", "8"]
    request = str(uuid.uuid4())
    papilar("region", "identify", str(probe), *waiting, "--request-id", request, *own, may_fail=True)
    running.enter_context(_node("SLV", addresses))
    until = time.monotonic() + 90
    while time.monotonic() < until:
        late = _ask(["region", "answers", request, *own, "--json"])
        if any("answer" in one for one in late):
            break
        time.sleep(3)
    papilar("region", "answers", request, *own, may_fail=True)


def _audit() -> None:
    out.rule("[bold]8. The logs")
    for country in LAWS:
        papilar("audit", "verify", f"{FOLDER}/{country}/exchange")
    person = ["--subject", WANTED, "--key-file", f"{FOLDER}/SLV/marks.key"]
    out.print(
        "HND keeps the heads that the others signed; the disclosure of SLV is proven against one of its own:"
    )
    papilar("audit", "heads", f"{FOLDER}/HND/exchange")
    papilar("audit", "prove", f"{FOLDER}/SLV/exchange", "2")
    out.print("A citizen of SLV asks who asked about her:")
    papilar("audit", "report", f"{FOLDER}/SLV/exchange", *person)
    month = ["--month", f"{datetime.now(UTC):%Y-%m}", "--whole", "--page", f"{FOLDER}/statistics.html"]
    papilar("stats", f"{FOLDER}/SLV/exchange", "--country", "SLV", *month)
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
    papilar("audit", "verify", str(copy), may_fail=True)


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


def _ask(arguments: Sequence[str]) -> Any:
    """Run a command for what it says as JSON, without showing it."""
    done = subprocess.run(command(*arguments), check=False, capture_output=True)  # noqa: S603
    return json.loads(done.stdout or b"{}")


def _node(country: str, addresses: dict[str, tuple[str, str]]) -> AbstractContextManager[Process]:
    """Serve a country's node until the block ends."""
    return shown_node(addresses[country][1], "--config", f"{FOLDER}/{country}/node.toml")


if __name__ == "__main__":
    main()
