"""From the composed configuration to data: splits, loaders and facts."""

import functools
from collections.abc import Mapping, Sized
from typing import Any, NamedTuple

import torch

from partial_equiv.datasets import (
    DATASETS,
    DatasetInfo,
    Loader,
    RecordedSplits,
    Splits,
    ViewSplits,
    augment_training,
    expected_info,
    make_loader,
    recorded_info,
)
from partial_equiv.errors import UserError
from partial_equiv.menu import bind, choose
from partial_equiv.ranks import no_ranks, rank

CPU = torch.device("cpu")


class Loaders(NamedTuple):
    """Batches of each split; only training is shuffled, and only its batches are shared among several processes."""

    train: Loader
    validation: Loader
    test: Loader


def construct_dataset(cfg: Mapping[str, Any]) -> Splits | ViewSplits | RecordedSplits:
    """Return the data set that `cfg` chooses, with its augmentation on the training images.

    Args:
        cfg: The resolved configuration; `dataset`, `augment` and `seed` are read. `dataset.seed` fixes the data of all
            runs, `seed` the augmentation of one.

    Raises:
        UserError: an unknown name, key or value, or files that are missing or broken.
    """
    return augment_training(chosen(cfg)(), cfg["augment"], cfg["seed"])


def construct_info(cfg: Mapping[str, Any]) -> DatasetInfo:
    """Return the facts of the chosen data set without touching its files; `npz` and `folder`, known by them, are read.

    Raises:
        UserError: an unknown name, key or value; for npz and folder, a file that is missing or broken.
    """
    make = chosen(cfg)
    info = expected_info(cfg["dataset"]["type"], make.keywords) or make().info
    return recorded_info(info) if str(cfg["augment"]).lower() == "recorded" else info


def construct_loaders(
    splits: Splits | ViewSplits | RecordedSplits, cfg: Mapping[str, Any], device: torch.device = CPU
) -> Loaders:
    """Return the loaders; `train.batch_size`, `no_workers` and `seed` of `cfg` are read.

    Args:
        splits: The data set.
        cfg: The resolved configuration.
        device: Where batches come; small sets in memory are kept there (see `make_loader`).

    Raises:
        UserError: a batch size or a number of workers out of range, or batches that the processes cannot share.
    """
    recipe = functools.partial(
        make_loader,
        batch_size=cfg["train"]["batch_size"],
        seed=cfg["seed"],
        no_workers=cfg["no_workers"],
        device=device,
    )
    # Terms that compare the views of a batch change their scale with its size, so a smaller last one is left out.
    return Loaders(
        recipe(splits.train, shuffle=True, drop_last=bool(splits.info.views), rank=rank(), no_ranks=no_ranks()),
        recipe(splits.validation, shuffle=False, drop_last=lonely(splits.validation, splits.info, cfg)),
        recipe(splits.test, shuffle=False, drop_last=lonely(splits.test, splits.info, cfg)),
    )


def lonely(images: Sized, info: DatasetInfo, cfg: Mapping[str, Any]) -> bool:
    """Say whether the last batch would be a single example of views, which has no statistics.

    Raises:
        UserError: it would be the only batch.
    """
    if info.views and len(images) == 1:
        more = "dataset.pairs_per_object=2, or more objects" if len(info.views) == 2 else "it more images"
        raise UserError(f"a split of dataset={info.name} holds a single example, which has no statistics: give {more}")
    return bool(info.views) and len(images) % cfg["train"]["batch_size"] == 1


def chosen(cfg: Mapping[str, Any]) -> "functools.partial[Splits]":
    """Return the function of the chosen data set with its keys bound.

    Its menu is cut to the one entry: an option file replaces the former one whole, so a key of another data set is
    a mistake.
    """
    keywords = dict(cfg["dataset"])
    name = keywords.pop("type")
    return bind({name: choose(DATASETS, name, "dataset")}, name, keywords, "dataset")
