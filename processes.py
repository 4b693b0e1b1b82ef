"""One job on many processes, started by torchrun or srun: who is who, who speaks and writes, and how all end together.

The first process is the one that people see: it alone makes a run folder, writes, prints and decides what is done.
What is computed together is in `partial_equiv.ranks`.
"""

import contextlib
import functools
import hashlib
import math
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

# Torch is imported inside functions: --help and tab completion should not wait for it.

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
LOST, TERMINATED = 69, 128 + signal.SIGTERM
"""Exit codes: a peer is gone (EX_UNAVAILABLE of sysexits.h), and who started the processes ends them."""
MEETING = timedelta(minutes=5)
"""How long the processes wait for one another at the start."""
PATIENCE = timedelta(minutes=30)
"""How long one waits for the others in the middle of the work; a death is noticed at once, a hanging process then."""
GRACE, GLANCE = 10.0, 0.05  # seconds that the others leave to the first one to end, and between two looks
PORTS = 20_000
FOLDERS = ("hydra.run.dir", "hydra.sweep.dir")
SIGNS = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer")


class Rank(NamedTuple):
    """Which process this is.

    Args:
        number: Among all, from 0.
        count: Of all.
        local: Among those of this machine, from 0.
    """

    number: int = 0
    count: int = 1
    local: int = 0


def rank() -> Rank:
    """Return what torchrun or srun says of this process; alone where neither started it."""
    there = os.environ
    for names in (("RANK", "WORLD_SIZE", "LOCAL_RANK"), ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID")):
        # SLURM_NTASKS would not do: a batch script has it, which is no task of a step.
        if all(there.get(name, "").isdecimal() for name in names):
            return Rank(*(int(there[name]) for name in names))
    return Rank()


def is_first() -> bool:
    """Say whether this process is the one that writes and speaks."""
    return rank().number == 0


def address() -> str:
    """Return where the processes meet: as torchrun says, or on the first machine of a SLURM step."""
    host = os.environ.get("MASTER_ADDR") or first_host(os.environ.get("SLURM_STEP_NODELIST", "localhost"))
    job, step = (int(os.environ.get(name, "0")) for name in ("SLURM_JOB_ID", "SLURM_STEP_ID"))
    # Jobs that share a machine meet at different ports.
    return f"tcp://{host}:{os.environ.get('MASTER_PORT') or PORTS + (job + 100 * step) % PORTS}"


def first_host(nodes: str) -> str:
    """Return the first machine of a list as SLURM writes it: node[003-005,7],other -> node003."""
    found = re.match(r"([^,\[]+)(?:\[([^\],-]+)[^\]]*\])?([^,\[]*)", nodes)
    return "".join(part or "" for part in found.groups()) if found else nodes


@functools.cache
def board() -> Any:
    """Return the notice board of all processes; torchrun keeps it, and without torchrun the first process does.

    Raises:
        UserError: the others did not come.
    """
    import torch.distributed as dist

    from partial_equiv.errors import UserError

    me = rank()
    try:
        store, _, _ = next(dist.rendezvous(address(), me.number, me.count, timeout=MEETING))
    except (dist.DistError, ValueError) as error:
        raise UserError(
            f"process {me.number} of {me.count} met no others at {address()}: start all of them with torchrun or srun, "
            f"with one MASTER_ADDR and a free MASTER_PORT ({str(error).splitlines()[0]})"
        ) from error
    return dist.PrefixStore("partial_equiv", store)


def decided(make: Callable[[], T]) -> T:
    """Return in every process what `make` returns in the first one, which alone calls it; the others wait for it.

    Args:
        make: Returns plain values, as YAML holds them.
    """
    me = rank()
    if me.count == 1:
        return make()
    import yaml

    store = board()
    name = f"decision/{store.add(f'decisions/{me.number}', 1)}"
    if me.number:
        look_for(store, name, "left")
        if not store.check([name]):
            sys.exit(LOST)  # the first process has said why it left
        decision: T = yaml.safe_load(store.get(name))
        return decision
    decision = make()
    store.set(name, yaml.safe_dump(decision))
    return decision


def look_for(store: Any, *names: str, seconds: float = math.inf) -> None:
    """Wait until one of the notes hangs on the board; looked for again and again, so that a signal can end the wait."""
    end = time.monotonic() + seconds
    while not any(store.check([name]) for name in names) and time.monotonic() < end:
        time.sleep(GLANCE)


@contextlib.contextmanager
def first_before_others() -> Iterator[None]:
    """Let the first process go through a block, which may fetch and write files, and the others after it."""
    if not is_first():
        decided(lambda: None)
    yield
    if is_first():
        decided(lambda: None)


def unsaid(sentence: str) -> bool:
    """Say whether no other process has said a sentence yet, and take note that it is said now."""
    me = rank()
    if me.count == 1 or not board.cache_info().currsize:
        return True
    from torch.distributed import DistError

    name = hashlib.sha256(sentence.encode()).hexdigest()
    try:
        times = board().add(f"{name}/{me.number}", 1)
        return bool(board().add(f"{name}/all/{times}", 1) == 1)
    except DistError:  # better said twice than never
        return True


def start(device: "torch.device") -> "torch.device":
    """Join the processes into one group, for the life of the program, and return the device of this one.

    Raises:
        UserError: more processes than GPUs, or a kind of device that cannot be shared.
    """
    me = rank()
    if me.count == 1:
        return device
    import torch.distributed as dist

    from partial_equiv.errors import UserError

    device = own_device(device, me)
    if not dist.is_initialized():
        # What is no number of the network, such as names and sizes, always goes over the CPU.
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=board(), rank=me.number, world_size=me.count, timeout=PATIENCE)
    elif device.type == "cuda" and "nccl" not in dist.get_backend_config():
        raise UserError("the jobs of one torchrun share one kind of device: sweep over device without torchrun")
    return device


def own_device(device: "torch.device", me: Rank) -> "torch.device":
    """Return the device of a process: of GPUs, the one with its number on its machine.

    Raises:
        UserError: there are fewer, or the kind cannot be shared.
    """
    import torch

    from partial_equiv.errors import UserError

    if device.type not in ("cpu", "cuda"):
        raise UserError(f"device={device.type} trains in one process: leave torchrun out, or set device=cpu")
    if device.type == "cpu":
        return device
    no_gpus = torch.cuda.device_count()
    by_slurm = "LOCAL_RANK" not in os.environ
    local = 0 if by_slurm and no_gpus == 1 else me.local  # srun --gpus-per-task=1 shows each task its own one alone
    if local >= no_gpus:
        raise UserError(
            f"process {me.local} of this machine has no GPU of its own, there {'is' if no_gpus == 1 else 'are'} "
            f"{no_gpus}: start at most one process a GPU (--nproc-per-node={no_gpus}), or set device=cpu"
        )
    torch.cuda.set_device(local)
    return torch.device("cuda", local)


@contextlib.contextmanager
def taking_part() -> Iterator[None]:
    """Run the program as one of many: quietly, unless it is the first, and together to the end.

    No process leaves before the first one, for torchrun ends all others when one fails: a mistake is then answered and
    cleared away, and a checkpoint written, by the first one.
    """
    me = rank()
    if me.count == 1:
        yield
        return
    import torch.distributed as dist

    store = board()
    with aside() if me.number else contextlib.nullcontext():
        wait = GRACE
        try:
            yield
            decided(lambda: None)
            if dist.is_initialized():
                dist.destroy_process_group()
        except SystemExit as end:
            wait = 0 if end.code == TERMINATED else GRACE
            raise
        finally:
            with contextlib.suppress(dist.DistError):  # without a board the first process has left
                leave(store, me, wait)


def leave(store: Any, me: Rank, wait: float) -> None:
    """Leave after the first process, but not longer than a wait; where that keeps the board, it leaves last."""
    if me.number:
        look_for(store, "left", seconds=wait)
        store.add("gone", 1)
        return
    store.set("left", "")
    end = time.monotonic() + GRACE
    kept_here = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    while kept_here and store.add("gone", 0) < me.count - 1 and time.monotonic() < end:
        time.sleep(GLANCE)


@contextlib.contextmanager
def aside() -> Iterator[None]:
    """Print nothing, and let Hydra make its folders where they are removed again, also after a SIGTERM."""
    with tempfile.TemporaryDirectory(prefix="partial_equiv-") as folder, open(os.devnull, "w") as nothing:
        given = sys.argv
        sys.argv = [given[0], *redirected(given[1:], folder)]
        before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(TERMINATED))
        try:
            with contextlib.redirect_stdout(nothing):
                yield
        finally:
            signal.signal(signal.SIGTERM, before)
            sys.argv = given


def redirected(arguments: Sequence[str], folder: str) -> list[str]:
    """Return a command line with another place for Hydra's folders, next to other overrides, as argparse wants it."""
    kept = [argument for argument in arguments if argument.lstrip("+").partition("=")[0] not in FOLDERS]
    escaped = folder.replace("'", "\\'")
    place = next((i for i, argument in enumerate(kept) if "=" in argument and not argument.startswith("-")), len(kept))
    return [*kept[:place], *(f"{name}='{escaped}'" for name in FOLDERS), *kept[place:]]


def lost(error: Exception, run: str = "<run folder>") -> str | None:
    """Return what to say of an error that another process caused by ending; None for every other error.

    Nothing, where the first process left in order: then it has said why.

    Args:
        error: What was raised here.
        run: Where the run lies.
    """
    count = rank().count
    if count == 1:
        return None
    from torch.distributed import DistError

    if not isinstance(error, DistError) and not any(sign in str(error) for sign in SIGNS):
        return None
    with contextlib.suppress(DistError):
        if board().check(["left"]):
            return ""
    return (
        f"another of the {count} processes of this job has ended or does not answer, so all end (if it said why, that "
        f"is above): resume={run} goes on from the last checkpoint"
    )
