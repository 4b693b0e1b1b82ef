"""Anyone's pictures, from a folder, decoded when asked for: one folder for each class, or no labels."""

import dataclasses
import functools
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from partial_equiv.datasets.files import folder_of
from partial_equiv.datasets.image_set import Splits
from partial_equiv.datasets.info import DatasetInfo, plan, sized, with_notes
from partial_equiv.datasets.npz import NO_LABELS, draw_test, moments
from partial_equiv.datasets.pictures import (
    Part,
    PictureFiles,
    Pictures,
    centre_crop,
    list_classes,
    list_part,
    list_pictures,
    to_grey,
)
from partial_equiv.datasets.split import Labelled, assemble, cut
from partial_equiv.errors import UserError

FACTS = DatasetInfo(
    name="folder",
    in_channels=3,
    no_classes=1,
    size=(224, 224),
    mean=(0.0,) * 3,
    std=(1.0,) * 3,
    class_names=("0",),
    no_train=0,
    no_validation=0,
    no_test=0,
)
REMEDY = "give a folder of pictures (.png, .jpg, .bmp or .tif), or of one folder of them for each class"
MOST_MEASURED = 1_000  # training images read at the start for mean and standard deviation


class Opened(NamedTuple):
    """Pictures of one folder with their labels, all 0 without class folders, and the names of the classes."""

    pictures: PictureFiles
    labels: Tensor
    classes: tuple[str, ...]

    def chosen(self, index: Tensor) -> "Opened":
        """Return the pictures at `index` [N]."""
        return Opened(self.pictures.chosen(index), self.labels[index], self.classes)


def load_folder(
    *,
    root: str | None,
    test_root: str | None,
    size: int,
    grey: bool,
    no_train: int | None,
    no_validation: int | None,
    no_test: int | None,
    seed: int,
) -> Splits:
    """Return the pictures of a folder as square images; mean and deviation are those of (1,000) training images.

    An image is the middle of its picture, whose shorter side was resized to `size`.

    Args:
        root: Folder of pictures, which then have no labels, or of one folder of pictures for each class.
        test_root: The same for test; None sets a seeded fifth of `root` aside.
        size: Side in pixels, 8 to 896.
        grey: One channel of brightness instead of red, green and blue.
        no_train: Training images; None is all that is left.
        no_validation: Images held out of training; None is a tenth.
        no_test: Test images; None is all.
        seed: Of the split.

    Raises:
        UserError: a value out of range; no or broken pictures; folders that do not fit together.
    """
    facts = sized(FACTS, size)
    pool = open_folder(root, "root")
    if test_root is None:
        pool, tested = map(pool.chosen, draw_test(len(pool.labels), seed))
    else:
        tested = open_folder(test_root, "test_root", pool.classes)
        if bool(pool.classes) != bool(tested.classes):
            bare = "root" if tested.classes else "test_root"
            raise UserError(f"dataset.{bare} has no class folders, the other has: give both or none of them classes")
    facts = describe(facts, pool, tested, grey=grey)
    planned = plan(facts, no_train=no_train, no_validation=no_validation, no_test=no_test)
    frame = functools.partial(square, size=size, grey=grey)
    choices = zip((pool, pool, tested), cut(facts, planned, seed), strict=True)
    chosen = [opened.chosen(index) for opened, index in choices]
    train, validation, test = (Labelled(Pictures(part.pictures, frame), part.labels) for part in chosen)
    mean, std = moments(train.images[torch.arange(min(MOST_MEASURED, planned.no_train))])
    return assemble(dataclasses.replace(planned, mean=mean, std=std), train, validation, test)


def open_folder(root: str | None, key: str, classes: tuple[str, ...] = ()) -> Opened:
    """Return the pictures of a folder, or of its class folders.

    Args:
        root: The folder.
        key: Its key in the configuration.
        classes: Those of training; empty for training itself.

    Raises:
        UserError: none given, absent, without pictures, or with pictures beside class folders.
    """
    if not root:
        raise UserError(f"dataset.{key} is empty: {REMEDY}")
    folder = folder_of(root)
    by_class = {name: files for name, files in list_classes(folder, REMEDY).items() if files}
    if not (loose := list_pictures(folder)):
        part = list_part(folder, REMEDY, classes)
    elif by_class:
        both = f"{folder} holds pictures ({loose[0]}) beside class folders ({next(iter(by_class))})"
        raise UserError(f"{both}: move the ones or the others away")
    else:
        part = Part(np.array(loose), torch.zeros(len(loose), dtype=torch.int64), ())
    return Opened(PictureFiles(folder, part.names, "mend or delete it"), part.labels, part.classes)


def describe(facts: DatasetInfo, pool: Opened, tested: Opened, *, grey: bool) -> DatasetInfo:
    """Return the facts of the folders; mean and standard deviation follow once the training images are known."""
    found = dataclasses.replace(
        facts,
        in_channels=1 if grey else 3,
        no_classes=max(1, len(pool.classes)),
        class_names=pool.classes or facts.class_names,
        no_train=len(pool.labels),
        no_test=len(tested.labels),
        labelled=bool(pool.classes),
        crop_padding=max(1, facts.size[0] // 8),
    )
    return found if pool.classes else with_notes(found, NO_LABELS)


def square(picture: Tensor, *, size: int, grey: bool) -> Tensor:
    """Return the middle of a picture [3, Y, X] as an image uint8 [C, size, size]."""
    return centre_crop(to_grey(picture) if grey else picture, size=size, shorter=size)
