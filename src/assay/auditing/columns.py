"""The score table: one row a sample, its columns, their units and how they are made from a batch."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from ..explore.kinds import KINDS, Kinds
from ..families import Family
from ..scores import Scores
from ..sources.source import Batch

UNITS = {
    "row": "position in the source, from 0",
    "id": "the sample's id in the source, its position where the source has no key",
    "given_label": "the label (or target) in the source",
    "suggested_label": "most probable class with the sample left out, by the trimmed head where there is one; for "
    "regression its leave-one-out prediction",
    "predicted_label": "the same, under the name cleanlab gives it",
    "confidence": "probability of the suggested class, 0–1; for regression how surely the target is off, 2Φ(|t|) − 1",
    "cooks_distance": "gᵀH⁻¹g ≥ 0, in nats (half squared target units for regression) × N: divided by N it is the "
    "first-order rise of the sample's loss when it is removed",
    "leverage": "w tr(S M), 0–K; the sum over all samples is the effective number of parameters",
    "logit_variance": "tr(M)/K, squared logits (squared targets over the noise variance for regression)",
    "loss": "loss with the sample in, nats (half squared target units for regression)",
    "loo_loss": "loss with the sample left out (one Newton step); NaN where it alone determines a parameter",
    "loo_margin": "leave-one-out logit of the given class minus the largest other, by that head; regression: −|t|, t "
    "the leave-one-out residual in standard deviations of the noise",
    "kind": "typical, mislabeled, under-represented or boundary",
    "mislabeled_score": "L/(1 + L), L the leave-one-out loss by that head, other classes counted by how often they are "
    "mistaken for the label: 0–1, 0.5 at 1 nat",
    "under_represented_score": "0–1, 0.5 at three times the mean logit variance",
    "boundary_score": "0–1, 0.5 where the second class is a third as probable as the first; 0 for regression",
    "is_label_issue": "the leave-one-out prediction disagrees with the given label (regression: |t| > 3)",
    "label_score": "leave-one-out probability of the given label by that head, 0–1, low where bad",
    "held_out": "weight zero: scored, but not trained on",
}
BESIDE = {"trained_cooks_distance": "cooks_distance of a network's own head, kept as it was trained"}
"""The column more where both heads of a network are asked for."""
SIGN = (
    "I(z, z') = ∇ℓ(z')ᵀ H⁻¹ ∇ℓ(z), H the Hessian of the mean loss plus regulariser: positive, removing z raises the "
    "loss at z' by about I/N (z supports z'); negative, z opposes z'. The total penalty N·l2 stays when samples leave."
)


def score_table(
    batch: Batch, first: int, family: Family, scores: Scores, kinds: Kinds, vocabulary: tuple[Any, ...] | None
) -> pa.Table:
    """The rows of these samples; `first` is the position of the first one."""
    suggested = label_column(kinds.predicted, vocabulary)
    columns = {
        "row": pa.array(range(first, first + len(batch.ids)), pa.int64()),
        "id": batch.ids,
        "given_label": label_column(batch.y, vocabulary),
        "suggested_label": suggested,
        "predicted_label": suggested,
        "confidence": _floats(kinds.confidence),
        **{name: _floats(getattr(scores, name)) for name in ("cooks_distance", "leverage", "logit_variance")},
        "loss": _floats(scores.loss),
        "loo_loss": _floats(scores.loo_loss),
        "loo_margin": _floats(kinds.margin.masked_fill(scores.loo_loss.isnan(), torch.nan)),
        "kind": pa.DictionaryArray.from_arrays(pa.array(kinds.kind.numpy(), pa.int8()), list(KINDS)),
        **{name: _floats(getattr(kinds, name)) for name in _KIND_SCORES},
        "is_label_issue": pa.array(kinds.is_label_issue.numpy()),
        "label_score": _floats(kinds.label_score),
        "held_out": pa.array((batch.w == 0).numpy()),
    }
    return pa.table(columns)


_KIND_SCORES = ("mislabeled_score", "under_represented_score", "boundary_score")


def _floats(values: Tensor) -> pa.Array:
    return pa.array(values.double().numpy())


def label_column(values: Tensor, vocabulary: tuple[Any, ...] | None) -> pa.Array:
    """Class names by their codes; targets as floats, or as lists where there are several."""
    if vocabulary is not None:
        return pa.array(vocabulary).take(pa.array(values.numpy()))
    if values.shape[1] == 1:
        return _floats(values[:, 0])
    flat = pa.array(values.contiguous().numpy().reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
