"""W&B, offline only: what arrives is read back with W&B's own tool, and nothing ever goes online."""

import json
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from partial_equiv.errors import UserError
from partial_equiv.runs import RunFolder, make_wandb_sink
from partial_equiv.runs.wandb_sink import automatic_mode, has_key

pytest.importorskip("wandb")


@pytest.fixture(autouse=True)
def no_account(tmp_path, monkeypatch):
    """An empty home and no word about W&B in the environment; the server, should it be asked, is nowhere."""
    for key in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "WANDB_DIR", "NETRC"):
        monkeypatch.delenv(key, raising=False)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("WANDB_SILENT", "true")
    return home


def make(mode, folder, name="job", config=None):
    return make_wandb_sink(mode=mode, project="tests", config=config or {}, folder=folder, name=name, group="sweep")


def test_without_a_key_wandb_is_not_even_imported(tmp_path):
    code = (
        "import sys, pathlib; from partial_equiv.runs import make_wandb_sink as make; "
        f"sinks = [make(mode, 'p', {{}}, pathlib.Path({str(tmp_path)!r}), 'n') for mode in ('auto', 'disabled')]; "
        "sys.exit(0 if sinks == [None, None] and 'wandb' not in sys.modules else 1)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_auto_follows_the_key_and_wandb_mode(no_account, monkeypatch):
    assert automatic_mode() == "disabled"
    (no_account / ".netrc").write_text("machine api.wandb.ai\n login user\n password 0123\n")
    assert automatic_mode() == "online"
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert automatic_mode() == "offline"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert automatic_mode() == "disabled"


def test_the_key_is_looked_for_where_wandb_looks(no_account, tmp_path, monkeypatch):
    assert not has_key()
    other = tmp_path / "other"
    other.write_text("machine wandb.example.org\n login user\n password 0123\n")
    monkeypatch.setenv("NETRC", str(other))
    assert not has_key()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert has_key()
    other.write_text("this is no netrc file")
    assert not has_key()
    monkeypatch.setenv("WANDB_API_KEY", "0123")
    assert has_key()


def test_errors_say_what_to_do(tmp_path):
    with pytest.raises(UserError, match=r"wandb\.mode='onlin' is not one of: auto.*did you mean 'online'"):
        make("onlin", tmp_path)
    with pytest.raises(UserError, match=r"online needs an API key: run `wandb login`"):
        make("online", tmp_path)


def test_a_server_that_cannot_be_reached_stops_only_those_who_asked_for_it(tmp_path, monkeypatch, caplog):
    wandb = pytest.importorskip("wandb")

    def refuse(**_):
        raise wandb.errors.CommError("no route to host\nand more")

    monkeypatch.setattr(wandb, "init", refuse)
    monkeypatch.setenv("WANDB_API_KEY", "0123")
    assert make("auto", tmp_path) is None
    assert "no route to host" in caplog.text
    with pytest.raises(UserError, match=r"wandb\.mode=online failed \(no route to host\): check"):
        make("online", tmp_path)


def inspect(run):
    """Return the records of an offline run, read by W&B's own tool."""
    done = subprocess.run(
        [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(run)],
        check=True,
        capture_output=True,
        text=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def run_job(path, seed):
    figure = Figure(figsize=(1, 1))
    figure.add_subplot().imshow(np.eye(4))
    config = {"seed": seed, "train": {"lr": 1e-3}}
    with RunFolder(path, config, [make("offline", path, f"job {seed}", config)]) as run:
        for epoch in range(3):
            run.log(epoch, {"train/loss": 1.0 / (epoch + 1 + seed), "levels": [None, 0.5], "lr": None})
        run.figure("samples", figure)
        run.summary({"test/accuracy": 0.5 + seed, "levels": [None, 0.5], "device": "cpu"})


def test_two_jobs_of_one_process_are_two_offline_runs(tmp_path):
    runs = []
    for seed in (0, 1):
        run_job(tmp_path / str(seed), seed)
        (run,) = (tmp_path / str(seed) / "wandb").glob("offline-run-*")
        runs.append(run)
    assert runs[0].name.rsplit("-", 1)[1] != runs[1].name.rsplit("-", 1)[1]
    for seed, run in enumerate(runs):
        text = json.dumps(inspect(run))
        for epoch in range(3):
            assert f"{1.0 / (epoch + 1 + seed)}" in text
        for word in ("train/loss", "levels/1", f"job {seed}", "sweep", "figures/samples", "test/accuracy"):
            assert word in text, word
        assert "levels/0" not in text
        (picture,) = run.glob("files/media/images/figures/*.png")
        with Image.open(picture) as theirs, Image.open(tmp_path / str(seed) / "figures" / "samples.png") as ours:
            assert np.array_equal(np.asarray(theirs.convert("RGB")), np.asarray(ours.convert("RGB")))


def test_a_job_that_raised_does_not_swallow_the_next(tmp_path):
    broken = make("offline", tmp_path / "a", "broken", {"seed": 0})
    assert broken is not None  # and never closed
    after = make("offline", tmp_path / "b", "after", {"seed": 1})
    after.log(0, {"value": 42.5})
    after.close()
    (run,) = (tmp_path / "b" / "wandb").glob("offline-run-*")
    assert "42.5" in json.dumps(inspect(run))
    assert len(list((tmp_path / "a" / "wandb").glob("offline-run-*"))) == 1


def test_wandb_dir_is_where_files_go(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "elsewhere"))
    make("offline", tmp_path / "run").close()
    assert list((tmp_path / "elsewhere" / "wandb").glob("offline-run-*"))
    assert not (tmp_path / "run").exists()
