"""Checkpoints: tensors and plain facts in one file that cannot be half-written, and that notices a flipped byte."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

import partial_equiv
from partial_equiv.errors import UserError
from partial_equiv.runs.manifest import check_recorded, write_recorded

MARK, VERSION = "partial_equiv", 1
NETWORK = "model."
"""Prefix of the network's tensors in the state of an objective, which owns the network as `model`."""


def save_state(folder: Path, name: str, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
    """Write `<name>.safetensors`, consistent by itself, and `<name>.json`, a copy of `meta` for people.

    Tensors are copied to the CPU first; dtype, shape and every bit come back, memory layout and sharing do not.

    Args:
        folder: The run folder, which exists; its manifest records both files.
        name: File name without its ending, for example "best" or "checkpoints/000000120".
        tensors: Any dtype that safetensors knows.
        meta: What JSON can hold; tuples come back as lists. `load_model` reads meta["spec"].

    Raises:
        UserError: the folder cannot be written; nothing half-written is left, and a file of this name stays as it was.
        TypeError: `meta` holds something that JSON cannot.
    """
    plain = {key: tensor.detach().to("cpu", copy=True).contiguous() for key, tensor in tensors.items()}
    text = json.dumps(meta)
    # One key, for safetensors writes several in random order, and equal states should be equal files.
    mark = json.dumps({"version": VERSION, "sha256": _digest(plain, text), "meta": meta})
    write_recorded(folder, f"{name}.safetensors", safetensors.torch.save(plain, {MARK: mark}))
    write_recorded(folder, f"{name}.json", json.dumps(meta, indent=2).encode())


def load_state(folder: Path, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors (on the CPU) and the facts that `save_state` wrote.

    Raises:
        UserError: the file is missing, truncated, damaged (its own SHA-256 and that of the manifest are checked) or not
            one of ours; it is named.
    """
    path = Path(folder) / f"{name}.safetensors"
    if not path.is_file():
        here = sorted(other.stem for other in Path(folder).glob("*.safetensors"))
        found = f"it holds {', '.join(here)}" if here else "it holds no checkpoint at all"
        raise UserError(f"{path} is missing: give the folder of a run that saved '{name}' ({found})")
    check_recorded(Path(folder), f"{name}.safetensors")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            mark = json.loads((file.metadata() or {}).get(MARK, "{}"))
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (not a dict)
    except (safetensors.SafetensorError, OSError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"{path} cannot be read, it is truncated or damaged ({reason}): use another checkpoint"
        ) from error
    if not isinstance(mark, dict) or mark.get("version") != VERSION:
        raise UserError(f"{path} is not a checkpoint of this library: it carries no '{MARK}' mark of version {VERSION}")
    if "meta" not in mark or _digest(tensors, json.dumps(mark["meta"])) != mark.get("sha256"):
        raise UserError(f"{path} is damaged: its content does not match its own SHA-256; use another checkpoint")
    return tensors, mark["meta"]


def load_model(run: Path, name: str = "best") -> nn.Module:
    """Return the trained network of a run, built from the spec in its checkpoint, on the CPU and in evaluation mode.

    Raises:
        UserError: the checkpoint is unreadable, carries no spec, or does not fit the network that its spec builds.
    """
    tensors, meta = load_state(Path(run), name)
    path = Path(run) / f"{name}.safetensors"
    if "spec" not in meta:
        raise UserError(f"{path} carries no spec of its network: it was not saved by a training run of this library")
    model: nn.Module = partial_equiv.build(meta["spec"])
    load_network(model, tensors, path)
    return model.eval()


def load_network(model: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Copy a checkpoint's network tensors into `model`, all or none of them.

    Args:
        model: The network to fill.
        tensors: A state that holds the network's tensors, bare or under the prefix "model." beside other things.
        path: The checkpoint, for messages.

    Raises:
        UserError: names or shapes differ; the message names the first differing tensors.
    """
    own = model.state_dict()
    bare = {key: tensors[key] for key in own if key in tensors}
    owned = {key: tensors[NETWORK + key] for key in own if NETWORK + key in tensors}
    found = owned if len(owned) > len(bare) else bare
    wrong = [
        f"{key}: {_shape(found.get(key))}, wanted {_shape(own[key])}"
        for key in own
        if _differs(found.get(key), own[key])
    ]
    if found is bare:
        # Beside a bare network nothing else may lie in the file, so a surplus means another network.
        wrong += [f"{key}: {_shape(tensors[key])}, wanted none" for key in tensors if key not in own]
    else:
        prefixed = [key for key in tensors if key.startswith(NETWORK)]
        wrong += [f"{key}: not wanted" for key in prefixed if key.removeprefix(NETWORK) not in own]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise UserError(
            f"{path} holds another architecture: {'; '.join(wrong[:3])}{more}. Build the network it was saved from"
        )
    model.load_state_dict(found)


def _differs(found: Tensor | None, wanted: Tensor) -> bool:
    return found is None or found.shape != wanted.shape


def _shape(tensor: Tensor | None) -> str:
    return "none" if tensor is None else str(list(tensor.shape))


def _digest(tensors: Mapping[str, Tensor], text: str) -> str:
    """Return the SHA-256 over names, dtypes, shapes, contents and the JSON text."""
    total = hashlib.sha256(text.encode())
    for key in sorted(tensors):
        tensor = tensors[key]
        total.update(f"{key}|{tensor.dtype}|{list(tensor.shape)}|".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()
