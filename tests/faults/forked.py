"""A command of main.py in a process of its own that may be killed: a fork, so that torch is loaded once."""

import multiprocessing.util
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import config_errors
import main


class Ended(NamedTuple):
    """How a process ended: its exit code, minus the number of a signal that killed it, and what it said."""

    code: int
    words: str


def run(folder: Path, words: list[str], fault: Callable[[], None] = lambda: None, after: float | None = None) -> Ended:
    """Run `python main.py <words>` in a folder.

    Args:
        folder: Where.
        words: The command line.
        fault: Called in the new process before the command: it plants what is to go wrong.
        after: Seconds until the process is killed; None lets it end.
    """
    log = folder / "said.txt"
    child = os.fork()
    if child == 0:
        os._exit(_command(folder, log, words, fault))
    started = time.monotonic()
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return Ended(os.waitstatus_to_exitcode(status), log.read_text() if log.exists() else "")
        if after is not None and time.monotonic() - started > after:
            os.kill(child, signal.SIGKILL)
            after = None
        if time.monotonic() - started > 240:
            os.kill(child, signal.SIGKILL)
            raise AssertionError(f"{' '.join(words)} did not end: {log.read_text()[-2000:]}")
        time.sleep(0.002)


def _command(folder: Path, log: Path, words: list[str], fault: Callable[[], None]) -> int:
    try:
        multiprocessing.util._run_after_forkers()  # what its own forks do: no thread of the parent is there any more
        os.chdir(folder)
        with log.open("w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
        sys.argv = ["main.py", *words]
        for name in ("SIGINT", "SIGTERM"):
            signal.signal(getattr(signal, name), signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL)
        fault()
        code = config_errors.run_command_line(main.main)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
        code = 99
    sys.stdout.flush()
    sys.stderr.flush()
    return code
