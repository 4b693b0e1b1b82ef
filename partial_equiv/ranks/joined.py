"""Layers that see the whole batch while a network is trained by several ranks."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from partial_equiv.ranks.collectives import no_ranks
from partial_equiv.ranks.draws import RankDropout
from partial_equiv.ranks.norm import CONVERTED, convert_norms


@contextmanager
def joined(module: nn.Module) -> Iterator[None]:
    """Within this context, normalise by the examples of all ranks and draw dropout for them.

    On one rank nothing changes. Parameters and buffers stay the same objects. Afterwards torch's own layers are
    back in their places, which is what exports and audits know.

    Args:
        module: A network or an objective.
    Raises:
        UserError: a norm that cannot be joined, see `convert_norms`.
    """
    if no_ranks() == 1:
        yield
        return
    before = {
        name: layer
        for name, layer in module.named_modules(remove_duplicate=False)
        if name and type(layer) in (*CONVERTED, nn.Dropout)
    }
    try:
        for name, layer in before.items():
            if isinstance(layer, nn.Dropout):
                module.set_submodule(name, RankDropout(layer.p).train(layer.training))
        convert_norms(module)
        yield
    finally:
        for name, layer in before.items():
            layer.train(module.get_submodule(name).training)
            module.set_submodule(name, layer)
