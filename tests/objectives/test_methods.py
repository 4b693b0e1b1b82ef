"""Each row of `cfg/train` against its formula, written from the published table with arithmetic of its own.

The encoder, projectors, predictor and regressor are the objective's; what is made of their numbers is computed here in
loops, and so are the latents. Gradients to the images and to every parameter have to agree as well: a gradient that one
of the two stopped would show.
"""

import copy
import math
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import nn

from partial_equiv import UserError
from partial_equiv.datasets import DatasetInfo, Views
from partial_equiv.latents import COLUMNS
from partial_equiv.nets import SplitEncoder
from self_supervised_constructor import construct_self_supervised
from train_choices import bind_train

ROOT = Path(__file__).resolve().parents[2]
S, E, V, C, EC, TEMPERATURE = 7.0, 0.3, 5.0, 3.0, 2.0, 0.2
WIDTH, EQUI, NO_PAIRS, NO_CLASSES = 12, 4, 6, 3
FREE = 5
"""Trailing numbers of an embedding that VICRegPartInv leaves free."""
TYPED = [
    *(f"train.{name}={value}" for name, value in (("sim_coeff", S), ("equi_factor", E), ("std_coeff", V))),
    *(f"train.{name}={value}" for name, value in (("cov_coeff", C), ("ec_weight", EC), ("simclr_temp", TEMPERATURE))),
    "train.mlp=10-14-12",
    "train.encoding.rotation=quaternion",  # as published
    "train.online=null",
]


def choices_of(row, *overrides):
    """Return the checked choices of a row."""
    with initialize_config_dir(str(ROOT / "cfg"), version_base="1.3"):
        cfg = compose("config", [f"train={row}", *overrides])
    return bind_train({"train": OmegaConf.to_container(cfg.train, resolve=True)})


def make_objective(row, *overrides, equi=EQUI, columns=COLUMNS, views=("x", "y")):
    """Return the objective of a row with a small encoder, in double precision."""
    torch.manual_seed(2)
    layers = (nn.Flatten(), nn.Linear(32, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, WIDTH))
    facts = {"name": "toy", "in_channels": 2, "no_classes": NO_CLASSES, "size": (4, 4), "class_names": ("a", "b", "c")}
    counts = {"mean": (0.5, 0.5), "std": (1.0, 1.0), "no_train": 60, "no_validation": 6, "no_test": 6}
    info = DatasetInfo(**facts, **counts, latents=columns, views=views)
    encoder = SplitEncoder(nn.Sequential(*layers), width=WIDTH, equi=equi)
    return construct_self_supervised(choices_of(row, *overrides), encoder, info).double()


def make_batch(no_views=2, no_latents=7):
    """Return pairs of images whose latents cover their ranges."""
    torch.manual_seed(5)
    images = torch.randn(NO_PAIRS, no_views, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    latents = torch.rand(NO_PAIRS, no_views, no_latents, dtype=torch.float64)
    latents[..., :3] = math.pi * (latents[..., :3] - 0.5)
    return Views(images, torch.arange(NO_PAIRS) % NO_CLASSES, torch.arange(NO_PAIRS), latents)


# --- The arithmetic -----------------------------------------------------------------------------------------------


def mse(a, b):
    return sum((p - q) ** 2 for p, q in zip(a.flatten(), b.flatten(), strict=True)) / a.numel()


def covariances(a):
    """Return the covariance of every two numbers, unbiased, as rows of scalars."""
    centred = [column - sum(column) / len(column) for column in a.unbind(1)]
    return [[(p * q).sum() / (len(a) - 1) for q in centred] for p in centred]


def hinge(a):
    """Return v(A), the mean hinge of a matrix."""
    deviations = [torch.sqrt(row[d] + 1e-4) for d, row in enumerate(covariances(a))]
    return sum(torch.clamp(1 - deviation, min=0) for deviation in deviations) / len(deviations)


def variance(x, y):
    return hinge(x) / 2 + hinge(y) / 2


def covariance(*matrices):
    total = 0.0
    for rows in map(covariances, matrices):
        total = total + sum(c**2 for i, row in enumerate(rows) for j, c in enumerate(row) if i != j) / len(rows)
    return total


def info_nce(a, b, temperature=TEMPERATURE):
    rows = [row / row.square().sum().sqrt() for row in (*a, *b)]
    losses = []
    for i, row in enumerate(rows):
        scores = [(row * other).sum() / temperature for other in rows]
        positive = scores[(i + len(a)) % len(rows)]
        losses.append(torch.stack([score for j, score in enumerate(scores) if j != i]).exp().sum().log() - positive)
    return sum(losses) / len(losses)


def hamilton(p, q):
    """Return the product of quaternions (x, y, z, w)."""
    (px, py, pz, pw), (qx, qy, qz, qw) = p.unbind(-1), q.unbind(-1)
    return torch.stack(
        [
            pw * qx + px * qw + py * qz - pz * qy,
            pw * qy - px * qz + py * qw + pz * qx,
            pw * qz + px * qy - py * qx + pz * qw,
            pw * qw - px * qx - py * qy - pz * qz,
        ],
        dim=-1,
    )


def pose(latents):
    """Return R_z R_y R_x as a quaternion: turns about the fixed x, then y, then z."""
    turns = []
    for axis in range(3):
        turn = torch.zeros(len(latents), 4, dtype=latents.dtype)
        turn[:, axis], turn[:, 3] = (latents[:, axis] / 2).sin(), (latents[:, axis] / 2).cos()
        turns.append(turn)
    return hamilton(turns[2], hamilton(turns[1], turns[0]))


def latent(batch, hues):
    """Return conj(q_x) q_y, and with `hues` the differences of floor and light."""
    x, y = batch.latents.unbind(1)
    q = hamilton(pose(x) * torch.tensor([-1, -1, -1, 1]), pose(y))
    return torch.cat([q, y[:, [3, 6]] - x[:, [3, 6]]], dim=1) if hues else q


# --- The table ----------------------------------------------------------------------------------------------------


class Parts:
    """What a formula is made of."""

    def __init__(self, objective, batch, hues):
        self.objective, self.g = objective, latent(batch, hues)
        self.h_x, self.h_y = (objective.model(view) for view in batch.images.unbind(1))

    @property
    def split(self):
        """x_i, x_e, y_i, y_e of methods with a projector for each part."""
        inv, cut = self.objective.projectors, WIDTH - EQUI
        return [p for h in (self.h_x, self.h_y) for p in (inv["z_inv"](h[:, :cut]), inv["z_equi"](h[:, cut:]))]

    @property
    def doubled(self):
        """The same of methods with two projectors of the whole."""
        both = self.objective.projectors
        return [p for h in (self.h_x, self.h_y) for p in (both["z_inv"](h), both["z_equi"](h))]

    @property
    def whole(self):
        """x and y of methods with one projector."""
        return [self.objective.projectors["z"](h) for h in (self.h_x, self.h_y)]

    def moved(self, z):
        return self.objective.predictor(z, self.g)


def sie(parts, predicted_variance=True):
    x_i, x_e, y_i, y_e = parts.split
    moved, x, y = parts.moved(x_e), torch.cat([x_i, x_e], dim=1), torch.cat([y_i, y_e], dim=1)
    loss = S * mse(x_i, y_i) + E * S * mse(moved, y_e) + V * variance(x, y) + C * covariance(x, y)
    return loss + V * hinge(moved) / 2 if predicted_variance else loss


def sie_no_variance(parts):
    return sie(parts, predicted_variance=False)


def sie_only_equivariant(parts):
    x, y = parts.whole
    moved = parts.moved(x)
    return S * mse(moved, y) + V * variance(x, y) + V * hinge(moved) / 2 + C * covariance(x, y)


def vicreg(parts):
    x, y = parts.whole
    return S * mse(x, y) + V * variance(x, y) + C * covariance(x, y)


def vicreg_part_invariant(parts):
    x, y = parts.whole
    kept = x.shape[1] - FREE
    return S * mse(x[:, :kept], y[:, :kept]) + V * variance(x, y) + C * covariance(x, y)


def vicreg_equimod(parts):
    x_i, x_e, y_i, y_e = parts.doubled
    invariant = S * mse(x_i, y_i) + V * variance(x_i, y_i) + C * covariance(x_i, y_i)
    return invariant + E * (S * mse(parts.moved(x_e), y_e) + V * variance(x_e, y_e) + C * covariance(x_e, y_e))


def simclr(parts):
    return info_nce(*parts.whole)


def simclr_augself(parts):
    both = torch.cat([parts.h_x, parts.h_y], dim=1)
    return simclr(parts) + EC * mse(parts.objective.regressor.layers(both), parts.g)


def simclr_equimod(parts, factor=E):
    x_i, x_e, y_i, y_e = parts.doubled
    return info_nce(x_i, y_i) + factor * info_nce(parts.moved(x_e), y_e)


def simclr_equimod_rotation_color(parts):
    return simclr_equimod(parts, factor=1.0)


def simclr_only_equivariant(parts):
    x, y = parts.whole
    return info_nce(parts.moved(x), y)


# Row, published name, whether it is told of hues, formula.
ROWS = [
    ("sie", "SIE", False, sie),
    ("sie_no_variance", "SIENoVar", False, sie_no_variance),
    ("sie_rotation_color", "SIERotColor", True, sie),
    ("sie_only_equivariant", "SIEOnlyEqui", False, sie_only_equivariant),
    ("vicreg", "VICReg", False, vicreg),
    ("vicreg_part_invariant", "VICRegPartInv", False, vicreg_part_invariant),
    ("vicreg_equimod", "VICRegEquiMod", False, vicreg_equimod),
    ("simclr", "SimCLR", False, simclr),
    ("simclr_augself", "SimCLRAugSelf", False, simclr_augself),
    ("simclr_augself_rotation_color", "SimCLRAugSelfRotColor", True, simclr_augself),
    ("simclr_equimod", "SimCLREquiMod", False, simclr_equimod),
    ("simclr_equimod_rotation_color", "SimCLREquiModRotColor", True, simclr_equimod_rotation_color),
    ("simclr_only_equivariant", "SimCLROnlyEqui", False, simclr_only_equivariant),
    ("simclr_only_equivariant_rotation_color", "SimCLROnlyEquiRotColor", True, simclr_only_equivariant),
]
SPLIT = {"SIE", "SIENoVar", "SIERotColor"}


def typed(row):
    """Return the overrides of a row: coefficients that are all different, and a predictor that is not the identity."""
    free = [f"train.projectors.z.equi={FREE}"] if row == "vicreg_part_invariant" else []
    return [*TYPED, "train.predictor.init=published", *free]


def gradients(loss, objective, images):
    named = dict(objective.named_parameters())
    found = torch.autograd.grad(loss, [images, *named.values()], allow_unused=True)
    return dict(zip(["images", *named], found, strict=True))


@pytest.mark.parametrize(("row", "name", "hues", "formula"), ROWS, ids=[row[1] for row in ROWS])
def test_a_row_is_its_published_formula(row, name, hues, formula):
    objective, batch = make_objective(row, *typed(row)), make_batch()
    assert objective.method.name == name and objective.split == (name in SPLIT)
    by_hand = copy.deepcopy(objective)
    step = objective(batch)
    expected = formula(Parts(by_hand, batch, hues))
    torch.testing.assert_close(step.loss, expected, rtol=1e-10, atol=1e-12)
    assert step.size == NO_PAIRS and step.extra is None
    ours, theirs = gradients(step.loss, objective, batch.images), gradients(expected, by_hand, batch.images)
    for key, gradient in theirs.items():
        assert gradient is not None and ours[key] is not None, f"{key} is not trained"
        torch.testing.assert_close(ours[key], gradient, rtol=1e-8, atol=1e-11, msg=key)
    assert (ours["images"].abs().amax(dim=(0, 2, 3, 4)) > 1e-6).all()  # both views have a say
    for key, buffer in by_hand.named_buffers():  # running statistics too: x passes every module before y
        torch.testing.assert_close(dict(objective.named_buffers())[key], buffer, msg=key)


@pytest.mark.parametrize(("row", "name"), [row[:2] for row in ROWS], ids=[row[1] for row in ROWS])
def test_a_row_has_the_published_parts(row, name):
    objective = make_objective(row, *typed(row))
    widths = {
        key: [(m.in_features, m.out_features) for m in projector if isinstance(m, nn.Linear)]
        for key, projector in objective.projectors.items()
    }
    whole = [(WIDTH, 10), (10, 14), (14, 12)]
    halves = {"z_inv": [(8, 7), (7, 9), (9, 8)], "z_equi": [(4, 3), (3, 5), (5, 4)]}  # of 10-14-12: 2/3 and 1/3
    doubled = {"z_inv": whole, "z_equi": whole}
    assert widths == (halves if name in SPLIT else doubled if "EquiMod" in name else {"z": whole})
    assert objective.has_predictor == any(word in name for word in ("SIE", "EquiMod", "OnlyEqui"))
    assert (objective.regressor is not None) == ("AugSelf" in name)
    no_latents = 6 if "RotColor" in name else 4
    assert objective.encoding.width == no_latents
    assert (objective.encoding.rotation, objective.encoding.frame, objective.encoding.hue) == (
        "quaternion",
        "body",
        "raw",
    )


def test_the_upper_reference_learns_classes_and_latents():
    objective, batch = make_objective("supervised", *TYPED), make_batch()
    parts = Parts(copy.deepcopy(objective), batch, hues=True)
    classes = 0.0
    for h in (parts.h_x, parts.h_y):
        logits = parts.objective.classifier(h)
        picked = torch.stack([row[label] for row, label in zip(logits, batch.labels, strict=True)])
        classes = classes + (logits.exp().sum(dim=1).log() - picked).mean() / 2
    both = torch.cat([parts.h_x, parts.h_y], dim=1)
    expected = classes + 10 * mse(parts.objective.regressor.layers(both), parts.g)
    torch.testing.assert_close(objective(batch).loss, expected, rtol=1e-10, atol=0)


def test_the_original_equimod_predicts_views_from_the_image_itself():
    columns, views = ("left", "top", "flip"), ("anchor", "x", "y")
    objective = make_objective("equimod", "train.mlp=10-14-12", "train.online=null", columns=columns, views=views)
    batch = make_batch(no_views=3, no_latents=3)
    copied = copy.deepcopy(objective)
    anchor, x, y = (copied.model(view) for view in batch.images.unbind(1))
    inv, equi = copied.projectors["z_inv"], copied.projectors["z_equi"]
    assert [type(layer).__name__ for layer in inv][-1] == "BatchNorm1d" and inv[0].bias is None and not inv[-1].affine
    expected, source = info_nce(inv(x), inv(y), temperature=0.5), equi(anchor)
    for index, h in ((1, x), (2, y)):
        predicted = copied.predictor(source, batch.latents[:, index])
        expected = expected + info_nce(predicted, equi(h), temperature=0.2) / 2
    step = objective(batch)
    torch.testing.assert_close(step.loss, expected, rtol=1e-10, atol=0)
    (gradient,) = torch.autograd.grad(step.loss, batch.images)
    assert (gradient.abs().amax(dim=(0, 2, 3, 4)) > 1e-6).all()  # the anchor has a say too


def test_metrics_are_the_unweighted_terms():
    objective, batch = make_objective("sie", *typed("sie")), make_batch()
    step = objective(batch)
    assert set(step.metrics) == {"invariance", "equivariance", "variance", "predicted_variance", "covariance"}
    assert not any(value.requires_grad for value in step.metrics.values())
    weights = {"invariance": S, "equivariance": E * S, "variance": V, "predicted_variance": V, "covariance": C}
    total = sum(weights[name] * value for name, value in step.metrics.items())
    torch.testing.assert_close(total, step.loss.detach())


def test_effective_weights_are_said_aloud():
    words = make_objective("sie").words()  # as configured: 10 x 0.45, not the 45 that two published numbers make
    assert "equivariance 4.5 " in words and "sim_coeff x equi_factor" in words
    assert "invariance 10" in words and "covariance 1" in words
    assert "equivariance 45" in make_objective("sie", "train.equi_factor=4.5").words()
    assert "equi_factor" not in make_objective("sie_only_equivariant", "train.equi_factor=4.5").words()


def test_probes_watch_and_change_nothing():
    seen = [override for override in typed("sie") if override != "train.online=null"]
    watched = make_objective("sie", *seen, "train.online.every=2")
    alone, batch = make_objective("sie", *typed("sie")), make_batch()
    alone.load_state_dict({key: value for key, value in watched.state_dict().items() if not key.startswith("online.")})
    step = watched(batch)
    torch.testing.assert_close(step.loss, alone(batch).loss)
    assert step.extra is not None and not any(
        value is not None and value.abs().max() > 0
        for key, value in gradients(step.extra, watched, batch.images).items()
        if not key.startswith("online.")
    )
    assert {"online/top1_representation", "online/mse_representation_equi"} <= set(step.metrics)
    watched.set_step(1)
    assert watched(batch).extra is None


# --- Mistakes -----------------------------------------------------------------------------------------------------

MISTAKES = [
    ("sie", ["train.terms.invariance.of=[x.z_inf,y.z_inv]"], r"'x.z_inf', which SIE has not.*did you mean 'x.z_inv'"),
    ("sie", ["train.terms.variance.of=[x.z_inv+w.z_equi]"], r"'w.z_equi', which SIE has not"),
    ("vicreg", ["train.terms.invariance.of=[y.predicted,y.z]"], r"'y.predicted', which VICReg has not"),
    ("vicreg", ["train.terms.invariance.of=[x.h_inv,y.h_inv]"], r"'x.h_inv', which VICReg has not"),
    ("sie", ["train.terms.covariance.term=covarience"], r"train.terms.covariance.term='covarience'.*mean 'covariance'"),
    ("sie", ["train.terms.covariance.weight=[cov_coef]"], r"'cov_coef' is not one of.*did you mean 'cov_coeff'"),
    ("sie", ["+train.terms.covariance.wieght=[1.0]"], r"train.terms.covariance.wieght.*did you mean 'weight'"),
    ("sie", ["train.projectors.z_inv.of=h_env"], r"'h_env' is not one of: h, h_inv, h_equi"),
    ("sie", ["train.predicted.of=z"], r"train.predicted.of='z' is not one of: z_inv, z_equi"),
    ("sie", ["train.predicted.source=z"], r"train.predicted.source='z' is not one of: x, y"),
    ("simclr", ["train.terms.invariance=null"], r"train.terms of SimCLR is empty"),
    ("vicreg_part_invariant", ["train.projectors.z.equi=12"], r"equi=12 leaves a part of the embedding empty"),
]


@pytest.mark.parametrize(("row", "overrides", "words"), MISTAKES, ids=[words for _, _, words in MISTAKES])
def test_a_mistake_in_a_row_is_one_sentence(row, overrides, words):
    with pytest.raises(UserError, match=words) as caught:
        make_objective(row, *typed(row), *overrides)
    said = str(caught.value)
    assert "\n" not in said and ". " not in said and not said.endswith(".")


def test_parts_need_an_encoder_with_parts():
    with pytest.raises(UserError, match=r"SIE needs an invariant and an equivariant part.*net.equi=6"):
        make_objective("sie", equi=0)
    make_objective("vicreg", "train.mlp=12-12-12", equi=0)
