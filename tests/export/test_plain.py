"""Plain networks say what their originals say, and hold nothing of this library."""

import copy

import pytest
import torch
from torch import nn

from partial_equiv import UserError, build
from partial_equiv.convs import ContinuousConv, CosetPool, GConv2d
from partial_equiv.export import CONVERTERS, compare, modules, networks, to_plain
from partial_equiv.groups import make_group
from partial_equiv.kernels import Kernel
from partial_equiv.nets import CKResNet, SymmetryNet
from partial_equiv.sampling import Sampler, random_draws, samplers, set_hard_gates
from tests.export.networks import CONTINUOUS, SPECS, facts_of, images_of, made
from tests.nets.specs import D4, GCNN, INTERVAL, SUBSET, make_spec
from tests.nets.symmetry_specs import symmetry_spec
from tests.oracles import load_escnn

OWN = {cls for cls in vars(modules).values() if isinstance(cls, type) and issubclass(cls, nn.Module)} - {SymmetryNet}
FACTORIZED = {
    f"{name} {factors}": make_spec({"conv.factorization": factors}, start=CONTINUOUS[name])
    for name in (
        "SE2",
        "SE2 interval",
        "SE2 ceil",
        "E2 random",
        "D4 gates",
        "LayerNorm gates",
        "last T2 gates",
        "even kernel",
        "GCNN E2 interval",
        "Augerino E2",
        "split E2 interval",
        "symmetry",
    )
    for factors in ("g", "gc")
}
FAST = (*SPECS, "SE2 g", "SE2 ceil gc", "D4 gates gc", "GCNN E2 interval g")
FAST_SINGLE = ("T2", "SE2 interval", "E2 random gc", "split", "D4 gates g", "GConvNet D4")
LONG = ("symmetry published", "full kernel", "GResNet D4", "GResNet C2", "GResNet 7x7")
FOREIGN = (ContinuousConv, Kernel, GConv2d, Sampler)
EXACT = {torch.float32: 1e-5, torch.float64: 1e-12}


def each(fast):
    """Run over all networks; those that are not named take part in the long tests alone."""
    specs = {**SPECS, **FACTORIZED}
    marks = {name: [] if name in fast and not name.startswith(LONG) else [pytest.mark.long] for name in specs}
    return pytest.mark.parametrize("spec", [pytest.param(s, id=n, marks=marks[n]) for n, s in specs.items()])


def same(model, plain, images):
    wanted, found = model(images), plain(images)
    assert found.shape == wanted.shape
    torch.testing.assert_close(found, wanted, rtol=EXACT[images.dtype], atol=EXACT[images.dtype])


def check(spec, dtype):
    """Compare the plain form of a network with it on batches of 1 and 5, and look at what it is made of."""
    model = made(spec, dtype)
    plain = to_plain(model, *facts_of(spec))
    for batch in (1, 5):
        same(model, plain, images_of(spec, batch, dtype))
    for module in plain.modules():
        listed = type(module).__module__.startswith("torch.nn.") or type(module) in OWN
        assert listed or spec["net"]["type"] == "SplitEncoder", type(module)
        assert not isinstance(module, FOREIGN)
    assert not plain.training


@torch.no_grad()
@each(FAST)
def test_a_plain_network_says_the_same(spec):
    check(spec, torch.float64)


@torch.no_grad()
@each(FAST_SINGLE)
def test_a_plain_network_of_single_precision_says_the_same(spec):
    check(spec, torch.float32)


def test_its_filters_are_turned_copies_of_one_another():
    spec = make_spec({"base_group.name": "C4"})
    first, second = [m for m in to_plain(made(spec), *facts_of(spec)).modules() if isinstance(m, nn.Conv2d)][:2]
    lifted = first.weight.unflatten(0, (4, 4))  # [O, G, I, V, U]
    mixed = second.weight.unflatten(0, (4, 4)).unflatten(2, (4, 4))  # [O, G, I, F, V, U]
    for turns in range(4):
        torch.testing.assert_close(lifted[:, turns], lifted[:, 0].rot90(turns, (-2, -1)), rtol=0, atol=1e-14)
        turned = mixed[:, 0].roll(turns, dims=2).rot90(turns, (-2, -1))
        torch.testing.assert_close(mixed[:, turns], turned, rtol=0, atol=1e-14)
    assert (lifted[:, 0] - lifted[:, 1]).abs().max() > 0.01


class ByHand(nn.Module):
    """A lifting and a group convolution of C4, each filter turned by torch.rot90, and the maximum over elements."""

    def __init__(self, lifting, group):
        super().__init__()
        self.lifting, self.group = lifting, group

    def forward(self, x):
        turned = [nn.functional.conv2d(x, self.lifting.weight[:, :, 0].rot90(a, (-2, -1)), padding=1) for a in range(4)]
        f = torch.relu(torch.stack(turned, 2) + self.lifting.bias[:, None, None, None])
        fields = []
        for a in range(4):  # (f * w)(x, a) = sum_h f(., h) * R_a w(., a^-1 h)
            filters = [self.group.weight[:, :, (h - a) % 4].rot90(a, (-2, -1)) for h in range(4)]
            fields.append(sum(nn.functional.conv2d(f[:, :, h], filters[h]) for h in range(4)))
        return (torch.stack(fields, 2) + self.group.bias[:, None, None, None]).amax(2)


@torch.no_grad()
def test_it_says_what_filters_turned_by_hand_say():
    group = make_group("C4")
    lifting = GConv2d(group, 2, 3, 3, in_rep="trivial", padding=1)
    net = nn.Sequential(lifting, nn.ReLU(), GConv2d(group, 3, 2, 4), CosetPool("max")).double()
    for conv in (net[0], net[2]):
        conv.bias.copy_(torch.randn_like(conv.bias))
    plain = to_plain(net, 2, (9, 9))
    x = torch.randn(3, 2, 9, 9, dtype=torch.float64)
    torch.testing.assert_close(plain(x), ByHand(net[0], net[2])(x), rtol=0, atol=1e-12)
    assert [type(m) for m in plain if not isinstance(m, nn.ReLU)][:2] == [nn.Conv2d, nn.Conv2d]


@torch.no_grad()
@pytest.mark.parametrize("change", [SUBSET, {**INTERVAL, "base_group.name": "E2"}], ids=["D4", "E2"])
def test_hard_gates_take_elements_out(change):
    spec = make_spec(D4, change)
    model = made(spec)
    for seed, sampler in enumerate(s for s in samplers(model) if s.gates is not None):
        sampler.gates.copy_(
            torch.linspace(-1, 1, len(sampler.gates)) if len(sampler.gates) > 1 else [1.0, -1.0][seed % 2]
        )
    soft = to_plain(model, *facts_of(spec))
    set_hard_gates(model, True)
    hard = to_plain(model, *facts_of(spec))
    same(model, hard, images_of(spec, 3))
    kept, whole = (sum(p.numel() for p in net.parameters()) for net in (hard, soft))
    assert kept < 0.6 * whole
    names = {type(module).__name__ for module in hard.modules()}
    assert not names & {"WeightedNorm", "Scale"} and "WeightedNorm" in {type(m).__name__ for m in soft.modules()}


@torch.no_grad()
def test_the_original_and_the_random_numbers_stay_as_they_were():
    spec = make_spec(INTERVAL)
    model = made(spec, torch.float32).train()
    before, drawn = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    model.lifting_norm.eval()
    modes = [module.training for module in model.modules()]
    plain = to_plain(model, *facts_of(spec))
    assert [module.training for module in model.modules()] == modes and True in modes and False in modes
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), drawn)
    for tensor in plain.state_dict().values():
        tensor.zero_()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_it_is_copied_saved_and_trained_as_any_network():
    spec = make_spec(GCNN, {"net.norm": "BatchNorm"})
    plain = to_plain(made(spec, torch.float32), *facts_of(spec))
    images = images_of(spec, 3, torch.float32)
    twin = copy.deepcopy(plain)
    other = to_plain(made(spec, torch.float32, seed=1), *facts_of(spec))
    assert not torch.allclose(other(images), plain(images), atol=1e-3)
    other.load_state_dict(plain.state_dict())
    assert torch.equal(twin(images), plain(images)) and torch.equal(other(images), plain(images))
    plain.train()(images).square().sum().backward()
    assert all(parameter.grad is not None for parameter in plain.parameters())


def test_it_is_as_equivariant_as_its_original():
    model = made(make_spec(D4))
    exact = compare(model, to_plain(model, 2, (12, 12)), images_of(make_spec(D4), 4))
    assert exact.group == "D4" and max(exact.error, exact.plain_error) < 1e-9
    spec = make_spec(D4, SUBSET)
    model = made(spec)
    partial = compare(model, to_plain(model, 2, (12, 12)), images_of(spec, 4))
    assert partial.error > 0.01 and partial.plain_error == pytest.approx(partial.error, rel=1e-9)


def test_a_wrong_network_is_noticed(monkeypatch):
    spec = make_spec({"base_group.name": "C4"})
    model, true = made(spec, torch.float32), CONVERTERS[CKResNet]

    def with_fault(fault):
        def convert(net, field):
            part = true(net, field)
            fault([module for module in part.module.modules() if isinstance(module, nn.Conv2d)][1])
            return part

        monkeypatch.setitem(networks.CONVERTERS, CKResNet, convert)

    with_fault(lambda conv: conv.weight.data[0].mul_(1.01))
    with pytest.raises(UserError, match=r"differs from its original by [\d.e-]+, at most 1e-05 is rounding in float32"):
        to_plain(model, *facts_of(spec))
    monkeypatch.setattr("partial_equiv.export.agreement.largest_difference", lambda *_: 0.0)
    with pytest.raises(UserError, match=r"equivariance error of [\d.e-]+ under C4 and its original [\d.e-]+"):
        to_plain(model, *facts_of(spec))


class Mine(CKResNet):
    """A network whose forward pass nobody here knows."""


def test_what_cannot_be_is_said():
    spec = make_spec(INTERVAL)
    model = made(spec, torch.float32)
    with random_draws(model), pytest.raises(UserError, match="draws its elements in evaluation too"):
        to_plain(model, *facts_of(spec))
    with pytest.raises(UserError, match=r"torch.bfloat16: export it in float32 or float64, with model.float\(\)"):
        to_plain(copy.deepcopy(model).bfloat16(), *facts_of(spec))
    model.__class__ = Mine
    with pytest.raises(UserError, match=r"Mine \(with GroupConv, IntervalSampler, .*\) has no plain form"):
        to_plain(model, *facts_of(spec))
    with pytest.raises(UserError, match="Mine .* has no plain form"):
        to_plain(nn.Sequential(nn.Identity(), model), *facts_of(spec))


@pytest.mark.long  # its import takes seconds
def test_layers_of_another_library_are_refused():
    load_escnn()
    spec = symmetry_spec(net__encoder="escnn", net__widths=[2])
    with pytest.raises(UserError, match="EscnnEncoder .* has no plain form: give a network of partial_equiv.build"):
        to_plain(build(spec).eval(), *facts_of(spec))


def test_a_network_of_torch_alone_is_taken_as_it_is():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(1), nn.Linear(2 * 9, 3))
    plain = to_plain(net, 1, (5, 5))
    x = torch.randn(2, 1, 5, 5)
    assert torch.equal(plain(x), net(x)) and plain[0] is not net[0]
