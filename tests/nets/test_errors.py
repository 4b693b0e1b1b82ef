"""Combinations that cannot work are told in one sentence: what was given, what is right."""

import pytest

from partial_equiv import UserError, build
from tests.nets.specs import E2, GCNN, INTERVAL, RANDOM, SHARED, SMALL, SUBSET, make_spec

AUGERINO = {**SHARED, "net.type": "AugerinoCKResNet"}
POOLED = {"net.learnable_final_pooling": True}

CASES = {
    "odd E2": ([{"base_group.name": "E2", "base_group.no_samples": 7}], ["no_samples=7", "E2", "even", "6 and 8"]),
    "E2 of one": ([{"base_group.name": "E2", "base_group.no_samples": 1}], ["no_samples=1", "even"]),
    "C4 of 8": ([{"base_group.name": "C4", "base_group.no_samples": 8}], ["no_samples=8", "C4", "no_samples=4"]),
    "T2 of 4": ([{"base_group.name": "T2"}], ["no_samples=4", "T2", "no_samples=1"]),
    "no elements": ([{"base_group.no_samples": 0}], ["no_samples=0", "1 or more"]),
    "sentinel elements": ([{"base_group.no_samples": -1}], ["no_samples=-1", "1 or more"]),
    "unknown group": ([{"base_group.name": "SE3"}], ["base_group.name='SE3'", "did you mean 'SE2'"]),
    "random finite": ([RANDOM, {"base_group.name": "C4"}], ["sampling_method=random", "C4", "deterministic"]),
    "unknown method": ([{"base_group.sampling_method": "grid"}], ["sampling_method='grid'", "deterministic or random"]),
    "partial without per layer": ([{**SHARED, **SUBSET}], ["partial_equiv=True", "sample_per_layer=True"]),
    "grid per layer": ([{"base_group.sample_per_layer": True}], ["sample_per_layer=True", "sampling_method=random"]),
    "grid per image": ([{"base_group.sample_per_batch_element": True}], ["sample_per_batch_element=True", "random"]),
    "cold gates": ([SUBSET, {"base_group.gumbel_end_temp": 0.0}], ["gumbel_end_temp=0.0", "above 0"]),
    "map too small": ([{"kernel.size": 7}], ["3x3", "kernel.size=7", "larger images"]),
    "map too small inside": (
        [GCNN, {"conv.padding": "valid", "kernel.size": 5, "net.pool_blocks": [1, 2]}],
        ["kernel.size=5", "smaller"],
    ),
    "pools too often": (
        [GCNN, {"net.pool_blocks": [1, 2, 3, 4, 5], "net.no_blocks": 5}],
        ["net.pool_blocks=[1, 2, 3, 4, 5]", "1x1", "after block 4"],
    ),
    "unfit map": ([POOLED, {"net.final_spatial_dim": [2, 2]}], ["final_spatial_dim=[2, 2]", "[1, 1]"]),
    "partial learned pooling": ([POOLED, SUBSET], ["learnable_final_pooling=True", "partial_equiv=True"]),
    "even kernel": ([{"kernel.size": 4}], ["kernel.size=4", "3 or 5"]),
    "no kernel": ([{"kernel.size": -1}], ["kernel.size=-1", "odd"]),
    "kernel word": ([{"kernel.size": "large"}], ["kernel.size='large'", "'same' or 'full'"]),
    "kernel fraction": ([{"kernel.size": 3.5}], ["kernel.size=3.5", "an integer or a text"]),
    "no width": ([{"kernel.no_hidden": 0}], ["kernel.no_hidden=0", "1 or more"]),
    "null width": ([{"kernel.no_hidden": None}], ["kernel.no_hidden=None", "an integer"]),
    "unknown kernel": ([{"kernel.type": "Siren"}], ["kernel.type='Siren'", "did you mean 'SIREN'"]),
    "empty kernel": ([{"kernel.type": ""}], ["kernel.type=''", "SIREN, MLP"]),
    "unknown kernel key": ([{"kernel.omgea0": 3.0}], ["kernel.omgea0", "did you mean 'omega0'"]),
    "unknown angle": ([{"kernel.angle": "degrees"}], ["kernel.angle='degrees'", "circle or linear"]),
    "zero frequency": ([{"kernel.omega0": 0.0}], ["kernel.omega0=0.0", "above 0"]),
    "unknown activation": ([{"kernel.type": "MLP", "kernel.activation": "relu"}], ["activation='relu'", "'ReLU'"]),
    "unknown net": ([{"net.type": "CKResNets"}], ["net.type='CKResNets'", "did you mean 'CKResNet'"]),
    "unknown net key": ([{"net.dropuot": 0.1}], ["net.dropuot", "did you mean 'dropout'"]),
    "unknown norm": ([{"net.norm": "BatchNorms"}], ["net.norm='BatchNorms'", "did you mean 'BatchNorm'"]),
    "no norm": ([{"net.norm": None}], ["net.norm=None", "BatchNorm, LayerNorm"]),
    "no blocks": ([{"net.no_blocks": 0}], ["net.no_blocks=0", "1 or more"]),
    "sentinel blocks": ([{"net.no_blocks": -1}], ["net.no_blocks=-1", "1 or more"]),
    "no channels": ([{"net.no_hidden": 0}], ["net.no_hidden=0", "1 or more"]),
    "text for a number": ([{"net.no_hidden": "many"}], ["net.no_hidden='many'", "an integer"]),
    "dropout of one": ([{"net.dropout": 1.0}], ["net.dropout=1.0", "[0, 1)"]),
    "dropout below": ([{"net.dropout": -0.1}], ["net.dropout=-0.1", "[0, 1)"]),
    "block beyond": ([{"net.pool_blocks": [3]}], ["[3]", "0 to 2"]),
    "sentinel pool": ([{"net.pool_blocks": [-1]}], ["[-1]", "0 to 2"]),
    "GCNN has no block 0": ([GCNN, {"net.pool_blocks": [0]}], ["[0]", "1 to 3"]),
    "widths too few": ([{"net.block_width_factors": [1, 1]}], ["block_width_factors=[1, 1]", "no_blocks=2"]),
    "widths odd": ([{"net.block_width_factors": [1, 1, 2]}], ["block_width_factors=[1, 1, 2]", "pairs"]),
    "width zero": ([{"net.block_width_factors": [0.1, 2]}], ["block_width_factors=[0.1, 2]", "without channels"]),
    "negative padding": ([{"conv.padding": -1}], ["conv.padding=-1", "negative"]),
    "unknown padding": ([{"conv.padding": "full"}], ["conv.padding='full'", "same or valid or an integer"]),
    "valid residual": ([{"conv.padding": "valid"}], ["conv.padding='valid'", "conv.padding=same"]),
    "unknown conv key": ([{"conv.paddign": "same"}], ["conv.paddign", "did you mean 'padding'"]),
    "unknown group key": ([{"base_group.no_smaples": 8}], ["base_group.no_smaples", "did you mean 'no_samples'"]),
    "partial as text": ([{"conv.partial_equiv": "yes"}], ["conv.partial_equiv='yes'", "true or false"]),
    "partial Augerino": ([AUGERINO, INTERVAL], ["partial_equiv=True", "Augerino"]),
    "Augerino per layer": ([AUGERINO, RANDOM], ["sample_per_layer=True", "Augerino"]),
    "Augerino per image": (
        [AUGERINO, {"base_group.sample_per_batch_element": True}],
        ["sample_per_batch_element=True"],
    ),
    "Augerino grid": ([{"net.type": "AugerinoCKResNet"}], ["sampling_method=deterministic", "random"]),
    "Augerino last conv": ([AUGERINO, {"net.last_conv_T2": True}], ["net.last_conv_T2"]),
    "Augerino learned pooling": ([AUGERINO, POOLED], ["net.learnable_final_pooling"]),
}


@pytest.mark.parametrize("name", [name for name in CASES if not name.startswith(("Augerino la", "Augerino le"))])
def test_an_impossible_choice_is_told(name):
    changes, words = CASES[name]
    with pytest.raises(UserError) as caught:
        build(make_spec(*changes))
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message and len(message) < 400


@pytest.mark.parametrize("name", ["Augerino last conv", "Augerino learned pooling"])
def test_what_augerino_cannot_do_is_not_dropped_in_silence(name):
    changes, words = CASES[name]
    with pytest.raises(UserError) as caught:
        build(make_spec(*changes))
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize("section", SMALL)
def test_a_missing_section_is_told(section):
    spec = make_spec()
    del spec[section]
    with pytest.raises(UserError, match=section):
        build(spec)


@pytest.mark.parametrize(
    "key", ["net.type", "kernel.type", "info.size", "info.in_channels", "net.no_hidden", "conv.bias"]
)
def test_a_missing_key_is_told(key):
    spec, (section, name) = make_spec(), key.split(".")
    del spec[section][name]
    with pytest.raises(UserError, match=key):
        build(spec)


def test_an_unknown_section_is_told():
    with pytest.raises(UserError, match="'convs'.*did you mean 'conv'"):
        build({**make_spec(), "convs": {}})


def test_the_spec_is_left_as_it_was():
    spec, before = make_spec(E2), make_spec(E2)
    build(spec)
    assert spec == before
