"""Nearest neighbours against a loop over all pairs."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from partial_equiv.errors import UserError
from partial_equiv.symmetry import nearest_neighbours


def by_loop(z, no_neighbours, bank=None):
    """Return the cosines of the k nearest, by the definition."""
    rows = []
    for i, query in enumerate(z.tolist()):
        others = [v for j, v in enumerate((z if bank is None else bank).tolist()) if bank is not None or i != j]
        cosines = [
            sum(a * b for a, b in zip(query, other, strict=True)) / (math.hypot(*query) * math.hypot(*other) or 1)
            for other in others
        ]
        rows.append(sorted(cosines, reverse=True)[:no_neighbours])
    return torch.tensor(rows)


@settings(deadline=None, max_examples=30)
@given(
    no_images=st.integers(2, 30),
    no_neighbours=st.integers(1, 8),
    block=st.integers(1, 400),
    with_bank=st.booleans(),
    seed=st.integers(0, 999),
)
def test_neighbours_are_those_of_a_loop_for_any_block(no_images, no_neighbours, block, with_bank, seed):
    draws = torch.Generator().manual_seed(seed)
    z = torch.randn(no_images, 5, generator=draws)
    bank = torch.randn(20, 5, generator=draws) if with_bank else None
    k = min(no_neighbours, 20 if with_bank else no_images - 1)
    found = nearest_neighbours(z, k, bank, block=block)
    assert found.index.dtype == torch.int64
    torch.testing.assert_close(found.similarity, by_loop(z, k, bank), atol=1e-5, rtol=0)
    searched = z if bank is None else bank
    cosines = torch.cosine_similarity(z[:, None], searched[found.index], dim=-1)
    torch.testing.assert_close(found.similarity, cosines, atol=1e-5, rtol=0)
    if bank is None:
        assert (found.index != torch.arange(no_images)[:, None]).all()
    assert all(len(set(row)) == k for row in found.index.tolist())


def test_an_image_is_no_neighbour_of_itself_even_among_copies_but_a_bank_may_hold_it():
    z = torch.ones(4, 3)
    assert nearest_neighbours(z, 3).index.sort().values.tolist() == [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]]
    z = torch.eye(4)
    assert nearest_neighbours(z, 1, bank=z).index[:, 0].tolist() == [0, 1, 2, 3]


def test_a_zero_vector_is_as_near_to_all():
    z = torch.tensor([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.1]])
    found = nearest_neighbours(z, 2)
    assert found.similarity[0].tolist() == [0, 0]
    assert found.index[1].tolist() == [0, 2]


def test_length_does_not_matter():
    z = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    scaled = z * torch.linspace(0.01, 100, 20)[:, None]
    assert torch.equal(nearest_neighbours(z, 3).index, nearest_neighbours(scaled, 3).index)


@pytest.mark.parametrize(
    ("z", "no_neighbours", "bank", "words"),
    [
        (torch.ones(10, 2), 10, None, ["train.no_neighbours=10", "among 10", "at most 9", "at least 11"]),
        (torch.ones(10, 2), 6, torch.ones(5, 2), ["train.no_neighbours=6", "among 5", "at most 5"]),
        (torch.ones(10, 2), 0, None, ["train.no_neighbours=0", "1 or more"]),
        (torch.tensor([[1.0, 2], [math.nan, 1], [0, 1]]), 1, None, ["1 of 3", "NaN"]),
        (torch.ones(3, 2), 1, torch.tensor([[math.inf, 1.0], [0, 1]]), ["1 of 2"]),
    ],
)
def test_a_mistake_says_the_numbers_and_the_key(z, no_neighbours, bank, words):
    with pytest.raises(UserError) as raised:
        nearest_neighbours(z, no_neighbours, bank)
    assert all(word in str(raised.value) for word in words), raised.value


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_neighbours_on_a_gpu_are_those_of_the_processor():
    z = torch.randn(500, 16, generator=torch.Generator().manual_seed(0))
    found = nearest_neighbours(z.cuda(), 5, block=10_000)
    assert found.index.is_cuda
    torch.testing.assert_close(found.similarity.cpu(), nearest_neighbours(z, 5).similarity, atol=1e-3, rtol=0)
