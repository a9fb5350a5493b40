"""Why the model says what it says of a sample: the training samples that support its label and those that oppose it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from ..curvature.dense import Curvature
from ..head import Head
from ..influence.pairs import Ranking, TopInfluences, check_top_k, gradients, influence_matrix
from ..sources.source import Source

BATCH = 4_096


@dataclass(frozen=True)
class Explanation:
    """The strongest supporters and opponents of a sample's label, itself left out.

    `supporters`, `opponents`: tables `id`, `row`, `given_label`, `influence` (I(i, t) in nats: removing i changes the
    loss here by about `w_i I / N`; positive supports), strongest first. `sentence` says it in words.
    """

    id: Any
    given_label: Any
    suggested_label: Any
    confidence: float
    kind: str
    supporters: pa.Table
    opponents: pa.Table
    sentence: str


def explain_rows(source: Source, head: Head, curvature: Curvature, rows: pa.Table, *, top_k: int) -> list[Explanation]:
    """Explanations of these score rows, in one pass over the source: O(m P² + n m P) time, O(m P) memory."""
    check_top_k(top_k)
    positions = rows["row"].to_pylist()
    tests = source.take(positions)
    family, V = head.family, head.V
    solved = curvature.solve(gradients(family, V, head.design.matrix(tests.x), tests.y))
    top, first = TopInfluences(top_k), 0
    for batch in source.batches(BATCH):
        H = head.design.matrix(batch.x)
        values = influence_matrix(family, V, solved, curvature.total_weight, H, batch.y) * (batch.w > 0)[:, None]
        for column, row in enumerate(positions):
            if first <= row < first + len(values):
                values[row - first, column] = 0.0  # a sample does not speak for itself
        top.add(values, first, batch.ids)
        first += len(values)
    found = top.result(tests.ids.type)
    return [
        _explanation(row, _table(source, up, rows), _table(source, down, rows))
        for row, up, down in zip(rows.to_pylist(), found.supporters, found.opponents, strict=True)
    ]


def _table(source: Source, ranking: Ranking, rows: pa.Table) -> pa.Table:
    label_type = rows.schema.field("given_label").type
    labels: Sequence[Any] = []
    if ranking.positions:
        y = source.take(ranking.positions).y
        names = source.vocabulary
        labels = (
            [names[k] for k in y.tolist()] if names is not None else [t if len(t) > 1 else t[0] for t in y.tolist()]
        )
    return pa.table(
        {
            "id": ranking.ids,
            "row": pa.array(ranking.positions, pa.int64()),
            "given_label": pa.array(labels, label_type),
            "influence": pa.array(ranking.values, pa.float64()),
        }
    )


def _explanation(row: dict[str, Any], supporters: pa.Table, opponents: pa.Table) -> Explanation:
    names = ("id", "given_label", "suggested_label", "confidence", "kind")
    sentence = f"{_counted(supporters, 'supporters')} {_counted(opponents, 'opponents')}"
    return Explanation(
        **{name: row[name] for name in names}, supporters=supporters, opponents=opponents, sentence=sentence
    )


def _counted(neighbours: pa.Table, role: str) -> str:
    if not len(neighbours):
        return f"It has no {role}."
    labels = neighbours["given_label"].to_pylist()
    if isinstance(labels[0], float | list):
        return f"The targets of its strongest {role} are {', '.join(_number(label) for label in labels)}."
    label, count = Counter(labels).most_common(1)[0]
    if count == 1 and len(labels) > 1:
        return f"Its {len(labels)} strongest {role} are all of different classes."
    return f"{count} of its {len(labels)} strongest {role} are labelled {label}."


def _number(label: Any) -> str:
    return f"{label:.3g}" if isinstance(label, float) else "(" + ", ".join(f"{value:.3g}" for value in label) + ")"
