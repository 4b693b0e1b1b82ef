"""A step never waits for the device: losses that leave the numbers are gated there, and told one step later."""

import copy
import re
import traceback
from typing import ClassVar, NamedTuple

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from epoch import Epoch, NotFinite
from objective_constructor import Stage
from optim import gated_step, make_optimizer, parameter_groups, scale_rates
from partial_equiv import UserError
from partial_equiv.objectives import Objective, Step
from progress import Terminal
from schedules import Law
from steps import Look, Steps
from tester import Averages
from tests.covering import CHOICES, Case, covering, make_stage

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

    def set_epoch(self, epoch, first=0):
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
    stage = falling(at, what, accumulate, clip, name)._replace(max_nonfinite=1)
    objective = stage.objective
    # A step is known when its gradient is whole: with the last of the accumulated batches.
    told = min(-(-at // accumulate) * accumulate, 4)
    words = "heads that watch is not finite any more" if what == "heads" else "gradient is not finite any more"
    with pytest.raises(NotFinite, match=rf"{words} \(epoch 3, step {told}\b") as caught:
        one_epoch(stage)
    assert caught.value.steps == (() if what == "heads" else (told,))
    assert objective.seen == min(told + 1, 4)
    good = objective.kept[at - 1]  # what the step met whose numbers are none
    after = objective.kept[told] if objective.seen > told else (objective.weight, objective.head)
    stopped, going = (1, 0) if what == "heads" else (0, 1)
    assert torch.equal(after[stopped], good[stopped])
    assert bool(after[going].isfinite().all()) and not torch.equal(after[going], good[going])


def one_epoch(stage, **keys):
    return Epoch(Steps(stage, torch.device("cpu")), FOUR, 0, **keys).run(Terminal(0))


def test_the_message_says_rate_and_remedy():
    with pytest.raises(
        UserError, match=re.escape("(epoch 3, step 2, lr 0.005): lower train.lr, or set train.gradient_")
    ):
        one_epoch(falling(2, "loss")._replace(max_nonfinite=1))


def test_a_healthy_epoch_gives_the_means_of_its_steps():
    stage = falling(0, "loss")
    means = one_epoch(stage).means()
    losses = [float(weight.double().square().sum()) for weight, _ in stage.objective.kept]
    assert len(losses) == 4 and means == {"loss": pytest.approx(sum(losses) / 4, rel=1e-6)}


@pytest.mark.parametrize("at", [1, 2, 3, 4])
@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_step_that_is_left_out_is_as_if_it_had_not_been(at, what):
    """Weights, momentum and counters go the way of the three other steps; the mean is that of the finite losses."""
    stage = falling(at, what)
    partial = one_epoch(stage)
    assert (partial.skipped, partial.in_a_row) == ((at,), (int(at == 4), 0))
    twin = falling(0, "loss")
    Epoch(Steps(twin, torch.device("cpu")), Four(FOUR[:3]), 0).run(Terminal(0))
    assert torch.equal(stage.objective.weight, twin.objective.weight)
    finite = [float(weight.double().square().sum()) for weight, _ in stage.objective.kept]
    if what == "loss":
        del finite[at - 1]
    assert partial.means()["loss"] == pytest.approx(sum(finite) / len(finite), rel=1e-6)


def test_norms_remember_nothing_of_a_step_that_is_left_out():
    class Normed(Falls):
        def __init__(self):
            super().__init__(2, "loss")
            self.norm = nn.BatchNorm1d(3)

        def forward(self, batch):
            self.norm(batch.images.expand(2, 3) * torch.arange(1.0, 3.0)[:, None])
            return super().forward(batch)

    stage = falling(0, "loss")
    objective = Normed()
    groups = [
        {
            "params": [parameter],
            "names": [name],
            "role": "rest",
            "lr": 0.1,
            "peak_lr": 0.1,
            "weight_decay": 0.0,
            "coupled": False,
        }
        for name, parameter in (("weight", objective.weight), ("head", objective.head))
    ]
    optimizers = tuple(make_optimizer("SGD", [group], {"momentum": 0.9}) for group in groups)
    stage = stage._replace(objective=objective, optimizers=optimizers)
    batches = Four([Images(torch.full((1,), value)) for value in (1.0, float("nan"), 3.0)])
    Epoch(Steps(stage, torch.device("cpu")), batches, 0).run(Terminal(0))
    alone = nn.BatchNorm1d(3)
    for value in (1.0, 3.0):
        alone(torch.full((2, 3), value) * torch.arange(1.0, 3.0)[:, None])
    assert torch.equal(objective.norm.running_mean, alone.running_mean)
    assert torch.equal(objective.norm.running_var, alone.running_var)
    assert int(objective.norm.num_batches_tracked) == 2


def test_so_many_in_a_row_end_the_epoch_and_a_finite_one_between_does_not():
    class Often(Falls):
        def __init__(self, spoiled):
            super().__init__(0, "loss")
            self.spoiled = spoiled

        def forward(self, batch):
            step = super().forward(batch)
            return step._replace(loss=step.loss * (float("inf") if self.seen in self.spoiled else 1.0))

    def run(spoiled):
        stage, objective = falling(0, "loss"), Often(spoiled)
        group = {"role": "rest", "lr": 0.1, "peak_lr": 0.1, "weight_decay": 0.0, "coupled": False}
        optimizers = tuple(
            make_optimizer("SGD", [{"params": [parameter], "names": [name], **group}], {"momentum": 0.0})
            for name, parameter in (("weight", objective.weight), ("head", objective.head))
        )
        return one_epoch(stage._replace(objective=objective, optimizers=optimizers, max_nonfinite=2))

    assert run({1, 3}).skipped == (1, 3)
    with pytest.raises(NotFinite, match=r"in 2 steps in a row \(epoch 3, step 3\b") as caught:
        run({2, 3})
    assert caught.value.steps == (2, 3)


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
    steps, averages = Steps(stage, batch.images.device), Averages(finite_only=True)
    stage.objective.set_progress(0.3 + step / 100)
    stage.objective.set_step(step)
    scale_rates(stage.optimizer, 0.7)
    averages.add(steps.take(batch, 0, 1))
    return Look(steps, averages)


@pytest.mark.long
@pytest.mark.parametrize("case", covering(), ids=str)
def test_no_step_waits_for_the_device(case):
    stage, batch = make_stage(case, "train.gradient_clip=1")
    one_step(stage, batch)  # what is made once may be sent
    with NoWaiting():
        look = one_step(stage, batch)
    assert look.read().totals["loss"] > -1e9


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
    assert look.read().totals["loss"] > -1e9


def test_the_cases_show_every_choice():
    for position, choices in enumerate(CHOICES.values()):
        assert {case[position] for case in covering()} == set(choices)
