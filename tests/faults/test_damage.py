"""Checkpoints cannot lie: whatever happens to a file is noticed, named in one sentence, and the one before is used."""

import json
import random
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from checkpointer import FOLDER, names_of, read_last
from partial_equiv.runs import load_state
from partial_equiv.runs.manifest import MANIFEST, read_manifest
from tests.faults.forked import run
from tests.faults.runs import KINDS, rows_of

NO_DAMAGES = 100


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    ended = run(folder, KINDS["classification"])
    assert ended.code == 0, ended.words
    return folder / "run"


@pytest.fixture
def copy(finished, tmp_path):
    return Path(shutil.copytree(finished, tmp_path / "run"))


def flip(path, draw):
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)


def cut(path, draw):
    content = path.read_bytes()
    path.write_bytes(content[: draw.randrange(len(content))])


def lengthen(path, draw):
    path.write_bytes(path.read_bytes() + bytes(draw.randrange(1, 64)))


def swap(path, draw):
    path.write_bytes((path.parents[1] / "best.safetensors").read_bytes())


def fill(path, draw):
    path.write_bytes(draw.randbytes(path.stat().st_size))


def remove(path, draw):
    path.unlink()


DAMAGES = [flip, flip, flip, flip, cut, cut, lengthen, swap, fill, remove]


@pytest.mark.parametrize("manifest", ["there", "gone", "cut"])
def test_every_damage_is_noticed_and_the_checkpoint_before_is_used(copy, capsys, manifest):
    """With the manifest and without it: every file carries a digest of its own, too."""
    newest, former = names_of(copy)
    path = copy / f"{newest}.safetensors"
    content, before = path.read_bytes(), load_state(copy, former)[0]
    if manifest == "gone":
        (copy / MANIFEST).unlink()
    elif manifest == "cut":
        (copy / MANIFEST).write_bytes((copy / MANIFEST).read_bytes()[:100])
    noticed = 0
    for seed in range(NO_DAMAGES):
        damage = DAMAGES[seed % len(DAMAGES)]
        damage(path, random.Random(seed))
        found = read_last(copy)
        assert found is not None and found.path == copy / f"{former}.safetensors"
        assert all(torch.equal(found.tensors[key], before[key]) for key in before)
        words = capsys.readouterr().err
        assert damage is remove or (words.count("\n") == 1 and str(path) in words and "the one before" in words)
        noticed += 1
        path.write_bytes(content)
    assert noticed == NO_DAMAGES
    assert read_last(copy).path == path


@pytest.mark.long
def test_a_damaged_checkpoint_costs_its_own_steps_alone(copy, finished):
    """The run goes on from the one before, to the very same end."""
    flip(copy / f"{names_of(copy)[0]}.safetensors", random.Random(0))
    (copy / "summary.json").unlink()
    ended = run(copy.parent, ["resume=run"])
    assert ended.code == 0, ended.words
    assert "is damaged" in ended.words and "the one before, is used" in ended.words
    assert rows_of(copy) == rows_of(finished)
    first, second = (load_state(folder, "best")[0] for folder in (copy, finished))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_with_no_whole_checkpoint_the_newest_is_named(copy):
    for name in names_of(copy):
        cut(copy / f"{name}.safetensors", random.Random(1))
    ended = run(copy.parent, ["resume=run"])
    assert ended.code == 2
    (line,) = ended.words.splitlines()
    assert line.startswith(f"error: run/{FOLDER}/000000015.safetensors has ") and "truncated" in line


@pytest.mark.parametrize("damage", [flip, *(pytest.param(way, marks=pytest.mark.long) for way in (cut, remove))])
@pytest.mark.parametrize("command", [["do=evaluate"], ["do=export", "export=torch"]])
def test_damaged_best_weights_are_not_used(copy, damage, command):
    damage(copy / "best.safetensors", random.Random(2))
    ended = run(copy.parent, ["run=run", *command])
    assert ended.code == 2
    (line,) = ended.words.splitlines()
    assert line.startswith("error: run/best.safetensors")


@pytest.mark.long
def test_another_architecture_is_named(copy):
    config = (copy / "config.yaml").read_text()
    (copy / "config.yaml").write_text(config.replace("no_hidden: 2", "no_hidden: 3"))
    ended = run(copy.parent, ["resume=run", "train.epochs=4"])
    assert ended.code == 2
    (line,) = ended.words.splitlines()
    assert "holds another architecture" in line


def test_the_manifest_tells_every_file_that_lies_there(copy):
    records = read_manifest(copy)
    files = {path.relative_to(copy).as_posix() for path in copy.rglob("*.safetensors")}
    assert {name for name in records if name.endswith("safetensors")} == files
    for name, (newest, *_) in records.items():
        assert newest.no_bytes == (copy / name).stat().st_size
        sum256 = subprocess.run(["sha256sum", copy / name], capture_output=True, text=True, check=True).stdout.split()[
            0
        ]
        assert newest.sha256 == sum256


def test_two_checkpoints_are_kept_and_the_older_ones_go(finished):
    assert names_of(finished) == [f"{FOLDER}/000000015", f"{FOLDER}/000000014"]
    assert len(list((finished / FOLDER).iterdir())) == 4


@pytest.mark.long
def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    """Not through a loss, which is gated, but by whatever else: the last checkpoint stays, and is gone on from."""
    ended = run(tmp_path, KINDS["classification"], ("spoil_weights", 8))
    assert ended.code == 2
    (line,) = [line for line in ended.words.splitlines() if line.startswith("error")]
    assert "is not finite any more, so nothing is saved over the last checkpoint" in line
    found = read_last(tmp_path / "run")
    assert found is not None and found.path.stem == "000000007"
    ended = run(tmp_path, ["resume=run"])
    assert ended.code == 0, ended.words


def test_a_full_disk_ends_a_run_in_one_line_and_spoils_nothing(tmp_path):
    ended = run(tmp_path, KINDS["classification"], ("fill_disk", 40))
    assert ended.code == 2
    (line,) = [line for line in ended.words.splitlines() if line.startswith("error")]
    assert "No space left on device" in line and f"cannot write {tmp_path}/run/" in line
    found = read_last(tmp_path / "run")
    assert found is not None and found.progress.epoch >= 1
    ended = run(tmp_path, ["resume=run"])
    assert ended.code == 0, ended.words


@pytest.mark.long
def test_a_folder_that_became_read_only_is_named(tmp_path):
    ended = run(tmp_path, KINDS["classification"], ("put_a_file_in_the_place_of_checkpoints", 3))
    assert ended.code == 2
    assert f"error: cannot write {tmp_path}/run/checkpoints" in ended.words


@pytest.mark.long
def test_a_dead_reading_process_ends_the_run_in_one_line(tmp_path):
    from tests.faults.runs import write_pictures

    write_pictures(tmp_path)
    ended = run(tmp_path, KINDS["two workers"], ("kill_worker", 1))
    assert ended.code == 2
    (line,) = [line for line in ended.words.splitlines() if line.startswith("error")]
    assert "a reading process died" in line and "resume=" in line
    assert run(tmp_path, ["resume=run"]).code == 0


def test_steps_that_are_not_finite_are_left_out_and_written_down(tmp_path):
    ended = run(tmp_path, KINDS["classification"], ("spoil_steps", [2, 3, 9]))
    assert ended.code == 0, ended.words
    rows = rows_of(tmp_path / "run")
    assert [row.get("skipped_steps") for row in rows] == [2, 1, None]
    told = json.loads((tmp_path / "run" / "nonfinite.json").read_text())["steps"]
    assert [(row["epoch"], row["step"]) for row in told] == [(1, 2), (1, 3), (2, 4)]
    assert all(len(row["examples"]) == 16 and max(row["examples"]) < 80 for row in told)
    assert all(tensor.isfinite().all() for tensor in read_last(tmp_path / "run").tensors.values())


def test_too_many_in_a_row_end_the_run_with_their_examples(tmp_path):
    ended = run(tmp_path, KINDS["classification"], ("spoil_steps", [7, 8, 9, 10]))
    assert ended.code == 2
    (line,) = [line for line in ended.words.splitlines() if line.startswith("error")]
    assert "not finite in 3 steps in a row (epoch 2, step 4" in line
    told = json.loads((tmp_path / "run" / "nonfinite.json").read_text())["steps"]
    assert [(row["epoch"], row["step"]) for row in told] == [(2, 2), (2, 3), (2, 4)]
    assert len({example for row in told for example in row["examples"]}) == 48
    ended = run(tmp_path, ["resume=run"])  # the fault is not there any more
    assert ended.code == 0, ended.words
