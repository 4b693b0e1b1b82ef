"""What lifting, group and pointwise convolutions share: continuous kernels that become weights of plain convolutions.

Axes: B batch, S sample sets (1 or B), G output elements, F input elements, O I channels, Y X image, V U kernel.
"""

from abc import ABC, abstractmethod
from contextlib import nullcontext
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from partial_equiv.convs.cache import KernelCache
from partial_equiv.convs.coset import make_coset
from partial_equiv.convs.expand import expand_kernel, kernel_points
from partial_equiv.convs.filters import Padding, PlainFilter, pad_same
from partial_equiv.convs.taps import Taps
from partial_equiv.errors import UserError
from partial_equiv.groups import Group
from partial_equiv.kernels import Kernel
from partial_equiv.sampling import Sample

Angle = Literal["circle", "linear"]
Factorization = Literal["full", "g", "gc"]


class Inputs(NamedTuple):
    """The elements a convolution reads.

    Shape:
        elements [S, F, d]; scale [S, F], what each counts in the mean, [S, 1] where all count alike; closure as in
        `Sample`.
    """

    elements: Tensor
    scale: Tensor
    closure: int


class ContinuousConv(nn.Module, ABC):
    """A convolution whose weights come from continuous kernels.

    In evaluation with nothing to differentiate, a weight is made once and kept until the kernel, the elements, their
    weights, the dtype or the device change. Every weight passes through `kernel_hook`, where forward hooks can see it:
    one for a full kernel, one for each factor of a factorised one.
    """

    group: Group
    kernel: Kernel
    bias: nn.Parameter | None
    kernel_hook: nn.Identity
    cache: KernelCache
    in_channels: int
    out_channels: int
    angle: Angle
    padding: Padding

    @abstractmethod
    def filters(self, sample: Sample, inputs: Sample | None, size: tuple[int, int]) -> tuple[PlainFilter, ...]:
        """Return the plain convolutions that do the same in this order.

        Args:
            sample: Output elements, [1, G, d].
            inputs: Input elements, [1, F, d]; None on the plane.
            size: (Y, X) of the map.
        """

    def weight(
        self, kernel: Kernel, cache: KernelCache, sample: Sample, inputs: Inputs | None, gain: float, taps: Taps | None
    ) -> Tensor:
        """Return a kernel as a dense weight [S * G * O, I * F, V, U] for output elements and input elements.

        Args:
            kernel: One of the layer's.
            cache: Its memory.
            sample: Output elements, [S, G, d].
            inputs: Input elements and how much each counts; None for a kernel on the plane alone.
            gain: Factor that keeps the variance of white inputs.
            taps: The live taps, None for a kernel on the elements alone.
        """
        outputs = sample.elements
        scale = outputs.new_ones(len(outputs), 1) if inputs is None else inputs.scale

        def make() -> Tensor:
            return self._make(kernel, sample, inputs, scale * gain, taps)

        if torch.compiler.is_compiling():  # a graph has no memory, and looking for equal tensors would break it
            return self._observed(make())
        frozen = not self.training and not (torch.is_grad_enabled() and _differentiable(kernel, outputs, scale))

        def sources() -> list[Tensor]:
            layout = torch.tensor([taps.size if taps else 1, sample.closure])
            known = [] if inputs is None else [inputs.elements]
            return [*kernel.state_dict().values(), outputs, scale, layout, *known]

        return self._observed(cache.recall(frozen, sources, make))

    def _observed(self, weight: Tensor) -> Tensor:
        observed: Tensor = self.kernel_hook(weight)
        return observed

    def _make(self, kernel: Kernel, sample: Sample, inputs: Inputs | None, scale: Tensor, taps: Taps | None) -> Tensor:
        outputs, others = sample.elements, None if inputs is None else inputs.elements
        closure = min(sample.closure, 8 if inputs is None else inputs.closure)
        # Group arithmetic needs the full mantissa: autocast is for the convolution alone. Meta tensors know none.
        kind = outputs.device.type
        with torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext():
            coset = None
            if closure > 1:
                no_inputs = None if others is None else others.shape[1]
                size = None if taps is None else taps.size
                coset = make_coset(closure, self.group.mirror, outputs.shape[1], no_inputs, size, outputs.device)
                outputs = outputs.index_select(1, coset.representatives)
            positions = None if taps is None else taps.positions
            points = kernel_points(self.group, outputs, others, positions, self.angle)
            no_values = kernel.readout.bias.shape[0]
            channels = (self.out_channels, no_values // self.out_channels)
            return expand_kernel(kernel, points, scale, taps, channels, coset)


def _differentiable(kernel: Kernel, *tensors: Tensor) -> bool:
    return any(tensor.requires_grad for tensor in (*kernel.parameters(), *tensors))


def convolve(
    values: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    padding: Padding,
    shape: tuple[int, int],
    stride: int = 1,
) -> Tensor:
    """Return the dense convolution of [B, I, F, Y, X] with [S * G * O, I * F, V, U] as [B, O, G, Y', X'].

    With one set of elements per image, each image meets its own weights (a convolution in B channel groups).

    Args:
        values: Input.
        weight: One weight for each set.
        bias: [O] or None.
        padding: "same", "valid" or pixels.
        shape: (S, O).
        stride: Pixels between outputs; above 1 with pixels of padding.
    Raises:
        UserError: without padding, the map is smaller than the kernel.
    """
    batch, (height, width) = values.shape[0], values.shape[-2:]
    no_sets, no_channels = shape
    check_room(height, width, weight.shape[-1], padding)
    rows, no_elements = weight.shape[0], weight.shape[0] // (no_sets * no_channels)
    # One of two tensors has to be put in the order (channel, element): the weight where it is the smaller one.
    weight_first = weight.numel() < batch * (rows // no_sets) * height * width
    if weight_first:
        weight = weight.unflatten(0, (no_sets, no_elements, no_channels)).transpose(1, 2).flatten(0, 2)
    if bias is not None:
        ordered = bias.repeat_interleave(no_elements) if weight_first else bias.repeat(no_elements)
        bias = ordered.repeat(no_sets)
    values = values.reshape(1, -1, height, width) if no_sets > 1 else values.flatten(1, 2)
    values, padding = pad_same(values, weight.shape[-1], padding)
    out = functional.conv2d(values, weight, bias, stride, padding, groups=no_sets)
    order = (no_channels, no_elements) if weight_first else (no_elements, no_channels)
    out = out.reshape(batch, *order, *out.shape[-2:])
    return out if weight_first else out.transpose(1, 2)


def check_room(height: int, width: int, size: int, padding: Padding) -> None:
    """Check that a kernel fits on a map.

    Raises:
        UserError: the padded map is smaller than the kernel.
    """
    room = min(height, width) + (2 * padding if isinstance(padding, int) else 0)
    if padding != "same" and room < size:
        raise UserError(
            f"the map of {height}x{width} pixels is smaller than the kernel (kernel.size={size}, padding {padding!r}): "
            "use a smaller kernel.size, fewer net.pool_blocks or larger images"
        )


def check_stride(stride: int, padding: Padding) -> int:
    """Return the stride.

    Raises:
        UserError: below 1, or above it with padding "same".
    """
    if stride < 1 or (stride > 1 and padding == "same"):
        raise UserError(f"stride={stride} does not fit padding={padding!r}: give a stride of 1, or pixels of padding")
    return stride


def nominal_elements(group: Group, no_samples: int) -> Tensor:
    """Return the elements [1, N, d] for which the initial scale is measured."""
    elements = group.identity().unsqueeze(0) if no_samples == 1 else group.grid(no_samples)
    return elements.unsqueeze(0)
