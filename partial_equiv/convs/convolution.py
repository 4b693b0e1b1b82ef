"""What lifting, group and pointwise convolutions share: a kernel that becomes the weight of one dense convolution.

Axes: B batch, S sample sets (1 or B), G output elements, F input elements, O I channels, Y X image, V U kernel.
"""

from abc import ABC, abstractmethod
from contextlib import nullcontext
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from partial_equiv.convs.expand import KernelCache, Taps, expand_kernel, kernel_points
from partial_equiv.errors import UserError
from partial_equiv.groups import Group
from partial_equiv.kernels import Kernel
from partial_equiv.sampling import Sample

Angle = Literal["circle", "linear"]
Padding = Literal["same", "valid"] | int


class ContinuousConv(nn.Module, ABC):
    """A convolution whose weights come from a continuous kernel.

    In evaluation with nothing to differentiate, the weight is made once and kept until the kernel, the elements,
    their weights, the dtype or the device change. Every weight passes through `kernel_hook`, where forward hooks can
    see it.
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
    def gain(self, taps: Taps | None) -> float:
        """Return the constant factor of the kernel that keeps the variance of white inputs."""

    def weight(self, sample: Sample, inputs: Tensor | None, scale: Tensor, taps: Taps | None) -> Tensor:
        """Return the dense weight [S * G * O, I * F, V, U] for output elements and input elements.

        Args:
            sample: Output elements, [S, G, d].
            inputs: Input elements [S, F, d], None for a kernel on the plane alone.
            scale: What each input element counts, [S, F].
            taps: The live taps, None for a kernel on the elements alone.
        """
        frozen = not self.training and not (torch.is_grad_enabled() and self._differentiable(sample, scale))

        def sources() -> list[Tensor]:
            found = [*self.kernel.state_dict().values(), sample.elements, scale]
            return [*found, torch.tensor(taps.size if taps else 1), *([] if inputs is None else [inputs])]

        return self._observed(self.cache.recall(frozen, sources, lambda: self._make(sample, inputs, scale, taps)))

    def _observed(self, weight: Tensor) -> Tensor:
        observed: Tensor = self.kernel_hook(weight)
        return observed

    def _differentiable(self, sample: Sample, scale: Tensor) -> bool:
        tensors = [*self.kernel.parameters(), sample.elements, scale]
        return any(tensor.requires_grad for tensor in tensors)

    def _make(self, sample: Sample, inputs: Tensor | None, scale: Tensor, taps: Taps | None) -> Tensor:
        # Group arithmetic needs the full mantissa: autocast is for the convolution alone. Meta tensors know none.
        kind = sample.elements.device.type
        with torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext():
            positions = None if taps is None else taps.positions
            points = kernel_points(self.group, sample.elements, inputs, positions, self.angle)
            rows = (scale * self.gain(taps)).unsqueeze(1).expand(*sample.elements.shape[:2], -1)
            return expand_kernel(self.kernel, points, rows, taps, (self.out_channels, self.in_channels))


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
    side = weight.shape[-1]
    if padding == "same" and side % 2 == 0:  # the extra pixel at the end; torch would do the same and warn
        values, padding = functional.pad(values, [(side - 1) // 2, side // 2] * 2), 0
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
