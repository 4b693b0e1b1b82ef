"""Means over ragged batches against a plain computation, and modes that are put back."""

from typing import ClassVar, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from partial_equiv.objectives import Objective, Step
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


def test_probes_run_in_evaluation_without_gradients():
    seen = []

    def probe(model, loader):
        seen.append((model.training, torch.is_grad_enabled(), len(list(loader))))
        return {"a": 1.0}

    model = nn.Linear(1, 1)
    assert run_probes(model, batches(), {"a": probe, "b": probe}) == {"a": 1.0}
    assert seen == [(False, False, 2)] * 2
    assert model.training
