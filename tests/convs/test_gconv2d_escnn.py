"""Our exact group convolutions against escnn's: the same filters give the same features."""

import warnings

import pytest
import torch

from partial_equiv.convs import GConv2d
from partial_equiv.groups import make_group
from tests.oracles import load_escnn


def pair(name, in_rep, size=5, channels=(2, 3)):
    """Return our layer with the filters of a random escnn layer, that layer, and the places of our elements in it."""
    load_escnn()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from escnn import gspaces
        from escnn import nn as enn

        space = gspaces.rot2dOnR2(4) if name == "C4" else gspaces.flipRot2dOnR2(4, axis=torch.pi / 2)
        no_inputs = 1 if in_rep == "trivial" else space.fibergroup.order()
        kind = space.trivial_repr if in_rep == "trivial" else space.regular_repr
        theirs = enn.R2Conv(
            enn.FieldType(space, channels[0] * [kind]),
            enn.FieldType(space, channels[1] * [space.regular_repr]),
            kernel_size=size,
            padding=size // 2,
            bias=False,
        ).eval()
        dense = theirs.export()
    ours = GConv2d(make_group(name), *channels, size, in_rep=in_rep, padding=size // 2, bias=False)
    elements = places(space.fibergroup, name)
    weight = dense.weight.detach().unflatten(0, (channels[1], -1)).unflatten(2, (channels[0], no_inputs))
    sources = elements if no_inputs > 1 else [0]
    with torch.no_grad():
        ours.weight.copy_(weight[:, elements[0]][:, :, sources])
    return ours.eval(), dense, elements


def places(group, name):
    """Return where our elements (turns, then turns after the mirror of the columns) stand among escnn's."""
    found = list(group.elements)
    if name == "C4":
        return [found.index(group.element(r)) for r in range(4)]
    return [found.index(group.element((m, r))) for m in (0, 1) for r in range(4)]


@pytest.mark.parametrize("name", ["C4", "D4"])
@pytest.mark.parametrize("in_rep", ["trivial", "regular"])
def test_the_same_filters_give_the_same_features(name, in_rep):
    ours, dense, elements = pair(name, in_rep)
    shape = (2, 2, 9, 9) if in_rep == "trivial" else (2, 2, len(elements), 9, 9)
    x = torch.randn(shape)
    theirs_in = x if in_rep == "trivial" else torch.empty_like(x).index_copy_(2, torch.tensor(elements), x)
    theirs = dense(theirs_in if in_rep == "trivial" else theirs_in.flatten(1, 2)).unflatten(1, (3, len(elements)))
    expected = theirs[:, :, elements]
    with torch.no_grad():
        found = ours(x)
    # escnn builds its basis in single precision.
    assert (found - expected).abs().max() < 2e-6 * expected.abs().max()
    # Another order of the elements does not agree.
    assert (found - expected.roll(1, dims=2)).abs().max() > 0.05 * expected.abs().max()
