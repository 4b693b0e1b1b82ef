"""Batches against torchvision's normalisation, augmentation against a slow loop, counters against plain integers."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import functional

from partial_equiv.datasets import DatasetInfo, ImageSet, Splits, augment_training
from partial_equiv.datasets.augmentation import CropFlip
from partial_equiv.datasets.counter import generator, uniform
from partial_equiv.errors import UserError


def make_set(no_images=10, channels=3, augmentation=None):
    images = torch.randint(0, 256, (no_images, channels, 8, 8), dtype=torch.uint8, generator=generator(1))
    mean, std = (0.4, 0.5, 0.6)[:channels], (0.2, 0.3, 0.4)[:channels]
    return ImageSet(images, torch.arange(no_images) % 4, mean=mean, std=std, augmentation=augmentation)


def test_batch_is_normalised_as_torchvision_does():
    image_set = make_set()
    batch = image_set[[7, 0, 7]]
    expected = torch.stack(
        [functional.normalize(image_set.images[i].float() / 255, [0.4, 0.5, 0.6], [0.2, 0.3, 0.4]) for i in (7, 0, 7)]
    )
    torch.testing.assert_close(batch.images, expected, atol=1e-5, rtol=1e-5)
    assert batch.images.dtype == torch.float32
    assert batch.labels.tolist() == [3, 0, 3]
    assert batch.index.tolist() == [7, 0, 7]


def test_every_door_gives_the_same_batch():
    image_set = make_set()
    for index in ([4], torch.tensor([4]), 4, np.int64(4)):
        assert all(
            torch.equal(a, b) for a, b in zip(image_set[index][:3], image_set.__getitems__([4])[:3], strict=True)
        )
    assert torch.equal(image_set.raw(4), image_set.images[4])
    assert torch.equal(image_set.raw(-1), image_set.images[9])
    with pytest.raises(IndexError):
        image_set.raw(10)


@settings(deadline=None, max_examples=25)
@given(
    padding=st.integers(1, 6), epoch=st.integers(0, 500), seed=st.integers(-(2**70), 2**70), no_images=st.integers(1, 5)
)
def test_augmentation_equals_a_slow_loop(padding, epoch, seed, no_images):
    images = torch.randint(0, 256, (no_images, 2, 6, 7), dtype=torch.uint8)
    index = torch.arange(no_images) * 31
    result = CropFlip(padding, seed)(images, index, epoch)
    for i in range(no_images):
        top, left = (int(uniform(seed, epoch, int(index[i]), draw)[0] * (2 * padding + 1)) for draw in (0, 1))
        moved = functional.crop(functional.pad(images[i], [padding]), top, left, 6, 7)
        assert torch.equal(
            result[i], functional.hflip(moved) if uniform(seed, epoch, int(index[i]), 2)[0] < 0.5 else moved
        )


def test_augmentation_depends_on_seed_epoch_and_index_alone():
    image_set = make_set(no_images=64, augmentation=CropFlip(2, seed=5))
    together = image_set[range(64)].images
    assert torch.equal(image_set[[9]].images[0], together[9])
    image_set.set_epoch(1)
    assert not torch.equal(image_set[range(64)].images, together)
    image_set.set_epoch(0)
    assert torch.equal(image_set[range(64)].images, together)
    assert not torch.equal(image_set.augmented(CropFlip(2, seed=6))[range(64)].images, together)


def test_augmentation_is_uniform_over_offsets_and_mirror():
    image = torch.zeros(1, 1, 9, 9, dtype=torch.uint8)
    image[0, 0, 4, 3] = 1
    seen = CropFlip(2, seed=0)(image.expand(20_000, -1, -1, -1), torch.arange(20_000), 0)
    counts = seen.sum(0, dtype=torch.int64)[0].flatten()
    assert (counts > 0).sum() == 5 * 7  # 5 rows; 5 columns as it is and 5 mirrored, 3 of them the same
    assert counts.sum() == 20_000


def splits_with(padding):
    info = DatasetInfo(
        "toy", 3, 4, (8, 8), (0.4, 0.5, 0.6), (0.2, 0.3, 0.4), tuple("0123"), 10, 10, 10, crop_padding=padding
    )
    return Splits(make_set(), make_set(), make_set(), info)


def test_only_training_is_augmented():
    before = splits_with(4)
    after = augment_training(before, "resnet", seed=0)
    assert after.train.augmentation == CropFlip(4, 0)
    assert after.validation is before.validation
    assert after.test is before.test
    assert before.train.augmentation is None


@pytest.mark.parametrize("name", ["none", "None", None])
def test_no_augmentation_has_three_spellings(name):
    splits = splits_with(None)
    assert augment_training(splits, name, seed=0) is splits


def test_augmentation_errors_are_told():
    with pytest.raises(UserError, match="did you mean 'resnet'"):
        augment_training(splits_with(4), "resnets", seed=0)
    with pytest.raises(UserError, match=r"not defined for dataset=toy"):
        augment_training(splits_with(None), "resnet", seed=0)


def splitmix(number):
    mask = (1 << 64) - 1
    number = (number + 0x9E3779B97F4A7C15) & mask
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & mask
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & mask
    return number ^ (number >> 31)


@settings(deadline=None)
@given(seed=st.integers(-(2**65), 2**65), counters=st.lists(st.integers(0, 2**40), max_size=4))
def test_counters_equal_plain_integer_arithmetic(seed, counters):
    state = splitmix(seed % 2**64)
    for counter in counters:
        state = splitmix(state ^ counter)
    assert uniform(seed, *counters)[0] == (state >> 11) / 2**53


def test_counters_are_uniform_and_uncorrelated():
    draws = np.stack([uniform(1, epoch, np.arange(4096)) for epoch in range(4)])
    assert abs(draws.mean() - 0.5) < 5 / math.sqrt(12 * draws.size)
    assert np.abs(np.corrcoef(draws) - np.eye(4)).max() < 0.08
    assert draws.min() >= 0
    assert draws.max() < 1


def test_any_integer_seeds_a_generator():
    for seed in (0, -1, 10**30):
        assert torch.equal(torch.rand(3, generator=generator(seed)), torch.rand(3, generator=generator(seed)))
