"""What a person sees: help in one screen that keeps up with cfg/, a bar on a terminal, a line an epoch, the end."""

import json
import os
import re
import shlex
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir

import progress
from config_errors import groups, options_of
from config_reader import read_config
from partial_equiv import UserError
from progress import Terminal
from tests import small

ROOT = Path(__file__).resolve().parents[1]
LEARNED = {"loss": 0.51234, "accuracy": 0.75, "loss/part": 9.0}
JUDGED = {"loss": 0.61, "accuracy": 0.5}
ROW = {
    "epoch": 3,
    "train/loss": 0.51234,
    "validation/loss": 0.61,
    "validation/audit/output": 0.0123456,
    "lr": 0.001,
    "seconds": 12.0,
    "levels": [1.0, None, 0.537],
    "mirror": [None, None, None],
}


@pytest.fixture(scope="module")
def screen():
    """Return what `python main.py --help` prints."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "main.py"), "--help"], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def named_options(screen):
    """Return the options of each group as the screen lists them, in its order."""
    (listed,) = re.findall(r"^Groups: .*\n((?: .*\n)+)", screen, re.MULTILINE)
    found, group = {}, ""
    for line in listed.splitlines():
        head, rest = line[:19].strip(), line[19:]
        group = head or group
        found.setdefault(group, []).extend(name.strip() for name in rest.partition(":")[0].split(",") if name.strip())
    return found


def test_help_is_one_screen(screen):
    lines = screen.splitlines()
    assert 20 < len(lines) <= 50
    assert max(map(len, lines)) <= 100


def test_help_names_every_option_and_the_default_first(screen):
    named = named_options(screen)
    launchers = ["basic", *(path.stem for path in (ROOT / "cfg" / "hydra" / "launcher").glob("*.yaml"))]
    top = sorted(group for group in groups() if "/" not in group and group != "experiment")
    assert sorted(named) == sorted([*top, "hydra/launcher"])
    defaults = {}
    for entry in yaml.safe_load((ROOT / "cfg" / "config.yaml").read_text())["defaults"]:
        defaults |= entry if isinstance(entry, dict) else {}
    for group in top:
        assert sorted(named[group]) == options_of(group), group
        assert named[group][0] == defaults[group]
    assert sorted(launchers) == sorted(line.split()[0] for line in named["hydra/launcher"] if line != "or on a cluster")


def test_help_names_every_key_of_the_root(screen):
    root = yaml.safe_load((ROOT / "cfg" / "config.yaml").read_text())
    keys = set(root) - {"defaults", "hydra", "dataset_params"}
    assert not [key for key in keys if not re.search(rf"\b{key}[=.]", screen)]


def test_the_commands_of_help_compose(screen):
    commands = [line.strip() for line in re.findall(r"^ +python main\.py (.*?)(?:  .*)?$", screen, re.MULTILINE)]
    pairs = [shlex.split(line) for line in commands if not re.search(r"\[group|^--", line)]
    assert len(pairs) >= 2
    for overrides in pairs:
        single = [override.split(",")[0] for override in overrides if override != "-m"]
        with initialize_config_dir(str(ROOT / "cfg"), version_base="1.3"):
            assert read_config(compose("config", single), single)


def test_the_values_that_help_shows_are_valid(screen):
    (listed,) = re.findall(r"^Keys: .*\n((?: .*\n)+)", screen, re.MULTILINE)
    lines = [re.split(r"  +", line.strip())[0] for line in listed.splitlines() if "<" not in line]
    shown = [pair.rstrip(",") for line in lines for pair in line.split()]
    assert {"train.epochs=20", "verbose=2", "test.probes=[orbit,audit]", "dry_run=True"} <= set(shown)
    with initialize_config_dir(str(ROOT / "cfg"), version_base="1.3"):
        assert read_config(compose("config", shown), shown)


def spoken(capsys, verbose):
    """Return what a terminal of one level writes to stdout and stderr."""
    terminal = Terminal(verbose)
    terminal.tell("a note")
    with terminal.steps(3, "epoch 3") as advance:
        for _ in range(3):
            advance(LEARNED)
    terminal.epoch(3, 20, LEARNED, JUDGED, ROW)
    terminal.epoch(20, 20, LEARNED, JUDGED, ROW)
    terminal.close("the\ntable", "the line")
    return capsys.readouterr()


def test_a_silent_run_says_its_closing_line_alone(capsys):
    assert spoken(capsys, 0) == ("the line\n", "")


def test_a_pipe_gets_a_line_an_epoch(capsys):
    out, err = spoken(capsys, 1)
    assert out == "the\ntable\n"
    means = "train loss 0.5123 accuracy 0.7500  validation loss 0.6100 accuracy 0.5000  12.0 s"
    assert err.splitlines() == ["a note", f"epoch 3/20  {means}, 3 min left", f"epoch 20/20  {means}"]


def test_more_is_said_of_layers_and_probes(capsys):
    _, err = spoken(capsys, 2)
    lines = err.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == spoken(capsys, 1)[1].splitlines()
    assert lines[2:4] == ["    levels: 1 - 0.537", "    validation/audit/output=0.01235 lr=0.001"]


def on_a_terminal(monkeypatch, verbose):
    """Return what stderr shows of five steps where it is a real terminal."""
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, 140))
    with os.fdopen(theirs, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        terminal = Terminal(verbose)
        with terminal.steps(8, "epoch 3", done=3) as advance:
            for _ in range(5):
                advance(LEARNED)
                time.sleep(0.12)  # a bar is drawn at most ten times a second
        terminal.epoch(3, 20, LEARNED, JUDGED, ROW)
        os.write(theirs, b"END")
        shown = b""
        while not shown.endswith(b"END"):
            shown += os.read(ours, 65536)
    os.close(ours)
    return shown.decode()


@pytest.fixture
def at_home(monkeypatch):
    """Be neither in CI nor on a terminal that can do nothing."""
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("TERM", "xterm")


@pytest.mark.usefixtures("at_home")
def test_a_terminal_gets_a_bar_with_rate_time_left_and_means(monkeypatch):
    shown = on_a_terminal(monkeypatch, 1)
    bars = [bar for bar in shown.split("\r") if "epoch 3:" in bar]
    assert len(bars) > 2
    last = bars[-1]
    assert re.search(r"7/8|8/8", last)
    assert re.search(r"<\d\d:\d\d", last), last
    assert "step/s" in last or "s/step" in last
    assert "loss=0.5123" in last and "accuracy=0.7500" in last and "part" not in last
    after = shown[shown.rindex(bars[-1]) + len(bars[-1]) :]
    assert "epoch 3/20  train" in after  # the bar made room for the line


@pytest.mark.usefixtures("at_home")
@pytest.mark.parametrize(("name", "value"), [("CI", "true"), ("TERM", "dumb")])
def test_no_bar_where_nobody_looks(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    assert "epoch 3:" not in on_a_terminal(monkeypatch, 1)


@pytest.mark.usefixtures("at_home")
def test_no_bar_in_silence_or_beside_other_jobs(monkeypatch):
    assert on_a_terminal(monkeypatch, 0) == "END"
    monkeypatch.setattr(progress.current_process(), "_name", "LokyProcess-1")
    assert "epoch 3:" not in on_a_terminal(monkeypatch, 1)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 s"),
        (99, "99 s"),
        (100, "2 min"),
        (5960, "99 min"),
        (5999, "1 h 40 min"),
        (6600, "1 h 50 min"),
        (11100, "3 h 05 min"),
        (187200, "2 d 4 h"),
    ],
)
def test_times_are_said_as_people_say_them(seconds, words):
    assert progress.duration(seconds) == words


def test_a_finished_run_in_one_line(tmp_path):
    with pytest.raises(UserError, match="holds no finished run"):
        progress.skip_line(tmp_path)
    (tmp_path / "summary.json").write_text(json.dumps({"test/accuracy": 0.975, "test/loss": 0.1, "levels": [1.0]}))
    line = progress.skip_line(tmp_path)
    assert "skip_finished=True" in line and line.endswith(f"test accuracy 97.50 %: {tmp_path}")
    (tmp_path / "report.html").touch()
    assert progress.skip_line(tmp_path).endswith(f": {tmp_path / 'report.html'}")
    (tmp_path / "summary.json").write_text(json.dumps({"test/centre": 0.25, "test/a/b": 1.0, "test/none": None}))
    assert progress.skip_line(tmp_path).endswith(f"test centre 0.25: {tmp_path / 'report.html'}")
    (tmp_path / "summary.json").write_text('{"test/accuracy": 0.9')
    with pytest.raises(UserError, match="holds no finished run"):
        progress.skip_line(tmp_path)


SMALL = [*small.SMALL, "train.epochs=2"]


@pytest.mark.long
@pytest.mark.parametrize("verbose", [0, 1, 2])
def test_levels_of_words_end_to_end(tmp_path, verbose):
    command = [sys.executable, str(ROOT / "main.py"), *SMALL, f"verbose={verbose}", "hydra.run.dir=run"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=True)
    epochs = [line for line in done.stderr.splitlines() if line.startswith("epoch ")]
    assert len(epochs) == (2 if verbose else 0)
    assert ("    levels: " in done.stderr) == (verbose == 2)
    accuracy = json.loads((tmp_path / "run" / "summary.json").read_text())["test/accuracy"]
    assert f"{100 * accuracy:.2f} %" in done.stdout
    if verbose == 0:
        assert (done.stderr, done.stdout.count("\n")) == ("", 1)


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("dataset=rotM", ["dataset=rotMNIST"]),
        ("net.no_b", ["net.no_blocks="]),
        ("hydra/launcher=slu", ["hydra/launcher=slurm"]),
    ],
)
def test_the_tab_key_offers_options_and_keys(typed, offered):
    line = f"python main.py {typed}"
    done = subprocess.run(
        [sys.executable, "main.py", "-sc", "query=bash"],
        cwd=ROOT,
        env={**os.environ, "COMP_LINE": line, "COMP_POINT": str(len(line))},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert set(offered) <= set(done.stdout.split()), done.stdout
