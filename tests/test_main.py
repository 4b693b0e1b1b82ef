"""The command line, end to end: a small run, its folder, resume, evaluation, sweeps, and one line for every mistake."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

import config_errors
import main
import trainer
from checkpointer import read_last
from partial_equiv.runs import read_log
from sentinels import normalise
from tests import small

ROOT = Path(__file__).resolve().parents[1]
SMALL = [*small.SMALL, "net.dropout=0.2", "train.epochs=3"]

LAST_TWO = ("checkpoints/000000004", "checkpoints/000000006")  # two steps an epoch


@pytest.fixture
def cli(tmp_path, monkeypatch, capsys):
    """Return a function that runs `python main.py <arguments>` in this process and an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    logger, handlers, level = logging.getLogger(), logging.getLogger().handlers[:], logging.getLogger().level

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["main.py", *arguments])
        capsys.readouterr()
        try:
            code = config_errors.run_command_line(main.main)
        except SystemExit as stop:
            code = stop.code
        return code, *capsys.readouterr()

    yield run
    logger.handlers[:], logger.level = handlers, level


def only_run(tmp_path):
    (path,) = tmp_path.glob("outputs/*/*")
    return path


def rows_of(path):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in read_log(path)]


def test_a_run_leaves_its_folder(cli, tmp_path):
    code, out, err = cli(*SMALL, "test.probes=[class_accuracy]")
    assert code == 0, err
    path = only_run(tmp_path)
    assert {p.relative_to(path).as_posix() for p in path.rglob("*")} == {
        *(f"{name}.{kind}" for name in ("best", *LAST_TWO) for kind in ("json", "safetensors")),
        "checkpoints",
        "manifest.json",
        "confusion.json",
        "overrides.json",
        "report.html",
        "figures/worst_images.png",
        "config.yaml",
        "metrics.jsonl",
        "summary.json",
        "figures",
        *(
            f"figures/{name}.png"
            for name in (
                "confusion_matrix",
                "curves",
                "learned_subsets",
                "levels_over_epochs",
                "rotation_response",
                "sample_sheet",
            )
        ),
    }
    summary = json.loads((path / "summary.json").read_text())
    assert 0 <= summary["test/accuracy"] <= 1
    assert len(summary["levels"]) == len(summary["mirror"]) == len(summary["layers"]) == 3
    for key in ("test/loss", "no_params", "seconds", "device", "commit", "dataset", "test/class_accuracy/3"):
        assert key in summary
    assert f"{100 * summary['test/accuracy']:.2f} %" in out
    assert "+-180" in out
    assert str(path.relative_to(tmp_path)) in out
    assert [line.split("  ")[0] for line in err.splitlines()] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]


def test_an_interrupted_run_goes_on_to_the_same_numbers(cli, tmp_path, monkeypatch):
    assert cli(*SMALL, "hydra.run.dir=whole")[0] == 0
    learn = trainer.learn

    def stop(epoch, *others):
        if epoch.number == 3:
            raise KeyboardInterrupt
        return learn(epoch, *others)

    monkeypatch.setattr(trainer, "learn", stop)
    code, _, err = cli(*SMALL, "hydra.run.dir=cut")
    assert code == 130
    assert err.splitlines()[-1].startswith("error: interrupted: python main.py resume=")
    command = err.split("main.py ")[1].split()[0]
    monkeypatch.setattr(trainer, "learn", learn)
    code, _, err = cli(command)
    assert code == 0, err
    assert rows_of(Path("whole")) == rows_of(Path("cut"))
    first, second = (read_last(Path(name)).tensors for name in ("whole", "cut"))
    assert all((first[key] == second[key]).all() for key in first)
    summaries = [json.loads(Path(name, "summary.json").read_text()) for name in ("whole", "cut")]
    for summary in summaries:
        del summary["seconds"], summary["peak_memory"]
    assert summaries[0] == summaries[1]
    assert not (tmp_path / "outputs").exists()  # the folder that Hydra made for the second process


def test_a_finished_run_is_used_again(cli):
    assert cli(*SMALL, "hydra.run.dir=run")[0] == 0
    before = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    code, first, _ = cli("run=run", "do=evaluate")
    assert code == 0
    assert cli("run=run", "do=evaluate")[1] == first
    accuracy = json.loads(Path("run/summary.json").read_text())["test/accuracy"]
    assert f"{100 * accuracy:.2f} %" in first
    assert cli("run=run", "do=evaluate", "test.no_draws=3", "test.hard_gates=True")[0] == 0
    assert {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()} == before

    code, _, err = cli(*SMALL, "hydra.run.dir=run")
    assert (code, "holds a run already" in err) == (2, True)
    code, _, err = cli("resume=run", "train.epochs=4")
    assert code == 0, err
    assert [row["epoch"] for row in read_log(Path("run"))] == [1, 2, 3, 4]
    code, _, err = cli("resume=run", "kernel.size=5")
    assert (code, "kernel.size is 3 there and 5 here: leave them out" in err) == (2, True)
    code, out, err = cli(*SMALL, "hydra.run.dir=next", "pretrained=run", "train.do=False")
    assert code == 0, err
    assert not Path("next/checkpoints").exists()
    again = cli("run=run", "do=evaluate")[1]
    assert out.splitlines()[1].split() == again.splitlines()[1].split()  # test accuracy


def test_a_sweep_has_a_folder_per_job_and_outlives_a_failing_one(cli, tmp_path):
    code, _, err = cli("-m", *SMALL, "train.epochs=1", "seed=0,oops,1", "hydra.sweep.dir=sweep")
    assert code == 2
    assert "error: seed='oops' is of the wrong type: give an integer" in err.splitlines()
    assert sorted(path.parent.name for path in tmp_path.glob("sweep/*/summary.json")) == ["0", "2"]
    seeds = [json.loads((tmp_path / "sweep" / name / "summary.json").read_text())["seed"] for name in ("0", "2")]
    assert seeds == [0, 1]
    assert not (tmp_path / "sweep" / "1").exists()


def test_a_dry_run_touches_no_data_and_leaves_nothing(cli, tmp_path):
    code, out, err = cli("dry_run=True", "dataset=CIFAR10", "dataset.root=nowhere")
    assert (code, err) == (0, "")
    assert "3x32x32" in out
    assert "LiftingConv" in out
    assert out.splitlines()[-1].split()[0] == "all"
    assert list(tmp_path.iterdir()) == []


def test_debug_takes_two_steps_and_shows_tracebacks(cli, tmp_path):
    code, _, err = cli(*SMALL, "debug=True", "wandb.mode=disabled", "train.batch_size=8", "hydra.run.dir=run")
    assert code == 0, err
    assert [row["epoch"] for row in read_log(Path("run"))] == [1, 2]
    with pytest.raises(ValueError, match="kernel.size=4 is even"):
        cli(*SMALL, "debug=True", "kernel.size=4")


MISTAKES = {
    "kernel.omgea0=3": "did you mean 'kernel.omega0'",
    "lr=0.1": "did you mean 'train.lr'",
    "kernle.omega0=3": "did you mean 'kernel.omega0'",
    "net=CKResNte": "did you mean 'CKResNet'",
    "nett=GCNN": "did you mean 'net'",
    "kernel=[1,2]": "takes one name of: Fourier",
    "train=null": "takes one name of: classification",
    "dataset=MNSIT": "did you mean 'MNIST'",
    "+experiment=partial_gcnn/rotMNIST_CKResNet_SE2_fulll": "did you mean",
    "+kernel.omgea0=3": "did you mean 'omega0'",
    "+sede=1": "did you mean 'seed'",
    "+train.warm_decay=1": "did you mean 'weight_decay'",
    "+wandb.entity=me": "wandb.entity is not a key",
    "+test.draws=3": "test.draws is not a key",
    "+seed=1": "leave out the +",
    "~train.lr": "train.lr is missing",
    "~net": "net is missing",
    "train.epochs=abc": "give an integer",
    "train.lr=-1": "train.lr=-1 is out of range",
    "seed=1e3": "seed=1000.0 is of the wrong type: give an integer",
    "seed=-1": "seed=-1 is out of range",
    "seed=null": "give an integer",
    "debug=maybe": "give true or false",
    "device=gpu": "auto or cpu or cuda or mps",
    "wandb=online": "replaces a group of keys",
    "wandb.mode=onlin": "did you mean 'online'",
    "seed": "write key=value",
    "comment=a(b": "quote texts",
    "seed=0,1": "add -m",
    "net.no_hidden=${nowhere}": "nowhere",
    "kernel.type=SIRNE": "did you mean 'SIREN'",
    "base_group.name=E2 base_group.no_samples=7": "base_group.no_samples=7",
    "kernel.size=4": "give 3 or 5",
    "test.probes=[class_acuracy]": "did you mean 'class_accuracy'",
    "test.no_draws=-1": "test.no_draws=-1 is negative",
    "train.scheduler=cosin": "did you mean 'cosine'",
    "+train.stages.classify.epochs=3": "did you mean 'classification'",
    "resume=nowhere": "is not a run folder",
    "pretrained=nowhere": "is missing",
    "run=nowhere": "is not a run folder",
    "do=evaluate": "go together",
    "hydra.run.dri=x": "did you mean 'hydra.run.dir'",
    "dataset=MNIST dataset.root=nowhere": "dataset.root",
    "dataset=npz": "dataset.root is empty",
}


def test_every_mistake_is_one_line_and_leaves_nothing(cli, tmp_path):
    faults = []
    for arguments, words in MISTAKES.items():
        code, out, err = cli(*arguments.split())
        if code != 2 or out or err.count("\n") != 1 or not err.startswith("error: ") or words not in err:
            faults.append(f"{arguments}: exit code {code}, {out}{err}")
        if left := list(tmp_path.iterdir()):
            faults.append(f"{arguments}: left {left}")
    assert not faults, "\n".join(faults)


def test_the_shell_sees_one_line_and_code_2(tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(ROOT / "main.py"), "kernel.size=4"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: kernel.size=4 is even")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_help_and_completion_do_not_wait_for_torch(tmp_path):
    program = (
        "import sys; sys.argv = ['main.py', '--cfg', 'job']; import main; main.main(); "
        "assert not {'torch', 'numpy', 'matplotlib', 'wandb'} & set(sys.modules), 'imported too early'"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "type: CKResNet" in done.stdout


def test_published_sentinels_mean_nothing_and_nothing_else_does():
    given = {
        "augment": "None",
        "pretrained": False,
        "cuda_visible_devices": [-1],
        "net": {"block_width_factors": [0.0], "pool_blocks": [-1], "dropout_blocks": [2]},
        "kernel": {"norm": "", "activation": "Swish"},
        "train": {
            "lr_probs": 0.0,
            "lr_omega0": 1e-3,
            "scheduler": "None",
            "gradient_clip": 0,
            "weight_decay": 0.0,
            "scheduler_params": {"decay_steps": [-1], "decay_factor": -1, "patience": 3, "warmup_epochs": -1},
        },
    }
    assert normalise(given) == {
        "augment": "none",
        "pretrained": None,
        "cuda_visible_devices": None,
        "net": {"block_width_factors": None, "pool_blocks": [], "dropout_blocks": [2]},
        "kernel": {"norm": None, "activation": "Swish"},
        "train": {
            "lr_probs": None,
            "lr_omega0": 1e-3,
            "scheduler": None,
            "gradient_clip": None,
            "weight_decay": 0.0,
            "scheduler_params": {"decay_steps": None, "decay_factor": None, "patience": 3, "warmup_epochs": None},
        },
    }
    assert given["augment"] == "None"
