"""Batches in an order that is a pure function of (seed, epoch), on the device that learns from them."""

from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from partial_equiv.datasets.counter import generator, uniform
from partial_equiv.datasets.image_set import ImageSet
from partial_equiv.datasets.normalisation import Normalisation
from partial_equiv.datasets.recorded import RecordedViews
from partial_equiv.datasets.view_set import ViewSet
from partial_equiv.errors import UserError

T = TypeVar("T")
ExampleSet = ImageSet | ViewSet | RecordedViews
CPU = torch.device("cpu")
RESIDENT_SHARE = 1 / 4
"""Of the memory of a device that is free when a loader is made: a split of more bytes of pixels is not kept there."""
UNTOLD_FREE = 4 << 30  # bytes taken as free on devices that do not tell


class BatchOrder(Sampler[Tensor]):
    """Positions of each batch of an epoch, or of this rank's share of each.

    Shares are contiguous, one after the other in the order of ranks, and differ by one image at most.

    Args:
        no_images: Size of the set.
        batch_size: Images of a batch, of all ranks together; the last one may be smaller.
        shuffle: Permute by (seed, epoch); otherwise in order.
        drop_last: Leave out a smaller last batch.
        seed: Of the run.
        device: Of the positions; they are made on the CPU and moved once an epoch.
        rank: Whose share, counted from 0.
        no_ranks: Shares of a batch.
    """

    def __init__(
        self,
        no_images: int,
        *,
        batch_size: int,
        shuffle: bool,
        drop_last: bool,
        seed: int,
        device: torch.device,
        rank: int = 0,
        no_ranks: int = 1,
    ) -> None:
        """Start at epoch 0."""
        self.no_images = no_images
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.seed = seed
        self.device = device
        self.rank = rank
        self.no_ranks = no_ranks
        self.epoch = 0
        self.first = 0

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch."""
        full, rest = divmod(self.no_images, self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[Tensor]:
        """Yield positions, int64 [B], from batch `first` on."""
        order = self.order().to(self.device)
        for start in range(self.first * self.batch_size, len(self) * self.batch_size, self.batch_size):
            yield order[start : start + self.batch_size].tensor_split(self.no_ranks)[self.rank]

    def order(self) -> Tensor:
        """Return all positions in the order of the epoch, on the CPU."""
        if not self.shuffle:
            return torch.arange(self.no_images)
        mixed = int(uniform(self.seed, self.epoch)[0] * 2**53)
        return torch.randperm(self.no_images, generator=generator(mixed))


class Fetched(Dataset[Any]):
    """A set of which batches are fetched and no more: they are finished on the device that learns from them."""

    def __init__(self, image_set: ExampleSet) -> None:
        """Keep the set."""
        self.image_set = image_set

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.image_set)

    def __getitem__(self, index: Tensor) -> Any:
        """Return a batch of bytes, and of what is to be done to them."""
        return self.image_set.fetch(index)


class Loader(DataLoader[Any]):
    """Torch's DataLoader over whole batches, `Batch` or `Views`, with the epoch as its only state.

    Batches come on `device`. A resident set lies there as bytes and its batches are made there: the host only says
    which. Another set is fetched on the host as bytes, by reading processes if it is on disk; batches are moved without
    waiting (from pinned memory to CUDA), then normalised, and recorded augmentations made, on the device. On the CPU a
    batch is made whole where it is fetched, and nothing is copied to keep.
    """

    def __init__(
        self, image_set: ExampleSet, order: BatchOrder, no_workers: int, device: torch.device, *, resident: bool
    ) -> None:
        """Fetch each batch in one step.

        Torch draws a worker seed whenever a loader starts; a private generator keeps that from moving the global one.
        """
        self.image_set = image_set
        self.order = order
        self.device = device
        self.resident = image_set.to(device) if resident else None
        self.streams = not resident and device.type != "cpu"
        self.normalise = Normalisation(image_set.mean, image_set.std, device)
        super().__init__(
            self.resident or (Fetched(image_set) if self.streams else image_set),
            sampler=order,
            batch_size=None,
            num_workers=no_workers,
            collate_fn=unchanged,
            generator=generator(order.seed),
            pin_memory=self.streams and device.type == "cuda",
        )

    def __iter__(self) -> Any:
        """Yield the batches of the epoch, on the device."""
        batches = super().__iter__()
        return map(self.finished, batches) if self.streams else batches

    def finished(self, batch: Any) -> Any:
        """Return a batch that was fetched on the host, moved and finished."""
        return self.image_set.finish(moved(batch, self.device), self.normalise)

    def set_epoch(self, epoch: int, first: int = 0) -> None:
        """Choose order and augmentation of the next pass, and the batch that it begins with."""
        self.order.epoch, self.order.first = epoch, first
        self.image_set.set_epoch(epoch)
        if self.resident is not None:
            self.resident.set_epoch(epoch)

    def whole(self) -> Iterator[Any]:
        """Yield the batches of the chosen epoch as one process sees them: from the first one on, and uncut."""
        order = self.order
        chosen = order.first, order.rank, order.no_ranks
        order.first, order.rank, order.no_ranks = 0, 0, 1
        try:
            yield from self
        finally:
            order.first, order.rank, order.no_ranks = chosen

    def examples(self, batch: int) -> list[int]:
        """Return the positions in the set of a batch of the chosen epoch, of all ranks."""
        start = batch * self.order.batch_size
        positions: list[int] = self.order.order()[start : start + self.order.batch_size].tolist()
        return positions


def moved(batch: Any, device: torch.device) -> Any:
    """Return a NamedTuple of tensors on a device; what a batch has not, such as poses that nobody knows, stays None."""
    return type(batch)(*(None if tensor is None else tensor.to(device, non_blocking=True) for tensor in batch))


def unchanged(batch: T) -> T:
    """Return the batch: it is collated already."""
    return batch


def make_loader(
    image_set: ExampleSet,
    *,
    batch_size: int,
    shuffle: bool,
    drop_last: bool,
    seed: int,
    no_workers: int,
    device: torch.device = CPU,
    rank: int = 0,
    no_ranks: int = 1,
) -> Loader:
    """Return a loader that yields `Batch`, or `Views` for a set of views.

    Sets in memory are kept on a device other than the CPU if their pixels take at most a quarter (`RESIDENT_SHARE`) of
    the memory that is free there now.

    Args:
        image_set: The split.
        batch_size: Images of a batch, of all ranks together.
        shuffle: New order in each epoch.
        drop_last: Leave out a smaller last batch.
        seed: Of the run.
        no_workers: Reading processes, for images on disk; images in memory are fetched faster without.
        device: Where batches are made and come.
        rank: Which share of every batch to yield, counted from 0.
        no_ranks: Shares, one for each process that trains.

    Raises:
        UserError: `batch_size` below 1, `no_workers` below 0, no whole batch left, or a batch that cannot be shared.
    """
    if batch_size < 1:
        raise UserError(f"train.batch_size={batch_size} is out of range: give 1 or more images")
    check_shares(len(image_set), batch_size, no_ranks, drop_last)
    if no_workers < 0:
        raise UserError(f"no_workers={no_workers} is out of range: give 0 (read in the main process) or more")
    resident = device.type != "cpu" and image_set.in_memory and image_set.no_bytes <= RESIDENT_SHARE * free(device)
    order = BatchOrder(
        len(image_set),
        batch_size=batch_size,
        shuffle=shuffle,
        drop_last=drop_last,
        seed=seed,
        device=device if resident else CPU,
        rank=rank,
        no_ranks=no_ranks,
    )
    if not len(order):
        raise UserError(
            f"train.batch_size={batch_size} leaves no whole batch of {len(image_set)} examples: give a smaller one"
        )
    return Loader(image_set, order, 0 if image_set.in_memory else no_workers, device, resident=resident)


def check_shares(no_images: int, batch_size: int, no_ranks: int, drop_last: bool) -> None:
    """Check that every batch can be shared: equally, but for a smaller last one, of which each rank needs an image.

    Raises:
        UserError: it cannot; the message names the nearest size that can.
    """

    def fits(size: int) -> bool:
        rest = no_images % size
        return size % no_ranks == 0 and (drop_last or rest == 0 or rest >= no_ranks)

    if fits(batch_size):
        return
    sizes = sorted(range(no_ranks, max(batch_size, no_images) + 1, no_ranks), key=lambda size: abs(size - batch_size))
    remedy = next((f"give for example {size}" for size in sizes if fits(size)), "train in fewer processes")
    why = f"cannot be shared equally by {no_ranks} processes"
    if batch_size % no_ranks == 0:
        rest = no_images % batch_size
        why = f"leaves a last batch of {rest} of {no_images} images, which {no_ranks} processes cannot share"
    raise UserError(f"train.batch_size={batch_size} {why}: {remedy}")


def free(device: torch.device) -> int:
    """Return the bytes that are free on a device, or what is taken for them where it does not tell."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else UNTOLD_FREE
