"""What layers hand to one another: tensors, maps with group elements, geometric tensors, and structures of these.

Nothing is known of a type but its attributes: `values` and `elements` for a map on sampled elements, `elements` alone
for a sample of them, `tensor` and `type.gspace` for a geometric tensor of escnn.
"""

import copy
import dataclasses
import weakref
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Sampled(NamedTuple):
    """Elements to compute a layer at, in the form that layers with an `at` method take.

    Args:
        closure: 1: nothing is known of how the elements lie.
    Shape:
        elements [S, G, d]; weights [S, G] or None.
    """

    elements: Tensor
    weights: Tensor | None = None
    closure: int = 1


def is_map(value: Any) -> bool:
    """Say whether a value is a feature map on sampled group elements."""
    return isinstance(value, tuple) and _has_tensor(value, "values") and _has_tensor(value, "elements")


def is_sample(value: Any) -> bool:
    """Say whether a value is a set of group elements without features."""
    return isinstance(value, tuple) and _has_tensor(value, "elements") and not hasattr(value, "values")


def is_geometric(value: Any) -> bool:
    """Say whether a value is a geometric tensor, which carries its own representation."""
    return _has_tensor(value, "tensor") and hasattr(getattr(value, "type", None), "gspace")


def is_typed(value: Any) -> bool:
    """Say whether a value says by itself how a group acts on it."""
    return is_map(value) or is_geometric(value)


def is_field(value: Any) -> bool:
    """Say whether a value is one thing that a group acts on."""
    return isinstance(value, Tensor) or is_typed(value) or is_sample(value)


def fields(value: Any, path: str = "") -> dict[str, Any]:
    """Return the fields of a structure by their place in it: "" for a bare one, "[1]", ".logits"."""
    if is_field(value):
        return {path: value}
    found: dict[str, Any] = {}
    for key, item in _items(value):
        found |= fields(item, path + key)
    return found


def rebuild(value: Any, changed: Mapping[str, Any], path: str = "") -> Any:
    """Return the structure with the fields at the given places exchanged; what has none is returned as it is."""
    if is_field(value):
        return changed.get(path, value)
    items = _items(value)
    new = [rebuild(item, changed, path + key) for key, item in items]
    if all(mine is item for mine, (_, item) in zip(new, items, strict=True)):
        return value
    if isinstance(value, dict):
        twin = copy.copy(value)
        for key, item in zip(value, new, strict=True):
            twin[key] = item
        return twin
    if isinstance(value, tuple):
        return type(value)(*new) if hasattr(value, "_fields") else type(value)(new)
    if isinstance(value, list):
        return type(value)(new)
    names = [field.name for field in dataclasses.fields(value)]
    return dataclasses.replace(value, **dict(zip(names, new, strict=True)))


def tensor_of(field: Any) -> Tensor:
    """Return the numbers of a field."""
    if isinstance(field, Tensor):
        return field
    found: Tensor = field.values if is_map(field) else field.tensor if is_geometric(field) else field.elements
    return found


def with_elements(field: Any, elements: Tensor) -> Any:
    """Return the map or sample at other elements, of whose order nothing is known any more."""
    unknown = {"closure": 1} if hasattr(field, "closure") else {}
    return field._replace(elements=elements, **unknown)


def with_tensor(field: Any, tensor: Tensor) -> Any:
    """Return the field with other numbers."""
    if isinstance(field, Tensor):
        return tensor
    if isinstance(field, tuple):
        return field._replace(values=tensor) if is_map(field) else with_elements(field, tensor)  # type: ignore[attr-defined]
    twin = copy.copy(field)
    twin.tensor = tensor
    return twin


def version_of(tensor: Tensor) -> int | None:
    """Return how often a tensor was written to, None where torch does not count (inference mode)."""
    return None if tensor.is_inference() else tensor._version


class Snapshots:
    """Copies of what layers hand on, taken before anything overwrites it; the same tensor is copied once."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, int, Tensor]] = {}

    def take(self, value: Any) -> Any:
        """Return the structure with every field copied."""
        return rebuild(value, {path: self._field(field) for path, field in fields(value).items()})

    def _field(self, field: Any) -> Any:
        if isinstance(field, tuple):
            return field._replace(  # type: ignore[attr-defined]
                **{key: self._copy(item) for key, item in field._asdict().items() if isinstance(item, Tensor)}  # type: ignore[attr-defined]
            )
        return with_tensor(field, self._copy(tensor_of(field)))

    def _copy(self, tensor: Tensor) -> Tensor:
        version, known = version_of(tensor), self._known.get(id(tensor))
        if version is not None and known is not None and known[0]() is tensor and known[1] == version:
            return known[2]
        # Densely laid out, so that a copy of an expanded tensor can be written to.
        twin = (
            tensor.detach().clone(memory_format=torch.contiguous_format) if tensor.layout == torch.strided else tensor
        )
        if version is not None:
            self._known[id(tensor)] = (weakref.ref(tensor), version, twin)
        return twin


def _has_tensor(value: Any, name: str) -> bool:
    return not isinstance(value, Tensor) and isinstance(getattr(value, name, None), Tensor)


def _items(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [(f".{key}", item) for key, item in value.items()]
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return [(f".{key}", item) for key, item in zip(value._fields, value, strict=True)]
    if isinstance(value, list | tuple):
        return [(f"[{index}]", item) for index, item in enumerate(value)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(f".{field.name}", getattr(value, field.name)) for field in dataclasses.fields(value)]
    return []
