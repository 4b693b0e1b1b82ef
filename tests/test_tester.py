"""Means over ragged batches against a plain computation, and modes that are put back."""

from typing import ClassVar, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from partial_equiv.objectives import Objective, Step
from partial_equiv.probes import Probe
from tester import Averages, evaluate, run_probes


class Numbers(NamedTuple):
    values: Tensor


class Mean(Objective):
    monitor: ClassVar[str] = "top"
    mode: ClassVar = "max"

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.modes = []

    def forward(self, batch):
        self.modes.append((self.training, torch.is_grad_enabled()))
        return Step(self.scale * batch.values.mean(), {"top": batch.values.max()}, len(batch.values))


def batches():
    return [Numbers(torch.tensor([1.0, 2.0, 3.0])), Numbers(torch.tensor([10.0]))]


def test_ragged_batches_average_by_their_size():
    objective = Mean()
    found = evaluate(objective, batches())
    assert found == {"loss": (1 + 2 + 3 + 10) / 4, "top": (3 * 3.0 + 10.0) / 4}
    assert objective.modes == [(False, False)] * 2
    assert objective.training
    assert torch.is_grad_enabled()


def test_a_trial_run_stops_early():
    assert evaluate(Mean(), batches(), max_steps=1)["loss"] == 2.0


def test_the_mode_is_put_back_after_a_failure():
    objective = Mean()
    with pytest.raises(AttributeError):
        evaluate(objective, [Numbers(torch.ones(2)), (torch.ones(1),)])
    assert objective.training


def test_averages_of_many_small_losses_keep_their_digits():
    averages = Averages()
    for _ in range(1000):
        averages.add(Step(torch.tensor(0.1), {}, 64))
    assert averages.means()["loss"] == pytest.approx(float(torch.tensor(0.1)), rel=1e-12)


def test_a_metric_that_some_steps_have_is_averaged_over_those():
    averages = Averages()
    averages.add(Step(torch.tensor(1.0), {"seldom": torch.tensor(4.0)}, 2))
    averages.add(Step(torch.tensor(4.0), {}, 1))
    assert averages.means() == {"loss": 2.0, "seldom": 4.0}


def test_probes_run_in_evaluation_without_gradients():
    seen = []

    class Seeing(Probe):
        def __call__(self, model, loader):
            seen.append((model, model.training, torch.is_grad_enabled(), len(list(loader))))
            return {"a": 1.0}

    class SeeingAll(Seeing):
        whole = True

    objective = Mean()
    objective.model = nn.Linear(1, 1)
    assert run_probes(objective, batches(), {"a": Seeing(), "b": SeeingAll()}) == {"a": 1.0}
    assert seen == [(objective.model, False, False, 2), (objective, False, False, 2)]
    assert objective.training and objective.model.training
