"""From `train=<a self-supervised method>` to its objective, and what a user should know before the first step."""

import functools
from collections.abc import Mapping
from typing import Any

from partial_equiv.datasets import DatasetInfo
from partial_equiv.errors import UserError
from partial_equiv.latents import LatentEncoding
from partial_equiv.menu import fill
from partial_equiv.nets import SplitEncoder, make_predictor, memory_budget, parse_widths
from partial_equiv.objectives import SelfSupervised, make_method
from partial_equiv.probes import device_of
from train_choices import SelfSupervisedChoices, TrainChoices

LEAST_BATCH = 2
RECORDED = "anchor"
"""The view that images beside their recorded augmentations have, and sets of views have not."""


def construct_self_supervised(choices: TrainChoices, model: SplitEncoder, info: DatasetInfo) -> SelfSupervised:
    """Return the objective of a row.

    Raises:
        UserError: a mistake in the row, an encoder or a data set that does not fit it, or a batch without statistics.
    """
    own = choices.own
    assert isinstance(own, SelfSupervisedChoices)
    check_views(own, info)
    if choices.batch_size < LEAST_BATCH:
        raise UserError(
            f"train.batch_size={choices.batch_size} has no statistics, and {own.method} compares examples of a batch: "
            "give 2 or more, for example 128"
        )
    method = make_method(
        own.method,
        views=own.views,
        projectors=own.projectors,
        predicted=own.predicted,
        regressed=own.regressed,
        classified=own.classified,
        terms=own.terms,
    )
    if method.classified is not None and not info.labelled:
        raise UserError(f"{own.method} learns classes, and dataset={info.name} has no labels: choose another method")
    encoding = construct_encoding(own, info)
    with memory_budget("widths, for example train.mlp or train.predictor.hidden"):
        objective = SelfSupervised(
            model,
            method,
            encoding=encoding,
            coefficients=own.coefficients,
            widths=parse_widths(own.mlp),
            temperature=own.simclr_temp,
            make_predictor=functools.partial(bound_predictor, predictor=own.predictor, encoding=encoding),
            no_classes=info.no_classes,
            online_every=own.watching.every if own.watching is not None else None,
            selection=own.selection,
        )
    return objective.to(device_of(model))  # what stands beside the model was made on the CPU


def bound_predictor(width: int, *, predictor: Mapping[str, Any], encoding: LatentEncoding) -> Any:
    """Return the predictor of embeddings of a width, its keys checked."""
    return fill(make_predictor, predictor, "train.predictor", width=width, encoding=encoding)


def construct_encoding(own: SelfSupervisedChoices, info: DatasetInfo) -> LatentEncoding:
    """Return how the latent of two views is written.

    Raises:
        UserError: an unknown key, or latents that the data set has not.
    """
    return fill(LatentEncoding, own.encoding, "train.encoding", parts=tuple(own.latents), columns=info.latents)


def check_views(own: SelfSupervisedChoices, info: DatasetInfo) -> None:
    """Refuse a data set whose examples have not the views of the method.

    Raises:
        UserError: they differ.
    """
    if tuple(own.views) == info.views:
        return
    has = f"examples of the views {', '.join(info.views)}" if info.views else "single images"
    if info.views and RECORDED not in (*own.views, *info.views):
        fits = f"train.views=[{','.join(info.views)}]"
    elif RECORDED in own.views:
        fits = "a data set of single images and augment=recorded" if info.views else "augment=recorded"
    else:
        fits = ("augment=none and " if info.views else "") + "dataset=shapes3d, latent_vectors or 3DIEBench"
    raise UserError(
        f"{own.method} compares the views {', '.join(own.views)}, and dataset={info.name} has {has}: set {fits}"
    )


def notes_of(choices: TrainChoices, objective: SelfSupervised) -> list[str]:
    """Return what to say before the first step: effective weights, noise, and what accumulation does."""
    own = choices.own
    assert isinstance(own, SelfSupervisedChoices)
    notes = [objective.words(), *(f"note: {warning}" for warning in objective.warnings(choices.batch_size))]
    if own.accumulate > 1:
        notes.append(
            f"note: gradients of {own.accumulate} batches are averaged before a step, but every term still sees "
            f"{choices.batch_size} examples at a time: not the same as batches of {own.accumulate * choices.batch_size}"
        )
    return notes
