"""What a network does with turned images, against direct calls and plain convolutions."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from partial_equiv.convs import GroupConv, LiftingConv, PointwiseConv
from partial_equiv.groups import make_group
from partial_equiv.kernels import SIREN
from partial_equiv.runs import rotation_probabilities
from partial_equiv.runs.responses import element_label, record_layers
from partial_equiv.sampling import GridSampler

MEAN, STD = (0.2,), (0.3,)


class Corner(nn.Module):
    """Logits: the mean of the image's upper left and upper right quarter, in training mode nonsense."""

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.ones(1))

    def forward(self, images):
        half = images.shape[-1] // 2
        quarters = [images[..., :half, :half], images[..., :half, half:]]
        logits = torch.stack([quarter.mean(dim=(1, 2, 3)) for quarter in quarters], dim=-1) * self.factor
        return logits * math.nan if self.training else logits


@pytest.fixture
def image():
    return torch.randint(0, 256, (1, 12, 12), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@pytest.mark.parametrize("quarter", [-2, -1, 0, 1, 2])
def test_right_turns_are_rot90_counter_clockwise(image, quarter):
    model = Corner().train()
    found = rotation_probabilities(model, image, [quarter * math.pi / 2], MEAN, STD)
    turned = torch.rot90(image.float() / 255, quarter, dims=(-2, -1))
    logits = Corner().eval()((turned[None] - 0.2) / 0.3)
    assert model.training
    assert not found.requires_grad
    torch.testing.assert_close(found, logits.softmax(dim=-1).detach(), atol=1e-5, rtol=0)


def test_many_angles_are_one_row_each(image):
    angles = [math.radians(degree) for degree in range(-180, 181, 2)]
    found = rotation_probabilities(Corner(), image, angles, MEAN, STD)
    assert found.shape == (181, 2)
    torch.testing.assert_close(found.sum(dim=-1), torch.ones(181))
    torch.testing.assert_close(found[77], rotation_probabilities(Corner(), image, [angles[77]], MEAN, STD)[0])


class Stack(nn.Module):
    """Lifting and group convolution of given width, and a shortcut."""

    def __init__(self, width, no_samples=8):
        super().__init__()
        group = make_group("E2")
        choices = {
            "size": 3,
            "group": group,
            "make_kernel": lambda i, o: SIREN(
                i, o, no_hidden=4, no_layers=2, omega0=5.0, learn_omega0=False, weight_norm=False
            ),
        }
        sampler = {"sampler": GridSampler(group=group, no_samples=no_samples)}
        self.lifting = LiftingConv(1, width, bias=False, **choices, **sampler)
        self.group = GroupConv(width, width, bias=False, no_samples=no_samples, **choices, sampler=None)
        del choices["size"]
        self.shortcut = PointwiseConv(width, width, no_samples=no_samples, **choices)
        self.batch_norm = nn.BatchNorm2d(1)

    def forward(self, images):
        f = self.lifting(self.batch_norm(images))
        self.shortcut(f, self.lifting.sampler())
        return self.group(f).values.mean(dim=(2, 3, 4))


def test_recorded_kernels_make_the_recorded_activations():
    model = Stack(width=1)
    images = torch.randn(3, 1, 9, 9)
    lifting, group = record_layers(model, images)
    assert (lifting.name, group.name) == ("lifting", "group")
    assert lifting.kernels.shape == (1, 8, 3, 3)
    assert group.kernels.shape == (8, 8, 3, 3)
    assert lifting.input_elements is None
    assert group.elements.shape == group.input_elements.shape == (8, 2)
    seen = model.eval().batch_norm(images)
    for g in range(8):
        expected = functional.conv2d(seen, lifting.kernels[:, g][None], padding=1)[:, 0]
        torch.testing.assert_close(lifting.activations[:, g], expected, atol=1e-5, rtol=1e-4)
        expected = functional.conv2d(lifting.activations, group.kernels[:, g][None], padding=1)[:, 0]
        torch.testing.assert_close(group.activations[:, g], expected, atol=1e-5, rtol=1e-4)


def test_the_most_active_channel_and_its_strongest_input_are_recorded():
    torch.manual_seed(0)
    model = Stack(width=3).eval()
    images = torch.randn(2, 1, 9, 9)
    seen = []
    model.group.kernel_hook.register_forward_hook(lambda _, __, weight: seen.append(weight.detach()))
    with torch.no_grad():
        values = model.group(model.lifting(model.batch_norm(images))).values
    spread = [float(values[:, o].var()) for o in range(3)]
    channel = spread.index(max(spread))
    record = record_layers(model, images)[1]
    torch.testing.assert_close(record.activations, values[:, channel])
    weight = seen[0].reshape(8, 3, 3, 8, 3, 3)  # G O I F V U
    strength = [float(weight[:, channel, i].square().sum()) for i in range(3)]
    expected = weight[:, channel, strength.index(max(strength))].transpose(0, 1)
    torch.testing.assert_close(record.kernels, expected)


def test_recording_leaves_no_trace():
    model = Stack(width=2)
    model.lifting.eval()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    record_layers(model, torch.randn(2, 1, 9, 9))
    assert model.training
    assert not model.lifting.training
    assert not any(module._forward_hooks for module in model.modules())
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    model.eval()(torch.randn(2, 1, 9, 9, requires_grad=True)).sum().backward()


@pytest.mark.parametrize(
    ("element", "text"),
    [
        ([], "identity"),
        ([0.0], "0°"),
        ([math.pi / 2], "90°"),
        ([3 * math.pi / 2, 1.0], "\N{MINUS SIGN}90°"),
        ([-1e-9, -1.0], "0° m"),
        ([math.radians(22.5), -1.0], "22.5° m"),
        ([math.radians(-22.54)], "\N{MINUS SIGN}22.5°"),
    ],
)
def test_elements_as_text(element, text):
    assert element_label(torch.tensor(element)) == text
