"""Rotated MNIST: the official files where present, else a seeded rotation of MNIST that says so."""

import dataclasses

import torch
from torch import Tensor

from partial_equiv.datasets.amat import NO_TEST, NO_TRAIN, find_amat, read_amat
from partial_equiv.datasets.counter import generator
from partial_equiv.datasets.image_set import Splits
from partial_equiv.datasets.info import plan, turned_note, with_notes
from partial_equiv.datasets.law import laws_of_turns
from partial_equiv.datasets.mnist import FACTS as MNIST_FACTS
from partial_equiv.datasets.mnist import read_mnist
from partial_equiv.datasets.rotation import random_angles, rotate_images
from partial_equiv.datasets.split import Cut, Labelled, assemble, cut

STAND_IN = "seeded rotation of MNIST, not the official files"
FACTS = dataclasses.replace(
    MNIST_FACTS, name="rotMNIST", mean=(0.13,), std=(0.297,), no_train=NO_TRAIN, no_test=NO_TEST
)
TRAIN_FILE = "mnist_all_rotation_normalized_float_train_valid.amat"
TEST_FILE = "mnist_all_rotation_normalized_float_test.amat"
FOLDERS = (".", "rotMNIST", "mnist_rotation_new")


def load_rotated_mnist(
    *,
    root: str,
    download: bool,
    rot_interval: float,
    no_train: int | None,
    no_validation: int | None,
    no_test: int | None,
    seed: int,
) -> Splits:
    """Return rotated MNIST: 12,000 images for training and validation, 50,000 for test, all different digits.

    Without the official files, 62,000 of MNIST's 70,000 images are drawn without repetition and turned once each by an
    angle uniform in +-rot_interval; `info.note` says so: such scores do not compare with published ones to a tenth.

    Args:
        root: Folder that holds the official .amat files, or MNIST/raw.
        download: Fetch MNIST if it is missing (the official files have no download with a checksum).
        rot_interval: Degrees, 0 to 180; 180 (published) uses the official files where they are.
        no_train: Training images; None is all that validation leaves.
        no_validation: Images held out of the 12,000.
        no_test: Test images; None is all 50,000.
        seed: Of drawing, split and angles.

    Raises:
        UserError: a value out of range; a file is missing, truncated or not the published one.
    Source: Larochelle et al. 2007.
    """
    facts = dataclasses.replace(FACTS, laws=laws_of_turns(FACTS.no_classes, rot_interval))
    planned = plan(facts, no_train=no_train, no_validation=no_validation, no_test=no_test)
    positions = cut(FACTS, planned, seed)
    official = find_amat(root, FOLDERS, TRAIN_FILE)
    if official is not None and rot_interval == 180:
        pool, tested = read_amat(official / TRAIN_FILE, NO_TRAIN), read_amat(official / TEST_FILE, NO_TEST)
        choices = ((pool, positions.train), (pool, positions.validation), (tested, positions.test))
        return assemble(planned, *(Labelled(images[index], labels[index]) for (images, labels), index in choices))

    images, labels, sources = draw_sources(root, positions, download=download, seed=seed)

    def turned(index: Tensor) -> Labelled:
        poses = random_angles(index, rot_interval=rot_interval, seed=seed)
        chosen = rotate_images(images[index], poses) if rot_interval else images[index]
        return Labelled(chosen, labels[index], poses)

    return assemble(with_notes(planned, STAND_IN, turned_note(rot_interval)), *map(turned, sources))


def draw_sources(root: str, positions: Cut, *, download: bool, seed: int) -> tuple[Tensor, Tensor, Cut]:
    """Draw 12,000 and 50,000 of MNIST's 70,000 images, no image twice, in the place of the published files.

    Args:
        root: Folder that holds MNIST/raw.
        positions: Of each split in the 12,000 and the 50,000.
        download: Fetch what is missing.
        seed: Of the draw.
    Shape:
        -> all images of MNIST uint8 [70000, 1, 28, 28], their labels [70000], and where in them each split lies.

    Raises:
        UserError: a file is missing, truncated or not MNIST's.
    """
    mnist = read_mnist(root, download=download)
    images = torch.cat([mnist.train_images, mnist.test_images])
    labels = torch.cat([mnist.train_labels, mnist.test_labels])
    order = torch.randperm(len(labels), generator=generator(seed))
    pool, tested = order[:NO_TRAIN], order[NO_TRAIN:][:NO_TEST]
    return images, labels, Cut(pool[positions.train], pool[positions.validation], tested[positions.test])
