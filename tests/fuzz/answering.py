"""`python main.py <arguments> dry_run=True` in this process, and what is wrong with its answer."""

import contextlib
import functools
import io
import logging
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from hydra._internal.hydra import Hydra

import config_errors
import main

LIMIT = 60  # seconds for one answer, on a busy machine
LONGEST = 2_500  # characters of a sentence
INTERNALS = ("Traceback", "<class", " object at 0x", "NoneType", "omegaconf.", "self.")
"""What a sentence for a user does not hold."""


class Answer(NamedTuple):
    """Exit code, both outputs, and seconds; a code of None is an exception, whose traceback is in `err`."""

    code: int | None
    out: str
    err: str
    seconds: float


class TooLong(BaseException):
    """An answer takes too long; no `except` of ours catches it."""


@functools.cache
def warm():
    """Load all that a job loads: an alarm in the middle of an import would leave half a module."""
    answer(())


def ask(arguments):
    """Return the answer to an override list, of which everything is constructed but the data."""
    warm()
    return answer(arguments, LIMIT)


def answer(arguments, limit=0):
    """Return the answer, given up after `limit` seconds; 0 waits for it."""
    out, err, start = io.StringIO(), io.StringIO(), time.monotonic()
    root = logging.getLogger()
    kept = sys.argv, root.handlers[:], root.level, signal.signal(signal.SIGALRM, give_up), os.environ.copy()
    os.environ["HYDRA_FULL_ERROR"] = "1"
    sys.argv = ["main.py", *arguments, "dry_run=True"]
    signal.alarm(limit)
    try:
        # Hydra composes once more, for nothing but hydra.mode: half of the time of an answer.
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            mock.patch.object(Hydra, "get_mode", return_value=None),
        ):
            code = config_errors.run_command_line(main.main)
    except SystemExit as stop:
        code = stop.code
    except (Exception, TooLong):
        code = None
        err.write(traceback.format_exc())
    finally:
        signal.alarm(0)
        sys.argv, root.handlers[:], root.level, handler, environment = kept
        signal.signal(signal.SIGALRM, handler)
        os.environ.clear()
        os.environ.update(environment)
    return Answer(code, out.getvalue(), err.getvalue(), time.monotonic() - start)


def give_up(number, frame):
    raise TooLong


def fault(answer, folder):
    """Return what is wrong with an answer, None if nothing is.

    Args:
        answer: To judge.
        folder: Where it was asked, and where nothing may be left.
    """
    if answer.seconds > LIMIT:
        return f"took {answer.seconds:.0f} s"
    if left := sorted(path.name for path in Path(folder).iterdir()):
        return f"left {left}"
    told = [line for line in answer.err.splitlines() if not line.startswith("note: ")]
    if answer.code == 0:
        return f"is fine, and says {told}" if told or not answer.out else None
    if answer.code != 2:
        return f"exit code {answer.code}: {' | '.join(answer.err.splitlines()[-4:])}"
    if answer.out or len(told) != 1 or not told[0].startswith("error: ") or len(told[0]) > LONGEST:
        return f"is not one line: {answer.out!r} {told}"
    if found := [word for word in INTERNALS if word in told[0]]:
        return f"speaks of {found}: {told[0]}"
    return None
