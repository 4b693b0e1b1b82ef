"""W&B and TensorBoard through the command line, offline: one run a job, named by what was typed."""

import importlib.util
import json
from pathlib import Path

import pytest

from tests.test_main import SMALL, cli  # noqa: F401  (a fixture)

pytest.importorskip("wandb")


def identity(path):
    return json.loads(Path(path, "wandb.json").read_text())


def offline_runs(path):
    return sorted(Path(path, "wandb").glob("offline-run-*"))


@pytest.mark.long
def test_jobs_of_a_sweep_are_wandb_runs_of_one_group(cli, monkeypatch):  # noqa: F811
    monkeypatch.setenv("WANDB_SILENT", "true")
    overlay = "+experiment=reduced/digits_narrow"
    code, _, err = cli(
        "-m", overlay, *SMALL, "train.epochs=1", "wandb.mode=offline", "seed=0,oops,1", "hydra.sweep.dir=sweep"
    )
    assert code == 2 and "seed='oops' is of the wrong type" in err
    first, second = identity("sweep/0"), identity("sweep/2")
    assert first["id"] != second["id"] and first["group"] == second["group"]
    assert first["name"].startswith("reduced/digits_narrow") and first["name"].endswith(" seed 0")
    assert second["name"].endswith(" seed 1")
    assert first["tags"][:2] == ["reduced/digits_narrow", "reduced"] and "kernel.size=3" in first["tags"]
    assert [len(offline_runs(f"sweep/{job}")) for job in (0, 2)] == [1, 1]
    (folder,) = offline_runs("sweep/0")
    figures = {path.stem for path in Path("sweep/0/figures").iterdir()}
    sent = {path.name.rsplit("_", 2)[0] for path in (folder / "files/media/images/figures").iterdir()}
    assert figures == sent
    (table,) = (folder / "files/media/table/tables").glob("layers_*.json")
    summary = json.loads(Path("sweep/0/summary.json").read_text())
    assert [row[:2] for row in json.loads(table.read_text())["data"]] == [
        list(pair) for pair in zip(summary["layers"], summary["levels"], strict=True)
    ]


@pytest.mark.long
def test_a_resumed_run_is_the_same_wandb_run(cli, monkeypatch):  # noqa: F811
    monkeypatch.setenv("WANDB_SILENT", "true")
    assert cli(*SMALL, "train.epochs=1", "wandb.mode=offline", "hydra.run.dir=run")[0] == 0
    before = identity("run")
    code, _, err = cli("resume=run", "train.epochs=2")
    assert code == 0, err
    assert identity("run") == before and len(offline_runs("run")) == 2


def test_tensorboard_is_one_key(cli, tmp_path):  # noqa: F811
    code, _, err = cli(*SMALL, "train.epochs=1", "tensorboard=True", "hydra.run.dir=run")
    if importlib.util.find_spec("tensorboard") is None:
        assert code == 2 and err == (
            "error: tensorboard=True needs the package tensorboard: pip install '.[tensorboard]', or leave out "
            "tensorboard=True\n"
        )
        assert not list(tmp_path.iterdir())
    else:
        assert code == 0, err
        assert list(Path("run/tensorboard").glob("events.*"))
