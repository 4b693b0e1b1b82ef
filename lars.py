"""LARS: gradient descent whose step, layer by layer, is a fixed share of the weights it changes."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from partial_equiv.errors import UserError


class LARS(Optimizer):
    """Layer-wise adaptive rates, for large batches.

    u = trust (g + decay w), trust = eta |w| / (|g| + decay |w|); v <- momentum v + u; w <- w - lr v.
    Groups that do not adapt have trust 1. Where |w| or |g| is 0, so that trust says nothing, u = g.

    Args:
        groups: Parameter groups with `lr`, `weight_decay` and, if wished, `adapt`: whether trust scales their steps.
            Without it, groups with a weight decay adapt, as is usual: matrices do, biases and norms do not.
        eta: Largest share of a weight's norm that a step of rate 1 takes.
        momentum: In [0, 1).
        nesterov: Step along u + momentum v instead of v.
    Raises:
        UserError: a number out of range, or Nesterov's step without momentum.
    Source: You et al. 2017; with 0 < weight_decay as lightly's LARS.
    """

    def __init__(
        self, groups: Iterable[dict[str, Any]], *, eta: float, momentum: float, nesterov: bool = False
    ) -> None:
        if not eta > 0:
            raise UserError(f"train.optimizer_params.eta={eta} is not above 0: give for example 0.001")
        if not 0 <= momentum < 1:
            raise UserError(f"train.optimizer_params.momentum={momentum} is outside [0, 1): give for example 0.9")
        if nesterov and not momentum:
            raise UserError(
                "train.optimizer_params.nesterov=True needs a momentum: set train.optimizer_params.momentum=0.9"
            )
        super().__init__(groups, {"eta": eta, "momentum": momentum, "nesterov": nesterov})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Take a group in, and settle whether it adapts."""
        param_group.setdefault("adapt", param_group["weight_decay"] > 0)
        super().add_param_group(param_group)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step; the state of a parameter is its "momentum_buffer"."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.sub_(group["lr"] * self.direction(parameter, group))
        return loss

    def direction(self, parameter: Tensor, group: dict[str, Any]) -> Tensor:
        """Return the step at rate 1, and keep its momentum."""
        update, momentum = scaled_gradient(parameter, group), group["momentum"]
        if not momentum:
            return update
        state = self.state[parameter]
        if "momentum_buffer" in state:
            state["momentum_buffer"].mul_(momentum).add_(update)
        else:
            state["momentum_buffer"] = update.clone()
        velocity: Tensor = state["momentum_buffer"]
        return update + momentum * velocity if group["nesterov"] else velocity


def scaled_gradient(parameter: Tensor, group: dict[str, Any]) -> Tensor:
    """Return trust (g + decay w)."""
    gradient, decay = parameter.grad, group["weight_decay"]
    assert gradient is not None
    if not group["adapt"]:
        return gradient + decay * parameter
    weight, slope = torch.linalg.vector_norm(parameter), torch.linalg.vector_norm(gradient)
    # Decided on the device: asking for the numbers would wait for it once per layer.
    both = (weight > 0) & (slope > 0)
    trust = torch.where(both, group["eta"] * weight / (slope + decay * weight), 1.0)
    return trust * (gradient + torch.where(both, decay, 0.0) * parameter)
