"""Influence as training goes on: Cook's distance and leave-one-out loss of every sample at each checkpoint."""

from __future__ import annotations

import copy
import glob
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from torch import Tensor, nn

from ..curvature.dense import Curvature
from ..engine import Progress, atomic, stage
from ..errors import OutputError, ShapeError, SourceError
from ..evaluating import weights_digest
from ..families import Family, family_of
from ..features.keep import Encoding
from ..features.network import Network, Networked
from ..features.weights import load_weights
from ..head import Head
from ..l2 import Rows, checked_damping
from ..scores import Scores
from ..sources.identity import ids_of_type
from ..sources.samples import whole
from .judge import judge
from .transitions import label_loss

STEPS = b"assay.trace"  # in the schema metadata: what is known of each step
Checkpoints = str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Mapping[int, Mapping[str, Tensor]]


@dataclass(frozen=True)
class Trace:
    """The influence of every sample at every step.

    - `table`: one row a sample and step, `step` int64, `id`, `cooks_distance` (nats × N, ≥ 0, as `Leverage` gives it),
      `loss`, `loo_loss` and `label_loss` (nats; the last is what an audit's `mislabeled_score` is made of where a
      refitted head judges classes, see explore/kinds.py), step after step in the order of the samples.
    - `steps`: one row a step: `step`, mean `loss`, `loo_accuracy` (of leave-one-out predictions; NaN for a regression),
      `held_out_accuracy` (that of the samples of weight zero; null without), `gradient_norm` and `gradient_scale` of
      the objective at the head, its `l2` and `damping`.
    """

    table: pa.Table
    steps: pa.Table

    @cached_property
    def ids(self) -> pa.Array:
        """The samples, in order."""
        return self.table["id"].slice(0, len(self.table) // max(len(self.steps), 1)).combine_chunks()

    def column(self, name: str = "cooks_distance") -> NDArray[np.float64]:
        """A column as `[steps, samples]`."""
        return self.table[name].to_numpy().reshape(len(self.steps), -1)

    def share(self, ids: Sequence[Any] | NDArray[Any]) -> NDArray[np.float64]:
        """Share of all samples' Cook's distance at each step that each of these has, `[steps, ids]`."""
        distance = self.column()
        return distance[:, self._rows(ids)] / distance.sum(1, keepdims=True)

    def rank(self, ids: Sequence[Any] | NDArray[Any]) -> NDArray[np.int64]:
        """Place of these samples by Cook's distance at each step, 1 the most influential, `[steps, ids]`."""
        distance = self.column()
        chosen = distance[:, self._rows(ids)]
        return 1 + (distance[:, None, :] > chosen[:, :, None]).sum(2)

    def _rows(self, ids: Sequence[Any] | NDArray[Any]) -> NDArray[np.int64]:
        found = pc.index_in(ids_of_type(list(ids), self.ids.type), self.ids)
        if found.null_count:
            missing = list(ids)[pc.is_null(found).index(True).as_py()]
            raise ShapeError(f"id {missing!r} is not among the {len(self.ids)} samples of this trace")
        return found.to_numpy().astype(np.int64)

    def save(self, path: str | Path) -> Path:
        """Writes one Parquet file, atomically."""
        metadata = {STEPS: json.dumps(self.steps.to_pylist()).encode()}
        with atomic(path) as temporary:
            pq.write_table(self.table.replace_schema_metadata(metadata), temporary, compression="zstd")
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> Trace:
        """The trace that `save` wrote; raises `OutputError` where the file is missing or is none."""
        try:
            table = pq.read_table(path)
            steps = json.loads((table.schema.metadata or {})[STEPS])
        except (OSError, pa.ArrowException, KeyError, ValueError) as cause:
            raise OutputError(f"{path} is not a trace that assay saved ({cause}); trace again to make it") from cause
        return cls(table.replace_schema_metadata(None), pa.Table.from_pylist(steps))


def trace(
    data: Any,
    *,
    model: nn.Module,
    checkpoints: Checkpoints,
    refit: bool = False,
    l2: float | str = 0.0,
    damping: float = 1e-6,
    layer: str | None = None,
    family: Any = None,
    encoding: Encoding | None = None,
    out: str | Path | None = None,
    progress: Progress | None = None,
    **columns: Any,
) -> Trace:
    """Scores every sample by the last layer of a network at each of its checkpoints.

    - `data`, `layer`, `family`, `encoding` and further `columns` (label, id, weight, …) are those of `assay.audit`.
    - `checkpoints`: a glob or paths of `.safetensors` or `.pt` files, whose step is the last number of the name; or
      state dicts by step. `model` is left as it is.
    - `refit=False` keeps the trained head of each checkpoint, with λ2 `l2` in its objective and `damping` added to the
      curvature for every parameter; `refit=True` fits a head to each embedding, with `l2` a number or "auto".
    - `out`: a folder where each step is kept as it is done, so that an interrupted trace goes on.

    All samples' embedding at one step is in memory. Raises `SourceError` for a checkpoint of another architecture,
    `ShapeError`, `OutputError`.
    """
    damping = checked_damping(damping)
    if refit is False and not isinstance(l2, str) and not l2 and not damping:
        raise ShapeError("refit=False needs l2= or damping=: a trained head alone may have no curvature to invert")
    network = Network(model, layer, family, refit, 0.0 if refit else damping, None, encoding or Encoding())
    told: list[dict[str, Any]] = []
    tables: list[pa.Table] = []
    found = _checkpoints(checkpoints)
    folder: Path | None = None
    if out is not None:
        identity = {"refit": refit, "l2": l2, "damping": damping, "samples": network.encoded(data, **columns).digest()}
        folder = _claimed(Path(out), identity)
    with stage(progress, "trace", len(found)) as advance:
        for step, weights in found:
            own = load_weights(copy.deepcopy(model), weights)
            kept = None if folder is None else folder / f"step-{step:010d}-{weights_digest(own)[:12]}.parquet"
            if kept is not None and kept.exists():
                part = Trace.load(kept)
            else:
                part = _at(step, replace(network, model=own), data, l2, columns)
                if kept is not None:
                    part.save(kept)
            tables.append(part.table)
            told += part.steps.to_pylist()
            advance()
    return Trace(pa.concat_tables(tables).combine_chunks(), pa.Table.from_pylist(told))


def _at(step: int, network: Network, data: Any, l2: float | str, columns: dict[str, Any]) -> Trace:
    """One step's rows."""
    found = network.of(data, l2=0.0 if isinstance(l2, str) else l2, folder=None, **columns)
    batch = whole(found.source)
    head, rows = _head(found, l2, Rows(found.layer.design.matrix(batch.x), batch.y, batch.w))
    curvature = head.curvature_from(rows.sums(head.family)(head.V).curvature)
    scores = head.leverage_of(curvature, batch.ids, rows).scores
    numbers = {name: pa.array(getattr(scores, name).numpy()) for name in ("cooks_distance", "loss", "loo_loss")}
    numbers["label_loss"] = numbers["loo_loss"]
    if found.layer.refit and head.family.classifies:
        numbers["label_loss"] = pa.array(_label_loss(head, rows, curvature).numpy())
    table = pa.table({"step": pa.array(np.full(len(batch.ids), step)), "id": batch.ids, **numbers})
    named = ("gradient_norm", "gradient_scale", "l2", "damping")
    mean = float(rows.w @ scores.loss) / float(rows.w.sum())
    told: dict[str, Any] = {"step": step, "loss": mean, "loo_accuracy": _accuracy(head.family, scores, rows, rows.w)}
    held = _accuracy(head.family, scores, rows, (rows.w == 0).double())
    told["held_out_accuracy"] = None if math.isnan(held) else held
    told |= {name: float(getattr(head, name)) for name in named}
    return Trace(table, pa.Table.from_pylist([told]))


def _label_loss(head: Head, rows: Rows, curvature: Curvature) -> Tensor:
    """What an audit's `mislabeled_score` is made of, in nats."""
    judged = judge(head, rows, head.V, curvature)
    return label_loss(head.family, judged.scores.left_out_logits, rows.y, judged.mistaken.log_relative)


def _accuracy(family: Family, scores: Scores, rows: Rows, weights: Tensor) -> float:
    """Share of the weight whose label the leave-one-out prediction has; NaN for a regression, or without any."""
    known = ~scores.loo_logits.isnan().any(1) & (weights > 0)
    if not family.classifies or not bool(known.any()):
        return float("nan")
    right = family.probabilities(scores.loo_logits[known]).argmax(1) == rows.y[known]
    return float(weights[known] @ right.double()) / float(weights[known].sum())


def _head(found: Networked, l2: float | str, rows: Rows) -> tuple[Head, Rows]:
    """The head at a checkpoint: the layer as it is, or one fitted to the same rows."""
    source = found.source
    family = family_of(source, found.family)
    if found.layer.refit:
        fitted = Head.fit_rows(
            rows, family, found.layer.design, l2=l2, columns=source.columns, vocabulary=source.vocabulary
        )
        return fitted, rows
    kept = found.layer.head(family, source, float(rows.w.sum()), found.encoder)
    return kept.as_trained(rows.sums(family)), rows


def _checkpoints(given: Checkpoints) -> list[tuple[int, Any]]:
    """(step, weights) in the order of the steps."""
    if isinstance(given, Mapping):
        found: list[tuple[int, Any]] = sorted(given.items(), key=lambda item: item[0])
    else:
        paths = [given] if isinstance(given, str | os.PathLike) else list(given)
        files = [file for path in paths for file in _matching(os.fspath(path))]
        found = sorted((_step_of(file), file) for file in files)
    if not found:
        raise SourceError(f"no checkpoint matches {given}; give a glob, paths, or state dicts by step")
    for (step, one), (other, two) in pairwise(found):
        if step == other:
            raise SourceError(f"{one} and {two} are both step {step}; the last number of a name is its step")
    return found


def _matching(path: str) -> list[str]:
    """The file of this name, or those that a pattern matches."""
    found = [path] if os.path.exists(path) else sorted(glob.glob(path))
    if not found:
        raise SourceError(f"no checkpoint matches {path}; give a glob, paths, or state dicts by step")
    return found


def _step_of(file: str) -> int:
    numbers = re.findall(r"\d+", Path(file).stem)
    if not numbers:
        raise SourceError(f"{file} has no number in its name to be its step; name it like epoch-00500.safetensors")
    return int(numbers[-1])


def _claimed(folder: Path, identity: dict[str, Any]) -> Path:
    """The folder for the steps of one trace; raises `OutputError` where it holds those of another."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "trace.json"
    text = json.dumps(identity, sort_keys=True)
    if file.exists() and file.read_text(encoding="utf-8") != text:
        raise OutputError(f"{folder} holds steps of another trace; name another folder, or remove it")
    with atomic(file) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return folder
