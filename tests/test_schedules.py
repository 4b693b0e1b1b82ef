"""Schedules against torch's own and against closed forms."""

import math
import warnings

import pytest
import torch

import schedules
from partial_equiv import UserError


def torch_rates(make, no_steps, lr, values=None):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    scheduler = make(optimizer)
    rates = []
    for step in range(no_steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step(*([] if values is None else [values[step]]))
    return rates


def facts(**changes):
    return {"lr": 0.1, "epochs": 10, "steps_per_epoch": 4, "mode": "max"} | changes


def test_cosine_with_warm_up_equals_torchs_chain():
    ours = schedules.make_schedule("cosine", {"warmup_epochs": 2}, **facts())

    def chain(optimizer):
        rise = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1 / 9, total_iters=8)
        fall = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=32, eta_min=1e-6)
        return torch.optim.lr_scheduler.SequentialLR(optimizer, [rise, fall], milestones=[8])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's chain calls its own deprecated argument
        theirs = torch_rates(chain, 40, 0.1)
    assert [0.1 * ours.factor(step) for step in range(40)] == pytest.approx(theirs, rel=1e-9)


def test_the_first_step_learns_and_the_peak_is_the_rate():
    schedule = schedules.make_schedule("cosine", {"warmup_epochs": 1}, **facts())
    factors = [schedule.factor(step) for step in range(40)]
    assert factors[0] == 1 / 5
    assert max(factors) == factors[4] == 1.0
    assert factors[:5] == sorted(factors[:5])
    assert factors[4:] == sorted(factors[4:], reverse=True)
    assert schedule.factor(40) == pytest.approx(1e-6 / 0.1)


def test_cosine_without_warm_up_is_the_closed_form():
    schedule = schedules.make_schedule("cosine", {"warmup_epochs": None}, **facts(lr=1.0))
    for step in range(40):
        assert schedule.factor(step) == pytest.approx(1e-6 + (1 - 1e-6) * 0.5 * (1 + math.cos(math.pi * step / 40)))


def test_multistep_equals_torchs():
    ours = schedules.make_schedule("multistep", {"decay_steps": [7, 3], "decay_factor": 10.0}, **facts())
    theirs = torch_rates(lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [3, 7], gamma=0.1), 10, 0.1)
    assert [0.1 * ours.factor(4 * epoch + 3) for epoch in range(10)] == pytest.approx(theirs)


@pytest.mark.parametrize("mode", ["min", "max"])
def test_plateau_equals_torchs(mode):
    values = torch.rand(60, generator=torch.Generator().manual_seed(3)).cummax(0).values.round(decimals=1).tolist()
    values = values if mode == "max" else [1.1 - value for value in values]
    ours = schedules.make_schedule("plateau", {"decay_factor": 2.0, "patience": 2}, **facts(mode=mode))
    rates = []
    for value in values:
        rates.append(0.1 * ours.factor(0))
        ours.observe(value)
    theirs = torch_rates(
        lambda o: torch.optim.lr_scheduler.ReduceLROnPlateau(o, mode=mode, factor=0.5, patience=2, eps=0.0),
        60,
        0.1,
        values,
    )
    assert len(set(rates)) > 3
    assert rates == pytest.approx(theirs)


def test_a_plateau_goes_on_from_its_state():
    first, second = (
        schedules.make_schedule("plateau", {"decay_factor": 2.0, "patience": 0}, **facts()) for _ in range(2)
    )
    for value in (0.5, 0.4):
        first.observe(value)
    second.load(first.state())
    for value in (0.3, 0.6, 0.5):
        first.observe(value)
        second.observe(value)
        assert second.factor(0) == first.factor(0)


def test_a_warm_up_may_fill_the_training():
    schedule = schedules.make_schedule("cosine", {"warmup_epochs": 1}, **facts(epochs=1))
    assert [schedule.factor(step) for step in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


def test_a_key_of_another_schedule_is_left_alone():
    assert schedules.make_schedule(None, {"warmup_epochs": 5}, **facts()).factor(0) == 1.0


def test_no_schedule_is_constant():
    assert {schedules.make_schedule(None, {}, **facts()).factor(step) for step in range(40)} == {1.0}


@pytest.mark.parametrize(
    ("name", "choices", "words"),
    [
        ("cosin", {}, "did you mean 'cosine'"),
        ("cosine", {"warmup_epochs": -2}, "is negative"),
        ("cosine", {"warmup_epochs": 1.5}, "give an integer"),
        ("multistep", {"decay_factor": 10.0}, "decay_steps is missing"),
        ("multistep", {"decay_steps": [3], "decay_factor": 0.1}, "must be above 1"),
        ("plateau", {"decay_factor": 10.0, "patience": -3}, "is negative"),
        ("cosine", {"warmup_epoch": 1}, "did you mean 'warmup_epochs'"),
        (None, {"warmup_epoch": 1}, "did you mean 'warmup_epochs'"),
    ],
)
def test_a_wrong_schedule_is_answered(name, choices, words):
    with pytest.raises(UserError, match=words):
        schedules.make_schedule(name, choices, **facts())
