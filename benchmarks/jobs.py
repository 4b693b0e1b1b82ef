"""From the overrides of a run to its training step and its evaluation on random images: the product is timed."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from torch import Tensor, nn

from benchmarks.machine import ROOT
from config_reader import read_config
from dataset_constructor import construct_info
from model_constructor import construct_model
from objective_constructor import Stage, construct_stages
from partial_equiv.datasets import Batch, Views, moved
from steps import Steps

PUBLISHED = "+experiment=partial_gcnn/rotMNIST_CKResNet_SE2_partial"
"""The published network that most tables take: CKResNet, 32 channels, two blocks, SIREN kernels of 7 pixels."""


@dataclass(frozen=True)
class Job:
    """A network with its first stage of training, what takes its steps, and a batch."""

    model: nn.Module
    stage: Stage
    steps: Steps
    batch: Any

    @property
    def device(self) -> torch.device:
        """Where it lies."""
        return self.steps.device

    def step(self) -> None:
        """Take one step of the training, as the trainer takes it."""
        self.stage.objective.train()
        self.steps.take(self.batch, 0, 1)

    def loss(self) -> Tensor:
        """Return the loss of the batch: the forward pass of a step, and no more."""
        self.stage.objective.train()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.stage.precision == "bfloat16"):
            loss: Tensor = self.stage.objective(self.batch).loss
        return loss

    @property
    def evaluation(self) -> Callable[[], Tensor]:
        """Return a function that evaluates the network on the images, nothing to be differentiated."""
        images = self.batch.images if self.batch.images.ndim == 4 else self.batch.images.flatten(0, 1)
        return evaluated(self.model, images, self.stage.precision)


def evaluated(model: nn.Module, images: Tensor, precision: str = "float32") -> Callable[[], Tensor]:
    """Return a function that evaluates a network, its parameters frozen as after a training."""

    def run() -> Tensor:
        model.eval()
        with torch.no_grad(), torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            output: Tensor = model(images)
        return output

    return run


@functools.cache
def composed(*overrides: str) -> dict[str, Any]:
    """Return the configuration that main would run."""
    with initialize_config_dir(str(ROOT / "cfg"), version_base="1.3"):
        return read_config(compose("config", list(overrides)))


def make_job(*overrides: str, batch_size: int, device: str = "cpu", seed: int = 0) -> Job:
    """Return the job of these overrides, with random images of the shape that its data set has."""
    config = composed(*overrides)
    info = construct_info(config)
    torch.manual_seed(seed)
    model = construct_model(config, info).to(device)
    stage = next(iter(construct_stages(config, model, steps_per_epoch=1000, info=info).values()))
    stage.objective.to(device).train()
    batch = random_batch(info, batch_size)
    steps = Steps(stage, torch.device(device))
    return Job(model, stage, steps, moved(batch, torch.device(device)))


def random_batch(info: Any, batch_size: int) -> Any:
    """Return a batch of noise with the shapes of a data set."""
    shape = (info.in_channels, *info.size)
    index = torch.arange(batch_size)
    labels = torch.randint(info.no_classes, (batch_size,))
    if info.views:
        pairs = (batch_size, len(info.views))
        return Views(torch.randn(*pairs, *shape), labels, index, torch.rand(*pairs, len(info.latents)))
    return Batch(torch.randn(batch_size, *shape), labels, index, None)


def random_batch_like(batch: Any, batch_size: int) -> Any:
    """Return a batch of noise of another size, on the same device; all labels are 0."""

    def resized(entry: Any) -> Any:
        if not isinstance(entry, Tensor):
            return entry
        shape = (batch_size, *entry.shape[1:])
        noise = torch.randn if entry.is_floating_point() else torch.zeros
        return noise(shape, dtype=entry.dtype, device=entry.device)

    return type(batch)(*map(resized, batch))
