"""Score shards as an audit leaves them, made up: what a queue reads, without a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from assay.review.columns import KINDS, SCORES

CLASSES = ["ant", "bee", "cat"]
OTHERS = ("leverage", "logit_variance", "loss", "loo_loss", "loo_margin", "label_score")


def shards(
    folder: Path, n: int = 1_000, *, seed: int = 0, shard_rows: int = 300, ids: Any = None, **given: Any
) -> Path:
    """An audit's folder with n made-up rows; `given` columns replace the made-up ones."""
    rng = np.random.default_rng(seed)
    table: dict[str, Any] = {
        "row": np.arange(n),
        "id": np.arange(n) if ids is None else ids,
        "given_label": pa.array(CLASSES).take(pa.array(rng.integers(0, 3, n))),
        "suggested_label": pa.array(CLASSES).take(pa.array(rng.integers(0, 3, n))),
        **{name: rng.random(n).round(2) for name in (*SCORES, *OTHERS)},  # many ties
        "kind": pa.DictionaryArray.from_arrays(pa.array(rng.integers(0, 4, n), pa.int8()), list(KINDS)),
        "held_out": rng.random(n) < 0.1,
        **given,
    }
    classes = CLASSES if pa.types.is_string(pa.array(table["given_label"]).type) else None
    (folder / "scores").mkdir(parents=True, exist_ok=True)
    manifest: list[dict[str, Any]] = []
    for k, start in enumerate(range(0, n, shard_rows)):
        part = pa.table(table).slice(start, shard_rows)
        pq.write_table(part, folder / "scores" / f"part-{k:05d}.parquet")
        manifest.append({"file": f"part-{k:05d}.parquet", "rows": len(part), "sha256": f"{seed}-{k}"})
    info = {"manifest": manifest, "classes": classes, "source": {"store": {"kind": "parquet", "files": []}}}
    (folder / "audit.json").write_text(json.dumps(info))
    return folder


def table(folder: Path) -> Any:
    """All rows as a pandas frame."""
    return pa.concat_tables(pq.read_table(path) for path in sorted((folder / "scores").iterdir())).to_pandas()
