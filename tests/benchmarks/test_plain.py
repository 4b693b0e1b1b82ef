"""The plain networks that ours are measured against have the same convolutions."""

import pytest
import torch

from benchmarks.bare import record
from benchmarks.jobs import PUBLISHED, make_job
from benchmarks.plain import PlainCKResNet

SMALL = ("net.no_hidden=2", "kernel.no_hidden=4", "base_group.no_samples=4")


@pytest.mark.parametrize("factors", ["full", "gc"])
def test_the_plain_network_makes_the_convolutions_of_the_published_one(factors):
    job = make_job(PUBLISHED, *SMALL, f"conv.factorization={factors}", batch_size=2)
    plain = PlainCKResNet(no_elements=4, factors=factors, no_hidden=2)
    images = torch.randn(2, 1, 28, 28)
    job.model.train()
    ours, theirs = (record(lambda net=net: net(images), copies=False) for net in (job.model, plain))

    def kinds(calls):
        return sorted((*call.args[1].shape, *call.shape) for call in calls)

    assert kinds(ours) == kinds(theirs)


def test_the_plain_network_learns():
    torch.manual_seed(0)
    plain = PlainCKResNet(no_elements=2, factors="gc", no_hidden=2, size=3)
    assert plain(torch.randn(3, 1, 28, 28)).shape == (3, 10)
    plain(torch.randn(3, 1, 28, 28)).square().mean().backward()
    assert all(parameter.grad is not None for parameter in plain.parameters())
