"""How each network becomes a chain of plain layers: `CONVERTERS` names a function for every class."""

from collections.abc import Mapping

from torch import Tensor, nn

from partial_equiv.convs import (
    BatchNorm,
    ContinuousConv,
    CosetPool,
    GConv2d,
    GroupConv,
    GroupFeatureMap,
    GroupPool2d,
    LayerNorm,
    LiftingConv,
    mean_readout,
)
from partial_equiv.errors import UserError
from partial_equiv.export import layers
from partial_equiv.export.field import Convert, Field, Part, Step, draw
from partial_equiv.export.modules import Frame, Levels, Maximum, MeanOfCopies, Residual, TurnedCopies
from partial_equiv.nets import (
    GCNN,
    Augerino,
    CKResNet,
    ConvBlock,
    GConvNet,
    GResNet,
    GroupConvEncoder,
    InvariantEncoder,
    LiftingNet,
    PreActivationBlock,
    ResidualBlock,
    SplitEncoder,
    SymmetryNet,
    TurningBackbone,
    TurningReadout,
    element_grid,
)
from partial_equiv.sampling import Sample, Sampler

OURS = (ContinuousConv, GConv2d, Sampler, InvariantEncoder)
"""What a plain network does not hold."""


def chain(field: Field, *steps: Step) -> Part:
    """Return the plain layers of steps that follow one another, from the field before the first."""
    found: list[nn.Module] = []
    for step in steps:
        part = convert(step, field) if isinstance(step, nn.Module) else step(field)
        found += part.layers
        field = part.field
    return Part(found, field)


def convert(module: nn.Module, field: Field) -> Part:
    """Return the plain layers of a module by its class; one that holds nothing of this library is taken as it is.

    Raises:
        UserError: it does, and nothing is known of its class.
    """
    known = CONVERTERS.get(type(module))
    if known is not None:
        return known(module, field)
    if ours := sorted({type(part).__name__ for part in module.modules() if isinstance(part, OURS)}):
        raise UserError(
            f"{type(module).__name__} (with {', '.join(ours)}) has no plain form: give a network of "
            "partial_equiv.build whose layers are of this library"
        )
    return layers.copied(module, field)


def sequential(net: nn.Sequential, field: Field) -> Part:
    """Convert modules that follow one another."""
    return chain(field, *net)


def ckresnet(net: CKResNet, field: Field) -> Part:
    """Convert a CKResNet."""
    readout = _maximum if net.pooling is None else _learned_pooling(net.pooling)
    return chain(field, *_features(net), readout, net.head)


def _features(net: CKResNet) -> list[Step]:
    """Return what a CKResNet does before its readout."""
    last: list[Step] = [net.last_conv, net.last_norm, layers.relu]
    if net.last_conv_T2:
        last = [layers.element_mean, _at_identity(net.last_conv), *last]
    pool = [layers.max_pool] if net.lifting_pool else []
    return [net.lifting, net.lifting_norm, *pool, layers.relu, *net.blocks, *last]


def _at_identity(conv: GroupConv) -> Step:
    def step(field: Field) -> Part:
        like = field.sample.elements
        identity = conv.group.identity(like.dtype, like.device).reshape(1, 1, -1)
        return Part([], field._replace(sample=Sample(identity)))

    return step


def _maximum(field: Field) -> Part:
    return chain(field, layers.weigh, lambda f: Part([Maximum(f.channels)], f))


def _learned_pooling(pooling: nn.Linear) -> Step:
    def step(field: Field) -> Part:
        channel_by_channel = [nn.Unflatten(1, (field.channels, field.no_elements)), nn.Flatten(2)]
        return Part([*channel_by_channel, *layers.copied(pooling, field).layers, nn.Flatten(1)], field)

    return step


def residual_block(block: ResidualBlock, field: Field) -> Part:
    """Convert a block of a CKResNet; its shortcut follows the elements of the branch."""
    main = chain(field, block.conv1, layers.instance_norm, layers.relu, block.conv2, layers.instance_norm, layers.relu)
    shortcut: nn.Module = nn.Identity()
    if block.shortcut is not None:
        shortcut = layers.pointwise_conv(block.shortcut, field, main.field.sample).module
    added = Part([Residual(main.module, shortcut)], main.field)
    pool = [layers.max_pool] if block.pool else []
    return chain(field, lambda _: added, block.norm, *pool, layers.relu)


def gcnn(net: GCNN, field: Field) -> Part:
    """Convert a GCNN."""

    def logits(f: GroupFeatureMap) -> Tensor:
        found: Tensor = net.head(mean_readout(f))
        return found

    return chain(field, net.lifting, net.lifting_norm, layers.relu, *net.blocks, layers.image_mean, _linear(logits))


def conv_block(block: ConvBlock, field: Field) -> Part:
    """Convert a block of a GCNN."""
    pool = [layers.max_pool] if block.pool else []
    return chain(field, block.conv, block.norm, layers.relu, *pool)


def _linear(readout: layers.Readout) -> Step:
    return lambda field: Part([layers.linear_map(readout, field)], field)


def gconvnet(net: GConvNet, field: Field) -> Part:
    """Convert a GConvNet."""
    return chain(field, net.layers, net.classify)


def gresnet(net: GResNet, field: Field) -> Part:
    """Convert a GResNet."""
    parts = net.layers
    features: list[Step] = [parts["stem"], parts["stages"], parts["norm"], layers.relu]
    return chain(field, *features, parts["coset"], layers.image_mean, parts["classify"])


def pre_activation_block(block: PreActivationBlock, field: Field) -> Part:
    """Convert a block of a GResNet."""
    main = chain(field, block.norm1, layers.relu, block.conv1, block.norm2, layers.relu, block.conv2)
    return Part([Residual(main.module, chain(field, block.shortcut).module)], main.field)


def lifting_net(net: LiftingNet, field: Field) -> Part:
    """Convert a LiftingNet."""
    return chain(field, net.lifting, net.pool, net.coset, nn.Flatten(1), net.classify)


def augerino(net: Augerino, field: Field) -> Part:
    """Convert a network that is averaged over turned copies of the image."""
    sample = draw(net.sampler)
    grid = element_grid(net.sampler.group, sample.elements[0], field.size)
    weights = Field(1, field.size, sample).weights
    inner = chain(field, net.net)
    return Part([TurnedCopies(grid), *inner.layers, MeanOfCopies(weights)], inner.field)


def split_encoder(net: SplitEncoder, field: Field) -> Part:
    """Convert a split encoder: its backbone, taken as it is unless it holds group convolutions."""
    ours = any(isinstance(part, OURS) for part in net.backbone.modules())
    return chain(field, net.backbone) if ours else layers.copied(net.backbone, field)


def turning_backbone(net: TurningBackbone, field: Field) -> Part:
    """Convert the trunk of a CKResNet with the readout that turns along."""
    return chain(field, *_features(net.trunk), net.readout)


def turning_readout(net: TurningReadout, field: Field) -> Part:
    """Convert a readout that turns along."""

    def mix(pooled: Field) -> Part:
        return layers.pointwise_conv(net.mix, pooled, pooled.sample)

    return chain(field, layers.max_and_mean, mix, net.mix_norm, layers.relu, layers.image_mean, _linear(net.read))


def symmetry_net(net: SymmetryNet, field: Field) -> Part:
    """Convert what the levels of a SymmetryNet need: pixels in [0, 1], an encoder, the head."""
    pixels = nn.Conv2d(field.channels, field.channels, 1, groups=field.channels, device="meta").requires_grad_(False)
    pixels.weight = layers.parameter(net.std[..., None])
    pixels.bias = layers.parameter(net.mean.flatten())
    encoder = net.autoencoder.encoder if net.head_encoder is None else net.head_encoder
    return chain(field, lambda f: Part([pixels], f), encoder, lambda f: Part([Levels(net)], f))


def group_conv_encoder(net: GroupConvEncoder, field: Field) -> Part:
    """Convert the way to the invariant numbers of an image; its pose is left out."""

    def frame(f: Field) -> Part:
        return Part([Frame(net.resolution)], f._replace(size=(net.resolution, net.resolution)))

    def mix(f: Field) -> Part:
        return layers.pointwise_conv(net.mix, f, f.sample)

    def latent(f: GroupFeatureMap) -> Tensor:
        z: Tensor = net.latent(mean_readout(f))
        return z

    convs = zip((net.lifting, net.middle, net.whole), net.norms, strict=True)
    steps = [step for conv, norm in convs for step in (conv, norm, layers.relu)]
    return chain(field, frame, *steps, mix, net.mix_norm, layers.relu, layers.image_mean, _linear(latent))


CONVERTERS: Mapping[type[nn.Module], Convert] = {
    # networks
    Augerino: augerino,
    CKResNet: ckresnet,
    GCNN: gcnn,
    GConvNet: gconvnet,
    GResNet: gresnet,
    LiftingNet: lifting_net,
    SplitEncoder: split_encoder,
    SymmetryNet: symmetry_net,
    # their parts
    ConvBlock: conv_block,
    GroupConvEncoder: group_conv_encoder,
    PreActivationBlock: pre_activation_block,
    ResidualBlock: residual_block,
    TurningBackbone: turning_backbone,
    TurningReadout: turning_readout,
    nn.Sequential: sequential,
    # layers
    BatchNorm: layers.batch_norm,
    CosetPool: layers.coset_pool,
    GConv2d: layers.gconv2d,
    GroupConv: layers.group_conv,
    GroupPool2d: layers.group_pool,
    LayerNorm: layers.layer_norm,
    LiftingConv: layers.lifting_conv,
    nn.AdaptiveAvgPool3d: layers.volume_mean,
    nn.BatchNorm3d: layers.batch_norm,
    nn.Dropout: layers.nothing,
    nn.Flatten: layers.flatten,
    nn.Identity: layers.nothing,
    nn.MaxPool3d: layers.volume_max,
}
