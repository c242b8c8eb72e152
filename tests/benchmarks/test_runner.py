"""Folders, systems, run, report and download on tiny folders of noise with matchers that are no matchers."""

import csv
import hashlib
import http.server
import io
import json
import math
import sys
import threading
import types
import zipfile

import cv2
import needs
import numpy as np
import pytest
from minutiae import ridge_description
from typer.testing import CliRunner

from benchmarks import datasets, download, report, runner, systems
from benchmarks.__main__ import app
from enroll.errors import ImageTruncated, ResolutionUnknown
from matcher.calibration import Evidence, shipped
from matcher.codecs import decode
from matcher.errors import InvalidInput
from matcher.template import Template

FINGERS, IMPRESSIONS = 4, 3

COMMAND = """
import sys
for line in sys.stdin:
    probe, reference = (open(path, "rb").read() for path in line.rstrip("\\n").split("\\t"))
    assert probe.startswith(b"\\x89PNG")
    print(-abs(len(probe) - len(reference)), flush=True)
"""


def write_image(path, seed, size=(96, 96)):
    image = np.random.default_rng(seed).integers(256, size=size, dtype=np.uint8)
    assert cv2.imwrite(str(path), image)


def make_set(folder, fingers=FINGERS, impressions=IMPRESSIONS):
    folder.mkdir(parents=True)
    for finger in range(1, fingers + 1):
        for impression in range(1, impressions + 1):
            write_image(folder / f"{finger}_{impression}.png", 100 * finger + impression)
    return folder


class Fake:
    """Knows a print by its content: 1 for the same finger, less noise by impression."""

    concurrent = True
    in_process = True

    def __init__(self, folder, name="fake", fails=(), score=None):
        self.name = name
        self.known = {path.read_bytes(): path.stem for path in folder.rglob("*_*.*")}
        self.fails = fails
        self.score = score
        self.extracted = []
        self.compared = []
        self.closed = False

    def about(self):
        return {"fake": "1"}

    def extract(self, data, *, ppi):
        name = self.known[data]
        self.extracted.append((name, ppi))
        if name in self.fails:
            return None
        return name

    def compare(self, probe, reference):
        self.compared.append((probe, reference))
        if self.score is not None:
            return self.score
        (a, i), (b, j) = (name.split("_") for name in (probe, reference))
        return (a == b) + 0.01 * (int(i) + int(j))

    def close(self):
        self.closed = True


def scores_of(folder):
    with (folder / "scores.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture
def prints(tmp_path):
    return make_set(tmp_path / "data" / "FVC2002" / "Db2_b")


@pytest.fixture
def cli():
    return lambda *arguments: CliRunner().invoke(app, [str(each) for each in arguments])


# folders


def test_a_folder_is_a_set_and_its_resolution_is_known(prints):
    (found,), left_out = datasets.load(prints)
    assert (found.name, found.ppi, len(found.prints), left_out) == ("fvc2002-DB2_B", 569, 12, ())
    assert found.prints[0].name == "1_1"


def test_a_folder_of_folders_of_folders(prints):
    make_set(prints.parents[1] / "fvc2004" / "DB3_B")
    make_set(prints.parents[1] / "own")
    make_set(prints.parents[1] / "mates_only", fingers=1)
    sets, left_out = datasets.load(prints.parents[1])
    assert {each.name: each.ppi for each in sets} == {"fvc2002-DB2_B": 569, "fvc2004-DB3_B": 512, "own": None}
    assert left_out == ("mates_only",)
    assert {each.ppi for each in datasets.load(prints.parents[1], ppi=333).sets} == {333}


def test_below_the_named_folder_most_fingers_of_a_set_have_mates(tmp_path):
    make_set(tmp_path / "set")
    cards = make_set(tmp_path / "cards", fingers=5, impressions=1)
    write_image(cards / "1_2.png", 1)
    sets, left_out = datasets.load(tmp_path)
    assert [each.name for each in sets] == ["set"]
    assert left_out == ("cards",)
    assert [each.name for each in datasets.load(cards).sets] == ["cards"]


@pytest.mark.datasets
def test_the_folder_of_all_real_data_holds_the_eight_sets(datasets):
    from benchmarks.datasets import load

    sets, left_out = load(datasets)
    assert [each.name for each in sets] == [f"fvc{y}-DB{i}_B" for y in (2002, 2004) for i in (1, 2, 3, 4)]
    assert left_out == ("formats/rolled_cards",)


@pytest.mark.parametrize(
    ("path", "ppi"),
    [
        ("fvc2002/DB1_B", 500),
        ("fvc2002/DB2_A", 569),
        ("FVC2004/Dbs/Db3_a", 512),
        ("fvc2006/DB1_A", 250),
        ("fvc2006/DB2_B", 569),
        ("fvc2000/DB4_B", 500),
        ("elsewhere/DB2_B", None),
        ("fvc2002/DB5_B", None),
    ],
)
def test_resolutions_of_the_official_sets(tmp_path, path, ppi):
    assert datasets.resolution(tmp_path / path) == ppi


def test_equal_folder_names_get_their_parents(tmp_path):
    make_set(tmp_path / "a" / "x")
    make_set(tmp_path / "b" / "x")
    assert [each.name for each in datasets.load(tmp_path).sets] == ["a-x", "b-x"]


def test_finger_is_all_before_the_last_underscore_and_numbers_sort_as_numbers(tmp_path):
    for name in ("left_index_10.png", "left_index_9.png", "left_thumb_1.png", "_1.png", "a.png", "9_1.txt"):
        (tmp_path / name).touch()
    (found,), _ = datasets.load(tmp_path)
    assert [(each.finger, each.impression) for each in found.prints] == [
        ("left_index", "9"),
        ("left_index", "10"),
        ("left_thumb", "1"),
    ]


def test_a_print_in_two_files_is_refused(prints):
    (prints / "1_1.bmp").touch()
    with pytest.raises(InvalidInput, match="2 files of print 1_1"):
        datasets.load(prints)


def test_digest_is_that_of_sha256sum(tmp_path):
    lines = ""
    for name in ("a_1", "a_2"):
        (tmp_path / name).write_text(name)
        lines += f"{hashlib.sha256(name.encode()).hexdigest()}  {name}\n"
    assert datasets.digest(tmp_path.iterdir()) == hashlib.sha256(lines.encode()).hexdigest()


@pytest.mark.datasets
@pytest.mark.parametrize("name", ["fvc2002", "fvc2004"])
def test_the_real_sets_have_the_protocols_pairs_and_the_known_bytes(datasets, name):
    from benchmarks.datasets import KNOWN, digest, load

    sets = load(datasets / name).sets
    assert [each.name for each in sets] == [f"{name}-DB{i}_B" for i in (1, 2, 3, 4)]
    for each, db in zip(sets, ("DB1", "DB2", "DB3", "DB4"), strict=True):
        pairs = [each.prints[i].finger == each.prints[j].finger for i, j in runner.pairs(len(each.prints))]
        assert (sum(pairs), len(pairs) - sum(pairs)) == (280, 2880)
        assert digest(item.path for item in each.prints) == KNOWN[name, db].digest


# run


@pytest.mark.parametrize("workers", [1, 3])
def test_every_unordered_pair_once(prints, tmp_path, workers):
    fake = Fake(prints)
    runner.run(datasets.load(prints).sets, [fake], tmp_path / "out", workers=workers)
    rows = scores_of(tmp_path / "out" / "fvc2002-DB2_B" / "fake")
    assert len(rows) == len({frozenset((row["probe"], row["reference"])) for row in rows}) == 66
    assert sum(row["mated"] == "1" for row in rows) == FINGERS * 3
    assert float(rows[0]["score"]) == 1.03
    assert {ppi for _, ppi in fake.extracted} == {569}
    assert len(fake.extracted) == 12


def test_a_failure_to_enrol_is_counted_and_scores_the_minimum(prints, tmp_path):
    runner.run(datasets.load(prints).sets, [Fake(prints, fails=("2_1",))], tmp_path / "out")
    folder = tmp_path / "out" / "fvc2002-DB2_B" / "fake"
    run = json.loads((folder / "run.json").read_text())
    assert run["failures_to_enrol"] == [{"print": "2_1", "reason": "REJECTED"}]
    assert run["comparison_seconds"]["count"] == 66 - 11
    failed = [row for row in scores_of(folder) if "2_1" in (row["probe"], row["reference"])]
    assert len(failed) == 11
    assert {row["score"] for row in failed} == {"-inf"}


def test_evidence_is_kept_beside_where_a_system_has_it(prints, tmp_path):
    class Evident(Fake):
        def evidence(self, probe, reference):
            ridges = None if "1_1" in (probe, reference) else 1 / 3
            return Evidence(10 * super().compare(probe, reference), 0.5, 7.0, ridges, 12)

    evident = Evident(prints, fails=("2_1",))
    runner.run(datasets.load(prints).sets, [evident, Fake(prints, "bare")], tmp_path)
    folder = tmp_path / "fvc2002-DB2_B" / "fake"
    with (folder / "evidence.csv").open() as file:
        found = list(csv.DictReader(file))
    assert list(found[0]) == ["probe", "reference", "mated", *Evidence._fields]
    for row, other in zip(scores_of(folder), found, strict=True):
        assert [row[key] for key in ("probe", "reference", "mated")] == list(other.values())[:3]
        assert float(other["structure"]) == pytest.approx(10 * float(row["score"]))
        bare = {"1_1", "2_1"} & {other["probe"], other["reference"]}
        assert other["ridges"] == ("" if bare else repr(1 / 3)), "every digit, or nothing"
    digest = hashlib.sha256((folder / "evidence.csv").read_bytes()).hexdigest()
    assert json.loads((folder / "run.json").read_text())["evidence_digest"] == digest
    assert not (tmp_path / "fvc2002-DB2_B" / "bare" / "evidence.csv").exists()


def test_a_damaged_file_is_a_failure_to_enrol(prints, tmp_path):
    class Damaged(Fake):
        def extract(self, data, *, ppi):
            if self.known[data] == "1_2":
                raise ImageTruncated("it ends early", remedy="copy it again")
            return super().extract(data, ppi=ppi)

    runner.run(datasets.load(prints).sets, [Damaged(prints)], tmp_path / "out")
    run = json.loads((tmp_path / "out" / "fvc2002-DB2_B" / "fake" / "run.json").read_text())
    assert run["failures_to_enrol"] == [{"print": "1_2", "reason": "IMAGE_TRUNCATED"}]


@pytest.mark.parametrize("workers", [1, 2])
def test_an_unknown_resolution_stops_the_run_and_names_the_option(prints, tmp_path, workers):
    class Unknowing(Fake):
        def extract(self, data, *, ppi):
            raise ResolutionUnknown("no resolution", remedy="give one")

    with pytest.raises(InvalidInput, match="--ppi"):
        runner.run(datasets.load(prints).sets, [Unknowing(prints)], tmp_path / "out", workers=workers)
    assert not list((tmp_path / "out").glob("*/*/*"))


def test_a_bug_of_a_system_is_not_taken_for_a_score(prints, tmp_path):
    with pytest.raises(RuntimeError, match="NaN"):
        runner.run(datasets.load(prints).sets, [Fake(prints, score=math.nan)], tmp_path / "out")


def test_environment_says_what_a_reader_needs():
    found = runner.environment()
    assert found["python"].startswith("3.")
    assert found["cores"] >= 1
    assert found["cpu"]
    assert "numpy" in found["packages"]
    json.dumps(found)


def test_atomic_write_keeps_the_old_file_when_it_fails(tmp_path):
    runner.write_atomic(tmp_path / "a" / "file", "old")
    with pytest.raises(UnicodeEncodeError):
        runner.write_atomic(tmp_path / "a" / "file", "\ud800")
    assert [path.read_text() for path in (tmp_path / "a").iterdir()] == ["old"]


# report


@pytest.fixture
def results(prints, tmp_path):
    make_set(prints.parents[1] / "own")
    good, bad = Fake(prints, name="good", fails=("2_1",)), Fake(prints, name="bad", score=0.0)
    for fake in (good, bad):
        fake.known |= {path.read_bytes(): path.stem for path in prints.parents[1].rglob("*_*.png")}
    runner.run(datasets.load(prints.parents[1]).sets, [good, bad], tmp_path / "out")
    return tmp_path / "out"


def test_report_by_set_macro_and_pooled(results):
    figures = report.build(report.load(results), replicates=50)
    assert set(figures["sets"]) == {"fvc2002-DB2_B", "own"}
    for group in (*figures["sets"].values(), figures["macro"], figures["pooled"]):
        assert group["bad"]["eer"]["value"] == 0.5
        assert group["good"]["zero_fmr"]["value"] == pytest.approx(2 / 12)  # 2 of 12 mated pairs hold 2_1
        assert group["good"]["fvc_eer"]["low"] <= group["good"]["fvc_eer"]["high"]
        assert group["good"]["fmr100"] == {"value": None, "low": None, "high": None, "measurable": False} or (
            group is figures["pooled"]
        )
    assert figures["pooled"]["good"]["pairs"] == {"mated": 24, "nonmated": 108, "fvc_nonmated": 12}
    assert figures["pooled"]["good"]["fmr100"]["measurable"]  # 108 pairs can measure 1 %
    assert figures["macro"]["good"]["failures_to_enrol"] == 2
    assert figures["macro"]["good"]["sets"] == ["fvc2002-DB2_B", "own"]
    assert figures["macro"]["good"]["comparison_seconds"] > 0


def test_report_repeats_by_seed(results):
    found = report.load(results)
    assert report.build(found, replicates=30, seed=1) == report.build(found, replicates=30, seed=1)
    assert report.build(found, replicates=0)["macro"]["good"]["eer"]["low"] is None


def test_first_impressions_are_the_lowest_number(tmp_path):
    make_set(tmp_path / "x", fingers=2, impressions=2)
    for finger in (1, 2):
        (tmp_path / "x" / f"{finger}_1.png").rename(tmp_path / "x" / f"{finger}_10.png")
    runner.run(datasets.load(tmp_path / "x", ppi=500).sets, [Fake(tmp_path / "x")], tmp_path / "out")
    result = report.load(tmp_path / "out")["x"]["fake"]
    assert result.fvc.nonmated.tolist() == [0.04]  # 1_2 against 2_2
    assert len(result.fvc.mated) == len(result.scores.mated) == 2


@pytest.mark.parametrize(("name", "content"), [("scores.csv", "{"), ("run.json", "{"), ("run.json", "[]")])
@pytest.mark.parametrize("gone", [False, True])
def test_damaged_results_are_refused(results, name, content, gone):
    (results / "own" / "good" / name).write_text(content)
    if gone:
        (results / "own" / "good" / "scores.csv").unlink()
    with pytest.raises(InvalidInput, match="run the set and system again"):
        report.load(results)


# systems


@pytest.fixture
def command(tmp_path):
    script = tmp_path / "matcher.py"
    script.write_text(COMMAND)
    return f"{sys.executable} {script}"


def test_a_command_is_a_system(prints, tmp_path, command):
    name, maker = systems.parse_command(f"mine={command}")
    (made,) = systems.make([name], {name: maker})
    runner.run(datasets.load(prints).sets, [made], tmp_path / "out", workers=4)
    made.close()
    rows = scores_of(tmp_path / "out" / "fvc2002-DB2_B" / "mine")
    assert len(rows) == 66
    assert all(float(row["score"]) <= 0 for row in rows)
    run = json.loads((tmp_path / "out" / "fvc2002-DB2_B" / "mine" / "run.json").read_text())
    assert run["clock"] == "wall"


@pytest.mark.parametrize("program", ["pass", "print('none', flush=True)", "print('nan', flush=True)"])
def test_a_command_that_gives_no_score_is_an_error(program):
    made = systems.CommandSystem("mine", f'{sys.executable} -c "{program}; input()"')
    with pytest.raises(InvalidInput, match="one number"):
        made.compare("a", "b")
    made.close()


def test_a_command_that_is_none_is_an_error():
    with pytest.raises(InvalidInput, match="cannot start"):
        systems.CommandSystem("mine", "/nonexistent/matcher")


@pytest.mark.parametrize("text", ["", "mine", "mine=", "=true", "a/b=true", "mine:raw=true"])
def test_a_command_needs_a_name_and_a_command(text):
    with pytest.raises(InvalidInput):
        systems.parse_command(text)


@pytest.fixture
def pipeline(monkeypatch):
    """Stand in for the extraction: ten minutiae, or a rejection of what is all white."""

    def extract(image):
        points = np.stack([np.arange(10, 60, 5), np.arange(10, 60, 5)], axis=1)
        numbers = np.zeros(10), np.ones(10), np.full(10, 50)
        template = Template.of(points, *numbers, size=(96, 96), ridges=ridge_description(1))
        return types.SimpleNamespace(rejected=bool((image.pixels == 255).all()), template=template)

    monkeypatch.setattr(systems, "extract", extract)


def test_papilar_rejects_as_its_pipeline_does(pipeline, prints):
    _, white = cv2.imencode(".png", np.full((96, 96), 255, np.uint8))
    papilar = systems.Papilar()
    assert papilar.extract(white.tobytes(), ppi=500) is None
    one = papilar.extract((prints / "1_1.png").read_bytes(), ppi=500)
    assert math.isfinite(papilar.compare(one, one))
    assert papilar.compare(one, one) == shipped().llr(papilar.evidence(one, one))
    assert papilar.evidence(one, one).ridges is not None


def test_papilar_through_iso_records_has_minutiae_alone(pipeline, prints):
    _, white = cv2.imencode(".png", np.full((96, 96), 255, np.uint8))
    system, (iso,) = systems.Papilar(), systems.make(["papilar-iso"])
    assert iso.extract(white.tobytes(), ppi=500) is None
    data = (prints / "1_1.png").read_bytes()
    whole, bare = system.extract(data, ppi=500), iso.extract(data, ppi=500)
    assert len(whole.ridges) > 0 == len(bare.ridges)
    assert len(bare.pose) == len(whole.pose) == 10
    found = iso.evidence(bare, bare)
    assert found.ridges is None
    assert iso.compare(bare, bare) == shipped().llr(found)
    assert {part.name for part in shipped().parts(found)} == {"structure", "share"}
    assert isinstance(iso, systems.EvidentSystem)
    assert (iso.name, set(iso.about())) == ("papilar-iso", {"papilar", "calibration"})


def test_a_command_can_ask_for_templates(pipeline, prints):
    program = "for line in iter(input, None): print(len(open(line.split()[0], 'rb').read()), flush=True)"
    _, maker = systems.parse_command(f'mine:iso={sys.executable} -c "{program}"')
    made = maker()
    path = made.extract((prints / "1_1.png").read_bytes(), ppi=500)
    assert len(decode(path.read_bytes())[0]) == 10
    assert made.compare(path, path) == path.stat().st_size
    made.close()
    assert not path.exists()


@pytest.mark.parametrize("names", [[], ["none"], ["nbis", "nbis"]])
def test_system_names_are_checked(names):
    with pytest.raises(InvalidInput, match="name each once"):
        systems.make(names)


@needs.NBIS
@pytest.mark.datasets
def test_nbis_tells_mates_from_others(datasets):
    nbis = systems.Nbis()
    folder = datasets / "fvc2002" / "DB1_B"
    names = ("101_1", "101_2", "102_1")
    one, mate, other = (nbis.extract((folder / f"{name}.tif").read_bytes(), ppi=500) for name in names)
    assert nbis.compare(one, mate) > 40 > 20 > nbis.compare(one, other)
    assert nbis.compare(one, mate) == nbis.compare(mate, one)


@needs.NBIS
def test_nbis_cannot_enrol_a_blank_image():
    _, blank = cv2.imencode(".png", np.full((200, 200), 255, np.uint8))
    assert systems.Nbis().extract(blank.tobytes(), ppi=500) is None


# command line


def test_run_and_report_from_the_command_line(prints, tmp_path, monkeypatch, cli):
    fake = Fake(prints, fails=("1_3",))
    monkeypatch.setitem(systems.SYSTEMS, "fake", lambda: fake)
    out, figures = tmp_path / "out", tmp_path / "figures.json"
    done = cli("run", "fvc", "--data", prints, "--out", out, "--systems", "fake", "--workers", "2")
    assert done.exit_code == 0, done.output
    assert fake.closed
    done = cli("report", out, "--json", figures, "--replicates", "20")
    assert done.exit_code == 0, done.output
    assert "FMR1000" in done.output
    assert "1/12" in done.output
    found = json.loads(figures.read_text())
    assert found["environment"]["python"]
    assert found["macro"]["fake"]["failures_to_enrol"] == 1
    assert (out / "det-macro.png").stat().st_size > 1000
    assert (out / "fvc2002-DB2_B" / "det.png").exists()


def test_ppi_option_is_over_what_is_known(prints, tmp_path, monkeypatch, cli):
    fake = Fake(prints)
    monkeypatch.setitem(systems.SYSTEMS, "fake", lambda: fake)
    done = cli("run", "fvc", "--data", prints, "--out", tmp_path / "o", "--systems", "fake", "--ppi", "512")
    assert done.exit_code == 0
    assert {ppi for _, ppi in fake.extracted} == {512}


WRONG = {
    "missing": [],
    "file": [],
    "empty": [],
    "no pairs": [],
    "no mates": [],
    "ppi": ["--ppi", "0"],
    "system": ["--systems", "x"],
    "workers": ["--workers", "0"],
    "command": ["--command", "x"],
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_arguments_end_with_2_and_a_reason(prints, tmp_path, monkeypatch, cli, wrong):
    monkeypatch.setitem(systems.SYSTEMS, "fake", lambda: Fake(prints))
    data = tmp_path / wrong
    if wrong == "file":
        data.write_text("")
    elif wrong == "empty":
        data.mkdir()
    elif wrong == "no pairs":
        make_set(data, fingers=1)
    elif wrong == "no mates":
        make_set(data, impressions=1)
    elif wrong != "missing":
        data = prints
    out = tmp_path / "out"
    done = cli("run", "fvc", "--data", data, "--out", out, "--systems", "fake", *WRONG[wrong])
    assert done.exit_code == 2
    assert "error: " in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("wrong", ["missing", "empty", "damaged"])
def test_report_on_a_wrong_folder_ends_with_2(tmp_path, cli, wrong):
    folder = tmp_path / "results"
    if wrong != "missing":
        folder.mkdir()
    if wrong == "damaged":
        (folder / "a" / "b").mkdir(parents=True)
        (folder / "a" / "b" / "run.json").write_text("[]")
    done = cli("report", folder)
    assert done.exit_code == 2
    assert "error: " in done.stderr


# download


@pytest.fixture(scope="module")
def archive():
    """A zip of 80 images with the size of FVC2000 DB1, a set of which no digest is known."""
    _, image = cv2.imencode(".tif", np.full((300, 300), 200, np.uint8))
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for finger in range(101, 111):
            for impression in range(1, 9):
                file.writestr(f"DB1_B/{finger}_{impression}.tif", image.tobytes())
        file.writestr("../../outside_1.tif", "never written")
        file.writestr("../../../7_7.txt", "never written")
    return content.getvalue()


@pytest.fixture
def server(archive):
    """Serve `served.content` on the loopback; honours ranges and keeps the requests' ranges."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked = self.headers.get("Range")
            served.ranges.append(asked)
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
            body = served.content[start:]
            found = self.path == "/fvc2000/Downloads/DB1_B.zip"
            self.send_response((416 if asked and not body else 206 if asked else 200) if found else 404)
            self.send_header("Content-Length", str(len(body) if found else 0))
            self.end_headers()
            self.wfile.write(body[: served.cut] if found else b"")

        def log_message(self, *arguments):
            pass

    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.content, served.cut, served.ranges = archive, None, []
    thread = threading.Thread(target=served.serve_forever, args=(0.01,))
    thread.start()
    yield served
    served.shutdown()
    thread.join()
    served.server_close()


def fetch(server, into, name="fvc2000-DB1_B"):
    return download.download(name, into, host=f"http://127.0.0.1:{server.server_port}")


def test_download_checks_unpacks_and_keeps_what_is_there(server, tmp_path):
    folder = fetch(server, tmp_path / "sets")
    assert len(list(folder.iterdir())) == 80
    assert sorted(path.name for path in (tmp_path / "sets").iterdir()) == ["fvc2000"]
    assert [path.name for path in tmp_path.iterdir()] == ["sets"]  # nothing climbed out of the archive
    assert fetch(server, tmp_path / "sets") == folder
    assert len(server.ranges) == 1
    assert datasets.load(tmp_path / "sets").sets[0].name == "fvc2000-DB1_B"


def test_download_resumes_where_it_broke_off(server, tmp_path):
    server.cut = 10_000
    with pytest.raises(InvalidInput, match="what has arrived is kept"):
        fetch(server, tmp_path)
    server.cut = None
    fetch(server, tmp_path)
    assert server.ranges == [None, "bytes=10000-"]


def test_download_of_a_whole_archive_asks_for_nothing_more(server, archive, tmp_path):
    (tmp_path / "fvc2000-DB1_B.zip.part").write_bytes(archive)
    fetch(server, tmp_path)
    assert server.ranges == [f"bytes={len(archive)}-"]


@pytest.mark.parametrize("content", [b"<html>", None])
def test_download_refuses_what_is_not_the_set(server, tmp_path, content):
    if content is None:
        short = io.BytesIO()
        with zipfile.ZipFile(short, "w") as file:
            file.writestr("101_1.tif", "no image")
        content = short.getvalue()
    server.content = content
    with pytest.raises(InvalidInput):
        fetch(server, tmp_path)
    assert not (tmp_path / "fvc2000").exists()


def test_download_refuses_other_bytes_where_a_digest_is_known(server, tmp_path, monkeypatch):
    monkeypatch.setitem(datasets.KNOWN, ("fvc2000", "DB1"), datasets.Known(500, (300, 300), "0" * 64))
    with pytest.raises(InvalidInput, match="other bytes"):
        fetch(server, tmp_path)


def test_download_of_what_the_server_or_nobody_has(server, tmp_path, cli):
    with pytest.raises(InvalidInput, match="404"):
        fetch(server, tmp_path, "fvc2000-DB2_B")
    done = cli("download", "fvc2006-DB1_A", "--into", tmp_path)
    assert done.exit_code == 2
    assert "no direct address" in done.stderr
