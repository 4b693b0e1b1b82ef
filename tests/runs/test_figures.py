"""The comparisons from the command line, on finished run folders."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from partial_equiv.errors import UserError
from partial_equiv.runs import figures, load_model, open_run, open_splits
from partial_equiv.runs.reading import labels


@pytest.fixture
def open_tiny(tiny):
    """What opens the data of any run."""
    return lambda run, root: tiny()


@pytest.fixture
def seen(monkeypatch):
    """Record what reaches the drawing functions, and draw."""
    calls = {}
    for name in ("subset_bands", "rotation_response", "kernels_and_activations"):
        original = getattr(figures, name)

        def spy(*args, original=original, name=name):
            calls.setdefault(name, []).append(args)
            return original(*args)

        monkeypatch.setattr(figures, name, spy)
    return calls


def test_every_comparison_is_drawn(tmp_path, make_run, capsys, seen, open_tiny):
    runs = [make_run(f"run{angle}", [1.0, 0.5], rot_interval=angle) for angle in (0, 45.0)]
    out = tmp_path / "out"
    code = figures.main([*map(str, runs), "--out", str(out), "--step", "30"], open_tiny)
    captured = capsys.readouterr()
    assert code == 0
    assert captured.err == ""
    paths = captured.out.splitlines()
    names = sorted(path.name for path in out.iterdir())
    assert sorted(paths) == [str(out / name) for name in names]
    assert "learned_subsets.png" in names
    assert "rotation_response.png" in names
    assert (
        sum(name.startswith("kernels_1_") for name in names)
        == sum(name.startswith("kernels_2_") for name in names)
        == 2
    )
    for path in paths:
        with Image.open(path) as image:
            assert np.asarray(image.convert("RGB")).std() > 5
    (bands,) = seen["subset_bands"]
    assert bands[0] == {"rot_interval 0°": [1.0, 0.5], "rot_interval 45°": [1.0, 0.5]}


def test_the_response_is_the_networks_own_probability(tmp_path, make_run, seen, open_tiny, tiny):
    runs = [make_run("a", [1.0], seed=0), make_run("b", [1.0], seed=1)]
    arguments = [*map(str, runs), "--out", str(tmp_path), "--only", "response", "--step", "90"]
    assert figures.main(arguments, open_tiny) == 0
    ((angles, responses, name, images),) = seen["rotation_response"]
    six = tiny().test.images[1].float() / 255  # the first image of class "6"
    np.testing.assert_allclose(np.degrees(angles), [-180, -90, 0, 90, 180], atol=1e-4)
    assert name == "6"
    np.testing.assert_allclose(images[4], six, atol=1e-5)
    for run, (label, values) in zip(runs, responses.items(), strict=True):
        model = load_model(run)
        turned = torch.stack([six.rot90(k, (-2, -1)) for k in (-2, -1, 0, 1, 2)])
        with torch.no_grad():
            expected = model((turned - 0.2) / 0.3).softmax(dim=-1)[:, 0]
        np.testing.assert_allclose(values, expected, atol=1e-4)
        assert label == f"seed {run.name == 'b':d}"


def test_the_image_comes_from_the_least_turned_data(tmp_path, make_run, seen, tiny):
    runs = [make_run("turned", [1.0], rot_interval=60), make_run("upright", [1.0], rot_interval=0)]

    def open_data(run, root):
        splits = tiny()
        if run.path.name == "turned":
            splits.test.images.zero_()
        return splits

    arguments = [*map(str, runs), "--out", str(tmp_path), "--only", "response", "--step", "90"]
    assert figures.main(arguments, open_data) == 0
    assert seen["rotation_response"][0][3][4].max() > 0


def test_kernels_are_shown_for_x_and_its_copies(tmp_path, make_run, seen, open_tiny, tiny):
    run = make_run("a", [1.0])
    assert figures.main([str(run), "--out", str(tmp_path), "--only", "kernels", "--image", "2"], open_tiny) == 0
    (name, inputs, kernels, activations, elements, sources), last = seen["kernels_and_activations"]
    picture = tiny().test.images[2].numpy() / 255
    np.testing.assert_allclose(inputs["x"], picture, atol=1e-6)
    np.testing.assert_allclose(inputs["rot90(x)"], np.rot90(picture, 1, (-2, -1)), atol=1e-6)
    np.testing.assert_allclose(inputs["flip(x)"], picture[..., ::-1], atol=1e-6)
    assert name != last[0]
    assert kernels.shape == (1, 8, 3, 3)
    assert len(activations) == 3
    assert len(elements) == 8
    assert sources == []
    assert len(last[5]) == last[2].shape[0]


def test_what_cannot_be_drawn_is_left_out_with_a_note(tmp_path, make_run, capsys, open_tiny):
    run = make_run("full", [])
    arguments = [str(run), "--out", str(tmp_path / "out"), "--class-name", "9"]
    assert figures.main(arguments, open_tiny) == 0
    captured = capsys.readouterr()
    notes = captured.err.splitlines()
    assert len(notes) == 2
    assert notes[0].startswith("left out subsets: none of these runs learned a level")
    assert notes[1].startswith("left out response: tiny has no class '9': give --class-name one of 6, 7, 8")
    assert all("kernels" in line for line in captured.out.splitlines())


@pytest.mark.parametrize(
    ("damage", "arguments", "words"),
    [
        ("summary.json", [], "holds no summary.json: the run has not finished"),
        ("config.yaml", [], "holds no config.yaml: give the folder of a run"),
        ("best.safetensors", ["--only", "response"], "best.safetensors is missing"),
        (None, ["--only", "response", "--class-name", "9"], "has no class '9'"),
        (None, ["--only", "kernels", "--image", "4"], "--image 4 is outside the test split: give 0 to 3"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(tmp_path, make_run, capsys, damage, arguments, words, open_tiny):
    run = make_run("a", [1.0])
    if damage:
        (run / damage).unlink()
    assert figures.main([str(run), "--out", str(tmp_path / "out"), *arguments], open_tiny) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("error: ")
    assert words in captured.err
    assert not (tmp_path / "out").exists()


def test_damaged_files_and_other_shapes_are_told(tmp_path, make_run, capsys, tiny):
    run = make_run("a", [1.0])
    (run / "summary.json").write_text("{")
    with pytest.raises(UserError, match=r"damaged summary\.json"):
        open_run(run)
    runs = [make_run("b", [1.0], seed=1), make_run("c", [1.0], seed=2)]

    def open_data(run, root):
        return tiny(size=(12, 12) if run.path.name == "b" else (14, 14))

    assert figures.main([*map(str, runs), "--only", "response", "--out", str(tmp_path)], open_data) == 2
    assert "images of another shape" in capsys.readouterr().err


def test_labels_name_the_choices_that_differ(make_run):
    same = [open_run(make_run(name, [])) for name in ("a", "b")]
    assert labels(same) == ["a", "b"]
    mixed = [
        open_run(make_run(f"m{seed}{angle}", [], seed=seed, rot_interval=angle)) for seed, angle in ((0, 0), (1, 15))
    ]
    assert labels(mixed) == ["rot_interval 0°, seed 0", "rot_interval 15°, seed 1"]
    assert labels([*same, mixed[1]]) == [
        "rot_interval 0°, seed 0 (a)",
        "rot_interval 0°, seed 0 (b)",
        labels(mixed)[1] + " (m115)",
    ]


def test_data_open_from_the_saved_choices(tmp_path, make_run):
    run = make_run("a", [])
    data = {"images": np.zeros((30, 9, 9), dtype=np.uint8), "labels": np.arange(30) % 3}
    with pytest.raises(UserError, match=r"dataset\.type='tiny' is not one of"):
        open_splits(open_run(run))
    assert json.loads((run / "summary.json").read_text())["levels"] == []
    config = open_run(run).config | {
        "dataset": {
            "type": "digits",
            "size": 14,
            "rot_interval": 180,
            "copies": 1,
            "no_train": 5,
            "no_validation": 5,
            "no_test": 5,
            "seed": 42,
        }
    }
    splits = open_splits(open_run(run)._replace(config=config), root=str(tmp_path))
    assert len(splits.test) == 5
    assert splits.info.size == (14, 14)
    assert data["labels"].max() < splits.info.no_classes
    with pytest.raises(UserError, match=r"names no dataset\.type"):
        open_splits(open_run(run)._replace(config={}))


def test_the_command_answers(tmp_path):
    command = [sys.executable, "-W", "error", "-m", "partial_equiv.runs.figures", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines() == [f"error: {tmp_path} holds no config.yaml: give the folder of a run"]
