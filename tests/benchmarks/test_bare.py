"""The bare convolutions of a pass are those that it makes, and their work is counted right."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.bare import CONVOLUTIONS, NORMS, evaluate_bare, flops, record, train_bare


@pytest.fixture
def network():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 4, 5, stride=2, groups=2),
        nn.Flatten(1),
    )


def test_every_convolution_is_recorded_as_it_was_called(network):
    images = torch.randn(2, 3, 9, 9)
    calls = record(lambda: network(images))
    assert [call.shape for call in calls] == [(2, 8, 9, 9), (2, 4, 3, 3)]
    assert torch.equal(calls[0](), network[0](images))
    with torch.no_grad():
        expected = network[:4](images)
    assert torch.allclose(calls[1](), expected)
    assert [call.args[0].requires_grad for call in calls] == [False, True]  # as in a training


def test_norms_are_recorded_too_once_each_and_without_copies_nothing_is_held(network):
    calls = record(lambda: network(torch.randn(2, 3, 9, 9)), (*CONVOLUTIONS, *NORMS), copies=False)
    assert [call.function.__name__ for call in calls] == ["conv2d", "batch_norm", "conv2d"]
    assert {call.args[0].device.type for call in calls} == {"meta"}


def test_training_runs_give_the_gradients_of_the_convolutions_alone(network):
    calls = record(lambda: network(torch.randn(2, 3, 9, 9)))
    train_bare(calls)()
    values, weight = calls[1].args[:2]
    out = functional.conv2d(
        values.detach(), (alone := weight.detach().clone().requires_grad_()), calls[1].args[2], 2, 0, 1, 2
    )
    out.backward(out.detach())
    assert torch.allclose(weight.grad, alone.grad, atol=1e-5)
    assert calls[0].args[0].grad is None and values.grad is not None
    evaluate_bare(calls)()


def test_under_autocast_the_copies_are_in_half_precision(network):
    with torch.autocast("cpu", torch.bfloat16):
        calls = record(lambda: network(torch.randn(2, 3, 9, 9)), (*CONVOLUTIONS, *NORMS))
    assert [call.args[0].dtype for call in calls] == [torch.bfloat16, torch.bfloat16, torch.bfloat16]
    assert calls[0]().dtype == torch.bfloat16


def test_work_is_counted_as_torch_counts_it():
    conv = nn.Conv2d(6, 8, 3, padding=1)
    images = torch.randn(2, 6, 7, 7, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        conv(images).sum().backward()
    assert flops(record(lambda: conv(images))) == counter.get_total_flops()


def test_groups_and_missing_gradients_make_less_work():
    grouped = nn.Conv2d(6, 8, 3, padding=1, groups=2)  # 3 inputs for each output
    forward = 2 * (2 * 8 * 7 * 7) * (3 * 3 * 3)
    images = torch.randn(2, 6, 7, 7)
    assert flops(record(lambda: grouped(images))) == 2 * forward  # forward, and the gradient of the weight
    assert flops(record(lambda: grouped(images.requires_grad_()))) == 3 * forward
