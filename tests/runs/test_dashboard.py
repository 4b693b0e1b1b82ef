"""One page over several runs: its definition names what the sinks send, and W&B's own package takes it."""

import importlib.util
import json
import os

import numpy as np
import pytest

from partial_equiv.runs import RunFolder, dashboard
from partial_equiv.runs.shown import series
from partial_equiv.runs.wandb_sink import WandbSink

HAVE = importlib.util.find_spec("wandb_workspaces") is not None
needs_workspaces = pytest.mark.skipif(
    not HAVE, reason="wandb-workspaces is not installed: pip install wandb-workspaces"
)
LAYERS = ["lift", "blocks.0"]


@pytest.fixture(autouse=True)
def no_account(tmp_path, monkeypatch):
    """An empty home and no word about W&B in the environment."""
    for key in [key for key in os.environ if key.startswith("WANDB_")] + ["NETRC"]:
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


class Recorder:
    """Stands for the package wandb and for a W&B run: remembers the keys under which something is sent."""

    dir = "."

    def __init__(self):
        self.keys, self.summary = set(), {}

    def define_metric(self, *_, **__):
        pass

    def log(self, values, **_):
        self.keys |= set(values)

    def finish(self, exit_code):
        assert exit_code == 0

    def media(self, *_, **__):
        return None

    Image = Html = Table = media


def make_finished(path, seed, *, sent=True, project="turns"):
    """Write a finished run, and return the keys that its W&B sink sent."""
    config = {"seed": seed, "dataset": {"type": "digits"}, "net": {"type": "GCNN"}}
    recorder = Recorder()
    with RunFolder(path, config, [WandbSink(recorder, recorder, config, "job", LAYERS)]) as run:
        for epoch in (1, 2):
            row = {"train/loss": 0.5, "validation/loss": 0.5, "validation/accuracy": 0.5, "lr": 0.1}
            row |= {"levels": [None, 0.5], "gates/lift": [1.0, 0.5], "audit/lift": 0.1, "seconds": 1.0}
            run.log(epoch, row)
        (path / "figures").mkdir()
        (path / "figures" / "curves.png").write_bytes(b"")
        for sink in run._sinks:
            sink.image("curves", np.zeros((1, 1, 3), np.uint8))
        run.artifact("confusion.json", {"class_names": ["6"], "counts": [[4]]})
        run.summary(
            {
                "test/accuracy": 0.5,
                "test/class_accuracy/6": 0.5,
                "test/audit/lift": 0.1,
                "layers": LAYERS,
                "levels": [None, 0.5],
            }
        )
    if sent:
        identity = {"id": f"id{seed}", "entity": None, "project": project, "name": "job", "group": "", "tags": []}
        (path / "wandb.json").write_text(json.dumps(identity))
    return recorder.keys | set(recorder.summary)


def keys_of(definition):
    panels = [panel for section in definition["sections"] for panel in section["panels"]]
    return {key for panel in panels for name in ("y", "metrics", "keys") for key in panel.get(name, [])}


def test_a_definition_shows_what_was_sent_and_nothing_else(tmp_path):
    sent = make_finished(tmp_path / "a", 0) | make_finished(tmp_path / "b", 1)
    out = dashboard.make_dashboard([tmp_path / "a", tmp_path / "b"], "definition", tmp_path / "report.json")
    definition = json.loads((tmp_path / "report.json").read_text())
    assert out == str(tmp_path / "report.json")
    assert keys_of(definition) <= sent
    assert sent - keys_of(definition) == {"epoch", "layers", "levels"}
    assert [section["title"] for section in definition["sections"]] == [
        "Training",
        "Learned subsets",
        "Equivariance during training",
        "Other measurements",
        "Tests",
        "Figures",
        "Tables and cards",
        "Choices",
    ]
    panels = {panel["title"]: panel.get("y") for section in definition["sections"][:2] for panel in section["panels"]}
    assert panels["loss"] == ["train/loss", "validation/loss"]
    assert panels["gates/lift"] == ["gates/lift/0", "gates/lift/1"]
    assert [(run["id"], run["label"]) for run in definition["runs"]] == [("id0", "seed 0"), ("id1", "seed 1")]
    assert definition["title"] == "seed 0 / seed 1"


def test_a_run_that_was_not_sent_is_told(tmp_path, capsys):
    make_finished(tmp_path / "a", 0, sent=False)
    assert dashboard.main([str(tmp_path / "a"), "--to", "definition"]) == 2
    assert "was not sent to W&B, it holds no wandb.json" in capsys.readouterr().err
    assert dashboard.main([str(tmp_path / "nowhere"), "--to", "definition"]) == 2
    assert "is not a folder: give the folder of a run" in capsys.readouterr().err


def test_what_a_wandb_report_lacks_is_said(tmp_path, monkeypatch):
    make_finished(tmp_path / "a", 0)
    make_finished(tmp_path / "b", 1, sent=False)
    found = [tmp_path / "a", tmp_path / "b"]
    assert dashboard.missing_for_wandb(found[:1]) == "there is no W&B account here"
    monkeypatch.setenv("WANDB_API_KEY", "0123")
    monkeypatch.setattr(dashboard, "_has_workspaces", lambda: False)
    assert "pip install wandb-workspaces" in dashboard.missing_for_wandb(found[:1])
    monkeypatch.setattr(dashboard, "_has_workspaces", lambda: True)
    assert dashboard.missing_for_wandb(found) == f"{tmp_path / 'b'} was not sent to W&B"
    assert dashboard.missing_for_wandb(found[:1]) == ""


def test_without_an_account_the_local_page_is_made(tmp_path, capsys):
    make_finished(tmp_path / "a", 0)
    make_finished(tmp_path / "b", 1)
    out = tmp_path / "page.html"
    assert dashboard.main([str(tmp_path), "--out", str(out)]) == 0
    written, told = capsys.readouterr()
    assert written.strip() == str(out) and told == "note: a local page, for there is no W&B account here\n"
    assert all(f"seed {seed}" in out.read_text(encoding="utf-8") for seed in (0, 1))
    assert dashboard.main([str(tmp_path / "a")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "a" / "report.html")


def test_to_wandb_without_an_account_is_one_line(tmp_path, capsys):
    make_finished(tmp_path / "a", 0)
    assert dashboard.main([str(tmp_path / "a"), "--to", "wandb"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: --to wandb needs an API key") and err.count("\n") == 1


@needs_workspaces
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # it is written for an older pydantic
def test_wandb_takes_the_definition(tmp_path):
    make_finished(tmp_path / "a", 0)
    make_finished(tmp_path / "b", 1, project="other")
    definition = dashboard.define_report([dashboard.open_run(tmp_path / name) for name in "ab"], title="Turns")
    report = dashboard.build_report(definition)
    spec = json.loads(report._to_model().model_dump_json(by_alias=True))["spec"]
    grids = [block["metadata"] for block in spec["blocks"] if block["type"] == "panel-grid"]
    assert len(grids) == len(definition["sections"])
    panels = [panel for grid in grids for panel in grid["panelBankSectionConfig"]["panels"]]
    lines = [panel["config"] for panel in panels if panel["viewType"] == "Run History Line Plot"]
    assert {line["xAxis"] for line in lines} == {"epoch"}
    assert [line["metrics"] for line in lines if line.get("yLogScale")] == [["audit/lift"]]
    drawn = {key for line in lines for key in line["metrics"]}
    rows = series({"train/loss": 1, "levels": [None, 0.5], "gates/lift": [1.0, 0.5], "lr": 1}, LAYERS)
    assert set(rows) <= drawn
    run_sets = grids[0]["runSets"]
    assert [run_set["name"] for run_set in run_sets] == ["turns", "other"]
    assert ["id0" in json.dumps(run_set["filters"]) for run_set in run_sets] == [True, False]


@needs_workspaces
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # it is written for an older pydantic
def test_a_refusal_of_the_server_is_one_line(tmp_path, monkeypatch, capsys):
    import wandb_workspaces.reports.v2 as wr

    def refuse(*_, **__):
        raise ValueError("project 'me/turns' not found\nand more")

    make_finished(tmp_path / "a", 0)
    monkeypatch.setenv("WANDB_API_KEY", "0123")
    monkeypatch.setattr(wr.Report, "save", refuse)
    assert dashboard.main([str(tmp_path / "a")]) == 2
    err = capsys.readouterr().err
    assert (
        err.startswith("error: W&B did not take the report (project 'me/turns' not found): check")
        and err.count("\n") == 1
    )
