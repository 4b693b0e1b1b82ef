"""A plain multilayer perceptron as a kernel."""

from collections.abc import Callable
from typing import ClassVar, Literal

from torch import Tensor, nn
from torch.nn import functional

from partial_equiv.errors import UserError
from partial_equiv.kernels.kernel import Kernel
from partial_equiv.kernels.linear import linear_of_parts
from partial_equiv.menu import choose

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "ReLU": nn.ReLU,
    "LeakyReLU": nn.LeakyReLU,
    "ELU": nn.ELU,
    "GELU": nn.GELU,
    "Swish": nn.SiLU,
    "Tanh": nn.Tanh,
}


class PointNorm(nn.Module):
    """Batch normalisation over all points, whatever their leading axes."""

    norms_no_examples: ClassVar[bool] = True
    """For `partial_equiv.ranks`: points are the same on all ranks, so there is nothing to join."""

    def __init__(self, no_features: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(no_features)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each feature over the points (one alone by running statistics): [..., h] -> [..., h]."""
        points, norm = x.reshape(-1, x.shape[-1]), self.norm
        if len(points) > 1:
            normed: Tensor = norm(points)
        else:
            normed = functional.batch_norm(
                points, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
            )
        return normed.view_as(x)


NORMS: dict[str, Callable[[int], nn.Module]] = {"BatchNorm": PointNorm, "LayerNorm": nn.LayerNorm}


class MLP(Kernel):
    """Linear layers with a norm and an activation between them, torch's default initialisation.

    Args:
        in_features: c, coordinates of a position.
        out_features: o, values at a position.
        no_hidden: h, width of the hidden layers.
        no_layers: Layers in all, at least 2.
        norm: "BatchNorm" (over the points), "LayerNorm" or null.
        activation: One of `ACTIVATIONS`; null for ReLU.
    Raises:
        UserError: fewer than 2 layers, or an unknown activation.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        no_hidden: int,
        no_layers: int,
        norm: Literal["BatchNorm", "LayerNorm"] | None,
        activation: str | None,
    ) -> None:
        super().__init__()
        if no_layers < 2:
            raise UserError(f"kernel.no_layers={no_layers} is too few for an MLP: give 2 or more")
        make_activation = choose(ACTIVATIONS, activation or "ReLU", "kernel.activation")
        layers: list[nn.Module] = []
        for index in range(no_layers - 1):
            layers.append(nn.Linear(no_hidden if index else in_features, no_hidden))
            if norm is not None:
                layers.append(NORMS[norm](no_hidden))
            layers.append(make_activation())
        self.layers = nn.Sequential(*layers)
        self.readout = nn.Linear(no_hidden, out_features)

    def features(self, *points: Tensor) -> Tensor:
        """Return the last hidden layer's output: [..., c], or parts of it, -> [..., h]."""
        first, *others = self.layers
        assert isinstance(first, nn.Linear)
        features = linear_of_parts(first, points)
        for layer in others:
            features = layer(features)
        return features
