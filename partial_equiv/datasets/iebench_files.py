"""The folders, index files and latents of 3DIEBench: read without pickle, and any mishap is one sentence.

Axes: N objects, V views of an object, M images, Y X pixels.
"""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from partial_equiv.datasets.npz_file import BROKEN, BROKEN_HEADER, MOST_CLASSES, read_header
from partial_equiv.datasets.pictures import decode
from partial_equiv.datasets.resizing import resize_images
from partial_equiv.datasets.view_parts import SCENE, some
from partial_equiv.errors import UserError

WHERE = "docs/3DIEBench.md says which files there are"
MOST_LISTED = 256  # object folders of a split that are listed at the start: all two million files would take minutes


class Objects(NamedTuple):
    """Objects of one split: folders "<synset>/<object>" below the root, and classes."""

    names: NDArray[np.str_]
    labels: Tensor


class ViewFiles:
    """One JPEG file for each view, decoded when asked for: a `ViewSource`.

    Args:
        root: Folder of the synsets.
        names: Folder of each object below it; an array, which reading processes share instead of copying it.
        no_views: Views of each object; view v of object n is at n V + v.
        size: Side in pixels that each is resized to.
    """

    def __init__(self, root: Path, names: NDArray[np.str_], *, no_views: int, size: int) -> None:
        """Keep the names; no file is opened."""
        self.root = root
        self.names = names
        self.no_views = no_views
        self.size = size

    def __len__(self) -> int:
        """Return the number of images, N V."""
        return len(self.names) * self.no_views

    def __getitem__(self, positions: Tensor) -> Tensor:
        """Return images, int64 [M] -> uint8 [M, 3, size, size].

        Raises:
            UserError: a file is missing or no whole picture.
        """
        return torch.stack([self.view(*divmod(position, self.no_views)) for position in positions.tolist()])

    def view(self, number: int, view: int) -> Tensor:
        """Return one view of an object, uint8 [3, size, size]."""
        path = self.root / str(self.names[number]) / image_name(view)
        picture = decode(path, str(path), remedy="unpack it again")
        return resize_images(picture[None], (self.size, self.size))[0]


def image_name(view: int) -> str:
    """Return the name of the picture of a view."""
    return f"image_{view}.jpg"


def latent_name(view: int) -> str:
    """Return the name of the latents of a view."""
    return f"latent_{view}.npy"


def index_name(part: str) -> str:
    """Return the name of the file that lists the objects of train or val."""
    return f"{part}_images.npy"


def read_npy(path: Path) -> NDArray[np.generic]:
    """Return the array of an npy file; the size that its header claims is compared with the file's.

    Raises:
        UserError: missing, broken, or of Python objects.
    """
    try:
        with path.open("rb") as stream:
            shape, dtype, no_header_bytes = header_of(path, stream)
            if dtype.hasobject:
                raise UserError(f"{path} holds Python objects, which are never loaded: save it again as plain numbers")
            no_bytes = no_header_bytes + dtype.itemsize * math.prod(shape)
            if no_bytes != path.stat().st_size:
                raise UserError(f"{path} is truncated or no npy file of shape {list(shape)}: fetch or write it again")
            stream.seek(0)
            array: NDArray[np.generic] = np.lib.format.read_array(stream, allow_pickle=False)
            return array
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing: put it there; {WHERE}") from error
    except UserError:
        raise
    except BROKEN + BROKEN_HEADER as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is no readable npy file ({reason}): fetch or write it again") from error


def header_of(path: Path, stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[np.generic], int]:
    """Return what `read_header` does; its refusal names the file."""
    try:
        return read_header(stream)
    except UserError as error:
        raise UserError(f"{path}: {error}; fetch or write it again") from error


def read_index(folder: Path, part: str) -> Objects:
    """Return the objects that `<part>_images.npy` and `<part>_labels.npy` name.

    Raises:
        UserError: a file is missing, broken or of another layout, or the two differ in length.
    """
    path = folder / index_name(part)
    names, labels = read_npy(path), read_npy(folder / f"{part}_labels.npy")
    if names.dtype.kind != "U" or names.ndim != 1 or not len(names):
        found = f"{names.dtype} {list(names.shape)}"
        raise UserError(f"{path} holds {found}, a list of texts like '/02691156/10155655850468db/' is needed")
    stripped = np.array([name.strip("/") for name in names.tolist()])
    if bad := [name for name in stripped.tolist() if not is_pair(name)]:
        raise UserError(f"{path} names {bad[0]!r}: each name must be '/<synset>/<object>/'")
    labels_path = folder / f"{part}_labels.npy"
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise UserError(f"{labels_path} holds {labels.dtype} {list(labels.shape)}: integers [objects] are needed")
    if len(labels) != len(names):
        counts = f"{len(labels):,} labels for the {len(names):,} objects of {path.name}"
        raise UserError(f"{labels_path} holds {counts}: give index files of one data set")
    if labels.min() < 0 or labels.max() >= MOST_CLASSES:
        span = f"{int(labels.min())} to {int(labels.max())}"
        raise UserError(f"{labels_path} runs from {span}: give classes counted from 0, below {MOST_CLASSES}")
    return Objects(stripped, torch.from_numpy(labels.astype(np.int64)))


def is_pair(name: str) -> bool:
    """Return whether this is "<synset>/<object>", a folder that can only lie below another one."""
    steps = name.split("/")
    return len(steps) == 2 and {"", ".", ".."}.isdisjoint(steps)


def check_disjoint(train: Objects, test: Objects) -> None:
    """Raise UserError if an object is named twice, by one index file or by both."""
    names, counts = np.unique(np.concatenate([train.names, test.names]), return_counts=True)
    if twice := names[counts > 1].tolist():
        found = f"train_images.npy and val_images.npy name {len(twice):,} objects twice, the first is {twice[0]}"
        raise UserError(f"{found}: name each object once, in one of them")


def synsets_by_class(train: Objects, test: Objects) -> dict[int, str] | None:
    """Return the synset of each class, or None where the training objects of a class are of several.

    Raises:
        UserError: the test objects are numbered differently.
    """
    of_train, of_test = pairs_of(train), pairs_of(test)
    synsets, classes = dict(of_train), {synset: label for label, synset in of_train}
    if not len(of_train) == len(synsets) == len(classes):
        return None
    for label, synset in sorted(of_test):
        if synsets.setdefault(label, synset) != synset or classes.setdefault(synset, label) != label:
            found = f"val_labels.npy calls {synset} class {label}, train_labels.npy tells otherwise"
            raise UserError(f"{found}: give index files that number the classes alike")
    return synsets


def pairs_of(objects: Objects) -> set[tuple[int, str]]:
    """Return which class goes with which synset."""
    return {
        (label, name.split("/")[0]) for label, name in zip(objects.labels.tolist(), objects.names.tolist(), strict=True)
    }


def check_objects(root: Path, names: Sequence[str], index: Path) -> None:
    """Check that each object has a folder, by listing the folders of the synsets.

    Raises:
        UserError: objects are absent; the message says how many, and the first.
    """
    synsets = {name.split("/")[0] for name in names}
    there = {f"{synset}/{found}" for synset in synsets for found in list_names(root / synset)}
    if absent := [name for name in names if name not in there]:
        found = f"{index} names {len(absent):,} of {len(names):,} objects that are not in {root}"
        raise UserError(f"{found}, the first is {absent[0]}: unpack them there, or take them out of the index files")


def check_views(root: Path, names: NDArray[np.str_], no_views: int) -> None:
    """Check that each of 256 objects (all of fewer), evenly spread, has all its pictures.

    Raises:
        UserError: one is missing.
    """
    wanted = [image_name(view) for view in range(no_views)]
    for name in names[some(len(names), MOST_LISTED).numpy()].tolist():
        there = set(list_names(root / name))
        if missing := [view for view in wanted if view not in there]:
            found = f"{root / name} lacks {len(missing)} of the first {no_views} views"
            raise UserError(f"{found} ({missing[0]}): unpack it again, or give a smaller dataset.no_views")


def list_names(folder: Path) -> list[str]:
    """Return the names of what is in a folder, none if it is absent."""
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UserError(
            f"{folder} cannot be read ({error.strerror}): allow it, or give another dataset.root"
        ) from error


def read_latents(
    root: Path, folders: Sequence[Path], part: str, objects: Objects, chosen: Tensor, no_views: int
) -> Tensor:
    """Return the latents of the chosen objects: from `all_latents_<part>.npy`, else from one file for each view.

    Args:
        root: Folder of the synsets.
        folders: Where the one file may be, in this order.
        part: train or val.
        objects: All objects of the index, in whose order the one file is.
        chosen: Positions of objects.
        no_views: Views of each object, the first ones.
    Shape:
        chosen [N] -> float32 [N, no_views, 7].

    Raises:
        UserError: broken, of another width or length, or not finite.
    """
    for folder in folders:
        if (path := folder / f"all_latents_{part}.npy").exists():
            return read_rows(path, len(objects.names), no_views)[chosen]
    return torch.stack([read_object(root / name, no_views) for name in bar(objects.names[chosen.numpy()], part)])


def read_rows(path: Path, no_objects: int, no_views: int) -> Tensor:
    """Return the latents of all objects, float32 [no_objects, no_views, 7]."""
    rows = read_npy(path)
    check_latents(path, rows, 2)
    stored, rest = divmod(len(rows), no_objects)
    if rest:
        counts = f"{len(rows):,} rows, which is no multiple of the {no_objects:,} objects of the index"
        raise UserError(f"{path} holds {counts}: give files of one data set")
    if stored < no_views:
        found = f"{path} holds {stored} views of each object, dataset.no_views={no_views}"
        raise UserError(f"{found}: give dataset.no_views={stored}")
    views = rows.reshape(no_objects, stored, len(SCENE))[:, :no_views]
    return torch.from_numpy(views.astype(np.float32))


def bar(names: NDArray[np.str_], part: str) -> "tqdm[str]":
    """Return the names behind a progress bar; a terminal shows it, a log does not."""
    return tqdm(names.tolist(), desc=f"latents, {part}", leave=False, disable=None)


def read_object(folder: Path, no_views: int) -> Tensor:
    """Return the latents of the views of one object, float32 [no_views, 7]."""
    paths = [folder / latent_name(view) for view in range(no_views)]
    rows = [read_npy(path) for path in paths]
    for path, row in zip(paths, rows, strict=True):
        check_latents(path, row, 1)
    return torch.from_numpy(np.stack(rows).astype(np.float32))


def check_latents(path: Path, latents: NDArray[np.generic], no_axes: int) -> None:
    """Raise UserError unless these are finite numbers, 7 of each view."""
    wanted = f"{len(SCENE)} numbers of each view are needed, in this order: {', '.join(SCENE)}"
    if latents.dtype.kind not in "fiu" or latents.ndim != no_axes or latents.shape[-1] != len(SCENE):
        raise UserError(f"{path} holds {latents.dtype} {list(latents.shape)}: {wanted}")
    if not np.isfinite(latents.astype(np.float64, copy=False)).all():
        raise UserError(f"{path} holds NaN or infinity: {wanted}")
