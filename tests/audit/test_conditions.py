"""The conditions on one axis, against torch's own layers on noise, closed forms, and counting."""

import itertools
import math
import random
from fractions import Fraction

import pytest
import torch
from torch import nn
from torch.nn import functional

from partial_equiv.audit import check_exactness
from partial_equiv.audit.conditions import overhang, phase, repairs, resize_offset, same_pixels, solve, span
from tests.audit.mirrors import BROKEN, breaks, error, mirrored, noise, symmetrised

GRIDS = list(itertools.product((1, 2, 3, 4, 5), (1, 2, 3), (0, 1, 2), (1, 2), range(5, 14)))


def line(size, seed=0):
    return torch.randn(4, 1, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def commutes(layer, x):
    """Return whether reading backwards before and after are the same, to rounding."""
    y = layer(x)
    return torch.allclose(layer(x.flip(-1)), y.flip(-1), rtol=0, atol=1e-12 * float(y.abs().max()))


def test_a_convolution_commutes_with_reversal_iff_its_grid_is_centred():
    seen = {True: 0, False: 0}
    for k, s, p, d, i in GRIDS:
        o = (i + 2 * p - span(k, d)) // s + 1
        if o < 1:
            continue
        weight = line(k, seed=k)[:1]
        weight = weight + weight.flip(-1)
        exact = overhang(i, span(k, d), s, p, o) == 0
        found = commutes(lambda x, w=weight, s=s, p=p, d=d: functional.conv1d(x, w, None, s, p, d), line(i))
        held = [{j * s - p + t * d for t in range(k)} & set(range(i)) for j in range(o)]
        if not all(held):  # such a window holds no pixel that could tell one end from the other
            assert found or not exact
            continue
        assert found == exact == ((i + 2 * p - span(k, d)) % s == 0), (k, s, p, d, i)
        seen[exact] += 1
    assert min(seen.values()) > 200


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize("counted", [None, False, True])
def test_a_pooling_commutes_with_reversal_iff_its_windows_hold_mirrored_pixels(ceil, counted):
    """A maximum (None), a mean of pixels (False), a mean that counts the padding (True)."""
    seen = {True: 0, False: 0}
    for k, s, p, d, i in GRIDS:
        if p > k // 2 or (counted is not None and d > 1) or i + 2 * p < span(k, d):
            continue
        if counted is None:
            layer = nn.MaxPool1d(k, s, p, d, ceil_mode=ceil)
        else:
            layer = nn.AvgPool1d(k, s, p, ceil_mode=ceil, count_include_pad=counted)
        x = line(i)
        o = layer(x).shape[-1]
        exact = same_pixels(i, k, s, p, o, d, counted=bool(counted))
        assert commutes(layer, x) == exact, (k, s, p, d, i)
        assert exact or overhang(i, span(k, d), s, p, o) != 0
        seen[exact] += 1
    assert min(seen.values()) > 100


def test_the_phase_is_the_shift_between_two_polyphase_components():
    """Spec 4.2: a filter of three at stride 2 sees the odd pixels of an even image turned, the even ones upright."""
    weight = torch.tensor([[[0.3, 1.0, 0.3]]], dtype=torch.float64)
    x = line(12)
    excess = overhang(12, 3, 2, 1, 6)
    dense = functional.conv1d(x, weight, padding=1)
    turned = functional.conv1d(x.flip(-1), weight, stride=2, padding=1)
    assert phase(excess, 2) == 1
    assert torch.allclose(turned, dense[..., phase(excess, 2) :: 2].flip(-1), rtol=0, atol=1e-14)


def test_a_transposed_convolution_commutes_iff_it_has_no_output_padding():
    weight = line(3)[:1] + line(3)[:1].flip(-1)
    for s, p, extra, i in itertools.product((2, 3), (0, 1), (0, 1), (4, 7)):
        layer = nn.ConvTranspose2d(1, 1, 3, s, p, output_padding=extra)
        found = commutes(lambda x, s=s, p=p, e=extra: functional.conv_transpose1d(x, weight, None, s, p, e), line(i))
        assert found == (extra == 0) == check_exactness(layer, i, "D2", in_channels=1).exact


def test_padding_and_stride_count_together():
    """Padding (left, right), then a layer: exact iff (o - 1) s + k' = i + 2 left."""
    rng = random.Random(0)
    seen = {True: 0, False: 0}
    for _ in range(300):
        left, right, k, s, p = (rng.choice(c) for c in ((0, 1, 2), (0, 1, 2), (1, 2, 3, 4), (1, 2, 3), (0, 1)))
        size = rng.randint(6, 14)
        layer = nn.Conv2d(3, 3, k, s, p)
        model = nn.Sequential(nn.ZeroPad2d((left, right, 0, 0)), layer)
        report = check_exactness(model, (size, size), "flip_w")
        o = (size + left + right + 2 * p - k) // s + 1
        assert report.exact == ((o - 1) * s + k == size + 2 * (left + p)), report.table()
        assert report.exact == (breaks(symmetrised(model), noise(size), "W") is False), report.table()
        seen[report.exact] += 1
    assert min(seen.values()) > 50


SIZES = list(itertools.product(range(2, 15), range(1, 21)))


def test_resizes_to_a_size_are_exact_unless_they_round():
    for i, o in SIZES:
        for mode in ("linear", "cubic", "linear_aa", "cubic_aa"):
            assert resize_offset(mode, i, o) == 0.0, (mode, i, o)
        assert (resize_offset("linear", i, o, align=True) == 0.0) == (o > 1)  # one sample lies in the corner
        picked = [j * i // o for j in range(o)]
        assert (resize_offset("nearest", i, o) == 0.0) == (picked == [i - 1 - n for n in reversed(picked)]), (i, o)
        tie = any((2 * j + 1) * i % (2 * o) == 0 for j in range(o))
        assert (resize_offset("nearest_exact", i, o) == 0.0) == (not tie), (i, o)


def test_nearest_is_exact_for_whole_factors_up_and_almost_never_else():
    exact = {(i, o) for i, o in SIZES if resize_offset("nearest", i, o) == 0.0}
    assert {(i, o) for i, o in SIZES if o % i == 0} <= exact
    assert all(o >= i for i, o in exact)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_a_scale_is_exact_iff_it_makes_a_whole_number_of_pixels(mode):
    for size, scale in itertools.product((8, 9, 10, 11), (0.5, 0.7, 1.5, 2.0, 2.25)):
        model = nn.Upsample(scale_factor=scale, mode=mode)
        exact = check_exactness(model, size, "C2").exact
        assert exact == (breaks(model, noise(size), "H") is False) == (size * scale == int(size * scale)), (size, scale)


def test_the_offset_of_a_resize_is_where_its_samples_lie():
    """Scale 0.7 on 8 pixels samples at (j + 1/2) / 0.7 - 1/2 for j = 0..4: 8 - 5 / 0.7 pixels off."""
    assert resize_offset("linear", 8, 5, scale=0.7) == pytest.approx(8 - 5 / 0.7)
    assert resize_offset("nearest", 12, 6) == pytest.approx(1.0)
    assert resize_offset("nearest_exact", 4, 2) == pytest.approx(-1.0)


def test_congruences_are_solved_as_counting_does():
    rng = random.Random(0)
    for _ in range(300):
        lines = [
            (
                Fraction(rng.randint(1, 3), rng.choice((1, 2, 3, 4, 8))),
                Fraction(rng.randint(-9, 9), rng.choice((1, 2, 4))),
            )
            for _ in range(rng.randint(1, 3))
        ]
        whole = {i for i in range(1, 200) if all((a * (i - 1) + b).denominator == 1 for a, b in lines)}
        found = solve(lines)
        assert whole == (set() if found is None else {i for i in range(1, 200) if i % found[1] == found[0]}), lines


def test_the_congruence_of_a_chain_is_the_sum_over_its_layers():
    """Spec 4.3: (i - 1) = sum of (k' - 1 - 2 p) S over the layers, mod S; and it guarantees every layer."""
    rng = random.Random(0)
    for seed in range(15):
        layers = [(rng.choice((2, 3, 4, 5)), rng.choice((1, 2, 3)), rng.choice((0, 1, 2))) for _ in range(3)]
        torch.manual_seed(seed)
        chain = nn.Sequential(*(nn.Conv2d(1, 1, k, s, p) for k, s, p in layers))
        strides = [math.prod(s for _, s, _ in layers[:n]) for n in range(len(layers) + 1)]
        total = sum((k - 1 - 2 * p) * stride for (k, _, p), stride in zip(layers, strides, strict=False))
        report = check_exactness(chain, 60, "C4", in_channels=1)
        assert report.modulus == ((total + 1) % strides[-1], strides[-1])
        assert report.exact == ((60 - 1 - total) % strides[-1] == 0)


BLUR = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float64) / 8


def blur(x, taps=BLUR):
    """Blur with stride 2 and padding 1, channel by channel."""
    weight = (taps[:, None] * taps[None, :]).expand(x.shape[1], 1, -1, -1)
    return functional.conv2d(x, weight, stride=2, padding=1, groups=x.shape[1])


def repaired(code, kernel, padding, pool):
    """Return the layer that a code of a repair stands for, its filters symmetric."""
    if code.startswith("k"):
        k, s, p = map(int, code[1:].replace("s", " ").replace("p", " ").split())
        return nn.MaxPool2d(k, s, p) if pool else symmetrised(nn.Conv2d(3, 3, k, s, p))
    dense = nn.Identity() if pool else symmetrised(nn.Conv2d(3, 3, kernel, 1, padding))
    if code == "blur4":
        return lambda x: blur(dense(x))
    return nn.Sequential(dense, nn.AvgPool2d(int(code.removeprefix("pool"))))


@pytest.mark.parametrize("pool", [False, True])
def test_each_repair_is_exact_at_its_size_and_keeps_the_size_of_the_result(pool):
    offered = set()
    for k, s, p, i in itertools.product((1, 3, 5), (2, 3, 4), (0, 1, 2), (15, 16, 17, 18)):
        o = (i + 2 * p - k) // s + 1
        if p > k // 2 or overhang(i, k, s, p, o) == 0:
            continue
        for code in repairs(i, k, s, p, o, pool):
            layer, x = repaired(code, k, p, pool), noise(i)
            assert tuple(layer(x).shape[2:]) == (o, o), (code, k, s, p, i)
            assert error(layer, x, lambda t: mirrored(t, "W")) < BROKEN, (code, k, s, p, i)
            offered.add(code)
    assert {"k4s2p1", "pool2", "pool3"} <= offered and ("blur4" in offered) != pool


def test_a_blur_of_three_taps_would_not_mend_it():
    x = noise(32)
    dense = symmetrised(nn.Conv2d(3, 3, 3, 1, 1))
    taps = torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64) / 4
    assert error(lambda x: blur(dense(x), taps), x, lambda t: mirrored(t, "W")) > 0.1
    assert error(lambda x: blur(dense(x)), x, lambda t: mirrored(t, "W")) < BROKEN
