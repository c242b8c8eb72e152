"""The LEADER network as an ONNX graph.

The published weights are turned into an ONNX graph of our own, which computes the same function in a third
of the time of a converted one. Nothing is approximated; linear steps that follow each other are multiplied
out beforehand, and work moves to the lowest resolution at which it can be done:

- ``conv_red``, the residual addition and ``conv_adj`` of a bottleneck become two thin convolutions, because
  nothing else reads the sum; in the heads ``conv1``, behind the upsampling, joins them.
- Scale, offset and centring of a layer normalisation go into the convolution after it or before it.
- What is pointwise commutes with nearest-neighbour upsampling, and a 5 x 5 convolution of an upsampled plane
  is four 3 x 3 convolutions of the plane itself, so the heads never see full resolution.
- Channels are padded with zeros to whole SIMD blocks, without which some depthwise convolutions run several
  times slower; wide hidden layers are computed in strips that stay in the processor's cache.

References
----------
.. [1] R. Cappelli, M. Ferrara, "LEADER: Lightweight End-to-End Attention-Gated Dual Autoencoder for Robust
   Minutiae Extraction", 2026, arXiv:2602.15493. Weights: MIT licence, in the wheel `pyfing`.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from matcher.errors import PapilarError

WEIGHTS_SHA256 = "0cbf12af936482d10ba54b23f40a9b192ab767df2f81bc96c5954585735fefe6"
"""Of `LEADER.weights.h5` in pyfing 0.7.3: other weights are another extractor."""

BUILDER = 1
"""Raise it with every change of the graph: it renews the caches and `Leader.version`."""

_EPSILON = 1e-3  # Keras' default in LayerNormalization, which LEADER was trained with
_BLOCK = 16  # channels in a SIMD block of ONNX Runtime's blocked layout with AVX-512
_STRIPS = 16  # divides every height at half resolution; a strip of 208 channels is about 2 MB

_Array = NDArray[np.float64]
_Weights = dict[str, list[_Array]]


def build(weights: Path) -> bytes:
    """Build the ONNX graph: `pixels` (1, 1, h, w) float32 0..255 to (1, 5, h, w), h and w multiples of 32.

    The five planes are position, cosine and sine of the direction (unscaled), type, quality.

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
    output = network.whole()
    graph = helper.make_graph(
        network.graph.nodes,
        "leader",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [1, 1, "h", "w"])],
        [helper.make_tensor_value_info(output.name, TensorProto.FLOAT, [1, 5, "h", "w"])],
        list(network.graph.initializers.values()),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


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
        self, x: _Tensor, kernel: _Array, bias: _Array | None = None, *, dilation: int = 1, block: int = 1
    ) -> _Tensor:
        """Convolve with zero borders; `kernel` is (k, k, in, out), or (in, out) for 1 x 1."""
        kernel = kernel if kernel.ndim == 4 else kernel[None, None]
        side, pad = kernel.shape[0], dilation * (kernel.shape[0] - 1) // 2
        out = _Tensor.of("", kernel.shape[3], block)
        wide = out.spread(x.spread(kernel, 2), 3).transpose(3, 2, 0, 1)
        biases = [] if bias is None else [self.constant(out.spread(bias, 0))]
        name = self.node(
            "Conv", x.name, self.constant(wide), *biases,
            kernel_shape=[side, side], pads=[pad] * 4, dilations=[dilation] * 2,
        )  # fmt: skip
        return _Tensor(name, out.width, out.channels)

    def depthwise(self, x: _Tensor, kernel: _Array) -> _Tensor:
        """Convolve every channel with its own kernel of (k, k, channels, 1)."""
        side = kernel.shape[0]
        wide = self.constant(x.spread(kernel, 2).transpose(2, 3, 0, 1))
        return self.same("Conv", x, wide, kernel_shape=[side] * 2, pads=[side // 2] * 4, group=x.width)

    def concat(self, *parts: _Tensor) -> _Tensor:
        starts = np.cumsum([0, *(part.width for part in parts)])
        channels = [part.channels + start for part, start in zip(parts, starts, strict=False)]
        name = self.node("Concat", *(part.name for part in parts), axis=1)
        return _Tensor(name, int(starts[-1]), np.concatenate(channels))

    def pool(self, x: _Tensor, operator: str) -> _Tensor:
        return self.same(operator, x, kernel_shape=[2, 2], strides=[2, 2])

    def gelu(self, x: _Tensor) -> _Tensor:
        return self.same("Gelu", x)  # exact (erf), Keras' default

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

    def whole(self) -> _Tensor:
        pixels = _Tensor.of("pixels", 1)
        coarse, fine = self.stem("stem0", pixels, "MaxPool"), self.stem("stem1", pixels, "AveragePool")
        context = self.context(coarse)
        refined = self.refinement(self.graph.concat(self.attend(context), fine))
        return self.heads(refined)

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
            skipped.append(self.bottleneck(f"enc1_{level}", x, striped=level == 0))
            x = self.down(skipped[-1])
        for level in reversed(range(4)):
            # The heads normalise without filling, which is faster still where it is possible.
            x = self.bottleneck(f"dec1_{level}", x, block=_BLOCK if level else 1)
            x = self.up(x, skipped[level])
        return x

    def stem(self, name: str, x: _Tensor, pooling: str) -> _Tensor:
        """Join the plain and the dilated 5 x 5 convolution in one of 9 x 9, so that it can be centred."""
        (plain, bias), (dilated, bias2) = self.weights[f"{name}_conv"], self.weights[f"{name}_dilated_conv"]
        count = plain.shape[3]
        kernel = np.zeros((9, 9, 1, 2 * count))
        kernel[2:7, 2:7, :, :count] = plain
        kernel[::2, ::2, :, count:] = dilated
        return self.graph.pool(self.normalised(name, x, kernel, np.concatenate((bias, bias2))), pooling)

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
        striped: bool = False,
    ) -> _Tensor:
        """Depthwise, normalise, expand, GELU, reduce, add `x`, adjust; and the 1 x 1 convolution `after`."""
        graph = self.graph
        (depthwise,) = self.weights[f"{name}_depthwise_conv"]
        expand, reduce, direct = self.bottleneck_weights(name, after)
        y = graph.depthwise(x, depthwise)
        if striped:
            y = self.striped(y, expand, reduce, block)
        else:
            hidden = graph.gelu(graph.convolve(self.standard(y), *expand))
            y = graph.convolve(hidden, *reduce, block=block)
        return graph.same("Add", y, graph.convolve(x, direct, block=block).name)

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

    def standard(self, x: _Tensor) -> _Tensor:
        if len(x.channels) < x.width:
            return self.graph.divide_by_deviation(x)
        name = self.graph.transpose(self.graph.standardise(x), 0, 3, 1, 2)
        return _Tensor(name, x.width, x.channels)

    def striped(
        self, x: _Tensor, expand: tuple[_Array, _Array], reduce: tuple[_Array, _Array], block: int
    ) -> _Tensor:
        """Run the pointwise middle of a bottleneck strip by strip, so that it stays in the cache."""
        graph = self.graph
        done = []
        split = {"outputs": _STRIPS, "axis": 1, "num_outputs": _STRIPS}
        for strip in graph.nodes_of("Split", graph.standardise(x), **split):
            y = _Tensor(graph.transpose(strip, 0, 3, 1, 2), x.width, x.channels)
            done.append(graph.convolve(graph.gelu(graph.convolve(y, *expand)), *reduce, block=block))
        return _Tensor(graph.node("Concat", *(y.name for y in done), axis=2), done[0].width, done[0].channels)

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

    def heads(self, x: _Tensor) -> _Tensor:
        """Give the five planes."""
        graph = self.graph
        hidden = graph.concat(*(self.head(k, x) for k in range(3)))
        square = graph.same("Mul", hidden, hidden.name)
        variance = graph.convolve(square, np.kron(np.eye(3), np.ones((4, 4))) / 4, np.full(12, _EPSILON))
        hidden = graph.same("Div", hidden, graph.node("Sqrt", variance.name))
        hidden = graph.gelu(graph.convolve(hidden, *self.second_convolutions()))
        quarters = graph.convolve(hidden, *self.last_convolutions())
        full = graph.node("DepthToSpace", quarters.name, blocksize=2, mode="CRD")
        sizes = graph.constant([1, 2, 1], np.int64)
        position, direction, type_ = graph.nodes_of("Split", full, sizes, outputs=3, axis=1)
        position, type_ = graph.node("Sigmoid", position), graph.node("Sigmoid", type_)
        return _Tensor.of(graph.node("Concat", position, direction, type_, self.peaks(position), axis=1), 5)

    def head(self, k: int, x: _Tensor) -> _Tensor:
        kernel, bias = self.pointwise(f"head_{k}_conv1")
        after = _centred(kernel), _centred(bias)
        return self.bottleneck(f"head_{k}_ibc", x, after=after, striped=True)

    def second_convolutions(self) -> tuple[_Array, _Array]:
        """Join the three heads' `conv2`, with the scale and offset of the normalisation before."""
        kernel, bias = np.zeros((12, 12)), np.zeros(12)
        for k in range(3):
            own = slice(4 * k, 4 * k + 4)
            (gamma, beta), (second, second_bias) = (
                self.weights[f"head_{k}_ln"],
                self.pointwise(f"head_{k}_conv2"),
            )
            kernel[own, own] = gamma[:, None] * second
            bias[own] = second_bias + beta @ second
        return kernel, bias

    def last_convolutions(self) -> tuple[_Array, _Array]:
        """Join the three last convolutions, for the four quarters of each upsampled pixel."""
        kernels, biases = np.zeros((5, 5, 12, 4)), []
        for k, (name, outputs) in enumerate((("pos", [0]), ("dir", [1, 2]), ("typ", [3]))):
            kernel, bias = self.weights[f"head_conv_{name}"]
            kernels[:, :, 4 * k : 4 * k + 4, outputs] = kernel
            biases += list(bias)
        return _quarters(kernels), np.repeat(biases, 4)

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
