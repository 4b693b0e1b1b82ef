"""Trainings as main makes them, on any number of processes: `two_trainings.py rank ranks folder`.

Every process trains on its share of every batch and writes its losses, and what they led to, to rank<r>.pt.
"""

import datetime
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from dataset_constructor import construct_dataset, construct_loaders
from model_constructor import construct_model
from objective_constructor import construct_stages
from optim import scale_rates
from partial_equiv.ranks import agree_random, joined
from steps import Steps
from tester import evaluate
from tests.covering import covering, make_stage
from tests.test_self_supervised_constructor import composed

CPU = torch.device("cpu")
NO_STEPS = 50
DIGITS = ["dataset=digits", "dataset.size=12", "dataset.copies=1", "dataset.no_validation=50", "dataset.no_test=10"]
TRUNK = ["net.no_hidden=3", "net.no_blocks=1", "kernel.no_hidden=4", "kernel.size=3"]
SYMMETRY = [
    *(
        "train=symmetry",
        "net=SymmetryNet",
        "conv=full",
        "base_group.no_samples=16",
        "base_group.sample_per_layer=False",
    ),
    *("base_group.sampling_method=deterministic", "net.widths=[2,2,4]", "net.no_latent=8", "net.resolution=13"),
    *("net.decoder_width=2", "net.head_width=8", "kernel.no_hidden=4", "kernel.size=3", *DIGITS),
    *("dataset.no_train=98", "train.batch_size=20", "train.no_neighbours=9"),
]
VIEWS = [
    *("dataset=digit_turns", "net=SplitCKResNet", "dataset.size=12", "dataset.no_train=90", "dataset.no_validation=30"),
    *("dataset.no_test=10", "net.width=8", "net.equi=4", "net.no_frequencies=1", "train.mlp=8-8-8", *TRUNK),
    *("base_group.no_samples=4", "train.batch_size=20", "train.online.every=2"),
]
CURVES = {
    # Gates whose weights count in the norms, a set of elements for each image, dropout, and a last batch of 3.
    "classification": [
        *(*DIGITS, *TRUNK, "dataset.no_train=99", "train.batch_size=16", "base_group=E2", "base_group.no_samples=8"),
        *("base_group.sample_per_batch_element=True", "net.dropout=0.3", "train.monotonic_decay_loss=0.1"),
        *("train.weight_decay=0.001", "train.gradient_clip=1"),
    ],
    "published": [
        *(*DIGITS, *TRUNK, "dataset.no_train=99", "train.batch_size=16", "base_group.no_samples=4"),
        *("train.weight_decay=0.001", "train.weight_decay_kind=published"),
    ],
    "channels": [
        *(*DIGITS, *TRUNK, "net=GCNN", "dataset.no_train=99", "train.batch_size=16", "base_group.no_samples=4"),
        *(
            "net.no_hidden=4",
            "net.dropout=0.3",
            "net.dropout_blocks=[1]",
            "net.pool_blocks=[]",
            "kernel=MLP",
            "kernel.norm=BatchNorm",
        ),
    ],
    "autoencoder": SYMMETRY,
    "levels": SYMMETRY,
    "sie": [*VIEWS, "train=sie"],
    "simclr": [*VIEWS, "train=simclr", "train.accumulate=2"],
}
DESCENT = ["train.optimizer=SGD", "train.lr=0.1", "train.gradient_clip=1"]
"""For comparisons of weights: Adam blows up the rounding errors of biases whose gradient the next norm makes zero."""
SLOW = ["train.optimizer=SGD", "train.lr=0.01", "train.gradient_clip=1"]
"""For single precision, in which rounding errors grow with every step."""
RUNS = [*((name, torch.float64) for name in CURVES), ("classification", torch.float32), ("levels", torch.float32)]


@torch.no_grad()
def off_the_kink(objective):
    """Move all biases from zero.

    Kernels that start without biases are odd, so that a norm puts a constant background at zero, to rounding: the kink
    of ReLU, where the sign of a rounding error decides about a gradient.
    """
    generator = torch.Generator().manual_seed(9)
    for name, parameter in objective.named_parameters():
        if name.endswith("bias"):
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator).to(parameter))


class Wide:
    """Batches of a loader in a precision of their own."""

    def __init__(self, loader, dtype):
        self.loader, self.dtype = loader, dtype

    def __iter__(self):
        """Yield the batches."""
        return map(self.cast, self.loader)

    def cast(self, batch):
        """Return a batch with its floating numbers cast."""
        cast = (None if x is None else x.to(self.dtype) if x.is_floating_point() else x for x in batch)
        return type(batch)(*cast)


def curve(name, dtype):
    """Return the losses of 50 steps, the validation after them, and the place of the generator.

    In double precision with the optimiser of the method, in single precision with plain descent.
    """
    config = composed(*CURVES[name], *(SLOW if dtype == torch.float32 else []))
    torch.manual_seed(config["seed"])
    splits = construct_dataset(config)
    loaders = construct_loaders(splits, config, CPU)
    model = construct_model(config, splits.info)
    stages = construct_stages(config, model, len(loaders.train), info=splits.info)
    stage = stages.get(name) or next(iter(stages.values()))
    stage.objective.to(dtype)
    off_the_kink(stage.objective)
    stage.objective.prepare(Wide(loaders.train.whole(), dtype))
    losses = []
    with joined(stage.objective):
        steps = Steps(stage, CPU)
        stage.objective.train()
        while len(losses) < NO_STEPS:
            loaders.train.set_epoch(len(losses) // len(loaders.train))
            agree_random(CPU)
            for index, batch in enumerate(Wide(loaders.train, dtype)):
                scale_rates(stage.optimizer, stage.schedule.factor(len(losses)))
                stage.objective.set_step(len(losses))
                losses.append(steps.take(batch, index, len(loaders.train)).loss.item())
        judged = evaluate(stage.objective, Wide(loaders.validation, dtype), shared=True)
    return {"losses": losses[:NO_STEPS], "judged": judged, "drawn": torch.rand(2)}


def one_step(case, number, ranks):
    """Return the state of a stage after a step of plain descent on six images."""
    stage, batch = make_stage(case, *DESCENT, no_images=6)
    stage.objective.double()
    off_the_kink(stage.objective)
    # Unequal shares, where no term compares examples.
    cut = (0, 3, 6) if hasattr(batch, "latents") else (0, 4, 6)
    mine = slice(*cut[number : number + 2]) if ranks > 1 else slice(None)
    batch = Wide([], torch.float64).cast(batch)
    with joined(stage.objective):
        step = Steps(stage, CPU).take(type(batch)(*(None if x is None else x[mine] for x in batch)), 0, 1)
    return {"loss": step.loss, **{name: value.clone() for name, value in stage.objective.state_dict().items()}}


def everything(number, ranks):
    """Return all of it."""
    curves = {(name, dtype): curve(name, dtype) for name, dtype in RUNS}
    return {"curves": curves, "steps": {str(case): one_step(case, number, ranks) for case in covering()}}


def main(number, ranks, folder):
    """Train as one of several processes and write it down."""
    address, limit = f"file://{folder / 'rendezvous'}", datetime.timedelta(seconds=120)
    dist.init_process_group("gloo", init_method=address, rank=number, world_size=ranks, timeout=limit)
    torch.save(everything(number, ranks), folder / f"rank{number}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
