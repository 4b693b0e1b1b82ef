"""Data sets of uint8 images, in memory or on disk: a held-out validation split always, nothing selected on test images.

`DATASETS` maps each name to a function that returns `Splits`, or `ViewSplits` for the sets of views in `VIEW_SETS`.
"""

from collections.abc import Callable, Mapping
from typing import Any

from partial_equiv.datasets.augmenting import augment_training
from partial_equiv.datasets.cifar import load_cifar10, load_cifar100
from partial_equiv.datasets.coil20 import load_coil20
from partial_equiv.datasets.digit_turns import load_digit_turns
from partial_equiv.datasets.digits import load_digits
from partial_equiv.datasets.expected import expected_info
from partial_equiv.datasets.flowers import load_flowers102
from partial_equiv.datasets.folder import load_folder
from partial_equiv.datasets.glyph import load_glyph
from partial_equiv.datasets.iebench import load_3diebench, write_3diebench
from partial_equiv.datasets.image_set import Batch, ImageSet, Splits
from partial_equiv.datasets.imagenet import load_imagenet
from partial_equiv.datasets.info import DatasetInfo
from partial_equiv.datasets.latent_vectors import load_latent_vectors
from partial_equiv.datasets.law import Law, parse_laws
from partial_equiv.datasets.loader import Loader, make_loader, moved
from partial_equiv.datasets.mnist import load_mnist
from partial_equiv.datasets.mnist6 import load_mnist6_180, load_mnist6_m
from partial_equiv.datasets.mnist_12k import load_mnist_12k
from partial_equiv.datasets.npz import load_npz
from partial_equiv.datasets.npz_file import write_npz
from partial_equiv.datasets.pcam import load_pcam
from partial_equiv.datasets.recorded import RecordedSplits, RecordedViews, recorded_info
from partial_equiv.datasets.rotated_mnist import load_rotated_mnist
from partial_equiv.datasets.rotation import rotate_images
from partial_equiv.datasets.shapes3d_views import load_shapes3d
from partial_equiv.datasets.stl10 import load_stl10
from partial_equiv.datasets.turning import takes_law, turn_by_laws
from partial_equiv.datasets.view_npz import load_view_npz
from partial_equiv.datasets.view_parts import SCENE, TURNS
from partial_equiv.datasets.view_set import Views, ViewSet, ViewSource, ViewSplits, object_split

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
VIEW_SETS: Mapping[str, Callable[..., ViewSplits]] = {
    "shapes3d": load_shapes3d,
    "latent_vectors": load_latent_vectors,
    "3DIEBench": load_3diebench,
    "view_npz": load_view_npz,
    "COIL20": load_coil20,
    "digit_turns": load_digit_turns,
}
DATASETS: Mapping[str, Callable[..., Any]] = {**{name: takes_law(load) for name, load in LOADERS.items()}, **VIEW_SETS}

__all__ = [
    "DATASETS",
    "SCENE",
    "TURNS",
    "VIEW_SETS",
    "Batch",
    "DatasetInfo",
    "ImageSet",
    "Law",
    "Loader",
    "RecordedSplits",
    "RecordedViews",
    "Splits",
    "ViewSet",
    "ViewSource",
    "ViewSplits",
    "Views",
    "augment_training",
    "expected_info",
    "make_loader",
    "moved",
    "object_split",
    "parse_laws",
    "recorded_info",
    "rotate_images",
    "turn_by_laws",
    "write_3diebench",
    "write_npz",
]
