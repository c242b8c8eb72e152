"""Reading on a Ray cluster, a real one of this machine: it gives what a run without it gives."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from archives import held, record
from cards import four
from nodes import as_png, picture

from enroll.errors import ImageEmpty
from enroll.slap import Hand
from matcher.codecs import NATIVE, encode
from papilar import cli
from papilar.archive.cut import SheetInput, cut_sheet
from papilar.cluster import LOCAL, RayReaders
from papilar.cluster.connection import connected
from papilar.errors import ConfigInvalid, NodeError, NodeUnreachable, RequestInvalid, WorkerDied
from papilar.prints import read_prints
from papilar.requests import PrintInput

PRINT = PrintInput(image=picture(1))
SHEET = PrintInput(image=as_png(np.tile(np.uint8([0, 255]), (1400, 700))))
"""Takes seconds to read, and more memory than a process has in one of the runs."""

PERSON = "chalchiuhnenetzin"
"""Nobody else has this name, so it is found wherever it was written."""


@pytest.fixture(scope="module")
def before() -> set[str]:
    """Where this process listened before there was a Ray: other tests have servers."""
    return heard_elsewhere(os.getpid())


@pytest.fixture(scope="module")
def ray(before: set[str]) -> Iterator[Any]:
    """A cluster of four cores; whoever asks for a local one gets it."""
    environment = dict(os.environ)
    with connected(LOCAL, 4) as found:
        yield found
    os.environ.clear()
    os.environ.update(environment)


@pytest.fixture(scope="module")
def readers(ray: Any) -> Iterator[RayReaders]:
    with RayReaders(LOCAL, 1) as made:
        yield made


@pytest.fixture
def two(ray: Any) -> Iterator[RayReaders]:
    with RayReaders(LOCAL, 2) as made:
        within(60, lambda: made._ready.qsize() == 2)
        yield made


# ---- processes


def family(pid: int) -> dict[int, str]:
    """Processes that descend from one, by what they are called."""
    parents, names = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            names[int(folder.name)] = (folder / "cmdline").read_bytes().decode().replace("\0", " ").strip()
        except OSError:
            continue
        parents.setdefault(parent, []).append(int(folder.name))
    found: dict[int, str] = {}
    left = [*parents.get(pid, [])]
    while left:
        child = left.pop()
        found[child] = names[child]
        left += parents.get(child, [])
    return found


def actors(doing: str = "") -> list[int]:
    return [pid for pid, name in family(os.getpid()).items() if name.startswith(f"ray::_Reader{doing}")]


def within(seconds: float, condition: Callable[[], Any]) -> Any:
    """Wait for a condition."""
    until = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < until:
        time.sleep(0.02)
    return found


class Killer:
    """Kills actors while they read: as many as it is told to, one after the other."""

    def __init__(self, times: int, *, child: bool = False) -> None:
        self.killed: list[int] = []
        self._times, self._child = times, child
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        for _ in range(self._times):
            busy = within(60, lambda: set(actors(".answer")) - {*self.killed})
            time.sleep(0.2)
            (pid,) = [*busy][:1]
            if self._child:
                (pid,) = family(pid)
            self.killed.append(pid)
            os.kill(pid, signal.SIGKILL)

    def __enter__(self) -> "Killer":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._thread.join()


# ---- readers


def test_they_read_what_this_process_reads(readers: RayReaders) -> None:
    wanted = [PRINT, PrintInput(template=record(3))]
    mine, theirs = read_prints(wanted, keep_images=True), readers.read_prints(wanted, keep_images=True)
    assert [one.assessment for one in theirs] == [one.assessment for one in mine]
    assert [encode(one.template, NATIVE) for one in theirs] == [encode(one.template, NATIVE) for one in mine]
    assert [(one.sha256, one.png, one.warnings) for one in theirs] == [
        (one.sha256, one.png, one.warnings) for one in mine
    ]
    for a, b in zip(theirs, mine, strict=True):
        assert a.prepared.every.bits.tobytes() == b.prepared.every.bits.tobytes()


def test_they_cut_what_this_process_cuts(readers: RayReaders) -> None:
    given = SheetInput(image=as_png(four(Hand.RIGHT)), hand=Hand.RIGHT)
    assert readers.cut(given) == cut_sheet(given)


def test_their_errors_are_those_of_this_process(readers: RayReaders) -> None:
    with pytest.raises(ImageEmpty) as mine:
        read_prints([PRINT, PrintInput(image=b"")])
    with pytest.raises(ImageEmpty) as theirs:
        readers.read_prints([readers.prepare(PRINT)[0], PrintInput(image=b"")])
    assert str(theirs.value) == str(mine.value)


def test_a_print_that_kills_its_process_leaves_the_actor_alone(readers: RayReaders) -> None:
    before = set(actors())
    with Killer(1, child=True), pytest.raises(WorkerDied, match="status -9"):
        readers.prepare(SHEET)
    assert readers.prepare(PRINT)[1] == ()
    assert set(actors()) == before


@pytest.mark.soak
def test_what_an_actor_had_when_it_died_is_read_by_another(two: RayReaders) -> None:
    with Killer(1):
        ready, _ = two.prepare(SHEET)
    assert ready.image == SHEET.image
    assert within(60, lambda: two._ready.qsize() == 2)


@pytest.mark.soak
def test_a_print_that_two_actors_died_of_is_given_up(two: RayReaders) -> None:
    with Killer(2) as killer, pytest.raises(WorkerDied, match="2 machines or processes"):
        two.prepare(SHEET)
    assert len(set(killer.killed)) == 2
    assert two.prepare(PRINT)[1] == ()


@pytest.mark.soak
def test_those_that_died_idle_cost_no_print(two: RayReaders) -> None:
    for pid in actors():
        os.kill(pid, signal.SIGKILL)
    assert two.prepare(PRINT)[1] == ()


@pytest.mark.soak
def test_another_version_on_a_machine_is_refused(ray: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("papilar.cluster.reading.metadata.version", lambda name: "another")
    with RayReaders(LOCAL, 1) as readers:
        for _ in range(2):
            with pytest.raises(NodeError, match="this one another"):
                readers.prepare(PRINT)


MACHINES = """
import threading, time
from papilar.config.environment import confine_ray
confine_ray()
from ray.cluster_utils import Cluster
from papilar.cluster import reading
from papilar.errors import NodeError
from papilar.requests import PrintInput

given = PrintInput(image=open(sys.argv[1], "rb").read())
small = {"object_store_memory": 80 << 20, "include_dashboard": False, "temp_dir": sys.argv[2]}
machines = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **small})
lost = machines.add_node(num_cpus=2, **small)
with reading.RayReaders(machines.address) as readers:
    readers.check(given)
    kept = machines.add_node(num_cpus=2, **small)
    killer = threading.Timer(0.7, machines.remove_node, [lost, False])
    killer.start()
    print(readers.count, len(readers.prepare(given)[0].found.template) >= 0)
    killer.join()
    print(readers.check(given)[1])
    machines.remove_node(kept, allow_graceful=False)
    reading._PATIENCE = 5.0
    try:
        while True:  # an actor may outlive its machine for a moment
            readers.check(given)
    except NodeError as error:
        print(error.reason)
machines.shutdown()
"""


@pytest.mark.soak
def test_a_machine_that_is_lost_loses_no_print_and_the_last_one_ends_the_run(tmp_path: Path) -> None:
    (tmp_path / "sheet").write_bytes(SHEET.image or b"")
    with tempfile.TemporaryDirectory() as folder:  # a short path: Ray's sockets lie in it
        command = [sys.executable, "-c", "import sys" + MACHINES, str(tmp_path / "sheet"), folder]
        Path(folder, "ray").mkdir()  # where a head notes its address, and does not make the folder for it
        told = {**os.environ, "TMPDIR": folder}
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=told)
    said = done.stdout.splitlines()
    assert [line for line in said if line in {"2 True", "()", "NODE_FAILED"}] == [
        "2 True",
        "()",
        "NODE_FAILED",
    ]


@pytest.mark.soak
def test_a_cluster_of_one_run_is_gone_after_it_even_if_that_is_interrupted(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:  # as above
        prints = archive(tmp_path / "a")
        command = [sys.executable, "-m", "papilar", "enroll", prints, "--cluster", LOCAL, "--workers", "1"]
        process = subprocess.Popen(
            [*command, "--gallery", tmp_path / "g", "--receipt", tmp_path / "r"],
            env={**os.environ, "TMPDIR": folder},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            process_group=0,
        )
        assert within(120, lambda: any("Reader.answer" in name for name in family(process.pid).values()))
        started = family(process.pid)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        said = process.communicate()[1]
        assert list(Path(folder).glob("papilar-*")) == []
    assert (process.returncode, b"stopping" in said) == (1, True)
    assert "ENROLLED" in {line.get("result") for line in told(tmp_path / "r")}
    assert "WORKER_DIED" not in (tmp_path / "r").read_text()
    assert within(20, lambda: not [pid for pid in started if Path(f"/proc/{pid}").exists()])


# ---- the command


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Run the command in this process and give its exit code."""
    monkeypatch.setattr(sys, "argv", ["papilar", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def archive(folder: Path) -> Path:
    """Prints of two persons, one file that takes too much memory, one that is none, one copy."""
    for person in (PERSON, "itzel"):
        (folder / person).mkdir(parents=True)
    for number in (1, 2):
        (folder / PERSON / f"{number}_1.png").write_bytes(picture(number))
    (folder / PERSON / "4_1.png").write_bytes(SHEET.image or b"")
    (folder / PERSON / "5_1.png").write_bytes(picture(2))
    (folder / "itzel/1_1.png").write_bytes(picture(1, 1))
    (folder / "itzel/2_1.png").write_bytes(picture(2)[:-100])
    (folder / "itzel/3_1.png").write_bytes(b"GIF89a")
    return folder


def told(receipt: Path) -> list[dict[str, Any]]:
    """Lines of a receipt, without times, what follows from them, and numbers drawn by lot."""
    lines = [json.loads(line) for line in receipt.read_bytes().splitlines()]
    for line in lines:
        for name in ("begun", "ended", "root"):
            line.pop(name, None)
        line["encounter_id"] = bool(line.get("encounter_id"))
    return lines


def noted(gallery: Path) -> list[tuple[Any, ...]]:
    """What the journal says, likewise."""
    with closing(sqlite3.connect(gallery / "papilar.sqlite3")) as store:
        wanted = "source, name_key, name, subject_id, version, options, sha256, result, encounter_id != '',"
        query = f"SELECT {wanted} quality, minutiae, reason, message, warnings FROM archive_item"  # noqa: S608
        return sorted(store.execute(query).fetchall())


def test_a_run_on_a_cluster_ends_as_one_without_it_though_an_actor_is_killed(
    ray: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    prints = archive(tmp_path / "prints")
    for place, cluster in ((tmp_path / "here", []), (tmp_path / "there", ["--cluster", LOCAL])):
        how = ["--gallery", place / "g", "--receipt", place / "r", "--workers", 2, "--megabytes", 900]
        with Killer(len(cluster) // 2) as killer:
            assert run(monkeypatch, "enroll", prints, *how, *cluster) == 3
        assert len(killer.killed) == len(cluster) // 2
    here, there = tmp_path / "here", tmp_path / "there"
    assert told(there / "r") == told(here / "r")
    counts = told(there / "r")[-1]["counts"]
    assert counts == {"ENROLLED": 3, "FAILED": 3, "COPY": 1}
    assert {line.get("reason") for line in told(there / "r")} >= {"IMAGE_TOO_LARGE", "IMAGE_TRUNCATED"}
    assert noted(there / "g") == noted(here / "g")
    assert held(there / "g") == held(here / "g")


# ---- what others see of it


def test_ray_hears_this_machine_alone_and_writes_of_nobody(
    before: set[str], readers: RayReaders, ray: Any
) -> None:
    readers.prepare(PRINT)
    folder = Path(ray._private.worker._global_node.get_session_dir_path())
    assert folder.parents[1].stat().st_mode & 0o077 == 0
    written = [path for path in folder.rglob("*") if path.is_file()]
    assert any("raylet" in path.name for path in written)
    said = [path.read_bytes() for path in written]
    part = (PRINT.image or b"")[1000:1100]
    assert not [path for path, data in zip(written, said, strict=True) if PERSON.encode() in data]
    assert not [path for path, data in zip(written, said, strict=True) if part in data]
    assert heard_elsewhere(os.getpid()) <= before


def heard_elsewhere(pid: int) -> set[str]:
    """Addresses other than loopback at which a process and its family listen, as the kernel writes them."""
    sockets = set()
    for one in (pid, *family(pid)):
        for link in Path(f"/proc/{one}/fd").glob("*"):
            try:
                sockets.add(os.readlink(link))
            except OSError:
                continue
    rows = [
        row.split() for name in ("tcp", "tcp6") for row in Path(f"/proc/net/{name}").read_text().splitlines()
    ]
    listening = {row[1] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets}
    return {place for place in listening if not place.partition(":")[0].endswith("0100007F")}


def test_what_cannot_be_reached_is_said_at_once() -> None:
    with pytest.raises(NodeUnreachable, match=r"ConnectionRefused"):
        RayReaders("127.0.0.1:1")
    with pytest.raises(NodeUnreachable):
        RayReaders("ray://127.0.0.1:1")
    with pytest.raises(ConfigInvalid):
        RayReaders("anywhere")


def test_without_the_extra_the_remedy_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setattr("papilar.cluster.connection.confine_ray", lambda: None)
    with pytest.raises(RequestInvalid) as raised:
        RayReaders(LOCAL)
    assert raised.value.remedy == "pip install papilar[cluster]"
