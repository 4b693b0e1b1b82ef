"""The passes on g x: one in which every layer is fed what it should get, and one in which errors run on.

Axes: B batch, C channels, S sample sets, G elements, Y X image.
"""

import weakref
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from partial_equiv.audit.fields import (
    fields,
    is_map,
    is_sample,
    rebuild,
    tensor_of,
    version_of,
    with_elements,
    with_tensor,
)
from partial_equiv.audit.guesses import VALUES, check_batch
from partial_equiv.audit.measures import Judge, Measure, Place, weighted_measure
from partial_equiv.audit.moves import Move
from partial_equiv.audit.recording import Call, Recorder, has_at
from partial_equiv.audit.representations import Unmeasured, plane, turned
from partial_equiv.audit.typed import aligned, asked, moved_elements, moved_map

OUTPUT = "output"


class Ledger:
    """All errors: row (kind, name), sort of error ("local", "cumulative", "law"), move -> measure."""

    def __init__(self) -> None:
        self.measures: dict[tuple[str, str], dict[str, dict[Move, Measure]]] = defaultdict(lambda: defaultdict(dict))

    def put(self, place: Place, sort: str, move: Move, measure: Measure) -> None:
        """Write an error down; of several of one row the worst stays."""
        row = self.measures[place.kind, place.name][sort]
        known = row.get(move)
        if known is None or known.error is None or (measure.error is not None and measure.error > known.error):
            row[move] = measure

    def of(self, kind: str, name: str, sort: str) -> dict[Move, Measure]:
        """Return what was written down of one row."""
        return self.measures[kind, name][sort] if (kind, name) in self.measures else {}


@dataclass(frozen=True)
class Bench:
    """What both passes need.

    Args:
        recorder: The pass on x.
        judge: Measures.
        ledger: Where errors are written.
        move: g.
        names: Calls that are measured.
    """

    recorder: Recorder
    judge: Judge
    ledger: Ledger
    move: Move
    names: Collection[str]

    def close(self, output: Any, sort: str) -> None:
        """Measure the output of the network."""
        actual = fields(output)
        for path, recorded in fields(self.recorder.output).items():
            place = Place(OUTPUT, OUTPUT, path)
            try:
                measure = self.judge.again(place, actual.get(path), recorded, self.move).measure
            except Unmeasured as reason:
                measure = Measure(None, reason=str(reason))
            self.ledger.put(place, sort, self.move, measure)


class Forced:
    """A watcher that gives every layer g times its input on x, and passes on g times its output on x.

    What a layer makes of that against what it should make is its own error, and what arrives at it against what should
    arrive is the error of the code between the layers. Samplers hand out g times the elements they drew on x.

    Args:
        bench: Recording, judge, ledger, move, and calls of which none lies within another.
        between: Write down what arrives at them too.
    """

    def __init__(self, bench: Bench, *, between: bool) -> None:
        self.bench, self.between = bench, between
        self._handed: dict[int, tuple[Any, int | None]] = {}

    def before(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Hand in g times the input on x."""
        bench = self.bench
        if call.name not in bench.names:
            return None
        actual, changed = fields((args, kwargs)), {}
        for path, recorded in fields(bench.recorder.inputs[call.name]).items():
            if path not in actual or is_sample(recorded) or self._is_handed(actual[path], recorded):
                continue
            place = Place("between", call.name, path)
            try:
                pick = bench.judge.pick(place, actual[path], recorded, bench.move)
            except Unmeasured:
                continue
            if self.between:
                bench.ledger.put(place, "local", bench.move, pick.measure)
            changed[path] = self._put(call, actual[path], pick.expected)
        return rebuild((args, kwargs), changed)

    def after(self, call: Call, output: Any) -> Any:
        """Measure the layer, and hand out g times the output on x."""
        bench = self.bench
        if call.name in bench.recorder.samples:
            return moved_samples(bench.recorder.samples[call.name], output, bench.move)
        if call.name not in bench.names:
            return None
        actual, changed = fields(output), {}
        for path, recorded in fields(bench.recorder.outputs[call.name]).items():
            place = Place("layer", call.name, path)
            try:
                pick = bench.judge.pick(place, actual.get(path), recorded, bench.move)
            except Unmeasured as reason:
                bench.ledger.put(place, "local", bench.move, Measure(None, reason=str(reason)))
                continue
            bench.ledger.put(place, "local", bench.move, pick.measure)
            changed[path] = self._put(call, actual[path], pick.expected)
            tensor = tensor_of(changed[path])
            self._handed[id(tensor_of(recorded))] = weakref.ref(tensor), version_of(tensor)
        return rebuild(output, changed)

    def _is_handed(self, actual: Any, recorded: Any) -> bool:
        """Say whether an input is the very output that was handed out for the one on x."""
        known = self._handed.get(id(tensor_of(recorded)))
        if known is None or not isinstance(actual, type(recorded)):
            return False
        tensor = tensor_of(actual)
        return known[0]() is tensor and known[1] is not None and known[1] == version_of(tensor)

    def _put(self, call: Call, actual: Any, expected: Any) -> Any:
        """Return what to hand on: written into the tensor at hand where the layer does so, for others may share it."""
        tensor = tensor_of(actual)
        if not self.bench.recorder.nodes[call.name].overwrites or tensor.shape != tensor_of(expected).shape:
            return expected
        return with_tensor(expected, tensor.copy_(tensor_of(expected)))


class Free:
    """A watcher that only looks on: how far every layer is off when it gets what the layers before it made.

    Args:
        bench: Recording, judge, ledger, move, and the calls that are measured.
        between: Calls whose input is measured too.
        law: Samplers hand out g times the elements they drew on x; without it, layers on sampled elements are measured
            at the elements they choose for g x.
    """

    def __init__(self, bench: Bench, *, between: Collection[str], law: bool) -> None:
        self.bench, self.between = bench, between
        self.law, self.sort = law, "law" if law else "cumulative"

    def before(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Measure the input, where asked to."""
        if call.name not in self.between:
            return
        actual = fields((args, kwargs))
        for path, recorded in fields(self.bench.recorder.inputs[call.name]).items():
            if path in actual and not is_sample(recorded):
                self._measure(None, Place("between", call.name, path), actual[path], recorded)

    def after(self, call: Call, output: Any) -> Any:
        """Measure the output."""
        bench = self.bench
        if call.name in bench.recorder.samples:
            return moved_samples(bench.recorder.samples[call.name], output, bench.move) if self.law else None
        if call.name in bench.names:
            actual = fields(output)
            for path, recorded in fields(bench.recorder.outputs[call.name]).items():
                self._measure(call, Place("layer", call.name, path), actual.get(path), recorded)
        return None

    def _measure(self, call: Call | None, place: Place, actual: Any, recorded: Any) -> None:
        bench = self.bench
        known = bench.judge.chosen.get((place, bench.move))
        try:
            if not self.law and known is not None and known.name == VALUES:
                raise Unmeasured("values without their elements: the law alone has a number")
            if not self.law and is_map(recorded) and is_map(actual) and recorded.elements.shape[-1]:
                measure = self._at_own_elements(call, place, actual, recorded)
            else:
                measure = bench.judge.again(place, actual, recorded, bench.move).measure
        except Unmeasured as reason:
            measure = Measure(None, reason=str(reason))
        bench.ledger.put(place, self.sort, bench.move, measure)

    def _at_own_elements(self, call: Call | None, place: Place, actual: Any, recorded: Any) -> Measure:
        """Compare a map of g x with g f at the elements h of the former: (g f)(x, h) = f(g^-1 x, g^-1 h)."""
        judge, move = self.bench.judge, self.bench.move
        check_batch(recorded.values, judge.frame)
        known = judge.chosen.get((place, move))
        if known is not None and known.name != "sampled":
            return judge.again(place, actual, recorded, move).measure
        if call is not None and has_at(call.module):
            args, kwargs = self.bench.recorder.inputs[call.name]
            sample = asked(actual, recorded, move)
            expected = call.module.at(args[0] if args else next(iter(kwargs.values())), sample)  # type: ignore[operator]
            expected = expected._replace(values=turned(expected.values, move), weights=sample.weights)
        else:
            expected = moved_map(recorded, move)
            actual = aligned(actual, expected)
        mask = None if move.exact else plane().mask(recorded.values)
        return weighted_measure(judge, actual, expected, recorded, mask)


def moved_samples(recorded: Any, output: Any, move: Move) -> Any:
    """Return a sampler's output with g times the elements it drew on x, or as it is where they cannot take g."""
    changed = {}
    for path, sample in fields(recorded).items():
        if is_sample(sample):
            try:
                changed[path] = with_elements(sample, moved_elements(sample.elements, move))
            except Unmeasured:
                return output
    return rebuild(output, changed)


def movable(recorder: Recorder, batch: int) -> dict[str, Any]:
    """Return the samples that move with x: not those of layers which see several copies of every image as one batch."""

    def folded(name: str) -> bool:
        above = recorder.nodes[name].call.parent
        outputs = fields(recorder.outputs.get(above or "")).values()
        return any(is_map(field) and len(field.values) != batch for field in outputs)

    return {name: sample for name, sample in recorder.samples.items() if not folded(name)}


def carries(recorder: Recorder, move: Move) -> bool:
    """Say whether all drawn elements can take a move."""
    for recorded in recorder.samples.values():
        for sample in filter(is_sample, fields(recorded).values()):
            try:
                moved_elements(sample.elements, move)
            except Unmeasured:
                return False
    return True


def logits(output: Any) -> Tensor | None:
    """Return the first [B, K] tensor of an output."""
    tensors = [field for field in fields(output).values() if isinstance(field, Tensor) and field.dim() == 2]
    return tensors[0] if tensors else None


def has_elements(output: Any) -> bool:
    """Say whether an output holds a map on sampled elements."""
    return any(is_map(field) and field.elements.shape[-1] > 0 for field in fields(output).values())
