"""`torchrun main.py` as a user types it: one run folder, one voice, the numbers of one process, and an end for all."""

import json
import os
import re
import shutil
import signal
import time
from pathlib import Path

import pytest

from partial_equiv.runs import read_log
from tests.ranks.launched import errors_of, process_of_rank, run, running, tasks_of_srun, wait_until

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="processes are found in /proc, as on Linux"),
]
SMALL = [
    *("net.no_hidden=3", "net.no_blocks=1", "net.dropout=0.2", "kernel.no_hidden=4", "kernel.size=3"),
    *("base_group.no_samples=4", "dataset.size=12", "dataset.copies=1", "dataset.no_train=98", "device=cpu"),
    *("dataset.no_validation=50", "dataset.no_test=50", "train.batch_size=16", "train.epochs=3"),
    # What keeps rounding errors small: no Adam, which blows up those of biases before a norm, and no odd kernels, which
    # put a constant background at the kink of the first ReLU.
    *("train.optimizer=SGD", "train.lr=0.01", "kernel=MLP"),
]
MINUTE = 60


def numbers(folder):
    """Return the rows of a run without its times, and its summary."""
    rows = [{key: value for key, value in row.items() if key != "seconds"} for row in read_log(folder)]
    return rows, json.loads((folder / "summary.json").read_text())


def same(rows, others):
    """Say whether the rows of two runs agree."""
    for row, other in zip(rows, others, strict=True):
        assert row.keys() == other.keys()
        for key, value in row.items():
            if isinstance(value, float):
                assert value == pytest.approx(other[key], rel=1e-5, abs=1e-5), key


def files_of(folder):
    """Return all that lies in a folder, but for the streams of the program and what torchrun leaves."""
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {name for name in found if name not in ("out.txt", "err.txt") and not name.startswith("tmp/torch")}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Return the folder of a run of one process."""
    folder = tmp_path_factory.mktemp("alone")
    code, _, err = run(*SMALL, "hydra.run.dir=run", "train.probes=[class_accuracy]", folder=folder, no_processes=1)
    assert code == 0, err
    return folder


def test_two_processes_leave_the_run_of_one(alone, tmp_path):
    code, out, err = run(*SMALL, "train.probes=[class_accuracy]", folder=tmp_path)
    assert code == 0, err
    (path,) = tmp_path.glob("outputs/*/*")
    assert files_of(tmp_path) == {f"{path.relative_to(tmp_path)}/{name[4:]}" for name in files_of(alone)}
    assert sorted(place.name for place in (tmp_path / "tmp").glob("partial_equiv*")) == []
    rows, summary = numbers(path)
    expected, same_summary = numbers(alone / "run")
    same(rows, expected)
    assert summary["test/accuracy"] == pytest.approx(same_summary["test/accuracy"])
    assert summary["test/loss"] == pytest.approx(same_summary["test/loss"], rel=1e-5)
    assert out.count("test accuracy") == 1
    for epoch in (1, 2, 3):
        assert len(re.findall(f"epoch {epoch}/3", err)) == 1
    assert not errors_of(err) and "Warning" not in err, err


def test_a_run_goes_on_with_another_number_of_processes(alone, tmp_path):
    found = []
    for no_processes in (1, 2):
        folder = tmp_path / str(no_processes)
        shutil.copytree(alone / "run", folder / "run")
        code, _, err = run("resume=run", "train.epochs=5", folder=folder, no_processes=no_processes)
        assert code == 0, err
        found.append(numbers(folder / "run")[0])
    assert [row["epoch"] for row in found[1]] == [1, 2, 3, 4, 5]
    same(*found)


@pytest.mark.parametrize("number", [0, 1])
def test_a_dead_process_ends_the_job_within_a_minute(tmp_path, number):
    with running(*SMALL, "train.epochs=100000", "hydra.run.dir=run", folder=tmp_path) as launcher:
        wait_until((tmp_path / "run" / "metrics.jsonl").exists)
        os.kill(process_of_rank(number, launcher.pid), signal.SIGKILL)
        killed = time.monotonic()
        assert launcher.wait(MINUTE) != 0
        assert time.monotonic() - killed < MINUTE
    (sentence,) = errors_of((tmp_path / "err.txt").read_text())
    assert "another of the 2 processes of this job has ended" in sentence
    if number == 1:
        assert f"resume={tmp_path}/run goes on" in sentence
    code, _, err = run("resume=run", "train.epochs=1", folder=tmp_path)  # it has more already: tested, and nothing else
    assert code == 0, err


def test_a_stop_that_one_process_is_asked_for_stops_all_of_them_saved(tmp_path):
    with running(*SMALL, "train.epochs=100000", "hydra.run.dir=run", folder=tmp_path) as launcher:
        wait_until((tmp_path / "run" / "metrics.jsonl").exists)
        os.kill(process_of_rank(1, launcher.pid), signal.SIGUSR1)
        assert launcher.wait(MINUTE) != 0
    err = (tmp_path / "err.txt").read_text()
    assert len(re.findall("^stopped by another process of this job after step", err, flags=re.M)) == 1, err
    assert not errors_of(err)
    step = int(re.search(r"after step (\d+)", err)[1])
    newest = max(int(path.stem) for path in (tmp_path / "run" / "checkpoints").glob("*.safetensors"))
    assert newest % 7 == step % 7
    assert not list((tmp_path / "tmp").glob("partial_equiv*"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["train.batch_size=15"], "train.batch_size=15 cannot be shared equally by 2 processes"),
        (["net.no_hiden=3"], "net.no_hiden is not a key of the configuration"),
        (["compile=True"], "compile=True makes one graph of a step"),
        (["resume=nowhere"], "resume=nowhere is not a run folder"),
        (["dataset.no_train=0"], "no_train"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_mistake_is_told_once_and_leaves_nothing(tmp_path, arguments, sentence):
    begun = time.monotonic()
    code, out, err = run(*SMALL, *arguments, folder=tmp_path)
    assert code != 0 and time.monotonic() - begun < 2 * MINUTE
    (said,) = errors_of(err)
    assert sentence in said
    assert files_of(tmp_path) == set() and not (tmp_path / "outputs").exists()
    assert not out


def test_what_one_process_does_alone_is_done_once(alone, tmp_path):
    shutil.copytree(alone / "run", tmp_path / "run")
    code, out, err = run("run=run", "do=evaluate", folder=tmp_path)
    assert code == 0, err
    assert out.count("test accuracy") == 1
    code, out, err = run(*SMALL, "dry_run=True", folder=tmp_path)
    assert code == 0, err
    assert out.count("parameters") == 1


def test_a_sweep_goes_through_all_its_jobs(tmp_path):
    code, out, err = run(*SMALL, "train.epochs=1", "seed=0,1", "hydra.sweep.dir=sweep", "-m", folder=tmp_path)
    assert code == 0, err
    assert [path.name for path in sorted((tmp_path / "sweep").glob("*/summary.json"))] == ["summary.json"] * 2
    first, second = (numbers(tmp_path / "sweep" / number)[0] for number in "01")
    assert first[0]["train/loss"] != second[0]["train/loss"]
    assert out.count("test accuracy") == 2
    code, _, err = run(*SMALL, "train.epochs=1", "seed=1", "hydra.run.dir=apart", folder=tmp_path)
    assert code == 0, err
    same(second, numbers(tmp_path / "apart")[0])


def test_the_tasks_of_srun_find_one_another(alone, tmp_path):
    codes, outs, errs = tasks_of_srun(*SMALL, "train.probes=[class_accuracy]", folder=tmp_path)
    assert codes == [0, 0], errs
    (path,) = tmp_path.glob("outputs/*/*")
    same(numbers(path)[0], numbers(alone / "run")[0])
    assert "test accuracy" in outs[0] and not outs[1] and not errs[1]


def test_a_mistake_ends_every_task_of_srun_with_its_code(tmp_path):
    codes, outs, errs = tasks_of_srun(*SMALL, "train.batch_size=15", folder=tmp_path)
    assert codes == [2, 2]
    assert len(errors_of("".join(errs))) == 1
    assert not any(outs) and not (tmp_path / "outputs").exists()
