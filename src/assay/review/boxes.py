"""The regions of a table as the page lists them and the log notes them."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

from ..auditing.result import Audit

SHOWN = (
    "rule", "rows", "coverage", "influence_share", "lift", "density", "stability", "mislabeled", "under_represented",
    "boundary", "loo_margin",
)  # fmt: skip


def regions(audit: Audit) -> dict[str, Any]:
    """The regions of the audited columns; each has a `region`, the key it is decided on by, and its `box`."""
    found = audit.regions()
    listed: list[dict[str, Any]] = []
    for rule, box in zip(found.rules.to_pylist(), found.boxes, strict=True):
        sides = {"low": [_side(v) for v in box.low], "high": [_side(v) for v in box.high]}
        noted = json.dumps({"columns": found.columns, **sides, "rule": rule["rule"], "rows": rule["rows"]})
        key = hashlib.sha256(json.dumps([found.columns, sides]).encode()).hexdigest()[:16]
        classes = json.loads(rule["classes"])
        listed.append({"region": key, "box": noted, "classes": classes, **{name: rule[name] for name in SHOWN}})
    return {"columns": list(found.columns), "regions": listed}


def _side(value: float) -> float | None:
    return value if math.isfinite(value) else None
