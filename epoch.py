"""One pass over the training batches, from any of its steps on."""

import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from checkpointer import Partial
from optim import scale_rates
from partial_equiv.errors import UserError
from partial_equiv.ranks import agree_random
from progress import Terminal
from steps import Look, Seen, Steps
from tester import Averages, on_device


class Batches(Protocol):
    """A loader whose order is a pure function of the epoch."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Any]: ...

    def set_epoch(self, epoch: int, first: int = 0) -> None:
        """Choose the next pass, from batch `first` on."""

    def examples(self, batch: int) -> list[int]:
        """Return the places in the set of a batch of the pass."""

    def whole(self) -> Iterator[Any]:
        """Yield all batches of the pass, from the first one on, and not this rank's share of them."""


NOTHING = Partial()
"""Of an epoch that begins."""


class NotFinite(UserError):
    """Too many steps in a row had to be left out.

    Args:
        message: What to say.
        steps: Of the epoch, from 1, that were left out.
    """

    def __init__(self, message: str, steps: tuple[int, ...]) -> None:
        super().__init__(message)
        self.steps = steps


class Epoch:
    """Takes the steps of one epoch.

    What the host wants to know of a step it reads a step later, so that the device always has work.

    Args:
        steps: Takes them.
        loader: The training batches.
        epoch: Of the stage, from 0.
        begun: What was done of it before.
        max_steps: For a trial run; None is a whole epoch.
    """

    def __init__(
        self, steps: Steps, loader: Batches, epoch: int, begun: Partial = NOTHING, max_steps: int | None = None
    ) -> None:
        self.steps, self.loader, self.epoch, self.begun = steps, loader, epoch, begun
        self.number = steps.stage.first_epoch + epoch + 1
        self.no_steps = min(len(loader), max_steps or len(loader))
        self.started = time.monotonic()
        self.skipped = begun.skipped
        self.last = begun.in_a_row

    def run(
        self,
        terminal: Terminal,
        due: Callable[[], bool] = lambda: False,
        save: Callable[[Partial, bool], None] = lambda partial, stop: None,
    ) -> Partial:
        """Take what is left of the pass and return all of it.

        Args:
            terminal: Where it is shown.
            due: Asked after each batch: whether to save.
            save: Takes what is done so far, and whether a process was asked to stop, in which case it raises.

        Raises:
            NotFinite: `max_nonfinite` steps in a row had a loss or a gradient that is not finite.
        """
        stage, averages = self.steps.stage, Averages(finite_only=True)
        averages.load(self.begun.totals, self.begun.sizes, self.steps.in_a_row)
        stage.objective.train()
        self.loader.set_epoch(stage.first_epoch + self.epoch, self.begun.step)
        agree_random(self.steps.device)
        if self.begun.step == self.no_steps:  # stopped before its validation, which is told the rate of the last step
            self.prepare(self.no_steps - 1)
        partial, look, wanted, stop = self.begun, None, False, False
        with terminal.steps(self.no_steps, f"epoch {self.number}", self.begun.step) as advance:
            batches = on_device(self.loader, self.steps.device, self.no_steps - self.begun.step)
            for index, batch in enumerate(batches, start=self.begun.step):
                self.prepare(index)
                averages.add(self.steps.take(batch, index, self.no_steps))
                before, look = look, Look(self.steps, averages)
                if before is not None:
                    seen = before.read()
                    partial = self.after(index, seen)
                    stop |= seen.stop
                wanted |= due()
                advance(partial.means())
                # Between two steps alone: accumulated gradients are in no checkpoint.
                if (wanted or stop) and (index + 1) % stage.accumulate == 0 and index + 1 < self.no_steps:
                    seen, look, wanted = look.read(), None, False
                    partial = self.after(index + 1, seen)
                    save(partial, stop)
                    # Stop a step later, as the ranks do that were not to save here and have not looked yet.
                    stop = seen.stop
        if look is not None:
            seen = look.read()
            partial = self.after(self.no_steps, seen)
            if seen.stop:
                save(partial, True)
        return partial

    def prepare(self, index: int) -> None:
        """Set the clock of the objective and the rates of the optimiser for a step."""
        stage = self.steps.stage
        number = self.epoch * stage.steps_per_epoch + index
        stage.objective.set_progress(number / (stage.epochs * stage.steps_per_epoch))
        stage.objective.set_step(number)
        scale_rates(stage.optimizer, stage.schedule.factor(number))

    def after(self, step: int, seen: Seen) -> Partial:
        """Return what is done after a step, counted from 1, and what was left out.

        Raises:
            NotFinite: too often in a row.
        """
        if seen.in_a_row[0] > (self.last or (0,))[0]:
            self.skipped = (*self.skipped, step)
        self.last = seen.in_a_row
        self.check(step, seen)
        seconds = self.begun.seconds + time.monotonic() - self.started
        return Partial(step, seen.totals, seen.sizes, seconds, seen.in_a_row, self.skipped)

    def check(self, step: int, seen: Seen) -> None:
        """Stop where too many steps in a row were left out.

        Raises:
            NotFinite: with what to do.
        """
        stage = self.steps.stage
        rate = (
            stage.schedule.factor(self.epoch * stage.steps_per_epoch + step - 1)
            * stage.optimizer.param_groups[0]["peak_lr"]
        )
        row = f"in {stage.max_nonfinite} steps in a row" if stage.max_nonfinite > 1 else "any more"
        where = f"(epoch {self.number}, step {step}"
        if seen.in_a_row[0] >= stage.max_nonfinite:
            raise NotFinite(
                f"the loss or its gradient is not finite {row} {where}, lr {rate:.2g}): "
                "lower train.lr, or set train.gradient_clip=1",
                self.skipped,
            )
        if max(seen.in_a_row) >= stage.max_nonfinite:
            raise NotFinite(
                f"the loss of the heads that watch is not finite {row} {where}): lower train.online.lr, "
                "or set train.online=null",
                self.skipped,
            )
