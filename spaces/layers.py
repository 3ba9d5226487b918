"""The inventory: what a model offers to quantization, and what was left alone and why."""

from __future__ import annotations

from dataclasses import dataclass

CONVS = ("conv1d", "conv2d", "conv3d")
TRANSPOSED = ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
OPS = (*CONVS, *TRANSPOSED, "linear")


@dataclass(frozen=True, slots=True)
class LayerSpec:
    """One quantizable op of a model, in execution order.

    Shapes are for a batch of one sample and include the batch axis; MACs and parameters are
    per sample and per model.

    Attributes:
        name: module path in the model, for example ``stage1.0.conv1``.
        op: one of :data:`OPS`.
        index: position in execution order, from 0.
        weight_shape: ``[out, in/groups, *kernel]``; transposed convolutions keep torch's
            ``[in, out/groups, *kernel]``; linear is ``[out, in]``.
        input_shape: shape of the tensor entering the op, ``[1, ...]``.
        output_shape: shape of the tensor leaving the op, ``[1, ...]``.
        stride: per spatial axis (empty for linear), likewise ``padding`` and ``dilation``.
        groups: convolution groups (1 for linear).
        bias: whether a bias is added.
        params: number of weights plus biases.
        macs: multiply-accumulates per sample.
        producers: names of the layers whose outputs reach this input through ops that keep a
            quantized tensor quantized (activation, pooling, reshape); ``"@input"`` for the
            model input and ``"@float"`` where a float-only op lies between.
        fused_with: op folded into this layer by runtimes (``"relu"`` or ``""``).
        input_nonnegative: true when a ReLU or sigmoid precedes, so that zero points are 0.
    """

    name: str
    op: str
    index: int
    weight_shape: tuple[int, ...]
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    bias: bool
    params: int
    macs: int
    producers: tuple[str, ...] = ()
    fused_with: str = ""
    input_nonnegative: bool = False

    @property
    def out_channels(self) -> int:
        """Number of output channels or features."""
        if self.op in TRANSPOSED:
            return self.weight_shape[1] * self.groups
        return self.weight_shape[0]

    @property
    def weight_count(self) -> int:
        """Number of weights without the bias."""
        count = 1
        for size in self.weight_shape:
            count *= size
        return count

    @property
    def is_depthwise(self) -> bool:
        """True for convolutions with one input channel per group."""
        return self.op != "linear" and self.groups > 1 and self.weight_shape[1] == 1


@dataclass(frozen=True, slots=True)
class SkippedOp:
    """An op with weights or a matrix product that cannot be quantized here, and the reason."""

    name: str
    op: str
    reason: str
