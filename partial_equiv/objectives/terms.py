"""Regularisers as pure functions of what one forward pass used, and the hooks that write it down."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from partial_equiv.convs import ContinuousConv, GroupConv


class Record(NamedTuple):
    """What the convolutions of a network used in one forward pass.

    Shape:
        kernels: dense weights [S G O, I F, V, U] of each call, or the factors of one that is factorised; biases [O];
        levels [], one per group convolution that learns one, in module order.
    """

    kernels: list[Tensor]
    biases: list[Tensor]
    levels: list[Tensor]


Term = Callable[[Record], Tensor]


class Regulariser(NamedTuple):
    """A term, its factor in the loss, and whether it reads kernels, which hooks must write down."""

    term: Term
    weight: float
    kernels: bool = True


def published_weight_decay(record: Record) -> Tensor:
    """Return the sum of ||kernel||_2 + ||bias||_2 over the sampled kernels of this step: norms, not squares.

    It grows with the number of samples and changes with the draw; kernel networks, norms and head are not decayed.

    Args:
        record: What the forward pass used.
    Shape:
        -> [].
    Source: the published code of Romero & Lohit 2022. Differs: our kernels carry the 1/F of the mean over input
        elements.
    """
    tensors = [*record.kernels, *record.biases]
    if not tensors:
        return torch.zeros(())
    norms = [torch.linalg.vector_norm(x, dtype=torch.promote_types(x.dtype, torch.float32)) for x in tensors]
    return torch.stack(norms).sum()


def monotonic_penalty(record: Record) -> Tensor:
    """Return sum_l relu(level_{l+1} - level_l): above 0 where a later layer keeps more than the one before it.

    0 where fewer than two layers learn a level.

    Args:
        record: What the forward pass used.
    Shape:
        -> [].
    Source: Romero & Lohit 2022, section 6.
    """
    if len(record.levels) < 2:
        return torch.zeros(()) if not record.levels else torch.zeros_like(record.levels[0])
    levels = torch.stack([level.reshape(()) for level in record.levels])
    return torch.relu(levels[1:] - levels[:-1]).sum()


@contextmanager
def recording(model: nn.Module, kernels: bool = True) -> Iterator[Record]:
    """Within this context, write down what a forward pass uses; the hooks are gone after it, and so is every graph.

    Args:
        model: Any network that holds continuous convolutions.
        kernels: Whether kernels are wanted; without them no hook is set.
    """
    convs = [module for module in model.modules() if isinstance(module, ContinuousConv)]
    levels = [conv.sampler.level for conv in convs if isinstance(conv, GroupConv) and conv.sampler is not None]
    record = Record([], [conv.bias for conv in convs if conv.bias is not None], [x for x in levels if x is not None])

    def keep(_: nn.Module, __: object, kernel: Tensor) -> None:
        record.kernels.append(kernel)

    handles = [conv.kernel_hook.register_forward_hook(keep) for conv in convs if kernels]
    try:
        yield record
    finally:
        for handle in handles:
            handle.remove()
