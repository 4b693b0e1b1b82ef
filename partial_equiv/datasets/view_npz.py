"""Anyone's views of objects, packed in one npz file, or two.

Axes: N objects, V views of an object, C channels, Y X pixels, L latent numbers of a view.
"""

import dataclasses
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from partial_equiv.datasets.files import folder_of
from partial_equiv.datasets.info import DatasetInfo
from partial_equiv.datasets.npz import TEST_SHARE, moments
from partial_equiv.datasets.npz_file import MOST_CLASSES, explained, read_member
from partial_equiv.datasets.view_parts import (
    MOST_MEASURED,
    SCENE,
    ViewPart,
    assemble_views,
    in_pairs,
    plan_objects,
    some,
    stratified_order,
)
from partial_equiv.datasets.view_set import ViewSplits
from partial_equiv.errors import UserError

VIEW_LAYOUT = (
    "a file of views needs `images` (uint8 [N,V,C,H,W] or [N,V,H,W,3]), `latents` (numbers [N,V,L]), `labels` "
    "(integers [N]) and perhaps `latent_names` (texts [L])"
)


class Packed(NamedTuple):
    """What a file holds: uint8 [N, V, C, Y, X], float32 [N, V, L], int64 [N], L names."""

    images: Tensor
    latents: Tensor
    labels: Tensor
    latent_names: tuple[str, ...]

    def chosen(self, objects: Tensor) -> ViewPart:
        """Return the views of the objects at `objects` [N]."""
        return ViewPart(self.images[objects].flatten(0, 1), self.latents[objects], self.labels[objects])


def load_view_npz(
    *,
    root: str | None,
    test_root: str | None,
    pairs_per_object: int,
    no_train: int | None,
    no_validation: int | None,
    no_test: int | None,
    seed: int,
) -> ViewSplits:
    """Return packed views; no object is in two splits, and mean and deviation are those of the training images.

    Without `latent_names`, 7 latents are the columns of 3DIEBench, and others are called latent_0 and so on.

    Args:
        root: File with `images` uint8 [N,V,C,H,W] or [N,V,H,W,3], `latents` [N,V,L], `labels` [N], classes counted
            from 0, and perhaps `latent_names` [L]. Other arrays are not read.
        test_root: The same for test; None sets a fifth of the objects of `root` aside.
        pairs_per_object: Examples of an epoch that show one object.
        no_train: Training objects; None is all that is left.
        no_validation: Objects held out of training; None is a tenth. All splits hold each class in its share.
        no_test: Test objects; None is all.
        seed: Of split and pairs.

    Raises:
        UserError: a value out of range; a file is missing, broken or of another layout; files do not fit together.
    """
    pool = read_views(root, "root")
    if test_root is None:
        no_objects = len(pool.labels)
        if no_objects < 3:
            raise UserError(f"dataset.root holds {no_objects} objects: training, validation and test need at least 3")
        order = stratified_order(pool.labels, seed)
        test_order, order = order.tensor_split([max(1, no_objects // TEST_SHARE)])
        tested = pool
    else:
        tested = read_views(test_root, "test_root")
        check_alike(pool, tested)
        order, test_order = stratified_order(pool.labels, seed), stratified_order(tested.labels, seed)
    facts = describe(pool, tested, len(order), len(test_order))
    planned = plan_objects(facts, no_train=no_train, no_validation=no_validation, no_test=no_test)
    info = in_pairs(planned, no_views=pool.images.shape[1], pairs_per_object=pairs_per_object)
    held_out = planned.no_validation
    train, validation = (pool.chosen(p.sort().values) for p in (order[held_out:][: planned.no_train], order[:held_out]))
    test = tested.chosen(test_order[: planned.no_test].sort().values)
    assert isinstance(train.images, Tensor)
    mean, std = moments(train.images[some(len(train.images), MOST_MEASURED)])
    info = dataclasses.replace(info, mean=mean, std=std)
    return assemble_views(info, train, validation, test, pairs_per_object=pairs_per_object, seed=seed)


def check_alike(pool: Packed, tested: Packed) -> None:
    """Raise UserError if two files differ in kind."""
    if tested.images.shape[2:] != pool.images.shape[2:]:
        found = f"{list(pool.images.shape[2:])} in dataset.root, {list(tested.images.shape[2:])} in dataset.test_root"
        raise UserError(f"the images differ in channels, height or width ({found}): give files of one kind")
    if tested.latent_names != pool.latent_names:
        ours, theirs = (", ".join(names) for names in (pool.latent_names, tested.latent_names))
        found = f"{ours} in dataset.root, {theirs} in dataset.test_root"
        raise UserError(f"the latents differ ({found}): give files with the same columns")


def describe(pool: Packed, tested: Packed, no_train: int, no_test: int) -> DatasetInfo:
    """Return the facts of the arrays; mean and deviation follow once the training images are known."""
    no_channels, height, width = pool.images.shape[2:]
    no_classes = max(2, *(int(packed.labels.max()) + 1 for packed in (pool, tested)))
    return DatasetInfo(
        name="view_npz",
        in_channels=no_channels,
        no_classes=no_classes,
        size=(height, width),
        mean=(0.0,) * no_channels,
        std=(1.0,) * no_channels,
        class_names=tuple(str(label) for label in range(no_classes)),
        no_train=no_train,
        no_validation=0,
        no_test=no_test,
        latents=pool.latent_names,
    )


def read_views(root: str | None, key: str) -> Packed:
    """Return what a file of views holds.

    Args:
        root: The file.
        key: Its key in the configuration.

    Raises:
        UserError: not given, missing, truncated, pickled, or of another layout.
    """
    remedy = f"give dataset.{key}=<file.npz>"
    if not root:
        raise UserError(f"dataset.{key} is empty: {remedy}; {VIEW_LAYOUT}")
    path = folder_of(root)
    with explained(path, VIEW_LAYOUT, missing=remedy, folder=remedy):
        return packed_of(*read_arrays(path))


def read_arrays(path: Path) -> tuple[NDArray[np.generic], ...]:
    """Return images, latents, labels, and names of the latents where there are any."""
    with zipfile.ZipFile(path) as archive:
        named = "latent_names.npy" in archive.namelist()
        keys = ("images", "latents", "labels", *["latent_names"] * named)
        return tuple(read_member(archive, key, path.stat().st_size) for key in keys)


def packed_of(
    images: NDArray[np.generic],
    latents: NDArray[np.generic],
    labels: NDArray[np.generic],
    names: NDArray[np.generic] | None = None,
) -> Packed:
    """Return the arrays as tensors, channels before rows.

    Raises:
        UserError: a wrong dtype, shape or value; the message is to be completed by the file and the layout.
    """
    pixels = pixels_of(images)
    wrong = latents.ndim != 3 or latents.shape[:2] != images.shape[:2] or not latents.shape[2]
    if latents.dtype.kind not in "fiu" or wrong:
        of = f"images of {images.shape[0]} objects and {images.shape[1]} views"
        raise UserError(f"latents are {latents.dtype} {list(latents.shape)} for {of}")
    numbers = latents.astype(np.float32)
    if not np.isfinite(numbers).all():
        raise UserError("latents hold NaN or infinity")
    if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
        raise UserError(f"labels are {labels.dtype} {list(labels.shape)} for images of {len(images)} objects")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= MOST_CLASSES:
        raise UserError(f"labels run from {low} to {high}, classes are counted from 0, below {MOST_CLASSES}")
    classes = torch.from_numpy(labels.astype(np.int64))
    return Packed(pixels, torch.from_numpy(numbers), classes, names_of(names, latents.shape[2]))


def pixels_of(images: NDArray[np.generic]) -> Tensor:
    """Return images as uint8 [N, V, C, Y, X].

    Raises:
        UserError: another dtype or shape, or a single view of each object.
    """
    first = images.ndim == 5 and images.shape[2] in (1, 3)
    last = images.ndim == 5 and images.shape[4] == 3
    if images.dtype != np.uint8 or not (first or last) or 0 in images.shape:
        raise UserError(f"images are {images.dtype} {list(images.shape)}")
    if images.shape[1] < 2:
        raise UserError("images show one view of each object, a pair needs 2")
    pixels = torch.from_numpy(np.ascontiguousarray(images))
    return pixels if first else pixels.permute(0, 1, 4, 2, 3).contiguous()


def names_of(names: NDArray[np.generic] | None, no_latents: int) -> tuple[str, ...]:
    """Return the names of the latents.

    Raises:
        UserError: not one text for each, or one twice.
    """
    if names is None:
        return SCENE if no_latents == len(SCENE) else tuple(f"latent_{number}" for number in range(no_latents))
    given: list[str] = names.tolist() if names.ndim == 1 else []
    if names.dtype.kind != "U" or len(given) != no_latents or len(set(given)) != no_latents or "" in given:
        raise UserError(f"latent_names are {names.dtype} {list(names.shape)}, {no_latents} different texts are needed")
    return tuple(given)
