"""Settings: what a file may say, who wins, and what is refused with a reason."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enroll.gate import QualityGate
from papilar.config import NodeConfig, Tls, is_loopback, load_config, split_address
from papilar.errors import ConfigInvalid, TransportInsecure

WHOLE = """
[node]
gallery = "/g"
listen = "0.0.0.0:7000"
keep_images = false
shortlist = 50
workers = 3
max_message_bytes = 1000
[tls]
certificate = "/c"
key = "/k"
client_ca = "/ca"
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "node.toml"
    path.write_text(text)
    return path


def test_a_whole_file(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, WHOLE))
    tls = Tls(Path("/c"), Path("/k"), Path("/ca"))
    assert config == NodeConfig(Path("/g"), "0.0.0.0:7000", False, 50, 3, 1000, False, tls)


def test_the_command_wins_over_the_file_and_the_file_over_the_defaults(tmp_path: Path) -> None:
    path = written(tmp_path, '[node]\ngallery = "/g"\nworkers = 3\nlisten = "127.0.0.1:1"')
    config = load_config(path, listen="127.0.0.1:2", gallery=None)
    assert (config.gallery, config.workers, config.listen) == (Path("/g"), 3, "127.0.0.1:2")
    assert config.shortlist == NodeConfig(Path("/g")).shortlist


def test_what_is_asked_of_a_print(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, "[enrolment]\nleast_minutiae = 12"), gallery=Path("/g"))
    assert config.enrolment == QualityGate(least_minutiae=12)


def test_without_a_file() -> None:
    assert load_config(None, gallery=Path("/g")) == NodeConfig(Path("/g"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[nodes]", r"unknown section \[nodes\]"),
        ("node = 5", "node is no section"),
        ('tls = ["a"]', "tls is no section"),
        ("[enrolment]\nleast_nfiq2 = 101", r"\[enrolment\]: a threshold out of range"),
        ("[enrolment]\nnfiq2 = false\nleast_nfiq2 = 20", "least_nfiq2 without nfiq2"),
        ("[enrolment]\nleast = 20", r"unknown setting enrolment\.least"),
        ("[node]\nport = 5", r"unknown setting node\.port"),
        ("[node]\ntls = 5", r"unknown setting node\.tls"),
        ("[node]\nworkers = true", "workers is True"),
        ('[node]\nworkers = "8"', "workers is '8'"),
        ("[node]\ngallery = 5", "gallery is 5"),
        ("[node]\nkeep_images = 1", "keep_images is 1"),
        ("[node]\nworkers = 3", "node lacks gallery"),
        ('[node]\ngallery = "/g"\n[tls]\ncertificate = "/c"', "tls lacks key"),
        ('[node]\ngallery = "/g"\nworkers = 0', "workers is 0"),
        ('[node]\ngallery = "/g"\nshortlist = -1', "shortlist is -1"),
        ('[node]\ngallery = "/g"\nlisten = "nowhere"', "'nowhere' is no address"),
        ("[node", "is no TOML"),
    ],
)
def test_what_a_file_may_not_say(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigInvalid, match=says) as caught:
        load_config(written(tmp_path, text))
    assert caught.value.remedy


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="No such file"):
        load_config(tmp_path / "absent.toml")
    with pytest.raises(ConfigInvalid, match="cannot be read"):
        load_config(tmp_path)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigInvalid, match="is no TOML"):
        load_config(tmp_path / "binary.toml")


class TestPlainText:
    @pytest.mark.parametrize("listen", ["0.0.0.0:1", "10.0.0.1:1", "[::]:1", "node.example:1"])
    def test_it_is_refused_where_others_can_reach_it(self, listen: str) -> None:
        with pytest.raises(TransportInsecure, match="plain text on"):
            NodeConfig(Path("/g"), listen)
        assert NodeConfig(Path("/g"), listen, allow_plain_text=True).tls is None
        assert NodeConfig(Path("/g"), listen, tls=Tls(Path("/c"), Path("/k"))).tls is not None

    @pytest.mark.parametrize("listen", ["127.0.0.1:1", "127.8.9.1:1", "[::1]:1", "localhost:1"])
    def test_it_is_served_on_loopback(self, listen: str) -> None:
        assert NodeConfig(Path("/g"), listen).tls is None


class TestAddresses:
    @pytest.mark.parametrize(
        ("text", "host", "port"),
        [("a.example:7443", "a.example", 7443), ("[::1]:0", "::1", 0), ("10.0.0.1:65535", "10.0.0.1", 65535)],
    )
    def test_host_and_port(self, text: str, host: str, port: int) -> None:
        assert split_address(text) == (host, port)

    @pytest.mark.parametrize("text", ["", ":1", "a", "a:", "a:b", "a:65536", "a:-1", "a:²", "a:1.5"])
    def test_others_are_refused(self, text: str) -> None:
        with pytest.raises(ConfigInvalid, match="is no address"):
            split_address(text)

    @given(st.text(max_size=12) | st.from_regex(r"[\w\[\]:.]{0,10}:\d{1,6}", fullmatch=True))
    def test_no_text_breaks_it(self, text: str) -> None:
        try:
            host, port = split_address(text)
        except ConfigInvalid:
            return
        assert 0 <= port < 65536
        assert is_loopback(host) in (True, False)


PLACE = "postgresql://papilar:watchword@{}/papilar"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql:///papilar",
        "postgresql://papilar@/papilar?host=%2Frun%2Fpostgresql",
        PLACE.format("127.0.0.1"),
        PLACE.format("[::1]:5433"),
        PLACE.format("db.example.org") + "?sslmode=verify-full",
        "postgresql:///papilar?host=db.example.org&sslmode=verify-ca",
    ],
)
def test_a_store_on_this_machine_or_under_tls(tmp_path: Path, url: str) -> None:
    config = load_config(written(tmp_path, f'[node]\ngallery = "/g"\nstore = "{url}"'))
    assert config.store == url
    assert "watchword" not in repr(config)


@pytest.mark.parametrize(
    "url",
    [
        PLACE.format("db.example.org"),
        PLACE.format("db.example.org") + "?sslmode=require",
        PLACE.format("192.0.2.1:5432"),
        "postgresql:///papilar?host=db.example.org",
        "postgresql:///papilar?hostaddr=192.0.2.1",
        PLACE.format("127.0.0.1") + "?host=127.0.0.1,db.example.org",
    ],
)
def test_a_store_elsewhere_in_plain_text(url: str) -> None:
    with pytest.raises(TransportInsecure, match="data base") as caught:
        NodeConfig(Path("/g"), store=url)
    assert "watchword" not in str(caught.value)
    assert NodeConfig(Path("/g"), store=url, allow_plain_text=True).store == url


def test_a_store_that_is_no_url() -> None:
    with pytest.raises(ConfigInvalid):
        NodeConfig(Path("/g"), store="postgresql://[watchword")
