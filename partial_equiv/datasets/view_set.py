"""Several views of each object, of which an example shows two.

Axes: N objects, V views of an object, M images, B examples of a batch, K views of an example, C channels, Y X pixels,
L latent numbers of a view.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset

from partial_equiv.datasets.augmentation import take
from partial_equiv.datasets.counter import uniform
from partial_equiv.datasets.epoch_table import Draw, EpochTable
from partial_equiv.datasets.info import DatasetInfo
from partial_equiv.datasets.normalisation import Normalisation
from partial_equiv.datasets.split import Cut
from partial_equiv.errors import UserError

PAIR = ("x", "y")
FIRST, SECOND = range(2)  # streams of random numbers
NO_FOLDS, HELD_OUT = 20, (1, 11)
MOST_VIEWS = 100_000


class Views(NamedTuple):
    """Views of a batch of objects, with the latent numbers by which each was made.

    Args:
        images: Normalised pixels.
        labels: Classes of the objects; all 0 where there are none.
        index: Positions in the split.
        latents: What differs from view to view, in the columns that the facts of the data set name.
    Shape:
        images [B, K, C, Y, X] float32, labels [B] int64, index [B] int64, latents [B, K, L] float32.
    """

    images: Tensor
    labels: Tensor
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nothing needs of a batch
    latents: Tensor


class ViewSource(Protocol):
    """Anything that gives images [M, C, Y, X] for positions [M]; a tensor [N V, C, Y, X] is one.

    Positions run over objects, and over the views of each: view v of object n is at n V + v. Pixels are uint8, or
    float32 numbers that are used as they are.
    """

    def __len__(self) -> int:
        """Return the number of images, N V."""

    def __getitem__(self, positions: Tensor, /) -> Tensor:
        """Return the images at `positions`."""


class ViewSet(Dataset[Views]):
    """One split of a set of views: each example is a pair of distinct views of one object.

    Example p shows object p // pairs_per_object, and the pair is a pure function of (seed, epoch, p), uniform over the
    V (V - 1) ordered pairs: no order, worker or resumed run can change it.
    image = (pixel / 255 - mean) / std, in float32. A set lies on one device, where its batches are made:
    self[index] = finish(fetch(index), normalise).

    Args:
        images: Pixels, in memory or read when asked for.
        latents: What differs from view to view.
        labels: Class of each object.
        mean: Per channel, of pixels in [0, 1]; 0 for a source of float32 numbers.
        std: Per channel, of pixels in [0, 1]; 1 for a source of float32 numbers.
        pairs_per_object: Examples of an epoch that show one object.
        seed: Of the pairs.
        groups: Objects that are to be reported apart, positions by name.
    Shape:
        images [N V, C, Y, X], latents [N, V, L], labels int64 [N].

    Raises:
        UserError: an object has one view or too many, or `pairs_per_object` is below 1.
    """

    view_names = PAIR

    def __init__(
        self,
        images: ViewSource,
        latents: Tensor,
        labels: Tensor,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        pairs_per_object: int,
        seed: int,
        groups: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Keep the images; nothing is copied."""
        assert len(images) == latents.shape[0] * latents.shape[1], f"{len(images)} images, latents {latents.shape}"
        assert len(labels) == len(latents), f"{len(labels)} labels, latents {latents.shape}"
        check_pairs(latents.shape[1], pairs_per_object)
        self.images = images
        self.latents = latents.float()
        self.labels = labels
        self.mean = tuple(mean)
        self.std = tuple(std)
        self.pairs_per_object = pairs_per_object
        self.seed = seed
        self.groups = dict(groups or {})
        self.epoch = 0
        self.normalise = Normalisation(self.mean, self.std, labels.device)
        # Of images on disk, reading processes draw batch by batch.
        self.drawn: Draw = EpochTable(self.draw, len(self), labels.device) if self.in_memory else self.draw

    @property
    def no_objects(self) -> int:
        """Number of objects."""
        return self.latents.shape[0]

    @property
    def no_views(self) -> int:
        """Number of views of each object."""
        return self.latents.shape[1]

    @property
    def in_memory(self) -> bool:
        """Whether the pixels are held in memory rather than read from disk on demand."""
        return isinstance(self.images, Tensor)

    @property
    def no_bytes(self) -> int:
        """Bytes of the pixels, where they are held in memory."""
        return self.images.nbytes if isinstance(self.images, Tensor) else 0

    def to(self, device: torch.device) -> "ViewSet":
        """Return the same views on a device, for sets in memory; on the CPU nothing is copied."""
        assert isinstance(self.images, Tensor), "images on disk have no device"
        moved = ViewSet(
            self.images.to(device),
            self.latents.to(device),
            self.labels.to(device),
            mean=self.mean,
            std=self.std,
            pairs_per_object=self.pairs_per_object,
            seed=self.seed,
            groups=self.groups,
        )
        moved.set_epoch(self.epoch)
        return moved

    def set_epoch(self, epoch: int) -> None:
        """Choose the draw of the pairs."""
        self.epoch = epoch

    def raw(self, index: int) -> Tensor:
        """Return the first view of one object as stored, [C, Y, X]."""
        return self.images[torch.tensor([range(self.no_objects)[index] * self.no_views])][0]

    def images_at(self, positions: Tensor) -> Tensor:
        """Return normalised images.

        Shape:
            positions int64 [M], of views rather than of pairs -> float32 [M, C, Y, X].
        """
        return normalised(take(self.images, positions), self.normalise)

    def pairs(self, index: Tensor) -> Tensor:
        """Return which views the examples show in this epoch, as positions of `images_at`.

        Shape:
            index int64 [B] -> int64 [B, 2].
        """
        return self.drawn(index, self.epoch)

    def draw(self, index: Tensor, epoch: int) -> Tensor:
        """Return which views the examples show in an epoch, int64 [B] on the CPU -> [B, 2]."""
        first, second = (uniform(self.seed, epoch, index.numpy(), number) for number in (FIRST, SECOND))
        one = torch.from_numpy(first * self.no_views).long()
        other = torch.from_numpy(second * (self.no_views - 1)).long()
        other += other >= one  # the views other than the first
        return torch.stack([one, other], dim=1) + self.objects(index)[:, None] * self.no_views

    def objects(self, index: Tensor) -> Tensor:
        """Return which objects the examples show, int64 [B] -> [B]."""
        return index // self.pairs_per_object

    def __len__(self) -> int:
        """Return the number of examples of an epoch."""
        return self.no_objects * self.pairs_per_object

    def __getitem__(self, index: int | Sequence[int] | Tensor) -> Views:
        """Return the batch of the given positions; one position gives a batch of one."""
        return self.finish(self.fetch(index), self.normalise)

    def fetch(self, index: int | Sequence[int] | Tensor) -> Views:
        """Return a batch before it is normalised, its images as they are stored: what reading processes do."""
        chosen = torch.as_tensor(index, dtype=torch.int64, device=self.labels.device).reshape(-1)
        positions = self.pairs(chosen)
        images = take(self.images, positions.flatten()).unflatten(0, positions.shape)
        return Views(images, self.labels[self.objects(chosen)], chosen, self.latents.flatten(0, 1)[positions])

    @staticmethod
    def finish(batch: Views, normalise: Normalisation) -> Views:
        """Return a fetched batch normalised, on the device where it lies."""
        return batch._replace(images=normalised(batch.images, normalise))

    def __getitems__(self, index: Sequence[int]) -> Views:
        """Return the batch of the given positions: the door that torch's DataLoader uses for whole batches."""
        return self[index]


def normalised(pixels: Tensor, normalise: Normalisation) -> Tensor:
    """Return images for a network, [..., C, Y, X]; float32 numbers are used as they are."""
    return pixels if pixels.dtype == torch.float32 else normalise(pixels)


class ViewSplits(NamedTuple):
    """A set of views: what learns, what selects, what is reported, and the facts."""

    train: ViewSet
    validation: ViewSet
    test: ViewSet
    info: DatasetInfo


def check_pairs(no_views: int, pairs_per_object: int) -> None:
    """Raise UserError if pairs cannot be drawn."""
    if not 2 <= no_views <= MOST_VIEWS:
        raise UserError(f"dataset.no_views={no_views} is out of range: give 2 to {MOST_VIEWS:,}, a pair shows two")
    if pairs_per_object < 1:
        raise UserError(f"dataset.pairs_per_object={pairs_per_object} is out of range: give 1 or more")


def object_split(no_objects: int, no_classes: int) -> Cut:
    """Return the objects of each split, where object i is of class i mod `no_classes`.

    With r = i div no_classes, an object is for test if r mod 5 = 0, for validation if r mod 20 is 1 or 11, and for
    training otherwise: no object is in two splits, and all of them hold every class.

    Args:
        no_objects: All objects.
        no_classes: Classes.
    Shape:
        -> int64 positions, ascending.

    Raises:
        UserError: too few objects for every split to hold every class.
    """
    if no_classes < 1:
        raise UserError(f"dataset.no_classes={no_classes} is out of range: give 1 or more")
    if no_objects < 3 * no_classes:
        raise UserError(
            f"dataset.no_objects={no_objects} leaves a split without some of the {no_classes} classes: "
            f"give {3 * no_classes} or more, 3 of each"
        )
    objects = torch.arange(no_objects)
    rank = objects // no_classes
    tested = rank % 5 == 0
    held_out = torch.isin(rank % NO_FOLDS, torch.tensor(HELD_OUT))
    return Cut(objects[~tested & ~held_out], objects[held_out], objects[tested])
