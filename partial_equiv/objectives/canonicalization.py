"""Canonicalization: learn invariant and pose of images without labels, in the frame where their poses are centred.

Axes: B batch, C channels, Y X image.
"""

import math
from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor

from partial_equiv.datasets import Batch, rotate_images
from partial_equiv.menu import choose
from partial_equiv.nets import SymmetryNet
from partial_equiv.objectives.objective import Objective, Step
from partial_equiv.ranks import rand_rows

Centre = Literal["cos", "geodesic", "l1_identity"] | None


def cos_centre(direction: Tensor) -> Tensor:
    """Return 1 - cos a, whose mean over poses of any law on [-t, t], t < 180 degrees, is least at its middle.

    Shape:
        (cosine, sine) [B, 2] -> [B].
    """
    return 1 - direction[:, 0]


def geodesic_centre(direction: Tensor) -> Tensor:
    """Return |a|, least in the mean at the circular median: [B, 2] -> [B], radians."""
    return torch.atan2(direction[:, 1], direction[:, 0]).abs()


def l1_identity_centre(direction: Tensor) -> Tensor:
    """Return (1 - cos a + |sin a|) / 3, the published distance of a turn's 2 x 3 matrix from the identity.

    It peaks at 135 degrees and falls beyond: laws on [-t, t] with t > 135 degrees are pushed off their middle.

    Shape:
        [B, 2] -> [B].
    Source: Urbano & Romero 2023, published code.
    """
    return (1 - direction[:, 0] + direction[:, 1].abs()) / 3


CENTRES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "cos": cos_centre,
    "geodesic": geodesic_centre,
    "l1_identity": l1_identity_centre,
}


class Canonicalization(Objective):
    """mean (T_psi(x) decoder(z(x)) - x)^2 + weight * mean centre(psi(x)).

    With `turned`, the network sees each training image turned by a random angle a more, and the centre is that of
    psi(T_a x) - a: the same images and the same law of poses, at more places of the pixel grid.

    Args:
        model: The network; its head is not touched.
        centre: "cos", "geodesic", the published "l1_identity", or None for a plain IE-AE.
        centre_weight: Factor of the centre term.
        turned: Whether training images are turned.
        selection: "loss" keeps the best weights by the whole loss, "reconstruction" (published) by its first term.
    Raises:
        UserError: an unknown centre.
    Source: Urbano & Romero 2023, section 3; Winter et al. 2022 without the centre term.
    """

    mode = "min"

    def __init__(
        self,
        model: SymmetryNet,
        *,
        centre: Centre,
        centre_weight: float,
        turned: bool = False,
        selection: Literal["loss", "reconstruction"] = "loss",
    ) -> None:
        super().__init__()
        self.model: SymmetryNet = model
        self.centre = None if centre is None else choose(CENTRES, centre, "train.centre")
        self.centre_weight, self.turned, self.monitor = centre_weight, turned, selection

    def forward(self, batch: Batch) -> Step:
        """Return the loss, and its two terms, of a batch."""
        pixels = self.model.pixels(batch.images)
        angles = pixels.new_zeros(len(pixels))
        if self.turned and self.training:
            angles = (rand_rows(len(pixels), device=pixels.device) * 2 - 1) * math.pi
            pixels = rotate_images(pixels, angles)
        drawn = self.model.autoencoder(pixels)
        reconstruction = (drawn.images - pixels).square().mean()
        metrics = {"reconstruction": reconstruction.detach()}
        loss = reconstruction
        if self.centre is not None:
            centre = self.centre(turned_back(drawn.code.direction, angles)).mean()
            loss, metrics["centre"] = loss + self.centre_weight * centre, centre.detach()
        return Step(loss, metrics, len(pixels))


def turned_back(direction: Tensor, angles: Tensor) -> Tensor:
    """Return (cos, sin) of a - angle for (cos, sin) of a: [B, 2], [B] -> [B, 2]."""
    cos, sin = angles.cos(), angles.sin()
    first, second = direction.unbind(-1)
    return torch.stack([first * cos + second * sin, second * cos - first * sin], dim=-1)
