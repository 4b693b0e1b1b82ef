"""A command of main.py in a process of its own that may be killed: a fork, so that torch is loaded once.

The forks are those of a server, which imports everything and computes nothing: a process of many tests has threads,
which no fork of it has any more.
"""

import atexit
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
LONGEST = 240  # seconds


class Ended(NamedTuple):
    """How a process ended: its exit code, minus the number of a signal that killed it, and what it said."""

    code: int
    words: str


class Server:
    """The process that forks, started at the first command of a test process."""

    process: subprocess.Popen | None = None

    @classmethod
    def ask(cls, request: dict) -> dict:
        """Return what it answers."""
        if cls.process is None:
            cls.process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.forked"],
                cwd=ROOT,
                env=os.environ | {"HYDRA_FULL_ERROR": "1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            atexit.register(cls.process.kill)
        cls.process.stdin.write(json.dumps(request) + "\n")
        cls.process.stdin.flush()
        return json.loads(cls.process.stdout.readline())


def run(folder: Path, words: list[str], fault: tuple = (), after: float | None = None) -> Ended:
    """Run `python main.py <words>` in a folder.

    Args:
        folder: Where.
        words: The command line.
        fault: Name of a function of `tests.faults.faults`, and its arguments: what is to go wrong.
        after: Seconds until the process is killed; None lets it end.
    """
    answer = Server.ask({"folder": str(folder), "words": words, "fault": fault, "after": after})
    assert answer["code"] is not None, f"{' '.join(words)} did not end: {answer['words'][-2000:]}"
    return Ended(answer["code"], answer["words"])


def serve() -> None:
    """Answer requests until there are no more."""
    from tests.faults import faults

    for line in sys.stdin:
        request = json.loads(line)
        folder = Path(request["folder"])
        name, *arguments = request["fault"] or ["nothing"]
        child = os.fork()
        if child == 0:
            os._exit(command(folder, request["words"], getattr(faults, name)(*arguments)))
        code = wait(child, request["after"])
        log = folder / "said.txt"
        answer = {"code": code, "words": log.read_text(errors="replace") if log.exists() else ""}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def wait(child: int, after: float | None) -> int | None:
    """Return the exit code of a process, killed after so many seconds; None if it would not end."""
    started = time.monotonic()
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if after is not None and time.monotonic() - started > after:
            os.kill(child, signal.SIGKILL)
            after = None
        if time.monotonic() - started > LONGEST:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return None
        time.sleep(0.002)


def command(folder: Path, words: list[str], plant) -> int:
    """Run one command in this process and return its exit code."""
    import config_errors
    import main

    try:
        os.chdir(folder)
        with (folder / "said.txt").open("w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        sys.stdin = open(os.devnull)  # noqa: SIM115
        sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
        sys.argv = ["main.py", *words]
        plant()
        code = config_errors.run_command_line(main.main)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
        code = 99
    sys.stdout.flush()
    sys.stderr.flush()
    return code


if __name__ == "__main__":
    import torch

    import main  # noqa: F401  (what a command would load, before the first fork)
    import trainer  # noqa: F401

    torch.set_num_threads(1)
    serve()
