"""Every benchmark makes its tables, on networks that are far smaller than what is measured."""

import functools
import json
import shutil
import subprocess
import sys

import pytest

from benchmarks import (
    audit,
    compiled,
    conv,
    default_job,
    epochs,
    factors,
    growth,
    neighbours,
    networks,
    peers,
    rate,
    rotmnist,
    split,
    step,
)
from benchmarks.choices import Choices
from benchmarks.conv import Shape
from benchmarks.jobs import make_job
from benchmarks.results import Judged, from_json, to_json
from benchmarks.spread import Spread
from benchmarks.timing import Rounds
from partial_equiv import UserError

QUICK = Choices(no_rounds=1)
TINY = ("net.no_hidden=2", "kernel.no_hidden=4")


@pytest.fixture
def tiny(monkeypatch):
    """Make every published network narrow, and batches small."""

    def narrow(*overrides, batch_size, device="cpu", seed=0):
        return make_job(*overrides, *TINY, batch_size=min(batch_size, 3), device=device, seed=seed)

    for module in (factors, growth, networks, compiled):
        monkeypatch.setattr(module, "make_job", narrow)
    for module in (factors, step, growth):
        twin = functools.partial(module.PlainCKResNet, no_hidden=2)
        monkeypatch.setattr(module, "PlainCKResNet", twin)


def checked(tables):
    """Return the tables, having checked that every row has the width of the heading and comes back from JSON."""
    for table in tables:
        assert table.rows and all(len(row) == len(table.header) for row in table.rows), table.title
        assert table.markdown().count("\n| ") == 1 + len(table.rows)
    assert from_json(to_json(tables)) == tables
    return tables


def test_every_kind_of_convolution_has_its_row(monkeypatch):
    small = Shape(2, 4, 3, 2, 6)
    for name, value in (("SHORT_CASES", (small,)), ("SMALL", small), ("PIXELS", small)):
        monkeypatch.setattr(conv, name, value)
    (table,) = checked(conv.tables(QUICK))
    names = [row[0].partition(",")[0] for row in table.rows]
    assert names == [
        *("GroupConv full", "GroupConv g", "GroupConv gc", "LiftingConv full", "LiftingConv gc", "PointwiseConv"),
        *("GConv2d full", "GConv2d g", "GConv2d gc", "GConv2d lifting"),
    ]
    assert [isinstance(row[2], Judged) for row in table.rows] == [True] + 9 * [False]


def test_networks_are_measured_against_their_convolutions(tiny, monkeypatch):
    kept = ("CKResNet SE2 partial", "CKResNet SE2 partial, gc")
    monkeypatch.setattr(networks, "NETWORKS", {name: networks.NETWORKS[name] for name in kept})
    (table,) = checked(networks.tables(QUICK))
    assert [row[0] for row in table.rows] == ["CKResNet SE2 partial, B 8", "CKResNet SE2 partial, gc, B 8"]


def test_memory_is_a_ratio_to_the_bare_step_of_the_same_network(monkeypatch):
    asked = []

    def peaks(requests, device):
        asked.extend(requests)
        return [{"step": 30.0, "bare": 20.0, "bare, weights resident": 10.0}[request.kind] for request in requests]

    monkeypatch.setattr(networks, "peaks", peaks)
    (table,) = checked(networks.memory_tables(QUICK))
    assert [row[1] for row in table.rows] == 2 * [30.0] and [row[3] for row in table.rows] == 2 * [3.0]
    assert [row[2].value if isinstance(row[2], Judged) else row[2] for row in table.rows] == 2 * [1.5]
    assert [request.batch_size for request in asked[:6]] == 6 * [64]  # as published, where there is a goal


@pytest.mark.long
def test_factorisations_are_compared(tiny, monkeypatch):
    (table,) = checked(factors.tables(QUICK))
    judged = [(row[0], row[2].goal.limit) for row in table.rows if isinstance(row[2], Judged)]
    assert judged == [("training step, N 8, B 64: gc", 5), ("training step, N 16, B 16: gc", 8)]
    full = [row for row in table.rows if row[0].endswith(": full")]
    assert all(row[2] == Spread(1.0, 1.0, 1.0) for row in full)


def test_exports_are_compared_with_the_plain_network(tiny):
    (table,) = checked(factors.plain_tables(QUICK))
    assert [row[0].partition(": ")[2] for row in table.rows] == 2 * ["cached", "exported", "plain"]


def test_a_peer_that_is_missing_has_a_row_that_says_so(monkeypatch):
    def absent():
        raise UserError("not installed")

    monkeypatch.setattr(peers, "PEERS", {"escnn": absent, "e2cnn": absent})
    monkeypatch.setattr(peers, "CASES", ((4, 1),))
    monkeypatch.setattr(peers, "SIDE", 7)
    (table,) = checked(peers.tables(QUICK))
    assert [row[2] for row in table.rows[-2:]] == 2 * ["not installed"]
    assert {row[2] for row in table.rows[:-2]} == {None}


def test_growth_finds_the_exponents_that_are_there(monkeypatch):
    powers = {"full": 2.0, "gc": 1.4, factors.IDEAL: 1.2}

    def timed(name, axis, kind, choices):
        return Rounds({str(n): [c * n ** powers[kind] for c in (1.0, 2.0, 3.0)] for n in axis.values[kind]})

    def peaks(requests, device):
        return [3.0 * float(request.overrides[1].partition("=")[2]) for request in requests]

    axes = {name: axis for name, axis in growth.SHORT.items() if name == growth.ELEMENTS}
    for name, value in (("timed", timed), ("peaks", peaks), ("SHORT", axes)):
        monkeypatch.setattr(growth, name, value)
    exponents, points = checked(growth.tables(QUICK))
    found = {row[1]: row[3].value if isinstance(row[3], Judged) else row[3] for row in exponents.rows}
    assert {kind: value.median for kind, value in found.items()} == pytest.approx(powers)
    assert [row[4] and row[4].median for row in exponents.rows] == [pytest.approx(1), pytest.approx(1), None]
    assert len(points.rows) == 9


@pytest.mark.long
def test_points_of_growth_are_steps_of_the_right_networks(tiny):
    for name, axis in (growth.SHORT | growth.WHOLE).items():
        for factorization, values in axis.values.items():
            if name in ("kernel k", growth.ELEMENTS) or factorization == "gc":
                growth.point(axis, values[0], factorization, "cpu")()


@pytest.mark.skipif(not shutil.which("c++"), reason="torch.compile needs a C++ compiler")
def test_what_cannot_be_compiled_says_why(tiny):
    row = compiled.measured("default job", ("base_group.count=ceil",), 2, QUICK)
    assert row[1:5] == (None, None, None, None) and "count" in row[5]


def test_epochs_are_counted_by_the_trainers_loop(monkeypatch, tmp_path):
    monkeypatch.setattr(epochs, "STEPS", 1)
    monkeypatch.delenv("DATA_DIR", raising=False)
    label, overrides = epochs.rotmnist("gc", tmp_path)
    assert "DATA_DIR holds no MNIST" in label
    row = epochs.measured(label, (*overrides, *TINY, "train.batch_size=8"), QUICK)
    assert row[1] == 1250 and row[3].median == pytest.approx(60 / (1250 * row[2]), rel=0.5)


def test_the_share_of_the_devices_rate_lies_between_0_and_1(tiny, monkeypatch):
    monkeypatch.setattr(rate, "SIDE", 8)
    monkeypatch.setattr(rate, "WIDTH", 8)
    (table,) = checked(rate.tables(QUICK))
    assert all(row[5] == pytest.approx(row[1] / row[3]) and 0 < row[4].median < 1.5 for row in table.rows)


@pytest.mark.long
def test_parts_of_a_step_make_the_whole(tiny):
    steps, parts = checked(step.tables(QUICK))
    assert len(steps.rows) == 6
    assert [sum(row[column] for row in parts.rows) for column in (1, 2)] == pytest.approx([100, 100])
    assert (
        step.part_of("aten::mkldnn_convolution") == "convolutions" and step.part_of("aten::relu") == "everything else"
    )


def test_the_default_job_is_judged(monkeypatch):
    found = iter(
        [
            {"seconds": 95.0, "test/accuracy": 0.98, "no_params": 9},
            {"seconds": 9.0, "test/accuracy": 0.9, "no_params": 7},
        ]
    )
    monkeypatch.setattr(default_job, "run", lambda overrides: next(found))
    (table,) = checked(default_job.tables(QUICK))
    assert [cell.met for row in table.rows for cell in row if isinstance(cell, Judged)] == [False, True]
    assert "8.00 points lower" in table.notes[0]


def test_the_training_to_the_end_runs_main_and_names_what_it_ran(monkeypatch):
    commands = []

    def run(command, **_):
        commands.append(command)
        folder = next(word.partition("=")[2] for word in command if word.startswith("hydra.run.dir="))
        with open(f"{folder}/summary.json", "w") as file:
            json.dump({"seconds": 120.0, "test/accuracy": 0.5, "no_params": 3}, file)

    monkeypatch.setattr(rotmnist.subprocess, "run", run)
    (table,) = checked(rotmnist.tables(Choices(epochs=1, overrides=("dataset.no_train=32",))))
    assert [row[1:4:2] for row in table.rows] == 2 * [(2.0, 50.0)]
    assert [row[0] for row in table.rows] == [f"{f}, float32, 1 epochs (dataset.no_train=32)" for f in ("gc", "full")]
    (table,) = rotmnist.tables(Choices(device="cuda"))
    assert isinstance(table.rows[0][1], Judged) and not isinstance(table.rows[1][1], Judged)
    assert table.rows[0][0] == "gc, bfloat16, 300 epochs"
    assert commands[0][:2] == [sys.executable, "main.py"] and "conv.factorization=gc" in commands[2]
    assert "train.epochs=300" in commands[2] and "device=cuda" in commands[2]


def test_older_benchmarks_make_tables_too(monkeypatch):
    def rounds(candidates, **_):
        return Rounds({name: [float(index + 1)] for index, name in enumerate(candidates)})

    def run(command, **_):
        found = {"wall": 61.0, "processor": 70.0, "peak": 1.0} if "benchmarks.neighbours" in command else 0.5
        return subprocess.CompletedProcess(command, 0, json.dumps(found))

    monkeypatch.setattr(audit, "interleaved", rounds)
    monkeypatch.setattr(split, "interleaved", rounds)
    monkeypatch.setattr(split, "make_step", lambda name: None)
    monkeypatch.setattr(subprocess, "run", run)
    verdicts = {
        module.__name__.partition(".")[2]: [
            cell.met
            for table in checked(module.tables(QUICK))
            for row in table.rows
            for cell in row
            if isinstance(cell, Judged)
        ]
        for module in (audit, neighbours, split)
    }
    # Seconds 1 and 3 of the audit; 61 s and 1 GiB of the neighbours; SIE takes twice as long with as much memory.
    assert verdicts == {"audit": [True, True], "neighbours": [False, True], "split": [False, True]}
