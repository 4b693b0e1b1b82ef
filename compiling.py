"""torch.compile in a training: forward and loss as one graph, the optimiser apart; evaluation stays eager."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from lars import LARS
from optim import gated_step
from partial_equiv.errors import UserError
from partial_equiv.objectives import Classification, Objective, Step
from partial_equiv.probes import device_of
from partial_equiv.ranks import no_ranks
from partial_equiv.sampling import IntervalSampler, samplers

EAGER = "or set compile=False"


def compiled_forward(objective: Objective, backend: str = "inductor") -> Callable[[Any], Step]:
    """Return an objective whose forward pass and loss are one compiled graph, made at the first batch of each size.

    Numbers are the eager ones to rounding, but for what is drawn: compiled draws follow the seed in an order of their
    own, unless torch._inductor.config.fallback_random is set. The objective itself stays as it is.

    Args:
        objective: What is learned from batches.
        backend: Of torch.compile.
    Raises:
        UserError: of the returned function: what the objective itself refuses, or why it cannot be compiled.
    """
    from torch._dynamo.exc import TorchDynamoException  # takes a second, which other runs are spared

    # Other layouts of convolutions than the eager one made the published network slower by half on a CPU.
    options = {"layout_optimization": False} if backend == "inductor" and device_of(objective).type == "cpu" else None
    run = torch.compile(objective, fullgraph=True, dynamic=False, backend=backend, options=options)

    def forward(batch: Any) -> Step:
        try:
            step: Step = run(batch)
        except TorchDynamoException as error:
            with torch.no_grad():
                objective(batch)  # a mistake that is not the compiler's says so itself
            raise UserError(reason(error)) from error
        return step

    return forward


def compiled_update(optimizer: Optimizer) -> Callable[[Optimizer, Tensor], None]:
    """Return `gated_step`, for LARS compiled, with rates as tensors, so that a new rate is no new program.

    LARS takes one parameter at a time: its compiled step over 49 tensors takes 0.9 ms instead of 5.9 ms (one CPU
    thread), after half a minute of compiling. Adam is one fused kernel, which torch does not trace into; SGD is few
    kernels over all tensors, and its state, which comes into being in the first step, is more than torch 2.15 can
    trace. Both are left as they are.
    """
    if not isinstance(optimizer, LARS):
        return gated_step
    for group in optimizer.param_groups:
        group["lr"] = torch.as_tensor(group["lr"], dtype=torch.float64, device=group["params"][0].device)
    compiled: Callable[[Optimizer, Tensor], None] = torch.compile(gated_step, fullgraph=True, dynamic=False)
    return compiled


def reason(error: Exception) -> str:
    """Return one sentence that says why something could not be compiled, and what to do."""
    words = str(error)
    if "CppCompiler" in words or "CxxCompiler" in words:
        return f"compile=True needs a C++ compiler, and none works here: install one, for example g++, {EAGER}"
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    return f"compile=True cannot make one graph of this network and method ({lines[0]}): change them, {EAGER}"


def check_compile(objective: Objective, device: torch.device) -> None:
    """Refuse what is known not to become one graph.

    Raises:
        UserError: the device has no compiler, or the method looks at its numbers on the way.
    """
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"compile=True has no compiler for device={device.type}: set device=cuda or cpu, {EAGER}")
    if no_ranks() > 1:
        raise UserError(
            f"compile=True makes one graph of a step, and what {no_ranks()} processes exchange within it is in none: "
            f"train in one process, {EAGER}"
        )
    if any(isinstance(sampler, IntervalSampler) and sampler.count == "ceil" for sampler in samplers(objective)):
        raise UserError(
            "base_group.count=ceil lets the level change the number of elements, which compile=True cannot follow: "
            f"set base_group.count=all, {EAGER}"
        )
    if isinstance(objective, Classification) and any(term.kernels for term in objective.regularisers.values()):
        raise UserError(
            "train.weight_decay_kind=published sums norms that hooks write down, and a compiled graph has no "
            f"hooks: set train.weight_decay_kind=decoupled, {EAGER}"
        )
