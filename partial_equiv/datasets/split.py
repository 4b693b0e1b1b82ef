"""Cutting a data set into training, validation and test images that share none."""

import dataclasses
from typing import NamedTuple

import torch
from torch import Tensor

from partial_equiv.datasets.augmentation import ImageSource
from partial_equiv.datasets.counter import generator
from partial_equiv.datasets.image_set import ImageSet, Splits
from partial_equiv.datasets.info import DatasetInfo


class Cut(NamedTuple):
    """Positions of the images of each split; train and validation in the training file, test in the test file."""

    train: Tensor
    validation: Tensor
    test: Tensor


class Labelled(NamedTuple):
    """Images and labels of one split, and by which angles the images were turned: radians [N], None if unknown."""

    images: ImageSource
    labels: Tensor
    poses: Tensor | None = None


def cut(facts: DatasetInfo, planned: DatasetInfo, seed: int) -> Cut:
    """Draw the planned number of images for each split.

    The training file is permuted by the seed, as torch's random_split does: validation is its tail, training the first
    `no_train` of the rest, so a smaller training set is part of a larger one. A validation file of its own is kept.

    Args:
        facts: Counts of the files.
        planned: Counts of the splits, from `plan`.
        seed: Of the data set, not of the run: all runs share it.
    """
    order = torch.randperm(facts.no_train, generator=generator(seed))
    if facts.no_validation:
        validation = first(facts.no_validation, planned.no_validation, seed)
    else:
        kept = facts.no_train - planned.no_validation
        order, validation = order[:kept], order[kept:]
    return Cut(order[: planned.no_train], validation, first(facts.no_test, planned.no_test, seed))


def first(no_images: int, no_kept: int, seed: int) -> Tensor:
    """Return the first `no_kept` positions of a seeded permutation; the file's own order if all are kept."""
    if no_kept == no_images:
        return torch.arange(no_images)
    return torch.randperm(no_images, generator=generator(seed))[:no_kept]


def assemble(info: DatasetInfo, train: Labelled, validation: Labelled, test: Labelled) -> Splits:
    """Put images and facts together; the counts of `info` are set to those of the images."""
    learn, select, report = (
        ImageSet(images, labels, mean=info.mean, std=info.std, poses=poses)
        for images, labels, poses in (train, validation, test)
    )
    info = dataclasses.replace(info, no_train=len(learn), no_validation=len(select), no_test=len(report))
    return Splits(learn, select, report, info)
