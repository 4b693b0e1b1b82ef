"""The order of batches is a pure function of (seed, epoch), and no global random state moves."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from partial_equiv.datasets import Batch, ImageSet, make_loader
from partial_equiv.datasets.augmentation import CropFlip
from partial_equiv.errors import UserError


def make_set(no_images, augmentation=None):
    images = torch.arange(no_images, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 4, 4)
    return ImageSet(
        images, torch.zeros(no_images, dtype=torch.int64), mean=(0.0,), std=(1.0,), augmentation=augmentation
    )


def loader_of(no_images, batch_size=4, shuffle=True, drop_last=False, seed=0, no_workers=0, **keywords):
    return make_loader(
        make_set(no_images, **keywords),
        batch_size=batch_size,
        shuffle=shuffle,
        drop_last=drop_last,
        seed=seed,
        no_workers=no_workers,
    )


def order(loader):
    return torch.cat([batch.index for batch in loader]).tolist()


@settings(deadline=None, max_examples=40)
@given(no_images=st.integers(1, 60), batch_size=st.integers(1, 70), shuffle=st.booleans())
def test_every_image_once_in_batches_of_the_size(no_images, batch_size, shuffle):
    loader = loader_of(no_images, batch_size, shuffle)
    sizes = [len(batch.labels) for batch in loader]
    assert len(sizes) == len(loader)
    assert sum(sizes) == no_images
    assert all(size == batch_size for size in sizes[:-1])
    assert sorted(order(loader)) == list(range(no_images))
    if not shuffle:
        assert order(loader) == list(range(no_images))


def test_drop_last_leaves_whole_batches():
    loader = loader_of(10, drop_last=True)
    assert [len(batch.labels) for batch in loader] == [4, 4]
    assert len(loader) == 2


def test_order_repeats_with_the_epoch_and_the_seed():
    loader = loader_of(50)
    first = order(loader)
    assert order(loader) == first
    loader.set_epoch(1)
    second = order(loader)
    assert second != first
    loader.set_epoch(0)
    assert order(loader) == first
    assert order(loader_of(50, seed=1)) not in (first, second)


def test_batches_are_batches_with_the_image_of_their_index():
    for batch in loader_of(20):
        assert isinstance(batch, Batch)
        torch.testing.assert_close(batch.images[:, 0, 0, 0] * 255, batch.index.float())


def test_set_epoch_reaches_the_augmentation():
    loader = loader_of(20, shuffle=False, augmentation=CropFlip(1, 0))
    first = torch.cat([batch.images for batch in loader])
    loader.set_epoch(3)
    assert not torch.equal(torch.cat([batch.images for batch in loader]), first)


def test_the_global_random_state_stays():
    before = torch.get_rng_state()
    order(loader_of(20))
    assert torch.equal(torch.get_rng_state(), before)


def test_images_in_memory_use_no_workers():
    assert loader_of(20, no_workers=3).num_workers == 0


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"batch_size": 0}, "train.batch_size=0"),
        ({"no_workers": -1}, "no_workers=-1"),
        ({"batch_size": 30, "drop_last": True}, "no whole batch of 20"),
    ],
)
def test_impossible_values_are_told(keywords, message):
    with pytest.raises(UserError, match=message):
        loader_of(20, **keywords)
