"""Options in groups: at the terminal each is an option like any other, in the command one value."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from papilar.client import NodeClient
from papilar.commands.options import Connection, Reach, grouped
from papilar.errors import ConfigInvalid, PurposeMissing, TransportInsecure


@dataclass(frozen=True, slots=True)
class Size:
    width: Annotated[int, typer.Option("--width", min=1)]
    height: Annotated[int, typer.Option("--tall")] = 2
    tags: Annotated[list[str] | None, typer.Option("--tag")] = None


@dataclass(frozen=True, slots=True)
class Colour(Size):
    height: Annotated[int, typer.Option("--high", help="Of another name here.")] = 3
    colour: str = "red"


def told(kind: Any, *arguments: str, default: Any = None) -> Any:
    """What a command gets for its group, between two parameters of its own; the exit code where it fails."""
    app, got = typer.Typer(), []

    def command(*, first: str = "a", group: Any, last: bool = False) -> None:
        got.append((first, group, last))

    def command_with_default(*, first: str = "a", group: Any = default, last: bool = False) -> None:
        got.append((first, group, last))

    taken = command if default is None else command_with_default
    taken.__annotations__["group"] = kind
    app.command()(grouped(taken))
    done = CliRunner().invoke(app, list(arguments))
    return got[0] if got else done.exit_code


def test_a_command_takes_its_group_as_one_value() -> None:
    assert told(Size, "--width", "4") == ("a", Size(4), False)
    asked = ("--last", "--tag", "x", "--tall", "5", "--tag", "y", "--first", "b", "--width", "1")
    assert told(Size, *asked) == ("b", Size(1, 5, ["x", "y"]), True)


def test_what_a_field_demands_is_demanded() -> None:
    assert told(Size) == 2
    assert told(Size, "--width", "0") == 2
    assert told(Size, "--width", "4", "--group", "5") == 2, "the group itself is no option"


def test_a_group_that_goes_on_from_another_has_its_options_too() -> None:
    assert told(Colour, "--width", "4", "--high", "5") == ("a", Colour(4, 5), False)
    assert told(Colour, "--width", "4", "--tall", "5") == 2


def test_the_defaults_are_those_of_the_parameter() -> None:
    usual = Size(7, 8, ["z"])
    assert told(Size, default=usual) == ("a", usual, False)
    assert told(Size, "--tall", "9", default=usual) == ("a", Size(7, 9, ["z"]), False)


def test_options_stand_where_the_group_stands() -> None:
    app = typer.Typer()

    @app.command()
    @grouped
    def command(*, first: str = "a", size: Size, last: bool = False) -> None:
        """Do it."""

    said = CliRunner().invoke(app, ["--help"]).output
    places = [said.index(name) for name in ("--first", "--width", "--tall", "--tag", "--last")]
    assert places == sorted(places)
    assert "Do it." in said


# ---- the way to a node


def test_no_file_of_tls_is_plain_text() -> None:
    assert Reach().tls is None
    assert Reach(tls_country="SLV").tls is None
    named = Reach(tls_ca=Path("ca.pem"), tls_country="SLV").tls
    assert named is not None
    assert (named.ca, named.country) == (Path("ca.pem"), "SLV")


def test_what_cannot_connect_is_refused_before_a_node_is_asked(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="by halves"):
        Connection(tls_cert=Path("own.pem")).to("127.0.0.1:1", NodeClient)
    with pytest.raises(TransportInsecure):
        Connection().to("192.0.2.1:1", NodeClient)
    Connection(allow_plain_text=True).to("192.0.2.1:1", NodeClient).close()
    (tmp_path / "case.toml").write_text("purpose = 1")
    with pytest.raises(PurposeMissing, match=r"case\.toml states no mandate"):
        Connection(mandate=tmp_path / "case.toml").to("127.0.0.1:1", NodeClient)
