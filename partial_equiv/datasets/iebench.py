"""3DIEBench: rendered views of 52,472 objects of 55 classes, with pose, floor and light of every view."""

import dataclasses
import os
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from partial_equiv.datasets.files import folder_of
from partial_equiv.datasets.iebench_files import (
    WHERE,
    Objects,
    ViewFiles,
    check_disjoint,
    check_objects,
    check_views,
    image_name,
    index_name,
    latent_name,
    read_index,
    read_latents,
    synsets_by_class,
)
from partial_equiv.datasets.info import DatasetInfo, resized_note, sized, with_notes
from partial_equiv.datasets.view_parts import (
    SCENE,
    ViewPart,
    assemble_views,
    in_pairs,
    plan_objects,
    stratified_order,
)
from partial_equiv.datasets.view_set import ViewSplits
from partial_equiv.errors import UserError

NO_VIEWS, HELD_OUT = 50, 20  # one training object in 20 is held out
FACTS = DatasetInfo(
    name="3DIEBench",
    in_channels=3,
    no_classes=55,
    size=(256, 256),
    mean=(0.5016, 0.5037, 0.5060),
    std=(0.1030, 0.0999, 0.0969),
    class_names=tuple(str(label) for label in range(55)),
    no_train=41_920,
    no_validation=0,
    no_test=10_552,
    latents=SCENE,
)


def load_3diebench(
    *,
    root: str,
    index_root: str | None,
    test_root: str | None,
    size: int | None,
    no_views: int,
    pairs_per_object: int,
    no_train: int | None,
    no_validation: int | None,
    no_test: int | None,
    seed: int,
) -> ViewSplits:
    """Return 3DIEBench: its training objects cut into training and validation, its val objects for test.

    JPEG files are decoded when asked for; latents are kept in memory. At the start all index files, all latents and the
    folder of every object are checked, and that 256 objects of each split, evenly spread, have all their pictures; a
    picture is checked when it is read.

    Args:
        root: Folder of `<synset>/<object>/image_<view>.jpg` and `latent_<view>.npy`.
        index_root: Folder of `train_images.npy`, `train_labels.npy`, `val_images.npy` and `val_labels.npy`, and perhaps
            of `all_latents_train.npy` and `all_latents_val.npy`; None is `root`.
        test_root: Another such folder, whose val objects are for test, for example in poses that training lacks; its
            latents are its own, and so are its index files, if it has any; None is `root`.
        size: Side in pixels that pictures are resized to, 8 to 1024; None is the published 256.
        no_views: Views of each object, 2 or more; the first ones.
        pairs_per_object: Examples of an epoch that show one object; published is 1.
        no_train: Training objects; None is all that validation leaves.
        no_validation: Objects held out of training, of each class its share; None is one in 20.
        no_test: Test objects; None is all.
        seed: Of split and pairs.

    Raises:
        UserError: a value out of range; a file is missing, truncated or of another layout; files do not fit together.
    Source: Garrido, Najman & LeCun 2023 (SIE). Differs: validation is held out of the training objects.
    """
    folder = folder_of(root)
    index = folder if index_root is None else folder_of(index_root)
    pool = open_part(folder, index, "train", (index, folder))
    if test_root is None:
        tested = open_part(folder, index, "val", (index, folder))
    else:
        other = folder_of(test_root)
        own = (other / index_name("val")).exists()
        tested = open_part(other, other if own else index, "val", (other,))
    check_disjoint(pool.objects, tested.objects)
    facts = describe(pool.objects, tested.objects)
    planned = plan_views(facts, size=size, no_train=no_train, no_validation=no_validation, no_test=no_test)
    info = in_pairs(planned, no_views=no_views, pairs_per_object=pairs_per_object)
    order, test_order = (stratified_order(opened.objects.labels, seed) for opened in (pool, tested))
    held_out = planned.no_validation
    choices = (
        (pool, order[held_out:][: planned.no_train]),
        (pool, order[:held_out]),
        (tested, test_order[: planned.no_test]),
    )
    parts = [opened.views(chosen, no_views, planned.size[0]) for opened, chosen in choices]
    return assemble_views(info, *parts, pairs_per_object=pairs_per_object, seed=seed)


class Opened(NamedTuple):
    """The objects of one index file, and where their files are."""

    root: Path
    part: str
    latent_roots: tuple[Path, ...]
    objects: Objects

    def views(self, chosen: Tensor, no_views: int, size: int) -> ViewPart:
        """Return the views of the objects at `chosen` [N], in the order of the index."""
        kept = chosen.sort().values
        names = self.objects.names[kept.numpy()]
        check_views(self.root, names, no_views)
        latents = read_latents(self.root, self.latent_roots, self.part, self.objects, kept, no_views)
        return ViewPart(ViewFiles(self.root, names, no_views=no_views, size=size), latents, self.objects.labels[kept])


def open_part(root: Path, index_root: Path, part: str, latent_roots: tuple[Path, ...]) -> Opened:
    """Return the objects of one index file, all of which have a folder.

    Args:
        root: Folder of the synsets.
        index_root: Folder of the index file.
        part: train or val.
        latent_roots: Where all latents in one file may be.

    Raises:
        UserError: the root is no folder, a broken index, or absent objects.
    """
    if not root.is_dir():
        raise UserError(f"{root} is no folder: unpack 3DIEBench there, or give dataset.root; {WHERE}")
    objects = read_index(index_root, part)
    check_objects(root, objects.names.tolist(), index_root / index_name(part))
    return Opened(root, part, latent_roots, objects)


def iebench_info(*, no_views: int, pairs_per_object: int, **choices: Any) -> DatasetInfo:
    """Return the facts that the published files would give; arguments are those of `load_3diebench`."""
    return in_pairs(plan_views(FACTS, **choices), no_views=no_views, pairs_per_object=pairs_per_object)


def plan_views(
    facts: DatasetInfo,
    *,
    size: int | None,
    no_train: int | None,
    no_validation: int | None,
    no_test: int | None,
    **others: object,
) -> DatasetInfo:
    """Return the facts with the number of objects of each split.

    Raises:
        UserError: a value out of range.
    """
    facts = with_notes(sized(facts, size), resized_note(facts, size))
    return plan_objects(facts, no_train=no_train, no_validation=no_validation, no_test=no_test, one_in=HELD_OUT)


def describe(pool: Objects, tested: Objects) -> DatasetInfo:
    """Return the facts of the index files; classes have the names of the synsets where these are in step."""
    no_classes = max(2, *(int(objects.labels.max()) + 1 for objects in (pool, tested)))
    synsets = synsets_by_class(pool, tested) or {}
    names = tuple(synsets.get(label, str(label)) for label in range(no_classes))
    return dataclasses.replace(
        FACTS, no_classes=no_classes, class_names=names, no_train=len(pool.names), no_test=len(tested.names)
    )


def write_3diebench(folder: Path, images: Tensor, latents: Tensor, labels: Tensor, is_test: Tensor) -> None:
    """Write views in the folders and files of 3DIEBench; they appear whole or not at all.

    Args:
        folder: To be made.
        images: Pixels; one channel becomes grey JPEG in RGB. Quality is 95.
        latents: In the columns of 3DIEBench.
        labels: Class of each object, counted from 0; the synset of class k is its number in 8 digits.
        is_test: Which objects `val_images.npy` names; the others are in `train_images.npy`.
    Shape:
        images uint8 [N, V, C, Y, X] with 1 or 3 channels, latents [N, V, 7], labels int64 [N], is_test bool [N].

    Raises:
        UserError: the folder exists and is not empty, or cannot be written.
    """
    assert images.dtype == torch.uint8, images.dtype
    assert images.shape[2] in (1, 3), images.shape
    assert latents.shape == (*images.shape[:2], len(SCENE)), latents.shape
    assert len(labels) == len(is_test) == len(images), "one label and one split for each object"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if folder.exists():
            folder.rmdir()  # an empty one; any other is not ours to remove
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".writing-") as scratch:
            write_files(Path(scratch, "whole"), images, latents.double(), labels, is_test)
            os.replace(Path(scratch, "whole"), folder)
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error.strerror}): give a new folder with room for it") from error


def write_files(folder: Path, images: Tensor, latents: Tensor, labels: Tensor, is_test: Tensor) -> None:
    """Write the files; the index comes last, so that a folder whose writing was cut off has none."""
    names = [(f"{label:08d}", f"object_{number:06d}") for number, label in enumerate(labels.tolist())]
    for place, views, rows in zip(names, images, latents.numpy(), strict=True):
        target = folder.joinpath(*place)
        target.mkdir(parents=True)
        for view, (pixels, row) in enumerate(zip(views.expand(-1, 3, -1, -1), rows, strict=True)):
            picture = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
            picture.save(target / image_name(view), quality=95)
            np.save(target / latent_name(view), row)
    np.save(folder / "all_objects.npy", np.array(names))
    for part, chosen in (("train", ~is_test), ("val", is_test)):
        entries = np.array(["/" + "/".join(names[number]) + "/" for number in chosen.nonzero().flatten().tolist()])
        np.save(folder / f"all_latents_{part}.npy", latents[chosen].flatten(0, 1).numpy())
        np.save(folder / f"{part}_labels.npy", labels[chosen].numpy())
        np.save(folder / index_name(part), entries)
