"""Constants of plain numbers: made once, the compiler's own mark on them, and no compiler loaded to set it."""

import subprocess
import sys

import torch

from partial_equiv.convs.constant import constant
from partial_equiv.convs.taps import make_taps


def test_a_constant_is_made_once_for_its_numbers():
    calls = []

    @constant
    def line(length, device):
        calls.append(length)
        return (torch.arange(length, device=device),)

    cpu = torch.device("cpu")
    assert line(3, cpu)[0] is line(3, cpu)[0] and torch.equal(line(4, cpu)[0], torch.arange(4)) and calls == [3, 4]
    with torch.inference_mode():
        assert not line(5, cpu)[0].is_inference()


def test_a_trace_leaves_nothing_behind():
    cpu, sizes = torch.device("cpu"), (torch.float32, torch.device("cpu"))
    with torch._subclasses.FakeTensorMode():
        make_taps(23, *sizes)
    taps = make_taps(23, *sizes)
    assert type(taps.positions) is torch.Tensor and taps.positions.device == cpu


def test_the_mark_is_the_compilers():
    marked = torch.compiler.assume_constant_result(lambda: 0)
    assert vars(marked).items() <= vars(make_taps).items() and vars(marked)


def test_importing_the_library_loads_no_compiler():
    code = "import sys, partial_equiv, partial_equiv.export, partial_equiv.audit; print('torch._dynamo' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
