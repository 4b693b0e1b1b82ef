"""Augerino: a plain network made invariant by averaging over learned transformations of its input.

Axes: B batch, S sets (1 here), G elements, C channels, Y X image.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from partial_equiv.errors import UserError
from partial_equiv.groups import Group
from partial_equiv.nets.kit import ConvKit
from partial_equiv.sampling import Sampler


class Augerino(nn.Module):
    """Average the logits of a plain network over transformed copies of each image, their range learned.

    F(x) = sum_h w_h net(h^-1 x) / sum_h w_h for elements h drawn as in a partial layer; all images share them.
    Turned images are interpolated, so the average is exactly invariant for right-angle grids only.

    Args:
        net: Images [B, C, Y, X] -> logits [B, K].
        sampler: Draws the elements.
    Shape:
        images [B, C, Y, X] -> logits [B, K].
    Source: Benton et al. 2020. Differs: one grid convention in warp and sampling; the mirror has a gradient.
    """

    def __init__(self, net: nn.Module, sampler: Sampler) -> None:
        super().__init__()
        self.net, self.sampler = net, sampler

    def forward(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the averaged logits; `generator` draws the random elements, None is torch's own."""
        sample = self.sampler(1, generator)
        elements = sample.elements[0]
        copies = transform_images(images, self.sampler.group, elements)
        logits = self.net(copies.flatten(0, 1), generator).unflatten(0, copies.shape[:2])
        if sample.weights is None:
            mean: Tensor = logits.mean(dim=0)
            return mean
        weights = sample.weights[0][:, None, None]
        averaged: Tensor = (weights * logits).sum(dim=0) / weights.sum()
        return averaged


def transform_images(images: Tensor, group: Group, elements: Tensor) -> Tensor:
    """Return h^-1 applied to every image, bilinear, zero outside: [B, C, Y, X], [G, d] -> [G, B, C, Y, X].

    The value at x is the image's at h x, in pixels about the centre, so that sides of any length turn without shear.
    """
    height, width = images.shape[-2:]
    grid = element_grid(group, elements, (height, width)).repeat_interleave(len(images), 0)
    copies = images.repeat(len(elements), 1, 1, 1)
    warped = functional.grid_sample(copies, grid.to(copies.dtype), align_corners=False)
    return warped.reshape(len(elements), *images.shape)


def element_grid(group: Group, elements: Tensor, size: tuple[int, int]) -> Tensor:
    """Return where h^-1 applied to an image of `size` (Y, X) reads it, as `grid_sample` takes it: -> [G, Y, X, 2]."""
    matrix = group.matrix(elements)  # on (row, column); the warp wants (x, y) in units of half the sides
    ratio = size[0] / size[1]
    a, b, c, d = matrix[:, 0, 0], matrix[:, 0, 1], matrix[:, 1, 0], matrix[:, 1, 1]
    zero = torch.zeros_like(a)
    theta = torch.stack([d, c * ratio, zero, b / ratio, a, zero], dim=-1).unflatten(-1, (2, 3))
    return functional.affine_grid(theta, [len(elements), 1, *size], align_corners=False)


def check_augerino(kit: ConvKit, net: Mapping[str, Any]) -> None:
    """Check that the choices fit an Augerino network.

    Args:
        kit: Makers of the layers, with their choices.
        net: The choices of the network inside.
    Raises:
        UserError: they ask for partial convolutions, another readout than the maximum, or other than random elements
            shared by all layers and images.
    """
    asked = {
        "conv.partial_equiv": kit.conv.partial_equiv,
        "base_group.sample_per_layer": kit.choices.sample_per_layer,
        "base_group.sample_per_batch_element": kit.choices.sample_per_batch_element,
        **{f"net.{key}": net.get(key, False) for key in ("last_conv_T2", "learnable_final_pooling")},
    }
    for key, value in asked.items():
        if value:
            raise UserError(
                f"{key}=True does not fit an Augerino network, which learns one augmentation: set {key}=False"
            )
    if kit.choices.sampling_method != "random":
        raise UserError(
            f"base_group.sampling_method={kit.choices.sampling_method} does not fit an Augerino network: "
            "set it to random"
        )
