"""What every encoder of symmetry inference returns, and the encoder of our own group convolutions.

Axes: B batch, C channels, G elements, Y X image, d latent numbers, K frequencies.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from partial_equiv.convs import BatchNorm
from partial_equiv.errors import UserError
from partial_equiv.nets.kit import ConvKit

LEAST_ANGLES = 16
NO_FREQUENCIES = 4


class Code(NamedTuple):
    """What an encoder says of an image.

    Shape:
        z [B, d]: the same for every turn of the image; vectors [B, K, 2]: the k-th turns by k a when the image turns
        counter-clockwise by a, as (cosine, sine).
    """

    z: Tensor
    vectors: Tensor

    @property
    def direction(self) -> Tensor:
        """The pose as (cosine, sine), of length 1; (1, 0) where the image has no direction at all: [B, 2]."""
        first = self.vectors[:, 0]
        length = first.norm(dim=-1, keepdim=True)
        upright = torch.arange(1, -1, -1, dtype=first.dtype, device=first.device)  # (1, 0), made where it is needed
        # Chosen before the division: a gradient through 0 / 0 would be NaN.
        there = length > torch.finfo(first.dtype).tiny
        return torch.where(there, first, upright) / torch.where(there, length, torch.ones_like(length))

    @property
    def pose(self) -> Tensor:
        """The angle of the first vector, in (-pi, pi]: [B]."""
        direction = self.direction
        return torch.atan2(direction[:, 1], direction[:, 0])

    @property
    def confidence(self) -> Tensor:
        """|v_1| / |(v_1, .., v_K)| in [0, 1]: near 0 for an image that a part of a turn maps onto itself: [B].

        An image that C_n leaves alone has v_k = 0 for every k that n does not divide.
        """
        total: Tensor = self.vectors.flatten(1).norm(dim=-1)
        first: Tensor = self.vectors[:, 0].norm(dim=-1)
        return first / total.clamp_min(torch.finfo(total.dtype).tiny)


class InvariantEncoder(nn.Module, ABC):
    """Images [B, C, Y, X], pixels in [0, 1] -> Code: an invariant and a pose of each image."""

    @abstractmethod
    def forward(self, images: Tensor) -> Code:
        """Encode."""


class GroupConvEncoder(InvariantEncoder):
    """Three strided convolutions on SE(2), the last as large as its map, then pooling over the turns.

    The images are cut to their disc and resized to an odd side R, on which the strides of 2 are exact: the maps have
    sides R, (R + 1) / 2, (R - 1) / 4 and 1. z is a mean over the turns; v_k adds up the k-th circular moments of the
    channels, each scaled and turned as it was learned: v_k = sum_c w_ck m_ck in complex numbers.
    Exact for quarter turns; elsewhere pixels are interpolated and the pose is off by some degrees.

    Args:
        in_channels: Channels of the images.
        kit: base_group SE2 or C<n> with at least 16 samples, conv=full, an odd kernel.size from 3.
        widths: Channels of the three convolutions.
        no_latent: d.
        resolution: R: 5 more than a multiple of 8.
    Shape:
        images [B, C, Y, X] -> z [B, d], vectors [B, 4, 2].
    Raises:
        UserError: a group without enough turns, a partial convolution, or another kernel size or resolution.
    Source: Urbano & Romero 2023, section 4, with regular features in the place of steerable ones.
    """

    def __init__(
        self, *, in_channels: int, kit: ConvKit, widths: Sequence[int], no_latent: int, resolution: int
    ) -> None:
        super().__init__()
        _check(kit, widths, resolution)
        first, second, third = widths
        size = int(kit.kernel.size)
        self.resolution = resolution
        self.lifting = kit.lifting(in_channels, first, padding=(size + 1) // 2, size=size + 2, stride=2)
        self.middle = kit.group_conv(first, second, padding=(size - 3) // 2, size=size, stride=2)
        self.whole = kit.group_conv(second, third, padding="valid", size="same")
        self.norms = nn.ModuleList(BatchNorm(width) for width in widths)
        self.mix, self.mix_norm = kit.pointwise(third, 2 * third), BatchNorm(2 * third)
        self.turn = nn.Parameter(torch.randn(third, NO_FREQUENCIES, 2) / third**0.5)
        self.latent = nn.Linear(2 * third, no_latent)

    def forward(self, images: Tensor) -> Code:
        """Encode."""
        f = self.norms[0](self.lifting(framed(images, self.resolution))).map(functional.relu)
        f = self.norms[1](self.middle(f)).map(functional.relu)
        f = self.norms[2](self.whole(f)).map(functional.relu)
        mixed = self.mix_norm(self.mix(f, f.sample)).map(functional.relu)
        z: Tensor = self.latent(mixed.values.flatten(2).mean(dim=-1))
        moments = circular_moments(f.values.flatten(2), f.elements[0, :, 0], NO_FREQUENCIES)
        return Code(z, turned_sum(moments, self.turn))


def framed(images: Tensor, resolution: int) -> Tensor:
    """Return the images resized, all outside the inscribed disc at 0: [B, C, Y, X] -> [B, C, R, R]."""
    size = (resolution, resolution)
    resized = functional.interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)
    line = torch.arange(resolution, device=images.device) * 2 - (resolution - 1)
    inside = line[:, None] ** 2 + line**2 <= (resolution - 1) ** 2
    return resized * inside


def circular_moments(response: Tensor, angles: Tensor, no_frequencies: int) -> Tensor:
    """Return the mean over elements of response * (cos k t, sin k t), k = 1..K: [.., G], [G] -> [.., K, 2]."""
    k = torch.arange(1, no_frequencies + 1, device=angles.device, dtype=angles.dtype)
    phases = angles[:, None] * k
    return torch.stack([response @ phases.cos(), response @ phases.sin()], dim=-1) / len(angles)


def turned_sum(moments: Tensor, weights: Tensor) -> Tensor:
    """Return the sum over channels of products of complex numbers: [B, C, K, 2], [C, K, 2] -> [B, K, 2].

    A turn of the image multiplies every k-th moment by exp(i k a), and so the sum.
    """
    (real, imaginary), (scale, turn) = moments.unbind(-1), weights.unbind(-1)
    parts = [real * scale - imaginary * turn, real * turn + imaginary * scale]
    return torch.stack(parts, dim=-1).sum(dim=1)


def _check(kit: ConvKit, widths: Sequence[int], resolution: int) -> None:
    turns = kit.group.no_rotations(kit.no_samples)
    if kit.group.mirror or turns < LEAST_ANGLES:
        raise UserError(
            f"net=SymmetryNet reads poses from {turns} turns of {kit.group.name}: "
            f"set base_group=SE2 and base_group.no_samples={LEAST_ANGLES} or more"
        )
    if kit.conv.partial_equiv or kit.choices.sample_per_layer:
        raise UserError("net=SymmetryNet needs every turn in every layer: set conv=full")
    if kit.choices.sample_per_batch_element:
        raise UserError(
            "net=SymmetryNet reads all images at the same turns: set base_group.sample_per_batch_element=False"
        )
    if isinstance(kit.kernel.size, str) or kit.kernel.size < 3:
        raise UserError(f"kernel.size={kit.kernel.size} is no size for net=SymmetryNet: give an odd number from 3")
    if len(widths) != 3 or min(widths) < 1:
        raise UserError(f"net.widths={list(widths)} is not three numbers of channels: give for example [6, 8, 32]")
    if resolution < 13 or resolution % 8 != 5:
        raise UserError(f"net.resolution={resolution} has no exact strides: give 21, 29, 37, 45 or another 8 n + 5")
