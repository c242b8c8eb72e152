"""The LEADER network as an ONNX graph.

The published weights are turned into an ONNX graph of our own, which computes the same function in a fifth
of the time of a converted one. Nothing is approximated; linear steps that follow each other are multiplied
out beforehand, and work moves to the lowest resolution at which it can be done, and to where it is wanted:

- ``conv_red``, the residual addition and ``conv_adj`` of a bottleneck become two thin convolutions, because
  nothing else reads the sum; in the heads ``conv1``, behind the upsampling, joins them.
- Scale, offset and centring of a layer normalisation go into the convolution after it or before it.
- What is pointwise commutes with nearest-neighbour upsampling, and a 5 x 5 convolution of an upsampled plane
  is four 3 x 3 convolutions of the plane itself, so the heads never see full resolution.
- Direction and type are wanted of minutiae alone: their heads run on the 9 x 9 pixels at half resolution that
  decide on one, after the position's head has said where these are.
- The first layers, all at full resolution, are not in the graph but in `enroll.kernels`.
- Channels are padded with zeros to whole SIMD blocks, without which some depthwise convolutions run several
  times slower; wide hidden layers are computed in strips that stay in the processor's cache.

References
----------
.. [1] R. Cappelli, M. Ferrara, "LEADER: Lightweight End-to-End Attention-Gated Dual Autoencoder for Robust
   Minutiae Extraction", 2026, arXiv:2602.15493. Weights: MIT licence, in the wheel `pyfing`.
"""

import hashlib
from base64 import b64decode, b64encode
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from enroll.kernels import TAPS
from matcher.errors import PapilarError

WEIGHTS_SHA256 = "0cbf12af936482d10ba54b23f40a9b192ab767df2f81bc96c5954585735fefe6"
"""Of `LEADER.weights.h5` in pyfing 0.7.3: other weights are another extractor."""

BUILDER = 2
"""Raise it with every change of the graph or of the stems: it renews the caches and `Leader.version`."""

DETAILED = 0.1
"""Least quality of a place whose direction and type are computed: half of what a minutia has to have."""

_EPSILON = 1e-3  # Keras' default in LayerNormalization, which LEADER was trained with
_BLOCK = 16  # channels in a SIMD block of ONNX Runtime's blocked layout with AVX-512
_FAR = np.iinfo(np.int64).max
_SEEN = 9  # half-resolution pixels that decide on a pixel's direction and type, either way
_STRIPS = (64, 8, 4, 1, 1)  # at half resolution, a quarter and so on: divides every count of pixels there

_PLANE = [1, 1, "h", "w"]

_Array = NDArray[np.float64]
_Weights = dict[str, list[_Array]]


def build(weights: Path) -> bytes:
    """Build the ONNX graph of all but the first layers, for fields (h, w) of which both are multiples of 32.

    Of `coarse` and `fine`, float32 (1, c, h / 2, w / 2), which `enroll.kernels` makes, it gives position
    and quality, float32 (1, 1, h, w); the places of quality `DETAILED` or more, row and column, int64 (2, n);
    and of each the cosine and sine of its direction (unscaled) and its type (n, 3). The weights of the stems
    are its metadata `coarse` and `fine`; see `stem_weights`.

    Parameters
    ----------
    weights : Path
        Keras weights file.

    Raises
    ------
    PapilarError
        The file is not the one of `WEIGHTS_SHA256`.
    """
    found = hashlib.sha256(weights.read_bytes()).hexdigest()
    if found != WEIGHTS_SHA256:
        raise PapilarError(f"LEADER weights with SHA-256 {found}", remedy="install pyfing==0.7.3")
    network = _Network(_read_weights(weights))
    outputs = network.whole()
    graph = helper.make_graph(
        network.graph.nodes,
        "leader",
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, len(stem), "h / 2", "w / 2"])
            for name, stem in network.stems.items()
        ],
        [helper.make_tensor_value_info(*output) for output in outputs],
        list(network.graph.initializers.values()),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    stems = {name: b64encode(stem.tobytes()).decode() for name, stem in network.stems.items()}
    helper.set_model_props(model, stems)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def stem_weights(metadata: str) -> NDArray[np.float32]:
    """Return a stem's weights (channels, 28), as `enroll.kernels` takes them."""
    return np.frombuffer(b64decode(metadata), np.float32).reshape(-1, TAPS + 3)


def _read_weights(path: Path) -> _Weights:
    """Map each layer's name to its arrays (Keras order and layout: kernels are height, width, in, out)."""
    with h5py.File(path) as file:
        stored = [layer["vars"] for layer in file["layers"].values()]
        return {
            group.attrs["name"]: [group[str(i)][()].astype(np.float64) for i in range(len(group))]
            for group in stored
            if len(group)
        }


@dataclass(frozen=True, slots=True, eq=False)
class _Tensor:
    """A value (1, width, h, w) of the graph, of whose channels some may be zeros that only fill a block."""

    name: str
    width: int
    channels: NDArray[np.intp]  # where the network's own channels stand

    @classmethod
    def of(cls, name: str, count: int, block: int = 1) -> Self:
        return cls(name, -(-count // block) * block, np.arange(count))

    def spread(self, array: _Array, axis: int) -> _Array:
        """Give `array`, one entry a channel along `axis`, zeros for the filling."""
        shape = list(array.shape)
        shape[axis] = self.width
        wide = np.zeros(shape)
        np.moveaxis(wide, axis, 0)[self.channels] = np.moveaxis(array, axis, 0)
        return wide


class _Graph:
    """Nodes and constants, as they are written."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.initializers: dict[bytes, Any] = {}

    def constant(self, value: Any, dtype: type = np.float32) -> str:
        array: NDArray[Any] = np.ascontiguousarray(value, dtype)
        key = str((array.shape, array.dtype)).encode() + array.tobytes()
        if key not in self.initializers:
            name = f"c{len(self.initializers)}"
            self.initializers[key] = numpy_helper.from_array(array, name)
        return str(self.initializers[key].name)

    def whole(self, value: Any) -> str:
        return self.constant(value, np.int64)

    def nodes_of(self, operator: str, *inputs: str, outputs: int, **attributes: Any) -> list[str]:
        names = [f"v{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), names, **attributes))
        return names

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        return self.nodes_of(operator, *inputs, outputs=1, **attributes)[0]

    def same(self, operator: str, x: _Tensor, *inputs: str, **attributes: Any) -> _Tensor:
        """Apply an operator that leaves every channel where it is."""
        return _Tensor(self.node(operator, x.name, *inputs, **attributes), x.width, x.channels)

    def convolve(
        self,
        x: _Tensor,
        kernel: _Array,
        bias: _Array | None = None,
        *,
        dilation: int = 1,
        block: int = 1,
        valid: bool = False,
    ) -> _Tensor:
        """Convolve with zero borders, or with none; `kernel` is (k, k, in, out), or (in, out) for 1 x 1."""
        kernel = kernel if kernel.ndim == 4 else kernel[None, None]
        side, pad = kernel.shape[0], 0 if valid else dilation * (kernel.shape[0] - 1) // 2
        out = _Tensor.of("", kernel.shape[3], block)
        wide = out.spread(x.spread(kernel, 2), 3).transpose(3, 2, 0, 1)
        biases = [] if bias is None else [self.constant(out.spread(bias, 0))]
        name = self.node(
            "Conv", x.name, self.constant(wide), *biases,
            kernel_shape=[side, side], pads=[pad] * 4, dilations=[dilation] * 2,
        )  # fmt: skip
        return _Tensor(name, out.width, out.channels)

    def depthwise(self, x: _Tensor, kernel: _Array, *, valid: bool = False) -> _Tensor:
        """Convolve every channel with its own kernel of (k, k, channels, 1)."""
        side = kernel.shape[0]
        wide, pad = self.constant(x.spread(kernel, 2).transpose(2, 3, 0, 1)), 0 if valid else side // 2
        return self.same("Conv", x, wide, kernel_shape=[side] * 2, pads=[pad] * 4, group=x.width)

    def concat(self, *parts: _Tensor) -> _Tensor:
        starts = np.cumsum([0, *(part.width for part in parts)])
        channels = [part.channels + start for part, start in zip(parts, starts, strict=False)]
        name = self.node("Concat", *(part.name for part in parts), axis=1)
        return _Tensor(name, int(starts[-1]), np.concatenate(channels))

    def pool(self, x: _Tensor, operator: str) -> _Tensor:
        return self.same(operator, x, kernel_shape=[2, 2], strides=[2, 2])

    def gelu(self, x: _Tensor) -> _Tensor:
        return self.same("Gelu", x)  # exact (erf), Keras' default

    def inner(self, name: str, rim: int) -> str:
        """Take the rim off planes."""
        return self.node("Slice", name, self.whole([rim] * 2), self.whole([-rim] * 2), self.whole([2, 3]))

    def grid(self, name: str) -> tuple[str, str]:
        """Split rows and columns (2, n, k) into (n, k, 1) and (n, 1, k)."""
        both = self.nodes_of("Split", name, outputs=2, axis=0, num_outputs=2)
        shapes = [-1, _SEEN, 1], [-1, 1, _SEEN]
        row, column = (
            self.node("Reshape", one, self.whole(shape)) for one, shape in zip(both, shapes, strict=True)
        )
        return row, column

    def transpose(self, name: str, *order: int) -> str:
        return self.node("Transpose", name, perm=order)

    def standardise(self, x: _Tensor) -> str:
        """Divide each pixel's channels by their deviation and subtract their mean, channels last."""
        one, zero = self.constant(np.ones(x.width)), self.constant(np.zeros(x.width))
        last = self.transpose(x.name, 0, 2, 3, 1)
        return self.node("LayerNormalization", last, one, zero, axis=-1, epsilon=_EPSILON)

    def divide_by_deviation(self, x: _Tensor) -> _Tensor:
        """Do the same to a tensor with filling, whose mean has to be left to the next convolution."""
        axis, share = self.constant([1], np.int64), self.constant(1 / len(x.channels))
        mean = self.node("Mul", self.node("ReduceSum", x.name, axis), share)
        square = self.node("Mul", self.node("ReduceSumSquare", x.name, axis), share)
        less = self.node("Sub", self.node("Mul", mean, mean), self.constant(_EPSILON))
        deviation = self.node("Sqrt", self.node("Sub", square, less))
        return self.same("Div", x, deviation)


class _Network:
    """The layers of [1]_, by the names of its authors' program, with the linear ones multiplied out."""

    def __init__(self, weights: _Weights) -> None:
        self.weights = weights
        self.graph = _Graph()
        self.stems = {"coarse": self.stem("stem0"), "fine": self.stem("stem1")}

    def whole(self) -> list[tuple[str, int, list[Any]]]:
        """Give name, type and shape of what `build` says."""
        coarse, fine = (_Tensor.of(name, len(stem)) for name, stem in self.stems.items())
        context = self.context(coarse)
        refined = self.refinement(self.graph.concat(self.attend(context), fine))
        position = self.likelihood(refined)
        quality = self.peaks(position)
        places, details = self.details(refined, quality)
        planes = [(name, TensorProto.FLOAT, _PLANE) for name in (position, quality)]
        return [*planes, (places, TensorProto.INT64, [2, "n"]), (details, TensorProto.FLOAT, ["n", 3])]

    def context(self, x: _Tensor) -> _Tensor:
        skipped = []
        for level in range(4):
            skipped.append(self.separable(f"enc0_{level}", x))
            x = self.down(skipped[-1])
        for level in reversed(range(4)):
            x = self.up(self.separable(f"dec0_{level}", x), skipped[level])
        return x

    def attend(self, x: _Tensor) -> _Tensor:
        graph, parts = self.graph, []
        for dilation in (1, 3, 6):
            kernel, bias = self.weights[f"attention_conv_d{dilation}"]
            parts.append(graph.gelu(graph.convolve(x, kernel, bias, dilation=dilation)))
        gate = graph.convolve(graph.concat(*parts), *self.weights["attention_s"])
        return graph.same("Mul", x, graph.node("Sigmoid", gate.name))

    def refinement(self, x: _Tensor) -> _Tensor:
        skipped = []
        for level in range(4):
            skipped.append(self.bottleneck(f"enc1_{level}", x, strips=_STRIPS[level]))
            x = self.down(skipped[-1])
        for level in reversed(range(4)):
            # The heads normalise without filling, which is faster still where it is possible.
            block = _BLOCK if level else 1
            x = self.bottleneck(f"dec1_{level}", x, block=block, strips=_STRIPS[level + 1])
            x = self.up(x, skipped[level])
        return x

    def stem(self, name: str) -> NDArray[np.float32]:
        """Join the weights of the plain and of the dilated convolution, and of their normalisation."""
        (plain, bias), (dilated, bias2) = self.weights[f"{name}_conv"], self.weights[f"{name}_dilated_conv"]
        kernels = np.concatenate((plain, dilated), axis=3).reshape(TAPS, -1)
        rest = np.concatenate((bias, bias2)), *self.weights[f"{name}_ln"]
        return np.vstack((kernels, *rest)).T.astype(np.float32, order="C")

    def separable(self, name: str, x: _Tensor) -> _Tensor:
        depthwise, pointwise, bias = self.weights[f"{name}_conv"]
        return self.normalised(name, self.graph.depthwise(x, depthwise), pointwise, bias)

    def normalised(self, name: str, x: _Tensor, kernel: _Array, bias: _Array) -> _Tensor:
        """Convolve, normalise, GELU; the convolution gives values already centred and scaled."""
        graph = self.graph
        gamma, beta = self.weights[f"{name}_ln"]
        y = graph.convolve(x, _centred(kernel) * gamma, _centred(bias) * gamma)
        unscale = (1 / (len(gamma) * gamma**2))[:, None]
        square = graph.same("Mul", y, y.name)
        variance = graph.convolve(square, unscale, np.array([_EPSILON]))
        y = graph.same("Div", y, graph.node("Sqrt", variance.name))
        return graph.gelu(graph.same("Add", y, graph.constant(beta[:, None, None])))

    def bottleneck(
        self,
        name: str,
        x: _Tensor,
        *,
        block: int = 1,
        after: tuple[_Array, _Array] | None = None,
        strips: int = 1,
        valid: bool = False,
    ) -> _Tensor:
        """Depthwise, normalise, expand, GELU, reduce, add `x`, adjust; and the 1 x 1 convolution `after`."""
        graph = self.graph
        (depthwise,) = self.weights[f"{name}_depthwise_conv"]
        expand, reduce, direct = self.bottleneck_weights(name, after)
        y = graph.depthwise(x, depthwise, valid=valid)
        done = []
        for strip in self.strips(y, strips):
            hidden = graph.gelu(graph.convolve(strip, *expand))
            done.append(graph.convolve(hidden, *reduce, block=block))
        inner = _Tensor(graph.inner(x.name, len(depthwise) // 2), x.width, x.channels) if valid else x
        around = graph.convolve(inner, direct, block=block)
        joined = graph.node("Concat", *(y.name for y in done), axis=2)
        return graph.same("Add", around, graph.node("Reshape", joined, graph.node("Shape", around.name)))

    def bottleneck_weights(
        self, name: str, after: tuple[_Array, _Array] | None
    ) -> tuple[tuple[_Array, _Array], tuple[_Array, _Array], _Array]:
        """Give the layers before the GELU, those behind it, and the kernel of the way around it."""
        gamma, beta = self.weights[f"{name}_ln"]
        (expand, bias), (reduce, bias2) = (
            self.pointwise(f"{name}_conv_exp"),
            self.pointwise(f"{name}_conv_red"),
        )
        direct, bias3 = self.pointwise(f"{name}_conv_adj")
        if after is not None:
            direct, bias3 = direct @ after[0], bias3 @ after[0] + after[1]
        scaled = gamma[:, None] * expand
        # Subtracting the mean of the rows here subtracts the mean of the channels there.
        centred = scaled - scaled.mean(axis=0)
        return (centred, bias + beta @ expand), (reduce @ direct, bias2 @ direct + bias3), direct

    def strips(self, x: _Tensor, count: int) -> list[_Tensor]:
        """Normalise, and cut into strips (1, width, 1, n) that stay in the cache. One is no strip."""
        graph, filled = self.graph, len(x.channels) < x.width
        name = graph.divide_by_deviation(x).name if filled else graph.standardise(x)
        names = [name]
        if count > 1:
            flat = graph.whole([1, x.width, count, -1] if filled else [1, count, -1, x.width])
            split = {"axis": 2 if filled else 1, "outputs": count, "num_outputs": count}
            names = graph.nodes_of("Split", graph.node("Reshape", name, flat), **split)
        return [
            _Tensor(each if filled else graph.transpose(each, 0, 3, 1, 2), x.width, x.channels)
            for each in names
        ]

    def down(self, x: _Tensor) -> _Tensor:
        """Halve: the first half of the channels by their maximum, the second by their mean."""
        half = x.width // 2
        sizes = self.graph.constant([half, x.width - half], np.int64)
        names = self.graph.nodes_of("Split", x.name, sizes, outputs=2, axis=1)
        first, second = (_Tensor.of(name, half) for name in names)
        return self.graph.concat(self.graph.pool(first, "MaxPool"), self.graph.pool(second, "AveragePool"))

    def up(self, x: _Tensor, skipped: _Tensor) -> _Tensor:
        how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return self.graph.concat(
            self.graph.same("Resize", x, "", self.graph.constant([1, 1, 2, 2]), **how), skipped
        )

    def likelihood(self, x: _Tensor) -> str:
        """Give the plane of the position."""
        quarters = self.head(0, "pos", x)
        full = self.graph.node("DepthToSpace", quarters.name, blocksize=2, mode="CRD")
        return self.graph.node("Sigmoid", full)

    def details(self, x: _Tensor, quality: str) -> tuple[str, str]:
        """Give the minutiae's places (2, n), and of each the cosine, sine and type (n, 3)."""
        graph, whole = self.graph, self.graph.whole
        found = graph.node("NonZero", graph.node("GreaterOrEqual", quality, graph.constant(DETAILED)))
        found = graph.node("Slice", found, whole([2]), whole([4]))
        places = graph.node("Concat", whole([[0], [0]]), found, axis=1)  # the layers want at least one
        patches, inside = self.patches(x, places)
        heads = [self.head(k, name, patches, inside) for k, name in ((1, "dir"), (2, "typ"))]
        quarters = graph.node("Reshape", graph.concat(*heads).name, whole([-1, 3, 4]))
        odd = graph.node("Mul", graph.node("Mod", places, whole([2])), whole([[2], [1]]))
        quarter = graph.node("Reshape", graph.node("ReduceSum", odd, whole([0])), whole([-1, 1, 1]))
        quarter = graph.node("Expand", quarter, whole([1, 3, 1]))
        chosen = graph.node("Squeeze", graph.node("GatherElements", quarters, quarter, axis=2), whole([2]))
        return found, graph.node("Slice", chosen, whole([1]), whole([_FAR]))

    def patches(self, x: _Tensor, places: str) -> tuple[_Tensor, str]:
        """Cut out what the last layers see around each place (n, width, 9, 9), zero outside of `x`.

        The second result is 1 where the middles (n, 1, 3, 3) of these patches lie inside, else 0.
        """
        graph, whole = self.graph, self.graph.whole
        halves = graph.node("Reshape", graph.node("Div", places, whole([2])), whole([2, -1, 1]))
        wanted = graph.node("Add", halves, whole(np.arange(_SEEN) - _SEEN // 2))
        size = graph.node("Reshape", graph.node("Shape", x.name, start=2), whole([2, 1, 1]))
        at = graph.node("Mod", wanted, size)
        down, across = graph.grid(graph.node("Cast", graph.node("Equal", at, wanted), to=TensorProto.FLOAT))
        inside = graph.node("Unsqueeze", graph.node("Mul", down, across), whole([1]))
        row, column = graph.grid(at)
        width = graph.node("Shape", x.name, start=3)
        flat = graph.node("Reshape", x.name, whole([x.width, -1]))
        index = graph.node("Add", graph.node("Mul", row, width), column)
        cut = graph.transpose(graph.node("Gather", flat, index, axis=1), 1, 0, 2, 3)
        patches = _Tensor(graph.node("Mul", cut, inside), x.width, x.channels)
        return patches, graph.inner(inside, 3)

    def head(self, k: int, name: str, x: _Tensor, inside: str = "") -> _Tensor:
        """Give a head's outputs, each in four quarters; of patches where `inside` says what of them is."""
        graph = self.graph
        (kernel, bias), (second, second_bias) = (self.pointwise(f"head_{k}_conv{i}") for i in (1, 2))
        gamma, beta = self.weights[f"head_{k}_ln"]
        after = _centred(kernel), _centred(bias)
        strips, valid = 1 if inside else _STRIPS[0], bool(inside)
        hidden = self.bottleneck(f"head_{k}_ibc", x, after=after, strips=strips, valid=valid)
        square = graph.same("Mul", hidden, hidden.name)
        variance = graph.convolve(square, np.full((4, 1), 1 / 4), np.array([_EPSILON]))
        hidden = graph.same("Div", hidden, graph.node("Sqrt", variance.name))
        hidden = graph.gelu(graph.convolve(hidden, gamma[:, None] * second, second_bias + beta @ second))
        if inside:
            hidden = graph.same("Mul", hidden, inside)
        last, last_bias = self.weights[f"head_conv_{name}"]
        return graph.convolve(hidden, _quarters(last), np.repeat(last_bias, 4), valid=valid)

    def peaks(self, position: str) -> str:
        graph = self.graph
        blurred = graph.convolve(_Tensor.of(position, 1), self.weights["nms_Gaussian_blur"][0])
        highest = graph.same("MaxPool", blurred, kernel_shape=[7, 1], pads=[3, 0, 3, 0])
        highest = graph.same("MaxPool", highest, kernel_shape=[1, 7], pads=[0, 3, 0, 3])
        is_peak = graph.node("Equal", blurred.name, highest.name)
        return graph.node("Mul", blurred.name, graph.node("Cast", is_peak, to=TensorProto.FLOAT))

    def pointwise(self, name: str) -> tuple[_Array, _Array]:
        kernel, bias = self.weights[name]
        return kernel[0, 0], bias


def _centred(kernel: _Array) -> _Array:
    """Make the outputs of a convolution, or its biases, sum to zero."""
    return np.asarray(kernel - kernel.mean(axis=-1, keepdims=True))


def _quarters(kernel: _Array) -> _Array:
    """Turn a 5 x 5 kernel for a plane upsampled twofold into one for the plane: each output in four.

    Pixel 2 y + p of the upsampled plane, seen through tap t, is pixel y + (p + t - 2) // 2 of the plane.
    """
    _, _, count, outputs = kernel.shape
    quarters = np.zeros((3, 3, count, outputs, 2, 2))
    for row, column, down, across in np.ndindex(5, 5, 2, 2):
        quarters[(down + row) // 2, (across + column) // 2, :, :, down, across] += kernel[row, column]
    return quarters.reshape(3, 3, count, 4 * outputs)
