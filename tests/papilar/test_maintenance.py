"""Re-extraction at a running node and from the command line, and the care of originals."""

import io
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import grpc
import numpy as np
import pytest
from nodes import ROOT, as_png, image_of, picture, refusal
from PIL import Image
from reextractions import FEWER, MINUTIAE, minutiae, old_gallery, opened, present
from typer.testing import CliRunner

from papilar.api.v1 import maintenance_pb2, maintenance_pb2_grpc
from papilar.cli import app
from papilar.config import NodeConfig, OriginalsConfig, load_config
from papilar.errors import ConfigInvalid
from papilar.maintenance_client import MaintenanceClient
from papilar.maintenance_server import maintenance_service, to_reextraction
from papilar.node import Node
from papilar.originals import originals_of
from papilar.prints import read_prints
from papilar.reextraction import Job, Reextraction, Report, State
from papilar.requests import Enrolled, Enrollment, PrintInput
from papilar.server import NodeServer

KEY = bytes(32).hex()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Settings of a node that keeps originals, under the key of `reextractions`."""
    (tmp_path / "originals.key").write_text(KEY)
    (tmp_path / "originals.key").chmod(0o600)
    path = tmp_path / "node.toml"
    path.write_text(
        f'[node]\ngallery = "{tmp_path}/gallery"\nlisten = "127.0.0.1:0"\n'
        f'[originals]\nurl = "{tmp_path}/originals"\nkey_file = "{tmp_path}/originals.key"\n'
    )
    return path


def opening(config: Path) -> Node:
    settings = load_config(config)
    return Node(settings.gallery, create=True, originals=originals_of(settings.originals))


class TestSettings:
    def test_originals(self, config: Path, tmp_path: Path) -> None:
        kept = load_config(config).originals
        assert kept == OriginalsConfig(tmp_path / "originals.key", f"{tmp_path}/originals")
        assert f"{tmp_path}/originals'" not in repr(kept), "a URL may hold a password"
        assert load_config(None, gallery=tmp_path).originals is None

    @pytest.mark.parametrize("text", ['url = "x"', 'key_file = "x"', 'url = "x"\nkey_file = "x"\nkeys = 1'])
    def test_what_is_none(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "bad.toml"
        path.write_text(f'[node]\ngallery = "g"\n[originals]\n{text}\n')
        with pytest.raises(ConfigInvalid, match="originals"):
            load_config(path)


@contextmanager
def serving(folder: Path, url: str) -> Iterator[tuple[Node, str]]:
    """Serve a gallery with the stand-in of `reextractions` for its extractor."""
    node = Node(folder, read=present, originals=partial(opened, url))

    @contextmanager
    def make(threads: int) -> Iterator[Reextraction]:
        yield node.reextraction(present, threads=threads)

    job = Job(make)
    server = NodeServer(node, NodeConfig(folder, listen="127.0.0.1:0"), services=[maintenance_service(job)])
    server.start()
    try:
        yield node, f"127.0.0.1:{server.port}"
    finally:
        job.close()
        server.stop()


class TestAtARunningNode:
    def test_it_is_started_and_asked_about(self, tmp_path: Path) -> None:
        url = str(tmp_path / "originals")
        old_gallery(tmp_path / "gallery", url, 1, 2, 3)
        with serving(tmp_path / "gallery", url) as (node, address):
            with MaintenanceClient(address) as client:
                assert client.reextraction().state == maintenance_pb2.REEXTRACTION_STATE_UNSPECIFIED
            assert set(minutiae(node).values()) == {FEWER}
            done = CliRunner().invoke(app, ["reextract", "--node", address, "--json"])
            assert done.exit_code == 0, done.output
            told = json.loads(done.output)
            assert (told["state"], int(told["done"])) == ("DONE", 3)
            assert set(minutiae(node).values()) == {MINUTIAE}

    def test_requests_that_are_none(self, tmp_path: Path) -> None:
        old_gallery(tmp_path / "gallery", "memory://none", 1)
        with (
            serving(tmp_path / "gallery", "memory://none") as (_, address),
            grpc.insecure_channel(address) as channel,
        ):
            stub = maintenance_pb2_grpc.MaintenanceServiceStub(channel)
            many = maintenance_pb2.StartReextractionRequest(workers=257)
            assert refusal(stub.StartReextraction, many).reason == "REQUEST_INVALID"
            other = maintenance_pb2.GetReextractionRequest(gallery="other")
            assert refusal(stub.GetReextraction, other).reason == "GALLERY_UNKNOWN"

    @pytest.mark.parametrize("state", State)
    def test_every_state_has_its_word(self, state: State) -> None:
        said = to_reextraction(Report(state, "x", 5, 3, {"TOO_POOR": 2}, "STORAGE_FULL"))
        name = maintenance_pb2.ReextractionState.Name(said.state).removeprefix("REEXTRACTION_STATE_")
        assert name == ("UNSPECIFIED" if state is State.NONE else state)
        assert (said.prints, said.done, dict(said.failed)) == (5, 3, {"TOO_POOR": 2})

    def test_the_node_that_is_served_offers_it(self, config: Path, tmp_path: Path) -> None:
        with opening(config) as node:
            node.enroll(Enrollment((image_of(1),), subject_id="s"))
        with subprocess.Popen(
            [sys.executable, "-m", "papilar", "serve", "--config", str(config)],
            stderr=subprocess.PIPE,
            cwd=ROOT,
            text=True,
        ) as process:
            try:
                assert process.stderr is not None
                address = _address(process.stderr)
                with MaintenanceClient(address) as client:
                    started = client.start_reextraction(1)
                    assert (started.state, started.error_reason) == (1, "")
            finally:
                process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0, "a re-extraction under way does not hold up the end"


def _address(lines: Iterator[str]) -> str:
    for line in lines:
        for word in line.split():
            if word.startswith("127.0.0.1:"):
                return word.rstrip(",;.")
    raise AssertionError("it did not say where it listens")


class TestCommands:
    @pytest.fixture
    def enrolled(self, config: Path) -> Enrolled:
        with opening(config) as node:
            done = node.enroll(Enrollment((image_of(1), image_of(2)), subject_id="s"))
        assert isinstance(done, Enrolled)
        return done

    def run(self, config: Path, *words: str, code: int = 0) -> str:
        done = CliRunner().invoke(app, [*words, "--config", str(config)])
        assert done.exit_code == code, (done.output, done.exception)
        return done.output

    def test_check_sweep_and_failures(self, config: Path, enrolled: Enrolled, tmp_path: Path) -> None:
        def check(code: int, *more: str) -> dict[str, object]:
            told: dict[str, object] = json.loads(
                self.run(config, "originals", "check", "--json", *more, code=code)
            )
            return told

        assert check(0) == {"sound": 2, "flaws": [], "of no print": 0}
        with opening(config) as node:
            assert check(0)["sound"] == 2, "the node may go on"
            assert node._originals is not None
            node._originals.put(b"left by a process that was killed")
        assert check(0)["of no print"] == 1
        assert "erased 1 originals" in self.run(config, "originals", "sweep")
        first, second = sorted(path for path in (tmp_path / "originals").rglob("*") if path.is_file())
        first.write_bytes(first.read_bytes()[:-1])
        second.unlink()
        assert len(check(1)["flaws"]) == 2  # type: ignore[arg-type]
        assert len(check(1, "--quick")["flaws"]) == 1  # type: ignore[arg-type]
        told = self.run(config, "reextract", "--json", code=3)
        assert json.loads(told)["failed"] == {"ORIGINAL_CORRUPT": "1", "ORIGINAL_MISSING": "1"}
        listed = json.loads(self.run(config, "originals", "failures", "--json"))
        assert {one["reason"] for one in listed} == {"ORIGINAL_CORRUPT", "ORIGINAL_MISSING"}
        assert {one["encounter"] for one in listed} == {enrolled.encounter_id}

    @pytest.mark.usefixtures("lasting_readers")
    def test_an_archive_goes_in_with_its_files(self, config: Path, tmp_path: Path) -> None:
        (tmp_path / "archive").mkdir()
        (tmp_path / "archive" / "a_1.png").write_bytes(picture(1))
        key, place = str(tmp_path / "originals.key"), str(tmp_path / "originals")
        words = [
            "enroll",
            str(tmp_path / "archive"),
            "--gallery",
            str(tmp_path / "gallery"),
            "--workers",
            "1",
        ]
        halves = CliRunner().invoke(app, [*words, "--originals", place])
        assert "by halves" in str(halves.exception)
        done = CliRunner().invoke(app, [*words, "--originals", place, "--originals-key", key])
        assert done.exit_code == 0, (done.output, done.exception)
        assert json.loads(self.run(config, "originals", "check", "--json"))["sound"] == 1

    def test_rekey(self, config: Path, enrolled: Enrolled, tmp_path: Path) -> None:
        new = bytes([7] * 32).hex()
        (tmp_path / "originals.key").write_text(f"{new}\n{KEY}\n")
        assert "encrypted 2 originals" in self.run(config, "originals", "rekey")
        (tmp_path / "originals.key").write_text(new)
        self.run(config, "originals", "check")
        assert "encrypted 0 originals" in self.run(config, "originals", "rekey")

    def test_without_originals(self, tmp_path: Path) -> None:
        path = tmp_path / "bare.toml"
        path.write_text(f'[node]\ngallery = "{tmp_path}/gallery"\n')
        Node(tmp_path / "gallery", create=True).close()
        done = CliRunner().invoke(app, ["originals", "check", "--config", str(path)])
        assert isinstance(done.exception, ConfigInvalid)

    @pytest.mark.parametrize("words", [(), ("--node", "127.0.0.1:1", "--gallery", "x")])
    def test_reextract_wants_one_gallery(self, words: tuple[str, ...]) -> None:
        done = CliRunner().invoke(app, ["reextract", *words])
        assert "no gallery to work on" in str(done.exception)


def test_the_resolution_that_a_caller_stated_is_used_again(tmp_path: Path) -> None:
    """Without it an image that states none could not be read again."""
    bare = as_png(np.asarray(Image.open(io.BytesIO(picture(1)))), ppi=None)
    make = partial(opened, str(tmp_path / "originals"))
    with Node(tmp_path / "gallery", create=True, keep_images=False, originals=make) as node:
        done = node.enroll(Enrollment((PrintInput(image=bare, ppi=500.0),)))
        assert isinstance(done, Enrolled)
        assert node.reextraction(read_prints, threads=1).run().done == 1
