"""Parameter roles to optimiser groups. Knows role names, not classes."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lars import LARS
from partial_equiv.errors import UserError
from partial_equiv.menu import bind, choose, parameters


def parameter_roles(model: nn.Module) -> dict[str, str]:
    """Return the role of every parameter, in the stable order of `named_parameters`.

    A module class says which of its own parameters are special: `roles = {"level": "levels"}`; all others are "rest".
    """
    declared = {
        f"{prefix}.{name}" if prefix else name: role
        for prefix, module in model.named_modules()
        for name, role in getattr(type(module), "roles", {}).items()
    }
    return {name: declared.get(name, "rest") for name, _ in model.named_parameters()}


def parameter_groups(
    model: nn.Module,
    *,
    lr: float,
    lr_probs: float | None,
    lr_omega0: float | None,
    weight_decay: float,
    coupled: bool = False,
    without: str | None = None,
) -> list[dict[str, Any]]:
    """Return the optimiser's groups: decayed matrices, what else is at rest, levels, gates, frequencies.

    Only matrices at rest are decayed: never levels, gates, frequencies, biases or the scales of norms. Coupled decay,
    which some methods published, is added to the gradient of every parameter instead.

    Args:
        model: What is trained.
        lr: Peak learning rate.
        lr_probs: The same for levels and gates; None is `lr`.
        lr_omega0: The same for learned frequencies; None is `lr`.
        weight_decay: Decoupled: each step takes the share lr * weight_decay off; coupled: factor of the parameter in
            its gradient.
        coupled: Which of the two.
        without: Name of a part of the model that is trained apart; None leaves nothing out.
    """
    roles = parameter_roles(model)
    members: dict[str, list[str]] = {"decayed": [], "rest": [], "levels": [], "gates": [], "omega0": []}
    apart = f"{without}."
    named = {name: parameter for name, parameter in model.named_parameters() if not name.startswith(apart)}
    for name, parameter in named.items():
        matrix = roles[name] == "rest" and parameter.ndim >= 2
        members["decayed" if matrix else roles[name]].append(name)
    probabilities, frequencies = lr_probs or lr, lr_omega0 or lr
    rates = {"decayed": lr, "rest": lr, "levels": probabilities, "gates": probabilities, "omega0": frequencies}
    return [
        {
            "params": [named[name] for name in names],
            "role": role,
            "names": names,
            "lr": rates[role],
            "peak_lr": rates[role],
            "weight_decay": weight_decay if coupled or role == "decayed" else 0.0,
            "coupled": coupled,
        }
        for role, names in members.items()
        if names
    ]


def make_adam(groups: list[dict[str, Any]]) -> Optimizer:
    """Return Adam with torch's defaults; with decoupled decay it is AdamW."""
    alike = {parameter.device.type for group in groups for parameter in group["params"]} <= {"cpu", "cuda"}
    return torch.optim.Adam(
        [{**group, "decoupled_weight_decay": not group["coupled"]} for group in groups], fused=alike
    )


def make_sgd(groups: list[dict[str, Any]], *, momentum: float = 0.0, nesterov: bool = False) -> Optimizer:
    """Return gradient descent with decoupled decay.

    Raises:
        UserError: momentum outside [0, 1), or Nesterov's without any.
    """
    if not 0 <= momentum < 1:
        raise UserError(f"train.optimizer_params.momentum={momentum} is outside [0, 1): give for example 0.9")
    if nesterov and not momentum:
        raise UserError(
            "train.optimizer_params.nesterov=True needs a momentum: set train.optimizer_params.momentum=0.9"
        )
    # torch's own decay for SGD is added to the gradient, so it is kept from it and done before each step.
    plain = [
        group | {"decay": 0.0} if group["coupled"] else group | {"decay": group["weight_decay"], "weight_decay": 0.0}
        for group in groups
    ]
    optimizer = torch.optim.SGD(plain, momentum=momentum, nesterov=nesterov)
    optimizer.register_step_pre_hook(lambda self, _, __: decay_(self))
    return optimizer


@torch.no_grad()
def decay_(optimizer: Optimizer) -> None:
    """Shrink every parameter that has a gradient by its group's lr * decay."""
    for group in optimizer.param_groups:
        for parameter in group["params"] if group["decay"] else ():
            if parameter.grad is not None:
                parameter.mul_(1 - group["lr"] * group["decay"])


def make_lars(groups: list[dict[str, Any]], *, momentum: float, eta: float) -> Optimizer:
    """Return LARS; where decay is decoupled, matrices alone adapt and decay."""
    return LARS(groups, eta=eta, momentum=momentum)


OPTIMIZERS: Mapping[str, Callable[..., Optimizer]] = {
    "Adam": make_adam,
    "AdamW": make_adam,
    "SGD": make_sgd,
    "LARS": make_lars,
}


def make_optimizer(name: str, groups: list[dict[str, Any]], choices: Mapping[str, Any]) -> Optimizer:
    """Return an optimiser that keeps every level in [0, 1].

    Args:
        name: Entry of `OPTIMIZERS`.
        groups: From `parameter_groups`.
        choices: `train.optimizer_params`; null leaves a key out.

    Raises:
        UserError: an unknown name or key, or a value out of range.
    """
    choose(OPTIMIZERS, name, "train.optimizer")
    make = bind(OPTIMIZERS, name, given(OPTIMIZERS, choices), "train.optimizer_params", later=("groups",))
    optimizer = make(groups)
    optimizer.register_step_post_hook(lambda self, _, __: project_(self))
    return optimizer


@torch.no_grad()
def project_(optimizer: Optimizer) -> None:
    """Bring every level back into [0, 1]."""
    for group in optimizer.param_groups:
        for level in group["params"] if group["role"] == "levels" else ():
            level.clamp_(0, 1)


def fused(optimizer: Optimizer) -> bool:
    """Say whether one kernel takes the whole step, and can itself be told not to."""
    return bool(getattr(optimizer, "_step_supports_amp_scaling", False))


@torch.no_grad()
def gated_step(optimizer: Optimizer, shut: Tensor) -> None:
    """Take a step, or none where `shut`: parameters and state then keep every bit; state that came into being is 0.

    Nothing waits for the device. A fused optimiser asks `found_inf` itself, as under a gradient scaler, and its hooks
    change nothing that did not move; any other one does its step, and what it changed is put back.

    Args:
        optimizer: With or without hooks of its own.
        shut: Truth value on the device of the parameters.
    Shape:
        shut [], bool.
    """
    if fused(optimizer):
        optimizer.found_inf = shut.float()  # type: ignore[attr-defined]
        optimizer.step()
        return
    before = {name: value.clone() for name, value in moving(optimizer, shut.device).items()}
    optimizer.step()
    after = moving(optimizer, shut.device)
    torch._foreach_copy_(
        list(after.values()), [torch.where(shut, before.get(name, 0), value) for name, value in after.items()]
    )


def moving(optimizer: Optimizer, device: torch.device) -> dict[str, Tensor]:
    """Return every parameter that has a gradient, and all state but for counters that live elsewhere, by name."""
    found = {
        name: parameter
        for group in optimizer.param_groups
        for name, parameter in zip(group["names"], group["params"], strict=True)
        if parameter.grad is not None
    }
    return found | {name: value for name, value in named_tensors(optimizer) if value.device == device}


def scale_rates(optimizer: Optimizer, factor: float) -> None:
    """Set every group's learning rate to `factor` times its peak, so that all groups rise and fall together.

    A rate that is a tensor, as of a compiled step, is filled and stays the same tensor.
    """
    for group in optimizer.param_groups:
        rate = group["peak_lr"] * factor
        group["lr"] = group["lr"].fill_(rate) if isinstance(group["lr"], Tensor) else rate


def given(menu: Mapping[str, Callable[..., Any]], choices: Mapping[str, Any]) -> dict[str, Any]:
    """Return the choices that are not null; an unknown key stays, so that it is answered."""
    known = {key for entry in menu.values() for key in parameters(entry)}
    return {key: value for key, value in choices.items() if value is not None or key not in known}


def named_tensors(optimizer: Optimizer) -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor of an optimiser's state as "<parameter>/<entry>", in group order."""
    for group in optimizer.param_groups:
        for name, parameter in zip(group["names"], group["params"], strict=True):
            for key, value in optimizer.state.get(parameter, {}).items():
                if isinstance(value, Tensor):
                    yield f"{name}/{key}", value
