"""The published CKResNet as anybody would write it in torch.nn for a fixed set of elements: what a perfect one costs.

Its weights are free and of the shapes that ours have: dense convolutions for factorization=full, a mix and a depthwise
convolution for gc. It knows nothing of groups, and shares no code with the library.

Axes: B batch, C channels, G elements, Y X image.
"""

import torch
from torch import Tensor, nn


class Grouped(nn.Module):
    """A norm over the elements of each channel: values [B, C * G, Y, X] seen as [B, C, G, Y, X]."""

    def __init__(self, norm: nn.Module, no_elements: int) -> None:
        super().__init__()
        self.norm, self.no_elements = norm, no_elements

    def forward(self, x: Tensor) -> Tensor:
        """Normalise."""
        values: Tensor = self.norm(x.unflatten(1, (-1, self.no_elements)))
        return values.flatten(1, 2)


class Factored(nn.Module):
    """A mix of all channels and elements, then a depthwise convolution, in the layout that a CPU is fastest in."""

    def __init__(self, inputs: int, outputs: int, size: int, padding: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.space = nn.Conv2d(outputs, outputs, size, padding=padding, groups=outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve."""
        layout = torch.channels_last if x.device.type == "cpu" else torch.contiguous_format
        values: Tensor = self.space(self.mix(x.contiguous(memory_format=layout)))
        return values.contiguous()


def conv(factors: str, inputs: int, outputs: int, size: int, padding: int) -> nn.Module:
    """Return a convolution between fields of (channel, element), whole or in two factors."""
    if factors == "full":
        return nn.Conv2d(inputs, outputs, size, padding=padding)
    return Factored(inputs, outputs, size, padding)


class Block(nn.Module):
    """Two convolutions with instance norms, a shortcut of one pixel, batch norm."""

    def __init__(self, factors: str, channels: tuple[int, int], no_elements: int, size: int, *, pool: bool) -> None:
        super().__init__()
        inputs, outputs = (c * no_elements for c in channels)
        self.first = conv(factors, inputs, outputs, size, size // 2)
        self.second = conv(factors, outputs, outputs, size, size // 2)
        self.norms = nn.ModuleList(nn.GroupNorm(channels[1], outputs, affine=False) for _ in range(2))
        self.shortcut = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.norm = Grouped(nn.BatchNorm3d(channels[1]), no_elements)
        self.pool = nn.MaxPool2d(2) if pool else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        f = torch.relu(self.norms[0](self.first(x)))
        f = torch.relu(self.norms[1](self.second(f)))
        return torch.relu(self.pool(self.norm(f + self.shortcut(x))))


class PlainCKResNet(nn.Module):
    """Lifting, two blocks, an unpadded convolution, the maximum, a linear layer: row 6 of the published commands.

    Args:
        no_elements: G.
        factors: "full" or "gc".
        no_hidden: Channels of the first block; twice as many in the second.
        size: Side of the kernels, pixels.
    Shape:
        images [B, 1, 28, 28] -> logits [B, 10].
    """

    def __init__(self, *, no_elements: int, factors: str, no_hidden: int = 32, size: int = 7) -> None:
        super().__init__()
        narrow, wide = no_hidden, 2 * no_hidden
        self.lifting = nn.Conv2d(1, narrow * no_elements, size, padding=size // 2)  # of one channel: nothing to factor
        self.norm = Grouped(nn.BatchNorm3d(narrow), no_elements)
        self.blocks = nn.Sequential(
            Block(factors, (narrow, narrow), no_elements, size, pool=True),
            Block(factors, (narrow, wide), no_elements, size, pool=False),
        )
        self.last = conv(factors, wide * no_elements, wide * no_elements, size, 0)
        self.last_norm = Grouped(nn.BatchNorm3d(wide), no_elements)
        self.head = nn.Linear(wide, 10)
        self.no_elements = no_elements

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        f = torch.relu(nn.functional.max_pool2d(self.norm(self.lifting(images)), 2))
        f = torch.relu(self.last_norm(self.last(self.blocks(f))))
        logits: Tensor = self.head(f.unflatten(1, (-1, self.no_elements)).amax(dim=(2, 3, 4)))
        return logits
