"""Learning-rate schedules: one factor for all groups, a pure function of the step where that is possible."""

import functools
import math
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from partial_equiv.errors import UserError
from partial_equiv.menu import bind, choose, parameters

LOWEST_LR = 1e-6  # where the cosine ends, as published
PLATEAU_THRESHOLD = 1e-4  # relative gain that counts as better, as in torch


class Schedule(ABC):
    """The factor of all learning rates at each step."""

    @abstractmethod
    def factor(self, step: int) -> float:
        """Return the factor in (0, 1] of a step, counted from 0."""

    def observe(self, value: float) -> None:  # noqa: B027
        """Take the monitored value after each epoch; a pure function of the step does not care."""

    def state(self) -> dict[str, Any]:
        """Return what the steps do not tell, as JSON holds it."""
        return {}

    def load(self, state: Mapping[str, Any]) -> None:  # noqa: B027
        """Take a state back."""


class Law(Schedule):
    """A pure function of the step."""

    def __init__(self, law: Callable[[int], float]) -> None:
        self.law = law

    def factor(self, step: int) -> float:
        """Return the law's value."""
        return self.law(step)


def cosine_factor(step: int, *, warmup_steps: int, no_steps: int, lowest: float) -> float:
    """Return the factor of linear warm-up and cosine decay.

    (s + 1) / (W + 1) for s < W, then lowest + (1 - lowest) (1 + cos(pi (s - W) / (T - W))) / 2: the first step learns,
    the peak is exactly 1 at s = W, and the curve would reach `lowest` at s = T.

    Args:
        step: s, from 0.
        warmup_steps: W.
        no_steps: T, steps in all.
        lowest: Factor at the end.
    """
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    done = min((step - warmup_steps) / max(no_steps - warmup_steps, 1), 1.0)
    return lowest + (1 - lowest) * 0.5 * (1 + math.cos(math.pi * done))


def make_cosine(*, lr: float, epochs: int, steps_per_epoch: int, warmup_epochs: int = 0) -> Schedule:
    """Return `cosine_factor` over all epochs, ending at a learning rate of 1e-6; a warm-up may fill all of them.

    Raises:
        UserError: a negative warm-up.
    """
    if warmup_epochs < 0:
        raise UserError(
            f"train.scheduler_params.warmup_epochs={warmup_epochs} is negative: give 0 (none) or more epochs"
        )
    return Law(
        functools.partial(
            cosine_factor,
            warmup_steps=warmup_epochs * steps_per_epoch,
            no_steps=epochs * steps_per_epoch,
            lowest=min(LOWEST_LR / lr, 1.0),
        )
    )


def make_multistep(*, steps_per_epoch: int, decay_steps: list[int], decay_factor: float) -> Schedule:
    """Return a schedule that divides by `decay_factor` at each epoch, counted from 0, of `decay_steps`."""
    check_decay_factor(decay_factor)
    milestones = sorted(decay_steps)
    return Law(lambda step: decay_factor ** -bisect_right(milestones, step // steps_per_epoch))


class Plateau(Schedule):
    """Divide by `decay_factor` once the monitored value has not improved for more than `patience` epochs."""

    counters: ClassVar[tuple[str, ...]] = ("scale", "best", "waited")

    def __init__(self, *, mode: str, decay_factor: float, patience: int) -> None:
        check_decay_factor(decay_factor)
        if patience < 0:
            raise UserError(f"train.scheduler_params.patience={patience} is negative: give 0 or more epochs")
        self.sign = 1 if mode == "max" else -1
        self.decay_factor, self.patience = decay_factor, patience
        self.scale, self.waited = 1.0, 0
        self.best: float | None = None

    def factor(self, step: int) -> float:
        """Return the present factor."""
        return self.scale

    def observe(self, value: float) -> None:
        """Count epochs without a relative gain of 1e-4."""
        margin = 0.0 if self.best is None else PLATEAU_THRESHOLD * abs(self.best)
        if self.best is None or self.sign * (value - self.best) > margin:
            self.best, self.waited = value, 0
            return
        self.waited += 1
        if self.waited > self.patience:
            self.scale, self.waited = self.scale / self.decay_factor, 0

    def state(self) -> dict[str, Any]:
        """Return factor, best value and waiting time."""
        return {name: getattr(self, name) for name in self.counters}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take them back."""
        for name in self.counters:
            setattr(self, name, state[name])


def check_decay_factor(value: float) -> None:
    """Check that dividing by `value` lowers a rate.

    Raises:
        UserError: it does not.
    """
    if not 1 < value < math.inf:
        raise UserError(f"train.scheduler_params.decay_factor={value} must be above 1: rates are divided by it")


SCHEDULES: Mapping[str, Callable[..., Schedule]] = {
    "cosine": make_cosine,
    "multistep": make_multistep,
    "plateau": Plateau,
}
FACTS = ("lr", "epochs", "steps_per_epoch", "mode")


def make_schedule(name: str | None, choices: Mapping[str, Any], **facts: Any) -> Schedule:
    """Return a schedule.

    Args:
        name: Entry of `SCHEDULES`, None for a constant rate.
        choices: `train.scheduler_params`; null leaves a key out, and so does another schedule.
        facts: lr, epochs, steps_per_epoch, and the objective's mode; each schedule takes what it needs.

    Raises:
        UserError: an unknown name or key, a missing one, or a value that does not fit.
    """
    known = {key for entry in SCHEDULES.values() for key in parameters(entry)}
    entries = {key: value for key, value in choices.items() if value is not None or key not in known}
    if name is None:
        bind(SCHEDULES, "cosine", entries, "train.scheduler_params", later=FACTS)
        return Law(lambda step: 1.0)
    make = choose(SCHEDULES, name, "train.scheduler")
    bound = bind(SCHEDULES, name, entries, "train.scheduler_params", later=FACTS)
    return bound(**{key: value for key, value in facts.items() if key in parameters(make)})
