"""Probes through the command line: after each epoch, at the end, and on a finished run."""

import json
from pathlib import Path

import pytest
import torch
import yaml

from partial_equiv.runs import figures, read_log
from tests.test_main import SMALL, cli  # noqa: F401  (a fixture)

PIXELS = [
    "net=GConvNet",
    "base_group=C4",
    "conv=full",
    "net.width=2",
    "net.dropout_blocks=[]",
    "dataset.rot_interval=0",
    "dataset.copies=1",
    "dataset.no_train=64",
    "dataset.no_validation=40",
    "dataset.no_test=40",
    "train.epochs=2",
    "device=cpu",
]
BOTH = ["test.probes=[orbit,audit]", "test.orbit.no_angles=8", "test.orbit.no_curve_images=20", "train.probes=[audit]"]


def summary_of(path):
    return json.loads(Path(path, "summary.json").read_text())


def test_probes_leave_numbers_rows_and_files(cli):  # noqa: F811
    for size in (12, 13):
        code, out, err = cli(*PIXELS, *BOTH, f"dataset.size={size}", f"hydra.run.dir=run{size}")
        assert code == 0, err
        assert "test orbit acc_unseen" in out and "test audit output" in out
    exact, inexact = summary_of("run12"), summary_of("run13")
    assert exact["test/orbit/spread"] == 0 and exact["test/orbit/consistency"] == 1
    assert exact["test/audit/output"] < 1e-12 < 1e-3 < inexact["test/audit/output"]
    rows = read_log(Path("run13"))
    assert [row["audit/output"] > 1e-3 for row in rows] == [True, True]
    assert {key for key in rows[0] if key.startswith("audit/")} >= {"audit/layers.0", "audit/output"}
    for name in ("orbit.json", "audit.json", "audit.html", "figures/audit.png"):
        assert Path("run12", name).stat().st_size > 500
    orbit = json.loads(Path("run12/orbit.json").read_text())
    assert orbit["label"] == "digits GConvNet C4 12 pixels" and orbit["seed"] == 0
    assert orbit["law"]["kind"] == "upright" and len(orbit["angles"]) == 8 and orbit["no_images"] == 20
    assert figures.main(["run12", "run13", "--only", "audit", "--out", "both"]) == 0
    assert Path("both/audit_over_epochs.png").stat().st_size > 10_000


@pytest.mark.long
def test_watching_a_training_changes_nothing_of_it(cli):  # noqa: F811
    """The audit casts the network and draws noise of its own; weights and random numbers stay bit for bit."""
    for name, watched in (("plain", []), ("watched", ["train.probes=[audit,orbit]", "test.orbit.no_angles=null"])):
        assert cli(*SMALL, *watched, f"hydra.run.dir={name}")[0] == 0
    plain, watched = (read_log(Path(name)) for name in ("plain", "watched"))
    for first, second in zip(plain, watched, strict=True):
        assert {key: second[key] for key in first if key != "seconds"} == {
            key: value for key, value in first.items() if key != "seconds"
        }
        assert second.keys() > first.keys()


def test_a_finished_run_is_probed_again_also_one_that_is_older_than_the_probes(cli):  # noqa: F811
    assert cli(*SMALL, "hydra.run.dir=run")[0] == 0
    stored = yaml.safe_load(Path("run/config.yaml").read_text())
    del stored["test"]["orbit"], stored["test"]["audit"], stored["train"]["probes"]
    Path("run/config.yaml").write_text(yaml.safe_dump(stored))
    code, out, err = cli("run=run", "do=evaluate", "test.probes=[orbit,audit]", "test.orbit.no_angles=null")
    assert code == 0, err
    assert "wrote run/orbit.json" in out and "wrote run/figures/audit.png" in out
    report = json.loads(Path("run/audit.json").read_text())
    rows = {row["name"]: row for row in report["rows"]}
    sampled = [row for row in rows.values() if row["law"] is not None]
    assert sampled and max(row["law"] for row in sampled) < 1e-9  # the law holds on any subset
    assert rows["output"]["domain"] is not None


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("test.probes=[orbits]", "did you mean 'orbit'"),
        ("train.probes=[audits]", "train.probes='audits' is not one of"),
        ("test.audit.no_images=1", "test.audit.no_images=1 is too few"),
        ("test.orbit.group=C0", "group='C0' is not one of"),
        ("+test.orbit.angels=3", "test.orbit.angels is not a key of test.orbit"),
        ("test.audit.layers=leaves", "test.audit.layers='leaves' is of the wrong type: give leaf or all"),
    ],
)
def test_a_mistake_in_a_probe_is_told_before_anything_is_trained(cli, override, words):  # noqa: F811
    code, _, err = cli(*PIXELS, "dataset.size=12", "test.probes=[orbit,audit]", override)
    assert (code, words in err) == (2, True), err
    assert len(err.splitlines()) == 1
    assert not Path("outputs").exists()
    assert torch.get_num_threads() == 1
