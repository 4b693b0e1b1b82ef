"""Labelled images that are fetched and normalised a batch at a time.

Axes: N images of the set, B images of a batch, C channels, Y X pixels.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from partial_equiv.datasets.augmentation import Augmentation, ImageSource, take
from partial_equiv.datasets.epoch_table import Draw, EpochTable
from partial_equiv.datasets.info import DatasetInfo
from partial_equiv.datasets.normalisation import Normalisation


class Batch(NamedTuple):
    """Images of a batch with their labels, and with their poses where these are known.

    Args:
        images: Normalised pixels.
        labels: Classes; all 0 where the data set has none.
        index: Positions in the split.
        pose: Angles in radians by which the images were turned, to score by and never to learn from; None where they
            are unknown, and for augmented images, whose mirrors would turn the other way.
    Shape:
        images [B, C, Y, X] float32, labels [B] int64, index [B] int64, pose [B] float32.
    """

    images: Tensor
    labels: Tensor
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nothing needs of a batch
    pose: Tensor | None = None


class ImageSet(Dataset[Batch]):
    """One split of a data set.

    batch = (pixel / 255 - mean) / std, in float32, after the augmentation where there is one. A set lies on one device,
    where its batches are made: self[index] = finish(fetch(index), normalise).

    Args:
        images: Pixels, in memory or read when asked for.
        labels: One per image.
        mean: Per channel, of pixels in [0, 1].
        std: Per channel, of pixels in [0, 1].
        augmentation: Fetches every batch in place of the plain images.
        poses: Angles in radians by which the images were turned; None where they are unknown.
    Shape:
        images uint8 [N, C, Y, X], labels int64 [N], poses [N].
    """

    def __init__(
        self,
        images: ImageSource,
        labels: Tensor,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        augmentation: Augmentation | None = None,
        poses: Tensor | None = None,
    ) -> None:
        """Keep the images; nothing is copied."""
        assert len(images) == len(labels), f"{len(images)} images, {len(labels)} labels"
        assert poses is None or len(poses) == len(images), f"{len(images)} images, {poses.shape} poses"
        self.images = images
        self.labels = labels
        self.mean = tuple(mean)
        self.std = tuple(std)
        self.augmentation = augmentation
        self.poses = None if poses is None else poses.float()  # some accelerators have no double precision
        self.epoch = 0
        self.normalise = Normalisation(self.mean, self.std, labels.device)
        self.drawn: Draw | None = None if augmentation is None else augmentation.draw
        if augmentation is not None and self.in_memory:  # others are drawn by reading processes, batch by batch
            self.drawn = EpochTable(augmentation.draw, len(labels), labels.device)

    @property
    def in_memory(self) -> bool:
        """Whether the pixels are held in memory rather than read from disk on demand."""
        return isinstance(self.images, Tensor)

    @property
    def no_bytes(self) -> int:
        """Bytes of the pixels, where they are held in memory."""
        return self.images.nbytes if isinstance(self.images, Tensor) else 0

    def to(self, device: torch.device) -> "ImageSet":
        """Return the same images on a device, for sets in memory; on the CPU nothing is copied."""
        assert isinstance(self.images, Tensor), "images on disk have no device"
        moved = ImageSet(
            self.images.to(device),
            self.labels.to(device),
            mean=self.mean,
            std=self.std,
            augmentation=self.augmentation,
            poses=None if self.poses is None else self.poses.to(device),
        )
        moved.set_epoch(self.epoch)
        return moved

    def augmented(self, augmentation: Augmentation) -> "ImageSet":
        """Return the same images with an augmentation."""
        return ImageSet(
            self.images, self.labels, mean=self.mean, std=self.std, augmentation=augmentation, poses=self.poses
        )

    def set_epoch(self, epoch: int) -> None:
        """Choose the draw of the augmentation."""
        self.epoch = epoch

    def raw(self, index: int) -> Tensor:
        """Return one image as stored, uint8 [C, Y, X]."""
        return self.images[torch.tensor([range(len(self))[index]])][0]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    def __getitem__(self, index: int | Sequence[int] | Tensor) -> Batch:
        """Return the batch of the given positions; one position gives a batch of one."""
        return self.finish(self.fetch(index), self.normalise)

    def fetch(self, index: int | Sequence[int] | Tensor) -> Batch:
        """Return a batch before it is normalised, its images uint8: what reading processes do."""
        chosen = torch.as_tensor(index, dtype=torch.int64, device=self.labels.device).reshape(-1)
        if self.augmentation is None or self.drawn is None:
            pixels = take(self.images, chosen)
        else:
            pixels = self.augmentation.fetch(self.images, chosen, self.drawn(chosen, self.epoch))
        pose = None if self.poses is None or self.augmentation is not None else self.poses[chosen]
        return Batch(pixels, self.labels[chosen], chosen, pose)

    @staticmethod
    def finish(batch: Batch, normalise: Normalisation) -> Batch:
        """Return a fetched batch normalised, on the device where it lies."""
        return batch._replace(images=normalise(batch.images))

    def __getitems__(self, index: Sequence[int]) -> Batch:
        """Return the batch of the given positions: the door that torch's DataLoader uses for whole batches."""
        return self[index]


class Splits(NamedTuple):
    """A data set: what learns, what selects, what is reported, and the facts."""

    train: ImageSet
    validation: ImageSet
    test: ImageSet
    info: DatasetInfo
