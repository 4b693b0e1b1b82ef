"""Cutting a set of views by its objects, and its facts.

Axes: N objects, V views of an object, C channels, Y X pixels, L latent numbers of a view.
"""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from partial_equiv.datasets.counter import uniform
from partial_equiv.datasets.info import DatasetInfo, bounded, join_notes, kept, with_notes
from partial_equiv.datasets.view_set import PAIR, ViewSet, ViewSource, ViewSplits, check_pairs
from partial_equiv.errors import UserError

TURNS = ("ex", "ey", "ez")
SCENE = (*TURNS, "floor_hue", "light_theta", "light_phi", "light_hue")
"""Columns of the latents of 3DIEBench: turns about the fixed x, y, z and angles of the light in radians, hues in
[0, 1)."""
MOST_MEASURED = 10_000  # training images whose mean and standard deviation stand for those of all


class ViewPart(NamedTuple):
    """Views of one split: pixels [N V, C, Y, X], latents [N, V, L], classes of the objects [N], groups of objects."""

    images: ViewSource
    latents: Tensor
    labels: Tensor
    groups: Mapping[str, Tensor] = {}


def stratified_order(labels: Tensor, seed: int) -> Tensor:
    """Return a seeded order of objects, any run of which holds the classes in their shares.

    The r-th object of a shuffled class of n gets the key (r + u) / n, u uniform in [0, 1); keys ascend. So a run of a
    share s of the order holds s n objects of that class, give or take one.

    Args:
        labels: Class of each object.
        seed: Any integer.
    Shape:
        labels int64 [N] -> int64 [N].
    """
    index = torch.arange(len(labels)).numpy()
    shuffle, jitter = (torch.from_numpy(uniform(seed, draw, index)) for draw in (0, 1))
    keys = torch.empty(len(labels), dtype=torch.float64)
    for label in labels.unique():
        members = (labels == label).nonzero().flatten()
        members = members[shuffle[members].argsort()]
        keys[members] = (torch.arange(len(members)) + jitter[members]) / len(members)
    return keys.argsort(stable=True)


def plan_objects(
    facts: DatasetInfo, *, no_train: int | None, no_validation: int | None, no_test: int | None, one_in: int = 10
) -> DatasetInfo:
    """Return `facts` with the number of objects that each split will hold.

    Args:
        facts: Counts of objects: `no_train` includes those that validation is cut from.
        no_train: Objects to keep for training; None keeps all that validation leaves.
        no_validation: Objects to hold out; None is one in `one_in`.
        no_test: Objects to keep for test; None keeps all.
        one_in: The share of validation.

    Raises:
        UserError: a count below 1 or above what there is.
    """
    if facts.no_train < 2:
        raise UserError(f"{facts.no_train} object is left for training and validation: give 2 or more")
    held_out = bounded("no_validation", no_validation, facts.no_train - 1, max(1, facts.no_train // one_in))
    return kept(facts, facts.no_train - held_out, held_out, no_train=no_train, no_test=no_test, noun="objects")


def symmetry_groups(symmetric: Tensor) -> dict[str, Tensor]:
    """Return the groups of the objects whose pose hardly shows, and of the others: bool [N] -> positions by name."""
    return {"near_symmetric": symmetric.nonzero().flatten(), "others": (~symmetric).nonzero().flatten()}


def in_pairs(planned: DatasetInfo, *, no_views: int, pairs_per_object: int) -> DatasetInfo:
    """Return the facts with examples of an epoch in the place of objects; the note tells the objects.

    Raises:
        UserError: pairs cannot be drawn.
    """
    check_pairs(no_views, pairs_per_object)
    counts = {key: getattr(planned, key) * pairs_per_object for key in ("no_train", "no_validation", "no_test")}
    told = with_notes(planned, f"{planned.no_train:,} objects of {no_views} views")
    return dataclasses.replace(told, views=PAIR, **counts)


def assemble_views(
    info: DatasetInfo,
    train: ViewPart,
    validation: ViewPart,
    test: ViewPart,
    *,
    pairs_per_object: int,
    seed: int,
) -> ViewSplits:
    """Put views and facts together; the counts of `info` are those of pairs, and a split without a class is told."""
    sets, notes = [], []
    for name, part in (("training", train), ("validation", validation), ("test", test)):
        sets.append(
            ViewSet(
                part.images,
                part.latents,
                part.labels,
                mean=info.mean,
                std=info.std,
                pairs_per_object=pairs_per_object,
                seed=seed,
                groups=part.groups,
            )
        )
        found = len(part.labels.unique())
        notes += [f"{name} holds {found} of {info.no_classes} classes"] * (found < info.no_classes)
    learn, select, report = sets
    info = dataclasses.replace(info, no_train=len(learn), no_validation=len(select), no_test=len(report))
    return ViewSplits(learn, select, report, dataclasses.replace(info, note=join_notes([info.note, *notes])))


def some(no_all: int, most: int) -> Tensor:
    """Return up to `most` positions of `no_all`, evenly spread."""
    return torch.arange(no_all) if no_all <= most else torch.arange(most) * no_all // most
