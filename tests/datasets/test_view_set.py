"""Pairs of views: a pure function of (seed, epoch, index), uniform over the ordered pairs, by object in every split."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from partial_equiv.datasets import DatasetInfo, Views, ViewSet, ViewSplits, augment_training, make_loader, object_split
from partial_equiv.datasets.counter import generator, uniform
from partial_equiv.errors import UserError
from tests.datasets.on_disk import OnDisk

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)


def make_set(no_objects=6, no_views=5, pairs_per_object=3, seed=0, source=None, **keywords):
    images = torch.randint(0, 256, (no_objects * no_views, 3, 4, 4), dtype=torch.uint8, generator=generator(1))
    latents = torch.rand(no_objects, no_views, 7, generator=generator(2))
    return ViewSet(
        (source or (lambda x: x))(images),
        latents,
        torch.arange(no_objects) % 4,
        mean=MEAN,
        std=STD,
        pairs_per_object=pairs_per_object,
        seed=seed,
        **keywords,
    )


@settings(deadline=None, max_examples=12)
@given(
    no_objects=st.integers(1, 6),
    no_views=st.integers(2, 9),
    pairs_per_object=st.integers(1, 5),
    seed=st.integers(-(2**70), 2**70),
    epoch=st.integers(0, 500),
)
def test_examples_equal_a_slow_loop(no_objects, no_views, pairs_per_object, seed, epoch):
    views = make_set(no_objects, no_views, pairs_per_object, seed)
    views.set_epoch(epoch)
    assert len(views) == no_objects * pairs_per_object
    batch = views[range(len(views))]
    for index in range(len(views)):
        number = index // pairs_per_object
        one = int(uniform(seed, epoch, index, 0)[0] * no_views)
        others = [view for view in range(no_views) if view != one]
        other = others[int(uniform(seed, epoch, index, 1)[0] * (no_views - 1))]
        for k, view in enumerate((one, other)):
            pixels = views.images[number * no_views + view].float() / 255
            expected = torch.stack([(pixels[c] - MEAN[c]) / STD[c] for c in range(3)])
            torch.testing.assert_close(batch.images[index, k], expected, atol=1e-5, rtol=1e-5)
            assert torch.equal(batch.latents[index, k], views.latents[number, view])
        assert (batch.labels[index], batch.index[index]) == (views.labels[number], index)


def test_all_pairs_are_drawn_equally_often():
    views, counts, no_epochs = make_set(no_objects=3, no_views=4, pairs_per_object=2), {}, 600
    for epoch in range(no_epochs):
        views.set_epoch(epoch)
        for index, pair in enumerate(views.pairs(torch.arange(6)).tolist()):
            counts.setdefault(index, []).append(tuple(pair))
    for index, drawn in counts.items():
        of_object = range(index // 2 * 4, index // 2 * 4 + 4)
        share = {pair: drawn.count(pair) for pair in itertools.permutations(of_object, 2)}
        assert sum(share.values()) == no_epochs  # distinct views of the one object and nothing else
        chi_squared = sum((count - no_epochs / 12) ** 2 / (no_epochs / 12) for count in share.values())
        assert chi_squared < 11 + 5 * math.sqrt(22)
    together = [counts[0][e][0] == counts[1][e][0] for e in range(no_epochs)]
    assert abs(sum(together) / no_epochs - 1 / 4) < 0.1  # examples of one object do not repeat one another


def loader_of(views, no_workers):
    return make_loader(views, batch_size=4, shuffle=True, drop_last=False, seed=3, no_workers=no_workers)


def test_workers_and_batches_change_nothing():
    there = make_set(source=OnDisk)
    alone, aided, held = loader_of(there, 0), loader_of(there, 2), loader_of(make_set(), 2)
    assert (alone.num_workers, aided.num_workers, held.num_workers) == (0, 2, 0)
    seen = []
    for epoch in (1, 0):
        for loader in (alone, aided, held):
            loader.set_epoch(epoch)
        for one, two, three in zip(alone, aided, held, strict=True):
            assert isinstance(two, Views)
            assert all(torch.equal(a, b) and torch.equal(a, c) for a, b, c in zip(one, two, three, strict=True))
            single = there[one.index[-1:]]
            assert all(torch.equal(a[-1:], b) for a, b in zip(one, single, strict=True))
        seen.append({int(i): x for batch in alone for i, x in zip(batch.index, batch.latents, strict=True)})
    assert sorted(seen[0]) == sorted(seen[1]) == list(range(len(there)))
    assert any(not torch.equal(seen[0][i], seen[1][i]) for i in seen[0])


def test_every_door_gives_the_same_batch():
    views = make_set()
    for index in ([4], torch.tensor([4]), 4):
        assert all(torch.equal(a, b) for a, b in zip(views[index], views.__getitems__([4]), strict=True))
    assert [tuple(x.shape) for x in views[[0, 9]]] == [(2, 2, 3, 4, 4), (2,), (2,), (2, 2, 7)]


def test_a_set_tells_what_it_holds():
    views = make_set(groups={"round": torch.tensor([0, 5])})
    assert (views.no_objects, views.no_views, views.view_names, views.in_memory) == (6, 5, ("x", "y"), True)
    assert not make_set(source=OnDisk).in_memory
    assert torch.equal(views.raw(2), views.images[10])
    assert torch.equal(views.raw(-1), views.images[25])
    with pytest.raises(IndexError):
        views.raw(6)
    assert views.groups["round"].tolist() == [0, 5] and not make_set().groups
    assert torch.equal(views.images_at(torch.tensor([7])), make_set().images_at(torch.tensor([3, 7]))[1:])


def test_real_numbers_pass_as_they_are():
    numbers = torch.randn(6, 2, 1, 1, generator=generator(0))
    views = ViewSet(numbers, torch.zeros(3, 2, 1), torch.arange(3), mean=(0, 0), std=(1, 1), pairs_per_object=1, seed=0)
    assert torch.equal(views.images_at(torch.arange(6)), numbers)
    assert torch.equal(views[range(3)].images.flatten(0, 1), numbers[views.pairs(torch.arange(3)).flatten()])


@pytest.mark.parametrize(("no_views", "pairs", "key"), [(1, 1, "no_views=1"), (2, 0, "pairs_per_object=0")])
def test_impossible_pairs_are_told(no_views, pairs, key):
    with pytest.raises(UserError, match=f"dataset.{key} is out of range"):
        make_set(no_views=no_views, pairs_per_object=pairs)


def test_views_are_not_augmented():
    info = DatasetInfo("toy", 3, 4, (4, 4), MEAN, STD, tuple("0123"), 18, 18, 18, crop_padding=1, views=("x", "y"))
    splits = ViewSplits(make_set(), make_set(), make_set(), info)
    assert augment_training(splits, "none", seed=0) is splits
    for name in ("resnet", "recorded"):
        with pytest.raises(UserError, match="give augment=none"):
            augment_training(splits, name, seed=0)


@settings(deadline=None, max_examples=40)
@given(no_classes=st.integers(1, 12), each=st.integers(3, 60), rest=st.integers(0, 11))
def test_no_object_is_in_two_splits_and_every_split_holds_every_class(no_classes, each, rest):
    no_objects = no_classes * each + rest % no_classes
    train, validation, test = (positions.tolist() for positions in object_split(no_objects, no_classes))
    assert sorted(train + validation + test) == list(range(no_objects))
    for i in range(no_objects):
        rank = i // no_classes
        place = test if rank % 5 == 0 else validation if rank % 20 in (1, 11) else train
        assert i in place
    for part in (train, validation, test):
        assert {i % no_classes for i in part} == set(range(no_classes))
    assert abs(len(test) - no_objects / 5) <= no_classes
    assert abs(len(validation) - no_objects / 10) <= 1.1 * no_classes


@pytest.mark.parametrize(("no_objects", "no_classes", "key"), [(29, 10, "no_objects=29"), (5, 0, "no_classes=0")])
def test_too_few_objects_are_told(no_objects, no_classes, key):
    with pytest.raises(UserError, match=f"dataset.{key}.*give"):
        object_split(no_objects, no_classes)
