"""One objective for every self-supervised method: signals of the views, and a weighted sum of terms.

Axes: B batch, K views, C channels, Y X image, D numbers of a representation or an embedding, L latent numbers.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from partial_equiv.datasets import Views
from partial_equiv.errors import UserError
from partial_equiv.latents import ANGLES, LatentEncoding, published_rotation
from partial_equiv.nets import ParamRegressor, Predictor, SplitEncoder, make_projector, scaled, structure_errors
from partial_equiv.objectives.learned import learned_numbers
from partial_equiv.objectives.method import JOIN, PARTS, Method
from partial_equiv.objectives.objective import Objective, Step
from partial_equiv.objectives.online import OnlineProbes
from partial_equiv.objectives.signals import Signals
from partial_equiv.objectives.split_terms import SPLIT_TERMS, noise_floor
from partial_equiv.objectives.statistics import embedding_statistics
from partial_equiv.sampling import set_progress

MakePredictor = Callable[[int], Predictor]
LEAST_RATIO = 2.0
"""Widths of an embedding above this many times the batch drown the covariance term in noise (measured)."""


class SelfSupervised(Objective):
    """sum_i weight_i term_i(signals of the views), as a `Method` lists them.

    Every view passes the encoder by itself, so that batch norms see one view at a time. No gradient is stopped
    anywhere; only the online probes see detached numbers, and they are trained by an optimiser of their own. In
    evaluation the statistics of a batch stand for those of the set: they depend on how the set is cut into batches.

    Args:
        model: Split encoder.
        method: The row.
        encoding: Of the latent of two views.
        coefficients: Name -> number, for the weights.
        widths: Of the projectors, for the whole representation; a projector of a part gets its share.
        temperature: Of contrastive terms.
        make_predictor: Width of the embedding -> predictor.
        no_classes: For classifiers; 0 without labels.
        online_every: Steps between those of the online probes; None without probes.
        selection: Which weights are kept: "last", as published, or those of the least validation "loss".
    Shape:
        batch of Views, images [B, K, C, Y, X].
    Raises:
        UserError: a method with parts for an encoder without, or a factor that does not exist.
    Source: Garrido et al. 2023. Differs: probes apart from the loss, covariance over the rows that are there.
    """

    monitor = "loss"
    model: SplitEncoder
    online: OnlineProbes | None

    def __init__(
        self,
        model: SplitEncoder,
        method: Method,
        *,
        encoding: LatentEncoding,
        coefficients: Mapping[str, float],
        widths: list[int],
        temperature: float,
        make_predictor: MakePredictor,
        no_classes: int,
        online_every: int | None,
        selection: Literal["last", "loss"],
    ) -> None:
        super().__init__()
        if method.split and not 0 < model.equi < model.width:
            raise UserError(
                f"{method.name} needs an invariant and an equivariant part, and net.equi={model.equi} of {model.width} "
                f"leaves one empty: give 1 to {model.width - 1}, for example net.equi={model.width // 2}"
            )
        self.model, self.method, self.encoding = model, method, encoding
        self.mode = "last" if selection == "last" else "min"
        self.weights = {name: term.factor(coefficients, f"train.terms.{name}") for name, term in method.terms.items()}
        self.terms = {
            name: term_function(term.term, term.temperature or temperature) for name, term in method.terms.items()
        }
        self.embedding_widths: dict[str, int] = {}
        self.projectors = nn.ModuleDict()
        for name, made in method.projectors.items():
            width = model.widths[PARTS[made.of]]
            own = scaled(widths, width / model.width)
            if made.equi is not None and not 0 < made.equi < own[-1]:
                raise UserError(
                    f"train.projectors.{name}.equi={made.equi} leaves a part of the embedding empty: "
                    f"give 1 to {own[-1] - 1}"
                )
            self.projectors[name] = make_projector(width, own, plain=made.plain)
            self.embedding_widths[name] = own[-1]
        predicted = method.predicted
        self.predictor = make_predictor(self.embedding_widths[predicted.of]) if predicted is not None else None
        regressed, classified = method.regressed, method.classified
        self.regressor = ParamRegressor(model.widths[PARTS[regressed]], encoding.width) if regressed else None
        self.classifier = nn.Linear(model.widths[PARTS[classified]], no_classes) if classified else None
        self.check_widths(no_classes)
        columns = encoding.columns
        self.angles = [columns.index(name) for name in ANGLES] if set(ANGLES) <= set(columns) else []
        self.online_every, self.watching = online_every, True
        self.online = None
        if online_every is not None:
            seen = {name: sum(map(self.width_of, own)) for name, own in self.watched().items()}
            with torch.random.fork_rng(devices=[]):  # watched or not, training draws the same numbers
                self.online = OnlineProbes(seen, no_classes=no_classes, no_targets=4 if self.angles else 0)

    @property
    def split(self) -> bool:
        """Whether the method tells an invariant part from an equivariant one."""
        return self.method.split

    @property
    def has_predictor(self) -> bool:
        """Whether embeddings of another view are predicted."""
        return self.predictor is not None

    def forward(self, batch: Views) -> Step:
        """Return the weighted sum, every unweighted term, and in evaluation what tells a collapse and a group."""
        signals = Signals(self, batch)
        values = {
            name: self.terms[name](*(signals.joined(text) for text in term.of))
            for name, term in self.method.terms.items()
        }
        loss = torch.stack([self.weights[name] * value for name, value in values.items()]).sum()
        metrics = {name: value.detach() for name, value in values.items()}
        extra = None
        if self.online is not None and (not self.training or self.watching):
            extra, watched = self.watch(signals)
            metrics |= watched
        if not self.training:
            metrics |= self.diagnostics(signals)
        return Step(loss, metrics, len(batch.labels), extra)

    def set_progress(self, fraction: float) -> None:
        """Pass the share of the training that is done on to the gates of the encoder."""
        set_progress(self.model, fraction)

    def learned(self) -> dict[str, list[Any]]:
        """Return what the layers of the encoder learned beside their weights."""
        return learned_numbers(self.model)

    def set_step(self, step: int) -> None:
        """Take the number of the step, which says whether the probes learn."""
        self.watching = step % (self.online_every or 1) == 0

    def watchers(self) -> nn.Module | None:
        """Return the online probes."""
        return self.online

    def embeddings(self, h: Tensor) -> dict[str, Tensor]:
        """Return every embedding of representations: [B, D] -> name -> [B, D']."""
        return {name: self.project(name, h) for name in self.method.projectors}

    def embed(self, h: Tensor) -> Tensor:
        """Return the embedding that is predicted, else the first one, else the representation itself."""
        if not self.method.projectors:
            return h
        predicted = self.method.predicted
        name = predicted.of if predicted is not None else next(iter(self.method.projectors))
        return self.project(name, h)

    def project(self, name: str, h: Tensor) -> Tensor:
        """Return one embedding of representations: [B, D] -> [B, D']."""
        embedding: Tensor = self.projectors[name](self.model.part(h, PARTS[self.method.projectors[name].of]))
        return embedding

    def predict(self, z: Tensor, source: Tensor, target: Tensor) -> Tensor:
        """Return what embeddings z of views with latents `source` become at `target`; z itself without predictor."""
        if self.predictor is None:
            return z
        predicted: Tensor = self.predictor(z, self.encoding.relative(source, target).to(z.dtype))
        return predicted

    def words(self) -> str:
        """Return the weighted sum in words, with the effective weight of every term."""
        parts = []
        for name, term in self.method.terms.items():
            factors = " x ".join(str(entry) for entry in term.weight)
            parts.append(
                f"{name} {self.weights[name]:g} ({factors})"
                if len(term.weight) > 1
                else f"{name} {self.weights[name]:g}"
            )
        return f"{self.method.name}: loss = sum of weight x term; weights: {', '.join(parts)}"

    def warnings(self, batch_size: int) -> list[str]:
        """Return what a user should know of this batch size before the first step."""
        if not any(term.term == "covariance" for term in self.method.terms.values()):
            return []
        width = sum(self.embedding_widths.values()) if self.split else max(self.embedding_widths.values())
        if width <= LEAST_RATIO * batch_size:
            return []
        return [
            f"embeddings of {width} numbers and batches of {batch_size}: the covariance term of white embeddings is "
            f"{noise_floor(width, batch_size):.1f} by chance alone, which stalls learning; give a larger "
            "train.batch_size, a narrower train.mlp, or a smaller train.cov_coeff"
        ]

    def watched(self) -> dict[str, tuple[str, ...]]:
        """Return what the online probes see: its name -> the signals of a view that it joins."""
        found: dict[str, tuple[str, ...]] = {"representation": ("h",)}
        if self.split:
            found |= {"representation_inv": ("h_inv",), "representation_equi": ("h_equi",)}
        if self.method.projectors:
            found["embedding"] = tuple(self.method.projectors)
        if {f"{self.method.views[0]}.{half}" for half in ("z_inv", "z_equi")} <= set(self.method.signals):
            found |= {"embedding_inv": ("z_inv",), "embedding_equi": ("z_equi",)}
        return found

    def check_widths(self, no_classes: int) -> None:
        """Refuse a term that compares signals of different widths.

        Raises:
            UserError: they differ.
        """
        predicted = self.method.predicted
        fixed = {"logits": no_classes, "regression": self.encoding.width, "latent": self.encoding.width}
        if predicted is not None:
            fixed["predicted"] = self.embedding_widths[predicted.of]
        compared = {name: term for name, term in self.method.terms.items() if term.term in ("mse", "info_nce")}
        for name, term in compared.items():
            parts = [[one.rpartition(".")[2] for one in text.split(JOIN)] for text in term.of]
            found = [sum(fixed[what] if what in fixed else self.width_of(what) for what in own) for own in parts]
            if found[0] != found[1]:
                raise UserError(
                    f"train.terms.{name}.of={list(term.of)} compares {found[0]} numbers with {found[1]}: "
                    "give signals of one width"
                )

    def width_of(self, what: str) -> int:
        """Return the width of a signal of a view."""
        if what in PARTS:
            return self.model.widths[PARTS[what]]
        if what in self.embedding_widths:
            return self.embedding_widths[what]
        whole, _, part = what.rpartition("_")
        equi = self.method.projectors[whole].equi or 0
        return equi if part == "equi" else self.embedding_widths[whole] - equi

    def watch(self, signals: Signals) -> tuple[Tensor, dict[str, Tensor]]:
        """Return loss and metrics of the online probes on the first and the last view."""
        assert self.online is not None
        features = {name: signals.pair(own) for name, own in self.watched().items()}
        target = None
        if self.angles:
            # Not by a list of positions, which an accelerator would have to be sent, and waited for, in every step.
            poses = torch.stack([signals.batch.latents[..., column] for column in self.angles], dim=-1)
            target = published_rotation(poses[:, 0], poses[:, -1])
        loss, metrics = self.online(features, signals.batch.labels, target)
        return loss, {f"online/{name.removeprefix('online_')}": value for name, value in metrics.items()}

    def diagnostics(self, signals: Signals) -> dict[str, Tensor]:
        """Return statistics of the first view, the gain of the prediction, and errors of group structure."""
        first = self.method.views[0]
        names = ["h", *self.method.projectors]
        found = {
            f"collapse/{key}_{name}": value
            for name in names
            for key, value in embedding_statistics(signals.joined(f"{first}.{name}")).items()
        }
        if self.predictor is None or self.method.predicted is None:
            return found
        target = next(view for view in reversed(self.method.views) if view != self.method.predicted.source)
        source, of = self.method.predicted.source, self.method.predicted.of
        z, actual, predicted = (
            signals.joined(name) for name in (f"{source}.{of}", f"{target}.{of}", f"{target}.predicted")
        )
        near = functional.cosine_similarity(actual, predicted, dim=-1) - functional.cosine_similarity(actual, z, dim=-1)
        found["structure/equivariance_gain"] = near.mean()
        if self.encoding.parts != ("augmentation",):
            latents = signals.batch.latents
            others = (latents[:, 0], latents[:, -1], latents[:, -1].roll(1, dims=0))
            errors = structure_errors(self.predictor, self.encoding, z, *others)
            found |= {f"structure/{name}": value for name, value in errors.items()}
        return {name: value.detach() for name, value in found.items()}


def term_function(name: str, temperature: float) -> Callable[..., Tensor]:
    """Return a term as a function of its signals alone."""
    function = SPLIT_TERMS[name]
    if "temperature" not in inspect.signature(function).parameters:
        return function
    return functools.partial(function, temperature=temperature)
