"""Trained weights from a file into a model, without executing anything that the file holds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn, serialization

from ..errors import SourceError

_serialization: Any = serialization
NEEDS_CODE: type[Exception] = _serialization.pickle.UnpicklingError  # the name alone: assay imports no pickle
"""What `torch.load(weights_only=True)` raises for a file that needs code. No public name of torch's stands for it, a
test keeps pickle out of our imports, and to catch `Exception` instead would hide other faults."""


def load_weights(model: nn.Module, weights: str | Path | Mapping[str, Tensor]) -> nn.Module:
    """Puts a state dict, or that of a `.safetensors` or `.pt` file, into the model; every name and shape must agree.

    A `.pt` file is read with `weights_only=True`: one that needs code to load is refused and nothing is executed.
    Raises `SourceError`; then the model keeps the weights it had.
    """
    state = dict(weights) if isinstance(weights, Mapping) else read_weights(weights)
    where = "the state dict" if isinstance(weights, Mapping) else str(weights)
    own = model.state_dict()
    missing, unknown = [n for n in own if n not in state], [n for n in state if n not in own]
    shapes = [n for n in own if n in state and own[n].shape != state[n].shape]
    if missing or unknown or shapes:
        told = [
            f"{len(names)} {what} ({', '.join(names[:3])}{', …' * (len(names) > 3)})"
            for what, names in (("are missing", missing), ("are unknown", unknown), ("have another shape", shapes))
            if names
        ]
        raise SourceError(
            f"{where} is not of this {type(model).__name__}: of its {len(own)} weights and buffers {', '.join(told)}"
        )
    if bad := next((n for n, value in state.items() if not bool(torch.isfinite(value.float()).all())), None):
        raise SourceError(f"{where}: the weights {bad!r} are not all finite; give an earlier checkpoint")
    model.load_state_dict(state)
    return model


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a `.safetensors` or `.pt`/`.pth` file by name; raises `SourceError`."""
    file = Path(path)
    if not file.is_file():
        raise SourceError(f"there is no file {path}; give the weights as .safetensors or .pt")
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        found = torch.load(file, map_location="cpu", weights_only=True)
    except NEEDS_CODE as cause:
        raise SourceError(
            f"{path} needs code to be loaded, which is not executed; save model.state_dict() with safetensors.torch"
        ) from cause
    except (SafetensorError, RuntimeError, OSError, EOFError, ValueError, LookupError, AttributeError) as cause:
        raise SourceError(f"{path} cannot be read as weights: {cause}") from cause
    return _tensors(found, path)


def _tensors(found: Any, path: str | Path) -> dict[str, Tensor]:
    """A state dict as it is, or under the name that training loops give it in theirs."""
    for name in ("state_dict", "model_state_dict", "model"):
        if isinstance(found, Mapping) and isinstance(found.get(name), Mapping):
            found = found[name]
    if not isinstance(found, Mapping) or not found or not all(isinstance(v, Tensor) for v in found.values()):
        raise SourceError(f"{path} holds no state dict (names to tensors)")
    return {str(name): value for name, value in found.items()}
