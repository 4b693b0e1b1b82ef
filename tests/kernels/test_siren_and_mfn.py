"""SIREN, MLP and the multiplicative filter networks against loops written from their formulas."""

import math

import pytest
import torch
from torch import nn

from partial_equiv.convs import GroupConv, LiftingConv, PointwiseConv
from partial_equiv.groups import make_group
from partial_equiv.kernels import KERNELS, MLP, SIREN
from partial_equiv.sampling import make_sampler


def siren(in_features=3, out_features=6, no_hidden=8, no_layers=3, omega0=10.0, learn_omega0=False, weight_norm=False):
    return SIREN(
        in_features,
        out_features,
        no_hidden=no_hidden,
        no_layers=no_layers,
        omega0=omega0,
        learn_omega0=learn_omega0,
        weight_norm=weight_norm,
    )


def affine(linear, vector):
    """Return W x + b, entry by entry."""
    rows = zip(linear.weight.tolist(), linear.bias.tolist(), strict=True)
    return [sum(w * x for w, x in zip(row, vector, strict=True)) + bias for row, bias in rows]


@pytest.mark.parametrize("omega0", [1.0, 10.0])
@pytest.mark.parametrize("no_layers", [2, 4])
def test_siren_is_a_stack_of_sines(omega0, no_layers):
    kernel = siren(omega0=omega0, no_layers=no_layers).double()
    for layer in kernel.layers:
        nn.init.uniform_(layer.linear.bias, -0.1, 0.1)  # omega0 multiplies weights and bias
    point = [0.3, -0.7, 0.2]
    hidden = point
    for layer in kernel.layers:
        hidden = [math.sin(omega0 * a) for a in affine(layer.linear, hidden)]
    assert len(kernel.layers) == no_layers - 1
    assert kernel(torch.tensor(point).double()).tolist() == pytest.approx(affine(kernel.readout, hidden), rel=1e-5)


@pytest.mark.parametrize("omega0", [1.0, 10.0, 30.0])
def test_siren_starts_within_the_published_bounds(omega0):
    kernel = siren(in_features=4, no_hidden=200, out_features=300, omega0=omega0)
    inner = math.sqrt(6 / 200) / omega0
    weights = [(kernel.layers[0].linear, 1 / 4), (kernel.layers[1].linear, inner), (kernel.readout, inner)]
    for linear, bound in weights:
        assert 0.97 * bound < linear.weight.abs().max() <= bound
        assert linear.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)
        assert not linear.bias.any()


@pytest.mark.parametrize("no_layers", [2, 3, 5])
def test_a_learned_omega0_is_one_parameter_a_sine_layer(no_layers):
    fixed, learned = siren(no_layers=no_layers), siren(no_layers=no_layers, learn_omega0=True)
    count = [sum(p.numel() for p in kernel.parameters()) for kernel in (fixed, learned)]
    assert count[1] - count[0] == no_layers - 1
    names = [name for name, _ in learned.named_parameters() if name.endswith("omega0")]
    assert len(names) == no_layers - 1 and not any("omega0" in name for name, _ in fixed.named_parameters())
    assert [p.item() for name, p in learned.named_parameters() if name in names] == [10.0] * (no_layers - 1)


def test_a_learned_omega0_moves_the_kernel():
    kernel, points = siren(learn_omega0=True), torch.rand(9, 3)
    before = kernel(points).detach()
    kernel(points).square().sum().backward()
    assert all(layer.omega0.grad.abs().item() > 0 for layer in kernel.layers)
    kernel.layers[1].omega0.data.mul_(1.5)
    assert not torch.allclose(kernel(points), before)
    assert type(kernel.layers[0]).roles == {"omega0": "omega0"}


def convolutions(make_kernel):
    """Return the three convolutions with kernels of their own."""
    group = make_group("SE2")
    sampler = make_sampler(group=group, no_samples=4)
    return {
        "lifting": LiftingConv(2, 3, size=3, group=group, make_kernel=make_kernel, sampler=sampler),
        "group": GroupConv(2, 3, size=3, group=group, make_kernel=make_kernel, sampler=sampler, no_samples=4),
        "pointwise": PointwiseConv(2, 3, group=group, make_kernel=make_kernel, no_samples=4),
    }


def linear_layers(kernel):
    return [*(layer.linear for layer in kernel.layers), kernel.readout]


@pytest.mark.parametrize("kind", ["lifting", "group", "pointwise"])
def test_weight_norm_reaches_every_layer_of_every_convolution(kind):
    plain, normed = (convolutions(lambda i, o, w=w: siren(i, o, weight_norm=w))[kind].kernel for w in (False, True))
    count = [sum(p.numel() for p in kernel.parameters()) for kernel in (plain, normed)]
    rows = [linear.weight.shape[0] for linear in linear_layers(plain)]
    assert count[1] - count[0] == sum(rows), "one length for every row of every weight"
    for linear in linear_layers(normed):
        learned = {p.shape[1]: p for name, p in linear.named_parameters() if name != "bias"}
        before = linear.weight.detach().clone()
        directions, lengths = learned[before.shape[1]], learned[1]
        directions.data.mul_(2)
        assert torch.allclose(linear.weight, before, atol=1e-6), "the length of a direction says nothing"
        lengths.data.mul_(2)
        assert torch.allclose(linear.weight, 2 * before, atol=1e-6)


def test_mlp_is_linear_layers_and_activations():
    kernel = MLP(3, 2, no_hidden=5, no_layers=3, norm=None, activation="Tanh").double()
    linears = [layer for layer in kernel.layers if isinstance(layer, nn.Linear)]
    hidden = point = [0.4, -0.2, 0.9]
    for linear in linears:
        hidden = [math.tanh(a) for a in affine(linear, hidden)]
    assert len(linears) == 2
    assert kernel(torch.tensor(point).double()).tolist() == pytest.approx(affine(kernel.readout, hidden))


def test_mlp_batch_norm_is_over_all_points():
    kernel = MLP(3, 2, no_hidden=5, no_layers=2, norm="BatchNorm", activation="Tanh").double()
    points = torch.randn(2, 3, 4, 3, dtype=torch.float64)
    linear = kernel.layers[0]
    flat = torch.stack([torch.tensor(affine(linear, p)) for p in points.reshape(-1, 3).tolist()]).double()
    normed = (flat - flat.mean(0)) / (flat.var(0, unbiased=False) + 1e-5).sqrt()
    assert torch.allclose(kernel.features(points).reshape(-1, 5), normed.tanh(), atol=1e-6)


def filter_values(module, point, window):
    """Return sin(W x + b), times exp(-1/2 sum_c (gamma_c (x_c - mu_c))^2) where there is a window."""
    wave = module if window == "none" else module.wave
    values = [math.sin(a) for a in affine(wave.linear, point)]
    if window == "none":
        return values
    for h, value in enumerate(values):
        gammas = module.gamma[h].tolist()
        gammas = gammas if window == "anisotropic" else gammas * len(point)
        assert len(gammas) == len(point)
        exponent = sum((g * (x - m)) ** 2 for g, x, m in zip(gammas, point, module.mu[h].tolist(), strict=True))
        values[h] = math.exp(-0.5 * exponent) * value
    return values


@pytest.mark.parametrize(("name", "window"), [("Fourier", "none"), ("Gabor", "isotropic"), ("MAGNet", "anisotropic")])
@pytest.mark.parametrize("no_layers", [1, 3])
def test_multiplicative_filter_networks_follow_their_recursion(name, window, no_layers):
    kernel = KERNELS[name](3, 4, no_hidden=5, no_layers=no_layers).double()
    assert len(kernel.filters) == no_layers + 1 and len(kernel.linears) == no_layers
    points = torch.rand(6, 3, dtype=torch.float64) * 2 - 1
    for point, found in zip(points.tolist(), kernel(points), strict=True):
        z = filter_values(kernel.filters[0], point, window)
        for module, linear in zip(list(kernel.filters)[1:], kernel.linears, strict=True):
            z = [f * a for f, a in zip(filter_values(module, point, window), affine(linear, z), strict=True)]
        assert found.tolist() == pytest.approx(affine(kernel.readout, z), abs=1e-9)


@pytest.mark.parametrize("name", ["Gabor", "MAGNet"])
def test_the_window_is_right_in_single_precision_next_to_its_centre(name):
    kernel = KERNELS[name](2, 1, no_hidden=64, no_layers=1)
    module = kernel.filters[0]
    module.gamma.data.fill_(12.0)
    points = module.mu.detach() + 0.01
    exact = torch.exp(-0.5 * ((12.0 * (points[:, None] - module.mu[None]).double()) ** 2).sum(-1))
    found = module(points) / module.wave(points)
    assert torch.allclose(found.double(), exact, atol=1e-4)


@pytest.mark.parametrize(("name", "shapes"), [("Gabor", [(4000, 1)] * 4), ("MAGNet", [(4000, 3)] * 4)])
def test_windows_start_from_their_published_law(name, shapes):
    kernel = KERNELS[name](3, 1, no_hidden=4000, no_layers=3)
    for index, (module, shape) in enumerate(zip(kernel.filters, shapes, strict=True)):
        concentration = 6 / (index + 1) if name == "MAGNet" else 6 / 4
        assert module.gamma.shape == shape and module.mu.shape == (4000, 3)
        assert module.gamma.mean().item() == pytest.approx(concentration, rel=0.08)
        assert module.gamma.var().item() == pytest.approx(concentration, rel=0.2)
        assert module.mu.abs().max() <= 1 and module.mu.std().item() == pytest.approx(1 / math.sqrt(3), rel=0.03)
        bound = 256 / math.sqrt(4) / math.sqrt(3)
        assert (module.wave.linear.weight.abs() <= bound * module.gamma + 1e-6).all()


@pytest.mark.parametrize("no_layers", [1, 3])
def test_filters_without_a_window_start_from_their_published_law(no_layers):
    kernel = KERNELS["Fourier"](3, 1, no_hidden=4000, no_layers=no_layers)
    bound = 256 / math.sqrt(no_layers + 1) / math.sqrt(3)
    for module in kernel.filters:
        assert module.linear.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.03)
        assert module.linear.bias.std().item() == pytest.approx(math.pi / math.sqrt(3), rel=0.03)
    for linear in kernel.linears:
        assert linear.weight.abs().max() <= 1 / math.sqrt(4000)
