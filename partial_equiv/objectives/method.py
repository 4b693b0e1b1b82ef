"""A self-supervised method as data: what is projected, what is predicted, and a list of (term, inputs, weight).

A signal is named `<view>.<what>`; `+` joins signals along their numbers:

| what | is |
|---|---|
| h, h_inv, h_equi | the representation of a view, and its two parts |
| an embedding, such as z | what its projector makes of a part; with `equi` there are z_inv and z_equi, its ends |
| predicted | what the predictor makes of the source view's embedding and the latent from there to this view |
| logits | classes, where `classified` names a part |

Beside them stand `labels`, and with `regressed` the pair `regression` (of two representations) and `latent`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from partial_equiv.errors import UserError
from partial_equiv.menu import choose, fill, nearest
from partial_equiv.nets import Part
from partial_equiv.objectives.split_terms import SPLIT_TERMS

PARTS: Mapping[str, Part] = {"h": "all", "h_inv": "inv", "h_equi": "equi"}
JOIN = "+"
PAIRED = ("mse", "info_nce", "cross_entropy")
"""Terms of two signals; the others take any number, each by itself."""
TAKEN = (*PARTS, "predicted", "logits")
"""Signals of a view that no embedding may be named like."""


@dataclass(frozen=True, kw_only=True)
class Projected:
    """How an embedding is made.

    Args:
        of: Part of the representation: h, h_inv or h_equi.
        equi: Trailing numbers that count as equivariant; null where the embedding is not cut.
        plain: The projector of EquiMod: no biases, and a batch norm without scale at its end.
    """

    of: str
    equi: int | None = None
    plain: bool = False


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """Which embedding is predicted, and from which view to all others."""

    of: str
    source: str


@dataclass(frozen=True, kw_only=True)
class WeightedTerm:
    """One term of the loss: a pure function of signals, times a product of coefficients.

    Args:
        term: Entry of SPLIT_TERMS.
        of: Signals.
        weight: Names of coefficients, or numbers; their product weighs the term.
        temperature: Of this term; null takes the method's.
    """

    term: str
    of: list[str]
    weight: list[str | float]
    temperature: float | None = None

    def factor(self, coefficients: Mapping[str, float], where: str) -> float:
        """Return the product.

        Args:
            coefficients: By name.
            where: Path of the term, for messages.
        Raises:
            UserError: an unknown coefficient.
        """
        product = 1.0
        for entry in self.weight:
            product *= choose(coefficients, entry, f"{where}.weight") if isinstance(entry, str) else entry
        return product


@dataclass(frozen=True)
class Method:
    """A row: everything that sets one method apart.

    Args:
        name: As published.
        views: Names of the views of an example.
        projectors: Name of an embedding -> how it is made.
        predicted: What the predictor is for; None without one.
        regressed: Part whose pairs the latent is read off; None without.
        classified: Part that classes are read off; None without.
        terms: Name -> term.
    """

    name: str
    views: tuple[str, ...]
    projectors: Mapping[str, Projected]
    predicted: Predicted | None
    regressed: str | None
    classified: str | None
    terms: Mapping[str, WeightedTerm]

    @property
    def split(self) -> bool:
        """Whether the representation has two parts for this method."""
        used = [*(made.of for made in self.projectors.values()), self.regressed, self.classified]
        return any(part in ("h_inv", "h_equi") for part in used)

    @property
    def signals(self) -> list[str]:
        """Every signal that a term may take."""
        names = list(PARTS) if self.split else ["h"]
        for name, made in self.projectors.items():
            names += [name] if made.equi is None else [name, f"{name}_inv", f"{name}_equi"]
        found = [f"{view}.{name}" for view in self.views for name in names]
        if self.predicted is not None:
            found += [f"{view}.predicted" for view in self.views if view != self.predicted.source]
        if self.classified is not None:
            found += [f"{view}.logits" for view in self.views]
        return [*found, "labels", *(["regression", "latent"] if self.regressed is not None else [])]


def make_method(
    name: str,
    *,
    views: Sequence[str],
    projectors: Mapping[str, Mapping[str, Any] | None],
    predicted: Mapping[str, Any] | None,
    regressed: str | None,
    classified: str | None,
    terms: Mapping[str, Mapping[str, Any] | None],
) -> Method:
    """Return a row from plain values; an entry that is null is left out, so that a row may take one of another away.

    Raises:
        UserError: an unknown key, part, embedding, view, term or signal.
    """
    method = Method(
        name,
        tuple(views),
        {key: bound(Projected, made, f"train.projectors.{key}") for key, made in projectors.items() if made},
        bound(Predicted, predicted, "train.predicted") if predicted else None,
        regressed,
        classified,
        {key: bound(WeightedTerm, term, f"train.terms.{key}") for key, term in terms.items() if term},
    )
    for key, made in method.projectors.items():
        if key in TAKEN or not key.isidentifier():
            raise UserError(
                f"train.projectors.{key} cannot be told from other signals: give it another name, such as z"
            )
        choose(PARTS, made.of, f"train.projectors.{key}.of")
    if method.predicted is not None:
        choose(method.projectors, method.predicted.of, "train.predicted.of")
        choose(dict.fromkeys(method.views), method.predicted.source, "train.predicted.source")
    for part, key in ((regressed, "regressed"), (classified, "classified")):
        if part is not None:
            choose(PARTS, part, f"train.{key}")
    if not method.terms:
        raise UserError(f"train.terms of {name} is empty: give at least one, such as {{term: mse, of: [x.z, y.z]}}")
    for key, term in method.terms.items():
        check_term(f"train.terms.{key}", term, method)
    return method


def check_term(where: str, term: WeightedTerm, method: Method) -> None:
    """Refuse a term that cannot be computed.

    Raises:
        UserError: an unknown term or signal, or another number of signals than the term takes.
    """
    choose(SPLIT_TERMS, term.term, f"{where}.term")
    known = method.signals
    for signal in (one for text in term.of for one in text.split(JOIN)):
        if signal not in known:
            raise UserError(
                f"{where}.of names {signal!r}, which {method.name} has not: {', '.join(known)}{nearest(signal, known)}"
            )
    if not term.of or (term.term in PAIRED and len(term.of) != 2):
        takes = "two signals" if term.term in PAIRED else "one signal or more"
        raise UserError(f"{where}.of={list(term.of)} does not fit {term.term}: give {takes}")
    classes = term.term == "cross_entropy"
    if classes != ("labels" in term.of) or (
        classes and not (term.of[0].endswith(".logits") and term.of[1] == "labels")
    ):
        raise UserError(
            f"{where}.of={list(term.of)} does not fit {term.term}: cross_entropy takes logits and labels, such as "
            "[x.logits, labels], and no other term takes labels"
        )
    if term.temperature is not None and not term.temperature > 0:
        raise UserError(f"{where}.temperature={term.temperature} is out of range: give a number above 0, or null")


def bound(kind: type[Any], values: Mapping[str, Any], where: str) -> Any:
    """Return a dataclass filled from plain values, their keys and types checked."""
    if not isinstance(values, Mapping):
        raise UserError(f"{where}={values!r} is not a group of keys: give {where}={{key: value}} or null")
    return fill(kind, values, where)
