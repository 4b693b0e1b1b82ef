"""COIL-20: 20 real objects on a turntable, 72 views of each.

Axes: N objects, V views of an object, Y X pixels.
"""

import math
import zipfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from partial_equiv.datasets.files import folder_of
from partial_equiv.datasets.info import DatasetInfo, with_notes
from partial_equiv.datasets.npz_file import explained, read_member
from partial_equiv.datasets.view_parts import TURNS, ViewPart, assemble_views, in_pairs, symmetry_groups
from partial_equiv.datasets.view_set import ViewSplits
from partial_equiv.errors import UserError

FILE = "coil20_32x32.npz"
LAYOUT = (
    "COIL-20 has `images` uint8 [1440,32,32], `labels` [1440] from 0 to 19, `angle_deg` [1440], 72 different angles of "
    "each object"
)
NO_OBJECTS, NO_VIEWS, SIDE = 20, 72, 32
NEAR_SYMMETRIC = (11, 13, 14, 15, 16)
"""Objects, counted from 0, whose sides look (nearly) alike: beaker, four-sided socket, pot with lid, bottle, bowl."""
FACTS = DatasetInfo(
    name="COIL20",
    in_channels=1,
    no_classes=NO_OBJECTS,
    size=(SIDE, SIDE),
    mean=(0.3013,),
    std=(0.3151,),
    class_names=tuple(str(label) for label in range(NO_OBJECTS)),
    no_train=NO_OBJECTS,
    no_validation=NO_OBJECTS,
    no_test=NO_OBJECTS,
    latents=TURNS,
)


def load_coil20(*, root: str, pairs_per_object: int, seed: int) -> ViewSplits:
    """Return COIL-20, cut by views: every object is a class of its own, so every split shows all 20 of them.

    Of the views in the order of their angle every third is for test (24 of an object), one in twelve for validation
    (6), the other 42 for training. So a test asks for unseen sides of known objects, 5 degrees from seen ones, and
    not for unseen objects.
    The angle of the turntable is the column ez, a turn about the vertical axis, in radians from 0; zero and direction
    are arbitrary. `groups` tells the objects whose sides look alike, of which no pose can be learnt, from the others.

    Args:
        root: The file coil20_32x32.npz, or a folder that holds it, or holds a folder npz with it.
        pairs_per_object: Examples of an epoch that show one object.
        seed: Of the pairs.

    Raises:
        UserError: `pairs_per_object` below 1; the file is missing, broken or of another layout.
    Source: Nene, Nayar & Murase 1996; 32x32 pixels, 8 bits.
    """
    info = coil_info(pairs_per_object=pairs_per_object)
    images, angles = read_coil(find(folder_of(root)))
    latents = torch.zeros(NO_OBJECTS, NO_VIEWS, len(TURNS))
    latents[:, :, TURNS.index("ez")] = angles
    symmetric = torch.isin(torch.arange(NO_OBJECTS), torch.tensor(NEAR_SYMMETRIC))
    groups = symmetry_groups(symmetric)
    parts = [
        ViewPart(images[:, views].flatten(0, 1)[:, None], latents[:, views], torch.arange(NO_OBJECTS), groups)
        for views in cut_views()
    ]
    return assemble_views(info, *parts, pairs_per_object=pairs_per_object, seed=seed)


def coil_info(*, pairs_per_object: int, **others: object) -> DatasetInfo:
    """Return the facts; arguments are those of `load_coil20`."""
    train, validation, test = cut_views()
    info = in_pairs(FACTS, no_views=NO_VIEWS, pairs_per_object=pairs_per_object)
    cut = f"cut by views ({len(train)} for training, {len(validation)} validation, {len(test)} test), not by objects"
    return with_notes(info, cut)


def cut_views() -> tuple[Tensor, Tensor, Tensor]:
    """Return the views of each split, counted by their angle: training, validation, test."""
    views = torch.arange(NO_VIEWS)
    tested, held_out = views % 3 == 2, views % 12 == 4
    return views[~tested & ~held_out], views[held_out], views[tested]


def find(root: Path) -> Path:
    """Return the file itself, or where it is in a folder."""
    if root.suffix == ".npz":
        return root
    return next((place for place in (root / "npz" / FILE, root / FILE) if place.exists()), root / "npz" / FILE)


def read_coil(path: Path) -> tuple[Tensor, Tensor]:
    """Return images and angles in radians, views in the order of their angle.

    Shape:
        -> images uint8 [20, 72, 32, 32], angles float64 [20, 72].

    Raises:
        UserError: missing, broken or of another layout.
    """
    remedy = f"put it there, or give dataset.root=<{FILE}>"
    with explained(path, LAYOUT, missing=remedy, folder=remedy), zipfile.ZipFile(path) as archive:
        no_bytes = path.stat().st_size
        return in_order(*(read_member(archive, key, no_bytes) for key in ("images", "labels", "angle_deg")))


def in_order(
    images: NDArray[np.generic], labels: NDArray[np.generic], degrees: NDArray[np.generic]
) -> tuple[Tensor, Tensor]:
    """Return images and angles by object, views in the order of their angle.

    Raises:
        UserError: another layout; the message is to be completed by the file and the right one.
    """
    no_images = NO_OBJECTS * NO_VIEWS
    if images.dtype != np.uint8 or images.shape != (no_images, SIDE, SIDE):
        raise UserError(f"images are {images.dtype} {list(images.shape)}")
    for name, array in (("labels", labels), ("angle_deg", degrees)):
        if array.dtype.kind not in "fiu" or array.shape != (no_images,):
            raise UserError(f"{name} are {array.dtype} {list(array.shape)}")
    order = np.lexsort((degrees, labels))
    by_object, angles = labels[order].reshape(NO_OBJECTS, NO_VIEWS), degrees[order].astype(np.float64)
    angles = angles.reshape(NO_OBJECTS, NO_VIEWS)
    if not (by_object == np.arange(NO_OBJECTS)[:, None]).all() or not (np.diff(angles) > 0).all():
        raise UserError("labels or angle_deg are not those of 72 views of each of 20 objects")
    views = images[order].astype(np.uint8).reshape(NO_OBJECTS, NO_VIEWS, SIDE, SIDE)
    return torch.from_numpy(views), torch.from_numpy(angles) * (math.pi / 180)
