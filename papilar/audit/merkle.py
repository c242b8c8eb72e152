"""The Merkle tree of RFC 9162, section 2.1, over SHA-256: pure functions of sizes and hashes.

Only complete subtrees are ever stored: node i of level l covers the 2**l leaves from i * 2**l on, and never
changes again. Every other hash is folded from such nodes when it is asked for, so an append adds one node
on average, and a proof reads O(log n).

References
----------
B. Laurie, E. Messeri, R. Stradling: Certificate Transparency Version 2.0. RFC 9162, 2021,
https://doi.org/10.17487/RFC9162
"""

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from hashlib import sha256
from typing import NamedTuple

EMPTY = sha256(b"").digest()
"""Root of the tree without leaves (section 2.1.1)."""

HASH_BYTES = 32


class Node(NamedTuple):
    """A complete subtree: the leaves from `place << level` to `(place + 1) << level`; level 0 is a leaf."""

    level: int
    place: int


Read = Callable[[Sequence[Node]], Mapping[Node, bytes]]
"""Gives the stored hashes of complete subtrees."""


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of an entry's bytes (section 2.1.1)."""
    return sha256(b"\0" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of two subtrees that stand side by side (section 2.1.1)."""
    return sha256(b"\1" + left + right).digest()


# ---- growth


class Frontier(NamedTuple):
    """What an append needs of a tree: its size, the roots of its largest complete subtrees, left first."""

    size: int = 0
    peaks: tuple[bytes, ...] = ()

    def grown(self, leaf: bytes) -> "tuple[Frontier, list[tuple[Node, bytes]]]":
        """Return the frontier with one leaf more, and the complete subtrees above it that it completes.

        Parameters
        ----------
        leaf : bytes
            Its `leaf_hash`.
        """
        peaks, made, top, node = list(self.peaks), [], leaf, Node(0, self.size)
        while node.place & 1:
            top = node_hash(peaks.pop(), top)
            node = Node(node.level + 1, node.place >> 1)
            made.append((node, top))
        return Frontier(self.size + 1, (*peaks, top)), made

    @property
    def root(self) -> bytes:
        """Root of the tree."""
        return _folded(self.peaks) if self.peaks else EMPTY


def peaks(size: int) -> tuple[Node, ...]:
    """Return the largest complete subtrees of a tree, left first; `Frontier.peaks` are their roots."""
    return _cover(0, size)


def root(size: int, read: Read) -> bytes:
    """Return the root of the first `size` leaves."""
    return _hashes([_cover(0, size)], read)[0] if size else EMPTY


# ---- proofs


def inclusion_proof(index: int, size: int, read: Read) -> tuple[bytes, ...]:
    """Return the hashes that prove leaf `index` to be in the tree of `size` leaves (section 2.1.3.1)."""
    start, end, ranges = 0, size, []
    while end - start > 1:
        middle = start + _left_width(end - start)
        if index < middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((start, middle))
            start = middle
    return _hashes([_cover(*each) for each in reversed(ranges)], read)


def consistency_proof(old: int, new: int, read: Read) -> tuple[bytes, ...]:
    """Return the hashes that prove the tree of `old` leaves to begin that of `new` ones (section 2.1.4.1).

    There is nothing to prove of an empty tree and of two of one size: then the proof is empty.
    """
    if old in (0, new):
        return ()
    start, end, ranges = 0, new, []
    while end != old:
        middle = start + _left_width(end - start)
        if old <= middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((start, middle))
            start = middle
    if start:  # else the verifier knows this root: it is that of the old tree
        ranges.append((start, end))
    return _hashes([_cover(*each) for each in reversed(ranges)], read)


def holds_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Tell whether a proof shows a leaf to be in the tree with this root (section 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    place, last, found = index, size - 1, leaf
    for step in proof:
        if last == 0:
            return False
        if place & 1 or place == last:
            found = node_hash(step, found)
            place, last = _up_a_right_edge(place, last)
        else:
            found = node_hash(found, step)
        place, last = place >> 1, last >> 1
    return last == 0 and found == root


def holds_consistency(old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """Tell whether a proof shows one tree to begin the other (section 2.1.4.2).

    The empty tree begins every tree, and a tree itself: their proofs are empty.
    """
    if not 0 <= old <= new:
        return False
    if old in (0, new):
        return not proof and old_root == (new_root if old == new else EMPTY)
    steps = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    if not steps:
        return False
    place, last = old - 1, new - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    before = after = steps[0]
    for step in steps[1:]:
        if last == 0:
            return False
        if place & 1 or place == last:
            before, after = node_hash(step, before), node_hash(step, after)
            place, last = _up_a_right_edge(place, last)
        else:
            after = node_hash(after, step)
        place, last = place >> 1, last >> 1
    return last == 0 and before == old_root and after == new_root


def _up_a_right_edge(place: int, last: int) -> tuple[int, int]:
    """Climb to where the node is a right child: the levels that an incomplete edge leaves out."""
    while place and not place & 1:
        place, last = place >> 1, last >> 1
    return place, last


# ---- ranges of leaves


def _left_width(width: int) -> int:
    """Return k of section 2.1.1: the largest power of two below the width."""
    return 1 << ((width - 1).bit_length() - 1)


def _cover(start: int, end: int) -> tuple[Node, ...]:
    """Return the complete subtrees that make up a range which begins where a subtree of its width may."""
    nodes, at = [], start
    while at < end:
        level = (end - at).bit_length() - 1
        nodes.append(Node(level, at >> level))
        at += 1 << level
    return tuple(nodes)


def _folded(roots: Sequence[bytes]) -> bytes:
    """Return the root over subtrees that shrink from left to right."""
    return reduce(lambda right, left: node_hash(left, right), reversed(roots))


def _hashes(covers: Sequence[Sequence[Node]], read: Read) -> tuple[bytes, ...]:
    """Return the hash of each range, after one read of all that they need."""
    stored = read([node for cover in covers for node in cover])
    return tuple(_folded([stored[node] for node in cover]) for cover in covers)
