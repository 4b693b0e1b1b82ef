"""A trained network as plain torch.nn modules.

Axes: B batch, C channels, Y X image.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from partial_equiv.errors import UserError
from partial_equiv.export.agreement import TOLERANCES, Agreement, check, compare
from partial_equiv.export.field import image_field
from partial_equiv.export.networks import convert
from partial_equiv.sampling import samplers

NO_IMAGES = 4


def to_plain(model: nn.Module, in_channels: int, size: tuple[int, int]) -> nn.Module:
    """Return a network as plain convolutions, norms and linear layers of torch.nn that does the same in evaluation.

    The elements of every layer are fixed as they are in evaluation, and with them the filters: a group convolution is
    one `Conv2d` of channels x elements (several for a factorised one), its weights free numbers from here on. Elements
    of weight 0 are left out. What torch.nn lacks are the small modules of `partial_equiv.export`. The result takes any
    batch, and other sizes only as far as the original would give the same filters.

    It is compared with the original before it is returned, on random images: the outputs, and how equivariant both are.

    Args:
        model: A network of `partial_equiv.build`, or a sequence of its layers that returns tensors of the plane.
        in_channels: C.
        size: (Y, X) in pixels.
    Shape:
        The result maps images [B, C, Y, X] to what the network returns.
    Raises:
        UserError: a module without a plain form, elements that are drawn in evaluation too, a precision below float32,
            or a difference above what rounding allows.
    """
    return compared_plain(model, in_channels, size)[0]


@torch.no_grad()
def compared_plain(model: nn.Module, in_channels: int, size: tuple[int, int]) -> tuple[nn.Module, Agreement]:
    """Return what `to_plain` returns, and how far it agrees with the original."""
    tensor = next(iter([*model.parameters(), *model.buffers()]), torch.zeros(()))
    if tensor.dtype not in TOLERANCES:
        raise UserError(f"the network is of {tensor.dtype}: export it in float32 or float64, with model.float()")
    if any(sampler.random_in_eval for sampler in samplers(model)):
        raise UserError("the network draws its elements in evaluation too, so no filter is fixed: leave random_draws")
    images = random_images(in_channels, size, tensor)
    with _evaluating(model):
        plain = laid_out(convert(model, image_field(images)).module.eval().to(tensor))
        agreement = compare(model, plain, images)
        check(agreement, tensor.dtype)
    return plain, agreement


def random_images(in_channels: int, size: tuple[int, int], like: Tensor) -> Tensor:
    """Return a few images of white noise, the same at every call: [4, C, Y, X]."""
    noise = torch.randn(NO_IMAGES, in_channels, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return noise.to(like)


def laid_out(plain: nn.Module) -> nn.Module:
    """Return a network, its channels laid side by side where it has depthwise filters, which are faster so."""
    depthwise = any(
        isinstance(layer, nn.Conv2d) and layer.groups == layer.out_channels > 1 for layer in plain.modules()
    )
    return plain.to(memory_format=torch.channels_last) if depthwise else plain


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Put every module in evaluation mode, and each back as it was; a copy is not promised by every encoder."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
