"""The batches of several ranks are those of one, cut."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from partial_equiv.datasets import make_loader
from partial_equiv.datasets.augmentation import CropFlip
from partial_equiv.errors import UserError
from tests.datasets.test_loader import make_set


def loaders(no_images, batch_size, no_ranks, *, augmentation=None, drop_last=False, no_workers=0):
    """Return the loader of one process, and those of several ranks."""
    recipe = {"batch_size": batch_size, "shuffle": True, "drop_last": drop_last, "seed": 3, "no_workers": no_workers}
    one, *some = (make_set(no_images, augmentation) for _ in range(no_ranks + 1))
    shares = [make_loader(own, **recipe, rank=rank, no_ranks=no_ranks) for rank, own in enumerate(some)]
    return make_loader(one, **recipe), shares


@settings(deadline=None, max_examples=40)
@given(no_images=st.integers(8, 60), shares=st.integers(1, 6), no_ranks=st.integers(1, 4), epoch=st.integers(0, 3))
def test_shares_side_by_side_are_the_batches_of_one_process(no_images, shares, no_ranks, epoch):
    if 0 < no_images % (shares * no_ranks) < no_ranks:
        return
    one, ranks = loaders(no_images, shares * no_ranks, no_ranks, augmentation=CropFlip(1, 0))
    for loader in (one, *ranks):
        loader.set_epoch(epoch, 1)
    whole, parts = list(one), [list(loader) for loader in ranks]
    assert len(whole) == len(one) - 1 and all(len(part) == len(whole) for part in parts)
    for batch, *cut in zip(whole, *parts, strict=True):
        sizes = [len(share.labels) for share in cut]
        assert min(sizes) >= 1 and max(sizes) - min(sizes) <= 1
        for name in ("images", "labels", "index"):
            assert torch.equal(torch.cat([getattr(share, name) for share in cut]), getattr(batch, name))


@pytest.mark.parametrize("no_workers", [0, 2])
def test_a_whole_pass_is_that_of_one_process_whatever_was_chosen(no_workers):
    one, (_, second) = loaders(20, 6, 2, no_workers=no_workers)
    second.set_epoch(2, 3)
    one.set_epoch(2)
    for batch, same in zip(one, second.whole(), strict=True):
        assert torch.equal(batch.index, same.index)
    assert second.examples(1) == one.examples(1)
    shares = [len(batch.labels) for batch in second]
    assert shares == [1]  # the last batch of two, from the fourth one on, as chosen


@pytest.mark.parametrize(
    ("no_images", "batch_size", "no_ranks", "message"),
    [
        (64, 15, 2, "batch_size=15 cannot be shared equally by 2 processes: give for example 14"),
        (
            65,
            16,
            2,
            "batch_size=16 leaves a last batch of 1 of 65 images, which 2 processes cannot share: give for example 14",
        ),
        (64, 3, 4, "batch_size=3 cannot be shared equally by 4 processes: give for example 4"),
        (3, 4, 4, "batch_size=4 leaves a last batch of 3 of 3 images, which 4 processes cannot share: train in fewer"),
    ],
)
def test_batches_that_cannot_be_shared_are_refused_with_the_nearest_size(no_images, batch_size, no_ranks, message):
    with pytest.raises(UserError, match=message):
        loaders(no_images, batch_size, no_ranks)
    if "for example" in message:
        loaders(no_images, int(message.rpartition(" ")[2]), no_ranks)


def test_a_smaller_last_batch_that_is_left_out_is_nobodys_concern():
    _, ranks = loaders(65, 16, 2, drop_last=True)
    assert [[len(batch.labels) for batch in loader] for loader in ranks] == [[8] * 4] * 2
