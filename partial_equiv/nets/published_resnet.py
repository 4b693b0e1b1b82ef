"""The ResNets of the published split encoders: strides on the last convolution, asymmetric padding.

Axes: B batch, C channels, Y X image.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

DEPTHS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}
FIRST_BOTTLENECK, EXPANSION = 50, 4
LOWEST = -1e4
"""Of the pixels that pad the maximum of the stem."""


class Variant(NamedTuple):
    """One published architecture.

    Args:
        depth: Key of DEPTHS; bottlenecks from 50 on.
        channels: Of the stem and the first stage, doubled from stage to stage.
        groups: Of the 3x3 convolutions of bottlenecks.
        group_width: Channels of a group in the first stage; groups * group_width are those of its 3x3 convolutions.
        last: Factor of the channels of the last stage.
        last_relu: Whether the representation ends with a ReLU, which leaves no negative number.
        pathways: Networks side by side, their representations joined.
    """

    depth: int
    channels: int = 64
    groups: int = 1
    group_width: int = 64
    last: float = 1.0
    last_relu: bool = True
    pathways: int = 1


VARIANTS: dict[str, Variant] = {
    **{f"resnet{depth}": Variant(depth) for depth in DEPTHS},
    **{f"narrow_resnet{depth}": Variant(depth, channels=32) for depth in DEPTHS},
    **{f"resnet{depth}w{factor}": Variant(depth, channels=64 * factor) for depth in DEPTHS for factor in (2, 4, 5)},
    "resnext50": Variant(50, groups=32, group_width=4),
    "resnext101": Variant(101, groups=32, group_width=8),
    "resnet18_wide_end": Variant(18, last=4),
    "resnet18_small_end": Variant(18, last=0.5),
    "resnet18_no_relu": Variant(18, last_relu=False),
    "resnet18_splitpathways": Variant(18, last=0.5, pathways=2),
}


class Residual(nn.Module):
    """f(x) = relu(main(x) + shortcut(x)); the ReLU may be left out.

    Args:
        main: Ends with a batch norm.
        shortcut: Identity or projection.
        relu: Whether the sum is rectified.
    Shape:
        [B, I, Y, X] -> [B, O, Y', X'].
    """

    def __init__(self, main: nn.Sequential, shortcut: nn.Module, *, relu: bool = True) -> None:
        super().__init__()
        self.main, self.shortcut, self.relu = main, shortcut, relu

    def forward(self, images: Tensor) -> Tensor:
        """Apply the block."""
        total: Tensor = self.main(images) + self.shortcut(images)
        return functional.relu(total) if self.relu else total


class StridePad(nn.Module):
    """Zeros for a 3x3 convolution of stride 2: one row and column after the map, and one before it where it is odd.

    The convolution and a 1x1 one of stride 2 then agree on the size of their maps.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Pad."""
        rows, columns = images.shape[-2:]
        return functional.pad(images, (columns % 2, 1, rows % 2, 1))


class Pathways(nn.Module):
    """Networks side by side, f(x) = (f_1(x), f_2(x), ..).

    Args:
        networks: Each images -> [B, D].
    Shape:
        [B, C, Y, X] -> [B, sum of D].
    """

    def __init__(self, networks: list[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, images: Tensor) -> Tensor:
        """Join the representations."""
        return torch.cat([network(images) for network in self.networks], dim=-1)


def make_published_resnet(name: str, in_channels: int) -> tuple[nn.Module, int]:
    """Return an untrained network and the width of its representation.

    The stem pads 2 pixels before and 3 after the image for a 7x7 convolution of stride 2, and 1 after the map for a
    maximum of stride 2. The stride of a block sits on its last 3x3 convolution, and the first block of every stage has
    a 1x1 convolution as shortcut. Weights are Kaiming normal (fan out); the last norm of every block starts at 0.

    resnet18_splitpathways is two networks of 256 numbers, the invariant and the equivariant one: set net.equi=256.

    Args:
        name: Key of `VARIANTS`.
        in_channels: Of the images.
    Shape:
        [B, C, Y, X], from 4 pixels -> [B, D]: D = 512 for resnet18, without a classifier.
    Source: Garrido et al. 2023. Differs: maps of an odd side are padded on both sides, where the published
        shapes do not match; the last norm starts at 0 in resnet18_no_relu too; resnet18_splitpathways puts the
        invariant pathway first, where the parts are cut. The channels of narrow_* (half) and w2, w4, w5 (that many
        times, in every layer) and the stride of bottlenecks are read off the names.
    """
    variant = VARIANTS[name]
    networks = [_make_pathway(variant, in_channels) for _ in range(variant.pathways)]
    for module in (module for network in networks for module in network.modules()):
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, Residual):
            last = module.main[-1]
            assert isinstance(last, nn.BatchNorm2d)
            nn.init.zeros_(last.weight)
    width = _stage_widths(variant)[-1] * variant.pathways
    return (networks[0] if variant.pathways == 1 else Pathways(networks)), width


def conv_norm(
    no_in: int, no_out: int, size: int, *, stride: int = 1, padding: int = 0, groups: int = 1
) -> list[nn.Module]:
    """Return a convolution without bias and its batch norm."""
    conv = nn.Conv2d(no_in, no_out, size, stride, padding, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(no_out)]


def _make_pathway(variant: Variant, in_channels: int) -> nn.Module:
    """Return stem, stages and global average, flattened."""
    stem = [
        nn.ZeroPad2d((2, 3, 2, 3)),
        *conv_norm(in_channels, variant.channels, 7, stride=2),
        nn.ReLU(),
        nn.ConstantPad2d((0, 1, 0, 1), LOWEST),
        nn.MaxPool2d(3, stride=2),
    ]
    return nn.Sequential(*stem, *_blocks(variant), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def _stage_widths(variant: Variant) -> list[int]:
    """Return the channels that each stage puts out."""
    expansion = EXPANSION if variant.depth >= FIRST_BOTTLENECK else 1
    factors = (1, 2, 4, 8 * variant.last)
    return [int(variant.channels * factor) * expansion for factor in factors]


def _blocks(variant: Variant) -> Iterator[nn.Module]:
    """Yield the residual blocks of all stages."""
    no_in = variant.channels
    for stage, (no_blocks, no_out) in enumerate(zip(DEPTHS[variant.depth], _stage_widths(variant), strict=True)):
        for block in range(no_blocks):
            stride = 2 if stage and not block else 1
            main = _bottleneck if variant.depth >= FIRST_BOTTLENECK else _basic
            shortcut = nn.Identity() if block else nn.Sequential(*conv_norm(no_in, no_out, 1, stride=stride))
            final = stage == len(DEPTHS[variant.depth]) - 1 and block == no_blocks - 1
            yield Residual(main(no_in, no_out, stride, variant), shortcut, relu=variant.last_relu or not final)
            no_in = no_out


def _basic(no_in: int, no_out: int, stride: int, variant: Variant) -> nn.Sequential:
    first = conv_norm(no_in, no_out, 3, padding=1)
    return nn.Sequential(*first, nn.ReLU(), *_strided(no_out, no_out, stride, 1))


def _bottleneck(no_in: int, no_out: int, stride: int, variant: Variant) -> nn.Sequential:
    inner = no_out // EXPANSION * variant.groups * variant.group_width // 64
    first, last = conv_norm(no_in, inner, 1), conv_norm(inner, no_out, 1)
    return nn.Sequential(*first, nn.ReLU(), *_strided(inner, inner, stride, variant.groups), nn.ReLU(), *last)


def _strided(no_in: int, no_out: int, stride: int, groups: int) -> list[nn.Module]:
    """Return a 3x3 convolution and its norm: padded by 1, or with a stride as `StridePad` does."""
    if stride == 1:
        return conv_norm(no_in, no_out, 3, padding=1, groups=groups)
    return [StridePad(), *conv_norm(no_in, no_out, 3, stride=stride, groups=groups)]
