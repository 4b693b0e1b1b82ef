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
    """A random change of training images, as a pure function of (seed, epoch, index)."""

    def fetch(self, images: ImageSource, index: Tensor, epoch: int) -> Tensor:
        """Return the changed images at `index`, uint8 [B, C, Y, X]."""


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

    def fetch(self, images: ImageSource, index: Tensor, epoch: int) -> Tensor:
        """Return the augmented images at `index`."""
        return self(images[index], index, epoch)

    def __call__(self, images: Tensor, index: Tensor, epoch: int) -> Tensor:
        """Return the augmented images.

        Shape:
            images [B, C, Y, X] and index [B] -> [B, C, Y, X].
        """
        counters = index.numpy()
        no_offsets = 2 * self.padding + 1
        top, left = (
            torch.from_numpy((uniform(self.seed, epoch, counters, draw) * no_offsets).astype(np.int64))
            for draw in (0, 1)
        )
        mirrored = torch.from_numpy(uniform(self.seed, epoch, counters, 2) < 0.5)
        height, width = images.shape[-2:]
        rows, columns = torch.arange(height), torch.arange(width)
        columns = torch.where(mirrored[:, None], columns.flip(0), columns)
        padded = functional.pad(images, [self.padding] * 4)
        sample, channel = torch.arange(len(images)), torch.arange(images.shape[1])
        return padded[
            sample[:, None, None, None],
            channel[None, :, None, None],
            (top[:, None] + rows)[:, None, :, None],
            (left[:, None] + columns)[:, None, None, :],
        ]


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

    def fetch(self, images: ImageSource, index: Tensor, epoch: int) -> Tensor:
        """Return the augmented images at `index`, cut from the pictures as they are on disk."""
        assert isinstance(images, Pictures), "boxes are cut from pictures, which only sets on disk have"
        draws = uniform(self.seed, epoch, index.numpy()[:, None], np.arange(4 * NO_TRIES + 1))
        return torch.stack(
            [
                self.cut(images.store.picture(position), numbers)
                for position, numbers in zip(index.tolist(), draws, strict=True)
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
