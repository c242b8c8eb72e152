"""The tree, held against the definitions of RFC 9162, against pymerkle, and against vectors of RFC 6962."""

from collections.abc import Mapping, Sequence
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymerkle import InmemoryTree, verify_consistency, verify_inclusion

from papilar.audit import merkle
from papilar.audit.merkle import Frontier, Node

SIZES = st.integers(0, 70)
LARGEST = 70


# ---- the obvious twins: sections 2.1.1, 2.1.3.1 and 2.1.4.1, word by word


def entries(size: int) -> list[bytes]:
    return [f"entry {i}".encode() for i in range(size)]


def naive_split(size: int) -> int:
    k = 1
    while 2 * k < size:
        k *= 2
    return k


def naive_root(data: Sequence[bytes]) -> bytes:
    if not data:
        return sha256(b"").digest()
    if len(data) == 1:
        return sha256(b"\x00" + data[0]).digest()
    k = naive_split(len(data))
    return sha256(b"\x01" + naive_root(data[:k]) + naive_root(data[k:])).digest()


def naive_path(m: int, data: Sequence[bytes]) -> list[bytes]:
    if len(data) == 1:
        return []
    k = naive_split(len(data))
    if m < k:
        return [*naive_path(m, data[:k]), naive_root(data[k:])]
    return [*naive_path(m - k, data[k:]), naive_root(data[:k])]


def naive_subproof(m: int, data: Sequence[bytes], whole: bool) -> list[bytes]:
    if m == len(data):
        return [] if whole else [naive_root(data)]
    k = naive_split(len(data))
    if m <= k:
        return [*naive_subproof(m, data[:k], whole), naive_root(data[k:])]
    return [*naive_subproof(m - k, data[k:], False), naive_root(data[:k])]


# ---- a tree in memory


def grown(data: Sequence[bytes]) -> tuple[Frontier, dict[Node, bytes]]:
    frontier, nodes = Frontier(), {}
    for index, each in enumerate(data):
        leaf = merkle.leaf_hash(each)
        frontier, made = frontier.grown(leaf)
        nodes |= {Node(0, index): leaf, **dict(made)}
    return frontier, nodes


FRONTIER, NODES = grown(entries(LARGEST))


def read(wanted: Sequence[Node]) -> Mapping[Node, bytes]:
    assert len(wanted) <= 2 * LARGEST.bit_length()
    return {node: NODES[node] for node in wanted}


def oracle() -> InmemoryTree:
    tree = InmemoryTree(algorithm="sha256")
    for each in entries(LARGEST):
        tree.append_entry(each)
    return tree


ORACLE = oracle()


@given(SIZES)
def test_roots_are_those_of_the_definition_and_of_another_library(size: int) -> None:
    frontier, _ = grown(entries(size))
    assert frontier.size == size
    assert frontier.root == merkle.root(size, read) == naive_root(entries(size))
    assert frontier.root == (ORACLE.get_root(size) if size else merkle.EMPTY)
    assert frontier.peaks == tuple(NODES[node] for node in merkle.peaks(size))


@given(st.data())
def test_inclusion_proofs(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, LARGEST))
    index = data.draw(st.integers(0, size - 1))
    proof = merkle.inclusion_proof(index, size, read)
    assert list(proof) == naive_path(index, entries(size))
    leaf, root = NODES[Node(0, index)], merkle.root(size, read)
    assert merkle.holds_inclusion(leaf, index, size, proof, root)
    theirs = ORACLE.prove_inclusion(index + 1, size)
    assert list(proof) == list(theirs.path)[1:]
    verify_inclusion(leaf, root, theirs)


@given(st.data())
def test_consistency_proofs(data: st.DataObject) -> None:
    new = data.draw(st.integers(1, LARGEST))
    old = data.draw(st.integers(1, new))
    proof = merkle.consistency_proof(old, new, read)
    assert list(proof) == naive_subproof(old, entries(new), True)
    before, after = merkle.root(old, read), merkle.root(new, read)
    assert merkle.holds_consistency(old, new, before, after, proof)
    verify_consistency(before, after, ORACLE.prove_consistency(old, new))


@given(st.data())
def test_no_other_claim_has_the_same_inclusion_proof(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, LARGEST))
    index = data.draw(st.integers(0, size - 1))
    proof, root = merkle.inclusion_proof(index, size, read), merkle.root(size, read)
    leaf = NODES[Node(0, index)]
    other = data.draw(st.integers(-1, size + 1).filter(lambda i: i != index))
    assert not merkle.holds_inclusion(leaf, other, size, proof, root)
    assert not merkle.holds_inclusion(bytes(32), index, size, proof, root)
    assert not merkle.holds_inclusion(leaf, index, size, proof, bytes(32))
    assert not merkle.holds_inclusion(leaf, index, size, (*proof, bytes(32)), root)
    if proof:
        place = data.draw(st.integers(0, len(proof) - 1))
        assert not merkle.holds_inclusion(leaf, index, size, proof[:-1], root)
        changed = (*proof[:place], bytes(32), *proof[place + 1 :])
        assert not merkle.holds_inclusion(leaf, index, size, changed, root)


@given(st.data())
def test_no_other_claim_has_the_same_consistency_proof(data: st.DataObject) -> None:
    new = data.draw(st.integers(2, LARGEST))
    old = data.draw(st.integers(1, new - 1))
    proof = merkle.consistency_proof(old, new, read)
    before, after = merkle.root(old, read), merkle.root(new, read)
    assert not merkle.holds_consistency(old, new, bytes(32), after, proof)
    assert not merkle.holds_consistency(old, new, before, bytes(32), proof)
    assert not merkle.holds_consistency(old, new, before, after, proof[:-1])
    assert not merkle.holds_consistency(old, new, before, after, (*proof, bytes(32)))
    assert not merkle.holds_consistency(new, old, after, before, proof)
    place = data.draw(st.integers(0, len(proof) - 1))
    changed = (*proof[:place], bytes(32), *proof[place + 1 :])
    assert not merkle.holds_consistency(old, new, before, after, changed)


def test_the_empty_tree_begins_every_tree() -> None:
    assert merkle.consistency_proof(0, 5, read) == merkle.consistency_proof(5, 5, read) == ()
    root = merkle.root(5, read)
    assert merkle.holds_consistency(0, 5, merkle.EMPTY, root, ())
    assert merkle.holds_consistency(5, 5, root, root, ())
    assert not merkle.holds_consistency(0, 5, root, root, ())
    assert not merkle.holds_consistency(5, 5, root, merkle.EMPTY, ())
    assert not merkle.holds_consistency(-1, 5, root, root, ())


# Leaves and roots of the tests of the certificate-transparency project, for trees of 1 to 8 leaves.
INPUTS = ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
ROOTS = (
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)


@pytest.mark.parametrize("size", range(1, 9))
def test_known_roots(size: int) -> None:
    frontier, _ = grown([bytes.fromhex(text) for text in INPUTS[:size]])
    assert frontier.root.hex() == ROOTS[size - 1]
