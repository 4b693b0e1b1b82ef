"""What can go wrong in a training, planted into the process that trains."""

import errno
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import torch

import steps
from partial_equiv.runs import atomic


def nothing() -> Callable[[], None]:
    """Let all go well."""
    return lambda: None


def put_a_file_in_the_place_of_checkpoints(number: int) -> Callable[[], None]:
    """Take the folder of checkpoints away after a step, and leave a file there."""

    def act() -> None:
        Path("run/checkpoints").rename("run/elsewhere")
        Path("run/checkpoints").write_text("not a folder")

    return at_step(number, act)


def kill() -> None:
    """Die at once, nothing flushed, nothing closed."""
    os.kill(os.getpid(), signal.SIGKILL)


def kill_at_step(number: int) -> Callable[[], None]:
    """Die after a step, counted from 1 through all epochs and stages."""
    return at_step(number, kill)


def signal_at_step(number: int, name: str) -> Callable[[], None]:
    """Get a signal within a step."""
    return at_step(number, lambda: os.kill(os.getpid(), getattr(signal, name)))


def at_step(number: int, act: Callable[[], None]) -> Callable[[], None]:
    """Do something after a step, counted from 1."""

    def plant() -> None:
        take, taken = steps.Steps.take, 0

        def counted(self, batch, index, no_steps):
            nonlocal taken
            step = take(self, batch, index, no_steps)
            taken += 1
            if taken == number:
                act()
            return step

        steps.Steps.take = counted

    return plant


def spoil_steps(numbers: list[int], value: float = float("nan")) -> Callable[[], None]:
    """Let the loss of some steps, counted from 1, be no number."""

    def plant() -> None:
        init = steps.Steps.__init__

        def spoiled(self, *arguments, **keywords):
            init(self, *arguments, **keywords)
            forward, taken = self.forward, 0

            def spoil(batch):
                nonlocal taken
                taken += 1
                step = forward(batch)
                return step._replace(loss=step.loss * value) if taken in numbers else step

            self.forward = spoil

        steps.Steps.__init__ = spoiled

    return plant


def spoil_weights(number: int) -> Callable[[], None]:
    """Let a weight be no number after a step, counted from 1."""

    def plant() -> None:
        take, taken = steps.Steps.take, 0

        def spoiled(self, batch, index, no_steps):
            nonlocal taken
            step = take(self, batch, index, no_steps)
            taken += 1
            if taken == number:
                with torch.no_grad():
                    next(self.stage.objective.parameters()).view(-1)[0] = float("nan")
            return step

        steps.Steps.take = spoiled

    return plant


def kill_in_write(number: int, where: str) -> Callable[[], None]:
    """Die within a write, counted from 1.

    Args:
        number: Which of all atomic writes: configuration, manifest, checkpoints, best weights, log.
        where: "half": half of the bytes are in the temporary file; "whole": all are, but it has not its name yet;
            "named": it has, but the folder is not flushed.
    """

    def plant() -> None:
        written = 0
        replace, flush, fsync = os.replace, atomic._flush_folder, os.fsync

        def halved(handle):
            nonlocal written
            fsync(handle)
            if not os.path.isdir(f"/proc/self/fd/{handle}"):
                written += 1
                if written == number and where == "half":
                    os.ftruncate(handle, os.fstat(handle).st_size // 2)
                    kill()

        def replaced(source, target):
            if written == number and where == "whole":
                kill()
            replace(source, target)

        def flushed(folder):
            if written == number and where == "named":
                kill()
            flush(folder)

        os.fsync, os.replace, atomic._flush_folder = halved, replaced, flushed

    return plant


def fill_disk(after: int) -> Callable[[], None]:
    """Let every flush after the first ones fail as on a full disk."""

    def plant() -> None:
        fsync, written = os.fsync, 0

        def full(handle):
            nonlocal written
            written += 1
            if written > after:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            fsync(handle)

        os.fsync = full

    return plant


def kill_worker(number: int) -> Callable[[], None]:
    """Kill a reading process after a step."""

    def act() -> None:
        children = [int(child) for child in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]
        assert children, "no reading process is there"
        os.kill(children[0], signal.SIGKILL)

    return at_step(number, act)


def count(folder: str) -> Callable[[], None]:
    """Count the steps and the writes of a run, and the seconds it takes, into a file."""

    def plant() -> None:
        take, fsync, numbers, started = steps.Steps.take, os.fsync, [0, 0], time.monotonic()

        def note() -> None:
            Path(folder, "counted.json").write_text(json.dumps([*numbers, time.monotonic() - started]))

        def counted_take(self, batch, index, no_steps):
            numbers[0] += 1
            note()
            return take(self, batch, index, no_steps)

        def counted_flush(handle):
            numbers[1] += not os.path.isdir(f"/proc/self/fd/{handle}")
            note()
            fsync(handle)

        steps.Steps.take, os.fsync = counted_take, counted_flush

    return plant


def counted(folder: Path) -> tuple[int, int, float]:
    """Return steps, writes and seconds of a run that was counted."""
    no_steps, no_writes, seconds = json.loads((folder / "counted.json").read_text())
    return no_steps, no_writes, seconds
