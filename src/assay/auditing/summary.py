"""What a person asks first of the scores: how many of each kind, per class, which classes are confused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

NAMES = ("given_label", "suggested_label", "kind", "is_label_issue")


def summarise(shards: Iterable[Path]) -> dict[str, Any]:
    """Counts over all shards, one shard in memory at a time; confusion is of label issues, given → suggested.

    Held-out samples (weight zero) are counted as `held_out`, and nowhere else.
    """
    kinds: Counter[str] = Counter()
    by_class: Counter[tuple[Any, str]] = Counter()
    issues_by_class: Counter[str] = Counter()
    confusion: Counter[tuple[Any, Any]] = Counter()
    sole = issues = held_out = 0
    for shard in shards:
        table = pq.read_table(shard, columns=[*NAMES, "loo_loss", "held_out"])
        held_out += pc.sum(table["held_out"]).as_py() or 0
        table = table.filter(pc.invert(table["held_out"]))
        sole += pc.sum(pc.is_nan(table["loo_loss"])).as_py() or 0
        issues += pc.sum(table["is_label_issue"]).as_py() or 0
        kinds.update({kind: count for kind, count in _counts(table, "kind")})
        if _labels_are_numbers(table):
            continue
        flagged = table.filter(table["is_label_issue"])
        by_class.update({(label, kind): count for label, kind, count in _counts(table, "given_label", "kind")})
        pairs = {(a, b): count for a, b, count in _counts(flagged, "given_label", "suggested_label")}
        confusion.update(pairs)
        for (a, _), count in pairs.items():
            issues_by_class[str(a)] += count
    return {
        "held_out": held_out,
        "kinds": dict(kinds),
        "label_issues": issues,
        "leverage_one": sole,
        "issues_by_class": dict(issues_by_class),
        "kinds_by_class": [[label, kind, count] for (label, kind), count in by_class.most_common()],
        "confusion": [[a, b, count] for (a, b), count in confusion.most_common()],
    }


def _counts(table: pa.Table, *names: str) -> list[tuple[Any, ...]]:
    """Each combination of these columns' values with how many rows have it, in the order of their first rows."""
    plain = pa.table({name: table[name].cast(pa.string()) if name == "kind" else table[name] for name in names})
    counted = plain.group_by(list(names), use_threads=False).aggregate([([], "count_all")])
    return list(zip(*(counted[name].to_pylist() for name in (*names, "count_all")), strict=True))


def _labels_are_numbers(table: Any) -> bool:
    kind = table.schema.field("given_label").type
    return str(kind) == "double" or str(kind).startswith("fixed_size_list")
