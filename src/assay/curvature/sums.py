"""Long sums over the data that survive an interruption: kept on disk now and then, gone on with where they stopped."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..engine import atomic
from ..errors import OutputError
from ..evaluating import tensor_bytes, weights_digest
from ..sources.loading import tensors_of
from .objective import NetworkObjective
from .reading import Batch

Sums = dict[str, Tensor]
PROBE = "losses"
TOLD = 16  # samples that stand for all where they are not held


@dataclass(frozen=True)
class Checkpoint:
    """A folder in which a long computation keeps what it has summed, every so many seconds and when it is stopped."""

    folder: Path
    seconds: float = 60.0


def summed(
    objective: NetworkObjective,
    row_bytes: float,
    run: Callable[[Batch], Sums],
    *,
    stage: str,
    told: str,
    checkpoint: Checkpoint | None = None,
) -> Sums:
    """`Σ run(batch)` over all samples in order, float64; resumed from the checkpoint where one is.

    `told` says what is computed: with the model, its parameters, the samples and their losses it identifies a
    checkpoint. Raises `OutputError` where the file there is of something else.
    """
    if checkpoint is None:
        total: Sums = {}
        for found in objective.over(row_bytes, run):
            total = _added(total, found)
        return total
    identity, probe = _identity(objective, f"{stage} {told}"), _probe(objective)
    file = checkpoint.folder / f"{stage}.safetensors"
    total, position = _read(file, identity, probe)
    saved = time.monotonic()
    try:
        for found, rows in objective.over(row_bytes, lambda b: (run(b), len(b)), start=position):
            total, position = _added(total, found), position + rows
            if time.monotonic() - saved > checkpoint.seconds:
                _write(file, total, position, identity, probe)
                saved = time.monotonic()
    finally:
        if total:
            _write(file, total, position, identity, probe)
    return {name: value.to(objective.l2.device) for name, value in total.items()}


def _added(total: Sums, found: Sums) -> Sums:
    """In place where no interruption can tear it apart: each sum is new, and the old ones stay until all are."""
    return {name: value.double() + total[name] if name in total else value.double() for name, value in found.items()}


def _read(file: Path, identity: str, probe: Tensor) -> tuple[Sums, int]:
    if not file.exists():
        return {}, 0
    try:
        with safe_open(file, "pt") as opened:
            told = opened.metadata() or {}
        total = load_file(file)
    except SafetensorError as cause:
        raise OutputError(f"{file} is damaged ({cause}); delete it to begin again") from cause
    losses = total.pop(PROBE, probe[:0])
    same = losses.shape == probe.shape and torch.allclose(losses, probe, rtol=1e-4, atol=1e-6, equal_nan=True)
    if told.get("identity") != identity or not same:
        raise OutputError(
            f"{file} is of another model or loss, other samples or settings; give another folder, or delete it"
        )
    return total, int(told["position"])


def _write(file: Path, total: Sums, position: int, identity: str, probe: Tensor) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    cpu = {name: value.cpu().contiguous() for name, value in total.items()} | {PROBE: probe}
    with atomic(file, resumes=True) as temporary:
        save_file(cpu, temporary, {"identity": identity, "position": str(position)})


def _probe(objective: NetworkObjective) -> Tensor:
    """Losses of the first samples: a function of one's own has no other identity, and rounds as it likes."""
    batch = next(objective.reading.batches()).rows(0, TOLD)
    with objective.evaluating():
        return objective.losses(objective.theta, batch.inputs, batch.targets).detach().double().cpu()


def _identity(objective: NetworkObjective, told: str) -> str:
    digest = hashlib.sha256(told.encode())
    digest.update(weights_digest(objective.model).encode())
    for batch in objective.reading.telling(TOLD):
        for tensor in (*tensors_of(batch.inputs), batch.targets, batch.weights):
            digest.update(tensor_bytes(tensor))
    for id_ in objective.reading.ids.to_pylist():
        digest.update(f"{id_}\n".encode())
    digest.update(json.dumps([list(objective.parameters.names), len(objective.reading)]).encode())
    return digest.hexdigest()
