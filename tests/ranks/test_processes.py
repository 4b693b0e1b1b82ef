"""Who a process is, where all meet, and what becomes of the command line of those that are not the first."""

import datetime
import os
import sys

import pytest
import torch
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser

import processes
from compiling import check_compile
from partial_equiv.errors import UserError
from processes import Rank, decided, first_host, is_first, lost, own_device, rank, redirected, start, unsaid

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "CUDA_VISIBLE_DEVICES")


@pytest.fixture
def environment(monkeypatch):
    """Return a function that sets the environment of a process, with nothing left of the one that runs the tests."""
    for name in [name for name in os.environ if name in NAMES or name.startswith("SLURM_")]:
        monkeypatch.delenv(name)

    def become(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, str(value))

    return become


def test_a_process_that_nobody_started_is_alone(environment):
    assert rank() == Rank(0, 1, 0) and is_first()
    assert decided(lambda: {"a": (1, 2)}) == {"a": (1, 2)}
    assert unsaid("the same") and unsaid("the same")
    assert lost(RuntimeError("[gloo] Connection closed by peer")) is None
    assert start(torch.device("meta")) == torch.device("meta") and not torch.distributed.is_initialized()
    arguments = sys.argv
    with processes.taking_part():
        assert sys.argv is arguments


def test_torchrun_says_who_a_process_is(environment):
    environment(RANK=5, WORLD_SIZE=8, LOCAL_RANK=1, MASTER_ADDR="there", MASTER_PORT=4711)
    assert rank() == Rank(5, 8, 1) and not is_first()
    assert processes.address() == "tcp://there:4711"


def test_srun_says_who_a_task_is_and_a_batch_script_is_none(environment):
    environment(SLURM_JOB_ID=77, SLURM_NTASKS=8, SLURM_PROCID=0, SLURM_LOCALID=0)
    assert rank() == Rank(0, 1, 0)
    environment(SLURM_STEP_NUM_TASKS=8, SLURM_PROCID=3, SLURM_LOCALID=1, SLURM_STEP_ID=0)
    environment(SLURM_STEP_NODELIST="node[017-019,30]")
    assert rank() == Rank(3, 8, 1)
    assert processes.address() == "tcp://node017:20077"
    environment(SLURM_STEP_ID=2)
    assert processes.address() != "tcp://node017:20077"  # two steps of a job may run side by side
    environment(MASTER_PORT=1234)
    assert processes.address() == "tcp://node017:1234"


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("localhost", "localhost"),
        ("gpu-a1,gpu-b2", "gpu-a1"),
        ("node[001-004]", "node001"),
        ("node[7,9-12],other[1-2]", "node7"),
        ("tux[12-14]-ib0,tux3-ib0", "tux12-ib0"),
        ("n1.cluster.org,n2.cluster.org", "n1.cluster.org"),
    ],
)
def test_the_first_machine_of_a_list(nodes, first):
    assert first_host(nodes) == first


@pytest.mark.parametrize(
    "line",
    [
        [],
        ["-m"],
        ["seed=0,1", "-m"],
        ["-m", "seed=0,1", "net=GCNN"],
        ["hydra.run.dir=mine", "seed=1"],
        ["++hydra.sweep.dir=mine", "--multirun"],
        ["--config-name", "config", "seed=1", "hydra.run.dir=a"],
    ],
    ids=" ".join,
)
def test_other_processes_have_another_place_for_folders_and_all_else_in_common(line):
    folder = "/tmp/it's a place, too"
    arguments = redirected(line, folder)
    parsed = get_args_parser().parse_args(arguments)  # breaks where overrides are not side by side
    overrides = OverridesParser.create().parse_overrides(parsed.overrides)
    values = {override.key_or_group: override.value() for override in overrides}
    assert str(values["hydra.run.dir"]) == str(values["hydra.sweep.dir"]) == folder
    kept = [argument for argument in line if "hydra." not in argument]
    assert [argument for argument in arguments if "hydra." not in argument] == kept
    assert parsed.multirun == any(argument in ("-m", "--multirun") for argument in line)


def test_an_error_that_a_peer_caused_is_told_from_others(environment, monkeypatch):
    environment(RANK=1, WORLD_SIZE=2, LOCAL_RANK=1)

    class Board:
        """Two notices that hang there or not."""

        def __init__(self, *names):
            self.names = names

        def check(self, names):
            return set(names) <= set(self.names)

    monkeypatch.setattr(processes, "board", Board)
    gone = RuntimeError("[/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:4711")
    assert "2 processes of this job" in lost(gone) and "resume=<run folder>" in lost(gone)
    assert "resume=outputs/it goes on" in lost(gone, "outputs/it")
    assert lost(torch.distributed.DistNetworkError("no route to host"))
    assert lost(RuntimeError("shapes differ")) is None
    monkeypatch.setattr(processes, "board", lambda: Board("left"))
    assert lost(gone) == ""  # the first process has said why it left


def test_devices_that_cannot_be_shared_are_refused(environment, monkeypatch):
    environment(LOCAL_RANK=2)
    assert own_device(torch.device("cpu"), Rank(2, 4, 2)) == torch.device("cpu")
    with pytest.raises(UserError, match="device=mps trains in one process"):
        own_device(torch.device("mps"), Rank(0, 2, 0))
    taken = []
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert own_device(torch.device("cuda"), Rank(5, 8, 1)) == torch.device("cuda", 1) and taken == [1]
    with pytest.raises(UserError, match="there are 2: start at most one process a GPU .--nproc-per-node=2."):
        own_device(torch.device("cuda"), Rank(2, 4, 2))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match="there is 1"):
        own_device(torch.device("cuda"), Rank(1, 2, 1))
    monkeypatch.delenv("LOCAL_RANK")
    assert own_device(torch.device("cuda"), Rank(1, 2, 1)) == torch.device("cuda", 0)  # srun --gpus-per-task=1


def test_a_compiled_step_is_refused_where_processes_share_it(monkeypatch):
    monkeypatch.setattr("compiling.no_ranks", lambda: 2)
    with pytest.raises(UserError, match="2 processes exchange within it.*set compile=False"):
        check_compile(torch.nn.Linear(1, 1), torch.device("cpu"))


def test_a_process_whose_others_do_not_come_says_so(environment, monkeypatch):
    environment(RANK=1, WORLD_SIZE=2, LOCAL_RANK=1, MASTER_ADDR="127.0.0.1", MASTER_PORT=1)
    monkeypatch.setattr(processes, "MEETING", datetime.timedelta(seconds=1))
    with pytest.raises(UserError, match="process 1 of 2 met no others at tcp://127.0.0.1:1: start all of them"):
        processes.board()
    assert unsaid("nobody could have said it")
