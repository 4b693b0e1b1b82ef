"""The dynamic audit: measure of any network, layer by layer, how equivariant it is.

Axes: B batch, C channels, Y X image.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from partial_equiv.audit.assemble import Setting, assemble, broken_between
from partial_equiv.audit.checks import check_images, check_model, check_output, check_reps, check_state, hint
from partial_equiv.audit.fields import fields
from partial_equiv.audit.frozen import frozen
from partial_equiv.audit.guesses import Frame, Override
from partial_equiv.audit.measures import Judge, matches
from partial_equiv.audit.moves import Move, make_moves
from partial_equiv.audit.plan import Plan, make_plan
from partial_equiv.audit.recording import Recorder, Watcher, run
from partial_equiv.audit.replay import OUTPUT, Bench, Forced, Free, Ledger, carries, has_elements, logits, movable
from partial_equiv.audit.report import AuditReport
from partial_equiv.errors import UserError
from partial_equiv.menu import nearest

Representations = str | Mapping[str, str | Callable[[Tensor, Move], Tensor]]


def audit(
    model: nn.Module,
    x: Tensor,
    group: str = "C4",
    *,
    angles: Sequence[float] | None = None,
    reps: Representations = "auto",
    layers: str | Sequence[str] = "leaf",
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
    tolerance: float | None = None,
) -> AuditReport:
    """Measure the equivariance error of every layer, split into what it adds and what it inherits.

    cumulative_g(l) = mean |h_l(g x) - rho(g) h_l(x)| / mean |h_l(x') - h_l(x)|, x' the batch rolled by one image;
    local_g(l) is the same with the layer alone fed rho(g) times its input on x. Code outside all modules gets a row
    "before ..." where it breaks equivariance. Layers on sampled group elements obey their law at any elements (`law`),
    and are compared at those they chose for g x (`domain`): the difference is partial equivariance.
    Turns that are no right angle interpolate images and features and compare them in the inscribed disc: their errors
    have a floor of some percent, and name no culprit.

    Args:
        model: Any module from images to tensors; it is used in place and comes back as it was, bit for bit.
        x: Two images or more; noise shows every break, smooth images only large ones.
        group: "C2", "C4", "D1", "D2", "D4", any C<n> or D<n>, "flip_h", "flip_w"; "SO2" or "O2" with `angles`.
        angles: Radians, counter-clockwise.
        reps: "auto", or names and patterns of rows (those of what goes into a layer begin with "before ") -> "trivial",
            "channels_last", "tokens", "regular", "invariant", a group such as "C4" (a regular field of its elements),
            or a function (tensor, move) -> tensor.
        layers: "leaf", "all" with the modules that hold them, or names and patterns of modules.
        dtype: Of the evaluation.
        seed: Of what is random in a forward pass; it is the same in every pass.
        tolerance: A larger local error makes a culprit; 1e-6, or 1e-4 in float32.
    Shape:
        x [B, C, Y, X].
    Raises:
        UserError: no such group, images the network does not take, a network that does not take images alone.
    Source: Edixhoven, Lengyel & van Gemert 2023, section 4. Differs: relative to the variation over inputs, where
        theirs is a sum of absolute errors; local errors; float64.
    """
    setting = prepare(model, x, group, angles, reps, dtype, seed, tolerance)
    with frozen(setting.model, dtype):
        recorder = _record(setting, outputs=True)
        recorder.samples = movable(recorder, len(setting.images))
        sampled = any(node.typed and has_elements(recorder.outputs.get(name)) for name, node in recorder.nodes.items())
        setting.judge.frame = replace(setting.judge.frame, sampled=sampled)
        plan = make_plan(recorder.nodes, layers)
        recorder.keep(plan.names)
        _check_patterns(setting.judge.reps, plan, recorder)
        _run_forced(setting, recorder, plan)
        agreement = _run_free(setting, recorder, plan.names, law=bool(recorder.samples))
    return assemble(setting, recorder, plan, agreement)


def prepare(
    model: nn.Module,
    x: Tensor,
    group: str,
    angles: Sequence[float] | None,
    reps: Representations,
    dtype: torch.dtype,
    seed: int,
    tolerance: float | None,
) -> Setting:
    """Return what the passes of one audit share, the user's input checked; arguments as in `audit`."""
    moves, inner = make_moves(group, angles), check_model(model)
    check_state(inner, dtype)
    images = check_images(x, inner, moves, dtype)
    allowed = tolerance if tolerance is not None else 1e-6 if dtype == torch.float64 else 1e-4
    frame = Frame(len(images), (images.shape[-2], images.shape[-1]), moves)
    return Setting(inner, images, group, moves, Judge(frame, check_reps(reps), allowed), Ledger(), seed)


def measure_output(setting: Setting) -> AuditReport:
    """Return a report of the outputs alone."""
    with frozen(setting.model, setting.images.dtype):
        recorder = _record(setting, outputs=False)
        agreement = _run_free(setting, recorder, (), law=False)
    return assemble(setting, recorder, Plan((), ()), agreement)


def _record(setting: Setting, *, outputs: bool) -> Recorder:
    """Return the recording of the pass on x, with the outputs of the layers or without."""
    recorder, images = Recorder(outputs=outputs), setting.images
    what = f"x {list(images.shape)}"
    output = run(setting.model, images, recorder, seed=setting.seed, what=what, hint=hint(None, images))
    check_output(output)
    recorder.close(output)
    return recorder


def _run_forced(setting: Setting, recorder: Recorder, plan: Plan) -> None:
    """Measure what every layer adds."""
    levels = [(names, index == 0) for index, names in enumerate(plan.levels)] or [((), True)]
    for move in setting.moves:
        for names, innermost in levels:
            bench = Bench(recorder, setting.judge, setting.ledger, move, frozenset(names))
            output = _pass(setting, move, Forced(bench, between=innermost))
            if innermost:
                bench.close(output, "local")


def _run_free(setting: Setting, recorder: Recorder, names: Sequence[str], *, law: bool) -> float | None:
    """Measure how far errors run on, and return how often the highest logit stays the same."""
    between = broken_between(setting, names)
    agreements = []
    for move in setting.moves:
        bench = Bench(recorder, setting.judge, setting.ledger, move, frozenset(names))
        output = _pass(setting, move, Free(bench, between=between, law=False))
        bench.close(output, "cumulative")
        before, after = logits(recorder.output), logits(output)
        if before is not None and after is not None and before.shape == after.shape:
            agreements.append(float((before.argmax(dim=-1) == after.argmax(dim=-1)).double().mean()))
        if law and carries(recorder, move):
            bench.close(_pass(setting, move, Free(bench, between=between, law=True)), "law")
    return sum(agreements) / len(agreements) if agreements else None


def _pass(setting: Setting, move: Move, watcher: Watcher) -> Any:
    moved = setting.turned(move)
    what = f"x under the move {move.name!r}, {list(moved.shape)},"
    return run(setting.model, moved, watcher, seed=setting.seed, what=what, hint=hint(move, setting.images))


def _check_patterns(reps: Mapping[str, Override], plan: Plan, recorder: Recorder) -> None:
    """Check that every given representation belongs to a row.

    Raises:
        UserError: one does not.
    """
    rows = [name + path for name in plan.names for path in fields(recorder.outputs[name])]
    rows += [f"before {name}" for name in plan.names] + [OUTPUT + path for path in fields(recorder.output)]
    for pattern in reps:
        if not any(matches(pattern, row) for row in rows):
            raise UserError(
                f"reps[{pattern!r}] is no row of this audit: give names as in its table{nearest(pattern, rows)}"
            )
