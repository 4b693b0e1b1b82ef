"""What asks a training to stop before its end: a signal, or that its time is over.

Exit codes: 128 + the number of the signal (INT 130, USR1 138, USR2 140, TERM 143), and 75 after `train.max_minutes`. In
each case the run is saved, and `resume=<run folder>` goes on with the very next step.
"""

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Self

SIGNALS = tuple(name for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2") if hasattr(signal, name))
TIME_IS_OVER = 75
"""EX_TEMPFAIL of sysexits.h: try again later."""


class Stopped(Exception):
    """A training was stopped and is saved.

    Args:
        reason: What asked for it.
        code: Exit code.
        where: How far the run came, in words.
    """

    def __init__(self, reason: str, code: int, where: str) -> None:
        super().__init__(f"stopped by {reason} {where}")
        self.reason, self.code, self.where = reason, code, where


class Stop:
    """Takes note of signals while it is entered, and of the time; a training asks it after each step.

    A second SIGINT is not noted but raised: who presses Ctrl-C twice means at once.

    Args:
        max_minutes: From now on; None without a limit.
        clock: Seconds.
    """

    def __init__(self, max_minutes: float | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.end = None if max_minutes is None else clock() + 60 * max_minutes
        self.max_minutes = max_minutes
        self.noted: str | None = None
        self.before: dict[str, object] = {}

    def __enter__(self) -> Self:
        """Take over the signals; only the main thread can."""
        if threading.current_thread() is threading.main_thread():
            for name in SIGNALS:
                self.before[name] = signal.signal(getattr(signal, name), self.note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the signals back.

        Raises:
            Stopped: one came when no step was left that could have seen it.
        """
        before, self.before = self.before, {}
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)  # type: ignore[arg-type]
        if kind is None and self.noted is not None:
            raise self.stopped("when the training had just ended")

    def note(self, number: int, frame: FrameType | None) -> None:
        """Take note of a signal."""
        if self.noted is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.noted = signal.Signals(number).name

    @property
    def asked(self) -> bool:
        """Whether something asks for a stop."""
        return self.noted is not None or (self.end is not None and self.clock() >= self.end)

    def stopped(self, where: str) -> Stopped:
        """Return what to raise when the run is saved; on the ranks that were not asked themselves, too."""
        if self.noted is not None:
            return Stopped(self.noted, 128 + getattr(signal, self.noted), where)
        if self.end is not None and self.clock() >= self.end:
            return Stopped(f"train.max_minutes={self.max_minutes:g}", TIME_IS_OVER, where)
        return Stopped("another process of this job", TIME_IS_OVER, where)
