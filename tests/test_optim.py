"""Roles and groups against the networks, decay against torch's AdamW, projection and the order of parameters."""

import copy

import pytest
import torch
from torch import nn

import optim
from partial_equiv import UserError


class Sampler(nn.Module):
    """Stands for any module that declares roles."""

    roles = {"level": "levels", "gates": "gates"}  # noqa: RUF012

    def __init__(self):
        super().__init__()
        self.level = nn.Parameter(torch.ones(()))
        self.gates = nn.Parameter(torch.ones(3))
        self.mix = nn.Parameter(torch.ones(2, 2))


class Sine(nn.Module):
    roles = {"omega0": "omega0"}  # noqa: RUF012

    def __init__(self):
        super().__init__()
        self.omega0 = nn.Parameter(torch.full((1,), 10.0))
        self.linear = nn.Linear(2, 3)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.sampler, self.sine, self.norm = Sampler(), Sine(), nn.BatchNorm1d(3)
        self.head = nn.Linear(3, 2)


def groups_of(model, **changes):
    rates = {"lr": 0.1, "lr_probs": 0.01, "lr_omega0": 0.001, "weight_decay": 0.5} | changes
    return optim.parameter_groups(model, **rates)


def test_every_parameter_has_one_role_and_a_stable_place():
    model = Net()
    assert list(optim.parameter_roles(model)) == [name for name, _ in model.named_parameters()]
    groups = {group["role"]: group for group in groups_of(model)}
    assert {role: group["names"] for role, group in groups.items()} == {
        "decayed": ["sampler.mix", "sine.linear.weight", "head.weight"],
        "rest": ["sine.linear.bias", "norm.weight", "norm.bias", "head.bias"],
        "levels": ["sampler.level"],
        "gates": ["sampler.gates"],
        "omega0": ["sine.omega0"],
    }
    assert {role: (group["lr"], group["weight_decay"]) for role, group in groups.items()} == {
        "decayed": (0.1, 0.5),
        "rest": (0.1, 0.0),
        "levels": (0.01, 0.0),
        "gates": (0.01, 0.0),
        "omega0": (0.001, 0.0),
    }
    assert [group["names"] for group in groups_of(Net())] == [group["names"] for group in groups_of(model)]


def test_null_rates_are_the_rate():
    assert {group["lr"] for group in groups_of(Net(), lr_probs=None, lr_omega0=None)} == {0.1}


def train(optimizer, model, no_steps=20):
    torch.manual_seed(1)
    x, y = torch.randn(16, 4), torch.randn(16, 2)
    for _ in range(no_steps):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
    return [parameter.detach().clone() for parameter in model.parameters()]


def torch_groups(model, decay):
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    return [{"params": matrices, "weight_decay": decay}, {"params": vectors, "weight_decay": 0.0}]


@pytest.mark.parametrize("name", ["Adam", "AdamW"])
def test_adam_decays_as_torchs_adamw_does(name):
    ours = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    theirs = copy.deepcopy(ours)
    mine = optim.make_optimizer(name, groups_of(ours, lr=0.01), {"momentum": None, "nesterov": None})
    other = torch.optim.AdamW(torch_groups(theirs, 0.5), lr=0.01)
    for a, b in zip(train(mine, ours), train(other, theirs), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "make", "choices"), [("Adam", torch.optim.Adam, {}), ("SGD", torch.optim.SGD, {"momentum": 0.9})]
)
def test_coupled_decay_is_torchs_own_and_spares_no_parameter(name, make, choices):
    ours = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    theirs = copy.deepcopy(ours)
    mine = optim.make_optimizer(name, groups_of(ours, lr=0.01, coupled=True), choices)
    other = make(theirs.parameters(), lr=0.01, weight_decay=0.5, **choices)
    for a, b in zip(train(mine, ours), train(other, theirs), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_a_part_that_is_trained_apart_is_in_no_group():
    names = {name for group in groups_of(Net(), without="sine") for name in group["names"]}
    assert names == {name for name, _ in Net().named_parameters() if not name.startswith("sine.")}


def test_lars_adapts_matrices_alone_where_decay_is_decoupled():
    optimizer = optim.make_optimizer("LARS", groups_of(Net()), {"momentum": 0.9, "eta": 0.001})
    assert {group["role"] for group in optimizer.param_groups if group["adapt"]} == {"decayed"}


def test_sgd_decays_apart_from_the_gradient():
    ours = nn.Linear(4, 2)
    theirs = copy.deepcopy(ours)
    mine = optim.make_optimizer("SGD", groups_of(ours, lr=0.1), {"momentum": 0.9, "nesterov": True})
    other = torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    torch.manual_seed(1)
    x, y = torch.randn(16, 4), torch.randn(16, 2)
    for _ in range(10):
        for optimizer, model in ((mine, ours), (other, theirs)):
            optimizer.zero_grad()
            nn.functional.mse_loss(model(x), y).backward()
        with torch.no_grad():
            theirs.weight.mul_(1 - 0.1 * 0.5)
        mine.step()
        other.step()
    torch.testing.assert_close(ours.weight, theirs.weight)
    torch.testing.assert_close(ours.bias, theirs.bias)


@pytest.mark.parametrize("name", ["Adam", "SGD"])
@pytest.mark.parametrize("direction", [1.0, -1.0])
def test_levels_stay_in_their_interval_and_gates_do_not(name, direction):
    model = Net()
    optimizer = optim.make_optimizer(name, groups_of(model, lr_probs=0.4), {})
    for _ in range(6):
        optimizer.zero_grad()
        (direction * (model.sampler.level + model.sampler.gates.sum())).backward()
        optimizer.step()
        assert 0 <= float(model.sampler.level.detach()) <= 1
    assert float(model.sampler.level.detach()) == (0.0 if direction > 0 else 1.0)
    assert (model.sampler.gates.detach() < 0).all() if direction > 0 else (model.sampler.gates.detach() > 1).all()


def test_all_groups_scale_together():
    optimizer = optim.make_optimizer("Adam", groups_of(Net()), {})
    optim.scale_rates(optimizer, 0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [0.025, 0.025, 0.0025, 0.0025, 0.00025]
    optim.scale_rates(optimizer, 1.0)
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.1, 0.01, 0.01, 0.001]


@pytest.mark.parametrize(
    ("name", "choices", "words"),
    [
        ("Adma", {}, "did you mean 'Adam'"),
        ("SGD", {"momentum": 1.5}, "momentum=1.5"),
        ("SGD", {"momentum": None, "nesterov": True}, "needs a momentum"),
        ("SGD", {"momentun": 0.9}, "did you mean 'momentum'"),
        ("SGD", {"momentum": "much"}, "give a number"),
    ],
)
def test_a_wrong_optimiser_is_answered(name, choices, words):
    with pytest.raises(UserError, match=words):
        optim.make_optimizer(name, groups_of(Net()), choices)
