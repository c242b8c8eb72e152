"""The LEADER network: pixels in, four planes of minutiae out. The only door to ONNX Runtime.

The first layers are `enroll.kernels`; the graph of all others is built from the published weights by
`enroll.leader.network` and cached on the disk.

References
----------
.. [1] R. Cappelli, M. Ferrara, "LEADER: Lightweight End-to-End Attention-Gated Dual Autoencoder for Robust
   Minutiae Extraction", 2026, arXiv:2602.15493. Weights: MIT licence, in the wheel `pyfing`.
"""

import hashlib
import os
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import platformdirs
from numpy.typing import NDArray

from enroll.errors import ImageTooSmall
from enroll.kernels import BORDER, stem
from enroll.leader.network import BUILDER, DETAILED, WEIGHTS_SHA256, build, stem_weights
from matcher.errors import InvalidInput, PapilarError

__all__ = ["BUILDER", "DETAILED", "MARGIN", "MULTIPLE", "Extent", "Leader", "Planes", "load", "weights_path"]

MULTIPLE = 32
"""The network halves its input five times."""

MARGIN = 96
"""Pixels around a print that the network is shown. With fewer, minutiae near the threshold come and go."""

Extent = tuple[tuple[int, int], tuple[int, int]]
"""First row and the one behind the last, first column and the one behind the last."""

_WORTH_IT = 0.4  # of the field: faint minutiae come and go with what lies around, which less is not worth

_MAGIC = b"PAPLEAD1"


@dataclass(frozen=True, slots=True, eq=False)
class Planes:
    """What the network says of every pixel.

    Attributes
    ----------
    position : ndarray of float32, shape (H, W)
        Likelihood of a minutia, 0 to 1.
    direction : ndarray of float32, shape (H, W)
        Direction of the minutia, radians in [-pi, pi], counter-clockwise as seen (y up). This and the next
        are computed where `quality` is `DETAILED` or more, and 0 elsewhere.
    type_ : ndarray of float32, shape (H, W)
        0 (bifurcation) to 1 (ending).
    quality : ndarray of float32, shape (H, W)
        Blurred `position` where it is the greatest of its 7 x 7 neighbourhood, else 0.
    """

    position: NDArray[np.float32]
    direction: NDArray[np.float32]
    type_: NDArray[np.float32]
    quality: NDArray[np.float32]


class Leader:
    """A loaded network. Make one with `load`; call it from any number of threads.

    Parameters
    ----------
    graph : bytes
        The ONNX graph of `build`.

    Attributes
    ----------
    version : str
        16 hexadecimal digits which change with the weights or the graph.
    """

    version = hashlib.sha256(f"{WEIGHTS_SHA256}:{BUILDER}".encode()).hexdigest()[:16]

    def __init__(self, graph: bytes) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.use_deterministic_compute = True
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        stems = self._session.get_modelmeta().custom_metadata_map
        self._coarse, self._fine = stem_weights(stems["coarse"]), stem_weights(stems["fine"])

    def planes(self, pixels: NDArray[np.uint8], *, extent: Extent | None = None) -> Planes:
        """Run the network on one print.

        Parameters
        ----------
        pixels : ndarray of uint8, shape (H, W)
            The print at 500 ppi, ridges dark.
        extent : Extent, optional
            Where something may be a ridge: the network sees no more than this and `MARGIN` around it, if
            that saves three fifths or more. By default it sees all.

        Returns
        -------
        Planes
            Of the same shape, zero where the network does not look; the same bytes on every call, whichever
            thread makes it.

        Raises
        ------
        InvalidInput
            Not a two-dimensional array of uint8.
        ImageTooSmall
            No pixels.

        Notes
        -----
        One call takes one core and about 0.8 kB a pixel, which the session keeps for the next. The print
        stands in the middle of a field of its first pixel's grey whose sides are multiples of 32, as in the
        authors' program. A part of the field is cut out on the network's own grid, so that what it finds
        there differs only by what it sees around it.
        """
        if pixels.ndim != 2 or pixels.dtype != np.uint8:
            raise InvalidInput(
                f"pixels of shape {pixels.shape} and type {pixels.dtype}", remedy="give (H, W) of uint8"
            )
        if not pixels.size:
            raise ImageTooSmall(f"pixels of shape {pixels.shape}", remedy="give at least one pixel")
        shape, corner = _field(pixels.shape)
        inner = tuple(slice(first, first + side) for first, side in zip(corner, pixels.shape, strict=True))
        field = np.full(shape, pixels[0, 0], np.float32)
        field[inner] = pixels
        seen = _seen(extent, corner, shape)
        planes = np.zeros((4, *shape), np.float32)
        part = planes[:, *seen]
        part[0], part[3], (rows, columns), details = self._run(np.pad(field[seen], BORDER))
        cosine, sine, ending = details.T
        part[1, rows, columns] = np.arctan2(sine, cosine)
        part[2, rows, columns] = 1 / (1 + np.exp(-ending))
        return Planes(*map(_frozen, planes[:, *inner]))

    def _run(self, field: NDArray[np.float32]) -> list[NDArray[Any]]:
        inputs = {
            "coarse": stem(field, self._coarse, True)[None],
            "fine": stem(field, self._fine, False)[None],
        }
        results: list[NDArray[Any]] = self._session.run(None, inputs)
        return results


def load(cache: Path | None = None) -> Leader:
    """Load the network, building its graph on first use.

    Parameters
    ----------
    cache : Path, optional
        Folder for the built graph; by default the user's cache folder. A damaged file in it is replaced, a
        folder that cannot be written is done without.

    Raises
    ------
    PapilarError
        The weights are not installed, or are not those this version was made for.
    """
    folder = platformdirs.user_cache_path("papilar") if cache is None else cache
    path = folder / f"leader-{Leader.version}.graph"
    graph = _read(path)
    if graph is None:
        graph = build(weights_path())
        _write(path, graph)
    return Leader(graph)


def weights_path() -> Path:
    """Find the weights among the installed files, without importing the package that brings them.

    Raises
    ------
    PapilarError
        They are not installed.
    """
    remedy = "install pyfing==0.7.3"
    try:
        files = metadata.files("pyfing") or []
    except metadata.PackageNotFoundError:
        raise PapilarError("the weights of LEADER are not installed", remedy=remedy) from None
    found = [Path(str(file.locate())) for file in files if file.name == "LEADER.weights.h5"]
    if not found or not found[0].is_file():
        raise PapilarError("the installed pyfing lacks LEADER.weights.h5", remedy=remedy)
    return found[0]


def _field(shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shape of the field around a print, and the print's first pixel in it."""
    sides = tuple(-(-side // MULTIPLE) * MULTIPLE for side in shape)
    return sides, tuple((whole - side) // 2 for whole, side in zip(sides, shape, strict=True))


def _seen(extent: Extent | None, corner: tuple[int, ...], shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Return the part of the field that the network is shown, on the grid of its coarsest layer."""
    whole = tuple(slice(0, side) for side in shape)
    if extent is None:
        return whole
    spans = zip(extent, corner, shape, strict=True)
    part = tuple(
        slice(
            max(0, first + offset - MARGIN) // MULTIPLE * MULTIPLE,
            min(side, -(-(last + offset + MARGIN) // MULTIPLE) * MULTIPLE),
        )
        for (first, last), offset, side in spans
    )
    rows, columns = (span.stop - span.start for span in part)
    return part if rows * columns <= _WORTH_IT * shape[0] * shape[1] else whole


def _frozen(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    plane = np.array(plane, np.float32, order="C")
    plane.flags.writeable = False
    return plane


def _read(path: Path) -> bytes | None:
    """Return the cached graph, None where there is none or it is damaged."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    head, graph = data[: len(_MAGIC) + 32], data[len(_MAGIC) + 32 :]
    return graph if head == _MAGIC + hashlib.sha256(graph).digest() else None


def _write(path: Path, graph: bytes) -> None:
    """Cache the graph in one step that no reader can see half done; where that fails, do without."""
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.stem, delete=False) as file:
            temporary = Path(file.name)
            file.write(_MAGIC + hashlib.sha256(graph).digest() + graph)
        os.replace(temporary, path)
    except OSError:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
