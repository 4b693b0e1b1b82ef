"""The sixes of MNIST against a transformed copy of themselves: sets on which full equivariance must fail.

A network invariant to the copy's transformation answers alike for an image and its copy: its accuracy is exactly 50 %.
"""

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from partial_equiv.datasets.image_set import Splits
from partial_equiv.datasets.info import DatasetInfo, plan, turned_note, with_notes
from partial_equiv.datasets.mnist import FACTS, Mnist, read_mnist
from partial_equiv.datasets.rotation import turn_randomly
from partial_equiv.datasets.split import Labelled, assemble, cut
from partial_equiv.errors import UserError

SIX = 6
FACTS_180 = dataclasses.replace(
    FACTS,
    name="MNIST6-180",
    no_classes=2,
    class_names=("6", "6 turned by 180 degrees"),
    no_train=11_836,
    no_test=1_916,
    laws=None,
)
FACTS_M = dataclasses.replace(FACTS_180, name="MNIST6-M", class_names=("6", "6 mirrored"))


def load_mnist6_180(
    *,
    root: str,
    download: bool,
    rot_interval: float,
    no_train: int | None,
    no_validation: int | None,
    no_test: int | None,
    seed: int,
) -> Splits:
    """Return all sixes (class 0) and copies turned by 180 degrees (class 1).

    Each six is first turned once by a seeded angle uniform in +-rot_interval; its copy is exactly torch.rot90(six, 2).
    A six and its copy are always in the same split.

    Args:
        root: Folder that holds MNIST/raw.
        download: Fetch what is missing.
        rot_interval: Degrees, 0 to 180.
        no_train: Training images with copies, even; None is all that validation leaves.
        no_validation: Images with copies held out of the training file, even.
        no_test: Test images with copies, even; None is all 1,916.
        seed: Of split and angles.

    Raises:
        UserError: a value out of range or odd; a file is missing, truncated or not MNIST's.
    Source: Romero & Lohit 2022. Differs: validation is cut from training; they selected on the test set.
    """
    planned = plan_pairs(FACTS_180, no_train=no_train, no_validation=no_validation, no_test=no_test)
    mnist = read_mnist(root, download=download)
    return make_pairs(planned, mnist, turn_by_180, rot_interval=rot_interval, seed=seed)


def load_mnist6_m(
    *, root: str, download: bool, no_train: int | None, no_validation: int | None, no_test: int | None, seed: int
) -> Splits:
    """Return all sixes (class 0) and copies mirrored left-right (class 1).

    Arguments, errors and source are those of `load_mnist6_180`; there is no rot_interval.
    """
    planned = plan_pairs(FACTS_M, no_train=no_train, no_validation=no_validation, no_test=no_test)
    return make_pairs(planned, read_mnist(root, download=download), mirror, rot_interval=0, seed=seed)


def turn_by_180(images: Tensor) -> Tensor:
    """Return the images turned by 180 degrees, pixel by pixel."""
    return torch.rot90(images, 2, dims=(-2, -1))


def mirror(images: Tensor) -> Tensor:
    """Return the images mirrored left-right."""
    return images.flip(-1)


def plan_pairs(facts: DatasetInfo, **counts: int | None) -> DatasetInfo:
    """Return the counts of the splits, in images, all even.

    Raises:
        UserError: an odd or impossible number.
    """
    for key, value in counts.items():
        if value is not None and value % 2:
            raise UserError(f"dataset.{key}={value} is odd: each six comes with its copy, give an even number")
    if counts["no_validation"] is None:
        counts["no_validation"] = facts.no_train // 20 * 2
    return plan(facts, **counts)


def make_pairs(
    planned: DatasetInfo, mnist: Mnist, transform: Callable[[Tensor], Tensor], *, rot_interval: float, seed: int
) -> Splits:
    """Cut the sixes into splits, turn them at random, then add to each its copy."""
    train, test = (torch.nonzero(labels == SIX)[:, 0] for labels in (mnist.train_labels, mnist.test_labels))
    sixes = dataclasses.replace(FACTS, no_train=len(train), no_test=len(test))
    halves = {key: getattr(planned, key) // 2 for key in ("no_train", "no_validation", "no_test")}
    positions = cut(sixes, dataclasses.replace(planned, **halves), seed)

    def pairs(images: Tensor, index: Tensor, stream: int) -> Labelled:
        six = turn_randomly(images[index], index, rot_interval=rot_interval, seed=seed, stream=stream)
        return Labelled(torch.cat([six, transform(six)]), torch.arange(2).repeat_interleave(len(six)))

    return assemble(
        with_notes(planned, turned_note(rot_interval)),
        pairs(mnist.train_images, train[positions.train], 0),
        pairs(mnist.train_images, train[positions.validation], 0),
        pairs(mnist.test_images, test[positions.test], 1),
    )
