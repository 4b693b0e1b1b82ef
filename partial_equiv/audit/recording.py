"""One watched pass through a network, and the recording of the pass on x that all others are compared with."""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from partial_equiv.audit.fields import Snapshots, fields, is_sample, is_typed, tensor_of, version_of
from partial_equiv.errors import UserError

ROOT = "(model)"
# What a network's forward may raise; never a `KeyboardInterrupt`.
FAILURES = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


class Call(NamedTuple):
    """One call of a module: "layer1.relu", and "layer1.relu#2" where the same module is called again."""

    name: str
    path: str
    module: nn.Module
    parent: str | None


class Watcher(Protocol):
    """Sees every call of a pass, and may change what goes in and comes out."""

    def before(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return None, or other (args, kwargs)."""

    def after(self, call: Call, output: Any) -> Any:
        """Return None, or another output."""


class Nothing:
    """A watcher that only lets failures be named."""

    def before(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Let the inputs pass."""

    def after(self, call: Call, output: Any) -> Any:
        """Let the output pass."""


def run(model: nn.Module, images: Tensor, watcher: Watcher, *, seed: int, what: str, hint: str) -> Any:
    """Return the network's output on a copy of the images, with every call watched and the same random numbers.

    Args:
        model: The network.
        images: [B, C, Y, X].
        watcher: Sees every call.
        seed: Of torch's, numpy's and Python's generators, so that what is random is the same in every pass.
        what: The images in words, for messages.
        hint: What to do where the network does not take them.
    Raises:
        UserError: the forward pass failed; the message names the module.
    """
    progress = _Progress()
    reseed(seed)
    try:
        with _hooked(model, watcher, progress), torch.no_grad():
            return model(images.clone())
    except FAILURES as error:
        if progress.watching:  # the audit's own mistake, or a function that the user gave it
            raise
        where = progress.stack[-1].name if progress.stack else ROOT
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        if "dtype" in said or "Double" in said or "double" in said:
            hint = f"if it fixes a dtype of its own, pass dtype=torch.float32; the audit ran in {images.dtype}"
        raise UserError(f"the network failed on {what} in {where} ({said}): {hint}") from error


def reseed(seed: int) -> None:
    """Seed every generator a network may draw from, those of the graphics card only where one is in use."""
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(seed)


class _Progress:
    """Which calls are under way, and whether the watcher has the word."""

    def __init__(self) -> None:
        self.stack: list[Call] = []
        self.watching = False


@contextmanager
def _hooked(model: nn.Module, watcher: Watcher, progress: _Progress) -> Iterator[None]:
    counts: Counter[str] = Counter()
    stack = progress.stack

    def before(path: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        counts[path] += 1
        name = (path or ROOT) + (f"#{counts[path]}" if counts[path] > 1 else "")
        stack.append(Call(name, path, module, stack[-1].name if stack else None))
        progress.watching = True
        result = watcher.before(stack[-1], args, kwargs)
        progress.watching = False
        return result

    def after(path: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        while stack[-1].path != path:  # left by a call that failed inside the network's own `try`
            stack.pop()
        progress.watching = True
        result = watcher.after(stack[-1], output)
        progress.watching = False
        stack.pop()
        return result

    handles: list[Any] = []
    try:
        for path, module in model.named_modules():
            if "parametrizations" not in path.split("."):  # they make weights, not features
                handles.append(module.register_forward_pre_hook(partial(before, path), with_kwargs=True))
                handles.append(module.register_forward_hook(partial(after, path), with_kwargs=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


@dataclass
class Node:
    """One call in the tree of calls.

    Args:
        call: The call.
        opaque: It lies within a module with an `at` method, whose insides are no layers.
        marks: Its input tensors, each with what tells whether it was written to.
        typed: Its output says by itself how a group acts on it.
        sampler: Its output is a set of group elements.
        overwrites: It writes to its inputs.
        final: The call returned.
    """

    call: Call
    opaque: bool
    marks: list[tuple[Tensor, int | Tensor]]
    typed: bool = False
    sampler: bool = False
    overwrites: bool = False
    final: bool = False


class Recorder:
    """Keeps what goes into and comes out of every call, before anything overwrites it.

    Args:
        outputs: False keeps the tree of calls and the samples alone.
    """

    def __init__(self, *, outputs: bool) -> None:
        self._outputs = outputs
        self.nodes: dict[str, Node] = {}
        self.inputs: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {}
        self.outputs: dict[str, Any] = {}
        self.samples: dict[str, Any] = {}
        self.output: Any = None
        self._snapshots = Snapshots()

    def before(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Keep the inputs."""
        above = None if call.parent is None else self.nodes[call.parent]
        opaque = above is not None and (above.opaque or has_at(above.call.module))
        tensors = [tensor_of(field) for field in fields((args, kwargs)).values()]
        self.nodes[call.name] = Node(call, opaque, [(tensor, _mark(tensor)) for tensor in tensors])
        if self._outputs and not opaque:
            self.inputs[call.name] = self._snapshots.take((args, kwargs))

    def after(self, call: Call, output: Any) -> None:
        """Keep the output."""
        node, found = self.nodes[call.name], fields(output).values()
        node.final, node.typed, node.sampler = True, any(map(is_typed, found)), any(map(is_sample, found))
        node.overwrites = any(_written(tensor, mark) for tensor, mark in node.marks)
        node.marks = []
        if node.sampler:
            self.samples[call.name] = self._snapshots.take(output)
        elif self._outputs and not node.opaque:
            self.outputs[call.name] = self._snapshots.take(output)

    def close(self, output: Any) -> None:
        """Keep the output of the whole network."""
        self.output = self._snapshots.take(output)

    def keep(self, names: Sequence[str]) -> None:
        """Forget the calls that are not named; samples stay."""
        self.inputs = {name: self.inputs[name] for name in names}
        self.outputs = {name: self.outputs[name] for name in names}
        self._snapshots = Snapshots()


def _mark(tensor: Tensor) -> int | Tensor:
    """Return torch's count of writes, or a copy where it does not count."""
    version = version_of(tensor)
    return tensor.clone() if version is None else version


def _written(tensor: Tensor, mark: int | Tensor) -> bool:
    return not torch.equal(tensor, mark) if isinstance(mark, Tensor) else version_of(tensor) != mark


def has_at(module: nn.Module) -> bool:
    """Say whether a module computes at given group elements through a method `at`."""
    return callable(getattr(module, "at", None))
