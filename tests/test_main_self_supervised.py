"""Self-supervised training through the command line: every method and evaluation, resumed, and evaluated again."""

import json
import math
from pathlib import Path

import pytest
import torch

import keeper
import reporter
from checkpointer import names_of, read_last
from partial_equiv.runs import load_state, save_state
from tests.interrupted import stop_after
from tests.test_main import cli, rows_of  # noqa: F401  (a fixture)

# Of eight objects of two classes four are for training, two for validation and two for test; six is the least there can
# be. Four objects in three pairs each make three batches of four: three steps.
TINY = [
    "dataset.no_objects=8",
    "dataset.no_views=6",
    "dataset.no_classes=2",
    "dataset.pairs_per_object=3",
    "net.width=16",
    "net.equi=8",
    "train.mlp=16-16-16",
    "train.batch_size=4",
    "train.epochs=1",
    "train.online.every=2",
]
HEADS = [
    *(f"test.{head}.{key}" for head in ("classification", "rotation", "color") for key in ("epochs=1", "hidden=8")),
    *("test.classification.views_per_object=2", "test.rotation.pairs_per_object=2", "test.color.pairs_per_object=2"),
    "device=cpu",
]
VECTORS = ["dataset=latent_vectors", "net.backbone=mlp", *TINY, *HEADS]
METHODS = [
    *("sie", "sie_no_variance", "sie_rotation_color", "sie_only_equivariant"),
    *("vicreg", "vicreg_part_invariant", "vicreg_equimod"),
    *("simclr", "simclr_augself", "simclr_augself_rotation_color"),
    *("simclr_equimod", "simclr_equimod_rotation_color"),
    *("simclr_only_equivariant", "simclr_only_equivariant_rotation_color"),
    "supervised",
]
IN_PARTS = ("sie", "sie_no_variance", "sie_rotation_color")
QUICK = {("sie", "shapes3d"), ("simclr_augself", "latent_vectors"), ("vicreg_equimod", "latent_vectors")}
GRID = [
    pytest.param(method, data, marks=[] if (method, data) in QUICK else [pytest.mark.long], id=f"{method}-{data}")
    for method in METHODS
    for data in ("shapes3d", "latent_vectors")
]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Return how the drawn views are asked for; they are drawn once and kept for all tests."""
    root = tmp_path_factory.mktemp("drawn")
    return ["dataset=shapes3d", "dataset.size=16", "dataset.supersampling=1", f"dataset.root={root}", *TINY, *HEADS]


@pytest.fixture
def undrawn(monkeypatch):
    """Write empty figures, for tests of other things: drawing takes most of the time of a tiny run."""
    for module in ("runs.folder", "drawing"):
        monkeypatch.setattr(f"partial_equiv.{module}.png", lambda figure: b"")


@pytest.fixture
def summaries(monkeypatch):
    """Return a list that every run appends its summary to, with all digits; evaluating again writes none."""
    found, whole = [], reporter.summarise

    def kept(*arguments):
        found.append(whole(*arguments))
        return found[-1]

    monkeypatch.setattr(reporter, "summarise", kept)
    return found


def measured(summary):
    """Return what was measured on the test split."""
    return {key.removeprefix("test/"): value for key, value in summary.items() if key.startswith("test/")}


def figures_of(path):
    return {file.stem for file in Path(path, "figures").glob("*.png") if file.stat().st_size > 1000}


def expected_keys(parts):
    """Return one number of each evaluation and part."""
    keys = [f"classification/{part}/linear/top1" for part in parts]
    keys += [
        f"rotation/{part}/deep/quaternion/{score}" for part in parts for score in ("r2", "r2_flat", "degrees_median")
    ]
    keys += [f"color/{part}/deep/{score}" for part in parts for score in ("r2", "r2_floor_hue", "r2_light_hue")]
    keys += [
        "prediction_error/test/pre",
        "prediction_error/test/pre_random",
        "retrieval/test/mrr",
        "retrieval/test/hit_1",
    ]
    return {*keys, "spectrum/effective_rank_representation", "loss", "collapse/std_h"}


# --- Every method, every evaluation -------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize(("method", "data"), GRID)
def test_a_method_learns_and_is_measured(cli, drawn, method, data):  # noqa: F811
    own = ["train.projectors.z.equi=8"] if method == "vicreg_part_invariant" else []
    words = drawn if data == "shapes3d" else VECTORS
    code, out, err = cli(f"train={method}", *words, *own, "hydra.run.dir=run")
    assert code == 0, err
    numbers = measured(json.loads(Path("run/summary.json").read_text()))
    assert all(isinstance(value, float) and math.isfinite(value) for value in numbers.values()), numbers
    parts = ("all", "inv", "equi") if method in IN_PARTS else ("all",)
    assert expected_keys(parts) <= set(numbers)
    assert any("/inv/" in key for key in numbers) == (method in IN_PARTS)
    assert 0 <= numbers["prediction_error/test/pre"] <= 1 and 1 / 6 <= numbers["retrieval/test/mrr"] <= 1
    pictures = {"nearest_views", "sample_sheet"} if data == "shapes3d" else set()
    assert figures_of("run") == {"curves", "parts", "predicted_rotation", "spectrum"} | pictures
    for title in ("class of a view", "rotation of a pair", "colour of a pair", "pose found", "views found"):
        assert title in out
    predicts = any(word in method for word in ("sie", "equimod", "equivariant"))
    assert ("this method predicts no embeddings" in out) == (not predicts)
    assert "loss = sum of weight x term" in err and "epoch 1/1" in err
    (row,) = rows_of(Path("run"))
    assert all(math.isfinite(row[key]) for key in ("train/loss", "validation/loss", "train/online/top1_representation"))


RECORDED = [
    *("train=equimod", "dataset=digits", "augment=recorded", "dataset.copies=1", "dataset.no_train=12"),
    *("dataset.no_validation=5", "dataset.no_test=6", "net.width=16", "net.equi=0", "train.mlp=16-16-16"),
    *("train.batch_size=4", "train.epochs=1", "test.classification.epochs=1", "test.classification.views_per_object=2"),
    "device=cpu",
]


def test_the_original_equimod_learns_from_augmented_images(cli, summaries):  # noqa: F811
    """Five validation images in batches of four: the one that is left over has no statistics and is left out."""
    code, _, err = cli(*RECORDED, "hydra.run.dir=run")
    assert code == 0, err
    numbers = measured(summaries[0])
    assert {"classification/all/linear/top1", "spectrum/effective_rank_embedding", "equivariance_of_y"} <= set(numbers)
    assert all(math.isfinite(value) for value in numbers.values())
    assert figures_of("run") == {"curves", "parts", "sample_sheet", "spectrum"}
    code, _, err = cli("run=run", "do=evaluate")
    assert code == 0, err
    assert measured(summaries[1]) == numbers


GROUP_NET = [
    *("train=sie", "net=SplitCKResNet", "dataset=digit_turns", "dataset.no_train=12", "dataset.no_validation=6"),
    *("dataset.no_test=6", "dataset.no_views=3", "dataset.size=12", "net.width=8", "net.equi=4", "net.no_hidden=2"),
    *("net.no_frequencies=1", "net.no_blocks=1", "kernel.no_hidden=4", "kernel.size=3", "base_group.no_samples=4"),
    *("train.mlp=8-8", "train.batch_size=6", "train.epochs=1"),
]


def test_a_group_convolutional_encoder_learns_from_turned_digits(cli, undrawn, summaries):  # noqa: F811
    code, out, err = cli(*GROUP_NET, *HEADS, "hydra.run.dir=run")
    assert code == 0, err
    numbers = measured(summaries[0])
    assert {f"rotation/{part}/deep/quaternion/r2" for part in ("all", "inv", "equi")} <= set(numbers)
    assert "floor_hue is the same in all views, or not known" in out  # digits have no colours
    assert len(summaries[0]["levels"]) >= 3  # of its partial convolutions
    code, _, err = cli("run=run", "do=evaluate")
    assert code == 0, err
    assert measured(summaries[1]) == numbers


@pytest.mark.long
def test_photographs_report_near_symmetric_objects_apart(cli, undrawn, summaries, real_data):  # noqa: F811
    words = ["train=sie", "dataset=COIL20", f"dataset.root={real_data}", "dataset.pairs_per_object=2"]
    code, _, err = cli(*words, *TINY[4:], *HEADS, "train.batch_size=20", "hydra.run.dir=run")
    assert code == 0, err
    groups = {
        key.rpartition("/")[2] for key in measured(summaries[0]) if key.startswith("rotation/all/deep/quaternion/r2/")
    }
    assert "near_symmetric" in groups


# --- Used again ---------------------------------------------------------------------------------------------------


def test_a_finished_run_is_measured_again_to_the_same_numbers(cli, undrawn, summaries):  # noqa: F811
    code, trained, err = cli("train=sie", *VECTORS, "hydra.run.dir=run")
    assert code == 0, err
    code, again, err = cli("run=run", "do=evaluate")
    assert code == 0, err
    said = [
        [line for line in out.splitlines() if not line.startswith(("wrote ", "run folder", "report "))]
        for out in (trained, again)
    ]
    assert said[0] == said[1] and len(said[0]) > 30
    first, second = map(measured, summaries)
    assert first == second == measured(json.loads(Path("run/summary.json").read_text()))

    code, _, err = cli("run=run", "do=evaluate", "test.rotation.heads=[linear]", "test.probes=[rotation,retrieval]")
    assert code == 0, err
    other = measured(summaries.pop())
    assert "rotation/equi/linear/quaternion/r2" in other and "rotation/equi/deep/quaternion/r2" not in other
    alike = {key for key in other if "/linear/" not in key}
    assert {"loss", "equivariance", "retrieval/test/mrr", "rotation/baseline/quaternion/r2"} <= alike
    assert all(other[key] == first[key] for key in alike)


def test_projectors_and_predictor_come_from_the_checkpoint(cli, undrawn, summaries):  # noqa: F811
    """With others, what depends on them changes, and no more."""
    code, _, err = cli("train=sie", *VECTORS, "test.probes=[classification]", "hydra.run.dir=run")
    assert code == 0, err
    probes = "test.probes=[classification,prediction_error,retrieval,spectrum]"
    assert cli("run=run", "do=evaluate", probes)[0] == 0
    first = measured(summaries.pop())
    tensors, meta = load_state(Path("run"), "best")
    generator = torch.Generator().manual_seed(0)
    for part, seen in (("projectors.", "spectrum/effective_rank_embedding"), ("predictor.", "equivariance")):
        broken = {
            key: torch.randn(value.shape, generator=generator) if key.startswith(part) and value.ndim > 1 else value
            for key, value in tensors.items()
        }
        save_state(Path("run"), "best", broken, meta)
        code, _, err = cli("run=run", "do=evaluate", probes)
        assert code == 0, err
        changed = {key for key, value in measured(summaries.pop()).items() if value != first[key]}
        assert {"loss", "prediction_error/test/pre", "retrieval/test/mrr", seen} <= changed
        assert not any(key.startswith("classification/") for key in changed)
        assert ("spectrum/effective_rank_embedding" in changed) == (part == "projectors.")


@pytest.mark.parametrize("stopped", [1, pytest.param(2, marks=pytest.mark.long)])
def test_a_resumed_training_is_the_uninterrupted_one(cli, undrawn, monkeypatch, stopped):  # noqa: F811
    """Heads that watch, their optimiser and numbers included, and the ragged last group of accumulated batches."""
    words = ["train=sie", *VECTORS, "train.epochs=3", "train.accumulate=2", "test.probes=[retrieval]"]
    code, _, err = cli(*words, "hydra.run.dir=whole")
    assert code == 0, err
    saved = stop_after(monkeypatch, stopped)
    code, _, err = cli(*words, "hydra.run.dir=cut")
    assert code == 130 and "interrupted" in err
    monkeypatch.setattr(keeper, "save_last", saved)
    code, _, err = cli("resume=cut")
    assert code == 0, err
    for name in (None, "best"):
        whole, cut = (load_state(Path(run), name or names_of(Path(run))[0])[0] for run in ("whole", "cut"))
        assert whole.keys() == cut.keys() and all(torch.equal(whole[key], cut[key]) for key in whole)
    assert {"online.turns.representation.0.weight", "optimizer/online.turns.representation.0.weight/exp_avg"} <= set(
        read_last(Path("cut")).tensors
    )
    rows = [rows_of(Path(name)) for name in ("whole", "cut")]
    assert rows[0] == rows[1] and "train/online/mse_embedding_equi" in rows[0][2]
    summaries = [json.loads(Path(name, "summary.json").read_text()) for name in ("whole", "cut")]
    assert measured(summaries[0]) == measured(summaries[1])
    assert summaries[0]["best_epoch"] == 3  # the last weights are kept, whatever their loss


def test_a_trained_encoder_is_taken_up(cli, undrawn):  # noqa: F811
    code, _, err = cli("train=sie", *VECTORS, "hydra.run.dir=run")
    assert code == 0, err
    # Another seed: whatever was not taken from the run would be another.
    words = ["train.do=false", "pretrained=run", "seed=5", "test.probes=[prediction_error,retrieval,spectrum]"]
    code, _, err = cli("train=sie", *VECTORS, *words, "hydra.run.dir=tested")
    assert code == 0, err
    assert not Path("tested/best.safetensors").exists()
    trained, tested = (measured(json.loads(Path(name, "summary.json").read_text())) for name in ("run", "tested"))
    assert {"loss", "online/mse_embedding", "retrieval/test/mrr"} <= set(tested) < set(trained)
    assert all(trained[key] == value for key, value in tested.items())
    # Another method starts from the encoder alone: at a rate of nearly nothing it is still the same one.
    still = ["train.lr=1e-12", "train.weight_decay=0", "test.probes=[]"]
    code, _, err = cli("train=vicreg", *VECTORS, *still, "pretrained=run", "hydra.run.dir=second")
    assert code == 0, err
    first, second = (load_state(Path(name), "best")[0] for name in ("run", "second"))
    names = [key for key in first if key.startswith("model.")]
    assert names and "predictor.maps.0" not in second
    for name in names:
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=1e-10)


# --- Without training ---------------------------------------------------------------------------------------------


def test_a_dry_run_says_the_effective_weights_and_draws_nothing(cli, tmp_path):  # noqa: F811
    words = ["dataset=shapes3d", "dataset.no_objects=300", "dataset.pairs_per_object=50", "dataset.root=none"]
    code, out, err = cli("train=sie", *words, "dry_run=true")
    assert code == 0, err
    assert "SIE on shapes3d SplitEncoder small: 10,500 training" in out and "test pairs 3x32x32, 10 classes" in out
    assert "equivariance 4.5 (sim_coeff x equi_factor)" in out and "by chance alone" not in out
    assert list(tmp_path.rglob("*")) == []
    code, out, err = cli("train=sie", "dataset=3DIEBench", "dry_run=true", "train.mlp=1024-1024-1024")
    assert code == 0, err
    assert "note: embeddings of 1024 numbers and batches of 128" in out  # facts of the published set, without its files


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train=sie", "dataset=digits"], "SIE compares the views x, y, and dataset=digits has single images"),
        (["train=sie", "dataset=shapes3d", "net=CKResNet", "dry_run=true"], "set net=SplitEncoder or SplitCKResNet"),
        (["train=sie_no_varience"], "did you mean 'sie_no_variance'?"),
        (["train=sie", "train.terms={own:{term:mse,of:[x.h,y.h],weight:[1.0]}}"], "as +train.terms.<key>=<value>"),
        (["-m", "train=sie,vicreg", "train.mlp=16-16", "hydra.sweep.dir=sweep"], "write ++train.mlp=<value>"),
        (["train=classification", "dataset=shapes3d", "dry_run=true"], "shows several views at a time"),
        (["train=sie", *VECTORS, "train.batch_size=13"], "train.batch_size=13 leaves no whole batch of 12 examples"),
        (["train=sie", *VECTORS, "dataset.no_objects=5"], "give 6 or more, 3 of each"),
        (["train=sie", *VECTORS, "test.probes=[class_accuracy]"], "measures networks of single images"),
        (["train=sie", *VECTORS, "test.rotation.heads=[depe]"], "did you mean 'deep'?"),
        (
            ["train=sie", *VECTORS, "train.lr=1e30", "train.epochs=2"],
            "the loss or its gradient is not finite in 3 steps in a row",
        ),
        (["train=sie", "dataset=digit_turns", "augment=recorded"], "give augment=none"),
        (["dataset=digits", "test.probes=[retrieval]"], "needs several views of each object"),
    ],
)
def test_a_mistake_gets_one_line(cli, arguments, words):  # noqa: F811
    code, _, err = cli(*arguments)
    assert code == 2 and words in err and "Traceback" not in err
    assert len([line for line in err.splitlines() if line.startswith("error:")]) == 1


# --- Quality ------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_sie_finds_views_and_its_halves_differ(cli, undrawn):  # noqa: F811
    """Vectors with a known answer, 1,500 steps."""
    probes = ["test.probes=[rotation,prediction_error,retrieval]", "test.rotation.epochs=20", "device=cpu"]
    code, _, err = cli("+experiment=sie/vectors", *probes, "hydra.run.dir=run")
    assert code == 0, err
    numbers = measured(json.loads(Path("run/summary.json").read_text()))
    assert numbers["retrieval/test/mrr"] > 0.4 > 4 * numbers["retrieval/chance/mrr"]
    assert numbers["prediction_error/test/pre"] < 0.35 < numbers["prediction_error/test/pre_identity"]
    inv, equi = (numbers[f"rotation/{part}/deep/quaternion/r2"] for part in ("inv", "equi"))
    assert equi - inv > 0.05 and equi > 0.6
