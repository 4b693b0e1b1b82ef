"""One training step, which never waits for the device, and what the host reads of it one step later."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from compiling import compiled_forward, compiled_update
from objective_constructor import Stage
from optim import gated_step
from partial_equiv.errors import UserError
from partial_equiv.objectives import Step
from tester import Averages

Update = Callable[[torch.optim.Optimizer, Tensor], None]


class Steps:
    """Takes the steps of a stage on one device.

    Whether loss and gradient are finite is a truth value on the device. From the first step in which they are not, the
    updates are left out there, so that the host may look later: see `Look`.

    Args:
        stage: What is trained, on the device, and how.
        device: Where.
    """

    def __init__(self, stage: Stage, device: torch.device) -> None:
        self.stage, self.device = stage, device
        self.forward: Callable[[Any], Step] = compiled_forward(stage.objective) if stage.compile else stage.objective
        self.updates: list[Update] = [
            compiled_update(optimizer) if stage.compile else gated_step for optimizer in stage.optimizers
        ]
        self.shut = [torch.zeros((), dtype=torch.bool, device=device) for _ in stage.optimizers]

    def take(self, batch: Any, index: int, no_steps: int) -> Step:
        """Learn from batch `index` of `no_steps`: a gradient, and with the last of `accumulate` ones a step."""
        stage = self.stage
        first = index - index % stage.accumulate
        if index == first:
            for optimizer in stage.optimizers:
                optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=stage.precision == "bfloat16"):
            step = self.forward(batch)
        size = min(stage.accumulate, no_steps - first)
        loss = step.loss if step.extra is None else step.loss + step.extra
        (loss / size if size > 1 else loss).backward()
        self.judge(0, step.loss)
        if step.extra is not None:
            self.judge(1, step.extra)
        if index == first + size - 1:
            self.update()
        # Without its graph, so that no kernel outlives the step.
        return step._replace(loss=step.loss.detach(), extra=None)

    def judge(self, which: int, number: Tensor) -> None:
        """Shut an optimiser off, for good, where a number is not finite."""
        self.shut[which].logical_or_(number.detach().isfinite().logical_not())

    def update(self) -> None:
        """Step with every optimiser, the gradients of the first one clipped."""
        clips = [self.stage.gradient_clip, *[None] * (len(self.stage.optimizers) - 1)]
        for which, (optimizer, clip) in enumerate(zip(self.stage.optimizers, clips, strict=True)):
            learning = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
            if clip is None:
                norm = torch.nn.utils.get_total_norm([p.grad for p in learning if p.grad is not None])
            else:
                norm = torch.nn.utils.clip_grad_norm_(learning, clip)
            self.judge(which, norm)
            self.updates[which](optimizer, self.shut[which])


class Look:
    """The means after a step, and whether all was finite, on their way to the host.

    On CUDA they are copied into pinned memory, and reading them waits for that copy alone: a step later it is there.
    Elsewhere they are read where they lie, and an MPS device is waited for.

    Args:
        steps: What took the step.
        averages: Over the epoch, up to and with it.
        number: Of the step, from 1.
        lr: Its rate.
    """

    def __init__(self, steps: Steps, averages: Averages, number: int, lr: float) -> None:
        self.number, self.lr, self.sizes, self.no_flags = number, lr, dict(averages.sizes), len(steps.shut)
        totals = list(averages.totals.values())
        self.values = torch.stack([*(flag.to(totals[0].dtype) for flag in steps.shut), *totals])
        self.copied: torch.cuda.Event | None = None
        if self.values.is_cuda:
            self.values = torch.empty_like(self.values, device="cpu", pin_memory=True).copy_(self.values, True)
            self.copied = torch.cuda.Event()
            self.copied.record()

    def means(self, epoch: int) -> Mapping[str, float]:
        """Return the means.

        Args:
            epoch: For the message.

        Raises:
            UserError: loss or gradient are not finite.
        """
        if self.copied is not None:
            self.copied.synchronize()
        numbers = self.values.tolist()
        flags, totals = numbers[: self.no_flags], numbers[self.no_flags :]
        where = f"(epoch {epoch}, step {self.number}"
        if flags[0]:
            raise UserError(
                f"the loss or its gradient is not finite any more {where}, lr {self.lr:.2g}): "
                "lower train.lr, or set train.gradient_clip=1"
            )
        if any(flags):
            raise UserError(
                f"the loss of the heads that watch is not finite any more {where}): lower train.online.lr, "
                "or set train.online=null"
            )
        return {name: total / size for (name, size), total in zip(self.sizes.items(), totals, strict=True)}
