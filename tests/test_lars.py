"""LARS against lightly's, against its equation, and in the hands of our groups and checkpoints."""

import copy

import pytest
import torch
from torch import nn

import optim
from checkpointer import load_optimizer
from lars import LARS
from partial_equiv import UserError


def toy():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 2))


def groups_of(model, decay=0.1, lr=0.5, **extra):
    matrices = [parameter for parameter in model.parameters() if parameter.ndim >= 2]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim < 2]
    return [
        {"params": matrices, "weight_decay": decay, "lr": lr, **extra},
        {"params": vectors, "weight_decay": 0.0, "lr": lr / 2},
    ]


def train(optimizer, model, no_steps=12):
    torch.manual_seed(1)
    x, y = torch.randn(16, 4), torch.randn(16, 2)
    for _ in range(no_steps):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
    return [parameter.detach().clone() for parameter in model.parameters()]


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.9, False), (0.9, True), (0.0, False)])
def test_it_steps_as_lightlys_does(momentum, nesterov):
    theirs = pytest.importorskip("lightly.utils.lars", reason="lightly is absent: make oracle").LARS
    model, other = toy(), toy()
    mine = LARS(groups_of(model), eta=0.02, momentum=momentum, nesterov=nesterov)
    reference = theirs(groups_of(other), lr=1.0, trust_coefficient=0.02, momentum=momentum, nesterov=nesterov)
    start = [parameter.detach().clone() for parameter in toy().parameters()]
    trained = train(mine, model)
    for ours, expected, before in zip(trained, train(reference, other), start, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)
        assert (ours - before).abs().max() > 1e-3 or before.shape == (8,)  # biases before a norm do not move


def test_one_step_is_the_equation():
    weight = nn.Parameter(torch.tensor([[3.0, 4.0]]))
    weight.grad = torch.tensor([[0.0, 2.0]])
    LARS([{"params": [weight], "lr": 0.5, "weight_decay": 0.2}], eta=0.01, momentum=0.9).step()
    trust = 0.01 * 5 / (2 + 0.2 * 5)
    expected = torch.tensor([[3 - 0.5 * trust * 0.6, 4 - 0.5 * trust * 2.8]])
    torch.testing.assert_close(weight.detach(), expected)


@pytest.mark.parametrize(("adapt", "decay"), [(True, 0.0), (False, 0.3)])
def test_a_group_may_say_whether_it_adapts(adapt, decay):
    weight = nn.Parameter(torch.tensor([3.0, 4.0]))
    weight.grad = torch.tensor([0.0, 2.0])
    group = {"params": [weight], "lr": 1.0, "weight_decay": decay, "adapt": adapt}
    LARS([group], eta=0.01, momentum=0.0).step()
    trust = 0.01 * 5 / 2 if adapt else 1.0
    expected = torch.tensor([3 - trust * decay * 3, 4 - trust * (2 + decay * 4)])
    torch.testing.assert_close(weight.detach(), expected)


@pytest.mark.parametrize(("weight", "gradient"), [(0.0, 1.0), (1.0, 0.0), (0.0, 0.0)])
def test_where_trust_says_nothing_the_gradient_decides(weight, gradient):
    parameter = nn.Parameter(torch.full((2, 2), weight))
    parameter.grad = torch.full((2, 2), gradient)
    LARS([{"params": [parameter], "lr": 0.1, "weight_decay": 0.5}], eta=0.01, momentum=0.9).step()
    torch.testing.assert_close(parameter.detach(), torch.full((2, 2), weight - 0.1 * gradient))


def test_it_takes_our_groups_and_comes_back_from_a_checkpoint():
    model = toy()
    rates = {"lr": 0.5, "lr_probs": None, "lr_omega0": None, "weight_decay": 0.1}
    mine = LARS(optim.parameter_groups(model, **rates), eta=0.02, momentum=0.9)
    assert {group["role"]: group["adapt"] for group in mine.param_groups} == {"decayed": True, "rest": False}
    train(mine, model, 3)
    tensors = dict(optim.named_tensors(mine))
    assert set(tensors) == {f"{name}/momentum_buffer" for name, _ in model.named_parameters()}
    twin = copy.deepcopy(model)
    other = LARS(optim.parameter_groups(twin, **rates), eta=0.02, momentum=0.9)
    load_optimizer(other, {name: tensor.clone() for name, tensor in tensors.items()})
    for a, b in zip(train(mine, model, 3), train(other, twin, 3), strict=True):
        assert torch.equal(a, b)


def test_a_parameter_without_a_gradient_stays_and_a_closure_is_called():
    used, unused = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2, 2))
    optimizer = LARS([{"params": [used, unused], "lr": 0.1, "weight_decay": 0.5}], eta=0.01, momentum=0.9)

    def closure():
        optimizer.zero_grad()
        loss = used.sum()
        loss.backward()
        return loss

    assert float(optimizer.step(closure).detach()) == 4
    assert torch.equal(unused.detach(), torch.ones(2, 2)) and not torch.equal(used.detach(), torch.ones(2, 2))


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"eta": 0.0, "momentum": 0.9}, "eta=0.0 is not above 0"),
        ({"eta": 0.1, "momentum": 1.0}, "momentum=1.0 is outside"),
        ({"eta": 0.1, "momentum": 0.0, "nesterov": True}, "needs a momentum"),
    ],
)
def test_a_number_out_of_range_is_answered(choices, words):
    with pytest.raises(UserError, match=words):
        LARS(groups_of(toy()), **choices)
