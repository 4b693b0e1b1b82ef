"""Facts of a data set, and how many images each of its splits gets."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from partial_equiv.datasets.law import Law
from partial_equiv.datasets.npz_file import MOST_BYTES
from partial_equiv.errors import UserError


class CropLaw(NamedTuple):
    """Ranges of a random box: its area as a share of the picture's, its width over its height."""

    area: tuple[float, float]
    aspect: tuple[float, float]


@dataclasses.dataclass(frozen=True)
class DatasetInfo:
    """What a network, a loader and a report need to know about a data set.

    Args:
        name: Name in the menu.
        in_channels: Channels of an image.
        no_classes: Number of labels.
        size: Height and width in pixels.
        mean: Per channel, of pixels in [0, 1].
        std: Per channel, of pixels in [0, 1].
        class_names: One per label.
        no_train: Training images.
        no_validation: Held-out images that select the model.
        no_test: Test images; they select nothing.
        note: What a reader of a number must know, for example that a subset was used; shown with every result.
        crop_padding: Pixels of padding of the published augmentation `resnet`; None where the set has none.
        crop_law: Boxes of the published augmentation `inception`; None where the set has none.
        laws: By which the training images of each class are turned; None where nobody knows.
        labelled: Whether the labels were given; if not, all are 0 and there is one class.
        latents: Names of the latent numbers of every view; none for sets of single images.
        views: Names of the views of an example; none for sets of single images.
    """

    name: str
    in_channels: int
    no_classes: int
    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...]
    no_train: int
    no_validation: int
    no_test: int
    note: str = ""
    crop_padding: int | None = None
    crop_law: CropLaw | None = None
    laws: tuple[Law, ...] | None = None
    labelled: bool = True
    latents: tuple[str, ...] = ()
    views: tuple[str, ...] = ()


IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SMALLEST = 8
"""Pixels: the least side that a set is drawn at or resized to."""


def sized(facts: DatasetInfo, size: int | None) -> DatasetInfo:
    """Return the facts for another side in pixels; None is the published size.

    Raises:
        UserError: the side is below 8, or above 256 and four times the published one.
    """
    if size is None:
        return facts
    largest = max(256, 4 * max(facts.size))
    if not SMALLEST <= size <= largest:
        raise UserError(f"dataset.size={size} is out of range: give {SMALLEST} to {largest} pixels")
    return dataclasses.replace(facts, size=(size, size))


def resized_note(facts: DatasetInfo, size: int | None) -> str:
    """Return what to say of images that were published at the size of `facts` and resized."""
    return f"resized to {size}x{size}" if size is not None and (size, size) != facts.size else ""


def plan(facts: DatasetInfo, *, no_train: int | None, no_validation: int | None, no_test: int | None) -> DatasetInfo:
    """Return `facts` with the number of images that each split will hold.

    `facts` states what the files hold: `no_train` includes the images that validation is cut from, unless the set ships
    a validation split of its own (`facts.no_validation` > 0).

    Args:
        facts: Counts of the files.
        no_train: Training images to keep; None keeps all that validation leaves.
        no_validation: Images to hold out; None is the set's own split, else a tenth.
        no_test: Test images to keep; None keeps all.

    Raises:
        UserError: a count below 1 or above what there is.
    """
    own = facts.no_validation > 0
    default = facts.no_validation if own else max(1, facts.no_train // 10)
    most = facts.no_validation if own else facts.no_train - 1
    held_out = bounded("no_validation", no_validation, most, default)
    left = facts.no_train - (0 if own else held_out)
    return kept(facts, left, held_out, no_train=no_train, no_test=no_test, noun="images")


def kept(
    facts: DatasetInfo, left: int, held_out: int, *, no_train: int | None, no_test: int | None, noun: str
) -> DatasetInfo:
    """Return `facts` with the counts of the splits; what is left out is noted.

    Args:
        facts: Counts of the files.
        left: What validation leaves for training.
        held_out: What validation holds.
        no_train: How many to keep for training; None keeps all.
        no_test: How many to keep for test; None keeps all.
        noun: What is counted.

    Raises:
        UserError: a count below 1 or above what there is.
    """
    train, test = bounded("no_train", no_train, left, left), bounded("no_test", no_test, facts.no_test, facts.no_test)
    notes = [facts.note]
    notes += [f"{train:,} of {left:,} training {noun}"] * (train < left)
    notes += [f"{test:,} of {facts.no_test:,} test {noun}"] * (test < facts.no_test)
    return dataclasses.replace(facts, no_train=train, no_validation=held_out, no_test=test, note=join_notes(notes))


def bounded(key: str, value: int | None, most: int, default: int) -> int:
    """Return `value`, or `default` for None.

    Raises:
        UserError: it is outside 1..most.
    """
    chosen = default if value is None else value
    if not 1 <= chosen <= most:
        raise UserError(f"dataset.{key}={chosen} is out of range: give 1 to {most}, or null for its default")
    return chosen


def check_copies(copies: int, no_images: int, no_bytes: int, noun: str) -> None:
    """Check how often images are repeated.

    Args:
        copies: As the configuration says.
        no_images: That are repeated.
        no_bytes: Of one of them, as it is made.
        noun: What a copy is, in words.

    Raises:
        UserError: fewer than one, or more than memory is given to.
    """
    most = max(1, MOST_BYTES // (no_images * no_bytes))
    if not 1 <= copies <= most:
        raise UserError(f"dataset.copies={copies} is out of range: give 1 to {most:,} {noun}")


def turned_note(rot_interval: float) -> str:
    """Return what to say of images turned at random."""
    return f"images turned at random within +-{rot_interval:g} degrees" if rot_interval else ""


def with_notes(info: DatasetInfo, *notes: str) -> DatasetInfo:
    """Return the facts with further notes in front."""
    return dataclasses.replace(info, note=join_notes([*notes, info.note]))


def join_notes(notes: Sequence[str]) -> str:
    """Join the notes that say something."""
    return "; ".join(note for note in notes if note)
