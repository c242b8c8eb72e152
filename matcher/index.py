"""Coarse retrieval: which rows of a gallery are worth a full comparison. The only door to FAISS.

Every cylinder of a gallery is a vector of 1,152 bits in a binary FAISS index, named by a factory string
("BFlat", "BIVF1024", "BHNSW32", ...). Each cylinder of the probe fetches its nearest vectors and votes for
the rows they belong to with their similarity; the rows with the most votes are the shortlist.

References
----------
.. [1] M. Douze et al., "The Faiss library", arXiv:2401.08281.
.. [2] R. Cappelli, M. Ferrara, D. Maltoni, "Fingerprint indexing based on Minutia Cylinder-Code", IEEE TPAMI
   33(5), 2011, doi:10.1109/TPAMI.2010.228 (votes of cylinders).
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import faiss
import numpy as np
from numpy.typing import NDArray

from matcher.cylinders import WORDS
from matcher.errors import GalleryCorrupt

DIMENSION = 64 * WORDS
FACTORY = "BFlat"
SERIAL = 10_000_000
"""Distances up to which the calling thread computes them alone: about 0.08 s."""

PIECE = 2_500_000
"""Distances that a thread computes at a time of more: about 0.02 s. FAISS would give each of its threads a
fixed share of every 8,192 vectors, and let those that are done wait in a loop: where something else runs
beside, all go as slowly as the slowest."""

_POOL = ThreadPoolExecutor(faiss.omp_get_max_threads(), thread_name_prefix="coarse")
_PLACE = 40  # bits of a key that say which vector: a million million

Bits = NDArray[np.uint64]
Bytes = NDArray[np.uint8]
_T = TypeVar("_T", bound=np.generic)


class Votes(NamedTuple):
    """Votes of one probe: `slots` (k,) int64, distinct, and their sums `votes` (k,) float32."""

    slots: NDArray[np.int64]
    votes: NDArray[np.float32]


class CoarseIndex:
    """Cylinders of a run of gallery slots, searched by Hamming distance.

    Parameters
    ----------
    factory : str
        FAISS binary factory string.

    Notes
    -----
    Adding while searching is the caller's to exclude; searching from several threads is safe.
    """

    def __init__(self, factory: str = FACTORY) -> None:
        self._index: Any = faiss.index_binary_factory(DIMENSION, factory)
        self._owner = np.zeros(0, np.int64)
        self._ones = np.zeros(0, np.float32)

    @classmethod
    def build(cls, bits: Bits, owner: NDArray[np.int64], *, factory: str = FACTORY) -> "CoarseIndex":
        """Return the index of `bits` (v, 18), vector i belonging to slot `owner[i]`; trains where needed."""
        index = cls(factory)
        if not index._index.is_trained:
            index._index.train(_bytes(bits))
        index.add(bits, owner)
        return index

    @classmethod
    def load(cls, data: NDArray[np.uint8], bits: Bits, owner: NDArray[np.int64]) -> "CoarseIndex":
        """Return the index that `dump` wrote for the same `bits` and `owner`.

        Raises
        ------
        GalleryCorrupt
            FAISS cannot read it, or it holds another number of vectors.
        """
        raw = _Lying(_bytes(bits)) if not data.size else _read(data)
        if raw.ntotal != len(owner) or raw.d != DIMENSION:
            raise GalleryCorrupt(
                f"a coarse index holds {raw.ntotal} vectors of {raw.d} bits, not {len(owner)} of {DIMENSION}",
                remedy="rebuild it",
            )
        index = cls()
        index._index, index._owner, index._ones = raw, owner, _norms(bits)
        return index

    def dump(self) -> NDArray[np.uint8]:
        """Return the FAISS index as bytes (uint8); none of a flat one, which is the cylinders themselves.

        Owners and norms follow from the segment's own arrays.
        """
        if _flat(self._index) is not None:
            return np.zeros(0, np.uint8)
        data: NDArray[np.uint8] = faiss.serialize_index_binary(self._index)
        return data

    def add(self, bits: Bits, owner: NDArray[np.int64]) -> None:
        """Append vectors `bits` (v, 18) of the slots `owner` (v,)."""
        used = self._index.ntotal
        self._owner = _appended(self._owner, used, owner)
        self._ones = _appended(self._ones, used, _norms(bits))
        self._index.add(_bytes(bits))

    def search(self, bits: Bits, *, neighbours: int) -> Votes:
        """Return the votes of a probe's cylinders.

        Parameters
        ----------
        bits : ndarray of uint64, shape (q, 18)
        neighbours : int
            Vectors fetched for each cylinder.

        Returns
        -------
        Votes
            A slot's vote is the sum over the probe's cylinders of the best similarity
            `1 - sqrt(D) / (|a| + |b|)` among the slot's fetched vectors (0 where no bit is on).
        """
        k = min(neighbours, self._index.ntotal)
        if not len(bits) or not k:
            return Votes(np.zeros(0, np.int64), np.zeros(0, np.float32))
        D, x = _nearest(self._index, _bytes(bits), k)
        found = x >= 0
        cylinder = np.broadcast_to(np.arange(len(bits))[:, None], x.shape)[found]
        vector = x[found]
        norm = _norms(bits)[cylinder] + self._ones[vector]
        similar = np.where(norm > 0, 1 - np.sqrt(D[found]) / np.maximum(norm, 1), 0.0)
        return _count(cylinder, self._owner[vector], similar)


class _Lying(NamedTuple):
    """A flat index of vectors that lie elsewhere, as in the file of a segment: of them nothing is copied."""

    vectors: Bytes

    @property
    def ntotal(self) -> int:
        return len(self.vectors)

    @property
    def d(self) -> int:
        return DIMENSION


def _read(data: NDArray[np.uint8]) -> Any:
    try:
        return faiss.deserialize_index_binary(data)
    except RuntimeError as error:
        raise GalleryCorrupt(f"a coarse index cannot be read ({error})", remedy="rebuild it") from error


def _nearest(index: Any, probe: Bytes, k: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return distances (q, k) and places (q, k) of the nearest vectors; of two as near, the earlier."""
    vectors = _flat(index)
    if vectors is None:
        faiss.omp_set_num_threads(1)  # the setting belongs to the calling thread
        D, x = index.search(probe, k)
        return D, x
    alone = len(probe) * len(vectors) <= SERIAL
    return nearest_in_pieces(probe, vectors, k, size=len(vectors) if alone else max(1, PIECE // len(probe)))


def nearest_in_pieces(
    probe: Bytes, vectors: Bytes, k: int, *, size: int
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return what a flat index of the vectors does, found in runs of so many by whichever thread is free.

    Parameters
    ----------
    probe : ndarray of uint8, shape (q, b)
    vectors : ndarray of uint8, shape (v, b)
    k : int
        At most v.
    size : int
        Vectors of a run.

    Returns
    -------
    tuple of ndarray
        Distances (q, k) int32, ascending, and places (q, k) int64; of two as near, the earlier comes first.
    """

    def keys(start: int) -> NDArray[np.int64]:
        faiss.omp_set_num_threads(1)
        run = vectors[start : start + size]
        D, x = faiss.knn_hamming(probe, run, min(k, len(run)))
        return (D.astype(np.int64) << _PLACE) | (x + start)

    starts = range(0, len(vectors), size)
    found = np.concatenate([*(_POOL.map if len(starts) > 1 else map)(keys, starts)], axis=1)
    best = np.sort(np.partition(found, k - 1, axis=1)[:, :k], axis=1)
    return (best >> _PLACE).astype(np.int32), best & ((1 << _PLACE) - 1)


def _count(cylinder: NDArray[np.int64], slot: NDArray[np.int64], similar: NDArray[np.float64]) -> Votes:
    """Sum over cylinders the best similarity of each slot."""
    order = np.lexsort((-similar, slot, cylinder))
    cylinder, slot, similar = cylinder[order], slot[order], similar[order]
    first = np.ones(len(slot), bool)
    first[1:] = (cylinder[1:] != cylinder[:-1]) | (slot[1:] != slot[:-1])
    slots, where = np.unique(slot[first], return_inverse=True)
    return Votes(slots, np.bincount(where, similar[first], len(slots)).astype(np.float32))


def _appended(array: NDArray[_T], used: int, more: NDArray[_T]) -> NDArray[_T]:
    """Return `array` with `more` after its first `used` elements, and room to spare: n adds copy O(n)."""
    needed = used + len(more)
    if needed > len(array):
        array = np.concatenate((array[:used], np.empty(max(used, len(more)), array.dtype)))
    array[used:needed] = more
    return array


def _bytes(bits: Bits) -> Bytes:
    return np.ascontiguousarray(bits).view(np.uint8).reshape(len(bits), DIMENSION // 8)


def _flat(index: Any) -> Bytes | None:
    """Return the vectors of a flat index, without copying them; None of another."""
    if isinstance(index, _Lying):
        return index.vectors
    if not isinstance(index, faiss.IndexBinaryFlat):
        return None
    held = index.xb  # type: ignore[attr-defined]  # not in the stubs
    vectors: Bytes = faiss.rev_swig_ptr(held.data(), held.size()).reshape(index.ntotal, -1)
    return vectors


def _norms(bits: Bits) -> NDArray[np.float32]:
    norms: NDArray[np.float32] = np.sqrt(np.bitwise_count(bits).sum(axis=1, dtype=np.float32))
    return norms
