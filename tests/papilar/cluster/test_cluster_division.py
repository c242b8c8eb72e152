"""How a gallery is divided over parts, and parts over machines: no cluster is needed for that."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from papilar.cluster.division import Division, part_of
from papilar.cluster.machines import Machine, Stand, stands
from papilar.cluster.part import folder_of, held_here, make_private

# ---- rows over parts


@pytest.mark.parametrize("prints", [1, 2, 5, 10])
@pytest.mark.parametrize("parts", [2, 3, 5, 8, 10])
def test_parts_are_of_one_size_however_many_prints_all_have(prints: int, parts: int) -> None:
    counts = np.bincount(part_of(np.arange(1, 20_000 * prints, prints), parts), minlength=parts)
    assert counts.max() < 1.05 * counts.min()


Change = st.tuples(st.booleans(), st.integers(1, 40))


@given(st.lists(Change, max_size=60), st.integers(0, 12), st.integers(1, 5))
def test_it_is_a_table_of_rows(changes: list[tuple[bool, int]], first: int, parts: int) -> None:
    """Rows of three are an encounter; a table that is a dict does the same."""
    naive = {row: (row - 1) // 3 * 3 + 1 for row in range(1, first + 1)}
    rows = np.array(list(naive), np.int64)
    division = Division(rows, np.array(list(naive.values()), np.int64), parts)
    for adds, row in changes:
        encounter = (row - 1) // 3 * 3 + 1
        part = int(part_of(np.array([encounter]), parts)[0])
        if adds:
            assert division.add(row, encounter) == (None if row in naive else part)
            naive[row] = encounter
        else:
            assert division.drop([row]) == ({part: [row]} if naive.pop(row, None) else {})
    assert len(division) == len(naive)
    assert_array_equal(division.rows, sorted(naive))
    assert [division.encounter(row) for row in range(42)] == [naive.get(row) for row in range(42)]
    of = [division.rows_of(part).tolist() for part in range(parts)]
    assert sorted(row for some in of for row in some) == sorted(naive)
    assert all(division.find(row) == part for part, some in enumerate(of) for row in some)
    assert all(len({division.find(row) for row in naive if naive[row] == one}) == 1 for one in naive.values())


# ---- parts over machines


def test_a_part_stands_where_it_lies() -> None:
    a, b = Machine("a", 4, {1: 100, 2: 100}), Machine("b", 8, {0: 50, 3: 70, 1: 10})
    assert stands([a, b], 4) == [Stand("b", 4), Stand("a", 2), Stand("a", 2), Stand("b", 4)]


def test_new_parts_stand_where_there_is_room() -> None:
    machines = [Machine("a", 2, {}), Machine("b", 2, {}), Machine("c", 2, {})]
    assert sorted(one.machine for one in stands(machines, 6)) == ["a", "a", "b", "b", "c", "c"]
    assert [one.threads for one in stands([Machine("a", 2, {})], 5)] == [1] * 5


def test_a_machine_that_joins_takes_its_share() -> None:
    old = Machine("old", 4, {part: 100 + part for part in range(4)})
    found = [one.machine for one in stands([old, Machine("new", 4, {})], 4)]
    assert found == ["new", "new", "old", "old"], "the largest stay"


# ---- folders


def test_folders_of_another_division_are_deleted(tmp_path: Path) -> None:
    folder = tmp_path / "segments.2"
    for name in ("segments/1-of-2", "segments.1/1-of-2", "segments.2/1-of-2", "segments.2/1-of-3", "other/1"):
        (tmp_path / name).mkdir(parents=True)
    (folder / "1-of-2/segment-00000001.pps").write_bytes(b"12345")
    (folder / "segment-00000001.pps").write_bytes(b"of one machine")
    assert held_here(folder, 2, alone=False) == {0: 5}
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")} == {
        *("segments", "segments/1-of-2", "segments.1", "segments.1/1-of-2", "other", "other/1"),
        *("segments.2", "segments.2/1-of-2", "segments.2/1-of-2/segment-00000001.pps"),
    }
    assert held_here(folder, 2, alone=True) == {0: 5}
    assert {path.name for path in tmp_path.iterdir()} == {"segments.2", "other"}
    assert held_here(tmp_path / "none", 2, alone=True) == {}


def test_folders_are_their_owners_alone(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "a/b/segments", 0, 2)
    make_private(folder)
    made = [folder, *folder.parents][:4]
    assert [one.name for one in made] == ["1-of-2", "segments", "b", "a"]
    assert [one.stat().st_mode & 0o777 for one in made] == [0o700] * 4
