"""Launchers: option files that compose, one sentence where a package is missing, and real sweeps through each."""

import importlib.util
import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

import config_errors
import launchers
from tests import small

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {
    "local": "hydra_joblib_launcher",
    "slurm": "hydra_submitit_launcher",
    "slurm_local": "hydra_submitit_launcher",
}
SMALL = [*small.SMALL, "train.epochs=1"]


def installed(package):
    return importlib.util.find_spec("hydra_plugins") and importlib.util.find_spec(f"hydra_plugins.{package}")


def needs(name):
    package = PACKAGES[name]
    return pytest.mark.skipif(
        not installed(package), reason=f"{package.replace('_', '-')} is not installed: pip install -e '.[sweep]'"
    )


def main(folder, *arguments, timeout=300, **environment):
    """Run main.py in a folder and return the finished process."""
    return subprocess.run(
        [sys.executable, str(ROOT / "main.py"), *arguments],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@pytest.mark.parametrize("name", [pytest.param(name, marks=needs(name)) for name in PACKAGES])
def test_an_option_is_the_launcher_of_its_package_with_our_values(name, tmp_path):
    shown = main(tmp_path, f"hydra/launcher={name}", "--cfg", "hydra", "-p", "hydra.launcher")
    assert (shown.returncode, shown.stderr) == (0, "")
    composed = yaml.safe_load(shown.stdout)
    ours = yaml.safe_load((ROOT / "cfg" / "hydra" / "launcher" / f"{name}.yaml").read_text())
    del ours["defaults"]
    assert composed["_target_"].startswith(f"hydra_plugins.{PACKAGES[name]}.")
    assert {key: composed[key] for key in ours} == ours
    assert set(composed) > set(ours)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-m", "hydra/launcher=local", "seed=0,1"], "needs the package hydra-joblib-launcher: pip install '.[sweep]'"),
        (["-m", "hydra/launcher=joblib", "seed=0,1"], "needs the package hydra-joblib-launcher"),
        (["-m", "hydra/launcher=slurm", "seed=0,1"], "needs the package hydra-submitit-launcher"),
        (["-m", "hydra/launcher=local_", "seed=0,1"], "did you mean 'local'"),
        (["hydra/launcher=local_"], "did you mean 'local'"),
    ],
)
def test_a_missing_launcher_is_one_sentence(arguments, words, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launchers, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["main.py", *arguments])

    def never():
        raise AssertionError("Hydra was asked, which passes over what is missing in a sweep")

    assert config_errors.run_command_line(never) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1 and error.startswith("error: ")


def test_slurm_away_from_a_cluster_is_one_sentence(monkeypatch, capsys):
    monkeypatch.setattr(launchers, "find_spec", lambda name: object())
    monkeypatch.setattr(launchers, "which", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["main.py", "-m", "hydra/launcher=slurm", "seed=0,1"])
    assert config_errors.run_command_line(lambda: None) == 2
    assert "needs SLURM" in capsys.readouterr().err
    monkeypatch.setattr(launchers, "which", lambda name: "/usr/bin/srun")
    assert config_errors.run_command_line(lambda: None) == 0


@pytest.mark.long
@pytest.mark.parametrize("name", [pytest.param(name, marks=needs(name)) for name in ("local", "slurm_local")])
def test_jobs_run_apart_and_one_that_fails_leaves_the_others_alone(name, tmp_path):
    done = main(tmp_path, "-m", f"hydra/launcher={name}", *SMALL, "seed=0,oops,1,2", "hydra.sweep.dir=sweep")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    sweep = tmp_path / "sweep"
    seeds = {path.parent.name: json.loads(path.read_text())["seed"] for path in sweep.glob("[0-9]/summary.json")}
    assert seeds == {"0": 0, "2": 1, "3": 2}
    assert not (sweep / "1").exists()
    if name == "local":  # a job writes its configuration when it starts and its summary when it ends
        runs = [sweep / job for job in seeds]
        times = [((run / "config.yaml").stat().st_mtime, (run / "summary.json").stat().st_mtime) for run in runs]
        assert max(sum(begun <= moment < ended for begun, ended in times) for moment, _ in times) <= 2
    words = done.stderr + "".join(path.read_text() for path in sweep.rglob("*_log.err"))
    assert "seed='oops' is of the wrong type" in words

    alone = main(tmp_path, *SMALL, "seed=1", "hydra.run.dir=alone")
    assert alone.returncode == 0, alone.stderr
    one, two = (json.loads((tmp_path / path / "summary.json").read_text()) for path in ("alone", "sweep/2"))
    measured = {"seconds", "peak_memory"}  # all else is what the run computed
    assert {key: one[key] for key in one.keys() - measured} == {key: two[key] for key in two.keys() - measured}


SBATCH = """#!/bin/sh
# A cluster of one machine: the script runs at once, and again as long as it was requeued meanwhile.
echo "$@" > "$CLUSTER/sbatch.args"
cp "$1" "$CLUSTER/script.sh"
export SLURM_JOB_ID=7 SLURM_NTASKS=1 SLURM_JOB_NUM_NODES=1 SLURM_NODEID=0 SLURM_PROCID=0 SLURM_LOCALID=0
(
    while :; do
        rm -f "$CLUSTER/requeued"
        sh "$1"
        [ -e "$CLUSTER/requeued" ] || break
    done
    touch "$CLUSTER/ended"
) > "$CLUSTER/output" 2>&1 &
echo "Submitted batch job 7"
"""
SRUN = """#!/bin/sh
while [ "${1#--}" != "$1" ]; do
    case "$1" in --output|--error) shift 2 ;; *) shift ;; esac
done
"$@" >> "$CLUSTER/job.out" 2>> "$CLUSTER/job.err" &
echo $! > "$CLUSTER/pid"
wait $!
"""
SACCT = """#!/bin/sh
echo "JobID|State"
[ -e "$CLUSTER/ended" ] && echo "7|COMPLETED" || echo "7|RUNNING"
"""
SCONTROL = """#!/bin/sh
echo "$@" >> "$CLUSTER/scontrol.args"
touch "$CLUSTER/requeued"
"""


@pytest.fixture
def cluster(tmp_path):
    """Return a folder of commands that act as SLURM's, and the environment that finds them."""
    folder = tmp_path / "cluster"
    folder.mkdir()
    for name, script in {"sbatch": SBATCH, "srun": SRUN, "sacct": SACCT, "scontrol": SCONTROL}.items():
        (folder / name).write_text(script)
        (folder / name).chmod(stat.S_IRWXU)
    return folder, {"CLUSTER": str(folder), "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


@pytest.mark.long
@needs("slurm")
def test_a_slurm_job_whose_time_ends_is_queued_again_and_goes_on(tmp_path, cluster):
    folder, environment = cluster
    command = [
        sys.executable,
        str(ROOT / "main.py"),
        "-m",
        "hydra/launcher=slurm",
        "hydra.launcher.partition=gpu",
        *SMALL,
    ]
    command += ["train.epochs=40", "resume=auto", "seed=0", "hydra.sweep.dir=sweep"]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            log, end = tmp_path / "sweep" / "0" / "metrics.jsonl", time.monotonic() + 240
            while not (log.is_file() and len(log.read_text().splitlines()) >= 2):
                assert process.poll() is None and time.monotonic() < end, (folder / "job.err").read_text()
                time.sleep(0.05)
            os.kill(int((folder / "pid").read_text()), signal.SIGUSR2)  # as SLURM does before the end
            words, _ = process.communicate(timeout=240)
        finally:
            process.kill()
    script = (folder / "script.sh").read_text()
    for line in ("--partition=gpu", "--time=1440", "--gpus-per-node=1", "--signal=USR2@180", "--requeue", "--mem=32GB"):
        assert f"#SBATCH {line}\n" in script
    assert process.returncode == 0, words + (folder / "job.err").read_text()
    assert (folder / "scontrol.args").read_text() == "requeue 7\n"
    rows = [json.loads(line)["epoch"] for line in log.read_text().splitlines()]
    assert rows == list(range(1, 41))
    said = (folder / "job.err").read_text()
    assert "SIGUSR2 after step" in said and said.count("epoch 1/40") == 1  # it went on, and did not begin anew
    assert (tmp_path / "sweep" / "0" / "summary.json").is_file()
