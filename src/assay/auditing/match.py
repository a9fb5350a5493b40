"""New samples for a saved head: the columns it was fitted to, found by name, and their scores."""

from __future__ import annotations

import os
from typing import Any

import pyarrow as pa
from torch import Tensor

from ..curvature.dense import Curvature
from ..explore.kinds import tell_kinds
from ..head import Head
from ..scores import Scores, read_scores
from ..sources.frame import is_frame
from ..sources.open import open_source
from ..sources.samples import matched
from ..sources.scan import check
from ..sources.source import Source
from .columns import score_table


def open_matching(new: Any, audited: dict[str, Any], head: Head, named: dict[str, Any]) -> Source:
    """The new samples with the head's columns and classes; `audited` tells the columns it was made of by role.

    Raises `SourceError` where they cannot be read or have another class, `ShapeError` where a column is missing.
    """
    if _is_table(new):
        named = {**_roles(audited, head, named), **named}
    source = open_source(new, regression=not head.family.classifies, vocabulary=head.vocabulary, **named)
    return matched(source, head.columns, head.vocabulary)


def score_new(
    source: Source,
    head: Head,
    curvature: Curvature,
    *,
    mean_logit_variance: float,
    noise: Tensor | None,
    judge: tuple[Head, Curvature] | None = None,
) -> pa.Table:
    """The score table of samples that the head has not seen; nothing is left out. Labels are judged by the `judge`."""
    parts: list[pa.Table] = []
    first = 0
    for batch in source.batches(65_536):
        check(batch, source, first)
        H = head.design.matrix(batch.x)
        scores = read_scores(head.family, curvature, head.V, H, batch.y, batch.w, in_training=False)
        judged: Scores | None = None
        if judge is not None:
            judged = read_scores(head.family, judge[1], judge[0].V, H, batch.y, batch.w, in_training=False)
        kinds = tell_kinds(
            head.family, scores, batch.y, mean_logit_variance=mean_logit_variance, noise=noise, judge=judged
        )
        parts.append(score_table(batch, first, head.family, scores, kinds, head.vocabulary))
        first += len(batch.ids)
    return pa.concat_tables(parts)


def _is_table(new: Any) -> bool:
    if isinstance(new, str | os.PathLike):
        return not os.fspath(new).endswith((".npz", ".npy"))
    return is_frame(new)


def _roles(audited: dict[str, Any], head: Head, named: dict[str, Any]) -> dict[str, Any]:
    """Label and features by the names they had, where those were the user's and no others are given."""
    if audited["embedding"] == "x" and head.columns[0] == "x0":  # arrays have no names of their own
        return {}
    labels = list(audited["labels"])
    roles: dict[str, Any] = {"label": labels if len(labels) > 1 else labels[0]}
    if "features" in named or "embedding" in named:
        return roles
    embedding = audited["embedding"]
    return {**roles, **({"embedding": embedding} if embedding else {"features": list(audited["features"])})}
