"""Linear layers of kernels: of points in parts, and with rows whose length and direction are learned apart."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class WeightNormLinear(nn.Module):
    """W_i x + b_i with W_i = g_i v_i / |v_i|: weight normalisation that can be copied and pickled.

    torch's own replaces the class of a layer at run time, and such a layer refuses to be pickled.

    Args:
        linear: The layer to start from; its bias is taken over.
    Shape:
        length g [o, 1]; direction v [o, h].
    Source: Salimans & Kingma 2016.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach()
        self.length = nn.Parameter(weight.norm(dim=1, keepdim=True))
        self.direction = nn.Parameter(weight.clone())
        self.bias = linear.bias

    @property
    def weight(self) -> Tensor:
        """The weight W, [o, h]."""
        weight: Tensor = self.length * functional.normalize(self.direction, dim=1)
        return weight

    def forward(self, x: Tensor) -> Tensor:
        """Return W x + b: [..., h] -> [..., o]."""
        return functional.linear(x, self.weight, self.bias)


def linear_of_parts(linear: nn.Linear | WeightNormLinear, parts: tuple[Tensor, ...]) -> Tensor:
    """Return W x + b for points x in parts: each meets its own columns of W, then the products are spread and added.

    Shape:
        parts [..., c_1], [..., c_2], .., their leading axes broadcast, with c_1 + c_2 + .. columns of W -> [..., o].
    """
    weight = linear.weight
    first, *others = weight.split([part.shape[-1] for part in parts], dim=-1)
    total = functional.linear(parts[0], first, linear.bias)
    for part, columns in zip(parts[1:], others, strict=True):
        total = total + functional.linear(part, columns)
    return total


def make_linear(
    in_features: int, out_features: int, *, bound: float, weight_norm: bool
) -> nn.Linear | WeightNormLinear:
    """Return a linear layer, its weights uniform in [-bound, bound] and its biases 0."""
    linear = nn.Linear(in_features, out_features)
    nn.init.uniform_(linear.weight, -bound, bound)
    nn.init.zeros_(linear.bias)
    return WeightNormLinear(linear) if weight_norm else linear


@torch.no_grad()
def scale_(linear: nn.Linear | WeightNormLinear, factor: Tensor) -> None:
    """Multiply weight and bias of a layer in place."""
    weight = linear.length if isinstance(linear, WeightNormLinear) else linear.weight
    weight.mul_(factor)
    linear.bias.mul_(factor)
