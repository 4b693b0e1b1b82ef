"""ImageNet, decoded from disk when asked for: class folders, or WebDataset shards made of them."""

import dataclasses
import functools
import re
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from partial_equiv.datasets.files import folder_of
from partial_equiv.datasets.image_set import Splits
from partial_equiv.datasets.info import IMAGENET_MEAN, IMAGENET_STD, CropLaw, DatasetInfo, plan, sized, with_notes
from partial_equiv.datasets.pictures import (
    PictureFiles,
    Pictures,
    PictureStore,
    centre_crop,
    list_part,
    shorter_side,
)
from partial_equiv.datasets.shard_files import open_shards
from partial_equiv.datasets.split import Labelled, assemble, cut
from partial_equiv.errors import UserError

FACTS = DatasetInfo(
    name="ImageNet",
    in_channels=3,
    no_classes=1_000,
    size=(224, 224),
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
    class_names=tuple(str(label) for label in range(1_000)),
    no_train=1_281_167,
    no_validation=0,
    no_test=50_000,
    crop_law=CropLaw(area=(0.1, 1.0), aspect=(0.8, 1.25)),
)
FOLDER, SHARDS = "imagenet", "shards"
PARTS = ("train", "val")
CLASSES = "classes.txt"
NUMBERED = re.compile(r"-[0-9]{5}-of-[0-9]{5}$")
REMEDY = "put ImageNet as <root>/imagenet/{train,val}/<class>/<image>, or its shards into <root>/imagenet/shards"


class Opened(NamedTuple):
    """Pictures of both official splits."""

    train: PictureStore
    train_labels: Tensor
    test: PictureStore
    test_labels: Tensor
    classes: tuple[str, ...]


def load_imagenet(
    *, root: str, size: int | None, no_train: int | None, no_validation: int | None, no_test: int | None, seed: int
) -> Splits:
    """Return ImageNet, or a set of its layout with any number of classes; the official validation images are for test.

    An image is the middle of its picture, whose shorter side was resized to 256/224 of `size` before; with
    augment=inception, training images are random boxes of 10 to 100 % of the area and aspects of 4:5 to 5:4 instead.
    Grey, palette and CMYK pictures become RGB.

    Args:
        root: Folder that holds imagenet/shards/{train,val}-*.tar, or imagenet/{train,val}/<class>/<image>; shards are
            taken if there are both.
        size: Side in pixels, 8 to 896; None is 224.
        no_train: Training images; None is all that validation leaves.
        no_validation: Images held out of the training images; None is a tenth.
        no_test: Test images; None is all.
        seed: Of the split.

    Raises:
        UserError: a value out of range; pictures are missing or in TFRecord files; classes do not fit together.
    Source: Russakovsky et al. 2015; boxes of Edixhoven et al. 2023. Differs: validation is cut from training.
    """
    facts = sized(FACTS, size)
    opened = open_pictures(folder_of(root) / FOLDER)
    facts = dataclasses.replace(
        facts,
        no_classes=len(opened.classes),
        class_names=opened.classes,
        no_train=len(opened.train),
        no_test=len(opened.test),
    )
    if (facts.no_classes, facts.no_train, facts.no_test) != (FACTS.no_classes, FACTS.no_train, FACTS.no_test):
        sizes = f"{facts.no_classes:,} classes, {facts.no_train:,} training and {facts.no_test:,} test images"
        facts = with_notes(facts, f"a part or another set: {sizes}")
    planned = plan(facts, no_train=no_train, no_validation=no_validation, no_test=no_test)
    side = planned.size[0]
    frame = functools.partial(centre_crop, size=side, shorter=shorter_side(side))
    positions = cut(facts, planned, seed)
    train, test = (opened.train, opened.train_labels), (opened.test, opened.test_labels)
    return assemble(
        planned,
        *(
            Labelled(Pictures(pictures.chosen(index), frame), labels[index])
            for (pictures, labels), index in zip((train, train, test), positions, strict=True)
        ),
    )


def open_pictures(folder: Path) -> Opened:
    """Return the pictures of shards, if there are any, else of class folders.

    Raises:
        UserError: only TFRecord files, or what a reader finds.
    """
    if any((folder / SHARDS).glob("*.tar")):
        return open_all_shards(folder / SHARDS)
    places = [folder, folder / "train", folder / "train" / "data"]
    if any(is_record(path) for place in places if place.is_dir() for path in place.iterdir()):
        line = f"python -m partial_equiv.datasets.shards --tfrecord {folder} --out {folder / SHARDS}"
        raise UserError(f"{folder} holds TFRecord files, which cannot be read in any order: convert them with {line}")
    train = list_part(folder / PARTS[0], REMEDY)
    test = list_part(folder / PARTS[1], REMEDY, train.classes)
    stores = (PictureFiles(folder / name, part.names, REMEDY) for name, part in zip(PARTS, (train, test), strict=True))
    return Opened(next(stores), train.labels, next(stores), test.labels, train.classes)


def is_record(path: Path) -> bool:
    """Say whether this is a file that is named as TFRecord files are: *.tfrecord, or train-00000-of-01024."""
    return (".tfrecord" in path.name or NUMBERED.search(path.name) is not None) and path.is_file()


def record_files(folder: Path, part: str) -> list[Path]:
    """Return the TFRecord files of one split, in <folder>, <folder>/<part> or <folder>/<part>/data."""
    places = [place for place in (folder, folder / part, folder / part / "data") if place.is_dir()]
    return [
        path
        for place in places
        for path in sorted(place.iterdir())
        if is_record(path) and (place != folder or path.name.startswith(part))
    ]


def open_all_shards(folder: Path) -> Opened:
    """Return the pictures of the shards of both official splits.

    Raises:
        UserError: shards are missing or broken, or classes do not fit together.
    """
    (train, train_labels), (test, test_labels) = (open_shards(folder, part) for part in PARTS)
    classes = read_classes(folder / CLASSES, int(train_labels.max()) + 1)
    no_images = train_labels.bincount(minlength=len(classes))
    if len(classes) < 2 or not no_images.all():
        absent = f"no training image of class {int(no_images.argmin())}" if len(classes) > 1 else "one class alone"
        raise UserError(f"{folder} holds {absent}: write the shards again, with classes counted from 0")
    if int(test_labels.max()) >= len(classes):
        raise UserError(
            f"{folder} holds the test class {int(test_labels.max())} without training images: write it again"
        )
    return Opened(train, train_labels, test, test_labels, classes)


def read_classes(path: Path, no_classes: int) -> tuple[str, ...]:
    """Return the names of the classes, numbers where there is no file of them.

    Raises:
        UserError: another number of names than of classes, or no text.
    """
    if not path.exists():
        return tuple(str(label) for label in range(no_classes))
    try:
        names = tuple(path.read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error}): delete it to number the classes") from error
    if len(names) != no_classes:
        raise UserError(f"{path} names {len(names)} classes, the shards hold {no_classes}: mend or delete it")
    return names
