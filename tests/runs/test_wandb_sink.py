"""W&B, offline only: what arrives is read back with W&B's own tool, and nothing ever goes online."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from hydra import compose, initialize_config_dir
from matplotlib.figure import Figure
from PIL import Image

from config_reader import read_config
from partial_equiv.errors import UserError
from partial_equiv.runs import RunFolder, make_wandb_sink
from partial_equiv.runs.folder import exit_code_of
from partial_equiv.runs.wandb_sink import automatic_mode, has_key, read_identity

ROOT = Path(__file__).resolve().parents[2]
LAYERS = ["lift", "blocks.0"]

wandb = pytest.importorskip("wandb")


@pytest.fixture(autouse=True)
def no_account(tmp_path, monkeypatch):
    """An empty home and no word about W&B in the environment; the server, should it be asked, is nowhere."""
    for key in [key for key in os.environ if key.startswith("WANDB_")] + ["NETRC"]:
        monkeypatch.delenv(key, raising=False)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("WANDB_SILENT", "true")
    return home


def make(mode, folder, name="job", config=None, **choices):
    choices = {"group": "sweep", "tags": ["tag"], "layers": LAYERS} | choices
    return make_wandb_sink(mode=mode, project="tests", config=config or {}, folder=folder, name=name, **choices)


def test_a_dashboard_that_is_not_used_is_not_imported(tmp_path):
    code = (
        "import sys, pathlib; from partial_equiv.runs.wandb_sink import make_wandb_sink; "
        "from partial_equiv.runs.tensorboard_sink import make_tensorboard_sink; "
        f"folder = pathlib.Path({str(tmp_path)!r}); "
        "sinks = [make_wandb_sink(mode, 'p', {}, folder, 'n') for mode in ('auto', 'disabled')]; "
        "sinks.append(make_tensorboard_sink(False, {}, folder, 'n')); "
        "loaded = {'wandb', 'tensorboard', 'torch.utils.tensorboard'} & set(sys.modules); "
        "sys.exit(str(loaded) if loaded or any(sinks) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_auto_follows_the_key_and_wandb_mode(no_account, monkeypatch):
    assert automatic_mode() == "disabled"
    (no_account / ".netrc").write_text("machine api.wandb.ai\n login user\n password 0123\n")
    assert automatic_mode() == "online"
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert automatic_mode() == "offline"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert automatic_mode() == "disabled"


def write_netrc(path, *hosts):
    path.write_text("".join(f"machine {host}\n login user\n password {'0' * 40}\n" for host in hosts))


@pytest.mark.parametrize("host", ["api.forge.coreweave.com", "api.wandb.ai"])
def test_a_login_of_today_and_an_older_one_are_found_as_wandb_finds_them(no_account, host):
    from wandb.sdk.lib.wbauth import read_netrc_auth

    server = wandb.Settings().base_url
    assert (has_key(), read_netrc_auth(host=server)) == (False, None)
    write_netrc(no_account / ".netrc", host)
    assert (has_key(), read_netrc_auth(host=server)) == (True, "0" * 40)


def test_the_key_is_looked_for_where_wandb_looks(no_account, tmp_path, monkeypatch):
    assert not has_key()
    other = tmp_path / "other"
    write_netrc(other, "wandb.example.org:8080")
    monkeypatch.setenv("NETRC", str(other))
    assert not has_key()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org:8080")
    assert has_key()
    other.write_text("this is no netrc file")
    assert not has_key()
    monkeypatch.setenv("WANDB_API_KEY", "0123")
    assert has_key()


def test_errors_say_what_to_do(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"wandb\.mode='onlin' is not one of: auto.*did you mean 'online'"):
        make("onlin", tmp_path)
    with pytest.raises(UserError, match=r"online needs an API key: run `wandb login`"):
        make("online", tmp_path)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "file" / "below"))
    with pytest.raises(UserError, match="set WANDB_DIR to a writable folder"):
        make("offline", tmp_path)


def test_a_server_that_cannot_be_reached_stops_only_those_who_asked_for_it(tmp_path, monkeypatch, caplog):
    def refuse(**_):
        raise wandb.errors.CommError("no route to host\nand more")

    monkeypatch.setattr(wandb, "init", refuse)
    monkeypatch.setenv("WANDB_API_KEY", "0123")
    assert make("auto", tmp_path) is None
    assert "no route to host" in caplog.text
    with pytest.raises(UserError, match=r"wandb\.mode=online failed \(no route to host\): check"):
        make("online", tmp_path)


def inspect(run):
    """Return the records of an offline run as `wandb leet inspect --json` does, without a second of imports."""
    from wandb.util import get_core_path

    (file,) = run.glob("*.wandb")
    command = [
        get_core_path(),
        "leet",
        "inspect",
        "--no-observability",
        "--json",
        "--run-file",
        str(file),
        str(run.parent),
    ]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def of_kind(records, kind):
    """Return what the records of one kind hold."""
    return [record[kind] for record in records if record["type"] == kind]


def run_job(path, seed=0, epochs=range(1, 4), fail=None):
    figure = Figure(figsize=(1, 1))
    figure.add_subplot().imshow(np.eye(4))
    config = {"seed": seed, "train": {"lr": 1e-3}, "comment": "a note"}
    with RunFolder(path, config, [make("offline", path, f"job {seed}", config)]) as run:
        for epoch in epochs:
            run.log(epoch, {"train/loss": 1.0 / (epoch + seed), "levels": [None, 0.5], "lr": None})
        if fail is not None:
            raise fail
        run.figure("samples", figure)
        run.artifact("audit.html", "<html><p>audited</p></html>")
        run.artifact("audit.json", {"rows": []})
        run.artifact("confusion.json", {"class_names": ["6", "9"], "counts": [[1, 3], [0, 2]], "worst": []})
        run.summary({"test/accuracy": 0.5 + seed, "layers": LAYERS, "levels": [None, 0.5], "device": "cpu"})


def offline_runs(path):
    return sorted((path / "wandb").glob("offline-run-*"))


def test_an_offline_run_holds_all_that_is_sent_later(tmp_path, no_account):
    path = tmp_path / "run"
    run_job(path)
    (folder,) = offline_runs(path)
    records = inspect(folder)
    (begun,), (ended,) = of_kind(records, "run"), of_kind(records, "exit")
    identity = read_identity(path)
    assert (begun["run_id"], begun["project"]) == (identity["id"], "tests")
    assert (begun["display_name"], begun["run_group"], begun["tags"], begun["notes"]) == (
        "job 0",
        "sweep",
        ["tag"],
        "a note",
    )
    config = begun["config"]["update"]
    assert (config["seed"], config["train"]) == (0, {"lr": 1e-3})
    assert ended["exit_code"] == 0
    assert {
        metric["glob_name"]: metric["step_metric"] for metric in of_kind(records, "metric") if "glob_name" in metric
    } == {"*": "epoch"}

    *rows, last = [row["item"] for row in of_kind(records, "history")]
    shown = [{key: value for key, value in row.items() if key not in ("_runtime", "_timestamp")} for row in rows]
    assert shown == [
        {"_step": 2 * epoch, "epoch": epoch, "train/loss": 1.0 / epoch, "levels/blocks.0": 0.5} for epoch in (1, 2, 3)
    ]
    media = {
        key.removesuffix(".path"): folder / "files" / value for key, value in last.items() if key.endswith(".path")
    }
    media = {key: file for key, file in media.items() if "artifact" not in key}
    assert set(media) == {
        "figures/samples", "pages/audit", "tables/classes", "tables/layers", "cards/model", "cards/data"
    }  # fmt: skip
    assert (last["epoch"], last["_step"]) == (3, 7)
    with Image.open(media["figures/samples"]) as theirs, Image.open(path / "figures" / "samples.png") as ours:
        assert np.array_equal(np.asarray(theirs.convert("RGB")), np.asarray(ours.convert("RGB")))
    assert json.loads(media["tables/layers"].read_text())["data"][1][:2] == ["blocks.0", 0.5]
    assert json.loads(media["tables/classes"].read_text())["data"] == [["6", 4, 0.25, "9"], ["9", 2, 1.0, None]]
    assert media["pages/audit"].read_text() == "<html><p>audited</p></html>"
    assert "Model: job 0" in media["cards/model"].read_text()

    summary = {key: value for update in of_kind(records, "summary") for key, value in update["update"].items()}
    assert (summary["test/accuracy"], summary["levels"], summary["device"]) == (0.5, [None, 0.5], "cpu")
    for artifact in of_kind(records, "artifact"):
        for content in artifact["manifest"]["contents"]:
            assert Path(content["local_path"]).is_relative_to(folder) and Path(content["local_path"]).is_file()
    assert not list(no_account.rglob("staging"))


def test_two_jobs_of_one_process_are_two_runs(tmp_path):
    for seed in (0, 1):
        run_job(tmp_path / str(seed), seed)
    runs = [inspect(*offline_runs(tmp_path / str(seed))) for seed in (0, 1)]
    begun = [of_kind(records, "run")[0] for records in runs]
    assert begun[0]["run_id"] != begun[1]["run_id"]
    assert [run["config"]["update"]["seed"] for run in begun] == [0, 1]
    losses = [[row["item"]["train/loss"] for row in of_kind(records, "history")[:3]] for records in runs]
    assert losses == [[1.0, 1 / 2, 1 / 3], [1 / 2, 1 / 3, 1 / 4]]


@pytest.mark.parametrize(("error", "code"), [(RuntimeError("broken"), 1), (UserError("not finite"), 2)])
def test_a_job_that_raises_is_marked_failed_and_leaves_the_next_alone(tmp_path, error, code):
    with pytest.raises(type(error)):
        run_job(tmp_path / "a", 0, fail=error)
    assert wandb.run is None
    run_job(tmp_path / "b", 1)
    ends = [of_kind(inspect(*offline_runs(tmp_path / name)), "exit")[0]["exit_code"] for name in "ab"]
    assert ends == [code, 0]
    assert read_identity(tmp_path / "a")["id"] != read_identity(tmp_path / "b")["id"]


def test_a_job_that_was_never_closed_does_not_swallow_the_next(tmp_path):
    assert make("offline", tmp_path / "a", "broken", {"seed": 0}) is not None
    after = make("offline", tmp_path / "b", "after", {"seed": 1})
    after.log(0, {"value": 42.5})
    after.close(0)
    (row,) = of_kind(inspect(*offline_runs(tmp_path / "b")), "history")
    assert row["item"]["value"] == 42.5
    assert len(offline_runs(tmp_path / "a")) == 1


def test_a_resumed_run_goes_on_with_the_same_wandb_run(tmp_path):
    run_job(tmp_path, epochs=(1, 2, 3), fail=None)
    before = read_identity(tmp_path)
    config = {"seed": 0, "train": {"lr": 1e-3, "epochs": 5}}
    with RunFolder(tmp_path, config, [make("offline", tmp_path, "resume", config, group=None, tags=())]) as run:
        run.log(4, {"train/loss": 0.25})
    assert read_identity(tmp_path) == before
    first, second = (inspect(folder) for folder in offline_runs(tmp_path))
    begun = [of_kind(records, "run")[0] for records in (first, second)]
    for key in ("run_id", "display_name", "run_group", "tags", "project", "resume"):
        assert begun[0][key] == begun[1][key]
    steps = [[row["item"]["_step"] for row in of_kind(records, "history")] for records in (first, second)]
    assert steps == [[2, 4, 6, 7], [8]]  # W&B drops what does not grow


def test_wandb_sync_finds_both_parts_of_a_resumed_run(tmp_path):
    run_job(tmp_path, epochs=(1,))
    run_job(tmp_path, epochs=(2,))
    folders = offline_runs(tmp_path)
    command = [sys.executable, "-m", "wandb", "sync", "--dry-run", *map(str, folders)]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env={**os.environ, "WANDB_SILENT": "false"}
    )
    assert "Would sync 2 run(s)" in done.stdout + done.stderr


def test_a_damaged_identity_is_told(tmp_path):
    for content in ("{", "[]", '{"id": 3}'):
        (tmp_path / "wandb.json").write_text(content)
        with pytest.raises(UserError, match=r"wandb\.json .*: remove it"):
            make("offline", tmp_path)
    assert not (tmp_path / "wandb").exists()


def test_wandb_dir_is_where_files_go(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "elsewhere"))
    make("offline", tmp_path / "run").close(0)
    assert offline_runs(tmp_path / "elsewhere")
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["wandb.json"]


def test_the_sweep_of_wandb_calls_main_with_overrides_that_compose():
    from wandb.sdk.launch.sweeps import utils

    sweep = yaml.safe_load((ROOT / "sweeps" / "wandb.yaml").read_text(encoding="utf-8"))
    assert sweep["metric"] == {"name": "validation/accuracy", "goal": "maximize"}
    space = sweep["parameters"]
    ends = [
        {key: choice.get("value", choice.get("values", [choice.get("min")])[0]) for key, choice in space.items()},
        {key: choice.get("value", choice.get("values", [choice.get("max")])[-1]) for key, choice in space.items()},
    ]
    for values in ends:
        arguments = utils.create_sweep_command_args({"args": {key: {"value": value} for key, value in values.items()}})
        command = utils.create_sweep_command(list(sweep["command"]))
        assert command == ["${env}", "${interpreter}", "${program}", "${args_no_hyphens}"]
        assert (ROOT / sweep["program"]).is_file()
        with initialize_config_dir(str(ROOT / "cfg"), version_base="1.3"):
            config = read_config(compose("config", arguments["args_no_hyphens"]), arguments["args_no_hyphens"])
        for key in ("train.lr", "kernel.omega0"):
            section, _, name = key.partition(".")
            assert config[section][name] == values[key]


@pytest.mark.long
def test_an_agent_of_a_sweep_chooses_the_run(tmp_path):
    (tmp_path / "chosen.yaml").write_text("wandb_version: 1\ntrain.lr:\n  value: 0.01\n")
    agent = {
        "WANDB_RUN_ID": "agents01",
        "WANDB_SWEEP_ID": "sweep001",
        "WANDB_SWEEP_PARAM_PATH": str(tmp_path / "chosen.yaml"),
    }
    code = (
        "import pathlib; from partial_equiv.runs.wandb_sink import make_wandb_sink; "
        f"folder = pathlib.Path({str(tmp_path / 'run')!r}); "
        "make_wandb_sink('offline', 'tests', {'train': {'lr': 0.01}}, folder, 'job').close(0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | agent)
    (begun,) = of_kind(inspect(*offline_runs(tmp_path / "run")), "run")
    assert (begun["run_id"], begun["sweep_id"]) == ("agents01", "sweep001")
    config = begun["config"]["update"]
    assert (config["train"], config["train.lr"]) == ({"lr": 0.01}, 0.01)
    assert read_identity(tmp_path / "run")["id"] == "agents01"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (None, 0),
        (UserError("x"), 2),
        (KeyboardInterrupt(), 130),
        (SystemExit(143), 143),
        (SystemExit(), 0),
        (OSError(), 1),
    ],
)
def test_a_job_says_how_it_ended(error, code):
    assert exit_code_of(error) == code
