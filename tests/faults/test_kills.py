"""Runs that are killed at any moment and resumed end as if nothing had happened.

Each kill is a real SIGKILL of a real process. A kill is drawn by a seed: after which step, in which write and at which
point of it, or after which time, wherever the process then is.
"""

import random

import pytest

from tests.faults import faults
from tests.faults.forked import run
from tests.faults.runs import KINDS, assert_same, write_pictures

NO_KILLS = {"classification": 16, "an element set an image": 8, "two workers": 8, "symmetry": 10, "sie": 10}
FAST = {"classification": 1, "an element set an image": 0, "two workers": 1, "symmetry": 1, "sie": 1}
EVERY = 2  # steps between checkpoints, see KINDS


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return a function that gives the folder of a run that nothing happened to, made once for each kind."""
    made = {}

    def of(kind):
        if kind not in made:
            folder = tmp_path_factory.mktemp("whole")
            write_pictures(folder)
            ended = run(folder, KINDS[kind], ("count", str(folder)))
            assert ended.code == 0, ended.words
            made[kind] = folder, *faults.counted(folder)
        return made[kind]

    return of


def cases():
    for kind, count in NO_KILLS.items():
        for seed in range(count):
            yield pytest.param(kind, seed, marks=[] if seed < FAST[kind] else [pytest.mark.long], id=f"{kind} {seed}")


@pytest.mark.parametrize(("kind", "seed"), list(cases()))
def test_a_killed_run_goes_on_as_if_nothing_had_happened(kind, seed, whole, tmp_path):
    reference, steps, writes, seconds = whole(kind)
    write_pictures(tmp_path)
    draw = random.Random(f"{kind} {seed}")
    for _ in range(draw.choice([1, 1, 2])):  # some die twice
        fault, after = draw_kill(draw, steps, writes, seconds)
        ended = run(tmp_path, [*KINDS[kind], "resume=auto"], fault, after)
        assert ended.code in (-9, 0), ended.words
    ended = run(tmp_path, [*KINDS[kind], "resume=auto"])
    assert ended.code == 0, ended.words
    assert_same(reference / "run", tmp_path / "run")
    assert not list((tmp_path / "run").rglob(".*.tmp")), "nothing half-written is left"


def draw_kill(draw, steps, writes, seconds):
    """Return a fault, and seconds until a kill or None."""
    way = draw.choice(["step", "write", "write", "time"])
    if way == "step":
        return ("kill_at_step", draw.randint(1, steps)), None
    if way == "write":
        return ("kill_in_write", draw.randint(1, writes), draw.choice(["half", "whole", "named"])), None
    return (), draw.uniform(0, seconds)


@pytest.mark.parametrize("step", [pytest.param(5, marks=pytest.mark.long), 7])
def test_nothing_is_lost_beyond_the_last_checkpoint(step, tmp_path):
    """Five steps an epoch, a checkpoint every second one: the steps that are taken again are at most two."""
    kind = KINDS["classification"]
    assert run(tmp_path, kind, ("kill_at_step", step)).code == -9
    ended = run(tmp_path, [*kind, "resume=auto"], ("count", str(tmp_path)))
    assert ended.code == 0, ended.words
    again = step + faults.counted(tmp_path)[0] - 15
    assert 0 <= again <= EVERY


@pytest.mark.parametrize(
    ("name", "code", "at", "step"),
    [
        pytest.param("SIGTERM", 143, 6, 3),
        pytest.param("SIGTERM", 143, 8, 5, marks=pytest.mark.long),  # before the validation of its epoch
        pytest.param("SIGINT", 130, 6, 3, marks=pytest.mark.long),
        pytest.param("SIGUSR1", 138, 6, 3, marks=pytest.mark.long),
    ],
)
def test_a_signal_saves_and_exits_with_its_code(name, code, at, step, whole, tmp_path):
    kind = [word for word in KINDS["classification"] if "checkpoint_every" not in word]
    ended = run(tmp_path, kind, ("signal_at_step", at, name))
    assert ended.code == code
    (line,) = [line for line in ended.words.splitlines() if "stopped" in line]
    assert line == f"stopped by {name} after step {step} of epoch 2: python main.py resume={tmp_path / 'run'} goes on"
    ended = run(tmp_path, ["resume=run"])
    assert ended.code == 0, ended.words
    assert_same(whole("classification")[0] / "run", tmp_path / "run")


@pytest.mark.long
def test_a_training_whose_time_is_over_stops_and_goes_on(whole, tmp_path):
    ended = run(tmp_path, [*KINDS["classification"], "train.max_minutes=0.0001"])
    assert ended.code == 75
    assert ended.words.startswith("stopped by train.max_minutes=0.0001 after step 2 of epoch 1: python main.py resume=")
    ended = run(tmp_path, ["resume=run", "train.max_minutes=60"])
    assert ended.code == 0, ended.words
    assert_same(whole("classification")[0] / "run", tmp_path / "run")
