"""Every kernel of the menu: shapes, precision, and the scale that convolutions rely on."""

import copy
import functools
import pickle

import pytest
import torch
from torch import nn

from partial_equiv.errors import UserError
from partial_equiv.kernels import KERNELS, Kernel, normalise_

SIREN_KEYS = {"omega0": 10.0, "learn_omega0": False, "weight_norm": False}
# Name -> menu entry and the keys besides no_hidden and no_layers.
CASES = {
    "SIREN": ("SIREN", SIREN_KEYS),
    "SIREN learned": ("SIREN", SIREN_KEYS | {"learn_omega0": True}),
    "SIREN weight norm": ("SIREN", SIREN_KEYS | {"weight_norm": True}),
    "MLP": ("MLP", {"norm": None, "activation": None}),
    "MLP LayerNorm": ("MLP", {"norm": "LayerNorm", "activation": "Swish"}),
    "MLP BatchNorm": ("MLP", {"norm": "BatchNorm", "activation": "ReLU"}),
    "Fourier": ("Fourier", {}),
    "Gabor": ("Gabor", {}),
    "MAGNet": ("MAGNet", {}),
}
SMOOTH = [case for case in CASES if case != "MLP BatchNorm"]  # point by point: no statistics over points


def make(case, in_features=3, out_features=6, no_hidden=8, no_layers=3, **keys):
    name, given = CASES[case]
    return KERNELS[name](in_features, out_features, no_hidden=no_hidden, no_layers=no_layers, **(given | keys))


def grid(no_points=20, in_features=3, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    return (2 * torch.rand(no_points, in_features, generator=generator, dtype=torch.float64) - 1).to(dtype)


def test_the_menu_is_covered():
    assert {name for name, _ in CASES.values()} == set(KERNELS)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("leading", [(5,), (2, 3, 4), (1, 1, 7)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shapes_and_finite_values(case, leading, dtype):
    kernel = make(case).to(dtype)
    points = grid(int(torch.tensor(leading).prod()), dtype=dtype).reshape(*leading, 3)
    values = kernel(points)
    assert isinstance(kernel, Kernel) and isinstance(kernel.readout, nn.Module)
    assert values.shape == (*leading, 6) and values.dtype == dtype and values.isfinite().all()
    assert kernel.features(points).shape == (*leading, 8)


@pytest.mark.parametrize("case", CASES)
def test_values_are_a_linear_layer_of_the_features(case):
    kernel, points = make(case).double(), grid(dtype=torch.float64)
    features = kernel.features(points)
    expected = torch.stack([kernel.readout.weight @ row + kernel.readout.bias for row in features])
    assert torch.allclose(kernel(points), expected)


@pytest.mark.parametrize("case", CASES)
def test_both_precisions_agree(case):
    kernel = make(case)
    twin = copy.deepcopy(kernel).double()
    values, exact = kernel(grid()), twin(grid().double())
    assert torch.allclose(values.double(), exact, atol=2e-3 * exact.detach().abs().max().item())


@pytest.mark.parametrize("case", SMOOTH)
def test_each_point_has_its_value_whatever_comes_with_it(case):
    kernel, points = make(case).double(), grid(dtype=torch.float64)
    one_by_one = torch.cat([kernel(point.unsqueeze(0)) for point in points])
    assert torch.allclose(kernel(points), one_by_one, atol=1e-10)


@pytest.mark.parametrize("case", CASES)
def test_every_parameter_gets_a_gradient(case):
    kernel = make(case)
    kernel(grid()).square().sum().backward()
    for name, parameter in kernel.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.any() or name == "mu", name


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("in_features", [1, 2, 5])
def test_normalise_gives_a_mean_square_of_one(case, in_features):
    kernel, points = make(case, in_features=in_features).double(), grid(40, in_features, torch.float64)
    before = kernel(points).detach()
    normalise_(kernel, points)
    after = kernel(points)
    assert after.square().mean().item() == pytest.approx(1, rel=1e-9)
    assert torch.allclose(after * before.square().mean().sqrt(), before, rtol=1e-6), "one factor for all values"
    assert all(p.requires_grad and p.is_leaf for p in kernel.parameters())


@pytest.mark.parametrize("case", ["SIREN", "SIREN weight norm"])
def test_normalise_leaves_a_kernel_that_is_zero_finite(case):
    kernel, points = make(case, in_features=2), torch.zeros(1, 2)  # sin(0) = 0: a kernel of one pixel
    normalise_(kernel, points)
    kernel(points).sum().backward()
    for name, parameter in kernel.named_parameters():
        assert parameter.abs().max() < 1e6 and parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("case", CASES)
def test_copies_and_pickles_agree(case):
    kernel, points = make(case), grid()
    kernel(points)
    kernel.eval()
    expected = kernel(points)
    fresh = make(case).eval()
    fresh.load_state_dict(kernel.state_dict())
    for twin in (copy.deepcopy(kernel), pickle.loads(pickle.dumps(kernel)), fresh):
        assert torch.equal(twin(points), expected)


@pytest.mark.parametrize("case", CASES)
def test_the_seed_decides_the_kernel(case):
    kernels = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        kernels.append(make(case)(grid()))
    assert torch.equal(kernels[0], kernels[1]) and not torch.equal(kernels[0], kernels[2])


@pytest.mark.parametrize(
    ("case", "keys", "words"),
    [
        ("SIREN", {"no_layers": 1}, ["kernel.no_layers=1", "2 or more"]),
        ("SIREN", {"omega0": 0.0}, ["kernel.omega0=0.0", "above 0"]),
        ("SIREN", {"omega0": -3.0}, ["kernel.omega0=-3.0", "above 0"]),
        ("MLP", {"no_layers": 1}, ["kernel.no_layers=1", "2 or more"]),
        ("MLP", {"activation": "Relu"}, ["kernel.activation='Relu'", "did you mean 'ReLU'"]),
        ("Fourier", {"no_layers": 0}, ["kernel.no_layers=0", "1 or more"]),
        ("Gabor", {"no_layers": 0}, ["kernel.no_layers=0", "1 or more"]),
        ("MAGNet", {"no_layers": 0}, ["kernel.no_layers=0", "1 or more"]),
    ],
)
def test_impossible_choices_are_told(case, keys, words):
    with pytest.raises(UserError) as caught:
        make(case, **keys)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_scientific_choices_have_no_default():
    with pytest.raises(TypeError, match="no_hidden"):
        functools.partial(KERNELS["Fourier"], 2, 3)()
