"""Each image beside two augmentations of it, whose parameters are recorded: the views of EquiMod.

Axes: N images of the set, B images of a batch, C channels, Y X pixels, P = 15 parameters of an augmentation.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from partial_equiv.datasets.augmentation import take
from partial_equiv.datasets.epoch_table import EpochTable
from partial_equiv.datasets.image_set import ImageSet, Splits
from partial_equiv.datasets.info import DatasetInfo, with_notes
from partial_equiv.datasets.normalisation import Normalisation
from partial_equiv.datasets.recorded_ops import (
    PARAMETERS,
    SIMCLR,
    RecordedLaw,
    augment,
    draw_parameters,
    neutral_parameters,
    standardisation,
)
from partial_equiv.datasets.view_set import Views
from partial_equiv.errors import UserError

VIEWS = ("anchor", "x", "y")
NOTE = "each image beside two augmentations of it"
FIXED_SEED = 0  # of validation and test: the same augmentations for all runs


class Recipe(NamedTuple):
    """Images of a batch as they are stored, and what is to be done to them.

    Args:
        images: As stored.
        labels: Classes.
        index: Positions in the split.
        parameters: Of each view, the anchor first.
        latents: The parameters, standardised.
    Shape:
        images uint8 [B, C, Y, X], labels int64 [B], index int64 [B], parameters and latents float32 [B, 3, P].
    """

    images: Tensor
    labels: Tensor
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nothing needs of a batch
    parameters: Tensor
    latents: Tensor


class RecordedViews(Dataset[Views]):
    """One split of a data set, each example an image as it is and two augmentations of it.

    latents = (parameters - mean) / std, of the law of the parameters; those of the anchor are what no augmentation
    would have. The augmentations are a pure function of (seed, epoch, index), up to the rounding of float32. A set lies
    on one device, where its batches are made: self[index] = finish(fetch(index), normalise).

    Args:
        images: The split, without an augmentation.
        law: Of the augmentations.
        seed: Of the augmentations.
        varies: Draw anew in each epoch; False keeps the draw of epoch 0.
    """

    view_names = VIEWS
    no_views = 1
    """Of an object as it is stored: the augmentations are made, not kept."""

    def __init__(self, images: ImageSet, *, law: RecordedLaw, seed: int, varies: bool) -> None:
        """Keep the images; nothing is copied."""
        assert images.augmentation is None, "an augmented set has no image as it is"
        self.images = images
        self.law = law
        self.seed = seed
        self.varies = varies
        self.labels, self.mean, self.std = images.labels, images.mean, images.std
        self.latents = torch.zeros(len(images), 1, 0)
        self.groups: dict[str, Tensor] = {}
        self.normalise = images.normalise
        self.epoch = 0
        self.table: EpochTable | None = None
        if isinstance(images.images, Tensor):  # others are drawn by reading processes, batch by batch
            draw = functools.partial(self.rows, shape=images.images.shape[1:])
            self.table = EpochTable(draw, len(images), images.labels.device)

    @property
    def no_objects(self) -> int:
        """Number of images."""
        return len(self.images)

    @property
    def in_memory(self) -> bool:
        """Whether the pixels are held in memory rather than read from disk on demand."""
        return self.images.in_memory

    @property
    def no_bytes(self) -> int:
        """Bytes of the pixels, where they are held in memory."""
        return self.images.no_bytes

    def to(self, device: torch.device) -> "RecordedViews":
        """Return the same images on a device, for sets in memory; on the CPU nothing is copied."""
        moved = RecordedViews(self.images.to(device), law=self.law, seed=self.seed, varies=self.varies)
        moved.set_epoch(self.epoch)
        return moved

    def set_epoch(self, epoch: int) -> None:
        """Choose the draw of the augmentations, where it varies."""
        self.epoch = epoch if self.varies else 0

    def raw(self, index: int) -> Tensor:
        """Return one image as stored, uint8 [C, Y, X]."""
        return self.images.raw(index)

    def images_at(self, positions: Tensor) -> Tensor:
        """Return normalised images as they are, float32 [M, C, Y, X] for positions int64 [M]."""
        return self.images[positions].images

    def parameters(self, index: Tensor, *, size: tuple[int, int], in_colour: bool) -> Tensor:
        """Return what is recorded of each view in this epoch, the anchor first, before it is standardised.

        Args:
            index: Positions of the images.
            size: Their height and width.
            in_colour: Whether they have three channels.
        Shape:
            index int64 [B] -> float64 [B, 3, P].
        """
        return self.drawn(index, self.epoch, size, in_colour)

    def drawn(self, index: Tensor, epoch: int, size: tuple[int, int], in_colour: bool) -> Tensor:
        """Return the parameters of an epoch, the anchor's first, int64 [B] on the CPU -> float64 [B, 3, P]."""
        drawn = draw_parameters(
            index, law=self.law, size=size, in_colour=in_colour, no_draws=2, seed=self.seed, epoch=epoch
        )
        return torch.cat([neutral_parameters(size).expand(len(index), 1, -1), drawn], dim=1)

    def rows(self, index: Tensor, epoch: int, *, shape: Sequence[int]) -> Tensor:
        """Return parameters, and beside them the standardised ones.

        Args:
            index: Positions, on the CPU.
            epoch: Of the run.
            shape: Of an image: C, Y, X.
        Shape:
            int64 [B] -> float32 [B, 2, 3, P].
        """
        size, in_colour = (shape[1], shape[2]), shape[0] == 3
        parameters = self.drawn(index, epoch, size, in_colour)
        mean, deviation = standardisation(self.law, size, in_colour)
        return torch.stack([parameters, (parameters - mean) / deviation], dim=1).float()

    def __len__(self) -> int:
        """Return the number of examples of an epoch."""
        return len(self.images)

    def __getitem__(self, index: int | Sequence[int] | Tensor) -> Views:
        """Return the batch of the given positions; one position gives a batch of one."""
        return self.finish(self.fetch(index), self.normalise)

    def fetch(self, index: int | Sequence[int] | Tensor) -> Recipe:
        """Return the images of a batch as they are stored, and their parameters: what reading processes do."""
        chosen = torch.as_tensor(index, dtype=torch.int64, device=self.labels.device).reshape(-1)
        pixels = take(self.images.images, chosen)
        if self.table is None:
            rows = self.rows(chosen, self.epoch, shape=pixels.shape[1:])
        else:
            rows = self.table(chosen, self.epoch)
        return Recipe(pixels, self.labels[chosen], chosen, *rows.unbind(1))

    @staticmethod
    def finish(recipe: Recipe, normalise: Normalisation) -> Views:
        """Return the batch of a recipe, augmented and normalised on the device where it lies."""
        pixels = recipe.images.float()
        parameters = recipe.parameters[:, 1:].flatten(0, 1)
        augmented = augment(pixels.repeat_interleave(2, dim=0), parameters).unflatten(0, (-1, 2))
        images = normalise(torch.cat([pixels[:, None], augmented], dim=1))
        return Views(images, recipe.labels, recipe.index, recipe.latents)

    def __getitems__(self, index: Sequence[int]) -> Views:
        """Return the batch of the given positions: the door that torch's DataLoader uses for whole batches."""
        return self[index]


class RecordedSplits(NamedTuple):
    """Images beside their augmentations: what learns, what selects, what is reported, and the facts."""

    train: RecordedViews
    validation: RecordedViews
    test: RecordedViews
    info: DatasetInfo


def record_views(splits: Splits, seed: int) -> RecordedSplits:
    """Return the splits with each image beside two augmentations by the law of SimCLR.

    Those of training change with the epoch and the seed; those of validation and test are the same for all.

    Args:
        splits: Any data set of images.
        seed: Of the run.
    Source: Devillers & Lefort 2023 (EquiMod). Differs: crops are cut from the image at its final size, no value is
        rounded between two changes, and what has no effect is recorded as if it had not been drawn.
    """
    train = RecordedViews(splits.train, law=SIMCLR, seed=seed, varies=True)
    validation, test = (
        RecordedViews(images, law=SIMCLR, seed=FIXED_SEED, varies=False) for images in (splits.validation, splits.test)
    )
    return RecordedSplits(train, validation, test, recorded_info(splits.info))


def recorded_info(info: DatasetInfo) -> DatasetInfo:
    """Return the facts of a set of images once each is seen beside its augmentations.

    Raises:
        UserError: it is a set of views already.
    """
    if info.views:
        raise views_refused(info, "recorded")
    return dataclasses.replace(with_notes(info, NOTE), views=VIEWS, latents=PARAMETERS)


def views_refused(info: DatasetInfo, augment: str | None) -> UserError:
    """Return what to say of a set of views that is to be augmented, for augmentations are of single images."""
    return UserError(
        f"augment={augment} changes single images, and dataset={info.name} has several views of each object: "
        "give augment=none"
    )
