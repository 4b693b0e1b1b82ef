"""Images of another size.

Axes: B images, C channels, Y X pixels.
"""

import torch
from torch import Tensor
from torch.nn import functional

CHUNK = 4096  # images resized at once: bounds the memory of the floating copies


def resize_images(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the images at another size: bilinear between pixel centres, rounded back to uint8.

    Along an axis that shrinks the filter widens with the scale, so that nothing aliases; an axis of equal length is
    left as it is, bit for bit. The sampling grid is symmetric, so resizing commutes with mirrors and, on squares, with
    right-angle turns, up to one level where a sum is rounded from a tie.

    Args:
        images: uint8.
        size: New height and width in pixels.
    Shape:
        images uint8 [B, C, Y, X] -> uint8 [B, C, *size].
    """
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    chunks = [shrink_or_enlarge(images[i : i + CHUNK], size) for i in range(0, len(images), CHUNK)]
    return torch.cat(chunks) if chunks else images.new_empty(0, images.shape[1], *size)


def shrink_or_enlarge(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize one chunk."""
    shrinks = size[0] < images.shape[-2] or size[1] < images.shape[-1]
    # On an axis that does not shrink the widened filter is the plain one, so one flag serves both axes.
    real = functional.interpolate(images.float(), size=size, mode="bilinear", antialias=shrinks, align_corners=False)
    return real.round_().clamp_(0, 255).to(torch.uint8)
