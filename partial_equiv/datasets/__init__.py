"""Data sets of uint8 images, in memory or on disk: a held-out validation split always, nothing selected on test images.

`DATASETS` maps each name to a function that returns `Splits`.
"""

from collections.abc import Callable, Mapping

from partial_equiv.datasets.cifar import load_cifar10, load_cifar100
from partial_equiv.datasets.digits import load_digits
from partial_equiv.datasets.expected import expected_info
from partial_equiv.datasets.flowers import load_flowers102
from partial_equiv.datasets.glyph import load_glyph
from partial_equiv.datasets.image_set import Batch, ImageSet, Splits
from partial_equiv.datasets.imagenet import load_imagenet
from partial_equiv.datasets.info import DatasetInfo
from partial_equiv.datasets.loader import Loader, make_loader
from partial_equiv.datasets.mnist import load_mnist
from partial_equiv.datasets.mnist6 import load_mnist6_180, load_mnist6_m
from partial_equiv.datasets.npz import load_npz
from partial_equiv.datasets.pcam import load_pcam
from partial_equiv.datasets.rotated_mnist import load_rotated_mnist
from partial_equiv.datasets.rotation import rotate_images
from partial_equiv.datasets.split import augment_training
from partial_equiv.datasets.stl10 import load_stl10

DATASETS: Mapping[str, Callable[..., Splits]] = {
    "digits": load_digits,
    "MNIST": load_mnist,
    "rotMNIST": load_rotated_mnist,
    "MNIST6-180": load_mnist6_180,
    "MNIST6-M": load_mnist6_m,
    "CIFAR10": load_cifar10,
    "CIFAR100": load_cifar100,
    "STL10": load_stl10,
    "PCam": load_pcam,
    "Flowers102": load_flowers102,
    "ImageNet": load_imagenet,
    "npz": load_npz,
    "glyph": load_glyph,
}

__all__ = [
    "DATASETS",
    "Batch",
    "DatasetInfo",
    "ImageSet",
    "Loader",
    "Splits",
    "augment_training",
    "expected_info",
    "make_loader",
    "rotate_images",
]
