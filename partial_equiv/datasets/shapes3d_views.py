"""Drawn views of solid objects: a small stand-in for 3DIEBench that needs no download.

Axes: N objects, V views of an object, Y X pixels.
"""

import dataclasses
import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from partial_equiv.datasets.files import folder_of
from partial_equiv.datasets.info import DatasetInfo, sized, with_notes
from partial_equiv.datasets.npz_file import BROKEN, BROKEN_HEADER, MOST_BYTES
from partial_equiv.datasets.shapes3d_objects import FAMILIES, NEAR_SYMMETRIC, make_object
from partial_equiv.datasets.shapes3d_render import make_camera, render
from partial_equiv.datasets.view_npz import Packed, packed_of, read_arrays
from partial_equiv.datasets.view_parts import SCENE, ViewPart, assemble_views, symmetry_groups
from partial_equiv.datasets.view_scene import draw_scene, is_tested, made_info
from partial_equiv.datasets.view_set import ViewSplits, object_split
from partial_equiv.errors import UserError

FACTS = DatasetInfo(
    name="shapes3d",
    in_channels=3,
    no_classes=len(FAMILIES),
    size=(32, 32),
    mean=(0.552, 0.556, 0.554),
    std=(0.127, 0.128, 0.127),
    class_names=tuple(FAMILIES),
    no_train=0,
    no_validation=0,
    no_test=0,
)
VERSION = 1  # of the drawing; another one makes other files
MOST_SUPERSAMPLING = 8
FIXED_SCENE = {"floor_hue": 0.6, "light_theta": 0.4, "light_phi": 1.0, "light_hue": 0.15}
"""Blue floor, yellow light from the side of the camera."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """All choices that change the pictures; `load_shapes3d` explains them."""

    no_objects: int
    no_views: int
    no_classes: int
    size: int
    supersampling: int
    rotation: Sequence[float]
    test_rotation: Sequence[float] | None
    vary_scene: bool
    seed: int

    def file_name(self) -> str:
        """Return a name that no other recipe has."""
        ranges = {"rotation": numbers(self.rotation), "test_rotation": numbers(self.test_rotation)}
        text = json.dumps({**vars(self), **ranges, "version": VERSION}, sort_keys=True)
        short = hashlib.sha256(text.encode()).hexdigest()[:10]
        return f"{self.no_objects}x{self.no_views}_{self.size}px_seed{self.seed}_{short}.npz"


def numbers(values: Sequence[float] | None) -> list[float] | None:
    """Return numbers as they are compared: 90 is 90.0."""
    return None if values is None else [float(value) for value in values]


def load_shapes3d(
    *,
    root: str,
    no_objects: int,
    no_views: int,
    no_classes: int,
    size: int,
    supersampling: int,
    rotation: Sequence[float],
    test_rotation: Sequence[float] | None,
    vary_scene: bool,
    pairs_per_object: int,
    seed: int,
) -> ViewSplits:
    """Return views of solid objects above a floor, under a spot light; no object is in two splits.

    Latents, camera, floor and light are those of 3DIEBench, so whatever runs on one runs on the other. Object i is of
    class i mod `no_classes`. The pictures are kept in a file below `root`, one for each recipe.

    Args:
        root: Folder of the files.
        no_objects: Objects of all splits.
        no_views: Views of each.
        no_classes: Families of objects, 2 to 10.
        size: Side in pixels, 8 to 256.
        supersampling: Rays along a side of a pixel, 1 to 8.
        rotation: Least and largest size of each Euler angle, degrees; its sign is random.
        test_rotation: The same for the test objects; None is `rotation`.
        vary_scene: False fixes colour of the floor, and place and colour of the light.
        pairs_per_object: Examples of an epoch that show one object.
        seed: Of objects, views and pairs.

    Raises:
        UserError: a value out of range, or a file that is broken or cannot be written.
    Source: Garrido et al. 2023, section 4. Differs: ten families of solids in place of ShapeNet's meshes.
    """
    recipe = Recipe(
        no_objects=no_objects,
        no_views=no_views,
        no_classes=no_classes,
        size=size,
        supersampling=supersampling,
        rotation=rotation,
        test_rotation=test_rotation,
        vary_scene=vary_scene,
        seed=seed,
    )
    info = shapes3d_info(pairs_per_object=pairs_per_object, **vars(recipe))
    packed = stored(folder_of(root) / "shapes3d" / recipe.file_name(), recipe)
    parts = [with_groups(packed.chosen(objects), info) for objects in object_split(no_objects, no_classes)]
    return assemble_views(info, *parts, pairs_per_object=pairs_per_object, seed=seed)


def shapes3d_info(
    *, no_objects: int, no_views: int, size: int, supersampling: int, vary_scene: bool, **choices: Any
) -> DatasetInfo:
    """Return the facts without drawing anything; arguments are those of `load_shapes3d`.

    Mean and deviation are those of the default set, whatever the choices.
    """
    facts = sized(FACTS, size)
    if not 1 <= supersampling <= MOST_SUPERSAMPLING:
        raise UserError(f"dataset.supersampling={supersampling} is out of range: give 1 to {MOST_SUPERSAMPLING}")
    no_bytes = no_objects * no_views * 3 * size**2
    if no_bytes > MOST_BYTES:
        found = f"{no_objects} objects of {no_views} views at dataset.size={size} take {no_bytes / 2**30:.0f} GiB"
        raise UserError(f"{found}, more than the {MOST_BYTES / 2**30:.0f} that are held in memory: give fewer")
    info = made_info(facts, no_objects=no_objects, no_views=no_views, **choices)
    return info if vary_scene else with_notes(info, "floor and light fixed")


def with_groups(part: ViewPart, info: DatasetInfo) -> ViewPart:
    """Name the objects whose pose hardly shows, and the others, where there are both."""
    classes = [label for label, name in enumerate(info.class_names) if name in NEAR_SYMMETRIC]
    symmetric = torch.isin(part.labels, torch.tensor(classes, dtype=torch.int64))
    return part._replace(groups=symmetry_groups(symmetric)) if symmetric.any() else part


def stored(path: Path, recipe: Recipe) -> Packed:
    """Return the pictures of a recipe from their file, which is drawn if it does not exist.

    Raises:
        UserError: the file is broken, or cannot be written.
    """
    if not path.exists():
        packed = draw(recipe)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{path.parent} cannot be made ({error.strerror}): give another dataset.root") from error
        write_packed(path, packed)
        return packed
    remedy = "delete it, and it is drawn anew"
    try:
        packed = packed_of(*read_arrays(path))
    except BROKEN + BROKEN_HEADER as error:
        raise UserError(f"{path} is broken ({' '.join(str(error).split())}): {remedy}") from error
    found, due = tuple(packed.images.shape), (recipe.no_objects, recipe.no_views, 3, recipe.size, recipe.size)
    if found != due or packed.latent_names != SCENE:
        raise UserError(f"{path} holds images {list(found)} where {list(due)} are due: {remedy}")
    return packed


def draw(recipe: Recipe) -> Packed:
    """Return the pictures of a recipe; every one depends on its object, its view and the seed alone.

    Shape:
        -> images uint8 [N, V, 3, Y, X], latents float32 [N, V, 7], labels int64 [N].
    """
    no_objects, no_views, size = recipe.no_objects, recipe.no_views, recipe.size
    latents = draw_latents(recipe)
    labels = torch.arange(no_objects) % recipe.no_classes
    families = tuple(FAMILIES)
    camera = make_camera(size * recipe.supersampling)
    images = torch.empty(no_objects, no_views, 3, size, size, dtype=torch.uint8)
    for number in tqdm(range(no_objects), desc="drawing shapes3d", unit=" objects", leave=False, disable=None):
        parts = make_object(number, families[labels[number]], recipe.seed)
        images[number] = render(parts, latents[number], camera, size=size, supersampling=recipe.supersampling)
    return Packed(images, latents, labels, SCENE)


def draw_latents(recipe: Recipe) -> Tensor:
    """Return the latents of all views, float32 [N, V, 7]."""
    latents = draw_scene(
        is_tested(recipe.no_objects, recipe.no_classes),
        recipe.no_views,
        rotation=recipe.rotation,
        test_rotation=recipe.test_rotation,
        seed=recipe.seed,
    )
    if not recipe.vary_scene:
        for name, value in FIXED_SCENE.items():
            latents[..., SCENE.index(name)] = value
    return latents


def write_packed(path: Path, packed: Packed) -> None:
    """Write views in the layout that `dataset=view_npz` reads; the file appears whole or not at all.

    Raises:
        UserError: it cannot be written.
    """
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".writing-") as scratch:
            whole = Path(scratch, "whole.npz")
            np.savez(
                whole,
                images=packed.images.numpy(),
                latents=packed.latents.numpy(),
                labels=packed.labels.numpy(),
                latent_names=np.array(packed.latent_names),
            )
            os.replace(whole, path)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}): give a folder with room for it") from error
