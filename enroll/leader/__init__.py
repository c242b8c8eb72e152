"""The LEADER network: pixels in, four planes of minutiae out. The only door to ONNX Runtime.

The graph is built from the published weights by `enroll.leader.network` and cached on the disk.

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

import numpy as np
import onnxruntime
import platformdirs
from numpy.typing import NDArray

from enroll.errors import ImageTooSmall
from enroll.leader.network import BUILDER, WEIGHTS_SHA256, build
from matcher.errors import InvalidInput, PapilarError

MULTIPLE = 32
"""The network halves its input five times."""

_MAGIC = b"PAPLEAD1"


@dataclass(frozen=True, slots=True, eq=False)
class Planes:
    """What the network says of every pixel.

    Attributes
    ----------
    position : ndarray of float32, shape (H, W)
        Likelihood of a minutia, 0 to 1.
    direction : ndarray of float32, shape (H, W)
        Direction of the minutia, radians in [-pi, pi], counter-clockwise as seen (y up).
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
        16 hexadecimal digits which change with the weights or the graph, for a template's provenance.
    """

    version = hashlib.sha256(f"{WEIGHTS_SHA256}:{BUILDER}".encode()).hexdigest()[:16]

    def __init__(self, graph: bytes) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.use_deterministic_compute = True
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def planes(self, pixels: NDArray[np.uint8]) -> Planes:
        """Run the network on one print.

        Parameters
        ----------
        pixels : ndarray of uint8, shape (H, W)
            The print at 500 ppi, ridges dark.

        Returns
        -------
        Planes
            Of the same shape; the same bytes on every call, whichever thread makes it.

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
        authors' program.
        """
        if pixels.ndim != 2 or pixels.dtype != np.uint8:
            raise InvalidInput(
                f"pixels of shape {pixels.shape} and type {pixels.dtype}", remedy="give (H, W) of uint8"
            )
        if not pixels.size:
            raise ImageTooSmall(f"pixels of shape {pixels.shape}", remedy="give at least one pixel")
        (height, width), (padded_height, padded_width) = pixels.shape, (_padded(n) for n in pixels.shape)
        top, left = (padded_height - height) // 2, (padded_width - width) // 2
        field = np.full((1, 1, padded_height, padded_width), pixels[0, 0], np.float32)
        field[0, 0, top : top + height, left : left + width] = pixels
        raw = self._session.run(None, {"pixels": field})[0][0]
        position, cosine, sine, type_, quality = raw[:, top : top + height, left : left + width]
        return Planes(*map(_frozen, (position, np.arctan2(sine, cosine), type_, quality)))


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


def _padded(length: int) -> int:
    return -(-length // MULTIPLE) * MULTIPLE


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
