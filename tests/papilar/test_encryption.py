"""Encryption of kept files: what opens, what does not and why, and what names and files give away."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from papilar.encryption import KEY_BYTES, Keys
from papilar.errors import ConfigInvalid, OriginalCorrupt, OriginalKeyUnknown

ONE, TWO = bytes(range(KEY_BYTES)), bytes(range(1, KEY_BYTES + 1))
KEYS = Keys([ONE])


@given(st.binary(max_size=300))
def test_what_is_sealed_opens_and_shows_nothing(data: bytes) -> None:
    name = KEYS.name(data)
    sealed = KEYS.seal(name, data)
    assert KEYS.open(name, sealed) == data
    assert sealed != KEYS.seal(name, data), "a nonce was used again"
    assert len(data) < 4 or data not in sealed.removeprefix(b"PAPORIG\x01")  # which shows itself
    assert name != hashlib.sha256(data).digest()
    assert name != Keys([TWO]).name(data)


@given(st.binary(max_size=60), st.data())
def test_one_flipped_bit_is_found(data: bytes, draw: st.DataObject) -> None:
    name = KEYS.name(data)
    sealed = bytearray(KEYS.seal(name, data))
    bit = draw.draw(st.integers(0, 8 * len(sealed) - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    key_changed = 8 <= bit // 8 < 16
    with pytest.raises(OriginalKeyUnknown if key_changed else OriginalCorrupt, match=name.hex()):
        KEYS.open(name, bytes(sealed))


@given(st.integers(0, 63))
def test_a_file_cut_short(length: int) -> None:
    name = KEYS.name(b"x" * 28)
    with pytest.raises(OriginalCorrupt, match=r"cut short|changed"):
        KEYS.open(name, KEYS.seal(name, b"x" * 28)[:length])


def test_a_file_under_the_name_of_another() -> None:
    one, other = KEYS.name(b"one"), KEYS.name(b"other")
    with pytest.raises(OriginalCorrupt, match="another's"):
        KEYS.open(one, KEYS.seal(other, b"other"))


def test_keys_that_change() -> None:
    name = KEYS.name(b"print")
    old = KEYS.seal(name, b"print")
    with pytest.raises(OriginalKeyUnknown, match="not in the key file"):
        Keys([TWO]).open(name, old)
    both = Keys([TWO, ONE])
    assert both.open(name, old) == b"print"
    assert not both.is_first(old)
    new = both.seal(name, b"print")
    assert both.is_first(new)
    with pytest.raises(OriginalKeyUnknown):
        KEYS.open(name, new)


class TestKeyFile:
    def test_one_key_a_line(self, tmp_path: Path) -> None:
        path = key_file(tmp_path, f"{TWO.hex()}\n{ONE.hex()}\n")
        sealed = Keys.load(path).seal(KEYS.name(b"a"), b"a")
        assert Keys([TWO]).open(KEYS.name(b"a"), sealed) == b"a"

    @pytest.mark.parametrize(
        "text", ["", "\n", "no key", ONE.hex()[:-2], ONE.hex() + "00", f"{ONE.hex()}\nzz"]
    )
    def test_what_is_none(self, tmp_path: Path, text: str) -> None:
        with pytest.raises(ConfigInvalid, match="holds no keys") as raised:
            Keys.load(key_file(tmp_path, text))
        assert raised.value.cause == f"{tmp_path / 'originals.key'} holds no keys"
        assert raised.value.__cause__ is None

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
    def test_open_to_others(self, tmp_path: Path, mode: int) -> None:
        path = key_file(tmp_path, ONE.hex())
        path.chmod(mode)
        with pytest.raises(ConfigInvalid, match="open to others"):
            Keys.load(path)

    def test_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigInvalid, match="cannot be read"):
            Keys.load(tmp_path / "none")


def key_file(folder: Path, text: str) -> Path:
    path = folder / "originals.key"
    path.write_text(text)
    path.chmod(0o600)
    return path
