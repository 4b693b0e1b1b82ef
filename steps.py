"""One training step, which never waits for the device, and what the host reads of it one step later."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from compiling import compiled_forward, compiled_update
from objective_constructor import Stage
from optim import gated_step
from partial_equiv.objectives import Step
from partial_equiv.ranks import agree, parallel, without_sync
from tester import Averages

Update = Callable[[torch.optim.Optimizer, Tensor], None]


class Steps:
    """Takes the steps of a stage on one device.

    Whether loss and gradient are finite is a truth value on the device. A step in which they are not changes nothing
    there, neither weights, nor what an optimiser or a norm remembers, so that the host may look later: see `Look`.

    Args:
        stage: What is trained, on the device, and how.
        device: Where.
        in_a_row: Last steps of each optimiser that were left out, of a run that goes on.
        asked: Whether this process is to stop; all of them look at what any of them says.
    """

    def __init__(
        self,
        stage: Stage,
        device: torch.device,
        in_a_row: tuple[int, ...] = (),
        asked: Callable[[], bool] = lambda: False,
    ) -> None:
        self.stage, self.device = stage, device
        plain = parallel(stage.objective, device, stage.objective.watchers())
        self.forward: Callable[[Any], Step] = compiled_forward(stage.objective) if stage.compile else plain
        self.updates: list[Update] = [
            compiled_update(optimizer) if stage.compile else gated_step for optimizer in stage.optimizers
        ]
        no_optimizers = len(stage.optimizers)
        self.shut = [torch.zeros((), dtype=torch.bool, device=device) for _ in stage.optimizers]
        self.in_a_row = torch.zeros(no_optimizers, dtype=torch.int64, device=device)
        if in_a_row:
            self.in_a_row.copy_(torch.tensor(in_a_row))
        self.asked, self.stop = asked, torch.zeros((), dtype=torch.bool, device=device)
        self.remembered: list[tuple[Tensor, Tensor]] = []

    def take(self, batch: Any, index: int, no_steps: int) -> Step:
        """Learn from batch `index` of `no_steps`: a gradient, and with the last of `accumulate` ones a step."""
        stage = self.stage
        first = index - index % stage.accumulate
        if index == first:
            self.begin()
        size = min(stage.accumulate, no_steps - first)
        last = index == first + size - 1
        precise = torch.autocast(self.device.type, torch.bfloat16, enabled=stage.precision == "bfloat16")
        with precise, nullcontext() if last else without_sync(self.forward):
            step = self.forward(batch)
        loss = step.loss if step.extra is None else step.loss + step.extra
        (loss / size if size > 1 else loss).backward()
        self.judge(0, step.loss)
        if step.extra is not None:
            self.judge(1, step.extra)
        if last:
            self.update()
        # Without its graph, so that no kernel outlives the step.
        return step._replace(loss=step.loss.detach(), extra=None)

    def begin(self) -> None:
        """Forget the gradients before, and remember what the forward pass may change beside them."""
        for optimizer in self.stage.optimizers:
            optimizer.zero_grad(set_to_none=True)
        for flag in self.shut:
            flag.zero_()
        self.remembered = [(buffer, buffer.clone()) for buffer in self.stage.objective.buffers()]

    def judge(self, which: int, number: Tensor) -> None:
        """Shut an optimiser off for this step where a number is not finite."""
        self.shut[which].logical_or_(number.detach().isfinite().logical_not())

    def update(self) -> None:
        """Step with every optimiser, the gradients of the first one clipped; undo what a shut one spoiled."""
        clips = [self.stage.gradient_clip, *[None] * (len(self.stage.optimizers) - 1)]
        for which, (optimizer, clip) in enumerate(zip(self.stage.optimizers, clips, strict=True)):
            learning = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
            if clip is None:
                norm = torch.nn.utils.get_total_norm([p.grad for p in learning if p.grad is not None])
            else:
                norm = torch.nn.utils.clip_grad_norm_(learning, clip)
            self.judge(which, norm)
        *self.shut, self.stop = agree(torch.stack([*self.shut, torch.full_like(self.stop, self.asked())])).unbind()
        for optimizer, update, shut in zip(self.stage.optimizers, self.updates, self.shut, strict=True):
            update(optimizer, shut)
        for buffer, before in self.remembered:
            buffer.copy_(torch.where(self.shut[0], before, buffer))
        self.remembered = []
        # A fresh tensor, for the last one may still be on its way to the host.
        self.in_a_row = torch.where(torch.stack(self.shut), self.in_a_row + 1, 0)


class Seen(NamedTuple):
    """What the host reads of a step.

    Args:
        totals: Sums over the epoch's examples of loss and metrics, up to and with it.
        sizes: Examples in each sum.
        in_a_row: Steps of each optimiser that were left out, up to and with it.
        stop: Whether a process was asked to stop.
    """

    totals: dict[str, float]
    sizes: dict[str, float]
    in_a_row: tuple[int, ...]
    stop: bool


class Look:
    """What is to be known of a step, on its way to the host.

    On CUDA it is copied into pinned memory, and reading it waits for that copy alone: a step later it is there.
    Elsewhere it is read where it lies, and an MPS device is waited for.

    Args:
        steps: What took the step.
        averages: Over the epoch, up to and with it.
    """

    def __init__(self, steps: Steps, averages: Averages) -> None:
        self.names = list(averages.totals)
        sums = torch.stack([*averages.totals.values(), *averages.sizes.values()])
        self.values = torch.cat([sums, steps.stop.to(sums.dtype)[None], steps.in_a_row.to(sums.dtype)])
        self.copied: torch.cuda.Event | None = None
        if self.values.is_cuda:
            self.values = torch.empty_like(self.values, device="cpu", pin_memory=True).copy_(self.values, True)
            self.copied = torch.cuda.Event()
            self.copied.record()

    def read(self) -> Seen:
        """Return it."""
        if self.copied is not None:
            self.copied.synchronize()
        numbers = self.values.tolist()
        count = len(self.names)
        totals, sizes, (stop, *in_a_row) = numbers[:count], numbers[count : 2 * count], numbers[2 * count :]
        return Seen(
            dict(zip(self.names, totals, strict=True)),
            dict(zip(self.names, sizes, strict=True)),
            tuple(map(int, in_a_row)),
            bool(stop),
        )
