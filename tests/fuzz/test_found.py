"""What the fuzz, and a hand that knew where to look, found once: each is one sentence now."""

import os
import sys
from unittest import mock

import pytest

import config_errors
import main
from partial_equiv.nets import budget
from tests.fuzz.answering import ask, fault

SIE = "train=sie net=SplitEncoder dataset=digit_turns"
EXACT = "base_group=C4 conv=full"
FOUND = {
    # Too large: memory that is not there, or loops without end.
    "net.no_hidden=1000000": "this network needs a tensor of",
    f"net.no_hidden=1{'0' * 30}": "net.no_hidden is an integer of 100 bits",
    "net.no_blocks=1000000000": "blocks at most 1,000",
    "kernel.size=100001": "give an odd number up to 1023",
    "kernel.no_layers=1000000": "more than 20,000 tensors",
    "base_group.no_samples=1000000000": "samples at most 20,000",
    f"net=GResNet {EXACT} net.width=1000000": "this network needs a tensor of",
    f"net=GResNet {EXACT} net.width=match:1{'0' * 30}": "is no width of a GResNet",
    f"net=LiftingNet {EXACT} net.kernel_size=100000": "this network needs a tensor of",
    f"{SIE} train.mlp=1000000-1000000": "give smaller widths, for example train.mlp",
    f"{SIE} net.width=1000000000": "this network needs a tensor of",
    f"{SIE} train.predictor.widths=[1000000000]": "this network needs a tensor of",
    "dataset=glyph dataset.copies=1000000000": "dataset.copies=1000000000 is out of range: give 1 to",
    "dataset.copies=1000000000000": "turned copies of each training image",
    f"{SIE} dataset=latent_vectors net.backbone=mlp dataset.no_objects=1000000000000": "give up to 400,000",
    "dataset=npz dataset.root=/dev/zero": "a device or a pipe, which may never end",
    f"{SIE} dataset=view_npz dataset.root=/dev/zero": "a device or a pipe, which may never end",
    # Numbers that are none.
    "net.block_width_factors=[1e308,2]": "makes no widths",
    "net.dropout=nan": "net.dropout=nan is not finite",
    "train.weight_decay=inf": "train.weight_decay=inf is not finite",
    "kernel.omega0=1e308": "must be above 0 for SIREN",
    "kernel.omega0=1e-308": "must be above 0 for SIREN",
    "kernel.size='²'": "is not a size",
    f"net=GResNet {EXACT} net.width='²'": "is no width of a GResNet",
    "dataset.copies=-1": "dataset.copies=-1 is out of range",  # a dry run told of -5588 images
    # Texts.
    "comment='\udcff'": "cannot be read|no text",
    f"comment={'[' * 3_000}": "cannot be read|too deeply",
    f"comment={'[' * 900}1{']' * 900}": "wrong type|too deeply",
    f"comment=x{'y' * 100_000}z": "",
    "wandb.mode=\x1b[31m": r"\x1b",
    # Hydra's own keys, which Hydra looks at too late or not at all.
    "hydra.run.dir=/proc/nowhere/x": "/proc/nowhere: No such file or directory; choose a writable hydra.run.dir",
    "hydra.run.dir=/dev/null/x": "Not a directory; choose a writable hydra.run.dir",
    "hydra.verbose=[1,2]": "Hydra cannot start: A logger name must be a string",
    "hydra.job_logging.root.level=foo": "Hydra cannot start: Unable to configure root logger",
    "hydra.output_subdir=/proc/x": "/proc/x: No such file or directory",
}


@pytest.mark.parametrize("arguments", [pytest.param(key, id=str(number)) for number, key in enumerate(FOUND)])
def test_it_is_one_sentence_now(tmp_path, monkeypatch, arguments):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(budget, "usable_bytes", lambda: 8 << 30)
    answer = ask(arguments.split(" "))
    assert fault(answer, tmp_path / "here") is None
    if FOUND[arguments]:
        assert answer.code == 2
        assert any(words in answer.err for words in FOUND[arguments].split("|")), answer.err


def test_a_fault_of_ours_keeps_its_traceback(tmp_path, monkeypatch):
    """What is no mistake of the command line is not made one sentence, whatever its kind."""
    monkeypatch.chdir(tmp_path)
    for error in (RuntimeError("ours"), OSError(28, "full"), KeyError("ours")):
        monkeypatch.setattr(main, "run_job", mock.Mock(side_effect=error))
        answer = ask(())
        assert answer.code is None and type(error).__name__ in answer.err


def test_a_reader_that_goes_away_is_no_fault(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["main.py"])
    monkeypatch.setattr(sys, "stdout", sys.stdout)  # put back afterwards
    assert config_errors.run_command_line(mock.Mock(side_effect=BrokenPipeError(32, "Broken pipe"))) == 0
    sys.stdout.close()
    assert capsys.readouterr().err == ""


def test_what_is_refused_asked_for_no_memory(tmp_path, monkeypatch):
    """A network that is refused takes no more memory than one that is made."""
    monkeypatch.chdir(tmp_path)
    assert ask(()).code == 0
    before = peak()
    assert ask(["net.no_hidden=1000000000"]).code == 2
    assert peak() - before < 64 << 20


def peak():
    """Return the largest size that this process has had, in bytes."""
    resource = pytest.importorskip("resource", reason="this system does not tell how much memory a process takes")
    unit = 1 if os.uname().sysname == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
