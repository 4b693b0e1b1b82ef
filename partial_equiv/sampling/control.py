"""What a trainer or tester says to every sampler of a network."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from partial_equiv.sampling.samplers import Sampler


def samplers(model: nn.Module) -> list[Sampler]:
    """Return the samplers of a network in module order."""
    return [module for module in model.modules() if isinstance(module, Sampler)]


def set_progress(model: nn.Module, fraction: float) -> None:
    """Tell every gate which share of the training, in [0, 1], is done: their temperature is a pure function of it."""
    for sampler in samplers(model):
        sampler.progress.fill_(fraction)


def set_hard_gates(model: nn.Module, hard: bool) -> None:
    """Choose how gates weigh elements in evaluation: thresholded at 1/2 (True) or by their probability (False)."""
    for sampler in samplers(model):
        sampler.hard_gates = hard


@contextmanager
def random_draws(model: nn.Module) -> Iterator[None]:
    """Within this context a network in evaluation mode draws its elements at random, as in training."""
    before = [(sampler, sampler.random_in_eval) for sampler in samplers(model)]
    for sampler, _ in before:
        sampler.random_in_eval = True
    try:
        yield
    finally:
        for sampler, value in before:
            sampler.random_in_eval = value
