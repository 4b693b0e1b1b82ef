"""Singular values against numpy, effective ranks against closed forms, and what a collapse looks like."""

import math

import numpy as np
import pytest
import torch

from partial_equiv.errors import UserError
from partial_equiv.probes import PROBES
from partial_equiv.probes.spectrum import dead_dimensions, effective_rank, singular_values
from tests.probes.known_views import EQUI, Oracle, make_views


def test_singular_values_are_those_of_centred_rows():
    rows = torch.randn(40, 7, generator=torch.Generator().manual_seed(0)) * torch.logspace(0, -5, 7) + 3
    expected = np.linalg.svd(rows.double().numpy() - rows.double().numpy().mean(axis=0), compute_uv=False)
    np.testing.assert_allclose(singular_values(rows), expected, rtol=1e-4)
    assert len(singular_values(rows[:4])) == 3
    assert float(singular_values(rows[:4]).min()) > 1e-3  # the zero that centring makes is left out


@pytest.mark.parametrize("alive", [1, 3, 8])
def test_the_effective_rank_counts_equal_directions(alive):
    singular = torch.cat([torch.full((alive,), 2.5), torch.zeros(8 - alive)]).double()
    assert effective_rank(singular) == pytest.approx(alive)
    assert effective_rank(torch.zeros(4)) == 0
    assert effective_rank(torch.tensor([3.0, 1.0])) == pytest.approx(4 / 3**0.75)  # exp of the entropy of (3/4, 1/4)


def test_dead_dimensions():
    rows = torch.tensor([[0.0, 1.0, 5.0, 0.0], [1.0, 1.0, 5.00001, 1e-3]])
    assert dead_dimensions(rows) == 0.5


def test_each_space_is_measured_and_a_collapse_is_seen():
    test, oracle = make_views(12, 5), Oracle()
    numbers = PROBES["spectrum"](no_views=1000, test=test)(oracle, [])
    h = test.images_at(torch.arange(60)).flatten(1)
    expected = np.linalg.svd((h[:, -EQUI:] - h[:, -EQUI:].mean(0)).numpy(), compute_uv=False)
    shares = expected / expected.sum()
    wanted = math.exp(-(shares * np.log(shares)).sum())
    assert numbers["spectrum/effective_rank_embedding_z_equi"] == pytest.approx(wanted, rel=1e-4)
    assert numbers["spectrum/effective_rank_embedding"] == pytest.approx(
        numbers["spectrum/effective_rank_representation"]
    )
    assert {value for name, value in numbers.items() if "dead" in name} == {0.0}
    oracle.embeddings = lambda h: {"z": torch.ones_like(h[:, :3])}
    probe = PROBES["spectrum"](no_views=1000, test=test)
    numbers = probe(oracle, [])
    assert numbers["spectrum/dead_dims_embedding"] == 1
    assert numbers["spectrum/effective_rank_embedding"] == 0
    assert set(numbers) == {
        f"spectrum/{name}_{space}"
        for name in ("effective_rank", "dead_dims")
        for space in ("representation", "embedding")
    }
    curve = probe.artifacts()["spectrum.png"].axes[0].lines[1].get_ydata()
    np.testing.assert_allclose(curve, -8)


def test_without_embeddings_the_representation_is_measured_alone():
    oracle = Oracle()
    oracle.embeddings = lambda h: {}
    probe = PROBES["spectrum"](no_views=10, test=make_views(12, 5))
    assert probe.artifacts() == {}
    assert set(probe(oracle, [])) == {"spectrum/effective_rank_representation", "spectrum/dead_dims_representation"}


def test_too_few_views_are_refused():
    with pytest.raises(UserError, match=r"test.spectrum.no_views=1 is out of range"):
        PROBES["spectrum"](no_views=1, test=None)
