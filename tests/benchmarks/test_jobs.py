"""Jobs of the benchmarks: the network, objective and optimiser of a run, on a batch of noise."""

import pytest
import torch

from benchmarks.jobs import composed, make_job, random_batch_like
from benchmarks.networks import NETWORKS

TINY = ("net.no_hidden=2", "kernel.no_hidden=4", "base_group.no_samples=2")


def test_a_step_learns_and_an_evaluation_does_not():
    job = make_job(*TINY, batch_size=3)
    before = {name: value.clone() for name, value in job.model.state_dict().items()}
    logits = job.evaluation()
    assert logits.shape == (3, 10) and not logits.requires_grad and not job.model.training
    assert all(torch.equal(value, before[name]) for name, value in job.model.state_dict().items())
    job.step()
    assert job.model.training
    assert not all(torch.equal(value, before[name]) for name, value in job.model.state_dict().items())


def test_the_same_overrides_and_seed_give_the_same_job():
    first, second = (make_job(*TINY, batch_size=2) for _ in range(2))
    assert torch.equal(first.batch.images, second.batch.images)
    assert torch.equal(first.evaluation(), second.evaluation())


def test_a_batch_of_another_size_has_the_same_kinds():
    batch = make_job(*TINY, batch_size=2).batch
    more = random_batch_like(batch, 5)
    assert type(more) is type(batch) and more.images.shape == (5, *batch.images.shape[1:])
    assert more.labels.dtype == batch.labels.dtype and more.pose is None


@pytest.mark.parametrize("name", [name for name in NETWORKS if not name.endswith("gc")])
def test_every_published_network_composes(name):
    assert composed(*NETWORKS[name].overrides)["net"]["type"]


SPLIT = ("train=sie", "net=SplitEncoder", "dataset=digit_turns")
SYMMETRY = ("train=symmetry", "net=SymmetryNet", "net.widths=[2,2,4]", "net.decoder_width=2", "conv=full")
EVERY_TURN = ("base_group.no_samples=16", "base_group.sample_per_layer=False")


@pytest.mark.parametrize("overrides", [SPLIT, (*SYMMETRY, *EVERY_TURN)], ids=["SIE", "symmetry"])
def test_objectives_of_several_kinds_take_a_step(overrides):
    job = make_job(*overrides, "train.batch_size=4", batch_size=4)
    job.step()
    assert torch.isfinite(job.evaluation()).all()
