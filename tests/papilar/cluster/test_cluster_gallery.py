"""A node on a real Ray cluster of this machine: parts are killed while it searches, enrols and deletes.

Nothing that was acknowledged is lost, nothing that was deleted comes back, and no answer is wrong: it is that
of one machine, or says which part was not searched.
"""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import postgresql as servers
import pytest
from nodes import a_person, best_of, image_of, search_for, seen_again

from papilar import cli
from papilar.client import NodeClient
from papilar.cluster.gallery import Cluster, ClusterGallery
from papilar.errors import GalleryIncomplete
from papilar.node import Node
from papilar.prints import read_prints
from papilar.requests import Enrolled, Enrollment, Identification

PARTS = 2


class Sited(NamedTuple):
    """A node and its gallery on the cluster."""

    node: Node
    gallery: ClusterGallery

    def enroll(self, seed: int, **more: Any) -> Enrolled:
        done = self.node.enroll(a_person(seed, seed + 1, subject=f"person {seed}", **more))
        assert isinstance(done, Enrolled)
        return done

    def search(self, seed: int) -> Identification:
        return self.node.identify([seen_again(seed)], mirrored=False)

    def whose(self, seed: int) -> list[str]:
        """Whom a search of the whole gallery names, with evidence for it."""
        found = self.search(seed)
        assert not found.failures
        return [c.subject for c in found.candidates if c.score > 3]

    def pid(self, part: int) -> int:
        return _pids(self.gallery)[part]

    def kill(self, part: int) -> None:
        os.kill(self.pid(part), signal.SIGKILL)

    def gaps(self) -> list[str]:
        return [keeper.standing[1] for keeper in self.gallery._keepers]

    def restored(self) -> bool:
        return within(180, lambda: not any(self.gaps()))

    def part_of(self, enrolled: Enrolled) -> int:
        row = self.node.encounter(enrolled.encounter_id).prints[0].row
        return self.gallery._register.division.find(row) or 0

    def rows_there(self) -> list[int]:
        """Rows that the parts themselves have."""
        found = [self.gallery._keepers[part] for part in range(PARTS)]
        return sorted(row for one in found for row in one.hear(one.send(one.actor, "rows")).tolist())


def _pids(gallery: ClusterGallery) -> list[int]:
    """Process of each part: the one that holds the lock of its folder writes its number there."""
    return [int((keeper._folder / "lock").read_text()) for keeper in gallery._keepers]


def within(seconds: float, condition: Callable[[], Any]) -> Any:
    """Wait for a condition."""
    until = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < until:
        time.sleep(0.005)
    return found


def sited(ray: Any, folder: Path, **how: Any) -> Sited:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("papilar.node.network", lambda: None)  # loaded when it is needed, if ever
        node = Node(folder, create=True, opening=Cluster(ray, PARTS).open, **how)
    return Sited(node, node._gallery)


@pytest.fixture(scope="module")
def here(ray: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sited]:
    made = sited(ray, tmp_path_factory.mktemp("cluster") / "gallery")
    with made.node:
        for seed in range(0, 40, 2):
            made.enroll(seed)
        made.search(0)  # kernels are compiled now, if they are at all
        yield made


# ---- as one machine


def test_it_answers_as_one_machine(here: Sited, tmp_path: Path) -> None:
    with Node(tmp_path / "one", create=True) as one:
        for seed in range(0, 40, 2):
            one.enroll(a_person(seed, seed + 1, subject=f"person {seed}"))
        for seeds in ([4], [7, 6], [999]):
            mine, theirs = (node.identify([seen_again(s) for s in seeds]) for node in (one, here.node))
            assert [(c.subject, c.score) for c in theirs.candidates] == [
                (c.subject, c.score) for c in mine.candidates
            ]
            assert (theirs.searched, theirs.compared) == (mine.searched, mine.compared)
            assert theirs.failures == ()
        again = [one.identify([seen_again(4)], evidence=True) for one in (one, here.node)]
        explained = [found.candidates[0].matches[0].evidence for found in again]
        assert explained[0].comparison.parts == explained[1].comparison.parts  # type: ignore[union-attr]


def test_what_is_enrolled_is_found_at_once_and_what_is_deleted_is_not(here: Sited) -> None:
    enrolled = here.enroll(100)
    assert here.whose(101) == ["person 100"]
    here.node.delete(enrolled.encounter_id)
    assert here.whose(101) == []
    assert here.rows_there() == here.node._store.live_rows().tolist()


def test_prints_of_an_encounter_lie_together_in_folders_of_their_owner(here: Sited) -> None:
    division = here.gallery._register.division
    for enrolled in (here.enroll(seed) for seed in (102, 104)):
        rows = [one.row for one in here.node.encounter(enrolled.encounter_id).prints]
        assert len({division.find(row) for row in rows}) == 1
        here.node.delete(enrolled.encounter_id)
    folders = [keeper._folder for keeper in here.gallery._keepers]
    assert [folder.name for folder in folders] == ["1-of-2", "2-of-2"]
    assert all(f.stat().st_mode & 0o777 == 0o700 for one in folders for f in (one, *one.parents[:2]))
    assert all(f.stat().st_mode & 0o777 == 0o600 for one in folders for f in one.iterdir())


# ---- killed


def test_killed_in_the_middle_of_searches(here: Sited) -> None:
    """Each answer is the whole one, or names the part and has what the others found."""
    wanted = {seed: here.search(seed) for seed in range(0, 40, 8)}
    answers: list[tuple[int, Identification]] = []
    stop = threading.Event()

    def search() -> None:
        while not stop.is_set():
            for seed in wanted:
                answers.append((seed, here.search(seed)))
                time.sleep(0.3 if any(here.gaps()) else 0)  # what begins again needs the processor, too

    searching = [threading.Thread(target=search) for _ in range(2)]
    for thread in searching:
        thread.start()
    for part in range(PARTS):
        wait_for = len(answers) + 4
        assert within(60, lambda n=wait_for: len(answers) > n)  # type: ignore[misc]
        here.kill(part)
        assert within(20, lambda: any(here.gaps()))
    assert here.restored()
    wait_for = len(answers) + 6
    assert within(60, lambda: len(answers) > wait_for)
    stop.set()
    for thread in searching:
        thread.join()
    partly = [found for _, found in answers if found.failures]
    assert partly
    for seed, found in answers:
        if found.failures:
            assert {failure.reason for failure in found.failures} == {"PART_LOST"}
            assert {failure.part for failure in found.failures} <= {"part 1 of 2", "part 2 of 2"}
            assert {(c.subject, c.score) for c in found.candidates} <= {
                (c.subject, c.score) for c in wanted[seed].candidates
            } or found.searched < wanted[seed].searched
        else:
            assert found.candidates == wanted[seed].candidates
            assert found.searched == wanted[seed].searched
    assert {f.part for found in partly for f in found.failures} == {"part 1 of 2", "part 2 of 2"}


def test_killed_in_the_middle_of_enrolments(here: Sited) -> None:
    """What was acknowledged is found, each part has what is its own, and nothing else."""
    done: list[Enrolled] = []

    def enroll() -> None:
        for seed in range(200, 240, 2):
            done.append(here.enroll(seed))
            time.sleep(0.05)

    enrolling = threading.Thread(target=enroll)
    enrolling.start()
    for part in range(PARTS):
        assert within(30, lambda n=part: len(done) > 2 + 8 * n)  # type: ignore[misc]
        here.kill(part)
    enrolling.join()
    assert len(done) == 20
    assert here.restored()
    assert here.rows_there() == here.node._store.live_rows().tolist()
    assert [here.whose(seed) for seed in (200, 201, 219, 238)] == [
        [f"person {seed}"] for seed in (200, 200, 218, 238)
    ]
    for enrolled in done:
        here.node.delete(enrolled.encounter_id)


def test_while_a_part_is_lost(here: Sited, monkeypatch: pytest.MonkeyPatch) -> None:
    gone, kept = here.enroll(300), here.enroll(302)
    part = here.part_of(gone)
    at = threading.Event()
    fill = type(here.gallery._keepers[part])._fill
    monkeypatch.setattr("papilar.cluster.keeper.Keeper._fill", lambda *a: at.wait(30) and fill(*a))
    here.kill(part)
    assert within(20, lambda: here.gaps()[part])
    here.node.delete(gone.encounter_id)
    new = next(one for one in map(here.enroll, range(304, 340, 2)) if here.part_of(one) == part)
    found = here.search(4)
    assert [(f.part, f.reason) for f in found.failures] == [(f"part {part + 1} of 2", "PART_LOST")]
    assert found.searched == len(here.gallery._register.rows_of(1 - part))
    with pytest.raises(GalleryIncomplete, match="part"):
        here.node.enroll(a_person(902, subject="someone", check_duplicates=True))
    checked = here.node.verify([seen_again(int(new.subject_id[7:]))], subject_id=new.subject_id)
    assert checked.reached, "the store has it"
    at.set()
    assert here.restored()
    assert here.rows_there() == here.node._store.live_rows().tolist()
    assert here.whose(int(new.subject_id[7:])) == [new.subject_id]
    assert here.whose(301) == []
    assert here.whose(302) == [kept.subject_id]


@pytest.mark.soak
def test_one_that_fails_at_a_change_is_restored(here: Sited, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has then is not known, and so it is not asked again."""
    before = _pids(here.gallery)
    keeper = here.gallery._keepers[0]
    keeper.change(keeper.send(keeper.actor, "add", "no number", None, None))
    assert here.restored()
    assert _pids(here.gallery)[0] != before[0]
    assert here.rows_there() == here.node._store.live_rows().tolist()


def test_ray_writes_of_nobody(here: Sited, ray: Any) -> None:
    enrolled = here.enroll(400)
    row = here.node.encounter(enrolled.encounter_id).prints[0]
    folder = Path(ray._private.worker._global_node.get_session_dir_path())
    written = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    assert any(b"papilar" in data for data in written)
    for private in (b"person 4", enrolled.encounter_id.encode(), row.template[40:60]):
        assert not [data for data in written if private in data]


@pytest.mark.soak
def test_damage_on_the_disk_of_a_part(ray: Any, tmp_path: Path) -> None:
    """It begins with nothing, and is given all."""
    with (made := sited(ray, tmp_path / "g")).node:
        for seed in range(2, 12, 2):
            made.enroll(seed)
        made.gallery.seal()
        before = _pids(made.gallery)
        for path in (tmp_path / "g").rglob("*.pps"):
            data = bytearray(path.read_bytes())
            data[len(data) // 2 :: 8] = bytes(len(data[len(data) // 2 :: 8]))
            path.write_bytes(data)
        with suppress(OSError):
            made.gallery.check()
        assert made.restored()
        assert not set(before) & set(_pids(made.gallery))
        assert [made.whose(seed) for seed in (3, 10)] == [["person 2"], ["person 10"]]


# ---- begun again


@pytest.mark.soak
def test_begun_again_it_opens_what_lies_there(ray: Any, tmp_path: Path) -> None:
    first = sited(ray, tmp_path / "g")
    with first.node:
        first.enroll(2)
    segments = sorted((tmp_path / "g/segments").rglob("*.pps"))
    times = [path.stat().st_mtime_ns for path in segments]
    with (again := sited(ray, tmp_path / "g")).node:
        assert again.whose(3) == ["person 2"]
        assert [path.stat().st_mtime_ns for path in segments] == times
    with Node(tmp_path / "g") as alone:
        assert [c.subject for c in alone.identify([seen_again(3)]).candidates] == ["person 2"]
        assert list((tmp_path / "g/segments").glob("*-of-*")) == []
    with (again := sited(ray, tmp_path / "g")).node:
        assert again.whose(3) == ["person 2"]
        assert not (tmp_path / "g/segments/manifest.json").exists()


@pytest.mark.soak
def test_extracted_anew(ray: Any, tmp_path: Path) -> None:
    """The new generation's parts take the place of the old ones; so they do when one is killed then."""
    with (made := sited(ray, tmp_path / "g")).node:
        for seed in (1, 2):
            made.node.enroll(Enrollment((image_of(seed),), subject_id=f"person {seed}"))
        before = _pids(made.gallery)
        report = made.node.reextraction(read_prints, threads=1).run()
        assert (report.state, report.done) == ("DONE", 2)
        assert {path.name for path in (tmp_path / "g").glob("segments*")} == {"segments.1"}
        assert not set(before) & set(_pids(made.gallery))
        made.kill(0)
        assert within(20, lambda: any(made.gaps()))
        assert made.restored()
        named = [made.node.identify([image_of(seed, 1)]).candidates[0].subject for seed in (1, 2)]
        assert named == ["person 1", "person 2"]
    with (made := sited(ray, tmp_path / "g")).node:
        assert made.node.identify([image_of(1, 1)]).candidates[0].subject == "person 1"


def test_on_postgresql(ray: Any, postgresql: servers.Server, tmp_path: Path) -> None:
    url = postgresql.new_place()
    with (first := sited(ray, tmp_path / "g", store=url)).node:
        enrolled = [first.enroll(seed) for seed in (2, 4, 6)]
        part = first.part_of(enrolled[0])
        for path in first.gallery._keepers[part]._folder.glob("segment-*"):
            path.unlink()
        first.kill(part)
        first.enroll(8)
        assert within(20, lambda: any(first.gaps())) or first.restored()
        assert first.restored()
        assert [first.whose(seed + 1) for seed in (2, 4, 6, 8)] == [
            [f"person {seed}"] for seed in (2, 4, 6, 8)
        ]
        assert np.array_equal(first.rows_there(), first.node._store.live_rows())


# ---- several machines, and the command

MACHINES = """
import sys, threading, time
from pathlib import Path
from papilar.config.environment import confine_ray
confine_ray()
from ray.cluster_utils import Cluster as Machines
import papilar.node
from nodes import a_person, seen_again
from papilar.cluster.gallery import cluster

papilar.node.network = lambda: None
small = {"object_store_memory": 80 << 20, "include_dashboard": False, "temp_dir": sys.argv[2]}
machines = Machines(initialize_head=True, head_node_args={"num_cpus": 0, **small})
kept, lost = (machines.add_node(num_cpus=2, **small) for _ in range(2))
with cluster(machines.address, 4) as there:
    with papilar.node.Node(Path(sys.argv[1]), create=True, opening=there.open) as node:
        for seed in range(0, 40, 2):
            node.enroll(a_person(seed, seed + 1, subject=f"person {seed}"))
        keepers = node._gallery._keepers
        stand = [keeper._stands.find(k).machine for k, keeper in enumerate(keepers)]
        machines.remove_node(lost, allow_graceful=False)
        gone = {f"part {k + 1} of 4" for k, one in enumerate(stand) if one == lost.node_id}
        found = node.identify([seen_again(4)])
        while not found.failures:
            found = node.identify([seen_again(4)])
        print('said:', len(gone), {failure.part for failure in found.failures} <= gone)
        node.enroll(a_person(100, subject="new"))
        until = time.monotonic() + 120
        while found.failures and time.monotonic() < until:
            time.sleep(0.2)
            found = node.identify([seen_again(4)])
        print('said:', found.failures, found.searched, found.candidates[0].subject)
        print('said:', {keeper._stands.find(k).machine for k, keeper in enumerate(keepers)} == {kept.node_id})
        print('said:', [node.identify([seen_again(s)]).candidates[0].subject for s in (100, 0, 39)])
machines.shutdown()
"""


@pytest.mark.soak
def test_parts_of_a_machine_that_is_lost_stand_elsewhere_then(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:  # a short path: Ray's sockets lie in it
        (Path(folder) / "ray").mkdir()  # Ray notes there who its latest head is
        done = subprocess.run(
            [sys.executable, "-c", MACHINES, str(tmp_path / "g"), f"{folder}/ray"],
            check=False,
            capture_output=True,
            text=True,
            env={**os.environ, "TMPDIR": folder, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
    assert done.returncode == 0, done.stderr[-3000:]
    said = [line.removeprefix("said: ") for line in done.stdout.splitlines() if line.startswith("said: ")]
    assert said == ["2 True", "() 41 person 4", "True", "['new', 'person 0', 'person 38']"]


@pytest.mark.soak
def test_the_command_serves_until_it_is_interrupted(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:  # as above
        command = [sys.executable, "-m", "papilar", "cluster", "up", "--local", "2", "--create"]
        process = subprocess.Popen(
            [*command, "--gallery", tmp_path / "g", "--listen", "127.0.0.1:0"],
            env={**os.environ, "TMPDIR": folder, "PYTHONPATH": os.pathsep.join(sys.path)},
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        )
        assert process.stderr is not None
        line = next(line for line in process.stderr if line.startswith("listening on"))
        address = line.split()[2]
        with NodeClient(address) as client:
            client.enroll(a_person(1, subject="one"))
            assert best_of(client.identify(search_for(seen_again(1)))) == "one"
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        process.communicate(timeout=60)
        assert process.returncode == 0
        assert list(Path(folder).glob("papilar-*")) == []
    with Node(tmp_path / "g") as alone:
        assert [c.subject for c in alone.identify([seen_again(1)]).candidates] == ["one"]


def test_the_command_wants_one_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for how in (
        [],
        ["--local", "2", "--address", "h:1", "--parts", "2"],
        ["--address", "h:1"],
        ["--parts", "2"],
    ):
        monkeypatch.setattr(sys, "argv", ["papilar", "cluster", "up", "--gallery", str(tmp_path), *how])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 2
