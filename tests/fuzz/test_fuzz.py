"""Any override list either composes and constructs, or ends with exit code 2 and one sentence, and leaves nothing.

A failure prints the seed and the list; `python -m tests.fuzz <seed>` asks for that one again.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from partial_equiv.nets import budget
from tests.fuzz.answering import Answer, ask, fault
from tests.fuzz.overrides import case

ROOT = Path(__file__).resolve().parents[2]
NO_FAST, NO_LONG, NO_SHELL = 80, 1_000, 50
MEMORY = 8 << 30  # bytes, whatever this machine has


@pytest.fixture
def quiet(tmp_path, monkeypatch):
    """An empty working folder, and little memory for networks."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(budget, "usable_bytes", lambda: MEMORY)
    return tmp_path / "here"


def faults(seeds, folder, asked=ask):
    """Return a line for every seed whose answer is wrong, and how many lists composed; each has a folder of its own."""
    found, no_composed = [], 0
    for seed in seeds:
        (folder / str(seed)).mkdir()
        os.chdir(folder / str(seed))
        answer = asked(case(seed))
        no_composed += answer.code == 0
        if wrong := fault(answer, folder / str(seed)):
            found.append(f"seed {seed}, {[argument[:80] for argument in case(seed)]}: {wrong}")
        if "TooLong" in answer.err:  # it was cut off anywhere: what comes after it proves nothing
            break
    return found, no_composed


def ask_the_shell(arguments):
    """Return the answer of `python main.py`."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "main.py"), *arguments, "dry_run=True"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        timeout=300,
        check=False,
    )
    return Answer(done.returncode, *(text.decode(errors="replace") for text in (done.stdout, done.stderr)), 0.0)


def test_a_case_is_a_function_of_its_seed():
    assert [case(seed) for seed in range(50)] == [case(seed) for seed in range(50)]
    assert len({tuple(case(seed)) for seed in range(1_000)}) > 900


def test_lists_are_answered(quiet):
    found, no_composed = faults(range(NO_FAST), quiet)
    assert not found, "\n".join(found)
    assert NO_FAST / 10 < no_composed < NO_FAST * 9 / 10  # both ways are walked


@pytest.mark.long
@pytest.mark.parametrize("part", range(10))
def test_many_lists_are_answered(quiet, part):
    size = NO_LONG // 10
    start = NO_FAST + part * size
    found, _ = faults(range(start, start + size), quiet)
    assert not found, "\n".join(found)


@pytest.mark.long
@pytest.mark.parametrize("part", range(5))
def test_the_shell_is_answered(quiet, part):
    size = NO_SHELL // 5
    start = 10_000 + part * size
    found, _ = faults(range(start, start + size), quiet, ask_the_shell)
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(None, "", "Traceback\nKeyError: 'x'", 1.0), "exit code None: Traceback"),
        (Answer(1, "", "error: x\n", 1.0), "exit code 1"),
        (Answer(2, "", "error: one\nerror: two\n", 1.0), "is not one line"),
        (Answer(2, "net", "error: one\n", 1.0), "is not one line"),
        (Answer(2, "", "error: it is a <class 'list'>\n", 1.0), "speaks of"),
        (Answer(0, "net", "error: but\n", 1.0), "is fine, and says"),
        (Answer(0, "net", "", 99.0), "took 99 s"),
    ],
)
def test_a_wrong_answer_is_seen(tmp_path, answer, words):
    assert words in fault(answer, tmp_path)
    (tmp_path / "config.yaml").touch()
    assert fault(Answer(0, "net", "", 1.0), tmp_path) == "left ['config.yaml']"


def test_right_answers_are_let_pass(tmp_path):
    for answer in (Answer(0, "net", "note: no GPU\n", 1.0), Answer(2, "", "note: no GPU\nerror: give 2\n", 1.0)):
        assert fault(answer, tmp_path) is None
