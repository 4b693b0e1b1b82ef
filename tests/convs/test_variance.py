"""Initialisation keeps the variance: white input of variance 1 gives output of variance near 1 at interior pixels.

The variance of an output, given a kernel, is the sum of the squares of its dense weights; one test checks that against
white noise, the others use it.
"""

import functools
import itertools

import pytest
import torch

from partial_equiv.convs import GroupConv, GroupFeatureMap, LiftingConv, PointwiseConv
from partial_equiv.groups import make_group
from partial_equiv.kernels import KERNELS
from partial_equiv.sampling import Sample, make_sampler

NO_INITS = 64
SIREN_KEYS = {"omega0": 10.0, "learn_omega0": False, "weight_norm": False}
KINDS = {
    "SIREN": ("SIREN", SIREN_KEYS),
    "SIREN 30": ("SIREN", SIREN_KEYS | {"omega0": 30.0}),
    "SIREN weight norm": ("SIREN", SIREN_KEYS | {"weight_norm": True}),
    "MLP": ("MLP", {"norm": None, "activation": None}),
    "MLP LayerNorm": ("MLP", {"norm": "LayerNorm", "activation": None}),
    "MLP BatchNorm": ("MLP", {"norm": "BatchNorm", "activation": None}),
    "Fourier": ("Fourier", {}),
    "Gabor": ("Gabor", {}),
    "MAGNet": ("MAGNet", {}),
}
CONVS = ("lifting", "group", "pointwise")


def kernel_of(kind, no_hidden=16):
    name, keys = KINDS[kind]
    return functools.partial(KERNELS[name], no_hidden=no_hidden, no_layers=3, **keys)


def elements_at(name, number, level):
    """Return the elements that evaluation uses at a level; a finite group has its grid."""
    group = make_group(name)
    if not group.continuous:
        return group.grid(number).unsqueeze(0)
    sampler = make_sampler(group=group, no_samples=number, sampling_method="random", partial_equiv=True).eval()
    sampler.level.data.fill_(level)
    return sampler(1).elements


def fresh(conv, kind, channels, name, number, size, angle="circle"):
    group = make_group(name)
    common = {"group": group, "make_kernel": kernel_of(kind), "angle": angle}
    if conv == "lifting":
        return LiftingConv(*channels, size=size, sampler=make_sampler(group=group, no_samples=number), **common)
    if conv == "group":
        return GroupConv(*channels, size=size, sampler=None, no_samples=number, **common)
    return PointwiseConv(*channels, no_samples=number, **common)


def at(layer, x, elements):
    """Return the layer's features at `elements`, its input's elements the same."""
    lifting = isinstance(layer, LiftingConv)
    return layer.at(x if lifting else GroupFeatureMap(x, elements), Sample(elements))


@torch.no_grad()
def variance(conv, kind, channels, name, number, size, level, angle="circle"):
    """Return the mean variance of the output over initialisations, output channels and elements."""
    elements, found = elements_at(name, number, level), []
    shape = (1, channels[0], size, size) if conv == "lifting" else (1, channels[0], elements.shape[1], size, size)
    for seed in range(NO_INITS):
        torch.manual_seed(seed)
        layer = fresh(conv, kind, channels, name, number, size, angle)
        layer.kernel_hook.register_forward_hook(
            lambda m, i, weight: found.append(weight.double().square().sum((1, 2, 3)))
        )
        at(layer, torch.zeros(shape), elements)
    return torch.stack(found).mean().item()


@pytest.mark.parametrize("conv", CONVS)
@pytest.mark.parametrize("kind", ["SIREN", "MAGNet"])
def test_the_sum_of_squares_is_the_variance_of_white_noise(conv, kind):
    layer, elements, seen = fresh(conv, kind, (3, 2), "SE2", 4, 5), elements_at("SE2", 4, 0.3), []
    layer.kernel_hook.register_forward_hook(lambda m, i, weight: seen.append(weight.square().sum((1, 2, 3))))
    shape = (200, 3, 12, 12) if conv == "lifting" else (200, 3, 4, 12, 12)
    with torch.no_grad():
        out = at(layer, torch.randn(shape), elements).values[..., 2:-2, 2:-2]
    empirical = out.var(dim=(0, 3, 4)).T.flatten()  # element, channel: the order of the weight's rows
    assert torch.allclose(empirical, seen[0], rtol=0.08)


def check(conv, kind, channels, name, number, size, level, angle="circle"):
    found = variance(conv, kind, channels, name, number, size, level, angle)
    assert 0.5 < found < 2, f"variance {found:.3f}"


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("conv", "number", "level"),
    [(conv, *case) for conv in CONVS for case in ((8, 1.0), (8, 0.3), (1, 1.0)) if conv != "lifting" or case[1] == 1.0],
)
def test_every_kernel_keeps_the_variance(conv, kind, number, level):
    check(conv, kind, (6, 5), "SE2", number, 5, level)


@pytest.mark.parametrize("conv", ["group", "pointwise"])
@pytest.mark.parametrize("name", ["T2", "E2", "D4"])
def test_every_group_keeps_the_variance(conv, name):
    check(conv, "SIREN", (3, 4), name, 1 if name == "T2" else 8, 3, 0.3)


@pytest.mark.parametrize("level", [1.0, 0.3])
def test_published_angles_keep_the_variance(level):
    check("group", "SIREN", (3, 4), "SE2", 8, 5, level, angle="linear")


@pytest.mark.parametrize("size", [3, 7, "same", "full"])
def test_sizes_that_follow_the_map_keep_the_variance(size):
    """Where the side is known only with the map, the scale is measured on a kernel of 7 pixels."""
    found = []
    for seed in range(NO_INITS):
        torch.manual_seed(seed)
        layer = fresh("lifting", "SIREN", (3, 4), "SE2", 4, size)
        layer.kernel_hook.register_forward_hook(lambda m, i, weight: found.append(weight.square().sum((1, 2, 3))))
        with torch.no_grad():
            at(layer, torch.zeros(1, 3, 13, 13), elements_at("SE2", 4, 1.0))
    assert 0.5 < torch.stack(found).mean().item() < 2


GRID = [
    (conv, kind, channels, number, size, level)
    for conv, kind, channels, number, size, level in itertools.product(
        CONVS, KINDS, [(1, 8), (16, 3)], [1, 4, 8, 16], [3, 5, 7], [1.0, 0.3]
    )
    # Lifting has no level, pointwise kernels no size, and one element is the identity at every level.
    if (conv != "lifting" or level == 1.0) and (conv != "pointwise" or size == 3) and (number > 1 or level == 1.0)
]


@pytest.mark.long
@pytest.mark.parametrize(("conv", "kind", "channels", "number", "size", "level"), GRID)
def test_the_whole_grid_keeps_the_variance(conv, kind, channels, number, size, level):
    check(conv, kind, channels, "SE2", number, size, level)


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", [2, 8, 16])
@pytest.mark.parametrize("level", [1.0, 0.3])
@pytest.mark.parametrize("angle", ["circle", "linear"])
def test_mirrored_groups_keep_the_variance(kind, number, level, angle):
    check("group", kind, (4, 4), "E2", number, 5, level, angle)
