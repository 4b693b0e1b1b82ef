"""The embedded views: real handwritten digits that ship with scikit-learn, several turns of each.

Axes: N objects, V views of an object, Y X pixels.
"""

import dataclasses
from typing import Any

import torch
from torch import Tensor

from partial_equiv.datasets.counter import generator
from partial_equiv.datasets.digits import FACTS, read_upright
from partial_equiv.datasets.info import DatasetInfo, sized, turned_note, with_notes
from partial_equiv.datasets.rotation import check_interval, random_angles, rotate_images
from partial_equiv.datasets.split import cut
from partial_equiv.datasets.view_parts import TURNS, ViewPart, assemble_views, in_pairs, plan_objects
from partial_equiv.datasets.view_set import ViewSplits


def load_digit_turns(
    *,
    size: int,
    no_views: int,
    rot_interval: float,
    pairs_per_object: int,
    no_train: int | None,
    no_validation: int | None,
    no_test: int | None,
    seed: int,
) -> ViewSplits:
    """Return turned digits as views: an object is one written digit, and each view turns it by a seeded angle.

    The angle, uniform in +-rot_interval and counter-clockwise positive, is the column ez, a turn about the axis that
    points at the viewer; ex and ey are 0. Splits are those of the data set digits, so no source image is in two of
    them, and view k is turned as its copy k.

    Args:
        size: Side in pixels, 8 to 256.
        no_views: Views of each object, 2 or more.
        rot_interval: Degrees, 0 to 180; 180 is the full circle.
        pairs_per_object: Examples of an epoch that show one object.
        no_train: Source images for training; None is all that validation leaves.
        no_validation: Source images held out; None is a tenth.
        no_test: Source images for test; None is all 400.
        seed: Of split, angles and pairs.

    Raises:
        UserError: a value out of range.
    Source: Kaynak 1995 (UCI optical recognition of handwritten digits, test part); CC BY 4.0.
    """
    planned = plan_digits(
        size=size, rot_interval=rot_interval, no_train=no_train, no_validation=no_validation, no_test=no_test
    )
    info = in_pairs(planned, no_views=no_views, pairs_per_object=pairs_per_object)
    upright, labels = read_upright(size)
    sources = torch.randperm(len(labels), generator=generator(seed))
    pool, tested = sources[: FACTS.no_train], sources[FACTS.no_train :]
    positions = cut(FACTS, planned, seed)

    def views(index: Tensor) -> ViewPart:
        images = torch.empty(len(index), no_views, *upright.shape[1:], dtype=torch.uint8)
        latents = torch.zeros(len(index), no_views, len(TURNS))
        for view in range(no_views):  # one at a time: all of them as real numbers would be large
            angles = random_angles(index, rot_interval=rot_interval, seed=seed, stream=view)
            turned = rotate_images(upright[index], angles) if rot_interval else upright[index]
            images[:, view] = turned.mul(255).round().to(torch.uint8)
            latents[:, view, TURNS.index("ez")] = angles.float()
        return ViewPart(images.flatten(0, 1), latents, labels[index])

    parts = [views(index) for index in (pool[positions.train], pool[positions.validation], tested[positions.test])]
    return assemble_views(info, *parts, pairs_per_object=pairs_per_object, seed=seed)


def digit_turns_info(*, no_views: int, pairs_per_object: int, **choices: Any) -> DatasetInfo:
    """Return the facts without drawing anything; arguments are those of `load_digit_turns`."""
    return in_pairs(plan_digits(**choices), no_views=no_views, pairs_per_object=pairs_per_object)


def plan_digits(
    *,
    size: int,
    rot_interval: float,
    no_train: int | None,
    no_validation: int | None,
    no_test: int | None,
    **others: object,
) -> DatasetInfo:
    """Return the facts with the number of objects of each split.

    Raises:
        UserError: a value out of range.
    """
    check_interval(rot_interval)
    facts = dataclasses.replace(sized(FACTS, size), name="digit_turns", latents=TURNS, laws=None)
    planned = plan_objects(facts, no_train=no_train, no_validation=no_validation, no_test=no_test)
    return with_notes(planned, turned_note(rot_interval))
