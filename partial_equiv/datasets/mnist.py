"""MNIST from its idx files, upright or turned at random."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from partial_equiv.datasets.files import fetch, folder_of, read_exactly
from partial_equiv.datasets.image_set import Splits
from partial_equiv.datasets.info import DatasetInfo, plan, resized_note, sized, turned_note, with_notes
from partial_equiv.datasets.law import laws_of_turns
from partial_equiv.datasets.resizing import resize_images
from partial_equiv.datasets.rotation import normal_angles, random_angles, rotate_images
from partial_equiv.datasets.split import Labelled, assemble, cut
from partial_equiv.errors import UserError

FACTS = DatasetInfo(
    name="MNIST",
    in_channels=1,
    no_classes=10,
    size=(28, 28),
    mean=(0.1307,),
    std=(0.3081,),
    class_names=tuple("0123456789"),
    no_train=60_000,
    no_validation=0,
    no_test=10_000,
    laws=laws_of_turns(10, 0),
)
TRAIN, TEST = 0, 1
"""Streams of random angles: a position in the one file says nothing of the same position in the other."""


class Mnist(NamedTuple):
    """The published images.

    Shape:
        images uint8 [N, 1, 28, 28], labels int64 [N].
    """

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor


def load_mnist(
    *,
    root: str,
    download: bool,
    size: int | None,
    rot_interval: float,
    rot_normal: Sequence[float] | None,
    turn_test: bool,
    no_train: int | None,
    no_validation: int | None,
    no_test: int | None,
    seed: int,
) -> Splits:
    """Return MNIST, each image turned by a seeded angle of its own, uniform in +-rot_interval or normal.

    Images are turned at 28 pixels and resized after that. Validation images follow the law of the training images.

    Args:
        root: Folder that holds MNIST/raw.
        download: Fetch what is missing.
        size: Side in pixels, 8 to 256; None is the published 28.
        rot_interval: Degrees, 0 (as published) to 180 (full circle).
        rot_normal: Mean and standard deviation in degrees of a normal law; None leaves the choice to rot_interval.
        turn_test: Turn the test images too; False leaves them upright, for an evaluation that turns them itself.
        no_train: Training images; None is all that validation leaves.
        no_validation: Images held out of the training file.
        no_test: Test images; None is all.
        seed: Of split and angles.

    Raises:
        UserError: a value out of range, or two laws at once; a file is missing, truncated or not MNIST's.
    """
    angles, turned = law_of_angles(rot_interval, rot_normal, seed)
    facts = dataclasses.replace(sized(FACTS, size), laws=laws_of_turns(FACTS.no_classes, rot_interval, rot_normal))
    planned = plan(facts, no_train=no_train, no_validation=no_validation, no_test=no_test)
    mnist = read_mnist(root, download=download)
    positions = cut(FACTS, planned, seed)

    def prepared(images: Tensor, labels: Tensor, index: Tensor, stream: int) -> Labelled:
        chosen, poses = images[index], torch.zeros(len(index))
        if turned and (turn_test or stream == TRAIN):
            poses = angles(index, stream=stream)
            chosen = rotate_images(chosen, poses)
        return Labelled(resize_images(chosen, planned.size), labels[index], poses)

    upright_test = "test images upright" if turned and not turn_test else ""
    return assemble(
        with_notes(planned, turned, upright_test, resized_note(FACTS, size)),
        prepared(mnist.train_images, mnist.train_labels, positions.train, TRAIN),
        prepared(mnist.train_images, mnist.train_labels, positions.validation, TRAIN),
        prepared(mnist.test_images, mnist.test_labels, positions.test, TEST),
    )


def law_of_angles(
    rot_interval: float, rot_normal: Sequence[float] | None, seed: int
) -> tuple[Callable[..., Tensor], str]:
    """Return the function (index, stream) -> angles of the chosen law, and the note that names it; empty for upright.

    Raises:
        UserError: a value out of range, or two laws at once.
    """
    nothing = torch.arange(0)  # asked for no angle, a law that is none is told before any file is read
    if rot_normal is None:
        random_angles(nothing, rot_interval=rot_interval, seed=seed)
        return functools.partial(random_angles, rot_interval=rot_interval, seed=seed), turned_note(rot_interval)
    if rot_interval:
        raise UserError(
            f"dataset.rot_interval={rot_interval:g} and dataset.rot_normal={list(rot_normal)} are two laws of one "
            "angle: give one, and 0 or null for the other"
        )
    normal_angles(nothing, rot_normal=rot_normal, seed=seed)
    note = "images turned at random by normal angles, {:g} +- {:g} degrees".format(*rot_normal)
    return functools.partial(normal_angles, rot_normal=rot_normal, seed=seed), note


def read_mnist(root: str, *, download: bool) -> Mnist:
    """Return the four idx files of root/MNIST/raw.

    Raises:
        UserError: a file is missing, truncated or not MNIST's, or the download failed.
    """
    folder = folder_of(root) / "MNIST" / "raw"
    if download:
        download_mnist(folder)
    return Mnist(
        read_idx(folder / "train-images-idx3-ubyte", (FACTS.no_train, 28, 28))[:, None],
        read_labels(folder / "train-labels-idx1-ubyte", FACTS.no_train),
        read_idx(folder / "t10k-images-idx3-ubyte", (FACTS.no_test, 28, 28))[:, None],
        read_labels(folder / "t10k-labels-idx1-ubyte", FACTS.no_test),
    )


def read_idx(path: Path, shape: tuple[int, ...]) -> Tensor:
    """Return an idx file of unsigned bytes, whose header must state the published shape.

    Shape:
        -> uint8, as `shape`.
    """
    remedy = remedy_for(path.parent)
    header = np.array([0x0800 + len(shape), *shape], dtype=">u4").tobytes()
    content = read_exactly(path, len(header) + math.prod(shape), remedy)
    if content[: len(header)].tobytes() != header:
        raise UserError(
            f"{path} is not MNIST's file (its header does not state {list(shape)}): delete it, then {remedy}"
        )
    return torch.from_numpy(content[len(header) :]).reshape(shape)


def read_labels(path: Path, no_labels: int) -> Tensor:
    """Return an idx file of classes, int64 [no_labels]."""
    labels = read_idx(path, (no_labels,)).long()
    if labels.max() >= FACTS.no_classes:
        raise UserError(
            f"{path} holds label {int(labels.max())}, MNIST has 0 to 9: delete it, then {remedy_for(path.parent)}"
        )
    return labels


def remedy_for(folder: Path) -> str:
    """Return what a user can do about a missing file."""
    return f"{place_for(folder)}, or add dataset.download=true"


def place_for(folder: Path) -> str:
    """Return where the files belong."""
    return f"put MNIST's four unpacked idx files into {folder}, or point dataset.root at a folder that holds MNIST/raw"


def download_mnist(folder: Path) -> None:
    """Fetch the files that are absent, with torchvision's addresses and checksums."""
    from torchvision.datasets import MNIST

    for archive, md5 in MNIST.resources:
        target = folder / archive.removesuffix(".gz")
        if not target.exists():
            fetch([f"{mirror}{archive}" for mirror in MNIST.mirrors], md5, {target.name: target}, place_for(folder))
