"""The vocabulary: four thousand typical cylinders, and which of them others are like. The only door to FAISS.

A cylinder is named by the word it is most like; where two prints show the same place of a finger, the words
of one are mostly among those nearest to the cylinders of the other. Words are unit vectors, likeness is the
cosine, and FAISS finds the nearest.

The words are centroids of the cylinders of synthetic prints. `python -m benchmarks.vocabulary` makes them,
and `vocabulary.json` says out of what.

References
----------
.. [1] M. Douze et al., "The Faiss library", arXiv:2401.08281.
.. [2] J. Sivic, A. Zisserman, "Video Google: a text retrieval approach to object matching in videos", ICCV
   2003, doi:10.1109/ICCV.2003.1238663 (visual words).
"""

import base64
import json
import zlib
from functools import cache
from importlib import resources
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

VOCABULARY = "vocabulary.json"
LEVELS = 15
"""Steps of a coordinate of a word, 0 to 1: few, so that the file stays small."""


class Vocabulary:
    """Words, found by what they are like.

    Parameters
    ----------
    words : ndarray of uint8, shape (w, d)
        Coordinates in 1/15.
    """

    def __init__(self, words: NDArray[np.uint8]) -> None:
        self._index: Any = faiss.IndexFlatIP(words.shape[1])
        self._index.add(_unit(words.astype(np.float32)))

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def nearest(self, vectors: Floats, count: int) -> Ints:
        """Return the numbers (m, count) of the words that `vectors` (m, d) are most like, best first."""
        faiss.omp_set_num_threads(1)  # the setting belongs to the calling thread
        faiss.cvar.distance_compute_blas_threshold = 1  # by matrix products: a fifth of the time for a print
        if not len(vectors):
            return np.zeros((0, count), np.int64)
        _, found = self._index.search(_unit(vectors), count)
        return np.asarray(found, np.int64)


@cache
def shipped() -> Vocabulary:
    """Return the vocabulary kept in `vocabulary.json`."""
    kept = json.loads(resources.files("matcher").joinpath(VOCABULARY).read_text(encoding="utf-8"))
    return Vocabulary(unpacked(kept["words"], int(kept["size"])))


def train(vectors: Floats, size: int, *, rounds: int, seed: int) -> NDArray[np.uint8]:
    """Return `size` words, the centroids of `vectors` (m, d), coordinates 0 to 1, in 1/15.

    Parameters
    ----------
    vectors : ndarray of float32, shape (m, d)
    size, rounds, seed : int
    """
    made = faiss.Kmeans(vectors.shape[1], size, niter=rounds, seed=seed, max_points_per_centroid=10**6)
    made.train(vectors)
    centroids: Floats = np.asarray(made.centroids)
    words: NDArray[np.uint8] = np.rint(np.clip(centroids, 0, 1) * LEVELS).astype(np.uint8)
    return words


def packed(words: NDArray[np.uint8]) -> str:
    """Return words as text."""
    return base64.b64encode(zlib.compress(words.tobytes(), 9)).decode()


def unpacked(text: str, size: int) -> NDArray[np.uint8]:
    """Return the `size` words that `packed` made text of."""
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8).reshape(size, -1)


def _unit(vectors: Floats) -> Floats:
    length = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))[:, None]
    unit: Floats = vectors / np.maximum(length, np.float32(1e-6))
    return unit
