"""Networks of specs without `conv.factorization` give the logits they gave before there was any."""

import pytest
import torch

from partial_equiv import build
from tests.nets.specs import D4, E2, GCNN, INTERVAL, PER_IMAGE, RANDOM, SUBSET, T2, make_spec
from tests.nets.test_invariance import AUGERINO
from tests.nets.test_pixel_nets import GCONVNET, GRESNET
from tests.nets.test_pixel_nets import spec_of as pixel_spec

EIGHT = {"base_group.no_samples": 8}
# Logits of networks of the same seed before there were factorisations, from specs without the key.
RECORDED = {
    "CKResNet": ([], [0.136479916, 0.2836021157, 0.1563959013, 0.5638533863, -0.032186009, 0.5697480391]),
    "CKResNet E2 interval": (
        [INTERVAL, E2],
        [1.1990476571, -0.3800153657, 0.4710399092, 0.9318512685, -0.2752733833, 0.573836002],
    ),
    "CKResNet D4 gates": (
        [SUBSET, D4],
        [0.8534601801, -0.3235876306, 0.2955139619, 0.6602047788, -0.2680444847, 0.2440854392],
    ),
    "CKResNet linear random": (
        [RANDOM, {"kernel.angle": "linear"}, EIGHT],
        [-0.387876632, 0.3360844743, 0.9912792669, -0.44284624, 0.3627969195, 1.2722258662],
    ),
    "CKResNet MLP": (
        [{"kernel.type": "MLP", "kernel.norm": "BatchNorm"}],
        [-4.542144277, -3.0073372811, 1.06251379, -4.4935679738, -2.6848529281, 1.3981505409],
    ),
    "CKResNet Gabor": (
        [{"kernel.type": "Gabor"}],
        [1.4824479344, 0.5980240929, 0.9627325574, 0.0791585445, -0.0742048621, -0.2194665074],
    ),
    "CKResNet Fourier": (
        [{"kernel.type": "Fourier"}],
        [1.3985514094, -0.0993313213, 1.1196280947, 1.6833304333, 0.6601893303, 0.6698600131],
    ),
    "CKResNet weight norm": (
        [{"kernel.weight_norm": True}],
        [0.1364799781, 0.2836021115, 0.1563959038, 0.563853388, -0.0321860293, 0.5697480406],
    ),
    "CKResNet T2": ([T2], [0.4970932746, 0.4262634227, 0.4835564431, 0.3531904577, 0.2854280227, 0.2366408219]),
    "GCNN per image": (
        [GCNN, PER_IMAGE],
        [0.3264612254, -0.1552547664, 0.305656669, 0.3405562808, -0.1536586013, 0.310752],
    ),
    "Augerino": ([AUGERINO], [0.1047652668, 0.2528103735, 0.1886341771, 0.3806260379, 0.1010545571, 0.4446409851]),
}


def waves(channels, side):
    line = torch.arange(2 * channels * side * side, dtype=torch.float64).reshape(2, channels, side, side)
    return torch.sin(line**1.1)


@pytest.mark.parametrize("name", RECORDED)
@torch.no_grad()
def test_full_networks_give_the_logits_they_gave(name):
    changes, expected = RECORDED[name]
    torch.manual_seed(3)
    found = build(make_spec(*changes)).double().eval()(waves(2, 12)).flatten()
    expected = torch.tensor(expected, dtype=torch.float64)
    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-5), (found - expected).abs().max()


@torch.no_grad()
def test_networks_of_exact_convolutions_give_the_logits_they_gave():
    torch.manual_seed(3)
    found = build(pixel_spec(GCONVNET, "C4", size=16)).double().eval()(waves(3, 16)).flatten()[:6]
    recorded = [-0.0139657062, -0.0777660508, 0.1343873268, 0.1192335026, 0.2622460843, 0.1427943119]
    assert torch.allclose(found, torch.tensor(recorded, dtype=torch.float64), rtol=1e-5, atol=1e-5)
    torch.manual_seed(3)
    spec = pixel_spec(GRESNET, "C4", size=17, split="gc")
    found = build(spec).double().eval()(waves(3, 17)).flatten()[:6]
    recorded = [-59.444060976, -20.0886363073, 72.6947344076, 21.2944718161, 68.9772904282, 69.2564055046]
    assert torch.allclose(found, torch.tensor(recorded, dtype=torch.float64), rtol=1e-5)
