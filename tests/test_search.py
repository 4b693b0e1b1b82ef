"""Hyper-parameter search: what is drawn, what a trial is told, pruning, failures, and going on after any end."""

import functools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser

import search
import search_space
import search_trial
from partial_equiv import UserError
from search_space import override_text, read_choices
from tests import small

ROOT = Path(__file__).resolve().parents[1]
# Acts as main.py: its metric peaks at train.lr = 0.01, later epochs come nearer to it; conv=broken fails.
PROGRAM = r"""
import json, signal, sys, time
from pathlib import Path

given = dict(item.split("=", 1) for item in sys.argv[1:])
folder = Path(given.get("resume") or given["hydra.run.dir"])
folder.mkdir(parents=True, exist_ok=True)
config, log = folder / "config.yaml", folder / "metrics.jsonl"
if "resume" in given:
    given = json.loads(config.read_text())
config.write_text(json.dumps(given))
with (folder / "calls").open("a") as calls:
    calls.write(" ".join(sys.argv[1:]) + "\n")

def stop(number, frame):
    (folder / "saved").touch()
    sys.exit(128 + number)

signal.signal(signal.SIGTERM, stop)
if given.get("conv") == "broken":
    print("noise\nerror: conv=broken is broken\nmore noise")
    sys.exit(2)
end = time.monotonic() + 30
while len(list(folder.parent.glob("*/config.yaml"))) < int(given.get("together", 1)):
    if time.monotonic() > end:
        sys.exit("the others did not come")
    time.sleep(0.01)
rate, epochs = float(given["train.lr"]), int(given.get("train.epochs", 4))
done = len(log.read_text().splitlines()) if log.is_file() else 0
for epoch in range(done + 1, epochs + 1):
    value = 1 - abs(rate - 0.01) * 10 - 0.1 / epoch
    with log.open("a") as file:
        file.write(json.dumps({"epoch": epoch, "validation/accuracy": value, "validation/loss": 1 - value}) + "\n")
    time.sleep(float(given.get("pause", 0.03)))
sys.exit(int(given.get("code", 0)))
"""
SPACE = {"train.lr": {"low": 0.001, "high": 0.1, "log": True}, "conv": {"choices": ["full", "partial"]}}


@pytest.fixture
def program(tmp_path):
    """Return a stand-in for main.py that takes milliseconds."""
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


@pytest.fixture
def run(tmp_path, monkeypatch, capsys, program):
    """Return a function that searches with the stand-in and gives exit code, stdout and stderr."""
    pytest.importorskip("optuna", reason="optuna is not installed: pip install -e '.[sweep]'")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(search, "POLL", 0.02)

    def call(*arguments, **keys):
        (tmp_path / "space.yaml").write_text(yaml.safe_dump({"study": "s", "space": SPACE, **keys}))
        capsys.readouterr()
        code = search.main(["space.yaml", *arguments], program)
        return code, *capsys.readouterr()

    return call


def trials(tmp_path, study="s"):
    return json.loads((tmp_path / "outputs" / "search" / study / "trials.json").read_text())["trials"]


def logged(tmp_path, name, study="s"):
    path = tmp_path / "outputs" / "search" / study / "trials" / name / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_best_trial_is_the_best_of_the_logs(run, tmp_path):
    code, out, err = run("trials=4", "pruner=none", "seed=3", "--", "train.epochs=3", "pause=0")
    assert (code, err) == (0, "")
    found = trials(tmp_path)
    assert [trial["number"] for trial in found] == list(range(4))
    assert {trial["state"] for trial in found} == {"complete"}
    best = {}
    for trial in found:
        name, rows = trial["run"], logged(tmp_path, trial["run"])
        rate = trial["parameters"]["train.lr"]
        best[name] = max(row["validation/accuracy"] for row in rows)
        assert best[name] == pytest.approx(1 - abs(rate - 0.01) * 10 - 0.1 / 3) == trial["value"]
        assert trial["epoch"] == 3
        assert 0.001 <= rate <= 0.1 and trial["parameters"]["conv"] in ("full", "partial")
        calls = (tmp_path / "outputs" / "search" / "s" / "trials" / name / "calls").read_text().split()
        assert calls == [
            "train.epochs=3",
            "pause=0",
            *trial["overrides"],
            f"hydra.run.dir=outputs/search/s/trials/{name}",
        ]
    winner = max(found, key=lambda trial: best[trial["run"]])
    folder = tmp_path / "outputs" / "search" / "s"
    assert (folder / "best.txt").read_text().split() == winner["overrides"]
    assert f"best:    python main.py train.epochs=3 pause=0 {' '.join(winner['overrides'])}\n" in out
    assert (folder / "figures" / "search.png").read_bytes().startswith(b"\x89PNG")
    ranked = [int(line.split()[0]) for line in out.splitlines() if " complete " in line and "trial" not in line]
    assert ranked == [t["number"] for t in sorted(found, key=lambda trial: -trial["value"])]


def test_the_direction_and_the_last_epoch_are_minded(run, tmp_path):
    code, _, err = run(
        "trials=3", "metric=validation/loss", "direction=minimize", "value=last", "pruner=none", "--", "pause=0"
    )
    assert (code, err) == (0, "")
    values = {trial["run"]: trial["value"] for trial in trials(tmp_path)}
    assert values == {name: pytest.approx(logged(tmp_path, name)[-1]["validation/loss"]) for name in values}
    best = (tmp_path / "outputs/search/s/best.txt").read_text().split()
    assert best == min(trials(tmp_path), key=lambda trial: trial["value"])["overrides"]


def test_a_trial_that_falls_behind_is_told_to_save_itself(run, tmp_path):
    # The first two are drawn at random and set the mark; then comes one that is queued to be bad.
    space = {"train.lr": {"low": 0.009, "high": 0.011}}
    assert run("trials=2", "startup_trials=2", space=space, overrides=["pause=0.01", "train.epochs=30"])[0] == 0
    study = search.open_study(Path("outputs/search/s"), read_choices(["space.yaml"]))
    study.enqueue_trial({"train.lr": 0.09})  # outside: Optuna takes it as it is, with a warning
    del study
    with pytest.warns(UserWarning, match="out of range"):
        code, out, err = run(
            "trials=3", "startup_trials=2", "warmup_epochs=3", space=space, overrides=["pause=0.01", "train.epochs=30"]
        )
    assert (code, err) == (0, "")
    last = trials(tmp_path)[-1]
    assert (last["state"], last["parameters"]) == ("pruned", {"train.lr": 0.09})
    folder = tmp_path / "outputs/search/s/trials" / last["run"]
    assert (folder / "saved").exists()
    assert 3 < len(logged(tmp_path, last["run"])) < 30
    assert "trial 2  train.lr=0.09  pruned, " in out
    assert "saved" not in [path.name for path in (tmp_path / "outputs/search/s/trials/0000").iterdir()]


def test_a_trial_that_fails_is_recorded_and_the_others_go_on(run, tmp_path):
    space = {**SPACE, "conv": {"choices": ["full", "broken"]}}
    code, out, err = run("trials=5", "pruner=none", "sampler=random", space=space, overrides=["pause=0"])
    assert (code, err) == (0, "")
    states = {trial["number"]: trial["state"] for trial in trials(tmp_path)}
    broken = {trial["number"] for trial in trials(tmp_path) if trial["parameters"]["conv"] == "broken"}
    assert 0 < len(broken) < 5
    assert states == {number: "failed" if number in broken else "complete" for number in range(5)}
    assert out.count("failed: error: conv=broken is broken, ") == len(broken)


@pytest.mark.parametrize(("code", "state", "reason"), [(75, "complete", ""), (9, "failed", "exit code 9")])
def test_a_run_whose_minutes_are_over_counts_and_one_that_dies_does_not(run, tmp_path, code, state, reason):
    assert run("trials=1", "pruner=none", overrides=["pause=0", f"code={code}"])[0] == 0
    (trial,) = trials(tmp_path)
    assert (trial["state"], trial["reason"]) == (state, reason)
    assert (trial["value"] is None) == (state == "failed")


def test_a_search_without_hope_ends(run, tmp_path):
    code, _, err = run("trials=9", "metric=validation/accurac", overrides=["pause=0", "train.epochs=1"])
    assert code == 2 and err.count("\n") == 1
    assert err.startswith("error: all 3 trials failed, see outputs/search/s/trials/0002.log: no row holds a number for")
    assert "did you mean 'validation/accuracy'?" in err
    assert len(trials(tmp_path)) == 3


def test_the_same_command_goes_on_and_another_study_is_refused(run, tmp_path):
    first = ("trials=1", "pruner=none", "--", "pause=0")
    assert run(*first)[0] == 0
    before = trials(tmp_path)
    code, out, _ = run(*first)
    assert code == 0 and "all trials=1 are done: give trials=2 to go on" in out
    assert trials(tmp_path) == before
    assert run("trials=3", *first[1:])[0] == 0
    after = trials(tmp_path)
    assert after[:1] == before and len(after) == 3
    assert len({trial["parameters"]["train.lr"] for trial in after}) == 3  # no random number twice
    code, _, err = run("trials=4", "pruner=none", "--", "pause=1")
    assert code == 2 and "outputs/search/s holds another study (overrides was ['pause=0'] and is ['pause=1'])" in err
    code, _, err = run(*first, space={"train.lr": {"low": 0.1, "high": 0.2}})
    assert code == 2 and "space was" in err


def begin(tmp_path, program, *arguments):
    """Start a search in a process of its own."""
    code = "import sys, search; search.POLL = 0.02; sys.exit(search.main(sys.argv[2:], search.Path(sys.argv[1])))"
    return subprocess.Popen(
        [sys.executable, "-c", code, str(program), "space.yaml", *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_rows(tmp_path, name, no_rows):
    """Wait until a trial has logged some epochs."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        path = tmp_path / "outputs/search/s/trials" / name / "metrics.jsonl"
        if path.is_file() and len(path.read_text().splitlines()) >= no_rows:
            return
        time.sleep(0.02)
    raise AssertionError(f"trial {name} logged no {no_rows} epochs")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_search_that_is_told_to_stop_saves_its_trials_and_goes_on(run, tmp_path, number):
    def tell():
        wait_for_rows(tmp_path, "0000", 3)
        os.kill(os.getpid(), number)

    call = functools.partial(run, "trials=2", "pruner=none", overrides=["pause=0.03", "train.epochs=20"])
    teller = threading.Thread(target=tell)
    teller.start()
    code, _, err = call()
    teller.join()
    assert code == 128 + number
    assert err.startswith(f"error: {number.name}: ") and err.count("\n") == 1
    folder, rows = tmp_path / "outputs/search/s/trials/0000", logged(tmp_path, "0000")
    assert (folder / "saved").exists() and 3 <= len(rows) < 20
    assert trials(tmp_path) == []
    assert call()[0] == 0
    assert logged(tmp_path, "0000")[: len(rows)] == rows and len(logged(tmp_path, "0000")) == 20
    assert (folder / "calls").read_text().splitlines()[1:] == ["resume=outputs/search/s/trials/0000"]
    # The trial that was stopped counts once: number 1 goes on in its folder, with its parameters.
    found = [(trial["number"], trial["run"], trial["state"]) for trial in trials(tmp_path)]
    assert found == [(1, "0000", "complete"), (2, "0002", "complete")]
    assert trials(tmp_path)[0]["overrides"] == (folder / "calls").read_text().splitlines()[0].split()[2:4]


@pytest.mark.long
def test_a_killed_search_is_kept_closed_by_its_trial_and_then_goes_on(run, tmp_path, program):
    keys = {"overrides": ["pause=0.1", "train.epochs=60"]}
    run("trials=0", **keys)  # a mistake, but space.yaml is there
    with begin(tmp_path, program, "trials=1", "pruner=none") as process:
        wait_for_rows(tmp_path, "0000", 2)
        process.kill()
        process.communicate(timeout=60)
    code, _, err = run("trials=1", "pruner=none", **keys)
    assert code == 2 and "outputs/search/s is in use" in err and err.count("\n") == 1
    listed = subprocess.run(
        ["pgrep", "-f", "hydra.run.dir=outputs/search/s/trials/0000"], capture_output=True, text=True, check=True
    )
    os.kill(int(listed.stdout.split()[0]), signal.SIGKILL)
    end = time.monotonic() + 10
    while (code := run("trials=1", "pruner=none", **keys)[0]) == 2 and time.monotonic() < end:
        time.sleep(0.05)
    assert code == 0
    (trial,) = trials(tmp_path)
    assert (trial["run"], trial["state"], trial["epoch"]) == ("0000", "complete", 60)
    assert len(logged(tmp_path, "0000")) == 60


def test_trials_side_by_side(run, tmp_path):
    # Each waits for the two others.
    assert run("trials=3", "jobs=3", "pruner=none", overrides=["pause=0", "together=3"])[0] == 0
    assert [trial["state"] for trial in trials(tmp_path)] == ["complete"] * 3


def test_no_trial_starts_after_the_time(run, tmp_path):
    code, _, _ = run("trials=50", "timeout_minutes=0.01", "pruner=none", overrides=["pause=0.1"])
    assert code == 0
    assert 1 <= len(trials(tmp_path)) < 5
    assert {trial["state"] for trial in trials(tmp_path)} == {"complete"}


def test_a_damaged_study_is_one_sentence(run, tmp_path):
    folder = tmp_path / "outputs" / "search" / "s"
    folder.mkdir(parents=True)
    (folder / "study.db").write_text("no database")
    code, _, err = run("trials=1")
    assert code == 2 and err.startswith("error: outputs/search/s/study.db cannot be used") and err.count("\n") == 1


def test_without_optuna_one_sentence(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(search.importlib.util, "find_spec", lambda name: None)
    assert search.main([]) == 2
    assert capsys.readouterr().err == "error: search.py needs the package optuna: pip install '.[sweep]'\n"
    assert list(tmp_path.iterdir()) == []


MISTAKES = {
    "trails=3": "did you mean 'trials'",
    "trials=0": "trials=0 is out of range: give 1 or more",
    "trials=many": "search.trials='many' is of the wrong type: give an integer",
    "timeout_minutes=0": "timeout_minutes=0 is out of range",
    "direction=up": "maximize or minimize",
    "metric=test/accuracy": "would tune on the test data",
    "study=a/b": "names a folder",
    "sampler=[": "cannot be read",
    "nowhere.yaml": "nowhere.yaml cannot be read",
    "a.yaml b.yaml": "a.yaml b.yaml cannot be read",
    "--trials 3": "cannot be read",
    "space=3": "space is not given here",
    "-- train.lr=3": "train.lr=3 sets what is searched",
    "-- hydra.run.dir=x": "which the search does itself",
    "-- -m": "'-m' is no override",
}


@pytest.mark.parametrize("arguments", MISTAKES)
def test_a_mistake_is_one_line(arguments, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert search.main(arguments.split()) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1 and MISTAKES[arguments] in err
    assert list(tmp_path.iterdir()) == []


SPACES = {
    "null": "space is empty",
    "{a: 3}": "space.a=3 is no parameter",
    "{a: {low: 1}}": "space.a.high=None is of the wrong type: give a number",
    "{a: {low: 1, high: 2, hihg: 3}}": "did you mean 'high'",
    "{a: {low: 2, high: 1}}": "low lies below high",
    "{a: {low: 0, high: 1, log: true}}": "above 0 where log is true",
    "{a: {low: 1, high: 3, log: true, step: 1}}": "log takes no step",
    "{a: {low: 1, high: 3, step: 0.5}}": "step=0.5 is no whole number",
    "{a: {low: x, high: 3}}": "space.a.low='x' is of the wrong type",
    "{a: {low: 1, high: 3, log: 1}}": "space.a.log=1 is of the wrong type",
    "{a: {choices: 3}}": "no list of choices",
    "{a: {choices: [1]}}": "leaves no choice",
    "{a: {choices: [1, 1]}}": "leaves no choice",
    "{a: {choices: [1, 2], low: 1}}": "is no parameter",
}


@pytest.mark.parametrize("space", SPACES)
def test_a_wrong_space_is_one_sentence(space):
    with pytest.raises(UserError) as caught:
        search_space.read_space(yaml.safe_load(space))
    assert SPACES[space] in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        "SIREN",
        "a b",
        'say "x"',
        "back\\slash",
        "at the end\\",
        'before \\" a quote',
        "a,b",
        "",
        None,
        True,
        3,
        1e-05,
        0.5,
        [1, 2],
        ["a b", None],
        {"k": [1, "x=y"]},
        "ü",
    ],
)
def test_a_value_reaches_main_as_it_was_meant(value):
    parsed = OverridesParser.create().parse_override(f"key={override_text(value)}").value()
    assert parsed == value or str(parsed) == value


def test_what_is_drawn_lies_in_the_space_and_is_what_main_reads():
    optuna = pytest.importorskip("optuna", reason="optuna is not installed: pip install -e '.[sweep]'")
    space = search_space.read_space(
        {
            "rate": {"low": "1e-6", "high": "1e-2", "log": True},
            "width": {"low": 16, "high": 64, "step": 16},
            "omega0": {"low": 1, "high": 30.0, "step": 0.5},
            "net": {"choices": ["GCNN", [1, 2], None]},
        }
    )
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    parser, drawn = OverridesParser.create(), {}
    for _ in range(60):
        for override in map(parser.parse_override, search_space.draw(study.ask(), space)):
            drawn.setdefault(override.key_or_group, []).append(override.value())
    assert all(1e-6 <= value <= 1e-2 for value in drawn["rate"]) and min(drawn["rate"]) < 1e-4 < max(drawn["rate"])
    assert set(drawn["width"]) == {16, 32, 48, 64}
    assert all((value * 2).is_integer() and 1 <= value <= 30 for value in drawn["omega0"])
    assert {str(value) for value in drawn["net"]} == {"GCNN", "[1, 2]", "None"}


def test_the_file_that_is_shipped_is_whole_and_its_keys_are_those_of_main():
    choices = read_choices([])
    from hydra import compose, initialize_config_dir

    from config_reader import read_config

    optuna = pytest.importorskip("optuna", reason="optuna is not installed: pip install -e '.[sweep]'")
    drawn = search_space.draw(optuna.create_study().ask(), search_space.read_space(choices.space))
    with initialize_config_dir(str(ROOT / "cfg"), version_base="1.3"):
        assert read_config(compose("config", [*choices.overrides, *drawn]), [])


def test_trials_side_by_side_share_the_cores(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(search_trial.os, "cpu_count", lambda: 8)
    assert search_trial.environment(3)["OMP_NUM_THREADS"] == "2"
    assert "OMP_NUM_THREADS" not in search_trial.environment(1)
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert search_trial.environment(3)["OMP_NUM_THREADS"] == "5"


SMALL = [*small.SMALL, "train.epochs=3"]


@pytest.mark.long
def test_a_search_with_real_runs(tmp_path):
    pytest.importorskip("optuna", reason="optuna is not installed: pip install -e '.[sweep]'")
    (tmp_path / "space.yaml").write_text(
        "{space: {train.lr: {low: 1e-4, high: 1e-2, log: true}, conv: {choices: [full, partial]}}}"
    )
    done = subprocess.run(
        [sys.executable, str(ROOT / "search.py"), "space.yaml", "study=real", "trials=3", "--", *SMALL],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    for trial in trials(tmp_path, "real"):
        config = yaml.safe_load((tmp_path / "outputs/search/real/trials" / trial["run"] / "config.yaml").read_text())
        assert config["train"]["lr"] == trial["parameters"]["train.lr"]
        assert config["conv"]["partial_equiv"] == (trial["parameters"]["conv"] == "partial")
        rows = logged(tmp_path, trial["run"], "real")
        assert trial["value"] == max(row["validation/accuracy"] for row in rows)
