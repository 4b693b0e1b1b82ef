"""Random crop and mirror of the training images.

Axes: B images, C channels, Y X pixels.
"""

import dataclasses

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from partial_equiv.datasets.counter import uniform


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
