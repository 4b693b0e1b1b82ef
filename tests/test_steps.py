"""A step never waits for the device: losses that leave the numbers are gated there, and told one step later."""

import copy
import re
import traceback
from typing import ClassVar, NamedTuple

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from objective_constructor import Stage
from optim import gated_step, make_optimizer, parameter_groups, scale_rates
from partial_equiv import UserError
from partial_equiv.objectives import Objective, Step
from schedules import Law
from steps import Look, Steps
from tester import Averages
from tests.covering import CHOICES, Case, covering, make_stage
from trainer import train_epoch

OPTIMIZERS = {
    "Adam": {},
    "SGD": {"momentum": 0.9, "nesterov": True},
    "LARS": {"momentum": 0.9, "eta": 0.01},
}
NO = torch.zeros((), dtype=torch.bool)


class Levelled(nn.Module):
    """Matrices, a bias, and a level that a step would push out of [0, 1]."""

    roles: ClassVar = {"level": "levels"}

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 2)
        self.level = nn.Parameter(torch.tensor(0.999))


def with_gradients(model, seed, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = scale * torch.randn(parameter.shape, generator=generator)
    model.level.grad.fill_(-5.0)


def make(name, model, weight_decay=0.1):
    groups = parameter_groups(model, lr=0.05, lr_probs=None, lr_omega0=None, weight_decay=weight_decay)
    return make_optimizer(name, groups, OPTIMIZERS[name])


def everything(model, optimizer):
    state = {
        f"{index}/{key}": value.clone()
        for index, entries in enumerate(optimizer.state.values())
        for key, value in entries.items()
        if isinstance(value, torch.Tensor)
    }
    return state | {name: value.detach().clone() for name, value in model.named_parameters()}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


# --- The gate -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_open_gate_is_the_step_itself_and_a_shut_one_changes_no_bit(name):
    model = Levelled()
    twin = copy.deepcopy(model)
    gated, plain = make(name, model), make(name, twin)
    for seed in range(3):
        with_gradients(model, seed)
        with_gradients(twin, seed)
        gated_step(gated, NO)
        plain.step()
        assert same(everything(model, gated), everything(twin, plain))
    before = everything(model, gated)
    for spoiled in (float("nan"), float("inf"), 1.0):
        with_gradients(model, 7, spoiled)
        gated_step(gated, ~NO)
        assert same(before, everything(model, gated))
    with_gradients(model, 8)
    with_gradients(twin, 8)
    gated_step(gated, NO)
    plain.step()
    assert same(everything(model, gated), everything(twin, plain))
    assert float(model.level.detach()) == 1.0  # pushed out, and projected


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_gate_that_was_shut_at_the_first_step_leaves_a_fresh_optimiser(name):
    model = Levelled()
    twin = copy.deepcopy(model)
    gated, plain = make(name, model), make(name, twin)
    with_gradients(model, 1, float("nan"))
    gated_step(gated, ~NO)
    assert all(not bool(value.any()) for key, value in everything(model, gated).items() if "/" in key)
    with_gradients(model, 2)
    with_gradients(twin, 2)
    gated_step(gated, NO)
    plain.step()
    assert same(everything(model, gated), everything(twin, plain))


# --- The flag -----------------------------------------------------------------------------------------------------


class Falls(Objective):
    """|w|^2, whose loss, gradient or watching heads leave the numbers at one step."""

    monitor, mode = "loss", "min"

    def __init__(self, at, what):
        super().__init__()
        self.weight, self.head = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2))
        self.at, self.what, self.seen, self.kept = at, what, 0, []

    def forward(self, batch):
        self.kept.append((self.weight.detach().clone(), self.head.detach().clone()))
        self.seen += 1
        loss, extra = self.weight.square().sum(), self.head.square().sum()
        if self.seen == self.at:
            nan = {"loss": loss * float("nan"), "heads": loss}
            # The root of 0 has a derivative of infinity: the loss is finite, its gradient is not.
            loss = nan.get(self.what, loss + (self.weight - self.weight.detach()).abs().sqrt().sum())
            extra = extra * float("inf") if self.what == "heads" else extra
        return Step(loss, {}, 4, extra)


class Images(NamedTuple):
    """A batch of one entry, which the objective does not look at."""

    images: torch.Tensor


class Four(list):
    """Four batches, in the same order at every epoch."""

    def set_epoch(self, epoch):
        pass


FOUR = Four([Images(torch.zeros(1))] * 4)


def falling(at, what, accumulate=1, clip=None, name="SGD"):
    objective = Falls(at, what)
    options = {"SGD": {"momentum": 0.9}, "Adam": {}}[name]

    def group(parameter, own):
        common = {"role": "rest", "lr": 0.01, "peak_lr": 0.01, "weight_decay": 0.0, "coupled": False}
        return make_optimizer(name, [{"params": [parameter], "names": [own], **common}], options)

    optimizers = (group(objective.weight, "weight"), group(objective.head, "head"))
    law = Law(lambda step: 0.5)
    return Stage("s", objective, optimizers, law, 2, 1, 4, clip, "float32", None, {}, accumulate, ())


@pytest.mark.parametrize("name", ["SGD", "Adam"])
@pytest.mark.parametrize(("accumulate", "clip"), [(1, None), (2, None), (1, 1.0), (3, 1.0)])
@pytest.mark.parametrize("what", ["loss", "gradient", "heads"])
@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_what_is_not_finite_changes_nothing_and_is_told_one_step_later(at, what, accumulate, clip, name):
    stage = falling(at, what, accumulate, clip, name)
    objective = stage.objective
    # A gradient is known when it is whole: with the last of the accumulated batches.
    told = min(-(-at // accumulate) * accumulate, 4) if what == "gradient" else at
    words = "heads that watch is not finite any more" if what == "heads" else "gradient is not finite any more"
    with pytest.raises(UserError, match=rf"{words} \(epoch 3, step {told}\b"):
        train_epoch(Steps(stage, torch.device("cpu")), FOUR, 0, None)
    assert objective.seen == min(told + 1, 4)
    good = objective.kept[at - 1]  # what the step met whose numbers are none
    parameters = (objective.weight, objective.head)
    stopped, going = (1, 0) if what == "heads" else (0, 1)
    assert torch.equal(parameters[stopped], good[stopped])
    assert bool(parameters[going].isfinite().all())
    assert torch.equal(parameters[going], objective.kept[0][going]) == (objective.seen < min(accumulate, 4))


def test_the_message_says_rate_and_remedy():
    with pytest.raises(
        UserError, match=re.escape("(epoch 3, step 2, lr 0.005): lower train.lr, or set train.gradient_")
    ):
        train_epoch(Steps(falling(2, "loss"), torch.device("cpu")), FOUR, 0, None)


def test_a_healthy_epoch_gives_the_means_of_its_steps():
    stage = falling(0, "loss")
    means = train_epoch(Steps(stage, torch.device("cpu")), FOUR, 0, None)
    losses = [float(weight.double().square().sum()) for weight, _ in stage.objective.kept]
    assert len(losses) == 4 and means == {"loss": pytest.approx(sum(losses) / 4, rel=1e-6)}


# --- Nothing waits ------------------------------------------------------------------------------------------------

WAITS = {
    "_local_scalar_dense",
    "equal",
    "is_nonzero",
    "item",
    "masked_select",
    "nonzero",
    "_unique",
    "_unique2",
    "unique_consecutive",
    "unique_dim",
    "unique_dim_consecutive",
    "lift_fresh",  # torch.tensor of Python numbers, which an accelerator is sent, and waited for
}
BY_VALUE = {"index", "index_put", "index_put_", "_index_put_impl_", "repeat_interleave"}


class NoWaiting(TorchDispatchMode):
    """Refuses what makes the host wait for a device: values that decide shapes, values that are read, copies to it."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.partition("::")[2]
        if name in WAITS or (name in BY_VALUE and decides(func, args)):
            raise AssertionError(f"{name} waits for the device:\n" + "".join(traceback.format_stack(limit=12)))
        return func(*args, **(kwargs or {}))


def decides(func, args):
    """Say whether values of a tensor decide a shape: a mask as an index, or counts of repetitions."""
    if "repeat_interleave" in str(func):
        return func._overloadname == "Tensor" and len(args) > 0
    return any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1])


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: float(x.sum()),
        lambda x: bool((x > 0).any()),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: x.tolist(),
        lambda x: torch.equal(x, x),
        lambda x: torch.unique(x),
        lambda x: x + torch.tensor([1.0, 2.0]),
        lambda x: torch.masked_select(x, x > 0),
        lambda x: x.repeat_interleave((x > 0).long()),
    ],
    ids=["float", "bool", "mask", "nonzero", "tolist", "equal", "unique", "constant", "select", "repeat"],
)
def test_the_watch_sees_what_waits(wait):
    with pytest.raises(AssertionError, match="waits for the device"), NoWaiting():
        wait(torch.tensor([0.5, -0.5]))


def one_step(stage, batch, step=0):
    """Take one step as the trainer does, up to the look that is read a step later."""
    steps, averages = Steps(stage, batch.images.device), Averages()
    stage.objective.set_progress(0.3 + step / 100)
    stage.objective.set_step(step)
    scale_rates(stage.optimizer, 0.7)
    averages.add(steps.take(batch, 0, 1))
    return Look(steps, averages, 1, 0.1)


@pytest.mark.long
@pytest.mark.parametrize("case", covering(), ids=str)
def test_no_step_waits_for_the_device(case):
    stage, batch = make_stage(case, "train.gradient_clip=1")
    one_step(stage, batch)  # what is made once may be sent
    with NoWaiting():
        look = one_step(stage, batch)
    assert look.means(1)["loss"] > -1e9


@pytest.mark.parametrize("optimizer", ["SGD", "LARS"])
def test_no_other_optimiser_waits(optimizer):
    more = ["train.optimizer_params={momentum: 0.9}"] if optimizer == "SGD" else []
    more += ["+train.optimizer_params={momentum: 0.9, eta: 0.001}"] if optimizer == "LARS" else []
    stage, batch = make_stage(Case("CKResNet", "E2", "interval", "full"), f"train.optimizer={optimizer}", *more)
    one_step(stage, batch)
    with NoWaiting():
        one_step(stage, batch)


def test_the_published_count_waits_as_its_docstring_says():
    from partial_equiv.sampling import IntervalSampler

    assert "waits for the device" in IntervalSampler.__doc__
    stage, batch = make_stage(Case("CKResNet", "SE2", "interval", "full"), "base_group.count=ceil")
    one_step(stage, batch)
    with pytest.raises(AssertionError, match="published_count"), NoWaiting():
        one_step(stage, batch)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("case", covering(), ids=str)
def test_no_step_waits_for_a_gpu(case):
    stage, batch = make_stage(case, "train.gradient_clip=1", device="cuda")
    one_step(stage, batch)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        look = one_step(stage, batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert look.means(1)["loss"] > -1e9


def test_the_cases_show_every_choice():
    for position, choices in enumerate(CHOICES.values()):
        assert {case[position] for case in covering()} == set(choices)
