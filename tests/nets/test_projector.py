"""Projectors: published layers, widths read from a text, and shares of them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from partial_equiv import UserError
from partial_equiv.nets import make_projector, parse_widths, scaled


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_published_projectors_have_their_parameters():
    whole, half = make_projector(512, [2048] * 3), make_projector(256, [1024] * 3)
    assert count(whole) == (512 * 2048 + 2048) + 2 * 2048 + (2048**2 + 2048) + 2 * 2048 + 2048**2  # 9.45 million
    assert count(half) == (256 * 1024 + 1024) + 2 * 1024 + (1024**2 + 1024) + 2 * 1024 + 1024**2  # 2.37 million
    assert round(count(whole) / 1e6, 2) == 9.45 and round(count(half) / 1e6, 2) == 2.37


def test_it_equals_its_equation_written_out():
    projector = make_projector(5, [7, 6, 4]).double()
    for parameter in projector.parameters():
        nn.init.normal_(parameter)
    h = torch.randn(9, 5, dtype=torch.float64)
    state = dict(projector.named_parameters())
    x = h
    for linear, norm in (("0", "1"), ("3", "4")):
        x = x @ state[f"{linear}.weight"].T + state[f"{linear}.bias"]
        x = (x - x.mean(dim=0)) / torch.sqrt(x.var(dim=0, unbiased=False) + 1e-5)
        x = (x * state[f"{norm}.weight"] + state[f"{norm}.bias"]).clamp(min=0)
    torch.testing.assert_close(projector(h), x @ state["6.weight"].T)
    assert "6.bias" not in state and len(state) == 9


def test_lightly_has_the_same_head_up_to_its_biases():
    heads = pytest.importorskip("lightly.models.modules.heads")
    ours, theirs = make_projector(6, [8, 8, 5], last_bias=True), heads.VICRegProjectionHead(6, 8, 5, num_layers=3)
    assert [type(layer) for layer in ours] == [type(layer) for layer in theirs.layers]
    loaded = ours.load_state_dict(theirs.layers.state_dict(), strict=False)
    assert loaded.missing_keys == ["0.bias", "3.bias"] and not loaded.unexpected_keys
    h = torch.randn(10, 6)
    torch.testing.assert_close(ours(h), theirs(h))  # before a batch norm a bias changes nothing


def test_one_width_is_one_linear_map():
    assert [type(layer) for layer in make_projector(4, [3])] == [nn.Linear]
    assert count(make_projector(4, [3])) == 12 and count(make_projector(4, [3], last_bias=True)) == 15


def test_the_plain_form_has_no_biases_and_normalises_the_embedding():
    projector = make_projector(512, [2048, 2048, 128], plain=True)
    assert count(projector) == 512 * 2048 + 2048**2 + 2048 * 128 + 4 * 2048
    small = make_projector(6, [8, 5], plain=True)
    assert [type(layer) for layer in small] == [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear, nn.BatchNorm1d]
    z = small(torch.randn(400, 6))
    torch.testing.assert_close(z.mean(dim=0), torch.zeros(5), atol=1e-5, rtol=0)
    torch.testing.assert_close(z.var(dim=0, unbiased=False), torch.ones(5), atol=1e-2, rtol=0)


@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=5))
def test_widths_come_back_from_their_text(widths):
    assert parse_widths("-".join(map(str, widths))) == widths
    assert parse_widths(widths[0]) == widths[:1]


@pytest.mark.parametrize(
    "text", ["2048-x", "", "-", "128-", "-128", "128--128", "128-0", 0, -5, True, "1.5", "²", None]
)
def test_other_texts_are_told(text):
    with pytest.raises(UserError, match="train.mlp=.* is no list of widths"):
        parse_widths(text)


def test_widths_are_shared_and_rounded():
    assert scaled([2048, 2048, 2048], 256 / 512) == [1024] * 3
    assert scaled([128, 100, 7], 48 / 128) == [48, 38, 3]
    assert scaled([5, 6], 1) == [5, 6]
    with pytest.raises(UserError, match=r"train.mlp=128-4 leaves no width .* net.equi"):
        scaled([128, 4], 0.1)
