"""The embedded digits: real images, disjoint sources, the rotation as promised."""

from itertools import chain

import pytest
import torch
from sklearn import datasets
from torch.nn import functional

from partial_equiv.datasets import rotate_images
from partial_equiv.datasets.digits import FACTS, load_digits, read_upright
from partial_equiv.datasets.rotation import random_angles
from partial_equiv.errors import UserError

KEYS = {
    "size": 28,
    "rot_interval": 180,
    "copies": 4,
    "no_train": None,
    "no_validation": 200,
    "no_test": None,
    "seed": 42,
}


def load(**keys):
    return load_digits(**{**KEYS, **keys})


def sources(image_set):
    """Return the positions in scikit-learn's set of upright images."""
    upright = (read_upright(28)[0] * 255).round().to(torch.uint8)
    where = {image.numpy().tobytes(): position for position, image in enumerate(upright)}
    return [where[image.numpy().tobytes()] for image in image_set.images]


def test_sizes_and_facts():
    splits = load()
    info = splits.info
    assert (info.no_train, info.no_validation, info.no_test) == (4 * 1_197, 200, 400)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (4 * 1_197, 200, 400)
    assert splits.train.images.shape == (4 * 1_197, 1, 28, 28)
    assert splits.train.images.dtype == torch.uint8
    assert "180 degrees" in info.note


def test_mean_and_deviation_are_those_of_the_training_images():
    pixels = load().train.images.double() / 255
    assert FACTS.mean[0] == pytest.approx(pixels.mean().item(), abs=2e-3)
    assert FACTS.std[0] == pytest.approx(pixels.std().item(), abs=2e-3)


def test_every_source_is_in_one_split_with_its_label():
    splits = load(rot_interval=0, copies=1)
    found = [sources(s) for s in (splits.train, splits.validation, splits.test)]
    assert sorted(chain.from_iterable(found)) == list(range(1_797))
    labels = datasets.load_digits().target
    for image_set, positions in zip(splits[:3], found, strict=True):
        assert image_set.labels.tolist() == labels[positions].tolist()


def test_copies_are_the_same_sources_at_different_angles():
    upright, turned = load(rot_interval=0, copies=1), load(copies=3)
    where = torch.tensor(sources(upright.train))
    for copy, images in enumerate(turned.train.images.chunk(3)):
        angles = random_angles(where, rot_interval=180, seed=42, stream=copy)
        expected = rotate_images(read_upright(28)[0][where], angles) * 255
        assert (images.float() - expected).abs().max() <= 0.5 + 1e-3
    assert torch.equal(turned.train.labels, upright.train.labels.repeat(3))


def test_upright_digits_shrink_back_to_scikit_learns():
    images, _ = read_upright(128)
    margin = round((128 - 128 / 2**0.5) / 2)
    small = functional.interpolate(images[..., margin:-margin, margin:-margin], size=8, mode="area")[:, 0]
    truth = torch.from_numpy(datasets.load_digits().images).float() / 16
    correlation = torch.corrcoef(torch.stack([small.flatten(), truth.flatten()]))[0, 1]
    assert correlation > 0.97


def test_no_turn_cuts_a_digit_off():
    upright, _ = read_upright(28)
    turned = rotate_images(upright, random_angles(torch.arange(len(upright)), rot_interval=180, seed=0))
    kept = turned.sum((1, 2, 3)) / upright.sum((1, 2, 3))
    assert kept.min() > 0.97


def test_a_narrow_interval_turns_less():
    wide, narrow, none = (load(rot_interval=a, copies=1).test.images.float() for a in (180, 45, 0))
    assert (narrow - none).abs().mean() < (wide - none).abs().mean()


def test_seeds_repeat_and_differ():
    first, again, other = load(), load(), load(seed=43)
    assert torch.equal(first.train.images, again.train.images)
    assert not torch.equal(first.train.images, other.train.images)
    assert not torch.equal(first.test.images, other.test.images)


def test_subset_keeps_the_angles_of_the_full_set():
    whole, part = load(copies=1), load(copies=1, no_train=50, no_test=20)
    assert torch.equal(part.train.images, whole.train.images[:50])
    assert torch.equal(part.validation.images, whole.validation.images)
    assert "50 of 1,197 training images" in part.info.note


@pytest.mark.parametrize("size", [8, 9, 16, 33])
def test_any_size(size):
    splits = load(size=size, copies=1, no_train=10)
    assert splits.train.images.shape[-2:] == (size, size)
    assert splits.info.size == (size, size)
    assert splits.train.images.max() > 150


@pytest.mark.parametrize(
    ("key", "value"),
    [("size", 7), ("size", 257), ("copies", 0), ("rot_interval", 181), ("no_train", 1_198), ("no_test", 401)],
)
def test_values_out_of_range_are_told(key, value):
    with pytest.raises(UserError, match=f"{key}={value} is out of range"):
        load(**{key: value})
