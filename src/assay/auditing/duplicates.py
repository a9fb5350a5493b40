"""An audit's near-duplicates as a table."""

from __future__ import annotations

import pyarrow as pa
from torch import Tensor

from ..curvature.dense import Curvature
from ..errors import ShapeError
from ..explore.duplicates import ROWS, near_duplicates
from ..explore.kinds import OUTLYING, scores_of_label
from ..head import Head
from ..l2 import Rows
from ..sources.samples import whole
from ..sources.source import Source
from .columns import label_column


def duplicate_table(
    source: Source, head: Head, curvature: Curvature, *, within: float, noise: Tensor | None
) -> pa.Table:
    """One row a sample that has near-duplicates, the groups with the largest score first; see `Audit`.

    Targets agree where they differ by no more than three times their noise.
    """
    if len(source) > ROWS:
        raise ShapeError(
            f"{len(source):,} samples; near-duplicates are sought among {ROWS:,} at most, as all pairs are compared. "
            "Audit a part of them"
        )
    batch = whole(source)
    rows = Rows(head.design.matrix(batch.x), batch.y, batch.w)
    found = near_duplicates(head.leverage_of(curvature, batch.ids, rows), within=within)
    predicted, score = scores_of_label(head.family, found.loo_logits, batch.y, noise)
    table = pa.table(
        {
            "group": pa.array(found.group.numpy()),
            "row": pa.array(range(len(source)), pa.int64()),
            "id": batch.ids,
            "given_label": label_column(batch.y, head.vocabulary),
            "suggested_label": label_column(predicted, head.vocabulary),
            "loo_loss": pa.array(found.loss_shown.numpy()),
            "group_loo_loss": pa.array(found.loo_loss.numpy()),
            "mislabeled_score": pa.array(score.numpy()),
        }
    )
    order: list[int] = []
    agree = [False] * len(source)
    for members in sorted(found.members, key=lambda members: -float(score[members].nan_to_num().max())):
        spread = batch.y[members].amax(0) - batch.y[members].amin(0)
        same = bool((spread <= (0 if noise is None else OUTLYING * noise)).all())
        for row in members:
            agree[row] = same
        order += members
    return table.append_column("labels_agree", pa.array(agree)).take(pa.array(order, pa.int64()))
