"""The loop: exact resume, best weights, early stopping, clipping, schedules, and losses that leave the numbers."""

import json
import math
import random

import numpy as np
import pytest
import torch
from torch import nn

import trainer
from checkpointer import BEST, Progress, names_of
from objective_constructor import construct_stages
from partial_equiv import UserError, build
from partial_equiv.datasets import ImageSet, make_loader
from partial_equiv.objectives import Objective, Step
from partial_equiv.runs import RunFolder, load_model, load_state, read_log
from progress import Terminal
from schedules import Law
from tester import evaluate

SPEC = {
    "net": {
        "type": "CKResNet",
        "no_hidden": 4,
        "no_blocks": 1,
        "dropout": 0.3,
        "norm": "BatchNorm",
        "block_width_factors": None,
        "pool_blocks": [1],
        "last_conv_T2": False,
        "learnable_final_pooling": False,
        "final_spatial_dim": [1, 1],
    },
    "conv": {"padding": "same", "partial_equiv": True, "bias": True},
    "kernel": {
        "type": "SIREN",
        "no_hidden": 4,
        "no_layers": 3,
        "size": 3,
        "angle": "circle",
        "omega0": 10.0,
        "learn_omega0": True,
        "weight_norm": False,
    },
    "base_group": {
        "name": "E2",
        "no_samples": 4,
        "sampling_method": "random",
        "sample_per_layer": True,
        "sample_per_batch_element": False,
        "count": "all",
        "gumbel_init_temp": 0.5,
        "gumbel_end_temp": 1e-4,
    },
    "info": {"in_channels": 1, "no_classes": 3, "size": [10, 10]},
}


def train_config(**changes):
    return {
        "type": "classification",
        "do": True,
        "batch_size": 8,
        "epochs": 4,
        "stages": {"classification": {"epochs": None}},
        "lr": 0.01,
        "lr_probs": 0.05,
        "lr_omega0": None,
        "optimizer": "Adam",
        "optimizer_params": {"momentum": None, "nesterov": None},
        "scheduler": "cosine",
        "scheduler_params": {"warmup_epochs": None, "decay_steps": None, "decay_factor": None, "patience": None},
        "weight_decay": 1e-3,
        "weight_decay_kind": "decoupled",
        "monotonic_decay_loss": 1e-3,
        "gradient_clip": 1.0,
        "precision": "float32",
        "patience": None,
        "max_nonfinite": 3,
        "max_minutes": None,
        "checkpoint_every": None,
        "keep_checkpoints": 2,
        "probes": [],
    } | changes


class Loaders:
    def __init__(self, seed=0):
        generator = torch.Generator().manual_seed(5)
        images = torch.randint(0, 256, (36, 1, 10, 10), generator=generator, dtype=torch.uint8)
        labels = torch.randint(0, 3, (36,), generator=generator)
        cut = [ImageSet(images[a:b], labels[a:b], mean=[0.5], std=[0.3]) for a, b in ((0, 26), (26, 36))]
        recipe = {"batch_size": 8, "drop_last": False, "seed": seed, "no_workers": 0}
        self.train = make_loader(cut[0], shuffle=True, **recipe)
        self.validation = make_loader(cut[1], shuffle=False, **recipe)


def seed_all(seed=0):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def make_run(path, *, interrupt=None, fresh=True, **changes):
    """Return stages, loaders and folder of a run as main would make them."""
    seed_all()
    loaders = Loaders()
    model = build(SPEC)
    stages = construct_stages({"train": train_config(**changes)}, model, len(loaders.train))
    if interrupt is not None:
        # Counted in steps of training and validation together.
        calls = iter(range(10**6))

        def stop(*_):
            if next(calls) == interrupt:
                raise KeyboardInterrupt

        model.register_forward_pre_hook(stop)
    return stages, loaders, RunFolder(path, {})


def rows_of(path):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in read_log(path)]


def same_state(first, second, name):
    names = [names_of(run)[0] if name == "last" else name for run in (first, second)]
    assert names[0] == names[1]
    (a, meta_a), (b, meta_b) = load_state(first, names[0]), load_state(second, names[0])
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)
    for meta in (meta_a, meta_b):
        meta["progress"].pop("seconds")
    assert meta_a == meta_b


@pytest.mark.parametrize("interrupt", [0, 5, 13, 21])
@pytest.mark.parametrize(
    "changes",
    [
        {"scheduler_params": {"warmup_epochs": 1}},
        {
            "optimizer": "SGD",
            "optimizer_params": {"momentum": 0.9, "nesterov": True},
            "scheduler": "plateau",
            "scheduler_params": {"decay_factor": 2.0, "patience": 0},
            "weight_decay_kind": "published",
        },
    ],
    ids=["adam-cosine", "sgd-plateau"],
)
def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(tmp_path, changes, interrupt):
    stages, loaders, folder = make_run(tmp_path / "whole", **changes)
    whole = trainer.train_stages(stages, loaders, folder, SPEC)

    stages, loaders, folder = make_run(tmp_path / "cut", interrupt=interrupt, **changes)
    with pytest.raises(KeyboardInterrupt):
        trainer.train_stages(stages, loaders, folder, SPEC)
    # What a person does in between must not matter.
    seed_all(99)
    stages, loaders, folder = make_run(tmp_path / "cut", **changes)
    resumed = trainer.train_stages(stages, loaders, folder, SPEC, resume=True)

    assert rows_of(tmp_path / "whole") == rows_of(tmp_path / "cut")
    assert len(rows_of(tmp_path / "cut")) == 4
    for name in ("last", BEST):
        same_state(tmp_path / "whole", tmp_path / "cut", name)
    assert (whole.best_epoch, whole.best_loss) == (resumed.best_epoch, resumed.best_loss)


def test_epochs_may_grow(tmp_path):
    keys = {"scheduler": None, "scheduler_params": {}}
    stages, loaders, folder = make_run(tmp_path / "long", epochs=3, **keys)
    trainer.train_stages(stages, loaders, folder, SPEC)
    stages, loaders, folder = make_run(tmp_path / "grown", epochs=1, **keys)
    trainer.train_stages(stages, loaders, folder, SPEC)
    stages, loaders, folder = make_run(tmp_path / "grown", epochs=3, **keys)
    trainer.train_stages(stages, loaders, folder, SPEC, resume=True)
    # The gates' temperature follows the share of the training that is done, so the first epoch may differ.
    assert [row["epoch"] for row in rows_of(tmp_path / "grown")] == [1, 2, 3]
    assert rows_of(tmp_path / "grown")[0]["lr"] == rows_of(tmp_path / "long")[0]["lr"]


def test_a_finished_run_resumes_to_itself(tmp_path):
    stages, loaders, folder = make_run(tmp_path, epochs=2)
    trainer.train_stages(stages, loaders, folder, SPEC)
    before = (tmp_path / f"{names_of(tmp_path)[0]}.safetensors").read_bytes()
    stages, loaders, folder = make_run(tmp_path, epochs=2)
    progress = trainer.train_stages(stages, loaders, folder, SPEC, resume=True)
    assert progress.epoch == 2
    assert (tmp_path / f"{names_of(tmp_path)[0]}.safetensors").read_bytes() == before


def test_the_row_of_an_epoch_tells_everything(tmp_path):
    stages, loaders, folder = make_run(tmp_path, epochs=1)
    trainer.train_stages(stages, loaders, folder, SPEC)
    row = json.loads((tmp_path / "metrics.jsonl").read_text())
    for key in ("train/loss", "train/accuracy", "train/monotonic_decay", "validation/loss", "validation/accuracy"):
        assert math.isfinite(row[key])
    assert row["epoch"] == 1
    assert len(row["levels"]) == len(row["mirror"]) == 3
    assert row["seconds"] > 0
    assert all(value > 0 for value in row["omega0"])


def test_the_best_weights_are_kept_and_loaded_again(tmp_path):
    stages, loaders, folder = make_run(tmp_path, epochs=6, lr=0.05)
    progress = trainer.train_stages(stages, loaders, folder, SPEC)
    rows = rows_of(tmp_path)
    best = max(rows, key=lambda row: (row["validation/accuracy"], -row["validation/loss"], row["epoch"]))
    assert progress.best_epoch == best["epoch"]
    objective = stages["classification"].objective
    again = evaluate(objective, loaders.validation)
    assert again == {"loss": best["validation/loss"], "accuracy": best["validation/accuracy"]}
    loaded = load_model(tmp_path)
    images = next(iter(loaders.validation)).images
    with torch.no_grad():
        assert torch.equal(loaded(images), objective.model.eval()(images))


class Script(Objective):
    """An objective whose validation metric follows a script, one value an epoch; its loss falls with its weights."""

    monitor, mode = "score", "max"

    def __init__(self, scores):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 2))
        self.scores, self.clock = scores, []

    def set_progress(self, fraction):
        self.clock.append(fraction)

    def forward(self, batch):
        epoch = int(self.clock[-1] * len(self.scores) + 1e-9)
        return Step(
            0.1 * self.weight.square().sum(), {"score": torch.tensor(float(self.scores[epoch]))}, len(batch.labels)
        )


def scripted(tmp_path, scores, **changes):
    seed_all()
    loaders = Loaders()
    objective = Script(scores)
    stage = construct_stages({"train": train_config(epochs=len(scores), **changes)}, build(SPEC), len(loaders.train))[
        "classification"
    ]
    optimizer = torch.optim.SGD(
        [{"params": [objective.weight], "names": ["weight"], "role": "rest", "peak_lr": 0.1}], lr=0.1
    )
    stage = stage._replace(objective=objective, optimizers=(optimizer,), schedule=Law(lambda step: 1.0))
    return stage, loaders, RunFolder(tmp_path, {})


@pytest.mark.parametrize(
    ("scores", "patience", "last", "best"),
    [
        ([1, 2, 1, 1, 1, 1], 2, 4, 2),
        ([1, 2, 3, 4, 5, 6], 2, 6, 6),
        ([2, 1, 1, 1, 3, 1], 4, 6, 5),
        ([5, 1, 1, 1, 1, 1], None, 6, 1),
        ([5, 1, 1, 1, 1, 1], 1, 2, 1),
    ],
)
def test_training_stops_when_nothing_gets_better(tmp_path, scores, patience, last, best):
    stage, loaders, folder = scripted(tmp_path, scores, patience=patience)
    progress = trainer.train(stage, loaders, folder, {}, Progress("classification"))
    assert (progress.epoch, progress.best_epoch) == (last, best)


def test_of_equal_values_the_lower_loss_wins(tmp_path):
    stage, loaders, folder = scripted(tmp_path, [1, 1, 1])
    assert trainer.train(stage, loaders, folder, {}, Progress("classification")).best_epoch == 3


def test_progress_is_the_share_of_steps_that_is_done(tmp_path):
    stage, loaders, folder = scripted(tmp_path, [1, 1, 1])
    trainer.train(stage, loaders, folder, {}, Progress("classification"))
    assert stage.objective.clock == [step / 12 for step in range(12)]


def test_gradients_are_clipped(tmp_path):
    for name, clip in (("free", None), ("clipped", 1e-3)):
        stage, loaders, folder = scripted(tmp_path / name, [1], gradient_clip=clip)
        trainer.train(stage, loaders, folder, {}, Progress("classification"))
        moved = float((1 - stage.objective.weight.detach()).norm())
        assert moved > 0.1 if clip is None else moved == pytest.approx(4 * 0.1 * 1e-3, rel=1e-3)


class Pull(Objective):
    """Pulls a vector towards four pixels of the images: loss = mean_b |w - p_b|^2 / 2, of gradient w - mean_b p_b."""

    monitor, mode = "loss", "min"

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4, dtype=torch.float64))

    def forward(self, batch):
        error = self.weight - batch.images.double().flatten(1)[:, :4]
        return Step(error.square().sum(dim=1).mean() / 2, {}, len(batch.labels))


def plain_groups(*named):
    return [{"params": [p], "names": [name], "role": "rest", "lr": 0.1, "peak_lr": 0.1} for name, p in named]


@pytest.mark.parametrize(("accumulate", "max_steps"), [(1, None), (2, None), (3, None), (4, None), (9, None), (3, 2)])
def test_accumulated_batches_are_one_step_on_the_mean_of_their_losses(tmp_path, accumulate, max_steps):
    """Four batches of 8, 8, 8 and 2: with 3 the last group holds one batch, which then counts whole."""
    stage, loaders, folder = scripted(tmp_path, [1, 1], gradient_clip=None)
    objective = Pull()
    optimizer = torch.optim.SGD(plain_groups(("weight", objective.weight)), lr=0.1)
    stage = stage._replace(objective=objective, optimizers=(optimizer,), accumulate=accumulate)
    trainer.train(stage, loaders, folder, {}, Progress("classification"), trainer.Around(max_steps=max_steps))

    weight = np.zeros(4)
    for epoch in range(2):
        loaders.train.set_epoch(epoch)
        targets = [batch.images.double().flatten(1)[:, :4].mean(dim=0).numpy() for batch in loaders.train][:max_steps]
        for start in range(0, len(targets), accumulate):
            group = targets[start : start + accumulate]
            weight -= 0.1 * sum(weight - target for target in group) / len(group)
    np.testing.assert_allclose(objective.weight.detach().numpy(), weight, rtol=1e-12)


def test_an_epoch_reports_the_losses_that_were_not_divided(tmp_path):
    stage, loaders, folder = scripted(tmp_path, [1])
    objective = Pull()
    frozen = torch.optim.SGD(plain_groups(("weight", objective.weight)), lr=0.0)
    stage = stage._replace(objective=objective, optimizers=(frozen,), accumulate=3, schedule=Law(lambda step: 0.0))
    trainer.train(stage, loaders, folder, {}, Progress("classification"))
    pixels = loaders.train.image_set[range(26)].images.double().flatten(1)[:, :4]
    assert rows_of(tmp_path)[0]["train/loss"] == pytest.approx(float(pixels.square().sum(dim=1).mean() / 2), rel=1e-12)


def test_the_last_weights_can_be_kept(tmp_path):
    stage, loaders, folder = scripted(tmp_path, [5, 1, 2, 1], patience=1)
    stage.objective.mode = "last"
    progress = trainer.train(stage, loaders, folder, {}, Progress("classification"))
    assert (progress.epoch, progress.best_epoch, progress.best_value) == (4, 4, 1.0)
    (best, _), (last, _) = load_state(tmp_path, BEST), load_state(tmp_path, names_of(tmp_path)[0])
    assert torch.equal(best["weight"], last["weight"]) and torch.equal(best["weight"], stage.objective.weight)


class Watched(Objective):
    """A small network whose features shall vanish, with a class head that watches them, loudly, every second step."""

    monitor, mode = "loss", "min"

    def __init__(self, with_heads, volume=1.0):
        super().__init__()
        self.model = nn.Sequential(nn.Flatten(), nn.Linear(100, 6), nn.Dropout(0.3), nn.Linear(6, 5))
        self.heads, self.volume, self.step = (nn.Linear(5, 3) if with_heads else None), volume, 0

    def watchers(self):
        return self.heads

    def set_step(self, step):
        self.step = step

    def forward(self, batch):
        features, extra = self.model(batch.images), None
        if self.heads is not None and self.step % 2 == 0:
            extra = self.volume * nn.functional.cross_entropy(self.heads(features.detach()), batch.labels)
        return Step(features.square().mean(), {}, len(batch.labels), extra)


def make_watched(path, *, with_heads=True, interrupt=None, volume=1.0, epochs=3, accumulate=1, **changes):
    """Return a stage whose heads have an optimiser of their own, its loaders and its folder."""
    stages, loaders, folder = make_run(path, epochs=epochs, **changes)
    seed_all()
    objective = Watched(with_heads, volume)
    learned = plain_groups(*((f"model.{name}", p) for name, p in objective.model.named_parameters()))
    optimizers = [torch.optim.Adam(learned, lr=0.1)]
    if objective.heads is not None:
        watching = plain_groups(*((f"heads.{name}", p) for name, p in objective.heads.named_parameters()))
        optimizers.append(torch.optim.SGD(watching, lr=0.1, momentum=0.9))
    if interrupt is not None:
        calls = iter(range(10**6))

        def stop(*_):
            if next(calls) == interrupt:
                raise KeyboardInterrupt

        objective.model.register_forward_pre_hook(stop)
    stage = stages["classification"]._replace(objective=objective, optimizers=tuple(optimizers), accumulate=accumulate)
    seed_all()  # heads or none: dropout draws the same
    return {"classification": stage}, loaders, folder


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("clip", [None, 1e-3])
def test_heads_that_watch_learn_and_change_nothing(tmp_path, accumulate, clip):
    keys = {"accumulate": accumulate, "gradient_clip": clip, "volume": 1e6 if clip else 1.0}
    watched, loaders, folder = make_watched(tmp_path / "watched", **keys)
    heads = watched["classification"].objective.heads
    before = {name: value.clone() for name, value in heads.state_dict().items()}
    trainer.train_stages(watched, loaders, folder, {})
    alone, loaders, folder = make_watched(tmp_path / "alone", with_heads=False, **keys)
    trainer.train_stages(alone, loaders, folder, {})
    first, second = (stages["classification"].objective.model.state_dict() for stages in (watched, alone))
    assert all(torch.equal(first[name], second[name]) for name in first)  # loud heads leave the clipped norm alone too
    moved = (heads.weight - before["weight"]).norm()
    assert moved > 1e-2 and (not clip or moved > 1e3)
    rows = [rows_of(tmp_path / name) for name in ("watched", "alone")]
    assert rows[0] == rows[1]  # their loss is not the training's


def test_heads_that_watch_follow_their_own_rate(tmp_path):
    """One step on the first batch, by hand: the schedule of the network, here a warm-up, is not theirs."""
    stages, loaders, folder = make_watched(tmp_path, epochs=1, scheduler_params={"warmup_epochs": 1})
    objective = stages["classification"].objective
    objective.model.eval()  # `train` comes later; the features of the first step are wanted without dropout
    objective.model[2].p = 0.0
    loaders.train.set_epoch(0)
    batch = next(iter(loaders.train))
    with torch.no_grad():
        features = objective.model(batch.images)
        error = torch.softmax(objective.heads(features), dim=1) - nn.functional.one_hot(batch.labels, 3)
        expected = objective.heads.weight - 0.1 * error.T @ features / len(features)
    trainer.train(
        stages["classification"], loaders, folder, {}, Progress("classification"), trainer.Around(max_steps=1)
    )
    torch.testing.assert_close(objective.heads.weight.detach(), expected)
    network, watching = stages["classification"].optimizers
    assert (network.param_groups[0]["lr"], watching.param_groups[0]["lr"]) == (pytest.approx(0.1 / 5), 0.1)


@pytest.mark.parametrize("interrupt", [0, 5, 8, 13])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_resumed_run_with_heads_equals_the_uninterrupted_one(tmp_path, interrupt, accumulate):
    stages, loaders, folder = make_watched(tmp_path / "whole", accumulate=accumulate)
    trainer.train_stages(stages, loaders, folder, {})
    stages, loaders, folder = make_watched(tmp_path / "cut", accumulate=accumulate, interrupt=interrupt)
    with pytest.raises(KeyboardInterrupt):
        trainer.train_stages(stages, loaders, folder, {})
    seed_all(99)
    stages, loaders, folder = make_watched(tmp_path / "cut", accumulate=accumulate)
    trainer.train_stages(stages, loaders, folder, {}, resume=True)
    assert rows_of(tmp_path / "whole") == rows_of(tmp_path / "cut")
    for name in ("last", BEST):
        same_state(tmp_path / "whole", tmp_path / "cut", name)
    tensors, _ = load_state(tmp_path / "cut", names_of(tmp_path / "cut")[0])
    assert {"heads.weight", "optimizer/heads.weight/momentum_buffer"} <= set(tensors)


def test_a_loss_that_is_not_finite_stops_with_a_sentence(tmp_path):
    stages, loaders, folder = make_run(tmp_path, lr=1e30, gradient_clip=None, scheduler=None, scheduler_params={})
    with pytest.raises(UserError, match=r"not finite in 3 steps in a row \(epoch 1, step \d.*lower train\.lr"):
        trainer.train_stages(stages, loaders, folder, SPEC)
    assert not names_of(tmp_path)


def test_bfloat16_trains(tmp_path):
    stages, loaders, folder = make_run(tmp_path, epochs=1, precision="bfloat16")
    trainer.train_stages(stages, loaders, folder, SPEC)
    row = rows_of(tmp_path)[0]
    assert math.isfinite(row["train/loss"])
    assert all(p.dtype == torch.float32 for p in stages["classification"].objective.parameters())


def test_a_pipe_gets_one_line_an_epoch(tmp_path, capsys):
    stages, loaders, folder = make_run(tmp_path, epochs=2)
    trainer.train_stages(stages, loaders, folder, SPEC, trainer.Around(Terminal(1)))
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split("  ")[0] for line in err.splitlines()] == ["epoch 1/2", "epoch 2/2"]


def test_a_trial_run_takes_two_steps(tmp_path):
    stage, loaders, folder = scripted(tmp_path, [1, 1])
    trainer.train(stage, loaders, folder, {}, Progress("classification"), trainer.Around(max_steps=2))
    assert len(stage.objective.clock) == 4


def test_another_network_or_optimiser_is_refused(tmp_path):
    stages, loaders, folder = make_run(tmp_path, epochs=1)
    trainer.train_stages(stages, loaders, folder, SPEC)
    stages, loaders, folder = make_run(tmp_path, epochs=1)
    stage = stages["classification"]
    stage.optimizer.param_groups[0]["names"] = ["other"]
    with pytest.raises(UserError, match="written by another optimiser"):
        trainer.train_stages(stages, loaders, folder, SPEC, resume=True)
    wider = build(SPEC | {"net": SPEC["net"] | {"no_hidden": 5}})
    stages = construct_stages({"train": train_config(epochs=1)}, wider, len(loaders.train))
    with pytest.raises(UserError, match="another architecture"):
        trainer.train_stages(stages, loaders, folder, SPEC, resume=True)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lr": -1}, "train.lr=-1 is out of range"),
        ({"lr": float("nan")}, "train.lr=nan is out of range"),
        ({"epochs": 0}, "train.epochs=0"),
        ({"weight_decay": -0.1}, "give 0 .off. or more"),
        ({"weight_decay_kind": "other"}, "decoupled or published"),
        ({"stages": {"classify": None}}, "not a stage of this method"),
        ({"stages": {"classification": {"epoch": 3}}}, "did you mean 'epochs'"),
        ({"stages": {"classification": 3}}, "is not a group of keys"),
        ({"stages": {"classification": {"epochs": -3}}}, "epochs=-3 is negative"),
        ({"stages": {"classification": {"epochs": 0}}}, "every stage has 0 epochs"),
        ({"stages": {"classification": {"lr": 0.0}}}, "lr=0.0 is out of range"),
        ({"type": "classificatoin"}, "did you mean 'classification'"),
    ],
)
def test_a_wrong_choice_of_training_is_answered(changes, words):
    with pytest.raises(UserError, match=words):
        construct_stages({"train": train_config(**changes)}, nn.Linear(2, 2), 4)


def test_a_stage_may_have_epochs_of_its_own():
    stages = {"classification": {"epochs": 7}}
    stage = construct_stages({"train": train_config(stages=stages)}, nn.Linear(2, 2), 4)["classification"]
    assert stage.epochs == 7
