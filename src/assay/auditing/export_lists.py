"""What was decided as a list: the log itself, and where to collect more data."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ..decisions.store import Decisions
from ..engine import atomic
from ..errors import ShapeError
from ..sources.source import Source
from .decided import Decided
from .export import write_table
from .folder import Folder
from .regions import numeric_columns


def export_log(decisions: Decisions | None, to: Path) -> Path:
    """Every decision that was ever made, a JSON object a line, oldest first; `undone` says which were taken back."""
    with atomic(to) as temporary, open(temporary, "w", encoding="utf-8") as file:
        last = 0
        while decisions is not None and (part := decisions.log(last)):
            for one in part:
                told = asdict(one)
                for name in ("box", "label", "stood"):
                    told[name] = None if told[name] is None else json.loads(told[name])
                file.write(json.dumps(told, ensure_ascii=False) + "\n")
            last = part[-1].seq
    return to


def export_needs(source: Source, folder: Folder, decided: Decided | None, to: Path) -> Path:
    """Where to collect more: a row for each region and each sample of which an expert wants more like it.

    `what` (region or sample), `rule`, `id`, `label`, `points` (of a region as many as it holds), `<column>_low` and
    `<column>_high` for the numeric columns of a table (infinite where free; those of a sample are its values), `note`,
    `decided_by`. Raises `ShapeError` where nobody wants more of anything.
    """
    if decided is None:
        raise ShapeError("nothing is decided yet; `assay regions --needs` says where the influence is")
    columns = _columns(source)
    rows = [*_regions(decided, columns), *_samples(source, folder, decided, columns)]
    if not rows:
        raise ShapeError('no sample or region is decided on as "collect"; there is nothing to collect more of')
    sides = [f"{name}_{side}" for name in columns for side in ("low", "high")]
    texts = ("what", "rule", "id", "label", "note", "decided_by")
    table = {name: pa.array([row.get(name) for row in rows], pa.string()) for name in texts}
    table["points"] = pa.array([row["points"] for row in rows], pa.int64())
    for side in sides:
        table[side] = pa.array([row.get(side) for row in rows], pa.float64())
    write_table(pa.table(table), to)
    return to


def _regions(decided: Decided, columns: tuple[str, ...]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for region in decided.regions:
        if region.decision.action == "collect":
            sides = {f"{name}_low": -np.inf for name in columns} | {f"{name}_high": np.inf for name in columns}
            for j, name in enumerate(region.columns):
                sides |= {f"{name}_low": region.box.low[j], f"{name}_high": region.box.high[j]}
            by = {"note": region.decision.note, "decided_by": region.decision.who}
            found.append({"what": "region", "rule": region.rule, "points": region.rows, **by, **sides})
    return found


def _samples(source: Source, folder: Folder, decided: Decided, columns: tuple[str, ...]) -> list[dict[str, Any]]:
    wanted = list(decided.acted("collect"))
    rows = [one.row for one in wanted if one.row is not None]
    scores = _scores(folder, rows)
    values: Any = source
    cells = (
        values.store.take(list(columns), np.array(rows, np.int64)).to_pylist() if columns and rows else [{}] * len(rows)
    )
    return [
        {
            "what": "sample", "points": 1, "id": one.id, "label": scores[one.row or 0], "note": one.note,
            "decided_by": one.who, **{f"{name}_{side}": cell[name] for name in columns for side in ("low", "high")},
        }
        for one, cell in zip(wanted, cells, strict=True)
    ]  # fmt: skip


def _scores(folder: Folder, rows: list[int]) -> dict[int, str]:
    """The given labels of these rows, as text."""
    import pyarrow.dataset as ds

    table = ds.dataset([str(path) for path in folder.shards()], format="parquet")
    return (
        {
            row: str(label)
            for row, label in zip(
                rows, table.take(rows, columns=["given_label"])["given_label"].to_pylist(), strict=True
            )
        }
        if rows
        else {}
    )


def _columns(source: Source) -> tuple[str, ...]:
    """The numeric columns of a table; none of samples that are none."""
    try:
        return numeric_columns(source, None)
    except ShapeError:
        return ()
