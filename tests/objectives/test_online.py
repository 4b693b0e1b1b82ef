"""Online probes: which heads there are, what they cost and score by hand, and that nothing behind them moves."""

import pytest
import torch
from sklearn.metrics import r2_score
from torch import nn
from torch.nn import functional

from partial_equiv.objectives.online import OnlineProbes

WIDTHS = {"representation": 6, "representation_inv": 4, "representation_equi": 2, "embedding": 5}


def views(widths=WIDTHS, size=7, dtype=torch.float32):
    return {name: tuple(torch.randn(size, width, dtype=dtype) for _ in range(2)) for name, width in widths.items()}


def targets(size=7):
    return torch.arange(size) % 3, functional.normalize(torch.randn(size, 4), dim=-1)


def layers(head):
    return [tuple(layer.weight.shape) for layer in head if isinstance(layer, nn.Linear)]


def test_a_name_says_which_heads_a_source_has():
    probes = OnlineProbes(WIDTHS, no_classes=3, no_targets=4)
    assert {name: tuple(head.weight.shape) for name, head in probes.classes.items()} == {
        "representation": (3, 6),
        "representation_inv": (3, 4),
        "embedding": (3, 5),
    }
    assert {name: layers(head) for name, head in probes.turns.items()} == {
        "representation": [(12, 12), (12, 12), (4, 12)],
        "representation_equi": [(4, 4), (4, 4), (4, 4)],
        "embedding": [(10, 10), (10, 10), (4, 10)],
    }


def test_losses_and_scores_are_those_computed_by_hand():
    probes = OnlineProbes(WIDTHS, no_classes=3, no_targets=4)
    features, (labels, target) = views(), targets()
    loss, metrics = probes(features, labels, target)
    total = 0.0
    for name, head in probes.classes.items():
        x, y = (view @ head.weight.T + head.bias for view in features[name])
        entropies = [-torch.log_softmax(view, dim=-1)[torch.arange(7), labels].mean() for view in (x, y)]
        total += sum(entropies) / 2
        hits = sum(float((view.argmax(dim=-1) == labels).sum()) for view in (x, y))
        assert float(metrics[f"online_top1_{name}"]) == pytest.approx(hits / 14)
    for name, head in probes.turns.items():
        hidden = torch.cat(features[name], dim=-1)
        for layer in (head[0], head[2]):
            hidden = (hidden @ layer.weight.T + layer.bias).clamp_min(0)
        error = (hidden @ head[4].weight.T + head[4].bias - target).square().mean()
        total += error
        torch.testing.assert_close(metrics[f"online_mse_{name}"], error.detach())
    torch.testing.assert_close(loss, total)
    assert len(metrics) == 6 and not any(value.requires_grad for value in metrics.values())


def test_an_honest_r2_follows_from_the_error():
    probes = OnlineProbes({"h": 3}, no_classes=0, no_targets=4)
    features, (labels, target) = views({"h": 3}, 40), targets(40)
    _, metrics = probes(features, labels, target)
    guess = probes.turns["h"](torch.cat(features["h"], dim=-1)).detach()
    honest = r2_score(target, guess, multioutput="variance_weighted")
    derived = 1 - float(metrics["online_mse_h"] / target.var(dim=0, correction=0).mean())
    assert derived == pytest.approx(honest, rel=1e-4)


def test_features_are_never_touched():
    probes = OnlineProbes({"h": 3}, no_classes=3, no_targets=4)
    encoder = nn.Linear(5, 3)
    x, y = encoder(torch.randn(7, 5)), encoder(torch.randn(7, 5))
    loss, _ = probes({"h": (x, y)}, *targets())
    loss.backward()
    assert encoder.weight.grad is None and encoder.bias.grad is None
    assert all(parameter.grad is not None for parameter in probes.parameters())


@pytest.mark.parametrize("no_classes", [0, 3])
def test_without_labels_or_rotations_there_are_fewer_heads(no_classes):
    probes = OnlineProbes(WIDTHS, no_classes=no_classes, no_targets=0)
    labels, _ = targets()
    loss, metrics = probes(views(), labels, None)
    assert set(metrics) == {f"online_top1_{name}" for name in WIDTHS if no_classes and not name.endswith("_equi")}
    assert loss.ndim == 0 and loss.requires_grad == bool(no_classes)


def test_half_precision_stays_outside():
    probes = OnlineProbes(WIDTHS, no_classes=3, no_targets=4)
    narrow = {name: tuple(view.bfloat16() for view in pair) for name, pair in views().items()}
    wide = {name: tuple(view.float() for view in pair) for name, pair in narrow.items()}
    labels, target = targets()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, metrics = probes(narrow, labels, target)
    expected, _ = probes(wide, labels, target)
    assert loss.dtype == torch.float32 and torch.equal(loss, expected)
    assert {value.dtype for value in metrics.values()} == {torch.float32}


def test_they_learn_what_is_there():
    probes = OnlineProbes({"h": 7}, no_classes=3, no_targets=4)
    optimizer = torch.optim.Adam(probes.parameters(), lr=0.02)
    for _ in range(150):
        labels, target = targets(60)
        x = torch.cat([functional.one_hot(labels, 3), torch.zeros(60, 4)], dim=1)
        y = torch.cat([functional.one_hot(labels, 3), target], dim=1)
        loss, metrics = probes({"h": (x, y)}, labels, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(metrics["online_top1_h"]) == 1
    assert float(metrics["online_mse_h"]) < 0.25 * 0.1  # against 1/4 for the answer 0
