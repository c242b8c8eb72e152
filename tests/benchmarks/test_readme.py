"""What the documents say of the benchmarks: commands and options that exist, and a matcher that works."""

import re
import shlex
import sys
from pathlib import Path

import pytest
import typer.main
from typer.testing import CliRunner

from benchmarks.__main__ import app

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "benchmarks" / "README.md"
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("datasets/*.md"), README]


def known_commands():
    """Return the options of each command, by its name as it is typed."""

    def options(command):
        return {option for given in command.params for option in given.opts if option[0] == "-"}

    found = {}
    for name, command in typer.main.get_command(app).commands.items():
        if hasattr(command, "commands"):
            found |= {f"{name} {part}": options(each) for part, each in command.commands.items()}
        else:
            found[name] = options(command)
    return found


def written_commands():
    for path in DOCUMENTS:
        text = re.sub(r"\\\n\s*", " ", path.read_text(encoding="utf-8"))
        for rest in re.findall(r"python -m benchmarks +([^`\n#]*)", text):
            words = rest.replace("[", " ").replace("]", " ").split()
            if words:
                name = " ".join(words[:2]) if words[0] == "run" else words[0]
                yield path.name, name, {word for word in words if word.startswith("--")}


def test_commands_and_options_in_documents_exist():
    known = known_commands()
    written = list(written_commands())
    assert written
    for where, name, options in written:
        assert name in known, where
        assert options <= known[name], where


def test_the_readme_names_every_command_and_option():
    known = known_commands()
    written = [(name, options) for where, name, options in written_commands()]
    text = README.read_text(encoding="utf-8")
    for name in known:
        assert f"python -m benchmarks {name}" in re.sub(" +", " ", text)
    told = {option for _, options in written for option in options}
    assert {option for options in known.values() for option in options} - told <= {"--digest"}


@pytest.fixture
def matcher(tmp_path):
    """The README's program, with a score: how alike two files are in size."""
    (program,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    score = (
        "from os.path import getsize\n\n\ndef score(p, r):\n    return -abs(getsize(p) - getsize(r))\n\n\n"
    )
    path = tmp_path / "matcher.py"
    path.write_text(score + program)
    return f"{shlex.quote(sys.executable)} {shlex.quote(str(path))}"


def test_the_matcher_of_the_readme_runs_on_images_and_on_templates(matcher, tmp_path):
    from benchmarks import report
    from benchmarks.synthetic import archive

    data, out = tmp_path / "made", tmp_path / "out"
    archive(data, subjects=2, impressions=2, severity=0.1, workers=1)
    arguments = ["run", "fvc", "--data", data, "--out", out, "--systems", "papilar-iso", "--workers", 1]
    for name in ("mine", "other:iso"):
        arguments += ["--command", f"{name}={matcher}"]
    done = CliRunner().invoke(app, [str(each) for each in arguments])
    assert done.exit_code == 0, done.output
    found = report.load(out)["made"]
    assert set(found) == {"papilar-iso", "mine", "other"}
    assert {name: result.run["system"].get("reads") for name, result in found.items()} == {
        "papilar-iso": None,
        "mine": "png",
        "other": "iso-19794-2:2005",
    }
    for result in found.values():
        assert (len(result.scores.mated), len(result.scores.nonmated)) == (2, 4)
        assert result.run["failures_to_enrol"] == []
    assert found["papilar-iso"].scores.mated.min() > found["papilar-iso"].scores.nonmated.max()
