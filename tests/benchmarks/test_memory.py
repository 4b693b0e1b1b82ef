"""The peak of a step above what lay there before it.

Measured in processes of their own, as the benchmarks do: one that ran other tests before has holes to fill unseen.
"""

import subprocess
import sys

import pytest
import torch
from torch import nn

from benchmarks.bare import CONVOLUTIONS, NORMS, record
from benchmarks.machine import ROOT
from benchmarks.memory import MIB, Request, bare_step, own_environment, peaks, rise

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="peaks are read from /proc, which only Linux has")
BIG = 64 * MIB


def in_a_process_of_its_own(call):
    done = subprocess.run(
        [sys.executable, "-c", f"from tests.benchmarks import test_memory; test_memory.{call}"],
        cwd=ROOT,
        env=own_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@LINUX
def test_the_rise_is_what_a_run_holds_at_once():
    in_a_process_of_its_own("check_what_is_held_at_once()")


def check_what_is_held_at_once():
    def run():
        first = torch.ones(BIG // 4)
        del first
        second = torch.ones(BIG // 4), torch.ones(BIG // 4)
        del second

    assert rise(run, "cpu") == pytest.approx(2 * BIG, rel=0.05)
    assert rise(run, "cpu") == pytest.approx(2 * BIG, rel=0.05)  # nothing of the first is left


@pytest.mark.long
@LINUX
@pytest.mark.parametrize("resident", [False, True])
def test_a_bare_network_holds_inputs_weights_and_gradients(resident):
    in_a_process_of_its_own(f"check_a_bare_network({resident})")


def check_a_bare_network(resident):
    width, side, batch = 64, 64, 16
    layers = [nn.Sequential(nn.Conv2d(width, width, 1), nn.BatchNorm2d(width)) for _ in range(3)]
    network = nn.Sequential(*layers)
    one = 4 * width * side * side * batch
    images = torch.randn(batch, width, side, side, requires_grad=True)
    calls = record(lambda: network(images), (*CONVOLUTIONS, *NORMS), copies=False)
    run = bare_step(calls, torch.device("cpu"), resident=resident)
    run()
    # Six inputs; backward a gradient that comes and one that goes, and up to five copies in the library's own layout.
    assert 6 * one < rise(run, "cpu") < 14 * one


@pytest.mark.long
@LINUX
def test_requests_are_measured_in_a_process_of_their_own(capfd):
    small = ("dataset=digits", "net.no_hidden=4", "kernel.no_hidden=4", "base_group.no_samples=4")
    requests = [Request(kind, small, 64) for kind in ("step", "bare", "bare, weights resident")]
    step, bare, least = peaks(requests)
    assert step > bare > least > 0
    assert capfd.readouterr().err.count("memory, ") == 3
