"""Find what was changed in a log: every row is read again, held against the others and against signed heads.

The tree is computed anew from the entries. Where it differs from what is stored, both hashes are carried up
a level, and the one that fits there goes on. So one change gives one finding, not one at every level.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise, product
from typing import Any, NamedTuple

from papilar.audit import merkle
from papilar.audit.entry import Act, Side
from papilar.audit.heads import OWN, TreeHead, signed_head
from papilar.audit.log import ERASED, facts_of
from papilar.audit.merkle import Node, leaf_hash, node_hash
from papilar.errors import RequestInvalid
from papilar.store.log import EntryRow, LogRows, LogStore

_BATCH = 4096  # entries read at a time: about four megabytes
_NAMED = 1000  # findings that are named; the rest are counted
_TRIED = 16  # pairs of entries among which an exchange is looked for: the tries grow with the cube


class Flaw(StrEnum):
    """What is wrong."""

    CHANGED = "CHANGED"  # the bytes do not give the entry's hash
    MISSING = "MISSING"  # a gap in the indexes
    REORDERED = "REORDERED"  # the entry stands where another stood
    TREE = "TREE"  # a node and the entries below it do not fit each other
    INDEX = "INDEX"  # what reports look for is not what the entry says
    UNREADABLE = "UNREADABLE"  # the hash is right and the bytes are no entry
    ERASED = "ERASED"  # the bytes are gone, and no entry says that they were erased
    TRUNCATED = "TRUNCATED"  # a signed head has more entries
    FORKED = "FORKED"  # a signed head has other entries
    HEAD = "HEAD"  # a kept head is damaged
    PEER_FORKED = "PEER_FORKED"  # another country has signed two histories


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    Attributes
    ----------
    flaw : Flaw
    index : int
        The first entry concerned.
    entries : int
        How many entries from there on; 0 where no entry of this log is.
    what : str
        In words.
    """

    flaw: Flaw
    index: int
    entries: int
    what: str


@dataclass(frozen=True, slots=True)
class Verification:
    """What came out of reading everything.

    Attributes
    ----------
    size : int
        Number of entries.
    root : bytes
        Of the tree, as stored; empty where that cannot be told.
    erased : int
        Entries whose bytes were erased after their time, as an entry says.
    heads : int
        Signed heads that the log was held against.
    findings : tuple of Finding
        The first 1000; none where the log is whole.
    counts : dict of Flaw to int
        All findings.
    """

    size: int
    root: bytes
    erased: int
    heads: int
    findings: tuple[Finding, ...]
    counts: dict[Flaw, int]


def verify(store: LogStore, *, heads: Sequence[TreeHead] = ()) -> Verification:
    """Read the whole log and find what was changed.

    Parameters
    ----------
    store : LogStore
        A node may be at work on it: what it appends meanwhile is left out.
    heads : sequence of TreeHead
        Heads of this log that others kept, beside its own. Their signatures are for the caller to check.

    Returns
    -------
    Verification
    """
    with store.reading() as rows:
        seen = _Findings()
        wanted = [*_own_heads(rows, seen), *heads]
        pass_ = _Pass(rows, seen, {head.size for head in wanted})
        for first in range(0, pass_.size, _BATCH):
            pass_.read(first, min(first + _BATCH, pass_.size))
        pass_.find_exchanged()
        pass_.find_unrecorded_erasures()
        pass_.find_surplus()
        _hold_against(wanted, pass_, seen)
        _find_forked_peers(rows, seen)
    named = sorted(seen.named, key=lambda finding: (finding.index, finding.flaw))
    return Verification(
        pass_.size, pass_.tree.root(), pass_.erased, len(wanted), tuple(named), dict(seen.counts)
    )


class _Findings:
    def __init__(self) -> None:
        self.named: list[Finding] = []
        self.counts: Counter[Flaw] = Counter()

    def add(self, flaw: Flaw, index: int, entries: int, what: str) -> None:
        self.counts[flaw] += 1
        if len(self.named) < _NAMED:
            self.named.append(Finding(flaw, index, entries, what))


class _Pair(NamedTuple):
    """Two entries side by side that do not give the hash stored over them."""

    first: int
    leaves: tuple[bytes, bytes]
    stored: bytes


class _Tree:
    """The tree over the entries read so far, computed and held against the stored nodes.

    A subtree's root is known by one hash where all is well, by two where the stored one differs from the
    computed one, in this order, and by none where entries are missing.
    """

    def __init__(self, seen: _Findings, sizes: Iterable[int]) -> None:
        self.seen = seen
        self.size = 0
        self.peaks: list[tuple[bytes, ...]] = []
        self.pairs: list[_Pair] = []
        self.roots_at = {size: frozenset[bytes]() for size in sizes}
        self._note_roots()

    def grow(self, leaf: tuple[bytes, ...], nodes: Mapping[tuple[int, int], bytes]) -> None:
        """Add a leaf, known as a subtree's root is, and the subtrees that it completes."""
        top, level, place = leaf, 0, self.size
        while place & 1:
            level, place = level + 1, place >> 1
            top = self._joined(Node(level, place), self.peaks.pop(), top, nodes.get((level, place)))
        self.peaks.append(top)
        self.size += 1
        self._note_roots()

    def _joined(
        self, node: Node, left: tuple[bytes, ...], right: tuple[bytes, ...], stored: bytes | None
    ) -> tuple[bytes, ...]:
        known = [node_hash(a, b) for a in left for b in right]
        if stored is None:
            self._say(node, "a node of the tree is missing")
            return tuple(known[-1:])
        if stored in known:
            return (stored,)
        if len(left) == len(right) == 1:
            if node.level == 1:
                self.pairs.append(_Pair(node.place << 1, (left[0], right[0]), stored))
            else:
                self._say(node, "a node of the tree and the nodes below it do not fit each other")
        return (stored, *known[-1:])

    def _say(self, node: Node, what: str) -> None:
        self.seen.add(Flaw.TREE, node.place << node.level, 1 << node.level, f"{what} (level {node.level})")

    def _note_roots(self) -> None:
        if self.size in self.roots_at and all(self.peaks):
            self.roots_at[self.size] = frozenset({self.root(0), self.root(-1)})

    def root(self, choice: int = 0) -> bytes:
        """Return the root, as stored (0) or as computed (-1); empty where entries are missing."""
        chosen = tuple(peak[choice] for peak in self.peaks if peak)
        return merkle.Frontier(self.size, chosen).root if all(self.peaks) else b""

    def find_exchanged(self) -> None:
        """Say of each pair that does not fit whether its entries stand elsewhere."""
        few = len(self.pairs) <= _TRIED
        places = {leaf: pair.first + i for pair in self.pairs for i, leaf in enumerate(pair.leaves) if few}
        for pair in self.pairs:
            original = next((x for x in product(places, repeat=2) if node_hash(*x) == pair.stored), None)
            if original is None:
                what = "one of two entries was changed with its hash, or the node over them was"
                self.seen.add(Flaw.TREE, pair.first, 2, what)
                continue
            for i, leaf in enumerate(original):
                if leaf != pair.leaves[i]:
                    what = f"the entry that stood here is at {places[leaf]}"
                    self.seen.add(Flaw.REORDERED, pair.first + i, 1, what)


class _Pass:
    """One reading of all entries, in their order."""

    def __init__(self, rows: LogRows, seen: _Findings, sizes: Iterable[int]) -> None:
        self.rows, self.seen, self.size = rows, seen, rows.size()
        self.tree = _Tree(seen, sizes)
        self.erased = self.nodes = self.facts = self.marks = self.entries = 0
        self.last_erased, self.recorded = -1, 0
        self.changed: dict[bytes, int] = {}  # what the bytes of an entry give, where it is not its hash
        self.replaced: dict[bytes, int] = {}  # the hash that it has instead

    def read(self, first: int, end: int) -> None:
        """Read entries and all rows that belong to them."""
        found = {row.leaf_index: row for row in self.rows.entries(first, end)}
        facts, nodes = self.rows.facts(first, end), self.rows.completed_nodes(first, end)
        marks: dict[int, set[str]] = {}
        for index, mark in self.rows.marks(first, end):
            marks.setdefault(index, set()).add(mark)
        self.entries += len(found)
        self.nodes += len(nodes)
        self.facts += len(facts)
        self.marks += sum(map(len, marks.values()))
        for index in range(first, end):
            row = found.get(index)
            if row is None:
                self.seen.add(Flaw.MISSING, index, 1, "there is no such entry")
            leaf = () if row is None else self._read_entry(row, facts.get(index), marks.get(index, set()))
            self.tree.grow(leaf, nodes)

    def _read_entry(self, row: EntryRow, facts: tuple[Any, ...] | None, marks: set[str]) -> tuple[bytes, ...]:
        """Hold an entry against what repeats it, and return its hash; two where its bytes give another."""
        if row.data is None:
            self.erased, self.last_erased = self.erased + 1, row.leaf_index
            if facts is not None or marks:
                self._say(Flaw.INDEX, row, "the entry is erased, and what repeats it is not")
            return (row.leaf,)
        computed = leaf_hash(row.data)
        if computed != row.leaf:
            self.changed[computed], self.replaced[row.leaf] = row.leaf_index, row.leaf_index
            return row.leaf, computed
        try:
            values = json.loads(row.data)
            told = facts_of(values), set(values["subjects"])
            self._note_erasure(row.leaf_index, values)
        except (ValueError, KeyError, TypeError, RecursionError):
            self._say(Flaw.UNREADABLE, row, "the bytes are no entry")
            return (row.leaf,)
        if told != (facts, marks):
            self._say(Flaw.INDEX, row, "reports would not find the entry as it is")
        return (row.leaf,)

    def _say(self, flaw: Flaw, row: EntryRow, what: str) -> None:
        self.seen.add(flaw, row.leaf_index, 1, what)

    def _note_erasure(self, index: int, values: dict[str, Any]) -> None:
        if values["act"] == Act.ERASURE and values["side"] == Side.OWN:
            numbers = [number for kind, number, _ in values["sent"] if kind == ERASED and number <= index]
            self.recorded = max([self.recorded, *numbers])

    # ---- after the last entry

    def find_exchanged(self) -> None:
        """Tell entries that stand in each other's place from changed ones."""
        for computed, index in self.changed.items():
            if computed in self.replaced:
                what = f"the entry belongs at {self.replaced[computed]}"
                self.seen.add(Flaw.REORDERED, index, 1, what)
            else:
                self.seen.add(Flaw.CHANGED, index, 1, "the bytes are not those that were hashed")
        self.tree.find_exchanged()

    def find_unrecorded_erasures(self) -> None:
        """Hold erased entries against the entries that say what was erased: always from the first on."""
        if self.last_erased >= self.recorded:
            count = self.last_erased - self.recorded + 1
            what = "bytes are gone of some of these, and no entry says that they were erased"
            self.seen.add(Flaw.ERASED, self.recorded, count, what)

    def find_surplus(self) -> None:
        """Find rows that belong to no entry."""
        there = self.rows.counts()
        read = (self.entries, self.nodes, self.facts, self.marks)
        for name, held, found in zip(there._fields, there, read, strict=True):
            if held > found:
                flaw = Flaw.TREE if name in ("entries", "nodes") else Flaw.INDEX
                what = f"{held - found} {name} belong to no entry here: entries were cut off"
                self.seen.add(flaw, self.size, 0, what)


# ---- signed heads


def _own_heads(rows: LogRows, seen: _Findings) -> list[TreeHead]:
    heads = []
    for row in rows.heads(OWN):
        try:
            head = signed_head(row).head
        except RequestInvalid:
            head = None
        if head is None or (head.size, head.root) != (row.size, row.root):
            seen.add(Flaw.HEAD, row.size, 0, f"the kept head of size {row.size} is damaged")
        else:
            heads.append(head)
    return heads


def _hold_against(heads: Sequence[TreeHead], pass_: _Pass, seen: _Findings) -> None:
    """Compare each head with the tree of its size; a history differs after the last head that fits."""
    fitting = 0
    for head in sorted(set(heads), key=lambda head: head.size):
        signed = f"the head of {head.size} entries, signed {head.time:%Y-%m-%d %H:%M:%S}"
        if head.size > pass_.size:
            seen.add(Flaw.TRUNCATED, pass_.size, head.size - pass_.size, f"{signed}, has more")
        elif head.root in pass_.tree.roots_at[head.size]:
            fitting = head.size
        else:
            seen.add(Flaw.FORKED, fitting, head.size - fitting, f"{signed}, is of another history")


def _find_forked_peers(rows: LogRows, seen: _Findings) -> None:
    kept = [row for row in rows.heads() if row.peer != OWN]
    for one, other in pairwise(kept):
        if (one.peer, one.size) == (other.peer, other.size):
            what = f"{one.peer} has signed two histories of its log, each of {one.size} entries"
            seen.add(Flaw.PEER_FORKED, one.size, 0, what)
