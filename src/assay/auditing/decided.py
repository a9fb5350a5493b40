"""What experts decided, beside the rows it is about: columns for an export, which rows stay, under which label."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..decisions.log import Decision, Standing
from ..decisions.store import Decisions
from ..errors import ShapeError
from ..explore.boxes import Box
from ..sources.source import Source
from ..sources.table import TableSource

DECIDED = ("decision", "corrected_label", "kept", "decided_by", "decided_at", "note", "conflict")
"""Columns beside those of the scores: what stands for a sample, its label with that, whether it stays in the data."""


@dataclass(frozen=True)
class Region:
    """A region that was decided on: its rule, and the box over `columns`."""

    decision: Decision
    rule: str
    rows: int
    columns: tuple[str, ...]
    box: Box


class Decided:
    """The decisions on an audit, read once. `regions` are those that something stands for.

    A sample is left out of the data where it is to be dropped, or lies in a region that is to be filtered out and was
    not kept or relabelled itself.
    """

    def __init__(self, decisions: Decisions, classes: Sequence[Any] | None) -> None:
        self.decisions = decisions
        self._names = None if classes is None else {str(name): name for name in classes}  # the log holds them as text
        self._rows = np.array([row for row, _, _ in decisions.statuses()], np.int64)
        stood = (one.decision for one in decisions.regions().values())
        self.regions = [region_of(one) for one in stood if one is not None]
        self._filtered = [one for one in self.regions if one.decision.action == "filter"]

    def within(self, start: int, stop: int) -> dict[int, Standing]:
        """What stands for the samples of a stretch of rows that were decided on."""
        a, b = np.searchsorted(self._rows, [start, stop])
        return self.decisions.standing_of(self._rows[a:b].tolist())

    def acted(self, action: str) -> Iterator[Decision]:
        """The decisions of one kind that stand, by row."""
        for start in range(0, len(self._rows), 10_000):
            part = self._rows[start : start + 10_000].tolist()
            stood = self.decisions.standing_of(part)
            decided = (stood[row].decision for row in part if row in stood)
            yield from (one for one in decided if one is not None and one.action == action)

    def columns(self, source: Source, start: int, given: pa.ChunkedArray) -> pa.Table:
        """The `DECIDED` columns of the rows from `start` on, whose labels are `given`."""
        stood = self.within(start, start + len(given))
        labels = self._corrected(given, {row - start: one for row, one in stood.items()})
        kept = self._outside(source, start, start + len(given))
        rows: list[dict[str, Any]] = [{} for _ in range(len(given))]
        for row, one in stood.items():
            decision = one.decision
            rows[row - start] = {"conflict": one.conflict}
            if decision is not None:
                rows[row - start] |= {
                    "decision": decision.action, "decided_by": decision.who, "decided_at": decision.at,
                    "note": decision.note,
                }  # fmt: skip
                kept[row - start] = decision.action != "drop" and (
                    kept[row - start] or decision.action in ("keep", "relabel")
                )
        texts = {name: pa.array([row.get(name) for row in rows], pa.string()) for name in DECIDED if name in _TEXTS}
        flags = {"kept": pa.array(kept), "conflict": pa.array([bool(row.get("conflict")) for row in rows])}
        return pa.table({name: {**texts, **flags, "corrected_label": labels}[name] for name in DECIDED})

    def corrected(self, decision: Decision) -> Any:
        """The new label of a relabel; raises `ShapeError` where it is no class of the audit."""
        label = json.loads(decision.label or "null")
        if self._names is None:
            return label
        if label not in self._names:
            raise ShapeError(
                f"row {decision.row} is relabelled {label!r} by {decision.who}, which is no class of this audit "
                f"({', '.join(list(self._names)[:5])}, …); decide on it again"
            )
        return self._names[label]

    def _corrected(self, given: pa.ChunkedArray, stood: dict[int, Standing]) -> pa.Array:
        """The labels with those that were corrected."""
        labels: list[Any] = given.to_pylist()
        for k, one in stood.items():
            if one.decision is not None and one.decision.action == "relabel":
                labels[k] = self.corrected(one.decision)
        return pa.array(labels, given.type)

    def _outside(self, source: Source, start: int, stop: int) -> NDArray[np.bool_]:
        """Which rows lie in no region that is filtered out."""
        kept = np.ones(stop - start, bool)
        if self._filtered and isinstance(source, TableSource):
            names = list(dict.fromkeys(name for region in self._filtered for name in region.columns))
            values = pa.Table.from_batches(list(source.store.read(names, start, stop, max(stop - start, 1))))
            for region in self._filtered:
                X = [values[name].to_numpy().astype(np.float64) for name in region.columns]
                kept &= ~region.box.contains(np.stack(X, 1))
        return kept


_TEXTS = ("decision", "decided_by", "decided_at", "note")


def stretches(
    shards: Sequence[Path], columns: Sequence[str], decided: Decided | None, source: Source
) -> Iterator[tuple[int, pa.Table]]:
    """(first row, these score columns and those of what was decided), a shard at a time."""
    first = 0
    for shard in shards:
        scores = pq.read_table(shard, columns=list(columns))
        if decided is not None:
            more = decided.columns(source, first, scores["given_label"])
            for name in DECIDED:
                scores = scores.append_column(name, more[name])
        yield first, scores
        first += len(scores)


def region_of(decision: Decision) -> Region:
    """The region of a decision, as it was noted with it; free sides of its box are null there."""
    noted = json.loads(decision.box or "{}")
    low = tuple(-np.inf if side is None else float(side) for side in noted["low"])
    high = tuple(np.inf if side is None else float(side) for side in noted["high"])
    return Region(decision, str(noted["rule"]), int(noted["rows"]), tuple(map(str, noted["columns"])), Box(low, high))
