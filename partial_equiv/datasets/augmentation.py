"""Random crop and mirror of the training images.

Axes: B images, C channels, Y X pixels.
"""

import dataclasses
import math
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from partial_equiv.datasets.counter import uniform
from partial_equiv.datasets.info import CropLaw
from partial_equiv.datasets.pictures import Pictures
from partial_equiv.datasets.resizing import resize_images

NO_TRIES = 10  # boxes drawn until one fits into the picture


class ImageSource(Protocol):
    """Anything that gives uint8 images [B, C, Y, X] for positions [B]; a uint8 tensor [N, C, Y, X] is one."""

    def __len__(self) -> int:
        """Return the number of images."""

    def __getitem__(self, index: Tensor, /) -> Tensor:
        """Return the images at `index`."""


class Augmentation(Protocol):
    """A random change of training images, as a pure function of (seed, epoch, index).

    Numbers are drawn on the host, from counters; pixels change where they are.
    """

    def draw(self, index: Tensor, epoch: int) -> Tensor:
        """Return the numbers of each image, index int64 [B] on the CPU -> [B, D]."""

    def fetch(self, images: ImageSource, index: Tensor, drawn: Tensor) -> Tensor:
        """Return the images at `index`, changed by their numbers, uint8 [B, C, Y, X]; no host waits for the device."""


def take(images: ImageSource, index: Tensor) -> Tensor:
    """Return the images at `index` [B], which lies where they lie; whole images are copied, not pixels."""
    return images.index_select(0, index) if isinstance(images, Tensor) else images[index]


@dataclasses.dataclass(frozen=True)
class CropFlip:
    """Zero-pad, crop back to size at a uniform offset, mirror left-right with probability 1/2.

    What happens to an image is a pure function of (seed, epoch, index): no order, worker or resumed run can change it.

    Args:
        padding: Pixels on each side; 4 for CIFAR, 12 for STL10 as published.
        seed: Of the run.
    Source: He et al. 2016, section 4.2.
    """

    padding: int
    seed: int

    def draw(self, index: Tensor, epoch: int) -> Tensor:
        """Return row and column of the window in the padded image, and 1 for a mirror; int64 [B] -> [B, 3]."""
        top, left, coin = (uniform(self.seed, epoch, index.numpy(), number) for number in range(3))
        no_offsets = 2 * self.padding + 1
        return torch.from_numpy(np.stack([top * no_offsets, left * no_offsets, coin < 0.5], axis=1).astype(np.int64))

    def fetch(self, images: ImageSource, index: Tensor, drawn: Tensor) -> Tensor:
        """Return the augmented images at `index`."""
        return self.change(take(images, index), drawn)

    def change(self, images: Tensor, drawn: Tensor) -> Tensor:
        """Return a window of each padded image, by the numbers that `draw` gives, on the images' device.

        Shape:
            images [B, C, Y, X], drawn int64 [B, 3] -> [B, C, Y, X].
        """
        height, width = images.shape[-2:]
        y, x = (torch.arange(side, device=images.device) for side in (height, width))
        top, left, mirrored = drawn[:, :, None].unbind(1)
        rows, columns = top + y, left + torch.where(mirrored.bool(), x.flip(0), x)
        pixels = rows[:, :, None] * (width + 2 * self.padding) + columns[:, None, :]
        padded = functional.pad(images, [self.padding] * 4).flatten(2)
        # One table of pixels for all channels: an index of every axis would take five times as long.
        return padded.gather(2, pixels.flatten(1)[:, None].expand(-1, images.shape[1], -1)).view(images.shape)

    def __call__(self, images: Tensor, index: Tensor, epoch: int) -> Tensor:
        """Return the augmented images.

        Shape:
            images [B, C, Y, X] and index [B] -> [B, C, Y, X].
        """
        return self.change(images, self.draw(index, epoch).to(images.device))


@dataclasses.dataclass(frozen=True)
class InceptionCrop:
    """Resize a random box of the picture to the image, mirror left-right with probability 1/2.

    The area of the box is uniform in `law.area` of the picture's, the logarithm of its width over its height uniform in
    that of `law.aspect`, its place uniform; the first of ten draws that fits counts, else the largest central box of an
    allowed aspect. What happens to a picture is a pure function of (seed, epoch, index).

    Args:
        law: Ranges of area and aspect.
        size: Height and width of the image.
        seed: Of the run.
    Source: Szegedy et al. 2015, with torchvision's fallback. Differs: counters instead of a generator.
    """

    law: CropLaw
    size: tuple[int, int]
    seed: int

    def draw(self, index: Tensor, epoch: int) -> Tensor:
        """Return the numbers of each image in [0, 1), int64 [B] -> float64 [B, 41]."""
        return torch.from_numpy(uniform(self.seed, epoch, index.numpy()[:, None], np.arange(4 * NO_TRIES + 1)))

    def fetch(self, images: ImageSource, index: Tensor, drawn: Tensor) -> Tensor:
        """Return the augmented images at `index`, cut from the pictures as they are on disk."""
        assert isinstance(images, Pictures), "boxes are cut from pictures, which only sets on disk have"
        return torch.stack(
            [
                self.cut(images.store.picture(position), numbers)
                for position, numbers in zip(index.tolist(), drawn.numpy(), strict=True)
            ]
        )

    def cut(self, picture: Tensor, numbers: NDArray[np.float64]) -> Tensor:
        """Return a box of the picture as an image, by 41 numbers in [0, 1).

        Shape:
            picture uint8 [3, Y, X], numbers [41] -> uint8 [3, *size].
        """
        mirrored, tries = numbers[0] < 0.5, numbers[1:].reshape(NO_TRIES, 4)
        top, left, height, width = self.box(picture.shape[-2], picture.shape[-1], tries)
        image = resize_images(picture[None, :, top : top + height, left : left + width], self.size)[0]
        return image.flip(-1) if mirrored else image

    def box(self, height: int, width: int, tries: NDArray[np.float64]) -> tuple[int, int, int, int]:
        """Return top, left, height and width of the box in a picture of the given sides."""
        (least, most), (narrow, wide) = self.law
        for area_draw, aspect_draw, top_draw, left_draw in tries:
            area = height * width * (least + (most - least) * area_draw)
            aspect = narrow * (wide / narrow) ** aspect_draw
            rows, columns = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
            if 0 < rows <= height and 0 < columns <= width:
                return int(top_draw * (height - rows + 1)), int(left_draw * (width - columns + 1)), rows, columns
        rows, columns = min(height, round(width / narrow)), min(width, round(height * wide))
        return (height - rows) // 2, (width - columns) // 2, rows, columns
