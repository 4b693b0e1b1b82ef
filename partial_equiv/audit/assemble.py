"""From the measures of all passes to the rows of a report."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from partial_equiv.audit.fields import fields, is_map, is_sample, tensor_of
from partial_equiv.audit.measures import Judge, Measure, Place
from partial_equiv.audit.moves import Move
from partial_equiv.audit.plan import Plan
from partial_equiv.audit.recording import Recorder
from partial_equiv.audit.replay import OUTPUT, Ledger
from partial_equiv.audit.report import AuditReport, LayerError, largest
from partial_equiv.audit.representations import turned


@dataclass(frozen=True)
class Setting:
    """Everything that the passes of one audit share."""

    model: nn.Module
    images: Tensor
    group: str
    moves: tuple[Move, ...]
    judge: Judge
    ledger: Ledger
    seed: int

    def turned(self, move: Move) -> Tensor:
        """Return g x."""
        return turned(self.images, move)


def broken_between(setting: Setting, names: Sequence[str]) -> frozenset[str]:
    """Return the calls at which something else arrives than the layers before them handed out."""

    def broken(name: str) -> bool:
        found = setting.ledger.of("between", f"before {name}", "local").items()
        return any(move.exact and (measure.error or 0.0) > setting.judge.tolerance for move, measure in found)

    return frozenset(filter(broken, names))


def assemble(setting: Setting, recorder: Recorder, plan: Plan, agreement: float | None) -> AuditReport:
    """Return the report of an audit whose passes are all done."""
    broken, containers = broken_between(setting, plan.names), {name for level in plan.levels[1:] for name in level}
    rows: list[LayerError] = []
    blind: list[str] = []
    for name in plan.names:
        if name in broken:
            rows.append(_between(setting, recorder, name, blind))
        mine = []
        for path, field in fields(recorder.outputs[name]).items():
            if not is_sample(field):
                kind, module = "container" if name in containers else "layer", recorder.nodes[name].call.module
                domain = is_map(field) and bool(recorder.samples)
                mine.append(_row(setting, Place("layer", name, path), kind, type(module).__name__, field, domain))
        rows += mine
        blind = [*blind, name] if any(row.local is None for row in mine) else []
    for path, field in fields(recorder.output).items():
        place = Place(OUTPUT, OUTPUT, path)
        rows.append(_row(setting, place, OUTPUT, type(setting.model).__name__, field, bool(recorder.samples)))
    bent = any(not move.exact for move in setting.moves)
    return AuditReport(
        network=type(setting.model).__name__,
        group=setting.group,
        moves=tuple(move.name for move in setting.moves),
        shape=tuple(setting.images.shape),
        dtype=str(setting.images.dtype).removeprefix("torch."),
        device=str(setting.images.device),
        seed=setting.seed,
        tolerance=setting.judge.tolerance,
        interpolation="bilinear" if bent else "none",
        mask="inscribed disc" if bent else "none",
        agreement=agreement,
        rows=tuple(rows),
    )


def _between(setting: Setting, recorder: Recorder, name: str, blind: Sequence[str]) -> LayerError:
    """Return the row of the code ahead of a call."""
    args, kwargs = recorder.inputs[name]
    found = {path: field for path, field in fields((args, kwargs)).items() if not is_sample(field)}
    path = next(iter(found))
    reason = f"or what could not be measured ahead of it: {', '.join(blind)}" if blind else ""
    return _row(setting, Place("between", name, path), "between", "code between layers", found[path], False, reason)


def _row(
    setting: Setting, place: Place, kind: str, module: str, field: Any, domain: bool, reason: str = ""
) -> LayerError:
    sorts = {sort: setting.ledger.of(place.kind, place.name, sort) for sort in ("local", "cumulative", "law")}
    errors = {sort: _errors(setting.moves, found) for sort, found in sorts.items() if found}
    worst = {sort: largest(found.values()) for sort, found in errors.items()}
    exact = [move.name for move in setting.moves if move.exact]
    measured = [sorts["cumulative"].get(move, Measure(None, reason=MISSED)) for move in setting.moves]
    names = [read.name for move in setting.moves if (read := setting.judge.chosen.get((place, move)))]
    return LayerError(
        name=place.name,
        kind=kind,
        module=module,
        shape=tuple(tensor_of(field).shape),
        representation=", ".join(dict.fromkeys(names)) or "unknown",
        local=worst.get("local"),
        cumulative=worst.get("cumulative"),
        law=worst.get("law"),
        domain=worst.get("cumulative") if domain else None,
        local_exact=largest(errors.get("local", {}).get(name) for name in exact),
        max_abs=largest(measure.worst for measure in measured if measure.error is not None),
        sum_mae=None if any(m.error is None for m in measured) else sum(m.mean for m in measured),
        errors=errors,
        reason=reason or _reasons(setting.moves, measured),
    )


def _reasons(moves: Sequence[Move], measured: Sequence[Measure]) -> str:
    """Return why numbers are missing, with the moves that each reason is about unless it is about all."""
    about: dict[str, list[str]] = {}
    for move, measure in zip(moves, measured, strict=True):
        if measure.reason:
            about.setdefault(measure.reason, []).append(move.name)
    texts = [why if len(names) == len(moves) else f"{' / '.join(names)}: {why}" for why, names in about.items()]
    return "; ".join(texts)


MISSED = "it is not called on x turned"


def _errors(moves: Sequence[Move], found: dict[Move, Measure]) -> dict[str, float | None]:
    return {move.name: found[move].error if move in found else None for move in moves}
