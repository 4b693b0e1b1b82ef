"""Turning images: one batched bilinear warp, and seeded random angles.

Axes: B images, C channels, Y X pixels.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from partial_equiv.datasets.counter import uniform
from partial_equiv.errors import UserError

CHUNK = 4096  # images warped at once: bounds the memory of the sampling grid


def rotate_images(images: Tensor, angles: Tensor) -> Tensor:
    """Turn each image about its centre by its own angle.

    out(x) = in(R(-angle) x), R counter-clockwise as displayed: an angle of pi/2 is torch.rot90(x, 1, dims=(-2, -1)).
    Bilinear between pixels, zero outside the frame; exact for multiples of pi/2 on square images (float32: to 1e-5 up
    to 40 pixels), a smoothing elsewhere.
    Differentiable in images and angles for floating images; uint8 images are rounded back to uint8.

    Args:
        images: Floating point or uint8.
        angles: Radians; one for each image, or one for all.
    Shape:
        images [B, C, Y, X], angles [B] or [] -> [B, C, Y, X].

    Raises:
        UserError: another shape or dtype.
    """
    if images.dim() != 4 or angles.dim() > 1 or (angles.dim() == 1 and len(angles) != len(images)):
        raise UserError(
            f"rotate_images takes images [B,C,Y,X] and angles [B], got {list(images.shape)} and {list(angles.shape)}"
        )
    if not (images.is_floating_point() or images.dtype == torch.uint8):
        raise UserError(f"rotate_images takes floating point or uint8 images, got {images.dtype}")
    angles = angles.expand(len(images))
    chunks = [warp(images[i : i + CHUNK], angles[i : i + CHUNK]) for i in range(0, len(images), CHUNK)]
    return torch.cat(chunks) if chunks else images


def warp(images: Tensor, angles: Tensor) -> Tensor:
    """Turn one chunk of images."""
    height, width = images.shape[-2:]
    # The grid is made in double precision (MPS has none): a single-precision one moves samples by 1e-5 of a pixel.
    precise = angles.to(torch.float32 if angles.device.type == "mps" else torch.float64)
    cos, sin, zero = precise.cos(), precise.sin(), torch.zeros_like(precise)
    # Rows run downwards and the grid counts in half-widths and half-heights: hence the signs and the aspect ratio.
    rows = (torch.stack([cos, -sin * height / width, zero], -1), torch.stack([sin * width / height, cos, zero], -1))
    grid = functional.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    real = images if images.is_floating_point() else images.float()
    turned = functional.grid_sample(real, grid.to(real), mode="bilinear", padding_mode="zeros", align_corners=False)
    return turned if images.is_floating_point() else turned.round_().clamp_(0, 255).to(torch.uint8)


def random_angles(index: Tensor, *, rot_interval: float, seed: int, stream: int = 0) -> Tensor:
    """Return an angle for each source image, uniform in +-rot_interval.

    Args:
        index: Positions of the source images; an angle depends on nothing else but seed and stream.
        rot_interval: Degrees, 0 to 180; 180 is the full circle.
        seed: Of the data set.
        stream: Tells copies, or files with equal positions, apart.
    Shape:
        index [B] -> [B] in radians, float64.

    Raises:
        UserError: `rot_interval` is out of range.
    """
    check_interval(rot_interval)
    return torch.from_numpy(2 * uniform(seed, stream, index.numpy()) - 1) * math.radians(rot_interval)


def normal_angles(index: Tensor, *, rot_normal: Sequence[float], seed: int, stream: int = 0) -> Tensor:
    """Return an angle for each source image, normally distributed.

    angle = mean + std sqrt(-2 ln(1 - u)) cos(2 pi v), with u and v uniform numbers of the image.

    Args:
        index: Positions of the source images; an angle depends on nothing else but seed and stream.
        rot_normal: Mean and standard deviation in degrees.
        seed: Of the data set.
        stream: Tells copies, or files with equal positions, apart.
    Shape:
        index [B] -> [B] in radians, float64.

    Raises:
        UserError: not two finite numbers, or a negative deviation.
    Source: Box & Muller 1958.
    """
    check_normal(rot_normal)
    mean, std = rot_normal
    first, second = (uniform(seed, stream, index.numpy(), draw) for draw in (0, 1))
    standard = np.sqrt(-2 * np.log1p(-first)) * np.cos(2 * math.pi * second)
    return torch.from_numpy(np.radians(mean + std * standard))


def check_interval(rot_interval: float) -> None:
    """Raise UserError if this is no bound of angles in degrees."""
    if not 0 <= rot_interval <= 180:
        raise UserError(
            f"rot_interval={rot_interval} is out of range: give degrees from 0 (upright) to 180 (full circle)"
        )


def check_normal(rot_normal: Sequence[float]) -> None:
    """Raise UserError if this is no mean and standard deviation in degrees."""
    if len(rot_normal) != 2 or not all(map(math.isfinite, rot_normal)) or rot_normal[1] < 0:
        raise UserError(
            f"rot_normal={list(rot_normal)} is no normal law: give [mean, std] in degrees with a std of 0 or more"
        )


def turn_randomly(images: Tensor, index: Tensor, *, rot_interval: float, seed: int, stream: int = 0) -> Tensor:
    """Turn each image by its seeded random angle; 0 degrees leaves the pixels untouched."""
    angles = random_angles(index, rot_interval=rot_interval, seed=seed, stream=stream)
    return rotate_images(images, angles) if rot_interval else images
