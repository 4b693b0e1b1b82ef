"""Data sets of uint8 images, in memory or on disk: a held-out validation split always, nothing selected on test images.

`DATASETS` maps each name to a function that returns `Splits`.
"""

from collections.abc import Callable, Mapping

from partial_equiv.datasets.cifar import load_cifar10, load_cifar100
from partial_equiv.datasets.digits import load_digits
from partial_equiv.datasets.expected import expected_info
from partial_equiv.datasets.flowers import load_flowers102
from partial_equiv.datasets.folder import load_folder
from partial_equiv.datasets.glyph import load_glyph
from partial_equiv.datasets.image_set import Batch, ImageSet, Splits
from partial_equiv.datasets.imagenet import load_imagenet
from partial_equiv.datasets.info import DatasetInfo
from partial_equiv.datasets.law import Law, parse_laws
from partial_equiv.datasets.loader import Loader, make_loader
from partial_equiv.datasets.mnist import load_mnist
from partial_equiv.datasets.mnist6 import load_mnist6_180, load_mnist6_m
from partial_equiv.datasets.mnist_12k import load_mnist_12k
from partial_equiv.datasets.npz import load_npz
from partial_equiv.datasets.npz_file import write_npz
from partial_equiv.datasets.pcam import load_pcam
from partial_equiv.datasets.rotated_mnist import load_rotated_mnist
from partial_equiv.datasets.rotation import rotate_images
from partial_equiv.datasets.split import augment_training
from partial_equiv.datasets.stl10 import load_stl10
from partial_equiv.datasets.turning import takes_law, turn_by_laws

LOADERS: Mapping[str, Callable[..., Splits]] = {
    "digits": load_digits,
    "MNIST": load_mnist,
    "rotMNIST": load_rotated_mnist,
    "MNIST-12k": load_mnist_12k,
    "MNIST6-180": load_mnist6_180,
    "MNIST6-M": load_mnist6_m,
    "CIFAR10": load_cifar10,
    "CIFAR100": load_cifar100,
    "STL10": load_stl10,
    "PCam": load_pcam,
    "Flowers102": load_flowers102,
    "ImageNet": load_imagenet,
    "npz": load_npz,
    "folder": load_folder,
    "glyph": load_glyph,
}
DATASETS: Mapping[str, Callable[..., Splits]] = {name: takes_law(load) for name, load in LOADERS.items()}

__all__ = [
    "DATASETS",
    "Batch",
    "DatasetInfo",
    "ImageSet",
    "Law",
    "Loader",
    "Splits",
    "augment_training",
    "expected_info",
    "make_loader",
    "parse_laws",
    "rotate_images",
    "turn_by_laws",
    "write_npz",
]
