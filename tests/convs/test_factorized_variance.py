"""Factorised convolutions keep the variance of white inputs at initialisation, like full ones.

The variance of an output, given the kernels, is the sum of the squares of its dense weights; one test checks that
against white noise, the others use it.
"""

import itertools

import pytest
import torch

from partial_equiv.convs import GroupFeatureMap
from partial_equiv.sampling import Sample
from tests.convs.dense import make_conv, run_filters
from tests.convs.test_variance import KINDS, elements_at, kernel_of

NO_SEEDS = 20
FEW = ("SIREN", "MLP", "MAGNet")
CONVS = [("lifting", "gc"), ("group", "g"), ("group", "gc")]
each_conv = pytest.mark.parametrize(("conv", "factorization"), CONVS)


def fresh(conv, factorization, kind, channels, name, number, size, angle="circle"):
    keys = {"make_kernel": kernel_of(kind), "angle": angle, "dtype": torch.float32, "fresh": True}
    return make_conv(conv, factorization, name, number, size, channels, **keys)


@torch.no_grad()
def squares(conv, factorization, kind, channels, name, number, size, level=1.0, angle="circle", seed=0):
    """Return the sum of the squares of the dense weight of each output channel and element."""
    torch.manual_seed(seed)
    layer = fresh(conv, factorization, kind, channels, name, number, size, angle)
    elements = elements_at(name, number, level)
    sample = Sample(elements)
    inputs = None if conv == "lifting" else sample
    side = 13 if isinstance(size, str) else size
    layer.train("BatchNorm" in kind)
    filters = layer.filters(sample, inputs, (side, side))
    # Every dense weight is one product of factors, so squared factors applied to ones add the squares up.
    squared = [f._replace(weight=f.weight.double().square(), bias=None, padding=0, stride=1) for f in filters]
    taps, no_columns = (
        max(f.weight.shape[-1] for f in filters),
        channels[0] * (1 if inputs is None else len(elements[0])),
    )
    return run_filters(squared, torch.ones(1, no_columns, taps, taps, dtype=torch.float64)).flatten()


def mean_variance(*args, seeds=NO_SEEDS, **keys):
    return torch.stack([squares(*args, seed=seed, **keys).mean() for seed in range(seeds)]).mean().item()


def check(*args, **keys):
    found = mean_variance(*args, **keys)
    assert 0.5 < found < 2, f"variance {found:.3f}"


@each_conv
@pytest.mark.parametrize("kind", ["SIREN", "MAGNet"])
def test_the_sum_of_squares_is_the_variance_of_white_noise(conv, factorization, kind):
    args = (conv, factorization, kind, (3, 2), "SE2", 4, 5)
    expected = squares(*args, level=0.3 if conv == "group" else 1.0)
    torch.manual_seed(0)
    layer, elements = fresh(*args), elements_at("SE2", 4, 0.3 if conv == "group" else 1.0)
    values = torch.randn((200, 3, 12, 12) if conv == "lifting" else (200, 3, 4, 12, 12))
    x = values if conv == "lifting" else GroupFeatureMap(values, elements)
    with torch.no_grad():
        out = layer.at(x, Sample(elements)).values[..., 2:-2, 2:-2]
    assert torch.allclose(out.double().var(dim=(0, 3, 4)).flatten(), expected, rtol=0.08)


@each_conv
@pytest.mark.parametrize("kind", [pytest.param(kind, marks=[] if kind in FEW else pytest.mark.long) for kind in KINDS])
@pytest.mark.parametrize(("number", "level"), [(8, 1.0), (8, 0.3), (1, 1.0)])
def test_every_kernel_keeps_the_variance(conv, factorization, kind, number, level):
    if conv != "lifting" or level == 1.0:
        check(conv, factorization, kind, (6, 5), "SE2", number, 5, level)


@each_conv
@pytest.mark.parametrize("name", ["T2", "E2", "D4"])
def test_every_group_keeps_the_variance(conv, factorization, name):
    check(conv, factorization, "SIREN", (3, 4), name, 1 if name == "T2" else 8, 3, 0.3 if conv == "group" else 1.0)


@pytest.mark.parametrize("factorization", ["g", "gc"])
@pytest.mark.parametrize("level", [1.0, 0.3])
def test_published_angles_keep_the_variance(factorization, level):
    check("group", factorization, "SIREN", (3, 4), "SE2", 8, 5, level, angle="linear")


@each_conv
@pytest.mark.parametrize("size", [3, 7, "same", "full"])
def test_sizes_that_follow_the_map_keep_the_variance(conv, factorization, size):
    check(conv, factorization, "SIREN", (3, 4), "SE2", 4, size)


@each_conv
@pytest.mark.parametrize(("channels", "number", "size"), [((16, 16), 4, 5), ((4, 24), 8, 3), ((8, 16), 8, 7)])
def test_the_mean_over_initialisations_is_one(conv, factorization, channels, number, size):
    """The factors are drawn apart, so that the mean of their product's square is the product of their means: 1."""
    found = mean_variance(
        conv, factorization, "SIREN", channels, "C4" if number == 4 else "SE2", number, size, seeds=20
    )
    assert found == pytest.approx(1, abs=0.06)


GRID = [
    (*conv, kind, channels, number, size, level)
    for conv, kind, channels, number, size, level in itertools.product(
        CONVS, KINDS, [(1, 8), (16, 3)], [1, 4, 16], [3, 7], [1.0, 0.3]
    )
    if (conv[0] != "lifting" or level == 1.0) and (number > 1 or level == 1.0)
]


@pytest.mark.long
@pytest.mark.parametrize(("conv", "factorization", "kind", "channels", "number", "size", "level"), GRID)
def test_the_whole_grid_keeps_the_variance(conv, factorization, kind, channels, number, size, level):
    check(conv, factorization, kind, channels, "SE2", number, size, level)


@pytest.mark.long
@pytest.mark.parametrize("factorization", ["g", "gc"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", [2, 8, 16])
@pytest.mark.parametrize("level", [1.0, 0.3])
@pytest.mark.parametrize("angle", ["circle", "linear"])
def test_mirrored_groups_keep_the_variance(factorization, kind, number, level, angle):
    check("group", factorization, kind, (4, 4), "E2", number, 5, level, angle)
