"""The maximum over tiles is torch's, gradient included, and keeps less for its backward pass."""

import pytest
import torch
from torch.nn import functional

from partial_equiv.convs.tiles import tile_maximum


def both(x, size):
    """Return (values, gradients of a fixed weighting) of ours and of torch's."""
    found = []
    for pool in (tile_maximum, functional.max_pool2d):
        leaf = x.clone().requires_grad_()
        out = pool(leaf, size)
        weights = torch.arange(out.numel(), dtype=out.dtype).reshape(out.shape).cos()
        (gradient,) = torch.autograd.grad((out * weights).sum(), leaf)
        found.append((out.detach(), gradient))
    return found


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("shape", [(2, 3, 8, 6), (1, 2, 7, 9), (2, 1, 6, 7)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_values_and_gradients_are_torchs_ties_included(size, shape, dtype):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    for case in (x, x.round(), torch.zeros_like(x)):
        ours, theirs = both(case, size)
        assert torch.equal(ours[0], theirs[0]) and torch.equal(ours[1], theirs[1])


def test_a_nan_is_handed_on():
    x = torch.zeros(1, 1, 4, 4)
    x[0, 0, 1, 0] = torch.nan
    assert tile_maximum(x.requires_grad_(), 2).isnan().sum() == 1


def test_what_is_kept_for_the_gradient_is_small():
    x = torch.randn(4, 8, 16, 16, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.nbytes) or t, lambda t: t):
        tile_maximum(x, 2)
    assert sum(kept) <= x.nbytes // 4


def test_gradients_are_those_of_finite_differences():
    x = torch.randn(1, 2, 4, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda values: tile_maximum(values, 2), x)
