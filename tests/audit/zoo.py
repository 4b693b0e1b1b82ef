"""Small networks, one for each thing that a planner must see: name -> (maker, verdict for H, W and their exchange)."""

import torch
from torch import nn
from torch.nn import functional

Y, N, U = True, False, None  # exact, broken, unknown to the planner
EXACT, BROKEN, UNKNOWN = (Y, Y, Y), (N, N, Y), (U, U, Y)


class Apply(nn.Module):
    """A function of the image and of some modules, called as a network calls it."""

    def __init__(self, function, **modules):
        super().__init__()
        self.function = function
        for name, value in modules.items():
            setattr(self, name, value)

    def forward(self, x):
        return self.function(self, x)


def conv(no_in=3, no_out=4, kernel=3, stride=1, padding=1, **more):
    return nn.Conv2d(no_in, no_out, kernel, stride, padding, **more)


def then(function, **modules):
    """A convolution, then a function of its map."""
    return lambda: Apply(lambda m, x: function(m, m.stem(x)), stem=conv(), **modules)


def tokens(x):
    return x.flatten(2).transpose(1, 2)


def attend(m, t):
    return m.attention(t, t, t, need_weights=False)[0]


def class_token(m, x):
    t = torch.cat([m.token.expand(x.shape[0], -1, -1), tokens(x)], 1)
    return attend(m, t)[:, 0]


def windows(x, side):
    b, c, h, w = x.shape
    parts = x.view(b, c, h // side, side, w // side, side).permute(0, 2, 4, 3, 5, 1)
    return parts.reshape(-1, side * side, c)


def unwindows(t, side, shape):
    b, c, h, w = shape
    return t.view(b, h // side, w // side, side, side, c).permute(0, 5, 1, 3, 2, 4).reshape(b, c, h, w)


def window_attention(m, x):
    return unwindows(attend(m, windows(x, 4)), 4, x.shape)


def shift_channels(m, x):
    out = torch.zeros_like(x)
    out[:, :2] = x[:, 2:]
    out[:, 2:] = x[:, :2]
    return out


def write_channels(m, x):
    x = x.clone()
    x[:, 1] *= 2
    x[:, 2:].relu_()
    return x


def squeeze_excite(m, x):
    gate = torch.sigmoid(m.fc(x.mean((2, 3))))[:, :, None, None]
    return x * gate.expand_as(x)


def dynamic_filters(m, x):
    weight = m.fc(x.mean((2, 3))).mean(0).view(4, 4, 1, 1)
    return functional.conv2d(x, weight)


def spatial_softmax(m, x):
    return (x.flatten(2).softmax(-1) * x.flatten(2)).sum(-1)


def gram(m, x):
    f = x.flatten(2)
    return torch.bmm(f, f.transpose(1, 2)).flatten(1)


def codes(m, x):
    distance = (x.unsqueeze(1) - m.book.weight[None, :, :, None, None]).pow(2).sum(2)
    return m.book(distance.argmin(1)).permute(0, 3, 1, 2) * 1.0 + x


def unet(m, x):
    low = functional.max_pool2d(m.one(x), 2)
    return m.two(torch.cat([m.up(low), x], 1))


def coordinates(m, x):
    h, w = x.shape[-2:]
    grid = torch.stack(torch.meshgrid(torch.linspace(-1, 1, h), torch.linspace(-1, 1, w), indexing="ij"))
    return m.conv(torch.cat([x, grid.to(x).expand(x.shape[0], -1, -1, -1)], 1))


def no_table(m, x):
    return x + x.new_ones(x.shape[-2:]) * 3 + torch.zeros(1, 1, *x.shape[-2:])


def lens(m, x, squash=1.0):
    h, w = x.shape[-2:]
    rows, columns = torch.linspace(-1, 1, h, device=x.device), torch.linspace(-1, 1, w, device=x.device)
    return x * (rows[:, None].square() + (squash * columns).square() < 1)


def bright_rows(m, x):
    return x * torch.linspace(1, 2, x.shape[2], device=x.device)[:, None].expand(x.shape[-2:])


def known_scale(m, x):
    scale = torch.linspace(0, 1, 3, device=x.device)[1].item() + float(m.scale)
    return x * scale if bool((m.scale > 0).all()) else x.roll(1, 3)


def corner_mask(m, x):
    mask = torch.ones(x.shape[-2:]).to(x)
    mask[:2, :2] = 0
    return x * mask


def patches(m, x):
    return m.fc(windows(x, 4).flatten(1)).mean(0, keepdim=True).expand(2, -1) + x.mean((2, 3))


def focus(m, x):
    quarters = [x[..., i::2, j::2] for i in (0, 1) for j in (0, 1)]
    return m.conv(torch.cat(quarters, 1))


def axial(m, x):
    b, c, h, w = x.shape
    rows = x.permute(0, 2, 3, 1).reshape(b * h, w, c)
    x = attend(m, rows).view(b, h, w, c)
    columns = x.transpose(1, 2).reshape(b * w, h, c)
    return attend(m, columns).view(b, w, h, c).permute(0, 3, 2, 1)


def mha(**more):
    return nn.MultiheadAttention(4, 2, batch_first=True, **more)


def causal(m, x):
    t = tokens(x)
    return functional.scaled_dot_product_attention(t, t, t, is_causal=True).mean(1)


def group_field(m, x):
    field = m.lift(x).unflatten(1, (2, 4))
    return m.conv(field.flatten(1, 2)).unflatten(1, (2, 4)).amax(2)


# At 12 x 16 pixels.
ZOO = {
    "conv": (lambda: conv(), EXACT),
    "conv k2 s2": (lambda: conv(kernel=2, stride=2, padding=0), EXACT),
    "conv k3 s2 p1": (lambda: conv(stride=2), BROKEN),
    "conv k3 s5 p1": (lambda: conv(stride=5), (N, Y, Y)),
    "conv dilated": (lambda: conv(dilation=2, stride=2, padding=1), BROKEN),
    "conv 1 x 3": (lambda: conv(kernel=(1, 3), padding=(0, 1)), (Y, Y, N)),
    "conv stride 2 x 1": (lambda: conv(kernel=4, stride=(2, 1), padding=(1, 1)), (Y, Y, N)),
    "conv same, even": (lambda: conv(kernel=4, padding="same"), BROKEN),
    "conv reflect": (lambda: conv(padding_mode="reflect"), EXACT),
    "conv replicate": (lambda: conv(padding_mode="replicate"), EXACT),
    "conv circular": (lambda: conv(padding_mode="circular"), EXACT),
    "transposed": (lambda: nn.ConvTranspose2d(3, 4, 3, 2, 1), EXACT),
    "transposed, output padding": (lambda: nn.ConvTranspose2d(3, 4, 3, 2, 1, output_padding=1), BROKEN),
    "max pool, ceil": (then(lambda m, x: functional.max_pool2d(x, 3, 2, ceil_mode=True)), BROKEN),
    "max pool 5": (then(lambda m, x: functional.max_pool2d(x, 5, 1, 2)), EXACT),
    "average pool 2 x 1": (then(lambda m, x: functional.avg_pool2d(x, (2, 1))), (Y, Y, N)),
    "lp pool": (then(lambda m, x: functional.lp_pool2d(x, 2.0, 4)), EXACT),
    "adaptive": (then(lambda m, x: functional.adaptive_avg_pool2d(x, 5)), EXACT),
    "adaptive max": (then(lambda m, x: functional.adaptive_max_pool2d(x, 7)), EXACT),
    "adaptive 3 x 5": (then(lambda m, x: functional.adaptive_avg_pool2d(x, (3, 5))), (Y, Y, N)),
    "norms": (
        then(
            lambda m, x: m.c(m.b(m.a(x))),
            a=nn.BatchNorm2d(4),
            b=nn.GroupNorm(2, 4),
            c=nn.InstanceNorm2d(4, affine=True),
        ),
        EXACT,
    ),
    "channel norm": (then(lambda m, x: m.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), norm=nn.LayerNorm(4)), EXACT),
    "plane norm": (then(lambda m, x: functional.layer_norm(x, x.shape[1:])), EXACT),
    "plane norm, affine": (then(lambda m, x: m.norm(x), norm=nn.LayerNorm([4, 12, 16])), (N, N, N)),
    "response norm": (then(lambda m, x: functional.local_response_norm(x, 3)), EXACT),
    "in place": (then(lambda m, x: functional.relu_(x).mul_(2).add_(x)), EXACT),
    "gates": (then(lambda m, x: functional.glu(functional.prelu(x, torch.ones(1).to(x)), 1)), EXACT),
    "activations": (then(lambda m, x: functional.hardswish(functional.gelu(x)) + functional.logsigmoid(x)), EXACT),
    "squeeze excite": (then(squeeze_excite, fc=nn.Linear(4, 4)), EXACT),
    "channel conv": (
        then(lambda m, x: x * m.conv(x.mean((2, 3)).unsqueeze(1)).view(2, 4, 1, 1), conv=nn.Conv1d(1, 1, 3, padding=1)),
        EXACT,
    ),
    "pointwise linear": (then(lambda m, x: m.fc(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), fc=nn.Linear(4, 5)), EXACT),
    "einsum": (then(lambda m, x: torch.einsum("bchw,oc->bohw", x, m.fc.weight), fc=nn.Linear(4, 5)), EXACT),
    "channel matmul": (
        then(lambda m, x: (m.fc.weight @ x.flatten(2)).view(2, 5, *x.shape[2:]), fc=nn.Linear(4, 5)),
        EXACT,
    ),
    "dynamic filters": (then(dynamic_filters, fc=nn.Linear(4, 16)), EXACT),
    "reductions": (
        then(
            lambda m, x: torch.stack(
                [
                    x.mean((2, 3)),
                    x.amax((2, 3)),
                    x.var((2, 3)),
                    x.sum((2, 3)),
                    x.flatten(2).max(-1)[0],
                    x.logsumexp((2, 3)),
                    x.std((2, 3)),
                    x.norm(dim=(2, 3)),
                ]
            )
        ),
        EXACT,
    ),
    "mean and mean": (then(lambda m, x: x.mean(-1).mean(-1)), EXACT),
    "mean, relu, mean": (then(lambda m, x: x.mean(-1).relu().mean(-1)), (Y, Y, N)),
    "mean of rows": (then(lambda m, x: x * x.mean(-1, keepdim=True)), (Y, Y, N)),
    "max of mean": (then(lambda m, x: x.mean(-1).amax(-1)), (Y, Y, N)),
    "softmax pool": (then(spatial_softmax), EXACT),
    "gram": (then(gram), EXACT),
    "attention": (then(lambda m, x: attend(m, tokens(x)).transpose(1, 2).view(x.shape), attention=mha()), EXACT),
    "class token": (then(class_token, attention=mha(), token=nn.Parameter(torch.randn(1, 1, 4))), EXACT),
    "axial attention": (then(axial, attention=mha()), (Y, Y, N)),
    "window attention": (then(window_attention, attention=mha()), EXACT),
    "windows, then conv": (then(lambda m, x: m.conv(window_attention(m, x)), attention=mha(), conv=conv(4)), EXACT),
    "shifted windows": (
        then(lambda m, x: window_attention(m, x.roll((1, 1), (2, 3))).roll((-1, -1), (2, 3)), attention=mha()),
        BROKEN,
    ),
    "half roll": (then(lambda m, x: x.roll((x.shape[2] // 2, x.shape[3] // 2), (2, 3))), EXACT),
    "roll": (then(lambda m, x: x.roll(1, 3)), (Y, N, N)),
    "causal": (then(causal), (N, N, N)),
    "table": (then(lambda m, x: x + m.table, table=nn.Parameter(torch.randn(4, 12, 16))), (N, N, N)),
    "token table": (
        then(
            lambda m, x: attend(m, tokens(x) + m.table).mean(1),
            attention=mha(),
            table=nn.Parameter(torch.randn(192, 4)),
        ),
        (N, N, N),
    ),
    "column table": (then(lambda m, x: x * m.table, table=nn.Parameter(torch.randn(16))), (Y, N, N)),
    "coordinates": (lambda: Apply(coordinates, conv=conv(5)), BROKEN),
    "uniform constants": (then(no_table), EXACT),
    "round mask": (then(lens), EXACT),
    "oval mask": (then(lambda m, x: lens(m, x, 1.5)), (Y, Y, N)),
    "symmetric window": (then(lambda m, x: x * torch.hann_window(x.shape[-1], periodic=False).to(x)), (Y, Y, N)),
    "bright rows": (then(bright_rows), (N, Y, N)),
    "values of constants": (then(known_scale, scale=nn.Parameter(torch.tensor(2.0))), EXACT),
    "corner mask": (then(corner_mask), (N, N, N)),
    "flatten, linear": (then(lambda m, x: m.fc(x.flatten(1)), fc=nn.Linear(768, 5)), (N, N, Y)),
    "rows, linear": (then(lambda m, x: m.fc(x), fc=nn.Linear(16, 16)), (Y, N, N)),
    "token conv": (then(lambda m, x: m.conv(x.flatten(2)), conv=nn.Conv1d(4, 4, 3, padding=1)), (N, N, Y)),
    "patches, linear": (then(patches, fc=nn.Linear(64, 4)), (N, N, Y)),
    "focus": (then(focus, conv=conv(16)), (N, N, N)),
    "pixel shuffle": (then(lambda m, x: functional.pixel_shuffle(x, 2)), BROKEN),
    "pixel unshuffle": (then(lambda m, x: m.conv(functional.pixel_unshuffle(x, 2)), conv=conv(16)), BROKEN),
    "channels and pixels": (
        then(
            lambda m, x: m.conv(x.view(2, 1, 2, 2, 12, 16).permute(0, 1, 4, 2, 5, 3).reshape(2, 1, 24, 32)),
            conv=conv(1),
        ),
        (N, N, Y),
    ),
    "channel shuffle": (
        then(lambda m, x: m.conv(x.unflatten(1, (2, 2)).transpose(1, 2).reshape(x.shape)), conv=conv(4, groups=2)),
        EXACT,
    ),
    "split and join": (then(lambda m, x: torch.cat([*x.chunk(2, 1), x[:, [2, 0]], x[:, 1:2]], 1)), EXACT),
    "parts of channels": (then(shift_channels), EXACT),
    "writes": (then(write_channels), EXACT),
    "stack": (then(lambda m, x: torch.stack([x, x.relu()]).amax(0)), EXACT),
    "group field": (lambda: Apply(group_field, lift=conv(3, 8), conv=conv(8, 8)), EXACT),
    "unet": (then(unet, one=conv(4), up=nn.ConvTranspose2d(4, 4, 2, 2), two=conv(8)), EXACT),
    "resize": (then(lambda m, x: functional.interpolate(x, (9, 11), mode="bilinear")), (Y, Y, N)),
    "resize, scale": (then(lambda m, x: functional.interpolate(x, scale_factor=2.5, mode="bicubic")), EXACT),
    "resize, odd scale": (then(lambda m, x: functional.interpolate(x, scale_factor=0.7, mode="bilinear")), BROKEN),
    "resize, corners": (
        then(lambda m, x: functional.interpolate(x, scale_factor=3, mode="bilinear", align_corners=True)),
        EXACT,
    ),
    "resize, antialias": (
        then(lambda m, x: functional.interpolate(x, (6, 8), mode="bicubic", antialias=True)),
        (Y, Y, N),
    ),
    "resize, area": (then(lambda m, x: functional.interpolate(x, (6, 6), mode="area")), EXACT),
    "nearest up": (then(lambda m, x: functional.interpolate(x, scale_factor=2)), EXACT),
    "nearest down": (then(lambda m, x: functional.interpolate(x, scale_factor=0.5)), BROKEN),
    "nearest exact, tie": (
        then(lambda m, x: functional.interpolate(x, scale_factor=0.5, mode="nearest-exact")),
        BROKEN,
    ),
    "pooled and resized": (
        then(
            lambda m, x: torch.cat(
                [x, functional.interpolate(functional.adaptive_avg_pool2d(x, 1), x.shape[-2:], mode="bilinear")], 1
            )
        ),
        EXACT,
    ),
    "repeated pixels": (then(lambda m, x: x.repeat_interleave(2, 2).repeat_interleave(2, 3)), EXACT),
    "tiles": (then(lambda m, x: m.conv(x.repeat(1, 1, 2, 2)), conv=conv(4)), EXACT),
    "pad": (then(lambda m, x: functional.pad(x, (1, 1, 2, 2))), (Y, Y, N)),
    "pad one side": (then(lambda m, x: functional.pad(x, (0, 1, 0, 1))), BROKEN),
    "pad one side, pool": (then(lambda m, x: functional.pad(x, (0, 1, 0, 1)).mean((2, 3))), EXACT),
    "pad made up": (
        then(lambda m, x: m.conv(functional.pad(x, (0, 1, 0, 1))), conv=conv(4, kernel=2, padding=0, stride=2)),
        EXACT,
    ),
    "pad not made up": (
        then(lambda m, x: m.conv(functional.pad(x, (0, 1, 0, 1))), conv=conv(4, padding=0, stride=2)),
        BROKEN,
    ),
    "pad, continued": (then(lambda m, x: m.conv(functional.pad(x, (0, 1, 0, 1))), conv=conv(4, 4, 4, 2, 1)), EXACT),
    "pad, no zeros any more": (
        then(
            lambda m, x: m.conv(m.norm(functional.pad(x, (0, 1, 0, 1)))),
            conv=conv(4, 4, 4, 2, 1),
            norm=nn.BatchNorm2d(4),
        ),
        BROKEN,
    ),
    "transposed, unknown": (then(lambda m, x: torch.fft.rfft2(x.transpose(2, 3)).abs().mean((2, 3))), UNKNOWN),
    "crop, over the border": (
        then(lambda m, x: functional.avg_pool2d(x[..., :-1, :-1], 2, ceil_mode=True)),
        BROKEN,
    ),
    "pad, then cut": (
        then(lambda m, x: m.conv(functional.pad(x, (0, 1, 0, 1)))[..., :-1, :-1], conv=conv(4, kernel=3, padding=0)),
        EXACT,
    ),
    "even same, cut": (then(lambda m, x: m.conv(x)[..., :-1, :-1], conv=conv(4, kernel=2, padding="same")), EXACT),
    "crop": (then(lambda m, x: x[..., 2:-2, 2:-2]), EXACT),
    "crop one side": (then(lambda m, x: x[..., 1:, 1:]), BROKEN),
    "crop, made up": (then(lambda m, x: functional.avg_pool2d(x[..., 1:, 1:], 2, 2, 0)), EXACT),
    "every other pixel": (then(lambda m, x: x[..., ::2, ::2]), BROKEN),
    "one pixel": (then(lambda m, x: x[:, :, 3, 3]), (N, N, Y)),
    "flip": (then(lambda m, x: x + x.flip(-1)), (Y, Y, N)),
    "half turn": (then(lambda m, x: x + x.rot90(2, (2, 3))), EXACT),
    "transposed axes": (
        lambda: Apply(lambda m, x: m.two(m.one(x).transpose(2, 3)).transpose(2, 3), one=conv(), two=conv(4)),
        EXACT,
    ),
    "unfold": (then(lambda m, x: functional.unfold(x, 3, padding=1).view(2, 4, 9, *x.shape[2:]).mean(2)), EXACT),
    "unfold, linear": (
        then(lambda m, x: m.fc(functional.unfold(x, 3, padding=1).transpose(1, 2)).mean(1), fc=nn.Linear(36, 5)),
        (N, N, Y),
    ),
    "unfold, fold": (
        then(lambda m, x: functional.fold(functional.unfold(x, 2, stride=2), x.shape[2:], 2, stride=2)),
        EXACT,
    ),
    "tensor unfold": (then(lambda m, x: x.unfold(2, 3, 2).unfold(3, 3, 2).amax((-1, -2))), BROKEN),
    "codes": (then(codes, book=nn.Embedding(5, 4)), EXACT),
    "channel order": (then(lambda m, x: x.cumsum(1) + x.sort(1)[0] + x.topk(1, 1)[0]), EXACT),
    "where": (then(lambda m, x: torch.where(x > 0, x, x.abs().mean())), EXACT),
    "masked": (then(lambda m, x: x.masked_fill(x > 0, 0.0).clamp(-1, 1)), EXACT),
    "cumulative": (then(lambda m, x: x.cumsum(-1)), (Y, U, N)),
    "sorted pixels": (then(lambda m, x: x.sort(2)[0]), (U, Y, N)),
    "fourier": (then(lambda m, x: torch.fft.rfft2(x).abs()), UNKNOWN),
    "grid sample": (
        then(lambda m, x: functional.grid_sample(x, torch.zeros(2, 5, 5, 2).to(x), align_corners=False)),
        UNKNOWN,
    ),
    "unpool": (
        then(lambda m, x: functional.max_unpool2d(*functional.max_pool2d(x, 2, return_indices=True), 2)),
        UNKNOWN,
    ),
    "where the largest is": (then(lambda m, x: x.flatten(2).argmax(-1).float()), UNKNOWN),
    "where the largest was": (then(lambda m, x: x.flatten(2).max(-1)[1].float()), UNKNOWN),
    "view pool": (then(lambda m, x: x.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).mean((3, 5))), EXACT),
    "side by side": (then(lambda m, x: torch.cat([x, x.relu()], -1)), (Y, U, N)),
    "transposed sum": (
        lambda: Apply(lambda m, x: (lambda s: s + s.transpose(2, 3))(m.pool(x)), pool=nn.AdaptiveAvgPool2d(4)),
        UNKNOWN,
    ),
}
