"""How much of a tar was read is told with each of its prints: for the time that is left."""

import tarfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from papilar.archive.sources import open_source


@pytest.mark.parametrize("packed", ["", "gz", "xz"])
def test_the_share_grows_to_the_whole(tmp_path: Path, packed: str) -> None:
    random = np.random.default_rng(1)
    with tarfile.open(tmp_path / "a.tar", f"w:{packed}") as made:
        for number in range(40):
            info = tarfile.TarInfo(f"p{number}_1.png")
            info.size = 50_000
            made.addfile(info, BytesIO(random.bytes(info.size)))
    shares = [item.share or 0.0 for item in open_source(tmp_path / "a.tar")]
    assert shares == sorted(shares)
    assert 0 < shares[0] < 0.5 < shares[30] < 1
    assert 0.9 < shares[-1] <= 1


def test_of_a_folder_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "p_1.png").write_bytes(b"x")
    assert [item.share for item in open_source(tmp_path)] == [None]
