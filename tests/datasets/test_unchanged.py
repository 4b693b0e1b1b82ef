"""Batches against digests and numbers that commit a05eeff gave, before sets could lie on a device.

Whatever is plain arithmetic is held to the bit. Resized, turned and recorded images go through interpolation, whose
last bit is the machine's own, and are held to the numbers.
"""

import hashlib
import itertools

import numpy as np
import pytest
import torch

from partial_equiv.datasets import (
    DatasetInfo,
    ImageSet,
    RecordedViews,
    Splits,
    ViewSet,
    augment_training,
    make_loader,
    parse_laws,
    turn_by_laws,
)
from partial_equiv.datasets.augmentation import CropFlip
from partial_equiv.datasets.counter import uniform
from partial_equiv.datasets.info import CropLaw
from partial_equiv.datasets.pictures import Pictures, whole
from partial_equiv.datasets.recorded_ops import SIMCLR
from tests.datasets.on_disk import OnDisk

EPOCHS = (0, 3)


def pixels(*shape, seed=11):
    """Return bytes that every machine draws alike."""
    numbers = uniform(seed, np.arange(int(np.prod(shape)))) * 256
    return torch.from_numpy(numbers.astype(np.uint8)).reshape(shape)


def image_set(channels=3, size=(12, 10), source=None, **keywords):
    images = (source or (lambda x: x))(pixels(30, channels, *size))
    mean, std = (0.4, 0.5, 0.6)[:channels], (0.2, 0.3, 0.4)[:channels]
    return ImageSet(images, torch.arange(30) % 4, mean=mean, std=std, **keywords)


class Store:
    """Pictures of several sizes, in memory."""

    def __len__(self):
        return 30

    def picture(self, position):
        return pixels(3, 20 + position, 40 - position, seed=position)


def frame(picture):
    return whole(picture, size=(12, 10), circle=False)


def pictures():
    images = Pictures(Store(), frame)
    plain = ImageSet(images, torch.arange(30) % 4, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    law = CropLaw((0.08, 1), (3 / 4, 4 / 3))
    info = DatasetInfo("toy", 3, 4, (12, 10), plain.mean, plain.std, tuple("0123"), 30, 30, 30, crop_law=law)
    return augment_training(Splits(plain, plain, plain, info), "inception", seed=6).train


def turned(source=None):
    plain = image_set(1, (12, 12), source)
    info = DatasetInfo("toy", 1, 4, (12, 12), plain.mean, plain.std, tuple("0123"), 30, 30, 30)
    laws = parse_laws(["full", "uniform:60", "normal:9", "cyclic:4"], 4)
    return turn_by_laws(Splits(plain, plain, plain, info), laws, seed=7).train


def views(numbers=False):
    images = pixels(20, 3, 6, 5).float() / 7 if numbers else pixels(20, 3, 6, 5)
    latents = torch.from_numpy(uniform(3, np.arange(60))).reshape(5, 4, 3)
    mean, std = ((0, 0, 0), (1, 1, 1)) if numbers else ((0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
    return ViewSet(images, latents, torch.arange(5) % 2, mean=mean, std=std, pairs_per_object=6, seed=-9)


def recorded(channels, varies=True):
    return RecordedViews(image_set(channels), law=SIMCLR, seed=12, varies=varies)


SETS = {
    "plain": image_set,
    "plain grey": lambda: image_set(1, (9, 9)),
    "plain on disk": lambda: image_set(source=OnDisk),
    "poses": lambda: image_set(poses=torch.arange(30) / 7),
    "resnet": lambda: image_set(augmentation=CropFlip(4, 0)),
    "resnet grey": lambda: image_set(1, (28, 28), augmentation=CropFlip(12, -(2**65))),
    "resnet on disk": lambda: image_set(source=OnDisk, augmentation=CropFlip(4, 0)),
    "views": views,
    "views of numbers": lambda: views(numbers=True),
    "inception": pictures,
    "turned": turned,
    "turned on disk": lambda: turned(OnDisk),
    "recorded": lambda: recorded(3),
    "recorded grey": lambda: recorded(1),
    "recorded, fixed": lambda: recorded(3, varies=False),
}


def batches(examples, **keywords):
    """Return the batches of two epochs, in their random order."""
    loader = make_loader(
        examples, batch_size=8, shuffle=True, drop_last=False, seed=4, **({"no_workers": 0} | keywords)
    )
    for epoch in EPOCHS:
        loader.set_epoch(epoch)
        yield from loader


def digest(found):
    """Return a digest of every byte of the batches."""
    total = hashlib.sha256()
    for tensor in itertools.chain.from_iterable(found):
        if tensor is not None:
            total.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode() + tensor.contiguous().numpy().tobytes())
    return total.hexdigest()[:16]


def numbers(found):
    """Return means of the images weighted by a fixed pattern, one for each batch."""
    rows = [batch.images.double().flatten() for batch in found]
    return [float((row * torch.linspace(-1, 1, len(row)).double().cos()).mean()) for row in rows]


DIGESTS = {
    "plain": "64ca5e320b239320",
    "plain grey": "6150edc1a35178c0",
    "plain on disk": "64ca5e320b239320",
    "poses": "4d4a8459fce1ff6d",
    "resnet": "8238ad5fc1a93207",
    "resnet grey": "b17843bf83981dd3",
    "resnet on disk": "8238ad5fc1a93207",
    "views": "50430a62ad0583c4",
    "views of numbers": "cc44006569a4e4e8",
}
TURNED = [0.338201, 0.150843, 0.267832, 0.293493, 0.225557, 0.198197, 0.31847, 0.312111]
MEANS = {
    "inception": [0.058467, 0.10095, 0.076018, 0.099607, 0.087311, 0.068793, 0.079257, 0.070876],
    "turned": TURNED,
    "turned on disk": TURNED,
    "recorded": [0.034154, 0.12487, 0.072859, 0.038752, 0.128367, 0.04431, -0.067965, 0.185505],
    "recorded grey": [0.365631, 0.499265, 0.455408, 0.444319, 0.45517, 0.387217, 0.24985, 0.599545],
    "recorded, fixed": [0.034154, 0.12487, 0.072859, 0.038752, 0.026431, 0.139873, 0.069187, 0.010004],
}


def test_every_set_is_held_to_something():
    assert set(DIGESTS) | set(MEANS) == set(SETS)


@pytest.mark.parametrize("name", DIGESTS)
def test_batches_are_those_of_before_to_the_bit(name):
    assert digest(batches(SETS[name]())) == DIGESTS[name]


@pytest.mark.parametrize("name", MEANS)
def test_interpolated_batches_are_those_of_before(name):
    assert numbers(batches(SETS[name]())) == pytest.approx(MEANS[name], abs=2e-5)
