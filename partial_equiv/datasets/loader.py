"""Batches in an order that is a pure function of (seed, epoch)."""

from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from partial_equiv.datasets.counter import generator, uniform
from partial_equiv.datasets.image_set import ImageSet
from partial_equiv.datasets.recorded import RecordedViews
from partial_equiv.datasets.view_set import ViewSet
from partial_equiv.errors import UserError

T = TypeVar("T")
ExampleSet = ImageSet | ViewSet | RecordedViews


class BatchOrder(Sampler[Tensor]):
    """Positions of each batch of an epoch.

    Args:
        no_images: Size of the set.
        batch_size: Images of a batch; the last one may be smaller.
        shuffle: Permute by (seed, epoch); otherwise in order.
        drop_last: Leave out a smaller last batch.
        seed: Of the run.
    """

    def __init__(self, no_images: int, *, batch_size: int, shuffle: bool, drop_last: bool, seed: int) -> None:
        """Start at epoch 0."""
        self.no_images = no_images
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        """Return the number of batches."""
        full, rest = divmod(self.no_images, self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[Tensor]:
        """Yield positions, int64 [B]."""
        order = torch.arange(self.no_images)
        if self.shuffle:
            mixed = int(uniform(self.seed, self.epoch)[0] * 2**53)
            order = torch.randperm(self.no_images, generator=generator(mixed))
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            yield order[start : start + self.batch_size]


class Loader(DataLoader[Any]):
    """Torch's DataLoader over whole batches, `Batch` or `Views`, with the epoch as its only state."""

    def __init__(self, image_set: ExampleSet, order: BatchOrder, no_workers: int) -> None:
        """Fetch each batch in one step.

        Torch draws a worker seed whenever a loader starts; a private generator keeps that from moving the global one.
        """
        self.image_set = image_set
        self.order = order
        private = generator(order.seed)
        super().__init__(
            image_set, sampler=order, batch_size=None, num_workers=no_workers, collate_fn=unchanged, generator=private
        )

    def set_epoch(self, epoch: int) -> None:
        """Choose order and augmentation of the next pass."""
        self.order.epoch = epoch
        self.image_set.set_epoch(epoch)


def unchanged(batch: T) -> T:
    """Return the batch: it is collated already."""
    return batch


def make_loader(
    image_set: ExampleSet, *, batch_size: int, shuffle: bool, drop_last: bool, seed: int, no_workers: int
) -> Loader:
    """Return a loader that yields `Batch`, or `Views` for a set of views.

    Args:
        image_set: The split.
        batch_size: Images of a batch.
        shuffle: New order in each epoch.
        drop_last: Leave out a smaller last batch.
        seed: Of the run.
        no_workers: Reading processes, for images on disk; images in memory are fetched faster without.

    Raises:
        UserError: `batch_size` below 1, `no_workers` below 0, or no whole batch left.
    """
    if batch_size < 1:
        raise UserError(f"train.batch_size={batch_size} is out of range: give 1 or more images")
    if no_workers < 0:
        raise UserError(f"no_workers={no_workers} is out of range: give 0 (read in the main process) or more")
    order = BatchOrder(len(image_set), batch_size=batch_size, shuffle=shuffle, drop_last=drop_last, seed=seed)
    if not len(order):
        raise UserError(
            f"train.batch_size={batch_size} leaves no whole batch of {len(image_set)} examples: give a smaller one"
        )
    return Loader(image_set, order, 0 if image_set.in_memory else no_workers)
