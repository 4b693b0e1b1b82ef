"""Pooling of regular fields: over pixels, and over the elements of the group.

Axes: B batch, C channels, G elements, Y X image.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from partial_equiv.convs.constant import constant
from partial_equiv.convs.tiles import tile_maximum
from partial_equiv.errors import UserError
from partial_equiv.menu import choose


class GroupPool2d(nn.Module):
    """Halve a map, element by element; exactly equivariant on maps of even sides.

    "max" and "avg" take 2 x 2 pixels, "blur4" the binomial filter (1 3 3 1) x (1 3 3 1) / 64 with one pixel of zeros
    around. All three have windows of even sides, whose grid is symmetric where a 3 x 3 filter of stride 2 has none.

    Args:
        kind: "max", "avg" or "blur4".
    Shape:
        [B, C, G, Y, X] -> [B, C, G, Y // 2, X // 2].
    Raises:
        UserError: an unknown kind.
    Source: blur: Zhang 2019.
    """

    def __init__(self, kind: Literal["max", "avg", "blur4"]) -> None:
        super().__init__()
        if kind not in ("max", "avg", "blur4"):
            raise UserError(f"kind={kind!r} is not one of: max, avg, blur4")
        self.kind = kind

    def forward(self, f: Tensor) -> Tensor:
        """Pool."""
        flat = f.flatten(1, 2)
        if self.kind == "max":
            pooled = tile_maximum(flat, 2)
        elif self.kind == "avg":
            pooled = functional.avg_pool2d(flat, 2)
        else:
            (line,) = binomial(flat.dtype, flat.device)
            weight = torch.outer(line, line).expand(flat.shape[1], 1, 4, 4)
            pooled = functional.conv2d(flat, weight, stride=2, padding=1, groups=flat.shape[1])
        fields: Tensor = pooled.unflatten(1, f.shape[1:3])
        return fields

    def extra_repr(self) -> str:
        """Say what is pooled how."""
        return self.kind


@constant
def binomial(dtype: torch.dtype, device: torch.device) -> tuple[Tensor]:
    """Return the line (1 3 3 1) / 8."""
    return (torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=dtype, device=device) / 8,)


class CosetPool(nn.Module):
    """Reduce a regular field over its elements to a field of the plane, which then turns like an image.

    Args:
        kind: "max", "mean" or "logsumexp".
    Shape:
        [B, C, G, Y, X] -> [B, C, Y, X].
    Raises:
        UserError: an unknown kind.
    """

    def __init__(self, kind: Literal["max", "mean", "logsumexp"]) -> None:
        super().__init__()
        self.kind, self.reduce = kind, choose(REDUCTIONS, kind, "kind")

    def forward(self, f: Tensor) -> Tensor:
        """Reduce."""
        return self.reduce(f, dim=2)

    def extra_repr(self) -> str:
        """Say how it reduces."""
        return self.kind


REDUCTIONS: dict[str, Callable[..., Tensor]] = {"max": torch.amax, "mean": torch.mean, "logsumexp": torch.logsumexp}
