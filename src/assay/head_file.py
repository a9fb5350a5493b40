"""A head as one safetensors file: tensors in float64, the rest as JSON in its header."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from .design import Design
from .encoder import Encoder
from .engine import atomic
from .errors import OutputError
from .families import by_column, make_family
from .l2 import L2Path

SCALARS = (
    "l2", "l1", "damping", "total_weight", "penalize_bias", "iterations", "gradient_norm", "gradient_scale",
    "decrement",
)  # fmt: skip


def write_head(head: Any, path: str | Path) -> None:
    """Writes a `Head`; of an encoder, its name alone."""
    header = {
        "family": head.family.name,
        "size": max(head.family.C, 2) if head.family.classifies else head.family.K,
        "bias": head.design.bias,
        "columns": head.columns,
        "vocabulary": head.vocabulary,
        "encoder": None if head.encoder is None else head.encoder.name,
        "class_weight": head.class_weight,
        "l2_path": None if head.l2_path is None else [head.l2_path.l2, head.l2_path.grid, head.l2_path.loo_loss],
        **{name: getattr(head, name) for name in SCALARS},
    }
    tensors = {"V": head.V, "kept": head.design.kept, "mean": head.design.mean, "scale": head.design.scale}
    if head.tilt is not None:
        tensors["tilt"] = head.tilt
    with atomic(path) as temporary:
        save_file({name: t.contiguous() for name, t in tensors.items()}, temporary, {"head": json.dumps(header)})


def read_head(path: str | Path) -> dict[str, Any]:
    """The fields of the `Head` that was written; raises `OutputError` where the file is missing, damaged or another."""
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["head"])
        return _fields(header, load_file(path))
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as cause:
        raise OutputError(f"{path} is not a head that assay saved ({cause}); audit again to make it") from cause


def _fields(header: dict[str, Any], tensors: dict[str, Tensor]) -> dict[str, Any]:
    vocabulary, path = header["vocabulary"], header["l2_path"]
    encoder, class_weight = header["encoder"], header["class_weight"]
    family = make_family(header["family"], header["size"])
    return {
        "V": tensors["V"],
        "tilt": tensors.get("tilt"),
        "family": by_column(family) if header["l1"] else family,
        "design": Design(tensors["kept"], tensors["mean"], tensors["scale"], header["bias"]),
        "columns": tuple(header["columns"]),
        "vocabulary": None if vocabulary is None else tuple(vocabulary),
        "l2_path": None if path is None else L2Path(path[0], tuple(path[1]), tuple(path[2])),
        "encoder": None if encoder is None else Encoder(encoder),
        "class_weight": None if class_weight is None else tuple(class_weight),
        **{name: header.get(name, 0.0) if name == "damping" else header[name] for name in SCALARS},
    }
