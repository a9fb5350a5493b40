"""One data set scored by several models, or by one at several checkpoints, as one ranking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..errors import ShapeError
from ..explore.trace import Trace
from .load import load
from .result import Audit

COLUMNS = ["id", "given_label", "suggested_label", "mislabeled_score", "cooks_distance", "is_label_issue", "held_out"]

POWER = 8
"""Of the held-out accuracy, that weighs members; from 8 on the power matters little (docs/images.md)."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Ensemble:
    """What several models say of the same samples together.

    - `table`: one row a sample, in the order of the first member: `id`, `given_label` and `suggested_label` (that of
      most audits, the mean for a regression; null where there are no audits, or several targets), `label_loss`
      (weighted mean of the members' `L`, that of an audit's `mislabeled_score`, or a step's `label_loss`; nats),
      `label_loss_std` (over members), `cooks_distance` (weighted mean), `agreement` (share of the audits that call it a
      label issue; NaN without), `mislabeled_score` `L/(1 + L)` of the mean loss.
    - `members`: one row an audit or a step of a trace: `member`, `label_loss` (mean over samples), `loo_accuracy`
      (share of given labels that the leave-one-out prediction has; NaN for a regression), `held_out_accuracy` (of the
      samples of weight zero; NaN without), `weight` (they sum to one).
    """

    table: pa.Table
    members: pa.Table

    def top(self, n: int = 50, *, by: str = "mislabeled_score") -> pa.Table:
        """The n highest rows by a column of `table`."""
        return self.table.sort_by([(by, "descending")]).slice(0, n)


def ensemble(
    members: Sequence[Audit | Trace | str | Path], *, weights: Sequence[float | int] | None = None
) -> Ensemble:
    """Joins audits (or folders of audits) and traces of one data set: `L_i = Σ_m a_m L_i,m`, the mean over members m of
    the loss of each sample's label.

    Where all members have held-out samples (weight zero), `a_m` is their accuracy there to the power of 8, so that a
    network that has not learnt, or knows its labels by heart, has little say; without, all weigh the same. `weights`
    are one a member or step instead. Samples are matched by id. The mean of losses is the better join: of ranks, or of
    probabilities, it does worse (docs/images.md). Raises `ShapeError` where members are of other samples or labels, or
    the weights are not one each, negative, or all zero.
    """
    if isinstance(members, str | Path) or not len(members):
        raise ShapeError("an ensemble has one or more members: audits, their folders, or traces")
    parts = [part for member in members for part in _parts(member)]
    first = parts[0]
    aligned = [part.aligned(first) for part in parts]
    given = _given(aligned)
    a = _weights(aligned, weights)
    losses = np.stack([part.loss for part in aligned])
    mean = _mean(losses, a)
    suggested, agreement = _votes(aligned)
    nothing = pa.nulls(len(first.ids))
    table = pa.table(
        {
            "id": first.ids,
            "given_label": nothing if given is None else given,
            "suggested_label": nothing if suggested is None else suggested,
            "label_loss": mean,
            "label_loss_std": losses.std(0),
            "cooks_distance": _mean(np.stack([part.distance for part in aligned]), a),
            "agreement": agreement,
            "mislabeled_score": mean / (1 + mean),
        }
    )
    told = {
        "member": [part.name for part in aligned],
        "label_loss": [float(np.nanmean(part.loss)) for part in aligned],
        "loo_accuracy": [part.accuracy for part in aligned],
        "held_out_accuracy": [part.held_out_accuracy for part in aligned],
        "weight": a,
    }
    return Ensemble(table, pa.table(told))


@dataclass(frozen=True)
class _Labels:
    """What an audit says of labels, `[n]` each."""

    given: pa.Array
    suggested: pa.Array
    issue: NDArray[np.bool_]

    def take(self, order: NDArray[np.int64]) -> _Labels:
        places = pa.array(order)
        return _Labels(self.given.take(places), self.suggested.take(places), self.issue[order])


@dataclass(frozen=True)
class _Part:
    """One member's columns `[n]`; a step of a trace has no labels."""

    name: str
    ids: pa.Array
    loss: Floats
    distance: Floats
    accuracy: float
    held_out_accuracy: float
    labels: _Labels | None = None

    def aligned(self, first: _Part) -> _Part:
        """The same in the order of `first`; raises `ShapeError` where the samples are others."""
        if self.ids.equals(first.ids):
            return self
        places = pc.index_in(first.ids, self.ids) if self.ids.type == first.ids.type else None
        if places is None or places.null_count or len(self.ids) != len(first.ids):
            raise ShapeError(
                f"{self.name} has other samples ({len(self.ids):,}) than {first.name} ({len(first.ids):,}); an "
                "ensemble is of one data set"
            )
        order = places.to_numpy().astype(np.int64)
        labels = None if self.labels is None else self.labels.take(order)
        return replace(self, ids=first.ids, loss=self.loss[order], distance=self.distance[order], labels=labels)


def _parts(member: Audit | Trace | str | Path) -> list[_Part]:
    if isinstance(member, Trace):
        loss, distance = member.column("label_loss"), member.column("cooks_distance")
        return [
            _Part(
                f"step {step['step']}", member.ids, loss[k], distance[k], step["loo_accuracy"],
                float("nan") if step["held_out_accuracy"] is None else step["held_out_accuracy"],
            )
            for k, step in enumerate(member.steps.to_pylist())
        ]  # fmt: skip
    audit = member if isinstance(member, Audit) else load(member)
    table = audit.dataset.to_table(columns=COLUMNS).combine_chunks()
    issue, held_out = (table[name].to_numpy() for name in ("is_label_issue", "held_out"))
    classes = audit.info["classes"] is not None
    accuracy = float(1 - issue[~held_out].mean()) if classes else float("nan")
    held = float(1 - issue[held_out].mean()) if classes and held_out.any() else float("nan")
    ids, given, suggested = (table[name].combine_chunks() for name in ("id", "given_label", "suggested_label"))
    score, distance = (table[name].to_numpy() for name in ("mislabeled_score", "cooks_distance"))
    loss = score / np.maximum(1 - score, np.finfo(np.float64).tiny)
    return [_Part(str(audit.path), ids, loss, distance, accuracy, held, _Labels(given, suggested, issue))]


def _given(parts: Sequence[_Part]) -> pa.Array | None:
    """The labels, on which all audits agree."""
    known = [(part, part.labels.given) for part in parts if part.labels is not None]
    for part, labels in known[1:]:
        first, one = known[0]
        if not labels.equals(one):
            row = next(k for k, (a, b) in enumerate(zip(one, labels, strict=True)) if a != b)
            raise ShapeError(
                f"sample {part.ids[row].as_py()!r} has the label {labels[row].as_py()!r} in {part.name} and "
                f"{one[row].as_py()!r} in {first.name}; an ensemble is of one data set, with the same labels"
            )
    return known[0][1] if known else None


def _weights(parts: Sequence[_Part], given: Sequence[float | int] | None) -> Floats:
    accuracy = np.array([part.held_out_accuracy for part in parts])
    if given is None:
        a = np.ones(len(parts)) if np.isnan(accuracy).any() or not accuracy.any() else accuracy**POWER
    else:
        a = np.asarray(given, dtype=np.float64)
    if a.shape != (len(parts),) or not np.isfinite(a).all() or (a < 0).any() or not a.sum():
        raise ShapeError(f"weights {a.tolist()} are not one number ≥ 0 for each of the {len(parts)} members")
    return a / a.sum()


def _mean(values: Floats, a: Floats) -> Floats:
    """`Σ a_m x_m` over the members that have a value; NaN where none has."""
    known = ~np.isnan(values)
    total = a @ known
    return np.where(total > 0, a @ np.nan_to_num(values) / np.where(total > 0, total, 1.0), np.nan)


def _votes(parts: Sequence[_Part]) -> tuple[pa.Array | None, Floats]:
    """The label that most audits suggest (the earlier one where they tie; of targets the mean), and how many call it
    an issue."""
    audits = [part.labels for part in parts if part.labels is not None]
    if not audits:
        return None, np.full(len(parts[0].ids), np.nan)
    agreement = np.mean([labels.issue for labels in audits], axis=0)
    suggested = [labels.suggested for labels in audits]
    if pa.types.is_nested(suggested[0].type):
        return None, agreement
    if pa.types.is_floating(suggested[0].type):
        return pa.array(np.mean([column.to_numpy() for column in suggested], axis=0)), agreement
    coded = pa.chunked_array(suggested).dictionary_encode().unify_dictionaries()
    votes = np.stack([chunk.indices.to_numpy() for chunk in coded.chunks])
    counts = (votes[:, None, :] == votes[None, :, :]).sum(1)
    chosen = votes[counts.argmax(0), np.arange(votes.shape[1])]
    return coded.chunk(0).dictionary.take(pa.array(chosen)), agreement
