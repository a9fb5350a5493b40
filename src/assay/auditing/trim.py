"""How an audit judges labels: `explore.judge.judge` in passes over the source, told of pairs by a sample of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..curvature.dense import Curvature
from ..engine import atomic, write_json
from ..explore.judge import Judged, judged_by, likely_wrong, unlearn
from ..explore.transitions import Transitions
from ..explore.trim import BINS, ROUNDS, Suspects, find_suspects, fit_again, trimmed
from ..head import Head
from ..l2 import Rows
from .passes import Passes, at_weights, save_curvature
from .weighing import Drawn, Weighing


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

    def judged(self, positions: list[int], rows: Rows) -> Judged:
        """A sample, the rows at these positions of the source."""
        w = rows.w if self.weighing is None else self.weighing.weights_at(np.array(positions), rows.y, rows.w)
        return judged_by(self.head.family, rows, self.head.V, self.curvature, w)


def trim(passes: Passes, head: Head, curvature: Curvature, positions: list[int], rows: Rows) -> Trimmed:
    """`ROUNDS` times a pass for the losses and those of a fit, two bytes a row on disk; once more where the sample, the
    `rows` at these positions, says that the head has learnt to mistake classes. The head itself where no label is
    suspected, or the rest has no fit of its own.
    """
    found = Trimmed(head, curvature)
    for k in range(ROUNDS):
        again = _round(passes, found, k)
        if again is None:
            break
        found = again
    found = _unlearnt(passes, found, positions, rows) or found
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
    return _without(passes, head, parts, counts, suspects) if suspects.flip_rate else None


def _unlearnt(passes: Passes, before: Trimmed, positions: list[int], rows: Rows) -> Trimmed | None:
    """The fit without those whom a head suspects that has not seen the mistakes; the sample tells of it, once."""
    head, folder = before.head, passes.folder.work / "trim-pairs"
    told, start = folder / "told.json", folder / "start.safetensors"
    if not told.exists():
        folder.mkdir(parents=True, exist_ok=True)
        all_of_it = len(positions) == len(passes.source)
        own = (head.V, before.judged(positions, rows)) if all_of_it else _sampled(head, rows)
        found = None if own is None else unlearn(head, rows, *own)
        if found is None and own is not None and all_of_it:
            own[1].mistaken.save(passes.folder.mistaken)  # what this head sees; it is not asked again
        if found is not None:
            _at_total(head, found.V, float(found.w.sum())).save(folder / "head.safetensors")
            save_curvature(found.curvature, folder / "curvature.safetensors")
            found.pairs.save(folder / "mistaken.safetensors")
            replace(head, V=found.fit.V).save(start)
            with atomic(folder / "drawn.npz", resumes=True) as temporary, temporary.open("wb") as file:
                np.savez(file, positions=np.array(positions), w=found.w.numpy())
        write_json(told, {"pairs": found is not None})
    if not json.loads(told.read_text(encoding="utf-8"))["pairs"]:
        return None
    parts = passes.loss_bins(folder, Drawn(folder / "drawn.npz"), before.weighing)
    counts = _counts(parts, max(head.family.C, 2))
    suspects = likely_wrong(Transitions.load(folder / "mistaken.safetensors"), counts)
    if before.weighing is not None:
        suspects = replace(suspects, flip_rate=before.weighing.suspects.flip_rate)
    return _without(passes, replace(head, V=Head.load(start).V), parts, counts, suspects)


def _sampled(head: Head, rows: Rows) -> tuple[Tensor, Judged] | None:
    """The trimmed head of a sample, which heads of the sample are to be compared with."""
    fit = fit_again(head.objective(rows.sums(head.family), total_weight=float(rows.w.sum())), head.V)
    if fit is None:
        return None
    left = trimmed(head, rows, fit.V, fit.curvature)
    return left.V, judged_by(head.family, rows, left.V, left.curvature, left.w)


def _without(
    passes: Passes, head: Head, parts: list[Path], counts: Float[Tensor, "C bins"], suspects: Suspects
) -> Trimmed | None:
    """The fit without the suspects, from the head's weights; the parts hold the bins of the shards."""
    weighing = Weighing(_joined(parts, parts[0].with_name("bins.npy"), len(passes.source)), suspects)
    out = sum(float(row[limit:].sum()) for row, limit in zip(counts, suspects.limits, strict=True))
    without = replace(passes, weighing=weighing)
    total = float(counts.sum()) - out
    objective = head.objective(lambda V: without.moments(at_weights(head, V)), total_weight=total)
    fit = fit_again(objective, head.V)
    return None if fit is None else Trimmed(_at_total(head, fit.V, total), fit.curvature, weighing, out)


def _at_total(head: Head, V: Tensor, total: float) -> Head:
    """A head of the same total penalty, fitted to rows of this weight."""
    return replace(head, V=V, total_weight=total, l2=head.l2 * head.total_weight / total, l2_path=None)


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
