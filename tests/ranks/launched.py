"""Real programs of several processes: `torchrun main.py`, watched and killed."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 240  # seconds: a program that has not ended by then hangs


def command(*arguments, no_processes=2):
    """Return the command line of main.py, alone or under torchrun."""
    if no_processes == 1:
        return [sys.executable, str(ROOT / "main.py"), *arguments]
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={no_processes}"]
    return [sys.executable, *launcher, str(ROOT / "main.py"), *arguments]


@contextmanager
def running(*arguments, folder, no_processes=2):
    """Start main.py in a folder, both its streams going to files there, and end it whatever happens."""
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "TMPDIR": str(folder / "tmp")}
    (folder / "tmp").mkdir(parents=True, exist_ok=True)
    with (folder / "out.txt").open("w") as out, (folder / "err.txt").open("w") as err:
        line = command(*arguments, no_processes=no_processes)
        process = subprocess.Popen(line, cwd=folder, env=environment, stdout=out, stderr=err, start_new_session=True)
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def run(*arguments, folder, no_processes=2):
    """Run main.py in a folder to its end and return exit code, stdout and stderr."""
    with running(*arguments, folder=folder, no_processes=no_processes) as process:
        process.wait(LIMIT)
    return process.returncode, *((folder / name).read_text() for name in ("out.txt", "err.txt"))


def tasks_of_srun(*arguments, folder, no_tasks=2):
    """Run main.py as the tasks of a SLURM step on this machine, and return exit codes, stdouts and stderrs.

    The job number, which decides where they meet, is that of this process, so that two tests do not meet.
    """
    step = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_STEP_ID": "0", "SLURM_STEP_NODELIST": "localhost"}
    processes = []
    for number in range(no_tasks):
        task = {"SLURM_PROCID": str(number), "SLURM_LOCALID": str(number), "SLURM_STEP_NUM_TASKS": str(no_tasks)}
        environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo"} | step | task
        line = command(*arguments, no_processes=1)
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        processes.append(subprocess.Popen(line, cwd=folder, env=environment, **pipes))
    try:
        streams = [process.communicate(timeout=LIMIT) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], *map(list, zip(*streams, strict=True))


def process_of_rank(number, launcher):
    """Return the process id of a rank, as the environment of the launcher's children tells."""
    for child in Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split():
        if f"RANK={number}".encode() in Path(f"/proc/{child}/environ").read_bytes().split(b"\0"):
            return int(child)
    raise AssertionError(f"no rank {number} among the children of {launcher}")


def wait_until(happened, seconds=LIMIT):
    """Wait for something, and fail if it does not happen."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def errors_of(text):
    """Return what was said as an error."""
    return [line for line in text.splitlines() if line.startswith("error: ")]
