"""Upright MNIST cut as its published variations are; a law of angles makes a set of symmetry inference of it."""

import dataclasses

import torch
from torch import Tensor

from partial_equiv.datasets.amat import NO_TEST, NO_TRAIN, find_amat, read_amat
from partial_equiv.datasets.image_set import Splits
from partial_equiv.datasets.info import plan, with_notes
from partial_equiv.datasets.mnist import FACTS as MNIST_FACTS
from partial_equiv.datasets.rotated_mnist import draw_sources
from partial_equiv.datasets.split import Labelled, assemble, cut

FACTS = dataclasses.replace(MNIST_FACTS, name="MNIST-12k", no_train=NO_TRAIN, no_test=NO_TEST)
STAND_IN = "seeded draw from MNIST, not the published files"
TRAIN_FILE, TEST_FILE, ARCHIVE = "mnist_train.amat", "mnist_test.amat", "mnist.zip"
FOLDERS = (".", "MNIST-12k", "mnist")


def load_mnist_12k(
    *,
    title: str,
    root: str,
    download: bool,
    no_train: int | None,
    no_validation: int | None,
    no_test: int | None,
    seed: int,
) -> Splits:
    """Return upright MNIST: 12,000 images for training and validation, 50,000 for test, all different digits.

    Without the published files, 62,000 of MNIST's 70,000 images are drawn as for rotMNIST; `info.note` says so.

    Args:
        title: What outputs call the set, for example MNIST-Rot60 where its law is uniform:60.
        root: Folder that holds mnist_train.amat and mnist_test.amat, or MNIST/raw.
        download: Fetch MNIST if it is missing (the published files have no download with a checksum).
        no_train: Training images; None is all that validation leaves.
        no_validation: Images held out of the 12,000.
        no_test: Test images; None is all 50,000.
        seed: Of drawing and split.

    Raises:
        UserError: a value out of range; a file is missing, truncated or not the published one.
    Source: Larochelle et al. 2007; Urbano & Romero 2023. Differs: the validation images are drawn once, by the seed.
    """
    facts = dataclasses.replace(FACTS, name=title)
    planned = plan(facts, no_train=no_train, no_validation=no_validation, no_test=no_test)
    positions = cut(facts, planned, seed)

    def upright(images: Tensor, labels: Tensor, index: Tensor) -> Labelled:
        return Labelled(images[index], labels[index], torch.zeros(len(index)))

    published = find_amat(root, FOLDERS, TRAIN_FILE)
    if published is not None:
        pool = read_amat(published / TRAIN_FILE, NO_TRAIN, ARCHIVE)
        tested = read_amat(published / TEST_FILE, NO_TEST, ARCHIVE)
        choices = zip((pool, pool, tested), positions, strict=True)
        return assemble(planned, *(upright(*arrays, index) for arrays, index in choices))
    images, labels, sources = draw_sources(root, positions, download=download, seed=seed)
    return assemble(with_notes(planned, STAND_IN), *(upright(images, labels, index) for index in sources))
