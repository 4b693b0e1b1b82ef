"""Splits share no image, repeat with the seed, and say when they are a part."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import random_split

from partial_equiv.datasets.info import DatasetInfo, plan
from partial_equiv.datasets.split import cut
from partial_equiv.errors import UserError

FACTS = DatasetInfo("toy", 1, 2, (4, 4), (0.5,), (0.5,), ("a", "b"), no_train=100, no_validation=0, no_test=30)


@settings(deadline=None, max_examples=60)
@given(no_pool=st.integers(2, 300), seed=st.integers(), data=st.data())
def test_training_and_validation_never_overlap(no_pool, seed, data):
    facts = dataclasses.replace(FACTS, no_train=no_pool)
    no_validation = data.draw(st.none() | st.integers(1, no_pool - 1))
    no_train = data.draw(st.none() | st.integers(1, no_pool - (no_validation or max(1, no_pool // 10))))
    planned = plan(facts, no_train=no_train, no_validation=no_validation, no_test=None)
    train, validation, test = (set(part.tolist()) for part in cut(facts, planned, seed))
    assert not train & validation
    assert train | validation <= set(range(no_pool))
    assert (len(train), len(validation), len(test)) == (planned.no_train, planned.no_validation, planned.no_test)
    if no_train is None:
        assert len(train | validation) == no_pool


def test_the_seed_decides_alone():
    planned = plan(FACTS, no_train=None, no_validation=20, no_test=10)
    first, again, other = (cut(FACTS, planned, seed) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_it_is_the_split_of_the_published_runs():
    theirs = random_split(range(100), [80, 20], generator=torch.Generator().manual_seed(42))
    ours = cut(FACTS, plan(FACTS, no_train=None, no_validation=20, no_test=None), 42)
    assert (ours.train.tolist(), ours.validation.tolist()) == (list(theirs[0].indices), list(theirs[1].indices))


def test_a_smaller_training_set_is_part_of_a_larger_one_with_the_same_validation():
    small, large = (cut(FACTS, plan(FACTS, no_train=n, no_validation=20, no_test=None), 3) for n in (10, 50))
    assert small.train.tolist() == large.train.tolist()[:10]
    assert torch.equal(small.validation, large.validation)


def test_a_validation_file_of_its_own_costs_no_training_image():
    facts = dataclasses.replace(FACTS, no_validation=15)
    planned = plan(facts, no_train=None, no_validation=None, no_test=None)
    assert (planned.no_train, planned.no_validation) == (100, 15)
    assert sorted(cut(facts, planned, 0).validation.tolist()) == list(range(15))


def test_a_subset_is_noted():
    assert plan(FACTS, no_train=None, no_validation=20, no_test=None).note == ""
    note = plan(FACTS, no_train=10, no_validation=20, no_test=5).note
    assert note == "10 of 80 training images; 5 of 30 test images"


@pytest.mark.parametrize(
    ("key", "value"),
    [("no_train", 0), ("no_train", 81), ("no_validation", 0), ("no_validation", 100), ("no_test", -1), ("no_test", 31)],
)
def test_counts_out_of_range_are_told(key, value):
    counts = {"no_train": None, "no_validation": 20, "no_test": None, key: value}
    with pytest.raises(UserError, match=rf"dataset.{key}={value} is out of range: give 1 to"):
        plan(FACTS, **counts)
