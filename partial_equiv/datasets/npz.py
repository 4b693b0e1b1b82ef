"""Anyone's images, from npz files, with labels or without."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from partial_equiv.datasets.counter import generator
from partial_equiv.datasets.files import folder_of
from partial_equiv.datasets.image_set import Splits
from partial_equiv.datasets.info import DatasetInfo, plan, with_notes
from partial_equiv.datasets.npz_file import LAYOUT, read_images
from partial_equiv.datasets.split import Labelled, assemble, cut
from partial_equiv.errors import UserError

TEST_SHARE = 5  # one image in five is for test where no test file is given
NO_LABELS = "no labels"

Arrays = tuple[Tensor, Tensor | None]
"""Images, and labels where there are any."""


def load_npz(
    *,
    root: str | Sequence[str] | None,
    test_root: str | Sequence[str] | None,
    no_train: int | None,
    no_validation: int | None,
    no_test: int | None,
    seed: int,
) -> Splits:
    """Return images and labels of npz files; mean and standard deviation are those of the training images.

    Without labels all images are of one class, and `info` says so. Other arrays of a file are not read.

    Args:
        root: File or files with `images` [N,H,W] or [N,H,W,3], uint8 or numbers in [0, 1], and perhaps `labels` [N],
            classes counted from 0.
        test_root: The same for test; None sets a seeded fifth of `root` aside.
        no_train: Training images; None is all that is left.
        no_validation: Images held out of training; None is a tenth.
        no_test: Test images; None is all.
        seed: Of the split.

    Raises:
        UserError: a value out of range; a file is missing, broken or of another layout; files do not fit together.
    """
    pool = read_files(root, "root")
    if test_root is None:
        pool, tested = set_aside(pool, seed)
    else:
        tested = read_files(test_root, "test_root")
        if tested[0].shape[1:] != pool[0].shape[1:]:
            found = f"{list(pool[0].shape[1:])} in dataset.root, {list(tested[0].shape[1:])} in dataset.test_root"
            raise UserError(f"the images differ in channels, height or width ({found}): give files of one kind")
        if (pool[1] is None) != (tested[1] is None):
            bare = "root" if pool[1] is None else "test_root"
            raise UserError(f"dataset.{bare} has no labels, the other has: add `labels` to it, or remove them there")
    facts = describe(pool, tested)
    planned = plan(facts, no_train=no_train, no_validation=no_validation, no_test=no_test)
    positions = cut(facts, planned, seed)
    mean, std = moments(pool[0][positions.train])
    choices = zip((pool, pool, tested), positions, strict=True)
    return assemble(
        dataclasses.replace(planned, mean=mean, std=std),
        *(Labelled(images[index], labels_of(images, labels)[index]) for (images, labels), index in choices),
    )


def labels_of(images: Tensor, labels: Tensor | None) -> Tensor:
    """Return the labels, 0 for all images that have none."""
    return torch.zeros(len(images), dtype=torch.int64) if labels is None else labels


def read_files(root: str | Sequence[str] | None, key: str) -> Arrays:
    """Return images and labels of one or several files, joined.

    Raises:
        UserError: none given, a broken file, or files of different kinds.
    """
    paths = [root] if isinstance(root, str) else list(root or [])
    if not paths or "" in paths:
        raise UserError(f"dataset.{key} is empty: give dataset.{key}=<file.npz> or a list [a.npz,b.npz]; {LAYOUT}")
    arrays = [read_images(folder_of(path)) for path in paths]
    kinds = {tuple(images.shape[1:]) for images, _ in arrays}
    if len(kinds) > 1:
        raise UserError(f"the files of dataset.{key} hold images [C,H,W] of different kinds: {sorted(kinds)}")
    labels = [labels for _, labels in arrays if labels is not None]
    if 0 < len(labels) < len(arrays):
        bare = next(path for path, (_, found) in zip(paths, arrays, strict=True) if found is None)
        raise UserError(f"{bare} has no labels, other files of dataset.{key} have: add `labels` to it, or leave it out")
    return torch.cat([images for images, _ in arrays]), torch.cat(labels) if labels else None


def set_aside(pool: Arrays, seed: int) -> tuple[Arrays, Arrays]:
    """Cut a seeded fifth off for test.

    Raises:
        UserError: fewer than 3 images, one for each split.
    """
    images, labels = pool
    kept, tested = draw_test(len(images), seed)
    if labels is None:
        return (images[kept], None), (images[tested], None)
    return (images[kept], labels[kept]), (images[tested], labels[tested])


def draw_test(no_images: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return the positions of the images that are kept, and of a seeded fifth for test.

    Raises:
        UserError: fewer than 3 images, one for each split.
    """
    if no_images < 3:
        raise UserError(
            f"dataset.root holds {no_images} images: training, validation and test need at least 3 together"
        )
    order = torch.randperm(no_images, generator=generator(seed))
    kept, tested = order.tensor_split([no_images - max(1, no_images // TEST_SHARE)])
    return kept, tested


def describe(pool: Arrays, tested: Arrays) -> DatasetInfo:
    """Return the facts of the arrays; mean and standard deviation follow once the training images are known."""
    images, _ = pool
    given = [labels for _, labels in (pool, tested) if labels is not None]
    no_classes = max([2, *(int(labels.max()) + 1 for labels in given)]) if given else 1
    info = DatasetInfo(
        name="npz",
        in_channels=images.shape[1],
        no_classes=no_classes,
        size=(images.shape[2], images.shape[3]),
        mean=(0.0,) * images.shape[1],
        std=(1.0,) * images.shape[1],
        class_names=tuple(str(label) for label in range(no_classes)),
        no_train=len(images),
        no_validation=0,
        no_test=len(tested[0]),
        labelled=bool(given),
        crop_padding=max(
            1, min(images.shape[2:]) // 8
        ),  # the share that is published for CIFAR (4 of 32) and STL10 (12 of 96)
    )
    return info if given else with_notes(info, NO_LABELS)


def moments(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of pixels in [0, 1], per channel; a constant channel counts as deviation 1."""
    means, deviations = [], []
    values = np.arange(256) / 255
    for channel in images.numpy().swapaxes(0, 1):
        # A histogram is exact and needs no floating copy of the images.
        share = np.bincount(channel.ravel(), minlength=256) / channel.size
        mean = float(share @ values)
        means.append(mean)
        deviations.append(float(share @ (values - mean) ** 2) ** 0.5 or 1.0)
    return tuple(means), tuple(deviations)
