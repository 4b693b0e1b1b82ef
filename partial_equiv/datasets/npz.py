"""Anyone's images and labels, from npz files."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from partial_equiv.datasets.counter import generator
from partial_equiv.datasets.files import folder_of
from partial_equiv.datasets.image_set import Splits
from partial_equiv.datasets.info import DatasetInfo, plan
from partial_equiv.datasets.npz_file import LAYOUT, read_npz
from partial_equiv.datasets.split import Labelled, assemble, cut
from partial_equiv.errors import UserError

TEST_SHARE = 5  # one image in five is for test where no test file is given


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

    Args:
        root: File or files with `images` uint8 [N,H,W] or [N,H,W,3] and `labels` [N], classes counted from 0.
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
    facts = describe(pool, tested)
    planned = plan(facts, no_train=no_train, no_validation=no_validation, no_test=no_test)
    positions = cut(facts, planned, seed)
    mean, std = moments(pool[0][positions.train])
    choices = zip((pool, pool, tested), positions, strict=True)
    return assemble(
        dataclasses.replace(planned, mean=mean, std=std),
        *(Labelled(images[index], labels[index]) for (images, labels), index in choices),
    )


def read_files(root: str | Sequence[str] | None, key: str) -> tuple[Tensor, Tensor]:
    """Return images and labels of one or several files, joined.

    Raises:
        UserError: none given, a broken file, or files of different kinds.
    """
    paths = [root] if isinstance(root, str) else list(root or [])
    if not paths or "" in paths:
        raise UserError(f"dataset.{key} is empty: give dataset.{key}=<file.npz> or a list [a.npz,b.npz]; {LAYOUT}")
    arrays = [read_npz(folder_of(path)) for path in paths]
    kinds = {tuple(images.shape[1:]) for images, _ in arrays}
    if len(kinds) > 1:
        raise UserError(f"the files of dataset.{key} hold images [C,H,W] of different kinds: {sorted(kinds)}")
    images, labels = (torch.cat(tensors) for tensors in zip(*arrays, strict=True))
    return images, labels


def set_aside(pool: tuple[Tensor, Tensor], seed: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Cut a seeded fifth off for test.

    Raises:
        UserError: fewer than 3 images, one for each split.
    """
    images, labels = pool
    if len(labels) < 3:
        raise UserError(
            f"dataset.root holds {len(labels)} images: training, validation and test need at least 3 together"
        )
    order = torch.randperm(len(labels), generator=generator(seed))
    kept, tested = order.tensor_split([len(order) - max(1, len(order) // TEST_SHARE)])
    return (images[kept], labels[kept]), (images[tested], labels[tested])


def describe(pool: tuple[Tensor, Tensor], tested: tuple[Tensor, Tensor]) -> DatasetInfo:
    """Return the facts of the arrays; mean and standard deviation follow once the training images are known."""
    images, labels = pool
    no_classes = max(2, int(labels.max()) + 1, int(tested[1].max()) + 1)
    return DatasetInfo(
        name="npz",
        in_channels=images.shape[1],
        no_classes=no_classes,
        size=(images.shape[2], images.shape[3]),
        mean=(0.0,) * images.shape[1],
        std=(1.0,) * images.shape[1],
        class_names=tuple(str(label) for label in range(no_classes)),
        no_train=len(labels),
        no_validation=0,
        no_test=len(tested[1]),
        crop_padding=max(
            1, min(images.shape[2:]) // 8
        ),  # the share that is published for CIFAR (4 of 32) and STL10 (12 of 96)
    )


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
