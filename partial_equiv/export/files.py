"""Plain networks as files: written to bytes, with the facts that their use needs, and read back.

Axes: B batch, C channels, Y X image.
"""

import importlib.util
import io
import json
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from partial_equiv.errors import UserError
from partial_equiv.export.agreement import TOLERANCES, largest_difference
from partial_equiv.menu import choose

Facts = Mapping[str, Any]
INPUT, OUTPUT, FACTS = "images", "output", "facts.json"
NEEDED = ("onnx", "onnxscript", "onnxruntime")
LARGEST_ONNX = 2**31 - 2**20
"""Bytes of weights that an ONNX file holds, with room for the graph: one message has at most 2 GB."""


class Loaded(NamedTuple):
    """A network read back, and the facts that were written with it."""

    network: Callable[[Tensor], Tensor]
    facts: dict[str, Any]


class Format(NamedTuple):
    """A kind of file.

    Args:
        ending: Of the file's name.
        write: (plain network, images, facts) -> content.
        read: content -> network and facts.
    """

    ending: str
    write: Callable[[nn.Module, Tensor, Facts], bytes]
    read: Callable[[bytes], Loaded]


class Exported(NamedTuple):
    """A file that was read back and said the same.

    Args:
        content: Of the file.
        network: As it was read back.
        difference: Largest difference to the plain network, see `Agreement`, over batches of 1 and of all images.
    """

    content: bytes
    network: Callable[[Tensor], Tensor]
    difference: float


def export_network(plain: nn.Module, kind: str, images: Tensor, facts: Facts) -> Exported:
    """Return a plain network as the content of a file that takes batches of any length.

    It is read back, and must say the same of one image and of all of them.

    Args:
        plain: As `to_plain` returns it, on the CPU.
        kind: "onnx" or "torch", see `FORMATS`.
        images: Two or more, [B, C, Y, X].
        facts: What a user of the file has to know, such as mean and std of the normalisation: what JSON can hold.
    Raises:
        UserError: no such kind, a package is missing, a precision that the kind lacks, or the file says something else.
    """
    form = choose(FORMATS, kind, "export")
    content = form.write(plain, images, facts)
    network, kept = form.read(content)
    if kept != json.loads(json.dumps(dict(facts))):
        raise UserError(f"export={kind} lost facts that were written with the network: report it")
    difference = max(largest_difference(plain, network, batch) for batch in (images[:1], images))
    if difference > TOLERANCES[images.dtype][0]:
        raise UserError(
            f"export={kind}: the file says something else than the network, the largest difference is "
            f"{difference:.2g}: use another version of torch or onnxruntime, and report it"
        )
    return Exported(content, network, difference)


def _program(plain: nn.Module, images: Tensor) -> torch.export.ExportedProgram:
    """Trace a plain network for batches of any length."""
    # One image would make the batch a constant.
    return torch.export.export(plain, (images[:2],), dynamic_shapes=({0: torch.export.Dim("batch")},))


def program_bytes(plain: nn.Module, images: Tensor, facts: Facts) -> bytes:
    """Return a program of `torch.export`; the facts are its extra file "facts.json"."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # Filters with channels side by side fill their storage, which torch tells of rows side by side alone.
        warnings.filterwarnings("ignore", "No complete tensor found in the group", UserWarning)
        torch.export.save(_program(plain, images), buffer, extra_files={FACTS: json.dumps(dict(facts))})
    return buffer.getvalue()


def read_program(content: bytes) -> Loaded:
    """Return what `program_bytes` wrote."""
    extra = {FACTS: ""}
    program = torch.export.load(io.BytesIO(content), extra_files=extra)
    return Loaded(program.module(), json.loads(extra[FACTS]))


def onnx_bytes(plain: nn.Module, images: Tensor, facts: Facts) -> bytes:
    """Return an ONNX model, weights included; every fact is an entry of its metadata, written as JSON.

    Raises:
        UserError: a package is missing, or the network is not in float32 or too large.
    """
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise UserError(
            f"export=onnx writes the file and reads it back with {', '.join(NEEDED)}, and {', '.join(missing)} is not "
            "installed: pip install 'partial_equiv[export]', or give export=torch"
        )
    if images.dtype != torch.float32:
        raise UserError(f"export=onnx writes float32 and the network is of {images.dtype}: give model.float()")
    no_bytes = sum(tensor.nbytes for tensor in plain.state_dict().values())
    if no_bytes > LARGEST_ONNX:
        raise UserError(
            f"export=onnx: the plain network has {no_bytes / 1e9:.1f} GB of weights and one ONNX file holds 2 GB: give "
            "export=torch, or train with conv.factorization=gc"
        )
    made = torch.onnx.export(
        _program(plain, images), input_names=[INPUT], output_names=[OUTPUT], dynamo=True, verbose=False
    )
    assert made is not None
    made.model.metadata_props.update({key: json.dumps(value) for key, value in facts.items()})
    content: bytes = made.model_proto.SerializeToString()
    return content


def read_onnx(content: bytes) -> Loaded:
    """Return what `onnx_bytes` wrote, run by onnxruntime on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def network(images: Tensor) -> Tensor:
        (output,) = session.run([OUTPUT], {INPUT: images.numpy()})
        return torch.from_numpy(output)

    entries = session.get_modelmeta().custom_metadata_map
    return Loaded(network, {key: json.loads(value) for key, value in entries.items()})


FORMATS: dict[str, Format] = {
    "onnx": Format(".onnx", onnx_bytes, read_onnx),
    "torch": Format(".pt2", program_bytes, read_program),
}
