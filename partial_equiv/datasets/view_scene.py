"""Poses, floors and lights of the views that are made here, and the facts of such sets.

Axes: N objects, V views of an object.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from partial_equiv.datasets.counter import uniform
from partial_equiv.datasets.info import DatasetInfo, with_notes
from partial_equiv.datasets.view_parts import SCENE, in_pairs
from partial_equiv.datasets.view_set import check_pairs, object_split
from partial_equiv.errors import UserError

MOST_LIGHT_POLAR = math.pi / 4
PUBLISHED_ROTATION = (0, 90)
MOST_MADE = 20_000_000  # views of all objects, which are kept in memory
SIZES, SIGNS, OTHERS = range(3)  # streams of random numbers


def draw_scene(
    tested: Tensor, no_views: int, *, rotation: Sequence[float], test_rotation: Sequence[float] | None, seed: int
) -> Tensor:
    """Return latents of every view in the columns of 3DIEBench.

    Each Euler angle has a size uniform in `rotation` and a random sign. That of the second is folded at 90 degrees, x
    to 180 - x: (a, b, c) and (a + 180, 180 - b, c + 180) are one rotation, so that with all three beyond 90 degrees
    the poses would be those within, under other names and with the other sign of the quaternion. Hues are uniform in
    [0, 1), the polar angle of the light in [0, pi/4), its azimuth in [0, 2 pi). A view depends on its object, its
    number and the seed alone.

    Args:
        tested: Whether each object is for test.
        no_views: Views of each object.
        rotation: Least and largest size of an Euler angle, degrees; [90, 180] are poses that [0, 90] has not.
        test_rotation: The same for test objects; None is `rotation`.
        seed: Of the data set.
    Shape:
        tested bool [N] -> float32 [N, V, 7], angles in radians.
    Source: Garrido et al. 2023, section 4. Differs: any range of angles; [0, 90] is theirs.
    """
    objects, views = np.arange(len(tested))[:, None, None], np.arange(no_views)[None, :, None]
    sizes, signs = (uniform(seed, stream, objects, views, np.arange(3)) for stream in (SIZES, SIGNS))
    ranges = np.radians(np.where(tested.numpy()[:, None], test_rotation or rotation, rotation))[:, None, None]
    sizes = ranges[..., 0] + (ranges[..., 1] - ranges[..., 0]) * sizes
    sizes[..., 1] = np.minimum(sizes[..., 1], math.pi - sizes[..., 1])
    angles = sizes * np.where(signs < 0.5, -1, 1)
    others = uniform(seed, OTHERS, objects, views, np.arange(4)) * [1, MOST_LIGHT_POLAR, 2 * math.pi, 1]
    return torch.from_numpy(np.concatenate([angles, others], axis=2)).float()


def made_info(
    facts: DatasetInfo,
    *,
    no_objects: int,
    no_views: int,
    no_classes: int,
    rotation: Sequence[float],
    test_rotation: Sequence[float] | None,
    pairs_per_object: int,
    **others: object,
) -> DatasetInfo:
    """Return the facts of a set of made views, from those of its kind with all classes; easings are noted.

    Keywords are those of the set's function; others than these are passed over.

    Raises:
        UserError: a value out of range.
    """
    most = len(facts.class_names)
    if not 2 <= no_classes <= most:
        raise UserError(f"dataset.no_classes={no_classes} is out of range: give 2 to {most}")
    check_pairs(no_views, pairs_per_object)
    if no_objects > (most_objects := MOST_MADE // no_views):
        raise UserError(f"dataset.no_objects={no_objects} is out of range: give up to {most_objects:,}")
    check_rotation("rotation", rotation)
    notes = [f"{no_classes} of {most} classes"] * (no_classes < most)
    if tuple(rotation) != PUBLISHED_ROTATION:
        notes.append(f"turned by {degrees(rotation)} about each axis")
    if test_rotation is not None:
        check_rotation("test_rotation", test_rotation)
        notes.append(f"test objects turned by {degrees(test_rotation)} about each axis")
    train, validation, test = object_split(no_objects, no_classes)
    planned = dataclasses.replace(
        facts,
        no_classes=no_classes,
        class_names=facts.class_names[:no_classes],
        no_train=len(train),
        no_validation=len(validation),
        no_test=len(test),
        latents=SCENE,
    )
    return in_pairs(with_notes(planned, *notes), no_views=no_views, pairs_per_object=pairs_per_object)


def check_rotation(key: str, rotation: Sequence[float]) -> None:
    """Raise UserError if this is no range of sizes of angles in degrees."""
    if len(rotation) != 2 or not 0 <= rotation[0] <= rotation[1] <= 180:
        raise UserError(
            f"dataset.{key}={list(rotation)} is no range of angles: give [least, largest] in degrees, from 0 to 180"
        )


def degrees(rotation: Sequence[float]) -> str:
    """Return a range of angles in words."""
    return f"{rotation[0]:g} to {rotation[1]:g} degrees"


def is_tested(no_objects: int, no_classes: int) -> Tensor:
    """Return whether each object is for test, bool [N]."""
    tested = torch.zeros(no_objects, dtype=torch.bool)
    tested[object_split(no_objects, no_classes).test] = True
    return tested
