"""Networks with one fault each: the audit names the layer that breaks, and none of an unspoiled network."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from partial_equiv.audit import audit

EXACT = 1e-12


def symmetric(conv):
    """Average a filter over the eight moves of the square, written out."""
    with torch.no_grad():
        turns = [torch.rot90(w, k, dims=(-2, -1)) for w in (conv.weight, conv.weight.flip(-1)) for k in range(4)]
        total = torch.stack(turns).double().mean(dim=0)
        # The sum of eight is not the same in every order: give every tap that of its lowest corner.
        side = total.shape[-1]
        for y in range(side):
            for x in range(side):
                a, b = sorted((min(y, side - 1 - y), min(x, side - 1 - x)))
                total[..., y, x] = total[..., a, b]
        conv.weight.copy_(total)
    return conv


def conv(in_channels, out_channels, size=3, **keys):
    return symmetric(nn.Conv2d(in_channels, out_channels, size, **({"padding": size // 2} | keys)))


def norm(channels):
    layer = nn.BatchNorm2d(channels)
    layer.running_mean.normal_()
    layer.running_var.uniform_(0.5, 2)
    return layer


def stack(**changes):
    """Return a plain network, with parts exchanged or, where they are new, put in ahead of `conv3`."""
    parts = {
        "conv1": conv(3, 6),
        "norm1": norm(6),
        "relu1": nn.ReLU(inplace=True),
        "conv2": conv(6, 8, stride=2),
        "relu2": nn.ReLU(),
        "pool": nn.MaxPool2d(3, 2, 1),
        "conv3": conv(8, 8),
        "relu3": nn.ReLU(),
        "mean": nn.AdaptiveAvgPool2d(1),
        "flatten": nn.Flatten(),
        "head": nn.Linear(8, 5),
    }
    ahead = {}
    for name, part in parts.items():
        if name == "conv3":
            ahead |= {new: made for new, made in changes.items() if new not in parts}
        ahead[name] = changes.get(name, part)
    net = nn.Sequential()
    for name, part in ahead.items():
        net.add_module(name, part)
    return net


class Does(nn.Module):
    """A module that does what a function does."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Between(nn.Module):
    """A network whose own forward does something between its layers, and adds a shortcut in place."""

    def __init__(self, function, after=lambda y, x: y):
        super().__init__()
        self.function, self.last = function, after
        self.conv1, self.conv2, self.conv3 = conv(3, 4), conv(4, 4), conv(4, 6)
        self.relu, self.head = nn.ReLU(inplace=True), nn.Linear(6, 5)

    def forward(self, images):
        first = self.relu(self.conv1(images))
        second = self.conv2(first)
        second += first
        third = self.relu(self.conv3(self.function(self.relu(second))))
        return self.last(self.head(third.mean(dim=(-2, -1))), images)


class Tokens(nn.Module):
    """A small vision transformer; `table` holds its positions."""

    def __init__(self, table=None):
        super().__init__()
        self.patches = symmetric(nn.Conv2d(3, 8, 3, stride=3))
        self.mask = nn.Parameter(torch.randn(1, 1, 8))
        self.table = table
        self.norm, self.attention = nn.LayerNorm(8), nn.MultiheadAttention(8, 2, batch_first=True)
        self.mlp, self.head = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8)), nn.Linear(8, 5)

    def forward(self, x):
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.mask.expand(len(x), -1, -1), tokens], dim=1)
        tokens = self.norm(tokens if self.table is None else tokens + self.table)
        tokens = tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]
        return self.head((tokens + self.mlp(tokens))[:, 0])


class Lifting(nn.Module):
    """[B, I, Y, X] -> [B, O, 4, Y, X]: the filter turned four times."""

    def __init__(self, in_channels, out_channels, direction=1):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 3, 3) / 5)
        self.direction = direction

    def forward(self, x):
        turned = [torch.rot90(self.weight, self.direction * r, dims=(-2, -1)) for r in range(4)]
        return functional.conv2d(x, torch.stack(turned, 1).flatten(0, 1), padding=1).unflatten(1, (-1, 4))


class Regular(nn.Module):
    """[B, I, 4, Y, X] -> [B, O, 4, Y', X']: the filter turned and its element axis shifted."""

    def __init__(self, in_channels, out_channels, stride=1, shift=1):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 4, 3, 3) / 9)
        self.stride, self.shift = stride, shift

    def forward(self, x):
        turned = [torch.rot90(self.weight, r, dims=(-2, -1)).roll(self.shift * r, 2) for r in range(4)]
        bank = torch.stack(turned, 1).flatten(0, 1).flatten(1, 2)
        return functional.conv2d(x.flatten(1, 2), bank, padding=1, stride=self.stride).unflatten(1, (-1, 4))


class GNet(nn.Module):
    """A P4 network, its elements pooled at the end."""

    def __init__(self, stride=2, direction=1, shift=1, pool=lambda f: f.amax(dim=2), per_element=False):
        super().__init__()
        self.lifting, self.norm = Lifting(3, 3, direction), nn.BatchNorm3d(3)
        self.scale = nn.Parameter(torch.rand(4, 1, 1) + 0.5) if per_element else 1.0
        self.relu = nn.ReLU(inplace=True)
        self.conv = Regular(3, 4, stride, shift)
        self.pool, self.head = Does(pool), nn.Linear(4 if pool(torch.zeros(1, 4, 4, 1, 1)).shape[1] == 4 else 16, 5)

    def forward(self, x):
        f = self.conv(self.relu(self.norm(self.lifting(x)) * self.scale))
        return self.head(self.pool(f).mean(dim=(-2, -1)))


def coordinates(x):
    line = torch.linspace(-1, 1, x.shape[-1], dtype=x.dtype).expand(len(x), 1, x.shape[-2], -1)
    return torch.cat([x[:, :-1], line], dim=1)


def corner(x):
    x[..., 0, 0] = 0
    return x


def blur(taps):
    line = torch.tensor(taps, dtype=torch.float64)
    weight = torch.outer(line, line) / line.sum() ** 2

    def pool(x):
        return functional.conv2d(x, weight.to(x).expand(x.shape[1], 1, -1, -1), stride=2, padding=1, groups=x.shape[1])

    return pool


def positions(*shape):
    return nn.Parameter(torch.randn(1, *shape))


def scaled(layer):
    nn.init.uniform_(layer.weight, 0.5, 2)
    return layer


def add(shape):
    table = torch.randn(shape)
    return Does(lambda x: x + table.to(x))


# Name -> (network, side of the input): nothing to find.
UNSPOILED = {
    "stack": (stack, 17),
    "shortcut": (lambda: Between(lambda x: x), 12),
    "even pool on an even map": (lambda: Between(lambda x: functional.max_pool2d(x, 2)), 12),
    "strided crop that is centred": (lambda: Between(lambda x: x[..., ::2, ::2]), 13),
    "bicubic resize": (lambda: stack(grow=nn.Upsample(size=(11, 11), mode="bicubic")), 17),
    "transposed convolution": (lambda: stack(up=symmetric(nn.ConvTranspose2d(8, 8, 3, stride=2, padding=1))), 17),
    "even filter of stride 2": (lambda: stack(conv2=conv(6, 8, 4, stride=2, padding=1), pool=nn.MaxPool2d(2)), 16),
    "four-tap blur": (lambda: Between(blur([1.0, 3, 3, 1])), 12),
    "reflected border": (lambda: stack(conv1=conv(3, 6, padding_mode="reflect")), 17),
    "squeeze and excitation": (lambda: Between(lambda x: x * x.mean((-2, -1), keepdim=True).sigmoid()), 12),
    "tokens": (Tokens, 12),
    "regular fields": (GNet, 13),
    "dropout in evaluation": (lambda: stack(drop=nn.Dropout2d(0.5)), 17),
}
# Name -> (network, side of the input, the layer that breaks).
FAULTS = {
    "wrong size at a stride": (lambda: stack(pool=nn.MaxPool2d(2)), 16, "conv2"),
    "wrong size at a pool": (lambda: stack(pool=nn.MaxPool2d(2)), 17, "pool"),
    "pool that rounds up": (lambda: stack(pool=nn.MaxPool2d(2, ceil_mode=True)), 17, "pool"),
    "asymmetric padding": (lambda: stack(pad=nn.ZeroPad2d((1, 0, 1, 0))), 17, "pad"),
    "even filter, padded the same": (lambda: stack(conv3=conv(8, 8, 2, padding="same")), 17, "conv3"),
    "three-tap blur": (lambda: Between(blur([1.0, 2, 1])), 12, "before conv3"),
    "flattened map": (lambda: stack(mean=nn.Identity(), head=nn.Linear(8 * 25, 5)), 17, "flatten"),
    "bias for each pixel": (lambda: stack(bias=add((8, 5, 5))), 17, "bias"),
    "norm with a scale for each pixel": (lambda: stack(norm1=scaled(nn.LayerNorm([6, 17, 17]))), 17, "norm1"),
    "rolled map": (lambda: Between(lambda x: x.roll(1, -1)), 12, "before conv3"),
    "coordinate channel": (lambda: stack(coordinates=Does(coordinates)), 17, "coordinates"),
    "nearest resize": (lambda: stack(grow=nn.Upsample(size=(8, 8), mode="nearest")), 17, "grow"),
    "output padding": (
        lambda: stack(up=symmetric(nn.ConvTranspose2d(8, 8, 3, stride=2, padding=1, output_padding=1))),
        17,
        "up",
    ),
    "one filter that is not symmetric": (lambda: stack(conv3=nn.Conv2d(8, 8, 3, padding=1)), 17, "conv3"),
    "functional pool": (lambda: Between(lambda x: functional.max_pool2d(x, 2)), 13, "before conv3"),
    "crop off the centre": (lambda: Between(lambda x: x[..., 1:, 1:]), 12, "before conv3"),
    "strided crop": (lambda: Between(lambda x: x[..., ::2, ::2]), 12, "before conv3"),
    "a corner overwritten": (lambda: Between(corner), 12, "before conv3"),
    "space to depth": (lambda: stack(fold=nn.PixelUnshuffle(2), conv3=conv(32, 8)), 13, "fold"),
    "pixels added to the logits": (lambda: Between(lambda x: x, lambda y, x: y + x[:, 0, 0, :5]), 12, "output"),
    "table of positions": (lambda: Tokens(positions(17, 8)), 12, "before norm"),
    "elements turned the wrong way": (lambda: GNet(direction=-1), 13, "lifting"),
    "elements shifted the wrong way": (lambda: GNet(shift=-1), 13, "conv"),
    "a stride at the wrong size": (GNet, 12, "conv"),
    "elements flattened": (lambda: GNet(pool=lambda f: f.flatten(1, 2)), 13, "pool"),
    "a scale for each element": (lambda: GNet(per_element=True), 13, "before relu"),
    "one element picked": (lambda: GNet(pool=lambda f: f[:, :, 0]), 13, "pool"),
}


def found(make, side, group="C4"):
    torch.manual_seed(1)
    model = make().eval()
    return audit(model, torch.randn(3, 3, side, side), group)


@pytest.mark.parametrize("name", UNSPOILED)
def test_nothing_is_found_in_an_unspoiled_network(name):
    report = found(*UNSPOILED[name])
    assert report.culprits == ()
    assert max(row.local for row in report.rows) <= EXACT
    assert report.error <= EXACT


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("name", FAULTS)
def test_the_layer_that_breaks_is_named(name):
    make, side, culprit = FAULTS[name]
    report = found(make, side)
    assert report.first_culprit is not None, report.table()
    assert report.first_culprit.name == culprit, report.table()
    assert report.error > 1e-4


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("name", FAULTS)
def test_no_other_layer_is_blamed(name):
    """One fault, one culprit: what a layer inherits is not its own."""
    make, side, culprit = FAULTS[name]
    report = found(make, side)
    others = [row for row in report.rows if row.name != culprit]
    assert max(row.local or 0.0 for row in others) <= EXACT, report.table()


@pytest.mark.parametrize("name", ["stack", "shortcut", "bicubic resize", "tokens"])
def test_symmetric_networks_pass_with_mirrors_too(name):
    report = found(*UNSPOILED[name], group="D4")
    assert report.culprits == ()
    assert report.error <= EXACT


def test_a_p4_network_breaks_under_mirrors_where_it_lifts():
    report = found(GNet, 13, group="D4")
    lifting = next(row for row in report.rows if row.name == "lifting")
    assert lifting.errors["local"]["90°"] <= EXACT
    assert lifting.errors["local"]["mirror"] is None and "does not carry" in lifting.reason
    assert report.error > 0.01
