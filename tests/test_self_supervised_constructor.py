"""From `train=<a method>` to its objective: every row on small data, what is said before training, and mistakes."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import nn

from config_reader import read_config
from dataset_constructor import construct_dataset, construct_info, construct_loaders
from epoch import Epoch
from evaluation_constructor import construct_probes, construct_test
from model_constructor import construct_model
from objective_constructor import construct_stages
from partial_equiv import UserError
from partial_equiv.datasets import Views
from partial_equiv.latents import COLUMNS
from partial_equiv.sampling import samplers
from progress import Terminal
from steps import Steps

ROOT = Path(__file__).resolve().parents[1]
ROWS = sorted(
    path.stem for path in (ROOT / "cfg/train").glob("*.yaml") if path.stem not in ("classification", "symmetry")
)
VECTORS = [
    "dataset=latent_vectors",
    "dataset.no_objects=8",
    "dataset.no_views=4",
    "dataset.no_classes=2",
    "dataset.pairs_per_object=3",
    "net.backbone=mlp",
    "net.width=16",
    "net.equi=8",
    "train.mlp=16-16-16",
    "train.batch_size=4",
]
RECORDED = [
    "dataset=digits",
    "augment=recorded",
    "dataset.copies=1",
    "dataset.no_train=12",
    "dataset.no_validation=4",
    "dataset.no_test=4",
    "train.mlp=16-16-16",
    "train.batch_size=4",
]
TURNS = ["dataset=digit_turns", "dataset.no_train=8", "dataset.no_validation=4", "dataset.no_test=4", "dataset.size=12"]


def composed(*overrides):
    """Return the configuration that main would run."""
    with initialize_config_dir(str(ROOT / "cfg"), version_base="1.3"):
        return read_config(compose("config", list(overrides)), overrides)


def stage_of(config, device="cpu"):
    """Return the stage of a configuration as a dry run makes it: from facts, without data."""
    info = construct_info(config)
    torch.manual_seed(config["seed"])
    model = construct_model(config, info).to(device)
    return construct_stages(config, model, 3, info=info)["self_supervised"]


def constructed(*overrides):
    return stage_of(composed(*overrides))


def sample(*overrides):
    """Return what a row learns from: its small data, with what the row alone needs."""
    (row,) = [word.removeprefix("train=") for word in overrides if word.startswith("train=")]
    own = ["train.projectors.z.equi=8"] if row == "vicreg_part_invariant" else []
    return [*(RECORDED if row == "equimod" else VECTORS), *own, *overrides]


# --- Rows ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", ROWS)
def test_every_row_composes_constructs_and_takes_steps(row):
    config = composed(*sample(f"train={row}"))
    splits = construct_dataset(config)
    loaders = construct_loaders(splits, config)
    torch.manual_seed(0)
    model = construct_model(config, splits.info)
    stage = construct_stages(config, model, len(loaders.train), info=splits.info)["self_supervised"]
    assert construct_probes(config, splits.info, "test", splits.train, splits.test).keys() == set(
        config["test"]["probes"]
    )
    before = {name: value.clone() for name, value in stage.objective.named_parameters()}
    means = Epoch(Steps(stage, torch.device("cpu")), loaders.train, 0).run(Terminal(0)).means()
    assert all(math.isfinite(value) for value in means.values())
    assert set(stage.objective.method.terms) <= set(means)
    still = {name for name, value in stage.objective.named_parameters() if torch.equal(value, before[name])}
    assert not still, f"{still} did not learn"
    fresh = construct_test(config, model, splits.info)
    assert fresh.state_dict().keys() == stage.objective.state_dict().keys()


def test_a_row_inherits_and_takes_away():
    terms = {row: composed(f"train={row}", *VECTORS)["train"]["terms"] for row in ("sie", "sie_no_variance")}
    assert terms["sie_no_variance"] == terms["sie"] | {"predicted_variance": None}
    assert set(constructed("train=sie_no_variance", *VECTORS).objective.terms) == set(terms["sie"]) - {
        "predicted_variance"
    }
    sie, colored = (composed(f"train={row}", *VECTORS)["train"] for row in ("sie", "sie_rotation_color"))
    differing = {key for key in sie if sie[key] != colored[key]}
    assert differing == {"method", "latents"}
    merged = composed("train=simclr_equimod_rotation_color", *VECTORS)["train"]["terms"]["equivariance"]
    assert merged == {"term": "info_nce", "of": ["y.predicted", "y.z_equi"], "weight": [1.0]}  # one key of three is new


def test_a_term_is_taken_away_and_added_from_the_shell():
    words = ["train.terms.covariance=null", "+train.terms.own={term:variance,of:[x.h,y.h_inv],weight:[sim_coeff,0.5]}"]
    objective = constructed("train=sie", *VECTORS, *words).objective
    assert "covariance" not in objective.weights and objective.weights["own"] == 5.0
    simclr = constructed("train=simclr", *VECTORS, "+train.projectors.second={of:h}", "train.online.every=1").objective
    assert set(simclr.projectors) == {"z", "second"}  # its own names: there are no halves for the online heads
    assert set(simclr.online.classes) == {"representation", "embedding"}


def test_a_single_width_is_a_projector_of_one_map():
    """YAML reads 16 as a number where 16-16 is a text."""
    objective = constructed("train=vicreg", *VECTORS, "train.mlp=16").objective
    assert [type(layer) for layer in objective.projectors["z"]] == [nn.Linear]


# --- Said before the first step -----------------------------------------------------------------------------------


def test_notes_tell_effective_weights_noise_and_accumulation():
    notes = constructed("train=sie", *VECTORS, "train.accumulate=4").notes
    assert len(notes) == 3 and "4.5 (sim_coeff x equi_factor)" in notes[0] and "invariance 10," in notes[0]
    assert notes[1].startswith("note: embeddings of 16 numbers and batches of 4") and "is 5.0 by chance" in notes[1]
    assert "gradients of 4 batches" in notes[2] and "4 examples at a time" in notes[2] and "batches of 16" in notes[2]


@pytest.mark.parametrize(
    ("row", "batch_size", "warned"),
    [("sie", 7, True), ("sie", 8, False), ("vicreg_equimod", 8, False), ("simclr", 4, False), ("vicreg", 7, True)],
)
def test_the_note_on_noise_comes_where_it_belongs(row, batch_size, warned):
    """Two 8-wide halves are regularised as 16 joint numbers, two whole embeddings apart; a contrast has no floor."""
    notes = constructed(f"train={row}", *VECTORS, f"train.batch_size={batch_size}").notes
    assert any("by chance alone" in note for note in notes) == warned


def test_published_weights_are_those_of_the_command_and_not_of_the_script():
    weights = constructed("train=sie", *VECTORS).objective.weights
    assert weights == {
        "invariance": 10.0, "equivariance": 4.5, "variance": 10.0, "predicted_variance": 10.0, "covariance": 1.0,
    }  # fmt: skip


# --- Optimisers and devices ---------------------------------------------------------------------------------------


def test_heads_that_watch_have_an_optimiser_of_their_own():
    stage = constructed("train=sie", *VECTORS, "train.lr=0.01", "train.online.lr=0.5", "train.weight_decay=0.1")
    learned, watching = ({name for group in o.param_groups for name in group["names"]} for o in stage.optimizers)
    names = {name for name, _ in stage.objective.named_parameters()}
    assert watching == {name for name in names if name.startswith("online.")} and learned == names - watching
    assert {group["lr"] for group in stage.optimizers[0].param_groups} == {0.01}
    assert all(
        group["weight_decay"] == 0.1 and not group["decoupled_weight_decay"] for group in stage.optimizer.param_groups
    )
    (heads,) = stage.optimizers[1].param_groups
    assert (heads["lr"], heads["weight_decay"]) == (0.5, 0.0)
    assert len(constructed("train=sie", *VECTORS, "train.online=null").optimizers) == 1


@pytest.mark.parametrize("row", ["sie", "supervised", "equimod"])
def test_everything_lies_where_the_encoder_lies(row):
    stage = stage_of(composed(*sample(f"train={row}")), device="meta")
    state = stage.objective.state_dict(keep_vars=True)
    assert {name for name, tensor in state.items() if tensor.device.type != "meta"} == set()
    owned = {id(tensor) for tensor in state.values()}  # the optimisers hold these very parameters
    assert all(id(p) in owned for o in stage.optimizers for group in o.param_groups for p in group["params"])


def test_heads_that_watch_leave_a_random_network_as_it_is():
    """Dropout and random group elements draw the same numbers, whether heads were made and trained or not."""
    small = [
        "net=SplitCKResNet",
        "net.width=8",
        "net.equi=4",
        "net.no_frequencies=1",
        "net.no_hidden=2",
        "net.no_blocks=1",
    ]
    random = [
        "net.dropout=0.3",
        "conv=full",
        "base_group=SE2",
        "base_group.no_samples=4",
        "kernel.no_hidden=4",
        "kernel.size=3",
    ]
    states = []
    for online in ("train.online.every=1", "train.online=null"):
        config = composed("train=sie", *TURNS, *small, *random, "train.mlp=8-8", "train.batch_size=4", online)
        assert config["base_group"]["sampling_method"] == "random"
        splits = construct_dataset(config)
        torch.manual_seed(0)
        model = construct_model(config, splits.info)
        stage = construct_stages(config, model, 2, info=splits.info)["self_supervised"]
        Epoch(Steps(stage, torch.device("cpu")), construct_loaders(splits, config).train, 0).run(Terminal(0))
        states.append({k: v for k, v in stage.objective.state_dict().items() if not k.startswith("online.")})
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_online_heads_find_the_angles_whatever_the_order_of_the_columns():
    torch.manual_seed(3)
    config = composed("train=sie", *VECTORS, "train.online.every=1")
    batch = Views(torch.randn(6, 2, 96, 1, 1), torch.arange(6) % 2, torch.arange(6), torch.rand(6, 2, 7))
    order, metrics = [3, 1, 6, 0, 4, 2, 5], []
    for columns, latents in ((COLUMNS, batch.latents), ([COLUMNS[i] for i in order], batch.latents[..., order])):
        info = dataclasses.replace(construct_info(config), latents=tuple(columns))
        torch.manual_seed(0)
        stage = construct_stages(config, construct_model(config, info), 3, info=info)["self_supervised"]
        metrics.append(stage.objective(batch._replace(latents=latents)).metrics)
    assert metrics[0].keys() == metrics[1].keys() and "online/mse_embedding" in metrics[0]
    for name, value in metrics[0].items():
        torch.testing.assert_close(metrics[1][name], value, msg=name)


# --- Mistakes: one sentence each ----------------------------------------------------------------------------------

MISTAKES = [
    # What does not fit together.
    (["train=sie", "net.equi=20"], r"net.equi=20 makes .* larger than the representation, which has 16 .*give 0 to 16"),
    (["train=sie", "net.equi=16"], r"SIE needs an invariant and an equivariant part.*give 1 to 15"),
    (["train=sie", "net=CKResNet"], r"SIE trains an encoder, and net=CKResNet is none: set net=SplitEncoder"),
    (["train=classification", "net=SplitEncoder"], r"net=SplitEncoder is an encoder .*: set train=sie"),
    (["train=sie", "dataset=digits"], r"SIE compares .* single images: set dataset=shapes3d, latent_vectors or 3DIEB"),
    (["train=sie", *RECORDED], r"has examples of the views anchor, x, y: set augment=none and dataset=shapes3d"),
    (["train=equimod", "dataset=digits"], r"EquiMod compares the views anchor, x, y.*: set augment=recorded$"),
    (["train=equimod", *VECTORS], r"EquiMod compares .*x, y: set a data set of single images and augment=recorded$"),
    (["train=sie", *VECTORS, "train.views=[x]"], r"SIE compares the views x, and .*: set train.views=\[x,y\]"),
    (["train=sie", *VECTORS, "train.batch_size=1"], r"train.batch_size=1 has no statistics.*give 2 or more"),
    (["train=sie", "dataset=COIL20", "train.latents=[floor_hue]"], r"no column floor_hue \(they have: ex, ey, ez\)"),
    (["train=sie", "dataset=digit_turns", "train.latents=[rotation,light_hue]"], r"no column light_hue"),
    # Rows.
    (["train=sie", "train.terms.invariance.of=[x.z_inv,y.z_imv]"], r"'y.z_imv', which SIE has not.*mean 'y.z_inv'\?$"),
    (["train=sie", "train.terms.invariance.of=[x.z_inv]"], r"of=\['x.z_inv'\] does not fit mse: give two signals"),
    (["train=sie", "train.terms.variance.of=[]"], r"does not fit variance: give one signal or more"),
    (
        ["train=sie", "train.terms.invariance.of=[x.z_inv,y.h]"],
        r"compares 8 numbers with 16: give signals of one width",
    ),
    (["train=supervised", "train.terms.class.of=[labels,x.logits]"], r"cross_entropy takes logits and labels"),
    (
        ["train=supervised", "train.terms.regression.of=[latent,labels]"],
        r"does not fit mse: cross_entropy takes logits",
    ),
    (["train=sie", "train.terms.invariance.term=msee"], r"invariance.term='msee' is not one of: mse.*mean 'mse'\?"),
    (["train=sie", "train.terms.invariance.weight=[sim_coef]"], r"invariance.weight='sim_coef' .*mean 'sim_coeff'\?"),
    (["train=sie", "train.terms.invariance.weight=[null]"], r"weight=\[None\] is of the wrong type: give a list, each"),
    (["train=sie", "+train.projectors.z_inv.plane=true"], r"z_inv.plane is not a key.*did you mean 'plain'\?"),
    (
        ["train=sie", "train.projectors.z_inv.of=h_in"],
        r"train.projectors.z_inv.of='h_in' is not one of.*mean 'h_inv'\?",
    ),
    (["train=sie", "+train.projectors.h={of:h}"], r"train.projectors.h cannot be told from other signals"),
    (["train=sie", "+train.terms.own=3"], r"train.terms.own=3 is not a group of keys"),
    (["train=sie", "train.projectors.z_equi=null"], r"train.predicted.of='z_equi' is not one of: z_inv"),
    (["train=simclr", "+train.terms.invariance.temperature=0"], r"invariance.temperature=0 is out of range"),
    # Numbers and names.
    (["train=sie", "train.mlp=abc"], r"train.mlp='abc' is no list of widths: give whole numbers above 0 between hyph"),
    (["train=sie", "train.mlp=0-4"], r"train.mlp='0-4' is no list of widths"),
    (["train=sie", "train.mlp=1-1"], r"train.mlp=1-1 leaves no width for a part that is 0.5"),
    (["train=sie", "train.accumulate=0"], r"train.accumulate=0 is out of range: give 1 or more$"),
    (["train=sie", "train.online.every=0"], r"train.online.every=0 is out of range: give 1 or more$"),
    (["train=sie", "train.online.lr=0"], r"train.online.lr=0 is out of range"),
    (["train=sie", "+train.online.ever=2"], r"train.online.ever is not a key of train.online.*did you mean 'every'\?"),
    (["train=sie", "train.simclr_temp=0"], r"train.simclr_temp=0 is out of range"),
    (["train=sie", "train.cov_coeff=-1"], r"train.cov_coeff=-1 is out of range: give 0 \(off\) or more"),
    (["train=sie", "train.selection=best"], r"train.selection='best' is of the wrong type: give last or loss"),
    (["train=sie", "+train.equi_facto=1"], r"train.equi_facto is not a key of self_supervised.*mean 'equi_factor'\?"),
    (
        ["train=sie", "train.predictor.kind=hypernet"],
        r"train.predictor.kind='hypernet' .*did you mean 'hypernetwork'\?",
    ),
    (["train=sie", "+train.predictor.depth=2"], r"train.predictor.depth is not a key of train.predictor"),
    (["train=sie", "train.predictor.kind=group_action"], r"group_action acts by rotations alone.*rotation=wigner"),
    # The encoding of latents.
    (
        ["train=sie", "train.encoding.rotation=quat"],
        r"encoding.rotation='quat' is of the wrong type: give quaternion or",
    ),
    (["train=sie", "train.encoding.hue=circle"], r"train.encoding.hue='circle' is of the wrong type: give raw or circ"),
    (["train=sie", "train.encoding.frame=object"], r"train.encoding.frame='object' .*: give body or world"),
    (
        ["train=sie", "+train.encoding.rotatoin=euler"],
        r"train.encoding.rotatoin is not a key.*did you mean 'rotation'\?",
    ),
    (["train=sie", "train.encoding.rotation=wigner", "train.encoding.max_degree=0"], r"max_degree=0 tells nothing"),
    (["train=sie", "train.latents=[rotations]"], r"train.latents has 'rotations'.*did you mean 'rotation'\?"),
    (["train=sie", "train.latents=[]"], r"train.latents=\[\] must name each part once"),
    (["train=sie", "train.latents=[rotation,augmentation]"], r"augmentation beside others"),
]


def is_one_sentence(text):
    return "\n" not in text and ". " not in text and not text.endswith(".") and text[-1] != " "


@pytest.mark.parametrize(("overrides", "words"), MISTAKES, ids=[f"{' '.join(words)}" for words, _ in MISTAKES])
def test_a_mistake_is_one_sentence(overrides, words):
    chosen = any(word.startswith(("dataset=", "net=")) for word in overrides)
    with pytest.raises(UserError, match=words) as caught:
        constructed(*([] if chosen else VECTORS), *overrides)
    assert is_one_sentence(str(caught.value))


def test_classes_need_labels_and_probes_need_single_images():
    config = composed("train=supervised", *VECTORS)
    info = dataclasses.replace(construct_info(config), no_classes=0, class_names=(), labelled=False)
    with pytest.raises(
        UserError, match=r"Supervised learns classes, and dataset=latent_vectors has no labels"
    ) as caught:
        construct_stages(config, construct_model(config, construct_info(config)), 3, info=info)
    assert is_one_sentence(str(caught.value))
    for when in ("test", "train"):
        config = composed("train=sie", *VECTORS, f"{when}.probes=[class_accuracy]")
        with pytest.raises(UserError, match=rf"{when}.probes=\[class_accuracy\] measures networks of single") as caught:
            construct_probes(config, construct_info(config), when)
        assert is_one_sentence(str(caught.value)) and "give some of classification, rotation" in str(caught.value)


def test_a_split_of_a_single_pair_is_refused(tmp_path):
    numbers = np.random.default_rng(0)
    images = numbers.integers(0, 256, (12, 3, 1, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "views.npz", images=images, latents=numbers.random((12, 3, 7)), labels=np.arange(12) % 2)
    common = ["train=sie", "dataset=view_npz", f"dataset.root={tmp_path / 'views.npz'}", "train.batch_size=4"]
    config = composed(*common)
    with pytest.raises(UserError, match=r"holds a single example.*give dataset.pairs_per_object=2, or more") as caught:
        construct_loaders(construct_dataset(config), config)
    assert is_one_sentence(str(caught.value))
    config = composed(*common, "dataset.pairs_per_object=2")
    assert len(construct_loaders(construct_dataset(config), config).validation) == 1


def test_lists_of_options_hold_no_pieces_of_rows():
    from config_errors import options_of

    assert set(options_of("train")) == {"classification", "symmetry", *ROWS}
    assert "sie/vectors" in options_of("experiment")


def test_gates_of_a_partial_encoder_hear_how_far_the_training_is():
    small = ["net=SplitCKResNet", "net.width=8", "net.equi=4", "net.no_frequencies=1", "net.no_hidden=2"]
    partial = ["net.no_blocks=1", "conv=partial", "base_group=E2", "base_group.no_samples=8", "kernel.size=3"]
    sizes = ["kernel.no_hidden=4", "train.mlp=8-8", "train.batch_size=4"]
    objective = stage_of(composed("train=sie", *TURNS, *small, *partial, *sizes)).objective
    objective.set_progress(0.5)
    gates = list(samplers(objective.model))
    assert gates and all(float(gate.progress) == 0.5 for gate in gates)
    assert objective.learned()["levels"] == [1.0] * len(objective.learned()["levels"]) != []
