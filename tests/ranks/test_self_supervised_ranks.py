"""One training step of a whole self-supervised method: two processes with half of a batch each, against one with all.

The objective, its optimisers and the step are those of `python main.py`. Run as `<this file> rank ranks folder`, it is
one of the two processes, and writes what it found to rank<r>.pt.
"""

import datetime
import math
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from dataset_constructor import construct_info
from model_constructor import construct_model
from objective_constructor import construct_stages
from partial_equiv.datasets import Views
from partial_equiv.ranks import RankBatchNorm, convert_norms
from steps import Steps
from tests.ranks.processes import written_by_two
from tests.test_self_supervised_constructor import composed

ROWS = ("sie", "simclr_equimod_rotation_color", "supervised")
NO_PAIRS = 12
SMALL = ["dataset=shapes3d", "dataset.size=16", "net.width=16", "net.equi=8", "train.mlp=12-16-12"]
# Plain descent: Adam would blow up the rounding errors of biases whose gradient the next norm makes zero.
STEP = ["train.optimizer=SGD", "train.lr=0.1", "train.weight_decay=0.01", "train.gradient_clip=1"]


def make_stage(row):
    """Return the stage of a row in double precision, the same in every process."""
    config = composed(f"train={row}", *SMALL, *STEP, "train.online.every=1", "train.predictor.init=published")
    info = construct_info(config)
    torch.manual_seed(1)
    stage = construct_stages(config, construct_model(config, info), 1, info=info)["self_supervised"]
    stage.objective.double().train()
    return stage


def make_batch(rank=0, ranks=1):
    """Return a process's share of one fixed batch of pairs, in double precision."""
    torch.manual_seed(2)
    images = torch.randn(NO_PAIRS, 2, 3, 16, 16, dtype=torch.float64)
    latents = torch.rand(NO_PAIRS, 2, 7, dtype=torch.float64)
    latents[..., :3] = math.pi * (latents[..., :3] - 0.5)
    batch = Views(images, torch.arange(NO_PAIRS) % 10, torch.arange(NO_PAIRS), latents)
    return Views(*(values.chunk(ranks)[rank] for values in batch))


def one_step(row, rank=0, ranks=1, *, joint=True):
    """Take one step as the trainer does; return loss, metrics, gradients and the state after it."""
    stage = make_stage(row)
    objective = stage.objective
    if joint:
        convert_norms(objective)
        assert any(isinstance(module, RankBatchNorm) for module in objective.modules())
    step = Steps(stage, torch.device("cpu")).take(make_batch(rank, ranks), 0, 1)
    gradients = {name: parameter.grad.clone() for name, parameter in objective.named_parameters()}
    values = {"loss": step.loss, **step.metrics}
    return {"values": values, "gradients": gradients, "state": dict(objective.state_dict())}


def main(rank, ranks, folder):
    """Take the steps of one process and write them down."""
    address, limit = f"file://{folder / 'rendezvous'}", datetime.timedelta(seconds=120)
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=ranks, timeout=limit)
    found = {row: one_step(row, rank, ranks) for row in ROWS}
    found["apart"] = one_step("sie", rank, ranks, joint=False)
    torch.save(found, folder / f"rank{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """Return what each of two processes wrote."""
    return written_by_two(Path(__file__), tmp_path_factory.mktemp("ranks"))


@pytest.mark.long
@pytest.mark.parametrize("row", ROWS)
def test_two_processes_step_as_one_does(ranks, row):
    before = {name: value.clone() for name, value in make_stage(row).objective.state_dict().items()}
    alone = one_step(row)
    for rank in ranks:
        found = rank[row]
        for part in ("gradients", "state"):
            assert found[part].keys() == alone[part].keys()
            for name, value in alone[part].items():
                torch.testing.assert_close(found[part][name], value, rtol=1e-6, atol=1e-9, msg=f"{part} {name}")
    for name, value in alone["values"].items():  # a mean over one's own examples, or a statistic of all
        mean = sum(rank[row]["values"][name] for rank in ranks) / 2
        torch.testing.assert_close(mean, value, rtol=1e-6, atol=1e-9, msg=name)
    moved = {name for name, value in alone["state"].items() if not torch.equal(value, before[name])}
    assert moved == set(before), set(before) - moved


@pytest.mark.long
def test_without_joint_norms_the_steps_differ(ranks):
    alone = one_step("sie", joint=False)
    whole = alone["gradients"]["model.backbone.stem.0.weight"]
    apart = ranks[0]["apart"]["gradients"]["model.backbone.stem.0.weight"]
    assert (whole - apart).norm() > 1e-2 * whole.norm()


def test_joint_norms_of_one_process_are_plain_ones():
    plain, joint = (one_step("sie", joint=joint) for joint in (False, True))
    for part in ("values", "gradients", "state"):
        assert all(torch.equal(plain[part][name], value) for name, value in joint[part].items())


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
