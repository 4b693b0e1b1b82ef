"""The training step of the published rotMNIST network over the sum of its bare convolutions."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from benchmarks.timing import interleaved, table
from partial_equiv import build
from partial_equiv.convs import ContinuousConv

TARGET = 1.25
BATCH = 64
SPEC: dict[str, Any] = {
    "net": {
        "type": "CKResNet",
        "no_hidden": 32,
        "no_blocks": 2,
        "dropout": 0.0,
        "norm": "BatchNorm",
        "block_width_factors": [1, 1, 2, 1],
        "pool_blocks": [0, 1],
        "last_conv_T2": False,
        "learnable_final_pooling": False,
        "final_spatial_dim": [1, 1],
    },
    "conv": {"padding": "same", "partial_equiv": True, "bias": True},
    "kernel": {
        "type": "SIREN",
        "no_hidden": 32,
        "no_layers": 3,
        "size": 7,
        "angle": "circle",
        "omega0": 10.0,
        "learn_omega0": False,
        "weight_norm": False,
    },
    "base_group": {
        "name": "SE2",
        "no_samples": 8,
        "sampling_method": "random",
        "sample_per_layer": True,
        "sample_per_batch_element": False,
        "count": "all",
        "gumbel_init_temp": 0.5,
        "gumbel_end_temp": 1e-4,
    },
    "info": {"in_channels": 1, "no_classes": 10, "size": [28, 28]},
}


class RecordConvolutions(TorchFunctionMode):
    """Writes down the arguments of every conv2d that runs inside it."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Tensor, Tensor, dict[str, Any]]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Note a conv2d, then let it run."""
        if func is functional.conv2d or func is torch.conv2d:
            values, weight = (t.detach().clone().requires_grad_(t.requires_grad) for t in args[:2])
            self.calls.append((values, weight, {"padding": (kwargs or {})["padding"]}))
        return func(*args, **(kwargs or {}))


def bare_convolutions(model: nn.Module, images: Tensor) -> Callable[[], None]:
    """Return a function that runs, forward and backward, every convolution of one training step and nothing else."""
    with RecordConvolutions() as record:
        model(images)
    outputs = [functional.conv2d(values, weight, **keys).detach() for values, weight, keys in record.calls]

    def run() -> None:
        for (values, weight, keys), gradient in zip(record.calls, outputs, strict=True):
            values.grad = weight.grad = None
            functional.conv2d(values, weight, **keys).backward(gradient)

    return run


def training_step(model: nn.Module, images: Tensor, labels: Tensor) -> Callable[[], None]:
    """Return a function that takes one step with Adam."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)  # as train.optimizer=Adam
    for parameter in model.parameters():  # so that Adam touches every parameter also where kernels are fixed
        parameter.grad = torch.zeros_like(parameter)

    def run() -> None:
        optimizer.zero_grad(set_to_none=False)
        functional.cross_entropy(model(images), labels).backward()
        optimizer.step()

    return run


def fix_kernels(model: nn.Module, images: Tensor) -> nn.Module:
    """Replace every expanded kernel by a fixed tensor that still gets its gradient: the floor of any such network."""
    for module in model.modules():
        if isinstance(module, ContinuousConv):
            module.kernel_hook.register_forward_hook(lambda _, __, weight: setattr(_, "fixed", weight.detach()))
    model(images)
    for module in model.modules():
        if isinstance(module, ContinuousConv):
            fixed = module.kernel_hook.fixed.clone().requires_grad_()
            module.weight = lambda *_, fixed=fixed: fixed  # type: ignore[method-assign]
    return model


def report(no_rounds: int) -> str:
    """Return the table: our step, the floor, and the bare convolutions."""
    torch.manual_seed(0)
    images, labels = torch.randn(BATCH, 1, 28, 28), torch.randint(0, 10, (BATCH,))
    model = build(SPEC)
    candidates = {
        "bare": bare_convolutions(model, images),
        "ours": training_step(model, images, labels),
        "floor": training_step(fix_kernels(build(SPEC), images), images, labels),
    }
    seconds = interleaved(candidates, no_rounds=no_rounds)
    rows = [
        (name, f"{seconds[key]:.3f}", f"{seconds[key] / seconds['bare']:.3f}")
        for name, key in (
            ("sum of bare convolutions, fwd+bwd", "bare"),
            ("floor: fixed kernels, norms, pools, Adam", "floor"),
            (f"our training step (at most {TARGET})", "ours"),
        )
    ]
    return table("Published rotMNIST CKResNet, SE2, N 8, partial, B 64", ("", "seconds", "over bare"), rows)
