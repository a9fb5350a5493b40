"""What a person asks first of the scores: how many of each kind, per class, which classes are confused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

NAMES = ("given_label", "suggested_label", "kind", "is_label_issue")


def summarise(shards: Iterable[Path]) -> dict[str, Any]:
    """Counts over all shards, one shard in memory at a time; confusion is of label issues, given → suggested."""
    kinds: Counter[str] = Counter()
    by_class: Counter[tuple[Any, str]] = Counter()
    issues_by_class: Counter[str] = Counter()
    confusion: Counter[tuple[Any, Any]] = Counter()
    sole = issues = 0
    for shard in shards:
        table = pq.read_table(shard, columns=[*NAMES, "loo_loss"])
        sole += pc.sum(pc.is_nan(table["loo_loss"])).as_py()
        issues += pc.sum(table["is_label_issue"]).as_py()
        kinds.update(table["kind"].to_pylist())
        if _labels_are_numbers(table):
            continue
        given, suggested = table["given_label"].to_pylist(), table["suggested_label"].to_pylist()
        by_class.update(zip(given, table["kind"].to_pylist(), strict=True))
        flagged = zip(given, suggested, table["is_label_issue"].to_pylist(), strict=True)
        pairs = [(a, b) for a, b, issue in flagged if issue]
        confusion.update(pairs)
        issues_by_class.update(str(a) for a, _ in pairs)
    return {
        "kinds": dict(kinds),
        "label_issues": issues,
        "leverage_one": sole,
        "issues_by_class": dict(issues_by_class),
        "kinds_by_class": [[label, kind, count] for (label, kind), count in by_class.most_common()],
        "confusion": [[a, b, count] for (a, b), count in confusion.most_common()],
    }


def _labels_are_numbers(table: Any) -> bool:
    kind = table.schema.field("given_label").type
    return str(kind) == "double" or str(kind).startswith("fixed_size_list")
