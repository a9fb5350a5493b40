"""How an audit judges labels: the trimmed head, told in passes over the source, and which classes are mistaken."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..curvature.dense import Curvature
from ..engine import atomic
from ..explore.transitions import Transitions, transitions_of
from ..explore.trim import BINS, ROUNDS, find_suspects, fit_again
from ..head import Head
from ..l2 import Rows
from ..scores import read_scores
from .passes import Passes, at_weights, save_curvature
from .weighing import Weighing


@dataclass(frozen=True)
class Trimmed:
    """A head, its curvature and, where it was fitted without them, the suspects; `weight` is theirs."""

    head: Head
    curvature: Curvature
    weighing: Weighing | None = None
    weight: float = 0.0

    def told(self) -> dict[str, Any]:
        rate = 0.0 if self.weighing is None else self.weighing.suspects.flip_rate
        return {"flip_rate": rate, "weight": self.weight}

    def transitions(self, positions: list[int], rows: Rows) -> Transitions:
        """Which classes are mistaken for which, told from a sample: the rows at these positions of the source."""
        w = rows.w if self.weighing is None else self.weighing.weights_at(np.array(positions), rows.y, rows.w)
        scores = read_scores(self.head.family, self.curvature, self.head.V, rows.H, rows.y, w)
        return transitions_of(self.head.family, scores, rows.y, rows.w)


def trim(passes: Passes, head: Head, curvature: Curvature) -> Trimmed:
    """`explore.trim.trimmed` over a source: `ROUNDS` times a pass for the losses and those of a fit, two bytes a row on
    disk. The head itself where no label is suspected, or the rest has no fit of its own.
    """
    found = Trimmed(head, curvature)
    for k in range(ROUNDS):
        again = _round(passes, found, k)
        if again is None:
            break
        found = again
    if found.weighing is not None:
        _keep(found, passes.folder.trimmed_head, passes.folder.trimmed_curvature)
    return found


def _keep(found: Trimmed, head: Path, curvature: Path) -> None:
    """Writes what is not there yet: a run that is cut off again and again comes further each time."""
    if not head.exists():
        found.head.save(head)
    if not curvature.exists():
        save_curvature(found.curvature, curvature)


def _round(passes: Passes, before: Trimmed, k: int) -> Trimmed | None:
    """The fit without those whom the head `before` suspects."""
    head, folder = before.head, passes.folder.work / f"trim-{k}"
    folder.mkdir(parents=True, exist_ok=True)
    _keep(before, folder / "head.safetensors", folder / "curvature.safetensors")
    parts = passes.loss_bins(folder, before.weighing)
    counts = _counts(parts, max(head.family.C, 2))
    suspects = find_suspects(counts)
    if not suspects.flip_rate:
        return None
    weighing = Weighing(_joined(parts, folder / "bins.npy", len(passes.source)), suspects)
    out = sum(float(row[limit:].sum()) for row, limit in zip(counts, suspects.limits, strict=True))
    without = replace(passes, weighing=weighing)
    total = float(counts.sum()) - out
    objective = head.objective(lambda V: without.moments(at_weights(head, V)), total_weight=total)
    fit = fit_again(objective, head.V)
    if fit is None:
        return None
    again = replace(head, V=fit.V, total_weight=total, l2=objective.l2, l2_path=None)
    return Trimmed(again, fit.curvature, weighing, out)


def _counts(parts: list[Path], classes: int) -> Float[Tensor, "C bins"]:
    """The weight of each class in each bin, over all shards."""
    counts = np.zeros(classes * BINS)
    for part in parts:
        with np.load(part) as arrays:
            counts[arrays["cells"]] += arrays["weight"]
    return torch.from_numpy(counts).reshape(classes, BINS)


def _joined(parts: list[Path], target: Path, rows: int) -> Path:
    """The bins of all shards in one file, in order."""
    if not target.exists():
        with atomic(target, resumes=True) as temporary:
            file = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint16, shape=(rows,))
            first = 0
            for part in parts:
                with np.load(part) as arrays:
                    file[first : first + len(arrays["bins"])] = arrays["bins"]
                    first += len(arrays["bins"])
            file.flush()
    return target
